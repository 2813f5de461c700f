//! Redis Streams with an append-only file: XADD, a group of consumers, and results as keys that
//! expire. Everything is pipelined over one connection for each producer and worker, and what a
//! worker completes travels with its next read. The protocol is spoken by hand: it costs the
//! machine less than a client that can do everything.

use std::any::Any;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use futures_util::future::LocalBoxFuture;
use tokio::task::JoinSet;

use super::process::{Server, free_port, installed, printed_version};
use super::resp::{argument, begin, command, scan, strings};
use super::wire::{Claims, Wire, all_of, idle_connections, share};
use crate::compare::system::{Load, Missing, Running, System, Timing, Workload};

const QUEUE: &[u8] = b"queue";
/// The queue of round trips, which nothing else waits in.
const CALLS: &[u8] = b"calls";
/// The queue of what was scheduled.
const DUE: &[u8] = b"due";
const GROUP: &[u8] = b"workers";
const SCHEDULE: &[u8] = b"schedule";
/// Results and replies go after an hour.
const LIFETIME_S: &[u8] = b"3600";
/// How often a worker looks for what is due. Redis has no word for it; its task queues poll every
/// second or more.
const POLL: Duration = Duration::from_millis(10);
const DUE_AT_ONCE: usize = 100;
/// Takes what is due and puts it into the queue, in one step.
const MOVE_DUE: &[u8] =
    b"local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
if #due > 0 then redis.call('ZREM', KEYS[1], unpack(due)) end
for _, task in ipairs(due) do redis.call('XADD', KEYS[2], '*', 'p', task) end
return #due";

/// Both rows.
pub(super) fn systems() -> [Box<dyn System>; 2] {
    [
        Box::new(Redis { durability: "appendfsync always", fsync: "always" }),
        Box::new(Redis {
            durability: "appendfsync everysec (may lose a second)",
            fsync: "everysec",
        }),
    ]
}

struct Redis {
    durability: &'static str,
    fsync: &'static str,
}

impl System for Redis {
    fn name(&self) -> &'static str {
        "Redis Streams"
    }

    fn durability(&self) -> &'static str {
        self.durability
    }

    fn version(&self) -> Result<String, Missing> {
        redis_version()
    }

    fn offers(&self, workload: Workload) -> bool {
        !workload.is_of_celeriac_alone()
    }

    fn start<'a>(&'a self, folder: &'a Path) -> LocalBoxFuture<'a, Result<Box<dyn Running>>> {
        Box::pin(async {
            let redis = RedisServer::start(folder, self.fsync).await?;
            let mut wire = redis.wire().await?;
            for stream in [QUEUE, CALLS, DUE] {
                command(&mut wire.out, &[b"XGROUP", b"CREATE", stream, GROUP, b"0", b"MKSTREAM"]);
            }
            wire.flush().await?;
            wire.answers(3).await?;
            Ok(Box::new(redis) as Box<dyn Running>)
        })
    }
}

/// The version of the server that is installed.
pub(super) fn redis_version() -> Result<String, Missing> {
    let mut command = Command::new(program()?);
    command.arg("--version");
    printed_version(command)
}

fn program() -> Result<PathBuf, Missing> {
    installed("redis-server", "redis-server")
}

/// A server that was started here.
pub(super) struct RedisServer {
    server: Server,
    folder: PathBuf,
    fsync: &'static str,
    port: u16,
}

