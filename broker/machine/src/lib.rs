//! The machine: a task queue as a pure and deterministic state machine.
//!
//! The machine takes commands and the time, and gives effects. It reads no clock, does no I/O, has
//! no lock and no randomness, and iterates only over collections with a fixed order: the same
//! commands at the same times give the same effects. The machine can refuse a request, but it
//! cannot fail. It is the index of the store: each start of the broker builds it again from the
//! records.
//!
//! # Where things are
//!
//! The lower modules hold data and do not know each other's fields: `keys` (the keys by which they
//! name each other), `clocks`, `names`, `chord`, `task`, `queue`, `consumer`, `session`, `timers`,
//! `mailbox`, `exchange`. The upper modules change that data: `requests` finds the function for a
//! request; `submit`, `conflicts`, `report`, `outcome`, `gather`, `cancel`, `operate`, `declare`,
//! `dead`, `look` and `stats` carry requests out, and `scan` carries out requests that look at many
//! tasks; `routes`, `mail` and `mail_look` carry out the requests about exchanges and mailboxes;
//! `lease` grants, checks and ends leases; `announce` calls off tasks whose end a worker announces;
//! `connect` and `consume` keep sessions and consumers; `observe` informs clients that wait or
//! watch; `dispatch` and `balance` deliver tasks to workers; `limits` handles timers of tasks;
//! `transitions` is the only place where a task changes its state; `restore` builds the tables from
//! the records. [`command`] has the types that the rest of the broker uses.

#![allow(missing_docs, reason = "a field whose name says it all has no comment")]

mod announce;
mod balance;
mod cancel;
mod chord;
mod clocks;
pub mod command;
mod conflicts;
mod connect;
mod consume;
mod consumer;
mod dead;
mod declare;
mod dispatch;
mod ends;
mod exchange;
mod gather;
mod invariants;
mod keys;
mod lease;
mod limits;
mod listing;
mod look;
mod mail;
mod mail_look;
mod mailbox;
mod names;
mod observe;
mod operate;
mod ordered;
mod outcome;
mod queue;
mod report;
mod requests;
mod restore;
mod retry;
mod routes;
mod scan;
mod seen;
mod session;
mod signals;
mod slice;
mod stats;
mod step;
mod submit;
mod successors;
mod suspects;
mod task;
#[cfg(test)]
mod tests;
mod timers;
mod transitions;

use celeriac_record::{Lease, Timestamp};

use self::chord::Chords;
use self::clocks::Clocks;
use self::command::{Command, Monotonic, Now};
use self::ends::Ends;
use self::exchange::Exchanges;
use self::keys::QueueKey;
use self::mailbox::Mailboxes;
use self::names::Names;
use self::observe::Observers;
use self::queue::{Arrivals, Queues};
use self::restore::Restoring;
use self::scan::Scans;
use self::session::Sessions;
pub use self::step::Effects;
use self::step::{Asker, Step};
use self::successors::Successors;
use self::task::{Plan, Tasks};
use self::timers::{MonoTimer, Timers};

/// The part of the broker's configuration that the machine needs.
#[derive(Debug, Clone)]
pub struct MachineConfig {
    /// A session that is silent for this long loses its leases.
    pub lease_ms: u64,
    /// How long the broker keeps an ended task if neither the task nor its queue sets a time.
    pub result_ttl_ms: u64,
    pub result_bytes_max: usize,
    /// The most payload bytes leased to one session at once; one task alone may be larger.
    pub leased_bytes_max: u64,
    /// The seed for jitter and for the table of ids.
    pub seed: u64,
}

/// All tasks, queues and sessions of the broker.
#[derive(Debug)]
pub struct Machine {
    config: MachineConfig,
    tasks: Tasks,
    queues: Queues,
    arrivals: Arrivals,
    names: Names,
    sessions: Sessions,
    observers: Observers,
    timers: Timers,
    successors: Successors,
    ends: Ends,
    chords: Chords,
    usual_plan: Plan,
    restoring: Restoring,
    latest_serial: u64,
    latest_order: u64,
    latest_lease: Lease,
    disk_is_low: bool,
    /// An operator drains the broker: no task is delivered.
    drain: bool,
    /// When all tables were restored.
    began: Monotonic,
    /// The steady clock minus the monotonic clock: fixed at the first step.
    steady_offset: Option<Timestamp>,
    /// Whether the wall clock was set since the first step.
    clock_was_set: bool,
    /// When the machine next checks the balance between workers.
    balance_at: Option<Monotonic>,
    scans: Scans,
    /// Where the next tick goes on with deliveries, if the last one left some.
    dispatch_from: Option<QueueKey>,
    mailboxes: Mailboxes,
    exchanges: Exchanges,
}

/// The wall clock counts as set if it differs from the steady clock by more than this. Normal drift
/// and small corrections of the clock stay below.
const CLOCK_DRIFT_MS: u64 = 100;

