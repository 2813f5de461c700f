//! Declared queues: they stay without tasks and workers, until somebody deletes them or their time
//! without use is over.

use celeriac_record::QueueRecord;

use crate::Machine;
use crate::command::{Answer, Code, Now, Refusal};
use crate::keys::QueueKey;
use crate::queue::Queue;
use crate::step::{Asker, Step};
use crate::timers::MonoTimer;

impl Machine {
    /// Creates a queue that stays without tasks and workers. The settings of a queue that somebody
    /// declared or configured before do not change.
    pub(crate) fn declare_queue(
        &mut self,
        step: &mut Step<'_>,
        asker: Asker,
        record: QueueRecord,
        passive: bool,
    ) {
        let known = self.queues.find(&record.name).filter(|key| self.queues.is_listed(*key));
        if passive && known.is_none() {
            let message = format!("there is no queue `{}`", record.name);
            return step.answer(asker, Answer::Refused(Refusal::new(Code::NotFound, message)));
        }
        if let Err(refusal) = self.queues.room_for([&record.name]) {
            return step.answer(asker, Answer::Refused(refusal));
        }
        let key = self.queues.find_or_create(&record.name);
        if !passive {
            let present = &self.queues.queue(key).record;
            let idle_ms = record.idle_ms;
            let record = match self.queues.queue(key).is_configured() {
                true => QueueRecord { declared: true, ..present.clone() },
                false => QueueRecord { declared: true, ..record },
            };
            self.set_record(step, key, record);
            if let Some(idle_ms) = idle_ms {
                self.arm_idle(step.now, key, idle_ms);
            }
        }
        let queue = self.queues.queue_mut(key);
        queue.used_at = step.now.mono;
        let (ready, workers) = (queue.ready, queue.servers.len() as u32);
        step.answer(asker, Answer::Declared { created: known.is_none(), ready, workers });
    }

    /// Sets the timer that looks whether a declared queue is still used. A queue has at most one.
    pub(crate) fn arm_idle(&mut self, now: Now, key: QueueKey, idle_ms: u64) {
        let queue = self.queues.queue_mut(key);
        if queue.idle_at.is_none() {
            let at = now.mono.saturating_add(idle_ms);
            queue.idle_at = Some(at);
            self.timers.set_mono(at, MonoTimer::QueueIdle(key));
        }
    }

    /// Deletes a declared queue that was not used for its time.
    pub(crate) fn idle_timer(&mut self, step: &mut Step<'_>, key: QueueKey) {
        let Some(queue) = self.queues.try_queue_mut(key) else { return };
        if queue.idle_at.take_if(|at| *at <= step.now.mono).is_none() {
            // The timer is that of an earlier queue with this number.
            return;
        }
        let Some(idle_ms) = queue.record.idle_ms else { return };
        if queue.unfinished() > 0 || !queue.servers.is_empty() {
            queue.used_at = step.now.mono;
        }
        if step.now.mono.saturating_sub(queue.used_at) < idle_ms {
            let left = idle_ms - (step.now.mono - queue.used_at);
            return self.arm_idle(step.now, key, left);
        }
        let name = queue.record.name.clone();
        self.set_record(step, key, Queue::unconfigured(name));
    }

    /// After a restart the time without use begins anew.
    pub(crate) fn arm_all_idle(&mut self, now: Now) {
        let (queues, _) = self.queues.all();
        let idle: Vec<(QueueKey, u64)> =
            queues.filter_map(|(key, queue)| Some((key, queue.record.idle_ms?))).collect();
        for (key, idle_ms) in idle {
            self.queues.queue_mut(key).used_at = now.mono;
            self.arm_idle(now, key, idle_ms);
        }
    }
}
