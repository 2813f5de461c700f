//! The driver: the loop that owns the machine. The driver takes the waiting inputs, applies them,
//! hands one batch to the store's thread as soon as the thread has finished the batch before, or
//! commits a small one itself, and sleeps until the next deadline.
//!
//! While one commit is under way, the next batch fills, so no batch waits for a timer. Only a small
//! batch may wait a moment for clients that were just answered, see `gather`. A client whose
//! request waits for the driver never counts as silent, however many requests wait.

use std::collections::VecDeque;
use std::time::Duration;

use celeriac_machine::command::{Command, ConnectionKey, Monotonic, Now};
use celeriac_machine::{Effects, Machine};
use tokio::sync::{mpsc, oneshot};
use tracing::info;

use crate::clock::{Clock, Stopwatch};
use crate::commit::{Attempt, Batch, CommitEvent, Commits, Here, Passed, Settings};
use crate::error::RunError;
use crate::gather::Gather;
use crate::room::Place;
use crate::send_queue::SendQueue;

/// An input from a session to the driver.
#[derive(Debug)]
pub(crate) enum Input {
    /// A new connection, and the send queue for its messages.
    Open(ConnectionKey, SendQueue),
    Command(Command),
    Request {
        command: Command,
        _held: Held,
    },
    /// New settings, and the command that tells the machine of its own.
    Settings(Settings, Command),
    /// Told when it has come through the machine's turn and the commit, as a request does.
    Pass(oneshot::Sender<Passed>),
}

/// The shared room that a request occupies until the driver takes it.
#[derive(Debug)]
#[allow(dead_code, reason = "it is held to be dropped")]
pub(crate) struct Held {
    /// The room for the bytes of its frame.
    pub frame: Option<Place>,
    /// The room for the waiting request itself.
    pub room: Place,
    /// The driver drops it when the session may go on.
    pub taken: Option<oneshot::Sender<()>>,
}

/// The most inputs that wait for the driver. When the channel is full, sessions wait, and so do
/// their clients.
pub(crate) const INPUTS_MAX: usize = 1_024;

/// Inputs taken in one turn of the loop.
const INPUTS_PER_TURN: usize = 256;

/// Effects in one batch. The driver adds nothing to a fuller batch until it has handed the batch
/// over. This many effects are some 10 ms of the store's work.
const EFFECTS_PER_BATCH: usize = 20_000;

/// Payload bytes in one batch, for the same reason; and the broker must notice a disk that fills up
/// before the disk is full.
const BYTES_PER_BATCH: usize = 4 * 1024 * 1024;

pub(crate) struct Driver {
    machine: Machine,
    clock: Clock,
    inputs: mpsc::Receiver<Input>,
    /// Inputs taken out of `inputs` and not applied, because the batch is full.
    waiting: VecDeque<Input>,
    /// Connections that are alive while they wait for something other than the driver.
    signs: mpsc::UnboundedReceiver<ConnectionKey>,
    batches: Option<mpsc::Sender<Batch>>,
    events: mpsc::UnboundedReceiver<CommitEvent>,
    here: Option<Here>,
    gather: Gather,
    batch: Batch,
    /// The committer's last report, which the machine has been told.
    disk_is_low: bool,
    machine_knows_of_low_disk: bool,
    /// The disk is low, and the store must check again whether it is, even if there is nothing
    /// else to commit.
    is_to_look: bool,
    /// The time when the driver handed over the batch under way. `None`: the driver may hand over
    /// the next batch.
    committing_since: Option<Monotonic>,
    commit_timeout: Duration,
}

impl Driver {
    pub(crate) fn new(
        machine: Machine,
        clock: Clock,
        inputs: mpsc::Receiver<Input>,
        signs: mpsc::UnboundedReceiver<ConnectionKey>,
        commits: Commits,
        commit_timeout: Duration,
    ) -> Self {
        let Commits { batches, events, disk_is_low, here, .. } = commits;
        Self {
            machine,
            clock,
            inputs,
            waiting: VecDeque::new(),
            signs,
            batches: Some(batches),
            events,
            here,
            gather: Gather::default(),
            batch: Batch::default(),
            disk_is_low,
            machine_knows_of_low_disk: false,
            is_to_look: false,
            committing_since: None,
            commit_timeout,
        }
    }

