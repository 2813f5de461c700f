//! Celeriac as a user starts it: the release binary with its defaults. It is driven twice: by loops
//! on raw connections, as simple as those that drive the peers, and through the client and worker
//! crates, with and without TLS.

use std::any::Any;
use std::cell::Cell;
use std::path::Path;
use std::process::Command;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, bail, ensure};
use celeriac_proto::wire;
use celeriac_tests::raw::{Answer, Request};
use celeriac_tests::{BrokerProcess, RawConnection, Setup, celeriac_binary, raw};
use futures_util::future::{LocalBoxFuture, join_all};
use tokio::task::JoinSet;

use super::system::{Load, Missing, Running, System, Timing, Workload};
use crate::broker::{Certificates, DiskUse};
use crate::load::{self, NAME, Quota, Shape, Submitted};
use crate::{crates, latency, listing, steps};

/// How many connections are opened at the same time.
const OPENED_AT_ONCE: usize = 100;
/// Pages by each filter.
const PAGES: usize = 50;
/// The due tasks are submitted before the first of them is due.
const SCHEDULED_AHEAD: Duration = Duration::from_secs(2);
/// A load without progress is given up after this.
const PATIENCE: Duration = Duration::from_secs(60);

/// The kind of driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Driver {
    RawWire,
    Crates,
    CratesWithTls,
}

/// Celeriac.
#[derive(Debug)]
pub(crate) struct Celeriac {
    driver: Driver,
}

impl Celeriac {
    pub(crate) fn on_the_raw_wire() -> Self {
        Self { driver: Driver::RawWire }
    }

    pub(crate) fn through_the_crates() -> Self {
        Self { driver: Driver::Crates }
    }

    pub(crate) fn through_the_crates_with_tls() -> Self {
        Self { driver: Driver::CratesWithTls }
    }
}

impl System for Celeriac {
    fn name(&self) -> &'static str {
        match self.driver {
            Driver::RawWire => "Celeriac",
            Driver::Crates => "Celeriac (crates)",
            Driver::CratesWithTls => "Celeriac (crates, TLS)",
        }
    }

    fn durability(&self) -> &'static str {
        "fdatasync before each confirmation"
    }

    fn version(&self) -> Result<String, Missing> {
        let missing = |error: &dyn std::fmt::Display| {
            Missing(format!("the binary does not say its version: {error}"))
        };
        let output = Command::new(celeriac_binary())
            .arg("--version")
            .output()
            .map_err(|error| missing(&error))?;
        let text = String::from_utf8_lossy(&output.stdout);
        text.split_whitespace().last().map(str::to_owned).ok_or_else(|| missing(&"it says nothing"))
    }

    fn offers(&self, workload: Workload) -> bool {
        // The other workloads do not depend on the driver.
        let through_crates = [Workload::Enqueue, Workload::Lifecycle, Workload::Roundtrip];
        self.driver == Driver::RawWire || through_crates.contains(&workload)
    }

    fn start<'a>(&'a self, folder: &'a Path) -> LocalBoxFuture<'a, Result<Box<dyn Running>>> {
        Box::pin(async {
            let setup = Setup::new().data(folder.join("data"));
            let certificates =
                (self.driver == Driver::CratesWithTls).then(Certificates::new).transpose()?;
            let setup = certificates.iter().fold(setup, |setup, each| each.of(setup));
            let process =
                setup.try_start().await.map_err(|exit| anyhow!("it did not start: {exit:?}"))?;
            let (driver, loads) = (self.driver, Cell::new(0));
            Ok(Box::new(Broker { process, certificates, driver, loads, runs: true })
                as Box<dyn Running>)
        })
    }
}

/// A running broker.
struct Broker {
    process: BrokerProcess,
    certificates: Option<Certificates>,
    driver: Driver,
    /// The number of loads so far. Each load has ids of its own.
    loads: Cell<usize>,
    /// None between a stop and the start after it.
    runs: bool,
}

impl Broker {
    /// The broker for the crates.
    fn target(&self) -> crates::Target {
        match &self.certificates {
            Some(certificates) => certificates.target(self.process.address()),
            None => crates::Target { url: self.process.url(), ca: None },
        }
    }

    fn produce(&self, shape: &Shape, tasks: u64) -> JoinSet<Result<Submitted>> {
        let quota = Quota::new(tasks, None);
        let first = self.loads.replace(self.loads.get() + 1) * 100;
        let mut producers = JoinSet::new();
        for number in first..first + shape.producers {
            let (shape, quota) = (shape.clone(), quota.clone());
            match self.driver {
                Driver::RawWire => {
                    producers.spawn_local(load::produce(
                        self.process.address(),
                        number,
                        shape,
                        quota,
                    ));
                }
                Driver::Crates | Driver::CratesWithTls => {
                    producers.spawn_local(crates::produce(self.target(), number, shape, quota));
                }
            }
        }
        producers
    }

