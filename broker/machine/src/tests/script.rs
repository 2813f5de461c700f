//! Scripts against the machine: a line is a command, indented beneath it is what the machine said.
//! Time is a line too.
//!
//! Records are kept as the store would keep them, so that `restart` builds a new machine from the
//! log.

use std::collections::BTreeMap;
use std::fmt::Write;

use bytes::Bytes;
use celeriac_proto::{QueueName, TaskId, TaskName};
use celeriac_record::{
    Backoff, Body, Jitter, QueueRecord, Record, RetryPolicy, SessionId, Slot, State, Submitted,
};

use super::words::{DAY_MS, Words, span_ms};
use crate::command::{
    Ask, CancelTarget, Command, Connect, Dead, Delivery, Effect, Failure, Filter, Message, Now,
    OnConflict, Order, ReportKind, Submission, TaskReport, View, WaitingFor, When, WorkerInfo,
};
use crate::{Effects, Machine, Settings};

pub(super) const LEASE_MS: u64 = 15_000;
const START: i64 = 1_000_000;

pub(super) fn settings() -> Settings {
    Settings {
        lease_ms: LEASE_MS,
        result_ttl_ms: DAY_MS,
        result_bytes_max: 1_000,
        leased_bytes_max: 1_000_000,
        seed: 7,
    }
}

/// Runs the commands of a transcript, and gives them back with what the machine says now.
pub(super) fn run(transcript: &str) -> String {
    let mut scene = Scene::new();
    let mut out = String::new();
    let indent = transcript.len() - transcript.trim_start().len();
    let indent = transcript[..indent].rsplit('\n').next().unwrap_or("");
    let lines = transcript.lines().filter_map(|line| line.strip_prefix(indent));
    for line in lines.filter(|line| !line.starts_with(' ') && !line.is_empty()) {
        writeln!(out, "{line}").expect("strings take all");
        for said in scene.line(line) {
            writeln!(out, "    {said}").expect("strings take all");
        }
    }
    out
}

pub(super) struct Scene {
    machine: Machine,
    now: Now,
    log: Vec<Record>,
    /// Names of connections, with their latest number and session.
    connections: BTreeMap<String, (u64, SessionId)>,
    names: BTreeMap<u64, String>,
    /// The latest lease of each task, and who got it.
    leases: BTreeMap<String, (u64, String)>,
    latest: u64,
}

fn id(text: &str) -> TaskId {
    TaskId::parse(text).expect("an id")
}

fn queue(text: &str) -> QueueName {
    QueueName::parse(text).expect("a queue name")
}

impl Scene {
    pub(super) fn new() -> Self {
        Self {
            machine: Machine::new(settings()),
            now: Now { wall: START, mono: 0 },
            log: Vec::new(),
            connections: BTreeMap::new(),
            names: BTreeMap::new(),
            leases: BTreeMap::new(),
            latest: 0,
        }
    }

    pub(super) fn line(&mut self, line: &str) -> Vec<String> {
        let words = Words::of(line);
        match words.plain[0] {
            "after" => match words.option("beating") {
                Some(worker) => self.pass_beating(span_ms(words.plain[1]), worker),
                None => self.pass(span_ms(words.plain[1])),
            },
            "clock" => {
                let jump = words.plain[1];
                let by = span_ms(jump.trim_start_matches(['+', '-'])) as i64;
                self.now.wall += if jump.starts_with('-') { -by } else { by };
                self.tick()
            }
            "restart" => self.restart(),
            "records" => vec![self.records()],
            "connect" => self.connect(&words),
            "lose" => self.command(Command::Disconnect {
                connection: self.number(words.plain[1]),
                reason: None,
            }),
            "disk" => self.command(Command::DiskLow(words.has("full"))),
            verb => {
                let (connection, ask) = self.ask(verb, &words);
                self.latest += 1;
                self.command(Command::Request { connection, request: self.latest, ask })
            }
        }
    }

    fn number(&self, name: &str) -> u64 {
        self.connections.get(name).unwrap_or_else(|| panic!("nobody is called {name}")).0
    }

