//! Peers that are sent much data and do not read. The broker closes them, their leases return to
//! the queue, the memory of the broker stays bounded, and no other client notices.

use std::time::Duration;

use bytes::Bytes;
use celeriac_proto::wire::{self, TaskState};
use tokio::time::timeout;

use super::Tally;
use crate::honest::Honest;
use crate::raw::{self, Lost, RawConnection, Request};
use crate::{BrokerProcess, PATIENCE, RandomSource, Setup};

/// The least that one deaf consumer is sent, unless the broker closes the connection.
const SENT_BYTES: usize = 300 * 1024 * 1024;
/// At most 128 MiB wait for one consumer. Each consumer alone asks for more than this.
const RESIDENT_KIB_MAX: u64 = 1024 * 1024;
/// The broker closes a connection whose write makes no progress for this long, and then the leases
/// return.
const CLOSED_WITHIN: Duration = Duration::from_secs(120);

/// Lets so many consumers stop reading, one after the other.
pub async fn run(runs: u64, seed: u64) -> Tally {
    let mut tally = Tally::new("a consumer that stops reading", "consumers");
    let mut random = RandomSource::new(seed);
    let mut broker = Setup::new().set("heartbeat_ms = 400").set("lease_ms = 1500").start().await;
    let honest = Honest::start(&broker.url()).await;
    let mut resident_kib = 0;
    for run in 0..runs {
        let kind = KINDS[(random.below(2) + 2 * (run % 3)) as usize % KINDS.len()];
        let deaf = Deaf { address: broker.address(), kind, run };
        let deaf = observed(deaf.be_deaf(), &broker, &mut resident_kib);
        let outcome = timeout(CLOSED_WITHIN + 3 * PATIENCE, deaf).await;
        tally.runs += 1;
        let found = match outcome {
            Ok(Ok(())) => continue,
            Ok(Err(what)) => what,
            Err(_) => "it came to no end".to_owned(),
        };
        tally.violations.push(format!("seed {seed}, consumer {run}, {kind:?}: {found}"));
        if !broker.is_running() {
            break;
        }
    }
    let work = honest.end().await;
    tally.violations.extend(work.found);
    tally.judge_broker(seed, &mut broker, resident_kib, RESIDENT_KIB_MAX);
    tally.remarks = format!(
        "The broker held {} MiB at most; {} honest tasks, the slowest in {} ms.",
        resident_kib / 1024,
        work.done,
        work.worst.as_millis()
    );
    tally
}

/// Lets so many consumers of all kinds stop reading at the same time.
pub async fn run_together(consumers: u64, seed: u64) -> Tally {
    let mut tally = Tally::new("consumers that stop reading together", "consumers");
    // The workers that report the large results send no heartbeats, and the disk has much to do.
    let mut broker = Setup::new().set("heartbeat_ms = 1000").set("lease_ms = 5000").start().await;
    let honest = Honest::start(&broker.url()).await;
    let deaf = (0..consumers).map(|run| {
        let kind = KINDS[(seed.wrapping_add(run) % KINDS.len() as u64) as usize];
        let deaf = Deaf { address: broker.address(), kind, run };
        async move {
            let outcome = timeout(CLOSED_WITHIN + 3 * PATIENCE, deaf.be_deaf()).await;
            outcome
                .unwrap_or_else(|_| Err("it came to no end".to_owned()))
                .map_err(|what| format!("{run}, {kind:?}: {what}"))
        }
    });
    let together = futures_util::future::join_all(deaf);
    let mut resident_kib = 0;
    let outcomes = observed(together, &broker, &mut resident_kib).await;
    tally.runs = consumers;
    let found = outcomes.into_iter().filter_map(Result::err);
    tally.violations.extend(found.map(|what| format!("seed {seed}, consumer {what}")));
    let work = honest.end().await;
    tally.violations.extend(work.found);
    tally.judge_broker(seed, &mut broker, resident_kib, RESIDENT_KIB_MAX);
    tally.remarks = format!(
        "The broker held {} MiB at most, {} MiB at the end; {} honest tasks, the slowest in {} ms.",
        resident_kib / 1024,
        broker.resident_kib() / 1024,
        work.done,
        work.worst.as_millis()
    );
    tally
}

