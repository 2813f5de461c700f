//! Cheap producers and workers on raw connections: they build, send and count frames, and nothing
//! more. A worker completes its deliveries without reporting a start, as a worker with fast
//! handlers may. Producers keep `window` batches in flight. Both handle everything that has come,
//! and then write once, as the drivers of the peers do.

use std::cell::Cell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use celeriac_proto::wire::{self, ErrorCode};
use celeriac_tests::raw::{self, Answer, Lost, Request};
use celeriac_tests::{BrokerProcess, RawConnection};

/// The shape of the load.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Shape {
    /// Connections that submit.
    #[arg(long, default_value_t = 4)]
    pub(crate) producers: usize,
    /// Connections that take and complete tasks.
    #[arg(long, default_value_t = 4)]
    pub(crate) workers: usize,
    /// Tasks in one submit, and in one report at most.
    #[arg(long, default_value_t = 100)]
    pub(crate) batch: usize,
    /// Submits that a producer has in flight.
    #[arg(long, default_value_t = 4)]
    pub(crate) window: usize,
    /// Leases that a worker holds at once.
    #[arg(long, default_value_t = 500)]
    pub(crate) credit: u32,
    /// The number of the first producer. With another number than in an earlier run all ids are
    /// new.
    #[arg(long, default_value_t = 0)]
    pub(crate) first: usize,
    /// Bytes of a payload.
    #[arg(long, default_value_t = 200)]
    pub(crate) payload: usize,
    /// Bytes of a result.
    #[arg(long, default_value_t = 64)]
    pub(crate) result: usize,
}

/// A modest producer submits this many times less than the other one.
const BESIDE: u64 = 100;

/// The queue and the task name of all load.
pub(crate) const QUEUE: &str = "bench";
pub(crate) const NAME: &str = "bench.nothing";

/// How many tasks are still to be submitted, and until when.
#[derive(Debug, Clone)]
pub(crate) struct Quota {
    left: Rc<Cell<u64>>,
    until: Option<Instant>,
}

impl Quota {
    pub(crate) fn new(tasks: u64, until: Option<Instant>) -> Self {
        Self { left: Rc::new(Cell::new(tasks)), until }
    }

    /// How many tasks are still to be submitted.
    pub(crate) fn left(&self) -> u64 {
        self.left.get()
    }

    /// The size of the next batch; 0 when there is none.
    pub(crate) fn take(&self, batch: usize) -> usize {
        if self.until.is_some_and(|until| Instant::now() >= until) {
            return 0;
        }
        let taken = self.left.get().min(batch as u64);
        self.left.set(self.left.get() - taken);
        usize::try_from(taken).expect("no more than a batch")
    }
}

