//! kill -9 of the broker under an application of Celery. Its producers and its workers, with pools
//! of processes and of threads, talk to the broker through a recording proxy, and the history is
//! judged like every other. What a history cannot show is judged beside it: which runs began, and
//! what a program that uses Celery reads in the end. The application is
//! `python/tests/celery/load_*.py`.

mod application;
mod edited;
mod runs;

use std::time::Duration;

use celeriac_history::{Answer, Event, History, Promises, RequestItem};
use celeriac_proto::wire::task_report::Report;

use self::application::{Application, Python};
use self::runs::Runs;
use super::Tally;
use super::kill_broker::kill_and_restart;
use crate::traffic_run::show;
use crate::{RandomSource, RecordingProxy, Setup, TrafficRun};

/// Kills in one history. Each round has a folder and an application of its own.
const KILLS_PER_ROUND: u64 = 15;
/// With so many kills the traffic should show everything that the rules are about.
const ENOUGH: u64 = 10;
/// Workers of Celery.
const WORKERS: usize = 2;
/// The longest time in which one run of the broker may begin its share of the tasks. Celery waits
/// some seconds before it connects again.
const PATIENCE: Duration = Duration::from_secs(60);

/// Kills so often.
pub async fn run(runs: u64, seed: u64) -> Tally {
    let (what, unit) = ("kill -9 of the broker under Celery", "kills");
    let python = match Python::find().await {
        Ok(python) => python,
        Err(reason) => return Tally::skipped(what, unit, reason),
    };
    let mut tally = Tally::new(what, unit);
    let mut random = RandomSource::new(seed);
    let mut left = runs;
    while left > 0 {
        let kills = left.min(KILLS_PER_ROUND);
        let from = tally.runs;
        let found = round(&python, kills, random.fork(), &mut tally).await;
        tally.add_kills(seed, from, found);
        left -= kills;
    }
    let missing: Vec<_> = tally.counts.iter().filter(|(_, count)| **count == 0).collect();
    if runs >= ENOUGH && !missing.is_empty() {
        let sentence =
            format!("seed {seed}: the load had none of {missing:?}, so it proves little");
        tally.violations.push(sentence);
    }
    tally.with_counts_as_remarks()
}

/// Several kills on one folder. Returns what was wrong.
async fn round(
    python: &Python,
    kills: u64,
    mut random: RandomSource,
    tally: &mut Tally,
) -> Vec<String> {
    // No worker is lost while the broker is away, however busy the machine is: every run is the
    // only one of its task.
    let mut broker = Setup::new().set("heartbeat_ms = 5000").set("lease_ms = 120000").start().await;
    let traffic = TrafficRun::producing(broker.address(), 0, 0);
    let history = traffic.history().clone();
    let wire = RecordingProxy::start(broker.address(), &history, "Celery").await;
    let runs = Runs::listen(&history).await;
    let mut application =
        Application::start(python, &wire.url(), runs.address(), WORKERS, random.bits());
    let mut found = Vec::new();
    for kill in 0..kills {
        if !runs.grow_to(runs.count() + random.between(100, 600) as usize, PATIENCE).await {
            found.push(format!("before kill {kill} nothing began for {PATIENCE:?}"));
            break;
        }
        if !kill_and_restart(kill, &mut broker, &traffic, &mut random, tally).await {
            return found;
        }
    }
    let told = application.finish().await;
    // The workers go on until every task that the broker confirmed has ended.
    found.extend(traffic.verdict().await);
    found.extend(application.stop().await);
    let of_celery = [told.wrong, runs.verdict(&told.twice)].concat();
    show(&history, &of_celery);
    found.extend(of_celery);
    if found.is_empty() {
        let (entries, promises) = (history.entries(), Promises::default());
        found.extend(edited::unnoticed(&entries, &promises, &runs, &told.twice));
    }
    *tally.counts.entry("calls of Celery").or_default() += told.calls;
    for (kind, count) in counts(&history, &runs) {
        *tally.counts.entry(kind).or_default() += count;
    }
    found
}

/// How often the load had what the rules are about.
fn counts(history: &History, runs: &Runs) -> Vec<(&'static str, u64)> {
    let entries = history.entries();
    let count = |is_one: &dyn Fn(&Event) -> bool| {
        entries.iter().filter(|entry| is_one(&entry.event)).count() as u64
    };
    let reports = |is_one: &dyn Fn(&Report) -> bool| {
        count(&|event| match event {
            Event::Asked(RequestItem::Report(report)) => report.report.as_ref().is_some_and(is_one),
            _ => false,
        })
    };
    let of_all = history.event_counts();
    let known = |kind: &'static str| (kind, of_all[kind]);
    vec![
        ("entries judged", entries.len() as u64),
        ("tasks confirmed", history.confirmed().len() as u64),
        ("runs", runs.count() as u64),
        ("early acknowledgements", reports(&|report| matches!(report, Report::Settle(_)))),
        ("leases of chords", count(&gives_a_chord)),
        known("ids run again"),
        known("revoked ids"),
        known("expired tasks"),
        known("deliveries that had a time"),
        known("leases kept over a lost connection"),
    ]
}

fn gives_a_chord(event: &Event) -> bool {
    matches!(event, Event::Answered { answer: Answer::Chord(reply), .. } if reply.lease > 0)
}
