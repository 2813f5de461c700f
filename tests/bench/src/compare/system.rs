//! The interface of every system under comparison. Its file implements it.

use std::any::Any;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use futures_util::future::LocalBoxFuture;

/// The workloads, with their names in the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Workload {
    Enqueue,
    Lifecycle,
    Roundtrip,
    Backlog,
    Retained,
    Restart,
    RestartWithResults,
    Fairness,
    Scheduled,
    IdleConnections,
    Listing,
    WorstStep,
}

impl Workload {
    /// In the order of the report.
    pub(crate) const ALL: [Self; 12] = [
        Self::Enqueue,
        Self::Lifecycle,
        Self::Roundtrip,
        Self::Backlog,
        Self::Retained,
        Self::Restart,
        Self::RestartWithResults,
        Self::Fairness,
        Self::Scheduled,
        Self::IdleConnections,
        Self::Listing,
        Self::WorstStep,
    ];

    /// Whether no peer has anything to compare with.
    pub(crate) fn is_of_celeriac_alone(self) -> bool {
        matches!(self, Self::Retained | Self::Fairness | Self::Listing | Self::WorstStep)
    }

    /// Its name in the report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Enqueue => "enqueue",
            Self::Lifecycle => "lifecycle",
            Self::Roundtrip => "roundtrip",
            Self::Backlog => "backlog",
            Self::Retained => "retained",
            Self::Restart => "restart",
            Self::RestartWithResults => "restart_with_results",
            Self::Fairness => "fairness",
            Self::Scheduled => "scheduled",
            Self::IdleConnections => "idle_connections",
            Self::Listing => "listing",
            Self::WorstStep => "worst_step",
        }
    }
}

/// How a system is driven.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    pub tasks: u64,
    pub producers: usize,
    pub workers: usize,
    /// Tasks in one request, for producers and for workers.
    pub batch: usize,
    /// Requests that a connection has in flight.
    pub in_flight: usize,
    /// Bytes of a payload.
    pub payload: usize,
    /// Bytes of a result.
    pub result: usize,
}

/// The outcome of a load.
#[derive(Debug, Default)]
pub(crate) struct Timing {
    pub elapsed: Duration,
    /// A latency for each request (enqueue), round trip, or scheduled task (how late it was). It
    /// may be empty for lifecycles.
    pub latencies: Vec<Duration>,
}

/// A server that was not found: a sentence with the command that installs it.
#[derive(Debug)]
pub(crate) struct Missing(pub String);

/// One system in one durability: one set of rows.
pub(crate) trait System {
    fn name(&self) -> &'static str;

    /// The durability in the words of its documentation: "appendfsync always", "quorum queue,
    /// confirms".
    fn durability(&self) -> &'static str;

    /// The version of the server that was found.
    fn version(&self) -> Result<String, Missing>;

    /// The workloads that it supports. All others return the error "not offered".
    fn offers(&self, workload: Workload) -> bool;

    /// Starts the server on a free port with everything it writes below this (empty) folder.
    fn start<'a>(&'a self, folder: &'a Path) -> LocalBoxFuture<'a, Result<Box<dyn Running>>>;
}

/// A running server. Dropping it ends its processes, whatever happened before.
pub(crate) trait Running {
    /// Submits so many tasks; each is confirmed durable (as far as the durability goes) before the
    /// time ends.
    fn enqueue<'a>(&'a self, _load: &'a Load) -> LocalBoxFuture<'a, Result<Timing>> {
        not_offered()
    }

    /// Producers and workers at once: submit confirmed, delivered, completed with a result of
    /// `load.result` bytes that is confirmed and readable by id with a TTL (where the system
    /// can). Ends when `load.tasks` submits and `load.tasks` completions are confirmed; tasks
    /// that waited before may be among the completed ones and others stay waiting.
    fn lifecycle<'a>(&'a self, _load: &'a Load) -> LocalBoxFuture<'a, Result<Timing>> {
        not_offered()
    }

    /// One task at a time on an idle server: from submit until the submitter holds the result.
    fn roundtrip(&self, _tasks: u64) -> LocalBoxFuture<'_, Result<Timing>> {
        not_offered()
    }

    /// One producer submits `load.tasks` tasks as fast as it can, and workers complete them. Beside
    /// it another producer submits one task at a time, at most one for each hundred of the first;
    /// latencies are those of its requests.
    fn fairness<'a>(&'a self, _load: &'a Load) -> LocalBoxFuture<'a, Result<Timing>> {
        not_offered()
    }

    /// `waiting` tasks are due in an hour or later, and then `due` tasks fall due evenly over
    /// `over`; latencies are how late each of those was handed to a worker.
    fn schedule(
        &self,
        _waiting: u64,
        _due: u64,
        _over: Duration,
    ) -> LocalBoxFuture<'_, Result<Timing>> {
        not_offered()
    }

    /// Opens so many connections that complete the handshake and then do nothing. They are closed
    /// when the returned value is dropped.
    fn connect(&self, _connections: usize) -> LocalBoxFuture<'_, Result<Box<dyn Any>>> {
        not_offered()
    }

    /// Lists pages of 100 out of so many tasks; a latency for each page.
    fn list(&self, _tasks: u64) -> LocalBoxFuture<'_, Result<Timing>> {
        not_offered()
    }

    /// Sends every request that looks at many tasks to a state machine of so many tasks; a latency
    /// for the longest step of each request.
    fn longest_steps(&self, _tasks: u64) -> LocalBoxFuture<'_, Result<Timing>> {
        not_offered()
    }

    /// Stops the server cleanly and starts it again on the same folder. Returns the time from exec
    /// to the first answered request.
    fn restart(&mut self) -> LocalBoxFuture<'_, Result<Duration>> {
        not_offered()
    }

    /// How many times larger the disk is than what must be kept, where the server knows that.
    fn disk_times(&self) -> LocalBoxFuture<'_, Result<Option<f64>>> {
        Box::pin(async { Ok(None) })
    }

    /// All processes of the server, for memory and processor time.
    fn processes(&self) -> Vec<u32>;
}

/// The error of a system for a workload that it does not support. It is no failure.
pub(crate) const NOT_OFFERED: &str = "not offered";

fn not_offered<'a, T>() -> LocalBoxFuture<'a, Result<T>> {
    Box::pin(async { bail!(NOT_OFFERED) })
}