    /// Ends when so many tasks are completed. The number may change meanwhile.
    async fn complete_on_the_raw_wire(&self, shape: &Shape, tasks: &Cell<u64>) -> Result<()> {
        let completed = Rc::new(Cell::new(0));
        let mut workers = JoinSet::new();
        for _ in 0..shape.workers {
            workers.spawn_local(load::work(
                self.process.address(),
                shape.clone(),
                Rc::clone(&completed),
            ));
        }
        let (mut seen, mut at) = (0, Instant::now());
        while completed.get() < tasks.get() {
            tokio::select! {
                Some(ended) = workers.join_next() => bail!("a worker ended early: {ended:?}"),
                // Nothing signals the last task, so this loop checks often.
                () = tokio::time::sleep(Duration::from_millis(1)) => {}
            }
            if completed.get() > seen {
                (seen, at) = (completed.get(), Instant::now());
            }
            ensure!(
                at.elapsed() < PATIENCE,
                "{seen} of {} completed, then nothing for a minute",
                tasks.get()
            );
        }
        Ok(())
    }
}

impl Running for Broker {
    fn enqueue<'a>(&'a self, load: &'a Load) -> LocalBoxFuture<'a, Result<Timing>> {
        Box::pin(async {
            let begun = Instant::now();
            let submitted = all(self.produce(&shape(load), load.tasks)).await?;
            Ok(Timing { elapsed: begun.elapsed(), latencies: submitted.latencies })
        })
    }

    fn lifecycle<'a>(&'a self, load: &'a Load) -> LocalBoxFuture<'a, Result<Timing>> {
        Box::pin(async {
            let shape = shape(load);
            let begun = Instant::now();
            let produced = all(self.produce(&shape, load.tasks));
            match self.driver {
                Driver::RawWire => {
                    let tasks = Cell::new(load.tasks);
                    tokio::try_join!(produced, self.complete_on_the_raw_wire(&shape, &tasks))?;
                }
                Driver::Crates | Driver::CratesWithTls => {
                    let workers = crates::Workers::start(&self.target(), &shape);
                    tokio::try_join!(produced, workers.finish(load.tasks))?;
                }
            }
            Ok(Timing { elapsed: begun.elapsed(), latencies: Vec::new() })
        })
    }

