//! Measures one step with one system: a new server in an empty folder is warmed up, measured and
//! ended. The kernel says what it used. `plan.rs` has the steps.

use std::cell::Cell;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::figures::{Figures, Point, median, percentile, round_down};
use super::plan::Step;
use super::system::{Load, Running, System, Timing, Workload};
use crate::broker::{folder_bytes, processor_ticks, status_kib};
use crate::latency;

/// The first tasks of a warm-up. They show how many are needed.
const FIRST_TASKS: u64 = 500;
/// More than the fastest system does in the longest span.
const TASKS_MAX: u64 = 2_000_000;
/// How long a killed process may take to end.
const GONE_WITHIN: Duration = Duration::from_secs(10);

/// A point and its figures of one round.
pub(crate) type Found = (Point, Figures);

/// Measures the step. If it fails, the figures from before the failure are kept.
pub(crate) async fn measure(
    step: &Step,
    system: &dyn System,
    scratch: &Path,
    found: &mut Vec<Found>,
) -> Result<()> {
    let folder = tempfile::tempdir_in(scratch)?;
    let mut server = system.start(folder.path()).await?;
    let measured = Measurement { folder: folder.path(), found, live_bytes: Cell::new(0) }
        .of(step, &mut *server, system)
        .await;
    let processes = server.processes();
    drop(server);
    let ended = all_gone(&processes).await;
    measured.and(ended)
}

/// The time of an fdatasync of 4 KiB, now. It changes on a machine that other programs use too.
pub(crate) fn disk(scratch: &Path) -> Result<Option<f64>> {
    const SYNCS: usize = 100;
    let mut syncs = latency::syncs(scratch, SYNCS)?;
    syncs.sort();
    Ok(percentile(&syncs, 0.5))
}

struct Measurement<'a> {
    folder: &'a Path,
    found: &'a mut Vec<Found>,
    /// The payloads of waiting tasks and the results of ended ones, all of which must be kept.
    live_bytes: Cell<u64>,
}

