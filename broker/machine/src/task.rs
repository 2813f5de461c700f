//! What the machine keeps of each task.
//!
//! There may be ten million: an entry is one line of the processor's cache and holds what decisions
//! need, and the records in the store hold the rest. What only some tasks have, or only while they
//! run, stands apart. The table of all of them is `table.rs`.

use std::sync::Arc;

use celeriac_proto::TaskId;
use celeriac_record::{
    ClosedBy, Lease, Progress, RetryPolicy, State, Submitted, TaskError, Timestamp,
};

use super::command::Monotonic;
use super::id::PackedId;
use super::names::NameKey;
use super::queue::QueueKey;
use super::sessions::SessionKey;
use super::timers::Moment;

/// One task of the table. What it has beyond this is asked of the table.
#[derive(Debug)]
pub(super) struct Task {
    pub id: PackedId,
    /// Where the table keeps what only some tasks have.
    pub extra: Option<ExtraKey>,
    pub version: u32,
    pub name: NameKey,
    pub state: State,
    /// How the lease named below ended, so that a report that is sent again can be told from a
    /// stale one.
    pub closed_by: ClosedBy,
    pub priority: u8,
    serial: Narrow<7>,
    lease: Narrow<7>,
    /// By the state: a time or a place in line, see `due` and `order`.
    turn: Narrow<6>,
    submitted_at: Narrow<6>,
    queue: Narrow<3>,
    /// From `LARGE` on it counts KiB.
    payload: Narrow<3>,
}

/// Payloads of so many bytes are counted in KiB, rounded up: no other task is to pay for them.
const LARGE: u64 = 1 << 23;

/// Where the table keeps an [`Extra`]; one more than its number there.
pub(super) type ExtraKey = std::num::NonZeroU32;

/// A number in as many bytes as it needs. A larger one becomes the largest.
#[derive(Debug, Clone, Copy)]
struct Narrow<const BYTES: usize>([u8; BYTES]);

impl<const BYTES: usize> Narrow<BYTES> {
    fn new(number: u64) -> Self {
        let number = number.min((1 << (8 * BYTES)) - 1);
        Self(std::array::from_fn(|at| (number >> (8 * at)) as u8))
    }

    fn get(self) -> u64 {
        let mut bytes = [0; 8];
        bytes[..BYTES].copy_from_slice(&self.0);
        u64::from_le_bytes(bytes)
    }
}

/// A task as it comes into the table.
#[derive(Debug)]
pub(super) struct NewTask {
    pub id: TaskId,
    pub serial: u64,
    /// Of a SCHEDULED task.
    pub due: Timestamp,
    pub submitted_at: Timestamp,
    pub generation: u32,
    pub name: NameKey,
    pub queue: QueueKey,
    pub payload_bytes: u64,
    pub priority: u8,
    pub state: State,
    /// Somebody waits for this id or watches it.
    pub watched: bool,
    /// What the producer asked for beyond the defaults.
    pub plan: Option<Box<Plan>>,
}

/// What only some tasks have.
#[derive(Debug)]
pub(super) struct Extra {
    /// What the producer asked for beyond the defaults; mostly none once the task has ended.
    pub plan: Option<Box<Plan>>,
    /// From the first delivery until the end.
    pub run: Option<Box<Run>>,
    /// An id that cannot be packed.
    pub long_id: Option<Box<str>>,
    pub generation: u32,
    /// Somebody waits for this id or watches it.
    pub watched: bool,
}

impl Default for Extra {
    fn default() -> Self {
        Self { plan: None, run: None, long_id: None, generation: 1, watched: false }
    }
}

impl Extra {
    /// Whether a task needs none.
    pub fn is_bare(&self) -> bool {
        self.plan.is_none()
            && self.run.is_none()
            && self.long_id.is_none()
            && self.generation == 1
            && !self.watched
    }
}

/// The rules of a task.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plan {
    pub expires: Option<Moment>,
    pub result_ttl_ms: u64,
    pub retry: RetryPolicy,
    pub soft_time_limit_ms: Option<u64>,
    pub time_limit_ms: Option<u64>,
    pub max_deliveries: u32,
    pub early_ack: bool,
    pub root_id: Box<str>,
    pub tags: Vec<Box<str>>,
}

impl Plan {
    /// The rules of a task that names none.
    pub fn usual(result_ttl_ms: u64) -> Self {
        Self {
            expires: None,
            result_ttl_ms,
            retry: RetryPolicy::default(),
            soft_time_limit_ms: None,
            time_limit_ms: None,
            max_deliveries: MAX_DELIVERIES,
            early_ack: false,
            root_id: "".into(),
            tags: Vec::new(),
        }
    }

    pub fn of(submitted: &Submitted) -> Self {
        Self {
            expires: submitted.expires.map(Moment::At),
            result_ttl_ms: submitted.result_ttl_ms,
            retry: submitted.retry,
            soft_time_limit_ms: submitted.soft_time_limit_ms,
            time_limit_ms: submitted.time_limit_ms,
            max_deliveries: submitted.max_deliveries,
            early_ack: submitted.early_ack,
            root_id: submitted.root_id.clone(),
            tags: submitted.tags.clone(),
        }
    }
}

