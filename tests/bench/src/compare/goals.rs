//! The goals of the project, compared with the measurements. A goal without figures in the report
//! is marked as not measured.

use super::report::Row;
use super::system::Workload;

/// One goal, and whether it is reached.
#[derive(Debug, PartialEq)]
pub(crate) struct Goal {
    pub what: &'static str,
    pub goal: String,
    /// None if it was not measured.
    pub measured: Option<String>,
    pub is_reached: Option<bool>,
}

/// The systems that a goal is about.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Who {
    Ours,
    OursThroughCrates,
    OursWithTls,
    RedisAlways,
    RabbitQuorum,
    CeleryOnRedis,
}

impl Who {
    pub(crate) fn is(self, row: &Row) -> bool {
        let (name, durability) = (row.who.system.to_lowercase(), row.who.durability.to_lowercase());
        let is_celery = name.contains("celery");
        match self {
            Self::Ours => name == "celeriac",
            Self::OursThroughCrates => name == "celeriac (crates)",
            Self::OursWithTls => name == "celeriac (crates, tls)",
            Self::RedisAlways => {
                name.contains("redis") && durability.contains("always") && !is_celery
            }
            Self::RabbitQuorum => {
                name.contains("rabbit") && !is_celery && (name + &durability).contains("quorum")
            }
            Self::CeleryOnRedis => is_celery && (name + &durability).contains("redis"),
        }
    }
}

/// The row of a system.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Which {
    pub count: Option<u64>,
    pub batch: Option<usize>,
    pub in_flight: Option<usize>,
}

/// The first row that fits.
pub(crate) fn find(rows: &[Row], who: Who, workload: Workload, which: Which) -> Option<&Row> {
    rows.iter().find(|row| {
        let point = &row.point;
        who.is(row)
            && point.workload == workload
            && which.count.is_none_or(|count| point.count == Some(count))
            && which.batch.is_none_or(|batch| point.batch == batch)
            && which.in_flight.is_none_or(|in_flight| point.in_flight == in_flight)
    })
}

/// The shapes of load for lifecycles.
pub(crate) const BATCHES: Which = Which { count: None, batch: Some(100), in_flight: None };
pub(crate) const ONE: Which = Which { count: None, batch: Some(1), in_flight: Some(1) };
pub(crate) const MANY_IN_FLIGHT: Which = Which { count: None, batch: Some(1), in_flight: Some(32) };

/// All goals in the order of the report.
pub(crate) fn goals(rows: &[Row], fdatasync_p50_ms: Option<f64>) -> Vec<Goal> {
    let lifecycles = |who, which| find(rows, who, Workload::Lifecycle, which)?.figures().per_second;
    let ratio = |who, which| Some(lifecycles(Who::Ours, which)? / lifecycles(who, which)?);
    let share = |who, other| Some(lifecycles(who, BATCHES)? / lifecycles(other, BATCHES)? * 100.0);
    let batches = find(rows, Who::Ours, Workload::Lifecycle, BATCHES).map(Row::figures);
    let submit = find(rows, Who::Ours, Workload::Enqueue, ONE).and_then(|row| row.figures().p50_ms);
    let trip = find(rows, Who::Ours, Workload::Roundtrip, Which::default()).map(Row::figures);
    let mut goals = vec![
        at_least(
            "lifecycles, batches of 100, to Redis always",
            ratio(Who::RedisAlways, BATCHES),
            5.0,
        ),
        at_least(
            "lifecycles, batches of 100, to RabbitMQ quorum",
            ratio(Who::RabbitQuorum, BATCHES),
            15.0,
        ),
        at_least(
            "lifecycles, batches of 100, to Celery on Redis",
            ratio(Who::CeleryOnRedis, BATCHES),
            200.0,
        ),
        at_most(
            "processor time of the broker for one of these",
            batches.and_then(|batches| batches.cpu_us_per_task),
            3.0,
            "us",
        ),
        at_least(
            "lifecycles, one at a time over 8 connections, to Redis always",
            ratio(Who::RedisAlways, ONE),
            1.5,
        ),
        at_least(
            "lifecycles, 32 in flight, to Redis always",
            ratio(Who::RedisAlways, MANY_IN_FLIGHT),
            1.5,
        ),
        at_least_share(
            "lifecycles through the crates, batches of 100, to the raw wire",
            share(Who::OursThroughCrates, Who::Ours),
            80.0,
        ),
        at_least_share(
            "lifecycles over TLS, batches of 100, to those without",
            share(Who::OursWithTls, Who::OursThroughCrates),
            70.0,
        ),
        at_most(
            "submit confirmed, one at a time, p50, to the disk's fdatasync",
            submit.zip(fdatasync_p50_ms).map(|(submit, disk)| submit / disk),
            1.8,
            "times",
        ),
        at_most(
            "submit to result, idle, p50",
            trip.as_ref().and_then(|trip| trip.p50_ms),
            0.45,
            "ms",
        ),
        at_most("submit to result, idle, p99", trip.and_then(|trip| trip.p99_ms), 1.2, "ms"),
    ];
    goals.extend(of_many_tasks(rows));
    goals
}

