//! One connection to a broker, which is opened again whenever it breaks. Clients and workers are
//! built on it.
//!
//! [`Connection::request`] takes the body of a frame and returns the body of its answer. One task
//! owns the socket. It writes all waiting requests together, matches answers with requests, sends
//! heartbeats, and when the connection breaks it connects again, with growing pauses. After that it
//! sends those requests again that may be carried out twice, until their deadline. The others end
//! as [`Error::Interrupted`].
//!
//! This module does not know what a task is, nor what an answer means.

mod broker_clock;
mod driver;
mod exchange;
mod handshake;
mod link;
mod local;
mod options;
pub(crate) mod state_buffer;
mod stream;
#[cfg(feature = "tls")]
mod tls;
#[cfg(not(feature = "tls"))]
#[path = "connection/without_tls.rs"]
mod tls;
mod waiting;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use celeriac_proto::limits;
use celeriac_proto::wire::{self, client_frame, server_frame};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::error::{Error, ErrorCode};
use driver::Driver;
pub use options::{ConnectionOptions, TlsFiles};
use state_buffer::{StateBuffer, WatchRequest};
pub use stream::{Connector, Halves};
use waiting::{WaitKey, Waits};

/// The most requests that wait to be written. Further callers wait until there is room.
const COMMANDS_MAX: usize = 1_024;

/// The most events that the owner has not taken yet. Beyond that the socket is not read, so that
/// the broker feels the back-pressure.
const EVENTS_MAX: usize = 16_384;

/// The pause before a request is sent again to a broker that is shutting down.
const CLOSING_DOWN_PAUSE: Duration = Duration::from_millis(100);

/// The longest timeout. A longer one is cut to this, so that no sum of times can overflow.
const TIMEOUT_MAX: Duration = Duration::from_secs(365 * 24 * 3_600);

/// How much longer than the given time [`Connection::close`] may take.
const CLOSE_MARGIN: Duration = Duration::from_secs(2);

/// What happens to a connection without a request.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "an event is moved twice; a box would cost more")]
pub enum Event {
    /// The connection was opened, for the first time or again. This event comes before every push
    /// of that connection.
    Connected {
        /// The broker's Welcome: its limits, and the leases that it still knows.
        welcome: wire::Welcome,
        /// Whether the session before goes on, with its leases.
        resumed: bool,
    },
    /// The connection broke, and is being opened again.
    Disconnected,
    /// The broker sent a Deliver, CancelSignal, Order, Mail, ConsumerEnded or Closing. Transitions
    /// go to their watches instead.
    Push(server_frame::Body),
}

/// A handle on the connection. A clone is cheap. When the last handle is dropped, the connection is
/// closed.
#[derive(Clone)]
pub struct Connection {
    inner: Arc<Inner>,
}

struct Inner {
    commands: mpsc::Sender<Command>,
    /// How long closing waits for unanswered requests; `None` until a handle closes the
    /// connection.
    closing: watch::Sender<Option<Duration>>,
    /// Carries no value. Its sender is dropped with the task that owns the socket, however that
    /// task ends.
    ended: watch::Receiver<()>,
    shared: Arc<Shared>,
    waits: Waits,
}

/// The state that the handles share with the task that owns the socket.
#[derive(Default)]
struct Shared {
    welcome: Mutex<Option<wire::Welcome>>,
    connected: AtomicBool,
    /// Why there is no connection now; the message of a timeout shows it.
    trouble: Mutex<Option<String>>,
    /// Why the connection ended for good. Set once.
    terminal: OnceLock<Error>,
    running: AtomicU32,
    memory_bytes: AtomicU64,
}

/// One request on its way to the task that owns the socket.
struct Command {
    /// Shared with a caller that needs the body again afterwards.
    body: Arc<client_frame::Body>,
    /// The timeout that the broker is told.
    timeout: Duration,
    purpose: Purpose,
    reply: oneshot::Sender<Reply>,
}

/// What the connection does with a request besides passing its answer on.
pub(crate) enum Purpose {
    /// Nothing else.
    Answer,
    /// It keeps the watch, over reconnects too.
    Watch(WatchRequest),
    /// It does not count the request among the unanswered ones, and can withdraw it.
    Wait(WaitKey),
}

/// The outcome of sending a request once.
pub(crate) enum Reply {
    /// In a box, because a reply is moved a dozen times between the socket and the caller.
    Answer(Box<server_frame::Body>),
    Failed(Error),
    /// There is no answer and none will come: the connection broke, or the broker refused because
    /// it is shutting down.
    Interrupted {
        /// When the request was sent, by the broker's clock; never later than the real moment.
        sent_at_ms: i64,
        /// The broker's refusal, which also means that it did nothing.
        refused: Option<wire::Error>,
    },
}

