//! `celeriac top`: rates, queues and workers, looked at once a second until somebody has seen
//! enough.
//!
//! Here is the rhythm; what a frame shows is in `top::frame`, how it gets on a terminal in
//! `top::screen`.

use std::time::Duration;

use celeriac_client::Client;
use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::arguments::Global;
use crate::connection::{address, connect};
use crate::exit::{Exit, Failure};
use crate::output::Output;
use frame::{Frame, Look};
use screen::Screen;

mod frame;
mod screen;

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(1);

/// The arguments of `top`.
#[derive(Args)]
pub(crate) struct Top {
    /// Print one frame and end
    #[arg(long)]
    once: bool,
}

/// Shows frame after frame until q, Ctrl-C or a signal. Where stdout is no terminal, and with
/// --json, frames follow each other as plain text or as documents.
pub(crate) async fn run(top: &Top, global: &Global, output: &mut Output) -> Result<Exit, Failure> {
    let mut signals = Signals::listen()?;
    let client = connect(global).await?;
    let shown = if top.once || output.json || !screen::is_there() {
        print(&client, top.once, &address(global), &mut signals, output).await
    } else {
        live(&client, &address(global), &mut signals, output).await
    };
    // A broker that is not there any more need not be told good-bye: that could take seconds.
    if shown.is_ok() {
        let _ = tokio::time::timeout(INTERVAL, client.close()).await;
    }
    shown.map(|()| Exit::Success)
}

/// Frames one below the other. The first one comes after the second look: before it there are no
/// rates.
async fn print(
    client: &Client,
    once: bool,
    address: &str,
    signals: &mut Signals,
    output: &mut Output,
) -> Result<(), Failure> {
    let mut before = Look::take(client).await?;
    let mut is_first = true;
    loop {
        let next = async {
            tokio::time::sleep(INTERVAL).await;
            Look::take(client).await
        };
        let now = tokio::select! {
            () = signals.received() => return Ok(()),
            look = next => look?,
        };
        let frame = Frame::new(Some(&before), &now);
        match output.json {
            true => output.document(&frame.document())?,
            false => {
                if !is_first {
                    output.line("")?;
                }
                output.lines(&frame.lines(address, "", None))?;
            }
        }
        if once {
            return Ok(());
        }
        is_first = false;
        before = now;
    }
}

/// Frames in place, on the whole terminal. A broker that does not answer is waited for: the last
/// frame stays, with a word.
async fn live(
    client: &Client,
    address: &str,
    signals: &mut Signals,
    output: &mut Output,
) -> Result<(), Failure> {
    let mut screen = Screen::enter()?;
    let (mut before, mut present): (Option<Look>, Option<Look>) = (None, None);
    loop {
        let looked = tokio::select! {
            () = signals.received() => return Ok(()),
            () = screen.quit() => return Ok(()),
            look = Look::take(client) => look,
        };
        let notice = match looked {
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

/// Whatever asks a program to end: it ends well then, with the terminal as it was.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
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
