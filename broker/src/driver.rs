//! The driver: the loop that owns the machine. It drains what is waiting, applies all of it, hands one batch to the
//! store's thread as soon as that has finished the one before, and sleeps until the next deadline.
//!
//! It never waits for a session, and no batch waits for a timer: one commit is under way, the next batch fills.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tracing::info;

use crate::clock::Clock;
use crate::commit::{Batch, Hand, Link};
use crate::error::RunError;
use crate::machine::command::{Command, ConnectionKey, Monotonic, Now};
use crate::machine::{Effects, Machine};
use crate::outbox::Outbox;

/// What sessions hand to the driver.
#[derive(Debug)]
pub(crate) enum Input {
    /// A new connection: where its messages go.
    Open(ConnectionKey, Outbox),
    Command(Command),
    /// A request, with the room it takes until the driver has it.
    Request {
        command: Command,
        _room: OwnedSemaphorePermit,
    },
}

/// Inputs that wait for the driver. Sessions wait when it is full, and with them their clients.
pub(crate) const INPUTS_MAX: usize = 1_024;

/// Bytes of requests that wait for the driver, of all connections together, for the same reason.
pub(crate) const INPUT_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Inputs taken in one turn of the loop.
const INPUTS_PER_TURN: usize = 256;

/// Effects in one batch; a fuller one is not added to until it is handed over. Some 10 ms of the store's work.
const EFFECTS_PER_BATCH: usize = 20_000;

/// Payload bytes in one batch, for the same reason, and so that a disk that fills up is noticed before it is full.
const BYTES_PER_BATCH: usize = 4 * 1024 * 1024;

pub(crate) struct Driver {
    machine: Machine,
    clock: Clock,
    inputs: mpsc::Receiver<Input>,
    link: Arc<Link>,
    batches: Option<mpsc::Sender<Batch>>,
    /// How the store's thread ended.
    ended: oneshot::Receiver<Result<(), RunError>>,
    batch: Batch,
    disk_is_low: bool,
    /// The disk is low, and the store is to look whether it still is, even if it has nothing else to do.
    is_to_look: bool,
    /// When the batch under way was handed over.
    committing_since: Option<Monotonic>,
    commit_timeout: Duration,
}

impl Driver {
    pub(crate) fn new(
        machine: Machine,
        clock: Clock,
        inputs: mpsc::Receiver<Input>,
        hand: Hand,
        commit_timeout: Duration,
    ) -> Self {
        let Hand { link, batches, ended } = hand;
        Self {
            machine,
            clock,
            inputs,
            link,
            batches: Some(batches),
            ended,
            batch: Batch::default(),
            disk_is_low: false,
            is_to_look: false,
            committing_since: None,
            commit_timeout,
        }
    }

    /// Works until `Shutdown` has been carried out and committed, or the store fails.
    pub(crate) async fn run(mut self, restored: Effects) -> Result<(), RunError> {
        self.batch.effects = restored.list;
        let mut inputs = Vec::with_capacity(INPUTS_PER_TURN);
        let link = self.link.clone();
        loop {
            let sleep = tokio::time::sleep(self.clock.until(self.machine.next_deadline()));
            tokio::select! {
                biased;
                ended = &mut self.ended => return ended.unwrap_or_else(|_| Err(RunError::panicked())),
                permit = link.idle.acquire(), if !self.batch.is_empty() || self.is_to_look => {
                    let permit = permit.expect("the semaphore is never closed");
                    // Sessions that have something to say at this moment say it first: it shares the sync.
                    tokio::task::yield_now().await;
                    self.collect(&mut inputs);
                    if self.take(inputs.drain(..)) {
                        drop(permit);
                        return self.finish().await;
                    }
                    permit.forget();
                    self.hand_over().await;
                }
                count = self.inputs.recv_many(&mut inputs, INPUTS_PER_TURN), if self.has_room() => {
                    if count == 0 || self.take(inputs.drain(..)) {
                        return self.finish().await;
                    }
                }
                () = sleep => self.tick(),
            }
            self.check_commit()?;
        }
    }

    /// What waits by now.
    fn collect(&mut self, inputs: &mut Vec<Input>) {
        while self.has_room() && inputs.len() < INPUTS_PER_TURN {
            let Ok(input) = self.inputs.try_recv() else { return };
            inputs.push(input);
        }
    }

    fn has_room(&self) -> bool {
        self.batch.effects.len() < EFFECTS_PER_BATCH && self.batch.bytes < BYTES_PER_BATCH
    }

    /// Applies inputs; true when one of them was the last.
    fn take(&mut self, inputs: impl Iterator<Item = Input>) -> bool {
        let now = self.clock.now();
        let mut fx = Effects { list: std::mem::take(&mut self.batch.effects) };
        let mut last = false;
        self.take_note_of_the_disk(now, &mut fx);
        for input in inputs {
            match input {
                Input::Open(connection, outbox) => self.batch.opened.push((connection, outbox)),
                Input::Command(command) | Input::Request { command, .. } => {
                    last |= matches!(command, Command::Shutdown);
                    self.batch.bytes += command.payload_bytes();
                    self.machine.apply(now, command, &mut fx);
                }
            }
        }
        if !last {
            self.machine.tick(now, &mut fx);
        }
        self.batch.effects = fx.list;
        last
    }

    fn tick(&mut self) {
        let now = self.clock.now();
        let mut fx = Effects { list: std::mem::take(&mut self.batch.effects) };
        self.take_note_of_the_disk(now, &mut fx);
        self.is_to_look = self.disk_is_low;
        self.machine.tick(now, &mut fx);
        self.batch.effects = fx.list;
    }

    fn take_note_of_the_disk(&mut self, now: Now, fx: &mut Effects) {
        let low = self.link.disk_is_low.load(Ordering::Relaxed);
        if low != self.disk_is_low {
            self.disk_is_low = low;
            self.machine.apply(now, Command::DiskLow(low), fx);
        }
    }

    async fn hand_over(&mut self) {
        self.is_to_look = false;
        // The next batch is likely to be of this size.
        let effects = Vec::with_capacity(self.batch.effects.len());
        let batch = std::mem::replace(&mut self.batch, Batch { effects, ..Batch::default() });
        self.committing_since = Some(self.clock.now().mono);
        let batches = self.batches.as_ref().expect("taken only by finish");
        // When the thread is gone, `ended` says why.
        let _ = batches.send(batch).await;
    }

    /// A commit that takes too long is a broken disk: nothing can be confirmed, so nothing should look alive.
    fn check_commit(&mut self) -> Result<(), RunError> {
        match self.committing_since {
            Some(_) if self.link.idle.available_permits() > 0 => self.committing_since = None,
            Some(since) if self.clock.now().mono - since > self.commit_timeout.as_millis() as Monotonic => {
                return Err(RunError::overdue(self.commit_timeout));
            }
            _ => {}
        }
        Ok(())
    }

    /// The last batch, then the end of the store's thread.
    async fn finish(mut self) -> Result<(), RunError> {
        let timeout = self.commit_timeout;
        let last = async {
            self.link.idle.acquire().await.expect("the semaphore is never closed").forget();
            self.hand_over().await;
            self.batches = None;
            (&mut self.ended).await.unwrap_or_else(|_| Err(RunError::panicked()))
        };
        let result = tokio::time::timeout(timeout, last).await.unwrap_or_else(|_| Err(RunError::overdue(timeout)));
        info!(tasks = self.machine.tasks(), "closed");
        result
    }
}
