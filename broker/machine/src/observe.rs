//! Waits and watches of clients. Both name a task by its id, so that the task need not exist yet,
//! and both continue over the generations of the id.

use std::collections::{BTreeMap, BTreeSet};

use celeriac_proto::TaskId;
use celeriac_proto::limits::{WAITED_IDS_MAX, WATCHED_IDS_MAX};
use celeriac_record::{Slot, State};

use crate::Machine;
use crate::command::{
    Answer, Code, ConnectionKey, Effect, Message, Monotonic, Outlines, Refusal, RequestId, WatchKey,
};
use crate::keys::{SessionKey, WaitKey};
use crate::step::{Asker, Step};
use crate::task::Task;
use crate::timers::MonoTimer;

#[derive(Debug, Default)]
pub(crate) struct Observers {
    by_id: BTreeMap<TaskId, BTreeSet<Observer>>,
    waits: BTreeMap<WaitKey, OpenWait>,
    watches: BTreeMap<WatchKey, OpenWatch>,
    latest: u64,
}

impl Observers {
    /// For the invariant checks: the numbers of ids that a session waits for and watches.
    pub fn ids_of(&self, session: SessionKey) -> (usize, usize) {
        let waits = self.waits.values().filter(|wait| wait.session == session);
        let watches = self.watches.values().filter(|watch| watch.session == session);
        (waits.map(|wait| wait.ids.len()).sum(), watches.map(|watch| watch.ids.len()).sum())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Observer {
    Wait(WaitKey),
    Watch(WatchKey),
}

#[derive(Debug)]
struct OpenWait {
    session: SessionKey,
    asker: Asker,
    ids: Vec<TaskId>,
    /// Whether one of the ids is enough.
    any: bool,
    until: Option<State>,
    with_results: bool,
    deadline: Monotonic,
    /// Ids whose tasks have not reached the state yet.
    open: BTreeSet<TaskId>,
}

#[derive(Debug)]
struct OpenWatch {
    session: SessionKey,
    connection: ConnectionKey,
    ids: Vec<TaskId>,
    with_results: bool,
}

/// The parameters of a wait.
#[derive(Debug)]
pub(crate) struct WaitFor {
    pub ids: Vec<TaskId>,
    pub any: bool,
    pub until: Option<State>,
    pub with_results: bool,
    pub timeout_ms: u64,
}

/// Whether a task in `state` has reached `until`, or has ended.
fn has_come_to(state: State, until: Option<State>) -> bool {
    state.is_terminal() || until.is_some_and(|until| state >= until)
}

impl Machine {
    pub(crate) fn wait(
        &mut self,
        step: &mut Step<'_>,
        asker: Asker,
        session: SessionKey,
        wait: WaitFor,
    ) {
        if self.sessions.session(session).observed.waited_ids + wait.ids.len() > WAITED_IDS_MAX {
            let text = "this connection waits for as many ids as it may";
            return step.answer(asker, Answer::Refused(Refusal::new(Code::Overloaded, text)));
        }
        let WaitFor { mut ids, any, until, with_results, timeout_ms } = wait;
        let asked = ids.clone();
        ids.sort_unstable();
        ids.dedup();
        let (open, done): (BTreeSet<_>, BTreeSet<_>) = ids.into_iter().partition(|id| {
            let found = self.find_seen(step.scope.as_deref(), id);
            found.is_some_and(|slot| !has_come_to(self.tasks.task(slot).state, until))
        });
        if open.is_empty() || (any && !done.is_empty()) {
            let tasks = self.outlines(step, &asked, with_results);
            return step.show(asker, Outlines::Waited { satisfied: true, tasks });
        }
        self.observers.latest += 1;
        let key = self.observers.latest;
        // The wait observes the finished ids too: their tasks may be removed before the other tasks
        // are finished, and then the wait must keep how they ended.
        for id in open.iter().chain(&done) {
            self.add_observer(id, Observer::Wait(key));
        }
        let deadline = step.now.mono.saturating_add(timeout_ms);
        self.timers.set_mono(deadline, MonoTimer::Wait(key));
        let asking = &mut self.sessions.session_mut(session).observed;
        asking.waits.insert((asker.request, key));
        asking.waited_ids += asked.len();
        let wait =
            OpenWait { session, asker, ids: asked, any, until, with_results, deadline, open };
        self.observers.waits.insert(key, wait);
    }

    /// The timeout of a wait is over: the answer shows the present states.
    pub(crate) fn wait_timer(&mut self, step: &mut Step<'_>, key: WaitKey) {
        self.answer_wait(step, key, false);
    }

    fn answer_wait(&mut self, step: &mut Step<'_>, key: WaitKey, satisfied: bool) {
        let Some(wait) = self.remove_wait(key) else { return };
        let scope = self.sessions.session(wait.session).scope.clone();
        let tasks = self.outlines(&step.within(scope), &wait.ids, wait.with_results);
        step.show(wait.asker, Outlines::Waited { satisfied, tasks });
    }

    fn remove_wait(&mut self, key: WaitKey) -> Option<OpenWait> {
        let wait = self.observers.waits.remove(&key)?;
        self.timers.clear_mono(wait.deadline, MonoTimer::Wait(key));
        let observed = &mut self.sessions.session_mut(wait.session).observed;
        observed.waits.remove(&(wait.asker.request, key));
        observed.waited_ids -= wait.ids.len();
        for id in &wait.ids {
            self.remove_observer(id, Observer::Wait(key));
        }
        Some(wait)
    }

    /// Ends a wait of this session before its timeout, if that request began one.
    pub(crate) fn unwait(&mut self, step: &mut Step<'_>, session: SessionKey, request: RequestId) {
        let of_request = (request, WaitKey::MIN)..=(request, WaitKey::MAX);
        let waits = &self.sessions.session(session).observed.waits;
        let Some((_, key)) = waits.range(of_request).next().copied() else { return };
        if let Some(OpenWait { asker, .. }) = self.remove_wait(key) {
            step.show(asker, Outlines::Waited { satisfied: false, tasks: Vec::new() });
        }
    }

    pub(crate) fn watch(
        &mut self,
        step: &mut Step<'_>,
        asker: Asker,
        session: SessionKey,
        ids: Vec<TaskId>,
        with_results: bool,
    ) {
        if self.sessions.session(session).observed.watched_ids + ids.len() > WATCHED_IDS_MAX {
            let text = "this connection watches as many ids as it may";
            return step.answer(asker, Answer::Refused(Refusal::new(Code::Overloaded, text)));
        }
        self.observers.latest += 1;
        let key = self.observers.latest;
        let tasks = self.outlines(step, &ids, with_results);
        for id in &ids {
            self.add_observer(id, Observer::Watch(key));
        }
        let asking = &mut self.sessions.session_mut(session).observed;
        asking.watches.insert(key);
        asking.watched_ids += ids.len();
        let connection = asker.connection;
        let watch = OpenWatch { session, connection, ids, with_results };
        self.observers.watches.insert(key, watch);
        step.show(asker, Outlines::Watching { watch: key, tasks });
    }

    /// Ends a watch of this session. Returns false if the session has no watch of that number.
    pub(crate) fn unwatch(&mut self, session: SessionKey, key: WatchKey) -> bool {
        if !self.sessions.session(session).observed.watches.contains(&key) {
            return false;
        }
        self.remove_watch(key);
        true
    }

    fn remove_watch(&mut self, key: WatchKey) {
        let Some(watch) = self.observers.watches.remove(&key) else { return };
        let observed = &mut self.sessions.session_mut(watch.session).observed;
        observed.watches.remove(&key);
        observed.watched_ids -= watch.ids.len();
        for id in &watch.ids {
            self.remove_observer(id, Observer::Watch(key));
        }
    }

    /// Ends all waits and watches of a session whose connection is lost, without an answer.
    pub(crate) fn end_observing(&mut self, session: SessionKey) {
        while let Some((_, key)) = self.sessions.session(session).observed.waits.first().copied() {
            self.remove_wait(key);
        }
        while let Some(key) = self.sessions.session(session).observed.watches.first().copied() {
            self.remove_watch(key);
        }
    }

    fn add_observer(&mut self, id: &TaskId, observer: Observer) {
        self.observers.by_id.entry(id.clone()).or_default().insert(observer);
        if let Some(slot) = self.tasks.find(id) {
            self.tasks.extra_mut(slot).watched = true;
        }
    }

    fn remove_observer(&mut self, id: &TaskId, observer: Observer) {
        let Some(observers) = self.observers.by_id.get_mut(id) else { return };
        observers.remove(&observer);
        if observers.is_empty() {
            self.observers.by_id.remove(id);
            if let Some(slot) = self.tasks.find(id) {
                self.tasks.extra_mut(slot).watched = false;
                self.tasks.settle(slot);
            }
        }
    }

    /// Whether a client waits for this id or watches it.
    pub(crate) fn is_observed(&self, id: &TaskId) -> bool {
        !self.observers.by_id.is_empty() && self.observers.by_id.contains_key(id)
    }

    /// Informs the clients that wait for a task or watch it, and may see it, of its new state.
    pub(crate) fn notify(&mut self, step: &mut Step<'_>, slot: Slot) {
        let task = self.tasks.task(slot);
        if !self.tasks.is_watched(task) {
            return;
        }
        let (id, state) = (self.tasks.id(task), task.state);
        let known = self.observers.by_id.get(&id).into_iter().flatten().copied();
        let seen = |observer: &Observer| self.sees(self.scope_of(self.observing(*observer)), slot);
        let observers: Vec<Observer> = known.filter(seen).collect();
        for observer in observers {
            match observer {
                Observer::Watch(key) => self.push_transition(step, key, &id),
                Observer::Wait(key) => self.advance_wait(step, key, &id, state),
            }
        }
    }

    /// The session that waits or watches.
    fn observing(&self, observer: Observer) -> SessionKey {
        match observer {
            Observer::Wait(key) => self.observers.waits[&key].session,
            Observer::Watch(key) => self.observers.watches[&key].session,
        }
    }

    /// Informs the clients that watch an id, and could see its task, that the id has none any more.
    pub(crate) fn notify_forgotten(&mut self, step: &mut Step<'_>, id: &TaskId, forgotten: &Task) {
        let Some(observers) = self.observers.by_id.get(id) else { return };
        let seen = |observer: &Observer| {
            self.sees_task(self.scope_of(self.observing(*observer)), forgotten)
        };
        let observers: Vec<Observer> = observers.iter().copied().filter(seen).collect();
        for observer in observers {
            match observer {
                Observer::Watch(key) => self.push_transition(step, key, id),
                // The wait has kept how the task ended.
                Observer::Wait(_) => {}
            }
        }
    }

    /// Called before an ended task is removed because its time is over, at a request, or for the
    /// next run of its id. A wait that this task has satisfied, and that continues for other tasks,
    /// keeps how this task ended.
    pub(crate) fn keep_for_waits(&self, step: &mut Step<'_>, slot: Slot) {
        let task = self.tasks.task(slot);
        if !self.tasks.is_watched(task) {
            return;
        }
        let id = self.tasks.id(task);
        for observer in self.observers.by_id.get(&id).into_iter().flatten() {
            if let Observer::Wait(key) = observer {
                let OpenWait { session, asker, with_results, .. } = self.observers.waits[key];
                let scope = self.scope_of(session);
                if !self.sees(scope, slot) {
                    continue;
                }
                let outline = self.outline_of_id(step, scope, &id, with_results);
                step.push(Effect::Keep(asker.connection, asker.request, outline));
            }
        }
    }

    fn push_transition(&self, step: &mut Step<'_>, key: WatchKey, id: &TaskId) {
        let watch = &self.observers.watches[&key];
        let scope = self.scope_of(watch.session);
        let task = self.outline_of_id(step, scope, id, watch.with_results);
        step.send(watch.connection, Message::Transition { watch: key, task });
    }

    fn advance_wait(&mut self, step: &mut Step<'_>, key: WaitKey, id: &TaskId, state: State) {
        let Some(wait) = self.observers.waits.get_mut(&key) else { return };
        if has_come_to(state, wait.until)
            && wait.open.remove(id)
            && (wait.any || wait.open.is_empty())
        {
            self.answer_wait(step, key, true);
        }
    }
}
