//! A broker without sockets and disk: sessions decode and encode, the machine decides, records go
//! through the store's format into a list.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};
use celeriac_machine::command::{
    Answer, Ask, Code, Command, ConnectionKey, DeliveryOutline, Effect, LostWorker, Message, Now,
    Outlines, Page, Refusal, TaskOutline, WorkerOutline,
};
use celeriac_machine::{Effects, Machine, MachineConfig};
use celeriac_proto::wire::{self, ClientFrame, ServerFrame, client_frame::Body};
use celeriac_proto::{FrameCodec, QueueName, TaskId};
use celeriac_record::{Changed, Lease, Name, Named, Record, SessionId, Slot, State, Submitted};
use celeriac_store::Marks;
use celeriac_store::format::{decode_record, encode_record};
use tokio_util::codec::{Decoder, Encoder};

use celeriac_broker::Config;
use celeriac_broker::internals::{
    self, Bounds, BrokerView, Delivery, FoundTask, Limits, Outgoing, QueueView, Selection, Shown,
    StatsView, TaskView, WorkerView,
};

/// Connections that may be open at once.
pub(crate) const PEERS: usize = 4;

/// Where the clock may go: the years that a client may name, and a little more.
const WALL_MAX: i64 = 260_000_000_000_000;

/// One client, connected or not.
#[derive(Debug, Default)]
pub(crate) struct Peer {
    connection: Option<ConnectionKey>,
    pub(crate) session: Option<SessionId>,
    /// What it was handed, ended or not.
    pub(crate) held: Vec<(String, Lease)>,
    pub(crate) watches: Vec<u64>,
}

pub(crate) struct World {
    machine: Machine,
    now: Now,
    /// Everything that was ever stored.
    log: Vec<Bytes>,
    live: Live,
    peers: [Peer; PEERS],
    latest_connection: ConnectionKey,
    latest_lease: Lease,
    marks: Marks,
    bounds: Bounds,
    limits: Limits,
}

fn settings() -> MachineConfig {
    MachineConfig {
        lease_ms: 15_000,
        result_ttl_ms: 60_000,
        result_bytes_max: 100,
        leased_bytes_max: 1_000,
        seed: 7,
    }
}

impl World {
    pub(crate) fn new() -> Self {
        Self::restored(&[], Marks::default())
    }

    /// A broker that starts with these records. Whoever holds a lease may come back.
    pub(crate) fn restored(log: &[Record], marks: Marks) -> Self {
        let config = Config { payload_bytes_max: 1_000, ..Config::new("data") };
        let mut world = Self {
            machine: Machine::new(settings()),
            now: Now { wall: 1_800_000_000_000, mono: 0 },
            log: log.iter().map(encode_record).collect(),
            live: Live::default(),
            peers: Default::default(),
            latest_connection: 0,
            latest_lease: marks.lease,
            marks,
            bounds: Bounds::of(&config),
            limits: internals::limits(&config),
        };
        let sessions = log.iter().filter_map(|record| match record {
            Record::Changed(changed) => Some((changed.session?, changed.lease)),
            _ => None,
        });
        for (peer, (session, lease)) in world.peers.iter_mut().zip(sessions) {
            peer.session = Some(session);
            peer.held = ["task-0", "task-1", "task-2", "a"].map(|id| (id.to_owned(), lease)).into();
        }
        world.restart(0);
        world
    }

    pub(crate) fn peer(&self, index: usize) -> &Peer {
        &self.peers[index]
    }

    pub(crate) fn pass(&mut self, span_ms: u64, jump_ms: i64) {
        self.now.mono += span_ms;
        self.now.wall = (self.now.wall + span_ms as i64 + jump_ms).clamp(0, WALL_MAX);
    }

    /// Until something is due, as the driver sleeps; a minute at most.
    pub(crate) fn pass_to_deadline(&mut self) {
        let (wall, mono) = self.machine.next_deadline();
        let wall =
            wall.map_or(60_000, |at| at.saturating_sub(self.now.wall).clamp(0, 60_000) as u64);
        let mono = mono.map_or(60_000, |at| at.saturating_sub(self.now.mono));
        self.pass(wall.min(mono), 0);
    }

