//! A crowd of tasks: a machine with more of them than one slice can look at, and connections that
//! send requests without waiting.

use std::collections::BTreeSet;
use std::sync::Arc;

use celeriac_proto::{QueueName, TaskId, TaskName};
use celeriac_record::{Record, RetryPolicy, State, TaskSpec};

use super::script::settings;
use crate::command::{
    Answer, Ask, CancelMode, CancelTarget, Command, Connect, Cursor, Effect, Failure, Filter,
    Message, Now, Observe, OnConflict, Operate, Outlines, Produce, ReportKind, Scope, Submission,
    TaskReport, Work, WorkerInfo,
};
use crate::{Effects, Machine};

pub(super) const NOW: Now = Now { wall: 1_000_000, mono: 0 };
/// A number of tasks that is more than a request may name, and far more than one slice can look at.
pub(super) const MANY: usize = 12_000;
/// Far more ticks than any test of this file takes.
pub(super) const TICKS_MAX: usize = 10_000;

/// The connection of the worker.
const WORKER: u64 = 9;

pub(super) struct Crowd {
    pub machine: Machine,
    /// The messages since the last check, with their connections.
    pub said: Vec<(u64, Message)>,
    /// The states that were stored since then.
    pub stored: Vec<State>,
    request: u64,
    pub now: Now,
}

impl Crowd {
    pub fn new() -> Self {
        let mut crowd = Self {
            machine: Machine::new(settings()),
            said: Vec::new(),
            stored: Vec::new(),
            request: 0,
            now: NOW,
        };
        for connection in 1..4 {
            crowd.connect(connection, None);
        }
        crowd
    }

    pub fn connect(&mut self, connection: u64, worker: Option<WorkerInfo>) {
        self.connect_within(connection, worker, None);
    }

    /// Connects a client with a scope.
    pub fn connect_within(
        &mut self,
        connection: u64,
        worker: Option<WorkerInfo>,
        scope: Option<Arc<Scope>>,
    ) {
        let session_id = u128::from(connection).to_be_bytes();
        let connect = Connect {
            connection,
            request: 1,
            session_id,
            resume: None,
            instance: "peer".into(),
            worker,
            entry: None,
            scope,
        };
        self.apply(Command::Connect(Box::new(connect)));
        self.said.clear();
    }

    pub fn apply(&mut self, command: Command) {
        let mut fx = Effects::default();
        self.machine.apply(self.now, command, &mut fx);
        self.settle(fx);
    }

    pub fn tick(&mut self) {
        let mut fx = Effects::default();
        self.machine.tick(self.now, &mut fx);
        self.settle(fx);
    }

    fn settle(&mut self, fx: Effects) {
        for effect in fx.list {
            match effect {
                Effect::Send(connection, message) => self.said.push((connection, message)),
                Effect::Store(Record::Changed(changed)) => self.stored.push(changed.state),
                _ => {}
            }
        }
    }

    /// Leases `count` tasks to a new worker, and returns their ids and leases.
    pub fn lease(&mut self, count: u32) -> Vec<(TaskId, u64)> {
        self.said.clear();
        self.connect(WORKER, Some(worker()));
        self.ask(WORKER, Ask::Work(Work::Credit(count)));
        self.tick();
        self.tick_until_idle();
        let said = std::mem::take(&mut self.said).into_iter();
        let leases = said.filter_map(|(_, said)| match said {
            Message::Deliver(deliveries) => Some(deliveries),
            _ => None,
        });
        let tasks = &self.machine.tasks;
        let id = |slot| tasks.id(tasks.task(slot));
        leases.flatten().map(|lease| (id(lease.slot), lease.lease)).collect()
    }

