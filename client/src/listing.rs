//! The filter and the pages of a listing of tasks, and the workers that a listing shows.

use std::time::SystemTime;

use bytes::Bytes;
use celeriac_proto::wire;

use crate::info::{State, TaskInfo, at_ms, time};

/// Selects the tasks that match everything that is set. Without any setting it selects all tasks.
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
    /// A filter that selects all tasks.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only tasks of this queue.
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.filter.queue = queue.into();
        self
    }

    /// Only tasks in this state. A second call adds a second state.
    ///
    /// ```
    /// use celeriac_client::{State, TaskFilter};
    ///
    /// let waiting = TaskFilter::new().state(State::Queued).state(State::Scheduled);
    /// ```
    pub fn state(mut self, state: State) -> Self {
        // A state that is named again changes nothing, and the broker takes a bounded number.
        if !self.filter.states().any(|named| named == state.to_wire()) {
            self.filter.push_states(state.to_wire());
        }
        self
    }

    /// Only tasks of this name.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.filter.name = name.into();
        self
    }

    /// Only tasks with this tag.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.filter.tag = tag.into();
        self
    }

    /// Only tasks whose id begins with this text.
    pub fn id_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.filter.id_prefix = prefix.into();
        self
    }

    /// Only tasks of the tree with this root.
    pub fn root_id(mut self, id: impl Into<String>) -> Self {
        self.filter.root_id = id.into();
        self
    }

    /// Only tasks that were submitted before this time.
    pub fn submitted_before(mut self, time: SystemTime) -> Self {
        self.filter.submitted_before_ms = Some(at_ms(time));
        self
    }

    /// Only tasks that were submitted after this time.
    pub fn submitted_after(mut self, time: SystemTime) -> Self {
        self.filter.submitted_after_ms = Some(at_ms(time));
        self
    }

    pub(crate) fn into_wire(self) -> wire::TaskFilter {
        self.filter
    }
}

/// One page of a listing; see [`Client::tasks`](crate::Client::tasks).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct TaskPage {
    /// The tasks of this page, without results.
    pub tasks: Vec<TaskInfo>,
    /// The cursor for the next page; `None` at the end of the listing.
    pub cursor: Option<Bytes>,
    /// Whether the tasks that were submitted last come first.
    pub newest_first: bool,
    /// Whether the tasks that ended last come first.
    pub just_ended: bool,
    /// How many tasks the broker has looked at for this listing, those for the pages before
    /// included, out of how many: 0 out of 0 if the broker does not say so.
    pub looked: u64,
    /// See `looked`.
    pub total: u64,
}

impl From<wire::TaskPage> for TaskPage {
    fn from(page: wire::TaskPage) -> Self {
        let cursor = (!page.cursor.is_empty()).then_some(page.cursor);
        let wire::TaskPage { newest_first, just_ended, looked, total, .. } = page;
        let tasks = page.tasks.into_iter().map(TaskInfo::from).collect();
        Self { tasks, cursor, newest_first, just_ended, looked, total }
    }
}

/// A worker as the broker sees it. Made by [`Client::workers`](crate::Client::workers).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct WorkerStatus {
    /// The name of the program; it stays the same over reconnects.
    pub instance_id: String,
    /// The host on which the worker runs.
    pub hostname: String,
    /// The worker's process id on that host.
    pub pid: u32,
    /// The queues that the worker serves.
    pub queues: Vec<String>,
    /// The names of the tasks that the worker can run.
    pub task_names: Vec<String>,
    /// How many handlers the worker runs at once.
    pub concurrency: u32,
    /// How many leases the worker may hold.
    pub credit: u32,
    /// The tasks that the worker holds: the first hundred, or as many as fit into the answer.
    /// Without the tracebacks of earlier attempts.
    pub running: Vec<TaskInfo>,
    /// How many more tasks the worker holds.
    pub running_left_out: u32,
    /// The memory of the worker's process in bytes, as the worker reports it.
    pub memory_bytes: u64,
    /// When the worker connected.
    pub connected_at: SystemTime,
    /// When the broker last received something from the worker.
    pub seen_at: SystemTime,
    /// Whether the worker was told to take no new tasks.
    pub quiet: bool,
    /// Whether the worker's connection is lost. The broker keeps its leases for the lease time.
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

/// What an operator orders a worker to do; see
/// [`Client::order_workers`](crate::Client::order_workers).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WorkerOrder {
    /// Take no new tasks, and finish those that run.
    Quiet,
    /// Take new tasks again.
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
