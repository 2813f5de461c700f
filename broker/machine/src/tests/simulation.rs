//! A simulation of clients and workers against the machine, from a seed. Lost connections, silence,
//! jumps of the clock and restarts are ordinary steps. After every step the invariants and the
//! promises must hold: leases rise and never overlap, an ended task never changes, no accepted task
//! is lost, and a machine that is restarted from the log equals the machine that wrote the log.

mod chords;
mod ends;
mod mail;

use std::collections::BTreeMap;

use bytes::Bytes;
use celeriac_proto::{QueueName, TaskId, TaskName};
use celeriac_record::{Body, Record, RetryPolicy, SessionId, Slot, State, TaskKey, TaskSpec};

use super::script::{LEASE_MS, settings};
use super::words::DAY_MS;
use crate::command::{
    Answer, Ask, Command, Connect, Effect, Failure, Message, Now, OnConflict, Operate, OutcomeKind,
    Produce, Release, ReportKind, Submission, SubmitOutcome, TaskOutcome, TaskReport, When, Work,
    WorkerInfo,
};
use crate::retry::split_mix;
use crate::{Effects, Machine};

/// `SEEDS=n` sets the number of seeds. A failure names its seed.
const SEEDS: u64 = 60;
const STEPS: usize = 1_500;
const TASK_IDS: u64 = 40;

#[test]
fn promises_hold_over_losses_and_restarts() {
    let seeds =
        std::env::var("SEEDS").map_or(SEEDS, |seeds| seeds.parse().expect("a number of seeds"));
    for seed in 0..seeds {
        let outcome = std::panic::catch_unwind(|| World::new(seed).run());
        assert!(outcome.is_ok(), "seed {seed} broke a promise");
    }
}

#[test]
fn the_same_seed_gives_the_same_history() {
    for seed in 0..5 {
        assert_eq!(World::new(seed).run(), World::new(seed).run(), "seed {seed}");
    }
}

#[derive(Debug, Clone)]
struct Peer {
    connection: Option<u64>,
    session: Option<SessionId>,
    is_worker: bool,
    /// The leases that the peer believes to hold.
    held: Vec<(TaskId, u64)>,
}

/// The promises about a task.
#[derive(Debug, Clone, PartialEq)]
struct Promise {
    key: TaskKey,
    state: State,
    version: u32,
    lease: u64,
    /// Whether the task was submitted to run after another task.
    follows: bool,
}

struct World {
    random: u64,
    machine: Machine,
    now: Now,
    log: Vec<Record>,
    peers: Vec<Peer>,
    /// The latest record of each slot, as a reader of the log would find it.
    promises: BTreeMap<Slot, (TaskId, Promise)>,
    /// The task and the peer of each lease.
    leases: BTreeMap<u64, (TaskKey, usize)>,
    latest_lease: u64,
    latest_connection: u64,
    chords: chords::Chords,
    asked: Option<chords::Asked>,
    delivered: u64,
    /// Whether the last step began and ended in a drain.
    is_drained: bool,
    history: String,
}

impl World {
    fn new(seed: u64) -> Self {
        let peer =
            |is_worker| Peer { connection: None, session: None, is_worker, held: Vec::new() };
        Self {
            random: seed,
            machine: machine(),
            now: Now { wall: 1_000_000_000_000, mono: 0 },
            log: Vec::new(),
            peers: vec![peer(false), peer(true), peer(true), peer(true)],
            promises: BTreeMap::new(),
            leases: BTreeMap::new(),
            latest_lease: 0,
            latest_connection: 0,
            chords: BTreeMap::new(),
            asked: None,
            delivered: 0,
            is_drained: false,
            history: String::new(),
        }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random = split_mix(self.random);
        self.random % bound
    }

    fn run(mut self) -> String {
        for _ in 0..STEPS {
            self.step();
            self.machine.check_invariants();
        }
        assert!(self.delivered > 0, "a simulation without deliveries proves nothing");
        self.drain();
        self.history
    }

    fn step(&mut self) {
        let peer = self.below(self.peers.len() as u64) as usize;
        match self.below(100) {
            0..10 => self.pass(1_000),
            10..12 => self.pass(LEASE_MS),
            12..13 => self.now.wall += self.below(7_200_000) as i64 - 3_600_000,
            13..15 => self.restart(),
            15..20 => self.lose(peer),
            _ if self.peers[peer].connection.is_none() => self.connect(peer),
            20..50 => self.submit(peer),
            50..74 => self.report(peer),
            74..78 => self.gather(peer),
            78..84 => self.put(peer),
            84..90 => self.mail(peer),
            90..95 => self.cancel(peer),
            95..96 => self.settle_dead(peer),
            96..98 => {
                let id = self.id();
                self.ask(peer, Ask::Produce(Produce::Forget(vec![id])));
            }
            98 => {
                let drain = self.below(3) == 0;
                self.ask(peer, Ask::Operate(Operate::Drain(drain)));
            }
            _ => self.give_sign(peer),
        }
    }

