//! Scripts against the machine. A line is a command, and below it, indented, is the output of the
//! machine. A line may also let time pass.
//!
//! The script keeps records as the store would, so that `restart` builds a new machine from the
//! log.

mod asks;
mod counted;
mod mail;
mod shown;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use celeriac_proto::{QueueName, TaskId, TaskName};
use celeriac_record::{Record, SessionId, Slot, Submitted, Timestamp};

use self::shown::{view, words_of};
use super::words::{DAY_MS, Words, span_ms};
use crate::command::{
    Code, Command, Connect, DeliveryOutline, Effect, Message, Now, Patterns, Refusal, Scope,
    WorkerInfo,
};
use crate::{Effects, Machine, MachineConfig};

pub(super) const LEASE_MS: u64 = 15_000;
const START: i64 = 1_000_000;

pub(super) fn settings() -> MachineConfig {
    MachineConfig {
        lease_ms: LEASE_MS,
        result_ttl_ms: DAY_MS,
        result_bytes_max: 1_000,
        leased_bytes_max: 1_000_000,
        seed: 7,
    }
}

/// Runs the commands of a transcript, and returns them with the present output of the machine.
pub(super) fn run(transcript: &str) -> String {
    let mut scene = Scene::new();
    let mut out = String::new();
    let indent = transcript.len() - transcript.trim_start().len();
    let indent = transcript[..indent].rsplit('\n').next().unwrap_or("");
    let lines = transcript.lines().filter_map(|line| line.strip_prefix(indent));
    for line in lines.filter(|line| !line.starts_with(' ') && !line.is_empty()) {
        writeln!(out, "{line}").expect("a write to a string succeeds");
        for said in scene.line(line) {
            writeln!(out, "    {said}").expect("a write to a string succeeds");
        }
    }
    out
}

pub(super) struct Scene {
    machine: Machine,
    now: Now,
    log: Vec<Record>,
    /// The names of connections, with their latest number and session.
    connections: BTreeMap<String, (u64, SessionId)>,
    names: BTreeMap<u64, String>,
    /// The latest lease of each task, and the connection that got it.
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
            "stored" => vec![self.stored(words.plain[1])],
            "connect" => self.connect(&words),
            "lose" => self.command(Command::Disconnect {
                connection: self.number(words.plain[1]),
                reason: None,
            }),
            "expel" => {
                let reason = Refusal::new(Code::Unauthenticated, "the access has ended");
                self.command(Command::Expel { connection: self.number(words.plain[1]), reason })
            }
            "disk" => self.command(Command::DiskLow(words.has("full"))),
            "ttl" => self.command(Command::ResultTtl(span_ms(words.plain[1]))),
            verb => {
                let mail = mail::ask(verb, &words)
                    .map(|ask| (self.number(words.option("by").unwrap_or("c")), ask));
                let (connection, ask) = mail.unwrap_or_else(|| self.ask(verb, &words));
                self.latest += 1;
                let request = if words.has("unanswered") { 0 } else { self.latest };
                self.command(Command::Request { connection, request, ask })
            }
        }
    }

    fn number(&self, name: &str) -> u64 {
        self.connections.get(name).unwrap_or_else(|| panic!("no connection has the name {name}")).0
    }

    /// Time passes in steps to each deadline, as with the driver.
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

    /// The same, while a worker sends heartbeats. The answers to the heartbeats are not shown.
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
                Effect::Drop(_) | Effect::Backup { .. } | Effect::WorkerLost(_) => {}
                Effect::Forbade(connection, what) => {
                    said.push(format!("{}: audit: {what:?}", self.name(connection)));
                }
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

    /// The stored changes, from the first on.
    fn records(&self) -> String {
        let changes = self.log.iter().filter_map(|record| match record {
            Record::Changed(changed) => Some(format!(
                "{} {:?} v{}",
                self.submitted(changed.key.slot).spec.id,
                changed.state,
                changed.version
            )),
            _ => None,
        });
        changes.collect::<Vec<_>>().join(", ")
    }

    /// The latest stored change of the task of an id, with what clients reported or put.
    fn stored(&self, id: &str) -> String {
        let of_id = |slot: Slot| self.submitted(slot).spec.id.as_str() == id;
        let changed = self.log.iter().rev().find_map(|record| match record {
            Record::Changed(changed) if of_id(changed.key.slot) => Some(&**changed),
            _ => None,
        });
        let Some(changed) = changed else { return "nothing".into() };
        let mut shown = format!("{:?} v{}", changed.state, changed.version);
        let mut tell = |part: String| shown.push_str(&part);
        tell(format!(" as {}", self.submitted(changed.key.slot).spec.name));
        changed.progress.iter().for_each(|progress| {
            tell(format!(", {} {} bytes", progress.state, progress.meta.len()));
        });
        changed.errors.iter().for_each(|error| {
            tell(format!(", error {}", error.message));
            // Of an attempt: its worker, and how long before the error it was handed out and began.
            let before = |at: Option<Timestamp>| at.map(|at| format!(" {} ms", error.at - at));
            if !error.worker.is_empty() {
                let times = [before(error.leased_at), before(error.started_at)];
                tell(format!(
                    " of {}{}",
                    error.worker,
                    times.into_iter().flatten().collect::<String>()
                ));
            }
        });
        changed.result.iter().for_each(|body| tell(format!(", result {}", body.bytes.len())));
        if !changed.revoked_reason.is_empty() {
            tell(format!(", because {}", changed.revoked_reason));
        }
        if let Some(at) = changed.cancel_at {
            tell(format!(", asked {} ms ago", changed.at - at));
        }
        shown
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
        // `steals` resumes the session of another connection.
        let known = words.has("resume").then_some(name).or(words.option("steals"));
        let resume = known.map(|known| self.connections[known].1);
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
            any_name: words.has("any"),
            keeps_leases: words.has("keeps"),
        });
        self.connections.insert(name.into(), (connection, resume.unwrap_or(session_id)));
        self.names.insert(connection, name.into());
        // `sees` and `names` have the patterns of the scope.
        let patterns = |key: &str| match words.option(key) {
            Some(_) => Patterns::of(words.list(key)),
            None => Patterns::All,
        };
        let scope = Scope::of(patterns("sees"), patterns("names")).map(Arc::new);
        let (instance, request) = (name.into(), 1);
        let entry = words.option("entry").map(Arc::from);
        let connect =
            Connect { connection, request, session_id, resume, instance, worker, entry, scope };
        self.command(Command::Connect(Box::new(connect)))
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

    /// The present submit of a slot, as in the store.
    fn submitted(&self, slot: Slot) -> &Submitted {
        let submitted = self.log.iter().rev().find_map(|record| match record {
            Record::Submitted(submitted) if submitted.key.slot == slot => Some(&**submitted),
            _ => None,
        });
        submitted.expect("the machine names only submitted tasks")
    }

    fn delivered(&mut self, who: &str, delivery: &DeliveryOutline) -> String {
        let DeliveryOutline {
            slot,
            lease,
            attempt,
            deliveries,
            report_start,
            redelivered,
            revoked_reason,
        } = delivery;
        let task = self.submitted(*slot).spec.id.to_string();
        self.leases.insert(task.clone(), (*lease, who.to_owned()));
        let report_start = if *report_start { " report start" } else { "" };
        let again = if *redelivered { " again" } else { "" };
        let off = revoked_reason.as_ref().map(|reason| format!(" called off ({reason})"));
        let off = off.unwrap_or_default();
        format!(
            "{who}: deliver {task} lease {lease} attempt {attempt} delivery {deliveries}{report_start}{again}{off}"
        )
    }
}