impl Measurement<'_> {
    async fn of(
        &mut self,
        step: &Step,
        server: &mut dyn Running,
        system: &dyn System,
    ) -> Result<()> {
        match step {
            Step::Load { workload, load, span } => {
                let figures = self.load(server, *workload, load, *span).await?;
                self.found.push((Point::under(*workload, None, load), figures));
            }
            Step::Roundtrip { tasks } => {
                let before = Used::by(server);
                let timing = server.roundtrip(*tasks).await?;
                let figures =
                    self.figures(server, &before, *tasks).with_latencies(timing.latencies);
                // One task at a time on an idle server is a measurement of latency, whatever rate
                // follows from it.
                let point =
                    Point { count: None, workers: 1, ..Point::of(Workload::Roundtrip, *tasks) };
                self.found.push((point, figures));
            }
            Step::Growth { waiting, load, span, filling } => {
                self.growth(server, waiting, load, *span, *filling).await?;
                let tasks = self.found.last().and_then(|(point, _)| point.count).unwrap_or(0);
                // Fewer connections have a step of their own.
                if tasks >= 1_000_000 && system.offers(Workload::Restart) {
                    self.restarts(server, tasks, 1).await?;
                }
            }
            Step::Restart { tasks, times } => {
                let tasks = affordable(server, *tasks).await?;
                server.enqueue(&Load { tasks, ..filling_load() }).await?;
                self.restarts(server, tasks, *times).await?;
            }
            Step::Scheduled { waiting, due, over } => {
                let waiting = affordable(server, *waiting).await?;
                let timing = server.schedule(waiting, *due, *over).await?;
                let figures =
                    self.figures_without_cost(server, waiting).with_latencies(timing.latencies);
                self.found.push((
                    Point { workers: 1, ..Point::of(Workload::Scheduled, waiting) },
                    figures,
                ));
            }
            Step::IdleConnections { connections } => self.idle(server, *connections).await?,
            Step::Listing { tasks } => {
                let timing = server.list(*tasks).await?;
                let figures =
                    self.figures_without_cost(server, *tasks).with_latencies(timing.latencies);
                self.found.push((Point::of(Workload::Listing, *tasks), figures));
            }
            Step::Longest { tasks } => {
                let latencies = server.longest_steps(*tasks).await?.latencies;
                let figures = Figures { tasks: *tasks, ..Figures::default() };
                let point = Point::of(Workload::WorstStep, *tasks);
                self.found.push((point, figures.with_latencies(latencies)));
            }
        }
        Ok(())
    }

    async fn drive(&self, server: &dyn Running, workload: Workload, load: &Load) -> Result<Timing> {
        let (timing, kept) = match workload {
            Workload::Enqueue => (server.enqueue(load).await?, load.payload),
            Workload::Lifecycle => (server.lifecycle(load).await?, load.result),
            other => bail!("{} is no load", other.name()),
        };
        self.live_bytes.set(self.live_bytes.get() + load.tasks * kept as u64);
        Ok(timing)
    }

    /// Puts the server under load for about the span. The warm-up before it shows how many tasks
    /// that takes.
    async fn load(
        &self,
        server: &dyn Running,
        workload: Workload,
        load: &Load,
        span: Duration,
    ) -> Result<Figures> {
        let mut load = Load { tasks: FIRST_TASKS, ..load.clone() };
        // The first load meets a cold server and shows little. A load that took long enough shows
        // how many tasks the measurement needs.
        for attempt in 0.. {
            let timing = self.drive(server, workload, &load).await?;
            let wanted =
                round_down(per_second(load.tasks, &timing) * span.as_secs_f64()).min(TASKS_MAX);
            let is_warm = attempt > 0 && timing.elapsed >= span / 5;
            if is_warm || load.tasks >= wanted {
                load.tasks = wanted;
                break;
            }
            load.tasks = wanted.min(load.tasks * 8);
        }
        let before = Used::by(server);
        let timing = self.drive(server, workload, &load).await?;
        let figures = self.figures(server, &before, load.tasks);
        let per_second = Some(per_second(load.tasks, &timing));
        Ok(Figures { per_second, ..figures }.with_latencies(timing.latencies))
    }

    /// Lifecycles with more and more waiting tasks, as far as the time for submitting them allows.
    async fn growth(
        &mut self,
        server: &dyn Running,
        levels: &[u64],
        load: &Load,
        span: Duration,
        filling: Duration,
    ) -> Result<()> {
        let (mut waiting, mut filled) = (0, Duration::ZERO);
        let mut resident = None;
        for level in levels {
            if *level > waiting {
                if waiting == 0 {
                    let first = Load { tasks: FIRST_FILLED.min(*level), ..filling_load() };
                    filled += self.drive(server, Workload::Enqueue, &first).await?.elapsed;
                    waiting = first.tasks;
                }
                if filled.as_secs_f64() * *level as f64 / waiting as f64 > filling.as_secs_f64() {
                    break;
                }
                if *level > waiting {
                    let more = Load { tasks: level - waiting, ..filling_load() };
                    filled += self.drive(server, Workload::Enqueue, &more).await?.elapsed;
                    waiting = *level;
                }
                resident = Some(resident_kib(server, "VmRSS:") / 1024.0);
            }
            let figures = self.load(server, Workload::Lifecycle, load, span).await?;
            // The memory with all waiting tasks, before any of them was delivered.
            let figures =
                Figures { tasks: waiting, rss_mib: resident.or(figures.rss_mib), ..figures };
            self.found.push((Point::under(Workload::Backlog, Some(waiting), load), figures));
        }
        Ok(())
    }

    async fn restarts(&mut self, server: &mut dyn Running, tasks: u64, times: usize) -> Result<()> {
        let mut ready = Vec::new();
        for _ in 0..times {
            ready.push(server.restart().await?.as_secs_f64() * 1_000.0);
        }
        let figures = Figures { p50_ms: median(ready), ..self.figures_without_cost(server, tasks) };
        self.found.push((Point { producers: 0, ..Point::of(Workload::Restart, tasks) }, figures));
        Ok(())
    }

    async fn idle(&mut self, server: &dyn Running, connections: usize) -> Result<()> {
        let count = connections as u64;
        // The first connections allocate what all connections share.
        drop(server.connect(10).await?);
        let before = resident_kib(server, "VmRSS:");
        let open = server.connect(connections).await?;
        let after = resident_kib(server, "VmRSS:");
        let figures = self.figures_without_cost(server, count);
        drop(open);
        let kib_each = Some((after - before) / count.max(1) as f64);
        let point = Point { producers: 0, ..Point::of(Workload::IdleConnections, count) };
        self.found.push((
            point,
            Figures { kib_each, disk_mib: None, rss_mib: Some(after / 1024.0), ..figures },
        ));
        Ok(())
    }

    fn figures(&self, server: &dyn Running, before: &Used, tasks: u64) -> Figures {
        let now = Used::by(server);
        // The kernel counts in hundredths of a second.
        let each = |before: u64, now: u64| {
            Some(now.saturating_sub(before) as f64 * 10_000.0 / tasks.max(1) as f64)
        };
        Figures {
            cpu_us_per_task: each(before.server, now.server),
            client_cpu_us_per_task: each(before.client, now.client),
            ..self.figures_without_cost(server, tasks)
        }
    }

    fn figures_without_cost(&self, server: &dyn Running, tasks: u64) -> Figures {
        Figures {
            tasks,
            rss_mib: Some(resident_kib(server, "VmHWM:") / 1024.0),
            disk_mib: Some(mib(folder_bytes(self.folder))),
            live_mib: Some(mib(self.live_bytes.get())).filter(|mib| *mib > 0.0),
            ..Figures::default()
        }
    }
}