    fn id(&mut self) -> TaskId {
        TaskId::parse(format!("t{}", self.below(TASK_IDS))).expect("an id")
    }

    fn pass(&mut self, most_ms: u64) {
        let span = self.below(most_ms) + 1;
        self.now = Now { wall: self.now.wall + span as i64, mono: self.now.mono + span };
        self.carry_out(None);
    }

    fn apply(&mut self, command: Command) {
        self.carry_out(Some(command));
    }

    fn carry_out(&mut self, command: Option<Command>) {
        let mut fx = Effects::default();
        let was_drained = self.machine.drain;
        if let Some(command) = command {
            self.machine.apply(self.now, command, &mut fx);
        }
        self.machine.tick(self.now, &mut fx);
        // A drain may wait for its turn behind a long request of the same client.
        self.is_drained = was_drained && self.machine.drain;
        self.settle(fx);
    }

    fn ask(&mut self, peer: usize, ask: Ask) {
        if let Some(connection) = self.peers[peer].connection {
            self.apply(Command::Request { connection, request: 1, ask });
        }
    }

    fn lose(&mut self, peer: usize) {
        if let Some(connection) = self.peers[peer].connection.take() {
            self.apply(Command::Disconnect { connection, reason: None });
        }
    }

    fn restart(&mut self) {
        let mut machine = machine();
        self.log.iter().for_each(|record| machine.restore(self.now, record.clone()));
        let mut fx = Effects::default();
        machine.restored(self.now, 0, 0, &mut fx);
        self.machine = machine;
        self.is_drained = false;
        self.peers.iter_mut().for_each(|peer| peer.connection = None);
        self.forget_ends_of_chords();
        self.history.push_str("restart\n");
        self.settle(fx);
    }

    fn connect(&mut self, peer: usize) {
        self.latest_connection += 1;
        let connection = self.latest_connection;
        let mut session_id = [0; 16];
        session_id[..8].copy_from_slice(&connection.to_be_bytes());
        let Peer { is_worker, session: resume, .. } = self.peers[peer];
        let worker = is_worker.then(|| WorkerInfo {
            queues: vec![(QueueName::default(), 1)],
            task_names: vec![TaskName::parse("job").expect("a name")],
            hostname: "".into(),
            pid: 0,
            concurrency: 2,
            ..WorkerInfo::default()
        });
        self.peers[peer].connection = Some(connection);
        let connect = Connect {
            connection,
            request: 1,
            session_id,
            resume,
            instance: "peer".into(),
            worker,
            entry: None,
            scope: None,
        };
        self.apply(Command::Connect(Box::new(connect)));
        let credit = self.below(5) as u32;
        self.ask(peer, Ask::Work(Work::Credit(credit)));
    }

    fn submit(&mut self, peer: usize) {
        let id = self.id();
        let conflict = [
            OnConflict::RunAgainIfFinished,
            OnConflict::Reject,
            OnConflict::Replace,
            OnConflict::RunAgainAfter,
            OnConflict::Supersede { lease: 0 },
            OnConflict::Supersede { lease: self.latest_lease },
            OnConflict::Beside,
        ][self.below(7) as usize];
        let key = ["", "one", "two", "three"][self.below(4) as usize];
        let mut sometimes =
            |one_in: u64, span_ms: u64| (self.below(one_in) == 0).then(|| self.below(span_ms));
        let submission = Submission {
            eta: sometimes(4, 20_000).map(When::In),
            expires: sometimes(5, 20_000).map(When::In),
            result_ttl_ms: sometimes(3, 30_000),
            on_conflict: conflict,
            spec: TaskSpec {
                payload: Bytes::from_static(b"payload"),
                priority: sometimes(2, 10).unwrap_or(4) as u8,
                retry: RetryPolicy { attempts_max: 2, ..RetryPolicy::default() },
                time_limit_ms: sometimes(6, 5_000),
                max_deliveries: 3,
                early_ack: sometimes(10, 10).is_some(),
                submit_key: key.into(),
                lead_ms: sometimes(4, 20_000).unwrap_or(0),
                forget_at_end: sometimes(10, 10).is_some(),
                announce_end: sometimes(6, 10).is_some(),
                tags: sometimes(4, 1).map(|_| "night".into()).into_iter().collect(),
                ..TaskSpec::new(id, TaskName::parse("job").expect("a name"))
            },
        };
        self.ask(peer, Ask::Produce(Produce::Submit(vec![Ok(submission)])));
    }

