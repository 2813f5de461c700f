//! Committing: the driver hands over batch after batch, and one thread makes each batch durable
//! before any client is told of it. Reads go through the same batches as writes, so no client sees
//! a change that is not on disk.
//!
//! The thread and the driver share two channels: batches go one way, and events come back that say
//! "this batch is durable, the next one may come". A [`Committer`] does the work for a batch, step
//! by step. The driver commits a small batch itself while nothing else waits, see `here`.

mod backup;
mod committer;
mod complete;
mod connections;
mod here;
mod kept;

use std::sync::Arc;

use celeriac_machine::command::{ConnectionKey, Effect};
use celeriac_store::{Error, Store};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

#[cfg(feature = "internals")]
pub(crate) use self::committer::Committed;
pub(crate) use self::committer::{CommitConfig, Committer};
pub(crate) use self::here::{Attempt, Here};
use self::here::{Turns, turn};
use crate::encode::Limits;
use crate::error::RunError;
use crate::send_queue::SendQueue;
use crate::tally::Tally;

/// The effects of one turn of the driver, to be committed together.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub opened: Vec<(ConnectionKey, SendQueue)>,
    pub effects: Vec<Effect>,
    /// Payload bytes of its commands.
    pub bytes: usize,
    /// New settings, which count from this batch on.
    pub settings: Option<Settings>,
    /// Told once the batch is durable.
    pub passing: Vec<(oneshot::Sender<Passed>, Passed)>,
}

/// How the broker was when something came through the driver and the commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Passed {
    /// An operator drains the broker: it delivers no task.
    pub draining: bool,
    /// The disk is low: the broker takes no new task.
    pub disk_is_low: bool,
}

/// The settings of the committing that change while the broker serves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// With less room the broker refuses new tasks.
    pub disk_reserve_bytes: u64,
    /// The limits that clients are told.
    pub limits: Limits,
}

impl Batch {
    pub(crate) fn is_empty(&self) -> bool {
        self.opened.is_empty()
            && self.effects.is_empty()
            && self.settings.is_none()
            && self.passing.is_empty()
    }
}

/// An event from the committer to the driver.
#[derive(Debug)]
pub(crate) enum CommitEvent {
    /// The batch under way is durable, and the driver may hand over the next one.
    Durable { disk_is_low: bool },
    /// The disk became low, or is no longer low, while there was nothing to commit.
    DiskIsLow(bool),
    /// The committer has ended and sends no further event.
    Ended(Result<(), RunError>),
}

/// The driver's end of the channels.
#[derive(Debug)]
pub(crate) struct Commits {
    /// Dropping this sender closes the store in good order.
    pub batches: mpsc::Sender<Batch>,
    /// The channel needs no bound: there is one batch under way, and each check of the disk sends
    /// at most one event.
    pub events: mpsc::UnboundedReceiver<CommitEvent>,
    pub disk_is_low: bool,
    /// For batches that the driver commits itself. `None`: the driver hands over every batch.
    pub here: Option<Here>,
    /// Cancelled when a commit on the driver's thread does not end.
    pub overdue: CancellationToken,
}

/// The committer's end of the channels.
#[derive(Debug)]
pub(crate) struct Batches {
    pub batches: mpsc::Receiver<Batch>,
    events: mpsc::UnboundedSender<CommitEvent>,
    /// The value that the driver was last told.
    disk_is_low: bool,
}

/// A committer for this store, and the two ends of its channels.
pub(crate) fn over(
    mut store: Store,
    config: CommitConfig,
    tally: Arc<Tally>,
) -> (Committer, Commits, Batches) {
    let disk_is_low = store.disk_is_low();
    let (sender, batches) = mpsc::channel(1);
    let (events, receiver) = mpsc::unbounded_channel();
    let overdue = CancellationToken::new();
    let commits = Commits { batches: sender, events: receiver, disk_is_low, here: None, overdue };
    (Committer::new(store, config, tally), commits, Batches { batches, events, disk_is_low })
}

/// Starts the store's thread. The thread ends when the sender of batches is dropped, or with the
/// store's first error.
pub(crate) fn start(
    store: Store,
    config: CommitConfig,
    tally: Arc<Tally>,
) -> Result<Commits, RunError> {
    let timeout = config.timeout;
    let (committer, mut commits, mut batches) = over(store, config, tally);
    let committer = Turns::new(Some(committer).into());
    // In a runtime of one thread, a disk that hangs would also stop whoever ends the broker.
    if Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread {
        let here = Here::new(committer.clone(), timeout, commits.overdue.clone())?;
        commits.here = Some(here);
    }
    let run = move || {
        let outcome = run(&committer, &mut batches).and_then(|()| {
            match turn(&committer).and_then(|mut turn| turn.take()) {
                Some(committer) => committer.close(),
                None => Ok(()),
            }
        });
        batches.end(outcome);
    };
    std::thread::Builder::new().name("store".into()).spawn(run).map_err(RunError::Thread)?;
    Ok(commits)
}

/// Returns when there will be no further batch, also when the driver has panicked.
fn run(committer: &Turns, batches: &mut Batches) -> Result<(), Error> {
    loop {
        // A batch never waits for more than one step of the cleaning.
        while batches.is_idle() {
            let Some(mut turn) = turn(committer) else { return Ok(()) };
            let Some(committer) = turn.as_mut() else { return Ok(()) };
            let goes_on = committer.clean_in_passing()?;
            batches.note_disk(committer.disk_is_low());
            if !goes_on {
                break;
            }
        }
        let Some(batch) = batches.batches.blocking_recv() else { return Ok(()) };
        let Some(mut turn) = turn(committer) else { return Ok(()) };
        let Some(committer) = turn.as_mut() else { return Ok(()) };
        let committed = committer.commit(batch)?;
        batches.confirm(committer.disk_is_low());
        committer.answer(committed);
    }
}

impl Batches {
    /// Whether no batch waits, and the driver may still send one.
    fn is_idle(&self) -> bool {
        self.batches.is_empty() && !self.batches.is_closed()
    }

    /// Tells the driver that the batch is durable. The driver may hand over the next batch while
    /// the committer sends the messages of this one.
    pub(crate) fn confirm(&mut self, disk_is_low: bool) {
        self.disk_is_low = disk_is_low;
        self.tell(CommitEvent::Durable { disk_is_low });
    }

    fn note_disk(&mut self, disk_is_low: bool) {
        if std::mem::replace(&mut self.disk_is_low, disk_is_low) != disk_is_low {
            self.tell(CommitEvent::DiskIsLow(disk_is_low));
        }
    }

    /// Tells the driver the outcome of the committing.
    pub(crate) fn end(self, outcome: Result<(), Error>) {
        self.tell(CommitEvent::Ended(outcome.map_err(RunError::Store)));
    }

    fn tell(&self, event: CommitEvent) {
        // A failed send means that the driver has ended first.
        let _ = self.events.send(event);
    }
}
