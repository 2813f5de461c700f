//! Requests that read: tasks by id and by filter, queues, workers, the broker itself. They change
//! no task, queue or session.

use celeriac_proto::{QueueName, TaskId, TaskName};
use celeriac_record::{Slot, State};

use crate::Machine;
use crate::command::{
    BrokerOutline, Outline, Outlines, QueueOutline, Scope, TaskOutline, WaitingFor, WorkerKey,
    WorkerOutline, WorkerStatus,
};
use crate::keys::{QueueKey, SessionKey};
use crate::session::Session;
use crate::step::{Asker, Step};
use crate::task::Task;

/// The most queues, and the most workers, of one page: some milliseconds of work.
const QUEUES_PER_PAGE: usize = 10_000;
/// The looks that a page of queues takes for the oldest waiting tasks.
const OLDEST_LOOKS: u32 = 100_000;
const WORKERS_PER_PAGE: usize = 1_000;

/// The most leases of a worker that a listing shows.
const RUNNING_SHOWN: usize = 100;

impl Machine {
    pub(crate) fn outlines(
        &self,
        step: &Step<'_>,
        ids: &[TaskId],
        with_result: bool,
    ) -> Vec<TaskOutline> {
        let scope = step.scope.as_deref();
        ids.iter().map(|id| self.outline_of_id(step, scope, id, with_result)).collect()
    }

    /// The task of an id, as a client with this scope sees it.
    pub(crate) fn outline_of_id(
        &self,
        step: &Step<'_>,
        scope: Option<&Scope>,
        id: &TaskId,
        with_result: bool,
    ) -> TaskOutline {
        let task = self.find_seen(scope, id).map(|slot| self.outline(step, slot));
        TaskOutline {
            id: id.clone(),
            task,
            with_result,
            with_payload: false,
            with_tracebacks: true,
        }
    }

    pub(crate) fn outline_of_slot(
        &self,
        step: &Step<'_>,
        slot: Slot,
        with_tracebacks: bool,
    ) -> TaskOutline {
        let id = self.tasks.id(self.tasks.task(slot));
        let task = Some(self.outline(step, slot));
        TaskOutline { id, task, with_result: false, with_payload: false, with_tracebacks }
    }

    fn outline(&self, step: &Step<'_>, slot: Slot) -> Outline {
        let task = self.tasks.task(slot);
        Outline {
            slot,
            state: task.state,
            generation: self.tasks.generation(task),
            version: task.version,
            waiting_for: self.waiting_for(task),
            forget_at: task.state.is_terminal().then(|| step.clocks.wall_at(task.due())),
        }
    }

    /// The reason why a task does not run now.
    fn waiting_for(&self, task: &Task) -> WaitingFor {
        match task.state {
            State::Scheduled | State::Retry => WaitingFor::Time,
            State::Queued => {
                let queue = self.queues.queue(task.queue());
                let takes = |session: &Session| session.connection.is_some() && !session.is_quiet();
                let mut servers = queue.servers.iter().map(|key| self.sessions.session(*key));
                if queue.record.paused {
                    WaitingFor::Queue
                } else if servers
                    .any(|session| takes(session) && session.consumer.can_run(task.name))
                {
                    WaitingFor::Turn
                } else {
                    WaitingFor::Worker
                }
            }
            _ => WaitingFor::Nothing,
        }
    }

    /// One page of the named queues that exist, or of all of them, in the order of their names.
    pub(crate) fn list_queues(
        &mut self,
        step: &mut Step<'_>,
        asker: Asker,
        mut names: Vec<QueueName>,
        after: Option<QueueName>,
    ) {
        names.sort_unstable();
        names.dedup();
        let scope = step.scope.clone();
        let is_later = |key: &QueueKey| {
            let name = &self.queues.queue(*key).record.name;
            after.as_ref().is_none_or(|after| name > after)
                && scope.as_ref().is_none_or(|scope| scope.queues.allow(name))
        };
        let mut keys: Vec<QueueKey> = if names.is_empty() {
            self.queues
                .listed_after(after.as_ref())
                .filter(is_later)
                .take(QUEUES_PER_PAGE + 1)
                .collect()
        } else {
            let found = names.iter().filter_map(|name| self.queues.find(name));
            let listed = found.filter(|key| self.queues.is_listed(*key));
            listed.filter(is_later).take(QUEUES_PER_PAGE + 1).collect()
        };
        let is_cut = keys.len() > QUEUES_PER_PAGE;
        keys.truncate(QUEUES_PER_PAGE);
        let mut looks = OLDEST_LOOKS;
        let queues: Vec<QueueOutline> =
            keys.into_iter().map(|key| self.queue_outline(step, key, &mut looks)).collect();
        let next = queues.last().filter(|_| is_cut).map(|queue| queue.record.name.clone());
        let wall = step.now.wall;
        step.show(asker, Outlines::Queues { queues, next, wall });
    }

