//! The committer: appends a batch's records, completes its messages from the records, encodes them,
//! commits, and only then sends the frames. The caller decides when: the store's thread as fast as
//! it can, the simulation at moments that it chooses.

use std::sync::Arc;
use std::time::Duration;

use celeriac_machine::command::{
    Answer, Code, ConnectionKey, DeliveryOutline, Effect, Histogram, LostWorker, Message, Outlines,
    Refusal, RequestId, SubmitOutcome, TaskOutline,
};
use celeriac_record::Record;
use celeriac_store::{Error, Store};
use tokio::sync::oneshot;
use tracing::{debug, warn};

use super::backup::Backup;
use super::complete::{Completer, Measured, detach};
use super::connections::{Connections, Held, Room};
use super::{Batch, Passed, Settings};
use crate::clock::Stopwatch;
use crate::outgoing::{COMMIT_BOUNDS_US, Outgoing, Outside, Shown, TaskView};
use crate::tally::Tally;
use crate::{encode, process, size};

#[derive(Debug, Clone, Copy)]
pub(crate) struct CommitConfig {
    /// The longest frame that a client accepts.
    pub frame_bytes_max: usize,
    /// The largest result that the broker accepts.
    pub result_bytes_max: usize,
    /// A commit that takes longer means a broken disk.
    pub timeout: Duration,
    /// The limits that clients are told.
    pub limits: encode::Limits,
}

/// The state of the committing, see the head of this file.
pub(crate) struct Committer {
    pub(super) store: Store,
    pub(super) config: CommitConfig,
    pub(super) connections: Connections,
    /// Backups to start once the batch that asks for them is durable.
    pub(super) backups: Vec<Backup>,
    tally: Arc<Tally>,
    /// How long the commits took that wrote something, in microseconds.
    commits: Histogram,
}

/// The messages of a durable batch.
#[derive(Debug)]
#[must_use = "the clients wait for it"]
pub(crate) struct Committed(Vec<Departure>);

/// Something that happens once the batch is durable.
#[derive(Debug)]
enum Departure {
    /// All frames that are held for the connection.
    Frames(ConnectionKey),
    Close(ConnectionKey),
    Log(Box<LostWorker>),
    /// Somebody waits until a batch has come through.
    Passed(oneshot::Sender<Passed>, Passed),
}

impl std::fmt::Debug for Committer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Committer").finish_non_exhaustive()
    }
}

impl Committer {
    pub(super) fn new(store: Store, config: CommitConfig, tally: Arc<Tally>) -> Self {
        let (connections, backups, commits) = Default::default();
        Self { store, config, connections, backups, tally, commits }
    }

    /// Whether new tasks should be refused, because the disk is nearly full.
    pub(crate) fn disk_is_low(&mut self) -> bool {
        self.store.disk_is_low()
    }

    /// Whether the store's thread cleans the log between commits.
    pub(crate) fn is_to_clean(&self) -> bool {
        self.store.is_tight()
    }

    /// Cleans the log a little when the disk becomes low. Returns whether there is more to clean.
    pub(crate) fn clean_in_passing(&mut self) -> Result<bool, Error> {
        self.store.clean_in_passing()
    }

    /// The first step: the batch is durable when this returns, and no client has been told.
    pub(crate) fn commit(&mut self, batch: Batch) -> Result<Committed, Error> {
        self.connections.add(batch.opened);
        if let Some(Settings { disk_reserve_bytes, limits }) = batch.settings {
            self.store.set_disk_reserve(disk_reserve_bytes);
            self.config.limits = limits;
        }
        let mut departures = self.prepare(batch.effects)?;
        let passing = batch.passing.into_iter();
        departures.extend(passing.map(|(waiting, passed)| Departure::Passed(waiting, passed)));
        self.commit_store()?;
        Ok(Committed(departures))
    }

    fn commit_store(&mut self) -> Result<(), Error> {
        // A batch of reads writes nothing, and its time says nothing of the disk.
        if !self.store.is_dirty() {
            return self.store.commit();
        }
        let committing = Stopwatch::start();
        self.store.commit()?;
        self.commits.note(&COMMIT_BOUNDS_US, committing.elapsed().as_micros() as u64);
        Ok(())
    }

    /// The second step: sends the messages.
    pub(crate) fn answer(&mut self, committed: Committed) {
        for departure in committed.0 {
            self.depart(departure);
        }
        for backup in std::mem::take(&mut self.backups) {
            self.start_backup(backup);
        }
    }

    /// Closes the store in good order.
    pub(crate) fn close(self) -> Result<(), Error> {
        self.store.close()
    }

