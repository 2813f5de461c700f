//! RabbitMQ with a durable queue of either kind: persistent messages, confirms in a window,
//! prefetch, acknowledgement of many at once. It has no store of results: they are published,
//! persistent and confirmed, into a queue of their own, as those do who need them. Server and name
//! server run in a folder of their own and know nothing of an installed one.

use std::any::Any;
use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use futures_util::future::LocalBoxFuture;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::amqp::{
    About, Arrived, acknowledge, arrived, consume, declare, greet, open_channel, publish, scan,
};
use super::process::{Server, find, free_port};
use super::wire::{Wire, all_of, idle_connections, share};
use crate::compare::system::{Load, Missing, Running, System, Timing, Workload};

const TASKS: &str = "tasks";
const RESULTS: &str = "results";
/// The queues of round trips, which nothing else waits in.
const CALLS: &str = "calls";
const REPLIES: &str = "replies";
/// Unconfirmed publishes, and unacknowledged deliveries, of a connection whose requests are
/// batches.
const CONFIRMS_WINDOW: u64 = 1000;
const PREFETCH: u64 = 200;

/// Both rows.
pub(super) fn systems() -> [Box<dyn System>; 2] {
    [
        Box::new(RabbitMq {
            durability: "quorum queue, persistent, confirms; results published",
            kind: "quorum",
        }),
        Box::new(RabbitMq {
            durability: "classic durable queue, persistent, confirms; results published",
            kind: "classic",
        }),
    ]
}

struct RabbitMq {
    durability: &'static str,
    kind: &'static str,
}

impl System for RabbitMq {
    fn name(&self) -> &'static str {
        "RabbitMQ"
    }

    fn durability(&self) -> &'static str {
        self.durability
    }

    fn version(&self) -> Result<String, Missing> {
        // It says its version only when it runs; but its folder is always named after it.
        let program = program()?;
        let program = program.canonicalize().unwrap_or(program);
        let mut folders =
            program.iter().filter_map(|folder| folder.to_str()?.strip_prefix("rabbitmq_server-"));
        folders
            .next_back()
            .map(str::to_owned)
            .ok_or_else(|| Missing(format!("{} has no version", program.display())))
    }

    fn offers(&self, workload: Workload) -> bool {
        !workload.is_of_celeriac_alone() && workload != Workload::Scheduled
    }

    fn start<'a>(&'a self, folder: &'a Path) -> LocalBoxFuture<'a, Result<Box<dyn Running>>> {
        Box::pin(async {
            let mut rabbit = RabbitServer::start(folder, self.kind)?;
            rabbit.ready(None).await?;
            let mut wire = rabbit.channel().await?;
            for queue in [TASKS, RESULTS, CALLS, REPLIES] {
                declare(&mut wire, queue, self.kind, false).await?;
            }
            Ok(Box::new(rabbit) as Box<dyn Running>)
        })
    }
}

/// Debian's wrapper insists on a user and a folder of its own; the script behind it does not.
fn program() -> Result<PathBuf, Missing> {
    let script = Some(PathBuf::from("/usr/lib/rabbitmq/bin/rabbitmq-server"))
        .filter(|script| script.exists());
    script.or_else(|| find("rabbitmq-server")).ok_or_else(|| {
        Missing("rabbitmq-server is not installed: apt-get install rabbitmq-server".to_owned())
    })
}

struct RabbitServer {
    server: Server,
    /// Erlang's name server. It would be started as a daemon, and stay, if there were none.
    _names: Server,
    names_port: u16,
    distribution_port: u16,
    folder: PathBuf,
    kind: &'static str,
    port: u16,
}

impl RabbitServer {
    fn start(folder: &Path, kind: &'static str) -> Result<Self> {
        let (port, names_port, distribution_port) = (free_port()?, free_port()?, free_port()?);
        let settings = format!(
            "listeners.tcp.1 = 127.0.0.1:{port}\ndisk_free_limit.absolute = 50MB\nheartbeat = 0\nlog.console = false\n"
        );
        std::fs::write(folder.join("rabbitmq.conf"), settings)?;
        let mut names =
            Command::new(find("epmd").context("epmd, which comes with Erlang, is not installed")?);
        names.args(["-port", &names_port.to_string(), "-address", "127.0.0.1"]);
        let names = Server::start(names, &folder.join("epmd.out"))?;
        let server = spawn(folder, port, names_port, distribution_port)?;
        Ok(Self {
            server,
            _names: names,
            names_port,
            distribution_port,
            folder: folder.to_owned(),
            kind,
            port,
        })
    }

    /// Until it greets, and has this queue.
    async fn ready(&mut self, queue: Option<&str>) -> Result<()> {
        let (port, kind) = (self.port, self.kind);
        self.server.ready(async || answers(port, queue, kind).await.is_ok()).await
    }

