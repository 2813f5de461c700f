//! Reads the journal at a start: finds the whole blocks in all segments, and follows them from the
//! oldest to the newest.
//!
//! The last batch may be torn, because the broker ended while it wrote: then the journal ends
//! before that batch. A block that is missing or broken although a later batch is whole was
//! confirmed. The blocks before it are dropped then, and the store finds that their chunks are
//! missing, unless those have left the journal in good order.

use std::collections::{HashMap, VecDeque};

use super::block::{self, Block, PAGE_BYTES, Place};
use super::ring::Full;
use super::segments::Segments;
use crate::medium::ReadError;

/// The offset of the first block of a segment.
pub(super) const FIRST_OFFSET: u32 = PAGE_BYTES as u32;

/// The place of a chunk in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ChunkPlace {
    pub(super) place: Place,
    pub(super) length: u16,
}

/// The content of a journal.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The number of the first chunk.
    pub(super) first: u64,
    /// All chunks, in order and without gaps.
    pub(super) chunks: VecDeque<ChunkPlace>,
    /// The segments with these chunks, in the order of their blocks.
    pub(super) segments: Vec<Full>,
    /// The first block of each segment that has one.
    pub(super) begun: HashMap<u32, u64>,
    /// The last whole block.
    pub(super) end: Option<End>,
    /// The latest life that wrote a block.
    pub(super) life: u32,
    /// Whether blocks are missing before these.
    pub(super) has_gap: bool,
}

/// Where the journal goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End {
    /// The sequence number and the sum of the last block.
    pub(super) sequence: u64,
    pub(super) sum: u32,
    /// The first byte after it.
    pub(super) place: Place,
}

impl Found {
    /// The newest chunk.
    pub(super) fn newest(&self) -> Option<u64> {
        (self.first + self.chunks.len() as u64).checked_sub(1).filter(|_| !self.chunks.is_empty())
    }

    fn take(&mut self, block: &Block) {
        let header = &block.header;
        if self.newest().is_none_or(|newest| newest + 1 != header.first_chunk) {
            self.chunks.clear();
            self.segments.clear();
            self.first = header.first_chunk;
        }
        let segment = header.place.segment;
        for (offset, length) in &block.chunks {
            let place = Place { segment, offset: *offset };
            self.chunks.push_back(ChunkPlace { place, length: *length });
        }
        let newest = header.first_chunk + block.chunks.len() as u64 - 1;
        self.segments.pop_if(|last| last.segment == segment);
        self.segments.push(Full { segment, newest, ends_batch: header.is_last });
    }
}

/// Reads all segments.
///
/// # Errors
/// When the system refuses a read, or a block is missing that was confirmed.
pub(super) fn scan(segments: &dyn Segments) -> Result<Found, ReadError> {
    let mut blocks = Vec::new();
    for segment in 0..segments.count() {
        let mut bytes = vec![0; segments.bytes(segment) as usize];
        segments.read(segment, 0, &mut bytes)?;
        blocks.extend(blocks_of(&bytes, segments.mark(), segment));
    }
    Ok(follow(&blocks, segments.noted())?)
}

/// The whole blocks of a segment.
fn blocks_of(bytes: &[u8], mark: u64, segment: u32) -> Vec<Block> {
    let (mut blocks, mut offset) = (Vec::new(), FIRST_OFFSET);
    while let Some(rest) = bytes.get(offset as usize..).filter(|rest| !rest.is_empty()) {
        match block::decode(rest, mark, Place { segment, offset }) {
            Some(block) if !block.chunks.is_empty() => {
                offset += block.bytes;
                blocks.push(block);
            }
            _ => offset += PAGE_BYTES as u32,
        }
    }
    blocks
}

/// The whole blocks of a journal, by place.
struct Blocks<'a> {
    all: &'a [Block],
    by_place: HashMap<Place, &'a Block>,
    /// The first blocks of segments.
    first: Vec<&'a Block>,
}

/// Follows the blocks up to the end of the journal.
fn follow(blocks: &[Block], noted: u64) -> Result<Found, String> {
    let blocks = Blocks {
        all: blocks,
        by_place: blocks.iter().map(|block| (block.header.place, block)).collect(),
        first: blocks.iter().filter(|block| block.header.place.offset == FIRST_OFFSET).collect(),
    };
    let mut found = Found::default();
    let mut next = blocks.oldest();
    let mut open = Vec::new();
    while let Some(block) = next {
        open.push(block);
        if block.header.is_last {
            for block in open.drain(..) {
                found.take(block);
            }
            let place = place_after(block);
            found.end = Some(End { sequence: block.header.sequence, sum: block.sum, place });
        }
        next = blocks.successor(block);
        if next.is_none() {
            open.clear();
            next = blocks.after_a_gap(block.header.sequence + 1);
            if next.is_some() {
                // What was read may be what an earlier life left there.
                found = Found { has_gap: true, ..Found::default() };
            }
        }
    }
    let begun = |block: &&Block| (block.header.place.segment, block.header.sequence);
    found.life = blocks.all.iter().map(|block| block.header.life).max().unwrap_or_default();
    found.begun = blocks.first.iter().map(begun).collect();
    let last = found.end.map_or(0, |end| end.sequence);
    if last < noted {
        return Err(format!("its journal ends with block {last}, but block {noted} was confirmed"));
    }
    Ok(found)
}

impl<'a> Blocks<'a> {
    /// The first block of the segment that was begun first.
    fn oldest(&self) -> Option<&'a Block> {
        let sequence = |block: &&Block| block.header.sequence;
        self.first.iter().copied().min_by_key(sequence).or(self.all.iter().min_by_key(sequence))
    }

    /// The block that was written after this one: behind it, or at the beginning of another
    /// segment. Of several the latest life wrote it: the others belong to batches that were torn.
    fn successor(&self, block: &Block) -> Option<&'a Block> {
        let behind = self.by_place.get(&place_after(block));
        let follows = |next: &&Block| {
            next.header.sequence == block.header.sequence + 1 && next.header.chain == block.sum
        };
        let followers = behind.into_iter().chain(&self.first).copied().filter(follows);
        followers.max_by_key(|next| next.header.life)
    }

    /// The next whole block that proves that the block `missing` was confirmed: a block of a later
    /// batch. Other blocks of the batch of `missing` prove nothing, because a batch is confirmed as
    /// a whole.
    fn after_a_gap(&self, missing: u64) -> Option<&'a Block> {
        let is_later = |block: &&Block| block.header.batch > missing;
        self.all.iter().filter(is_later).min_by_key(|block| block.header.sequence)
    }
}

fn place_after(block: &Block) -> Place {
    let Place { segment, offset } = block.header.place;
    Place { segment, offset: offset + block.bytes }
}
