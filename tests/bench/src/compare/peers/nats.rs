//! NATS JetStream with file storage: a work queue, acknowledged publishes with several in flight,
//! pulls of batches, results in a key-value bucket with a TTL. This version of the server syncs to
//! the disk every two minutes and has no setting for that. The program writes the text protocol
//! itself, as for all peers with a text protocol.

use std::any::Any;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use futures_util::future::LocalBoxFuture;
use tokio::task::JoinSet;

use super::process::{Server, free_port, installed, printed_version};
use super::wire::{Claims, Wire, all_of, idle_connections, line, number, share};
use crate::compare::system::{Load, Missing, Running, System, Timing, Workload};

const HELLO: &[u8] =
    b"CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,\"no_responders\":true,\
\"lang\":\"rust\",\"version\":\"1\"}\r\nPING\r\n";
const TASKS: &str = r#"{"name":"TASKS","subjects":["tasks"],"retention":"workqueue","storage":"file","num_replicas":1}"#;
const CALLS: &str = r#"{"name":"CALLS","subjects":["calls"],"retention":"workqueue","storage":"file","num_replicas":1}"#;
/// A bucket as the NATS clients make it: the last message of each subject is the value, and expires
/// after an hour.
const RESULTS: &str = r#"{"name":"KV_RESULTS","subjects":["$KV.RESULTS.>"],"storage":"file","num_replicas":1,
"max_msgs_per_subject":1,"max_age":3600000000000,"discard":"new","allow_rollup_hdrs":true,"deny_delete":true,"allow_direct":true}"#;
const HOUR_NS: u64 = 3_600_000_000_000;

// The numbers of our subscriptions.
const CONFIRMED: &[u8] = b"1";
const DELIVERED: &[u8] = b"2";
const STORED: &[u8] = b"3";
const ACKNOWLEDGED: &[u8] = b"4";
const REPLIED: &[u8] = b"5";

/// The one row.
pub(super) fn systems() -> [Box<dyn System>; 1] {
    [Box::new(Nats)]
}

struct Nats;

impl System for Nats {
    fn name(&self) -> &'static str {
        "NATS JetStream"
    }

    fn durability(&self) -> &'static str {
        "file storage, synced every 2 minutes (may lose as much)"
    }

    fn version(&self) -> Result<String, Missing> {
        let mut command = Command::new(program()?);
        command.arg("--version");
        printed_version(command)
    }

    fn offers(&self, workload: Workload) -> bool {
        !workload.is_of_celeriac_alone() && workload != Workload::Scheduled
    }

    fn start<'a>(&'a self, folder: &'a Path) -> LocalBoxFuture<'a, Result<Box<dyn Running>>> {
        Box::pin(async {
            let port = free_port()?;
            // These clients do not answer pings. The server allows that for an hour.
            let settings = format!(
                "listen: \"127.0.0.1:{port}\"\nping_interval: \"60m\"\njetstream {{ store_dir: \"{}\" }}\n",
                folder.display()
            );
            std::fs::write(folder.join("nats.conf"), settings)?;
            let mut nats = NatsServer { server: spawn(folder)?, folder: folder.to_owned(), port };
            nats.ready().await?;
            nats.create().await?;
            Ok(Box::new(nats) as Box<dyn Running>)
        })
    }
}

fn program() -> Result<PathBuf, Missing> {
    installed("nats-server", "nats-server")
}

fn spawn(folder: &Path) -> Result<Server> {
    let mut nats = Command::new(program().map_err(|missing| anyhow!(missing.0))?);
    nats.arg("-c").arg(folder.join("nats.conf"));
    Server::start(nats, &folder.join("nats.out"))
}

struct NatsServer {
    server: Server,
    folder: PathBuf,
    port: u16,
}

impl NatsServer {
    async fn ready(&mut self) -> Result<()> {
        let port = self.port;
        self.server.ready(async || ask(port, "$JS.API.INFO", "").await.is_ok()).await
    }

