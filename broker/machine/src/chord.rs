//! Chords: a chord collects the parts of a group, counts them, and gives one caller the right to
//! send the body of the chord. This module has the data of all chords and the counting. It does not
//! keep the parts: they are put tasks, and `gather.rs` makes them and answers requests.

use std::collections::{BTreeMap, BTreeSet};

use celeriac_proto::TaskId;
use celeriac_record::{Lease, Slot};

use crate::command::{ConnectionKey, Monotonic};

/// The number of a chord in the table.
pub(crate) type ChordKey = u64;

/// The most chords at once: a chord takes some hundred bytes beside its parts.
pub(crate) const CHORDS_MAX: usize = 1_000_000;

/// All chords, by number, by group and by the slots of their tasks.
#[derive(Debug, Default)]
pub(crate) struct Chords {
    all: BTreeMap<ChordKey, Chord>,
    by_group: BTreeMap<TaskId, ChordKey>,
    /// The chord of a slot, and the index of the part; no index: of a member that was added.
    by_slot: BTreeMap<Slot, (ChordKey, Option<u32>)>,
    /// The chords whose lease a connection holds.
    held: BTreeMap<ConnectionKey, BTreeSet<ChordKey>>,
    latest: ChordKey,
}

/// One chord.
#[derive(Debug)]
pub(crate) struct Chord {
    pub group: TaskId,
    /// The number of members of the group, without members that were added. Absent: not known yet.
    pub size: Option<u32>,
    /// The parts, in the order of their indexes.
    parts: BTreeSet<(u32, Slot)>,
    /// One put task for each member that was added.
    added: BTreeSet<Slot>,
    /// The right to send the body; 0: nobody had it yet.
    pub lease: Lease,
    /// The connection that holds the lease, and the time until which it does.
    holder: Option<(ConnectionKey, Monotonic)>,
    /// The body was sent.
    pub is_done: bool,
    /// From this time on the broker forgets the chord.
    pub expires_at: Monotonic,
    /// When the timer of the chord fires.
    pub timer_at: Option<Monotonic>,
    /// Whether the store has a record of the chord.
    pub is_stored: bool,
}

impl Chord {
    pub fn count(&self) -> u32 {
        self.parts.len() as u32
    }

    pub fn added(&self) -> u32 {
        self.added.len() as u32
    }

    /// Whether every member has returned its part.
    fn is_complete(&self) -> bool {
        self.size.is_some_and(|size| self.parts.len() >= size as usize + self.added.len())
    }

    /// Whether the caller may get the lease now: the body can be sent, and no other caller is about
    /// to send it.
    pub fn may_give_lease(&self, caller: ConnectionKey, now: Monotonic) -> bool {
        let is_free = self.holder.is_none_or(|(holder, until)| holder == caller || until <= now);
        !self.is_done && self.is_complete() && is_free
    }

    /// Whether this connection holds the lease already.
    pub fn is_held_by(&self, caller: ConnectionKey) -> bool {
        self.holder.is_some_and(|(holder, _)| holder == caller)
    }

    /// The slots of the parts from this place on, in the order of their indexes.
    pub fn parts_from(&self, from: u32) -> impl Iterator<Item = Slot> {
        self.parts.iter().skip(from as usize).map(|(_, slot)| *slot)
    }

    /// All put tasks of the chord.
    pub fn slots(&self) -> impl Iterator<Item = Slot> {
        self.parts.iter().map(|(_, slot)| *slot).chain(self.added.iter().copied())
    }
}

impl Chords {
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub fn is_full(&self) -> bool {
        self.all.len() >= CHORDS_MAX
    }

    pub fn find(&self, group: &TaskId) -> Option<ChordKey> {
        self.by_group.get(group).copied()
    }

    pub fn of_slot(&self, slot: Slot) -> Option<ChordKey> {
        self.by_slot.get(&slot).map(|(key, _)| *key)
    }

    pub fn try_chord(&self, key: ChordKey) -> Option<&Chord> {
        self.all.get(&key)
    }

    pub fn chord(&self, key: ChordKey) -> &Chord {
        self.all.get(&key).expect("a chord with a key exists")
    }

