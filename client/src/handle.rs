//! One task as its caller holds it: ask for its state, wait for its output, watch it, cancel it,
//! forget it.

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::cancel::{CancelMode, CancelOutcome};
use crate::client::Client;
use crate::error::{Error, ErrorCode};
use crate::info::{State, TaskInfo};
use crate::submission::{SubmitKind, Submitted};
use crate::watch::Watch;

/// A handle on one task. `T` is the type of the task's output.
///
/// A handle holds the id and nothing of the task's state. Every process that knows the id can make
/// the same handle with [`Client::result`]. When the id is submitted again, the handle refers to
/// the new run.
///
/// ```no_run
/// use std::time::Duration;
///
/// use celeriac_client::{Client, Error, Submission};
///
/// # async fn example(client: Client) -> Result<(), Error> {
/// let handle = client.submit::<u64>(Submission::new("sums.add").args((1, 2))).await?;
/// match handle.get(Duration::from_secs(10)).await {
///     Ok(sum) => println!("the sum is {sum}"),
///     Err(Error::TaskFailed { kind, message, .. }) => println!("it failed: {kind}: {message}"),
///     Err(error) if error.is_retryable() => println!("ask again later: {error}"),
///     Err(error) => return Err(error),
/// }
/// # Ok(())
/// # }
/// ```
pub struct TaskHandle<T> {
    client: Client,
    id: String,
    submit: Option<SubmittedRun>,
    output: PhantomData<fn() -> T>,
}

/// What the broker said of the submit that made a handle.
#[derive(Debug, Clone, Copy)]
struct SubmittedRun {
    kind: SubmitKind,
    generation: u32,
}

impl<T> TaskHandle<T> {
    pub(crate) fn new(client: Client, id: String) -> Self {
        Self { client, id, submit: None, output: PhantomData }
    }

    pub(crate) fn submitted(client: Client, submitted: Submitted) -> Self {
        let Submitted { id, kind, generation, .. } = submitted;
        Self { submit: Some(SubmittedRun { kind, generation }), ..Self::new(client, id) }
    }

    /// The id of the task.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What the submit did; `None` for a handle that was made from an id.
    pub fn outcome(&self) -> Option<SubmitKind> {
        self.submit.map(|run| run.kind)
    }

    /// The generation that was submitted, from 1; `None` for a handle that was made from an id.
    pub fn generation(&self) -> Option<u32> {
        self.submit.map(|run| run.generation)
    }

    /// The present state of the task; [`State::Unknown`] when the broker knows no task of this id.
    ///
    /// ```no_run
    /// # use celeriac_client::{Error, TaskHandle};
    /// # async fn example(handle: TaskHandle<u64>) -> Result<(), Error> {
    /// if !handle.state().await?.is_ended() {
    ///     handle.cancel().await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Client::info`].
    pub async fn state(&self) -> Result<State, Error> {
        let tasks = self.client.info(&[&self.id]).await?;
        tasks.first().map(|task| task.state).ok_or_else(|| Error::unexpected("one task for one id"))
    }

    /// Everything that the broker knows of the task, with its result.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the broker knows no task of this id. All other errors are those of
    /// [`Client::info`].
    pub async fn info(&self) -> Result<TaskInfo, Error> {
        match self.client.info_with_results(&[&self.id]).await?.pop() {
            Some(task) if task.is_there() => Ok(task),
            Some(_) => Err(Error::NotFound { id: self.id.clone() }),
            None => Err(Error::unexpected("one task for one id")),
        }
    }

    /// Waits until the task has ended, and returns what the broker knows of it, with its result. A
    /// task that failed or was revoked is no error here; [`TaskHandle::get`] makes one of it.
    ///
    /// ```no_run
    /// # use celeriac_client::{Error, TaskHandle};
    /// # async fn example(handle: TaskHandle<u64>) -> Result<(), Error> {
    /// let task = handle.wait(std::time::Duration::from_secs(60)).await?;
    /// println!("{} ended as {} after {} attempts", task.id, task.state, task.attempts);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::NotFound`] when the broker knows no task of this id, [`Error::NotFinished`] when
    /// the time is over, and [`Error::Timeout`] when the broker did not answer. All other
    /// errors are those of [`Connection::request`](crate::connection::Connection::request).
    pub async fn wait(&self, timeout: Duration) -> Result<TaskInfo, Error> {
        self.client.wait_for_end(&self.id, timeout).await
    }

    /// A stream of the present state and then every transition of the task. The transition to
    /// Success carries the result.
    ///
    /// ```no_run
    /// # use celeriac_client::{Error, TaskHandle};
    /// # async fn example(handle: TaskHandle<u64>) -> Result<(), Error> {
    /// let mut watch = handle.watch().await?;
    /// while let Some(task) = watch.next().await {
    ///     if let Some(progress) = &task.progress {
    ///         println!("{}: {}", task.title(), progress.state);
    ///     }
    ///     if task.state.is_ended() {
    ///         break;
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Client::watch`].
    pub async fn watch(&self) -> Result<Watch, Error> {
        self.client.watch_with_results(&[&self.id]).await
    }

    /// Drops the ended task and its result before its `result_ttl` is over.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the broker knows no task of this id, and [`Error::Refused`] with
    /// `not_finished` for a task that has not ended.
    pub async fn forget(&self) -> Result<(), Error> {
        match self.client.forget(&[&self.id]).await?.pop() {
            Some(Ok(())) => Ok(()),
            Some(Err(ErrorCode::NotFound)) => Err(Error::NotFound { id: self.id.clone() }),
            Some(Err(code)) => {
                Err(Error::refused(code, format!("task {} cannot be forgotten", self.id)))
            }
            None => Err(Error::unexpected("one outcome for one id")),
        }
    }

    /// Cancels the task. If the task runs, the worker tells its handler, and the handler may finish
    /// as it likes. [`Client::cancel`] can also end the handler by force.
    ///
    /// # Errors
    /// As [`Client::cancel`].
    pub async fn cancel(&self) -> Result<CancelOutcome, Error> {
        let outcome = self.client.cancel(&[&self.id], CancelMode::Cooperative).await?.pop();
        outcome
            .map(|cancelled| cancelled.outcome)
            .ok_or_else(|| Error::unexpected("one outcome for one id"))
    }
}

impl<T: DeserializeOwned> TaskHandle<T> {
    /// Waits for the output, over reconnects too, for `timeout` and at most a second more.
    ///
    /// # Errors
    /// [`Error::TaskFailed`] and [`Error::TaskRevoked`] for a task that ended without output,
    /// [`Error::NotFound`] when the broker knows no task of this id, [`Error::NotFinished`] when
    /// the time is over, [`Error::Timeout`] when the broker did not answer, and [`Error::Decode`]
    /// when the output is not a `T`.
    pub async fn get(&self, timeout: Duration) -> Result<T, Error> {
        self.client.output(&self.id, timeout).await
    }
}

/// `handle.await` waits for the output as [`TaskHandle::get`] does, without a time limit. In fact
/// the limit is one year.
impl<T: DeserializeOwned + 'static> IntoFuture for TaskHandle<T> {
    type Output = Result<T, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<T, Error>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.get(Duration::MAX).await })
    }
}

impl<T> Clone for TaskHandle<T> {
    fn clone(&self) -> Self {
        Self {
            client: self.client.clone(),
            id: self.id.clone(),
            submit: self.submit,
            output: PhantomData,
        }
    }
}

impl<T> fmt::Debug for TaskHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskHandle")
            .field("id", &self.id)
            .field("submit", &self.submit)
            .finish_non_exhaustive()
    }
}
