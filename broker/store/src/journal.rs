//! The journal: where a commit writes. It lies in front of the archive (sled, for every broker), to
//! which the chunks move later, in the background.
//!
//! A commit is one write and one sync at a place of a file that is already there. The journal is a
//! ring of segments. When the segments run short, the mover carries the chunks of the oldest one to
//! the archive, in large batches. A chunk that left the log before its segment's turn came never
//! reaches the archive: most tasks end before.
//!
//! What was confirmed lies in the journal or, durable, in the archive. So a start reads the archive
//! and over it the journal. `block` has the bytes of one write, `scan` reads them at a start,
//! `ring` knows which chunk lies where, `mover` moves, and `segments` says what a journal may lie
//! on.

mod block;
mod mover;
mod reading;
mod ring;
mod scan;
mod segments;

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::Bytes;

pub(crate) use self::block::PAGE_BYTES;
use self::block::{Header, Place, block_bytes};
pub use self::mover::Mover;
use self::mover::Shared;
pub(crate) use self::reading::Reading;
use self::ring::{Ring, beginning_of};
use self::scan::{ChunkPlace, Found};
pub use self::segments::Segments;
use super::chunk;
use super::error::Error;
use super::medium::{Archive, Chunks, Copier, Copy, FORMAT, Medium, ReadError, Room};

/// A segment grows by so many bytes at a time, so that a small journal takes little room.
const GROWTH_BYTES: u32 = 1024 * 1024;
/// Memory that a large batch leaves behind.
const BUFFER_BYTES_MAX: usize = 1024 * 1024;

/// A journal in front of an archive: the medium of a store.
pub struct Journal {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    has_thread: bool,
    confirmed: Option<u64>,
    /// The place of the next block.
    place: Place,
    /// The sequence number and the sum of the latest block.
    sequence: u64,
    sum: u32,
    life: u32,
    buffer: Vec<u8>,
}

