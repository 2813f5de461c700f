//! Workers resume their sessions after every lost connection, and send their reports until these
//! are answered. Wild ones also fail, release, are slow, and vanish like a killed process.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use celeriac_proto::wire::task_report::Report;
use celeriac_proto::wire::{self, ErrorCode};
use tokio::time::{Instant, sleep, timeout};

use super::{NAME, ORDERED, QUEUE, RETRY_PAUSE, Traffic, result_of, soon};
use crate::RandomSource;
use crate::raw::{self, Answer, Lost, RawConnection, Request};

const CREDIT: u32 = 60;
/// A task of this generation does not submit itself again.
const GENERATIONS_MAX: u32 = 4;
/// The pause between two heartbeats of a worker that has nothing to send.
const HEARTBEAT: Duration = Duration::from_millis(200);
/// How long a worker waits for a push before it continues with the tasks that it has begun.
const LOOK: Duration = Duration::from_millis(20);

/// The state of one worker, over all its connections.
struct Worker {
    number: usize,
    queue: &'static str,
    is_wild: bool,
    random: RandomSource,
    session: String,
    /// Reports without an answer, in the order in which they were first sent.
    unanswered: Vec<wire::TaskReport>,
    /// What the handlers send by themselves before their worker reports: the next run of their own
    /// id, or the outcome of their run.
    of_handlers: VecDeque<Request>,
    /// Whether handlers may still submit. In the end they may not, or the tasks would never end.
    is_producing: bool,
    seen: BTreeSet<u64>,
    /// Tasks that have begun and take long.
    slow: BTreeMap<u64, wire::Delivery>,
    spoke: Instant,
}

impl Traffic {
    /// Works until it is told to stop.
    pub async fn work(self: Arc<Self>, number: usize) {
        self.work_for(number, QUEUE).await;
    }

    /// The one worker of the queue whose order is judged.
    pub async fn work_in_order(self: Arc<Self>) {
        self.work_for(usize::MAX >> 1, ORDERED).await;
    }

    async fn work_for(&self, number: usize, queue: &'static str) {
        let random = self.random(2, number);
        let mut worker = Worker::new(number, queue, self.is_wild && queue == QUEUE, random);
        while self.working.load(Ordering::SeqCst) {
            if let Err(Lost(_)) = self.work_while_connected(&mut worker).await {
                // The broker may be down: try again after a pause.
                sleep(RETRY_PAUSE).await;
            }
        }
    }

    async fn work_while_connected(&self, worker: &mut Worker) -> Result<(), Lost> {
        let mut hello = raw::worker_hello(&[worker.queue], &[NAME]);
        hello.instance_id = format!("worker-{}", worker.number);
        hello.session_id.clone_from(&worker.session);
        let (mut connection, welcome) = self.open(&hello.instance_id.clone(), hello).await?;
        worker.resume(welcome);
        soon(connection.try_request(Request::Credit(wire::Credit { credit: CREDIT }))).await?;
        let again = std::mem::take(&mut worker.unanswered);
        self.report(&mut connection, worker, again).await?;
        while self.working.load(Ordering::SeqCst) {
            if worker.is_wild && worker.random.below(2_000) == 0 {
                *worker = Worker::new(worker.number, worker.queue, true, worker.random.fork());
                return Err(Lost("it vanished".into()));
            }
            worker.is_producing = self.producing.load(Ordering::SeqCst);
            let reports = match timeout(LOOK, connection.push()).await {
                Err(_) => worker.go_on(),
                Ok(Err(lost)) => return Err(lost),
                Ok(Ok(Answer::Deliver(deliver))) => worker.run(deliver.deliveries),
                Ok(Ok(Answer::CancelSignal(signal))) => worker.signalled(&signal),
                Ok(Ok(_)) => Vec::new(),
            };
            self.report(&mut connection, worker, reports).await?;
            if worker.spoke.elapsed() > HEARTBEAT {
                soon(connection.try_request(Request::Heartbeat(wire::Heartbeat::default())))
                    .await?;
                worker.spoke = Instant::now();
            }
        }
        Ok(())
    }

    async fn report(
        &self,
        connection: &mut RawConnection,
        worker: &mut Worker,
        reports: Vec<wire::TaskReport>,
    ) -> Result<(), Lost> {
        worker.unanswered.extend(reports.iter().cloned());
        while let Some(request) = worker.of_handlers.front() {
            soon(connection.try_request(request.clone())).await?;
            worker.of_handlers.pop_front();
        }
        if reports.is_empty() {
            return Ok(());
        }
        let body = wire::Report { reports: reports.clone() };
        let Answer::ReportReply(reply) =
            soon(connection.try_request(Request::Report(body))).await?
        else {
            return Err(Lost("no ReportReply".into()));
        };
        worker.spoke = Instant::now();
        // The broker answers in order, so it has answered all earlier reports.
        worker.unanswered.clear();
        let completed = reports.iter().zip(&reply.outcomes).filter(|(report, outcome)| {
            matches!(report.report, Some(Report::Complete(_)))
                && outcome.code() == ErrorCode::Unspecified
        });
        self.finished.fetch_add(completed.count() as u64, Ordering::SeqCst);
        Ok(())
    }
}