    pub fn chord_mut(&mut self, key: ChordKey) -> &mut Chord {
        self.all.get_mut(&key).expect("a chord with a key exists")
    }

    pub fn keys(&self) -> Vec<ChordKey> {
        self.all.keys().copied().collect()
    }

    pub fn find_or_create(&mut self, group: &TaskId) -> ChordKey {
        if let Some(key) = self.find(group) {
            return key;
        }
        self.latest += 1;
        let chord = Chord {
            group: group.clone(),
            size: None,
            parts: BTreeSet::new(),
            added: BTreeSet::new(),
            lease: 0,
            holder: None,
            is_done: false,
            expires_at: 0,
            timer_at: None,
            is_stored: false,
        };
        self.all.insert(self.latest, chord);
        self.by_group.insert(group.clone(), self.latest);
        self.latest
    }

    /// Counts a part. A slot counts once.
    pub fn add_part(&mut self, key: ChordKey, index: u32, slot: Slot) {
        self.chord_mut(key).parts.insert((index, slot));
        self.by_slot.insert(slot, (key, Some(index)));
    }

    /// Counts a member that was added. A slot counts once.
    pub fn add_member(&mut self, key: ChordKey, slot: Slot) {
        self.chord_mut(key).added.insert(slot);
        self.by_slot.insert(slot, (key, None));
    }

    /// The put task of this slot is removed.
    pub fn leave(&mut self, slot: Slot) {
        match self.by_slot.remove(&slot) {
            Some((key, Some(index))) => drop(self.chord_mut(key).parts.remove(&(index, slot))),
            Some((key, None)) => drop(self.chord_mut(key).added.remove(&slot)),
            None => {}
        }
    }

    /// Takes the put tasks out of a chord, which begins anew or is about to be forgotten.
    pub fn empty(&mut self, key: ChordKey) -> Vec<Slot> {
        let slots: Vec<Slot> = self.chord(key).slots().collect();
        for slot in &slots {
            self.by_slot.remove(slot);
        }
        let chord = self.chord_mut(key);
        chord.parts.clear();
        chord.added.clear();
        slots
    }

    /// Gives the lease to a caller until this time. A caller that holds the lease keeps its number.
    pub fn give_lease(
        &mut self,
        key: ChordKey,
        lease: Lease,
        caller: ConnectionKey,
        until: Monotonic,
    ) {
        self.free_lease(key);
        let chord = self.chord_mut(key);
        (chord.lease, chord.holder) = (lease, Some((caller, until)));
        self.held.entry(caller).or_default().insert(key);
    }

    /// From now on another caller may get the lease. Until then the number of the lease is valid.
    pub fn free_lease(&mut self, key: ChordKey) {
        let Some((holder, _)) = self.chord_mut(key).holder.take() else { return };
        if let Some(held) = self.held.get_mut(&holder) {
            held.remove(&key);
            if held.is_empty() {
                self.held.remove(&holder);
            }
        }
    }

    /// A connection is lost, and with it the caller that may have sent a body.
    pub fn lose(&mut self, connection: ConnectionKey) {
        for key in self.held.remove(&connection).unwrap_or_default() {
            self.chord_mut(key).holder = None;
        }
    }

    pub fn remove(&mut self, key: ChordKey) -> Chord {
        self.empty(key);
        self.free_lease(key);
        let chord = self.all.remove(&key).expect("a chord with a key exists");
        self.by_group.remove(&chord.group);
        chord
    }

    /// For the invariant checks: whether the tables agree with each other.
    pub fn is_consistent(&self) -> bool {
        let slots: usize = self.all.values().map(|chord| chord.slots().count()).sum();
        let holders = self.all.values().filter(|chord| chord.holder.is_some()).count();
        let held: usize = self.held.values().map(BTreeSet::len).sum();
        slots == self.by_slot.len()
            && holders == held
            && self.by_group.len() == self.all.len()
            && self.by_slot.iter().all(|(slot, (key, _))| {
                self.all.get(key).is_some_and(|chord| chord.slots().any(|other| other == *slot))
            })
    }
}
