//! Committing: the driver hands over batch after batch, and one thread makes each durable before
//! anybody is told of it. Reads take the same way as writes, so nobody sees what is not on disk.
//!
//! The thread and the driver share two channels: batches go one way, and events come back that say
//! "this batch is durable, the next one may come". What the thread does for a batch is a
//! [`Committer`], step by step.

mod backup;
mod committer;
mod complete;
mod connections;
mod kept;

use celeriac_machine::command::{ConnectionKey, Effect};
use celeriac_store::{Error, Store};
use tokio::sync::mpsc;

#[cfg(feature = "internals")]
pub(crate) use self::committer::Committed;
pub(crate) use self::committer::{CommitConfig, Committer};
use crate::error::RunError;
use crate::send_queue::SendQueue;

/// What one turn of the driver wants committed.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub opened: Vec<(ConnectionKey, SendQueue)>,
    pub effects: Vec<Effect>,
    /// Payloads that came with it.
    pub bytes: usize,
}

impl Batch {
    pub(crate) fn is_empty(&self) -> bool {
        self.opened.is_empty() && self.effects.is_empty()
    }
}

/// What the driver hears of its batches.
#[derive(Debug)]
pub(crate) enum CommitEvent {
    /// The batch that was handed over is durable, and the next one may come.
    Durable { disk_is_low: bool },
    /// The disk got low, or is no longer low, while there was nothing to commit.
    DiskIsLow(bool),
    /// There will be no further event.
    Ended(Result<(), RunError>),
}

/// The driver's end of the channels.
#[derive(Debug)]
pub(crate) struct Commits {
    /// Dropping it ends the committing in good order.
    pub batches: mpsc::Sender<Batch>,
    /// Holds few events: there is one batch under way, and the disk gets low or not once for each
    /// look at it.
    pub events: mpsc::UnboundedReceiver<CommitEvent>,
    /// Whether the disk is low at the start.
    pub disk_is_low: bool,
}

/// The committer's end of the channels.
#[derive(Debug)]
pub(crate) struct Batches {
    pub batches: mpsc::Receiver<Batch>,
    events: mpsc::UnboundedSender<CommitEvent>,
    /// What the driver was last told.
    disk_is_low: bool,
}

/// A committer for this store, and the two ends of its channels.
pub(crate) fn over(mut store: Store, config: CommitConfig) -> (Committer, Commits, Batches) {
    let disk_is_low = store.disk_is_low();
    let (sender, batches) = mpsc::channel(1);
    let (events, receiver) = mpsc::unbounded_channel();
    let commits = Commits { batches: sender, events: receiver, disk_is_low };
    (Committer::new(store, config), commits, Batches { batches, events, disk_is_low })
}

/// Starts the store's thread. It ends when the sender of batches is dropped, or with the store's
/// first error.
pub(crate) fn start(store: Store, config: CommitConfig) -> Result<Commits, RunError> {
    let (mut committer, commits, mut batches) = over(store, config);
    let run = move || {
        let outcome = run(&mut committer, &mut batches).and_then(|()| committer.close());
        batches.end(outcome);
    };
    std::thread::Builder::new().name("store".into()).spawn(run).map_err(RunError::Thread)?;
    Ok(commits)
}

fn run(committer: &mut Committer, batches: &mut Batches) -> Result<(), Error> {
    loop {
        // Nobody waits for more than one step of the cleaning.
        while batches.is_idle() {
            let goes_on = committer.clean_in_passing()?;
            batches.note_disk(committer.disk_is_low());
            if !goes_on {
                break;
            }
        }
        let Some(batch) = batches.batches.blocking_recv() else { return Ok(()) };
        let committed = committer.commit(batch)?;
        batches.confirm(committer.disk_is_low());
        committer.answer(committed);
    }
}

impl Batches {
    /// Whether there is nothing to commit, and may be something later.
    fn is_idle(&self) -> bool {
        self.batches.is_empty() && !self.batches.is_closed()
    }

    /// Tells the driver that the batch is durable: the next one may come while the messages of this
    /// one are sent.
    pub(crate) fn confirm(&mut self, disk_is_low: bool) {
        self.disk_is_low = disk_is_low;
        self.tell(CommitEvent::Durable { disk_is_low });
    }

    fn note_disk(&mut self, disk_is_low: bool) {
        if std::mem::replace(&mut self.disk_is_low, disk_is_low) != disk_is_low {
            self.tell(CommitEvent::DiskIsLow(disk_is_low));
        }
    }

    /// Tells the driver how the committing ended.
    pub(crate) fn end(self, outcome: Result<(), Error>) {
        self.tell(CommitEvent::Ended(outcome.map_err(RunError::Store)));
    }

    fn tell(&self, event: CommitEvent) {
        // The driver may have ended first.
        let _ = self.events.send(event);
    }
}
