//! The reference: a task queue in its simplest form, with lists and loops, and without timers,
//! indexes and records. Each step checks the time, and each query looks at all entries.

mod chords;
pub(super) mod counters;
mod deliveries;
mod many;
mod outcomes;
mod submits;

use std::collections::{BTreeMap, BTreeSet};

use celeriac_record::State;

use super::super::script::LEASE_MS;
use super::super::words::DAY_MS;
use super::steps::{End, Says, Submit};
use crate::command::{CancelMode, CancelOutcome, Now, Release};
use counters::{Back, Counters};

#[derive(Debug, Clone)]
pub(super) struct Task {
    /// The machine's slot: of two tasks due at the same time, the smaller slot is queued first.
    pub slot: u32,
    pub submit: Submit,
    pub generation: u32,
    pub state: State,
    /// The state that a restart restores; none before the first change.
    stored: Option<State>,
    pub attempts: u32,
    pub deliveries: u32,
    /// The number of lost workers that ran the task, or may have run it.
    losses: u32,
    /// The losses without a report of a start.
    silent: u32,
    /// Whether the task is a suspect that its holder runs alone.
    alone: bool,
    pub lease: u64,
    holder: Option<u64>,
    cancelled: bool,
    /// Whether the task never runs again and does not count against the credit.
    settled: bool,
    /// The last progress of the present run, or of a task that waits.
    pub progress: Option<Says>,
    /// Whether the present lease is not its first.
    pub redelivered: bool,
    /// Whether a client put the task, to show a progress.
    pub is_put_progress: bool,
    /// The result TTL that a report set.
    result_ttl_ms: Option<u64>,
    /// SCHEDULED, RETRY: the time when the task is due. Ended: the time when it is forgotten.
    due: i64,
    /// The same time on the monotonic clock, if the time is the end of a span.
    due_mono: Option<u64>,
    /// The state after the submit.
    first: State,
    /// A number that distinguishes two tasks of one id.
    pub submitted: u64,
    /// The place in line among tasks of other names.
    order: u64,
    /// When the task ended: on the wall clock, and on a clock that is never set.
    ended_at: i64,
    ended: i64,
    /// When the task was submitted, on the wall clock.
    submitted_at: i64,
    /// Since when the task is ready, on the monotonic clock, and whether no worker had it since.
    ready: i64,
    is_ready_anew: bool,
    /// After a restart: whether `ready` is the time of the submit, until the task changes.
    is_as_submitted: bool,
    /// When the handler began, on the steady clock and on the wall clock.
    began: i64,
    began_at: i64,
}

#[derive(Debug)]
struct Session {
    peer: usize,
    /// The entry of the access file that it is of; 0: none.
    entry: u8,
    is_connected: bool,
    queues: Vec<u8>,
    names: Vec<u8>,
    credit: usize,
    seen: u64,
}

#[derive(Debug)]
pub(super) struct Reference {
    pub now: Now,
    pub tasks: BTreeMap<u8, Task>,
    sessions: BTreeMap<u64, Session>,
    /// The queued tasks in line.
    line: Vec<u8>,
    paused: BTreeSet<u8>,
    drain: bool,
    chords: chords::Chords,
    submitted: u64,
    order: u64,
    /// The state in which the last task ended; the task may be gone.
    ended_as: State,
    /// The steady clock minus the monotonic clock.
    steady: i64,
    /// What has happened in each queue that listings show, and in those of before.
    counters: BTreeMap<u8, Counters>,
    pub removed: Counters,
    /// When the broker started last, on the monotonic clock.
    started: i64,
}

impl Reference {
    pub fn new(now: Now) -> Self {
        let (tasks, sessions, line, paused, chords) = Default::default();
        let (ended_as, drain) = (State::Revoked, false);
        let (submitted, order, steady) = (0, 0, now.wall);
        let (counters, removed, started) = Default::default();
        Self {
            now,
            tasks,
            sessions,
            line,
            paused,
            drain,
            chords,
            submitted,
            order,
            ended_as,
            steady,
            counters,
            removed,
            started,
        }
    }

    fn remove(&mut self, id: u8) {
        self.tasks.remove(&id);
        self.line.retain(|other| *other != id);
    }

    fn line_up(&mut self, id: u8) {
        self.order += 1;
        let (order, ready) = (self.order, self.now.mono as i64);
        self.line.push(id);
        let task = self.task(id);
        (task.order, task.ready, task.is_ready_anew) = (order, ready, true);
    }

    fn task(&mut self, id: u8) -> &mut Task {
        self.tasks.get_mut(&id).expect("the reference has the task")
    }