    pub(crate) fn tick(&mut self) {
        let mut fx = Effects::default();
        self.machine.tick(self.now, &mut fx);
        self.settle(fx);
        let (wall, mono) = self.machine.next_deadline();
        assert!(wall.is_none_or(|at| at > self.now.wall), "what is due is done");
        assert!(mono.is_none_or(|at| at > self.now.mono || at == 0), "what is due is done");
    }

    fn apply(&mut self, command: Command) {
        let mut fx = Effects::default();
        self.machine.apply(self.now, command, &mut fx);
        self.settle(fx);
    }

    pub(crate) fn set_disk_low(&mut self, low: bool) {
        self.apply(Command::DiskLow(low));
    }

    pub(crate) fn disconnect(&mut self, peer: usize) {
        if let Some(connection) = self.peers[peer].connection.take() {
            self.apply(Command::Disconnect { connection, reason: None });
        }
    }

    /// One frame, as a session takes it.
    pub(crate) fn frame(&mut self, peer: usize, frame: ClientFrame) {
        let request = frame.request_id;
        match (self.peers[peer].connection, frame.body) {
            (None, Some(Body::Hello(hello))) => {
                self.latest_connection += 1;
                let connection = self.latest_connection;
                let Ok(mut connect) = internals::hello(hello, connection, request) else { return };
                // The same input has to do the same each time.
                connect.session_id = u128::from(connection).to_be_bytes();
                self.peers[peer].connection = Some(connection);
                self.apply(Command::Connect(Box::new(connect)));
            }
            (None, _) => {}
            (Some(connection), body) => {
                let ask = match body {
                    body if request == 0 && !internals::needs_no_answer(&body) => {
                        Err(Refusal::new(Code::InvalidArgument, "request ids are above 0"))
                    }
                    body => internals::ask(body, frame.timeout_ms, &self.bounds),
                };
                let ask = ask.unwrap_or_else(Ask::Refuse);
                self.apply(Command::Request { connection, request, ask });
            }
        }
    }

    /// The broker starts again: with every record that it ever stored, with those that a log
    /// without cleaning gives, or with those that count.
    pub(crate) fn restart(&mut self, kind: u8) {
        let kept: BTreeSet<usize> = match kind {
            0 => (0..self.log.len()).collect(),
            1 => Live::of(&self.log).places(),
            _ => self.live.places(),
        };
        self.log = kept.into_iter().map(|place| self.log[place].clone()).collect();
        self.live = Live::of(&self.log);
        self.machine = Machine::new(settings());
        for peer in &mut self.peers {
            peer.connection = None;
            peer.watches.clear();
        }
        for bytes in &self.log {
            self.machine.restore(self.now, read(bytes));
        }
        let mut fx = Effects::default();
        self.machine.restored(self.now, self.latest_lease, self.marks.serial, &mut fx);
        self.settle(fx);
    }

    /// The end: the broker closes down, starts again, and is asked for all that it knows.
    pub(crate) fn finish(&mut self) {
        self.tick();
        self.apply(Command::Shutdown);
        self.restart(2);
        let hello = wire::Hello { protocol_min: 1, protocol_max: 1, ..wire::Hello::default() };
        self.frame(0, ClientFrame { request_id: 1, timeout_ms: 0, body: Some(Body::Hello(hello)) });
        for body in [
            Body::ListTasks(wire::ListTasks::default()),
            Body::ListQueues(wire::ListQueues::default()),
            Body::Info(wire::Info {}),
            Body::Stats(wire::Stats::default()),
        ] {
            self.frame(0, ClientFrame { request_id: 1, timeout_ms: 0, body: Some(body) });
        }
        self.tick();
    }

    fn settle(&mut self, fx: Effects) {
        for effect in fx.list {
            match effect {
                Effect::Store(record) => self.store(&record),
                Effect::Replay { key, generation, at } => {
                    let submitted = self.submitted(key.slot);
                    self.store(&Record::Submitted(Box::new(submitted.again(key, generation, at))));
                }
                Effect::Drop(slot) => {
                    self.live.tasks.remove(&slot);
                }
                Effect::Send(connection, message) => self.send(connection, message),
                Effect::Keep(.., task) => drop(self.task(task)),
                Effect::Close(connection) => {
                    for peer in
                        self.peers.iter_mut().filter(|peer| peer.connection == Some(connection))
                    {
                        peer.connection = None;
                    }
                }
                Effect::WorkerLost(lost) => assert!(lost.tasks.len() <= LostWorker::TASKS_MAX),
                Effect::Forbade(..) => {}
                Effect::Backup { tasks, .. } => assert_eq!(tasks, self.machine.tasks() as u64),
            }
        }
        self.machine.check_invariants();
        assert_eq!(
            self.machine.tasks(),
            self.live.tasks.len(),
            "the store knows the machine's tasks"
        );
    }

