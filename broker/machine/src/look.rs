//! Reading: tasks by id and by filter, queues, workers. Nothing here changes anything.

use celeriac_proto::{QueueName, TaskId};
use celeriac_record::{Slot, State, TaskKey};

use super::command::{
    ConnectionKey, Cursor, Filter, Now, Outline, QueueInfo, RequestId, View, WaitingFor, WorkerKey,
    WorkerStatus,
};
use super::queue::QueueKey;
use super::scan::{Look, RULES, Work};
use super::sessions::Session;
use super::task::Task;
use super::{Effects, Machine};

/// A page of a listing under way.
#[derive(Debug)]
pub(super) struct Listing {
    pub filter: Filter,
    /// The queue of the filter, during a slice.
    pub queue: Option<Option<QueueKey>>,
    limit: usize,
    with_tracebacks: bool,
    /// The first slot to look at.
    pub from: Slot,
    found: Vec<TaskKey>,
}

/// Which page is asked for.
#[derive(Debug)]
pub(super) struct PageAsked {
    pub filter: Filter,
    pub limit: usize,
    pub after: Option<Cursor>,
    pub with_tracebacks: bool,
}

/// Queues of one page, and workers of one page: some milliseconds.
const QUEUES_PER_PAGE: usize = 10_000;
const WORKERS_PER_PAGE: usize = 1_000;

/// Leases of a worker that a listing shows.
const RUNNING_SHOWN: usize = 100;

impl Machine {
    pub(super) fn views(&self, ids: &[TaskId], with_result: bool) -> Vec<View> {
        ids.iter().map(|id| self.view(id, with_result)).collect()
    }

    pub(super) fn view(&self, id: &TaskId, with_result: bool) -> View {
        let task = self.tasks.find(id).map(|slot| self.outline(slot));
        View { id: id.clone(), task, with_result, with_tracebacks: true }
    }

    fn view_of(&self, slot: Slot, with_tracebacks: bool) -> View {
        let id = self.tasks.id(self.tasks.task(slot));
        View { id, task: Some(self.outline(slot)), with_result: false, with_tracebacks }
    }

    fn outline(&self, slot: Slot) -> Outline {
        let task = self.tasks.task(slot);
        Outline {
            slot,
            state: task.state,
            generation: self.tasks.generation(task),
            version: task.version,
            waiting_for: self.waiting_for(task),
            forget_at: task.state.is_terminal().then(|| self.clocks.wall_at(task.due())),
            records: None,
        }
    }

    /// Why a task does not run now.
    fn waiting_for(&self, task: &Task) -> WaitingFor {
        match task.state {
            State::Scheduled | State::Retry => WaitingFor::Time,
            State::Queued => {
                let queue = self.queues.queue(task.queue());
                let takes = |session: &Session| session.connection.is_some() && !session.is_quiet();
                let mut servers = queue.servers.iter().map(|key| self.sessions.session(*key));
                if queue.record.paused {
                    WaitingFor::Queue
                } else if servers.any(|session| takes(session) && session.can_run(task.name)) {
                    WaitingFor::Turn
                } else {
                    WaitingFor::Worker
                }
            }
            _ => WaitingFor::Nothing,
        }
    }

    /// One page of the tasks that match, in the order of their slots.
    pub(super) fn list_tasks(
        &mut self,
        now: Now,
        connection: ConnectionKey,
        request: RequestId,
        asked: PageAsked,
        fx: &mut Effects,
    ) {
        let PageAsked { filter, limit, after, with_tracebacks } = asked;
        let from = after.map_or(0, |cursor| cursor.saturating_add(1));
        let listing =
            Listing { filter, queue: None, limit, from, with_tracebacks, found: Vec::new() };
        self.begin_scan(now, connection, request, Work::List(listing), fx);
    }

    pub(super) fn list_slot(&self, slot: Slot, listing: &mut Listing) -> Look {
        if listing.found.len() == listing.limit {
            return Look::Enough;
        }
        let Some(task) = self.tasks.try_task(slot) else { return Look::Cost(1) };
        if self.matches(task, &listing.filter, listing.queue) {
            listing.found.push(self.tasks.key(slot));
            return Look::Cost(RULES);
        }
        Look::Cost(self.cost_of(task, &listing.filter))
    }

    /// What was found, as it is now: in the meantime some may have gone, or match no more.
    pub(super) fn page(&self, listing: &Listing) -> Vec<View> {
        let matches = |key: &&TaskKey| {
            let task = self.tasks.try_task(key.slot).filter(|task| task.serial() == key.serial);
            task.is_some_and(|task| self.matches(task, &listing.filter, listing.queue))
        };
        listing
            .found
            .iter()
            .filter(matches)
            .map(|key| self.view_of(key.slot, listing.with_tracebacks))
            .collect()
    }

    /// What it counts for to find that a task does not match.
    pub(super) fn cost_of(&self, task: &Task, filter: &Filter) -> u32 {
        if filter.tag.is_none() && filter.root.is_none() && filter.id_prefix.is_empty() {
            return 1;
        }
        RULES + self.tasks.plan(task).map_or(0, |plan| plan.tags.len() as u32)
    }

