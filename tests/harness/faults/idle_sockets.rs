//! Thousands of connections that are open and do nothing. Their memory is measured, and honest
//! clients are served meanwhile.

use celeriac_proto::wire;
use rustix::process::{Resource, getrlimit};
use tokio::time::timeout;

use super::Tally;
use crate::honest::Honest;
use crate::raw::{self, Answer, Lost, RawConnection, Request};
use crate::{PATIENCE, RandomSource, Setup};

/// File descriptors that this program and the broker need besides.
const OTHERS: u64 = 200;
/// Each connection is a task with empty buffers, an entry in the machine, and a send queue. The
/// bound distinguishes a leak from a cost.
const RESIDENT_KIB_EACH_MAX: u64 = 64;

/// Opens so many connections.
pub async fn run(runs: u64, seed: u64) -> Tally {
    const WHAT: &str = "idle sockets";
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    if allowed < runs + OTHERS {
        let reason = format!(
            "{runs} sockets need a limit of open files of {}, it is {allowed}",
            runs + OTHERS
        );
        return Tally::skipped(WHAT, "sockets", reason);
    }
    let mut tally = Tally::new(WHAT, "sockets");
    let mut random = RandomSource::new(seed);
    let mut broker = Setup::new().set("heartbeat_ms = 1000").set("lease_ms = 60000").start().await;
    let honest = Honest::start(&broker.url()).await;
    let before = broker.resident_kib();
    let mut idle = Vec::new();
    for number in 0..runs {
        let hello = if random.below(4) == 0 {
            raw::worker_hello(&["idle"], &["nothing"])
        } else {
            raw::hello()
        };
        match timeout(PATIENCE, open(broker.address(), hello)).await {
            Ok(Ok(connection)) => idle.push(connection),
            other => tally
                .violations
                .push(format!("seed {seed}: socket {number} was not let in: {other:?}")),
        }
        tally.runs += 1;
        if tally.violations.len() > 10 {
            break;
        }
    }
    let each = (broker.resident_kib().saturating_sub(before)) / (idle.len() as u64).max(1);
    let enough = honest.done() + 50;
    let goes_on = async {
        while honest.done() < enough {
            tokio::task::yield_now().await;
        }
    };
    if timeout(PATIENCE * 3, goes_on).await.is_err() {
        tally
            .violations
            .push(format!("seed {seed}: beside {runs} idle sockets honest work came to an end"));
    }
    // The connections are still open after the idle time.
    for _ in 0..idle.len().min(200) {
        let at = random.below(idle.len() as u64) as usize;
        let beat = idle[at].try_request(Request::Heartbeat(heartbeat()));
        if !matches!(timeout(PATIENCE, beat).await, Ok(Ok(Answer::HeartbeatReply(_)))) {
            tally.violations.push(format!("seed {seed}: idle socket {at} is not answered"));
            break;
        }
    }
    drop(idle);
    let work = honest.end().await;
    tally.violations.extend(work.found);
    if each > RESIDENT_KIB_EACH_MAX {
        tally.violations.push(format!("an idle socket takes {each} KiB of the broker's memory"));
    }
    if !broker.is_running() || broker.stderr().contains("panicked") {
        tally.violations.push(format!("the broker is gone or panicked:\n{}", broker.stderr()));
    }
    let (done, worst) = (work.done, work.worst.as_millis());
    tally.remarks = format!(
        "{each} KiB of the broker's memory each; {done} honest tasks, the slowest in {worst} ms."
    );
    tally
}

fn heartbeat() -> wire::Heartbeat {
    wire::Heartbeat::default()
}

async fn open(address: std::net::SocketAddr, hello: wire::Hello) -> Result<RawConnection, Lost> {
    let mut connection = RawConnection::try_silent(address).await?;
    match connection.try_request(Request::Hello(hello)).await? {
        Answer::Welcome(_) => Ok(connection),
        other => Err(Lost(format!("no Welcome but {other:?}"))),
    }
}
