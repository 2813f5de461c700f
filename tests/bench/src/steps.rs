//! The longest step of the machine, for each kind of request that looks at many tasks. While the
//! machine makes a step, no client is served. This drives the machine alone, without sockets,
//! records on a disk, or another load.
//!
//! A step is one command or one tick. The time of what the rest of the broker does with the
//! effects does not count. The times are those of the processor: on a busy machine the step would
//! take longer, and that says nothing about the machine.

use std::time::Duration;

use anyhow::{Result, ensure};
use celeriac_machine::command::{
    Answer, Ask, CancelMode, CancelTarget, Command, Connect, ConnectionKey, Cursor, Dead, Effect,
    Failure, Filter, Message, Now, OnConflict, Operate, Outlines, Produce, ReportKind, Submission,
    TaskReport, When, Work, WorkerInfo,
};
use celeriac_machine::{Effects, Machine, MachineConfig};
use celeriac_proto::{QueueName, TaskId, TaskName};
use celeriac_record::{State, TaskSpec};
use rustix::time::{ClockId, clock_gettime};

use crate::table::Table;

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;
const LEASE_MS: u64 = 15_000;
const START: Now = Now { wall: 1_700_000_000_000, mono: 0 };
/// Tasks of one submit.
const BATCH: u64 = 500;
/// One task of so many has tags and a root.
const TAGGED: u64 = 10;
/// One task of so many has the rare tag and root.
const RARE: u64 = 10_000;
/// Tasks that fail for good before dead tasks are listed, replayed and discarded.
const DEAD: u64 = 20_000;
const QUEUES: u64 = 10;
/// The leases of the worker at once.
const CREDIT: u32 = 500;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Tasks in the table.
    #[arg(long, default_value_t = 1_000_000)]
    tasks: u64,
}

pub(crate) fn run(options: &Options) -> Result<Table> {
    let measured = measure(options.tasks)?;
    let mut table = Table::default();
    table.row("tasks", options.tasks, "");
    for Measured { what, steps, longest, all } in &measured {
        table.row(format!("{what}: longest step"), longest.as_secs_f64() * 1e3, "ms");
        table.row(format!("{what}: {steps} steps"), all.as_secs_f64() * 1e3, "ms");
    }
    let longest = measured.iter().map(|measured| measured.longest).max().unwrap_or_default();
    table.row("longest step of all", longest.as_secs_f64() * 1e3, "ms");
    Ok(table)
}

/// The steps of one request, from the request to its answer.
#[derive(Debug)]
pub(crate) struct Measured {
    pub what: &'static str,
    pub steps: usize,
    pub longest: Duration,
    pub all: Duration,
}

/// Measures every kind of request with so many tasks in the table.
pub(crate) fn measure(tasks: u64) -> Result<Vec<Measured>> {
    ensure!(tasks >= RARE, "the rare filters need at least {RARE} tasks");
    let mut rig = Rig::new();
    rig.fill(tasks);
    rig.list_all()?;
    rig.cancel_and_serve(tasks)?;
    rig.settle_dead()?;
    rig.let_time_pass(tasks);
    rig.purge_all()?;
    Ok(rig.measured)
}

struct Rig {
    machine: Machine,
    now: Now,
    effects: Effects,
    request: u64,
    measured: Vec<Measured>,
    /// Leases that the worker has, with the slots of their tasks.
    leases: Vec<(u64, u32)>,
}

/// The client, and the worker.
const CLIENT: ConnectionKey = 1;
const WORKER: ConnectionKey = 2;

impl Rig {
    fn new() -> Self {
        let config = MachineConfig {
            lease_ms: LEASE_MS,
            result_ttl_ms: DAY_MS,
            result_bytes_max: 1 << 20,
            leased_bytes_max: u64::MAX,
            seed: 1,
        };
        let mut rig = Self {
            machine: Machine::new(config),
            now: START,
            effects: Effects::default(),
            request: 0,
            measured: Vec::new(),
            leases: Vec::new(),
        };
        rig.connect(CLIENT, None);
        rig
    }

