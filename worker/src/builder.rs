//! What a worker is told before it runs: broker, handlers, queues, and how much it takes on.
//! Running it is the matter of `worker.rs`.

use std::collections::BTreeMap;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use celeriac_client::BrokerUrl;
use celeriac_client::connection::{ConnectionOptions, Connector};
use celeriac_proto::limits::CREDIT_MAX;
use celeriac_proto::wire::{QueueSubscription, WorkerInfo};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::context::Context;
use crate::credit::CreditPlan;
use crate::failure::TaskFailure;
use crate::handler::{Closure, Handler};
use crate::middleware::{Chain, Middleware};
use crate::shared::SharedValues;
use crate::slot::Handlers;
use crate::worker::Worker;

/// The grace for running handlers when the worker is told to end.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(30);

/// How far a worker looks ahead while its tasks are short, in handlers.
const LOOK_AHEAD_FACTOR: u32 = 4;

/// A worker waits for its broker this long at the start: for ever, in human terms.
const CONNECT_WAIT: Duration = Duration::from_secs(365 * 24 * 3_600);

/// Puts a worker together. Made by [`Worker::builder`].
pub struct WorkerBuilder {
    pub(crate) url: String,
    queues: BTreeMap<String, u32>,
    pub(crate) handlers: Handlers,
    pub(crate) middleware: Chain,
    pub(crate) data: SharedValues,
    /// The first thing that keeps the worker from starting.
    fault: Option<String>,
    pub(crate) concurrency: u32,
    credit: Option<u32>,
    look_ahead: Option<u32>,
    pub(crate) grace: Duration,
    instance: Option<String>,
    heartbeat: Option<Duration>,
    connect_wait: Duration,
    pub(crate) own_thread: bool,
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
            connector: None,
        }
    }

    /// Adds a queue to serve. Without any, the worker serves the queues that its tasks'
    /// definitions name, or `default`.
    #[must_use]
    pub fn queue(self, name: impl Into<String>) -> Self {
        self.queue_weighted(name, 1)
    }

    /// Adds queues to serve, with equal shares.
    #[must_use]
    pub fn queues<N: Into<String>>(self, names: impl IntoIterator<Item = N>) -> Self {
        names.into_iter().fold(self, Self::queue)
    }

    /// Adds a queue with its share of deliveries against the others.
    #[must_use]
    pub fn queue_weighted(mut self, name: impl Into<String>, weight: u32) -> Self {
        self.queues.insert(name.into(), weight.max(1));
        self
    }

    /// How many handlers run at once; by default as many as the machine has processors.
    #[must_use]
    pub fn concurrency(mut self, handlers: u32) -> Self {
        self.concurrency = handlers.clamp(1, CREDIT_MAX);
        self
    }

    /// How many tasks the worker holds beyond those that run, so that a short one need not wait
    /// for its delivery. By default four times the concurrency while tasks are short, and none
    /// while they are long: none waits here then while another worker is idle.
    #[must_use]
    pub fn look_ahead(mut self, tasks: u32) -> Self {
        self.look_ahead = Some(tasks);
        self
    }

    /// How many tasks the worker holds in all, in place of concurrency and look-ahead together.
    /// Very short tasks want some hundreds.
    #[must_use]
    pub fn credit(mut self, tasks: u32) -> Self {
        self.credit = Some(tasks.clamp(1, CREDIT_MAX));
        self
    }

    /// How long running handlers are waited for when the worker ends; 30 s by default.
    #[must_use]
    pub fn shutdown_grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Names this worker in logs and listings; by default host, process id and four random bytes.
    #[must_use]
    pub fn instance(mut self, name: impl Into<String>) -> Self {
        self.instance = Some(name.into());
        self
    }

    /// How often to send heartbeats; by default as often as the broker asks for.
    #[must_use]
    pub fn heartbeat(mut self, interval: Duration) -> Self {
        self.heartbeat = Some(interval);
        self
    }

    /// How long to try to reach the broker at the start; without end by default. A connection
    /// that is lost later is always opened again.
    #[must_use]
    pub fn connect_wait(mut self, wait: Duration) -> Self {
        self.connect_wait = wait.min(CONNECT_WAIT);
        self
    }

    /// Whether the connection has a thread of its own, as it has by default. Without one it shares
    /// the runtime with the handlers, and one that blocks it for longer than a lease loses all
    /// of them.
    #[must_use]
    pub fn own_thread(mut self, own: bool) -> Self {
        self.own_thread = own;
        self
    }

    /// Opens byte streams with this in place of TCP.
    #[must_use]
    pub fn connector(mut self, connector: Connector) -> Self {
        self.connector = Some(connector);
        self
    }

    /// Adds a handler, mostly a function under `#[task]`. A worker with two handlers of one name
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

    /// Gives the worker a value that its handlers share, such as a pool of connections: they take
    /// it as [`Data<T>`](crate::Data), by its type. A worker that was given two values of one
    /// type does not start.
    #[must_use]
    pub fn data<T: Send + Sync + 'static>(mut self, value: T) -> Self {
        if !self.data.insert(value) {
            let kind = std::any::type_name::<T>();
            let fault = format!(
                "two values of the type `{kind}` were given as data; wrap one of them in a type of its own"
            );
            self.fault.get_or_insert(fault);
        }
        self
    }

    /// Adds a closure as the handler of a name. It gets its arguments as a tuple, by place.
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

    /// Adds hooks around every run, called after those that were added before.
    #[must_use]
    pub fn middleware(mut self, middleware: Arc<dyn Middleware>) -> Self {
        self.middleware.push(middleware);
        self
    }

    /// The worker, not yet running.
    #[must_use]
    pub fn build(self) -> Worker {
        Worker::new(self)
    }

    /// What keeps this worker from starting: two of what there may be one of, or none of what a
    /// handler needs.
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
        let mut options = ConnectionOptions::new(url.address());
        options.token = url.token().to_owned();
        options.client_name = "celeriac-worker-rust".to_owned();
        options.client_version = env!("CARGO_PKG_VERSION").to_owned();
        options.instance_id = self
            .instance
            .clone()
            .unwrap_or_else(|| format!("{hostname}-{pid}-{:08x}", random_bytes()));
        options.heartbeat = self.heartbeat;
        options.connect_wait = Some(self.connect_wait);
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

/// Enough to tell two workers of one host and process id apart: containers often share both.
fn random_bytes() -> u32 {
    // The hasher's keys come from the system's source of randomness.
    (RandomState::new().hash_one(std::process::id()) >> 32) as u32
}
