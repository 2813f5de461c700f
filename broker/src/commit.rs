//! The store's thread: appends a batch's records, fills in what its messages show from the records, commits, and only
//! then sends the messages. Reads take the same way as writes, so nobody sees what is not on disk. What the thread does is
//! a [`Committer`], step by step.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tracing::{debug, warn};

use crate::error::RunError;
use crate::machine::command::{Code, ConnectionKey, Delivery, Effect, Message, QueueInfo, Refusal, RequestId, View};
use crate::outbox::{AllWaiting, Letter, Outbox, Weight};
use crate::planted::{Bug, is_planted};
use crate::record::{Record, Slot, Timestamp};
use crate::store::{BackupError, Error, Store};

/// Once so many bytes of answers wait for a connection, further ones are refused unread, and may be asked for again when
/// the client has read: nobody who asks for much at once is to fill the memory, or to keep the store busy in vain.
const ANSWER_BYTES_WAITING_MAX: usize = 32 * 1024 * 1024;

/// What may wait for one connection in all: what is leased to a worker, its answers, and what it watches. A client that
/// lets it come to more does not read.
const BYTES_WAITING_MAX: usize = 128 * 1024 * 1024;

/// When so much waits for all connections together, this is the bound for each.
const ALL_BYTES_WAITING_MAX: usize = 256 * 1024 * 1024;
const ANSWER_BYTES_WHEN_TIGHT: usize = 1024 * 1024;

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
    /// Results in one answer; more would not fit into a frame.
    pub answer_bytes_max: usize,
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

/// Starts the thread. It ends when the sender of batches is dropped, or with the store's first error.
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

/// Commits batch after batch. Who calls it, and when, is not its affair: the thread as fast as it can, a simulation at
/// moments of its own.
pub(crate) struct Committer {
    store: Store,
    settings: Settings,
    link: Arc<Link>,
    outboxes: HashMap<ConnectionKey, Outbox>,
    all_waiting: AllWaiting,
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
        let link = Arc::new(Link { idle: Semaphore::new(1), disk_is_low: AtomicBool::new(store.disk_is_low()) });
        let (sender, batches) = mpsc::channel(1);
        let (end, ended) = oneshot::channel();
        let hand = Hand { link: link.clone(), batches: sender, ended };
        let (outboxes, all_waiting) = (HashMap::new(), AllWaiting::default());
        let committer = Self { store, settings, link, outboxes, all_waiting, backups: Vec::new() };
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
        self.outboxes.extend(batch.opened);
        let mut outgoing = self.prepare(batch.effects)?;
        if is_planted(Bug::ReplyBeforeTheCommit) {
            std::mem::take(&mut outgoing).into_iter().for_each(|(connection, message)| self.send(connection, message));
        }
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

    /// In the order of the effects, so that a message shows the records as they were when it was made.
    fn prepare(&mut self, effects: Vec<Effect>) -> Result<Vec<Outgoing>, Error> {
        let mut outgoing = Vec::new();
        for effect in effects {
            match effect {
                Effect::Store(record) => self.store.append(&record),
                Effect::Replay { key, generation, at } => {
                    let located = self.located(key.slot);
                    let submitted = self.store.submitted(located.submitted)?;
                    self.store.append(&Record::Submitted(Box::new(submitted.again(key, generation, at))));
                }
                Effect::Drop(slot) => self.store.drop_task(slot),
                Effect::Send(connection, message) => {
                    if let Some(weighed) = self.fill(connection, message)? {
                        outgoing.push((connection, Some(weighed)));
                    }
                }
                Effect::Close(connection) => outgoing.push((connection, None)),
                Effect::Backup { connection, request, folder, tasks } => {
                    self.backups.push(Backup { connection, request, folder, tasks });
                }
            }
        }
        Ok(outgoing)
    }

    /// Completes a message from the records. `None` when there is nobody to send it to.
    fn fill(&mut self, connection: ConnectionKey, mut message: Message) -> Result<Option<(Message, Weight)>, Error> {
        let Some(outbox) = self.outboxes.get(&connection) else {
            debug!(connection, "a message for a connection that is gone");
            return Ok(None);
        };
        let waiting = outbox.waiting();
        if waiting > BYTES_WAITING_MAX {
            self.close_slow(connection);
            return Ok(None);
        }
        let bytes = match &mut message {
            Message::Deliver(deliveries) => self.fill_deliveries(deliveries)?,
            Message::Transition { task, .. } => self.fill_view(task)?,
            Message::Got { request, .. } | Message::Waited { request, .. } | Message::Page { request, .. }
                if waiting >= self.room_for_answers() =>
            {
                let text = "earlier answers to this connection were not read yet: read them, and ask again";
                message = Message::Refused { request: *request, refusal: Refusal::new(Code::Overloaded, text) };
                0
            }
            // What a watch is answered with is never refused for want of room: it names the watch, which has begun.
            Message::Got { request, tasks }
            | Message::Waited { request, tasks, .. }
            | Message::Page { request, tasks, .. }
            | Message::Watching { request, tasks, .. } => match self.fill_views(tasks)? {
                Some(bytes) => bytes,
                None => {
                    let text = "the answer is too large: ask for fewer tasks at once";
                    message = Message::Refused { request: *request, refusal: Refusal::new(Code::FrameTooLarge, text) };
                    0
                }
            },
            Message::Workers { workers, .. } => {
                let mut bytes = 0;
                for view in workers.iter_mut().flat_map(|worker| &mut worker.running) {
                    bytes += self.fill_view(view)?;
                }
                bytes
            }
            Message::Queues { queues, wall, .. } => {
                self.fill_queues(queues, *wall)?;
                0
            }
            _ => 0,
        };
        let weight = self.outboxes.get(&connection).map(|outbox| outbox.weigh(bytes, &self.all_waiting));
        Ok(weight.map(|weight| (message, weight)))
    }