    fn queue_outline(&mut self, step: &Step<'_>, key: QueueKey, looks: &mut u32) -> QueueOutline {
        let order_of = |slot| self.tasks.queued_order(slot);
        let oldest = self.queues.queue_mut(key).oldest(order_of, looks);
        let queue = self.queues.queue(key);
        QueueOutline {
            record: queue.record.clone(),
            ready: queue.ready,
            scheduled: queue.scheduled,
            leased: queue.leased + queue.started,
            dead: queue.dead,
            oldest,
            workers: queue.workers,
            submitted_total: queue.counters.submitted,
            ended_total: queue.counters.ended(),
            submitted_per_second: queue.submitted_rate.per_second(step.second()),
            ended_per_second: queue.ended_rate.per_second(step.second()),
            bytes: queue.bytes,
        }
    }

    /// One page of the workers, in the order of their sessions.
    pub(crate) fn list_workers(
        &self,
        step: &mut Step<'_>,
        asker: Asker,
        after: Option<WorkerKey>,
        with_tracebacks: bool,
    ) {
        let from = after.map_or(0, |key| key.saturating_add(1));
        let sessions =
            self.sessions.all.range(from..).filter(|(_, session)| session.is_of_worker());
        let scope = step.scope.clone();
        let sessions = sessions.filter(|(_, session)| {
            scope.as_ref().is_none_or(|scope| session.consumer.serves_any(&scope.queues))
        });
        let workers = sessions
            .map(|(key, session)| self.worker_outline(step, *key, session, with_tracebacks));
        let mut workers: Vec<WorkerOutline> = workers.take(WORKERS_PER_PAGE + 1).collect();
        let is_cut = workers.len() > WORKERS_PER_PAGE;
        workers.truncate(WORKERS_PER_PAGE);
        let next = workers.last().filter(|_| is_cut).map(|worker| worker.status.key);
        step.show(asker, Outlines::Workers { workers, next });
    }

    /// The figures of the broker itself. The work is that of a listing of all queues and workers.
    pub(crate) fn info(&self, step: &mut Step<'_>, asker: Asker) {
        let uptime_ms = step.now.mono.saturating_sub(self.began);
        let mut outline = BrokerOutline {
            uptime_ms,
            started_at: step.now.wall.saturating_sub_unsigned(uptime_ms),
            connections: self.sessions.connections().count() as u32,
            workers: 0,
            workers_lost: 0,
            queues: 0,
            mailboxes: self.mailboxes.len() as u32,
            ready: 0,
            scheduled: 0,
            leased: 0,
            dead: 0,
            ended: 0,
            draining: self.drain,
        };
        for session in self.sessions.all.values().filter(|session| session.is_of_worker()) {
            match session.connection {
                Some(_) => outline.workers += 1,
                None => outline.workers_lost += 1,
            }
        }
        for queue in self.queues.listed().map(|key| self.queues.queue(key)) {
            outline.queues += 1;
            outline.ready += queue.ready;
            outline.scheduled += queue.scheduled;
            outline.leased += queue.leased + queue.started;
            outline.dead += queue.dead;
        }
        let others = outline.ready + outline.scheduled + outline.leased + outline.dead;
        outline.ended = self.tasks() as u64 - others;
        step.show(asker, Outlines::Broker(Box::new(outline)));
    }

    fn worker_outline(
        &self,
        step: &Step<'_>,
        key: SessionKey,
        session: &Session,
        with_tracebacks: bool,
    ) -> WorkerOutline {
        let consumer = &session.consumer;
        // The records do not have the worker's own description, so it is missing after a restart
        // until the worker connects.
        let info = consumer.worker.as_ref().map(|worker| worker.info.clone()).unwrap_or_default();
        let scope = step.scope.as_deref();
        let seen = |slot: &&Slot| self.sees_task(scope, self.tasks.task(**slot));
        let allows = |name: &QueueName| scope.is_none_or(|scope| scope.queues.allow(name));
        let allows_name = |name: &TaskName| scope.is_none_or(|scope| scope.names.allow(name));
        let leases = match scope {
            None => consumer.leases.len(),
            Some(_) => consumer.leases.iter().filter(seen).count(),
        };
        let shown = consumer.leases.iter().filter(seen).take(RUNNING_SHOWN);
        let status = WorkerStatus {
            key,
            instance: session.instance.clone(),
            hostname: info.hostname,
            pid: info.pid,
            queues: info.queues.into_iter().map(|(name, _)| name).filter(allows).collect(),
            task_names: info.task_names.into_iter().filter(allows_name).collect(),
            concurrency: consumer.concurrency,
            credit: consumer.credit,
            memory_bytes: session.memory_bytes,
            connected_at: session.connected_at,
            seen_at: session.seen_at.min(step.now.wall),
            quiet: session.is_quiet(),
            lost: session.connection.is_none(),
        };
        WorkerOutline {
            status,
            running: shown.map(|slot| self.outline_of_slot(step, *slot, with_tracebacks)).collect(),
            running_left_out: leases.saturating_sub(RUNNING_SHOWN) as u32,
        }
    }
}