    /// Time passes in steps to each deadline, as the driver would have it.
    fn pass(&mut self, span_ms: u64) -> Vec<String> {
        let end = Now { wall: self.now.wall + span_ms as i64, mono: self.now.mono + span_ms };
        let mut said = Vec::new();
        loop {
            let (wall, mono) = self.machine.next_deadline();
            let until = |wall: i64| (wall - self.now.wall).max(0) as u64;
            let next = wall
                .map_or(u64::MAX, until)
                .min(mono.map_or(u64::MAX, |at| at.saturating_sub(self.now.mono)));
            let left = end.mono - self.now.mono;
            let step = next.min(left);
            self.now = Now { wall: self.now.wall + step as i64, mono: self.now.mono + step };
            said.extend(self.tick());
            if next > left || step == left {
                return said;
            }
        }
    }

    /// The same, while a worker sends its heartbeats, whose answers say nothing.
    fn pass_beating(&mut self, span_ms: u64, worker: &str) -> Vec<String> {
        let mut said = Vec::new();
        let mut left = span_ms;
        while left > 0 {
            let step = left.min(LEASE_MS / 3);
            said.extend(self.pass(step));
            left -= step;
            said.extend(
                self.line(&format!("beat {worker}"))
                    .into_iter()
                    .filter(|line| !line.ends_with(": heartbeat")),
            );
        }
        said
    }

    fn tick(&mut self) -> Vec<String> {
        let mut fx = Effects::default();
        self.machine.tick(self.now, &mut fx);
        self.settle(fx)
    }

    fn command(&mut self, command: Command) -> Vec<String> {
        let mut fx = Effects::default();
        self.machine.apply(self.now, command, &mut fx);
        self.machine.tick(self.now, &mut fx);
        self.settle(fx)
    }

    fn settle(&mut self, fx: Effects) -> Vec<String> {
        self.machine.check_invariants();
        let mut said = Vec::new();
        for effect in fx.list {
            match effect {
                Effect::Store(record) => self.log.push(record),
                Effect::Replay { key, generation, at } => {
                    let submitted = self.submitted(key.slot).clone();
                    self.log
                        .push(Record::Submitted(Box::new(submitted.again(key, generation, at))));
                }
                Effect::Drop(_) | Effect::Backup { .. } => {}
                Effect::Send(connection, message) => said.extend(self.say(connection, message)),
                Effect::Keep(connection, _, task) => {
                    said.push(format!("{}: is to be shown {}", self.name(connection), view(&task)));
                }
                Effect::Close(connection) => {
                    said.push(format!("{}: closed", self.name(connection)))
                }
            }
        }
        said
    }

    fn restart(&mut self) -> Vec<String> {
        let mut machine = Machine::new(settings());
        for record in &self.log {
            machine.restore(self.now, record.clone());
        }
        let mut fx = Effects::default();
        machine.restored(self.now, 0, 0, &mut fx);
        self.machine = machine;
        self.settle(fx)
    }

    /// The changes that were stored, from the first on.
    fn records(&self) -> String {
        let changes = self.log.iter().filter_map(|record| match record {
            Record::Changed(changed) => Some(format!(
                "{} {:?} v{}",
                self.submitted(changed.key.slot).id,
                changed.state,
                changed.version
            )),
            _ => None,
        });
        changes.collect::<Vec<_>>().join(", ")
    }

    fn name(&self, connection: u64) -> String {
        self.names.get(&connection).cloned().unwrap_or_else(|| "nobody".into())
    }

    fn connect(&mut self, words: &Words<'_>) -> Vec<String> {
        let name = words.plain[1];
        self.latest += 1;
        let connection = self.latest;
        let mut session_id = [0; 16];
        session_id[8..].copy_from_slice(&connection.to_be_bytes());
        let resume = words.has("resume").then(|| self.connections[name].1);
        let weighted = |text: &str| match text.split_once(':') {
            Some((name, weight)) => (queue(name), weight.parse().expect("a weight")),
            None => (queue(text), 1),
        };
        let worker = words.option("runs").map(|_| WorkerInfo {
            queues: match words.option("queues") {
                Some(queues) => queues.split(',').map(weighted).collect(),
                None => vec![(QueueName::default(), 1)],
            },
            task_names: words
                .list("runs")
                .into_iter()
                .map(|name| TaskName::parse(name).expect("a name"))
                .collect(),
            hostname: "host".into(),
            pid: 1,
            concurrency: words.number("concurrency").unwrap_or(1) as u32,
        });
        self.connections.insert(name.into(), (connection, resume.unwrap_or(session_id)));
        self.names.insert(connection, name.into());
        let connect =
            Connect { connection, request: 1, session_id, resume, instance: name.into(), worker };
        self.command(Command::Connect(Box::new(connect)))
    }

