//! The index of live records: their locations, and the live bytes of each chunk. The index is in
//! memory and is rebuilt at each start. It takes 8 bytes for each task, 8 more where some tasks of
//! a page have changed, and 6 for each chunk.
//!
//! The index keeps no serial numbers. The order of the log is enough, because the rest of the store
//! obeys two rules:
//!
//! 1. For each slot, a submit stands before the changes of that task. Cleaning, which copies live
//!    records to the tail, copies a submit together with its change.
//! 2. Chunks leave the log oldest first.
//!
//! So a change without a submit is stale; the submit of a forgotten task leaves the log before the
//! record that the task was forgotten; and a task that was dropped without a record comes back
//! after a restart either whole or not at all.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU16;

use celeriac_record::{Name, Slot};

use super::chunk::{FRAME_PREFIX_BYTES, HEADER_BYTES};
use super::codec::Glance;

/// The location of a record. The location is valid while the record is live: until the task changes
/// again, is dropped or forgotten, or until the next commit, which may move the record. Call
/// [`Store::locate`](super::Store::locate) right before reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    /// The low half of the chunk's number; the log never spans 2^32 chunks.
    pub(super) chunk: u32,
    pub(super) offset: NonZeroU16,
    /// 0: a record in a run of chunks of its own.
    pub(super) length: u16,
}

impl Location {
    pub(super) fn frame(chunk: u64, offset: u16, length: u16) -> Self {
        let offset = NonZeroU16::new(offset)
            .expect("a frame comes after the header, so its offset is not 0");
        Self { chunk: chunk as u32, offset, length }
    }

    pub(super) fn run(chunk: u64) -> Self {
        Self::frame(chunk, HEADER_BYTES as u16, 0)
    }

    pub(super) fn is_run(self) -> bool {
        self.length == 0
    }
}

/// The locations of a task's live records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Located {
    /// The submit.
    pub submitted: Location,
    /// The latest change of its state, if any.
    pub changed: Option<Location>,
}

/// The index entry of one chunk. A chunk has at most 24 KiB, so two bytes are enough for a length.
#[derive(Debug, Clone, Copy)]
struct ChunkLife {
    bytes: u16,
    live: u16,
    /// Whether the chunk is a further piece of a run that began before it.
    follows: bool,
}

const PAGE_SLOTS: usize = 1 << 12;

/// The records of some slots. The index frees a page when it is empty.
#[derive(Debug)]
struct Page {
    submitted: Locations,
    /// `None` until a task of the page changes: a backlog without changes needs no memory for
    /// them.
    changed: Option<Locations>,
}

/// One kind of record of some slots.
#[derive(Debug)]
struct Locations {
    of: Box<[Option<Location>]>,
    present: usize,
}

impl Locations {
    fn new() -> Self {
        Self { of: vec![None; PAGE_SLOTS].into(), present: 0 }
    }

    fn replace(&mut self, place: usize, at: Option<Location>) -> Option<Location> {
        let old = std::mem::replace(&mut self.of[place], at);
        self.present = self.present + usize::from(at.is_some()) - usize::from(old.is_some());
        old
    }
}

#[derive(Debug, Default)]
pub(super) struct Index {
    /// The table has pages, so that growing never copies the whole table.
    pages: Vec<Option<Page>>,
    named: HashMap<Name, Location>,
    chunks: VecDeque<ChunkLife>,
    base: u64,
    live_bytes: u64,
    log_bytes: u64,
}

impl Index {
    pub(super) fn new(base: u64) -> Self {
        Self { base, ..Self::default() }
    }

    /// The number of the oldest chunk.
    pub(super) fn base(&self) -> u64 {
        self.base
    }

    /// The number that the next chunk gets.
    pub(super) fn end(&self) -> u64 {
        self.base + self.chunks.len() as u64
    }

    pub(super) fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    pub(super) fn log_bytes(&self) -> u64 {
        self.log_bytes
    }

    /// The full number of the chunk that a location names.
    pub(super) fn number(&self, at: Location) -> u64 {
        self.base + u64::from(at.chunk.wrapping_sub(self.base as u32))
    }

    pub(super) fn locate(&self, slot: Slot) -> Option<Located> {
        let page = self.pages.get(slot as usize / PAGE_SLOTS)?.as_ref()?;
        let place = slot as usize % PAGE_SLOTS;
        let changed = page.changed.as_ref().and_then(|changed| changed.of[place]);
        Some(Located { submitted: page.submitted.of[place]?, changed })
    }

    /// Notes a record at the tail of the log, and the records that it replaces.
    pub(super) fn record(&mut self, glance: Glance, at: Location) {
        match glance {
            Glance::Submitted(slot) => {
                let page = self.page_mut(slot);
                let place = slot as usize % PAGE_SLOTS;
                let submitted = page.submitted.replace(place, Some(at));
                let changed =
                    page.changed.as_mut().and_then(|changed| changed.replace(place, None));
                self.bury(submitted);
                self.bury(changed);
                self.revive(at);
            }
            Glance::Changed(slot) => {
                // A change without a submit is stale: see the head of this file.
                if self.locate(slot).is_some() {
                    let changed = self.page_mut(slot).changed.get_or_insert_with(Locations::new);
                    let old = changed.replace(slot as usize % PAGE_SLOTS, Some(at));
                    self.bury(old);
                    self.revive(at);
                }
            }
            Glance::Forgotten(slot) => self.drop_task(slot),
            Glance::Named(name) => {
                let old = self.named.insert(name, at);
                self.bury(old);
                self.revive(at);
            }
            Glance::Removed(name) => {
                let old = self.named.remove(&name);
                self.bury(old);
            }
        }
    }