    /// `queue` is the filter's, looked up; `Some(None)` is one that does not exist.
    pub(super) fn matches(
        &self,
        task: &Task,
        filter: &Filter,
        queue: Option<Option<QueueKey>>,
    ) -> bool {
        let plan = self.tasks.plan(task);
        queue.is_none_or(|queue| queue == Some(task.queue()))
            && (filter.states.is_empty() || filter.states.contains(&task.state))
            && filter.name.as_ref().is_none_or(|name| self.names.name(task.name) == name)
            && filter
                .tag
                .as_ref()
                .is_none_or(|tag| plan.is_some_and(|plan| plan.tags.contains(tag)))
            && filter
                .root
                .as_ref()
                .is_none_or(|root| plan.is_some_and(|plan| plan.root_id == *root))
            && filter.submitted_before.is_none_or(|at| task.submitted_at() < at)
            && filter.submitted_after.is_none_or(|at| task.submitted_at() > at)
            && (filter.id_prefix.is_empty()
                || self.tasks.with_id(task, |id| id.starts_with(&*filter.id_prefix)))
    }

    /// One page of the named queues that exist, or of all of them, in the order of their names.
    pub(super) fn list_queues(
        &self,
        mut names: Vec<QueueName>,
        after: Option<QueueName>,
    ) -> (Vec<QueueInfo>, Option<QueueName>) {
        names.sort_unstable();
        names.dedup();
        let is_later = |key: &QueueKey| {
            after.as_ref().is_none_or(|after| self.queues.queue(*key).record.name > *after)
        };
        let mut keys: Vec<QueueKey> = if names.is_empty() {
            self.queues.listed().filter(is_later).take(QUEUES_PER_PAGE + 1).collect()
        } else {
            let found = names.iter().filter_map(|name| self.queues.find(name));
            let listed = found.filter(|key| self.queues.is_listed(*key));
            listed.filter(is_later).take(QUEUES_PER_PAGE + 1).collect()
        };
        let is_cut = keys.len() > QUEUES_PER_PAGE;
        keys.truncate(QUEUES_PER_PAGE);
        let queues: Vec<QueueInfo> = keys.into_iter().map(|key| self.queue_info(key)).collect();
        let next = queues.last().filter(|_| is_cut).map(|queue| queue.record.name.clone());
        (queues, next)
    }

    fn queue_info(&self, key: QueueKey) -> QueueInfo {
        let queue = self.queues.queue(key);
        let connected = |session: &Session| session.connection.is_some();
        let workers =
            queue.servers.iter().filter(|key| connected(self.sessions.session(**key))).count();
        QueueInfo {
            record: queue.record.clone(),
            ready: queue.ready,
            scheduled: queue.scheduled,
            leased: queue.leased + queue.started,
            dead: queue.dead,
            oldest: queue.oldest(&self.tasks),
            oldest_ms: 0,
            workers: workers as u32,
            submitted_total: queue.submitted_total,
            ended_total: queue.ended_total,
            submitted_per_second: queue.submitted_rate.per_second(self.queues.second),
            ended_per_second: queue.ended_rate.per_second(self.queues.second),
            bytes: queue.bytes,
        }
    }

    /// One page of the workers, in the order of their sessions.
    pub(super) fn list_workers(
        &self,
        now: Now,
        after: Option<WorkerKey>,
        with_tracebacks: bool,
    ) -> (Vec<WorkerStatus>, Option<WorkerKey>) {
        let from = after.map_or(0, |key| key.saturating_add(1));
        let sessions =
            self.sessions.all.range(from..).filter(|(_, session)| session.is_of_worker());
        let workers = sessions.map(|(key, session)| {
            // What a worker says of itself is not stored.
            let info =
                session.worker.as_ref().map(|worker| worker.info.clone()).unwrap_or_default();
            let shown = session.leases.iter().take(RUNNING_SHOWN);
            WorkerStatus {
                key: *key,
                instance: session.instance.clone(),
                hostname: info.hostname,
                pid: info.pid,
                queues: info.queues.into_iter().map(|(name, _)| name).collect(),
                task_names: info.task_names,
                concurrency: session.concurrency,
                credit: session.credit,
                running: shown.map(|slot| self.view_of(*slot, with_tracebacks)).collect(),
                running_left_out: session.leases.len().saturating_sub(RUNNING_SHOWN) as u32,
                memory_bytes: session.memory_bytes,
                connected_at: session.connected_at,
                seen_at: session.seen_at.min(now.wall),
                quiet: session.is_quiet(),
                lost: session.connection.is_none(),
            }
        });
        let mut workers: Vec<WorkerStatus> = workers.take(WORKERS_PER_PAGE + 1).collect();
        let is_cut = workers.len() > WORKERS_PER_PAGE;
        workers.truncate(WORKERS_PER_PAGE);
        let next = workers.last().filter(|_| is_cut).map(|worker| worker.key);
        (workers, next)
    }
}