    /// A report on a lease that the peer holds or once held.
    fn report(&mut self, peer: usize) {
        if self.peers[peer].held.is_empty() {
            return self.pass(100);
        }
        let index = self.below(self.peers[peer].held.len() as u64) as usize;
        let (id, lease) = self.peers[peer].held[index].clone();
        let kind = match self.below(10) {
            0 => ReportKind::Started,
            1 => ReportKind::Settle,
            2 => ReportKind::Progress { state: "HALF".into(), meta: Bytes::new() },
            3 => {
                let ways = [Release::Unfinished, Release::NotBegun, Release::Lost];
                ReportKind::Release(ways[self.below(3) as usize])
            }
            4..6 => ReportKind::Fail {
                error: Failure::default(),
                last: false,
                result: (self.below(2) == 0).then(result),
                result_ttl_ms: (self.below(3) == 0).then_some(2_000),
            },
            _ => ReportKind::Complete {
                result: result(),
                result_ttl_ms: (self.below(6) == 0).then_some(0),
            },
        };
        self.ask(peer, Ask::Work(Work::Report(vec![Ok(TaskReport { id, lease, kind })])));
    }

    /// An outcome of a lease that the peer holds or once held, or of no lease.
    fn put(&mut self, peer: usize) {
        let (mut id, mut lease) = (self.id(), 0);
        if !self.peers[peer].held.is_empty() && self.below(3) > 0 {
            let index = self.below(self.peers[peer].held.len() as u64) as usize;
            (id, lease) = self.peers[peer].held[index].clone();
        }
        let kind = match self.below(5) {
            0 => OutcomeKind::Success,
            1 => OutcomeKind::Failure(Failure::default()),
            2 => OutcomeKind::Revoked(None),
            _ => OutcomeKind::Progress { state: "RETRY".into(), error: Some(Failure::default()) },
        };
        let result_ttl_ms = [None, Some(0), Some(10_000)][self.below(3) as usize];
        let outcome = TaskOutcome { id, lease, kind, body: result(), result_ttl_ms };
        self.ask(peer, Ask::Produce(Produce::PutOutcome(vec![Ok(outcome)])));
    }

    fn settle(&mut self, fx: Effects) {
        for effect in fx.list {
            match effect {
                Effect::Store(record) => self.store(record),
                Effect::Replay { key, generation, at } => {
                    let submits = self.log.iter().rev().filter_map(|record| match record {
                        Record::Submitted(submitted) if submitted.key.slot == key.slot => {
                            Some(submitted.clone())
                        }
                        _ => None,
                    });
                    let dead = submits
                        .into_iter()
                        .next()
                        .expect("only a submitted task is submitted again");
                    self.store(Record::Submitted(Box::new(dead.again(key, generation, at))));
                }
                Effect::Drop(slot) => {
                    // A restart drops a task again if the log still has it.
                    let dropped = self.promises.remove(&slot);
                    let ended = dropped.is_none_or(|(_, promise)| promise.state.is_terminal());
                    assert!(ended, "only an ended task is dropped");
                }
                Effect::Send(connection, message) => self.receive(connection, message),
                Effect::Keep(.., task) => {
                    let ended = task.task.is_some_and(|task| task.state.is_terminal());
                    assert!(ended, "a wait keeps only ended tasks that are not forgotten yet");
                }
                Effect::Backup { .. } | Effect::WorkerLost(_) | Effect::Forbade(..) => {}
                Effect::Close(connection) => {
                    let closed =
                        self.peers.iter_mut().find(|peer| peer.connection == Some(connection));
                    closed.into_iter().for_each(|peer| peer.connection = None);
                }
            }
        }
    }