/// The goals for a broker with many tasks.
fn of_many_tasks(rows: &[Row]) -> Vec<Goal> {
    let ours = |workload, count| {
        find(rows, Who::Ours, workload, Which { count, ..Which::default() }).map(Row::figures)
    };
    let million = |workload| ours(workload, Some(1_000_000));
    let most = |workload| ours(workload, Some(10_000_000));
    let memory = |workload| most(workload)?.rss_mib;
    // The empty broker of the same workload, to the same broker with ten million tasks.
    let share = |workload| {
        let empty = ours(workload, Some(0))?.per_second?;
        Some(most(workload)?.per_second? / empty * 100.0)
    };
    let restart = |count| Some(ours(Workload::Restart, Some(count))?.p50_ms? / 1_000.0);
    let disk = million(Workload::Backlog).and_then(|figures| figures.disk_times);
    let longest_step = ours(Workload::WorstStep, Some(10_000_000)).and_then(|step| step.p99_ms);
    let idle = ours(Workload::IdleConnections, None).and_then(|figures| figures.kib_each);
    let memory = |what, workload| at_most(what, memory(workload), 1024.0, "MiB");
    let p99 = |workload| million(workload)?.p99_ms;
    vec![
        memory("memory with 10 million tasks waiting", Workload::Backlog),
        memory("the same after a restart, at most", Workload::Restart),
        memory("memory with 10 million results", Workload::Retained),
        memory("the same after a restart, at most", Workload::RestartWithResults),
        at_least_share(
            "lifecycles with 10 million tasks waiting, to an empty broker",
            share(Workload::Backlog),
            85.0,
        ),
        at_least_share(
            "lifecycles with 10 million results, to an empty broker",
            share(Workload::Retained),
            85.0,
        ),
        at_most("ready again with a million tasks", restart(1_000_000), 1.0, "s"),
        at_most("ready again with 10 million tasks", restart(10_000_000), 15.0, "s"),
        at_most(
            "disk with a million tasks waiting, without journal and 64 MiB, to what must be kept",
            disk,
            3.0,
            "times",
        ),
        at_most(
            "lateness among a million scheduled tasks, p99",
            p99(Workload::Scheduled),
            50.0,
            "ms",
        ),
        at_most("memory of an idle connection", idle, 20.0, "KiB"),
        at_most("a page of 100 out of a million, p99", p99(Workload::Listing), 20.0, "ms"),
        at_most("the longest step among ten million tasks", longest_step, 5.0, "ms"),
    ]
}

fn at_least(what: &'static str, ratio: Option<f64>, bound: f64) -> Goal {
    let measured = ratio.map(|ratio| format!("{ratio:.1} times"));
    Goal {
        what,
        goal: format!("≥ {bound} times"),
        measured,
        is_reached: ratio.map(|ratio| ratio >= bound),
    }
}

fn at_least_share(what: &'static str, share: Option<f64>, bound: f64) -> Goal {
    let measured = share.map(|share| format!("{share:.0} %"));
    Goal {
        what,
        goal: format!("≥ {bound} %"),
        measured,
        is_reached: share.map(|share| share >= bound),
    }
}

fn at_most(what: &'static str, figure: Option<f64>, bound: f64, unit: &str) -> Goal {
    let measured = figure.map(|figure| format!("{figure:.2} {unit}"));
    Goal {
        what,
        goal: format!("≤ {bound} {unit}"),
        measured,
        is_reached: figure.map(|figure| figure <= bound),
    }
}