    pub(super) fn drop_task(&mut self, slot: Slot) {
        let number = slot as usize / PAGE_SLOTS;
        let Some(Some(page)) = self.pages.get_mut(number) else { return };
        let place = slot as usize % PAGE_SLOTS;
        let submitted = page.submitted.replace(place, None);
        let changed = page.changed.as_mut().and_then(|changed| changed.replace(place, None));
        // The first page stays: the next task needs it again.
        if number > 0 {
            page.changed.take_if(|changed| changed.present == 0);
            if page.submitted.present == 0 {
                self.pages[number] = None;
            }
        }
        self.bury(submitted);
        self.bury(changed);
    }

    /// Whether the record at `at` is the live one.
    pub(super) fn is_live(&self, glance: &Glance, at: Location) -> bool {
        match glance {
            Glance::Submitted(slot) => {
                self.locate(*slot).is_some_and(|located| located.submitted == at)
            }
            Glance::Changed(slot) => {
                self.locate(*slot).is_some_and(|located| located.changed == Some(at))
            }
            Glance::Named(name) => self.named.get(name) == Some(&at),
            Glance::Forgotten(_) | Glance::Removed(_) => false,
        }
    }

    /// Adds the next chunk. Its bytes grow with [`grow`](Self::grow) while it is the open chunk.
    pub(super) fn push_chunk(&mut self, bytes: usize, follows: bool) -> u64 {
        let number = self.end();
        self.chunks.push_back(ChunkLife { bytes: bytes as u16, live: 0, follows });
        self.log_bytes += bytes as u64;
        number
    }

    pub(super) fn grow(&mut self, number: u64, bytes: usize) {
        let at = (number - self.base) as usize;
        self.chunks[at].bytes += bytes as u16;
        self.log_bytes += bytes as u64;
    }

    /// The number of chunks that the oldest record or records fill, and whether any byte of them is
    /// live.
    pub(super) fn oldest(&self) -> Option<(u64, bool)> {
        let first = self.chunks.front()?;
        Some((self.run_length(0), first.live > 0))
    }

    /// Removes the oldest chunk and returns its bytes.
    pub(super) fn pop_chunk(&mut self) -> u64 {
        let life = self.chunks.pop_front().expect("a chunk is removed only if there is one");
        // The pieces of a dead run were counted as dead with the run. The live records of a chunk
        // were copied, so their old places count as dead.
        assert_eq!(life.live, 0, "a chunk with live records was removed");
        self.base += 1;
        self.log_bytes -= u64::from(life.bytes);
        u64::from(life.bytes)
    }

    /// The number of chunks of the run that starts at `number`.
    pub(super) fn run_of(&self, number: u64) -> u64 {
        self.run_length((number - self.base) as usize)
    }

    fn run_length(&self, at: usize) -> u64 {
        1 + self.chunks.range(at + 1..).take_while(|life| life.follows).count() as u64
    }

    fn revive(&mut self, at: Location) {
        self.count(at, |bytes, live| *live += bytes);
    }

    fn bury(&mut self, at: Option<Location>) {
        if let Some(at) = at {
            self.count(at, |bytes, live| *live -= bytes);
        }
    }

    fn count(&mut self, at: Location, change: impl Fn(u16, &mut u16)) {
        let first = (self.number(at) - self.base) as usize;
        let pieces = if at.is_run() { self.run_length(first) as usize } else { 1 };
        for life in self.chunks.range_mut(first..first + pieces) {
            let bytes =
                if at.is_run() { life.bytes } else { at.length + FRAME_PREFIX_BYTES as u16 };
            let before = life.live;
            change(bytes, &mut life.live);
            self.live_bytes = self.live_bytes + u64::from(life.live) - u64::from(before);
        }
    }

    fn page_mut(&mut self, slot: Slot) -> &mut Page {
        let number = slot as usize / PAGE_SLOTS;
        if self.pages.len() <= number {
            self.pages.resize_with(number + 1, || None);
        }
        self.pages[number]
            .get_or_insert_with(|| Page { submitted: Locations::new(), changed: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_takes_8_bytes_for_a_record() {
        assert_eq!(size_of::<Option<Location>>(), 8);
        assert_eq!(size_of::<ChunkLife>(), 6);
    }

    #[test]
    fn number_survives_the_wrap_of_its_low_half() {
        let mut index = Index::new(u64::from(u32::MAX) - 1);
        for _ in 0..4 {
            index.push_chunk(100, false);
        }
        for number in index.base()..index.end() {
            assert_eq!(index.number(Location::run(number)), number);
        }
    }

    #[test]
    fn change_without_a_submit_is_not_live() {
        let mut index = Index::new(0);
        index.push_chunk(100, false);
        index.record(Glance::Changed(3), Location::frame(0, 50, 10));
        assert_eq!(index.locate(3), None);
        assert_eq!(index.live_bytes(), 0);
    }

    #[test]
    fn pages_without_records_are_given_back() {
        let mut index = Index::new(0);
        index.push_chunk(100, false);
        let slots = || (0..3 * PAGE_SLOTS as Slot).step_by(1_000);
        for slot in slots() {
            index.record(Glance::Submitted(slot), Location::frame(0, 50, 1));
        }
        assert!(index.pages.iter().flatten().all(|page| page.changed.is_none()));
        index.record(Glance::Changed(9_000), Location::frame(0, 50, 1));
        assert!(index.pages[2].as_ref().is_some_and(|page| page.changed.is_some()));
        for slot in slots() {
            assert!(index.locate(slot).is_some());
            index.drop_task(slot);
            assert_eq!(index.locate(slot), None);
        }
        assert_eq!(index.pages.iter().flatten().count(), 1);
        assert_eq!(index.live_bytes(), 0);
    }
}
