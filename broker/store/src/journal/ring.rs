//! The ring: which chunks lie where in the segments, and which segment the journal uses next. This
//! file makes no call of the system.
//!
//! Segments are full in the order in which they were filled, and become free in this order, when
//! their chunks lie in the archive. Segments that share a batch become free together: a batch of
//! which a part was overwritten could not be told from a batch that was torn. The chunks of the
//! ring are those that may be missing from the archive.

use std::collections::VecDeque;
use std::ops::Range;

use super::block::Place;
use super::scan::{ChunkPlace, Found};

/// A move begins when fewer segments than this are free, so that the writer need not wait for it.
const SPARE_SEGMENTS: u32 = 3;
/// So many chunks that were removed justify a move of their own.
const REMOVALS_MANY: usize = 16 * 1024;

/// The state of the ring.
#[derive(Debug)]
pub(super) struct Ring {
    /// The number of the first chunk of `chunks`.
    first: u64,
    chunks: VecDeque<ChunkPlace>,
    /// The chunks below this number were removed from the log.
    base: u64,
    /// Chunks below this number may lie in the archive.
    handed_over: u64,
    /// Chunks that were removed from the log and may lie in the archive.
    removals: Vec<u64>,
    /// Oldest first.
    full: VecDeque<Full>,
    free: VecDeque<u32>,
    /// The segment that is being filled, and its newest chunk.
    active: u32,
    active_newest: Option<u64>,
}

/// A segment that takes no more blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full {
    pub(super) segment: u32,
    /// Its newest chunk.
    pub(super) newest: u64,
    /// Whether its last block is the last of a batch.
    pub(super) ends_batch: bool,
}

/// What one move carries from the journal to the archive.
#[derive(Debug)]
pub(super) struct Load {
    /// Of these chunks those that are not removed meanwhile.
    pub(super) chunks: Range<u64>,
    /// The chunks that the archive removes.
    pub(super) removals: Vec<u64>,
    /// So many of the oldest full segments are free afterwards.
    frees: usize,
}

impl Ring {
    /// The ring as it was found at a start. The chunks up to `archived` lie in the archive, and
    /// chunks up to `in_archive` may lie there.
    pub(super) fn new(
        found: Found,
        segments: u32,
        base: u64,
        archived: Option<u64>,
        in_archive: Option<u64>,
    ) -> Self {
        let after = |chunk: Option<u64>| chunk.map_or(0, |chunk| chunk + 1);
        let begun = found.begun;
        let mut ring = Self {
            first: if found.chunks.is_empty() { after(in_archive) } else { found.first },
            chunks: found.chunks,
            base,
            handed_over: after(in_archive),
            removals: Vec::new(),
            full: found.segments.into(),
            free: VecDeque::new(),
            active: 0,
            active_newest: None,
        };
        if let Some(active) = ring.full.pop_back() {
            (ring.active, ring.active_newest) = (active.segment, Some(active.newest));
        }
        let archived = archived.map_or(0, |archived| archived + 1);
        while let Some(count) = ring.whole_below(archived) {
            ring.drop_oldest(count);
        }
        let is_unused = |segment: &u32| {
            *segment != ring.active && !ring.full.iter().any(|full| full.segment == *segment)
        };
        let mut free: Vec<_> = (0..segments).filter(is_unused).collect();
        free.sort_by_key(|segment| begun.get(segment).copied().unwrap_or_default());
        ring.free = free.into();
        ring
    }

    pub(super) fn active(&self) -> u32 {
        self.active
    }

    /// The place of a chunk. `None`: it lies in the archive, or nowhere.
    pub(super) fn place(&self, number: u64) -> Option<ChunkPlace> {
        let index = number.checked_sub(self.first)?;
        self.chunks.get(usize::try_from(index).ok()?).copied()
    }

    /// One past the newest chunk.
    pub(super) fn end(&self) -> u64 {
        self.first + self.chunks.len() as u64
    }

    pub(super) fn has_chunks(&self) -> bool {
        !self.chunks.is_empty()
    }

