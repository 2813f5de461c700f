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
const BATCH_REMOVALS: usize = 64;

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
    /// The writer waits for a free segment.
    wants_segment: bool,
    /// The store waits until the archive has removed what left the log.
    wants_removals: bool,
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
            wants_segment: false,
            wants_removals: false,
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

    /// Moves until there is a free segment or nothing that a move could free.
    pub(super) fn free_a_segment(self: &Arc<Self>) -> Result<(), Error> {
        self.move_while(|state| {
            state.wants_segment = state.ring.is_without_free() && state.ring.can_free();
            state.wants_segment
        })
    }

    /// Moves until the archive has removed all chunks that left the log.
    pub(super) fn carry_out_removals(self: &Arc<Self>) -> Result<(), Error> {
        self.move_while(|state| {
            state.wants_removals = state.is_moving || state.ring.has_removals();
            state.wants_removals
        })
    }

    /// Waits for the mover as long as `wants` says so, or does the mover's work.
    fn move_while(self: &Arc<Self>, wants: impl Fn(&mut State) -> bool) -> Result<(), Error> {
        let mut state = self.state();
        while wants(&mut state) {
            if let Some(failure) = state.failure.take() {
                return Err(failure);
            }
            if state.has_thread {
                self.changed.notify_all();
                state = self.changed.wait(state).expect("nothing panics with this lock");
            } else {
                drop(state);
                Mover(self.clone()).step()?;
                state = self.state();
            }
        }
        Ok(())
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
        self.failure.is_none()
            && (self.is_moving
                || self.wants_removals
                || self.ring.has_many_removals()
                || self.is_to_free(segments))
    }

    fn is_to_free(&self, segments: &dyn Segments) -> bool {
        let to_come = segments.count_max().saturating_sub(segments.count());
        self.wants_segment || self.ring.is_short(to_come)
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
            let load = {
                let mut state = shared.state();
                let frees = state.is_to_free(&*shared.segments);
                state.ring.begin_move(frees)
            };
            shared.carry(&load)?;
            shared.state().written = Some(load);
            return Ok(true);
        };
        shared.archive.flush(load.chunks.end.checked_sub(1))?;
        let mut state = shared.state();
        state.ring.end_move(&load);
        (state.is_moving, state.wants_segment, state.wants_removals) = (false, false, false);
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
