//! A worker as programs read it, and as a row among others for people.
//!
//! The names in [`WorkerDocument`] are a contract with scripts: `cli/README.md` lists them, and a
//! test compares the two.

use celeriac_client::WorkerStatus;
use serde::Serialize;

use crate::printable::clean;
use crate::task_document::TaskDocument;
use crate::time::{ms, relative};

/// A worker for programs.
#[derive(Serialize)]
pub(crate) struct WorkerDocument<'a> {
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
    connected_at_ms: i64,
    seen_at_ms: i64,
    quiet: bool,
    lost: bool,
}

impl<'a> WorkerDocument<'a> {
    pub(crate) fn new(worker: &'a WorkerStatus) -> Self {
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
            connected_at_ms: ms(worker.connected_at),
            seen_at_ms: ms(worker.seen_at),
            quiet: worker.quiet,
            lost: worker.lost,
        }
    }
}

/// The headings of [`row`].
pub(crate) const HEADINGS: [&str; 8] =
    ["INSTANCE", "STATE", "RUNNING", "MEMORY", "CONNECTED", "HOST", "PID", "QUEUES"];

/// A worker among others.
pub(crate) fn row(worker: &WorkerStatus, now_ms: i64) -> [String; 8] {
    [
        clean(&worker.instance_id),
        state(worker).to_owned(),
        format!("{}/{}", held(worker), worker.concurrency),
        memory(worker.memory_bytes),
        relative(ms(worker.connected_at), now_ms),
        clean(&worker.hostname),
        worker.pid.to_string(),
        clean(&worker.queues.join(", ")),
    ]
}

/// How many tasks the worker holds. The broker does not list all of them.
pub(crate) fn held(worker: &WorkerStatus) -> usize {
    worker.running.len() + worker.running_left_out as usize
}

/// The state of a worker in one word.
pub(crate) fn state(worker: &WorkerStatus) -> &'static str {
    match (worker.lost, worker.quiet) {
        (true, _) => "lost",
        (false, true) => "quiet",
        (false, false) if held(worker) == 0 => "idle",
        (false, false) => "busy",
    }
}

/// The memory of a worker. The value 0 means that the worker does not report it.
pub(crate) fn memory(bytes: u64) -> String {
    const MIB: u64 = 1024 * 1024;
    match bytes {
        0 => "-".to_owned(),
        bytes => format!("{} MiB", bytes.div_ceil(MIB)),
    }
}
