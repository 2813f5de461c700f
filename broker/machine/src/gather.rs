//! Gathering: clients return the parts of a chord, add members, ask for the right to send the body
//! of the chord, and say that they sent it. The counting is in `chord.rs`.
//!
//! A part is a put task whose id begins with the id of the group. The store has a record of what
//! the parts do not show: the size, the lease, the end. A restart counts the parts again. The parts
//! live as long as their chord does: at the end of its own time a part looks at the chord.

use std::collections::BTreeSet;

use celeriac_proto::limits::{CHORD_PARTS_MAX, SPAN_MS_MAX};
use celeriac_proto::{CHORD_MEMBER_TASK_NAME, CHORD_PART_TASK_NAME, TaskId};
use celeriac_record::{Body, ChordRecord, Name, Named, Record, Slot, State};

use crate::Machine;
use crate::chord::ChordKey;
use crate::clocks::Moment;
use crate::command::{
    Answer, ChordAsk, ChordExtend, ChordPart, ChordState, Code, ConnectionKey, Monotonic, Now,
    Refusal,
};
use crate::outcome::NewPutTask;
use crate::step::{Asker, Step};
use crate::task::Task;
use crate::timers::{Kind, MonoTimer};
use crate::transitions::Ended;

/// The most ids of parts in one answer: they fit into every frame.
const PARTS_PER_PAGE: usize = 1_000;

/// The place of a part without an index.
const BEHIND_ALL: u32 = u32::MAX;

impl Machine {
    pub(crate) fn gather(
        &mut self,
        step: &mut Step<'_>,
        asker: Asker,
        group: &TaskId,
        ask: ChordAsk,
    ) {
        let caller = asker.connection;
        let answer = match ask {
            ChordAsk::Part(part) => self.take_part(step, caller, group, part).map(Answer::Chord),
            ChordAsk::Extend(extend) => {
                self.extend_chord(step, caller, group, extend).map(Answer::Chord)
            }
            ChordAsk::Done { lease, result_ttl_ms } => {
                self.finish_chord(step, group, lease, result_ttl_ms).map(|()| Answer::Done)
            }
        };
        step.answer(asker, answer.unwrap_or_else(Answer::Refused));
    }

    fn take_part(
        &mut self,
        step: &mut Step<'_>,
        caller: ConnectionKey,
        group: &TaskId,
        part: ChordPart,
    ) -> Result<ChordState, Refusal> {
        let ChordPart { member, index, size, body, result_ttl_ms, lease_ms } = part;
        let (bytes, max) = (body.bytes.len(), self.config.result_bytes_max);
        if bytes > max {
            let message = format!("the body has {bytes} bytes, and {max} are allowed");
            return Err(Refusal::new(Code::ResultTooLarge, message));
        }
        let ttl_ms = result_ttl_ms.unwrap_or(self.config.result_ttl_ms);
        let place = index.map_or("-".to_owned(), |index| index.to_string());
        let id = id_below(group, &place, &member)?;
        let known = self.chords.find(group);
        if let Some(key) = known.filter(|key| self.chords.chord(*key).is_done) {
            return Ok(self.chord_state(key, 0, 0));
        }
        let slot = self.find_below(step, known, &id)?;
        if slot.is_none() {
            self.room_below(known, 1)?;
        }
        let key = self.chords.find_or_create(group);
        self.prolong_chord(step, key, ttl_ms);
        let has_new_size = self.set_size(key, size);
        if slot.is_none() {
            let put = put_below(group, id, CHORD_PART_TASK_NAME, body, ttl_ms);
            let slot = self.put_below(step, put);
            self.chords.add_part(key, index.unwrap_or(BEHIND_ALL), slot);
        }
        let before = self.chords.chord(key).lease;
        let lease = self.give_chord_lease(step, key, caller, lease_ms);
        if has_new_size || self.chords.chord(key).lease != before {
            self.store_chord(step, key);
        }
        Ok(self.chord_state(key, lease, 0))
    }