    fn connect(&mut self, connection: ConnectionKey, worker: Option<WorkerInfo>) {
        let session_id = u128::from(connection).to_be_bytes();
        let instance = "bench".into();
        let connect = Connect {
            connection,
            request: 1,
            session_id,
            resume: None,
            instance,
            worker,
            entry: None,
            scope: None,
        };
        self.step(|machine, now, fx| {
            machine.apply(now, Command::Connect(Box::new(connect)), fx);
        });
        self.take_effects();
    }

    /// Makes one step and returns its time.
    fn step(&mut self, step: impl FnOnce(&mut Machine, Now, &mut Effects)) -> Duration {
        let begun = processor_time();
        step(&mut self.machine, self.now, &mut self.effects);
        processor_time() - begun
    }

    /// The answers of the steps since the last call.
    fn take_effects(&mut self) -> Vec<Message> {
        let mut answers = Vec::new();
        for effect in self.effects.list.drain(..) {
            match effect {
                Effect::Send(WORKER, Message::Deliver(deliveries)) => {
                    let leases = deliveries.iter().map(|lease| (lease.lease, lease.slot));
                    self.leases.extend(leases);
                }
                Effect::Send(CLIENT, message) => answers.push(message),
                _ => {}
            }
        }
        answers
    }

    fn request(&mut self, connection: ConnectionKey, ask: Ask) -> Duration {
        self.request += 1;
        let request = self.request;
        self.step(|machine, now, fx| {
            machine.apply(now, Command::Request { connection, request, ask }, fx);
        })
    }

    /// Sends a request, and ticks until the machine has nothing left to do at once.
    fn measure(&mut self, what: &'static str, ask: Ask) -> Vec<Message> {
        let first = self.request(CLIENT, ask);
        self.measure_ticks(what, Some(first))
    }

    /// Ticks until the machine has nothing left to do at once.
    fn measure_ticks(&mut self, what: &'static str, first: Option<Duration>) -> Vec<Message> {
        let (mut times, mut answers) = (Vec::from_iter(first), self.take_effects());
        while times.len() <= 1 || self.is_due() {
            times.push(self.step(|machine, now, fx| machine.tick(now, fx)));
            answers.extend(self.take_effects());
        }
        self.measured.push(Measured {
            what,
            steps: times.len(),
            longest: times.iter().max().copied().unwrap_or_default(),
            all: times.iter().sum(),
        });
        answers
    }

    fn is_due(&self) -> bool {
        let (wall, mono) = self.machine.next_deadline();
        wall.is_some_and(|at| at <= self.now.wall) || mono.is_some_and(|at| at <= self.now.mono)
    }

    fn pass(&mut self, span_ms: u64) {
        self.now.wall += span_ms as i64;
        self.now.mono += span_ms;
    }

    fn fill(&mut self, tasks: u64) {
        let mut times = Vec::new();
        for first in (0..tasks).step_by(BATCH as usize) {
            let batch = first..tasks.min(first + BATCH);
            let batch = batch.map(|number| Ok(task(number, tasks))).collect();
            times.push(self.request(CLIENT, Ask::Produce(Produce::Submit(batch))));
            self.take_effects();
            times.push(self.step(|machine, now, fx| machine.tick(now, fx)));
            self.take_effects();
        }
        self.measured.push(Measured {
            what: "submits of 500",
            steps: times.len(),
            longest: times.iter().max().copied().unwrap_or_default(),
            all: times.iter().sum(),
        });
    }

