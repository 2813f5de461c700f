//! `celeriac top`: rates, queues and workers, once a second until the user ends it.
//!
//! This file has the loops. `top::snapshot` asks the broker, `top::view` knows what the user wants
//! to see, `top::frame` makes the lines of a frame, and `top::screen` has the terminal.

use std::time::{Duration, Instant};

use celeriac_client::Client;
use clap::Args;
use crossterm::event::Event;
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::frame::Around;
use self::screen::Screen;
use self::snapshot::Snapshot;
use self::view::{Pressed, View};
use crate::arguments::SharedOptions;
use crate::connection::{address, connect};
use crate::draining::DrainLook;
use crate::exit::{Exit, Failure};
use crate::output::{Format, Output, Size};
use crate::time::{now_ms, time_of_day};

mod frame;
mod screen;
mod snapshot;
mod view;

/// The time between two snapshots.
const INTERVAL: Duration = Duration::from_secs(1);

/// The time between two looks at the connection.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// The last answer of a broker that answers is younger than this.
const LATE_AFTER: Duration = Duration::from_secs(3);

/// The arguments of `top`.
#[derive(Args)]
pub(crate) struct TopArguments {
    /// Print one frame and end
    #[arg(long)]
    once: bool,
}

/// How many frames are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Frames {
    One,
    UntilSignal,
}

/// Shows one frame after the other until q, Ctrl-C or a signal. Without a terminal, and with
/// `--json`, the frames are printed one below the other, as plain text or as documents.
pub(crate) async fn run(
    arguments: &TopArguments,
    shared: &SharedOptions,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let mut signals = EndSignals::listen()?;
    let client = connect(shared).await?;
    let frames = if arguments.once { Frames::One } else { Frames::UntilSignal };
    let shown = if arguments.once || output.is_json() || !screen::has_terminal() {
        print(&client, frames, &address(shared), &mut signals, output).await
    } else {
        show_live(&client, &address(shared), &mut signals, output).await
    };
    // After a failure the broker may be gone, and closing the connection could take seconds.
    if shown.is_ok() {
        let _ = tokio::time::timeout(INTERVAL, client.close()).await;
    }
    shown.map(|()| Exit::Success)
}

/// Prints frames one below the other. The first frame needs two snapshots, because one alone has no
/// rates. On a terminal a frame fits on the screen; without one it has all rows.
async fn print(
    client: &Client,
    frames: Frames,
    address: &str,
    signals: &mut EndSignals,
    output: &mut Output,
) -> Result<(), Failure> {
    let drain = DrainLook::unless(output.is_json());
    let mut before = Snapshot::take(client, &drain).await?;
    let mut is_first = true;
    loop {
        let now = tokio::select! {
            () = signals.received() => return Ok(()),
            snapshot = take_after(client, INTERVAL, &drain) => snapshot?.since(&before),
        };
        match output.format {
            Format::Json => output.document(&now.document())?,
            Format::Text => {
                if !is_first {
                    output.line("")?;
                }
                let around = Around { address, notice: now.notice() };
                // The line below a frame is for the prompt of the shell.
                let Size { width, height } = output.size();
                let size = Size { width, height: height.map(|height| height.saturating_sub(1)) };
                output.lines(&frame::lines(&now, &around, &mut View::default(), size))?;
            }
        }
        if frames == Frames::One {
            return Ok(());
        }
        is_first = false;
        before = now;
    }
}

async fn take_after(
    client: &Client,
    pause: Duration,
    drain: &DrainLook,
) -> Result<Snapshot, Failure> {
    tokio::time::sleep(pause).await;
    Snapshot::take(client, drain).await
}

/// Shows each frame in place of the one before, on the whole terminal. While the broker does not
/// answer, the last frame stays on the screen with a notice.
async fn show_live(
    client: &Client,
    address: &str,
    signals: &mut EndSignals,
    output: &mut Output,
) -> Result<(), Failure> {
    let mut screen = Screen::enter()?;
    let mut view = View::default();
    let mut contact = Contact::new();
    let mut present: Option<Snapshot> = None;
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    let drain = DrainLook::default();
    let mut next = Box::pin(take_after(client, Duration::ZERO, &drain));
    loop {
        let has_changed = tokio::select! {
            () = signals.received() => return Ok(()),
            event = screen.event() => match event {
                None => return Ok(()),
                Some(Event::Key(key)) => match view.press(&key) {
                    Pressed::Quit => return Ok(()),
                    pressed => pressed == Pressed::Changed,
                },
                Some(event) => matches!(event, Event::Resize(..)),
            },
            taken = &mut next => {
                next.set(take_after(client, INTERVAL, &drain));
                contact.see(&taken);
                match taken {
                    Ok(now) => present = Some(match &present {
                        Some(before) => now.since(before),
                        None => now,
                    }),
                    Err(Failure::Sentence { .. }) => {}
                    Err(reader_gone) => return Err(reader_gone),
                }
                true
            }
            _ = looks.tick() => contact.look(client),
        };
        if has_changed {
            let notice = match contact.notice() {
                notice if notice.is_empty() => present.as_ref().map_or("", Snapshot::notice).into(),
                notice => notice,
            };
            let around = Around { address, notice: &notice };
            let size = screen.size(output);
            let above_keys =
                Size { height: size.height.map(|height| height.saturating_sub(1)), ..size };
            let lines = match &present {
                Some(now) => frame::lines(now, &around, &mut view, above_keys),
                None => frame::lines_without_answer(&around, size),
            };
            screen.draw(lines, view.keys(size.width), output)?;
        }
    }
}

