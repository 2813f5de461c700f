//! The store's thread: appends a batch's records, fills in what its messages show from the records,
//! commits, and only then sends the messages. Reads take the same way as writes, so nobody sees
//! what is not on disk. What the thread does is a [`Committer`], step by step. How messages are
//! completed is told in `commit/filling.rs`, who they wait for in `commit/readers.rs`, what waits
//! keep of tasks that go in `commit/kept.rs`.

mod filling;
mod kept;
mod readers;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use celeriac_machine::command::{Code, ConnectionKey, Effect, Message, Refusal, RequestId};
use celeriac_record::Record;
use celeriac_store::{BackupError, Error, Store};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tracing::debug;

use self::readers::Readers;
use crate::error::RunError;
use crate::outbox::{Letter, Outbox, Weight};

/// What one turn of the driver wants committed.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub opened: Vec<(ConnectionKey, Outbox)>,
    pub effects: Vec<Effect>,
    /// Payloads that came with it.
    pub bytes: usize,
}

impl Batch {
    pub(crate) fn is_empty(&self) -> bool {
        self.opened.is_empty() && self.effects.is_empty()
    }
}

/// What the driver and the thread share.
#[derive(Debug)]
pub(crate) struct Link {
    /// One permit while no commit is under way.
    pub idle: Semaphore,
    pub disk_is_low: AtomicBool,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// The longest frame that any client takes.
    pub frame_bytes_max: usize,
    /// The largest result that is taken.
    pub result_bytes_max: usize,
}

/// The driver's hand on whoever commits.
#[derive(Debug)]
pub(crate) struct Hand {
    pub link: Arc<Link>,
    pub batches: mpsc::Sender<Batch>,
    /// How the committing ended.
    pub ended: oneshot::Receiver<Result<(), RunError>>,
}

/// The other side of a [`Hand`].
#[derive(Debug)]
pub(crate) struct Work {
    pub batches: mpsc::Receiver<Batch>,
    pub end: oneshot::Sender<Result<(), RunError>>,
}

/// Starts the thread. It ends when the sender of batches is dropped, or with the store's first
/// error.
pub(crate) fn start(store: Store, settings: Settings) -> Result<Hand, RunError> {
    let (mut committer, hand, mut work) = Committer::new(store, settings);
    let run = move || {
        let result = committer.run(&mut work.batches).and_then(|()| committer.close());
        // The driver may have ended first.
        let _ = work.end.send(result.map_err(RunError::Store));
    };
    std::thread::Builder::new().name("store".into()).spawn(run).map_err(RunError::Thread)?;
    Ok(hand)
}

/// Commits batch after batch. Who calls it, and when, is not its affair: the thread as fast as it
/// can, a simulation at moments of its own.
pub(crate) struct Committer {
    store: Store,
    settings: Settings,
    link: Arc<Link>,
    readers: Readers,
    /// To be started once the batch that asks for them is durable.
    backups: Vec<Backup>,
}

/// Who asked for a backup, and what of.
struct Backup {
    connection: ConnectionKey,
    request: RequestId,
    folder: PathBuf,
    tasks: u64,
}

/// A message on its way, or the end of a connection.
type Outgoing = (ConnectionKey, Option<(Message, Weight)>);

/// What a durable batch has to say.
#[derive(Debug)]
#[must_use = "the clients wait for it"]
pub(crate) struct Committed(Vec<Outgoing>);

impl Committer {
    pub(crate) fn new(mut store: Store, settings: Settings) -> (Self, Hand, Work) {
        let link = Arc::new(Link {
            idle: Semaphore::new(1),
            disk_is_low: AtomicBool::new(store.disk_is_low()),
        });
        let (sender, batches) = mpsc::channel(1);
        let (end, ended) = oneshot::channel();
        let hand = Hand { link: link.clone(), batches: sender, ended };
        let committer =
            Self { store, settings, link, readers: Readers::default(), backups: Vec::new() };
        (committer, hand, Work { batches, end })
    }

