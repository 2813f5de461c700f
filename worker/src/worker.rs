//! The worker as its user sees it: run, and brought to its end. What happens in between is the
//! matter of `driver.rs` (the broker's side) and `slot.rs` (the handlers' side).

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use celeriac_client::connection::{Connection, ConnectionOptions};
use celeriac_client::{BrokerUrl, Client, EnvironmentError, Error, url_from_env};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use crate::builder::WorkerBuilder;
use crate::context::WorkerSide;
use crate::credit::CreditPlan;
use crate::driver::{Driver, Stage};
use crate::leases::Leases;
use crate::panics::keep_backtraces;
use crate::slot::Slot;
use crate::termination;
use crate::threads::Threads;

/// How often a worker that finds no broker says so.
const UNANSWERED_INTERVAL: Duration = Duration::from_secs(10);

/// Why a worker could not run, or could not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The broker could not be reached in time, or does not let this worker in. Says itself
    /// whether trying again may help.
    #[error(transparent)]
    Connection(#[from] Error),
    /// The system gave no thread or no signal handling. Trying again may help.
    #[error("the system refused what the worker needs: {0}")]
    System(#[from] std::io::Error),
    /// It was told to end, and the broker could not be told how these tasks went, within the grace
    /// and 5 s more. The broker takes the worker for lost: they run again, or end as FAILURE
    /// `worker_lost`.
    #[error("ended without an answer of the broker to the reports of {tasks} tasks")]
    Unanswered {
        /// How many.
        tasks: usize,
    },
    /// The worker was put together in a way in which it cannot run. Trying again does not help.
    #[error("the worker cannot start: {0}")]
    Setup(String),
}

impl RunError {
    /// True when the same worker may run later without a change.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Connection(error) => error.is_retryable(),
            Self::System(_) | Self::Unanswered { .. } => true,
            Self::Setup(_) => false,
        }
    }
}

/// A worker: connects to a broker, takes the tasks it has handlers for, and runs them.
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
///         .register_fn("negate", |_context, (number,): (i64,)| async move { Ok::<_, TaskFailure>(-number) })
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

    /// Begins a worker of the broker at `url`, `celeriac://[token@]host[:port]`.
    pub fn builder(url: impl Into<String>) -> WorkerBuilder {
        WorkerBuilder::new(url.into())
    }

    /// Begins a worker of the broker that the environment names: at `CELERIAC_URL`,
    /// `celeriac://[token@]host[:port]`, or else at `celeriac://127.0.0.1:23537`. A token in
    /// the URL counts first, then the one line of the file that `CELERIAC_TOKEN_FILE` names,
    /// then `CELERIAC_TOKEN`: the variables of the command line, so that one environment serves
    /// both.
    ///
    /// ```no_run
    /// # #[celeriac_worker::task] async fn add(a: i64, b: i64) -> i64 { a + b }
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// celeriac_worker::Worker::from_env()?.register(add).build().run_until_signalled().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`EnvironmentError`] when one of them cannot be used, in a sentence that names it and never
    /// shows a token.
    pub fn from_env() -> Result<WorkerBuilder, EnvironmentError> {
        url_from_env().map(Self::builder)
    }

    /// Runs until `shutdown` resolves or the broker orders the end, and then ends in good order:
    /// no new tasks, those that have not begun go back at once, those that run get the grace.
    /// Handlers run on the runtime this is called on; the connection has a thread of its own,
    /// unless [`WorkerBuilder::own_thread`] says otherwise.
    ///
    /// Dropping the future ends the worker at once: everything goes back to its queues.
    ///
    /// # Errors
    /// [`RunError`] when the broker does not let the worker in, at the start or later, and when the
    /// worker was put together in a way in which it cannot run: two handlers of one name, or no
    /// value for a handler's [`Data`](crate::Data).
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
        self.live(shutdown, false).await
    }

    /// Runs until the process is told to end: by SIGTERM or SIGINT in good order as in
    /// [`Worker::run`], by a second one at once.
    ///
    /// A blocking handler that does not heed
    /// [`Context::is_cancelled`](crate::Context::is_cancelled) cannot be stopped: its thread
    /// goes on until the process ends.
    ///
    /// # Errors
    /// As [`Worker::run`].
    pub async fn run_until_signalled(self) -> Result<(), RunError> {
        self.live(std::future::pending(), true).await
    }

    async fn live(self, shutdown: impl Future<Output = ()>, signals: bool) -> Result<(), RunError> {
        if let Some(fault) = self.options.fault() {
            return Err(RunError::Setup(fault));
        }
        let WorkerBuilder { ref url, concurrency, grace, own_thread, .. } = self.options;
        let url: BrokerUrl = url.parse().map_err(Error::from)?;
        let options = self.options.connection_options(&url);
        let credit = self.options.credit_plan();
        tracing::info!(instance = options.instance_id, concurrency, ?credit, "worker of {url}");
        keep_backtraces();
        let leases = Arc::new(Leases::new());
        let (stage, _) = watch::channel(Stage::Work);
        let (opened, opening) = oneshot::channel();
        let broker = url.to_string();
        let side = BrokerSide {
            broker,
            leases: leases.clone(),
            stage: stage.clone(),
            credit,
            grace,
            signals,
        };
        let ended = side.spawn(options, opened, own_thread)?;
        let _closed_on_drop = CloseOnDrop { leases: leases.clone(), stage: stage.clone() };
        let (handlers, middleware) =
            (Arc::new(self.options.handlers), Arc::new(self.options.middleware));
        let data = Arc::new(self.options.data);
        let mut slots = JoinSet::new();
        let working = async {
            // An error means that the other side ended first; `ended` says why.
            if let Ok(connection) = opening.await {
                let worker = Arc::new(WorkerSide {
                    leases,
                    client: Client::over(connection),
                    threads: Threads::default(),
                    data,
                });
                let slot = Slot { worker, handlers, middleware };
                (0..concurrency).for_each(|_| drop(slots.spawn(slot.clone().run())));
            }
            std::future::pending().await
        };
        let told = async {
            shutdown.await;
            stage.send_modify(|stage| *stage = (*stage).max(Stage::Drain));
            std::future::pending().await
        };
        // The first two only set things going; the end is always the other side's.
        let outcome = tokio::select! {
            outcome = working => outcome,
            outcome = told => outcome,
            outcome = ended => outcome,
        };
        outcome.unwrap_or_else(|_| {
            Err(std::io::Error::other("the connection's thread panicked").into())
        })
    }
}

