//! The machine: what a task queue is, as a pure and deterministic state machine.
//!
//! Commands and the time go in, effects come out. It reads no clock, does no I/O, has no lock and
//! no randomness, and iterates over nothing whose order is not its own: the same commands at the
//! same times give the same effects. It can refuse, it cannot fail. It is the index of the store,
//! built again from the records at each start.

#![allow(missing_docs, reason = "a field whose name says it all has no comment")]

mod admin;
mod balance;
mod cancel;
pub mod command;
mod dead;
mod dispatch;
mod id;
mod invariants;
mod limits;
mod line;
mod look;
mod names;
mod pages;
mod queue;
mod queues;
mod rate;
mod report;
mod restore;
mod retry;
mod scan;
mod sessions;
mod signals;
mod submit;
mod successors;
mod suspects;
mod table;
mod task;
#[cfg(test)]
mod tests;
mod timers;
mod transitions;
mod watch;

use celeriac_record::{Actor, Lease, Timestamp};

use cancel::Cancelling;
use command::{
    Ask, Code, Command, ConnectionKey, Effect, Message, Monotonic, Now, Refusal, RequestId,
    SubmitOutcome, WrongReport,
};
use dead::Fate;
use look::PageAsked;
use names::Names;
use queues::Queues;
use restore::Restoring;
use scan::Scans;
use sessions::{SessionKey, Sessions};
use successors::Successors;
use table::Tasks;
use task::Plan;
use timers::{Clocks, MonoTimer, Timers};
use watch::{WaitFor, Watchers};

/// What the machine is told of the broker's configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    /// A session silent for this long loses its leases.
    pub lease_ms: u64,
    /// How long an ended task is kept that does not say it.
    pub result_ttl_ms: u64,
    pub result_bytes_max: usize,
    /// Payloads leased to one session at once; one task may be larger.
    pub leased_bytes_max: u64,
    /// For jitter and for the table of ids.
    pub seed: u64,
}

/// The effects of one or more commands, in order.
#[derive(Debug, Default)]
pub struct Effects {
    pub list: Vec<Effect>,
}

impl Effects {
    fn push(&mut self, effect: Effect) {
        self.list.push(effect);
    }

    fn send(&mut self, connection: ConnectionKey, message: Message) {
        self.list.push(Effect::Send(connection, message));
    }
}

/// All tasks, queues and sessions of the broker.
#[derive(Debug)]
pub struct Machine {
    settings: Settings,
    tasks: Tasks,
    queues: Queues,
    names: Names,
    sessions: Sessions,
    watchers: Watchers,
    timers: Timers,
    successors: Successors,
    usual_plan: Plan,
    restoring: Restoring,
    latest_serial: u64,
    latest_order: u64,
    latest_lease: Lease,
    disk_is_low: bool,
    /// On whose behalf tasks change at this moment.
    actor: Actor,
    /// What the clocks of tasks show at this moment.
    clocks: Clocks,
    /// What the steady clock shows beyond the monotonic one: fixed at the first moment.
    steady_offset: Option<Timestamp>,
    /// Somebody has set the wall clock since then.
    clock_was_set: bool,
    /// When the balance between workers is looked at next.
    balance_at: Option<Monotonic>,
    scans: Scans,
}

/// So far apart the wall clock and the steady one come by themselves, or by a clock that is kept
/// right in small steps.
const CLOCK_DRIFT_MS: u64 = 100;

/// Timers of tasks that one tick handles: some milliseconds. The rest follows at once.
const TIMERS_PER_TICK: usize = 10_000;

impl Machine {
    /// A machine without tasks.
    pub fn new(settings: Settings) -> Self {
        Self {
            tasks: Tasks::new(settings.seed),
            usual_plan: Plan::usual(settings.result_ttl_ms),
            settings,
            queues: Queues::default(),
            names: Names::default(),
            sessions: Sessions::default(),
            watchers: Watchers::default(),
            timers: Timers::default(),
            successors: Successors::default(),
            restoring: Restoring::default(),
            latest_serial: 0,
            latest_order: 0,
            latest_lease: 0,
            disk_is_low: false,
            actor: Actor::Broker,
            clocks: Clocks::default(),
            steady_offset: None,
            clock_was_set: false,
            balance_at: None,
            scans: Scans::default(),
        }
    }

    /// How many tasks there are, ended ones included.
    pub fn tasks(&self) -> usize {
        self.tasks.len()
    }

    /// Takes note of the time.
    fn set_clocks(&mut self, now: Now) {
        self.queues.second = now.mono / 1_000;
        let mono = now.mono as Timestamp;
        let offset = *self.steady_offset.get_or_insert(now.wall.saturating_sub(mono));
        self.clocks = Clocks { wall: now.wall, steady: offset.saturating_add(mono) };
        self.clock_was_set |= self.clocks.wall.abs_diff(self.clocks.steady) > CLOCK_DRIFT_MS;
    }

