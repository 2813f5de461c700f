//! One connection to a broker that heals itself: the layer that clients and workers are built on.
//!
//! [`Connection::request`] takes the body of a frame and returns the body of its answer. Behind it
//! one task owns the socket, writes what is waiting in one go, matches answers with requests, sends
//! heartbeats, and connects again with growing pauses when the connection breaks. Requests that may
//! be carried out twice are sent again after that, until their deadline; the others end as
//! [`Error::Interrupted`].
//!
//! What a task is, and what an answer means, is not known here.

mod driver;
mod exchange;
mod handshake;
mod link;
mod local;
mod stream;
mod waiting;
pub(crate) mod watching;

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
pub use stream::{Connector, Halves};
use waiting::{WaitKey, Waits};
use watching::{WatchPart, WatchSink};

/// Requests that wait to be written; more wait in their callers.
const COMMANDS_MAX: usize = 1_024;

/// Events that the owner has not taken yet. Beyond it the socket is not read: the broker then feels
/// the back-pressure.
const EVENTS_MAX: usize = 16_384;

/// How long a caller pauses before it asks a broker again that said it was closing down.
const CLOSING_DOWN_PAUSE: Duration = Duration::from_millis(100);

/// Longer spans than this are cut to it, so that no sum of times can overflow.
const TIMEOUT_MAX: Duration = Duration::from_secs(365 * 24 * 3_600);

/// How a connection is opened and what it says of itself.
#[derive(Clone)]
#[non_exhaustive]
pub struct ConnectionOptions {
    /// Host and port, as `127.0.0.1:23537`.
    pub address: String,
    /// The secret to show; empty for none.
    pub token: String,
    /// The name of the client library, for logs and listings.
    pub client_name: String,
    /// Its version.
    pub client_version: String,
    /// Names this program, the same over all its reconnects.
    pub instance_id: String,
    /// Set by a worker: without it the broker sends no deliveries.
    pub worker: Option<wire::WorkerInfo>,
    /// How often to send heartbeats; `None` leaves it to the broker.
    pub heartbeat: Option<Duration>,
    /// How long one attempt to connect and be let in may take.
    pub connect_timeout: Duration,
    /// `None`: the first attempt decides whether [`Connection::open`] succeeds. Otherwise it is
    /// repeated for this long.
    pub connect_wait: Option<Duration>,
    /// Runs the connection on a thread of its own, so that handlers that block the runtime cannot
    /// stop the heartbeats.
    pub own_thread: bool,
    /// What opens the byte stream; `None`: TCP to the address.
    pub connector: Option<Connector>,
}

impl ConnectionOptions {
    /// The defaults for a client of the broker at `address`.
    pub fn new(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            token: String::new(),
            client_name: "celeriac-rust".to_owned(),
            client_version: env!("CARGO_PKG_VERSION").to_owned(),
            instance_id: format!(
                "{}-{}",
                std::process::id(),
                &uuid::Uuid::new_v4().simple().to_string()[..8]
            ),
            worker: None,
            heartbeat: None,
            connect_timeout: Duration::from_secs(5),
            connect_wait: None,
            own_thread: false,
            connector: None,
        }
    }
}

/// What happens to a connection without being asked for.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "an event is moved twice; a box would cost more")]
pub enum Event {
    /// Connected, for the first time or again. Comes before every push of that connection.
    Connected {
        /// What the broker said of itself, its limits, and the leases it still knows.
        welcome: wire::Welcome,
        /// The session before was still there, with its leases.
        resumed: bool,
    },
    /// The connection broke; it is being opened again.
    Disconnected,
    /// Deliver, CancelSignal, Order, TopicMessage or Closing. Transitions go to their watches
    /// instead.
    Push(server_frame::Body),
}

/// A handle on the connection. Cheap to clone; the last one dropped closes it.
#[derive(Clone)]
pub struct Connection {
    inner: Arc<Inner>,
}

