//! A typed call with options: `client.apply_async(&task, args).queue("songs").send()`. What each
//! option means is told at [`Submission`], which this wraps; how it is sent, in `submitting`.

use std::fmt;
use std::marker::PhantomData;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde::Serialize;

use crate::client::Client;
use crate::error::Error;
use crate::handle::TaskHandle;
use crate::retry::RetryPolicy;
use crate::submission::{OnConflict, Submission};
use crate::task::{TaskDefinition, TaskOptions};

/// A call that is not sent yet. The options are those of [`Submission`]; what is not set is the
/// task's default.
#[must_use = "nothing is submitted before `send`"]
pub struct ApplyAsync<T> {
    client: Client,
    submission: Submission,
    defaults: TaskOptions,
    output: PhantomData<fn() -> T>,
}

impl<T> ApplyAsync<T> {
    pub(crate) fn new<D: TaskDefinition<Output = T>>(
        client: Client,
        task: &D,
        args: &D::Args,
    ) -> Self {
        let submission = Submission::new(task.name()).args(args);
        Self { client, submission, defaults: task.defaults(), output: PhantomData }
    }

    /// The id under which it will be submitted.
    pub fn id(&self) -> &str {
        self.submission.id()
    }

    /// Submits it.
    ///
    /// # Errors
    /// [`Error::Encode`] for arguments that are no tuple or cannot be JSON; otherwise as
    /// [`Client::submit`].
    pub async fn send(self) -> Result<TaskHandle<T>, Error> {
        self.submission.check_encoding()?;
        self.client.submit(self.submission.defaults(self.defaults)).await
    }

    /// The submission that would be sent, e.g. for [`Client::submit_many`].
    pub fn into_submission(self) -> Submission {
        self.submission.defaults(self.defaults)
    }

    /// Named arguments, for workers whose language has them. See [`Submission::kwargs`].
    pub fn kwargs(self, kwargs: impl Serialize) -> Self {
        self.with(|submission| submission.kwargs(kwargs))
    }

    /// One named argument. See [`Submission::kwarg`].
    pub fn kwarg(self, name: impl Into<String>, value: impl Serialize) -> Self {
        self.with(|submission| submission.kwarg(name, value))
    }

    /// The key under which state and result are found, also by others. See [`Submission::task_id`].
    pub fn task_id(self, id: impl Into<String>) -> Self {
        self.with(|submission| submission.task_id(id))
    }

    /// Shown in place of the name. See [`Submission::shadow`].
    pub fn shadow(self, shadow: impl Into<String>) -> Self {
        self.with(|submission| submission.shadow(shadow))
    }

    /// Where it waits. See [`Submission::queue`].
    pub fn queue(self, queue: impl Into<String>) -> Self {
        self.with(|submission| submission.queue(queue))
    }

    /// 0 to 9, 9 first. See [`Submission::priority`].
    pub fn priority(self, priority: u32) -> Self {
        self.with(|submission| submission.priority(priority))
    }

    /// Not before this time. See [`Submission::eta`].
    pub fn eta(self, eta: SystemTime) -> Self {
        self.with(|submission| submission.eta(eta))
    }

    /// Not before so long from now. See [`Submission::countdown`].
    pub fn countdown(self, span: Duration) -> Self {
        self.with(|submission| submission.countdown(span))
    }

    /// No attempt begins after it. See [`Submission::expires_at`].
    pub fn expires_at(self, time: SystemTime) -> Self {
        self.with(|submission| submission.expires_at(time))
    }

    /// No attempt begins after this span. See [`Submission::expires_in`].
    pub fn expires_in(self, span: Duration) -> Self {
        self.with(|submission| submission.expires_in(span))
    }

    /// How long the ended task and its result are kept. See [`Submission::result_ttl`].
    pub fn result_ttl(self, span: Duration) -> Self {
        self.with(|submission| submission.result_ttl(span))
    }

    /// Nothing is kept once it has ended. See [`Submission::ignore_result`].
    pub fn ignore_result(self) -> Self {
        self.with(|submission| submission.ignore_result())
    }

    /// When it runs again after a failure. See [`Submission::retry`].
    pub fn retry(self, policy: RetryPolicy) -> Self {
        self.with(|submission| submission.retry(policy))
    }

    /// Bytes for the worker and for listings. See [`Submission::header`].
    pub fn header(self, name: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.with(|submission| submission.header(name, value))
    }

    /// A label. See [`Submission::tag`].
    pub fn tag(self, tag: impl Into<String>) -> Self {
        self.with(|submission| submission.tag(tag))
    }

    /// What happens when a task of this id exists. See [`Submission::on_conflict`].
    pub fn on_conflict(self, on_conflict: OnConflict) -> Self {
        self.with(|submission| submission.on_conflict(on_conflict))
    }

    /// After that an attempt fails. See [`Submission::time_limit`].
    pub fn time_limit(self, span: Duration) -> Self {
        self.with(|submission| submission.time_limit(span))
    }

    /// After that the handler is told to come to an end. See [`Submission::soft_time_limit`].
    pub fn soft_time_limit(self, span: Duration) -> Self {
        self.with(|submission| submission.soft_time_limit(span))
    }

    /// How often it may be begun without an outcome. See [`Submission::max_deliveries`].
    pub fn max_deliveries(self, deliveries: u32) -> Self {
        self.with(|submission| submission.max_deliveries(deliveries))
    }

    /// For work that must not run twice. See [`Submission::early_ack`].
    pub fn early_ack(self) -> Self {
        self.with(|submission| submission.early_ack())
    }

    /// The first task of its tree. See [`Submission::root_id`].
    pub fn root_id(self, id: impl Into<String>) -> Self {
        self.with(|submission| submission.root_id(id))
    }

    /// The task whose handler submits it. See [`Submission::parent_id`].
    pub fn parent_id(self, id: impl Into<String>) -> Self {
        self.with(|submission| submission.parent_id(id))
    }

    fn with(self, change: impl FnOnce(Submission) -> Submission) -> Self {
        Self { submission: change(self.submission), ..self }
    }
}

impl<T> fmt::Debug for ApplyAsync<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApplyAsync").field("submission", &self.submission).finish_non_exhaustive()
    }
}