    /// A change of state that a restart restores.
    fn becomes(&mut self, id: u8, state: State) {
        self.count(id, state);
        self.line.retain(|other| *other != id);
        let ended = (self.now.wall, self.steady + self.now.mono as i64);
        let task = self.task(id);
        task.state = state;
        task.stored = Some(state);
        if state == State::Started {
            task.progress = task.progress.filter(|says| *says != Says::Retry);
        }
        if !matches!(state, State::Leased | State::Started) {
            (task.holder, task.settled) = (None, false);
        }
        if state.is_terminal() {
            (task.ended_at, task.ended) = ended;
            let ttl_ms = task.result_ttl_ms.unwrap_or(task.submit.ttl_ms);
            let ttl_ms = match (state, ttl_ms) {
                (State::Failure, 0) => DAY_MS,
                (_, ttl_ms) => ttl_ms,
            };
            self.is_due_in(id, ttl_ms);
            let is_gone = ttl_ms == 0 || self.tasks[&id].submit.forget_at_end;
            self.ended_as = state;
            if is_gone {
                self.remove(id);
            }
        }
    }

    /// The span begins now. Changes of the wall clock do not move its end.
    fn is_due_in(&mut self, id: u8, span_ms: u64) {
        let Now { wall, mono } = self.now;
        let task = self.task(id);
        (task.due, task.due_mono) = (wall + span_ms as i64, Some(mono + span_ms));
    }

    fn is_due(&self, task: &Task) -> bool {
        self.lateness(task) <= 0
    }

    fn lateness(&self, task: &Task) -> i64 {
        task.due_mono.map_or(task.due - self.now.wall, |at| at as i64 - self.now.mono as i64)
    }

    /// Whether so many workers were lost with the task that it is delivered alone.
    fn is_suspect(&self, id: u8) -> bool {
        let task = &self.tasks[&id];
        task.losses >= 2
            || (task.losses == 1 && task.attempts + task.silent + 1 >= task.submit.attempts_max)
    }

    fn requeue(&mut self, id: u8, back: Back) {
        self.count_back(id, back);
        self.becomes(id, State::Queued);
        let order = self.tasks[&id].order;
        let earlier = |other: &&u8| self.tasks[*other].order < order;
        self.line.insert(self.line.iter().take_while(earlier).count(), id);
    }

    fn hand_back(&mut self, id: u8, back: Back) {
        let task = self.task(id);
        task.deliveries -= 1;
        task.attempts -= u32::from(task.state == State::Started);
        self.requeue(id, back);
    }

    /// Whether the peer holds this lease now.
    pub fn holds(&self, session: u64, id: u8, lease: u64) -> bool {
        self.tasks.get(&id).is_some_and(|task| task.lease == lease && task.holder == Some(session))
    }

    /// Returns the state of the task after the report.
    pub fn report(&mut self, id: u8, end: End) -> State {
        self.carry_out(id, end);
        self.tasks.get(&id).map_or(self.ended_as, |task| task.state)
    }

    fn carry_out(&mut self, id: u8, end: End) {
        let is_handed_back = matches!(end, End::Release(Release::Unfinished | Release::NotBegun));
        if !is_handed_back && self.tasks[&id].state == State::Leased {
            self.becomes(id, State::Started);
            self.task(id).attempts += 1;
        }
        let task = self.tasks[&id].clone();
        let started = task.state == State::Started;
        if started && (is_handed_back || matches!(end, End::Fail { .. })) {
            (self.task(id).losses, self.task(id).silent) = (0, 0);
        }
        match end {
            End::Start => {}
            End::Progress => self.task(id).progress = Some(Says::Progress),
            End::Settle => self.task(id).settled = true,
            End::Complete { result_ttl_ms } => {
                self.task(id).result_ttl_ms = result_ttl_ms;
                self.becomes(id, State::Success);
            }
            End::Release(Release::Lost) => {
                self.task(id).losses += 1;
                self.lose(id);
            }
            End::Fail { .. } | End::Release(_) if task.cancelled => {
                self.becomes(id, State::Revoked)
            }
            End::Release(Release::Unfinished) if started && task.settled => {
                self.becomes(id, State::Failure);
            }
            // A task that a worker hands back after the expiry does not wait again.
            End::Release(_) if task.submit.expires.is_some_and(|at| at <= self.now.wall) => {
                self.becomes(id, State::Revoked);
            }
            End::Release(_) => self.hand_back(id, Back::Released),
            End::Fail { last: false, .. }
                if task.attempts < task.submit.attempts_max && !task.settled =>
            {
                self.task(id).deliveries -= 1;
                self.is_due_in(id, 1_000 << (task.attempts - 1));
                self.becomes(id, State::Retry);
            }
            End::Fail { result_ttl_ms, .. } => {
                self.task(id).result_ttl_ms = result_ttl_ms;
                self.becomes(id, State::Failure);
            }
        }
    }