    fn extend_chord(
        &mut self,
        step: &mut Step<'_>,
        caller: ConnectionKey,
        group: &TaskId,
        extend: ChordExtend,
    ) -> Result<ChordState, Refusal> {
        let ChordExtend { size, added, lease, claim, parts_from, result_ttl_ms, lease_ms } = extend;
        let known = self.chords.find(group);
        if known.is_none() && size.is_none() && added.is_empty() {
            return Err(Refusal::new(Code::NotFound, "there is no such chord"));
        }
        if lease != 0 && !known.is_some_and(|key| self.holds_chord_lease(key, lease)) {
            return Err(stale());
        }
        let is_done = known.is_some_and(|key| self.chords.chord(key).is_done);
        if let Some(key) = known.filter(|_| is_done && size.is_none()) {
            return Ok(self.chord_state(key, 0, 0));
        }
        let new = self.unknown_members(step, known, group, &added)?;
        let key = self.chords.find_or_create(group);
        let ttl_ms = result_ttl_ms.unwrap_or(self.config.result_ttl_ms);
        self.prolong_chord(step, key, ttl_ms);
        if is_done {
            // The size of a chord that is done begins the chord anew.
            let chord = self.chords.chord_mut(key);
            (chord.is_done, chord.lease) = (false, 0);
        }
        self.set_size(key, size);
        for id in new {
            let nothing = Body { bytes: Default::default(), content_type: "".into() };
            let put = put_below(group, id, CHORD_MEMBER_TASK_NAME, nothing, ttl_ms);
            let slot = self.put_below(step, put);
            self.chords.add_member(key, slot);
        }
        let mut shown = 0;
        if lease != 0 {
            let until = step.now.mono.saturating_add(lease_ms);
            self.chords.give_lease(key, lease, caller, until);
            shown = lease;
        } else if claim {
            shown = self.give_chord_lease(step, key, caller, lease_ms);
        }
        self.store_chord(step, key);
        Ok(self.chord_state(key, shown, parts_from))
    }

    fn finish_chord(
        &mut self,
        step: &mut Step<'_>,
        group: &TaskId,
        lease: u64,
        result_ttl_ms: Option<u64>,
    ) -> Result<(), Refusal> {
        let key = self
            .chords
            .find(group)
            .ok_or_else(|| Refusal::new(Code::NotFound, "there is no such chord"))?;
        let is_last = self.chords.chord(key).lease == lease && lease != 0;
        if is_last && self.chords.chord(key).is_done {
            return Ok(());
        }
        if !self.holds_chord_lease(key, lease) {
            return Err(stale());
        }
        self.chords.free_lease(key);
        let chord = self.chords.chord_mut(key);
        (chord.is_done, chord.size) = (true, None);
        self.prolong_chord(step, key, result_ttl_ms.unwrap_or(self.config.result_ttl_ms));
        self.drop_below(step, key);
        self.store_chord(step, key);
        Ok(())
    }

    fn holds_chord_lease(&self, key: ChordKey, lease: u64) -> bool {
        let chord = self.chords.chord(key);
        lease != 0 && chord.lease == lease && !chord.is_done
    }

    /// Gives the lease to the caller, if the body can be sent. Returns the lease, or 0.
    fn give_chord_lease(
        &mut self,
        step: &Step<'_>,
        key: ChordKey,
        caller: ConnectionKey,
        lease_ms: u64,
    ) -> u64 {
        let chord = self.chords.chord(key);
        if !chord.may_give_lease(caller, step.now.mono) {
            return 0;
        }
        let mut lease = chord.lease;
        if !chord.is_held_by(caller) {
            self.latest_lease += 1;
            lease = self.latest_lease;
        }
        let until = step.now.mono.saturating_add(lease_ms);
        self.chords.give_lease(key, lease, caller, until);
        lease
    }

    /// Returns whether the size changed.
    fn set_size(&mut self, key: ChordKey, size: Option<u32>) -> bool {
        let chord = self.chords.chord_mut(key);
        let is_new = size.is_some() && chord.size != size;
        chord.size = size.or(chord.size);
        is_new
    }

    fn chord_state(&self, key: ChordKey, lease: u64, parts_from: u32) -> ChordState {
        let chord = self.chords.chord(key);
        let mut state = ChordState {
            count: chord.count(),
            size: chord.size,
            added: chord.added(),
            lease,
            is_done: chord.is_done,
            parts: Vec::new(),
            parts_left: 0,
        };
        if lease != 0 {
            let slots = chord.parts_from(parts_from).take(PARTS_PER_PAGE);
            state.parts = slots.map(|slot| self.tasks.id(self.tasks.task(slot))).collect();
            let shown = parts_from.saturating_add(state.parts.len() as u32);
            state.parts_left = state.count.saturating_sub(shown);
        }
        state
    }