    async fn create(&self) -> Result<()> {
        for (name, stream) in [("TASKS", TASKS), ("CALLS", CALLS), ("KV_RESULTS", RESULTS)] {
            ask(self.port, &format!("$JS.API.STREAM.CREATE.{name}"), stream).await?;
        }
        for name in ["TASKS", "CALLS"] {
            let consumer = format!(
                r#"{{"stream_name":"{name}","config":{{"durable_name":"workers","ack_policy":"explicit",
                "deliver_policy":"all","ack_wait":{HOUR_NS},"max_ack_pending":100000}}}}"#
            );
            ask(self.port, &format!("$JS.API.CONSUMER.DURABLE.CREATE.{name}.workers"), &consumer)
                .await?;
        }
        Ok(())
    }

    /// Connections that receive their answers, each on an inbox of its own.
    async fn wires(&self, count: usize, role: &str) -> Result<Vec<(Wire, Inbox)>> {
        let mut wires = Vec::new();
        for index in 0..count {
            let mut wire = greeted(self.port).await?;
            let inbox = Inbox(format!("_INBOX.{role}{index}"));
            for number in [CONFIRMED, DELIVERED, STORED, ACKNOWLEDGED, REPLIED] {
                let number = std::str::from_utf8(number)?;
                wire.out
                    .extend_from_slice(format!("SUB {}.{number} {number}\r\n", inbox.0).as_bytes());
            }
            wire.out.extend_from_slice(b"PING\r\n");
            wire.flush().await?;
            wire.answers(1).await?;
            wires.push((wire, inbox));
        }
        Ok(wires)
    }

    /// A result is stored where a reader of the bucket looks for it.
    async fn has_results(&self, length: usize) -> Result<()> {
        let info = ask(self.port, "$JS.API.STREAM.INFO.KV_RESULTS", "").await?;
        let info: serde_json::Value = serde_json::from_slice(payload(&info)?)?;
        let last = info["state"]["last_seq"].as_u64().context("a stream without an end")?;
        let answer =
            ask(self.port, "$JS.API.STREAM.MSG.GET.KV_RESULTS", &format!(r#"{{"seq":{last}}}"#))
                .await?;
        let message: serde_json::Value = serde_json::from_slice(payload(&answer)?)?;
        let encoded = message["message"]["data"].as_str().context("a result is not there")?;
        ensure!(encoded.len().div_ceil(4) == length.div_ceil(3), "a result is not whole");
        Ok(())
    }
}

struct Inbox(String);

impl Inbox {
    /// The subject of a subscription.
    fn by(&self, number: &[u8]) -> String {
        format!("{}.{}", self.0, String::from_utf8_lossy(number))
    }
}

async fn greeted(port: u16) -> Result<Wire> {
    let mut wire = Wire::connect(port, scan).await?;
    wire.out.extend_from_slice(HELLO);
    wire.flush().await?;
    // INFO and PONG.
    wire.answers(2).await?;
    Ok(wire)
}

/// One request of the management API. Its answer must not be an error.
async fn ask(port: u16, subject: &str, request: &str) -> Result<bytes::Bytes> {
    let mut wire = greeted(port).await?;
    wire.out.extend_from_slice(b"SUB _INBOX.asked 1\r\n");
    publish(&mut wire.out, subject.as_bytes(), b"_INBOX.asked", request.as_bytes());
    wire.flush().await?;
    let answer = wire.answer().await?;
    ensure!(unasked(&answer).starts_with(b"MSG"), "there is no answer to {subject}");
    let text = String::from_utf8_lossy(payload(&answer)?);
    ensure!(!text.contains("\"error\""), "{subject}: {text}");
    Ok(answer)
}

fn publish(out: &mut Vec<u8>, subject: &[u8], reply: &[u8], payload: &[u8]) {
    let length = payload.len().to_string();
    for part in [b"PUB ", subject, b" ", reply, b" ", length.as_bytes(), b"\r\n", payload, b"\r\n"]
    {
        out.extend_from_slice(part);
    }
}

/// The length of the first message, if it is complete.
fn scan(bytes: &[u8]) -> Result<Option<usize>> {
    let Some((line, end)) = line(bytes) else { return Ok(None) };
    if line.starts_with(b"MSG ") || line.starts_with(b"HMSG ") {
        let length = line.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
        let end = end + usize::try_from(number(length)?)? + 2;
        return Ok((end <= bytes.len()).then_some(end));
    }
    match line {
        b"PONG" => Ok(Some(end)),
        // The PONG is sent with the next write. The server sends two pings, minutes apart, before
        // it misses an answer.
        b"PING" => Ok(scan(&bytes[end..])?.map(|length| end + length)),
        line if line.starts_with(b"INFO") => Ok(Some(end)),
        _ => bail!("refused: {}", String::from_utf8_lossy(line)),
    }
}

/// The subscription of a message, and the subject for the answer.
fn head(message: &[u8]) -> Result<(&[u8], &[u8])> {
    let (line, _) = line(unasked(message)).context("a message without a head")?;
    let mut words = line.split(|byte| *byte == b' ');
    match (words.next(), words.nth(1), words.next()) {
        (Some(b"MSG"), Some(number), Some(reply)) => Ok((number, reply)),
        _ => bail!("no message: {}", String::from_utf8_lossy(message)),
    }
}

/// The pings of the server are left out.
fn unasked(message: &[u8]) -> &[u8] {
    message.strip_prefix(b"PING\r\n").map_or(message, unasked)
}

fn payload(message: &[u8]) -> Result<&[u8]> {
    let message = unasked(message);
    let (_, end) = line(message).context("a message without a head")?;
    message[end..].strip_suffix(b"\r\n").context("a message without an end")
}

/// `{"stream":"TASKS", "seq":7}`, and not `{"error":...`.
fn check_stored(message: &[u8]) -> Result<()> {
    let text = payload(message)?;
    ensure!(text.starts_with(b"{\"stream\""), "not stored: {}", String::from_utf8_lossy(text));
    Ok(())
}

impl Running for NatsServer {
    fn enqueue<'a>(&'a self, load: &'a Load) -> LocalBoxFuture<'a, Result<Timing>> {
        Box::pin(async {
            let wires = self.wires(load.producers, "producer").await?;
            let mut tasks = JoinSet::new();
            let since = Instant::now();
            produce(&mut tasks, wires, load);
            all_of(tasks, since).await
        })
    }

    fn lifecycle<'a>(&'a self, load: &'a Load) -> LocalBoxFuture<'a, Result<Timing>> {
        Box::pin(async {
            let producers = self.wires(load.producers, "producer").await?;
            let workers = self.wires(load.workers, "worker").await?;
            let claims = Claims::new(load.tasks);
            let mut tasks = JoinSet::new();
            let since = Instant::now();
            for (wire, inbox) in workers {
                let worker = Worker::new(wire, inbox, "TASKS", load.result);
                tasks.spawn(worker.run(claims.clone(), load.batch as u64, load.in_flight as u64));
            }
            produce(&mut tasks, producers, load);
            let timing = all_of(tasks, since).await?;
            self.has_results(load.result).await?;
            Ok(timing)
        })
    }

    fn roundtrip(&self, tasks: u64) -> LocalBoxFuture<'_, Result<Timing>> {
        Box::pin(async move {
            let (worker, inbox) = self.wires(1, "worker").await?.pop().context("one connection")?;
            let (mut wire, own) =
                self.wires(1, "submitter").await?.pop().context("one connection")?;
            let mut worker = Worker::new(worker, inbox, "CALLS", 64);
            worker.reply = Some(own.by(REPLIED));
            // The task is dropped with the set, which ends it.
            let mut running = JoinSet::new();
            running.spawn(worker.run(Claims::new(u64::MAX), 1, 1));
            let confirm = own.by(CONFIRMED);
            let mut latencies = Vec::new();
            let since = Instant::now();
            for _ in 0..tasks {
                let begun = Instant::now();
                publish(&mut wire.out, b"calls", confirm.as_bytes(), &[b'p'; 200]);
                wire.flush().await?;
                // Waits for the confirmation and the reply, in either order.
                wire.answers(2).await?;
                latencies.push(begun.elapsed());
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
            self.server = spawn(&self.folder)?;
            self.ready().await?;
            Ok(since.elapsed())
        })
    }

    fn processes(&self) -> Vec<u32> {
        self.server.processes()
    }
}

fn produce(tasks: &mut JoinSet<Result<Vec<Duration>>>, wires: Vec<(Wire, Inbox)>, load: &Load) {
    for (index, (mut wire, inbox)) in wires.into_iter().enumerate() {
        let load = load.clone();
        tasks.spawn(async move {
            let payload = vec![b'p'; load.payload];
            let confirm = inbox.by(CONFIRMED);
            let share = share(load.tasks, load.producers, index);
            wire.check = Some(check_stored);
            wire.submit(share, &load, |out| publish(out, b"tasks", confirm.as_bytes(), &payload))
                .await
        });
    }
}

/// Answers every message: a task with its result, a stored result with the acknowledgement of its
/// task.
struct Worker {
    wire: Wire,
    inbox: Inbox,
    pull: String,
    result: Vec<u8>,
    /// The subject that also gets the result, for round trips.
    reply: Option<String>,
    /// Tasks whose results are not yet stored, by their acknowledgement subject.
    storing: VecDeque<Vec<u8>>,
}

impl Worker {
    fn new(wire: Wire, inbox: Inbox, stream: &str, result: usize) -> Self {
        let pull = format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.workers");
        Self {
            wire,
            inbox,
            pull,
            result: vec![b'r'; result],
            reply: None,
            storing: VecDeque::new(),
        }
    }

    /// Pulls batches, with so many pulls in flight, until all completions are claimed and
    /// acknowledged.
    async fn run(mut self, claims: Claims, batch: u64, in_flight: u64) -> Result<Vec<Duration>> {
        let (mut undelivered, mut unfinished) = (0, 0);
        loop {
            while undelivered <= batch * (in_flight - 1) {
                let count = claims.take(batch);
                if count == 0 {
                    break;
                }
                self.pull(count);
                undelivered += count;
                unfinished += count;
            }
            if unfinished == 0 {
                return Ok(Vec::new());
            }
            self.wire.flush().await?;
            let mut message = Some(self.wire.answer().await?);
            // All messages that have arrived are answered in one write.
            while let Some(next) = message {
                match head(&next)? {
                    (DELIVERED, acknowledge) => {
                        undelivered -= 1;
                        self.store(acknowledge)?;
                    }
                    (STORED, _) => self.acknowledge(&next)?,
                    (ACKNOWLEDGED, _) => unfinished -= 1,
                    _ => bail!("an answer to nothing: {}", String::from_utf8_lossy(&next)),
                }
                message = self.wire.answer_there()?;
            }
        }
    }

    fn pull(&mut self, count: u64) {
        let request = format!(r#"{{"batch":{count},"expires":{HOUR_NS}}}"#);
        let inbox = self.inbox.by(DELIVERED);
        publish(&mut self.wire.out, self.pull.as_bytes(), inbox.as_bytes(), request.as_bytes());
    }

    /// The id of a task is its number in the stream:
    /// `$JS.ACK.<stream>.<consumer>.<deliveries>.<number>...`.
    fn store(&mut self, acknowledge: &[u8]) -> Result<()> {
        let id =
            acknowledge.split(|byte| *byte == b'.').nth(5).context("a task without a number")?;
        let key = [b"$KV.RESULTS.", id].concat();
        publish(&mut self.wire.out, &key, self.inbox.by(STORED).as_bytes(), &self.result);
        self.storing.push_back(acknowledge.to_vec());
        Ok(())
    }

    fn acknowledge(&mut self, stored: &[u8]) -> Result<()> {
        check_stored(stored)?;
        let task = self.storing.pop_front().context("an acknowledgement of an unknown message")?;
        publish(&mut self.wire.out, &task, self.inbox.by(ACKNOWLEDGED).as_bytes(), b"+ACK");
        if let Some(reply) = &self.reply {
            publish(&mut self.wire.out, reply.as_bytes(), b"", &self.result);
        }
        Ok(())
    }
}
