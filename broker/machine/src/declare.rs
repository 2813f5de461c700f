//! Declared queues: they stay without tasks and workers, until somebody deletes them or their time
//! without use is over.

use celeriac_proto::QueueName;
use celeriac_record::QueueRecord;

use crate::Machine;
use crate::command::{Answer, Code, Now, Refusal};
use crate::keys::QueueKey;
use crate::queue::Queue;
use crate::step::{Asker, Step};
use crate::timers::MonoTimer;

impl Machine {
    /// Creates a queue that stays without tasks and workers. A new queue takes the settings of the
    /// record. One that exists takes them if the client may configure it, and if nobody declared,
    /// configured or paused it before; otherwise its settings do not change.
    pub(crate) fn declare_queue(
        &mut self,
        step: &mut Step<'_>,
        asker: Asker,
        record: QueueRecord,
        may_configure: bool,
    ) {
        let known = self.queues.find(&record.name).filter(|key| self.queues.is_listed(*key));
        if let Err(refusal) = self.queues.room_for([&record.name]) {
            return step.answer(asker, Answer::Refused(refusal));
        }
        let key = self.queues.find_or_create(&record.name);
        let present = self.queues.queue(key);
        let takes_settings = !present.is_configured() && (known.is_none() || may_configure);
        let record = match takes_settings {
            true => QueueRecord { declared: true, ..record },
            false => QueueRecord { declared: true, ..present.record.clone() },
        };
        let idle_ms = record.idle_ms;
        self.set_record(step, key, record);
        if let Some(idle_ms) = idle_ms {
            self.arm_idle(step.now, key, idle_ms);
        }
        self.tell_declared(step, asker, key, known.is_none());
    }

    /// Finds a queue, and creates none. To ask for it counts as use.
    pub(crate) fn find_queue(&mut self, step: &mut Step<'_>, asker: Asker, name: &QueueName) {
        let known = self.queues.find(name).filter(|key| self.queues.is_listed(*key));
        match known {
            Some(key) => self.tell_declared(step, asker, key, false),
            None => {
                let message = format!("there is no queue `{name}`");
                step.answer(asker, Answer::Refused(Refusal::new(Code::NotFound, message)));
            }
        }
    }

    fn tell_declared(&mut self, step: &mut Step<'_>, asker: Asker, key: QueueKey, created: bool) {
        let queue = self.queues.queue_mut(key);
        queue.used_at = step.now.mono;
        let (ready, workers) = (queue.ready, queue.servers.len() as u32);
        step.answer(asker, Answer::Declared { created, ready, workers });
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