impl Connection {
    /// Connects, and stays connected until the last handle is dropped or [`Connection::close`] is
    /// called.
    ///
    /// The task that reads the receiver must not wait for requests of this connection. The receiver
    /// may also be dropped.
    ///
    /// ```no_run
    /// use celeriac_client::connection::{Connection, ConnectionOptions, Event};
    ///
    /// # async fn example() -> Result<(), celeriac_client::Error> {
    /// let (connection, mut events) =
    ///     Connection::open(ConnectionOptions::new("127.0.0.1:23537")).await?;
    /// while let Some(event) = events.recv().await {
    ///     if let Event::Connected { resumed, .. } = event {
    ///         println!("connected, resumed: {resumed}");
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Connect`], [`Error::Tls`] and [`Error::Handshake`]. How long it tries before that,
    /// [`ConnectionOptions::connect_wait`] says.
    pub async fn open(options: ConnectionOptions) -> Result<(Self, mpsc::Receiver<Event>), Error> {
        let (commands, command_receiver) = mpsc::channel(COMMANDS_MAX);
        let (events, event_receiver) = mpsc::channel(EVENTS_MAX);
        let (closing, closing_receiver) = watch::channel(None);
        let (end, ended) = watch::channel(());
        let (waits, withdrawn) = Waits::new();
        let (opened, opened_receiver) = oneshot::channel();
        let shared = Arc::new(Shared::default());
        let own_thread = options.own_thread;
        let driver = Driver::new(
            options,
            shared.clone(),
            command_receiver,
            withdrawn,
            closing_receiver,
            events,
        );
        let driver = async move {
            // Dropped after the driver, and therefore after the socket.
            let _end = end;
            driver.run(opened).await;
        };
        if own_thread {
            driver::run_on_own_thread(driver)?;
        } else {
            tokio::spawn(driver);
        }
        opened_receiver.await.unwrap_or(Err(Error::Closed))?;
        Ok((
            Self { inner: Arc::new(Inner { commands, closing, ended, shared, waits }) },
            event_receiver,
        ))
    }

    /// Sends one request and waits for its answer. A request that may be sent twice survives
    /// reconnects.
    ///
    /// # Errors
    /// - [`Error::Refused`] when the broker refuses the request.
    /// - [`Error::Timeout`] when `timeout` is over first.
    /// - [`Error::Handshake`] when the broker no longer accepts this client.
    /// - [`Error::Closed`] after [`Connection::close`].
    /// - [`Error::Interrupted`] when the connection broke and the request must not be sent twice.
    pub async fn request(
        &self,
        body: client_frame::Body,
        timeout: Duration,
    ) -> Result<server_frame::Body, Error> {
        self.request_shared(&Arc::new(body), timeout).await
    }

    /// As [`Connection::request`], for a caller that needs the body again after the answer.
    ///
    /// # Errors
    /// As [`Connection::request`].
    pub async fn request_shared(
        &self,
        body: &Arc<client_frame::Body>,
        timeout: Duration,
    ) -> Result<server_frame::Body, Error> {
        let deadline = deadline_after(timeout);
        let mut left = timeout;
        loop {
            let reply = self.send_once(body.clone(), left, Purpose::Answer, deadline).await;
            match reply.ok_or_else(|| self.timeout(timeout))? {
                Reply::Answer(answer) => return Ok(*answer),
                Reply::Failed(error) => return Err(self.with_time(error, timeout)),
                Reply::Interrupted { refused: None, .. } if !may_be_sent_twice(body) => {
                    return Err(Error::Interrupted);
                }
                Reply::Interrupted { refused, .. } => {
                    self.pause_before_repeat(refused, deadline).await?
                }
            }
            left = deadline.saturating_duration_since(Instant::now());
        }
    }

    /// Sends one request of a watch. From then on the buffer gets every transition, over reconnects
    /// too.
    pub(crate) async fn watch(
        &self,
        request: wire::Watch,
        states: &Arc<StateBuffer>,
        timeout: Duration,
    ) -> Result<(), Error> {
        let deadline = deadline_after(timeout);
        let body = Arc::new(client_frame::Body::Watch(request.clone()));
        loop {
            let purpose = Purpose::Watch(WatchRequest::new(request.clone(), states));
            let left = deadline.saturating_duration_since(Instant::now());
            let reply = self.send_once(body.clone(), left, purpose, deadline).await;
            match reply.ok_or_else(|| self.timeout(timeout))? {
                Reply::Answer(answer) if matches!(*answer, server_frame::Body::WatchReply(_)) => {
                    return Ok(());
                }
                Reply::Answer(_) => return Err(Error::unexpected("a WatchReply")),
                Reply::Failed(error) => return Err(self.with_time(error, timeout)),
                Reply::Interrupted { refused, .. } => {
                    self.pause_before_repeat(refused, deadline).await?
                }
            }
        }
    }

    /// Sends a request once, and waits for its outcome. `None` when the deadline comes first.
    pub(crate) async fn send_once(
        &self,
        body: Arc<client_frame::Body>,
        timeout: Duration,
        purpose: Purpose,
        deadline: Instant,
    ) -> Option<Reply> {
        match self.enqueue(body, timeout, purpose, deadline).await? {
            Ok(answer) => self.answer(answer, deadline).await,
            Err(error) => Some(Reply::Failed(error)),
        }
    }

    /// The first half of [`Connection::send_once`]: hands the request over. Requests are written in
    /// the order in which this returns.
    pub(crate) async fn enqueue(
        &self,
        body: Arc<client_frame::Body>,
        timeout: Duration,
        purpose: Purpose,
        deadline: Instant,
    ) -> Option<Result<oneshot::Receiver<Reply>, Error>> {
        let (reply, answer) = oneshot::channel();
        let command = Command { body, timeout, purpose, reply };
        // Nearly always there is room, and no clock is needed.
        let command = match self.inner.commands.try_send(command) {
            Ok(()) => return Some(Ok(answer)),
            Err(TrySendError::Closed(_)) => return Some(Err(self.why_ended())),
            Err(TrySendError::Full(command)) => command,
        };
        match timeout_at(deadline, self.inner.commands.send(command)).await.ok()? {
            Ok(()) => Some(Ok(answer)),
            Err(_) => Some(Err(self.why_ended())),
        }
    }

    /// The second half of [`Connection::send_once`]: waits for the outcome.
    pub(crate) async fn answer(
        &self,
        answer: oneshot::Receiver<Reply>,
        deadline: Instant,
    ) -> Option<Reply> {
        let reply = timeout_at(deadline, answer).await.ok()?;
        Some(reply.unwrap_or_else(|_| Reply::Failed(self.why_ended())))
    }

    /// Waits before a request is sent again. Only a broker that is shutting down needs the pause. A
    /// connection that broke is being opened again anyway.
    pub(crate) async fn pause_before_repeat(
        &self,
        refused: Option<wire::Error>,
        deadline: Instant,
    ) -> Result<(), Error> {
        let Some(refused) = refused else { return Ok(()) };
        let resume_at = Instant::now() + CLOSING_DOWN_PAUSE;
        if resume_at >= deadline {
            return Err(refused.into());
        }
        sleep_until(resume_at).await;
        Ok(())
    }

    /// Sets the figures of the next heartbeats: running handlers, and memory in bytes.
    pub fn set_heartbeat(&self, running: u32, memory_bytes: u64) {
        self.inner.shared.running.store(running, Ordering::Relaxed);
        self.inner.shared.memory_bytes.store(memory_bytes, Ordering::Relaxed);
    }

    /// The latest Welcome of the broker.
    pub fn welcome(&self) -> wire::Welcome {
        let welcome = self.inner.shared.welcome.lock().expect("no holder of this lock panics");
        welcome.clone().unwrap_or_default()
    }

    /// The limits that the broker set for the present or latest connection.
    pub fn limits(&self) -> wire::Limits {
        let welcome = self.inner.shared.welcome.lock().expect("no holder of this lock panics");
        effective_limits(welcome.as_ref().and_then(|welcome| welcome.limits))
    }

    /// Whether the connection is open at this moment.
    pub fn is_connected(&self) -> bool {
        self.inner.shared.connected.load(Ordering::Relaxed)
    }

    /// Closes the connection: refuses further requests, waits up to `time` for the answers of
    /// unanswered requests, and sends Goodbye. A worker's leases go back to their queues at once. A
    /// `Wait` is not waited for; it ends as [`Error::Closed`]. Returns when the socket is closed.
    pub async fn close(&self, time: Duration) {
        self.inner.shared.terminal.get_or_init(|| Error::Closed);
        self.inner
            .closing
            .send_modify(|closing| *closing = Some(closing.map_or(time, |other| other.min(time))));
        let mut ended = self.inner.ended.clone();
        // Nothing is ever sent: the wait ends with an error, when the sender is dropped. The task
        // bounds its own end; this second bound is for a runtime that stands still.
        let bound = deadline_after(time.saturating_add(CLOSE_MARGIN));
        let _ = timeout_at(bound, ended.changed()).await;
    }

    pub(crate) fn timeout(&self, after: Duration) -> Error {
        let trouble = self.inner.shared.trouble.lock().expect("no holder of this lock panics");
        Error::Timeout { after, trouble: trouble.clone() }
    }

    /// Turns the broker's `deadline_exceeded` into the caller's timeout.
    pub(crate) fn with_time(&self, error: Error, after: Duration) -> Error {
        match error {
            Error::Refused { code: ErrorCode::DeadlineExceeded, .. } => self.timeout(after),
            error => error,
        }
    }

    fn why_ended(&self) -> Error {
        self.inner.shared.terminal.get().cloned().unwrap_or(Error::Closed)
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("connected", &self.is_connected())
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn set_trouble(&self, trouble: Option<String>) {
        *self.trouble.lock().expect("no holder of this lock panics") = trouble;
    }
}

/// The moment that is `timeout` from now. A timeout of more than a year counts as a year, so there
/// is always such a moment.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use std::time::Duration;
///
/// use celeriac_client::connection::deadline_after;
///
/// assert!(deadline_after(Duration::MAX) > deadline_after(Duration::from_secs(60)));
/// # }
/// ```
pub fn deadline_after(timeout: Duration) -> Instant {
    Instant::now() + timeout.min(TIMEOUT_MAX)
}

/// The limits of a Welcome. A limit that it leaves out has the protocol's default.
fn effective_limits(limits: Option<wire::Limits>) -> wire::Limits {
    let given = limits.unwrap_or_default();
    let or = |value: u64, default: usize| if value == 0 { default as u64 } else { value };
    let or_small = |value: u32, default: u32| if value == 0 { default } else { value };
    wire::Limits {
        frame_bytes_max: or(given.frame_bytes_max, limits::FRAME_BYTES_MAX),
        payload_bytes_max: or(given.payload_bytes_max, limits::PAYLOAD_BYTES_MAX),
        result_bytes_max: or(given.result_bytes_max, limits::RESULT_BYTES_MAX),
        batch_items_max: or_small(given.batch_items_max, limits::BATCH_ITEMS_MAX as u32),
        requests_in_flight_max: or_small(
            given.requests_in_flight_max,
            limits::REQUESTS_IN_FLIGHT_MAX as u32,
        ),
        credit_max: or_small(given.credit_max, limits::CREDIT_MAX),
    }
}

/// Whether a request whose answer was lost may be sent again without changing what it does.
///
/// False for a submit: `batches` sends it again by rules of its own.
fn may_be_sent_twice(body: &client_frame::Body) -> bool {
    use client_frame::Body;
    match body {
        Body::Cancel(_) | Body::Forget(_) | Body::Get(_) | Body::Wait(_) | Body::Watch(_) => true,
        Body::Unwatch(_) | Body::Unwait(_) => true,
        Body::Credit(_) | Body::Report(_) | Body::Serve(_) | Body::OrderWorkers(_) => true,
        Body::ListQueues(_) | Body::ListTasks(_) | Body::ListWorkers(_) => true,
        Body::ConfigureQueue(_) | Body::DeclareQueue(_) | Body::PauseQueues(_) => true,
        Body::PurgeQueue(_) | Body::DeleteQueue(_) | Body::ReplayDead(_) | Body::DiscardDead(_) => {
            false
        }
        Body::Backup(_) | Body::PutOutcome(_) => false,
        Body::DeclareMailbox(declare) => !declare.mailbox.is_empty(),
        Body::DeclareExchange(_) | Body::DeleteExchange(_) | Body::Bind(_) | Body::Unbind(_) => {
            true
        }
        Body::ListMailboxes(_) | Body::ListBindings(_) | Body::Info(_) => true,
        Body::LogFilter(_) | Body::Stats(_) => true,
        // A drain that began before a restart ended with it.
        Body::Drain(drain) => !drain.draining,
        // A mailbox may have ended with the connection, and a consumer has.
        Body::DeleteMailbox(_)
        | Body::PurgeMailbox(_)
        | Body::Consume(_)
        | Body::Unconsume(_)
        | Body::FetchMail(_)
        | Body::AckMail(_)
        | Body::PutBackMail(_) => false,
        Body::ChordPart(_) | Body::ChordDone(_) => true,
        Body::ChordExtend(_) => false,
        Body::Hello(_)
        | Body::Goodbye(_)
        | Body::Heartbeat(_)
        | Body::Submit(_)
        | Body::Take(_)
        | Body::Publish(_) => false,
    }
}
