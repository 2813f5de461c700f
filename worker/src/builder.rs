//! The setup of a worker: its broker, handlers and queues, and how many tasks it takes. `worker`
//! runs it.

use std::collections::BTreeMap;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use celeriac_client::BrokerUrl;
use celeriac_client::connection::{ConnectionOptions, Connector, TlsFiles};
use celeriac_proto::limits::CREDIT_MAX;
use celeriac_proto::wire::{QueueSubscription, WorkerInfo};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::context::Context;
use crate::credit::CreditPlan;
use crate::execution::Handlers;
use crate::failure::TaskFailure;
use crate::handler::{Closure, Handler};
use crate::middleware::{Chain, Middleware};
use crate::shared::SharedValues;
use crate::worker::Worker;

/// The default grace for running handlers when the worker shuts down.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(30);

/// How many tasks a worker holds beyond those that run, for each execution, while its tasks are
/// short.
const LOOK_AHEAD_FACTOR: u32 = 4;

/// The default time that a worker waits for its broker at the start: in practice without end.
const CONNECT_WAIT: Duration = Duration::from_secs(365 * 24 * 3_600);

/// The setup of a worker, made by [`Worker::builder`] or [`Worker::from_env`].
///
/// ```no_run
/// use std::time::Duration;
///
/// use celeriac_worker::{RunError, Worker, task};
///
/// #[task(queue = "sums")]
/// async fn add(a: i64, b: i64) -> i64 {
///     a + b
/// }
///
/// # async fn example() -> Result<(), RunError> {
/// Worker::builder("celeriac://token@127.0.0.1:23537")
///     .register(add)
///     .queue("sums")
///     .concurrency(8)
///     .shutdown_grace(Duration::from_secs(60))
///     .build()
///     .run_until_signalled()
///     .await
/// # }
/// ```
pub struct WorkerBuilder {
    pub(crate) url: String,
    queues: BTreeMap<String, u32>,
    pub(crate) handlers: Handlers,
    pub(crate) middleware: Chain,
    pub(crate) data: SharedValues,
    /// The first fault of the setup, which keeps the worker from starting.
    fault: Option<String>,
    pub(crate) concurrency: u32,
    credit: Option<u32>,
    look_ahead: Option<u32>,
    pub(crate) grace: Duration,
    instance: Option<String>,
    heartbeat: Option<Duration>,
    connect_wait: Duration,
    pub(crate) own_thread: bool,
    tls: TlsFiles,
    token_file: Option<PathBuf>,
    connector: Option<Connector>,
}

impl WorkerBuilder {
    pub(crate) fn new(url: String) -> Self {
        let processors = std::thread::available_parallelism()
            .map_or(1, |number| u32::try_from(number.get()).unwrap_or(1));
        Self {
            url,
            queues: BTreeMap::new(),
            handlers: Handlers::new(),
            middleware: Chain::default(),
            data: SharedValues::default(),
            fault: None,
            concurrency: processors,
            credit: None,
            look_ahead: None,
            grace: SHUTDOWN_GRACE,
            instance: None,
            heartbeat: None,
            connect_wait: CONNECT_WAIT,
            own_thread: true,
            tls: TlsFiles::default(),
            token_file: None,
            connector: None,
        }
    }

    /// Adds a queue that the worker serves. Without any queue, the worker serves the queues of its
    /// tasks' definitions; a task without a queue has `default`.
    #[must_use]
    pub fn queue(self, name: impl Into<String>) -> Self {
        self.queue_weighted(name, 1)
    }

    /// Adds queues that the worker serves, with equal shares.
    #[must_use]
    pub fn queues<N: Into<String>>(self, names: impl IntoIterator<Item = N>) -> Self {
        names.into_iter().fold(self, Self::queue)
    }

    /// Adds a queue with its share: a queue with weight 3 gets three deliveries for each delivery
    /// from a queue with weight 1, while both have tasks. A weight of 0 counts as 1.
    ///
    /// ```
    /// use celeriac_worker::Worker;
    ///
    /// let worker = Worker::builder("celeriac://127.0.0.1:23537")
    ///     .queue_weighted("urgent", 3)
    ///     .queue_weighted("batch", 1);
    /// ```
    #[must_use]
    pub fn queue_weighted(mut self, name: impl Into<String>, weight: u32) -> Self {
        self.queues.insert(name.into(), weight.max(1));
        self
    }

    /// How many handlers run at once. The default is the number of the machine's processors.
    #[must_use]
    pub fn concurrency(mut self, handlers: u32) -> Self {
        self.concurrency = handlers.clamp(1, CREDIT_MAX);
        self
    }