    /// The ids of the put tasks for those members that were not added before.
    fn unknown_members(
        &mut self,
        step: &mut Step<'_>,
        chord: Option<ChordKey>,
        group: &TaskId,
        added: &[TaskId],
    ) -> Result<Vec<TaskId>, Refusal> {
        let mut ids = BTreeSet::new();
        for member in added {
            ids.insert(id_below(group, "+", member)?);
        }
        let mut unknown = Vec::with_capacity(ids.len());
        for id in ids {
            if self.find_below(step, chord, &id)?.is_none() {
                unknown.push(id);
            }
        }
        self.room_below(chord, unknown.len())?;
        Ok(unknown)
    }

    /// The put task of this id below the group, if the chord has one.
    fn find_below(
        &mut self,
        step: &mut Step<'_>,
        chord: Option<ChordKey>,
        id: &TaskId,
    ) -> Result<Option<Slot>, Refusal> {
        let Some(slot) = self.tasks.find(id) else { return Ok(None) };
        if chord.is_some() && self.chords.of_slot(slot) == chord {
            return Ok(Some(slot));
        }
        if self.is_below_chord(self.tasks.task(slot)) && self.chords.of_slot(slot).is_none() {
            // The put task is of a chord that is over, and would be forgotten in a moment.
            self.forget(step, slot);
            return Ok(None);
        }
        let message = format!("the id `{id}` below the group is that of another task");
        Err(Refusal::new(Code::TaskExists, message))
    }

    /// Whether a put task is a part of a chord, or stands for a member that was added.
    pub(crate) fn is_below_chord(&self, task: &Task) -> bool {
        let name = self.names.name(task.name).as_str();
        [CHORD_PART_TASK_NAME, CHORD_MEMBER_TASK_NAME].contains(&name)
    }

    fn room_below(&self, chord: Option<ChordKey>, tasks: usize) -> Result<(), Refusal> {
        if chord.is_none() && self.chords.is_full() {
            return Err(Refusal::new(Code::Overloaded, "there are too many chords"));
        }
        let held = chord.map_or(0, |key| self.chords.chord(key).slots().count());
        if held + tasks > CHORD_PARTS_MAX {
            let message = format!("a chord has at most {CHORD_PARTS_MAX} parts and added members");
            return Err(Refusal::new(Code::InvalidArgument, message));
        }
        if tasks == 0 { Ok(()) } else { self.room_on_disk() }
    }

    fn put_below(&mut self, step: &mut Step<'_>, put: NewPutTask) -> Slot {
        let slot = self.tasks.next_slot();
        self.create_put_task(step, slot, 1, put);
        slot
    }

    /// The put task of this slot is about to be removed.
    pub(crate) fn leave_chord(&mut self, slot: Slot) {
        if !self.chords.is_empty() {
            self.chords.leave(slot);
        }
    }

    /// The time of a put task is over. Returns whether it lives on, because its chord does.
    pub(crate) fn lives_with_chord(&mut self, step: &Step<'_>, slot: Slot) -> bool {
        let Some(key) = self.chords.of_slot(slot) else { return false };
        let left_ms = self.chords.chord(key).expires_at.saturating_sub(step.now.mono);
        if left_ms == 0 {
            return false;
        }
        self.forget_at(step, slot, left_ms);
        true
    }

    fn forget_at(&mut self, step: &Step<'_>, slot: Slot, left_ms: u64) {
        self.tasks.task_mut(slot).set_due(step.clocks.after(left_ms));
        let due = self.tasks.task(slot).due();
        self.timers.set(Moment::Steady(due), slot, Kind::Forget);
    }

    /// Lets all put tasks of a chord be forgotten. A tick forgets a bounded number of them.
    fn drop_below(&mut self, step: &Step<'_>, key: ChordKey) {
        for slot in self.chords.empty(key) {
            self.forget_at(step, slot, 0);
        }
    }

    /// Keeps a chord for at least this time from now on.
    fn prolong_chord(&mut self, step: &Step<'_>, key: ChordKey, ttl_ms: u64) {
        let until = step.now.mono.saturating_add(ttl_ms.min(SPAN_MS_MAX));
        let chord = self.chords.chord_mut(key);
        chord.expires_at = chord.expires_at.max(until);
        self.arm_chord(key);
    }

    /// Sets the timer of a chord. A timer that fires early looks at the time again.
    fn arm_chord(&mut self, key: ChordKey) {
        let chord = self.chords.chord_mut(key);
        if chord.timer_at.is_none() {
            chord.timer_at = Some(chord.expires_at);
            self.timers.set_mono(chord.expires_at, MonoTimer::Chord(key));
        }
    }

