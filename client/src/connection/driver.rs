//! The life of a connection over all its sockets: connect, serve, connect again. Decides when to
//! give up; what happens on one socket is told in `link`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};

use super::handshake::{self, Link, Turn};
use super::waiting::WaitKey;
use super::watching::WatchPart;
use super::{Command, ConnectionOptions, Event, Reply, Shared, link};
use crate::error::Error;

const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// What a broker may ask for at most when it closes: whoever asks for more is asked again.
pub(super) const BACK_IN_MAX: Duration = Duration::from_secs(10);

/// How long answers are waited for after the last handle was dropped. Only watches begun again can
/// be under way then.
const PATIENCE_OF_NOBODY: Duration = Duration::from_secs(5);

/// A connection that lived for so long was a good one: the next pause is short again.
const GOOD_CONNECTION: Duration = Duration::from_secs(5);

pub(super) struct Driver {
    pub(super) options: ConnectionOptions,
    pub(super) shared: Arc<Shared>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) withdrawn: mpsc::UnboundedReceiver<WaitKey>,
    pub(super) closing: watch::Receiver<Option<Duration>>,
    pub(super) events: Events,
    /// The session to go on with; empty before the first Welcome.
    pub(super) session_id: String,
    /// Among the addresses of the broker's name.
    pub(super) turn: Turn,
    /// Watches to be begun again on the next connection.
    pub(super) watch_again: Vec<WatchPart>,
    /// The next attempt comes no sooner than this after the end of the connection: the broker said
    /// so.
    pub(super) back_in: Duration,
}

/// Why the socket is served no longer.
pub(super) enum Ended {
    /// On purpose.
    Closed,
    /// By the peer or the network.
    Lost(String),
}

impl Driver {
    pub(super) fn new(
        options: ConnectionOptions,
        shared: Arc<Shared>,
        commands: mpsc::Receiver<Command>,
        withdrawn: mpsc::UnboundedReceiver<WaitKey>,
        closing: watch::Receiver<Option<Duration>>,
        events: mpsc::Sender<Event>,
    ) -> Self {
        let events = Events { sender: events, waiting: VecDeque::new() };
        Self {
            options,
            shared,
            commands,
            withdrawn,
            closing,
            events,
            session_id: String::new(),
            turn: Turn::default(),
            watch_again: Vec::new(),
            back_in: Duration::ZERO,
        }
    }

    /// Runs until the connection is closed or can never be opened again.
    pub(super) async fn run(mut self, opened: oneshot::Sender<Result<(), Error>>) {
        let error = match self.live(opened).await {
            Ok(()) => Error::Closed,
            Err(error) => error,
        };
        // Set before the channel is closed, so that whoever finds it closed finds the reason too.
        let error = self.shared.terminal.get_or_init(|| error).clone();
        self.commands.close();
        while let Ok(command) = self.commands.try_recv() {
            let _ = command.reply.send(Reply::Failed(error.clone()));
        }
        for part in self.watch_again {
            if let Some(sink) = part.sink() {
                sink.end();
            }
        }
    }

    async fn live(&mut self, opened: oneshot::Sender<Result<(), Error>>) -> Result<(), Error> {
        let mut pauses = Pauses::default();
        let Some(first) = self.first_connection(&mut pauses, opened).await? else { return Ok(()) };
        let mut link = first;
        loop {
            let began = Instant::now();
            let ended = link::serve(self, link).await;
            self.shared.connected.store(false, Ordering::Relaxed);
            let Ended::Lost(reason) = ended else { return Ok(()) };
            info!(
                broker = self.options.address,
                "the connection was lost and is being opened again: {reason}"
            );
            self.shared.set_trouble(Some(format!("the connection was lost: {reason}")));
            self.events.push(Event::Disconnected);
            if began.elapsed() >= GOOD_CONNECTION {
                pauses = Pauses::default();
            }
            match self.next_connection(&mut pauses).await? {
                Some(next) => link = next,
                None => return Ok(()),
            }
        }
    }

