//! A disk in memory for the simulation. What was written and not synced may be gone after a crash,
//! whole batches only, as with sled; it fails when it is told to, and it can be nearly full. Every
//! choice comes from its seed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use celeriac_store::{Chunks, Copier, Copy, Error, Medium, Room, StoreConfig};
use tokio::sync::Notify;

/// Small, so that a world of some thousand tasks has its log cleaned again and again.
const SLACK_BYTES: u64 = 48 * 1024;
const CACHE_BYTES: u64 = 64 * 1024;
const DISK_BYTES: u64 = 100 << 30;

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
    durable: BTreeMap<u64, Bytes>,
    /// What the running broker sees.
    seen: BTreeMap<u64, Bytes>,
    unsynced: Vec<Batch>,
    /// The newest chunk that was noted as durable.
    noted: Option<u64>,
    note_to_come: Option<u64>,
    fault: Option<Fault>,
    /// A write is durable at once.
    syncs_at_once: bool,
    is_low: bool,
    random: u64,
    figures: Figures,
}

/// What became of batches and chunks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Un-synced batches that a crash took.
    pub lost: u64,
    /// Un-synced batches that a crash left.
    pub kept: u64,
    /// Chunks that left the log.
    pub cleaned: u64,
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
}

impl Disk {
    /// An empty one.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State { random: seed, ..State::default() })), Arc::default())
    }

    /// An empty one on which every write is durable at once.
    pub fn in_memory() -> Self {
        let disk = Self::new(1);
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

    /// The end of the process, or of the power: of what is not synced, the first so many batches
    /// are there.
    pub fn crash(&self) {
        let state = &mut *self.state();
        let batches = state.unsynced.len() as u64;
        let kept = state.below(batches + 1);
        for batch in state.unsynced.drain(..).take(kept as usize) {
            batch.apply(&mut state.durable);
        }
        state.figures.kept += kept;
        state.figures.lost += batches - kept;
        state.note_to_come = None;
        state.fault = None;
        state.seen = state.durable.clone();
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

    /// What was written is durable when this returns.
    pub fn sync(&self) -> Result<(), Error> {
        let state = &mut *self.state();
        if state.fault.take_if(|fault| *fault == Fault::Sync).is_some() {
            return Err(Error::io("sync the log")(io::Error::from_raw_os_error(libc::EIO)));
        }
        for batch in state.unsynced.drain(..) {
            batch.apply(&mut state.durable);
        }
        state.noted = state.note_to_come.take().or(state.noted);
        Ok(())
    }

    /// The disk as a medium, and what a store on it is to be told. Nothing that the store writes is
    /// durable before [`sync`](Self::sync).
    pub fn medium(&self, reserve_bytes: u64) -> (Box<dyn Medium>, StoreConfig) {
        let config = StoreConfig {
            disk_reserve_bytes: reserve_bytes,
            cache_bytes: CACHE_BYTES,
            slack_bytes: SLACK_BYTES,
        };
        (Box::new(Mounted { disk: self.clone() }), config)
    }
}

/// The disk in the hands of a store.
struct Mounted {
    disk: Disk,
}

impl Chunks for Mounted {
    fn newest(&self) -> Result<Option<(u64, Bytes)>, String> {
        Ok(self.disk.state().seen.last_key_value().map(|(number, chunk)| (*number, chunk.clone())))
    }

    fn read_next(&self, number: u64) -> Result<Bytes, String> {
        let chunk = self.disk.state().seen.get(&number).cloned();
        chunk.ok_or_else(|| format!("chunk {number} is missing from its log"))
    }

    fn numbers_below(&self, base: u64) -> Result<Vec<u64>, String> {
        let numbers: BTreeSet<u64> =
            self.disk.state().seen.range(..base).map(|(number, _)| *number).collect();
        Ok(numbers.into_iter().collect())
    }
}

impl Medium for Mounted {
    fn place(&self) -> &Path {
        Path::new("simulated")
    }

    fn confirmed(&self) -> Option<u64> {
        self.disk.state().noted
    }

    fn read(&self, number: u64) -> Result<Option<Bytes>, Error> {
        Ok(self.disk.state().seen.get(&number).cloned())
    }

    /// Not durable before [`Disk::sync`]: whoever simulates the committing waits in between.
    fn write(&mut self, chunks: &[(u64, Bytes)], removed: &[u64]) -> Result<(), Error> {
        let state = &mut *self.disk.state();
        if state.fault.take_if(|fault| *fault == Fault::Write).is_some() {
            return Err(Error::io("write a chunk")(io::Error::from_raw_os_error(libc::EIO)));
        }
        let batch = Batch { chunks: chunks.to_vec(), removed: removed.to_vec() };
        batch.apply(&mut state.seen);
        state.figures.cleaned += removed.len() as u64;
        state.note_to_come = chunks.last().map(|(number, _)| *number).or(state.note_to_come);
        if state.syncs_at_once {
            return Ok(());
        }
        state.unsynced.push(batch);
        self.disk.1.notify_waiters();
        Ok(())
    }

    fn close(&mut self) -> Result<(), Error> {
        self.disk.sync()
    }

    fn opened(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn abandon(self: Box<Self>) {}

    fn room(&self) -> Result<Room, Error> {
        let state = self.disk.state();
        let free_bytes = if state.is_low { 1 << 20 } else { DISK_BYTES / 2 };
        let file_bytes = state.seen.values().map(|chunk| chunk.len() as u64).sum();
        Ok(Room { free_bytes, reusable_bytes: 0, file_bytes, disk_bytes: DISK_BYTES })
    }

    fn reclaim(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn reclaim_bytes(&self) -> u64 {
        0
    }

    fn copier(&self, _copy: Copy) -> Option<Copier> {
        None
    }
}
