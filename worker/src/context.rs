//! What a handler knows of its run and can do in it: read the task's data, report progress, find
//! out whether it should stop, and submit further tasks of the same tree. `execution` runs the
//! handler.

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

/// One run of a task, as its handler sees it. A clone is cheap. A clone that lives longer than the
/// run does no harm: its progress reports are then ignored.
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
    /// `None` in a detached context.
    worker: Option<Arc<WorkerSide>>,
}

/// The parts of a worker that all of its runs share.
#[derive(Debug)]
pub(crate) struct WorkerSide {
    pub(crate) leases: Arc<Leases>,
    pub(crate) client: Client,
    /// The threads for blocking handlers.
    pub(crate) threads: Threads,
    pub(crate) data: Arc<SharedValues>,
}

/// Why the worker dropped a run before its handler returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Dropped {
    /// The task was cancelled by force.
    Cancelled,
    /// The task was handed back: the worker shuts down, or cannot run it.
    HandedBack,
    /// The broker ended the task, because its time limit was over.
    TimeLimit,
    /// The lease is lost: the broker took the task back, or no longer knows the worker.
    Lost,
    /// The broker no longer accepts the worker, which therefore ends: its token is no longer valid,
    /// for example. The task runs again when the lease is over.
    Refused,
}

/// Why the worker did not take a progress report.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProgressError {
    /// The details cannot be written as JSON.
    #[error("the progress cannot be written as JSON: {0}")]
    Encode(#[from] json::NotJson),
    /// The details are too large. Every report replaces the one before, so it has to be small.
    /// Return large data as the result.
    #[error("the progress has {bytes} bytes, and {PROGRESS_BYTES_MAX} are allowed")]
    TooLarge {
        /// The length of the details in JSON.
        bytes: usize,
    },
    /// The name of the state is longer than a name may be.
    #[error("a progress state has at most {NAME_BYTES_MAX} bytes, this one has {0}")]
    StateTooLong(usize),
}

impl Context {
    pub(crate) fn new(run: Arc<Delivered>, worker: Arc<WorkerSide>) -> Self {
        Self { run, worker: Some(worker) }
    }

    /// A context without a worker, for tests of a handler's body. It stands for a first attempt
    /// that is never cancelled. Its progress reports are dropped.
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

    /// The id of the task.
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

    /// True when no further attempt follows a failure of this one.
    pub fn is_last_attempt(&self) -> bool {
        self.attempt() >= self.attempts_max()
    }

    /// How many times workers began the task without reporting an outcome, this time included. The
    /// number is above 1 when workers were lost.
    pub fn deliveries(&self) -> u32 {
        self.run.delivery.deliveries
    }

    /// The number of this run under the task's id, from 1. It rises each time an ended task is
    /// submitted again under the same id.
    pub fn generation(&self) -> u32 {
        self.run.delivery.generation
    }

    /// The task's priority, 0 to 9.
    pub fn priority(&self) -> u32 {
        self.run.delivery.priority
    }

    /// The headers that the producer set.
    pub fn headers(&self) -> &BTreeMap<String, Bytes> {
        &self.run.delivery.headers
    }

    /// The id of the first task of the tree to which this task belongs. For the first task this is
    /// its own id.
    pub fn root_id(&self) -> &str {
        match self.run.delivery.root_id.as_str() {
            "" => self.id(),
            root => root,
        }
    }

    /// The id of the task whose handler submitted this task; empty when no handler did.
    pub fn parent_id(&self) -> &str {
        &self.run.delivery.parent_id
    }

    /// The labels that the producer set.
    pub fn tags(&self) -> &[String] {
        &self.run.delivery.tags
    }

    /// When the task was submitted, by the broker's clock.
    pub fn submitted_at(&self) -> SystemTime {
        time(self.run.delivery.submitted_at_ms)
    }

    /// The time after which no attempt begins, if the task expires.
    pub fn expires_at(&self) -> Option<SystemTime> {
        self.run.delivery.expires_at_ms.map(time)
    }

    /// The lease of this run: a number that rises over all runs of all tasks. A handler can send it
    /// with its writes to another system. That system can then refuse the writes of a run whose
    /// task has a newer lease.
    pub fn lease(&self) -> u64 {
        self.run.delivery.lease
    }

