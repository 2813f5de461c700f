//! Asking for tasks by their ids until all of them are there. The broker's answer ends where its
//! frame is full, and names the tasks that it leaves out; the client then asks for those.

use std::time::Duration;

use celeriac_proto::wire::{self, client_frame, server_frame};
use tokio::time::Instant;

use crate::connection::{Connection, deadline_after};
use crate::error::Error;

/// The large part of a task that the broker sends with its state. A frame may not hold both of a
/// task, so a request asks for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum With {
    Nothing,
    Results,
    Payloads,
}

/// The tasks of these ids, in order.
pub(crate) async fn get(
    connection: &Connection,
    ids: Vec<String>,
    with: With,
    timeout: Duration,
) -> Result<Vec<wire::TaskInfo>, Error> {
    // An answer without any task leaves all of them out.
    let all = (0..ids.len() as u32).collect();
    rest(connection, &ids, Vec::new(), all, with, timeout).await
}

/// Completes an answer about these ids: asks for the tasks that the answer left out, until all are
/// there or the time is over. `left_out` has their places in `ids`.
pub(crate) async fn rest(
    connection: &Connection,
    ids: &[String],
    tasks: Vec<wire::TaskInfo>,
    left_out: Vec<u32>,
    with: With,
    timeout: Duration,
) -> Result<Vec<wire::TaskInfo>, Error> {
    if left_out.is_empty() {
        return counted(ids.len(), tasks);
    }
    let deadline = deadline_after(timeout);
    // One place for each id, so that the tasks are in the order of the ids in the end.
    let mut found = spread(ids.len(), tasks, &left_out)?;
    let mut open = left_out;
    while !open.is_empty() {
        let asked = open.iter().map(|place| ids[*place as usize].clone()).collect();
        let get = wire::Get {
            ids: asked,
            with_results: with == With::Results,
            with_payloads: with == With::Payloads,
        };
        let body = client_frame::Body::Get(get);
        let left = deadline.saturating_duration_since(Instant::now());
        let server_frame::Body::GetReply(reply) = connection.request(body, left).await? else {
            return Err(Error::unexpected("a GetReply"));
        };
        // The broker answers the tasks in the order of the ids, and may leave out some again.
        let mut still_open = Vec::new();
        for (place, task) in open.iter().zip(spread(open.len(), reply.tasks, &reply.left_out)?) {
            match task {
                Some(task) => found[*place as usize] = Some(task),
                None => still_open.push(*place),
            }
        }
        if still_open.len() == open.len() {
            // Without this check a broker that answers nothing would be asked for ever.
            return Err(Error::unexpected("a task in each answer"));
        }
        open = still_open;
    }
    counted(ids.len(), found.into_iter().flatten().collect())
}

/// One entry for each of `count` ids, in order; `None` for a task that the answer left out.
///
/// Fails when the broker breaks the protocol: when the places do not rise, or tasks and places
/// together are not as many as the ids.
fn spread(
    count: usize,
    tasks: Vec<wire::TaskInfo>,
    left_out: &[u32],
) -> Result<Vec<Option<wire::TaskInfo>>, Error> {
    let is_right = left_out.is_sorted_by(|a, b| a < b)
        && left_out.iter().all(|place| (*place as usize) < count);
    if !is_right || tasks.len() + left_out.len() != count {
        return Err(Error::unexpected("one task for each id"));
    }
    let (mut tasks, mut left_out) = (tasks.into_iter(), left_out.iter().peekable());
    Ok((0..count as u32)
        .map(|place| if left_out.next_if_eq(&&place).is_some() { None } else { tasks.next() })
        .collect())
}

/// The tasks, when there is one for each id.
fn counted(count: usize, tasks: Vec<wire::TaskInfo>) -> Result<Vec<wire::TaskInfo>, Error> {
    if tasks.len() == count { Ok(tasks) } else { Err(Error::unexpected("one task for each id")) }
}