    pub(crate) fn chord_timer(&mut self, step: &mut Step<'_>, key: ChordKey) {
        let Some(chord) = self.chords.try_chord(key) else { return };
        if chord.expires_at > step.now.mono {
            self.chords.chord_mut(key).timer_at = None;
            return self.arm_chord(key);
        }
        self.drop_below(step, key);
        let chord = self.chords.remove(key);
        if chord.is_stored {
            step.store(Record::Removed(Name::Chord(chord.group)));
        }
    }

    fn store_chord(&mut self, step: &mut Step<'_>, key: ChordKey) {
        let chord = self.chords.chord_mut(key);
        chord.is_stored = true;
        let left_ms = chord.expires_at.saturating_sub(step.now.mono);
        let record = ChordRecord {
            group: chord.group.clone(),
            size: chord.size,
            lease: chord.lease,
            is_done: chord.is_done,
            expires_at: step.now.wall.saturating_add_unsigned(left_ms),
        };
        step.store(Record::Named(Named::Chord(record)));
    }

    pub(crate) fn restore_chord(&mut self, now: Now, record: ChordRecord) {
        self.latest_lease = self.latest_lease.max(record.lease);
        let key = self.chords.find_or_create(&record.group);
        let chord = self.chords.chord_mut(key);
        (chord.size, chord.lease, chord.is_done) = (record.size, record.lease, record.is_done);
        chord.is_stored = true;
        // A later record of the chord takes the place of an earlier one.
        chord.expires_at = monotonic(now, record.expires_at);
    }

    pub(crate) fn unrestore_chord(&mut self, group: &TaskId) {
        if let Some(key) = self.chords.find(group) {
            self.chords.remove(key);
        }
    }

    /// Counts a put task of a chord again, after the log was read.
    pub(crate) fn restore_below(&mut self, now: Now, slot: Slot) {
        let task = self.tasks.task(slot);
        if !self.is_below_chord(task) || task.state != State::Success {
            return;
        }
        let is_part = self.names.name(task.name).as_str() == CHORD_PART_TASK_NAME;
        let group = self.tasks.plan(task).and_then(|plan| TaskId::parse(&*plan.root_id).ok());
        let Some(group) = group else { return };
        let index = self.tasks.with_id(task, |id| index_of(id, &group));
        let until = monotonic(now, task.due());
        let key = self.chords.find_or_create(&group);
        let chord = self.chords.chord_mut(key);
        if chord.is_done {
            // The broker ended before it had forgotten all of them.
            self.tasks.task_mut(slot).set_due(now.wall);
            return;
        }
        chord.expires_at = chord.expires_at.max(until);
        match is_part {
            true => self.chords.add_part(key, index, slot),
            false => self.chords.add_member(key, slot),
        }
    }

    /// Called after the log was read and all parts are counted.
    pub(crate) fn arm_restored_chords(&mut self) {
        for key in self.chords.keys() {
            self.arm_chord(key);
        }
    }
}

/// The id of a put task of a chord: the id of the group, the place, and the member.
fn id_below(group: &TaskId, place: &str, member: &TaskId) -> Result<TaskId, Refusal> {
    TaskId::parse(format!("{group}/{place}/{member}")).map_err(|_| {
        let message = "the id of the group and the id of the member are too long together";
        Refusal::new(Code::InvalidArgument, message)
    })
}

/// The index in the id of a part.
fn index_of(id: &str, group: &TaskId) -> u32 {
    let below = id.strip_prefix(group.as_str()).and_then(|below| below.strip_prefix('/'));
    let place = below.and_then(|below| below.split_once('/')).map(|(place, _)| place);
    place.and_then(|place| place.parse().ok()).unwrap_or(BEHIND_ALL)
}

fn put_below(
    group: &TaskId,
    id: TaskId,
    name: &'static str,
    body: Body,
    ttl_ms: u64,
) -> NewPutTask {
    NewPutTask {
        id,
        name,
        root_id: group.as_str().into(),
        lease: 0,
        state: State::Success,
        progress: None,
        error: None,
        ended: Ended { result: Some(body), ..Ended::default() },
        ttl_ms,
    }
}

fn stale() -> Refusal {
    Refusal::new(Code::StaleLease, "the lease is not the current lease of the chord")
}

/// The monotonic time of a time of day.
fn monotonic(now: Now, at: i64) -> Monotonic {
    now.mono.saturating_add(at.saturating_sub(now.wall).max(0) as u64)
}