    /// Compares each record with the earlier record of its slot.
    fn store(&mut self, record: Record) {
        self.history.push_str(&format!("{record:?}\n"));
        self.log.push(record.clone());
        match record {
            Record::Submitted(submitted) => {
                let before = self.promises.get(&submitted.key.slot);
                // A run may also be superseded by the next generation of its id.
                assert!(
                    before.is_none_or(|(id, promise)| {
                        promise.state.is_terminal() || *id == submitted.spec.id
                    }),
                    "two tasks use one slot"
                );
                let state = State::Queued;
                let follows = submitted.after.is_some();
                let promise = Promise { key: submitted.key, state, version: 1, lease: 0, follows };
                self.promises.insert(submitted.key.slot, (submitted.spec.id, promise));
            }
            Record::Changed(changed) => {
                let (_, promise) =
                    self.promises.get_mut(&changed.key.slot).expect("each change has a task");
                assert_eq!(promise.key, changed.key, "a change is of the present task");
                assert!(!promise.state.is_terminal(), "an ended task changed: {changed:?}");
                assert!(promise.version < changed.version, "versions rise");
                assert!(promise.lease <= changed.lease, "leases of a task rise");
                let was_leased = matches!(promise.state, State::Leased | State::Started);
                // A task that is called off, or whose progress a client puts, while a worker holds
                // it changes under its lease.
                let is_new = changed.state == State::Leased && changed.lease != promise.lease;
                assert!(!was_leased || !is_new, "two leases on one task overlap");
                assert!(
                    changed.state != State::Leased || is_new || was_leased,
                    "a task is leased again under a lease of its own"
                );
                if is_new {
                    assert!(!self.is_drained, "a drained broker gives no lease");
                    assert!(changed.lease > self.latest_lease, "leases rise strictly");
                    self.latest_lease = changed.lease;
                }
                promise.state = changed.state;
                promise.version = changed.version;
                promise.lease = changed.lease;
            }
            Record::Forgotten(key) => {
                let forgotten = self.promises.remove(&key.slot);
                let ended = forgotten
                    .is_none_or(|(_, promise)| promise.state.is_terminal() || promise.follows);
                assert!(ended, "only an ended task or a hidden successor is forgotten");
            }
            Record::Named(_) | Record::Removed(_) => {}
        }
    }

    fn receive(&mut self, connection: u64, message: Message) {
        let Some(peer) = self.peers.iter().position(|peer| peer.connection == Some(connection))
        else {
            return;
        };
        match message {
            Message::Answer(_, Answer::Welcome { session_id, resumed, leases, .. }) => {
                assert!(resumed || leases.is_empty());
                self.peers[peer].session = Some(session_id);
            }
            Message::Deliver(deliveries) => {
                for delivery in deliveries {
                    let (id, promise) = self.promises[&delivery.slot].clone();
                    assert_eq!(
                        (promise.state, promise.lease),
                        (State::Leased, delivery.lease),
                        "the lease is stored before the task is sent"
                    );
                    self.check_lease(peer, delivery.lease, promise.key);
                    self.delivered += 1;
                    self.peers[peer].held.push((id, delivery.lease));
                }
            }
            Message::Answer(_, Answer::Chord(state)) => self.hear_of_chord(connection, &state),
            Message::Answer(_, Answer::Done) => self.hear_of_done(),
            Message::Answer(_, Answer::Submitted(outcomes)) => {
                let accepted = outcomes
                    .iter()
                    .all(|outcome| !matches!(outcome, SubmitOutcome::Created { state } if state.is_terminal()));
                assert!(accepted, "a new task has not ended");
            }
            _ => {}
        }
    }

    /// A lease that is delivered again must have the same task and the same peer.
    fn check_lease(&mut self, peer: usize, lease: u64, key: TaskKey) {
        let before = self.leases.insert(lease, (key, peer));
        assert!(
            before.is_none_or(|before| before == (key, peer)),
            "lease {lease} has one task and one peer"
        );
    }

    /// With a worker that completes its tasks, every task must end.
    fn drain(&mut self) {
        // This time is after every eta, even after the jumps of the clock.
        self.now.wall += 100 * DAY_MS as i64;
        for _ in 0..2_000 {
            if self.promises.values().all(|(_, promise)| promise.state.is_terminal()) {
                return;
            }
            self.pass(LEASE_MS);
            if self.peers[1].connection.is_none() {
                self.connect(1);
            }
            self.ask(1, Ask::Operate(Operate::Drain(false)));
            self.ask(1, Ask::Work(Work::Credit(4)));
            for (id, lease) in std::mem::take(&mut self.peers[1].held) {
                self.ask(
                    1,
                    Ask::Work(Work::Report(vec![Ok(TaskReport {
                        id,
                        lease,
                        kind: ReportKind::Complete { result: result(), result_ttl_ms: None },
                    })])),
                );
            }
        }
        panic!("tasks that never end: {:?}", self.promises);
    }
}

/// A machine that needs many slices to look at the few tasks of this simulation.
fn machine() -> Machine {
    let mut machine = Machine::new(settings());
    machine.scans.shorten(5);
    machine
}

fn result() -> Body {
    Body { bytes: Bytes::from_static(b"result"), content_type: "".into() }
}