    fn ask(&self, verb: &str, words: &Words<'_>) -> (u64, Ask) {
        let first = words.plain.get(1).copied().unwrap_or("");
        let ids = || {
            words.plain[1..]
                .iter()
                .filter(|word| !KEYWORDS.contains(word))
                .map(|word| id(word))
                .collect()
        };
        let client = || self.number(words.option("by").unwrap_or("c"));
        let ask = match verb {
            "credit" => {
                return (
                    self.number(first),
                    Ask::Credit(words.plain[2].parse().expect("a number")),
                );
            }
            "beat" => return (self.number(first), Ask::Heartbeat { memory_bytes: 0 }),
            "bye" => return (self.number(first), Ask::Goodbye),
            "submit" => Ask::Submit(
                ids_of(words)
                    .into_iter()
                    .map(|id| Ok(submission(id, words, self.now.wall)))
                    .collect(),
            ),
            "get" => Ask::Get { ids: ids(), with_results: true },
            "forget" => Ask::Forget(ids()),
            "wait" => Ask::Wait {
                ids: ids(),
                any: words.has("any"),
                until: words.has("started").then_some(State::Started),
                with_results: true,
                timeout_ms: words.span("for").unwrap_or(30_000),
            },
            // By the numbers that `wait` has shown.
            "unwait" => Ask::Unwait(
                ids().iter().map(|id| id.as_str().parse().expect("a request's number")).collect(),
            ),
            "watch" => Ask::Watch { ids: ids(), with_results: true },
            "cancel" => Ask::Cancel {
                target: match (words.option("root"), words.option("tag")) {
                    (Some(root), _) => CancelTarget::Root(root.into()),
                    (_, Some(tag)) => CancelTarget::Tag(tag.into()),
                    _ => CancelTarget::Ids(ids()),
                },
                force: words.has("force"),
                grace_ms: words.span("grace").unwrap_or(10_000),
                reason: words.option("reason").unwrap_or("").into(),
            },
            "queues" => Ask::ListQueues { names: Vec::new(), after: None },
            "configure" => Ask::ConfigureQueue(QueueRecord {
                name: queue(first),
                paused: false,
                tasks_max: words.number("tasks"),
                bytes_max: words.number("bytes"),
                expires_in_ms: words.span("expires"),
                result_ttl_ms: words.span("ttl"),
            }),
            "pause" => Ask::PauseQueues { queues: vec![queue(first)], paused: true },
            "resume" => Ask::PauseQueues { queues: vec![queue(first)], paused: false },
            "purge" => Ask::PurgeQueue { queue: queue(first), delete: false },
            "delete" => Ask::PurgeQueue { queue: queue(first), delete: true },
            "replay" if words.has("all") => Ask::ReplayDead(Dead::Matching(self.filter(words))),
            "replay" => Ask::ReplayDead(Dead::Ids(ids())),
            "discard" if words.has("all") => Ask::DiscardDead(Dead::Matching(self.filter(words))),
            "discard" => Ask::DiscardDead(Dead::Ids(ids())),
            "list" => Ask::ListTasks {
                filter: self.filter(words),
                limit: words.number("limit").unwrap_or(100) as usize,
                after: words.number("cursor").map(|cursor| cursor as u32),
                with_tracebacks: false,
            },
            "workers" => Ask::ListWorkers { after: None, with_tracebacks: false },
            "quiet" => Ask::OrderWorkers { instances: vec![first.into()], order: Order::Quiet },
            "wake" => Ask::OrderWorkers { instances: vec![first.into()], order: Order::Resume },
            "shutdown" => Ask::OrderWorkers { instances: Vec::new(), order: Order::Shutdown },
            verb => return self.report(verb, first, words),
        };
        (client(), ask)
    }

    fn filter(&self, words: &Words<'_>) -> Filter {
        let ago = |key| words.span(key).map(|span_ms| self.now.wall - span_ms as i64);
        Filter {
            queue: words.option("queue").map(queue),
            states: words.list("state").into_iter().map(state).collect(),
            name: words.option("name").map(|name| TaskName::parse(name).expect("a name")),
            tag: words.option("tag").map(Box::from),
            root: words.option("root").map(Box::from),
            id_prefix: words.option("prefix").unwrap_or("").into(),
            submitted_before: ago("older"),
            submitted_after: ago("younger"),
        }
    }