/// Waits, and measures the largest memory of the broker meanwhile.
async fn observed<T>(
    work: impl Future<Output = T>,
    broker: &BrokerProcess,
    resident_kib: &mut u64,
) -> T {
    tokio::pin!(work);
    loop {
        tokio::select! {
            outcome = &mut work => return outcome,
            () = tokio::time::sleep(Duration::from_millis(20)) => {
                *resident_kib = (*resident_kib).max(broker.resident_kib());
            }
        }
    }
}

/// The kinds of consumers that do not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A worker with a large credit that sends nothing more.
    Worker,
    /// A worker that sends heartbeats, so that its session lives.
    BeatingWorker,
    /// A client that watches tasks with large results.
    Watcher,
    /// A client that reads large results again and again.
    Asker,
    /// A client that waits for many tasks with large results.
    Waiter,
    /// A client that submits large tasks and does not read the answers.
    Submitter,
}

const KINDS: [Kind; 6] =
    [Kind::Worker, Kind::BeatingWorker, Kind::Watcher, Kind::Asker, Kind::Waiter, Kind::Submitter];

struct Deaf {
    address: std::net::SocketAddr,
    kind: Kind,
    run: u64,
}

impl Deaf {
    async fn be_deaf(&self) -> Result<(), String> {
        match self.kind {
            Kind::Worker => self.worker(false).await,
            Kind::BeatingWorker => self.worker(true).await,
            Kind::Watcher => self.watcher().await,
            Kind::Asker | Kind::Waiter => self.asker().await,
            Kind::Submitter => self.submitter().await,
        }
    }

    fn name(&self) -> String {
        format!("deaf-{}", self.run)
    }

    /// The tasks of this run, with payloads of this size.
    fn tasks(&self, first: usize, count: usize, payload_bytes: usize) -> Vec<wire::Task> {
        let task = |number| wire::Task {
            queue: self.name(),
            payload: Bytes::from(vec![b'1'; payload_bytes]),
            result_ttl_ms: Some(120_000),
            ..raw::task(&format!("{}-{number}", self.name()), "deaf")
        };
        (first..first + count).map(task).collect()
    }