/// Whether the broker answers, and since when it does not.
struct Contact {
    answered_at: Instant,
    answered_at_ms: i64,
    /// Since when there is no connection.
    lost_at_ms: Option<i64>,
    is_late: bool,
    /// Why the latest request failed; empty if it did not.
    trouble: String,
}

impl Contact {
    fn new() -> Self {
        let (answered_at, answered_at_ms) = (Instant::now(), now_ms());
        let trouble = String::new();
        Self { answered_at, answered_at_ms, lost_at_ms: None, is_late: false, trouble }
    }

    /// Takes the outcome of a request.
    fn see(&mut self, taken: &Result<Snapshot, Failure>) {
        match taken {
            Ok(_) => *self = Self::new(),
            Err(Failure::Sentence { sentence, .. }) => self.trouble.clone_from(sentence),
            Err(Failure::ReaderGone) => {}
        }
    }

    /// Looks at the connection. Requests outlast a lost connection until their time-out, so their
    /// outcome would come too late. True when the notice is another one.
    fn look(&mut self, client: &Client) -> bool {
        let before = (self.lost_at_ms, self.is_late);
        self.lost_at_ms = match client.connection().is_connected() {
            true => None,
            false => self.lost_at_ms.or_else(|| Some(now_ms())),
        };
        self.is_late = self.answered_at.elapsed() > LATE_AFTER;
        before != (self.lost_at_ms, self.is_late)
    }

    fn notice(&self) -> String {
        let time = |at_ms: i64| time_of_day(at_ms).chars().take(8).collect::<String>();
        let notice = match self.lost_at_ms {
            Some(at_ms) => format!("no connection since {}", time(at_ms)),
            None if self.is_late => format!("no answer since {}", time(self.answered_at_ms)),
            None => String::new(),
        };
        match (notice.is_empty(), self.trouble.is_empty()) {
            (_, true) => notice,
            (true, false) => self.trouble.clone(),
            (false, false) => format!("{notice}: {}", self.trouble),
        }
    }
}

/// The signals that end `top`. It handles them, so that it can restore the terminal before its end.
struct EndSignals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
    quit: Signal,
}

impl EndSignals {
    fn listen() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind)
                .map_err(|error| Failure::error(format!("cannot listen for signals: {error}")))
        };
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
            quit: listen(SignalKind::quit())?,
        })
    }

    async fn received(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
            _ = self.quit.recv() => {}
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use celeriac_client::{QueueInfo, WorkerStatus};

    use super::*;
    use crate::line::Line;

    /// What the broker says at one moment.
    type Answers = (Vec<QueueInfo>, Vec<WorkerStatus>);

    /// The frame after two moments, for the tests of what people see.
    pub(crate) fn frame_of(before: Answers, now: Answers, now_ms: i64, size: Size) -> Vec<Line> {
        let at = Instant::now();
        let before = Snapshot::new(at, now_ms, before.0, before.1);
        let now = Snapshot::new(at + 2 * INTERVAL, now_ms, now.0, now.1).since(&before);
        let around = Around { address: "127.0.0.1:23537", notice: "no connection since 10:57:17" };
        frame::lines(&now, &around, &mut View::default(), size)
    }

    #[test]
    fn a_notice_says_since_when_there_is_no_connection_or_no_answer() {
        let mut contact = Contact { answered_at_ms: 37_000, ..Contact::new() };
        assert_eq!(contact.notice(), "");
        contact.is_late = true;
        assert_eq!(contact.notice(), "no answer since 00:00:37");
        contact.lost_at_ms = Some(38_000);
        assert_eq!(contact.notice(), "no connection since 00:00:38");
        contact.see(&Err(Failure::error("no answer within 10s")));
        assert_eq!(contact.notice(), "no connection since 00:00:38: no answer within 10s");
        contact.see(&Ok(Snapshot::new(Instant::now(), 0, Vec::new(), Vec::new())));
        assert_eq!(contact.notice(), "");
    }
}
