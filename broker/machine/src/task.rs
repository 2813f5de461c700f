//! The machine's data of each task.
//!
//! There may be ten million tasks. So an entry fills one line of the processor's cache and holds
//! the data for decisions; the records in the store hold the rest. Data that only some tasks have,
//! or only tasks that run, is in an [`Extra`]. The table of all tasks is in `table.rs`.

mod by_id;
mod id;
mod pages;
mod table;
mod texts;

use std::sync::Arc;

use celeriac_proto::TaskId;
use celeriac_record::{
    Cancel, ClosedBy, Lease, MAX_DELIVERIES_DEFAULT, Progress, RetryPolicy, State, Submitted,
    TaskError, Timestamp,
};

use self::id::PackedId;
pub(crate) use self::table::Tasks;
use self::texts::Texts;
use crate::clocks::Moment;
use crate::command::Monotonic;
use crate::keys::{NameKey, QueueKey, SessionKey};

/// One task of the table. The table also has the [`Extra`] of the task.
#[derive(Debug)]
pub(crate) struct Task {
    pub id: PackedId,
    /// The key of the task's [`Extra`], if the task has one.
    pub extra: Option<ExtraKey>,
    pub version: u32,
    pub name: NameKey,
    pub state: State,
    /// How the last lease ended. This value distinguishes a report that is sent again from a stale
    /// report.
    pub closed_by: ClosedBy,
    /// Its lowest bits are the priority, and its highest says which clock `due` is of.
    priority: u8,
    serial: Narrow<7>,
    lease: Narrow<7>,
    /// A time or a place in line, depending on the state: see `due` and `order`.
    turn: Narrow<6>,
    submitted_at: Narrow<6>,
    queue: Narrow<3>,
    /// In bytes below `LARGE`, in KiB from `LARGE` on.
    payload: Narrow<3>,
}

/// In the byte of the priority: `due` is a time of the steady clock.
const STEADY: u8 = 1 << 7;

/// Payloads of at least this many bytes are counted in KiB, rounded up: so three bytes of the entry
/// are enough.
const LARGE: u64 = 1 << 23;

/// The key of an [`Extra`] in the table: its number there plus one.
pub(crate) type ExtraKey = std::num::NonZeroU32;

/// A number in `BYTES` bytes. A number that is too large becomes the largest possible number.
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

/// A task before it is put into the table.
#[derive(Debug)]
pub(crate) struct NewTask {
    pub id: TaskId,
    pub serial: u64,
    /// Only for a SCHEDULED task.
    pub due: Moment,
    pub submitted_at: Timestamp,
    pub generation: u32,
    pub name: NameKey,
    pub queue: QueueKey,
    pub payload_bytes: u64,
    pub priority: u8,
    pub state: State,
    /// Whether a client waits for this id or watches it.
    pub watched: bool,
    /// The hash of the key of the submit; 0 without a key.
    pub submit_key: u64,
    /// The rules that the producer set, if they differ from the defaults.
    pub plan: Option<Box<Plan>>,
}

/// The data that only some tasks have.
#[derive(Debug)]
pub(crate) struct Extra {
    /// The rules that the producer set, if they differ from the defaults. Most ended tasks have no
    /// plan.
    pub plan: Option<Box<Plan>>,
    /// The run of the task: there is one from the first delivery until the end.
    pub run: Option<Box<Run>>,
    /// The hash of the key of the submit; 0 without a key.
    pub submit_key: u64,
    pub generation: u32,
    /// Whether a client waits for this id or watches it.
    pub watched: bool,
}

impl Default for Extra {
    fn default() -> Self {
        Self { plan: None, run: None, submit_key: 0, generation: 1, watched: false }
    }
}

impl Extra {
    /// Whether the task needs no `Extra`.
    pub fn is_bare(&self) -> bool {
        self.plan.is_none()
            && self.run.is_none()
            && self.submit_key == 0
            && self.generation == 1
            && !self.watched
    }
}

/// The rules of a task.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plan {
    pub expires: Option<Moment>,
    pub result_ttl_ms: u64,
    pub retry: RetryPolicy,
    pub soft_time_limit_ms: Option<u64>,
    pub time_limit_ms: Option<u64>,
    pub max_deliveries: u32,
    pub early_ack: bool,
    pub forget_at_end: bool,
    pub announce_end: bool,
    pub root_id: Box<str>,
    pub tags: Vec<Box<str>>,
}

impl Plan {
    /// The rules of a task whose producer sets no rules.
    pub fn usual(result_ttl_ms: u64) -> Self {
        Self {
            expires: None,
            result_ttl_ms,
            retry: RetryPolicy::default(),
            soft_time_limit_ms: None,
            time_limit_ms: None,
            max_deliveries: MAX_DELIVERIES_DEFAULT,
            early_ack: false,
            forget_at_end: false,
            announce_end: false,
            root_id: "".into(),
            tags: Vec::new(),
        }
    }

    pub fn of(submitted: &Submitted) -> Self {
        let spec = &submitted.spec;
        Self {
            expires: submitted.expires.map(Moment::At),
            result_ttl_ms: submitted.result_ttl_ms,
            retry: spec.retry,
            soft_time_limit_ms: spec.soft_time_limit_ms,
            time_limit_ms: spec.time_limit_ms,
            max_deliveries: spec.max_deliveries,
            early_ack: spec.early_ack,
            forget_at_end: spec.forget_at_end,
            announce_end: spec.announce_end,
            root_id: spec.root_id.clone(),
            tags: spec.tags.clone(),
        }
    }
}

