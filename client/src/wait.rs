//! Waiting for tasks to end, for as long as the caller likes: in slices, over reconnects, and never with so many requests
//! at once that others find no room.

use std::time::Duration;

use celeriac_proto::wire::{self, client_frame, server_frame};
use tokio::time::{Instant, sleep, timeout_at};

use crate::client::{Client, owned};
use crate::connection::deadline_after;
use crate::error::Error;
use crate::getting;
use crate::info::{State, TaskInfo};

/// One request waits no longer than this, so that a broker never holds a request for hours.
const SLICE: Duration = Duration::from_secs(30);

/// The same when others queue up for their turn to wait.
const SLICE_WHEN_CROWDED: Duration = Duration::from_secs(1);

/// The broker answers at the end of its time; the answer needs a moment to arrive.
const GRACE: Duration = Duration::from_secs(1);

/// A broker that answers "not yet" before its time is asked again no faster than this.
const PAUSE: Duration = Duration::from_millis(50);

/// How many of several tasks have to have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum WaitMode {
    /// Every one.
    #[default]
    All,
    /// One is enough.
    Any,
}

/// How waiting came out.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Waited {
    /// False when the time was over first.
    pub satisfied: bool,
    /// How the tasks stand, in the order of the ids, without results.
    pub tasks: Vec<TaskInfo>,
}

impl Client {
    /// Waits until any or all of these tasks have ended, or the time is over. An id that does not exist is nothing to
    /// wait for.
    ///
    /// # Errors
    /// As [`crate::connection::Connection::request`]; [`Error::Timeout`] only when the broker could not be asked at
    /// all. `Any` over more ids than fit into one request is refused.
    pub async fn wait(&self, ids: &[impl AsRef<str>], mode: WaitMode, timeout: Duration) -> Result<Waited, Error> {
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
            let wait = wire::Wait { ids: ids.clone(), mode: wire_mode.into(), ..Default::default() };
            let wire::WaitReply { satisfied, tasks, left_out } = self.wait_in_slices(wait, timeout, deadline).await?;
            let tasks = getting::rest(&self.connection, &ids, tasks, left_out, false, self.timeout).await?;
            waited.satisfied &= satisfied;
            waited.tasks.extend(tasks.into_iter().map(TaskInfo::from));
        }
        Ok(waited)
    }

    /// Waits for the end of one task, with its result.
    pub(crate) async fn wait_for_end(&self, id: &str, timeout: Duration) -> Result<TaskInfo, Error> {
        let wait = wire::Wait { ids: vec![id.to_owned()], with_results: true, ..Default::default() };
        let waited = self.wait_in_slices(wait, timeout, deadline_after(timeout)).await?;
        let task = waited.tasks.into_iter().next().ok_or_else(|| Error::unexpected("one task for one id"))?;
        let task = TaskInfo::from(task);
        match task.state {
            State::Unknown => Err(Error::NotFound { id: id.to_owned() }),
            state if state.is_ended() => Ok(task),
            _ if waited.satisfied => Err(Error::Protocol(format!("waiting for task {id} ended before the task did"))),
            _ => Err(self.connection.timeout(timeout)),
        }
    }

    async fn wait_in_slices(
        &self,
        wait: wire::Wait,
        timeout: Duration,
        deadline: Instant,
    ) -> Result<wire::WaitReply, Error> {
        loop {
            let turn =
                timeout_at(deadline, self.waits.acquire()).await.map_err(|_| self.connection.timeout(timeout))?;
            let crowded = self.waits.available_permits() == 0;
            let left = deadline.saturating_duration_since(Instant::now());
            let slice = left.min(if crowded { SLICE_WHEN_CROWDED } else { SLICE });
            let began = Instant::now();
            let body = client_frame::Body::Wait(wait.clone());
            let answer = self.connection.request_within(body, slice, slice + GRACE).await;
            drop(turn);
            let time_is_over = Instant::now() >= deadline || left == slice;
            let too_early = began.elapsed() + PAUSE < slice;
            match answer {
                Ok(server_frame::Body::WaitReply(reply)) if reply.satisfied => return Ok(reply),
                Ok(server_frame::Body::WaitReply(_)) if too_early => sleep(PAUSE).await,
                Ok(server_frame::Body::WaitReply(reply)) if time_is_over => return Ok(reply),
                Ok(server_frame::Body::WaitReply(_)) => {}
                Ok(_) => return Err(Error::unexpected("a WaitReply")),
                // The connection was down for the whole slice; the next one may see it up again.
                Err(Error::Timeout { .. }) if !time_is_over => {}
                Err(Error::Timeout { trouble, .. }) => return Err(Error::Timeout { after: timeout, trouble }),
                Err(error) => return Err(error),
            }
        }
    }
}