impl Worker {
    fn new(number: usize, queue: &'static str, is_wild: bool, random: RandomSource) -> Self {
        Self {
            number,
            queue,
            is_wild,
            random,
            session: String::new(),
            unanswered: Vec::new(),
            of_handlers: VecDeque::new(),
            is_producing: true,
            seen: BTreeSet::new(),
            slow: BTreeMap::new(),
            spoke: Instant::now(),
        }
    }

    /// Forgets the leases that the session has lost.
    fn resume(&mut self, welcome: wire::Welcome) {
        self.session = welcome.session_id;
        self.slow.retain(|lease, _| welcome.leases.contains(lease));
        self.unanswered.retain(|report| welcome.resumed || welcome.leases.contains(&report.lease));
    }

    /// Begins each delivery that is new to this worker, and ends most of them at once.
    fn run(&mut self, deliveries: Vec<wire::Delivery>) -> Vec<wire::TaskReport> {
        let mut reports = Vec::new();
        for delivery in deliveries {
            if !self.seen.insert(delivery.lease) {
                continue;
            }
            if !delivery.revoked_reason.is_empty() {
                let kind = "revoked".to_owned();
                let error = Some(wire::TaskError { kind, ..Default::default() });
                reports.push(raw::report(&delivery, Report::Reject(wire::Reject { error })));
                continue;
            }
            if self.is_wild && self.random.below(20) == 0 {
                let begin = match self.random.below(3) {
                    0 => Report::Settle(wire::Settle {}),
                    _ => raw::started(),
                };
                reports.push(raw::report(&delivery, begin));
                self.slow.insert(delivery.lease, delivery);
                continue;
            }
            if self.random.below(4) == 0 {
                reports.push(raw::report(&delivery, raw::started()));
            }
            if self.is_wild && self.random.below(20) == 0 {
                reports.push(raw::report(&delivery, Report::Settle(wire::Settle {})));
            }
            reports.push(raw::report(&delivery, self.end_of(&delivery)));
        }
        reports
    }

    fn end_of(&mut self, delivery: &wire::Delivery) -> Report {
        if delivery.attempt == 1 && delivery.id.ends_with('7') {
            return raw::fail("the first attempt always fails");
        }
        let error =
            || Some(wire::TaskError { message: "a random failure".into(), ..Default::default() });
        match if self.is_wild { self.random.below(40) } else { u64::MAX } {
            0 => Report::Release(wire::Release {
                lost: self.random.below(2) == 0,
                ..wire::Release::default()
            }),
            1 => Report::Retry(wire::RetryLater { after_ms: Some(10), error: error() }),
            2 => Report::Fail(wire::Fail { error: error(), r#final: true, ..Default::default() }),
            3 => Report::Reject(wire::Reject { error: error() }),
            4 => raw::fail("a random failure"),
            5 if self.is_producing && delivery.generation < GENERATIONS_MAX => {
                let next = self.next_run(delivery);
                self.of_handlers.push_back(next);
                raw::complete(b"a run that was superseded")
            }
            6 => {
                self.of_handlers.push_back(outcome(delivery));
                raw::complete(b"after the outcome")
            }
            _ => raw::complete(&result_of(&delivery.payload)),
        }
    }

    /// The handler submits its own id again.
    fn next_run(&mut self, delivery: &wire::Delivery) -> Request {
        let number = self.random.below(1_000);
        let task = wire::Task {
            queue: delivery.queue.clone(),
            payload: Bytes::from(format!("[[\"{} once more {number}\"],{{}}]", delivery.id)),
            on_conflict: wire::OnConflict::Supersede.into(),
            supersedes_lease: delivery.lease,
            submit_key: format!("{:x}", self.random.bits()),
            ..raw::task(&delivery.id, NAME)
        };
        Request::Submit(wire::Submit { tasks: vec![task] })
    }

    /// Nothing was pushed: ends one of the slow tasks.
    fn go_on(&mut self) -> Vec<wire::TaskReport> {
        let Some((_, delivery)) = self.slow.pop_first() else { return Vec::new() };
        vec![raw::report(&delivery, self.end_of(&delivery))]
    }

    /// A handler that is told to stop stops.
    fn signalled(&mut self, signal: &wire::CancelSignal) -> Vec<wire::TaskReport> {
        let stopped = signal.leases.iter().filter_map(|lease| self.slow.remove(lease));
        let stopped: Vec<wire::Delivery> = stopped.collect();
        match signal.kind() {
            wire::cancel_signal::Kind::Cooperative | wire::cancel_signal::Kind::Force => stopped
                .iter()
                .map(|delivery| raw::report(delivery, raw::fail("it was cancelled")))
                .collect(),
            _ => Vec::new(),
        }
    }
}

/// The process of a handler puts the result, and the report of its worker comes later.
fn outcome(delivery: &wire::Delivery) -> Request {
    let outcome = wire::TaskOutcome {
        id: delivery.id.clone(),
        lease: delivery.lease,
        state: "SUCCESS".into(),
        body: result_of(&delivery.payload).into(),
        ..Default::default()
    };
    Request::PutOutcome(wire::PutOutcome { outcomes: vec![outcome] })
}