/// The blocks of a batch that are written and not durable.
#[derive(Default)]
struct Written {
    places: Vec<ChunkPlace>,
    /// The segments to be synced.
    segments: Vec<u32>,
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Journal {
    /// Reads the segments, and lays the journal over the archive.
    ///
    /// # Errors
    /// When the journal is damaged, or the system refuses a read.
    pub fn over(segments: Arc<dyn Segments>, archive: Arc<dyn Archive>) -> Result<Self, Error> {
        let reading = Reading::of(segments).map_err(|error| error.into_error(archive.place()))?;
        Self::new(reading, archive)
    }

    /// Lays a journal that was read over the archive.
    pub(crate) fn new(reading: Reading, archive: Arc<dyn Archive>) -> Result<Self, Error> {
        let Reading { segments, found } = reading;
        let in_archive = archive.newest().map_err(|error| error.into_error(archive.place()))?;
        let base = base_of(&*segments, &found)?;
        let archived = archive.confirmed();
        let confirmed = found.newest().max(archived);
        let (end, life) = (found.end, found.life + 1);
        let in_archive = in_archive.map(|(number, _)| number);
        let ring = Ring::new(found, segments.count(), base, archived, in_archive);
        let place = end.map_or(beginning_of(ring.active()), |end| end.place);
        let shared = Arc::new(Shared::new(segments, archive, ring));
        Ok(Self {
            shared,
            thread: None,
            has_thread: true,
            confirmed,
            place,
            sequence: end.map_or(0, |end| end.sequence),
            sum: end.map_or(0, |end| end.sum),
            life,
            buffer: Vec::new(),
        })
    }

    /// Moves chunks only when a write needs a free segment, or when a [`Mover`] is told to.
    #[must_use]
    pub fn without_thread(mut self) -> Self {
        self.has_thread = false;
        self
    }

    /// A handle for the moves to the archive.
    pub fn mover(&self) -> Mover {
        Mover::new(self.shared.clone())
    }

    /// Writes all chunks as one batch, in as many blocks as it takes.
    ///
    /// A batch that does not fit into the rest of a segment begins in another one. So every segment
    /// in which a batch ends can be freed once the batch after it is durable. If batches went on
    /// from segment to segment, only segments that end with a batch by chance could be freed, and
    /// the journal would grow.
    fn write_batch(&mut self, chunks: &[(u64, Bytes)]) -> Result<Written, Error> {
        let (batch, mut rest, mut written) = (self.sequence + 1, chunks, Written::default());
        let bytes = chunks.iter().map(|(_, chunk)| chunk.len()).sum();
        let whole = block_bytes(chunks.len(), bytes);
        let is_begun = self.place.offset > beginning_of(self.place.segment).offset;
        if is_begun && whole > self.room(whole) {
            self.next_segment(chunks[0].0, &written)?;
        }
        while !rest.is_empty() {
            let count = self.fitting(rest)?;
            if count == 0 {
                self.next_segment(chunks[0].0, &written)?;
                continue;
            }
            let (part, later) = rest.split_at(count);
            self.write_block(part, batch, later.is_empty(), &mut written)?;
            rest = later;
        }
        Ok(written)
    }

    /// The number of chunks that fit into the rest of the active segment.
    fn fitting(&self, chunks: &[(u64, Bytes)]) -> Result<usize, Error> {
        let chunk_bytes = chunks.iter().map(|(_, chunk)| chunk.len()).sum();
        let room = self.room(block_bytes(chunks.len(), chunk_bytes));
        let count = count_within(chunks, room);
        if count > 0 {
            let bytes = chunks[..count].iter().map(|(_, chunk)| chunk.len()).sum();
            self.make_present(self.place.offset + block_bytes(count, bytes) as u32)?;
        }
        Ok(count)
    }

    /// The bytes that fit into the rest of the active segment, which grows for them if it may:
    /// `wanted` says how many would be needed.
    fn room(&self, wanted: usize) -> usize {
        let segments = &self.shared.segments;
        let Place { segment, offset } = self.place;
        let present = segments.bytes(segment).saturating_sub(offset) as usize;
        if wanted <= present || !segments.may_grow() {
            return present;
        }
        segments.bytes_max().saturating_sub(offset).max(present as u32) as usize
    }

    /// Makes the active segment at least so long.
    fn make_present(&self, bytes: u32) -> Result<(), Error> {
        let (segments, segment) = (&self.shared.segments, self.place.segment);
        if bytes > segments.bytes(segment) {
            let grown = bytes.next_multiple_of(GROWTH_BYTES).min(segments.bytes_max());
            segments.grow(segment, grown.max(bytes))?;
        }
        Ok(())
    }

    fn write_block(
        &mut self,
        chunks: &[(u64, Bytes)],
        batch: u64,
        is_last: bool,
        written: &mut Written,
    ) -> Result<(), Error> {
        let Place { segment, offset } = self.place;
        let header = Header {
            mark: self.shared.segments.mark(),
            sequence: self.sequence + 1,
            batch,
            is_last,
            place: self.place,
            first_chunk: chunks[0].0,
            chain: self.sum,
            life: self.life,
        };
        self.sum = block::encode(&mut self.buffer, header, chunks, |at, length| {
            let place = Place { segment, offset: offset + at };
            written.places.push(ChunkPlace { place, length });
        });
        self.shared.segments.write(segment, offset, &self.buffer)?;
        if written.segments.last() != Some(&segment) {
            written.segments.push(segment);
        }
        self.sequence += 1;
        self.place.offset += self.buffer.len() as u32;
        Ok(())
    }

    /// Goes on to a free segment, to a new one, or to one that a move frees. `first` is the first
    /// chunk of the batch that is being written.
    fn next_segment(&mut self, first: u64, written: &Written) -> Result<(), Error> {
        let is_of_batch = written.segments.last() == Some(&self.place.segment);
        let newest = is_of_batch.then(|| first + written.places.len() as u64 - 1);
        self.shared.state().ring.close_active(newest);
        let segments = self.shared.segments.clone();
        loop {
            if self.shared.state().ring.use_free() {
                break;
            }
            let count = segments.count();
            let is_short = count < segments.count_max() && segments.may_grow();
            let can_free = self.shared.state().ring.can_free();
            if is_short || !can_free {
                segments.grow(count, GROWTH_BYTES.min(segments.bytes_max()))?;
                self.shared.state().ring.use_new(count);
                break;
            }
            self.shared.free_a_segment()?;
        }
        self.place = beginning_of(self.shared.state().ring.active());
        // A segment without room to grow may be too short even for one chunk.
        self.make_present(self.place.offset + block_bytes(1, chunk::CHUNK_BYTES_MAX) as u32)
    }

    fn end_thread(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.mover().stop();
            // The thread has kept its own error.
            let _ended = thread.join();
        }
    }
}

/// The base of the log, from the header of the newest chunk of the journal.
fn base_of(segments: &dyn Segments, found: &Found) -> Result<u64, Error> {
    let (Some(newest), Some(at)) = (found.newest(), found.chunks.back()) else { return Ok(0) };
    let mut bytes = vec![0; usize::from(at.length)];
    segments.read(at.place.segment, at.place.offset, &mut bytes)?;
    // The store refuses a chunk that is not sound.
    Ok(chunk::open(newest, &bytes).map_or(0, |header| header.base))
}

