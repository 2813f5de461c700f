//! A worker as programs read it.
//!
//! The names in [`WorkerDocument`] are a contract with scripts: `cli/README.md` lists them, and a
//! test compares the two.

use celeriac_client::WorkerStatus;
use serde::Serialize;
use utoipa::ToSchema;

use super::json::Rfc3339;
use super::task::TaskDocument;
use crate::time::ms;

/// A worker for programs.
#[derive(Serialize, ToSchema)]
pub struct WorkerDocument<'a> {
    instance_id: &'a str,
    hostname: &'a str,
    pid: u32,
    queues: &'a [String],
    task_names: &'a [String],
    concurrency: u32,
    credit: u32,
    running: Vec<TaskDocument<'a>>,
    running_left_out: u32,
    memory_bytes: u64,
    connected_at: Rfc3339,
    connected_at_ms: i64,
    seen_at: Rfc3339,
    seen_at_ms: i64,
    quiet: bool,
    lost: bool,
}

impl<'a> WorkerDocument<'a> {
    /// The document of what the client has read.
    pub fn new(worker: &'a WorkerStatus) -> Self {
        Self {
            instance_id: &worker.instance_id,
            hostname: &worker.hostname,
            pid: worker.pid,
            queues: &worker.queues,
            task_names: &worker.task_names,
            concurrency: worker.concurrency,
            credit: worker.credit,
            running: worker.running.iter().map(TaskDocument::new).collect(),
            running_left_out: worker.running_left_out,
            memory_bytes: worker.memory_bytes,
            connected_at: Rfc3339(worker.connected_at),
            connected_at_ms: ms(worker.connected_at),
            seen_at: Rfc3339(worker.seen_at),
            seen_at_ms: ms(worker.seen_at),
            quiet: worker.quiet,
            lost: worker.lost,
        }
    }
}
