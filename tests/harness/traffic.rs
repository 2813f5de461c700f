//! Producers and workers on the raw wire that go on over any number of broker deaths and write
//! down all they ask and are told. What they do is fixed, so that the checker can judge it: each
//! task has its own payload, and its result is made from the payload.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use celeriac_proto::wire;

use crate::plain_history::{Event, History};
use crate::raw::{self, Answer, Lost, RawConnection, Request};

const QUEUE: &str = "traffic";
const NAME: &str = "traffic.echo";
const BATCH: usize = 20;
const CREDIT: u32 = 60;
/// Between two attempts to reach a broker that is down.
const KNOCK: Duration = Duration::from_millis(10);
/// An answer that has not come by then never will: the connection is given up.
const ANSWER: Duration = Duration::from_secs(10);

/// The state that all clients of one run share.
#[derive(Debug)]
pub struct Traffic {
    address: SocketAddr,
    history: History,
    life: AtomicU32,
    producing: AtomicBool,
    working: AtomicBool,
    finished: AtomicU64,
}

impl Traffic {
    /// Traffic for the broker at this address, in its first life.
    pub fn new(address: SocketAddr) -> Arc<Self> {
        Arc::new(Self {
            address,
            history: History::new(),
            life: AtomicU32::new(1),
            producing: AtomicBool::new(true),
            working: AtomicBool::new(true),
            finished: AtomicU64::new(0),
        })
    }

    /// All that was asked and told.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// To be called between a broker's death and its next start.
    pub fn begin_next_life(&self) {
        self.life.fetch_add(1, Ordering::SeqCst);
    }

    /// Producers end after the batch they are at.
    pub fn stop_producing(&self) {
        self.producing.store(false, Ordering::SeqCst);
    }

    /// Workers end.
    pub fn stop_working(&self) {
        self.working.store(false, Ordering::SeqCst);
    }

    /// How many results were confirmed so far.
    pub fn finished(&self) -> u64 {
        self.finished.load(Ordering::SeqCst)
    }

    /// Submits batch after batch, each again until it is confirmed.
    pub async fn produce(self: Arc<Self>, producer: usize) {
        let mut connection = None;
        let mut batch = 0_u64;
        while self.producing.load(Ordering::SeqCst) {
            let tasks: Vec<_> = (0..BATCH).map(|item| task(&format!("{producer}-{batch}-{item}"))).collect();
            while let Err(Lost(_)) = self.submit(&mut connection, &tasks).await {
                connection = None;
                tokio::time::sleep(KNOCK).await;
            }
            batch += 1;
        }
    }

    async fn submit(&self, connection: &mut Option<RawConnection>, tasks: &[wire::Task]) -> Result<(), Lost> {
        if connection.is_none() {
            *connection = Some(open(self.address, raw::hello()).await?.0);
        }
        let connection = connection.as_mut().expect("it was just opened");
        for task in tasks {
            self.history.record(Event::SubmitAsked { id: task.id.clone(), payload: task.payload.clone() });
        }
        let asked = connection.try_request(Request::Submit(wire::Submit { tasks: tasks.to_vec() }));
        let Answer::SubmitReply(reply) = soon(asked).await? else {
            return Err(Lost("no SubmitReply".into()));
        };
        assert_eq!(reply.outcomes.len(), tasks.len(), "one outcome per task");
        for (task, outcome) in tasks.iter().zip(reply.outcomes) {
            // A batch that is sent again finds its tasks there.
            let there = outcome.error.as_ref().is_some_and(|error| error.code() == wire::ErrorCode::TaskExists);
            assert!(there || outcome.error.is_none(), "{}: refused: {outcome:?}", task.id);
            self.history.record(Event::SubmitConfirmed { id: task.id.clone() });
        }
        Ok(())
    }

    /// Works until told to stop; resumes its session over every loss of the connection.
    pub async fn work(self: Arc<Self>, worker: usize) {
        let mut hand = Hand { worker, session: String::new(), unanswered: BTreeMap::new(), seen: BTreeSet::new() };
        while self.working.load(Ordering::SeqCst) {
            if let Err(Lost(_)) = self.work_while_connected(&mut hand).await {
                tokio::time::sleep(KNOCK).await;
            }
        }
    }

    async fn work_while_connected(&self, hand: &mut Hand) -> Result<(), Lost> {
        let mut hello = raw::worker_hello(&[QUEUE], &[NAME]);
        hello.instance_id = format!("hand-{}", hand.worker);
        hello.session_id.clone_from(&hand.session);
        let mut connection = RawConnection::try_silent(self.address).await?;
        // Read before the handshake: if the broker died since the connect, the handshake fails.
        let life = self.life.load(Ordering::SeqCst);
        let Answer::Welcome(welcome) = soon(connection.try_request(Request::Hello(hello))).await? else {
            hand.session.clear();
            return Err(Lost("no Welcome".into()));
        };
        hand.session = welcome.session_id;
        self.history.record(Event::LeasesKept { leases: welcome.leases });
        soon(connection.try_request(Request::Credit(wire::Credit { credit: CREDIT }))).await?;
        let again: Vec<_> = hand.unanswered.values().cloned().collect();
        self.report(&mut connection, hand, again).await?;
        while self.working.load(Ordering::SeqCst) {
            let pushed = tokio::time::timeout(Duration::from_millis(100), connection.push()).await;
            match pushed {
                Err(_) => {}
                Ok(Err(lost)) => return Err(lost),
                Ok(Ok(Answer::Deliver(deliver))) => {
                    let reports = self.run(hand, life, deliver.deliveries);
                    self.report(&mut connection, hand, reports).await?;
                }
                Ok(Ok(_)) => {}
            }
        }
        Ok(())
    }

