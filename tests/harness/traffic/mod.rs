//! Producers and workers on the raw wire that go on over any number of broker deaths and write down
//! all they ask and are told. Tame ones submit and run; wild ones use all that a task can have,
//! change their minds, and let workers vanish.

mod hand;
mod producer;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use celeriac_proto::wire::{self, TaskState};
use tokio::time::{Instant, sleep};

use crate::Luck;
use crate::history::{Event, History, Promises};
use crate::raw::{self, Answer, Lost, RawConnection, Request};

const QUEUE: &str = "traffic";
/// One producer and one worker use this one, so that its order can be judged.
const ORDERED: &str = "traffic.ordered";
const NAME: &str = "traffic.echo";
/// Between two attempts to reach a broker that is down.
const KNOCK: Duration = Duration::from_millis(10);
/// An answer that has not come by then never will: the connection is given up.
const ANSWER: Duration = Duration::from_secs(10);
/// How long all that was confirmed may take to end, once nothing more is asked.
const SETTLE: Duration = Duration::from_secs(60);
/// Ids in one read.
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
    /// Tame traffic for the broker at this address: every task ends, and in SUCCESS.
    pub fn new(address: SocketAddr) -> Arc<Self> {
        Self::with(address, History::new(), 0, false)
    }

    /// Wild traffic. Its broker should have a lease time of about a second, for workers vanish.
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

    /// All that was asked and told.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Every promise that the history shows broken, as a sentence each.
    pub fn broken_promises(&self) -> Vec<String> {
        self.history.broken_promises(&Promises::default()).iter().map(ToString::to_string).collect()
    }

    /// To be called between a broker's death and its next start.
    pub fn begin_next_life(&self) {
        self.history.note(Event::BrokerDown);
        self.history.note(Event::BrokerUp);
    }

    /// Producers end after the request they are at.
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

    /// The luck of one client; the same seed, the same luck.
    fn luck(&self, kind: u64, number: usize) -> Luck {
        Luck::new(Luck::new(self.seed ^ kind << 32 ^ number as u64).bits())
    }

    /// Waits until every confirmed task has ended, or should have, and reads how.
    pub async fn read_all(&self) {
        let ids: Vec<String> = self.history.confirmed().into_iter().collect();
        let deadline = Instant::now() + SETTLE;
        let mut left = ids.clone();
        while !left.is_empty() && Instant::now() < deadline {
            left = self.unfinished(&left).await;
            // Another look at what takes its time.
            sleep(KNOCK).await;
        }
        self.history.note(Event::Settled);
        self.unfinished(&ids).await;
    }

    async fn unfinished(&self, ids: &[String]) -> Vec<String> {
        loop {
            if let Ok(left) = self.try_unfinished(ids).await {
                return left;
            }
            sleep(KNOCK).await;
        }
    }

    async fn try_unfinished(&self, ids: &[String]) -> Result<Vec<String>, Lost> {
        let (mut connection, _) = self.open("reader", raw::hello()).await?;
        let mut left = Vec::new();
        for ids in ids.chunks(READ_AT_ONCE) {
            let get = wire::Get { ids: ids.to_vec(), with_results: true };
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

    /// A connection of which all is written down.
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

/// The only right result of a payload.
pub fn result_of(payload: &[u8]) -> Vec<u8> {
    payload.iter().rev().copied().collect()
}