    /// Carries out one command. Deliveries follow with the next [`Machine::tick`].
    pub fn apply(&mut self, now: Now, command: Command, fx: &mut Effects) {
        self.set_clocks(now);
        match command {
            Command::Connect(connect) => self.connect(now, *connect, fx),
            Command::Disconnect { connection, reason } => self.disconnect(connection, reason, fx),
            Command::Request { connection, request, ask } => {
                self.request(now, connection, request, ask, fx)
            }
            Command::Heard(connection) => self.heard(now, connection, fx),
            Command::Alive(connection) => self.alive(now, connection),
            Command::DiskLow(low) => self.disk_is_low = low,
            Command::Shutdown => self.close_all(fx),
        }
        self.advance_successors(now, fx);
        self.queues.sweep();
    }

    /// Does what is due, and hands out what can be handed out.
    pub fn tick(&mut self, now: Now, fx: &mut Effects) {
        self.set_clocks(now);
        while let Some(timer) = self.timers.pop_mono(now.mono) {
            match timer {
                MonoTimer::Session(key) => self.session_timer(now, key, fx),
                MonoTimer::Wait(key) => self.wait_timer(key, fx),
                MonoTimer::SoftTimeLimit(slot, lease) => self.soft_limit_timer(slot, lease, fx),
                MonoTimer::TimeLimit(slot, lease) => self.limit_timer(now, slot, lease, fx),
                MonoTimer::CancelGrace(slot, lease) => {
                    self.cancel_grace_timer(now, slot, lease, fx)
                }
                MonoTimer::Balance => self.balance_timer(now, fx),
            }
        }
        for _ in 0..TIMERS_PER_TICK {
            let Some(timer) = self.timers.pop(self.clocks) else { break };
            self.task_timer(now, timer, fx);
        }
        self.compact_timers();
        self.continue_scans(now, fx);
        self.advance_successors(now, fx);
        self.dispatch(now, fx);
        self.queues.sweep();
    }

    /// When [`Machine::tick`] has something to do next, on either clock.
    pub fn next_deadline(&self) -> (Option<Timestamp>, Option<Monotonic>) {
        // What is under way goes on at once.
        let next_mono = if self.scans.is_empty() { self.timers.next_mono() } else { Some(0) };
        let offset = self.steady_offset.unwrap_or(0);
        let next_steady =
            self.timers.next_steady().map(|at| at.saturating_sub(offset).max(0) as Monotonic);
        (self.timers.next_wall(), next_mono.into_iter().chain(next_steady).min())
    }

    fn request(
        &mut self,
        now: Now,
        connection: ConnectionKey,
        request: RequestId,
        ask: Ask,
        fx: &mut Effects,
    ) {
        let Some(session) = self.sessions.of(connection) else {
            // Its session has ended, and it was told so: the connection is about to close.
            return;
        };
        self.touch(now, session);
        if let Some(ask) = self.ask_for_now(connection, request, ask) {
            self.carry_out(now, connection, session, request, ask, fx);
        }
    }

    /// Does what is asked, or begins to.
    fn carry_out(
        &mut self,
        now: Now,
        connection: ConnectionKey,
        session: SessionKey,
        request: RequestId,
        ask: Ask,
        fx: &mut Effects,
    ) {
        self.actor = match &ask {
            Ask::Report(_) | Ask::Goodbye => Actor::Worker,
            _ => Actor::Client(self.sessions.session(session).instance.clone()),
        };
        match ask {
            Ask::Goodbye => self.goodbye(now, connection, request, fx),
            Ask::Wait { ids, .. } if !self.may_wait(session, ids.len()) => {
                let refusal = Refusal::new(
                    Code::Overloaded,
                    "this connection waits for as many ids as it may",
                );
                fx.send(connection, refused(request, refusal));
            }
            Ask::Wait { ids, any, until, with_results, timeout_ms } => {
                let wait = WaitFor { ids, any, until, with_results, timeout_ms };
                self.wait(now, connection, session, request, wait, fx);
            }
            Ask::Watch { ids, with_results } if self.may_watch(session, ids.len()) => {
                self.watch(connection, session, request, ids, with_results, fx);
            }
            Ask::Watch { .. } => {
                let refusal =
                    Refusal::new(Code::Overloaded, "this connection watches as many ids as it may");
                fx.send(connection, refused(request, refusal));
            }
            Ask::PurgeQueue { queue, delete } => {
                self.begin_purge(now, connection, request, queue, delete, fx)
            }
            Ask::PauseQueues { queues, paused } => {
                self.begin_pause(now, connection, request, queues, paused, fx)
            }
            Ask::ReplayDead(which) => {
                self.settle_dead(now, connection, request, which, Fate::Replay, fx)
            }
            Ask::DiscardDead(which) => {
                self.settle_dead(now, connection, request, which, Fate::Discard, fx)
            }
            Ask::ListTasks { filter, limit, after, with_tracebacks } => {
                let asked = PageAsked { filter, limit, after, with_tracebacks };
                self.list_tasks(now, connection, request, asked, fx);
            }
            Ask::Cancel { target, force, grace_ms, reason } => {
                self.cancel(
                    now,
                    connection,
                    request,
                    target,
                    Cancelling::new(force, grace_ms, reason),
                    fx,
                );
            }
            Ask::Backup(folder) => {
                let tasks = self.tasks() as u64;
                fx.push(Effect::Backup { connection, request, folder, tasks });
            }
            ask => {
                let message = self.answer(now, session, request, ask, fx);
                fx.send(connection, message);
            }
        }
        self.actor = Actor::Broker;
    }