impl RedisServer {
    /// Starts it on this folder and waits until it answers.
    pub(super) async fn start(folder: &Path, fsync: &'static str) -> Result<Self> {
        let port = free_port()?;
        let mut redis = Self {
            server: Self::spawn(folder, fsync, port)?,
            folder: folder.to_owned(),
            fsync,
            port,
        };
        redis.ready().await?;
        Ok(redis)
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn processes(&self) -> Vec<u32> {
        self.server.processes()
    }

    /// Stops and starts it; from exec to the first answer.
    pub(super) async fn restart(&mut self) -> Result<Duration> {
        let mut wire = self.wire().await?;
        command(&mut wire.out, &[b"SHUTDOWN"]);
        wire.flush().await?;
        self.server.ended().await?;
        let since = Instant::now();
        self.server = Self::spawn(&self.folder, self.fsync, self.port)?;
        self.ready().await?;
        Ok(since.elapsed())
    }

    fn spawn(folder: &Path, fsync: &str, port: u16) -> Result<Server> {
        let mut redis = Command::new(program().map_err(|missing| anyhow::anyhow!(missing.0))?);
        redis.current_dir(folder).arg("--dir").arg(folder).args([
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
        ]);
        redis.args([
            "--appendonly",
            "yes",
            "--appendfsync",
            fsync,
            "--save",
            "",
            "--maxclients",
            "20000",
        ]);
        Server::start(redis, &folder.join("redis.log"))
    }

    async fn ready(&mut self) -> Result<()> {
        let port = self.port;
        self.server.ready(async || ping(port).await.is_ok()).await
    }

    async fn wire(&self) -> Result<Wire> {
        Wire::connect(self.port, scan).await
    }

    async fn producers(&self, load: &Load) -> Result<Vec<Wire>> {
        let mut wires = Vec::new();
        for _ in 0..load.producers {
            wires.push(self.wire().await?);
        }
        Ok(wires)
    }

    /// One of the results of the tasks that were completed last is where the submitter would look
    /// for it.
    async fn has_results(&self, length: usize) -> Result<()> {
        let mut wire = self.wire().await?;
        command(&mut wire.out, &[b"RANDOMKEY"]);
        wire.flush().await?;
        let key = wire.answer().await?;
        let key = strings(&key)?.first().context("no key at all after a lifecycle")?.to_vec();
        if key.starts_with(b"result:") {
            command(&mut wire.out, &[b"GET", &key]);
            wire.flush().await?;
            let answer = wire.answer().await?;
            ensure!(
                strings(&answer)?.first().is_some_and(|result| result.len() == length),
                "a result is not there"
            );
        }
        Ok(())
    }
}

async fn ping(port: u16) -> Result<Wire> {
    let mut wire = Wire::connect(port, scan).await?;
    command(&mut wire.out, &[b"PING"]);
    wire.flush().await?;
    wire.answers(1).await?;
    Ok(wire)
}

impl Running for RedisServer {
    fn enqueue<'a>(&'a self, load: &'a Load) -> LocalBoxFuture<'a, Result<Timing>> {
        Box::pin(async {
            let wires = self.producers(load).await?;
            let mut tasks = JoinSet::new();
            let since = Instant::now();
            produce(&mut tasks, wires, load);
            all_of(tasks, since).await
        })
    }

    fn lifecycle<'a>(&'a self, load: &'a Load) -> LocalBoxFuture<'a, Result<Timing>> {
        Box::pin(async {
            let producers = self.producers(load).await?;
            let claims = Claims::new(load.tasks);
            let mut tasks = JoinSet::new();
            let mut workers = Vec::new();
            for _ in 0..load.workers {
                workers.push(self.wire().await?);
            }
            let since = Instant::now();
            for (index, wire) in workers.into_iter().enumerate() {
                tasks.spawn(work(wire, format!("w{index}"), claims.clone(), load.clone()));
            }
            produce(&mut tasks, producers, load);
            let timing = all_of(tasks, since).await?;
            self.has_results(load.result).await?;
            Ok(timing)
        })
    }

