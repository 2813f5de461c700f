//! The options of a task. Every option stands here and nowhere else in this crate: an untyped
//! [`Submission`] and a typed [`ApplyAsync`](crate::ApplyAsync) are the same type and share these
//! methods, and a definition (a [`Task`](crate::Task) or a `#[task]` function) carries
//! [`TaskOptions`]. The arguments and the checks are in `submission`.
//!
//! If you add an option, add its builder method here. If a definition may set the option too, add
//! a field to [`TaskOptions`]; `Submission::defaults` then fails to compile until it takes the
//! field.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use celeriac_proto::{limits, wire};

use crate::info::{at_ms, span_ms};
use crate::minting::new_id;
use crate::retry::RetryPolicy;
use crate::submission::{IdOrigin, QueueName, Submission};

/// The options that a task definition sets for all its submits. A caller can override each of them
/// for one submit. An option that neither the definition nor the caller sets is decided by the
/// queue's settings or by the broker.
///
/// ```
/// use std::time::Duration;
///
/// use celeriac_client::{Task, TaskOptions};
///
/// let mut options = TaskOptions::new();
/// options.queue = Some("songs");
/// options.time_limit = Some(Duration::from_secs(600));
/// let preprocess: Task<(String,), f64> = Task::new("songs.preprocess").options(options);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub struct TaskOptions {
    /// The queue in which the task waits; `default` when not set.
    pub queue: Option<&'static str>,
    /// The priority, 0 to 9. The broker delivers 9 first. 4 when not set.
    pub priority: Option<u32>,
    /// When a failed task runs again.
    pub retry: Option<RetryPolicy>,
    /// Counted from the start of each attempt: the handler then gets a signal.
    pub soft_time_limit: Option<Duration>,
    /// Counted from the start of each attempt: the attempt then fails as `time_limit`.
    pub time_limit: Option<Duration>,
    /// How many times workers may begin the task without reporting an outcome; 20 when not set.
    pub max_deliveries: Option<u32>,
    /// How long the broker keeps the ended task; 1 day when not set.
    pub result_ttl: Option<Duration>,
    /// Counted from the submit, or from the task's ETA or countdown: no attempt begins afterwards.
    pub expires_in: Option<Duration>,
    /// Once the task has started, the loss of its worker is a Failure and not a second run.
    pub early_ack: bool,
}

impl TaskOptions {
    /// Options of which none is set.
    pub const fn new() -> Self {
        Self {
            queue: None,
            priority: None,
            retry: None,
            soft_time_limit: None,
            time_limit: None,
            max_deliveries: None,
            result_ttl: None,
            expires_in: None,
            early_ack: false,
        }
    }
}

/// What the broker does with a submit when a task with the same id exists.
///
/// ```
/// use celeriac_client::{OnConflict, Submission};
///
/// // At most one import of this day is ever accepted.
/// let import = Submission::new("import").task_id("import-11-29").on_conflict(OnConflict::Reject);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OnConflict {
    /// If the task has ended, the broker begins a new generation. If the task is unfinished, the
    /// submit joins it.
    #[default]
    RunAgainIfFinished,
    /// The broker refuses the submit with `task_exists`.
    Reject,
    /// The broker cancels the present generation and begins a new one.
    Replace,
    /// If the task has ended, the broker begins a new generation. If the task is unfinished, it
    /// runs once more after its end, with the arguments and options of this submit. At most one run
    /// waits: a further submit joins that run.
    RunAgainAfter,
    /// If the task has ended, the broker begins a new generation. If the task is unfinished, the
    /// new task runs beside it, under an id of its own: see [`Submitted::id`](crate::Submitted::id)
    /// and [`TaskHandle::id`](crate::TaskHandle::id).
    Beside,
}

/// The options of one submit, the same for [`Submission::new`] and
/// [`Client::apply_async`](crate::Client::apply_async). When an option is set twice, the last call
/// counts, except for [`Submission::header`] and [`Submission::tag`], which add.
impl<C> Submission<C> {
    /// The id of the task: 1 to 255 bytes. State and result are found under this id, by any client.
    /// Without this call the client generates an id.
    ///
    /// Choose the id where a second submit of the same work must not run it twice: while the task
    /// is unfinished, the second submit joins the first; see [`Submission::on_conflict`].
    ///
    /// ```
    /// use celeriac_client::Submission;
    /// let submission = Submission::new("invoice.send").task_id("invoice-4711");
    /// assert_eq!(submission.id(), "invoice-4711");
    /// ```
    pub fn task_id(mut self, id: impl Into<String>) -> Self {
        self.task.id = id.into();
        self.id_origin = IdOrigin::Chosen;
        self
    }

