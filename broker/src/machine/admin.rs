//! What operators do to queues: configure, pause, purge, delete.

use celeriac_proto::QueueName;

use super::command::{Code, ConnectionKey, Effect, Message, Now, Refusal, RequestId};
use super::queue::{Queue, QueueKey};
use super::task::Task;
use super::{Effects, Machine};
use crate::record::{QueueRecord, Record, Slot};

impl Machine {
    /// Creates the queue if need be and replaces its settings; whether it is paused stays.
    pub(super) fn configure_queue(&mut self, record: QueueRecord, fx: &mut Effects) {
        let key = self.queues.find_or_create(&record.name);
        let queue = self.queues.queue_mut(key);
        let record = QueueRecord { paused: queue.record.paused, ..record };
        queue.record = record.clone();
        fx.push(Effect::Store(Record::Queue(record)));
    }

    /// Pauses or resumes queues, made if need be: a queue may be paused before its first task comes.
    pub(super) fn pause_queues(&mut self, names: &[QueueName], paused: bool, fx: &mut Effects) {
        for name in names {
            let key = self.queues.find_or_create(name);
            let queue = self.queues.queue_mut(key);
            if queue.record.paused != paused {
                queue.record.paused = paused;
                fx.push(Effect::Store(Record::Queue(queue.record.clone())));
                self.queues.note_ready(key);
                self.stop_draining_for(key);
            }
        }
    }

    /// Begins to revoke every waiting task of a queue; the answer comes when all are. With `delete`, its
    /// settings go too and it is off the list; refused while tasks are leased.
    pub(super) fn start_purge(
        &mut self,
        connection: ConnectionKey,
        request: RequestId,
        name: &QueueName,
        delete: bool,
        fx: &mut Effects,
    ) {
        let refusal = match self.queues.find(name) {
            None => Refusal::new(Code::NotFound, format!("there is no queue `{name}`")),
            Some(queue) if delete && self.queues.queue(queue).leased > 0 => running(name),
            Some(queue) => {
                let before = self.latest_serial;
                self.purges.push_back(Purge { connection, request, queue, delete, before, next: 0, count: 0 });
                return;
            }
        };
        fx.send(connection, Message::Refused { request, refusal });
    }

    /// Looks at some more slots for the purge that came first.
    pub(super) fn continue_purge(&mut self, now: Now, fx: &mut Effects) {
        let Some(mut purge) = self.purges.pop_front() else { return };
        let end = self.tasks.slots().min(purge.next.saturating_add(SLOTS_PER_TURN));
        let mut revoked = 0;
        while purge.next < end && revoked < REVOKED_PER_TURN {
            let slot = purge.next;
            purge.next += 1;
            let waits = |task: &Task| task.queue() == purge.queue && task.is_waiting() && task.serial() <= purge.before;
            if self.tasks.try_task(slot).is_some_and(waits) {
                match self.successors.present_of(slot) {
                    Some(present) => self.drop_successor(present, fx),
                    None => self.revoke(now, slot, "purged", fx),
                }
                revoked += 1;
            }
        }
        purge.count += revoked;
        if purge.next < self.tasks.slots() {
            self.purges.push_front(purge);
        } else {
            self.finish_purge(&purge, fx);
        }
    }

    fn finish_purge(&mut self, purge: &Purge, fx: &mut Effects) {
        let Purge { connection, request, count, .. } = *purge;
        let queue = self.queues.queue_mut(purge.queue);
        queue.prune_lanes();
        let name = queue.record.name.clone();
        if purge.delete && queue.leased > 0 {
            return fx.send(connection, Message::Refused { request, refusal: running(&name) });
        }
        if purge.delete {
            queue.record = Queue::unconfigured(name.clone());
            queue.deleted = true;
            self.queues.note_ready(purge.queue);
            fx.push(Effect::Store(Record::QueueDeleted(name)));
        }
        fx.send(connection, Message::Count { request, count });
    }
}

/// A purge under way.
#[derive(Debug)]
pub(super) struct Purge {
    connection: ConnectionKey,
    request: RequestId,
    queue: QueueKey,
    delete: bool,
    /// What was submitted later stays.
    before: u64,
    next: Slot,
    count: u64,
}

/// Slots looked at, and tasks revoked, before others have their turn: some milliseconds.
const SLOTS_PER_TURN: Slot = 200_000;
const REVOKED_PER_TURN: u64 = 10_000;

fn running(name: &QueueName) -> Refusal {
    Refusal::new(Code::NotFinished, format!("tasks of the queue `{name}` are running"))
}