    fn roundtrip(&self, tasks: u64) -> LocalBoxFuture<'_, Result<Timing>> {
        Box::pin(async move {
            let mut wire = self.wire().await?;
            // Dropped, and so ended, with the set.
            let mut worker = JoinSet::new();
            worker.spawn(reply(self.wire().await?));
            let mut latencies = Vec::new();
            let since = Instant::now();
            for task in 0..tasks {
                let begun = Instant::now();
                let key = format!("reply:{task}");
                command(
                    &mut wire.out,
                    &[b"XADD", CALLS, b"*", b"p", &[b'p'; 200], b"k", key.as_bytes()],
                );
                command(&mut wire.out, &[b"BLPOP", key.as_bytes(), b"30"]);
                wire.flush().await?;
                wire.answers(1).await?;
                ensure!(strings(&wire.answer().await?)?.len() == 2, "no reply within 30 s");
                latencies.push(begun.elapsed());
            }
            Ok(Timing { elapsed: since.elapsed(), latencies })
        })
    }

    fn schedule(
        &self,
        waiting: u64,
        due: u64,
        over: Duration,
    ) -> LocalBoxFuture<'_, Result<Timing>> {
        Box::pin(async move {
            let mut wire = self.wire().await?;
            let window = Load {
                tasks: 0,
                producers: 1,
                workers: 1,
                batch: 500,
                in_flight: 4,
                payload: 200,
                result: 64,
            };
            let later = now_us()? + 3_600_000_000;
            let mut count = 0;
            wire.submit(waiting, &window, |out| {
                plan(out, later + count, count, window.payload);
                count += 1;
            })
            .await?;
            let first = now_us()? + 1_000_000;
            let over_us = u64::try_from(over.as_micros())?;
            let mut index = 0;
            wire.submit(due, &window, |out| {
                plan(out, first + over_us * index / due, count + index, window.payload);
                index += 1;
            })
            .await?;
            self.take_due(due).await
        })
    }

    fn connect(&self, connections: usize) -> LocalBoxFuture<'_, Result<Box<dyn Any>>> {
        Box::pin(idle_connections(connections, async || ping(self.port).await))
    }

    fn restart(&mut self) -> LocalBoxFuture<'_, Result<Duration>> {
        Box::pin(RedisServer::restart(self))
    }

    fn processes(&self) -> Vec<u32> {
        RedisServer::processes(self)
    }
}

impl RedisServer {
    async fn take_due(&self, due: u64) -> Result<Timing> {
        let mut wire = self.wire().await?;
        let mut latencies = Vec::new();
        let since = Instant::now();
        let mut polls = tokio::time::interval(POLL);
        while (latencies.len() as u64) < due {
            polls.tick().await;
            let now = now_us()?.to_string();
            let most = DUE_AT_ONCE.to_string();
            command(
                &mut wire.out,
                &[b"EVAL", MOVE_DUE, b"2", SCHEDULE, DUE, now.as_bytes(), most.as_bytes()],
            );
            let count = DUE_AT_ONCE.to_string();
            command(
                &mut wire.out,
                &[
                    b"XREADGROUP",
                    b"GROUP",
                    GROUP,
                    b"w0",
                    b"COUNT",
                    count.as_bytes(),
                    b"STREAMS",
                    DUE,
                    b">",
                ],
            );
            wire.flush().await?;
            wire.answers(1).await?;
            let entries = wire.answer().await?;
            let at = now_us()?;
            let strings = strings(&entries)?;
            let mut ids = Vec::new();
            for entry in strings.get(1..).unwrap_or_default().chunks_exact(3) {
                let planned: u64 = std::str::from_utf8(&entry[2][..20])?.parse()?;
                latencies.push(Duration::from_micros(at.saturating_sub(planned)));
                ids.push(entry[0]);
            }
            if !ids.is_empty() {
                let answers = complete(&mut wire.out, DUE, &ids, &[b'r'; 64]);
                wire.flush().await?;
                wire.answers(answers).await?;
            }
        }
        Ok(Timing { elapsed: since.elapsed(), latencies })
    }
}

/// A task of the schedule: its time in 20 digits, its number, and what fills it up.
fn plan(out: &mut Vec<u8>, due_us: u64, number: u64, payload: usize) {
    let task = format!("{due_us:020}{number:0>width$}", width = payload.saturating_sub(20));
    command(out, &[b"ZADD", SCHEDULE, due_us.to_string().as_bytes(), task.as_bytes()]);
}