    /// Runs each delivery that this hand has not seen: a few fail once, the others succeed.
    fn run(&self, hand: &mut Hand, life: u32, deliveries: Vec<wire::Delivery>) -> Vec<(u32, wire::TaskReport)> {
        let mut reports = Vec::new();
        for delivery in deliveries {
            self.history.record(Event::Delivered {
                id: delivery.id.clone(),
                generation: delivery.generation,
                lease: delivery.lease,
                deliveries: delivery.deliveries,
                payload: delivery.payload.clone(),
                life,
            });
            if !hand.seen.insert(delivery.lease) {
                continue;
            }
            let outcome = if delivery.attempt == 1 && delivery.id.ends_with('7') {
                raw::fail("the first attempt always fails")
            } else {
                raw::complete(&result_of(&delivery.payload))
            };
            reports.push((delivery.generation, raw::report(&delivery, outcome)));
        }
        reports
    }

    async fn report(
        &self,
        connection: &mut RawConnection,
        hand: &mut Hand,
        reports: Vec<(u32, wire::TaskReport)>,
    ) -> Result<(), Lost> {
        if reports.is_empty() {
            return Ok(());
        }
        for (generation, report) in &reports {
            if let Some(wire::task_report::Report::Complete(complete)) = &report.report {
                let (id, result) = (report.id.clone(), complete.result.clone());
                self.history.record(Event::CompleteAsked { id, lease: report.lease, result });
            }
            if let Some(wire::task_report::Report::Fail(_)) = &report.report {
                self.history.record(Event::FailAsked { id: report.id.clone(), lease: report.lease });
            }
            hand.unanswered.insert(report.lease, (*generation, report.clone()));
        }
        let body = wire::Report { reports: reports.iter().map(|(_, report)| report.clone()).collect() };
        let Answer::ReportReply(reply) = soon(connection.try_request(Request::Report(body))).await? else {
            return Err(Lost("no ReportReply".into()));
        };
        assert_eq!(reply.outcomes.len(), reports.len(), "one outcome per report");
        for ((generation, report), outcome) in reports.into_iter().zip(reply.outcomes) {
            hand.unanswered.remove(&report.lease);
            let is_complete = matches!(report.report, Some(wire::task_report::Report::Complete(_)));
            if is_complete && outcome.code() == wire::ErrorCode::Unspecified {
                self.finished.fetch_add(1, Ordering::SeqCst);
                self.history.record(Event::CompleteConfirmed { id: report.id, generation, lease: report.lease });
            }
        }
        Ok(())
    }

    /// Waits for every confirmed task and writes down how it ended.
    pub async fn read_all(&self) {
        let ids: Vec<String> = self.history.confirmed().into_iter().collect();
        let mut connection = RawConnection::open(self.address).await;
        for ids in ids.chunks(500) {
            let wait = wire::Wait { ids: ids.to_vec(), mode: 0, until: 0, with_results: true };
            let answer = connection.request_with_timeout(Request::Wait(wait), 15_000).await;
            let Ok(Answer::WaitReply(reply)) = answer else { panic!("no WaitReply but {answer:?}") };
            for task in reply.tasks {
                let (state, generation) = (task.state(), task.generation);
                self.history.record(Event::Read { id: task.id, state, generation, result: task.result });
            }
        }
    }
}

/// What one worker remembers over its connections.
#[derive(Debug)]
struct Hand {
    worker: usize,
    session: String,
    unanswered: BTreeMap<u64, (u32, wire::TaskReport)>,
    seen: BTreeSet<u64>,
}

async fn open(address: SocketAddr, hello: wire::Hello) -> Result<(RawConnection, wire::Welcome), Lost> {
    let mut connection = RawConnection::try_silent(address).await?;
    match soon(connection.try_request(Request::Hello(hello))).await? {
        Answer::Welcome(welcome) => Ok((connection, welcome)),
        other => Err(Lost(format!("no Welcome but {other:?}"))),
    }
}

async fn soon<T>(asked: impl Future<Output = Result<T, Lost>>) -> Result<T, Lost> {
    match tokio::time::timeout(ANSWER, asked).await {
        Ok(answer) => answer,
        Err(_) => Err(Lost(format!("no answer in {ANSWER:?}"))),
    }
}

fn task(id: &str) -> wire::Task {
    let retry = wire::RetryPolicy { delay_ms: Some(5), backoff: wire::Backoff::Fixed.into(), ..Default::default() };
    wire::Task {
        queue: QUEUE.into(),
        payload: Bytes::from(format!("[[\"{id}\"],{{}}]")),
        retry: Some(retry),
        on_conflict: wire::OnConflict::Reject.into(),
        ..raw::task(id, NAME)
    }
}

/// The only right result of a payload.
pub fn result_of(payload: &[u8]) -> Vec<u8> {
    payload.iter().rev().copied().collect()
}