/// The history of a task that was delivered at least once.
#[derive(Debug, Default)]
pub(crate) struct Run {
    /// The session that holds the lease; none while the task waits.
    pub holder: Option<SessionKey>,
    /// The place of the lease in the holder's list of leases.
    pub place: usize,
    pub worker: Arc<str>,
    pub attempts: u32,
    /// Deliveries without an outcome, the present one included. A delivery that was lost before
    /// the task began does not count.
    pub deliveries: u32,
    /// The number of workers that were lost while they ran the task, or may have run it, since the
    /// last outcome.
    pub losses: u32,
    /// The losses without a report of a start. `attempts` does not count them.
    pub silent: u32,
    /// Whether the task is a suspect and its holder has no other task: see `suspects.rs`.
    pub alone: bool,
    pub leased_at: Option<Timestamp>,
    pub started_at: Option<Timestamp>,
    /// STARTED: the same on the steady clock.
    pub began: Timestamp,
    pub progress: Option<Progress>,
    /// The last few errors, oldest first.
    pub errors: Vec<TaskError>,
    /// The reason of a cancel of the running task. The task does not run again.
    pub cancel: Option<Box<str>>,
    /// What the worker hears of that cancel.
    pub cancel_as: Cancel,
    /// When that was first asked.
    pub cancel_at: Option<Timestamp>,
    /// Whether the worker reported that the task never runs again.
    pub settled: bool,
    /// Whether the lease does not count against the credit: the task is settled, or the worker took
    /// it by a request.
    pub outside_credit: bool,
    /// Whether the task was handed out before this lease.
    pub redelivered: bool,
    /// When the timers of this lease fire. The timers are cleared when the lease ends.
    pub soft_limit_at: Option<Monotonic>,
    pub limit_at: Option<Monotonic>,
    pub grace_at: Option<Monotonic>,
}

impl Run {
    /// Whether the task was never delivered, or its deliveries left no trace, and no client put
    /// anything.
    pub fn is_untouched(&self) -> bool {
        self.attempts == 0
            && self.deliveries == 0
            && self.losses == 0
            && self.errors.is_empty()
            && self.worker.is_empty()
            && self.cancel.is_none()
            && self.progress.is_none()
    }

    /// Notes what the worker hears of a cancel. A cancel that is repeated keeps its time.
    pub fn note_cancel(&mut self, cancel: Cancel, at: Timestamp) {
        if matches!(self.cancel_as, Cancel::None | Cancel::Silent) {
            self.cancel_at = Some(at);
        }
        self.cancel_as = cancel;
    }
}

impl Task {
    fn new(task: &NewTask, texts: &mut Texts) -> Self {
        let (due, clock) = match task.due {
            Moment::At(due) => (due, 0),
            Moment::Steady(due) => (due, STEADY),
        };
        let turn = if task.state == State::Scheduled { due } else { 0 };
        Self {
            id: PackedId::keep(&task.id, texts),
            extra: None,
            version: 1,
            name: task.name,
            state: task.state,
            closed_by: ClosedBy::Nobody,
            priority: task.priority | clock,
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

    /// Whether the task waits for a time or a worker.
    pub fn is_waiting(&self) -> bool {
        matches!(self.state, State::Scheduled | State::Queued | State::Retry)
    }

    /// Whether a worker holds the task.
    pub fn is_leased(&self) -> bool {
        matches!(self.state, State::Leased | State::Started)
    }

    pub fn serial(&self) -> u64 {
        self.serial.get()
    }

    /// The current lease, or the last one; 0 before the first lease.
    pub fn lease(&self) -> Lease {
        self.lease.get()
    }

    pub fn set_lease(&mut self, lease: Lease) {
        self.lease = Narrow::new(lease);
    }

    pub fn priority(&self) -> u8 {
        self.priority & !STEADY
    }

    /// SCHEDULED: whether `due` is a time of the steady clock.
    pub fn is_due_steadily(&self) -> bool {
        self.priority & STEADY != 0
    }

    /// SCHEDULED: the eta, on the wall clock for a time of day and on the steady clock for a span.
    /// RETRY: the time of the next attempt, on the steady clock. Ended: the time when the task is
    /// forgotten, on the steady clock. In other states the value has no meaning.
    pub fn due(&self) -> Timestamp {
        self.turn.get() as Timestamp
    }

    /// The caller then sets the state that the time is for.
    pub fn set_due(&mut self, due: Timestamp) {
        self.turn = narrow_time(due);
    }

    /// QUEUED, LEASED, STARTED: the place in line. Within a priority the task with the smaller
    /// place is served first. In other states the value has no meaning.
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

/// A time before 1970 becomes 1970. A time after the year 10,000 never comes.
fn narrow_time(at: Timestamp) -> Narrow<6> {
    Narrow::new(at.max(0) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_takes_64_bytes_and_its_extra_32() {
        assert_eq!(size_of::<Option<Task>>(), 64);
        assert_eq!(size_of::<Option<Extra>>(), 32);
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
