//! Histories made by hand: good ones must be accepted, each violation must be found under its
//! number, and what is merely unknown must not be reported.

mod charges;
mod chords;
mod content;
mod identity;
mod kept;
mod leases;
mod order;
mod redelivery;
mod taps;
mod time;
mod unbegun;
mod versions;

use celeriac_proto::wire::submit_outcome::Kind;
use celeriac_proto::wire::task_report::Report;
use celeriac_proto::wire::{self, ErrorCode, TaskState, cancel_outcome};

use super::event::{Answer, ConnectionId, Entry, Event, Moment, Position, RequestItem};
use super::{Broken, Promises, broken_promises};

/// The one producer and reader of these histories.
const PRODUCER: ConnectionId = 1;
/// Two workers' connections, each of a session of its own.
const WORKER: ConnectionId = 2;
const OTHER: ConnectionId = 3;
const LEASE_MS: u64 = 1_000;

/// A history in the making. Nothing takes time unless it says so.
#[derive(Clone)]
struct Script {
    entries: Vec<Entry>,
    now: Moment,
}

impl Script {
    /// A producer and two workers are connected.
    fn new() -> Self {
        let mut script =
            Self { entries: Vec::new(), now: Moment { mono_ms: 0, wall_ms: 1_000_000 } };
        script.connect(PRODUCER, "producer", &[]);
        for (worker, session) in [(WORKER, "worker"), (OTHER, "other")] {
            script.connect(worker, session, &[]);
            script.request(worker, RequestItem::Credit(10));
        }
        script
    }

    fn pass(&mut self, ms: u64) -> &mut Self {
        self.now.mono_ms += ms;
        self.now.wall_ms += ms as i64;
        self
    }

    fn push(&mut self, connection: ConnectionId, event: Event) -> Position {
        self.entries.push(Entry { at: self.now, connection, event });
        self.entries.len() - 1
    }

    fn connect(&mut self, connection: ConnectionId, session: &str, leases: &[u64]) {
        self.push(connection, Event::Connecting);
        self.welcome(connection, session, leases);
    }

    fn welcome(&mut self, connection: ConnectionId, session: &str, leases: &[u64]) {
        let welcome = wire::Welcome {
            session_id: session.into(),
            lease_ms: LEASE_MS,
            leases: leases.to_vec(),
            ..Default::default()
        };
        self.push(connection, Event::Welcomed(Box::new(welcome)));
    }

    fn request(&mut self, connection: ConnectionId, item: RequestItem) -> Position {
        self.push(connection, Event::Asked(item))
    }

    fn answer(&mut self, item: Position, answer: Answer) {
        let connection = self.entries[item].connection;
        self.push(connection, Event::Answered { item, answer });
    }

    fn submit(&mut self, task: wire::Task) -> Position {
        self.request(PRODUCER, RequestItem::Submit(Box::new(task)))
    }

    fn told(&mut self, submit: Position, kind: Kind, generation: u32) {
        let state = TaskState::Queued.into();
        let outcome =
            wire::SubmitOutcome { kind: kind.into(), generation, state, ..Default::default() };
        self.answer(submit, Answer::Submit(outcome));
    }

    fn refused(&mut self, submit: Position, code: ErrorCode) {
        let error = Some(wire::Error { code: code.into(), ..Default::default() });
        let outcome =
            wire::SubmitOutcome { kind: Kind::Refused.into(), error, ..Default::default() };
        self.answer(submit, Answer::Submit(outcome));
    }

    /// Submitted and confirmed as new.
    fn created(&mut self, task: wire::Task) -> &mut Self {
        let asked = self.submit(task);
        self.told(asked, Kind::Created, 1);
        self
    }

    /// A first delivery, as of the task that [`task`] makes.
    fn deliver(&mut self, worker: ConnectionId, id: &str, lease: u64) -> &mut Self {
        self.deliver_as(worker, delivery(id, lease))
    }

    fn deliver_as(&mut self, worker: ConnectionId, delivery: wire::Delivery) -> &mut Self {
        self.push(worker, Event::Delivered(Box::new(delivery)));
        self
    }

    fn report(&mut self, worker: ConnectionId, id: &str, lease: u64, report: Report) -> Position {
        let report = wire::TaskReport { id: id.into(), lease, report: Some(report) };
        self.request(worker, RequestItem::Report(Box::new(report)))
    }

    /// An outcome that amounts to this report.
    fn put(&mut self, worker: ConnectionId, id: &str, lease: u64, report: Report) -> Position {
        let report = wire::TaskReport { id: id.into(), lease, report: Some(report) };
        self.request(worker, RequestItem::Put(Box::new(report)))
    }

    fn reported(&mut self, report: Position, code: ErrorCode) {
        self.answer(report, Answer::Report(wire::ReportOutcome { code: code.into(), state: 0 }));
    }

