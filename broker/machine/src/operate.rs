//! Requests of operators about queues: configure, pause, purge, delete; and the drain of the
//! broker. Before the answer the broker takes tasks that must not begin any more back from their
//! workers.

use std::collections::BTreeSet;
use std::ops::Bound;

use celeriac_proto::QueueName;
use celeriac_record::{Lease, Name, Named, QueueRecord, Record, Slot, State};

use crate::Machine;
use crate::command::{Answer, Code, Refusal, SignalKind};
use crate::exchange::Destination;
use crate::keys::{QueueKey, SessionKey};
use crate::queue::Queue;
use crate::signals::Signals;
use crate::slice::{CHANGE, Look, NAME, RULES};
use crate::step::{Asker, Step};
use crate::task::Task;
use crate::transitions::Cause;

/// A purge or a delete, under way.
#[derive(Debug)]
pub(crate) struct Purge {
    pub name: QueueName,
    /// The number of the queue, valid during one slice.
    pub queue: Option<QueueKey>,
    delete: bool,
    count: u64,
    taken: Signals,
}

/// A pause or a resume of queues, or a drain of the broker, under way.
#[derive(Debug)]
pub(crate) struct Pausing {
    names: std::vec::IntoIter<QueueName>,
    paused: bool,
    /// Why workers lose what they have not begun.
    reason: &'static str,
    /// The last session whose leases were checked.
    session: Option<SessionKey>,
    /// Leases to take back, ordered by the places of their tasks.
    unstarted: BTreeSet<(u64, Slot, Lease)>,
    taken: Signals,
}

impl Purge {
    pub fn tell(&mut self, step: &mut Step<'_>) {
        self.taken.send(step, SignalKind::TakenBack, "purged");
    }
}

impl Pausing {
    fn new(names: Vec<QueueName>, paused: bool) -> Self {
        let (session, unstarted, taken) = Default::default();
        let reason = "the queue is paused";
        Self { names: names.into_iter(), paused, reason, session, unstarted, taken }
    }

    /// A drain holds all queues back, and names none.
    fn of_a_drain() -> Self {
        Self { reason: "the broker is drained", ..Self::new(Vec::new(), true) }
    }

    pub fn tell(&mut self, step: &mut Step<'_>) {
        self.taken.send(step, SignalKind::TakenBack, self.reason);
    }
}

impl Machine {
    /// Creates the queue if necessary and replaces its settings. A pause of the queue stays.
    pub(crate) fn configure_queue(
        &mut self,
        step: &mut Step<'_>,
        asker: Asker,
        record: QueueRecord,
    ) {
        if let Err(refusal) = self.queues.room_for([&record.name]) {
            return step.answer(asker, Answer::Refused(refusal));
        }
        let key = self.queues.find_or_create(&record.name);
        let QueueRecord { paused, declared, idle_ms, .. } = self.queues.queue(key).record;
        self.set_record(step, key, QueueRecord { paused, declared, idle_ms, ..record });
        step.answer(asker, Answer::Done);
    }

    /// Changes the record of a queue. A queue without settings and pause needs no record.
    pub(crate) fn set_record(&mut self, step: &mut Step<'_>, key: QueueKey, record: QueueRecord) {
        let queue = self.queues.queue_mut(key);
        if queue.record == record {
            return;
        }
        queue.record = record;
        let record = match queue.is_configured() {
            true => Record::Named(Named::Queue(queue.record.clone())),
            false => Record::Removed(Name::Queue(queue.record.name.clone())),
        };
        step.store(record);
        self.queues.note_ready(key);
        self.queues.note_use(key);
        if self.queues.queue(key).record.paused {
            self.stop_draining_for(key);
        }
    }

    /// Begins to pause or to resume queues. A pause creates a missing queue, so that an operator
    /// can pause a queue before its first task comes.
    pub(crate) fn begin_pause(
        &mut self,
        step: &mut Step<'_>,
        asker: Asker,
        queues: Vec<QueueName>,
        paused: bool,
    ) {
        if let Err(refusal) = if paused { self.queues.room_for(&queues) } else { Ok(()) } {
            return step.answer(asker, Answer::Refused(refusal));
        }
        self.begin_scan(step, asker, Pausing::new(queues, paused));
    }

    /// Whether an operator drains the broker.
    pub fn is_drained(&self) -> bool {
        self.drain
    }

    /// Begins or ends a drain: no task is delivered, and what has not begun is taken back. Nothing
    /// of it is in the records, so a restart ends it.
    pub(crate) fn begin_drain(&mut self, step: &mut Step<'_>, asker: Asker, drain: bool) {
        self.drain = drain;
        match drain {
            true => self.begin_scan(step, asker, Pausing::of_a_drain()),
            false => step.answer(asker, Answer::Done),
        }
    }

    /// Whether no task of this queue is delivered at present.
    pub(crate) fn holds_back(&self, queue: QueueKey) -> bool {
        self.drain || self.queues.queue(queue).record.paused
    }

