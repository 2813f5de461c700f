//! What a handler knows of its run and can do in it: who the task is, how its progress is told,
//! whether it should stop, and further tasks submitted under the same root. The run itself is
//! the matter of `slot.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use celeriac_client::{ApplyAsync, Client, Error, IntoArgs, TaskDefinition, TaskHandle, json};
use celeriac_proto::limits::{NAME_BYTES_MAX, PROGRESS_BYTES_MAX};
use celeriac_proto::wire::task_report::Report;
use celeriac_proto::wire::{Delivery, ProgressReport, TaskReport};
use serde::Serialize;

use crate::delivered::Delivered;
use crate::leases::Leases;
use crate::shared::{Data, SharedValues};
use crate::signals::{Signal, Signals};
use crate::threads::Threads;

/// One run of a task, as its handler sees it. Cheap to clone; a clone that outlives the run does
/// no harm: what it says then is not heard.
///
/// ```no_run
/// use celeriac_worker::{Context, TaskFailure, task};
///
/// #[task]
/// async fn count(context: &Context, to: u64) -> Result<u64, TaskFailure> {
///     for step in 0..to {
///         if context.is_cancelled() {
///             return Err(TaskFailure::fatal("Cancelled", "stopped on request"));
///         }
///         context.progress("COUNTING", &step).await?;
///     }
///     Ok(to)
/// }
/// ```
#[derive(Debug, Clone)]
pub struct Context {
    run: Arc<Delivered>,
    /// What a detached context lacks.
    worker: Option<Arc<WorkerSide>>,
}

/// What all runs of a worker share.
#[derive(Debug)]
pub(crate) struct WorkerSide {
    pub(crate) leases: Arc<Leases>,
    pub(crate) client: Client,
    /// For blocking handlers.
    pub(crate) threads: Threads,
    pub(crate) data: Arc<SharedValues>,
}

/// Why a progress report was not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProgressError {
    /// The meta cannot be written as JSON.
    #[error("the progress cannot be written as JSON: {0}")]
    Encode(#[from] json::NotJson),
    /// Progress is rewritten with every report and has to stay small; what is big belongs into the
    /// result.
    #[error("a progress report of {bytes} bytes, and {PROGRESS_BYTES_MAX} are allowed")]
    TooLarge {
        /// Of the meta in JSON.
        bytes: usize,
    },
    /// State names are as long as all names.
    #[error("a progress state has at most {NAME_BYTES_MAX} bytes, this one has {0}")]
    StateTooLong(usize),
}

impl Context {
    pub(crate) fn new(run: Arc<Delivered>, worker: Arc<WorkerSide>) -> Self {
        Self { run, worker: Some(worker) }
    }

    /// A context that belongs to no worker, for tests of a handler's body: its first attempt,
    /// never cancelled, and its progress goes nowhere.
    ///
    /// ```
    /// # use celeriac_worker::{Context, task};
    /// #[task]
    /// async fn shout(context: &Context, word: String) -> String {
    ///     format!("{}: {}", context.id(), word.to_uppercase())
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// assert_eq!(shout::run(&Context::detached("test"), "hey".to_owned()).await, "test: HEY");
    /// # }
    /// ```
    pub fn detached(id: impl Into<String>) -> Self {
        let delivery = Delivery {
            id: id.into(),
            attempt: 1,
            attempts_max: 1,
            deliveries: 1,
            ..Delivery::default()
        };
        Self { run: Arc::new(Delivered { delivery, ..Delivered::default() }), worker: None }
    }

    /// The task's id, which its producer chose.
    pub fn id(&self) -> &str {
        &self.run.delivery.id
    }

    /// The task's name.
    pub fn name(&self) -> &str {
        &self.run.delivery.name
    }

    /// The queue it waited in.
    pub fn queue(&self) -> &str {
        &self.run.delivery.queue
    }

    /// What the producer wants shown in place of the name; empty when it named nothing.
    pub fn shadow(&self) -> &str {
        &self.run.delivery.shadow
    }

    /// Which attempt this is, from 1.
    pub fn attempt(&self) -> u32 {
        self.run.delivery.attempt
    }

    /// How many attempts the retry policy allows.
    pub fn attempts_max(&self) -> u32 {
        self.run.delivery.attempts_max
    }

    /// True when a failure of this attempt is followed by no other.
    pub fn is_last_attempt(&self) -> bool {
        self.attempt() >= self.attempts_max()
    }

    /// How often the task was begun without an outcome, this time included. Above 1 when workers
    /// died.
    pub fn deliveries(&self) -> u32 {
        self.run.delivery.deliveries
    }

    /// The generation: it rises each time an ended task is submitted again under the same id.
    pub fn generation(&self) -> u32 {
        self.run.delivery.generation
    }

    /// The task's priority, 0 to 9.
    pub fn priority(&self) -> u32 {
        self.run.delivery.priority
    }

    /// The headers that the producer sent along.
    pub fn headers(&self) -> &BTreeMap<String, Bytes> {
        &self.run.delivery.headers
    }

    /// The task at the top of the tree that this one belongs to; its own id when it is the top.
    pub fn root_id(&self) -> &str {
        match self.run.delivery.root_id.as_str() {
            "" => self.id(),
            root => root,
        }
    }

