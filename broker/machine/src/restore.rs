//! A restart: this module builds the tables again from the records of the log.
//!
//! The log may give the two records of a task in either order, and stale records of tasks that were
//! removed. The serial number identifies the task of a record, and the version shows which of two
//! changes is later.

use std::collections::BTreeMap;

use celeriac_proto::PROGRESS_TASK_NAME;
use celeriac_record::{
    Cancel, Changed, Name, Named, QueueRecord, Record, SessionId, Slot, State, Submitted, TaskKey,
    Timestamp,
};

use crate::clocks::Moment;
use crate::command::{Effect, Now};
use crate::ends::EndsOfLog;
use crate::task::Run;
use crate::timers::Kind;
use crate::{Effects, Machine};

/// Data that the machine needs only while the log is read.
#[derive(Debug, Default)]
pub(crate) struct Restoring {
    /// Changes whose submit has not been read yet.
    early: BTreeMap<Slot, Box<Changed>>,
    /// The tasks that were submitted to follow another task.
    following: BTreeMap<Slot, TaskKey>,
    /// The session that holds each leased task, and the time when a forced cancel revokes the
    /// lease.
    holders: BTreeMap<Slot, (SessionId, Option<Timestamp>)>,
    /// When the dead tasks ended.
    dead: BTreeMap<Slot, Timestamp>,
    ends: EndsOfLog,
}

/// A task that waits in line, in the order of the serials. It takes twelve bytes, because there may
/// be ten million at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct InLine {
    serial: (u32, u32),
    slot: Slot,
}

impl InLine {
    fn new(serial: u64, slot: Slot) -> Self {
        Self { serial: ((serial >> 32) as u32, serial as u32), slot }
    }
}

impl Machine {
    /// Restores one record. The store calls this for every record of the log, before any command.
    pub fn restore(&mut self, now: Now, record: Record) {
        match record {
            Record::Submitted(submitted) => self.restore_submitted(*submitted),
            Record::Changed(changed) => self.restore_changed(changed),
            Record::Forgotten(key) => self.restore_forgotten(key),
            Record::Named(Named::Queue(record)) => self.restore_queue(record),
            Record::Removed(Name::Queue(name)) => {
                if let Some(key) = self.queues.find(&name) {
                    self.queues.reset(key);
                }
            }
            Record::Named(Named::Session(record)) => self.sessions.restore(record, now),
            Record::Removed(Name::Session(id)) => self.sessions.unrestore(id),
            Record::Named(Named::Exchange(record)) => self.exchanges.restore(record),
            Record::Removed(Name::Exchange(name)) => self.exchanges.unrestore(&name),
            Record::Named(Named::Binding(record)) => self.exchanges.restore_binding(record),
            Record::Removed(Name::Binding(name)) => self.exchanges.unrestore_binding(&name),
            Record::Named(Named::Chord(record)) => self.restore_chord(now, record),
            Record::Removed(Name::Chord(group)) => self.unrestore_chord(&group),
        }
    }

    fn restore_queue(&mut self, record: QueueRecord) {
        let key = self.queues.find_or_create(&record.name);
        self.queues.queue_mut(key).record = record;
    }

    fn restore_submitted(&mut self, submitted: Submitted) {
        let TaskKey { slot, serial } = submitted.key;
        self.latest_serial = self.latest_serial.max(serial);
        if self.tasks.try_task(slot).is_some_and(|task| task.serial() >= serial) {
            return;
        }
        if self.tasks.try_task(slot).is_some() {
            self.unrestore(slot);
        }
        if let Some(present) = submitted.after {
            self.restoring.following.insert(slot, present);
        }
        let queue = self.queues.find_or_create(&submitted.spec.queue);
        let name = self.names.take(&submitted.spec.name);
        let task = self.task_of(&submitted, queue, name);
        self.tasks.restore(slot, task);
        if let Some(changed) = self.restoring.early.remove(&slot) {
            self.restore_changed(changed);
        }
    }