    fn list_all(&mut self) -> Result<()> {
        let any = Filter::default;
        let tag = |tag: &str| Filter { tag: Some(tag.into()), ..any() };
        let filters = [
            ("list, no filter", any()),
            ("list by rare tag", tag("rare")),
            ("list by tag, none", tag("none")),
            ("list by rare root", Filter { root: Some("rare".into()), ..any() }),
            ("list by name, rare", Filter { name: Some(name("bench.rare")), ..any() }),
            ("list by start of the id, none", Filter { id_prefix: "none".into(), ..any() }),
            ("list of the dead, none", Filter { states: vec![State::Failure], ..any() }),
        ];
        for (what, filter) in filters {
            self.measure_list(what, filter, false)?;
        }
        self.measure_list("list, newest first", any(), true)?;
        self.measure("list of the queues", list_queues());
        self.measure("figures of the broker", Ask::Operate(Operate::Info));
        self.measure(
            "counters of the queues",
            Ask::Operate(Operate::Stats { names: Vec::new(), after: None }),
        );
        Ok(())
    }

    fn measure_list(&mut self, what: &'static str, filter: Filter, newest: bool) -> Result<usize> {
        let answers = self.measure(what, list(filter, newest, None));
        let found = answers.iter().find_map(|answer| match answer {
            Message::Show(_, Outlines::Page(page)) => Some(page.tasks.len()),
            _ => None,
        });
        ensure!(found.is_some(), "{what}: there is no page");
        Ok(found.unwrap_or_default())
    }

    /// Cancels, and then takes a task from a line out of which very many have gone.
    fn cancel_and_serve(&mut self, tasks: u64) -> Result<()> {
        self.measure("cancel by rare root", cancel(CancelTarget::Root("rare".into())));
        self.measure("cancel by tag, none", cancel(CancelTarget::Tag("none".into())));
        let answers = self.measure("cancel by tag, many", cancel(CancelTarget::Tag("many".into())));
        let cancelled = answers.iter().any(|answer| match answer {
            Message::Answer(_, Answer::Cancelled(outcomes)) => !outcomes.is_empty(),
            _ => false,
        });
        ensure!(cancelled, "nothing was cancelled");
        // Half of the tasks of this queue are gone, and they stood in front of all others.
        self.measure("list of the queues, after it", list_queues());
        self.connect(WORKER, Some(worker()));
        self.request(WORKER, Ask::Work(Work::Credit(CREDIT)));
        self.measure_ticks("first deliveries, after it", None);
        ensure!(self.leases.len() as u64 >= u64::from(CREDIT).min(tasks / 4), "nothing delivered");
        Ok(())
    }

    fn settle_dead(&mut self) -> Result<()> {
        let mut failed = 0;
        while failed < DEAD && !self.leases.is_empty() {
            let leases = std::mem::take(&mut self.leases);
            failed += leases.len() as u64;
            let ids = self.ids(&leases);
            let reports = ids.into_iter().zip(leases).map(|(id, (lease, _))| {
                Ok(TaskReport { id, lease, kind: ReportKind::Reject(Failure::default()) })
            });
            let reports = reports.collect();
            self.request(WORKER, Ask::Work(Work::Report(reports)));
            self.step(|machine, now, fx| machine.tick(now, fx));
            self.take_effects();
        }
        self.request(WORKER, Ask::Work(Work::Credit(0)));
        let dead = || Filter { states: vec![State::Failure], ..Filter::default() };
        let found = self.measure_list("list of the dead", dead(), false)?;
        ensure!(found == 100, "{found} dead tasks on the page");
        let rare = || Filter { tag: Some("rare".into()), ..Filter::default() };
        let ask = Ask::Operate(Operate::ReplayDead(Dead::Matching(rare())));
        self.measure("replay by tag, rare", ask);
        let of_queue = Filter { queue: Some(queue(3)), ..Filter::default() };
        let ask = Ask::Operate(Operate::ReplayDead(Dead::Matching(of_queue)));
        self.measure("replay by queue", ask);
        let ask = Ask::Operate(Operate::DiscardDead(Dead::Matching(Filter::default())));
        self.measure("discard of all dead", ask);
        Ok(())
    }

    /// The ids of the tasks with these leases.
    fn ids(&mut self, leases: &[(u64, u32)]) -> Vec<TaskId> {
        // Slots are given out in their order, and this rig frees none before it asks.
        leases.iter().map(|(_, slot)| id(u64::from(*slot))).collect()
    }