    /// Carries out the effects in their order, so that a message shows the records as they were
    /// when the machine made the message.
    fn prepare(&mut self, effects: Vec<Effect>) -> Result<Vec<Departure>, Error> {
        let mut departures = Vec::new();
        for effect in effects {
            match effect {
                Effect::Store(record) => self.store.append(&record),
                Effect::Replay { key, generation, at } => {
                    let submitted = self.completer().submitted(key.slot)?;
                    let again = Box::new(submitted.again(key, generation, at));
                    self.store.append(&Record::Submitted(again));
                }
                Effect::Drop(slot) => self.store.drop_task(slot),
                Effect::Send(connection, message) => {
                    self.complete(connection, message, &mut departures)?
                }
                Effect::Keep(connection, request, task) => self.keep(connection, request, task)?,
                Effect::Close(connection) => departures.push(Departure::Close(connection)),
                Effect::WorkerLost(lost) => departures.push(Departure::Log(lost)),
                Effect::Forbade(connection, what) => {
                    self.connections.note_forbidden(connection, &what);
                }
                Effect::Backup { connection, request, folder, tasks } => {
                    self.backups.push(Backup { connection, request, folder, tasks });
                }
            }
        }
        Ok(departures)
    }

    fn completer(&mut self) -> Completer<'_> {
        Completer { store: &mut self.store, config: self.config }
    }

    /// Completes a message, and adds it to the departures if its connection is open.
    fn complete(
        &mut self,
        connection: ConnectionKey,
        message: Message,
        departures: &mut Vec<Departure>,
    ) -> Result<(), Error> {
        let Some(room) = self.connections.room(connection) else {
            debug!(connection, "a message for a connection that is gone");
            return Ok(());
        };
        if let Message::Answer(_, answer) = &message {
            self.note_refusals(answer);
        }
        let measured = match message {
            Message::Deliver(deliveries) => {
                return self.complete_deliveries(connection, deliveries, departures);
            }
            Message::Show(request, outlines)
                if room.answer_bytes == 0 && is_refusable(&outlines) =>
            {
                let text = "earlier answers to this connection were not read yet: read them, and ask again";
                let refusal = Refusal::new(Code::Overloaded, text);
                self.tally.note_refused(refusal.code);
                Measured::of(Outgoing::Answer(request, Answer::Refused(refusal)))
            }
            Message::Show(request, outlines) => self.show(connection, request, outlines, room)?,
            Message::Transition { watch, task } => {
                let task = self.completer().task(task)?;
                task.map(|task| Outgoing::Transition { watch, task })
            }
            Message::Answer(request, Answer::Submitted(mut outcomes)) => {
                self.completer().fit_outcomes(&mut outcomes);
                Measured::of(Outgoing::Answer(request, Answer::Submitted(outcomes)))
            }
            Message::Answer(request, Answer::Stored(mut outcomes)) => {
                self.completer().fit_stored(&mut outcomes);
                Measured::of(Outgoing::Answer(request, Answer::Stored(outcomes)))
            }
            Message::Answer(request, answer) => Measured::of(Outgoing::Answer(request, answer)),
            Message::Push(push) => Measured::of(Outgoing::Push(push)),
        };
        self.add(connection, measured, departures);
        Ok(())
    }

    /// Counts what an answer refuses: the request, or items of its batch.
    fn note_refusals(&self, answer: &Answer) {
        let note = |code| self.tally.note_refused(code);
        match answer {
            Answer::Refused(refusal) => note(refusal.code),
            Answer::Submitted(outcomes) => {
                for outcome in outcomes {
                    if let SubmitOutcome::Refused(refusal) = outcome {
                        note(refusal.code);
                    }
                }
            }
            Answer::Reported(outcomes) => {
                outcomes.iter().filter_map(|each| each.err()).for_each(|(code, _)| note(code));
            }
            Answer::Stored(outcomes) => {
                let refusals = outcomes.iter().filter_map(|each| each.as_ref().err());
                refusals.for_each(|(refusal, _)| note(refusal.code));
            }
            _ => {}
        }
    }

    /// What the broker knows of itself outside the machine.
    fn outside(&mut self) -> Outside {
        let tally = &self.tally;
        Outside {
            restore_ms: tally.restore().as_millis() as u64,
            guests: tally.guests() as u32,
            auth_failures: tally.auth_failures(),
            refused: tally.refused(),
            commit: self.commits,
            usage: self.store.recent_usage(),
            certificate_expires_at: tally.certificate_expires_at(),
            reload: tally.reload(),
            process: process::figures(),
        }
    }

    fn show(
        &mut self,
        connection: ConnectionKey,
        request: RequestId,
        outlines: Outlines,
        room: Room,
    ) -> Result<Measured<Outgoing>, Error> {
        let mut kept = match &outlines {
            Outlines::Waited { .. } => {
                self.connections.kept(connection).and_then(|kept| kept.take(request))
            }
            _ => None,
        };
        let outside = match &outlines {
            Outlines::Stats(stats) if stats.broker.is_some() => Some(self.outside()),
            _ => None,
        };
        let mut completer = self.completer();
        let shown = match outlines {
            Outlines::Got { tasks } => {
                completer.selection(tasks, None, room)?.map(|tasks| Shown::Got { tasks })
            }
            Outlines::Waited { satisfied, tasks } => completer
                .selection(tasks, kept.as_mut(), room)?
                .map(|tasks| Shown::Waited { satisfied, tasks }),
            Outlines::Watching { watch, tasks } => completer
                .selection(tasks, None, room)?
                .map(|tasks| Shown::Watching { watch, tasks }),
            Outlines::Page(page) => completer.page(page, room)?,
            Outlines::Workers { workers, next } => completer.workers(workers, next, room)?,
            Outlines::Queues { queues, next, wall } => {
                completer.queues(queues, next, wall, room)?
            }
            Outlines::Broker(outline) => completer.broker(*outline),
            Outlines::Stats(stats) => completer.stats(*stats, outside, room),
            // The machine has bounded these pages, and nothing of them is in the records.
            Outlines::Mailboxes { mailboxes, next } => {
                return Ok(Measured::of(Outgoing::Show(
                    request,
                    Shown::Mailboxes { mailboxes, next },
                )));
            }
            Outlines::Bindings { bindings, is_last } => {
                return Ok(Measured::of(Outgoing::Show(
                    request,
                    Shown::Bindings { bindings, is_last },
                )));
            }
        };
        Ok(shown.map(|shown| Outgoing::Show(request, shown)))
    }

    /// Distributes deliveries over frames.
    fn complete_deliveries(
        &mut self,
        connection: ConnectionKey,
        deliveries: Vec<DeliveryOutline>,
        departures: &mut Vec<Departure>,
    ) -> Result<(), Error> {
        let mut deliveries = deliveries.into_iter();
        let mut read_ahead = None;
        while let Some(measured) = self.completer().deliveries(&mut deliveries, &mut read_ahead)? {
            // The connection is closed: the rest cannot be sent.
            if !self.add(connection, measured.map(Outgoing::Deliver), departures) {
                break;
            }
        }
        Ok(())
    }

    /// Completes the view of a task that is about to be dropped, for the answer to a wait that has
    /// seen the task end.
    fn keep(
        &mut self,
        connection: ConnectionKey,
        request: RequestId,
        task: TaskOutline,
    ) -> Result<(), Error> {
        if self.connections.kept(connection).is_none() {
            return Ok(());
        }
        let Measured { mut message, .. } = self.completer().task(task)?;
        detach(&mut message);
        let bytes_of = |view: &TaskView| size::task(view) + size::memory(view);
        // The frame must still have room for the largest view that may be added at the end.
        let CommitConfig { frame_bytes_max, result_bytes_max, .. } = self.config;
        let largest = size::FRAME + size::VIEW_BYTES_MAX + result_bytes_max;
        let of_wait_max = frame_bytes_max.saturating_sub(largest).max(frame_bytes_max / 2);
        let Some(kept) = self.connections.kept(connection) else { return Ok(()) };
        if !kept.has_room(request, bytes_of(&message), of_wait_max) {
            message.strip();
        }
        let bytes = bytes_of(&message);
        if kept.has_room(request, bytes, of_wait_max) {
            kept.keep(request, message, bytes);
        }
        Ok(())
    }

    /// Encodes a message. Returns false when the connection is closed.
    fn add(
        &mut self,
        connection: ConnectionKey,
        measured: Measured<Outgoing>,
        departures: &mut Vec<Departure>,
    ) -> bool {
        let Self { connections, config, .. } = self;
        let bytes_max = size::FRAME + measured.bytes;
        let cursors = match measured.message {
            Outgoing::Show(_, Shown::Page(_) | Shown::Workers { .. }) => {
                connections.cursors(connection)
            }
            _ => None,
        };
        let held = connections.hold(connection, bytes_max, |buffer| {
            encode::append(measured.message, &config.limits, cursors.as_deref(), buffer)
        });
        if held == Held::First {
            departures.push(Departure::Frames(connection));
        }
        held != Held::Closed
    }

    fn depart(&mut self, departure: Departure) {
        match departure {
            Departure::Close(connection) => self.connections.end(connection),
            Departure::Log(lost) => log_lost(&lost),
            // Who waited may be gone.
            Departure::Passed(waiting, passed) => drop(waiting.send(passed)),
            Departure::Frames(connection) => {
                if !self.connections.send(connection) {
                    debug!(connection, "a message for a connection that is gone");
                }
            }
        }
    }
}

/// One line for a lost worker, whatever the number of its tasks.
fn log_lost(lost: &LostWorker) {
    let LostWorker { instance, silent_ms, queued, failed, revoked, tasks } = lost;
    let oldest: Vec<_> = tasks.iter().map(|(id, state)| format!("{id} {}", state.name())).collect();
    let lost_tasks = queued + failed + revoked;
    warn!(
        worker = &**instance,
        silent_ms,
        lost_tasks,
        queued_again = queued,
        failed,
        revoked,
        oldest_tasks = oldest.join(", "),
        "a worker is lost"
    );
}

/// Whether the broker may refuse this answer for lack of room. The answer to a watch is never
/// refused: it names the watch, which has begun.
fn is_refusable(outlines: &Outlines) -> bool {
    match outlines {
        Outlines::Got { .. }
        | Outlines::Waited { .. }
        | Outlines::Page(_)
        | Outlines::Queues { .. }
        | Outlines::Workers { .. }
        | Outlines::Mailboxes { .. }
        | Outlines::Bindings { .. }
        | Outlines::Stats(_) => true,
        Outlines::Watching { .. } | Outlines::Broker(_) => false,
    }
}