    fn unrestore(&mut self, slot: Slot) {
        let task = self.tasks.unrestore(slot);
        self.names.release(task.name);
        self.restoring.holders.remove(&slot);
        self.restoring.following.remove(&slot);
        self.restoring.dead.remove(&slot);
    }

    fn restore_forgotten(&mut self, key: TaskKey) {
        if self.tasks.try_task(key.slot).is_some_and(|task| task.serial() <= key.serial) {
            self.unrestore(key.slot);
        }
        self.restoring.early.remove(&key.slot);
    }

    fn restore_changed(&mut self, changed: Box<Changed>) {
        let TaskKey { slot, serial } = changed.key;
        self.latest_lease = self.latest_lease.max(changed.lease);
        match self.tasks.try_task(slot) {
            Some(task) if task.serial() > serial => {}
            Some(task) if task.serial() == serial => {
                if changed.version > task.version {
                    self.apply_changed(slot, *changed);
                }
            }
            _ => {
                let order = |changed: &Changed| (changed.key.serial, changed.version);
                let known = self.restoring.early.get(&slot);
                if known.is_none_or(|known| order(known) < order(&changed)) {
                    self.restoring.early.insert(slot, changed);
                }
            }
        }
    }

    fn apply_changed(&mut self, slot: Slot, changed: Changed) {
        let default_ttl_ms = self.config.result_ttl_ms;
        let ttl_ms = self
            .tasks
            .plan(self.tasks.task(slot))
            .map_or(default_ttl_ms, |plan| plan.result_ttl_ms);
        let task = self.tasks.task_mut(slot);
        task.state = changed.state;
        task.version = changed.version;
        task.set_lease(changed.lease);
        task.closed_by = changed.closed_by;
        let grace_until = changed.due.filter(|_| changed.state == State::Started);
        if let Some(due) = changed.due.filter(|_| grace_until.is_none()) {
            task.set_due(due);
        }
        self.restoring.holders.remove(&slot);
        if changed.state.is_terminal() {
            let ttl_ms = changed.result_ttl_ms.unwrap_or(ttl_ms);
            let ttl_ms = if ttl_ms == 0 { default_ttl_ms.max(1) } else { ttl_ms };
            task.set_due(changed.at.saturating_add_unsigned(ttl_ms));
            if changed.state == State::Failure {
                self.restoring.dead.insert(slot, changed.at);
            }
            if self.names.name(self.tasks.task(slot).name).as_str() != PROGRESS_TASK_NAME {
                self.restoring.ends.add(changed.at, changed.key);
            }
            self.strip(slot);
            return;
        }
        match changed.session {
            Some(session) => {
                self.restoring.holders.insert(slot, (session, grace_until));
            }
            // A lease without a session. No broker writes such a record, but the task must not be
            // lost.
            None if task.is_leased() => task.state = State::Queued,
            None => {}
        }
        // No broker writes a task that waits after a cancel, unless it waits for the announcement
        // of its end. A task that was cancelled must not begin.
        let cancel_as = match changed.cancel {
            Cancel::Silent | Cancel::Told if self.tasks.task(slot).is_waiting() => {
                Cancel::CalledOff
            }
            cancel => cancel,
        };
        let run = Run {
            worker: changed.worker,
            attempts: changed.attempts,
            deliveries: changed.deliveries,
            losses: changed.losses,
            silent: changed.silent,
            leased_at: changed.leased_at,
            started_at: changed.started_at,
            began: changed.started_at.unwrap_or_default(),
            progress: changed.progress,
            errors: changed.errors,
            cancel: (changed.cancel != Cancel::None).then_some(changed.revoked_reason),
            cancel_as,
            cancel_at: changed.cancel_at,
            settled: changed.settled,
            redelivered: changed.redelivered,
            ..Run::default()
        };
        // A task whose only change was that it became due needs no run.
        if !run.is_untouched() || self.tasks.task(slot).is_leased() {
            self.tasks.extra_mut(slot).run = Some(Box::new(run));
        }
    }