/// The most timers of tasks, and the most other timers, that one tick handles: some milliseconds of
/// work. The next tick follows at once with the rest.
const TIMERS_PER_TICK: usize = 2_000;

impl Machine {
    /// A machine without tasks.
    pub fn new(config: MachineConfig) -> Self {
        Self {
            tasks: Tasks::new(config.seed),
            usual_plan: Plan::usual(config.result_ttl_ms),
            config,
            queues: Queues::default(),
            arrivals: Arrivals::default(),
            names: Names::default(),
            sessions: Sessions::default(),
            observers: Observers::default(),
            timers: Timers::default(),
            successors: Successors::default(),
            ends: Ends::default(),
            chords: Chords::default(),
            restoring: Restoring::default(),
            latest_serial: 0,
            latest_order: 0,
            latest_lease: 0,
            disk_is_low: false,
            drain: false,
            began: 0,
            steady_offset: None,
            clock_was_set: false,
            balance_at: None,
            scans: Scans::default(),
            dispatch_from: None,
            mailboxes: Mailboxes::default(),
            exchanges: Exchanges::default(),
        }
    }

    /// The number of tasks, ended tasks included.
    pub fn tasks(&self) -> usize {
        self.tasks.len()
    }

    /// Begins a step of the broker itself.
    fn step<'a>(&mut self, now: Now, effects: &'a mut Effects) -> Step<'a> {
        let mono = now.mono as Timestamp;
        let offset = *self.steady_offset.get_or_insert(now.wall.saturating_sub(mono));
        let clocks = Clocks { wall: now.wall, steady: offset.saturating_add(mono) };
        self.clock_was_set |= clocks.wall.abs_diff(clocks.steady) > CLOCK_DRIFT_MS;
        self.arrivals.note(self.latest_order + 1, now.mono);
        Step::new(now, clocks, effects)
    }

    /// Carries out one command. Deliveries follow with the next [`Machine::tick`].
    pub fn apply(&mut self, now: Now, command: Command, effects: &mut Effects) {
        let step = &mut self.step(now, effects);
        match command {
            Command::Connect(connect) => self.connect(step, *connect),
            Command::Disconnect { connection, reason } => self.disconnect(step, connection, reason),
            Command::Expel { connection, reason } => self.expel(step, connection, reason),
            Command::Request { connection, request, ask } => {
                self.request(step, Asker { connection, request }, ask);
            }
            Command::Heard(connection) => self.heard(step, connection),
            Command::Alive(connection) => self.alive(step, connection),
            Command::DiskLow(low) => self.disk_is_low = low,
            // `usual_plan` stays: it is the plan of the tasks that have none of their own.
            Command::ResultTtl(ms) => self.config.result_ttl_ms = ms,
            Command::Shutdown => self.close_all(step),
        }
        self.advance_successors(step);
        self.queues.sweep();
    }

    /// Handles the timers that are due, and delivers tasks to workers.
    pub fn tick(&mut self, now: Now, effects: &mut Effects) {
        let step = &mut self.step(now, effects);
        for _ in 0..TIMERS_PER_TICK {
            let Some(timer) = self.timers.pop_mono(now.mono) else { break };
            match timer {
                MonoTimer::Session(key) => self.session_timer(step, key),
                MonoTimer::Wait(key) => self.wait_timer(step, key),
                MonoTimer::SoftTimeLimit(slot, lease) => self.soft_limit_timer(step, slot, lease),
                MonoTimer::TimeLimit(slot, lease) => self.limit_timer(step, slot, lease),
                MonoTimer::CancelGrace(slot, lease) => self.cancel_grace_timer(step, slot, lease),
                MonoTimer::Chord(key) => self.chord_timer(step, key),
                MonoTimer::Balance => self.balance_timer(step),
                MonoTimer::QueueIdle(key) => self.idle_timer(step, key),
                MonoTimer::Mailbox(key) => self.mailbox_timer(step, key),
            }
        }
        for _ in 0..TIMERS_PER_TICK {
            let Some(timer) = self.timers.pop(step.clocks) else { break };
            self.task_timer(step, timer);
        }
        self.compact_timers();
        self.continue_scans(step);
        self.advance_successors(step);
        self.dispatch(step);
        self.push_mail(step);
        self.queues.sweep();
    }

    /// When [`Machine::tick`] has something to do next, on either clock.
    pub fn next_deadline(&self) -> (Option<Timestamp>, Option<Monotonic>) {
        // Scans and deliveries under way continue at once.
        let is_done = self.scans.is_empty() && self.dispatch_from.is_none();
        let next_mono = if is_done { self.timers.next_mono() } else { Some(0) };
        let offset = self.steady_offset.unwrap_or(0);
        let next_steady =
            self.timers.next_steady().map(|at| at.saturating_sub(offset).max(0) as Monotonic);
        (self.timers.next_wall(), next_mono.into_iter().chain(next_steady).min())
    }
}
