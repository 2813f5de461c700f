//! Those who wait for tasks and those who watch them. Both are by id, so that they may name a task
//! that does not exist yet and live on over its generations.

use std::collections::{BTreeMap, BTreeSet};

use celeriac_proto::TaskId;
use celeriac_proto::limits::{WAITED_IDS_MAX, WATCHED_IDS_MAX};
use celeriac_record::{Slot, State};

pub(super) use super::command::WatchKey;
use super::command::{ConnectionKey, Effect, Message, Monotonic, Now, RequestId};
use super::sessions::SessionKey;
use super::timers::MonoTimer;
use super::{Effects, Machine};

/// One unanswered wait.
pub(super) type WaitKey = u64;

#[derive(Debug, Default)]
pub(super) struct Watchers {
    by_id: BTreeMap<TaskId, BTreeSet<Watcher>>,
    waits: BTreeMap<WaitKey, Wait>,
    watches: BTreeMap<WatchKey, Watch>,
    latest: u64,
}

impl Watchers {
    /// For the checks: the ids that a session waits for, and those that it watches.
    pub fn ids_of(&self, session: SessionKey) -> (usize, usize) {
        let waits = self.waits.values().filter(|wait| wait.session == session);
        let watches = self.watches.values().filter(|watch| watch.session == session);
        (waits.map(|wait| wait.ids.len()).sum(), watches.map(|watch| watch.ids.len()).sum())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Watcher {
    Wait(WaitKey),
    Watch(WatchKey),
}

#[derive(Debug)]
struct Wait {
    session: SessionKey,
    connection: ConnectionKey,
    request: RequestId,
    ids: Vec<TaskId>,
    /// One of the ids is enough.
    any: bool,
    until: Option<State>,
    with_results: bool,
    deadline: Monotonic,
    /// Ids that have not come so far yet.
    open: BTreeSet<TaskId>,
}

#[derive(Debug)]
struct Watch {
    session: SessionKey,
    connection: ConnectionKey,
    ids: Vec<TaskId>,
    with_results: bool,
}

/// What a wait names.
#[derive(Debug)]
pub(super) struct WaitFor {
    pub ids: Vec<TaskId>,
    pub any: bool,
    pub until: Option<State>,
    pub with_results: bool,
    pub timeout_ms: u64,
}

/// Whether a task in `state` has come as far as `until`, or has ended.
fn has_come_to(state: State, until: Option<State>) -> bool {
    state.is_terminal() || until.is_some_and(|until| state >= until)
}

impl Machine {
    pub(super) fn wait(
        &mut self,
        now: Now,
        connection: ConnectionKey,
        session: SessionKey,
        request: RequestId,
        wait: WaitFor,
        fx: &mut Effects,
    ) {
        let WaitFor { mut ids, any, until, with_results, timeout_ms } = wait;
        let asked = ids.clone();
        ids.sort_unstable();
        ids.dedup();
        let (open, done): (BTreeSet<_>, BTreeSet<_>) = ids.into_iter().partition(|id| {
            self.tasks.find(id).is_some_and(|slot| !has_come_to(self.tasks.task(slot).state, until))
        });
        if open.is_empty() || (any && !done.is_empty()) {
            let tasks = self.views(&asked, with_results);
            fx.send(
                connection,
                Message::Waited { request, satisfied: true, tasks, left_out: Vec::new() },
            );
            return;
        }
        self.watchers.latest += 1;
        let key = self.watchers.latest;
        // Those that have come so far may go before the others come: then the wait is to keep how
        // they ended.
        for id in open.iter().chain(&done) {
            self.add_watcher(id, Watcher::Wait(key));
        }
        let deadline = now.mono.saturating_add(timeout_ms);
        self.timers.set_mono(deadline, MonoTimer::Wait(key));
        let asking = self.sessions.session_mut(session);
        asking.waits.insert((request, key));
        asking.waited_ids += asked.len();
        let wait = Wait {
            session,
            connection,
            request,
            ids: asked,
            any,
            until,
            with_results,
            deadline,
            open,
        };
        self.watchers.waits.insert(key, wait);
    }

    /// The time of a wait is over: it is answered with what is there.
    pub(super) fn wait_timer(&mut self, key: WaitKey, fx: &mut Effects) {
        self.answer_wait(key, false, fx);
    }

    fn answer_wait(&mut self, key: WaitKey, satisfied: bool, fx: &mut Effects) {
        let Some(wait) = self.remove_wait(key) else { return };
        let tasks = self.views(&wait.ids, wait.with_results);
        fx.send(
            wait.connection,
            Message::Waited { request: wait.request, satisfied, tasks, left_out: Vec::new() },
        );
    }

    fn remove_wait(&mut self, key: WaitKey) -> Option<Wait> {
        let wait = self.watchers.waits.remove(&key)?;
        self.timers.clear_mono(wait.deadline, MonoTimer::Wait(key));
        let session = self.sessions.session_mut(wait.session);
        session.waits.remove(&(wait.request, key));
        session.waited_ids -= wait.ids.len();
        for id in &wait.ids {
            self.remove_watcher(id, Watcher::Wait(key));
        }
        Some(wait)
    }

    /// Ends a wait of this session before its time, if it has one of that request.
    pub(super) fn unwait(&mut self, session: SessionKey, request: RequestId, fx: &mut Effects) {
        let of_request = (request, WaitKey::MIN)..=(request, WaitKey::MAX);
        let Some((_, key)) = self.sessions.session(session).waits.range(of_request).next().copied()
        else {
            return;
        };
        if let Some(Wait { connection, .. }) = self.remove_wait(key) {
            let tasks = Vec::new();
            fx.send(
                connection,
                Message::Waited { request, satisfied: false, tasks, left_out: Vec::new() },
            );
        }
    }

    /// Whether a session may watch this many ids more.
    pub(super) fn may_watch(&self, session: SessionKey, ids: usize) -> bool {
        self.sessions.session(session).watched_ids + ids <= WATCHED_IDS_MAX
    }

    /// Whether a session may wait for this many ids more.
    pub(super) fn may_wait(&self, session: SessionKey, ids: usize) -> bool {
        self.sessions.session(session).waited_ids + ids <= WAITED_IDS_MAX
    }

    pub(super) fn watch(
        &mut self,
        connection: ConnectionKey,
        session: SessionKey,
        request: RequestId,
        ids: Vec<TaskId>,
        with_results: bool,
        fx: &mut Effects,
    ) {
        self.watchers.latest += 1;
        let key = self.watchers.latest;
        let tasks = self.views(&ids, with_results);
        for id in &ids {
            self.add_watcher(id, Watcher::Watch(key));
        }
        let asking = self.sessions.session_mut(session);
        asking.watches.insert(key);
        asking.watched_ids += ids.len();
        self.watchers.watches.insert(key, Watch { session, connection, ids, with_results });
        fx.send(connection, Message::Watching { request, watch: key, tasks, left_out: Vec::new() });
    }

    /// Ends a watch of this session; false when it has none of that number.
    pub(super) fn unwatch(&mut self, session: SessionKey, key: WatchKey) -> bool {
        if !self.sessions.session(session).watches.contains(&key) {
            return false;
        }
        self.remove_watch(key);
        true
    }

    fn remove_watch(&mut self, key: WatchKey) {
        let Some(watch) = self.watchers.watches.remove(&key) else { return };
        let session = self.sessions.session_mut(watch.session);
        session.watches.remove(&key);
        session.watched_ids -= watch.ids.len();
        for id in &watch.ids {
            self.remove_watcher(id, Watcher::Watch(key));
        }
    }

    /// The connection is gone: nobody is there to be told.
    pub(super) fn end_watches(&mut self, session: SessionKey) {
        while let Some(key) = self.sessions.session(session).waits.first().map(|(_, key)| *key) {
            self.remove_wait(key);
        }
        while let Some(key) = self.sessions.session(session).watches.first().copied() {
            self.remove_watch(key);
        }
    }

    fn add_watcher(&mut self, id: &TaskId, watcher: Watcher) {
        self.watchers.by_id.entry(id.clone()).or_default().insert(watcher);
        if let Some(slot) = self.tasks.find(id) {
            self.tasks.extra_mut(slot).watched = true;
        }
    }

    fn remove_watcher(&mut self, id: &TaskId, watcher: Watcher) {
        let Some(watchers) = self.watchers.by_id.get_mut(id) else { return };
        watchers.remove(&watcher);
        if watchers.is_empty() {
            self.watchers.by_id.remove(id);
            if let Some(slot) = self.tasks.find(id) {
                self.tasks.extra_mut(slot).watched = false;
                self.tasks.settle(slot);
            }
        }
    }

    /// Whether a new task of this id has watchers already.
    pub(super) fn is_watched(&self, id: &TaskId) -> bool {
        !self.watchers.by_id.is_empty() && self.watchers.by_id.contains_key(id)
    }

    /// Tells those who care that a task changed its state.
    pub(super) fn notify(&mut self, slot: Slot, fx: &mut Effects) {
        let task = self.tasks.task(slot);
        if !self.tasks.is_watched(task) {
            return;
        }
        let (id, state) = (self.tasks.id(task), task.state);
        let watchers: Vec<Watcher> = self
            .watchers
            .by_id
            .get(&id)
            .map(|watchers| watchers.iter().copied().collect())
            .unwrap_or_default();
        for watcher in watchers {
            match watcher {
                Watcher::Watch(key) => self.push_transition(key, &id, fx),
                Watcher::Wait(key) => self.advance_wait(key, &id, state, fx),
            }
        }
    }

    /// Tells those who care that the id no longer has a task.
    pub(super) fn notify_forgotten(&mut self, id: &TaskId, fx: &mut Effects) {
        let Some(watchers) = self.watchers.by_id.get(id) else { return };
        let watchers: Vec<Watcher> = watchers.iter().copied().collect();
        for watcher in watchers {
            match watcher {
                Watcher::Watch(key) => self.push_transition(key, id, fx),
                // It has kept how the task ended.
                Watcher::Wait(_) => {}
            }
        }
    }

    /// The ended task of this slot is about to make way, by its time, by order, or for the next run
    /// of its id. The waits that it has satisfied, and that go on for others, keep how it
    /// ended.
    pub(super) fn keep_for_waits(&self, slot: Slot, fx: &mut Effects) {
        let task = self.tasks.task(slot);
        if !self.tasks.is_watched(task) {
            return;
        }
        let id = self.tasks.id(task);
        for watcher in self.watchers.by_id.get(&id).into_iter().flatten() {
            if let Watcher::Wait(key) = watcher {
                let Wait { connection, request, with_results, .. } = self.watchers.waits[key];
                fx.push(Effect::Keep(connection, request, self.view(&id, with_results)));
            }
        }
    }

    fn push_transition(&self, key: WatchKey, id: &TaskId, fx: &mut Effects) {
        let watch = &self.watchers.watches[&key];
        let task = self.view(id, watch.with_results);
        fx.send(watch.connection, Message::Transition { watch: key, task });
    }

    fn advance_wait(&mut self, key: WaitKey, id: &TaskId, state: State, fx: &mut Effects) {
        let Some(wait) = self.watchers.waits.get_mut(&key) else { return };
        if has_come_to(state, wait.until)
            && wait.open.remove(id)
            && (wait.any || wait.open.is_empty())
        {
            self.answer_wait(key, true, fx);
        }
    }
}
