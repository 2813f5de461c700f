//! The worker as its user sees it: it is built, runs, and ends. `driver` talks to the broker, and
//! `execution` runs the handlers.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use celeriac_client::connection::{Connection, ConnectionOptions};
use celeriac_client::{BrokerUrl, Client, EnvironmentError, Error, broker_from_env};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use crate::builder::WorkerBuilder;
use crate::context::WorkerSide;
use crate::credit::CreditPlan;
use crate::driver::{Driver, Shutdown};
use crate::execution::Execution;
use crate::leases::Leases;
use crate::panics::keep_backtraces;
use crate::termination;
use crate::threads::Threads;

/// How long the hooks of runs have that were dropped because the worker ends with an error.
const HOOKS_TIME: Duration = Duration::from_secs(1);

/// How often a worker that waits for its broker logs a warning.
const WARNING_INTERVAL: Duration = Duration::from_secs(10);

/// Why a worker did not start, or stopped running.
///
/// ```no_run
/// # async fn example(worker: celeriac_worker::Worker) {
/// if let Err(error) = worker.run_until_signalled().await {
///     eprintln!("{error}");
///     // EX_TEMPFAIL lets a supervisor start the worker again.
///     std::process::exit(if error.is_retryable() { 75 } else { 1 });
/// }
/// # }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The worker could not reach the broker in time, or the broker does not accept it. The error
    /// inside says whether trying again may help.
    #[error(transparent)]
    Connection(#[from] Error),
    /// The system gave the worker no thread or no signal handling. Trying again may help.
    #[error("the system refused what the worker needs: {0}")]
    System(#[from] std::io::Error),
    /// The worker shut down, and within the grace and 5 s more the broker did not answer the
    /// reports of these tasks. The broker treats the worker as lost: the tasks run again, or
    /// end as FAILURE `worker_lost`.
    #[error("the worker ended before the broker answered the reports of {tasks} tasks")]
    Unanswered {
        /// The number of tasks.
        tasks: usize,
    },
    /// The worker's setup does not allow it to run: two handlers have one name, or a handler's
    /// [`Data`](crate::Data) is missing. Trying again does not help.
    #[error("the worker cannot start: {0}")]
    Setup(String),
}

impl RunError {
    /// True when the same worker may run later without any change.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Connection(error) => error.is_retryable(),
            Self::System(_) | Self::Unanswered { .. } => true,
            Self::Setup(_) => false,
        }
    }
}

/// A worker: it connects to a broker, takes the tasks for which it has handlers, and runs them.
///
/// ```no_run
/// use celeriac_worker::{TaskFailure, Worker, task};
///
/// #[task(queue = "sums")]
/// async fn add(a: i64, b: i64) -> i64 {
///     a + b
/// }
///
/// #[tokio::main(flavor = "current_thread")]
/// async fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let worker = Worker::builder("celeriac://token@127.0.0.1:23537")
///         .concurrency(4)
///         .register(add)
///         .register_fn("negate", |_context, (number,): (i64,)| async move {
///             Ok::<_, TaskFailure>(-number)
///         })
///         .build();
///     worker.run_until_signalled().await?;
///     Ok(())
/// }
/// ```
#[derive(Debug)]
pub struct Worker {
    options: WorkerBuilder,
}

impl Worker {
    pub(crate) fn new(options: WorkerBuilder) -> Self {
        Self { options }
    }

    /// Begins a worker of the broker at `url`, `celeriac://[token@]host[:port]`. The URL is checked
    /// when the worker runs.
    pub fn builder(url: impl Into<String>) -> WorkerBuilder {
        WorkerBuilder::new(url.into())
    }

    /// Begins a worker of the broker that the environment names. The command line reads the same
    /// variables:
    ///
    /// - `CELERIAC_URL` is the address, `celeriac://[token@]host[:port]`. The default is
    ///   `celeriac://127.0.0.1:23537`.
    /// - Without a token in the URL, `CELERIAC_TOKEN_FILE` names a file whose one line is the
    ///   token. The worker reads the file again before each reconnect.
    /// - Without both, `CELERIAC_TOKEN` is the token.
    /// - For an address that begins with `celeriacs://`, `CELERIAC_CA_FILE`,
    ///   `CELERIAC_CERTIFICATE_FILE` and `CELERIAC_KEY_FILE` name the files of TLS. Every worker
    ///   reads these, whether it was begun by this function or not.
    ///
    /// ```no_run
    /// # #[celeriac_worker::task] async fn add(a: i64, b: i64) -> i64 { a + b }
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// celeriac_worker::Worker::from_env()?.register(add).build().run_until_signalled().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`EnvironmentError`] when a variable cannot be used. The error names the variable and never
    /// shows a token.
    pub fn from_env() -> Result<WorkerBuilder, EnvironmentError> {
        let broker = broker_from_env()?;
        let worker = Self::builder(broker.url);
        Ok(match broker.token_file {
            Some(file) => worker.token_file(file),
            None => worker,
        })
    }

