//! The log in sled: chunks by number, written in batches. The only file of the broker that calls
//! sled while running.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use bytes::Bytes;
use sled::IVec;

use super::quiet::os_error;
use super::reads::ReadGuard;
use super::sync::syncs;
use crate::error::Error;

/// Part of the format: a folder made with one size cannot be opened with another. A leaf of 16
/// chunks stays far below a quarter of this size. From a quarter on, sled would put the leaf into a
/// separate file that sled never syncs.
pub(super) const SEGMENT_BYTES: usize = 8 * 1024 * 1024;
/// sled keeps several times this many bytes.
const SLED_CACHE_BYTES: u64 = 8 * 1024 * 1024;
/// sled frees space only in its own flusher, so sled needs a flusher. The flusher does not make
/// commits durable.
const FLUSH_EVERY_MS: u64 = 500;
/// Further uses of a page: see [`Log::touching`].
const TOUCHES_COLD: u32 = 15;
/// Half of a page of sixteen chunks is written before the page is split, and each chunk uses the
/// page once or twice.
const TOUCHES_WRITTEN: u32 = 8;
/// Sixteen chunks in a row share a page.
const TOUCHES_IN_ORDER: u32 = 3;
/// The number of future chunks that have a place already: the least number, and the number after
/// more places were made. See [`Log::make_places`].
const PLACES_MIN: u64 = 32;
const PLACES_MADE: u64 = 96;
/// A turn fills a segment in steps of this size: with about every tenth step sled moves a page out
/// of a thin segment.
const TURN_BYTES: usize = 4 * 1024;
/// The longest time that the lock of a database may stay after this process has closed it.
const REOPEN_PATIENCE: Duration = Duration::from_secs(5);
/// How often the store checks whether a slow start has failed.
const LOOK_FOR_FAILURE: Duration = Duration::from_millis(10);

#[derive(Clone)]
pub(super) struct Log {
    database: sled::Db,
    tree: sled::Tree,
    /// One past the last chunk that is present or has a place.
    places_end: Arc<AtomicU64>,
    /// The read_guard of a file that existed before.
    read_guard: Option<Arc<ReadGuard>>,
}

/// Why sled could not open a folder: sled returned an error, sled panicked, the disk failed to
/// read, or another process has the folder open.
pub(super) enum OpenFailure {
    Locked,
    Error(sled::Error),
    Unreadable(io::Error),
    Panic(String),
}