    fn store(&mut self, record: &Record) {
        let bytes = encode_record(record);
        assert_eq!(encode_record(&read(&bytes)), bytes, "a record changes when it is stored");
        if let Record::Changed(changed) = record {
            // A change that is older than its submit counts for nothing.
            let before = self.changed(changed.key.slot);
            let before = before
                .filter(|before| before.key == changed.key && before.version < changed.version);
            let has_ended =
                before.is_some_and(|before| before.version > 1 && before.state.is_terminal());
            assert!(!has_ended, "an ended task changed: {changed:?}");
            if changed.state == State::Leased {
                assert!(changed.lease > self.latest_lease, "leases rise strictly");
                self.latest_lease = changed.lease;
            }
        }
        self.live.take(record, self.log.len());
        self.log.push(bytes);
    }

    fn submitted(&self, slot: Slot) -> Submitted {
        let live = self
            .live
            .tasks
            .get(&slot)
            .expect("the machine names only tasks whose submit it has stored");
        let Record::Submitted(submitted) = read(&self.log[live.0]) else {
            unreachable!("the submit stands first")
        };
        *submitted
    }

    fn changed(&self, slot: Slot) -> Option<Changed> {
        let place = self.live.tasks.get(&slot)?.1?;
        let Record::Changed(changed) = read(&self.log[place]) else {
            unreachable!("the change stands second")
        };
        Some(*changed)
    }

    /// What a session writes, and what the peer learns from it.
    fn send(&mut self, connection: ConnectionKey, message: Message) {
        let message = self.complete(message);
        if let Some(peer) = self.peers.iter_mut().find(|peer| peer.connection == Some(connection)) {
            peer.learn(&message);
        }
        let bytes_max = internals::message_bytes(&message);
        let frame = internals::frame(message, &self.limits);
        let mut buffer = BytesMut::new();
        let mut codec = FrameCodec::<ServerFrame, ServerFrame>::new(usize::MAX);
        codec.encode(&frame, &mut buffer).expect("an answer can be encoded");
        assert!(
            buffer.len() <= bytes_max,
            "{} bytes, and {bytes_max} were counted: {frame:?}",
            buffer.len()
        );
        let read = codec.decode(&mut buffer).expect("an answer can be decoded");
        assert_eq!(read, Some(frame), "an answer changes on the wire");
    }

    /// Completes a message as the committer does, but for its bounds.
    fn complete(&self, message: Message) -> Outgoing {
        match message {
            Message::Answer(request, answer) => Outgoing::Answer(request, answer),
            Message::Push(push) => Outgoing::Push(push),
            Message::Deliver(deliveries) => {
                Outgoing::Deliver(deliveries.into_iter().map(|one| self.delivery(one)).collect())
            }
            Message::Transition { watch, task } => {
                Outgoing::Transition { watch, task: self.task(task) }
            }
            Message::Show(request, outlines) => Outgoing::Show(request, self.show(outlines)),
        }
    }

    fn show(&self, outlines: Outlines) -> Shown {
        let selection = |tasks| Selection { tasks: self.tasks(tasks), left_out: Vec::new() };
        match outlines {
            Outlines::Got { tasks } => Shown::Got { tasks: selection(tasks) },
            Outlines::Waited { satisfied, tasks } => {
                Shown::Waited { satisfied, tasks: selection(tasks) }
            }
            Outlines::Watching { watch, tasks } => {
                Shown::Watching { watch, tasks: selection(tasks) }
            }
            Outlines::Page(page) => Shown::Page(Page {
                tasks: page.tasks.into_iter().map(|(at, task)| (at, self.task(task))).collect(),
                next: page.next,
                newest_first: page.newest_first,
                just_ended: page.just_ended,
                looked: page.looked,
                total: page.total,
            }),
            Outlines::Queues { queues, next, .. } => {
                let view = |outline| QueueView { outline, oldest_ms: 0 };
                Shown::Queues { queues: queues.into_iter().map(view).collect(), next }
            }
            Outlines::Mailboxes { mailboxes, next } => Shown::Mailboxes { mailboxes, next },
            Outlines::Bindings { bindings, is_last } => Shown::Bindings { bindings, is_last },
            Outlines::Broker(outline) => {
                let view = BrokerView { outline: *outline, memory_bytes: None, usage: None };
                Shown::Broker(Box::new(view))
            }
            Outlines::Stats(stats) => {
                Shown::Stats(Box::new(StatsView { stats: *stats, outside: None }))
            }
            Outlines::Workers { workers, next } => {
                let view = |WorkerOutline { status, running, running_left_out }| WorkerView {
                    status,
                    running: self.tasks(running),
                    running_left_out,
                };
                Shown::Workers { workers: workers.into_iter().map(view).collect(), next }
            }
        }
    }

