//! beanstalkd with an fsync after every change. It keeps no results, so a lifecycle is put, reserve
//! and delete. Commands are pipelined, and deletes are sent with the next reserves.

use std::any::Any;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use futures_util::future::LocalBoxFuture;
use tokio::task::JoinSet;

use super::process::{Server, free_port, installed, printed_version};
use super::wire::{Claims, Wire, all_of, idle_connections, line, number, share};
use crate::compare::system::{Load, Missing, Running, System, Timing, Workload};

/// How long a worker may keep a task, in seconds.
const TIME_TO_RUN_S: u64 = 3600;

/// The one row.
pub(super) fn systems() -> [Box<dyn System>; 1] {
    [Box::new(Beanstalkd)]
}

struct Beanstalkd;

impl System for Beanstalkd {
    fn name(&self) -> &'static str {
        "beanstalkd"
    }

    fn durability(&self) -> &'static str {
        "-f0 (fsync on every write); keeps no results"
    }

    fn version(&self) -> Result<String, Missing> {
        let mut command = Command::new(program()?);
        command.arg("-v");
        printed_version(command)
    }

    fn offers(&self, workload: Workload) -> bool {
        !workload.is_of_celeriac_alone() && workload != Workload::Roundtrip
    }

    fn start<'a>(&'a self, folder: &'a Path) -> LocalBoxFuture<'a, Result<Box<dyn Running>>> {
        Box::pin(async {
            let port = free_port()?;
            let mut beanstalkd =
                BeanstalkdServer { server: spawn(folder, port)?, folder: folder.to_owned(), port };
            beanstalkd.ready().await?;
            Ok(Box::new(beanstalkd) as Box<dyn Running>)
        })
    }
}

fn program() -> Result<PathBuf, Missing> {
    installed("beanstalkd", "beanstalkd")
}

fn spawn(folder: &Path, port: u16) -> Result<Server> {
    let mut beanstalkd = Command::new(program().map_err(|missing| anyhow!(missing.0))?);
    beanstalkd.args(["-l", "127.0.0.1", "-p", &port.to_string(), "-f0", "-b"]).arg(folder);
    Server::start(beanstalkd, &folder.join("beanstalkd.out"))
}

struct BeanstalkdServer {
    server: Server,
    folder: PathBuf,
    port: u16,
}

impl BeanstalkdServer {
    async fn ready(&mut self) -> Result<()> {
        let port = self.port;
        self.server.ready(async || greeted(port).await.is_ok()).await
    }

    async fn wires(&self, count: usize) -> Result<Vec<Wire>> {
        let mut wires = Vec::new();
        for _ in 0..count {
            wires.push(greeted(self.port).await?);
        }
        Ok(wires)
    }
}

async fn greeted(port: u16) -> Result<Wire> {
    let mut wire = Wire::connect(port, scan).await?;
    wire.out.extend_from_slice(b"list-tube-used\r\n");
    wire.flush().await?;
    wire.answers(1).await?;
    Ok(wire)
}

/// The length of the first answer, if it is complete.
fn scan(bytes: &[u8]) -> Result<Option<usize>> {
    let Some((line, end)) = line(bytes) else { return Ok(None) };
    let mut words = line.split(|byte| *byte == b' ');
    match words.next() {
        Some(b"INSERTED" | b"DELETED" | b"USING" | b"WATCHING") => Ok(Some(end)),
        Some(b"RESERVED") => {
            let length =
                usize::try_from(number(words.nth(1).context("a job without its length")?)?)?;
            let end = end + length + 2;
            Ok((end <= bytes.len()).then_some(end))
        }
        _ => bail!("refused: {}", String::from_utf8_lossy(line)),
    }
}

/// The number of a job that was reserved.
fn job(answer: &[u8]) -> Result<&[u8]> {
    answer.split(|byte| *byte == b' ').nth(1).context("a job without its number")
}

impl Running for BeanstalkdServer {
    fn enqueue<'a>(&'a self, load: &'a Load) -> LocalBoxFuture<'a, Result<Timing>> {
        Box::pin(async {
            let wires = self.wires(load.producers).await?;
            let mut tasks = JoinSet::new();
            let since = Instant::now();
            produce(&mut tasks, wires, load);
            all_of(tasks, since).await
        })
    }

    fn lifecycle<'a>(&'a self, load: &'a Load) -> LocalBoxFuture<'a, Result<Timing>> {
        Box::pin(async {
            let producers = self.wires(load.producers).await?;
            let workers = self.wires(load.workers).await?;
            let claims = Claims::new(load.tasks);
            let mut tasks = JoinSet::new();
            let since = Instant::now();
            for wire in workers {
                tasks.spawn(work(wire, claims.clone(), (load.batch * load.in_flight) as u64));
            }
            produce(&mut tasks, producers, load);
            all_of(tasks, since).await
        })
    }