    /// Lets leased tasks fail for good. The worker then says goodbye.
    pub fn fail(&mut self, leases: Vec<(TaskId, u64)>) {
        let fail = |(id, lease)| {
            Ok(TaskReport { id, lease, kind: ReportKind::Reject(Failure::default()) })
        };
        self.ask(WORKER, Ask::Work(Work::Report(leases.into_iter().map(fail).collect())));
        self.ask(WORKER, Ask::Goodbye);
        self.said.retain(|(to, _)| *to != WORKER);
    }

    /// Sends a request without waiting, and returns the id of the request.
    pub fn ask(&mut self, connection: u64, ask: Ask) -> u64 {
        self.request += 1;
        self.apply(Command::Request { connection, request: self.request, ask });
        self.request
    }

    pub fn submit(&mut self, prefix: &str, count: usize, tag: &str) {
        for number in 0..count {
            let submission = submission(&format!("{prefix}{number}"), tag);
            self.ask(1, Ask::Produce(Produce::Submit(vec![Ok(submission)])));
        }
        (self.said, self.stored) = Default::default();
    }

    pub fn tick_until_idle(&mut self) -> usize {
        for ticks in 0..TICKS_MAX {
            if self.machine.next_deadline().1 != Some(0) {
                self.machine.check_invariants();
                return ticks;
            }
            self.tick();
        }
        panic!("the scan never ends");
    }

    /// The answers to one connection in order, without answers to submits.
    pub fn answers(&self, connection: u64) -> Vec<&Message> {
        let to = self.said.iter().filter(|(to, _)| *to == connection).map(|(_, message)| message);
        to.filter(|message| !matches!(message, Message::Answer(_, Answer::Submitted(_)))).collect()
    }

    pub fn is_answered(&self, connection: u64) -> bool {
        !self.answers(connection).is_empty()
    }

    pub fn states(&mut self, ids: impl IntoIterator<Item = String>) -> BTreeSet<Option<State>> {
        let ids = ids.into_iter().map(|id| TaskId::parse(id).expect("an id")).collect();
        self.said.clear();
        self.ask(3, Ask::Observe(Observe::Get { ids, with_results: false, with_payloads: false }));
        let Some((3, Message::Show(_, Outlines::Got { tasks }))) = self.said.pop() else {
            panic!("no answer: {:?}", self.said)
        };
        tasks.into_iter().map(|view| Some(view.task?.state)).collect()
    }
}

pub(super) fn submission(id: &str, tag: &str) -> Submission {
    Submission {
        eta: None,
        expires: None,
        result_ttl_ms: None,
        on_conflict: OnConflict::RunAgainIfFinished,
        spec: TaskSpec {
            retry: RetryPolicy { attempts_max: 1, ..RetryPolicy::default() },
            tags: vec![tag.into(), "kept".into()],
            ..TaskSpec::new(
                TaskId::parse(id).expect("an id"),
                TaskName::parse("job").expect("a name"),
            )
        },
    }
}

pub(super) fn cancel(tag: &str) -> Ask {
    Ask::Produce(Produce::Cancel {
        target: CancelTarget::Tag(tag.into()),
        mode: CancelMode::Cooperative,
        grace_ms: 0,
        reason: "".into(),
    })
}

pub(super) fn list(tag: &str) -> Ask {
    list_page(tag, false, None)
}

pub(super) fn list_page(tag: &str, newest_first: bool, after: Option<Cursor>) -> Ask {
    Ask::Operate(Operate::ListTasks {
        filter: Filter { tag: Some(tag.into()), ..Filter::default() },
        limit: 10,
        newest_first,
        just_ended: false,
        after,
        with_tracebacks: false,
    })
}

pub(super) fn purge() -> Ask {
    Ask::Operate(Operate::PurgeQueue { queue: QueueName::default(), delete: false })
}

pub(super) fn worker() -> WorkerInfo {
    WorkerInfo {
        queues: vec![(QueueName::default(), 1)],
        task_names: vec![TaskName::parse("job").expect("a name")],
        hostname: "".into(),
        pid: 1,
        concurrency: 20_000,
        ..WorkerInfo::default()
    }
}