    /// Runs until `shutdown` resolves or the broker orders the shutdown. The worker then shuts down
    /// gracefully: it takes no new tasks, hands back those that have not begun at once, and gives
    /// running handlers the grace.
    ///
    /// Handlers run on the runtime of the caller. The connection has a thread of its own, unless
    /// [`WorkerBuilder::own_thread`] says otherwise. Dropping the future ends the worker at once:
    /// all of its tasks go back to their queues.
    ///
    /// ```no_run
    /// # use celeriac_worker::{RunError, Worker};
    /// # async fn example(worker: Worker) -> Result<(), RunError> {
    /// let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    /// let working = tokio::spawn(worker.run(async { drop(stopped.await) }));
    /// // Later, for example when a web server shuts down:
    /// drop(stop);
    /// working.await.expect("the worker does not panic")?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`RunError`] when the broker does not accept the worker, at the start or later, and when the
    /// worker's setup does not allow it to run.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
        self.run_until(shutdown, std::future::pending()).await
    }

    /// As [`Worker::run`]. When `now` resolves, the shutdown has no grace, or no grace any more:
    /// the worker drops the handlers and hands all tasks back.
    ///
    /// ```no_run
    /// # use celeriac_worker::{RunError, Worker};
    /// # type Ran = Result<(), RunError>;
    /// # async fn example(worker: Worker, alarm: impl Future<Output = ()>) -> Ran {
    /// let interrupted = async { drop(tokio::signal::ctrl_c().await) };
    /// worker.run_until(interrupted, alarm).await
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Worker::run`].
    pub async fn run_until(
        self,
        shutdown: impl Future<Output = ()>,
        now: impl Future<Output = ()>,
    ) -> Result<(), RunError> {
        self.run_with(shutdown, now, SystemSignals::Ignored).await
    }

    /// Runs until the process gets SIGTERM or SIGINT. The worker then shuts down gracefully, as in
    /// [`Worker::run`]. A second signal shuts it down at once.
    ///
    /// A blocking handler that does not check
    /// [`Context::is_cancelled`](crate::Context::is_cancelled) cannot be stopped: its thread
    /// goes on until the process ends.
    ///
    /// # Errors
    /// As [`Worker::run`].
    pub async fn run_until_signalled(self) -> Result<(), RunError> {
        let never = std::future::pending;
        self.run_with(never(), never(), SystemSignals::Handled).await
    }

    async fn run_with(
        self,
        shutdown: impl Future<Output = ()>,
        now: impl Future<Output = ()>,
        signals: SystemSignals,
    ) -> Result<(), RunError> {
        if let Some(fault) = self.options.fault() {
            return Err(RunError::Setup(fault));
        }
        let WorkerBuilder { ref url, concurrency, grace, own_thread, .. } = self.options;
        let url: BrokerUrl = url.parse().map_err(Error::from)?;
        let options = self.options.connection_options(&url);
        let credit = self.options.credit_plan();
        tracing::info!(
            instance = options.instance_id,
            concurrency,
            credit_min = credit.least,
            credit_max = credit.most,
            "a worker of {url} starts"
        );
        keep_backtraces();
        let leases = Arc::new(Leases::new());
        let (requested, _) = watch::channel(Shutdown::NotRequested);
        let (opened, opening) = oneshot::channel();
        let broker = url.to_string();
        let side = BrokerSide {
            broker,
            leases: leases.clone(),
            shutdown: requested.clone(),
            credit,
            grace,
            signals,
        };
        let ended = side.spawn(options, opened, own_thread)?;
        let _closed_on_drop = CloseOnDrop { leases: leases.clone(), shutdown: requested.clone() };
        let (handlers, middleware) =
            (Arc::new(self.options.handlers), Arc::new(self.options.middleware));
        let data = Arc::new(self.options.data);
        let mut executions = JoinSet::new();
        let working = async {
            // An error means that the connection's side ended first; `ended` has the reason.
            if let Ok(connection) = opening.await {
                let worker = Arc::new(WorkerSide {
                    leases,
                    client: Client::over(connection),
                    threads: Threads::default(),
                    data,
                });
                let execution = Execution { worker, handlers, middleware };
                for _ in 0..concurrency {
                    executions.spawn(execution.clone().run());
                }
            }
            std::future::pending().await
        };
        // The first three futures never end. The connection's side always decides the end.
        let outcome = tokio::select! {
            outcome = working => outcome,
            outcome = request_when(shutdown, Shutdown::Graceful, &requested) => outcome,
            outcome = request_when(now, Shutdown::Immediate, &requested) => outcome,
            outcome = ended => outcome,
        };
        if !matches!(outcome, Ok(Ok(()))) {
            let_hooks_say_why(&mut executions).await;
        }
        outcome.unwrap_or_else(|_| {
            Err(std::io::Error::other("the connection's thread panicked").into())
        })
    }
}

/// Waits for the hooks of the runs that were dropped, which say what became of them.
async fn let_hooks_say_why(executions: &mut JoinSet<()>) {
    let all = async { while executions.join_next().await.is_some() {} };
    // A handler that blocks its thread is not waited for.
    let _ = tokio::time::timeout(HOOKS_TIME, all).await;
}

/// Requests a shutdown once it is asked for, and never ends.
async fn request_when<T>(
    asked: impl Future<Output = ()>,
    wanted: Shutdown,
    requested: &watch::Sender<Shutdown>,
) -> T {
    asked.await;
    requested.send_modify(|shutdown| *shutdown = (*shutdown).max(wanted));
    std::future::pending().await
}

/// Whether signals of the operating system shut the worker down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SystemSignals {
    Ignored,
    Handled,
}

/// Hands back all tasks when the worker is dropped while it runs.
struct CloseOnDrop {
    leases: Arc<Leases>,
    shutdown: watch::Sender<Shutdown>,
}

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.shutdown.send_replace(Shutdown::Immediate);
        self.leases.close();
    }
}

/// The part of the worker that runs on the connection's thread, or beside the handlers without such
/// a thread.
struct BrokerSide {
    /// The URL for log lines. A token, and what may be one, is masked.
    broker: String,
    leases: Arc<Leases>,
    shutdown: watch::Sender<Shutdown>,
    credit: CreditPlan,
    grace: Duration,
    signals: SystemSignals,
}

impl BrokerSide {
    /// Starts this part. On a thread of its own, heartbeats, reports and the shutdown go on,
    /// whatever the handlers do to their runtime.
    fn spawn(
        self,
        options: ConnectionOptions,
        opened: oneshot::Sender<Connection>,
        own_thread: bool,
    ) -> std::io::Result<oneshot::Receiver<Result<(), RunError>>> {
        let (ended, receiver) = oneshot::channel();
        if !own_thread {
            tokio::spawn(async move {
                // Nobody listens when the worker was dropped.
                let _ = ended.send(self.run(options, opened).await);
            });
            return Ok(receiver);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("celeriac-worker".to_owned()).spawn(move || {
            // As a task, because the runtime wakes its own tasks without a system call, but needs
            // one to wake the future on which it blocks.
            let outcome =
                runtime.block_on(async move { tokio::spawn(self.run(options, opened)).await });
            // After a panic `ended` is dropped without a value.
            if let Ok(outcome) = outcome {
                // Nobody listens when the worker was dropped.
                let _ = ended.send(outcome);
            }
        })?;
        Ok(receiver)
    }

    async fn run(
        self,
        options: ConnectionOptions,
        opened: oneshot::Sender<Connection>,
    ) -> Result<(), RunError> {
        if self.signals == SystemSignals::Handled {
            termination::listen(self.shutdown.clone())?;
        }
        let mut shutdown = self.shutdown.subscribe();
        let (connection, events) = tokio::select! {
            opening = Connection::open(options) => opening?,
            // The shutdown came before the connection: there is nothing to hand back.
            _ = shutdown.wait_for(|requested| *requested > Shutdown::NotRequested) => return Ok(()),
            () = warn_that_no_broker_answers(&self.broker) => return Ok(()),
        };
        let _ = opened.send(connection.clone());
        Driver::new(connection, events, self.leases, shutdown, self.credit, self.grace).run().await
    }
}

/// A worker without a broker looks like a worker without tasks. The warnings tell the two apart.
async fn warn_that_no_broker_answers(broker: &str) {
    loop {
        tokio::time::sleep(WARNING_INTERVAL).await;
        tracing::warn!("no broker answers at {broker}; the worker keeps trying");
    }
}