    /// Called after the whole log was read: sets the indexes, lines and timers of every task.
    /// `lease` and `serial` are the highest that were ever used, also for tasks that the log no
    /// longer has.
    pub fn restored(&mut self, now: Now, lease: u64, serial: u64, effects: &mut Effects) {
        self.latest_lease = self.latest_lease.max(lease);
        self.latest_serial = self.latest_serial.max(serial);
        self.began = now.mono;
        // If two tasks have the same id, the earlier task was dropped without a record.
        let mut dropped = Vec::new();
        let following = std::mem::take(&mut self.restoring.following);
        self.restore_successors(following);
        let is_hidden = |slot| self.successors.present_of(slot).is_some();
        self.tasks.restored(is_hidden, |slot| dropped.push(slot));
        for slot in dropped {
            // No broker writes two tasks of one id if one of them has a successor.
            self.successors.note_end(slot);
            self.unrestore(slot);
            effects.list.push(Effect::Drop(slot));
        }
        let Restoring { holders, dead, ends, .. } = std::mem::take(&mut self.restoring);
        let mut in_line: Vec<InLine> = Vec::with_capacity(self.tasks.len());
        for slot in 0..self.tasks.slots() {
            if self.tasks.try_task(slot).is_some() && self.successors.present_of(slot).is_some() {
                self.enter(slot);
                self.set_expiry_timer(slot);
            } else if self.tasks.try_task(slot).is_some() {
                self.enter(slot);
                self.restore_below(now, slot);
                self.set_restored_timers(slot);
                let task = self.tasks.task(slot);
                if task.state == State::Queued || task.is_leased() {
                    in_line.push(InLine::new(task.serial(), slot));
                }
            }
        }
        // A leased task has a place too: the task may return to it.
        in_line.sort_unstable();
        for InLine { slot, .. } in in_line {
            match self.tasks.task(slot).state {
                State::Queued => self.line_up(slot, false),
                _ => self.take_place(slot),
            }
        }
        for (slot, (id, grace_until)) in holders {
            self.restore_lease(now, slot, id, grace_until);
        }
        self.restore_ends(now, dead, ends);
        for key in self.sessions.all.keys().copied().collect::<Vec<_>>() {
            self.arm_session(key);
        }
        self.queues.restored();
        self.arm_all_idle(now);
        self.arm_restored_chords();
        let step = &mut self.step(now, effects);
        self.take_back_paused(step);
        self.restore_routes(step);
        self.tick(now, effects);
    }

    /// The stored times of ends count as times of the steady clock, which begins now. If the wall
    /// clock was set back, they are no later than that.
    fn restore_ends(&mut self, now: Now, dead: BTreeMap<Slot, Timestamp>, ends: EndsOfLog) {
        for (slot, at) in dead {
            self.ends.add_dead(self.tasks.task(slot).queue(), slot, at.min(now.wall));
        }
        ends.in_order().for_each(|key| self.ends.note_end(key));
    }

    /// A stored time does not show whether it is a time of day or the end of a span. An eta and an
    /// expiry count as times of day. Times that the broker itself set, for a retry or for the end
    /// of a record, count as ends of spans.
    fn set_restored_timers(&mut self, slot: Slot) {
        let task = self.tasks.task(slot);
        let (state, due) = (task.state, task.due());
        match state {
            State::Scheduled => self.timers.set(Moment::At(due), slot, Kind::Due),
            State::Retry => self.timers.set(Moment::Steady(due), slot, Kind::Due),
            State::Success | State::Failure | State::Revoked => {
                return self.timers.set(Moment::Steady(due), slot, Kind::Forget);
            }
            State::Queued | State::Leased | State::Started => {}
        }
        self.set_expiry_timer(slot);
    }
}