    fn run(&mut self, batches: &mut mpsc::Receiver<Batch>) -> Result<(), Error> {
        loop {
            // Nobody waits for more than one step of it.
            while batches.is_empty() && !batches.is_closed() && self.clean_in_passing()? {}
            let Some(batch) = batches.blocking_recv() else { return Ok(()) };
            let committed = self.commit(batch)?;
            self.answer(committed);
        }
    }

    /// Makes room on a disk that gets low. Returns whether there is more to do.
    pub(crate) fn clean_in_passing(&mut self) -> Result<bool, Error> {
        let goes_on = self.store.clean_in_passing()?;
        self.link.disk_is_low.store(self.store.disk_is_low(), Ordering::Relaxed);
        Ok(goes_on)
    }

    /// The first step: the batch is durable when this returns, and nobody was told.
    pub(crate) fn commit(&mut self, batch: Batch) -> Result<Committed, Error> {
        self.readers.add(batch.opened);
        let outgoing = self.prepare(batch.effects)?;
        self.store.commit()?;
        Ok(Committed(outgoing))
    }

    /// The second step: the next batch may come, and the messages go.
    pub(crate) fn answer(&mut self, committed: Committed) {
        self.link.disk_is_low.store(self.store.disk_is_low(), Ordering::Relaxed);
        self.link.idle.add_permits(1);
        for (connection, message) in committed.0 {
            self.send(connection, message);
        }
        for backup in std::mem::take(&mut self.backups) {
            self.start_backup(backup);
        }
    }

    /// The end, in good order.
    pub(crate) fn close(self) -> Result<(), Error> {
        self.store.close()
    }

    /// In the order of the effects, so that a message shows the records as they were when it was
    /// made.
    fn prepare(&mut self, effects: Vec<Effect>) -> Result<Vec<Outgoing>, Error> {
        let mut outgoing = Vec::new();
        for effect in effects {
            match effect {
                Effect::Store(record) => self.store.append(&record),
                Effect::Replay { key, generation, at } => {
                    let located = self.located(key.slot);
                    let submitted = self.store.submitted(located.submitted)?;
                    self.store
                        .append(&Record::Submitted(Box::new(submitted.again(key, generation, at))));
                }
                Effect::Drop(slot) => self.store.drop_task(slot),
                Effect::Send(connection, message) => {
                    self.fill(connection, message, &mut outgoing)?
                }
                Effect::Keep(connection, request, task) => self.keep(connection, request, task)?,
                Effect::Close(connection) => outgoing.push((connection, None)),
                Effect::Backup { connection, request, folder, tasks } => {
                    self.backups.push(Backup { connection, request, folder, tasks });
                }
            }
        }
        Ok(outgoing)
    }

    /// The answer comes from the backup's own thread, which keeps no connection open for it.
    fn start_backup(&mut self, backup: Backup) {
        let Backup { connection, request, folder, tasks } = backup;
        let answer_to = self.readers.late_sender(connection);
        self.store.start_backup(folder, move |outcome| {
            let message = match outcome {
                Ok(bytes) => Message::BackedUp { request, tasks, bytes },
                Err(error) => Message::Refused { request, refusal: no_backup(&error) },
            };
            if let Some(messages) = answer_to.and_then(|messages| messages.upgrade()) {
                // One that does not read is found out by the next message to it.
                let _ = messages.try_send(Letter::small(message));
            }
        });
    }

    fn send(&mut self, connection: ConnectionKey, message: Option<(Message, Weight)>) {
        match message {
            None => self.readers.end(connection),
            Some((message, weight)) => {
                if !self.readers.send(connection, message, weight) {
                    debug!(connection, "a message for a connection that is gone");
                }
            }
        }
    }
}

fn no_backup(error: &BackupError) -> Refusal {
    let code = match error {
        BackupError::Busy => Code::Overloaded,
        BackupError::Place { .. } => Code::InvalidArgument,
        BackupError::GivenUp => Code::ShuttingDown,
        BackupError::Failed(Error::NoRoom { .. }) => Code::DiskFull,
        BackupError::Failed(_) => Code::Internal,
    };
    Refusal::new(code, error.to_string())
}