    /// How many tasks the worker holds beyond those that run, so that a short task need not wait
    /// for its delivery. The default is four times the concurrency while tasks are short, and 0
    /// while they are long: then no task waits here while another worker is idle.
    #[must_use]
    pub fn look_ahead(mut self, tasks: u32) -> Self {
        self.look_ahead = Some(tasks);
        self
    }

    /// How many tasks the worker holds in all: it replaces the sum of concurrency and look-ahead.
    /// Very short tasks need some hundreds.
    #[must_use]
    pub fn credit(mut self, tasks: u32) -> Self {
        self.credit = Some(tasks.clamp(1, CREDIT_MAX));
        self
    }

    /// How long the worker waits for running handlers when it shuts down; the default is 30 s.
    /// After that it drops them and hands their tasks back. More than a year counts as a year.
    #[must_use]
    pub fn shutdown_grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Names this worker in logs and listings. The default is made from the host name, the process
    /// id and four random bytes.
    #[must_use]
    pub fn instance(mut self, name: impl Into<String>) -> Self {
        self.instance = Some(name.into());
        self
    }

    /// How often the worker sends heartbeats. By default the broker sets the interval.
    #[must_use]
    pub fn heartbeat(mut self, interval: Duration) -> Self {
        self.heartbeat = Some(interval);
        self
    }

    /// How long the worker tries to reach the broker at the start; the default is without end. A
    /// connection that is lost later is always opened again.
    #[must_use]
    pub fn connect_wait(mut self, wait: Duration) -> Self {
        self.connect_wait = wait.min(CONNECT_WAIT);
        self
    }

    /// Whether the connection has a thread of its own; the default is true. Without its own thread
    /// the connection shares the runtime of the handlers. A handler that blocks the runtime for
    /// longer than the lease time then makes the worker lose all of its leases.
    #[must_use]
    pub fn own_thread(mut self, own: bool) -> Self {
        self.own_thread = own;
        self
    }