    pub fn cancel(&mut self, id: u8, mode: CancelMode) -> CancelOutcome {
        match self.tasks.get(&id).map(|task| task.state) {
            None => CancelOutcome::NotFound,
            Some(state) if state.is_terminal() => CancelOutcome::AlreadyEnded,
            Some(State::Started) => {
                self.task(id).cancelled = true;
                if mode == CancelMode::Waiting {
                    CancelOutcome::LeftRunning
                } else {
                    CancelOutcome::Signalled
                }
            }
            Some(_) => {
                self.becomes(id, State::Revoked);
                CancelOutcome::Revoked
            }
        }
    }

    pub fn forget(&mut self, id: u8) -> bool {
        let ended = self.tasks.get(&id).is_some_and(|task| task.state.is_terminal());
        if ended {
            self.remove(id);
        }
        ended
    }

    /// Pauses a queue. Tasks that have not begun go back to their places in line.
    pub fn pause(&mut self, queue: u8) {
        self.paused.insert(queue);
        self.take_back(|task| task.submit.queue == queue);
    }

    /// Begins or ends a drain. It is a pause of all queues that no listing shows.
    pub fn drain(&mut self, drain: bool) {
        self.drain = drain;
        if drain {
            self.take_back(|_| true);
        }
    }

    fn take_back(&mut self, is_meant: impl Fn(&Task) -> bool) {
        let mut unstarted = self.ids(|task| task.state == State::Leased && is_meant(task));
        unstarted.sort_by_key(|id| std::cmp::Reverse(self.tasks[id].order));
        for id in unstarted {
            self.task(id).deliveries -= 1;
            self.requeue(id, Back::Taken);
        }
    }

    pub fn resume(&mut self, queue: u8) {
        self.paused.remove(&queue);
    }

    /// Whether listings show a queue: it has unfinished or dead tasks or workers, or is paused.
    pub fn is_listed(&self, queue: u8) -> bool {
        let counts = |task: &Task| {
            task.submit.queue == queue && !matches!(task.state, State::Success | State::Revoked)
        };
        let is_served = self.sessions.values().any(|session| session.queues.contains(&queue));
        is_served || self.paused.contains(&queue) || !self.ids(counts).is_empty()
    }

    /// Whether anything needs the name of a queue.
    pub fn is_known(&self, queue: u8) -> bool {
        self.is_listed(queue) || !self.ids(|task| task.submit.queue == queue).is_empty()
    }

    pub fn has_started(&self, queue: u8) -> bool {
        !self.ids(|task| task.submit.queue == queue && task.state == State::Started).is_empty()
    }

    pub fn purge(&mut self, queue: u8) -> u64 {
        let waits = |task: &Task| !task.state.is_terminal() && task.state != State::Started;
        let purged = self.ids(|task| task.submit.queue == queue && waits(task));
        purged.iter().for_each(|id| self.becomes(*id, State::Revoked));
        purged.len() as u64
    }

    fn ids(&self, holds: impl Fn(&Task) -> bool) -> Vec<u8> {
        self.tasks.iter().filter(|(_, task)| holds(task)).map(|(id, _)| *id).collect()
    }

    /// A worker connects. Returns the leases that are delivered to it again, because the worker may
    /// not know them.
    pub fn connect(
        &mut self,
        session: u64,
        peer: usize,
        (queues, names): (Vec<u8>, Vec<u8>),
        entry: u8,
    ) -> BTreeSet<u64> {
        let (is_connected, credit, seen) = (true, 0, self.now.mono);
        self.sessions
            .insert(session, Session { peer, entry, is_connected, queues, names, credit, seen });
        let unstarted = |task: &&Task| task.holder == Some(session) && task.state == State::Leased;
        self.tasks.values().filter(unstarted).map(|task| task.lease).collect()
    }

    /// Whether there is such a session, and a worker of this entry may resume it.
    pub fn may_resume(&self, session: u64, entry: u8) -> bool {
        let session = self.sessions.get(&session);
        session.is_some_and(|known| known.entry == 0 || entry == 0 || known.entry == entry)
    }

    pub fn disconnect(&mut self, session: u64) {
        self.session(session).is_connected = false;
    }

    pub fn credit(&mut self, session: u64, credit: usize) {
        self.session(session).credit = credit;
    }

    /// Any frame is a sign of life.
    pub fn touch(&mut self, session: u64) {
        self.session(session).seen = self.now.mono;
    }