    fn delivery(&self, outline: DeliveryOutline) -> Delivery {
        let submitted = Box::new(self.submitted(outline.slot));
        Delivery { outline, submitted }
    }

    fn tasks(&self, outlines: Vec<TaskOutline>) -> Vec<TaskView> {
        outlines.into_iter().map(|outline| self.task(outline)).collect()
    }

    fn task(&self, outline: TaskOutline) -> TaskView {
        let found = outline.task.map(|outline| FoundTask {
            outline,
            submitted: Box::new(self.submitted(outline.slot)),
            changed: self.changed(outline.slot).map(Box::new),
            payload_left_out: false,
        });
        TaskView { id: outline.id, found }
    }
}

impl Peer {
    fn learn(&mut self, message: &Outgoing) {
        match message {
            Outgoing::Answer(_, Answer::Welcome { session_id, .. }) => {
                self.session = Some(*session_id)
            }
            Outgoing::Show(_, Shown::Watching { watch, .. }) => self.watches.push(*watch),
            Outgoing::Deliver(deliveries) => {
                let held =
                    |one: &Delivery| (one.submitted.spec.id.clone().into(), one.outline.lease);
                self.held.extend(deliveries.iter().map(held));
            }
            _ => {}
        }
    }
}

/// Which entries of a log count, by the store's rules.
#[derive(Debug, Default)]
struct Live {
    /// The submit and the change of each.
    tasks: BTreeMap<Slot, (usize, Option<usize>)>,
    queues: BTreeMap<QueueName, usize>,
    sessions: BTreeMap<SessionId, usize>,
    routes: BTreeMap<Name, usize>,
    chords: BTreeMap<TaskId, usize>,
}

impl Live {
    fn of(log: &[Bytes]) -> Self {
        let mut live = Self::default();
        log.iter().enumerate().for_each(|(place, bytes)| live.take(&read(bytes), place));
        live
    }

    fn take(&mut self, record: &Record, place: usize) {
        match record {
            Record::Submitted(submitted) => {
                self.tasks.insert(submitted.key.slot, (place, None));
            }
            Record::Changed(changed) => {
                if let Some(task) = self.tasks.get_mut(&changed.key.slot) {
                    task.1 = Some(place);
                }
            }
            Record::Forgotten(key) => {
                self.tasks.remove(&key.slot);
            }
            Record::Named(Named::Queue(queue)) => {
                self.queues.insert(queue.name.clone(), place);
            }
            Record::Removed(Name::Queue(name)) => {
                self.queues.remove(name);
            }
            Record::Named(Named::Session(session)) => {
                self.sessions.insert(session.id, place);
            }
            Record::Removed(Name::Session(id)) => {
                self.sessions.remove(id);
            }
            Record::Named(named @ (Named::Exchange(_) | Named::Binding(_))) => {
                self.routes.insert(named.name(), place);
            }
            Record::Removed(name @ (Name::Exchange(_) | Name::Binding(_))) => {
                self.routes.remove(name);
            }
            Record::Named(Named::Chord(chord)) => {
                self.chords.insert(chord.group.clone(), place);
            }
            Record::Removed(Name::Chord(group)) => {
                self.chords.remove(group);
            }
        }
    }

    fn places(&self) -> BTreeSet<usize> {
        let tasks = self
            .tasks
            .values()
            .flat_map(|(submitted, changed)| [Some(*submitted), *changed])
            .flatten();
        let named = self.queues.values().chain(self.sessions.values());
        let named = named.chain(self.routes.values()).chain(self.chords.values());
        tasks.chain(named.copied()).collect()
    }
}

fn read(bytes: &Bytes) -> Record {
    decode_record(bytes.clone()).expect("it was stored")
}