    fn report(&self, verb: &str, task: &str, words: &Words<'_>) -> (u64, Ask) {
        let failure = || Failure { kind: "Oops".into(), ..Failure::default() };
        let kind = match verb {
            "start" => ReportKind::Started,
            "progress" => ReportKind::Progress {
                state: "HALF".into(),
                meta: Bytes::copy_from_slice(words.option("meta").unwrap_or("0.5").as_bytes()),
            },
            "complete" => {
                let bytes = vec![b'x'; words.number("bytes").unwrap_or(2) as usize];
                ReportKind::Complete(Body { bytes: bytes.into(), content_type: "".into() })
            }
            "fail" => ReportKind::Fail { error: failure(), last: words.has("last") },
            "again" => ReportKind::RetryLater { after_ms: words.span("in"), error: failure() },
            "release" => ReportKind::Release { not_begun: words.has("not_begun") },
            "reject" => ReportKind::Reject(failure()),
            verb => panic!("no such command: {verb}"),
        };
        let (lease, holder) = self.leases.get(task).cloned().unwrap_or((0, "c".into()));
        let connection = self.number(words.option("by").unwrap_or(&holder));
        let lease = words.number("lease").unwrap_or(lease);
        (connection, Ask::Report(vec![Ok(TaskReport { id: id(task), lease, kind })]))
    }

    fn say(&mut self, connection: u64, message: Message) -> Vec<String> {
        let who = self.name(connection);
        if let Message::Deliver(deliveries) = message {
            return deliveries
                .into_iter()
                .map(|delivery| self.delivered(&who, &delivery))
                .collect();
        }
        vec![format!("{who}: {}", words_of(message))]
    }

    /// The present submit of a slot, as the store would find it.
    fn submitted(&self, slot: Slot) -> &Submitted {
        let submitted = self.log.iter().rev().find_map(|record| match record {
            Record::Submitted(submitted) if submitted.key.slot == slot => Some(&**submitted),
            _ => None,
        });
        submitted.expect("the machine names only what was submitted")
    }

    fn delivered(&mut self, who: &str, delivery: &Delivery) -> String {
        let Delivery { slot, lease, attempt, deliveries, report_start, .. } = delivery;
        let task = self.submitted(*slot).id.to_string();
        self.leases.insert(task.clone(), (*lease, who.to_owned()));
        let report_start = if *report_start { " report start" } else { "" };
        format!(
            "{who}: deliver {task} lease {lease} attempt {attempt} delivery {deliveries}{report_start}"
        )
    }
}

/// Words of a line that are no ids.
const KEYWORDS: [&str; 4] = ["any", "force", "started", "all"];

/// `a1..a3` stands for three ids.
fn ids_of(words: &Words<'_>) -> Vec<TaskId> {
    let range = |word: &str| {
        let Some((first, last)) = word.split_once("..") else { return vec![id(word)] };
        let stem = first.trim_end_matches(char::is_numeric);
        let number = |text: &str| text[stem.len()..].parse::<u32>().expect("a number");
        (number(first)..=number(last)).map(|each| id(&format!("{stem}{each}"))).collect()
    };
    words.plain[1..].iter().flat_map(|word| range(word)).collect()
}

fn state(text: &str) -> State {
    use State::{Failure, Leased, Queued, Retry, Revoked, Scheduled, Started, Success};
    let all = [Scheduled, Queued, Leased, Started, Retry, Success, Failure, Revoked];
    all.into_iter()
        .find(|state| format!("{state:?}") == text)
        .unwrap_or_else(|| panic!("no such state: {text}"))
}

