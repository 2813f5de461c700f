//! The life of a connection over all its sockets: connect, serve, connect again. This module
//! decides when to give up; `link` serves one socket.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};

use super::handshake::{self, AddressOrder, Link};
use super::state_buffer::WatchRequest;
use super::waiting::WaitKey;
use super::{Command, ConnectionOptions, Event, Reply, Shared, link};
use crate::error::Error;

/// The pause before the second attempt to connect; it doubles with each attempt.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// The longest pause between two attempts to connect.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// The time of an attempt that begins just before the wait for the first connection is over.
const ATTEMPT_MIN: Duration = Duration::from_millis(100);

/// The longest pause that a broker can ask for when it closes the connection. After it the client
/// tries again, even if the broker asked for more.
pub(super) const RECONNECT_PAUSE_MAX: Duration = Duration::from_secs(10);

/// How long closing waits for answers after the last handle was dropped. Only watches that are
/// begun again can be unanswered then.
const CLOSE_TIME_WITHOUT_HANDLES: Duration = Duration::from_secs(5);

/// A connection that lived for this long was a good one: the next pause is short again.
const GOOD_CONNECTION: Duration = Duration::from_secs(5);

/// Owns the connection over all of its sockets. It runs as a task of its own and talks to the
/// handles through channels.
pub(super) struct Driver {
    /// The options, of which every attempt makes its Hello.
    pub(super) options: ConnectionOptions,
    /// The state that the handles read.
    pub(super) shared: Arc<Shared>,
    /// The requests of the handles.
    pub(super) commands: mpsc::Receiver<Command>,
    /// The waits whose callers have gone.
    pub(super) withdrawn: mpsc::UnboundedReceiver<WaitKey>,
    /// Set when a handle closes the connection.
    pub(super) closing: watch::Receiver<Option<Duration>>,
    /// The events for the owner of the connection.
    pub(super) events: Events,
    /// The session to resume; empty before the first Welcome.
    pub(super) session_id: String,
    /// The order in which the addresses of the broker's name are tried.
    pub(super) addresses: AddressOrder,
    /// The watches to begin again on the next connection.
    pub(super) watch_again: Vec<WatchRequest>,
    /// The broker's own pause: the next attempt comes no sooner than this after the end of the
    /// connection.
    pub(super) reconnect_pause: Duration,
}

/// Why a socket is no longer served.
pub(super) enum Disconnect {
    /// This side closed it.
    Closed,
    /// The broker closed it, or the network broke. The text says which.
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
            addresses: AddressOrder::default(),
            watch_again: Vec::new(),
            reconnect_pause: Duration::ZERO,
        }
    }

    /// Runs until the connection is closed or can never be opened again.
    pub(super) async fn run(mut self, opened: oneshot::Sender<Result<(), Error>>) {
        let error = match self.live(opened).await {
            Ok(()) => Error::Closed,
            Err(error) => error,
        };
        // Set before the channel is closed: a caller that finds it closed finds the reason too.
        // Requests that arrive from here on find the channel closed and read this error.
        let error = self.shared.terminal.get_or_init(|| error).clone();
        self.commands.close();
        while let Ok(command) = self.commands.try_recv() {
            let _ = command.reply.send(Reply::Failed(error.clone()));
        }
        for request in self.watch_again {
            if let Some(states) = request.states() {
                states.end();
            }
        }
    }

    /// Connects, and serves one socket after the other. `Ok` when the connection was closed, `Err`
    /// when it can never be opened again.
    async fn live(&mut self, opened: oneshot::Sender<Result<(), Error>>) -> Result<(), Error> {
        let mut pauses = Pauses::default();
        let Some(first) = self.first_connection(&mut pauses, opened).await? else { return Ok(()) };
        let mut link = first;
        loop {
            let began = Instant::now();
            let disconnect = link::serve(self, link).await;
            self.shared.connected.store(false, Ordering::Relaxed);
            let Disconnect::Lost(reason) = disconnect else { return Ok(()) };
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

    /// Connects for the first time: tries once, or for as long as the options say. `None` when the
    /// connection was closed before that.
    async fn first_connection(
        &mut self,
        pauses: &mut Pauses,
        opened: oneshot::Sender<Result<(), Error>>,
    ) -> Result<Option<Link>, Error> {
        let give_up_at = self.options.connect_wait.map(super::deadline_after);
        if let Err(error) = self.options.read_missing_token().await {
            let _ = opened.send(Err(error.clone()));
            return Err(error);
        }
        loop {
            // An error is final at once where the options do not ask for more attempts.
            let options = within_the_wait(&self.options, give_up_at);
            let pause = pauses.next();
            match handshake::connect(&options, &self.session_id, &mut self.addresses).await {
                Ok(link) => {
                    let _ = opened.send(Ok(()));
                    return Ok(Some(link));
                }
                Err(error) => {
                    // What is wrong with TLS at the start, somebody has to put right. Later a file
                    // may be missing only for a moment, while it is replaced.
                    let again = give_up_at.is_some_and(|at| Instant::now() + pause < at)
                        && !is_final(&error)
                        && !matches!(error, Error::Tls { .. });
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
            sleep(pause).await;
            self.options.read_new_token().await;
        }
    }

    /// Connects again, however long it takes. `None` when the connection was closed meanwhile.
    async fn next_connection(&mut self, pauses: &mut Pauses) -> Result<Option<Link>, Error> {
        let Self { options, closing, session_id, shared, addresses, reconnect_pause, .. } = self;
        let reconnect = async {
            sleep(std::mem::take(reconnect_pause)).await;
            loop {
                sleep(pauses.next()).await;
                // The old token may be what ended the connection.
                options.read_new_token().await;
                match handshake::connect(options, session_id, addresses).await {
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
                        // The broker no longer knows the session; the next attempt asks for a new
                        // one.
                        let lost = crate::ErrorCode::SessionLost;
                        if matches!(error, Error::Handshake { code, .. } if code == lost) {
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

/// The options for an attempt that ends when the wait for the first connection is over.
fn within_the_wait(options: &ConnectionOptions, give_up_at: Option<Instant>) -> ConnectionOptions {
    let mut options = options.clone();
    if let Some(at) = give_up_at {
        // Any broker that is there answers within the least time.
        let left = at.saturating_duration_since(Instant::now()).max(ATTEMPT_MIN);
        options.connect_timeout = options.connect_timeout.min(left);
    }
    options
}

/// Returns when a handle closes the connection, with the time that unanswered requests have then.
pub(super) async fn asked_to_close(closing: &mut watch::Receiver<Option<Duration>>) -> Duration {
    // An error means that the last handle was dropped, which closes the connection too.
    let asked = closing.wait_for(Option::is_some).await;
    asked.ok().and_then(|time| *time).unwrap_or(CLOSE_TIME_WITHOUT_HANDLES)
}

/// Whether another attempt will end with the same error.
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

/// The events for the owner of the connection. The owner may be slow, and may have dropped the
/// receiver.
pub(super) struct Events {
    sender: mpsc::Sender<Event>,
    /// The events that did not fit into the channel. The socket is not read while there are any.
    waiting: VecDeque<Event>,
}

impl Events {
    /// Passes an event on, or keeps it until there is room. Events keep their order.
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

    /// Whether events wait for the owner.
    pub(super) fn is_behind(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Passes one waiting event on when there is room.
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

/// The growing pauses between attempts to connect. Each pause is between half and all of its full
/// length, at random, so that many clients do not come back at the same moment.
#[derive(Default)]
struct Pauses {
    /// The pauses so far. Each one doubles the next.
    attempts: u32,
}

impl Pauses {
    /// The pause before the next attempt.
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
