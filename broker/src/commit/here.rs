//! Committing on the driver's own thread: a batch that is small while nothing else waits is durable
//! and answered without a hand-over to the store's thread and back. On an idle machine each
//! hand-over costs more than the work itself.
//!
//! While the driver's thread waits for the disk, it runs no session. So a thread of its own watches
//! how long each of these commits takes, and tells the owner of the broker about one that does not
//! end.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError, Weak};
use std::time::Duration;

use celeriac_store::Error;
use tokio_util::sync::CancellationToken;

use super::Batch;
use super::committer::Committer;
use crate::error::RunError;

/// A larger batch goes to the store's thread, so that the sessions go on meanwhile.
const EFFECTS_MAX: usize = 32;
const PAYLOAD_BYTES_MAX: usize = 64 * 1024;
/// The watch looks so often within the longest time of a commit.
const LOOKS_PER_TIMEOUT: u32 = 20;

/// A committer that two threads use in turn. `None`: the store's thread has closed it.
pub(super) type Turns = Arc<Mutex<Option<Committer>>>;

/// The driver's way to the committer.
#[derive(Debug)]
pub(crate) struct Here {
    committer: Turns,
    watch: Arc<Watch>,
}

/// Knows whether a commit is under way.
#[derive(Debug)]
struct Watch {
    /// One more at the begin and at the end of each commit: odd while one is under way.
    moments: AtomicU64,
    /// Cancelled when a commit takes longer than the timeout.
    overdue: CancellationToken,
}

/// What became of a batch that the driver wanted to commit itself.
#[derive(Debug)]
pub(crate) enum Attempt {
    /// It is durable and answered.
    Durable { disk_is_low: bool },
    /// The store's thread has the committer, or needs it: the batch comes back.
    NotNow(Batch),
}

/// The committer, for a thread that may wait for the other. `None`: the other thread has panicked,
/// and the committer must not be used.
pub(super) fn turn(committer: &Turns) -> Option<MutexGuard<'_, Option<Committer>>> {
    committer.lock().ok()
}

impl Here {
    /// Starts the watch. `overdue` is cancelled when a commit takes longer than `timeout`.
    ///
    /// # Errors
    /// When there is no thread for the watch.
    pub(super) fn new(
        committer: Turns,
        timeout: Duration,
        overdue: CancellationToken,
    ) -> Result<Self, RunError> {
        let watch = Arc::new(Watch { moments: AtomicU64::new(0), overdue });
        let watched = Arc::downgrade(&watch);
        let run = move || look(&watched, timeout);
        std::thread::Builder::new().name("watch".into()).spawn(run).map_err(RunError::Thread)?;
        Ok(Self { committer, watch })
    }

    /// Whether the batch is small enough.
    pub(crate) fn suits(batch: &Batch) -> bool {
        batch.effects.len() <= EFFECTS_MAX && batch.bytes <= PAYLOAD_BYTES_MAX
    }

    /// Commits and answers a batch, unless the store's thread has the committer or needs it.
    ///
    /// # Errors
    /// The store's error. The store cannot be used any more.
    pub(crate) fn commit(&self, batch: Batch) -> Result<Attempt, Error> {
        let mut turn = match self.committer.try_lock() {
            Ok(turn) => turn,
            Err(TryLockError::WouldBlock | TryLockError::Poisoned(_)) => {
                return Ok(Attempt::NotNow(batch));
            }
        };
        let Some(committer) = turn.as_mut().filter(|committer| !committer.is_to_clean()) else {
            return Ok(Attempt::NotNow(batch));
        };
        self.watch.begin();
        let committed = committer.commit(batch);
        // This asks the disk too.
        let disk_is_low = committer.disk_is_low();
        self.watch.end();
        committer.answer(committed?);
        Ok(Attempt::Durable { disk_is_low })
    }
}

impl Watch {
    fn begin(&self) {
        self.moments.fetch_add(1, Ordering::Relaxed);
    }

    fn end(&self) {
        self.moments.fetch_add(1, Ordering::Relaxed);
    }
}

/// Looks at a watch from time to time, until it is gone or a commit is overdue.
fn look(watched: &Weak<Watch>, timeout: Duration) {
    let (mut latest, mut looks) = (0, 0);
    while let Some(watch) = watched.upgrade() {
        let moment = watch.moments.load(Ordering::Relaxed);
        let is_under_way = moment % 2 == 1;
        looks = if is_under_way && moment == latest { looks + 1 } else { 0 };
        latest = moment;
        if looks > LOOKS_PER_TIMEOUT {
            watch.overdue.cancel();
            return;
        }
        drop(watch);
        std::thread::sleep(timeout / LOOKS_PER_TIMEOUT);
    }
}
