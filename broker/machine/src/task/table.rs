//! The table of all tasks, by slot and by id.

use std::num::NonZeroU32;

use celeriac_proto::TaskId;
use celeriac_record::{Lease, Slot, State, TaskKey};
use foldhash::fast::FixedState;

use super::by_id::ById;
use super::id::PackedId;
use super::pages::Pages;
use super::texts::Texts;
use super::{Extra, NewTask, Plan, Run, Task};

/// The number of leases whose slots are at hand. A worker holds at most so many leases at once, and
/// mostly reports on the latest of them.
const LEASES_AT_HAND: usize = 64 * 1024;

const NAMED: &str = "references to a slot are removed with its task";

#[derive(Debug)]
pub(crate) struct Tasks {
    slots: Pages<Task>,
    extras: Pages<Extra>,
    /// The rests of long ids.
    texts: Texts,
    by_id: ById,
    /// The slot of each of the latest leases, by the number of the lease. An entry may be outdated,
    /// so a reader must check the lease of the task.
    by_lease: Vec<Slot>,
    len: usize,
    /// The hasher has a seed, so that a client cannot make ids collide on purpose.
    hasher: FixedState,
}

impl Tasks {
    pub fn new(seed: u64) -> Self {
        Self {
            slots: Pages::default(),
            extras: Pages::default(),
            texts: Texts::default(),
            by_id: ById::new(),
            by_lease: Vec::new(),
            len: 0,
            hasher: FixedState::with_seed(seed),
        }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// An exclusive upper bound of the slots in use. It may be higher than the highest slot plus
    /// one.
    pub fn slots(&self) -> Slot {
        self.slots.end()
    }

    pub fn find(&self, id: &str) -> Option<Slot> {
        let packed = PackedId::of(id);
        let hash = hash(&self.hasher, packed, id);
        self.by_id.find(hash, |slot| self.holds(*slot, packed, id)).copied()
    }

    /// Like [`find`](Self::find), for the task of an id that probably has this lease.
    ///
    /// Most reports name a recent lease. The way from the number of the lease to the task needs one
    /// wait for memory, and the way from the id needs three.
    pub fn find_leased(&self, id: &str, lease: Lease) -> Option<Slot> {
        self.at_hand(lease)
            .filter(|slot| self.holds(*slot, PackedId::of(id), id))
            .or_else(|| self.find(id))
    }

    /// Reads the entries of tasks with these leases. The processor then waits for the memory of
    /// several entries at once, and the reports that follow find it at hand. Measured with a
    /// million tasks, together with [`look_for`](Self::look_for): a lifecycle takes a twentieth
    /// less processor time.
    pub fn look_ahead(&self, leases: impl Iterator<Item = Lease>) {
        let extras = leases.filter_map(|lease| self.task(self.at_hand(lease)?).extra);
        let runs = extras.filter_map(|key| self.extras.get(key.get() - 1)?.run.as_deref());
        std::hint::black_box(runs.filter(|run| run.attempts > 0).count());
    }

    /// Looks up ids of which most are new, for the same reason.
    pub fn look_for<'i>(&self, ids: impl Iterator<Item = &'i str>) {
        let found = ids.filter(|id| {
            let hash = hash(&self.hasher, PackedId::of(id), id);
            self.by_id.find(hash, |_| true).is_some()
        });
        std::hint::black_box(found.count());
    }

    /// The slot of a task with this lease, if the lease is one of the latest.
    fn at_hand(&self, lease: Lease) -> Option<Slot> {
        let slot = *self.by_lease.get(lease as usize % LEASES_AT_HAND)?;
        self.try_task(slot).filter(|task| task.lease() == lease && lease != 0).map(|_| slot)
    }

    fn holds(&self, slot: Slot, packed: PackedId, id: &str) -> bool {
        self.task(slot).id.is(packed, id, &self.texts)
    }

    pub fn try_task(&self, slot: Slot) -> Option<&Task> {
        self.slots.get(slot)
    }

    /// The task of a slot that must be in use.
    pub fn task(&self, slot: Slot) -> &Task {
        self.slots.get(slot).expect(NAMED)
    }

    pub fn task_mut(&mut self, slot: Slot) -> &mut Task {
        self.slots.get_mut(slot).expect(NAMED)
    }

