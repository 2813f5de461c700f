//! A property test that compares the machine with a reference. The reference is too simple to have
//! the same bugs. Any list of steps is valid, so that proptest can shrink a failure. After each
//! step the deliveries, all states and all counts must be the same.
//!
//! `PROPTEST_CASES=n` sets the number of cases. Lease numbers are identities: the machine chooses
//! the number that a task gets, and also which of several workers, or which of a worker's queues,
//! comes first. The workers of this test have a higher concurrency than credit, so that the balance
//! between workers takes nothing back; `simulation.rs` and the scripts test the balance.

mod chords;
mod compare;
mod counters;
mod many;
mod names;
mod outcomes;
mod reference;
mod sessions;
mod steps;

use std::collections::BTreeMap;

use bytes::Bytes;
use celeriac_record::{Body, Named, Record, RetryPolicy, Slot, State, TaskSpec};
use proptest::prelude::*;

use super::script::settings;
use crate::command::{
    Answer, Ask, CancelTarget, Code, Command, DeliveryOutline, Effect, Failure, Message, Now,
    OnConflict, Operate, Produce, Push, ReportKind, Submission, SubmitOutcome, TaskReport, When,
    Work,
};
use crate::{Effects, Machine};
use names::{beside, id_of, key_of, name_of, number_of, queue_of};
use reference::Reference;
use steps::{End, Step, Submit, any_step};

/// Time passes in steps of this length, and every span is a multiple of it: so the reference need
/// not know the time of the next event.
const BEAT_MS: u64 = 500;
const WORKERS: usize = 3;
const IDS: u8 = 6;
const BESIDE: u8 = 100;
const KEYS: u8 = 3;
/// In a submit that supersedes, this stands for the present lease of the id.
const PRESENT_LEASE: u64 = u64::MAX;
const QUEUES: u8 = 2;
/// The reserved queue of the tasks that never ran.
const PUT_QUEUE: u8 = 255;
/// The peer that is a client.
const CLIENT: usize = WORKERS;
const START: Now = Now { wall: 1_000_000_000_000, mono: 0 };

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn the_machine_does_what_the_reference_does(steps in proptest::collection::vec(any_step(), 1..120)) {
        let mut model = Model::new();
        for step in steps {
            model.step(step);
        }
    }
}

/// The default of proptest is for smaller tests.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").map_or(1_000, |cases| cases.parse().expect("a number of cases"))
}

fn bits(bits: u8) -> Vec<u8> {
    (0..8).filter(|bit| bits & (1 << bit) != 0).collect()
}

#[derive(Debug, Default)]
struct Peer {
    connection: Option<u64>,
    session: Option<u64>,
    /// Every lease that the peer ever got.
    leases: Vec<(u8, u64)>,
}

struct Model {
    machine: Machine,
    reference: Reference,
    log: Vec<(Option<Slot>, Record)>,
    /// The highest lease and serial ever. The store knows both, even after it cleaned the log.
    marks: (u64, u64),
    peers: [Peer; WORKERS + 1],
    /// The state that was shown with each version of each task.
    shown: BTreeMap<(u64, u32), State>,
    latest: u64,
}

/// The output of the machine in one step.
#[derive(Default)]
struct Said {
    answers: Vec<Message>,
    deliveries: Vec<(usize, DeliveryOutline)>,
    /// The tasks that changed, in order.
    changed: Vec<Slot>,
}