    /// Bytes of answers that one connection may have waiting when it gets another, at this moment.
    fn room_for_answers(&self) -> usize {
        if self.all_waiting.bytes() < ALL_BYTES_WAITING_MAX {
            ANSWER_BYTES_WAITING_MAX
        } else {
            ANSWER_BYTES_WHEN_TIGHT
        }
    }

    fn fill_deliveries(&mut self, deliveries: &mut [Delivery]) -> Result<usize, Error> {
        let mut bytes = 0;
        for delivery in deliveries {
            let at = self.located(delivery.slot).submitted;
            let submitted = self.store.submitted(at)?;
            bytes += submitted.payload.len();
            delivery.submitted = Some(Box::new(submitted));
        }
        Ok(bytes)
    }

    /// How many bytes the views have now. `None`: more than one answer may have.
    fn fill_views(&mut self, views: &mut [View]) -> Result<Option<usize>, Error> {
        let mut bytes = 0;
        for view in views {
            bytes += self.fill_view(view)?;
            if bytes > self.settings.answer_bytes_max {
                return Ok(None);
            }
        }
        Ok(Some(bytes))
    }

    /// Says about how many bytes the view has now.
    fn fill_view(&mut self, view: &mut View) -> Result<usize, Error> {
        const USUAL_BYTES: usize = 512;
        let Some(task) = &mut view.task else { return Ok(view.id.len()) };
        let located = self.located(task.slot);
        let mut submitted = self.store.submitted(located.submitted)?;
        // What a view does not show need not be kept alive until it is sent.
        submitted.payload.clear();
        let mut changed = located.changed.map(|at| self.store.changed(at)).transpose()?;
        let mut bytes =
            USUAL_BYTES + submitted.headers.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
        submitted.headers.iter_mut().for_each(|(_, value)| detach(value));
        if let Some(changed) = &mut changed {
            if !view.with_result {
                changed.result = None;
            }
            changed.result.iter_mut().for_each(|result| detach(&mut result.bytes));
            changed.progress.iter_mut().for_each(|progress| detach(&mut progress.meta));
            bytes += changed.result.as_ref().map_or(0, |result| result.bytes.len());
            bytes += changed.progress.as_ref().map_or(0, |progress| progress.meta.len());
            bytes += changed.errors.iter().map(|error| error.message.len() + error.traceback.len()).sum::<usize>();
        }
        task.records = Some((Box::new(submitted), changed.map(Box::new)));
        Ok(bytes)
    }

    fn fill_queues(&mut self, queues: &mut [QueueInfo], now: Timestamp) -> Result<(), Error> {
        for queue in queues {
            if let Some(slot) = queue.oldest {
                let located = self.located(slot);
                let changed = located.changed.map(|at| self.store.changed(at)).transpose()?;
                let submitted = self.store.submitted(located.submitted)?;
                let due = changed.as_ref().and_then(|changed| changed.due).or(submitted.eta).unwrap_or(0);
                queue.oldest_ms = now.saturating_sub(due.max(submitted.submitted_at)).max(0) as u64;
            }
        }
        Ok(())
    }

    fn located(&self, slot: Slot) -> crate::store::Located {
        self.store.locate(slot).expect("the machine names only tasks whose submit it has stored")
    }

    /// The answer comes from the backup's own thread, which keeps no connection open for it.
    fn start_backup(&mut self, backup: Backup) {
        let Backup { connection, request, folder, tasks } = backup;
        let answer_to = self.outboxes.get(&connection).map(Outbox::downgrade);
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
        let Some((message, weight)) = message else {
            // Its writer sends what is left and closes.
            self.outboxes.remove(&connection);
            return;
        };
        let Some(outbox) = self.outboxes.get(&connection) else {
            debug!(connection, "a message for a connection that is gone");
            return;
        };
        if !outbox.put(message, weight) {
            self.close_slow(connection);
        }
    }

    fn close_slow(&mut self, connection: ConnectionKey) {
        if let Some(outbox) = self.outboxes.remove(&connection) {
            warn!(connection, "closed: it does not read what it is sent");
            outbox.kill.cancel();
        }
    }
}

/// A few bytes are not to keep their whole chunk in memory until somebody reads them.
fn detach(bytes: &mut Bytes) {
    const FEW_BYTES: usize = 4 * 1024;
    if bytes.len() <= FEW_BYTES {
        *bytes = Bytes::copy_from_slice(bytes);
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
