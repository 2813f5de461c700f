//! Workers: they resume their sessions over every loss of the connection, and report until they are
//! answered. Wild ones also fail, hand back, dawdle, and vanish like a process that was killed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use celeriac_proto::wire::task_report::Report;
use celeriac_proto::wire::{self, ErrorCode};
use tokio::time::{Instant, sleep, timeout};

use super::{KNOCK, NAME, ORDERED, QUEUE, Traffic, result_of, soon};
use crate::Luck;
use crate::raw::{self, Answer, Lost, RawConnection, Request};

const CREDIT: u32 = 60;
/// So much is heard of a worker that has nothing to say.
const HEARTBEAT: Duration = Duration::from_millis(200);
/// How long a hand looks for something new before it goes on with what it has begun.
const LOOK: Duration = Duration::from_millis(20);

/// What one worker remembers over its connections.
struct Hand {
    worker: usize,
    queue: &'static str,
    is_wild: bool,
    luck: Luck,
    session: String,
    /// In the order in which they were first sent.
    unanswered: Vec<wire::TaskReport>,
    seen: BTreeSet<u64>,
    /// Begun, and taking their time.
    slow: BTreeMap<u64, wire::Delivery>,
    spoke: Instant,
}

impl Traffic {
    /// Works until told to stop.
    pub async fn work(self: Arc<Self>, worker: usize) {
        self.work_for(worker, QUEUE).await;
    }

    /// The one worker of the queue whose order is judged.
    pub async fn work_in_order(self: Arc<Self>) {
        self.work_for(usize::MAX >> 1, ORDERED).await;
    }

    async fn work_for(&self, worker: usize, queue: &'static str) {
        let luck = self.luck(2, worker);
        let mut hand = Hand::new(worker, queue, self.is_wild && queue == QUEUE, luck);
        while self.working.load(Ordering::SeqCst) {
            if let Err(Lost(_)) = self.work_while_connected(&mut hand).await {
                // Until the broker is back.
                sleep(KNOCK).await;
            }
        }
    }

    async fn work_while_connected(&self, hand: &mut Hand) -> Result<(), Lost> {
        let mut hello = raw::worker_hello(&[hand.queue], &[NAME]);
        hello.instance_id = format!("hand-{}", hand.worker);
        hello.session_id.clone_from(&hand.session);
        let (mut connection, welcome) = self.open(&hello.instance_id.clone(), hello).await?;
        hand.resume(welcome);
        soon(connection.try_request(Request::Credit(wire::Credit { credit: CREDIT }))).await?;
        let again = std::mem::take(&mut hand.unanswered);
        self.report(&mut connection, hand, again).await?;
        while self.working.load(Ordering::SeqCst) {
            if hand.is_wild && hand.luck.below(2_000) == 0 {
                *hand = Hand::new(hand.worker, hand.queue, true, hand.luck.fork());
                return Err(Lost("it vanished".into()));
            }
            let reports = match timeout(LOOK, connection.push()).await {
                Err(_) => hand.go_on(),
                Ok(Err(lost)) => return Err(lost),
                Ok(Ok(Answer::Deliver(deliver))) => hand.run(deliver.deliveries),
                Ok(Ok(Answer::CancelSignal(signal))) => hand.signalled(&signal),
                Ok(Ok(_)) => Vec::new(),
            };
            self.report(&mut connection, hand, reports).await?;
            if hand.spoke.elapsed() > HEARTBEAT {
                soon(connection.try_request(Request::Heartbeat(wire::Heartbeat::default())))
                    .await?;
                hand.spoke = Instant::now();
            }
        }
        Ok(())
    }

    async fn report(
        &self,
        connection: &mut RawConnection,
        hand: &mut Hand,
        reports: Vec<wire::TaskReport>,
    ) -> Result<(), Lost> {
        if reports.is_empty() {
            return Ok(());
        }
        hand.unanswered.extend(reports.iter().cloned());
        let body = wire::Report { reports: reports.clone() };
        let Answer::ReportReply(reply) =
            soon(connection.try_request(Request::Report(body))).await?
        else {
            return Err(Lost("no ReportReply".into()));
        };
        hand.spoke = Instant::now();
        // Whatever was under way before was answered before.
        hand.unanswered.clear();
        let completed = reports.iter().zip(&reply.outcomes).filter(|(report, outcome)| {
            matches!(report.report, Some(Report::Complete(_)))
                && outcome.code() == ErrorCode::Unspecified
        });
        self.finished.fetch_add(completed.count() as u64, Ordering::SeqCst);
        Ok(())
    }
}

impl Hand {
    fn new(worker: usize, queue: &'static str, is_wild: bool, luck: Luck) -> Self {
        Self {
            worker,
            queue,
            is_wild,
            luck,
            session: String::new(),
            unanswered: Vec::new(),
            seen: BTreeSet::new(),
            slow: BTreeMap::new(),
            spoke: Instant::now(),
        }
    }

    /// What the session no longer holds is lost.
    fn resume(&mut self, welcome: wire::Welcome) {
        self.session = welcome.session_id;
        self.slow.retain(|lease, _| welcome.leases.contains(lease));
        self.unanswered.retain(|report| welcome.resumed || welcome.leases.contains(&report.lease));
    }

    /// Begins each delivery that this hand has not seen, and ends most of them at once.
    fn run(&mut self, deliveries: Vec<wire::Delivery>) -> Vec<wire::TaskReport> {
        let mut reports = Vec::new();
        for delivery in deliveries {
            if !self.seen.insert(delivery.lease) {
                continue;
            }
            if self.is_wild && self.luck.below(20) == 0 {
                reports.push(raw::report(&delivery, raw::started()));
                self.slow.insert(delivery.lease, delivery);
                continue;
            }
            if self.luck.below(4) == 0 {
                reports.push(raw::report(&delivery, raw::started()));
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
            || Some(wire::TaskError { message: "as luck has it".into(), ..Default::default() });
        match if self.is_wild { self.luck.below(40) } else { u64::MAX } {
            0 => Report::Release(wire::Release::default()),
            1 => Report::Retry(wire::RetryLater { after_ms: Some(10), error: error() }),
            2 => Report::Fail(wire::Fail { error: error(), r#final: true }),
            3 => Report::Reject(wire::Reject { error: error() }),
            4 => raw::fail("as luck has it"),
            _ => raw::complete(&result_of(&delivery.payload)),
        }
    }

    /// Nothing new: time for what was begun.
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