impl Log {
    /// Opens the database. Without the flusher sled cleans nothing, and none of its threads
    /// outlives a failure.
    ///
    /// When a read fails meanwhile, the threads that open the database stand still for good and
    /// keep sled's lock, but they have changed nothing: see `reads.rs`.
    pub(super) fn open(folder: &Path, with_flusher: bool) -> Result<Self, OpenFailure> {
        let read_guard = match ReadGuard::holding(&folder.join("db")) {
            Ok(read_guard) => Arc::new(read_guard),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Self::open_now(folder, with_flusher);
            }
            Err(error) => return Err(OpenFailure::Unreadable(error)),
        };
        let (sender, receiver) = mpsc::channel();
        let place = folder.to_owned();
        let opening = std::thread::Builder::new()
            .name("store opening".into())
            .spawn(move || sender.send(Self::open_now(&place, with_flusher)))
            .map_err(OpenFailure::Unreadable)?;
        loop {
            match receiver.recv_timeout(LOOK_FOR_FAILURE) {
                Ok(opened) => {
                    let _ended = opening.join();
                    read_guard.let_go();
                    return opened.map(|log| Self { read_guard: Some(read_guard), ..log });
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    if let Some(error) = read_guard.failure() {
                        return Err(OpenFailure::Unreadable(error));
                    }
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    return Err(OpenFailure::Panic("its thread ended".to_owned()));
                }
            }
        }
    }

    /// The system's error, if a read of the file has failed since the file was opened.
    pub(super) fn read_failure(&self) -> Option<io::Error> {
        self.read_guard.as_ref().and_then(|read_guard| read_guard.failure())
    }

    fn open_now(folder: &Path, with_flusher: bool) -> Result<Self, OpenFailure> {
        let config = sled::Config::new()
            .path(folder)
            .segment_size(SEGMENT_BYTES)
            .cache_capacity(SLED_CACHE_BYTES)
            .use_compression(false)
            .flush_every_ms(with_flusher.then_some(FLUSH_EVERY_MS));
        let patience = Instant::now() + REOPEN_PATIENCE;
        loop {
            let opened = guarded(|| {
                let database = config.open()?;
                let tree = database.open_tree("log")?;
                let last = tree.last()?.map(|(key, _)| key);
                Ok((database, tree, last))
            });
            match opened {
                Err(OpenFailure::Error(sled::Error::Io(error)))
                    if error.to_string().contains("could not acquire lock") =>
                {
                    if Instant::now() >= patience {
                        return Err(OpenFailure::Locked);
                    }
                    std::thread::sleep(Duration::from_millis(2));
                }
                Err(failure) => return Err(failure),
                Ok((database, tree, last)) => {
                    let last =
                        last.map(|key| number_of(&key)).transpose().map_err(OpenFailure::Panic)?;
                    let places_end = last.map_or(0, |last| last.saturating_add(1));
                    let places_end = Arc::new(places_end.into());
                    return Ok(Self { database, tree, places_end, read_guard: None });
                }
            }
        }
    }

    /// A chunk from anywhere in the log.
    pub(super) fn read(&self, number: u64) -> Result<Option<Bytes>, Error> {
        caught("read a chunk", || self.touching(number, TOUCHES_COLD))
    }

    /// A chunk, when all chunks are read in order. An error of sled is returned as a sentence.
    pub(super) fn read_next(&self, number: u64) -> Result<Bytes, String> {
        let chunk = guarded(|| self.touching(number, TOUCHES_IN_ORDER))
            .map_err(|failure| failure.to_string())?;
        chunk.ok_or_else(|| format!("chunk {number} is missing from its log"))
    }

    /// sled looks at its cache's size only after 64 uses of pages of one of 256 groups, and a page
    /// is up to 384 KiB: a scan would keep gigabytes. So the log uses each page more often than
    /// necessary, until sled looks at the page's group.
    fn touching(&self, number: u64, touches: u32) -> sled::Result<Option<Bytes>> {
        let key = number.to_be_bytes();
        let chunk = self.tree.get(key)?;
        for _ in 0..touches {
            self.tree.contains_key(key)?;
        }
        Ok(chunk.filter(|chunk| !chunk.is_empty()).map(Bytes::from_owner))
    }

    /// The chunks that are present although they are older than the log.
    pub(super) fn numbers_below(&self, base: u64) -> Result<Vec<u64>, String> {
        let keys =
            || self.tree.range(..base.to_be_bytes()).keys().collect::<sled::Result<Vec<_>>>();
        let keys = guarded(keys).map_err(|failure| failure.to_string())?;
        keys.iter().map(number_of).collect()
    }

    /// Writes and removes in one batch: after a crash either the whole batch is present, or nothing
    /// of it. The batch is durable after the next [`sync`](Self::sync).
    pub(super) fn write(&self, chunks: &[(u64, Bytes)], removed: &[u64]) -> Result<(), Error> {
        caught("write a batch", || self.write_batch(chunks, removed))
    }

    /// Makes durable what was written. `before` is the number of syncs before that was written, if
    /// anything was written.
    pub(super) fn sync(&self, before: Option<u64>) -> Result<(), Error> {
        let before = before.unwrap_or_else(syncs);
        caught("flush a batch", || self.database.flush())?;
        // This thread's flush or sled's flusher wrote the last bytes. In both cases a sync follows
        // each write.
        if syncs() == before {
            // sled writes nothing, and then syncs nothing, for values that it has already.
            self.prove()?;
            caught("flush a proof", || self.database.flush())?;
        }
        if syncs() == before { Err(Error::NotSynced) } else { Ok(()) }
    }

    fn write_batch(&self, chunks: &[(u64, Bytes)], removed: &[u64]) -> sled::Result<()> {
        if let Some((newest, _)) = chunks.last() {
            self.make_places(*newest)?;
        }
        match chunks {
            // One chunk is atomic by itself, so the sync of a batch's own mark is not needed.
            [(number, chunk)] if removed.is_empty() => {
                self.tree.insert(number.to_be_bytes(), &chunk[..])?;
            }
            _ => {
                let mut batch = sled::Batch::default();
                for (number, chunk) in chunks {
                    batch.insert(&number.to_be_bytes(), &chunk[..]);
                }
                for number in removed {
                    batch.remove(&number.to_be_bytes());
                }
                self.tree.apply_batch(batch)?;
            }
        }
        for (number, _) in chunks {
            for _ in 0..TOUCHES_WRITTEN {
                self.tree.contains_key(number.to_be_bytes())?;
            }
        }
        Ok(())
    }

    /// Gives the next chunks a place: their key with an empty value.
    ///
    /// sled splits a page that gets a seventeenth key, and writes both halves again, whole. If the
    /// keys came with their chunks, sled would write each chunk five times. So pages are split
    /// while they are empty. The places need not be durable: a chunk without one makes its own.
    fn make_places(&self, newest: u64) -> sled::Result<()> {
        let end = self.places_end.load(Ordering::Relaxed);
        if newest + PLACES_MIN < end {
            return Ok(());
        }
        let new_end = newest + PLACES_MADE;
        for number in end..new_end {
            self.tree.insert(number.to_be_bytes(), IVec::default())?;
        }
        self.places_end.store(new_end, Ordering::Relaxed);
        Ok(())
    }

    /// Unused bytes of the data file, which has this length. sled writes to them before the file
    /// grows.
    pub(super) fn reusable_bytes(&self, file_bytes: u64) -> u64 {
        // The segments in use, by their place in the log.
        let used = self.database.context.pagecache.log.iter_from(0).segments.len() as u64;
        (file_bytes / SEGMENT_BYTES as u64).saturating_sub(used) * SEGMENT_BYTES as u64
    }

    /// Makes sled go on to its next segment.
    ///
    /// A segment from which all pages were moved or removed counts as free only once two other
    /// segments are full: the segment that records the removal, and the segment after it. On a log
    /// with few writes this may never happen.
    pub(super) fn turn_over(&self) -> Result<(), Error> {
        caught("go on to the next segment", || {
            let tree = self.database.open_tree("turn")?;
            for step in 0..SEGMENT_BYTES / TURN_BYTES {
                // sled would not write the same value again.
                tree.insert([0], vec![1 + step as u8 % 2; TURN_BYTES])?;
            }
            tree.insert([0], IVec::default())?;
            self.database.flush()?;
            Ok(())
        })
    }

    /// Writes something, so that a flush has something to make durable.
    fn prove(&self) -> Result<(), Error> {
        caught("write a proof", || {
            let tree = self.database.open_tree("turn")?;
            let latest = tree.get([1])?.map_or(0, |value| value.first().copied().unwrap_or(0));
            // sled would not write the same value again.
            tree.insert([1], vec![latest.wrapping_add(1)])?;
            Ok(())
        })
    }

    /// The length up to which the data file has needed bytes.
    pub(super) fn needed_bytes(&self) -> u64 {
        let stable = self.stable_position();
        let segments = self.database.context.pagecache.log.iter_from(0).segments;
        let end = |(position, offset): (i64, u64)| {
            let written = (stable + 1 - position).clamp(0, SEGMENT_BYTES as i64);
            offset + written.unsigned_abs()
        };
        segments.into_iter().filter(|(position, _)| *position <= stable).map(end).max().unwrap_or(0)
    }

    /// The position of the last stable byte in sled's own numbering.
    pub(super) fn stable_position(&self) -> i64 {
        self.database.context.pagecache.log.stable_offset()
    }

    pub(super) fn flush(&self) -> Result<(), Error> {
        caught("flush at the end", || self.database.flush()).map(|_| ())
    }

    /// The newest chunk: the last place that is not empty.
    pub(super) fn newest(&self) -> Result<Option<(u64, Bytes)>, String> {
        let is_chunk = |item: &sled::Result<(IVec, IVec)>| {
            item.as_ref().map_or(true, |(_, chunk)| !chunk.is_empty())
        };
        let item = guarded(|| self.tree.iter().rev().find(is_chunk).transpose())
            .map_err(|failure| failure.to_string())?;
        item.map(chunk_of).transpose()
    }

    /// Closes a database that is refused, and ignores errors of sled.
    pub(super) fn abandon(self) {
        let _closed = guarded(move || {
            drop(self);
            Ok(())
        });
    }
}