    /// Gives the task of a slot a new lease.
    pub fn set_lease(&mut self, slot: Slot, lease: Lease) {
        self.task_mut(slot).set_lease(lease);
        let place = lease as usize % LEASES_AT_HAND;
        if place >= self.by_lease.len() {
            self.by_lease.resize(place + 1, Slot::MAX);
        }
        self.by_lease[place] = slot;
    }

    /// The order of the task of a slot, if the task waits in line.
    pub fn queued_order(&self, slot: Slot) -> Option<u64> {
        self.try_task(slot).filter(|task| task.state == State::Queued).map(Task::order)
    }

    pub fn key(&self, slot: Slot) -> TaskKey {
        TaskKey { slot, serial: self.task(slot).serial() }
    }

    pub fn id(&self, task: &Task) -> TaskId {
        self.with_id(task, |id| TaskId::parse(id).expect("the text is the id of a task"))
    }

    /// Calls `look` with the id of a task.
    pub fn with_id<R>(&self, task: &Task, look: impl FnOnce(&str) -> R) -> R {
        task.id.with_text(&self.texts, look)
    }

    fn extra(&self, task: &Task) -> Option<&Extra> {
        extra(&self.extras, task)
    }

    /// The rules of the task, if they differ from the defaults.
    pub fn plan(&self, task: &Task) -> Option<&Plan> {
        self.extra(task)?.plan.as_deref()
    }

    /// The run of the task: there is one from the first delivery until the end.
    pub fn run(&self, task: &Task) -> Option<&Run> {
        self.extra(task)?.run.as_deref()
    }

    pub fn attempts(&self, task: &Task) -> u32 {
        self.run(task).map_or(0, |run| run.attempts)
    }

    pub fn generation(&self, task: &Task) -> u32 {
        self.extra(task).map_or(1, |extra| extra.generation)
    }

    /// The hash of the key with which the task was submitted; 0 without a key.
    pub fn submit_key(&self, task: &Task) -> u64 {
        self.extra(task).map_or(0, |extra| extra.submit_key)
    }

    /// The hash of the key of a submit; 0 for an empty key.
    pub fn hash_of_key(&self, submit_key: &str) -> u64 {
        use std::hash::BuildHasher;
        if submit_key.is_empty() { 0 } else { self.hasher.hash_one(submit_key).max(1) }
    }

    pub fn is_watched(&self, task: &Task) -> bool {
        self.extra(task).is_some_and(|extra| extra.watched)
    }

    pub fn run_mut(&mut self, slot: Slot) -> Option<&mut Run> {
        let key = self.task(slot).extra?;
        self.extras.get_mut(key.get() - 1)?.run.as_deref_mut()
    }

    /// The `Extra` of a task, created if the task has none. A caller that removes something from it
    /// must call [`settle`](Self::settle) afterwards.
    pub fn extra_mut(&mut self, slot: Slot) -> &mut Extra {
        let task = self.slots.get_mut(slot).expect(NAMED);
        let extras = &mut self.extras;
        let key = *task.extra.get_or_insert_with(|| {
            let number = extras.insert(Extra::default());
            NonZeroU32::new(number + 1).expect("a number plus one is not 0")
        });
        self.extras.get_mut(key.get() - 1).expect("a task's extra is removed with it")
    }

    /// Removes the `Extra` of a task if the task no longer needs one.
    pub fn settle(&mut self, slot: Slot) {
        let task = self.slots.get_mut(slot).expect(NAMED);
        let Some(key) = task.extra else { return };
        if self.extras.get(key.get() - 1).is_some_and(Extra::is_bare) {
            self.extras.take(key.get() - 1);
            task.extra = None;
        }
    }

    /// The slot that the next task gets.
    pub fn next_slot(&self) -> Slot {
        self.slots.next()
    }

    /// Puts a task into an empty slot.
    pub fn put(&mut self, slot: Slot, new: NewTask) {
        debug_assert!(self.find(&new.id).is_none(), "an id has at most one task");
        let hash = hash(&self.hasher, PackedId::of(&new.id), &new.id);
        self.restore(slot, new);
        self.index(slot, hash);
        self.len += 1;
    }

    fn index(&mut self, slot: Slot, hash: u64) {
        let (slots, texts, hasher) = (&self.slots, &self.texts, &self.hasher);
        self.by_id.insert(hash, slot, |slot| hash_of(slots, texts, hasher, *slot));
    }

