//! Waiting tasks that no worker runs. They are in the folder while the broker is killed, make its
//! start longer, and must exist afterwards.

use std::net::SocketAddr;

use celeriac_proto::wire;

use crate::raw::{self, Answer, RawConnection, Request};

const QUEUE: &str = "backlog";
const BATCH: u64 = 1_000;

/// Puts so many tasks into the folder.
pub(super) async fn fill(address: SocketAddr, tasks: u64) {
    let mut connection = RawConnection::open(address).await;
    for first in (0..tasks).step_by(BATCH as usize) {
        let task = |number: u64| wire::Task {
            queue: QUEUE.into(),
            ..raw::task(&format!("backlog-{number}"), "backlog")
        };
        let outcomes =
            connection.submit((first..tasks.min(first + BATCH)).map(task).collect()).await;
        assert!(outcomes.iter().all(|outcome| outcome.error.is_none()), "a fresh broker has room");
    }
}

/// What is wrong with them, if something is.
pub(super) async fn look(address: SocketAddr, tasks: u64) -> Option<String> {
    let mut connection = RawConnection::open(address).await;
    let ready = match connection
        .request(Request::ListQueues(wire::ListQueues {
            queues: vec![QUEUE.into()],
            ..Default::default()
        }))
        .await
    {
        Ok(Answer::QueueList(list)) => list.queues.first().map_or(0, |queue| queue.ready),
        other => return Some(format!("no QueueList but {other:?}")),
    };
    (ready != tasks).then(|| {
        format!("{tasks} tasks were confirmed and no worker runs them, but {ready} are there")
    })
}