    fn schedule(
        &self,
        waiting: u64,
        due: u64,
        over: Duration,
    ) -> LocalBoxFuture<'_, Result<Timing>> {
        Box::pin(async move {
            let mut producer = greeted(self.port).await?;
            producer.out.extend_from_slice(b"use due\r\n");
            producer.flush().await?;
            producer.answers(1).await?;
            let window = Load {
                tasks: 0,
                producers: 1,
                workers: 1,
                batch: 100,
                in_flight: 4,
                payload: 200,
                result: 0,
            };
            producer.submit(waiting, &window, |out| put(out, 3600, &[b'p'; 200])).await?;
            let since = Instant::now();
            let mut worker = greeted(self.port).await?;
            worker.out.extend_from_slice(b"watch due\r\nignore default\r\n");
            worker.flush().await?;
            worker.answers(2).await?;
            worker.out.extend_from_slice(&b"reserve\r\n".repeat(usize::try_from(due)?));
            worker.flush().await?;
            let mut taking = JoinSet::new();
            taking.spawn(async move {
                let mut at = Vec::new();
                for _ in 0..due {
                    worker.answer().await?;
                    at.push(Instant::now());
                }
                anyhow::Ok(at)
            });
            let planned = plan(&mut producer, due, over).await?;
            let taken = taking.join_next().await.context("the worker is gone")???;
            let latencies = taken
                .iter()
                .zip(&planned)
                .map(|(at, due)| at.saturating_duration_since(*due))
                .collect();
            Ok(Timing { elapsed: since.elapsed(), latencies })
        })
    }

    fn connect(&self, connections: usize) -> LocalBoxFuture<'_, Result<Box<dyn Any>>> {
        Box::pin(idle_connections(connections, async || greeted(self.port).await))
    }

    fn restart(&mut self) -> LocalBoxFuture<'_, Result<Duration>> {
        Box::pin(async {
            self.server.terminate()?;
            self.server.ended().await?;
            let since = Instant::now();
            self.server = spawn(&self.folder, self.port)?;
            self.ready().await?;
            Ok(since.elapsed())
        })
    }

    fn processes(&self) -> Vec<u32> {
        self.server.processes()
    }
}

fn put(out: &mut Vec<u8>, delay_s: u64, payload: &[u8]) {
    let head = format!("put 0 {delay_s} {TIME_TO_RUN_S} {}\r\n", payload.len());
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
}

fn produce(tasks: &mut JoinSet<Result<Vec<Duration>>>, wires: Vec<Wire>, load: &Load) {
    for (index, mut wire) in wires.into_iter().enumerate() {
        let load = load.clone();
        tasks.spawn(async move {
            let payload = vec![b'p'; load.payload];
            wire.submit(share(load.tasks, load.producers, index), &load, |out| {
                put(out, 0, &payload)
            })
            .await
        });
    }
}

/// Reserves and deletes until all completions are claimed.
async fn work(mut wire: Wire, claims: Claims, most: u64) -> Result<Vec<Duration>> {
    let mut reserved = claims.take(most);
    let mut deleted = 0;
    while reserved > 0 {
        for _ in 0..reserved {
            wire.out.extend_from_slice(b"reserve\r\n");
        }
        wire.flush().await?;
        wire.answers(deleted).await?;
        deleted = 0;
        for _ in 0..reserved {
            let answer = wire.answer().await?;
            delete(&mut wire.out, job(&answer)?);
            deleted += 1;
        }
        reserved = claims.take(most);
    }
    wire.flush().await?;
    wire.answers(deleted).await?;
    Ok(Vec::new())
}

fn delete(out: &mut Vec<u8>, job: &[u8]) {
    out.extend_from_slice(b"delete ");
    out.extend_from_slice(job);
    out.extend_from_slice(b"\r\n");
}

/// Delays are whole seconds. So each task is put one second before it is due. Returns when each
/// task is due, in their order.
async fn plan(producer: &mut Wire, due: u64, over: Duration) -> Result<Vec<Instant>> {
    let (since, delay) = (Instant::now(), Duration::from_secs(1));
    let mut planned = Vec::new();
    for task in 0..due {
        let at = since + over.mul_f64(task as f64 / due as f64);
        // Time itself is what is measured.
        tokio::time::sleep_until(at.into()).await;
        put(&mut producer.out, delay.as_secs(), &[b'p'; 200]);
        planned.push(Instant::now() + delay);
        producer.flush().await?;
        producer.answers(1).await?;
    }
    Ok(planned)
}