    /// Puts a task into an empty slot. The id does not find the task before
    /// [`reveal`](Self::reveal).
    pub fn put_hidden(&mut self, slot: Slot, new: NewTask) {
        self.restore(slot, new);
        self.len += 1;
    }

    /// Removes a hidden task.
    pub fn remove_hidden(&mut self, slot: Slot) -> Task {
        self.len -= 1;
        self.unrestore(slot)
    }

    /// Puts a task into an empty slot. The id does not find the task before
    /// [`restored`](Self::restored).
    pub fn restore(&mut self, slot: Slot, new: NewTask) {
        self.slots.put(slot, Task::new(&new, &mut self.texts));
        let NewTask { plan, generation, watched, submit_key, .. } = new;
        let extra = Extra { plan, generation, watched, submit_key, run: None };
        if !extra.is_bare() {
            *self.extra_mut(slot) = extra;
        }
    }

    /// From now on the id finds the task of this slot.
    pub fn reveal(&mut self, slot: Slot) {
        self.index(slot, hash_of(&self.slots, &self.texts, &self.hasher, slot));
    }

    /// Removes a task that [`restore`](Self::restore) put in.
    pub fn unrestore(&mut self, slot: Slot) -> Task {
        let task = self.slots.take(slot).expect("only a task in the table is removed");
        task.extra.map(|key| self.extras.take(key.get() - 1));
        task.id.release(&mut self.texts);
        task
    }

    /// Called when all tasks are restored: from now on their ids find them. If two tasks have the
    /// same id, the id finds the later task, and `duplicate` gets the slot of the other. Tasks in
    /// slots for which `is_hidden` holds stay hidden.
    pub fn restored(&mut self, is_hidden: impl Fn(Slot) -> bool, mut duplicate: impl FnMut(Slot)) {
        let (slots, texts, hasher) = (&self.slots, &self.texts, &self.hasher);
        let rehash = |slot: &Slot| hash_of(slots, texts, hasher, *slot);
        self.by_id.reserve(slots.len(), rehash);
        for slot in (0..slots.end()).filter(|slot| slots.get(*slot).is_some()) {
            if is_hidden(slot) {
                self.len += 1;
                continue;
            }
            let hash = rehash(&slot);
            let same = |other: &Slot| same_id(slots, texts, *other, slot);
            match self.by_id.find_mut(hash, same) {
                None => {
                    self.by_id.insert(hash, slot, rehash);
                    self.len += 1;
                }
                Some(other) => {
                    let serial = |slot: Slot| slots.get(slot).map(Task::serial);
                    let earlier = if serial(*other) < serial(slot) {
                        std::mem::replace(other, slot)
                    } else {
                        slot
                    };
                    duplicate(earlier);
                }
            }
        }
    }

    pub fn remove(&mut self, slot: Slot) -> Task {
        let hash = hash_of(&self.slots, &self.texts, &self.hasher, slot);
        let (slots, texts, hasher) = (&self.slots, &self.texts, &self.hasher);
        self.by_id.remove(hash, slot, |slot| hash_of(slots, texts, hasher, *slot));
        self.len -= 1;
        self.unrestore(slot)
    }
}

fn extra<'e>(extras: &'e Pages<Extra>, task: &Task) -> Option<&'e Extra> {
    Some(extras.get(task.extra?.get() - 1).expect("a task's extra is removed with it"))
}

fn hash(hasher: &FixedState, packed: PackedId, id: &str) -> u64 {
    use std::hash::BuildHasher;
    if packed.is_long() { hasher.hash_one(id) } else { hasher.hash_one(packed.short_bytes()) }
}

fn hash_of(slots: &Pages<Task>, texts: &Texts, hasher: &FixedState, slot: Slot) -> u64 {
    let packed = slots.get(slot).expect("every slot in the index is taken").id;
    match packed.is_long() {
        true => packed.with_text(texts, |id| hash(hasher, packed, id)),
        false => hash(hasher, packed, ""),
    }
}

fn same_id(slots: &Pages<Task>, texts: &Texts, one: Slot, other: Slot) -> bool {
    let [one, other] =
        [one, other].map(|slot| slots.get(slot).expect("every slot in the index is taken").id);
    match one.is_long() {
        true => one.with_text(texts, |id| other.is(PackedId::of(id), id, texts)),
        false => one == other,
    }
}
