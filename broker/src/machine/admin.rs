//! What operators do to queues: configure, pause, purge, delete.

use celeriac_proto::QueueName;

use super::command::{Code, Effect, Now, Refusal};
use super::queue::Queue;
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
            }
        }
    }

    /// Revokes every waiting task of a queue.
    pub(super) fn purge_queue(&mut self, now: Now, name: &QueueName, fx: &mut Effects) -> Result<u64, Refusal> {
        let key = self.queues.find(name).ok_or_else(|| no_queue(name))?;
        let waiting: Vec<Slot> = (0..self.tasks.slots())
            .filter(|slot| self.tasks.try_task(*slot).is_some_and(|task| task.queue == key && task.is_waiting()))
            .collect();
        for slot in &waiting {
            self.revoke(now, *slot, "purged", fx);
        }
        self.queues.queue_mut(key).prune_lanes();
        Ok(waiting.len() as u64)
    }

    /// Purges a queue, drops its settings and takes it off the list. Refused while tasks are leased.
    pub(super) fn delete_queue(&mut self, now: Now, name: &QueueName, fx: &mut Effects) -> Result<u64, Refusal> {
        let key = self.queues.find(name).ok_or_else(|| no_queue(name))?;
        if self.queues.queue(key).leased > 0 {
            return Err(Refusal::new(Code::NotFinished, format!("tasks of the queue `{name}` are running")));
        }
        let count = self.purge_queue(now, name, fx)?;
        let queue = self.queues.queue_mut(key);
        queue.record = Queue::unconfigured(name.clone());
        queue.deleted = true;
        self.queues.note_ready(key);
        fx.push(Effect::Store(Record::QueueDeleted(name.clone())));
        Ok(count)
    }
}

fn no_queue(name: &QueueName) -> Refusal {
    Refusal::new(Code::NotFound, format!("there is no queue `{name}`"))
}