    async fn channel(&self) -> Result<Wire> {
        channel(self.port).await
    }

    async fn channels(&self, count: usize) -> Result<Vec<Wire>> {
        let mut wires = Vec::new();
        for _ in 0..count {
            wires.push(self.channel().await?);
        }
        Ok(wires)
    }

    /// A result is where its reader would look for it.
    async fn has_results(&self) -> Result<()> {
        let mut wire = self.channel().await?;
        consume(&mut wire, RESULTS, 1).await?;
        let answer = tokio::time::timeout(Duration::from_secs(10), wire.answer())
            .await
            .context("no result is there")??;
        ensure!(
            matches!(arrived(&answer)?, Arrived::Delivered { id } if !id.is_empty()),
            "a result has no id"
        );
        Ok(())
    }
}

fn spawn(folder: &Path, port: u16, names_port: u16, distribution_port: u16) -> Result<Server> {
    let mut rabbit = Command::new(program().map_err(|missing| anyhow!(missing.0))?);
    for (variable, file) in [
        ("HOME", ""),
        ("RABBITMQ_MNESIA_BASE", "mnesia"),
        ("RABBITMQ_LOG_BASE", "log"),
        ("RABBITMQ_PID_FILE", "pid"),
        ("RABBITMQ_CONFIG_FILE", "rabbitmq.conf"),
        ("RABBITMQ_CONF_ENV_FILE", "no-environment"),
        ("RABBITMQ_ADVANCED_CONFIG_FILE", "no-advanced-settings"),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", "no-plugins"),
        ("RABBITMQ_GENERATED_CONFIG_DIR", "generated"),
        ("ERL_CRASH_DUMP", "crash.dump"),
    ] {
        rabbit.env(variable, folder.join(file));
    }
    rabbit.env("RABBITMQ_NODENAME", format!("bench{port}@localhost"));
    rabbit.env("RABBITMQ_DIST_PORT", distribution_port.to_string());
    rabbit.env("ERL_EPMD_PORT", names_port.to_string()).env("ERL_EPMD_ADDRESS", "127.0.0.1");
    Server::start(rabbit, &folder.join("rabbitmq.out"))
}

async fn greeted(port: u16) -> Result<Wire> {
    let mut wire = Wire::connect(port, scan).await?;
    greet(&mut wire).await?;
    Ok(wire)
}

async fn channel(port: u16) -> Result<Wire> {
    let mut wire = greeted(port).await?;
    open_channel(&mut wire).await?;
    Ok(wire)
}

async fn answers(port: u16, queue: Option<&str>, kind: &str) -> Result<()> {
    let mut wire = channel(port).await?;
    match queue {
        Some(queue) => declare(&mut wire, queue, kind, true).await,
        None => Ok(()),
    }
}

impl Running for RabbitServer {
    fn enqueue<'a>(&'a self, load: &'a Load) -> LocalBoxFuture<'a, Result<Timing>> {
        Box::pin(async {
            let wires = self.channels(load.producers).await?;
            let since = Instant::now();
            all_of(producers(wires, load), since).await
        })
    }

    fn lifecycle<'a>(&'a self, load: &'a Load) -> LocalBoxFuture<'a, Result<Timing>> {
        Box::pin(async {
            let submitting = self.channels(load.producers).await?;
            let completed = Completed::new(load.tasks);
            let prefetch = if load.batch > 1 { PREFETCH } else { load.in_flight as u64 };
            // Dropped, and so ended, with the set: what they have beyond the tasks of this run goes
            // back.
            let mut workers = JoinSet::new();
            let since = Instant::now();
            for mut wire in self.channels(load.workers).await? {
                consume(&mut wire, TASKS, u16::try_from(prefetch)?).await?;
                workers.spawn(work(wire, RESULTS, load.result, completed.clone()));
            }
            let mut timing = all_of(producers(submitting, load), since).await?;
            tokio::select! {
                () = completed.reached.notified() => {}
                Some(ended) = workers.join_next() => ended??,
            }
            timing.elapsed = since.elapsed();
            self.has_results().await?;
            Ok(timing)
        })
    }

