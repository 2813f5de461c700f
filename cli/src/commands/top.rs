//! `celeriac top`: rates, queues and workers, once a second until the user ends it.
//!
//! This file has the loop. `top::frame` has the content of a frame, and `top::screen` has the
//! terminal.

use std::time::Duration;

use celeriac_client::Client;
use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::frame::{Frame, Snapshot};
use self::screen::Screen;
use crate::arguments::SharedOptions;
use crate::connection::{address, connect};
use crate::exit::{Exit, Failure};
use crate::output::{Format, Output};

mod frame;
mod screen;

/// The time between two snapshots.
const INTERVAL: Duration = Duration::from_secs(1);

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
/// rates.
async fn print(
    client: &Client,
    frames: Frames,
    address: &str,
    signals: &mut EndSignals,
    output: &mut Output,
) -> Result<(), Failure> {
    let mut before = Snapshot::take(client).await?;
    let mut is_first = true;
    loop {
        let next = async {
            tokio::time::sleep(INTERVAL).await;
            Snapshot::take(client).await
        };
        let now = tokio::select! {
            () = signals.received() => return Ok(()),
            snapshot = next => snapshot?,
        };
        let frame = Frame::new(Some(&before), &now);
        match output.format {
            Format::Json => output.document(&frame.document())?,
            Format::Text => {
                if !is_first {
                    output.line("")?;
                }
                output.lines(&frame.lines(address, "", None))?;
            }
        }
        if frames == Frames::One {
            return Ok(());
        }
        is_first = false;
        before = now;
    }
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
    let (mut before, mut present): (Option<Snapshot>, Option<Snapshot>) = (None, None);
    loop {
        let taken = tokio::select! {
            () = signals.received() => return Ok(()),
            () = screen.quit() => return Ok(()),
            snapshot = Snapshot::take(client) => snapshot,
        };
        let notice = match taken {
            Ok(now) => {
                before = present.replace(now);
                String::new()
            }
            Err(Failure::Sentence { sentence, .. }) => sentence,
            Err(reader_gone) => return Err(reader_gone),
        };
        if let Some(now) = &present {
            screen.draw(&Frame::new(before.as_ref(), now), address, &notice, output)?;
        }
        tokio::select! {
            () = signals.received() => return Ok(()),
            () = screen.quit() => return Ok(()),
            () = tokio::time::sleep(INTERVAL) => {}
        }
    }
}

/// The signals that end `top`. It handles them, so that it can restore the terminal before its end.
struct EndSignals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
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
        })
    }

    async fn received(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}