    /// Reports the progress of the run: the name of a state, and details. An empty name stands for
    /// `PROGRESS`.
    ///
    /// The call returns at once. The worker sends at most ten reports per second for a task. Of
    /// reports that come faster it sends the newest.
    ///
    /// ```
    /// use celeriac_worker::{Context, TaskFailure, task};
    ///
    /// #[task]
    /// async fn convert(context: &Context, files: Vec<String>) -> Result<(), TaskFailure> {
    ///     for (done, file) in files.iter().enumerate() {
    ///         context.progress("CONVERTING", &(done, files.len(), file)).await?;
    ///     }
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// [`ProgressError`] when the report is too large or cannot be written as JSON. A lost
    /// connection is no error: the worker sends the newest report when it is connected again.
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

    /// Resolves when the run should stop: the task was cancelled, or the worker gives the run up.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use celeriac_worker::{Context, TaskFailure, task};
    ///
    /// #[task]
    /// async fn poll(context: &Context) -> Result<(), TaskFailure> {
    ///     tokio::select! {
    ///         () = tokio::time::sleep(Duration::from_secs(60)) => Ok(()),
    ///         () = context.cancelled() => Err(TaskFailure::fatal("Cancelled", "stopped")),
    ///     }
    /// }
    /// ```
    pub async fn cancelled(&self) {
        self.run.signals.raised(Signal::STOP).await;
    }

    /// True when the run should stop. A blocking handler should check this regularly: nothing else
    /// can stop it.
    pub fn is_cancelled(&self) -> bool {
        self.run.signals.is_raised(Signal::STOP)
    }

    /// Resolves when the soft time limit is over. The handler has until the hard limit to clean up.
    pub async fn soft_limit(&self) {
        self.run.signals.raised(Signal::SOFT_LIMIT).await;
    }

    /// True when the soft time limit is over.
    pub fn is_soft_limit_over(&self) -> bool {
        self.run.signals.is_raised(Signal::SOFT_LIMIT)
    }

    /// Why the run was dropped. `None` while it was not. The hook
    /// [`after_drop`](crate::Middleware::after_drop) finds the reason here.
    pub fn dropped(&self) -> Option<Dropped> {
        let is_raised = |signal| self.run.signals.is_raised(signal);
        if is_raised(Signal::TIME_LIMIT) {
            Some(Dropped::TimeLimit)
        } else if is_raised(Signal::HANDED_BACK) {
            Some(Dropped::HandedBack)
        } else if is_raised(Signal::REFUSED) {
            Some(Dropped::Refused)
        } else if is_raised(Signal::LOST) {
            Some(Dropped::Lost)
        } else {
            is_raised(Signal::DROP).then_some(Dropped::Cancelled)
        }
    }

    /// A client on the worker's own connection. Each task that it submits gets the root of this
    /// task, and this task as its parent, unless the submission sets others. Do not close the
    /// client: this would close the worker's connection.
    ///
    /// # Panics
    /// In a detached context, which has no connection.
    pub fn client(&self) -> Client {
        let worker = self.worker.as_ref().expect("a detached context has no client");
        worker.client.clone().with_lineage(self.root_id(), self.id())
    }

    /// Submits a task of the same tree, with the options of its definition.
    ///
    /// ```no_run
    /// use celeriac_worker::{Context, TaskFailure, task};
    ///
    /// #[task]
    /// async fn thumbnail(photo: String) -> Result<(), TaskFailure> {
    ///     Ok(())
    /// }
    ///
    /// #[task]
    /// async fn import(context: &Context, photos: Vec<String>) -> Result<(), TaskFailure> {
    ///     for photo in photos {
    ///         context.delay(&thumbnail, (photo,)).await?;
    ///     }
    ///     Ok(())
    /// }
    /// ```
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

    /// As [`Context::delay`], with options that are set before the submit.
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

    /// The worker's threads for blocking handlers. A context without a worker has none of its own.
    pub(crate) fn threads(&self) -> Threads {
        self.worker.as_ref().map(|worker| worker.threads.clone()).unwrap_or_default()
    }

    /// The value of this type that was added with
    /// [`WorkerBuilder::data`](crate::WorkerBuilder::data). `None` when there is none, and in a
    /// detached context.
    pub fn data<T: Send + Sync + 'static>(&self) -> Option<Data<T>> {
        self.worker.as_ref()?.data.of()
    }

    pub(crate) fn signals(&self) -> &Signals {
        &self.run.signals
    }

    /// The message with which the broker delivered this run, without its payload.
    pub(crate) fn delivery(&self) -> &Delivery {
        &self.run.delivery
    }
}

fn time(at_ms: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(at_ms).unwrap_or(0))
}
