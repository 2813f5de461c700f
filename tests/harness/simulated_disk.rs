//! A disk in memory for the simulation: an archive, alone or behind the segments of a journal,
//! which are synced apart from each other, as files are. What was written and not synced may be
//! gone after a crash: of a segment any sectors, of the archive whole batches, as with sled. The
//! disk fails when it is told to, and it can be nearly full. Every choice comes from its seed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use celeriac_store::{
    Archive, Chunks, Copier, Copy, Direct, Error, Journal, Medium, Mover, ReadChunk, ReadError,
    Room, Segments, StoreConfig,
};
use tokio::sync::Notify;

/// Small, so that a world of some thousand tasks has its log cleaned again and again.
const SLACK_BYTES: u64 = 48 * 1024;
const CACHE_BYTES: u64 = 64 * 1024;
const DISK_BYTES: u64 = 100 << 30;
/// Small too, so that the journal goes round again and again.
const SEGMENT_BYTES: u32 = 48 * 1024;
const SEGMENTS: u32 = 4;
/// What a disk writes as a whole.
const SECTOR_BYTES: usize = 512;

/// The next call of its kind that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The next write fails, and nothing of it is there.
    Write,
    /// The next sync fails; a crash decides what is there.
    Sync,
    /// The next sync takes so long that the broker gives it up.
    Stall,
}

/// The disk of one data folder. Clones are the same disk.
#[derive(Debug, Clone, Default)]
pub struct Disk(Arc<Mutex<State>>, Arc<Notify>);

#[derive(Debug, Default)]
struct State {
    segments: Vec<Segment>,
    /// The latest block that was noted as durable.
    noted: u64,
    note_to_come: u64,
    /// The latest block that was noted although no sync was called for what was written. The
    /// system may write a note before everything else.
    noted_too_early: u64,
    archive: ArchiveState,
    mover: Option<Mover>,
    has_journal: bool,
    fault: Option<Fault>,
    /// A write is durable at once.
    syncs_at_once: bool,
    is_low: bool,
    random: u64,
    figures: Figures,
}

/// What became of writes and chunks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Un-synced writes that a crash took, whole or in part.
    pub lost: u64,
    /// Un-synced writes that a crash left.
    pub kept: u64,
    /// Chunks that moved from the journal to the archive.
    pub moved: u64,
    /// Chunks that left the archive.
    pub cleaned: u64,
}

#[derive(Debug, Default)]
struct Segment {
    durable: Vec<u8>,
    /// What the running broker sees.
    seen: Vec<u8>,
    unsynced: Vec<(usize, Vec<u8>)>,
    /// Whether the broker has written without a call of sync behind it.
    awaits_sync: bool,
}

#[derive(Debug, Default)]
struct ArchiveState {
    durable: BTreeMap<u64, Bytes>,
    /// What the running broker sees.
    seen: BTreeMap<u64, Bytes>,
    unsynced: Vec<Batch>,
    /// The newest chunk that was noted as durable.
    noted: Option<u64>,
    note_to_come: Option<u64>,
}

#[derive(Debug)]
struct Batch {
    chunks: Vec<(u64, Bytes)>,
    removed: Vec<u64>,
}

impl Batch {
    fn apply(&self, chunks: &mut BTreeMap<u64, Bytes>) {
        chunks.extend(self.chunks.iter().cloned());
        for number in &self.removed {
            chunks.remove(number);
        }
    }
}

impl ArchiveState {
    fn make_durable(&mut self, newest: Option<u64>) {
        for batch in self.unsynced.drain(..) {
            batch.apply(&mut self.durable);
        }
        self.noted = self.noted.max(newest);
    }
}

impl State {
    /// SplitMix64.
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random() % bound
    }

    /// Writes to a segment what a crash leaves of a write: nothing, all, or any of its sectors.
    fn tear(&mut self, durable: &mut [u8], offset: usize, bytes: &[u8]) {
        let kept_of_4 = self.below(5);
        let mut is_whole = true;
        for (number, sector) in bytes.chunks(SECTOR_BYTES).enumerate() {
            if self.below(4) < kept_of_4 {
                let at = offset + number * SECTOR_BYTES;
                durable[at..at + sector.len()].copy_from_slice(sector);
            } else {
                is_whole = false;
            }
        }
        self.figures.kept += u64::from(is_whole);
        self.figures.lost += u64::from(!is_whole);
    }
}

impl Disk {
    /// An empty one. Half of the seeds have a journal: no broker uses one yet.
    pub fn new(seed: u64) -> Self {
        let state = State { random: seed, has_journal: seed % 2 == 1, ..State::default() };
        Self(Arc::new(Mutex::new(state)), Arc::default())
    }

    /// An empty one with a journal.
    pub fn with_journal(seed: u64) -> Self {
        let disk = Self::new(seed);
        disk.state().has_journal = true;
        disk
    }

    /// An empty one on which every write is durable at once.
    pub fn in_memory() -> Self {
        let disk = Self::new(0);
        disk.state().syncs_at_once = true;
        disk
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nothing panics with this lock")
    }

