//! A broker for the simulation: the real sessions, driver, machine, committer and store, on streams
//! and a disk that the simulation makes, without a thread. Its committer takes simulated time,
//! before it writes and before that is durable.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use celeriac_machine::command::{Command, ConnectionKey};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::{AbortHandle, JoinHandle, JoinSet};

pub use super::disk::{Disk, Fault, Figures};
use crate::commit::{Committer, Work};
use crate::descriptors::{GUESTS_MAX, Places};
use crate::driver::Input;
use crate::session::{self, Decoding, Shared};
use crate::{Config, RunError, server};

/// More than a simulation opens.
const CONNECTIONS_MAX: usize = 10_000;

/// A running broker. Dropped, it has crashed; what the disk keeps then is for [`Disk::crash`] to
/// say.
#[derive(Debug)]
pub struct SimulatedBroker {
    shared: Arc<Shared>,
    driver: JoinHandle<Result<(), RunError>>,
    committer: AbortHandle,
    sessions: JoinSet<()>,
    latest: ConnectionKey,
}

impl SimulatedBroker {
    /// Reads the disk and sets the broker going on the runtime this is called on.
    ///
    /// # Errors
    /// As [`crate::Broker::open`].
    pub fn start(config: Config, disk: &Disk) -> Result<Self, RunError> {
        config.check()?;
        let reserve_bytes = config.disk_reserve_bytes;
        let broker = server::open_with(config, |load| disk.open(reserve_bytes, load))?;
        let mut committing = None;
        let places = Places { guests: GUESTS_MAX, connections: CONNECTIONS_MAX };
        let (driver, shared) = broker.start(places, Decoding::Here, |store, settings| {
            let (committer, hand, work) = Committer::new(store, settings);
            committing = Some(tokio::spawn(commit(committer, work, disk.clone())).abort_handle());
            Ok(hand)
        })?;
        let committer = committing.expect("the broker's start calls it");
        Ok(Self { shared, driver, committer, sessions: JoinSet::new(), latest: 0 })
    }

    /// Serves a connection.
    pub fn accept<R, W>(&mut self, read: R, write: W)
    where
        R: AsyncRead + Unpin + Send + 'static,
        W: AsyncWrite + Unpin + Send + 'static,
    {
        self.latest += 1;
        // Those that ended.
        while self.sessions.try_join_next().is_some() {}
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let (connection, shared) = (self.latest, self.shared.clone());
        self.sessions.spawn(async move {
            let guest = shared.lobby.enter(connection).await;
            session::run(read, write, peer, guest, shared).await;
        });
    }

    /// Waits until it ends by itself, which is a failure.
    pub async fn failed(&mut self) -> RunError {
        match (&mut self.driver).await {
            Ok(Err(error)) => error,
            Ok(Ok(())) => unreachable!("nobody asked it to end"),
            Err(_) => RunError::StorePanicked,
        }
    }

    /// Ends it in good order.
    ///
    /// # Errors
    /// When the disk failed meanwhile.
    pub async fn stop(mut self) -> Result<(), RunError> {
        self.shared.stop.cancel();
        // The driver may have failed in this very moment; its result says so.
        let _ = self.shared.inputs.send(Input::Command(Command::Shutdown)).await;
        let result = (&mut self.driver).await.unwrap_or(Err(RunError::StorePanicked));
        let farewell = async { while self.sessions.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(Duration::from_secs(5), farewell).await;
        result
    }
}

impl Drop for SimulatedBroker {
    fn drop(&mut self) {
        self.driver.abort();
        self.committer.abort();
    }
}

/// What the store's thread does, in simulated time.
async fn commit(mut committer: Committer, mut work: Work, disk: Disk) {
    let outcome = async {
        while let Some(batch) = work.batches.recv().await {
            tokio::time::sleep(disk.latency()).await;
            let committed = committer.commit(batch)?;
            tokio::time::sleep(disk.latency()).await;
            if disk.stalls() {
                std::future::pending::<()>().await;
            }
            disk.sync()?;
            committer.answer(committed);
        }
        committer.close()
    };
    // The driver may have ended first.
    let _ = work.end.send(outcome.await.map_err(RunError::Store));
}
