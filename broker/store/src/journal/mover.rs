//! The mover: carries the chunks of the oldest segment to the archive, in the background, and only
//! after the archive's flush lets the journal use the segment again.
//!
//! A broker has a thread for it. Without the thread the writer moves by itself when it has no free
//! segment; the simulation of the tests also calls [`Mover::step`] at moments that it chooses.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

use bytes::Bytes;

use super::ring::{Load, Ring};
use super::segments::Segments;
use crate::chunk;
use crate::error::Error;
use crate::medium::{Archive, ReadError};

/// Chunks are written to the archive in batches of so many bytes.
const BATCH_BYTES: usize = 1024 * 1024;
const BATCH_REMOVALS: usize = 4096;

/// What the writer, the mover and a backup share.
pub(super) struct Shared {
    pub(super) segments: Arc<dyn Segments>,
    pub(super) archive: Arc<dyn Archive>,
    state: Mutex<State>,
    changed: Condvar,
}

pub(super) struct State {
    pub(super) ring: Ring,
    /// A move whose chunks are written to the archive and not flushed.
    written: Option<Load>,
    /// Whether a move is under way.
    is_moving: bool,
    /// The writer waits for a free segment, or wants the removals carried out.
    is_urgent: bool,
    has_thread: bool,
    stops: bool,
    failure: Option<Error>,
}

/// A handle for the moves of a journal.
#[derive(Clone)]
pub struct Mover(Arc<Shared>);

impl std::fmt::Debug for Mover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mover").finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn new(segments: Arc<dyn Segments>, archive: Arc<dyn Archive>, ring: Ring) -> Self {
        let state = State {
            ring,
            written: None,
            is_moving: false,
            is_urgent: false,
            has_thread: false,
            stops: false,
            failure: None,
        };
        Self { segments, archive, state: Mutex::new(state), changed: Condvar::new() }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics with this lock")
    }

    /// The error of a move that failed. It comes once.
    pub(super) fn failure(&self) -> Option<Error> {
        self.state().failure.take()
    }

    /// A chunk that lies in the journal. `None`: it lies in the archive, or nowhere.
    pub(super) fn read(&self, number: u64) -> Result<Option<Bytes>, Error> {
        let Some(found) = self.state().ring.place(number) else { return Ok(None) };
        let mut bytes = vec![0; usize::from(found.length)];
        self.segments.read(found.place.segment, found.place.offset, &mut bytes)?;
        Ok(Some(bytes.into()))
    }

    /// A chunk, read beside the writer, which may use its segment again meanwhile: then the chunk
    /// lies in the archive.
    pub(super) fn read_beside(&self, number: u64) -> Result<Bytes, ReadError> {
        loop {
            match self.read(number)? {
                None => return self.archive.read_next(number),
                Some(bytes) => match chunk::open(number, &bytes) {
                    Err(fault) if self.state().ring.place(number).is_some() => {
                        return Err(fault.to_string().into());
                    }
                    Err(_) => {}
                    Ok(_) => return Ok(bytes),
                },
            }
        }
    }

    /// Wakes the mover if there is work for it.
    pub(super) fn wake(&self) {
        let state = self.state();
        if state.has_thread && state.is_due(&*self.segments) {
            self.changed.notify_all();
        }
    }

    /// Waits until a move has ended that was not under way before, or moves by itself.
    pub(super) fn move_now(self: &Arc<Self>) -> Result<(), Error> {
        let mut state = self.state();
        if !state.has_thread {
            drop(state);
            let mover = Mover(self.clone());
            self.state().is_urgent = true;
            while mover.step()? && self.state().is_moving {}
            return Ok(());
        }
        state.is_urgent = true;
        self.changed.notify_all();
        while state.is_urgent && state.failure.is_none() {
            state = self.changed.wait(state).expect("nothing panics with this lock");
        }
        state.failure.take().map_or(Ok(()), Err)
    }

    /// Writes a load to the archive.
    fn carry(&self, load: &Load) -> Result<(), Error> {
        let (mut batch, mut batch_bytes) = (Vec::new(), 0);
        for number in load.chunks.clone() {
            if self.state().ring.is_removed(number) {
                continue;
            }
            let Some(bytes) = self.read(number)? else { continue };
            chunk::open(number, &bytes).map_err(|fault| Error::Damaged {
                folder: self.archive.place().to_owned(),
                reason: format!("in its journal, {fault}"),
            })?;
            batch_bytes += bytes.len();
            batch.push((number, bytes));
            if batch_bytes >= BATCH_BYTES {
                self.archive.write(&batch, &[])?;
                batch.clear();
                batch_bytes = 0;
            }
        }
        if !batch.is_empty() {
            self.archive.write(&batch, &[])?;
        }
        for removals in load.removals.chunks(BATCH_REMOVALS) {
            self.archive.write(&[], removals)?;
        }
        Ok(())
    }
}

impl State {
    fn is_due(&self, segments: &dyn Segments) -> bool {
        let to_come = segments.count_max().saturating_sub(segments.count());
        self.failure.is_none()
            && (self.is_moving || self.is_urgent || self.ring.is_move_due(to_come))
    }
}

impl Mover {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    /// Does one step of a move, if one is due: the first writes to the archive, the second flushes
    /// it and frees the segment. Returns whether there was something to do.
    ///
    /// # Errors
    /// When the archive or the journal fails. The journal cannot be used then.
    pub fn step(&self) -> Result<bool, Error> {
        let shared = &self.0;
        let written = {
            let mut state = shared.state();
            if !state.is_due(&*shared.segments) {
                return Ok(false);
            }
            state.is_moving = true;
            state.written.take()
        };
        let Some(load) = written else {
            let load = shared.state().ring.begin_move();
            shared.carry(&load)?;
            shared.state().written = Some(load);
            return Ok(true);
        };
        shared.archive.flush(load.chunks.end.checked_sub(1))?;
        let mut state = shared.state();
        state.ring.end_move(&load);
        (state.is_moving, state.is_urgent) = (false, false);
        Ok(true)
    }

    /// Starts the thread, which ends with [`stop`](Self::stop) or with the first error.
    pub(super) fn start(&self) -> Result<JoinHandle<()>, Error> {
        self.0.state().has_thread = true;
        let mover = self.clone();
        std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || mover.run())
            .map_err(Error::io("start a thread"))
    }

    /// Tells the thread to end after the move that is under way.
    pub(super) fn stop(&self) {
        self.0.state().stops = true;
        self.0.changed.notify_all();
    }

    fn run(&self) {
        loop {
            let outcome = catch_unwind(AssertUnwindSafe(|| self.step())).unwrap_or_else(|_panic| {
                let reason = "the storage engine panicked".to_owned();
                Err(Error::Failed { reason })
            });
            let mut state = self.0.state();
            match outcome {
                Err(error) => {
                    state.failure = Some(error);
                    self.0.changed.notify_all();
                    return;
                }
                Ok(true) if state.is_moving => {}
                Ok(true) => self.0.changed.notify_all(),
                Ok(false) if state.stops => return,
                Ok(false) => {
                    // The lock was free since the step looked for work.
                    if !state.is_due(&*self.0.segments) && !state.stops {
                        drop(self.0.changed.wait(state).expect("nothing panics with this lock"));
                    }
                }
            }
        }
    }
}