    fn session(&mut self, session: u64) -> &mut Session {
        self.sessions.get_mut(&session).expect("the reference has the session")
    }

    /// A session ends. If it ends on purpose, unstarted tasks go back to their queues.
    pub fn end_session(&mut self, session: u64, on_purpose: bool) {
        self.sessions.remove(&session);
        let mut lost = self.ids(|task| task.holder == Some(session));
        lost.sort_by_key(|id| std::cmp::Reverse(self.tasks[id].order));
        for id in lost {
            if on_purpose && self.tasks[&id].state == State::Leased {
                self.hand_back(id, Back::Taken);
                continue;
            }
            let task = self.task(id);
            // The workers' concurrency exceeds their credit: any of these tasks may have begun.
            task.losses += u32::from(!on_purpose);
            task.silent += u32::from(task.state != State::Started && !on_purpose);
            self.lose(id);
        }
    }

    /// The holder of a lease is lost. The caller has counted the loss.
    fn lose(&mut self, id: u8) {
        let task = self.task(id);
        let started = task.state == State::Started;
        task.deliveries -= u32::from(!started);
        let is_over = task.attempts + task.silent >= task.submit.attempts_max
            || task.deliveries + task.silent >= task.submit.max_deliveries;
        if task.cancelled {
            self.becomes(id, State::Revoked);
        } else if started && task.settled || (started || task.alone) && is_over {
            self.becomes(id, State::Failure);
        } else {
            self.requeue(id, Back::Lost);
        }
    }

    /// Everything that happens because of the time. The machine chooses which of several sessions
    /// is lost first: the slots that it changed show its choice.
    pub fn tick(&mut self, changed: &[u32]) {
        let Now { wall, mono } = self.now;
        let silent = self.sessions.iter().filter(|(_, session)| mono >= session.seen + LEASE_MS);
        let mut silent: Vec<u64> = silent.map(|(session, _)| *session).collect();
        let holds = |session: u64, slot: u32| {
            self.tasks.values().any(|task| task.slot == slot && task.holder == Some(session))
        };
        silent.sort_by_key(|session| changed.iter().position(|slot| holds(*session, *slot)));
        for session in silent {
            self.end_session(session, false);
        }
        let waits = |task: &Task| matches!(task.state, State::Scheduled | State::Retry);
        let mut due = self.ids(|task| waits(task) && self.is_due(task));
        due.sort_by_key(|id| (self.lateness(&self.tasks[id]), self.tasks[id].slot));
        for id in due {
            self.becomes(id, State::Queued);
            self.line_up(id);
        }
        let may_expire = |task: &Task| !task.state.is_terminal() && task.state != State::Started;
        let expired =
            self.ids(|task| may_expire(task) && task.submit.expires.is_some_and(|at| at <= wall));
        expired.iter().for_each(|id| self.becomes(*id, State::Revoked));
        let over = self.ids(|task| task.state.is_terminal() && self.is_due(task));
        over.iter().for_each(|id| self.remove(*id));
        self.tick_chords();
    }

    pub fn session_of(&self, peer: usize) -> Option<u64> {
        let connected = |session: &Session| session.peer == peer && session.is_connected;
        self.sessions.iter().find(|(_, session)| connected(session)).map(|(id, _)| *id)
    }

    /// A restart keeps only stored data, and no connection.
    pub fn restart(&mut self) {
        let now = self.now;
        self.steady = now.wall - now.mono as i64;
        self.drain = false;
        for session in self.sessions.values_mut() {
            (session.is_connected, session.credit, session.seen) = (false, 0, now.mono);
            // The worker names its queues again when it connects.
            session.queues.clear();
        }
        self.restart_counters();
        for task in self.tasks.values_mut() {
            task.state = task.stored.unwrap_or(task.first);
            task.ended = task.ended_at.min(now.wall);
            if task.due_mono.is_some() {
                task.due_mono = Some(now.mono + (task.due - now.wall).max(0) as u64);
            }
        }
        self.restart_chords();
        self.line.clear();
        let mut ids =
            self.ids(|task| matches!(task.state, State::Queued | State::Leased | State::Started));
        ids.sort_by_key(|id| self.tasks[id].submitted);
        for id in ids {
            let (ready, anew) = (self.ready_after_restart(id), self.tasks[&id].is_ready_anew);
            self.line_up(id);
            let task = self.task(id);
            (task.ready, task.is_ready_anew) = (ready, anew);
            task.is_as_submitted = task.stored.is_none();
        }
        let tasks = &self.tasks;
        self.line.retain(|id| tasks[id].state == State::Queued);
    }
}