/// `in` and `expires` are spans, `at` and `until` times of day.
fn submission(id: TaskId, words: &Words<'_>, wall: i64) -> Submission {
    let usual = RetryPolicy::default();
    let when = |span: &str, time: &str| {
        let at = words.span(time).map(|span_ms| When::At(wall + span_ms as i64));
        at.or(words.span(span).map(When::In))
    };
    Submission {
        id,
        name: TaskName::parse(words.option("name").unwrap_or("job")).expect("a name"),
        queue: words.option("queue").map(queue).unwrap_or_default(),
        payload: vec![0; words.number("bytes").unwrap_or(10) as usize].into(),
        content_type: "".into(),
        headers: Vec::new(),
        shadow: "".into(),
        priority: words.number("priority").unwrap_or(4) as u8,
        eta: when("in", "at"),
        expires: when("expires", "until"),
        result_ttl_ms: words.span("ttl"),
        retry: RetryPolicy {
            attempts_max: words
                .number("attempts")
                .map_or(usual.attempts_max, |attempts| attempts as u32),
            backoff: match words.option("backoff") {
                Some("fixed") => Backoff::Fixed,
                Some("polynomial") => Backoff::Polynomial,
                _ => usual.backoff,
            },
            delay_ms: words.span("delay").unwrap_or(usual.delay_ms),
            factor: words.number("factor").map_or(usual.factor, |factor| factor as f64),
            delay_max_ms: words.span("cap").unwrap_or(usual.delay_max_ms),
            jitter: match words.option("jitter") {
                Some("full") => Jitter::Full,
                Some("equal") => Jitter::Equal,
                _ => usual.jitter,
            },
        },
        soft_time_limit_ms: words.span("soft"),
        time_limit_ms: words.span("limit"),
        max_deliveries: words.number("deliveries").map(|count| count as u32),
        on_conflict: match words.option("conflict") {
            Some("reject") => OnConflict::Reject,
            Some("replace") => OnConflict::Replace,
            Some("after") => OnConflict::RunAgainAfter,
            _ => OnConflict::RunAgainIfFinished,
        },
        early_ack: words.option("early_ack").is_some(),
        root_id: words.option("root").unwrap_or("").into(),
        parent_id: words.option("parent").unwrap_or("").into(),
        tags: words.list("tag").into_iter().map(Box::from).collect(),
    }
}

fn words_of(message: Message) -> String {
    match message {
        Message::Welcome { resumed, leases, .. } => {
            format!("welcome {} leases {leases:?}", if resumed { "back" } else { "new" })
        }
        Message::Done { .. } => "done".into(),
        Message::Refused { refusal, .. } => {
            format!("refused {:?}: {}", refusal.code, refusal.message)
        }
        Message::HeartbeatReply { .. } => "heartbeat".into(),
        Message::Submitted { outcomes, .. } => joined(outcomes),
        Message::Reported { outcomes, .. } => joined(outcomes),
        Message::Got { tasks, .. } => views(tasks),
        Message::Waited { satisfied, tasks, .. } => {
            format!("{} {}", if satisfied { "came:" } else { "time over:" }, views(tasks))
        }
        Message::Watching { tasks, .. } => format!("watching {}", views(tasks)),
        Message::Forgot { outcomes, .. } => joined(outcomes),
        Message::Cancelled { outcomes, .. } => joined(outcomes),
        Message::Queues { queues, .. } => {
            let line = |info: crate::command::QueueInfo| {
                let paused = if info.record.paused { " paused" } else { "" };
                format!(
                    "{}: ready {} scheduled {} leased {} dead {}{paused}",
                    info.record.name, info.ready, info.scheduled, info.leased, info.dead
                )
            };
            queues.into_iter().map(line).collect::<Vec<_>>().join("; ")
        }
        Message::Count { count, .. } => format!("count {count}"),
        Message::Page { tasks, next, .. } => format!("page {} next {next:?}", views(tasks)),
        Message::Workers { workers, .. } => {
            let shown = workers.iter().map(|worker| {
                let lost = if worker.lost { " lost" } else { "" };
                format!(
                    "{} runs {:?}{lost}",
                    worker.instance,
                    worker.task_names.iter().map(|name| name.as_str()).collect::<Vec<_>>()
                )
            });
            format!("workers [{}]", shown.collect::<Vec<_>>().join(", "))
        }
        Message::BackedUp { .. } => unreachable!("the store answers it"),
        Message::Signal { leases, kind, reason } => {
            format!("signal {kind:?} leases {leases:?} ({reason})")
        }
        Message::Order(order) => format!("order {order:?}"),
        Message::Transition { task, .. } => format!("sees {}", view(&task)),
        Message::Closing(refusal) => format!("closing {:?}: {}", refusal.code, refusal.message),
        Message::Deliver(_) => unreachable!("told apart before"),
    }
}

fn joined<T: std::fmt::Debug>(items: Vec<T>) -> String {
    items.iter().map(|item| format!("{item:?}")).collect::<Vec<_>>().join(", ")
}

fn views(tasks: Vec<View>) -> String {
    tasks.iter().map(view).collect::<Vec<_>>().join(", ")
}

fn view(view: &View) -> String {
    let Some(task) = &view.task else { return format!("{} unknown", view.id) };
    let waits = match task.waiting_for {
        WaitingFor::Nothing => String::new(),
        waits => format!(" for {waits:?}"),
    };
    format!("{} {:?}{waits} g{} v{}", view.id, task.state, task.generation, task.version)
}
