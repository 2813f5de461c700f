//! The host of the broker: it starts the broker, passes connections to it, crashes it, and starts
//! it again, as a supervisor would.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use celeriac_broker::{Config, RunError, StoreError};
use celeriac_history::{Event, History};
use celeriac_tests::inside::simulation::{SimulatedBroker, SimulatedCommits};
use celeriac_tests::simulated_disk::Disk;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::findings::Findings;
use crate::network::Network;
use crate::trace;
use celeriac_tests::RandomSource;

/// An order to the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Kill the broker, or cut it off from power, and start it again after this time.
    Crash(Duration),
    /// Tell the broker to end, and start it again after this time.
    Restart(Duration),
}

/// What the host counts.
#[derive(Debug, Default)]
pub struct Counts {
    pub crashes: AtomicU64,
    pub restarts: AtomicU64,
    /// Times that the broker ended because of an error of the disk.
    pub failures: AtomicU64,
    /// Times that the wall clock was set.
    pub clock_jumps: AtomicU64,
}

pub struct Host {
    pub config: Config,
    pub disk: Disk,
    pub network: Network,
    pub history: History,
    pub findings: Findings,
    pub counts: Arc<Counts>,
    pub random: RandomSource,
}

/// How one run of the broker ended, and how long the host waits before the next start.
enum Ended {
    Crashed(Duration),
    Stopped(Duration),
    Failed(RunError),
}

/// A future that ends at a certain moment.
type Moment = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Waits for the moment of a crash, if a crash was ordered.
async fn reached(when: &mut Option<(Moment, Duration)>) -> Duration {
    match when {
        Some((moment, pause)) => {
            moment.await;
            *pause
        }
        None => std::future::pending().await,
    }
}

impl Host {
    /// Runs for ever.
    pub async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        loop {
            let pause = match self.start() {
                Ok((broker, committing)) => {
                    let ended = self.live(broker, &mut orders).await;
                    committing.abort();
                    self.note_end(ended)
                }
                Err(error) => {
                    self.judge(&error, "does not start");
                    self.disk.crash();
                    self.random.millis(50, 5_000)
                }
            };
            tokio::time::sleep(pause).await;
            self.history.note(Event::BrokerUp);
            trace::step("the broker starts");
        }
    }

    /// Starts the broker on the disk, and a task that commits for it in simulated time.
    fn start(&self) -> Result<(SimulatedBroker, AbortHandle), RunError> {
        let (medium, store) = self.disk.medium(self.config.disk_reserve_bytes)?;
        let (broker, commits) = SimulatedBroker::start(self.config.clone(), medium, store)?;
        self.disk.sync()?;
        let committing = tokio::spawn(commit(commits, self.disk.clone()));
        Ok((broker, committing.abort_handle()))
    }

    async fn live(
        &mut self,
        mut broker: SimulatedBroker,
        orders: &mut mpsc::UnboundedReceiver<Order>,
    ) -> Ended {
        let mut accepted = self.network.listen();
        // Orders that came while no broker was running are dropped.
        while orders.try_recv().is_ok() {}
        let mut when: Option<(Moment, Duration)> = None;
        loop {
            tokio::select! {
                biased;
                order = orders.recv() => match order.unwrap_or(Order::Crash(Duration::ZERO)) {
                    Order::Crash(pause) => {
                        when = Some((self.worst_moment(), pause));
                    }
                    Order::Restart(pause) => {
                        self.network.close();
                        return match broker.stop().await {
                            Ok(()) => Ended::Stopped(pause),
                            Err(error) => Ended::Failed(error),
                        };
                    }
                },
                pause = reached(&mut when) => return Ended::Crashed(pause),
                error = broker.failed() => return Ended::Failed(error),
                Some((read, write)) = accepted.recv() => broker.accept(read, write),
            }
        }
    }

    /// Crashes at once, or at a moment at which the disk has data that is not synced.
    fn worst_moment(&mut self) -> Moment {
        if self.random.one_in(3) {
            return Box::pin(std::future::ready(()));
        }
        let (disk, later) = (self.disk.clone(), self.random.millis(0, 3));
        Box::pin(async move {
            // An idle broker crashes too.
            let _ = tokio::time::timeout(Duration::from_secs(10), disk.written()).await;
            tokio::time::sleep(later).await;
        })
    }

    /// Notes the end of the broker, which was dropped just now.
    fn note_end(&mut self, ended: Ended) -> Duration {
        self.network.crash_broker();
        self.disk.crash();
        self.history.note(Event::BrokerDown);
        match ended {
            Ended::Crashed(pause) => {
                trace::step("the broker crashed");
                self.counts.crashes.fetch_add(1, Relaxed);
                pause
            }
            Ended::Stopped(pause) => {
                trace::step("the broker ended in good order");
                self.counts.restarts.fetch_add(1, Relaxed);
                pause
            }
            Ended::Failed(error) => {
                self.judge(&error, "ended by itself");
                self.random.millis(50, 5_000)
            }
        }
    }

    /// An error of the disk is expected after a fault of the disk. Any other error is a finding.
    fn judge(&self, error: &RunError, what: &str) {
        trace::step(&format!("the broker {what}: {error}"));
        self.counts.failures.fetch_add(1, Relaxed);
        let is_fault = matches!(
            error,
            RunError::Store(StoreError::Io { .. } | StoreError::Failed { .. })
                | RunError::CommitTimeout(_)
        );
        if !is_fault {
            self.findings.add(format!("the broker {what}: {error}"));
        }
    }
}

/// What the store's thread does, in simulated time: the worst of all moments for a crash is between
/// a write and its sync.
async fn commit(mut commits: SimulatedCommits, disk: Disk) {
    let outcome = commit_all(&mut commits, &disk).await;
    commits.end(outcome);
}

async fn commit_all(commits: &mut SimulatedCommits, disk: &Disk) -> Result<(), StoreError> {
    while let Some(batch) = commits.next().await {
        tokio::time::sleep(disk.latency()).await;
        let written = commits.write(batch)?;
        tokio::time::sleep(disk.latency()).await;
        if disk.stalls() {
            std::future::pending::<()>().await;
        }
        disk.sync()?;
        commits.answer(written);
        disk.move_at_times()?;
    }
    Ok(())
}