    /// The task whose handler submitted this one; empty when none did.
    pub fn parent_id(&self) -> &str {
        &self.run.delivery.parent_id
    }

    /// The labels the producer gave it.
    pub fn tags(&self) -> &[String] {
        &self.run.delivery.tags
    }

    /// When the task was submitted, on the broker's clock.
    pub fn submitted_at(&self) -> SystemTime {
        time(self.run.delivery.submitted_at_ms)
    }

    /// By when it had to start, if it had to.
    pub fn expires_at(&self) -> Option<SystemTime> {
        self.run.delivery.expires_at_ms.map(time)
    }

    /// The lease this run has on the task: a number that rises over all runs of all tasks. A
    /// handler that writes to another system can send it along, for that system to refuse the
    /// writes of a run that was given up.
    pub fn lease(&self) -> u64 {
        self.run.delivery.lease
    }

    /// Tells how far the run is: a state name (empty stands for `PROGRESS`) and something to show.
    ///
    /// Returns at once. Reports are sent a few times per second; of those that came faster, the
    /// newest is sent.
    ///
    /// # Errors
    /// [`ProgressError`] when the report cannot be sent as it is. A lost connection is no error.
    #[allow(clippy::unused_async)]
    pub async fn progress(
        &self,
        state: &str,
        meta: &(impl Serialize + ?Sized),
    ) -> Result<(), ProgressError> {
        self.progress_blocking(state, meta)
    }

    /// [`Context::progress`] for blocking handlers.
    ///
    /// # Errors
    /// As [`Context::progress`].
    pub fn progress_blocking(
        &self,
        state: &str,
        meta: &(impl Serialize + ?Sized),
    ) -> Result<(), ProgressError> {
        if state.len() > NAME_BYTES_MAX {
            return Err(ProgressError::StateTooLong(state.len()));
        }
        let meta = json::to_vec(meta)?;
        if meta.len() > PROGRESS_BYTES_MAX {
            return Err(ProgressError::TooLarge { bytes: meta.len() });
        }
        if let Some(worker) = &self.worker {
            let progress = ProgressReport { state: state.to_owned(), meta: meta.into() };
            worker.leases.progress(TaskReport {
                id: self.run.delivery.id.clone(),
                lease: self.run.delivery.lease,
                report: Some(Report::Progress(progress)),
            });
        }
        Ok(())
    }

    /// Resolves when the run should stop: it was cancelled, or it is being given up.
    pub async fn cancelled(&self) {
        self.run.signals.raised(Signal::STOP).await;
    }

    /// True when the run should stop. Blocking handlers ask this now and then: nothing else can
    /// stop them.
    pub fn is_cancelled(&self) -> bool {
        self.run.signals.is_raised(Signal::STOP)
    }

    /// Resolves when the soft time limit is over. What is left until the hard one is for tidying
    /// up.
    pub async fn soft_limit(&self) {
        self.run.signals.raised(Signal::SOFT_LIMIT).await;
    }

    /// True when the soft time limit is over.
    pub fn is_soft_limit_over(&self) -> bool {
        self.run.signals.is_raised(Signal::SOFT_LIMIT)
    }

    /// A client over the worker's own connection. What is submitted with it belongs to this
    /// task: the same root, and this task as the parent, unless it is told otherwise. To close it
    /// would be to close the worker's connection.
    ///
    /// # Panics
    /// In a detached context, which has no connection.
    pub fn client(&self) -> Client {
        let worker = self.worker.as_ref().expect("a detached context has no client");
        worker.client.clone().with_lineage(self.root_id(), self.id())
    }

    /// Submits a task that belongs to this one, with its defaults.
    ///
    /// # Errors
    /// As [`Client::delay`].
    ///
    /// # Panics
    /// In a detached context, which has no connection.
    pub async fn delay<D: TaskDefinition>(
        &self,
        task: &D,
        args: impl IntoArgs<D::Args>,
    ) -> Result<TaskHandle<D::Output>, Error> {
        self.client().delay(task, args).await
    }

    /// Like [`Context::delay`], with options to be set before it is sent.
    ///
    /// # Panics
    /// In a detached context, which has no connection.
    pub fn apply_async<D: TaskDefinition>(
        &self,
        task: &D,
        args: impl IntoArgs<D::Args>,
    ) -> ApplyAsync<D::Output> {
        self.client().apply_async(task, args)
    }

    /// For a blocking handler. A context that belongs to no worker runs none.
    pub(crate) fn threads(&self) -> Threads {
        self.worker.as_ref().map(|worker| worker.threads.clone()).unwrap_or_default()
    }

    /// What the worker was given of this type with
    /// [`WorkerBuilder::data`](crate::WorkerBuilder::data); `None` when it was given none, and
    /// in a detached context.
    pub fn data<T: Send + Sync + 'static>(&self) -> Option<Data<T>> {
        self.worker.as_ref()?.data.of()
    }

    pub(crate) fn signals(&self) -> &Signals {
        &self.run.signals
    }

    /// Soft and hard limit of one run.
    pub(crate) fn time_limits(&self) -> (Option<Duration>, Option<Duration>) {
        let delivery = &self.run.delivery;
        (
            delivery.soft_time_limit_ms.map(Duration::from_millis),
            delivery.time_limit_ms.map(Duration::from_millis),
        )
    }
}

fn time(at_ms: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(at_ms).unwrap_or(0))
}