/// A payload of this size that is also a JSON call.
pub(crate) fn payload(bytes: usize) -> Bytes {
    let filling = "x".repeat(bytes.saturating_sub(br#"[[""],{}]"#.len()));
    Bytes::from(format!("[[\"{filling}\"],{{}}]"))
}

/// A result of this size that is also a JSON string.
pub(crate) fn result(bytes: usize) -> Bytes {
    Bytes::from(format!("\"{}\"", "r".repeat(bytes.saturating_sub(2))))
}

/// The number of confirmed tasks, and how long each request took.
#[derive(Debug, Default)]
pub(crate) struct Submitted {
    pub(crate) tasks: u64,
    pub(crate) latencies: Vec<Duration>,
}

/// Submits until the quota is used up.
pub(crate) async fn produce(
    address: SocketAddr,
    producer: usize,
    shape: Shape,
    quota: Quota,
) -> Result<Submitted> {
    let mut connection = RawConnection::open(address).await;
    let payload = payload(shape.payload);
    let mut next = 0_u64;
    let mut under_way = VecDeque::new();
    let mut submitted = Submitted::default();
    loop {
        while under_way.len() < shape.window {
            let batch = quota.take(shape.batch);
            if batch == 0 {
                break;
            }
            let tasks = (next..).take(batch).map(|number| wire::Task {
                queue: QUEUE.into(),
                payload: payload.clone(),
                ..raw::task(&format!("{:04}-{number:011}", shape.first + producer), NAME)
            });
            let submit = wire::Submit { tasks: tasks.collect() };
            next += batch as u64;
            let begun = Instant::now();
            let sent = connection.feed(Request::Submit(submit)).await.map_err(lost)?;
            under_way.push_back((sent, begun));
        }
        if under_way.is_empty() {
            return Ok(submitted);
        }
        connection.flush().await.map_err(lost)?;
        let mut next = Some(connection.next().await.map_err(lost)?);
        while let Some((id, answer)) = next {
            let Answer::SubmitReply(reply) = answer else { bail!("no SubmitReply but {answer:?}") };
            let refused = reply.outcomes.iter().find(|outcome| outcome.error.is_some());
            ensure!(refused.is_none(), "a submit was refused: {refused:?}");
            let place = under_way.iter().position(|(sent, _)| *sent == id);
            let sent = place.and_then(|place| under_way.remove(place));
            let (_, begun) = sent.context("an answer to nothing that was asked")?;
            submitted.latencies.push(begun.elapsed());
            submitted.tasks += reply.outcomes.len() as u64;
            next = connection.next_there().map_err(lost)?;
        }
    }
}

/// Submits one task at a time, at most one for each [`BESIDE`] that another producer has taken out
/// of its quota of so many, until that is used up.
pub(crate) async fn produce_beside(
    address: SocketAddr,
    producer: usize,
    shape: &Shape,
    other: &Quota,
    others: u64,
) -> Result<Submitted> {
    let shape = Shape { batch: 1, window: 1, ..shape.clone() };
    let mut connection = RawConnection::open(address).await;
    let payload = payload(shape.payload);
    let mut submitted = Submitted::default();
    while other.left() > 0 {
        if (submitted.tasks + 1) * BESIDE > others - other.left() {
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        }
        let id = format!("{:04}-{:011}", shape.first + producer, submitted.tasks);
        let task =
            wire::Task { queue: QUEUE.into(), payload: payload.clone(), ..raw::task(&id, NAME) };
        let begun = Instant::now();
        let outcome = connection.submit_one(task).await;
        ensure!(outcome.error.is_none(), "a submit was refused: {outcome:?}");
        submitted.latencies.push(begun.elapsed());
        submitted.tasks += 1;
    }
    Ok(submitted)
}

/// Submits this many tasks as they are made, on one connection, and waits until all are confirmed.
pub(crate) async fn submit(
    broker: &BrokerProcess,
    tasks: u64,
    make: impl FnMut(u64) -> wire::Task,
) -> Result<()> {
    const BATCH: usize = 1_000;
    const WINDOW: usize = 4;
    let mut connection = RawConnection::open(broker.address()).await;
    let mut tasks = (0..tasks).map(make).peekable();
    let mut under_way = 0;
    while tasks.peek().is_some() || under_way > 0 {
        while under_way < WINDOW && tasks.peek().is_some() {
            let submit = wire::Submit { tasks: tasks.by_ref().take(BATCH).collect() };
            connection.send(Request::Submit(submit), 0).await.map_err(lost)?;
            under_way += 1;
        }
        let (_, answer) = connection.next().await.map_err(lost)?;
        let Answer::SubmitReply(reply) = answer else { bail!("no SubmitReply but {answer:?}") };
        let refused = reply.outcomes.iter().find(|outcome| outcome.error.is_some());
        ensure!(refused.is_none(), "a submit was refused: {refused:?}");
        under_way -= 1;
    }
    Ok(())
}

/// Completes its deliveries, for ever, and counts the confirmed ones.
pub(crate) async fn work(
    address: SocketAddr,
    shape: Shape,
    confirmed: Rc<Cell<u64>>,
) -> Result<()> {
    let mut connection = RawConnection::worker(address, &[QUEUE], &[NAME], shape.credit).await;
    let result = result(shape.result);
    let mut next = None;
    loop {
        let (_, answer) = match next {
            Some(next) => next,
            None => {
                connection.flush().await.map_err(lost)?;
                connection.next().await.map_err(lost)?
            }
        };
        match answer {
            Answer::Deliver(deliver) => {
                let mut reports = deliver.deliveries.into_iter().map(|delivery| wire::TaskReport {
                    id: delivery.id,
                    lease: delivery.lease,
                    report: Some(wire::task_report::Report::Complete(wire::Complete {
                        result: result.clone(),
                        content_type: String::new(),
                        ..Default::default()
                    })),
                });
                while reports.len() > 0 {
                    let report =
                        wire::Report { reports: reports.by_ref().take(shape.batch).collect() };
                    connection.feed(Request::Report(report)).await.map_err(lost)?;
                }
            }
            Answer::ReportReply(reply) => {
                let good =
                    reply.outcomes.iter().all(|outcome| outcome.code() == ErrorCode::Unspecified);
                ensure!(good, "a report was refused: {:?}", reply.outcomes);
                confirmed.set(confirmed.get() + reply.outcomes.len() as u64);
            }
            other => bail!("neither a delivery nor an answer but {other:?}"),
        }
        next = connection.next_there().map_err(lost)?;
    }
}

fn lost(Lost(how): Lost) -> anyhow::Error {
    anyhow::anyhow!("the connection was lost: {how}")
}
