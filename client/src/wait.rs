//! Waiting until tasks have ended. `connection::waiting` has the requests behind it.

use std::time::Duration;

use celeriac_proto::wire;
use tokio::time::Instant;

use crate::client::{Client, owned};
use crate::connection::deadline_after;
use crate::error::Error;
use crate::getting::{self, With};
use crate::info::TaskInfo;

/// How many of the tasks must have ended before a wait is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum WaitMode {
    /// All tasks.
    #[default]
    All,
    /// One task.
    Any,
}

/// The result of a wait.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Waited {
    /// Whether the tasks ended as the mode asks. False when the time was over first.
    pub satisfied: bool,
    /// The tasks as they are now, in the order of the ids, without results.
    pub tasks: Vec<TaskInfo>,
}

impl Client {
    /// Waits until any or all of these tasks have ended, or the time is over. A task that
    /// does not exist counts as ended.
    ///
    /// ```no_run
    /// # async fn example(client: celeriac_client::Client) -> Result<(), celeriac_client::Error> {
    /// use std::time::Duration;
    ///
    /// use celeriac_client::WaitMode;
    ///
    /// let waited = client.wait(&["a", "b"], WaitMode::Any, Duration::from_secs(60)).await?;
    /// let ended = waited.tasks.iter().filter(|task| task.state.is_ended());
    /// println!("{} have ended", ended.count());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Connection::request`](crate::connection::Connection::request). When the time is over,
    /// the answer has `satisfied` false; [`Error::Timeout`] only means that the broker did not
    /// answer at all. `Any` with more ids than one request allows is refused.
    pub async fn wait(
        &self,
        ids: &[impl AsRef<str>],
        mode: WaitMode,
        timeout: Duration,
    ) -> Result<Waited, Error> {
        let wire_mode = match mode {
            WaitMode::All => wire::wait::Mode::All,
            WaitMode::Any => wire::wait::Mode::Any,
        };
        let per_request = match mode {
            WaitMode::All => self.ids_per_request(),
            WaitMode::Any => ids.len().max(1),
        };
        let deadline = deadline_after(timeout);
        let mut waited = Waited { satisfied: true, tasks: Vec::with_capacity(ids.len()) };
        for ids in ids.chunks(per_request) {
            let ids = owned(ids);
            let left = deadline.saturating_duration_since(Instant::now());
            let wait =
                wire::Wait { ids: ids.clone(), mode: wire_mode.into(), ..Default::default() };
            let wire::WaitReply { satisfied, tasks, left_out } = self
                .connection
                .wait(wait, left)
                .await
                .map_err(|error| with_whole_time(error, timeout))?;
            let tasks =
                getting::rest(&self.connection, &ids, tasks, left_out, With::Nothing, self.timeout)
                    .await?;
            waited.satisfied &= satisfied;
            waited.tasks.extend(tasks.into_iter().map(TaskInfo::from));
        }
        Ok(waited)
    }

    /// Waits until one task has ended, and returns it with its result.
    pub(crate) async fn wait_for_end(
        &self,
        id: &str,
        timeout: Duration,
    ) -> Result<TaskInfo, Error> {
        let wait =
            wire::Wait { ids: vec![id.to_owned()], with_results: true, ..Default::default() };
        let waited = self.connection.wait(wait, timeout).await?;
        let task = waited
            .tasks
            .into_iter()
            .next()
            .ok_or_else(|| Error::unexpected("one task for one id"))?;
        let task = TaskInfo::from(task);
        match task.state {
            _ if !task.is_there() => Err(Error::NotFound { id: id.to_owned() }),
            state if state.is_ended() => Ok(task),
            _ if waited.satisfied => {
                Err(Error::Protocol(format!("waiting for task {id} ended before the task did")))
            }
            state => Err(Error::NotFinished { id: id.to_owned(), state, after: timeout }),
        }
    }
}

/// The later parts of a long list have less time than the caller gave. The error names the time
/// that the caller gave.
fn with_whole_time(error: Error, timeout: Duration) -> Error {
    match error {
        Error::Timeout { trouble, .. } => Error::Timeout { after: timeout, trouble },
        error => error,
    }
}