    /// The file whose one line is the token. The worker reads it again before each reconnect: to
    /// change the token of a worker that runs, write the new one into the file, by a rename, and
    /// then end the old one at the broker. The worker comes back with the new token and keeps its
    /// tasks. While the file cannot be read, the token that was read last counts. A token in the
    /// URL counts for the first connection in place of the file's.
    #[must_use]
    pub fn token_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.token_file = Some(file.into());
        self
    }

    /// For an address with `celeriacs://`: the worker trusts brokers whose certificates these CAs
    /// have signed, and no others. The default is `CELERIAC_CA_FILE`, or else the CAs that the
    /// system trusts. The file is in PEM, and is read again at each reconnect.
    #[must_use]
    pub fn ca_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.tls.ca = Some(file.into());
        self
    }

    /// For an address with `celeriacs://`: the worker shows this certificate to a broker that asks
    /// for one. The default is `CELERIAC_CERTIFICATE_FILE` and `CELERIAC_KEY_FILE`. Both files are
    /// in PEM, and are read again at each reconnect.
    #[must_use]
    pub fn certificate_files(
        mut self,
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Self {
        self.tls.certificate = Some(certificate.into());
        self.tls.key = Some(key.into());
        self
    }

    /// The worker opens byte streams with this connector in place of TCP.
    #[must_use]
    pub fn connector(mut self, connector: Connector) -> Self {
        self.connector = Some(connector);
        self
    }

    /// Adds a handler, usually a `#[task]` function. A worker with two handlers for one task name
    /// does not start.
    ///
    /// A function without `#[task]` is no handler, and the compiler says so:
    ///
    /// ```compile_fail,E0277
    /// async fn plain(number: i64) -> i64 {
    ///     number
    /// }
    ///
    /// let worker = celeriac_worker::Worker::builder("celeriac://127.0.0.1:23537").register(plain);
    /// ```
    #[must_use]
    pub fn register(mut self, handler: impl Handler) -> Self {
        let name = handler.name().to_owned();
        if self.handlers.contains_key(&name) {
            let fault = format!(
                "two handlers are registered for the task `{name}`; give one of them another name"
            );
            self.fault.get_or_insert(fault);
        }
        self.handlers.insert(name, Arc::new(handler));
        self
    }

    /// Adds a value that the handlers share, such as a pool of connections. A handler takes it by
    /// its type, as [`Data<T>`](crate::Data). A worker with two values of one type does not
    /// start.
    ///
    /// ```
    /// use celeriac_worker::{Data, Worker, task};
    ///
    /// struct Greeting(String);
    ///
    /// #[task]
    /// async fn greet(greeting: Data<Greeting>, name: String) -> String {
    ///     format!("{} {name}", greeting.0)
    /// }
    ///
    /// let worker = Worker::builder("celeriac://127.0.0.1:23537")
    ///     .register(greet)
    ///     .data(Greeting("Hello".to_owned()));
    /// ```
    #[must_use]
    pub fn data<T: Send + Sync + 'static>(mut self, value: T) -> Self {
        if !self.data.insert(value) {
            let kind = std::any::type_name::<T>();
            let fault = format!(
                "two values of the type `{kind}` were given as data; \
                 wrap one of them in a type of its own"
            );
            self.fault.get_or_insert(fault);
        }
        self
    }

    /// Adds a closure as the handler for a task name. The closure gets the arguments as a tuple, in
    /// their order. Its error becomes a [`TaskFailure`].
    ///
    /// ```
    /// use celeriac_worker::{TaskFailure, Worker};
    ///
    /// let worker = Worker::builder("celeriac://127.0.0.1:23537").register_fn(
    ///     "negate",
    ///     |_context, (number,): (i64,)| async move { Ok::<_, TaskFailure>(-number) },
    /// );
    /// ```
    #[must_use]
    pub fn register_fn<F, A, Fut, T, E>(self, name: impl Into<String>, function: F) -> Self
    where
        F: Fn(Context, A) -> Fut + Send + Sync + 'static,
        A: DeserializeOwned + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
        T: Serialize,
        E: Into<TaskFailure>,
    {
        self.register(Closure::new(name.into(), function))
    }

    /// Adds a middleware: hooks that are called for every run. Several middlewares are called in
    /// the order in which they were added.
    #[must_use]
    pub fn middleware(mut self, middleware: Arc<dyn Middleware>) -> Self {
        self.middleware.push(middleware);
        self
    }

    /// The worker; it does not run yet.
    #[must_use]
    pub fn build(self) -> Worker {
        Worker::new(self)
    }

    /// Why this worker cannot start: two handlers have one name, two values have one type, or a
    /// handler's data is missing.
    pub(crate) fn fault(&self) -> Option<String> {
        let missing = || {
            self.handlers
                .values()
                .filter_map(|handler| self.data.missing_for(handler.as_ref()))
                .min()
        };
        self.fault.clone().or_else(missing)
    }

    pub(crate) fn credit_plan(&self) -> CreditPlan {
        let ahead = |tasks: u32| self.concurrency.saturating_add(tasks).min(CREDIT_MAX);
        match (self.credit, self.look_ahead) {
            (Some(credit), _) => CreditPlan { least: credit, most: credit },
            (None, Some(tasks)) => CreditPlan { least: ahead(tasks), most: ahead(tasks) },
            (None, None) => CreditPlan {
                least: self.concurrency,
                most: ahead(self.concurrency.saturating_mul(LOOK_AHEAD_FACTOR)),
            },
        }
    }

    pub(crate) fn connection_options(&self, url: &BrokerUrl) -> ConnectionOptions {
        let mut queues = self.queues.clone();
        if queues.is_empty() {
            queues = self
                .handlers
                .values()
                .map(|handler| (handler.queue().unwrap_or("default".to_owned()), 1))
                .collect();
        }
        let hostname = hostname();
        let pid = std::process::id();
        let mut task_names: Vec<String> = self.handlers.keys().cloned().collect();
        task_names.sort();
        let mut options = ConnectionOptions::of(url, self.tls.clone());
        options.client_name = "celeriac-worker-rust".to_owned();
        options.client_version = env!("CARGO_PKG_VERSION").to_owned();
        options.instance_id = self
            .instance
            .clone()
            .unwrap_or_else(|| format!("{hostname}-{pid}-{:08x}", random_bytes()));
        options.heartbeat = self.heartbeat;
        options.connect_wait = Some(self.connect_wait);
        options.token_file = self.token_file.clone();
        options.connector = self.connector.clone();
        options.worker = Some(WorkerInfo {
            queues: queues
                .into_iter()
                .map(|(queue, weight)| QueueSubscription { queue, weight })
                .collect(),
            task_names,
            hostname,
            pid,
            concurrency: self.concurrency,
            ..WorkerInfo::default()
        });
        options
    }
}

impl std::fmt::Debug for WorkerBuilder {
    /// Without the URL, which may hold a token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkerBuilder")
            .field("queues", &self.queues)
            .field("tasks", &self.handlers.keys())
            .field("concurrency", &self.concurrency)
            .finish_non_exhaustive()
    }
}

fn hostname() -> String {
    let name =
        std::fs::read_to_string("/proc/sys/kernel/hostname").or_else(|_| std::env::var("HOSTNAME"));
    name.map_or_else(|_| "localhost".to_owned(), |name| name.trim().to_owned())
}

/// Tells two workers with the same host name and process id apart: containers often share both.
fn random_bytes() -> u32 {
    // The keys of the hasher come from the system's source of randomness.
    (RandomState::new().hash_one(std::process::id()) >> 32) as u32
}