    /// Connects for the first time, once or for as long as the options say. `None`: closed before
    /// it worked.
    async fn first_connection(
        &mut self,
        pauses: &mut Pauses,
        opened: oneshot::Sender<Result<(), Error>>,
    ) -> Result<Option<Link>, Error> {
        let give_up_at = self.options.connect_wait.map(super::deadline_after);
        loop {
            match handshake::connect(&self.options, &self.session_id, &mut self.turn).await {
                Ok(link) => {
                    let _ = opened.send(Ok(()));
                    return Ok(Some(link));
                }
                Err(error) => {
                    let again =
                        give_up_at.is_some_and(|at| Instant::now() < at) && !is_final(&error);
                    if !again {
                        let _ = opened.send(Err(error.clone()));
                        return Err(error);
                    }
                    debug!("not connected yet: {error}");
                }
            }
            if opened.is_closed() {
                return Ok(None);
            }
            sleep(pauses.next()).await;
        }
    }

    /// Connects again, however long it takes. `None`: closed meanwhile.
    async fn next_connection(&mut self, pauses: &mut Pauses) -> Result<Option<Link>, Error> {
        let Self { options, closing, session_id, shared, turn, back_in, .. } = self;
        let reconnect = async {
            sleep(std::mem::take(back_in)).await;
            loop {
                sleep(pauses.next()).await;
                match handshake::connect(options, session_id, turn).await {
                    Ok(link) => return Ok(link),
                    Err(error) if is_final(&error) => {
                        warn!(
                            broker = options.address,
                            "the connection cannot be opened again: {error}"
                        );
                        return Err(error);
                    }
                    Err(error) => {
                        debug!("not connected yet: {error}");
                        shared.set_trouble(Some(error.to_string()));
                        if matches!(error, Error::Handshake { code, .. } if code == crate::ErrorCode::SessionLost)
                        {
                            session_id.clear();
                        }
                    }
                }
            }
        };
        tokio::select! {
            result = reconnect => result.map(Some),
            _ = asked_to_close(closing) => Ok(None),
        }
    }
}

/// Returns when the connection is to be closed, with the time for what is under way then.
pub(super) async fn asked_to_close(closing: &mut watch::Receiver<Option<Duration>>) -> Duration {
    // An error means that the last handle was dropped, which is closing too.
    let asked = closing.wait_for(Option::is_some).await;
    asked.ok().and_then(|patience| *patience).unwrap_or(PATIENCE_OF_NOBODY)
}

/// Whether another attempt will end in the same way.
fn is_final(error: &Error) -> bool {
    matches!(error, Error::Handshake { retryable: false, .. })
}

/// Runs a driver on a thread of its own with a runtime of its own.
pub(super) fn run_on_own_thread(
    driver: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Error> {
    let untried = || "an address that was not tried".to_owned();
    let failed = |source| Error::Connect { address: untried(), source: Arc::new(source) };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    std::thread::Builder::new()
        .name("celeriac-connection".to_owned())
        .spawn(move || runtime.block_on(driver))
        .map_err(failed)?;
    Ok(())
}

/// Events on their way to the owner, who may be slow and may be gone.
pub(super) struct Events {
    sender: mpsc::Sender<Event>,
    /// What did not fit; the socket is not read while there is any.
    waiting: VecDeque<Event>,
}

impl Events {
    pub(super) fn push(&mut self, event: Event) {
        if !self.waiting.is_empty() {
            self.waiting.push_back(event);
            return;
        }
        match self.sender.try_send(event) {
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
            Err(mpsc::error::TrySendError::Full(event)) => self.waiting.push_back(event),
        }
    }

    pub(super) fn is_behind(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Hands one waiting event on when there is room.
    pub(super) async fn drain_one(&mut self) {
        match self.sender.reserve().await {
            Ok(room) => {
                if let Some(event) = self.waiting.pop_front() {
                    room.send(event);
                }
            }
            Err(_) => self.waiting.clear(),
        }
    }
}

/// Growing pauses between attempts, each cut at random, so that many clients do not come back at
/// the same moment.
#[derive(Default)]
struct Pauses {
    attempts: u32,
}

impl Pauses {
    fn next(&mut self) -> Duration {
        let full = PAUSE_MIN.saturating_mul(1 << self.attempts.min(16)).min(PAUSE_MAX);
        self.attempts = self.attempts.saturating_add(1);
        let random = uuid::Uuid::new_v4().as_bytes()[0];
        full / 2 + full * u32::from(random) / 512
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_bound() {
        let mut pauses = Pauses::default();
        let taken: Vec<Duration> = (0..40).map(|_| pauses.next()).collect();
        assert!(taken[0] >= PAUSE_MIN / 2 && taken[0] <= PAUSE_MIN);
        assert!(taken[39] >= PAUSE_MAX / 2 && taken[39] <= PAUSE_MAX);
    }
}
