//! The driver: the loop that owns the machine. It drains what is waiting, applies all of it, hands
//! one batch to the store's thread as soon as that has finished the one before, and sleeps until
//! the next deadline.
//!
//! It never waits for a session, and no batch waits for a timer: one commit is under way, the next
//! batch fills. However much waits for it, nobody whose request is among it is taken for silent.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use celeriac_machine::command::{Command, ConnectionKey, Monotonic, Now};
use celeriac_machine::{Effects, Machine};
use tokio::sync::{mpsc, oneshot};
use tracing::info;

use crate::clock::Clock;
use crate::commit::{Batch, Hand, Link};
use crate::error::RunError;
use crate::outbox::Outbox;
use crate::room::Place;

/// What sessions hand to the driver.
#[derive(Debug)]
pub(crate) enum Input {
    /// A new connection: where its messages go.
    Open(ConnectionKey, Outbox),
    Command(Command),
    Request {
        command: Command,
        _held: Held,
    },
}

/// What a request takes from others until the driver has it.
#[derive(Debug)]
#[allow(dead_code, reason = "it is held to be dropped")]
pub(crate) struct Held {
    /// The room of its bytes.
    pub frame: Option<Place>,
    /// Its place among those that wait.
    pub room: Place,
    /// Dropped when its session may go on.
    pub taken: Option<oneshot::Sender<()>>,
}

/// Inputs that wait for the driver. Sessions wait when it is full, and with them their clients.
pub(crate) const INPUTS_MAX: usize = 1_024;

/// Inputs taken in one turn of the loop.
const INPUTS_PER_TURN: usize = 256;

/// Effects in one batch; a fuller one is not added to until it is handed over. Some 10 ms of the
/// store's work.
const EFFECTS_PER_BATCH: usize = 20_000;

/// Payload bytes in one batch, for the same reason, and so that a disk that fills up is noticed
/// before it is full.
const BYTES_PER_BATCH: usize = 4 * 1024 * 1024;

pub(crate) struct Driver {
    machine: Machine,
    clock: Clock,
    inputs: mpsc::Receiver<Input>,
    /// Taken out of `inputs`, and not applied: the batch is full.
    waiting: VecDeque<Input>,
    /// Connections whose clients wait for something else than the driver.
    signs: mpsc::UnboundedReceiver<ConnectionKey>,
    link: Arc<Link>,
    batches: Option<mpsc::Sender<Batch>>,
    /// How the store's thread ended.
    ended: oneshot::Receiver<Result<(), RunError>>,
    batch: Batch,
    disk_is_low: bool,
    /// The disk is low, and the store is to look whether it still is, even if it has nothing else
    /// to do.
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
        signs: mpsc::UnboundedReceiver<ConnectionKey>,
        hand: Hand,
        commit_timeout: Duration,
    ) -> Self {
        let Hand { link, batches, ended } = hand;
        Self {
            machine,
            clock,
            inputs,
            waiting: VecDeque::new(),
            signs,
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
                Some(connection) = self.signs.recv() => self.apply(Command::Heard(connection)),
                permit = link.idle.acquire(), if !self.batch.is_empty() || self.is_to_look => {
                    let permit = permit.expect("the semaphore is never closed");
                    // Sessions that have something to say at this moment say it first: it shares the sync.
                    tokio::task::yield_now().await;
                    self.collect();
                    if self.take() {
                        drop(permit);
                        return self.finish().await;
                    }
                    permit.forget();
                    self.hand_over().await;
                }
                () = std::future::ready(()), if self.has_room() && !self.waiting.is_empty() => {
                    if self.take() {
                        return self.finish().await;
                    }
                }
                count = self.inputs.recv_many(&mut inputs, INPUTS_PER_TURN), if self.has_room() => {
                    self.waiting.extend(inputs.drain(..));
                    if count == 0 || self.take() {
                        return self.finish().await;
                    }
                }
                () = sleep => self.tick(),
            }
            self.check_commit()?;
        }
    }

    /// What waits by now.
    fn collect(&mut self) {
        while self.has_room() && self.waiting.len() < INPUTS_PER_TURN {
            let Ok(input) = self.inputs.try_recv() else { return };
            self.waiting.push_back(input);
        }
    }

    fn has_room(&self) -> bool {
        self.batch.effects.len() < EFFECTS_PER_BATCH && self.batch.bytes < BYTES_PER_BATCH
    }

    /// Applies what waits, until the batch is full; true when one of them was the last.
    fn take(&mut self) -> bool {
        let now = self.clock.now();
        let mut fx = Effects { list: std::mem::take(&mut self.batch.effects) };
        let mut last = false;
        self.take_note_of_the_disk(now, &mut fx);
        while fx.list.len() < EFFECTS_PER_BATCH && self.batch.bytes < BYTES_PER_BATCH {
            let Some(input) = self.waiting.pop_front() else { break };
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
            self.hear_those_who_wait(now, &mut fx);
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
        self.hear_those_who_wait(now, &mut fx);
        self.machine.tick(now, &mut fx);
        self.batch.effects = fx.list;
    }

    fn apply(&mut self, command: Command) {
        let now = self.clock.now();
        let mut fx = Effects { list: std::mem::take(&mut self.batch.effects) };
        self.machine.apply(now, command, &mut fx);
        self.batch.effects = fx.list;
    }

    /// Before somebody is found to have been silent: whoever has a request here, or waits to bring
    /// one, is not.
    fn hear_those_who_wait(&mut self, now: Now, fx: &mut Effects) {
        let (_, next) = self.machine.next_deadline();
        if next.is_none_or(|next| next > now.mono) {
            return;
        }
        while let Ok(connection) = self.signs.try_recv() {
            self.machine.apply(now, Command::Heard(connection), fx);
        }
        // Their room bounds how many there are.
        while let Ok(input) = self.inputs.try_recv() {
            self.waiting.push_back(input);
        }
        for input in &self.waiting {
            if let Input::Request { command: Command::Request { connection, .. }, .. } = input {
                self.machine.apply(now, Command::Alive(*connection), fx);
            }
        }
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

    /// A commit that takes too long is a broken disk: nothing can be confirmed, so nothing should
    /// look alive.
    fn check_commit(&mut self) -> Result<(), RunError> {
        match self.committing_since {
            Some(_) if self.link.idle.available_permits() > 0 => self.committing_since = None,
            Some(since)
                if self.clock.now().mono - since > self.commit_timeout.as_millis() as Monotonic =>
            {
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
        let result = tokio::time::timeout(timeout, last)
            .await
            .unwrap_or_else(|_| Err(RunError::overdue(timeout)));
        info!(tasks = self.machine.tasks(), "closed");
        result
    }
}