    /// A text that logs and listings show in place of the task's name.
    ///
    /// ```
    /// use celeriac_client::Submission;
    /// let submission = Submission::new("songs.preprocess").shadow("preprocess: Dynamite");
    /// ```
    pub fn shadow(mut self, shadow: impl Into<String>) -> Self {
        self.task.shadow = shadow.into();
        self
    }

    /// The queue in which the task waits; the default is `default`. The broker creates a queue when
    /// it is first used.
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.task.queue = queue.into();
        self.queue_name = QueueName::Given;
        self
    }

    /// The priority, 0 to 9; the default is 4. The broker delivers the tasks of a queue with
    /// priority 9 first. A higher number is refused when the task is submitted.
    pub fn priority(mut self, priority: u32) -> Self {
        self.task.priority = Some(priority);
        self
    }

    /// The task does not begin before this time. This call replaces an earlier
    /// [`Submission::countdown`].
    pub fn eta(mut self, eta: SystemTime) -> Self {
        self.task.eta_at_ms = Some(at_ms(eta));
        self.task.countdown_ms = None;
        self
    }

    /// The task does not begin before this span is over, counted from the submit by the broker's
    /// clock. This call replaces an earlier [`Submission::eta`]. Prefer it to an ETA where the
    /// clocks of client and broker may differ.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use celeriac_client::Submission;
    ///
    /// let reminder = Submission::new("mail.remind").countdown(Duration::from_secs(3_600));
    /// ```
    pub fn countdown(mut self, span: Duration) -> Self {
        self.task.countdown_ms = Some(span_ms(span));
        self.task.eta_at_ms = None;
        self
    }

    /// No attempt begins after this time, retries included: the broker then revokes the task as
    /// `expired`. [`Submission::result_ttl`] sets how long the result is kept.
    pub fn expires_at(mut self, time: SystemTime) -> Self {
        self.task.expires_at_ms = Some(at_ms(time));
        self.task.expires_in_ms = None;
        self
    }

    /// As [`Submission::expires_at`], with a span counted from the submit by the broker's clock.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use celeriac_client::Submission;
    ///
    /// // A price that nobody needs after a minute.
    /// let submission = Submission::new("prices.fetch").expires_in(Duration::from_secs(60));
    /// ```
    pub fn expires_in(mut self, span: Duration) -> Self {
        self.task.expires_in_ms = Some(span_ms(span));
        self.task.expires_at_ms = None;
        self
    }

    /// How long the broker keeps the ended task and its result; the default is 1 day.
    pub fn result_ttl(mut self, span: Duration) -> Self {
        self.task.result_ttl_ms = Some(span_ms(span));
        self
    }

    /// The broker drops the task as soon as it has ended as Success or Revoked. A caller that
    /// already waits still gets the result; a later caller finds no task of this id. A Failure is
    /// kept for the broker's default time.
    pub fn ignore_result(self) -> Self {
        self.result_ttl(Duration::ZERO)
    }

    /// When the task runs again after a failure.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use celeriac_client::{RetryPolicy, Submission};
    ///
    /// let policy = RetryPolicy::exponential(Duration::from_secs(2)).max_attempts(5);
    /// let submission = Submission::new("songs.preprocess").retry(policy);
    /// ```
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.task.retry = Some(policy.to_wire());
        self
    }

    /// Adds a header: bytes that the handler reads in its context and that listings show. A second
    /// header of the same name replaces the first.
    ///
    /// ```
    /// use celeriac_client::Submission;
    /// let submission = Submission::new("songs.preprocess").header("tenant", "acme");
    /// ```
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.task.headers.insert(name.into(), value.into());
        self
    }

    /// Adds a label, by which tasks are listed and cancelled; see
    /// [`TaskFilter::tag`](crate::TaskFilter::tag) and
    /// [`Client::cancel_tagged`](crate::Client::cancel_tagged). A task has at most 32 labels.
    ///
    /// ```
    /// use celeriac_client::Submission;
    /// let submission = Submission::new("songs.preprocess").tag("album-7").tag("nightly");
    /// ```
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.task.tags.push(tag.into());
        self
    }

    /// What the broker does when a task with this id exists. The default is
    /// [`OnConflict::RunAgainIfFinished`].
    pub fn on_conflict(mut self, on_conflict: OnConflict) -> Self {
        self.task.on_conflict = match on_conflict {
            OnConflict::RunAgainIfFinished => wire::OnConflict::RunAgainIfFinished,
            OnConflict::Reject => wire::OnConflict::Reject,
            OnConflict::Replace => wire::OnConflict::Replace,
            OnConflict::RunAgainAfter => wire::OnConflict::RunAgainAfter,
            OnConflict::Beside => wire::OnConflict::Beside,
        }
        .into();
        if on_conflict == OnConflict::Beside && self.task.submit_key.is_empty() {
            // With the key the broker knows the submit again when this client has to repeat it.
            self.task.submit_key = new_id();
        }
        self
    }

    /// How long each attempt may take, counted from its start. The attempt then fails as
    /// `time_limit`, and the task does not run again.
    pub fn time_limit(mut self, span: Duration) -> Self {
        self.task.time_limit_ms = Some(span_ms(span));
        self
    }

    /// Counted from the start of each attempt: when this span is over, the handler gets a signal to
    /// finish. Set it shorter than [`Submission::time_limit`]; a soft limit that is not shorter is
    /// never signalled.
    pub fn soft_time_limit(mut self, span: Duration) -> Self {
        self.task.soft_time_limit_ms = Some(span_ms(span));
        self
    }

    /// How many times workers may begin the task without reporting an outcome, as when they crash;
    /// the default is 20. The task then ends as a Failure.
    pub fn max_deliveries(mut self, deliveries: u32) -> Self {
        self.task.max_deliveries = Some(deliveries);
        self
    }

    /// For work that must not run twice: once the task has started, the loss of its worker is a
    /// Failure and not a second run.
    pub fn early_ack(mut self) -> Self {
        self.task.early_ack = true;
        self
    }

    /// The id of the first task of the tree to which this task belongs.
    /// [`Client::cancel_tree`](crate::Client::cancel_tree) cancels a whole tree by this id. A
    /// handler that submits through its context need not set it.
    pub fn root_id(mut self, id: impl Into<String>) -> Self {
        self.task.root_id = id.into();
        self
    }

    /// The id of the task whose handler submits this task. A handler that submits through its
    /// context need not set it.
    pub fn parent_id(mut self, id: impl Into<String>) -> Self {
        self.task.parent_id = id.into();
        self
    }

    /// Fills in the definition's options where the caller set none.
    pub(crate) fn defaults(mut self, options: TaskOptions) -> Self {
        let TaskOptions {
            queue,
            priority,
            retry,
            soft_time_limit,
            time_limit,
            max_deliveries,
            result_ttl,
            expires_in,
            early_ack,
        } = options;
        let task = &mut self.task;
        if let (true, Some(queue)) = (task.queue.is_empty(), queue) {
            task.queue = queue.to_owned();
        }
        task.priority = task.priority.or(priority);
        task.retry = task.retry.or(retry.map(RetryPolicy::to_wire));
        task.soft_time_limit_ms = task.soft_time_limit_ms.or(soft_time_limit.map(span_ms));
        task.time_limit_ms = task.time_limit_ms.or(time_limit.map(span_ms));
        task.max_deliveries = task.max_deliveries.or(max_deliveries);
        task.result_ttl_ms = task.result_ttl_ms.or(result_ttl.map(span_ms));
        if let (None, None, Some(span)) = (task.expires_at_ms, task.expires_in_ms, expires_in) {
            expire_after_due(task, span_ms(span));
        }
        task.early_ack |= early_ack;
        self
    }
}

/// The expiry of a definition does not overrule the ETA or countdown of the caller: the span begins
/// when the task is due.
fn expire_after_due(task: &mut wire::Task, span_ms: u64) {
    match task.eta_at_ms {
        Some(eta) => {
            let due = eta.max(at_ms(SystemTime::now()));
            task.expires_at_ms =
                Some(due.saturating_add_unsigned(span_ms).min(limits::TIME_MS_MAX));
        }
        None => {
            let span_ms = span_ms.saturating_add(task.countdown_ms.unwrap_or(0));
            task.expires_in_ms = Some(span_ms.min(limits::SPAN_MS_MAX));
        }
    }
}