    /// Runs until `Shutdown` is applied and committed, or the store fails.
    pub(crate) async fn run(mut self, restored: Effects) -> Result<(), RunError> {
        self.batch.effects = restored.list;
        let mut inputs = Vec::with_capacity(INPUTS_PER_TURN);
        loop {
            let sleep = tokio::time::sleep(self.clock.until(self.machine.next_deadline()));
            let may_hand_over =
                self.committing_since.is_none() && (!self.batch.is_empty() || self.is_to_look);
            tokio::select! {
                biased;
                event = self.events.recv() => {
                    if let Some(ended) = self.note(event) {
                        return ended;
                    }
                }
                Some(connection) = self.signs.recv() => self.apply(Command::Heard(connection)),
                () = std::future::ready(()), if may_hand_over => {
                    if self.gather().await {
                        return self.finish().await;
                    }
                    self.commit().await?;
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

    /// Lets clients join the batch before it is committed. Returns true when one of their inputs
    /// was the last input.
    async fn gather(&mut self) -> bool {
        // Sessions with an input at this moment send it first, so that the input shares the sync.
        tokio::task::yield_now().await;
        self.collect();
        if self.take() {
            return true;
        }
        if !self.suits_here() {
            return false;
        }
        let Some(patience) = self.gather.patience() else { return false };
        let (before, waited) = (self.gather.requests(), Stopwatch::start());
        while !self.gather.is_complete() && self.suits_here() && waited.elapsed() < patience {
            tokio::task::yield_now().await;
            self.collect();
            if !self.waiting.is_empty() && self.take() {
                return true;
            }
        }
        self.gather.waited(before);
        false
    }

    /// Whether this thread may commit the batch.
    fn suits_here(&self) -> bool {
        let waits = self.is_to_look || !self.waiting.is_empty() || !self.inputs.is_empty();
        self.here.is_some() && !waits && Here::suits(&self.batch)
    }

    /// Moves the inputs that wait by now into `waiting`.
    fn collect(&mut self) {
        while self.has_room() && self.waiting.len() < INPUTS_PER_TURN {
            let Ok(input) = self.inputs.try_recv() else { return };
            self.waiting.push_back(input);
        }
    }

    fn has_room(&self) -> bool {
        self.batch.effects.len() < EFFECTS_PER_BATCH && self.batch.bytes < BYTES_PER_BATCH
    }

    /// Applies waiting inputs until the batch is full. Returns true when one of them was the last
    /// input.
    fn take(&mut self) -> bool {
        let now = self.clock.now();
        let mut fx = Effects { list: std::mem::take(&mut self.batch.effects) };
        let mut last = false;
        self.tell_machine_of_the_disk(now, &mut fx);
        while fx.list.len() < EFFECTS_PER_BATCH && self.batch.bytes < BYTES_PER_BATCH {
            let Some(input) = self.waiting.pop_front() else { break };
            match input {
                Input::Open(connection, queue) => self.batch.opened.push((connection, queue)),
                Input::Pass(waiting) => {
                    let draining = self.machine.is_drained();
                    let passed = Passed { draining, disk_is_low: self.disk_is_low };
                    self.batch.passing.push((waiting, passed));
                }
                Input::Settings(settings, command) => {
                    self.batch.settings = Some(settings);
                    self.machine.apply(now, command, &mut fx);
                }
                Input::Command(command) | Input::Request { command, .. } => {
                    if let Command::Request { connection, .. } = &command {
                        self.gather.note(*connection);
                    }
                    last |= matches!(command, Command::Shutdown);
                    self.batch.bytes += command.payload_bytes();
                    self.machine.apply(now, command, &mut fx);
                }
            }
        }
        if !last {
            self.hear_waiting_clients(now, &mut fx);
            self.machine.tick(now, &mut fx);
        }
        self.batch.effects = fx.list;
        if self.batch.is_empty() {
            // Requests without effects, such as messages that need no answer, wait for no commit.
            // So their bytes fill no batch.
            self.batch.bytes = 0;
        }
        last
    }

    fn tick(&mut self) {
        let now = self.clock.now();
        let mut fx = Effects { list: std::mem::take(&mut self.batch.effects) };
        self.tell_machine_of_the_disk(now, &mut fx);
        self.is_to_look = self.disk_is_low;
        self.hear_waiting_clients(now, &mut fx);
        self.machine.tick(now, &mut fx);
        self.batch.effects = fx.list;
    }

    fn apply(&mut self, command: Command) {
        let now = self.clock.now();
        let mut fx = Effects { list: std::mem::take(&mut self.batch.effects) };
        self.machine.apply(now, command, &mut fx);
        self.batch.effects = fx.list;
    }

    /// Runs before the machine looks for silent clients: a client whose request is here, or waits
    /// to be sent here, is not silent.
    fn hear_waiting_clients(&mut self, now: Now, fx: &mut Effects) {
        let (_, next) = self.machine.next_deadline();
        if next.is_none_or(|next| next > now.mono) {
            return;
        }
        while let Ok(connection) = self.signs.try_recv() {
            self.machine.apply(now, Command::Heard(connection), fx);
        }
        // The shared room bounds the number of these inputs.
        while let Ok(input) = self.inputs.try_recv() {
            self.waiting.push_back(input);
        }
        for input in &self.waiting {
            if let Input::Request { command: Command::Request { connection, .. }, .. } = input {
                self.machine.apply(now, Command::Alive(*connection), fx);
            }
        }
    }

    fn tell_machine_of_the_disk(&mut self, now: Now, fx: &mut Effects) {
        if self.disk_is_low != self.machine_knows_of_low_disk {
            self.machine_knows_of_low_disk = self.disk_is_low;
            self.machine.apply(now, Command::DiskLow(self.disk_is_low), fx);
        }
    }

    /// Notes the committer's event. Returns the outcome if the committer has ended.
    fn note(&mut self, event: Option<CommitEvent>) -> Option<Result<(), RunError>> {
        match event {
            Some(CommitEvent::Durable { disk_is_low }) => {
                self.committing_since = None;
                self.disk_is_low = disk_is_low;
                None
            }
            Some(CommitEvent::DiskIsLow(disk_is_low)) => {
                self.disk_is_low = disk_is_low;
                None
            }
            Some(CommitEvent::Ended(outcome)) => Some(outcome),
            None => Some(Err(RunError::panicked())),
        }
    }

    /// Commits the batch on this thread if it is small and nothing else waits. Otherwise hands it
    /// over.
    async fn commit(&mut self) -> Result<(), RunError> {
        let suits_here = self.suits_here();
        let batch = self.take_batch();
        let batch = match &self.here {
            Some(here) if suits_here => {
                let committing = Stopwatch::start();
                match here.commit(batch)? {
                    Attempt::Durable { disk_is_low } => {
                        self.disk_is_low = disk_is_low;
                        self.gather.committed(committing.elapsed());
                        return Ok(());
                    }
                    Attempt::NotNow(batch) => batch,
                }
            }
            _ => batch,
        };
        self.gather.forget();
        self.hand_over(batch).await;
        Ok(())
    }

    fn take_batch(&mut self) -> Batch {
        // The next batch probably has about this size.
        let effects = Vec::with_capacity(self.batch.effects.len());
        std::mem::replace(&mut self.batch, Batch { effects, ..Batch::default() })
    }

    async fn hand_over(&mut self, batch: Batch) {
        self.is_to_look = false;
        self.committing_since = Some(self.clock.now().mono);
        let batches = self.batches.as_ref().expect("only `finish` takes the sender");
        // When the thread has ended, its last event says why.
        let _ = batches.send(batch).await;
    }

    /// A commit that takes too long means a broken disk. The broker can then confirm nothing, so it
    /// must not look alive.
    fn check_commit(&self) -> Result<(), RunError> {
        let timeout_ms = self.commit_timeout.as_millis() as Monotonic;
        match self.committing_since {
            Some(since) if self.clock.now().mono - since > timeout_ms => {
                Err(RunError::overdue(self.commit_timeout))
            }
            _ => Ok(()),
        }
    }

    /// Commits the last batch, then ends the store's thread.
    async fn finish(mut self) -> Result<(), RunError> {
        let timeout = self.commit_timeout;
        let result = tokio::time::timeout(timeout, self.commit_the_rest())
            .await
            .unwrap_or_else(|_| Err(RunError::overdue(timeout)));
        info!(tasks = self.machine.tasks(), "the data folder is closed");
        result
    }

    async fn commit_the_rest(&mut self) -> Result<(), RunError> {
        while self.committing_since.is_some() {
            let event = self.events.recv().await;
            if let Some(ended) = self.note(event) {
                return ended;
            }
        }
        let batch = self.take_batch();
        self.hand_over(batch).await;
        self.batches = None;
        loop {
            let event = self.events.recv().await;
            if let Some(ended) = self.note(event) {
                return ended;
            }
        }
    }
}