    fn roundtrip(&self, tasks: u64) -> LocalBoxFuture<'_, Result<Timing>> {
        Box::pin(async move {
            let mut worker = self.channel().await?;
            consume(&mut worker, CALLS, 1).await?;
            let mut running = JoinSet::new();
            running.spawn(work(worker, REPLIES, 64, Completed::new(u64::MAX)));
            let mut wire = self.channel().await?;
            consume(&mut wire, REPLIES, 1).await?;
            let mut latencies = Vec::new();
            let since = Instant::now();
            for task in 1..=tasks {
                let begun = Instant::now();
                let id = task.to_string();
                publish(&mut wire.out, CALLS, &About::Task(id.as_bytes()), &[b'p'; 200]);
                wire.flush().await?;
                // The confirmation and the result, in whatever order.
                wire.answers(2).await?;
                latencies.push(begun.elapsed());
                acknowledge(&mut wire.out, task);
            }
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
            self.server = spawn(&self.folder, self.port, self.names_port, self.distribution_port)?;
            self.ready(Some(TASKS)).await?;
            Ok(since.elapsed())
        })
    }

    fn processes(&self) -> Vec<u32> {
        self.server.processes()
    }
}

fn producers(wires: Vec<Wire>, load: &Load) -> JoinSet<Result<Vec<Duration>>> {
    let mut tasks = JoinSet::new();
    for (index, wire) in wires.into_iter().enumerate() {
        tasks.spawn(produce(wire, index, load.clone()));
    }
    tasks
}

/// Publishes with so many unconfirmed; the latencies are those of each `load.batch`.
async fn produce(mut wire: Wire, index: usize, load: Load) -> Result<Vec<Duration>> {
    let payload = vec![b'p'; load.payload];
    let share = share(load.tasks, load.producers, index);
    let batch = load.batch as u64;
    let window = (batch * load.in_flight as u64).max(if batch > 1 { CONFIRMS_WINDOW } else { 1 });
    let mut confirms = Confirms::default();
    let mut sent = 0;
    let mut begun: VecDeque<(Instant, u64)> = VecDeque::new();
    let mut latencies = Vec::new();
    while confirms.all_up_to < share {
        while sent < share && sent - confirms.all_up_to < window {
            if sent % batch == 0 {
                begun.push_back((Instant::now(), share.min(sent + batch)));
            }
            sent += 1;
            publish(
                &mut wire.out,
                TASKS,
                &About::Task(format!("{index}-{sent}").as_bytes()),
                &payload,
            );
        }
        wire.flush().await?;
        let mut answer = Some(wire.answer().await?);
        while let Some(next) = answer {
            confirms.note(&arrived(&next)?)?;
            answer = wire.answer_there()?;
        }
        while let Some((since, last)) = begun.front()
            && *last <= confirms.all_up_to
        {
            latencies.push(since.elapsed());
            begun.pop_front();
        }
    }
    Ok(latencies)
}

/// Publishes the result of each delivery, and acknowledges the delivery when that is confirmed.
/// Nothing else is published here, so that a delivery and its result have the same number.
async fn work(mut wire: Wire, results: &str, length: usize, completed: Completed) -> Result<()> {
    let result = vec![b'r'; length];
    let mut confirms = Confirms::default();
    loop {
        let before = confirms.all_up_to;
        let mut answer = Some(wire.answer().await?);
        while let Some(next) = answer {
            match arrived(&next)? {
                Arrived::Delivered { id } => {
                    publish(&mut wire.out, results, &About::Result(&id), &result)
                }
                confirmed => confirms.note(&confirmed)?,
            }
            answer = wire.answer_there()?;
        }
        if confirms.all_up_to > before {
            acknowledge(&mut wire.out, confirms.all_up_to);
        }
        wire.flush().await?;
        completed.add(confirms.all_up_to - before);
    }
}

/// Which publishes are confirmed: one by one, out of turn, or many at once.
#[derive(Default)]
struct Confirms {
    all_up_to: u64,
    beyond: BTreeSet<u64>,
}

impl Confirms {
    fn note(&mut self, arrived: &Arrived) -> Result<()> {
        let Arrived::Confirmed { tag, multiple } = *arrived else {
            anyhow::bail!("a delivery to a producer")
        };
        if multiple {
            self.all_up_to = self.all_up_to.max(tag);
            self.beyond.retain(|beyond| *beyond > tag);
        } else {
            self.beyond.insert(tag);
        }
        while self.beyond.remove(&(self.all_up_to + 1)) {
            self.all_up_to += 1;
        }
        Ok(())
    }
}

/// How many tasks all workers have completed, and who waits for the last.
#[derive(Clone)]
struct Completed {
    left: Arc<AtomicU64>,
    reached: Arc<Notify>,
}

impl Completed {
    fn new(tasks: u64) -> Self {
        Self { left: Arc::new(AtomicU64::new(tasks)), reached: Arc::new(Notify::new()) }
    }

    fn add(&self, count: u64) {
        let before = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            Some(left.saturating_sub(count))
        });
        if before.is_ok_and(|before| before > 0 && before <= count) {
            self.reached.notify_one();
        }
    }
}