struct Inner {
    commands: mpsc::Sender<Command>,
    /// How long to wait for what is under way; `None` until closing is asked for.
    closing: watch::Sender<Option<Duration>>,
    /// Carries nothing: its other half is dropped with the task that owns the socket, however that
    /// task ends.
    ended: watch::Receiver<()>,
    shared: Arc<Shared>,
    waits: Waits,
}

/// What the handles and the task behind them both see.
#[derive(Default)]
struct Shared {
    welcome: Mutex<Option<wire::Welcome>>,
    connected: AtomicBool,
    /// Why there is no connection now, for the message of a timeout.
    trouble: Mutex<Option<String>>,
    /// Set once, when no further attempt can succeed.
    terminal: OnceLock<Error>,
    running: AtomicU32,
    memory_bytes: AtomicU64,
}

/// One request on its way to the task that owns the socket.
struct Command {
    /// Shared with a caller who needs it afterwards.
    body: Arc<client_frame::Body>,
    /// What the broker is told.
    timeout: Duration,
    purpose: Purpose,
    reply: oneshot::Sender<Reply>,
}

/// What a request is for, besides its answer.
pub(crate) enum Purpose {
    Answer,
    /// With where the transitions go.
    Watch(WatchPart),
    Wait(WaitKey),
}

/// What became of one sending of a request.
pub(crate) enum Reply {
    /// In a box: between the socket and the caller a reply is moved a dozen times.
    Answer(Box<server_frame::Body>),
    Failed(Error),
    /// No answer, and none will come: the connection broke, or the broker is closing down and said
    /// so.
    Interrupted {
        /// When the request was sent, on the broker's clock and not later than that.
        sent_at_ms: i64,
        /// The broker's own words, which also say that nothing was done.
        refused: Option<wire::Error>,
    },
}

impl Connection {
    /// Connects, and keeps connected until the last handle is dropped or [`Connection::close`] is
    /// called.
    ///
    /// The receiver has to be read by a task that does not itself wait for requests of this
    /// connection; it may also be dropped.
    ///
    /// # Errors
    /// [`Error::Connect`] and [`Error::Handshake`], by the rule of
    /// [`ConnectionOptions::connect_wait`].
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
            // Dropped after the driver, and so after the socket.
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

    /// Sends one request and waits for its answer, over reconnects if it may be sent twice.
    ///
    /// # Errors
    /// [`Error::Refused`] when the broker says no, [`Error::Timeout`] when `timeout` is over first,
    /// the handshake's error when the broker no longer lets this client in, [`Error::Closed`]
    /// after [`Connection::close`], and [`Error::Interrupted`] for a request that must not be
    /// sent twice.
    pub async fn request(
        &self,
        body: client_frame::Body,
        timeout: Duration,
    ) -> Result<server_frame::Body, Error> {
        self.request_shared(&Arc::new(body), timeout).await
    }

    /// As [`Connection::request`], for a caller who needs the body once more when the answer is
    /// there.
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