/// How many of the chunks fit into a block of so many bytes.
fn count_within(chunks: &[(u64, Bytes)], room: usize) -> usize {
    let mut bytes = 0;
    let fits = |(count, (_, chunk)): (usize, &(u64, Bytes))| {
        bytes += chunk.len();
        block_bytes(count + 1, bytes) <= room
    };
    chunks.iter().enumerate().map(fits).take_while(|fits| *fits).count()
}

impl Chunks for Journal {
    fn newest(&self) -> Result<Option<(u64, Bytes)>, ReadError> {
        let newest = {
            let state = self.shared.state();
            state.ring.has_chunks().then(|| state.ring.end() - 1)
        };
        match newest {
            Some(number) => self.read_next(number).map(|bytes| Some((number, bytes))),
            None => self.shared.archive.newest(),
        }
    }

    fn read_next(&self, number: u64) -> Result<Bytes, ReadError> {
        match self.shared.read(number)? {
            Some(bytes) => Ok(bytes),
            None => self.shared.archive.read_next(number),
        }
    }

    fn numbers_below(&self, base: u64) -> Result<Vec<u64>, ReadError> {
        self.shared.archive.numbers_below(base)
    }
}

impl Medium for Journal {
    fn place(&self) -> &Path {
        self.shared.archive.place()
    }

    fn confirmed(&self) -> Option<u64> {
        self.confirmed
    }

    fn read(&self, number: u64) -> Result<Option<Bytes>, Error> {
        match self.shared.read(number)? {
            Some(bytes) => Ok(Some(bytes)),
            None => self.shared.archive.read(number),
        }
    }

    fn write(&mut self, chunks: &[(u64, Bytes)], removed: &[u64]) -> Result<(), Error> {
        if let Some(error) = self.shared.failure() {
            return Err(error);
        }
        self.shared.archive.inspect()?;
        self.shared.segments.inspect()?;
        let written = self.write_batch(chunks)?;
        for segment in &written.segments {
            self.shared.segments.sync(*segment)?;
        }
        self.shared.segments.note(self.sequence)?;
        let mut state = self.shared.state();
        if let Some((number, _)) = chunks.first() {
            state.ring.add(*number, &written.places);
        }
        state.ring.remove(removed);
        drop(state);
        self.shared.wake();
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER_BYTES_MAX);
        Ok(())
    }

    fn opened(&mut self) -> Result<(), Error> {
        let archive = self.shared.archive.clone();
        if archive.confirmed().is_none() {
            // A new archive gets the first chunk too, so that it takes a first note.
            let newest = self.newest().map_err(|error| error.into_error(archive.place()))?;
            let newest = newest.expect("the store has written a first batch");
            let number = newest.0;
            archive.write(&[newest], &[])?;
            archive.flush(Some(number))?;
        } else {
            archive.flush(None)?;
        }
        archive.opened()?;
        if self.has_thread {
            self.thread = Some(self.mover().start()?);
        }
        Ok(())
    }

    fn format(&self) -> u32 {
        FORMAT
    }

    fn abandon(self: Box<Self>) {}

    fn room(&self) -> Result<Room, Error> {
        let room = self.shared.archive.room()?;
        let ring_bytes = reading::file_bytes(&*self.shared.segments);
        let to_move_bytes = self.shared.state().ring.live_bytes();
        let file_bytes = room.file_bytes + ring_bytes;
        Ok(Room { file_bytes, to_move_bytes, ring_bytes, ..room })
    }

    fn carry_out_removals(&mut self) -> Result<(), Error> {
        self.shared.carry_out_removals()
    }

    fn reclaim(&mut self) -> Result<(), Error> {
        self.shared.carry_out_removals()?;
        self.shared.archive.reclaim()
    }

    fn reclaim_bytes(&self) -> u64 {
        self.shared.archive.reclaim_bytes()
    }

    fn copier(&self, copy: Copy) -> Option<Copier> {
        let shared = self.shared.clone();
        let read = Box::new(move |number| shared.read_beside(number));
        self.shared.archive.copier(copy, read)
    }

    fn close(&mut self) -> Result<(), Error> {
        self.end_thread();
        if let Some(error) = self.shared.failure() {
            return Err(error);
        }
        self.shared.archive.close()
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.end_thread();
    }
}
