//! One task as its caller holds it: ask for its state, wait for its output, watch it, cancel it,
//! forget it.

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::client::{CancelMode, CancelOutcome, Client};
use crate::error::{Error, ErrorCode};
use crate::info::{State, TaskInfo};
use crate::submission::{SubmitKind, Submitted};
use crate::watch::Watch;

/// A task of which the output, when there is one, is a `T`.
///
/// Handles hold no state of the task: whoever knows the id has the same handle, in any process, by
/// [`Client::result`]. A handle means the id, so after the id is submitted again it means the new
/// run.
pub struct TaskHandle<T> {
    client: Client,
    id: String,
    submitted: Option<(SubmitKind, u32)>,
    output: PhantomData<fn() -> T>,
}

impl<T> TaskHandle<T> {
    pub(crate) fn new(client: Client, id: String) -> Self {
        Self { client, id, submitted: None, output: PhantomData }
    }

    pub(crate) fn submitted(client: Client, submitted: Submitted) -> Self {
        let Submitted { id, kind, generation, .. } = submitted;
        Self { submitted: Some((kind, generation)), ..Self::new(client, id) }
    }

    /// The id of the task.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What the submit did; `None` for a handle that was made from an id.
    pub fn outcome(&self) -> Option<SubmitKind> {
        self.submitted.map(|(kind, _)| kind)
    }

    /// Which run of the id was submitted, from 1; `None` for a handle that was made from an id.
    pub fn generation(&self) -> Option<u32> {
        self.submitted.map(|(_, generation)| generation)
    }

    /// Where the task stands now. [`State::Unknown`] if the broker knows none of this id.
    ///
    /// # Errors
    /// As [`Client::info`].
    pub async fn state(&self) -> Result<State, Error> {
        let tasks = self.client.info(&[&self.id]).await?;
        tasks.first().map(|task| task.state).ok_or_else(|| Error::unexpected("one task for one id"))
    }

    /// All that the broker knows of the task, with its result.
    ///
    /// # Errors
    /// [`Error::NotFound`] if it knows none of this id; otherwise as [`Client::info`].
    pub async fn info(&self) -> Result<TaskInfo, Error> {
        match self.client.info_with_results(&[&self.id]).await?.pop() {
            Some(task) if task.is_there() => Ok(task),
            Some(_) => Err(Error::NotFound { id: self.id.clone() }),
            None => Err(Error::unexpected("one task for one id")),
        }
    }

    /// Waits until the task has ended, however it ended, and returns what is known of it, with its
    /// result.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::NotFinished`] when the time is over and [`Error::Timeout`]
    /// when the broker did not answer; otherwise as [`crate::connection::Connection::request`].
    pub async fn wait(&self, timeout: Duration) -> Result<TaskInfo, Error> {
        self.client.wait_for_end(&self.id, timeout).await
    }

    /// The present state and then every transition.
    ///
    /// # Errors
    /// As [`Client::watch`].
    pub async fn watch(&self) -> Result<Watch, Error> {
        self.client.watch_with_results(&[&self.id]).await
    }

    /// Drops the ended task and its result before its time.
    ///
    /// # Errors
    /// [`Error::NotFound`], and [`Error::Refused`] with `not_finished` for a task that has not
    /// ended.
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

    /// Cancels the task; if it runs, its handler is told and may finish as it likes.
    /// [`Client::cancel`] has the other mode.
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
    /// Waits for the output, over reconnects, for `timeout` and at most a second more.
    ///
    /// # Errors
    /// [`Error::TaskFailed`] and [`Error::TaskRevoked`] for a task that ended without output,
    /// [`Error::NotFound`] for one that the broker does not know, [`Error::NotFinished`] when
    /// the time is over, [`Error::Timeout`] when the broker did not answer, [`Error::Decode`]
    /// when the output is not a `T`.
    pub async fn get(&self, timeout: Duration) -> Result<T, Error> {
        self.client.output(&self.id, timeout).await
    }
}

/// `handle.await` waits for the output as [`TaskHandle::get`] does, for as long as it takes: for a
/// year.
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
            submitted: self.submitted,
            output: PhantomData,
        }
    }
}

impl<T> fmt::Debug for TaskHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskHandle")
            .field("id", &self.id)
            .field("submitted", &self.submitted)
            .finish_non_exhaustive()
    }
}