    /// Begins one part of a watch. From then on the sink is kept up to date, over reconnects too.
    pub(crate) async fn watch(
        &self,
        request: wire::Watch,
        sink: &Arc<WatchSink>,
        timeout: Duration,
    ) -> Result<(), Error> {
        let deadline = deadline_after(timeout);
        let body = Arc::new(client_frame::Body::Watch(request.clone()));
        loop {
            let purpose = Purpose::Watch(WatchPart::new(request.clone(), sink));
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

    /// Sends a request once. `None` when the deadline comes first.
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

    /// The first half of [`Connection::send_once`]: requests are written in the order in which this
    /// returns.
    pub(crate) async fn enqueue(
        &self,
        body: Arc<client_frame::Body>,
        timeout: Duration,
        purpose: Purpose,
        deadline: Instant,
    ) -> Option<Result<oneshot::Receiver<Reply>, Error>> {
        let (reply, answer) = oneshot::channel();
        let command = Command { body, timeout, purpose, reply };
        // There is room nearly always, and then no clock is needed.
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

    /// The second half of [`Connection::send_once`].
    pub(crate) async fn answer(
        &self,
        answer: oneshot::Receiver<Reply>,
        deadline: Instant,
    ) -> Option<Reply> {
        let reply = timeout_at(deadline, answer).await.ok()?;
        Some(reply.unwrap_or_else(|_| Reply::Failed(self.why_ended())))
    }

    /// A broker that is closing down is given a moment; a connection that broke is being opened
    /// again anyway.
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

    /// What the heartbeats say of this program from now on: handlers that run, and memory in bytes.
    pub fn set_heartbeat(&self, running: u32, memory_bytes: u64) {
        self.inner.shared.running.store(running, Ordering::Relaxed);
        self.inner.shared.memory_bytes.store(memory_bytes, Ordering::Relaxed);
    }

    /// The latest Welcome.
    pub fn welcome(&self) -> wire::Welcome {
        let welcome = self.inner.shared.welcome.lock().expect("no holder of this lock panics");
        welcome.clone().unwrap_or_default()
    }

    /// The bounds of the present or latest connection.
    pub fn limits(&self) -> wire::Limits {
        let welcome = self.inner.shared.welcome.lock().expect("no holder of this lock panics");
        effective_limits(welcome.as_ref().and_then(|welcome| welcome.limits))
    }

    /// Whether there is a connection at this moment.
    pub fn is_connected(&self) -> bool {
        self.inner.shared.connected.load(Ordering::Relaxed)
    }

    /// Takes no further requests, waits up to `patience` for the answers of those that are under
    /// way, and says Goodbye: a worker's leases go back at once. `Wait`s are not waited for.
    /// Returns when the socket is closed.
    pub async fn close(&self, patience: Duration) {
        self.inner.shared.terminal.get_or_init(|| Error::Closed);
        self.inner.closing.send_modify(|closing| {
            *closing = Some(closing.map_or(patience, |other| other.min(patience)))
        });
        let mut ended = self.inner.ended.clone();
        // An error is what is waited for: nothing is ever sent. The task bounds its own end; the
        // second bound holds if its runtime stands still.
        let bound = deadline_after(patience.saturating_add(Duration::from_secs(2)));
        let _ = timeout_at(bound, ended.changed()).await;
    }

    pub(crate) fn timeout(&self, after: Duration) -> Error {
        let trouble = self.inner.shared.trouble.lock().expect("no holder of this lock panics");
        Error::Timeout { after, trouble: trouble.clone() }
    }

    /// The broker's `deadline_exceeded` is the caller's timeout.
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

/// The moment that is `timeout` from now. Whatever anybody may ask for, there is such a moment: a
/// span of more than a year is taken for a year.
pub fn deadline_after(timeout: Duration) -> Instant {
    Instant::now() + timeout.min(TIMEOUT_MAX)
}

/// The limits of a Welcome; the protocol's defaults for those it leaves out.
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
/// A submit is not in the list: `submitting` repeats it with its own care.
fn may_be_sent_twice(body: &client_frame::Body) -> bool {
    use client_frame::Body;
    match body {
        Body::Cancel(_) | Body::Forget(_) | Body::Get(_) | Body::Wait(_) | Body::Watch(_) => true,
        Body::Unwatch(_) | Body::Unwait(_) => true,
        Body::Credit(_)
        | Body::Report(_)
        | Body::Subscribe(_)
        | Body::Unsubscribe(_)
        | Body::OrderWorkers(_) => true,
        Body::ListQueues(_) | Body::ListTasks(_) | Body::ListWorkers(_) => true,
        Body::ConfigureQueue(_) | Body::PauseQueues(_) => true,
        Body::PurgeQueue(_) | Body::DeleteQueue(_) | Body::ReplayDead(_) | Body::DiscardDead(_) => {
            false
        }
        Body::Backup(_) => false,
        Body::Hello(_)
        | Body::Goodbye(_)
        | Body::Heartbeat(_)
        | Body::Submit(_)
        | Body::Publish(_) => false,
    }
}