    pub(super) fn is_removed(&self, number: u64) -> bool {
        number < self.base
    }

    /// Takes the chunks of a batch that is durable. `newest` is the newest of them in the segment
    /// that is active now.
    pub(super) fn add(&mut self, number: u64, places: &[ChunkPlace]) {
        if self.chunks.is_empty() {
            self.first = number;
        }
        assert_eq!(number, self.end(), "the chunks of a log have no gaps");
        self.chunks.extend(places);
        if let Some(last) = places.last()
            && last.place.segment == self.active
        {
            self.active_newest = Some(self.end() - 1);
        }
    }

    /// Notes that chunks left the log.
    pub(super) fn remove(&mut self, numbers: &[u64]) {
        for number in numbers {
            self.base = self.base.max(number + 1);
            if *number < self.handed_over {
                self.removals.push(*number);
            }
        }
    }

    /// The active segment takes no more blocks. `newest` is its newest chunk of the batch that is
    /// being written, if it has one.
    pub(super) fn close_active(&mut self, newest: Option<u64>) {
        let ends_batch = newest.is_none();
        if let Some(newest) = newest.max(self.active_newest.take()) {
            self.full.push_back(Full { segment: self.active, newest, ends_batch });
        } else {
            self.free.push_front(self.active);
        }
    }

    /// Begins to fill a segment that is free.
    pub(super) fn use_free(&mut self) -> bool {
        let free = self.free.pop_front();
        self.active = free.unwrap_or(self.active);
        free.is_some()
    }

    /// Begins to fill a segment that was added.
    pub(super) fn use_new(&mut self, segment: u32) {
        self.active = segment;
    }

    /// Whether a move would free a segment.
    pub(super) fn can_free(&self) -> bool {
        self.movable().is_some()
    }

    /// The number of segments that the next move frees: the oldest full ones, with whole batches
    /// that are durable. The newest durable chunk stays in the journal: a start finds the end of
    /// the journal by it.
    fn movable(&self) -> Option<usize> {
        self.whole_below(self.end().saturating_sub(1))
    }

    /// The least number of the oldest full segments that have only whole batches, all of them with
    /// chunks below this number.
    fn whole_below(&self, end: u64) -> Option<usize> {
        let count = self.full.iter().position(|full| full.ends_batch)? + 1;
        (self.full[count - 1].newest < end).then_some(count)
    }

    /// Whether it is time for a move, when so many segments may still be added.
    pub(super) fn is_move_due(&self, to_come: u32) -> bool {
        let spare = self.free.len() as u32 + to_come;
        (spare < SPARE_SEGMENTS && self.can_free()) || self.removals.len() >= REMOVALS_MANY
    }

    pub(super) fn has_removals(&self) -> bool {
        !self.removals.is_empty()
    }

    /// Begins a move: of the oldest full segments, if there are any, and of all removals.
    pub(super) fn begin_move(&mut self) -> Load {
        let frees = self.movable().unwrap_or_default();
        let end = match frees.checked_sub(1).map(|last| self.full[last].newest) {
            Some(newest) => newest + 1,
            None => self.first,
        };
        self.handed_over = self.handed_over.max(end);
        Load { chunks: self.first..end, removals: std::mem::take(&mut self.removals), frees }
    }

    /// Ends a move: its chunks are durable in the archive.
    pub(super) fn end_move(&mut self, load: &Load) {
        self.drop_oldest(load.frees);
    }

    fn drop_oldest(&mut self, count: usize) {
        for Full { segment, newest, .. } in self.full.drain(..count) {
            let chunks = (newest + 1).saturating_sub(self.first) as usize;
            self.chunks.drain(..chunks.min(self.chunks.len()));
            self.first = self.first.max(newest + 1);
            self.free.push_back(segment);
        }
    }
}

/// The first byte of a segment that is used again.
pub(super) fn beginning_of(segment: u32) -> Place {
    Place { segment, offset: super::scan::FIRST_OFFSET }
}