/// How often a task may be begun without an outcome, unless it says otherwise.
pub(super) const MAX_DELIVERIES: u32 = 20;

/// What has happened to a task that was handed out at least once.
#[derive(Debug, Default)]
pub(super) struct Run {
    /// Who holds the lease; none while the task waits.
    pub holder: Option<SessionKey>,
    /// Its place in the holder's list of leases.
    pub place: usize,
    pub worker: Arc<str>,
    pub attempts: u32,
    /// Deliveries without an outcome, the present one included. What was lost before it began does
    /// not count.
    pub deliveries: u32,
    /// How often a worker was lost while it ran the task, or may have run it, since the last
    /// outcome.
    pub losses: u32,
    /// How many of these were without a report of its start, and are in no count of attempts.
    pub silent: u32,
    /// Its holder has nothing else, for the task is a suspect: see `suspects.rs`.
    pub alone: bool,
    pub leased_at: Option<Timestamp>,
    pub started_at: Option<Timestamp>,
    pub progress: Option<Progress>,
    /// The last few, oldest first.
    pub errors: Vec<TaskError>,
    pub cancel: Option<Box<str>>,
    /// When the timers of this lease fire; taken back when it ends.
    pub soft_limit_at: Option<Monotonic>,
    pub limit_at: Option<Monotonic>,
    pub grace_at: Option<Monotonic>,
}

impl Run {
    /// The task was never handed out, or nothing came of it.
    pub fn is_untouched(&self) -> bool {
        self.attempts == 0
            && self.deliveries == 0
            && self.losses == 0
            && self.errors.is_empty()
            && self.worker.is_empty()
    }
}

impl Task {
    pub fn new(task: &NewTask) -> Self {
        let turn = if task.state == State::Scheduled { task.due } else { 0 };
        Self {
            id: PackedId::of(&task.id),
            extra: None,
            version: 1,
            name: task.name,
            state: task.state,
            closed_by: ClosedBy::Nobody,
            priority: task.priority,
            serial: Narrow::new(task.serial),
            lease: Narrow::new(0),
            turn: narrow_time(turn),
            submitted_at: narrow_time(task.submitted_at),
            queue: Narrow::new(u64::from(task.queue)),
            payload: Narrow::new(match task.payload_bytes {
                bytes @ ..LARGE => bytes,
                bytes => LARGE + bytes.div_ceil(1024),
            }),
        }
    }

    /// Waiting for a time or a worker.
    pub fn is_waiting(&self) -> bool {
        matches!(self.state, State::Scheduled | State::Queued | State::Retry)
    }

    /// Handed to a worker.
    pub fn is_leased(&self) -> bool {
        matches!(self.state, State::Leased | State::Started)
    }

    pub fn serial(&self) -> u64 {
        self.serial.get()
    }

    /// The current lease, or the last one; 0 before the first.
    pub fn lease(&self) -> Lease {
        self.lease.get()
    }

    pub fn set_lease(&mut self, lease: Lease) {
        self.lease = Narrow::new(lease);
    }

    /// SCHEDULED: its eta, on the clock that its producer named it by. RETRY: when it is due, and
    /// ended: when it is forgotten, both on the steady clock. In other states it means nothing.
    pub fn due(&self) -> Timestamp {
        self.turn.get() as Timestamp
    }

    /// To be followed by the state that it is for.
    pub fn set_due(&mut self, due: Timestamp) {
        self.turn = narrow_time(due);
    }

    /// QUEUED, LEASED, STARTED: the place in line; smaller is served first within a priority. In
    /// other states it means nothing.
    pub fn order(&self) -> u64 {
        self.turn.get()
    }

    pub fn set_order(&mut self, order: u64) {
        self.turn = Narrow::new(order);
    }

    pub fn submitted_at(&self) -> Timestamp {
        self.submitted_at.get() as Timestamp
    }

    pub fn queue(&self) -> QueueKey {
        self.queue.get() as QueueKey
    }

    pub fn payload_bytes(&self) -> u64 {
        match self.payload.get() {
            bytes @ ..LARGE => bytes,
            large => (large - LARGE) * 1024,
        }
    }
}

/// Times before 1970 are as good as 1970, and those after the year 10,000 never come.
fn narrow_time(at: Timestamp) -> Narrow<6> {
    Narrow::new(at.max(0) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_takes_64_bytes_and_its_extra_40() {
        assert_eq!(size_of::<Option<Task>>(), 64);
        assert_eq!(size_of::<Option<Extra>>(), 40);
    }

    #[test]
    fn a_number_comes_out_as_it_went_in_and_a_large_one_as_the_largest() {
        for number in [0, 1, 0x1234_5678, (1 << 48) - 1] {
            assert_eq!(Narrow::<6>::new(number).get(), number);
        }
        assert_eq!(Narrow::<6>::new(1 << 48).get(), (1 << 48) - 1);
        assert_eq!(Narrow::<7>::new(u64::MAX).get(), (1 << 56) - 1);
    }
}