    /// Accepted, with the state of the task after it.
    fn reported_as(&mut self, report: Position, state: TaskState) {
        let outcome = wire::ReportOutcome { code: 0, state: state.into() };
        self.answer(report, Answer::Report(outcome));
    }

    /// Reported and accepted.
    fn accepted(
        &mut self,
        worker: ConnectionId,
        id: &str,
        lease: u64,
        report: Report,
    ) -> &mut Self {
        let asked = self.report(worker, id, lease, report);
        self.reported(asked, ErrorCode::Unspecified);
        self
    }

    fn cancel(&mut self, id: &str, kind: cancel_outcome::Kind) -> &mut Self {
        let asked = self.request(PRODUCER, RequestItem::Cancel { id: id.into(), force: false });
        self.answer(asked, Answer::Cancel(kind));
        self
    }

    fn read(&mut self, id: &str, state: TaskState) -> &mut Self {
        self.read_as(wire::TaskInfo { state: state.into(), ..info(id) })
    }

    fn read_as(&mut self, info: wire::TaskInfo) -> &mut Self {
        let asked =
            self.request(PRODUCER, RequestItem::Read { id: info.id.clone(), with_result: true });
        self.answer(asked, Answer::Read(Box::new(info)));
        self
    }

    /// A watch on an id begins, or goes on.
    fn watch(&mut self, connection: ConnectionId, info: wire::TaskInfo) -> &mut Self {
        let asked = self
            .request(connection, RequestItem::Watch { id: info.id.clone(), with_result: false });
        self.answer(asked, Answer::Read(Box::new(info)));
        self
    }

    fn pushed(&mut self, connection: ConnectionId, info: wire::TaskInfo) -> &mut Self {
        self.push(connection, Event::Pushed(Box::new(info)));
        self
    }

    /// Asked by the producer, and answered.
    fn done(&mut self, item: RequestItem) -> &mut Self {
        let asked = self.request(PRODUCER, item);
        self.answer(asked, Answer::Done);
        self
    }

    fn restart(&mut self) -> &mut Self {
        self.push(0, Event::BrokerDown);
        self.push(0, Event::BrokerUp);
        self
    }

    /// A worker is heard of.
    fn alive(&mut self, worker: ConnectionId) -> &mut Self {
        let asked = self.request(worker, RequestItem::Other);
        self.answer(asked, Answer::Done);
        self
    }

    fn settled(&mut self) -> &mut Self {
        self.push(0, Event::Settled);
        self
    }

    fn broken(&self) -> Vec<Broken> {
        broken_promises(&self.entries, &Promises { clock_ms: 0, late_ms: 0, result_ttl_ms: 60_000 })
    }

    /// What is merely unknown is not reported.
    #[track_caller]
    fn is_good(&self) {
        assert_eq!(self.broken(), Vec::<Broken>::new());
    }

    #[track_caller]
    fn breaks(&self, promise: u8, words: &str) {
        let broken = self.broken();
        let found =
            broken.iter().any(|found| found.promise == promise && found.line.contains(words));
        assert!(found, "promise {promise} with `{words}` is not among {broken:?}");
    }
}

fn task(id: &str) -> wire::Task {
    wire::Task {
        id: id.into(),
        name: "n".into(),
        queue: "q".into(),
        payload: "payload".into(),
        ..Default::default()
    }
}

fn delivery(id: &str, lease: u64) -> wire::Delivery {
    wire::Delivery {
        id: id.into(),
        lease,
        name: "n".into(),
        queue: "q".into(),
        payload: "payload".into(),
        priority: 4,
        generation: 1,
        deliveries: 1,
        attempt: 1,
        // The checker judges this only of a second delivery.
        redelivered: true,
        ..Default::default()
    }
}

fn info(id: &str) -> wire::TaskInfo {
    wire::TaskInfo { id: id.into(), generation: 1, ..Default::default() }
}

/// A state under its version.
fn at(id: &str, version: u32, state: TaskState) -> wire::TaskInfo {
    wire::TaskInfo { version, state: state.into(), ..info(id) }
}

fn success(id: &str, result: &'static str) -> wire::TaskInfo {
    wire::TaskInfo { state: TaskState::Success.into(), result: result.into(), ..info(id) }
}

fn started() -> Report {
    Report::Started(wire::Started {})
}

fn complete(result: &'static str) -> Report {
    Report::Complete(wire::Complete { result: result.into(), ..Default::default() })
}

fn fail(is_final: bool) -> Report {
    Report::Fail(wire::Fail { r#final: is_final, ..Default::default() })
}

fn release() -> Report {
    Report::Release(wire::Release::default())
}

/// One task that was run and read.
fn good() -> Script {
    let mut script = Script::new();
    script.created(task("a")).deliver(WORKER, "a", 1).accepted(WORKER, "a", 1, complete("result"));
    script
}

#[test]
fn a_history_that_kept_every_promise_is_accepted() {
    let mut script = good();
    script.settled().read_as(success("a", "result"));
    script.is_good();
}
