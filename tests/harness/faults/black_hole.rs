//! A connection that goes silent without an end: no bytes pass, in one direction or in both, and
//! neither side is told. The worker notices it by its heartbeats, the broker by the lease time, and
//! another worker gets the task.

use std::time::Duration;

use celeriac_client::connection::{Connection, ConnectionOptions, Event};
use celeriac_proto::wire::{self, TaskState, client_frame, server_frame};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::Tally;
use crate::proxy::{Proxy, Toxic, Toxics};
use crate::raw::{self, RawConnection};
use crate::{BrokerProcess, PATIENCE, RandomSource, Setup};

const HEARTBEAT: Duration = Duration::from_millis(300);
const LEASE: Duration = Duration::from_millis(900);
/// The machine runs other programs too. A reaction later than promised plus this is a violation.
const GRACE: Duration = Duration::from_secs(15);

/// Makes a connection silent so often.
pub async fn run(runs: u64, seed: u64) -> Tally {
    let mut tally = Tally::new("a wire that falls silent", "black holes");
    let mut random = RandomSource::new(seed);
    let setup = Setup::new().set(format!("heartbeat_ms = {}", HEARTBEAT.as_millis()));
    let broker = setup.set(format!("lease_ms = {}", LEASE.as_millis())).start().await;
    let (mut client_worst, mut broker_worst) = (Duration::ZERO, Duration::ZERO);
    for run in 0..runs {
        let silent = Silence { up: random.below(3) > 0, down: true, id: format!("hole-{run}") };
        match timeout(4 * PATIENCE, silent.go(&broker)).await {
            Ok(Ok((client_took, broker_took))) => {
                client_worst = client_worst.max(client_took);
                broker_worst = broker_worst.max(broker_took.unwrap_or_default());
            }
            Ok(Err(what)) => tally.violations.push(format!("seed {seed}, hole {run}: {what}")),
            Err(_) => tally.violations.push(format!("seed {seed}, hole {run}: it came to no end")),
        }
        tally.runs += 1;
    }
    let (heartbeat, lease) = (HEARTBEAT.as_millis(), LEASE.as_millis());
    tally.remarks = format!(
        "With heartbeats of {heartbeat} ms the client noticed within {} ms, with leases of {lease} ms the broker within {} ms.",
        client_worst.as_millis(),
        broker_worst.as_millis()
    );
    tally
}

/// One silent connection.
struct Silence {
    up: bool,
    down: bool,
    id: String,
}

impl Silence {
    /// How long the client took to notice, and how long the broker took if no bytes reached it.
    async fn go(&self, broker: &BrokerProcess) -> Result<(Duration, Option<Duration>), String> {
        let wire = Proxy::start(broker.address()).await;
        let (connection, mut events) = self.worker(&wire).await?;
        let mut watcher = RawConnection::open(broker.address()).await;
        watcher
            .submit_one(wire::Task { queue: self.id.clone(), ..raw::task(&self.id, "hole") })
            .await;
        let lease = delivered(&mut events).await?;
        watcher.watch(&[&self.id]).await;
        let stalled = |stalled| Toxic { stalled, ..Toxic::default() };
        let begun = Instant::now();
        wire.set(Toxics { up: stalled(self.up), down: stalled(self.down), ends_once: false });
        let client_took = disconnected(&mut events, begun).await?;
        let broker_took = if self.up { Some(given_back(&mut watcher, begun).await?) } else { None };
        if self.up {
            let mut other =
                RawConnection::worker(broker.address(), &[&self.id], &["hole"], 1).await;
            let delivery = other.delivery().await;
            if delivery.lease <= lease || delivery.deliveries != 1 {
                return Err(format!("after lease {lease} it was delivered as {delivery:?}"));
            }
            other.report_one(raw::report(&delivery, raw::complete(b"1"))).await;
        }
        wire.set(Toxics::default());
        // The client is connected again, with the same session or a new one.
        let again = async {
            while !connection.is_connected() {
                tokio::task::yield_now().await
            }
        };
        timeout(PATIENCE, again).await.map_err(|_| "the client did not come back")?;
        connection.close(Duration::from_secs(1)).await;
        Ok((client_took, broker_took))
    }

    async fn worker(&self, wire: &Proxy) -> Result<(Connection, mpsc::Receiver<Event>), String> {
        let mut options = ConnectionOptions::new(wire.address().to_string());
        options.worker = raw::worker_hello(&[&self.id], &["hole"]).worker;
        let opened = Connection::open(options).await;
        let (connection, events) = opened
            .map_err(|error| format!("no connection through the proxy without toxics: {error}"))?;
        let credit = client_frame::Body::Credit(wire::Credit { credit: 1 });
        connection.request(credit, PATIENCE).await.map_err(|error| error.to_string())?;
        Ok((connection, events))
    }
}

async fn delivered(events: &mut mpsc::Receiver<Event>) -> Result<u64, String> {
    let delivered = async {
        while let Some(event) = events.recv().await {
            if let Event::Push(server_frame::Body::Deliver(deliver)) = event {
                return deliver.deliveries.first().map(|delivery| delivery.lease);
            }
        }
        None
    };
    timeout(PATIENCE, delivered)
        .await
        .ok()
        .flatten()
        .ok_or_else(|| "the task was not delivered".to_owned())
}

async fn disconnected(
    events: &mut mpsc::Receiver<Event>,
    begun: Instant,
) -> Result<Duration, String> {
    let deadline = HEARTBEAT * 5 / 2 + GRACE;
    let lost = async { while !matches!(events.recv().await, Some(Event::Disconnected) | None) {} };
    timeout(deadline, lost)
        .await
        .map_err(|_| format!("the client noticed nothing within {deadline:?}"))?;
    Ok(begun.elapsed())
}

async fn given_back(watcher: &mut RawConnection, begun: Instant) -> Result<Duration, String> {
    let deadline = LEASE + GRACE;
    let back = async { while watcher.transition().await.state() != TaskState::Queued {} };
    timeout(deadline, back)
        .await
        .map_err(|_| format!("the broker kept the lease for more than {deadline:?}"))?;
    Ok(begun.elapsed())
}