/// A worker that is dropped while it runs lets go of everything.
struct CloseOnDrop {
    leases: Arc<Leases>,
    stage: watch::Sender<Stage>,
}

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.stage.send_replace(Stage::Release);
        self.leases.close();
    }
}

/// What lives on the connection's thread, or beside the handlers if it has none.
struct BrokerSide {
    /// For people; the token and what may be one are masked.
    broker: String,
    leases: Arc<Leases>,
    stage: watch::Sender<Stage>,
    credit: CreditPlan,
    grace: Duration,
    signals: bool,
}

impl BrokerSide {
    /// A thread of its own keeps heartbeats, reports and the orderly end going, whatever the
    /// handlers do to their runtime.
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
                let _ = ended.send(self.live(options, opened).await);
            });
            return Ok(receiver);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("celeriac-worker".to_owned()).spawn(move || {
            // As a task: the runtime wakes its own tasks without a system call, and what it blocks
            // on only with one.
            let outcome =
                runtime.block_on(async move { tokio::spawn(self.live(options, opened)).await });
            // A panic is told by `ended` being dropped. Nobody listens when the worker was dropped.
            let _ = outcome.map(|outcome| ended.send(outcome));
        })?;
        Ok(receiver)
    }

    async fn live(
        self,
        options: ConnectionOptions,
        opened: oneshot::Sender<Connection>,
    ) -> Result<(), RunError> {
        if self.signals {
            termination::watch(self.stage.clone())?;
        }
        let mut stage = self.stage.subscribe();
        let (connection, events) = tokio::select! {
            opening = Connection::open(options) => opening?,
            // Told to end before it began: there is nothing to bring to an end.
            _ = stage.wait_for(|stage| *stage > Stage::Work) => return Ok(()),
            () = say_that_nobody_answers(&self.broker) => return Ok(()),
        };
        let _ = opened.send(connection.clone());
        Driver::new(connection, events, self.leases, stage, self.credit, self.grace).run().await
    }
}

/// A worker without a broker looks like one without work: it says which it is, now and then.
async fn say_that_nobody_answers(broker: &str) {
    loop {
        tokio::time::sleep(UNANSWERED_INTERVAL).await;
        tracing::warn!("no broker answers at {broker}; still trying");
    }
}