    /// Breaks something once.
    pub fn fail(&self, fault: Fault) {
        self.state().fault = Some(fault);
    }

    /// Takes the room away, or gives it back.
    pub fn set_low(&self, is_low: bool) {
        self.state().is_low = is_low;
    }

    /// The end of the process, or of the power: of what is not synced, any sectors of the segments
    /// and the first so many batches of the archive are there.
    pub fn crash(&self) {
        let state = &mut *self.state();
        let mut segments = std::mem::take(&mut state.segments);
        for segment in &mut segments {
            for (offset, bytes) in segment.unsynced.drain(..) {
                state.tear(&mut segment.durable, offset, &bytes);
            }
            segment.seen = segment.durable.clone();
            segment.awaits_sync = false;
        }
        state.segments = segments;
        let batches = state.archive.unsynced.len() as u64;
        let kept = state.below(batches + 1);
        let archive = &mut state.archive;
        for batch in archive.unsynced.drain(..).take(kept as usize) {
            batch.apply(&mut archive.durable);
        }
        archive.seen = archive.durable.clone();
        state.figures.kept += kept;
        state.figures.lost += batches - kept;
        state.noted = state.noted.max(std::mem::take(&mut state.noted_too_early));
        state.note_to_come = state.noted;
        state.archive.note_to_come = None;
        state.fault = None;
        state.mover = None;
    }

    /// All of them since it was new.
    pub fn figures(&self) -> Figures {
        self.state().figures
    }

    /// Waits until something is written that is not synced yet: the worst of all moments for a
    /// crash.
    pub async fn written(&self) {
        self.1.notified().await;
    }

    /// How long the next write or sync takes: mostly some milliseconds, at times much longer.
    pub fn latency(&self) -> Duration {
        let mut state = self.state();
        let millis = match state.below(200) {
            0 => 200 + state.below(1_500),
            1..=10 => 10 + state.below(60),
            _ => state.below(6),
        };
        Duration::from_millis(millis)
    }

    /// Whether the next sync hangs.
    pub fn stalls(&self) -> bool {
        self.state().fault.take_if(|fault| *fault == Fault::Stall).is_some()
    }

    /// What was committed is durable when this returns.
    pub fn sync(&self) -> Result<(), Error> {
        let state = &mut *self.state();
        if state.fault.take_if(|fault| *fault == Fault::Sync).is_some() {
            return Err(failure("sync the journal"));
        }
        for segment in &mut state.segments {
            for (offset, bytes) in segment.unsynced.drain(..) {
                segment.durable[offset..offset + bytes.len()].copy_from_slice(&bytes);
            }
        }
        (state.noted, state.noted_too_early) = (state.note_to_come, 0);
        if !state.has_journal {
            let newest = state.archive.note_to_come.take();
            state.archive.make_durable(newest);
        }
        Ok(())
    }

    /// At times does a step of a move from the journal to the archive: only while all of the
    /// journal is durable, because a real journal syncs before it moves.
    pub fn move_at_times(&self) -> Result<(), Error> {
        let mover = {
            let state = &mut *self.state();
            (state.below(3) > 0).then(|| state.mover.clone()).flatten()
        };
        mover.map_or(Ok(false), |mover| mover.step()).map(|_| ())
    }

    /// The disk as a medium, and what a store on it is to be told. Nothing that the store writes is
    /// durable before [`sync`](Self::sync).
    ///
    /// # Errors
    /// When the journal is damaged.
    pub fn medium(&self, reserve_bytes: u64) -> Result<(Box<dyn Medium>, StoreConfig), Error> {
        let config = StoreConfig {
            disk_reserve_bytes: reserve_bytes,
            cache_bytes: CACHE_BYTES,
            slack_bytes: SLACK_BYTES,
        };
        let mounted = Arc::new(Mounted { disk: self.clone() });
        if !self.state().has_journal {
            return Ok((Box::new(Direct::over(mounted)), config));
        }
        let journal = Journal::over(mounted.clone(), mounted)?.without_thread();
        self.state().mover = Some(journal.mover());
        Ok((Box::new(journal), config))
    }
}

fn failure(doing: &str) -> Error {
    Error::io(doing)(io::Error::from_raw_os_error(libc::EIO))
}

/// The disk in the hands of a journal.
struct Mounted {
    disk: Disk,
}

impl Segments for Mounted {
    fn mark(&self) -> u64 {
        7
    }

    fn count(&self) -> u32 {
        self.disk.state().segments.len() as u32
    }

    fn bytes(&self, segment: u32) -> u32 {
        self.disk.state().segments.get(segment as usize).map_or(0, |found| found.seen.len() as u32)
    }

    fn bytes_max(&self) -> u32 {
        SEGMENT_BYTES
    }

    fn count_max(&self) -> u32 {
        SEGMENTS
    }

    fn read(&self, segment: u32, offset: u32, buffer: &mut [u8]) -> Result<(), Error> {
        let found = &self.disk.state().segments[segment as usize];
        buffer.copy_from_slice(&found.seen[offset as usize..][..buffer.len()]);
        Ok(())
    }

