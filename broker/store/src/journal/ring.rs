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
/// So many chunks that were removed justify a move of their own, and one move takes no more of
/// them: the archive writes parts of its pages again for each removal, and needs a flush before it
/// can use what became free.
const REMOVALS_OF_A_MOVE: usize = 512;

/// The state of the ring.
#[derive(Debug)]
pub(super) struct Ring {
    /// The number of the first chunk of `chunks`.
    first: u64,
    chunks: VecDeque<ChunkPlace>,
    /// The chunks below this number were removed from the log.
    base: u64,
    /// Bytes of the chunks from `base` on.
    live_bytes: u64,
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
            live_bytes: 0,
            handed_over: after(in_archive),
            removals: Vec::new(),
            full: found.segments.into(),
            free: VecDeque::new(),
            active: 0,
            active_newest: None,
        };
        ring.live_bytes = ring.bytes_of(ring.chunks.len());
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

    /// Bytes of the chunks that are in the log. The archive still has to take them, as far as they
    /// do not leave the log before.
    pub(super) fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    /// Bytes of the oldest chunks, this many, without those that were removed from the log.
    fn bytes_of(&self, chunks: usize) -> u64 {
        let removed = self.base.saturating_sub(self.first) as usize;
        self.chunks.range(removed.min(chunks)..chunks).map(|at| u64::from(at.length)).sum()
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
        self.live_bytes += places.iter().map(|at| u64::from(at.length)).sum::<u64>();
        if let Some(last) = places.last()
            && last.place.segment == self.active
        {
            self.active_newest = Some(self.end() - 1);
        }
    }

    /// Notes that chunks left the log.
    pub(super) fn remove(&mut self, numbers: &[u64]) {
        for number in numbers {
            if *number >= self.base
                && let Some(at) = self.place(*number)
            {
                self.live_bytes -= u64::from(at.length);
            }
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

    pub(super) fn is_without_free(&self) -> bool {
        self.free.is_empty()
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

    /// Whether so few segments are free that a move should free some, when so many segments may
    /// still be added.
    pub(super) fn is_short(&self, to_come: u32) -> bool {
        self.free.len() as u32 + to_come < SPARE_SEGMENTS && self.can_free()
    }

    pub(super) fn has_removals(&self) -> bool {
        !self.removals.is_empty()
    }

    /// Whether the removals justify a move.
    pub(super) fn has_many_removals(&self) -> bool {
        self.removals.len() >= REMOVALS_OF_A_MOVE
    }

    /// Begins a move of the oldest removals and, with `frees`, of the oldest full segments.
    pub(super) fn begin_move(&mut self, frees: bool) -> Load {
        let frees = if frees { self.movable().unwrap_or_default() } else { 0 };
        let end = match frees.checked_sub(1).map(|last| self.full[last].newest) {
            Some(newest) => newest + 1,
            None => self.first,
        };
        self.handed_over = self.handed_over.max(end);
        let removals = self.removals.len().min(REMOVALS_OF_A_MOVE);
        Load { chunks: self.first..end, removals: self.removals.drain(..removals).collect(), frees }
    }

    /// Ends a move: its chunks are durable in the archive.
    pub(super) fn end_move(&mut self, load: &Load) {
        self.drop_oldest(load.frees);
    }

    fn drop_oldest(&mut self, count: usize) {
        for _ in 0..count {
            let Some(Full { segment, newest, .. }) = self.full.pop_front() else { return };
            let chunks = (newest + 1).saturating_sub(self.first) as usize;
            let chunks = chunks.min(self.chunks.len());
            self.live_bytes -= self.bytes_of(chunks);
            self.chunks.drain(..chunks);
            self.first = self.first.max(newest + 1);
            self.free.push_back(segment);
        }
    }
}

/// The first byte of a segment that is used again.
pub(super) fn beginning_of(segment: u32) -> Place {
    Place { segment, offset: super::scan::FIRST_OFFSET }
}