    /// Deliveries fill the connection. All leases return to the queue, and another worker gets
    /// every task.
    async fn worker(&self, beats: bool) -> Result<(), String> {
        const PAYLOAD: usize = 64 * 1024;
        const TASKS: usize = 2_000;
        let name = self.name();
        let mut producer = RawConnection::open(self.address).await;
        for first in (0..TASKS).step_by(100) {
            producer.submit(self.tasks(first, 100, PAYLOAD)).await;
        }
        let (mut deaf, _) =
            RawConnection::greeted(self.address, raw::worker_hello(&[&name], &["deaf"])).await;
        deaf.send(Request::Credit(wire::Credit { credit: 10_000 }), 0)
            .await
            .map_err(|lost| lost.0)?;
        let beating = async {
            // Waits until the broker has closed the connection, at the pace of another client.
            while beats
                && deaf.send(Request::Heartbeat(wire::Heartbeat::default()), 0).await.is_ok()
            {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        timeout(CLOSED_WITHIN, beating)
            .await
            .map_err(|_| format!("not closed within {CLOSED_WITHIN:?}"))?;
        let mut other = RawConnection::worker(self.address, &[&name], &["deaf"], 100).await;
        let mut done = 0;
        while done < TASKS {
            let Ok(pushed) = timeout(PATIENCE, other.push()).await else {
                return Err(format!("{done} of {TASKS} tasks came to the other worker"));
            };
            let raw::Answer::Deliver(deliver) = pushed.map_err(|lost| lost.0)? else { continue };
            let reports: Vec<_> = deliver
                .deliveries
                .iter()
                .map(|delivery| raw::report(delivery, raw::complete(b"1")))
                .collect();
            done += reports.len();
            other.report(reports).await;
        }
        drop(deaf);
        self.forget(&mut producer, TASKS).await
    }

    /// Every result is sent to a consumer that does not read it.
    async fn watcher(&self) -> Result<(), String> {
        let count = SENT_BYTES / RESULT;
        let ids: Vec<String> =
            (0..count).map(|number| format!("{}-{number}", self.name())).collect();
        let mut deaf = RawConnection::open(self.address).await;
        deaf.watch(&ids.iter().map(String::as_str).collect::<Vec<_>>()).await;
        let mut worker = self.run_large(count).await;
        closed(deaf).await?;
        self.forget(&mut worker, count).await
    }

    /// Lets so many tasks end with large results.
    async fn run_large(&self, count: usize) -> RawConnection {
        let name = self.name();
        let mut worker = RawConnection::worker(self.address, &[&name], &["deaf"], 8).await;
        worker.submit(self.tasks(0, count, 2)).await;
        let result = vec![b'1'; RESULT];
        let mut done = 0;
        while done < count {
            for delivery in worker.some_deliveries().await {
                worker.report_one(raw::report(&delivery, raw::complete(&result))).await;
                done += 1;
            }
        }
        worker
    }

    /// Sends requests as long as the broker reads, and does not read the answers.
    async fn asker(&self) -> Result<(), String> {
        const TASKS: usize = 8;
        drop(self.run_large(TASKS).await);
        let ids: Vec<String> =
            (0..TASKS).map(|number| format!("{}-{number}", self.name())).collect();
        let mut deaf = RawConnection::open(self.address).await;
        let asking = async {
            for _ in 0..10_000 {
                let ids = ids.clone();
                let request = match self.kind {
                    Kind::Asker => {
                        Request::Get(wire::Get { ids, with_results: true, ..Default::default() })
                    }
                    _ => Request::Wait(wire::Wait { ids, mode: 0, until: 0, with_results: true }),
                };
                if deaf.send(request, 0).await.is_err() {
                    return;
                }
            }
            // Still reads nothing. Sends something now and then until the broker has closed the
            // connection.
            while deaf.send(Request::Heartbeat(wire::Heartbeat::default()), 0).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        timeout(CLOSED_WITHIN, asking)
            .await
            .map_err(|_| format!("not closed within {CLOSED_WITHIN:?}"))?;
        self.forget(&mut RawConnection::open(self.address).await, TASKS).await
    }

    /// Sends payloads as fast as the broker takes them.
    async fn submitter(&self) -> Result<(), String> {
        const PAYLOAD: usize = 4 * 1024 * 1024;
        let count = SENT_BYTES / PAYLOAD;
        let mut deaf = RawConnection::open(self.address).await;
        let submitting = async {
            for number in 0..count {
                let tasks = self.tasks(number, 1, PAYLOAD);
                deaf.send(Request::Submit(wire::Submit { tasks }), 0).await?;
            }
            Ok::<_, Lost>(())
        };
        timeout(CLOSED_WITHIN, submitting)
            .await
            .map_err(|_| "its submits were not taken")?
            .map_err(|lost| lost.0)?;
        let mut other = RawConnection::open(self.address).await;
        let last = format!("{}-{}", self.name(), count - 1);
        for _ in 0..10_000 {
            if other.info(&last).await.state() == TaskState::Queued {
                let purge = wire::PurgeQueue { queue: self.name() };
                other.request(Request::PurgeQueue(purge)).await.map_err(|error| error.message)?;
                return self.forget(&mut other, count).await;
            }
        }
        Err(format!("{last} is not there"))
    }

    /// The tasks are removed, so that the folder does not grow from one consumer to the next.
    async fn forget(&self, connection: &mut RawConnection, count: usize) -> Result<(), String> {
        let ids = (0..count).map(|number| format!("{}-{number}", self.name())).collect();
        match connection.request(Request::Forget(wire::Forget { ids })).await {
            Ok(raw::Answer::ForgetReply(reply)) => {
                let kept =
                    reply.outcomes().filter(|code| *code != wire::ErrorCode::Unspecified).count();
                if kept == 0 {
                    Ok(())
                } else {
                    Err(format!("{kept} of {count} tasks had not ended"))
                }
            }
            other => Err(format!("no ForgetReply but {other:?}")),
        }
    }
}

const RESULT: usize = 900 * 1024;

/// Now the rest is read. Then the connection must end.
async fn closed(mut deaf: RawConnection) -> Result<(), String> {
    let end = async { while deaf.next().await.is_ok() {} };
    timeout(CLOSED_WITHIN, end).await.map_err(|_| format!("not closed within {CLOSED_WITHIN:?}"))
}