fn now_us() -> Result<u64> {
    Ok(u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros())?)
}

fn produce(tasks: &mut JoinSet<Result<Vec<Duration>>>, wires: Vec<Wire>, load: &Load) {
    for (index, mut wire) in wires.into_iter().enumerate() {
        let load = load.clone();
        tasks.spawn(async move {
            let payload = vec![b'p'; load.payload];
            let share = share(load.tasks, load.producers, index);
            wire.submit(share, &load, |out| command(out, &[b"XADD", QUEUE, b"*", b"p", &payload]))
                .await
        });
    }
}

/// Reads, completes with the next read in the same write, and goes on until all completions are
/// claimed.
async fn work(mut wire: Wire, name: String, claims: Claims, load: Load) -> Result<Vec<Duration>> {
    let result = vec![b'r'; load.result];
    let most = (load.batch * load.in_flight) as u64;
    let mut owed = claims.take(most);
    read(&mut wire.out, QUEUE, &name, owed);
    while owed > 0 {
        wire.flush().await?;
        let entries = wire.answer().await?;
        let strings = strings(&entries)?;
        let ids: Vec<&[u8]> = strings[1..].chunks_exact(3).map(|entry| entry[0]).collect();
        owed -= ids.len() as u64;
        owed += claims.take(most - owed);
        let mut answers = 0;
        for ids in ids.chunks(load.batch) {
            answers += complete(&mut wire.out, QUEUE, ids, &result);
        }
        if owed > 0 {
            read(&mut wire.out, QUEUE, &name, owed);
        }
        wire.flush().await?;
        wire.answers(answers).await?;
    }
    Ok(Vec::new())
}

fn read(out: &mut Vec<u8>, stream: &[u8], name: &str, count: u64) {
    let (name, count) = (name.as_bytes(), count.to_string());
    let words: [&[u8]; 11] = [
        b"XREADGROUP",
        b"GROUP",
        GROUP,
        name,
        b"COUNT",
        count.as_bytes(),
        b"BLOCK",
        b"0",
        b"STREAMS",
        stream,
        b">",
    ];
    command(out, &words);
}

/// Results, and the end of the tasks; returns how many answers come.
fn complete(out: &mut Vec<u8>, stream: &[u8], ids: &[&[u8]], result: &[u8]) -> usize {
    for id in ids {
        keep(out, id, result);
    }
    begin(out, 3 + ids.len());
    [b"XACK", stream, GROUP]
        .into_iter()
        .chain(ids.iter().copied())
        .for_each(|word| argument(out, word));
    begin(out, 2 + ids.len());
    [b"XDEL", stream].into_iter().chain(ids.iter().copied()).for_each(|word| argument(out, word));
    ids.len() + 2
}

fn keep(out: &mut Vec<u8>, id: &[u8], result: &[u8]) {
    command(out, &[b"SET", &[b"result:", id].concat(), result, b"EX", LIFETIME_S]);
}

/// Answers round trips: the result is kept by id as always, and the submitter that waits is told.
async fn reply(mut wire: Wire) -> Result<()> {
    let result = [b'r'; 64];
    read(&mut wire.out, CALLS, "w0", 1);
    loop {
        wire.flush().await?;
        let entry = wire.answer().await?;
        let [_, id, _, _, _, key] = strings(&entry)?[..] else {
            anyhow::bail!("a call without a reply key")
        };
        keep(&mut wire.out, id, &result);
        command(&mut wire.out, &[b"LPUSH", key, &result]);
        command(&mut wire.out, &[b"EXPIRE", key, LIFETIME_S]);
        command(&mut wire.out, &[b"XACK", CALLS, GROUP, id]);
        command(&mut wire.out, &[b"XDEL", CALLS, id]);
        read(&mut wire.out, CALLS, "w0", 1);
        wire.flush().await?;
        wire.answers(5).await?;
    }
}
