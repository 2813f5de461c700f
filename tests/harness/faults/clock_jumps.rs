//! The wall clock is set an hour ahead or back while a broker works. Schedules follow it. Leases,
//! waits and time limits do not. The clock is moved inside the process of the broker, see
//! `children/interposed.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{SystemTime, UNIX_EPOCH};

use celeriac_proto::wire::{self, ErrorCode, TaskState};
use rustix::process::Signal;

use super::{Tally, in_two_lanes};
use crate::raw::{Answer, Request};
use crate::{
    BrokerProcess, RandomSource, RawConnection, Setup, raw, test_broker_binary, until, within,
};

const HOUR_MS: i64 = 3_600_000;
/// Jumps for one broker.
const JUMPS_IN_A_ROW: u64 = 6;
/// These times are far below an hour, so a jump that changed one of them would end it at once.
const TIME_LIMIT_MS: u64 = 120_000;
const WAIT_MS: u64 = 120_000;

/// Sets the clock so often.
pub async fn run(runs: u64, seed: u64) -> Tally {
    in_two_lanes(Tally::new("clock jumps", "jumps"), runs, seed, lane).await
}

async fn lane(runs: u64, seed: u64) -> Tally {
    let mut tally = Tally::default();
    let mut random = RandomSource::new(seed);
    while tally.runs < runs {
        let (jumps, seed) = (JUMPS_IN_A_ROW.min(runs - tally.runs), random.bits());
        if let Err(reason) = one_broker(jumps, seed).await {
            tally.violations.push(format!("broker seed {seed}: {reason}"));
        }
        tally.runs += jumps;
    }
    tally
}

/// A broker whose clock jumps, and the tasks that are due by its clock.
struct Bench {
    broker: BrokerProcess,
    worker: RawConnection,
    /// A moment at which the clock of the broker was right.
    base_ms: i64,
    /// How far the clock is ahead.
    ahead_hours: i64,
    jumps: usize,
    /// Tasks that are not due yet.
    scheduled: BTreeMap<String, i64>,
    held: BTreeMap<String, wire::Delivery>,
}

async fn one_broker(jumps: u64, seed: u64) -> Result<(), String> {
    let mut random = RandomSource::new(seed);
    let broker = Setup::new().program(test_broker_binary()).start().await;
    let worker = RawConnection::worker(broker.address(), &["default"], &["n"], 1_000).await;
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|error| error.to_string())?;
    let mut bench = Bench {
        broker,
        worker,
        base_ms: since.as_millis() as i64,
        ahead_hours: 0,
        jumps: 0,
        scheduled: BTreeMap::new(),
        held: BTreeMap::new(),
    };
    bench.submit("at-once", None).await?;
    bench.take_what_is_due().await?;
    let mut waiter = RawConnection::open(bench.broker.address()).await;
    let wait = wire::Wait { ids: vec!["at-once".into()], mode: 0, until: 0, with_results: true };
    let waiting = waiter.send(Request::Wait(wait), WAIT_MS).await.map_err(|lost| lost.0)?;
    for jump in 0..jumps {
        // The schedules are odd multiples of half an hour, so that no task is due at the moment of
        // a jump.
        let half_hours = 2 * random.between(0, 6) as i64 - 7;
        let eta = bench.base_ms + half_hours * HOUR_MS / 2;
        bench.submit(&format!("scheduled-{jump}"), Some(eta)).await?;
        // A task that is due is delivered at once, even if the clock is then set back to before its
        // time.
        bench.take_what_is_due().await?;
        bench.jump(&mut random).await;
        bench.take_what_is_due().await?;
        bench.nothing_else_happened().await?;
    }
    bench.finish(waiter, waiting).await
}

impl Bench {
    async fn submit(&mut self, id: &str, eta: Option<i64>) -> Result<(), String> {
        let task =
            wire::Task { eta_at_ms: eta, time_limit_ms: Some(TIME_LIMIT_MS), ..raw::task(id, "n") };
        if let Some(error) = self.worker.submit_one(task).await.error {
            return Err(format!("{id} was refused: {error:?}"));
        }
        self.scheduled.insert(id.to_owned(), eta.unwrap_or(i64::MIN));
        Ok(())
    }

    /// The clock is set by an hour in either direction, never far from the true time.
    async fn jump(&mut self, random: &mut RandomSource) {
        let ahead = match self.ahead_hours {
            2.. => false,
            ..=-2 => true,
            _ => random.below(2) == 0,
        };
        self.ahead_hours += if ahead { 1 } else { -1 };
        self.jumps += 1;
        self.broker.signal(if ahead { Signal::USR1 } else { Signal::USR2 });
        let (broker, jumps) = (&self.broker, self.jumps);
        until("the clock has been moved", || async {
            broker.stderr().matches("was moved").count() == jumps
        })
        .await;
    }

    /// Every task that is due by the wall clock is delivered, and once.
    async fn take_what_is_due(&mut self) -> Result<(), String> {
        let now = self.base_ms + self.ahead_hours * HOUR_MS;
        let mut due: BTreeSet<String> = self
            .scheduled
            .iter()
            .filter(|(_, eta)| **eta <= now)
            .map(|(id, _)| id.clone())
            .collect();
        while !due.is_empty() {
            let what = format!("{due:?}, due {} hours off", self.ahead_hours);
            let Answer::Deliver(deliver) =
                within(&what, self.worker.push()).await.map_err(|lost| lost.0)?
            else {
                continue;
            };
            for delivery in deliver.deliveries {
                if !due.remove(&delivery.id) {
                    return Err(format!(
                        "{} came {} hours off; due were {due:?}",
                        delivery.id, self.ahead_hours
                    ));
                }
                self.scheduled.remove(&delivery.id);
                self.worker.report_one(raw::report(&delivery, raw::started())).await;
                self.held.insert(delivery.id.clone(), delivery);
            }
        }
        Ok(())
    }

    /// No lease was lost, no task limit reached, and nothing was delivered early.
    async fn nothing_else_happened(&mut self) -> Result<(), String> {
        let pushed = self.worker.pushed_so_far().await;
        if !pushed.is_empty() {
            return Err(format!("{} hours off, and unasked came {pushed:?}", self.ahead_hours));
        }
        for id in self.held.keys() {
            let info = self.worker.info(id).await;
            if info.state() != TaskState::Started || info.deliveries != 1 {
                return Err(format!(
                    "{id} is held, and with the clock {} hours off: {info:?}",
                    self.ahead_hours
                ));
            }
        }
        for id in self.scheduled.keys() {
            let info = self.worker.info(id).await;
            if info.state() != TaskState::Scheduled {
                return Err(format!("{id} is not due {} hours off: {info:?}", self.ahead_hours));
            }
        }
        Ok(())
    }

    /// Every lease is still valid, and waiting clients are told of the end and of nothing before.
    async fn finish(mut self, mut waiter: RawConnection, waiting: u64) -> Result<(), String> {
        for delivery in self.held.values() {
            let outcome = self.worker.report_one(raw::report(delivery, raw::complete(b"1"))).await;
            if outcome.code() != ErrorCode::Unspecified {
                return Err(format!("the lease of {} is gone: {:?}", delivery.id, outcome.code()));
            }
        }
        match within("the answer to the wait", waiter.answer(waiting)).await {
            Ok(Answer::WaitReply(reply)) if reply.satisfied => {}
            other => return Err(format!("the wait ended early: {other:?}")),
        }
        self.broker.kill().await;
        Ok(())
    }
}