    fn let_time_pass(&mut self, tasks: u64) {
        // Heartbeats would only add steps: the worker's session may end.
        self.pass(2 * HOUR_MS);
        self.measure_ticks("tasks that are due at one moment", None);
        let soon =
            |number: u64| Submission { expires: Some(When::In(HOUR_MS)), ..task(number, u64::MAX) };
        for first in (0..tasks / 4).step_by(BATCH as usize) {
            let batch = first..first + BATCH;
            let batch = batch.map(|number| Ok(soon(u64::MAX / 2 + number))).collect();
            self.request(CLIENT, Ask::Produce(Produce::Submit(batch)));
            self.take_effects();
        }
        self.pass(2 * HOUR_MS);
        self.measure_ticks("tasks that expire at one moment", None);
        self.pass(2 * DAY_MS);
        self.measure_ticks("tasks that are forgotten", None);
    }

    fn purge_all(&mut self) -> Result<()> {
        for number in 0..QUEUES {
            let what = if number == 0 { "purge of a queue" } else { "purge of another queue" };
            let delete = number % 2 == 1;
            let ask = Ask::Operate(Operate::PurgeQueue { queue: queue(number), delete });
            if number < 2 {
                self.measure(what, ask);
            } else {
                self.request(CLIENT, ask);
            }
        }
        self.measure_ticks("eight purges at once", None);
        Ok(())
    }
}

/// The time that this thread has used the processor.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn id(number: u64) -> TaskId {
    TaskId::parse(format!("task-{number:012}")).expect("the text is an id")
}

fn name(text: &str) -> TaskName {
    TaskName::parse(text).expect("the text is a name")
}

fn queue(number: u64) -> QueueName {
    let text = if number == 0 { "first".to_owned() } else { format!("queue-{number}") };
    QueueName::parse(text).expect("the text is a name")
}

/// A task of so many. The queue `first` has the first half of all tasks in one block, of which half
/// are cancelled.
fn task(number: u64, tasks: u64) -> Submission {
    let is_tagged = number.is_multiple_of(TAGGED);
    let is_rare = number.is_multiple_of(RARE);
    let in_block = number < tasks / 2;
    let mut tags: Vec<Box<str>> = Vec::new();
    tags.extend(is_tagged.then(|| format!("tag-{}", number % 100).into()));
    tags.extend(is_rare.then(|| "rare".into()));
    tags.extend((number < tasks / 4).then(|| "many".into()));
    let title = name(if is_rare { "bench.rare" } else { "bench.task" });
    // The rare tasks are ready. Some others are all due at one moment.
    let is_scheduled = !in_block && number % TAGGED == 7;
    Submission {
        eta: is_scheduled.then_some(When::In(HOUR_MS)),
        expires: None,
        result_ttl_ms: None,
        on_conflict: OnConflict::RunAgainIfFinished,
        spec: TaskSpec {
            queue: if in_block { queue(0) } else { queue(1 + number % (QUEUES - 1)) },
            root_id: if is_rare { "rare".into() } else { "".into() },
            tags,
            ..TaskSpec::new(id(number), title)
        },
    }
}

fn worker() -> WorkerInfo {
    WorkerInfo {
        queues: (0..QUEUES).map(|number| (queue(number), 1)).collect(),
        any_name: true,
        concurrency: CREDIT,
        ..WorkerInfo::default()
    }
}

fn list(filter: Filter, newest_first: bool, after: Option<Cursor>) -> Ask {
    let (limit, just_ended, with_tracebacks) = (100, false, false);
    Ask::Operate(Operate::ListTasks {
        filter,
        limit,
        newest_first,
        just_ended,
        after,
        with_tracebacks,
    })
}

fn list_queues() -> Ask {
    Ask::Operate(Operate::ListQueues { names: Vec::new(), after: None })
}

fn cancel(target: CancelTarget) -> Ask {
    let (mode, reason) = (CancelMode::Cooperative, "".into());
    Ask::Produce(Produce::Cancel { target, mode, grace_ms: 0, reason })
}
