//! A broker for the simulation: the real sessions, driver, machine, committer and store, on streams
//! and a medium of the simulation, without further threads. The simulation decides when a batch is
//! written and when it is durable.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use celeriac_machine::command::{Command, ConnectionKey};
use celeriac_store::{Error, Medium, Store, StoreConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::{JoinHandle, JoinSet};

use crate::commit::{self, Batches, Committer};
use crate::descriptors::{GUESTS_MAX, Places};
use crate::driver::Input;
use crate::lobby::Peer;
use crate::session::{self, Decoding, Shared};
use crate::{Config, RunError, server};

/// A limit that no simulation reaches.
const CONNECTIONS_MAX: usize = 10_000;

/// A running broker. Dropping it is a crash; the simulation decides what its medium keeps then.
#[derive(Debug)]
pub struct SimulatedBroker {
    shared: Arc<Shared>,
    driver: JoinHandle<Result<(), RunError>>,
    sessions: JoinSet<()>,
    latest: ConnectionKey,
}

impl SimulatedBroker {
    /// Reads the medium and starts the broker on the current runtime. Only the [`SimulatedCommits`]
    /// commit batches.
    ///
    /// # Errors
    /// As [`crate::Broker::open`].
    pub fn start(
        config: Config,
        medium: Box<dyn Medium>,
        store: StoreConfig,
    ) -> Result<(Self, SimulatedCommits), RunError> {
        config.check()?;
        let broker = server::open_with(config, |load| Store::over(medium, store, load))?;
        let mut committing = None;
        let places = Places { guests: GUESTS_MAX, connections: CONNECTIONS_MAX };
        let server::Running { driver, shared, .. } =
            broker.start(places, Decoding::Here, |store, config, tally| {
                let (committer, commits, batches) = commit::over(store, config, tally);
                committing = Some(SimulatedCommits { committer, batches });
                Ok(commits)
            })?;
        let broker = Self { shared, driver, sessions: JoinSet::new(), latest: 0 };
        Ok((broker, committing.expect("the broker's start calls it")))
    }

    /// Starts a session for a connection.
    pub fn accept<R, W>(&mut self, read: R, write: W)
    where
        R: AsyncRead + Unpin + Send + 'static,
        W: AsyncWrite + Unpin + Send + 'static,
    {
        self.latest += 1;
        // Removes the sessions that have ended.
        while self.sessions.try_join_next().is_some() {}
        let peer = Peer::plain(SocketAddr::from((Ipv4Addr::LOCALHOST, 1)));
        let (connection, shared) = (self.latest, self.shared.clone());
        self.sessions.spawn(async move {
            let guest = shared.lobby.enter(connection).await;
            session::run(read, write, peer, guest, shared).await;
        });
    }

    /// Waits until the broker ends by itself, which is a failure.
    pub async fn failed(&mut self) -> RunError {
        match (&mut self.driver).await {
            Ok(Err(error)) => error,
            Ok(Ok(())) => unreachable!("the broker was not asked to end"),
            Err(_) => RunError::StorePanicked,
        }
    }

    /// Ends the broker in good order.
    ///
    /// # Errors
    /// When the medium has failed meanwhile.
    pub async fn stop(mut self) -> Result<(), RunError> {
        self.shared.stop.cancel();
        // The driver may have failed at this moment; its result says so.
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
    }
}

/// The work of the store's thread, step by step, at moments that the simulation chooses.
pub struct SimulatedCommits {
    committer: Committer,
    batches: Batches,
}

/// A batch that the driver wants committed.
#[derive(Debug)]
pub struct Batch(commit::Batch);

/// The messages of a batch that is durable.
#[derive(Debug)]
#[must_use = "the clients wait for it"]
pub struct Written(commit::Committed);

impl SimulatedCommits {
    /// The next batch. `None`: no further batch will come.
    pub async fn next(&mut self) -> Option<Batch> {
        self.batches.batches.recv().await.map(Batch)
    }

    /// Writes a batch to the medium, and tells no client.
    ///
    /// # Errors
    /// When the medium fails.
    pub fn write(&mut self, batch: Batch) -> Result<Written, Error> {
        self.committer.commit(batch.0).map(Written)
    }

    /// Sends the messages of a durable batch.
    pub fn answer(&mut self, written: Written) {
        self.batches.confirm(self.committer.disk_is_low());
        self.committer.answer(written.0);
    }

    /// Ends the committing: in good order, or with an error of the medium.
    pub fn end(self, outcome: Result<(), Error>) {
        let Self { committer, batches } = self;
        batches.end(outcome.and_then(|()| committer.close()));
    }
}
