//! Which tasks a listing shows, its pages, and the workers' list.

use std::time::SystemTime;

use bytes::Bytes;
use celeriac_proto::wire;

use crate::info::{State, TaskInfo, at_ms, time};

/// Which tasks: those that match everything that is set.
///
/// ```
/// use celeriac_client::{State, TaskFilter};
/// let dead_songs = TaskFilter::new().queue("songs").state(State::Failure);
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
#[must_use = "a filter does nothing by itself"]
pub struct TaskFilter {
    filter: wire::TaskFilter,
}

impl TaskFilter {
    /// All tasks.
    pub fn new() -> Self {
        Self::default()
    }

    /// In this queue.
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.filter.queue = queue.into();
        self
    }

    /// In this state, or another one that was named before.
    pub fn state(mut self, state: State) -> Self {
        self.filter.push_states(state.to_wire());
        self
    }

    /// Of this name.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.filter.name = name.into();
        self
    }

    /// With this tag.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.filter.tag = tag.into();
        self
    }

    /// Whose id begins so.
    pub fn id_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.filter.id_prefix = prefix.into();
        self
    }

    /// Of the tree with this root.
    pub fn root_id(mut self, id: impl Into<String>) -> Self {
        self.filter.root_id = id.into();
        self
    }

    /// Submitted before this time.
    pub fn submitted_before(mut self, time: SystemTime) -> Self {
        self.filter.submitted_before_ms = Some(at_ms(time));
        self
    }

    /// Submitted after this time.
    pub fn submitted_after(mut self, time: SystemTime) -> Self {
        self.filter.submitted_after_ms = Some(at_ms(time));
        self
    }

    pub(crate) fn into_wire(self) -> wire::TaskFilter {
        self.filter
    }
}

/// A part of a listing.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct TaskPage {
    /// The tasks, without results.
    pub tasks: Vec<TaskInfo>,
    /// For the next page; `None` at the end.
    pub cursor: Option<Bytes>,
}

impl From<wire::TaskPage> for TaskPage {
    fn from(page: wire::TaskPage) -> Self {
        let cursor = (!page.cursor.is_empty()).then_some(page.cursor);
        Self { tasks: page.tasks.into_iter().map(TaskInfo::from).collect(), cursor }
    }
}

/// A worker as the broker sees it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct WorkerStatus {
    /// Names the program, the same over its reconnects.
    pub instance_id: String,
    /// Where it runs.
    pub hostname: String,
    /// Its process there.
    pub pid: u32,
    /// The queues it serves.
    pub queues: Vec<String>,
    /// The tasks it can run.
    pub task_names: Vec<String>,
    /// How many handlers it runs at once.
    pub concurrency: u32,
    /// How many leases it may hold.
    pub credit: u32,
    /// What it holds: the first hundred, or as many as fit into the answer. Without the tracebacks
    /// of earlier attempts.
    pub running: Vec<TaskInfo>,
    /// How many more it holds.
    pub running_left_out: u32,
    /// Of its process, as it says.
    pub memory_bytes: u64,
    /// When it connected.
    pub connected_at: SystemTime,
    /// When it was last heard of.
    pub seen_at: SystemTime,
    /// It was told to take no new tasks.
    pub quiet: bool,
    /// Its connection is lost, and its leases are kept for a while.
    pub lost: bool,
}

impl From<wire::WorkerStatus> for WorkerStatus {
    fn from(worker: wire::WorkerStatus) -> Self {
        Self {
            instance_id: worker.instance_id,
            hostname: worker.hostname,
            pid: worker.pid,
            queues: worker.queues,
            task_names: worker.task_names,
            concurrency: worker.concurrency,
            credit: worker.credit,
            running: worker.running.into_iter().map(TaskInfo::from).collect(),
            running_left_out: worker.running_left_out,
            memory_bytes: worker.memory_bytes,
            connected_at: time(worker.connected_at_ms),
            seen_at: time(worker.seen_at_ms),
            quiet: worker.quiet,
            lost: worker.lost,
        }
    }
}

/// What an operator asks of workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WorkerOrder {
    /// No new tasks; finish those that run.
    Quiet,
    /// Take tasks again.
    Resume,
    /// Shut down as on SIGTERM.
    Shutdown,
}

impl WorkerOrder {
    pub(crate) fn to_wire(self) -> wire::order::Kind {
        match self {
            WorkerOrder::Quiet => wire::order::Kind::Quiet,
            WorkerOrder::Resume => wire::order::Kind::Resume,
            WorkerOrder::Shutdown => wire::order::Kind::Shutdown,
        }
    }
}
