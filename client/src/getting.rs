//! Asking for tasks by their ids until all of them are there: a broker's answer ends where its
//! frame is full, and says which tasks it leaves out.

use std::time::Duration;

use celeriac_proto::wire::{self, client_frame, server_frame};
use tokio::time::Instant;

use crate::connection::{Connection, deadline_after};
use crate::error::Error;

/// The tasks of these ids, in order.
pub(crate) async fn get(
    connection: &Connection,
    ids: Vec<String>,
    with_results: bool,
    timeout: Duration,
) -> Result<Vec<wire::TaskInfo>, Error> {
    let all = (0..ids.len() as u32).collect();
    rest(connection, &ids, Vec::new(), all, with_results, timeout).await
}

/// An answer about these ids, made whole: what it has stays as it is, what it leaves out is asked
/// for.
pub(crate) async fn rest(
    connection: &Connection,
    ids: &[String],
    tasks: Vec<wire::TaskInfo>,
    left_out: Vec<u32>,
    with_results: bool,
    timeout: Duration,
) -> Result<Vec<wire::TaskInfo>, Error> {
    if left_out.is_empty() {
        return counted(ids.len(), tasks);
    }
    let deadline = deadline_after(timeout);
    let mut found = spread(ids.len(), tasks, &left_out)?;
    let mut open = left_out;
    while !open.is_empty() {
        let asked = open.iter().map(|place| ids[*place as usize].clone()).collect();
        let body = client_frame::Body::Get(wire::Get { ids: asked, with_results });
        let left = deadline.saturating_duration_since(Instant::now());
        let server_frame::Body::GetReply(reply) = connection.request(body, left).await? else {
            return Err(Error::unexpected("a GetReply"));
        };
        let mut still_open = Vec::new();
        for (place, task) in open.iter().zip(spread(open.len(), reply.tasks, &reply.left_out)?) {
            match task {
                Some(task) => found[*place as usize] = Some(task),
                None => still_open.push(*place),
            }
        }
        if still_open.len() == open.len() {
            return Err(Error::unexpected("a task in each answer"));
        }
        open = still_open;
    }
    counted(ids.len(), found.into_iter().flatten().collect())
}

/// One entry for each of so many ids; `None` for those that are left out.
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

fn counted(count: usize, tasks: Vec<wire::TaskInfo>) -> Result<Vec<wire::TaskInfo>, Error> {
    if tasks.len() == count { Ok(tasks) } else { Err(Error::unexpected("one task for each id")) }
}