impl std::fmt::Display for OpenFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Locked => write!(f, "another process has it open"),
            Self::Error(error) => f.write_str(&engine_reason(error)),
            Self::Unreadable(error) => write!(f, "the file `db` cannot be read: {error}"),
            Self::Panic(text) => {
                tracing::debug!(text, "the storage engine gave up");
                write!(f, "the storage engine cannot make sense of it")
            }
        }
    }
}

fn chunk_of((key, value): (IVec, IVec)) -> Result<(u64, Bytes), String> {
    Ok((number_of(&key)?, Bytes::from_owner(value)))
}

fn number_of(key: &IVec) -> Result<u64, String> {
    let number = <[u8; 8]>::try_from(&key[..]).map_err(|_| "a key of its log is not a number")?;
    Ok(u64::from_be_bytes(number))
}

/// sled panics on some errors of the disk; such a panic becomes an error. Any other panic
/// continues.
fn caught<T>(doing: &'static str, work: impl FnOnce() -> sled::Result<T>) -> Result<T, Error> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(outcome) => outcome.map_err(|error| engine_error(doing, &error)),
        Err(panic) => match super::disk_failure() {
            Some(error) => Err(error),
            None => resume_unwind(panic),
        },
    }
}

/// sled panics on some kinds of damage; such a panic must become a sentence.
fn guarded<T>(work: impl FnOnce() -> sled::Result<T>) -> Result<T, OpenFailure> {
    let outcome = super::quiet::quietly(|| catch_unwind(AssertUnwindSafe(work)));
    match outcome {
        Ok(outcome) => outcome.map_err(OpenFailure::Error),
        Err(panic) => {
            let text = panic_text(&*panic);
            Err(super::quiet::disk_failure()
                .map_or(OpenFailure::Panic(text), OpenFailure::Unreadable))
        }
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no reason given").lines().next().unwrap_or_default().to_owned()
}

fn engine_error(doing: &'static str, error: &sled::Error) -> Error {
    Error::Engine { doing, reason: engine_reason(error) }
}

/// The reason of sled's error, for an operator. sled's own texts describe its internals and do not
/// help the operator.
fn engine_reason(error: &sled::Error) -> String {
    match error {
        sled::Error::Io(error) => os_error(&error.to_string())
            .map_or_else(|| error.to_string(), |found| found.to_string()),
        sled::Error::Corruption { .. } => {
            "what it reads from its file `db` is not what was written".to_owned()
        }
        _ => "its file `db` does not fit together".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusal_has_no_words_of_the_engine() {
        let error = sled::Error::Corruption { at: None, bt: () };
        let text = engine_error("read a chunk", &error).to_string();
        assert!(!text.contains("backtrace") && !text.contains("Corruption"), "{text}");
    }
}