    /// Nobody takes anything away from this disk.
    fn inspect(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Not durable before [`Disk::sync`]: whoever simulates the committing waits in between.
    fn write(&self, segment: u32, offset: u32, bytes: &[u8]) -> Result<(), Error> {
        let state = &mut *self.disk.state();
        if state.fault.take_if(|fault| *fault == Fault::Write).is_some() {
            return Err(failure("write to the journal"));
        }
        let syncs_at_once = state.syncs_at_once;
        let found = &mut state.segments[segment as usize];
        found.seen[offset as usize..][..bytes.len()].copy_from_slice(bytes);
        found.awaits_sync = true;
        if !syncs_at_once {
            found.unsynced.push((offset as usize, bytes.to_vec()));
            self.disk.1.notify_waiters();
        }
        Ok(())
    }

    fn sync(&self, segment: u32) -> Result<(), Error> {
        self.disk.state().segments[segment as usize].awaits_sync = false;
        Ok(())
    }

    fn grow(&self, segment: u32, bytes: u32) -> Result<(), Error> {
        let state = &mut *self.disk.state();
        if segment as usize == state.segments.len() {
            state.segments.push(Segment::default());
        }
        let found = &mut state.segments[segment as usize];
        found.durable.resize(found.durable.len().max(bytes as usize), 0);
        found.seen.resize(found.seen.len().max(bytes as usize), 0);
        Ok(())
    }

    fn may_grow(&self) -> bool {
        !self.disk.state().is_low
    }

    fn note(&self, sequence: u64) -> Result<(), Error> {
        let state = &mut *self.disk.state();
        state.note_to_come = sequence;
        if state.segments.iter().any(|segment| segment.awaits_sync) {
            state.noted_too_early = sequence;
        }
        Ok(())
    }

    fn noted(&self) -> u64 {
        self.disk.state().noted
    }
}

impl Chunks for Mounted {
    fn newest(&self) -> Result<Option<(u64, Bytes)>, ReadError> {
        let state = self.disk.state();
        Ok(state.archive.seen.last_key_value().map(|(number, chunk)| (*number, chunk.clone())))
    }

    fn read_next(&self, number: u64) -> Result<Bytes, ReadError> {
        let chunk = self.disk.state().archive.seen.get(&number).cloned();
        chunk.ok_or_else(|| format!("chunk {number} is missing from its log").into())
    }

    fn numbers_below(&self, base: u64) -> Result<Vec<u64>, ReadError> {
        let state = self.disk.state();
        let numbers: BTreeSet<u64> =
            state.archive.seen.range(..base).map(|(number, _)| *number).collect();
        Ok(numbers.into_iter().collect())
    }
}

impl Archive for Mounted {
    fn place(&self) -> &Path {
        Path::new("simulated")
    }

    fn confirmed(&self) -> Option<u64> {
        self.disk.state().archive.noted
    }

    fn read(&self, number: u64) -> Result<Option<Bytes>, Error> {
        Ok(self.disk.state().archive.seen.get(&number).cloned())
    }

    fn write(&self, chunks: &[(u64, Bytes)], removed: &[u64]) -> Result<(), Error> {
        let state = &mut *self.disk.state();
        if !state.has_journal && state.fault.take_if(|fault| *fault == Fault::Write).is_some() {
            return Err(failure("write a chunk"));
        }
        let batch = Batch { chunks: chunks.to_vec(), removed: removed.to_vec() };
        batch.apply(&mut state.archive.seen);
        if state.has_journal {
            state.figures.moved += chunks.len() as u64;
        }
        state.figures.cleaned += removed.len() as u64;
        if state.syncs_at_once {
            return Ok(());
        }
        state.archive.unsynced.push(batch);
        self.disk.1.notify_waiters();
        Ok(())
    }

    /// Without a journal nothing is durable before [`Disk::sync`].
    fn flush(&self, newest: Option<u64>) -> Result<(), Error> {
        let state = &mut *self.disk.state();
        if state.has_journal {
            state.archive.make_durable(newest);
        } else {
            state.archive.note_to_come = newest;
        }
        Ok(())
    }

    fn inspect(&self) -> Result<(), Error> {
        Ok(())
    }

    fn opened(&self) -> Result<(), Error> {
        Ok(())
    }

    fn room(&self) -> Result<Room, Error> {
        let state = self.disk.state();
        let free_bytes = if state.is_low { 1 << 20 } else { DISK_BYTES / 2 };
        let file_bytes = state.archive.seen.values().map(|chunk| chunk.len() as u64).sum();
        Ok(Room { free_bytes, file_bytes, disk_bytes: DISK_BYTES, ..Room::default() })
    }

    fn reclaim(&self) -> Result<(), Error> {
        Ok(())
    }

    fn reclaim_bytes(&self) -> u64 {
        0
    }

    fn copier(&self, _copy: Copy, _read: ReadChunk) -> Option<Copier> {
        None
    }

    fn close(&self) -> Result<(), Error> {
        self.disk.sync()
    }
}
