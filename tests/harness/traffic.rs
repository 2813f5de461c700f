//! Producers and workers on raw connections. They go on over any number of broker deaths and write
//! a history. Tame clients submit and run tasks. Wild clients use all options of a task, cancel,
//! forget and submit again, and gather chords. Their workers vanish now and then, put outcomes, and
//! let handlers submit their own ids again.

mod gatherer;
mod producer;
mod worker;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use celeriac_proto::wire::{self, TaskState};
use tokio::time::{Instant, sleep};

use crate::RandomSource;
use crate::raw::{self, Answer, Lost, RawConnection, Request};
use celeriac_history::{Event, History, Promises};

const QUEUE: &str = "traffic";
/// Only one producer and one worker use this queue, so that its order can be judged.
const ORDERED: &str = "traffic.ordered";
const NAME: &str = "traffic.echo";
/// The pause between two attempts to reach a broker that is down.
const RETRY_PAUSE: Duration = Duration::from_millis(10);
/// An answer that has not come by then never comes: the connection is given up.
const ANSWER: Duration = Duration::from_secs(10);
/// How long the confirmed tasks may take to end after the last request.
const SETTLE: Duration = Duration::from_secs(60);
/// The most ids in one read.
const READ_AT_ONCE: usize = 500;

/// The state that all clients of one run share.
#[derive(Debug)]
pub struct Traffic {
    address: SocketAddr,
    history: History,
    is_wild: bool,
    seed: u64,
    producing: AtomicBool,
    working: AtomicBool,
    finished: AtomicU64,
}

impl Traffic {
    /// Tame traffic for the broker at this address: every task ends in SUCCESS.
    pub fn new(address: SocketAddr) -> Arc<Self> {
        Self::with(address, History::new(), 0, false)
    }

    /// Wild traffic. The broker should have a lease time of about a second, because workers vanish.
    pub fn wild(address: SocketAddr, seed: u64) -> Arc<Self> {
        let traffic = Self::with(address, History::new(), seed, true);
        traffic.history.note(Event::InOrder { queue: ORDERED.into() });
        traffic
    }

    fn with(address: SocketAddr, history: History, seed: u64, is_wild: bool) -> Arc<Self> {
        let (producing, working) = (AtomicBool::new(true), AtomicBool::new(true));
        Arc::new(Self {
            address,
            history,
            is_wild,
            seed,
            producing,
            working,
            finished: AtomicU64::new(0),
        })
    }

    /// The history of all clients.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Every broken promise that the history shows. Each is a sentence.
    pub fn broken_promises(&self) -> Vec<String> {
        self.history.broken_promises(&Promises::default()).iter().map(ToString::to_string).collect()
    }

    /// Call this between the broker's death and its next start.
    pub fn note_restart(&self) {
        self.history.note(Event::BrokerDown);
        self.history.note(Event::BrokerUp);
    }

    /// Makes the producers end after their current request.
    pub fn stop_producing(&self) {
        self.producing.store(false, Ordering::SeqCst);
    }

    /// Makes the workers end.
    pub fn stop_working(&self) {
        self.working.store(false, Ordering::SeqCst);
    }

    /// How many results were confirmed so far.
    pub fn finished(&self) -> u64 {
        self.finished.load(Ordering::SeqCst)
    }

    /// The random source of one client. It depends on the seed of the traffic and on these two
    /// numbers.
    fn random(&self, kind: u64, number: usize) -> RandomSource {
        RandomSource::new(RandomSource::new(self.seed ^ kind << 32 ^ number as u64).bits())
    }

    /// Waits until every confirmed task has ended or its time is over, and reads its state.
    pub async fn read_all(&self) {
        let deadline = Instant::now() + SETTLE;
        let mut ended = BTreeSet::new();
        loop {
            // A run that submits its own id again confirms a submit that was never answered.
            let left: Vec<String> = self.history.confirmed().difference(&ended).cloned().collect();
            if left.is_empty() || Instant::now() >= deadline {
                break;
            }
            let unfinished: BTreeSet<String> = self.unfinished(&left).await.into_iter().collect();
            ended.extend(left.into_iter().filter(|id| !unfinished.contains(id)));
            // The pause before the next look at the tasks that have not ended.
            sleep(RETRY_PAUSE).await;
        }
        self.history.note(Event::Settled);
        let ids: Vec<String> = self.history.confirmed().into_iter().collect();
        self.unfinished(&ids).await;
    }

    async fn unfinished(&self, ids: &[String]) -> Vec<String> {
        loop {
            if let Ok(left) = self.try_unfinished(ids).await {
                return left;
            }
            sleep(RETRY_PAUSE).await;
        }
    }

    async fn try_unfinished(&self, ids: &[String]) -> Result<Vec<String>, Lost> {
        let (mut connection, _) = self.open("reader", raw::hello()).await?;
        let mut left = Vec::new();
        for ids in ids.chunks(READ_AT_ONCE) {
            let get = wire::Get { ids: ids.to_vec(), with_results: true, ..Default::default() };
            let Answer::GetReply(reply) = soon(connection.try_request(Request::Get(get))).await?
            else {
                return Err(Lost("no GetReply".into()));
            };
            let ended =
                [TaskState::Unknown, TaskState::Success, TaskState::Failure, TaskState::Revoked];
            let unfinished = reply.tasks.into_iter().filter(|task| !ended.contains(&task.state()));
            left.extend(unfinished.map(|task| task.id));
        }
        Ok(left)
    }

    /// A connection with a tap, after its handshake.
    async fn open(
        &self,
        name: &str,
        hello: wire::Hello,
    ) -> Result<(RawConnection, wire::Welcome), Lost> {
        let mut connection =
            RawConnection::try_tapped(self.address, self.history.connecting(name)).await?;
        match soon(connection.try_request(Request::Hello(hello))).await? {
            Answer::Welcome(welcome) => Ok((connection, welcome)),
            other => Err(Lost(format!("no Welcome but {other:?}"))),
        }
    }
}

async fn soon<T>(asked: impl Future<Output = Result<T, Lost>>) -> Result<T, Lost> {
    match tokio::time::timeout(ANSWER, asked).await {
        Ok(answer) => answer,
        Err(_) => Err(Lost(format!("no answer in {ANSWER:?}"))),
    }
}

/// The only right result for a payload.
pub fn result_of(payload: &[u8]) -> Vec<u8> {
    payload.iter().rev().copied().collect()
}