impl Model {
    fn new() -> Self {
        let (machine, reference) = (Machine::new(settings()), Reference::new(START));
        let mut model = Self {
            machine,
            reference,
            log: Vec::new(),
            marks: (0, 0),
            peers: Default::default(),
            shown: BTreeMap::new(),
            latest: 0,
        };
        model.connect_client();
        model
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Submit(id, submit) => self.submit(id, submit),
            Step::Put(id, put) => self.put(id, put),
            Step::Chord(chord) => self.chord(chord),
            Step::Connect { worker, queues, names, resume, entry } => {
                let resume = self.peers[worker].session.filter(|_| resume);
                self.connect(worker, bits(queues), bits(names), resume, entry);
            }
            Step::Disconnect(worker) => self.disconnect(worker),
            Step::Report(worker, which, end) => self.report(worker, which, end),
            Step::Pass(beats) => (0..beats).for_each(|_| self.pass()),
            Step::Jump(span_ms) => self.reference.now.wall += span_ms,
            Step::Restart => self.restart(),
            Step::Credit(worker, credit) => {
                if let Some(session) = self.ask(worker, Ask::Work(Work::Credit(credit))) {
                    self.reference.credit(session, credit as usize);
                }
            }
            Step::Beat(worker) => {
                self.ask(worker, Ask::Heartbeat { memory_bytes: 0 });
            }
            Step::Goodbye(worker) => {
                if let Some(session) = self.ask(worker, Ask::Goodbye) {
                    self.peers[worker].connection = None;
                    self.reference.end_session(session, true);
                }
            }
            Step::CancelTagged(mode) => self.cancel_tagged(mode),
            Step::ReplayDead(queue) => self.replay_dead(queue),
            Step::DiscardDead(queue) => self.discard_dead(queue),
            step => self.administer(step),
        }
        self.tick();
        self.compare();
    }

    fn administer(&mut self, step: Step) {
        let ask = match step {
            Step::Cancel(id, mode) => Ask::Produce(Produce::Cancel {
                target: CancelTarget::Ids(vec![id_of(id)]),
                mode,
                grace_ms: 0,
                reason: "".into(),
            }),
            Step::Forget(id) => Ask::Produce(Produce::Forget(vec![id_of(id)])),
            Step::Pause(queue, paused) => {
                Ask::Operate(Operate::PauseQueues { queues: vec![queue_of(queue)], paused })
            }
            Step::Drain(drain) => Ask::Operate(Operate::Drain(drain)),
            Step::Purge(queue) => {
                Ask::Operate(Operate::PurgeQueue { queue: queue_of(queue), delete: false })
            }
            Step::Delete(queue) => {
                Ask::Operate(Operate::PurgeQueue { queue: queue_of(queue), delete: true })
            }
            step => unreachable!("another function does {step:?}"),
        };
        let answer = self.answer(CLIENT, ask);
        match (step, answer) {
            (Step::Cancel(id, mode), Some(Message::Answer(_, Answer::Cancelled(outcomes)))) => {
                assert_eq!(outcomes, [(id_of(id), self.reference.cancel(id, mode))]);
            }
            (Step::Forget(id), Some(Message::Answer(_, Answer::Forgot(outcomes)))) => {
                assert_eq!(outcomes[0].is_ok(), self.reference.forget(id));
            }
            (Step::Pause(queue, true), Some(Message::Answer(_, Answer::Done))) => {
                self.reference.pause(queue)
            }
            (Step::Pause(queue, false), Some(Message::Answer(_, Answer::Done))) => {
                self.reference.resume(queue)
            }
            (Step::Drain(drain), Some(Message::Answer(_, Answer::Done))) => {
                self.reference.drain(drain)
            }
            (Step::Purge(queue), Some(Message::Answer(_, Answer::Count(count)))) => {
                assert!(self.reference.is_known(queue));
                assert_eq!(count, self.reference.purge(queue));
            }
            (Step::Delete(queue), Some(Message::Answer(_, Answer::Count(count)))) => {
                assert!(self.reference.is_known(queue) && !self.reference.has_started(queue));
                assert_eq!(count, self.reference.purge(queue));
                self.reference.resume(queue);
                self.reference.remove_counters(queue);
            }
            (
                Step::Purge(queue) | Step::Delete(queue),
                Some(Message::Answer(_, Answer::Refused(refusal))),
            ) => {
                let code =
                    if self.reference.is_known(queue) { Code::NotFinished } else { Code::NotFound };
                assert_eq!(refusal.code, code);
                assert!(code == Code::NotFound || self.reference.has_started(queue));
            }
            (step, answer) => panic!("{step:?}: {answer:?}"),
        }
    }

    fn submit(&mut self, id: u8, mut submit: Submit) {
        let now = self.reference.now.wall;
        submit.eta = submit.eta.map(|span| now + span);
        submit.expires = submit.expires.map(|span| now + span);
        if submit.conflict == (OnConflict::Supersede { lease: PRESENT_LEASE }) {
            let lease = self.reference.tasks.get(&id).map_or(1, |task| task.lease);
            submit.conflict = OnConflict::Supersede { lease };
        }
        let ask = Ask::Produce(Produce::Submit(vec![Ok(submission(id, &submit))]));
        let Some(Message::Answer(_, Answer::Submitted(outcomes))) = self.answer(CLIENT, ask) else {
            panic!("no answer")
        };
        if self.reference.refuses(id, &submit) {
            return assert!(matches!(outcomes[0], SubmitOutcome::Refused(_)), "{outcomes:?}");
        }
        let slot = self.log.last().and_then(|(slot, _)| *slot).unwrap_or(0);
        assert_eq!(outcomes, [self.reference.submit(id, submit, slot)]);
    }

    fn report(&mut self, worker: usize, which: u8, end: End) {
        let leases = &self.peers[worker].leases;
        if leases.is_empty() {
            return;
        }
        // The lease is mostly one of the latest.
        let (id, lease) = leases[leases.len() - 1 - usize::from(which) % leases.len().min(6)];
        let failure = Failure::default;
        let kind = match end {
            End::Start => ReportKind::Started,
            End::Progress => ReportKind::Progress { state: "HALF".into(), meta: Bytes::new() },
            End::Settle => ReportKind::Settle,
            End::Complete { result_ttl_ms } => ReportKind::Complete {
                result: Body { bytes: Bytes::new(), content_type: "".into() },
                result_ttl_ms,
            },
            End::Fail { last, result_ttl_ms } => {
                ReportKind::Fail { error: failure(), last, result: None, result_ttl_ms }
            }
            End::Release(release) => ReportKind::Release(release),
        };
        let Some(session) = self.reference.session_of(worker) else { return };
        let ask = Ask::Work(Work::Report(vec![Ok(TaskReport { id: id_of(id), lease, kind })]));
        let Some(Message::Answer(_, Answer::Reported(outcomes))) = self.answer(worker, ask) else {
            panic!("no answer")
        };
        if self.reference.holds(session, id, lease) {
            assert_eq!(outcomes, [Ok(self.reference.report(id, end))]);
        }
        // A report on any other lease is refused, or counted before: in both cases it changes
        // nothing.
    }

    fn restart(&mut self) {
        self.machine = Machine::new(settings());
        for (_, record) in &self.log {
            self.machine.restore(self.reference.now, record.clone());
        }
        let mut fx = Effects::default();
        self.machine.restored(self.reference.now, self.marks.0, self.marks.1, &mut fx);
        self.settle(fx);
        self.reference.restart();
        self.peers.iter_mut().for_each(|peer| peer.connection = None);
        self.connect_client();
    }

    fn pass(&mut self) {
        self.reference.now.wall += BEAT_MS as i64;
        self.reference.now.mono += BEAT_MS;
        self.tick();
    }

    fn tick(&mut self) {
        let said = self.tick_machine();
        self.reference.tick(&said.changed);
        self.hand_out(said.deliveries);
    }

    fn tick_machine(&mut self) -> Said {
        let mut fx = Effects::default();
        self.machine.tick(self.reference.now, &mut fx);
        self.settle(fx)
    }

    /// Checks the deliveries in the order of their leases, which is the order of the machine's
    /// decisions.
    fn hand_out(&mut self, mut deliveries: Vec<(usize, DeliveryOutline)>) {
        deliveries.sort_by_key(|(_, delivery)| delivery.lease);
        for (peer, delivery) in deliveries {
            let session =
                self.reference.session_of(peer).expect("only a connected peer gets tasks");
            let (id, _) = *self.peers[peer]
                .leases
                .iter()
                .find(|(_, lease)| *lease == delivery.lease)
                .expect("the model noted the lease");
            self.reference.deliver(session, id, delivery.lease);
            let task = &self.reference.tasks[&id];
            assert_eq!(
                (delivery.attempt, delivery.deliveries),
                (task.attempts + 1, task.deliveries),
                "of task {id}"
            );
        }
        assert!(self.reference.is_all_handed_out(), "no worker is left that could get a task");
    }

    /// Sends a request as a peer, if the peer is connected, and returns its session.
    fn ask(&mut self, peer: usize, ask: Ask) -> Option<u64> {
        let session = self.reference.session_of(peer)?;
        self.answer(peer, ask);
        Some(session)
    }

    fn answer(&mut self, peer: usize, ask: Ask) -> Option<Message> {
        let connection = self.peers[peer].connection.expect("the peer is connected");
        if let Some(session) = self.reference.session_of(peer) {
            self.reference.touch(session);
        }
        let said = self.command(Command::Request { connection, request: 1, ask });
        assert!(said.deliveries.is_empty(), "tasks are handed out with the tick");
        said.answers
            .into_iter()
            .find(|message| !matches!(message, Message::Push(Push::Signal { .. })))
    }

    fn command(&mut self, command: Command) -> Said {
        let mut fx = Effects::default();
        self.machine.apply(self.reference.now, command, &mut fx);
        self.settle(fx)
    }

    fn settle(&mut self, fx: Effects) -> Said {
        self.machine.check_invariants();
        let mut said = Said::default();
        for effect in fx.list {
            match effect {
                Effect::Store(record) => {
                    if let Record::Changed(changed) = &record {
                        said.changed.push(changed.key.slot);
                    }
                    self.store(record);
                }
                Effect::Drop(slot) => self.log.retain(|(other, _)| *other != Some(slot)),
                Effect::Send(connection, message) => {
                    let peer =
                        self.peers.iter().position(|peer| peer.connection == Some(connection));
                    if let Some(peer) = peer {
                        self.receive(peer, message, &mut said);
                    }
                }
                Effect::Close(connection) => {
                    self.reference.lose_caller(connection);
                    let closed =
                        self.peers.iter_mut().find(|peer| peer.connection == Some(connection));
                    closed.into_iter().for_each(|peer| peer.connection = None);
                }
                // The model asks for the states that it compares, so it need not keep this task.
                Effect::Keep(..) => {}
                Effect::WorkerLost(_) => {}
                Effect::Forbade(..) => unreachable!("no client of the model has a scope"),
                Effect::Replay { key, generation, at } => self.store_again(key, generation, at),
                Effect::Backup { .. } => unreachable!("the model never asks for it"),
            }
        }
        said
    }

    fn store(&mut self, record: Record) {
        let slot = match &record {
            Record::Submitted(submitted) => {
                self.marks.1 = self.marks.1.max(submitted.key.serial);
                Some(submitted.key.slot)
            }
            Record::Changed(changed) => {
                self.marks.0 = self.marks.0.max(changed.lease);
                Some(changed.key.slot)
            }
            Record::Forgotten(key) => Some(key.slot),
            Record::Named(Named::Chord(chord)) => {
                self.marks.0 = self.marks.0.max(chord.lease);
                None
            }
            Record::Named(_) | Record::Removed(_) => None,
        };
        self.log.push((slot, record));
    }

    fn receive(&mut self, peer: usize, message: Message, said: &mut Said) {
        match message {
            Message::Answer(_, Answer::Welcome { session_id, .. }) => {
                self.peers[peer].session = Some(u128::from_be_bytes(session_id) as u64);
            }
            Message::Deliver(deliveries) => {
                for delivery in deliveries {
                    let submits = self.log.iter().rev().filter_map(|(slot, record)| match record {
                        Record::Submitted(submitted) if *slot == Some(delivery.slot) => {
                            Some(&submitted.spec.id)
                        }
                        _ => None,
                    });
                    let id = number_of(
                        submits.into_iter().next().expect("a delivered task was submitted"),
                    );
                    self.peers[peer].leases.push((id, delivery.lease));
                    said.deliveries.push((peer, delivery));
                }
            }
            message => said.answers.push(message),
        }
    }
}

fn submission(id: u8, submit: &Submit) -> Submission {
    Submission {
        eta: submit.eta.map(When::At),
        expires: submit.expires.map(When::At),
        result_ttl_ms: Some(submit.ttl_ms),
        on_conflict: submit.conflict,
        spec: TaskSpec {
            queue: queue_of(submit.queue),
            payload: Bytes::from_static(b"payload"),
            priority: submit.priority,
            retry: RetryPolicy { attempts_max: submit.attempts_max, ..RetryPolicy::default() },
            max_deliveries: submit.max_deliveries,
            submit_key: submit.key.map(key_of).unwrap_or_default().into(),
            lead_ms: submit.lead_ms,
            forget_at_end: submit.forget_at_end,
            tags: submit.tagged.then(|| many::TAG.into()).into_iter().collect(),
            ..TaskSpec::new(id_of(id), name_of(submit.name))
        },
    }
}