    /// The requests that are answered at once.
    fn answer(
        &mut self,
        now: Now,
        session: SessionKey,
        request: RequestId,
        ask: Ask,
        fx: &mut Effects,
    ) -> Message {
        match ask {
            Ask::Refuse(refusal) => refused(request, refusal),
            Ask::Heartbeat { memory_bytes } => {
                self.sessions.session_mut(session).memory_bytes = memory_bytes;
                Message::HeartbeatReply { request, wall: now.wall }
            }
            Ask::Submit(tasks) => {
                let outcome = |task| match task {
                    Ok(submission) => self.submit(now, submission, fx),
                    Err(refusal) => SubmitOutcome::Refused(refusal),
                };
                Message::Submitted { request, outcomes: tasks.into_iter().map(outcome).collect() }
            }
            Ask::Credit(credit) => {
                self.set_credit(session, credit);
                Message::Done { request }
            }
            Ask::Report(reports) => {
                let outcome = |report| match report {
                    Ok(report) => self.report(now, session, report, fx),
                    Err(WrongReport(id)) => {
                        let slot = id.and_then(|id| self.tasks.find(&id));
                        Err((Code::InvalidArgument, slot.map(|slot| self.tasks.task(slot).state)))
                    }
                };
                let outcomes = reports.into_iter().map(outcome).collect();
                Message::Reported { request, outcomes }
            }
            Ask::Get { ids, with_results } => Message::Got {
                request,
                tasks: self.views(&ids, with_results),
                left_out: Vec::new(),
            },
            Ask::Unwatch { watch } => match self.unwatch(session, watch) {
                true => Message::Done { request },
                false => refused(request, Refusal::new(Code::NotFound, "there is no such watch")),
            },
            Ask::Unwait(waits) => {
                waits.into_iter().for_each(|wait| self.unwait(session, wait, fx));
                Message::Done { request }
            }
            Ask::Forget(ids) => {
                let outcomes = ids.iter().map(|id| self.forget_ended(id, fx)).collect();
                Message::Forgot { request, outcomes }
            }
            ask => self.administer(now, request, ask, fx),
        }
    }

    /// The requests of operators.
    fn administer(&mut self, now: Now, request: RequestId, ask: Ask, fx: &mut Effects) -> Message {
        let counted = |count: u64| Message::Count { request, count };
        match ask {
            Ask::ListQueues { names, after } => {
                let (queues, next) = self.list_queues(names, after);
                Message::Queues { request, queues, next, wall: now.wall }
            }
            Ask::ConfigureQueue(record) => match self.queues.room_for([&record.name]) {
                Ok(()) => {
                    self.configure_queue(record, fx);
                    Message::Done { request }
                }
                Err(refusal) => refused(request, refusal),
            },
            Ask::ListWorkers { after, with_tracebacks } => {
                let (workers, next) = self.list_workers(now, after, with_tracebacks);
                Message::Workers { request, workers, next }
            }
            Ask::OrderWorkers { instances, order } => {
                counted(self.order_workers(&instances, order, fx))
            }
            ask => unreachable!("{ask:?} is answered elsewhere"),
        }
    }

    fn forget_ended(&mut self, id: &str, fx: &mut Effects) -> Result<(), Code> {
        let slot = self.tasks.find(id).ok_or(Code::NotFound)?;
        if !self.tasks.task(slot).state.is_terminal() {
            return Err(Code::NotFinished);
        }
        self.forget(slot, fx);
        Ok(())
    }
}

fn refused(request: RequestId, refusal: Refusal) -> Message {
    Message::Refused { request, refusal }
}