/// So many tasks show how long it takes to submit more.
const FIRST_FILLED: u64 = 10_000;

/// Submits many tasks quickly, to wait while something is measured.
fn filling_load() -> Load {
    Load { tasks: 0, producers: 4, workers: 0, batch: 100, in_flight: 4, payload: 200, result: 64 }
}

/// How many tasks can be submitted in the time: all of them, a tenth, or a hundredth.
async fn affordable(server: &dyn Running, wanted: u64) -> Result<u64> {
    // In seconds. Lifecycles leave no tasks behind that could be taken for due ones, and last
    // longer than submits.
    const FILLING: f64 = 45.0;
    let load = Load { tasks: 2_000, workers: 4, ..filling_load() };
    // Measures a second time, for a server that has to warm up.
    server.lifecycle(&load).await?;
    let timing = server.lifecycle(&load).await?;
    let affordable = per_second(load.tasks, &timing) * FILLING;
    let mut tasks = wanted;
    while tasks as f64 > affordable && tasks > 1_000 {
        tasks /= 10;
    }
    Ok(tasks)
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn per_second(tasks: u64, timing: &Timing) -> f64 {
    tasks as f64 / timing.elapsed.as_secs_f64().max(1e-9)
}

/// Processor time so far, in ticks.
struct Used {
    server: u64,
    client: u64,
}

impl Used {
    fn by(server: &dyn Running) -> Self {
        let client = processor_ticks(std::process::id()).unwrap_or(0);
        Self { server: server.processes().into_iter().filter_map(processor_ticks).sum(), client }
    }
}

fn resident_kib(server: &dyn Running, which: &str) -> f64 {
    server.processes().into_iter().filter_map(|pid| status_kib(pid, which)).sum::<u64>() as f64
}

/// Waits until none of the processes runs, so that the next server has the machine for itself.
async fn all_gone(processes: &[u32]) -> Result<()> {
    let begun = Instant::now();
    while let Some(pid) = processes.iter().find(|pid| runs(**pid)) {
        if begun.elapsed() > GONE_WITHIN {
            bail!("process {pid} outlived its server");
        }
        // The kernel tells only the parent.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// A process that has ended and was not waited for does not run.
fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}