    /// Pauses or resumes the queues, and takes tasks of paused queues that have not begun back from
    /// their workers. Returns false if work is left.
    pub(crate) fn continue_pause(&mut self, step: &mut Step<'_>, pausing: &mut Pausing) -> bool {
        for name in pausing.names.by_ref() {
            self.set_paused(step, &name, pausing.paused);
            if !self.scans.spend(NAME) {
                return false;
            }
        }
        !pausing.paused || (self.find_unstarted(pausing) && self.take_back_found(step, pausing))
    }

    fn set_paused(&mut self, step: &mut Step<'_>, name: &QueueName, paused: bool) {
        // A queue that does not exist is not paused, so a resume need not create it.
        let key =
            if paused { Some(self.queues.find_or_create(name)) } else { self.queues.find(name) };
        if let Some(key) = key {
            let record = QueueRecord { paused, ..self.queues.queue(key).record.clone() };
            self.set_record(step, key, record);
        }
    }

    /// Looks for leases session by session, because there are far fewer leases than tasks. A paused
    /// queue gets no new leases.
    fn find_unstarted(&mut self, pausing: &mut Pausing) -> bool {
        let next = |from: Option<SessionKey>| {
            (from.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded)
        };
        while let Some((key, session)) = self.sessions.all.range(next(pausing.session)).next() {
            pausing.session = Some(*key);
            let keeps = session.consumer.keeps_leases;
            let leases = session.consumer.leases.iter().filter(|_| !keeps);
            let unstarted = leases.filter_map(|slot| {
                let task = self.tasks.task(*slot);
                let is_meant = task.state == State::Leased && self.holds_back(task.queue());
                is_meant.then(|| (task.order(), *slot, task.lease()))
            });
            pausing.unstarted.extend(unstarted);
            if !self.scans.spend(1 + RULES * session.consumer.leases.len() as u32) {
                return false;
            }
        }
        true
    }

    /// Each task goes to the front of its queue. The newest task goes first, so the oldest task is
    /// in front at the end.
    fn take_back_found(&mut self, step: &mut Step<'_>, pausing: &mut Pausing) -> bool {
        while let Some((_, slot, lease)) = pausing.unstarted.pop_last() {
            // Meanwhile the task may have begun or ended, and the pause or the drain may be over.
            let holds = |task: &&Task| task.state == State::Leased && task.lease() == lease;
            let task = self.tasks.try_task(slot).filter(holds);
            if task.is_some_and(|task| self.holds_back(task.queue())) {
                self.note_signal(slot, &mut pausing.taken);
                self.take_back(step, slot);
            }
            if !self.scans.spend(CHANGE) {
                return pausing.unstarted.is_empty();
            }
        }
        true
    }

    /// A broker that ended in the middle of a pause finishes the pause after its restart.
    pub(crate) fn take_back_paused(&mut self, step: &mut Step<'_>) {
        self.scans.lift();
        self.continue_pause(step, &mut Pausing::new(Vec::new(), true));
    }

    /// Begins to revoke every task of a queue that has not begun. With `delete` the settings of the
    /// queue go too; a delete is refused while tasks of the queue run.
    pub(crate) fn begin_purge(
        &mut self,
        step: &mut Step<'_>,
        asker: Asker,
        name: QueueName,
        delete: bool,
    ) {
        let refusal = match self.queues.find(&name) {
            None => Refusal::new(Code::NotFound, format!("there is no queue `{name}`")),
            Some(queue) if delete && self.queues.queue(queue).started > 0 => running(&name),
            Some(_) => {
                let purge =
                    Purge { name, queue: None, delete, count: 0, taken: Signals::default() };
                return self.begin_scan(step, asker, purge);
            }
        };
        step.answer(asker, Answer::Refused(refusal));
    }

    pub(crate) fn purge_slot(
        &mut self,
        step: &mut Step<'_>,
        slot: Slot,
        before: u64,
        purge: &mut Purge,
    ) -> Look {
        let Some(queue) = purge.queue else { return Look::Enough };
        let Some(task) = self
            .tasks
            .try_task(slot)
            .filter(|task| task.queue() == queue && task.serial() <= before)
        else {
            return Look::Cost(1);
        };
        if !task.is_waiting() && task.state != State::Leased {
            return Look::Cost(1);
        }
        purge.count += 1;
        if let Some(present) = self.successors.present_of(slot) {
            self.drop_successor(step, present);
            return Look::Cost(CHANGE);
        }
        self.note_signal(slot, &mut purge.taken);
        self.revoke(step, slot, Cause::Purged, "purged");
        Look::Cost(CHANGE)
    }

    /// Ends a purge or a delete. Returns the number of revoked tasks.
    pub(crate) fn finish_purge(
        &mut self,
        step: &mut Step<'_>,
        purge: &Purge,
    ) -> Result<u64, Refusal> {
        let Some(key) = purge.queue else { return Ok(purge.count) };
        let queue = self.queues.queue_mut(key);
        queue.drop_empty_lanes();
        if purge.delete && queue.started > 0 {
            return Err(running(&purge.name));
        }
        if purge.delete {
            self.set_record(step, key, Queue::unconfigured(purge.name.clone()));
            self.queues.reset(key);
            self.drop_bindings_to(step, &Destination::Queue(purge.name.clone()));
        }
        Ok(purge.count)
    }
}

fn running(name: &QueueName) -> Refusal {
    Refusal::new(Code::NotFinished, format!("tasks of the queue `{name}` are running"))
}