    fn roundtrip(&self, tasks: u64) -> LocalBoxFuture<'_, Result<Timing>> {
        Box::pin(async move {
            let client = self.target().client().connect().await?;
            let begun = Instant::now();
            let trips =
                latency::round_trips(&self.target(), &client, usize::try_from(tasks)?).await?;
            Ok(Timing { elapsed: begun.elapsed(), latencies: trips.results })
        })
    }

    fn fairness<'a>(&'a self, load: &'a Load) -> LocalBoxFuture<'a, Result<Timing>> {
        Box::pin(async {
            let (shape, quota) = (shape(load), Quota::new(load.tasks, None));
            let first = self.loads.replace(self.loads.get() + 1) * 100;
            let address = self.process.address();
            let begun = Instant::now();
            let tasks = Cell::new(u64::MAX);
            let produced = async {
                let (busy, modest) = tokio::try_join!(
                    load::produce(address, first, shape.clone(), quota.clone()),
                    load::produce_beside(address, first + 1, &shape, &quota, load.tasks),
                )?;
                tasks.set(busy.tasks + modest.tasks);
                Ok((begun.elapsed(), modest.latencies))
            };
            let completed = self.complete_on_the_raw_wire(&shape, &tasks);
            let ((elapsed, latencies), ()) = tokio::try_join!(produced, completed)?;
            Ok(Timing { elapsed, latencies })
        })
    }

    fn schedule(
        &self,
        waiting: u64,
        due: u64,
        over: Duration,
    ) -> LocalBoxFuture<'_, Result<Timing>> {
        Box::pin(async move {
            let begun = Instant::now();
            let (hour, day) = (3_600_000, 86_400_000);
            let now = now_ms()?;
            let at = |id: String, at_ms: u64| wire::Task {
                eta_at_ms: i64::try_from(at_ms).ok(),
                ..raw::task(&id, NAME)
            };
            load::submit(&self.process, waiting, |number| {
                let later = now + hour + number * (day - hour) / waiting.max(1);
                wire::Task {
                    payload: load::payload(200),
                    ..at(format!("later-{number:012}"), later)
                }
            })
            .await?;

            let mut worker =
                RawConnection::worker(self.process.address(), &["default"], &[NAME], 1_000).await;
            let first = now_ms()? + u64::try_from(SCHEDULED_AHEAD.as_millis())?;
            let due_at = |number: u64| {
                first + number * u64::try_from(over.as_millis()).unwrap_or(0) / due.max(1)
            };
            load::submit(&self.process, due, |number| wire::Task {
                payload: load::payload(200),
                ..at(format!("due-{}", due_at(number)) + &format!("-{number}"), due_at(number))
            })
            .await?;
            ensure!(now_ms()? < first, "it took too long to submit what falls due");
            let latencies = lateness(&mut worker, due).await?;
            Ok(Timing { elapsed: begun.elapsed(), latencies })
        })
    }

    fn connect(&self, connections: usize) -> LocalBoxFuture<'_, Result<Box<dyn Any>>> {
        Box::pin(async move {
            let mut open = Vec::new();
            while open.len() < connections {
                let more = OPENED_AT_ONCE.min(connections - open.len());
                open.extend(
                    join_all((0..more).map(|_| RawConnection::open(self.process.address()))).await,
                );
            }
            Ok(Box::new(open) as Box<dyn Any>)
        })
    }

    fn list(&self, tasks: u64) -> LocalBoxFuture<'_, Result<Timing>> {
        Box::pin(async move {
            listing::fill(&self.process, tasks).await?;
            let begun = Instant::now();
            let mut latencies = Vec::new();
            for (what, filter) in listing::filters(tasks) {
                latencies.extend(listing::pages(&self.process, what, filter, PAGES).await?.0);
            }
            Ok(Timing { elapsed: begun.elapsed(), latencies })
        })
    }

    /// The machine alone, in this process: the broker beside it is idle.
    fn longest_steps(&self, tasks: u64) -> LocalBoxFuture<'_, Result<Timing>> {
        Box::pin(async move {
            let begun = Instant::now();
            let measured = tokio::task::spawn_blocking(move || steps::measure(tasks)).await??;
            let latencies = measured.into_iter().map(|measured| measured.longest).collect();
            Ok(Timing { elapsed: begun.elapsed(), latencies })
        })
    }

    fn restart(&mut self) -> LocalBoxFuture<'_, Result<Duration>> {
        Box::pin(async {
            self.runs = false;
            let exit = self.process.stop().await;
            ensure!(exit.status.success(), "it did not stop in good order: {exit:?}");
            let begun = Instant::now();
            self.process
                .try_restart()
                .await
                .map_err(|exit| anyhow!("it did not start again: {exit:?}"))?;
            self.runs = true;
            RawConnection::open(self.process.address()).await.info("nobody").await;
            Ok(begun.elapsed())
        })
    }

    fn disk_times(&self) -> LocalBoxFuture<'_, Result<Option<f64>>> {
        Box::pin(async { Ok(Some(DiskUse::of(&self.process).await?.times())) })
    }

    fn processes(&self) -> Vec<u32> {
        self.runs.then(|| self.process.pid()).into_iter().collect()
    }
}

fn shape(load: &Load) -> Shape {
    Shape {
        producers: load.producers,
        workers: load.workers,
        batch: load.batch,
        window: load.in_flight,
        // A worker holds as many tasks as a producer has in flight.
        credit: u32::try_from(load.batch * load.in_flight).unwrap_or(u32::MAX),
        first: 0,
        payload: load.payload,
        result: load.result,
    }
}

async fn all(mut producers: JoinSet<Result<Submitted>>) -> Result<Submitted> {
    let mut all = Submitted::default();
    while let Some(producer) = producers.join_next().await {
        let producer = producer??;
        all.tasks += producer.tasks;
        all.latencies.extend(producer.latencies);
    }
    Ok(all)
}

/// How long after its time each of so many tasks was delivered. The time is in its id. Reports are
/// not waited for, because the next task may be due already.
async fn lateness(worker: &mut RawConnection, due: u64) -> Result<Vec<Duration>> {
    let mut late = Vec::new();
    while (late.len() as u64) < due {
        let next = tokio::time::timeout(PATIENCE, worker.next())
            .await
            .context("nothing fell due for a minute")?;
        let (_, answer) = next.map_err(|lost| anyhow!("the connection was lost: {lost:?}"))?;
        let Answer::Deliver(deliver) = answer else { continue };
        let now = now_ms()?;
        let mut reports = Vec::new();
        for delivery in deliver.deliveries {
            let due_at: u64 =
                delivery.id.split('-').nth(1).context("the id of a task that is due")?.parse()?;
            ensure!(due_at <= now, "{} was handed over at {now}, before its time", delivery.id);
            late.push(Duration::from_millis(now - due_at));
            reports.push(raw::report(&delivery, raw::complete(b"null")));
        }
        let report = Request::Report(wire::Report { reports });
        worker
            .send(report, 0)
            .await
            .map_err(|lost| anyhow!("the connection was lost: {lost:?}"))?;
    }
    Ok(late)
}

fn now_ms() -> Result<u64> {
    Ok(u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?)
}
