//! What the process around a broker asks of it while it serves: to take new settings, and whether
//! requests still come through.
//!
//! `decisions` says for each setting whether a reload takes it. The process reads its files itself,
//! and so it does its own settings: the addresses and the log.

mod decisions;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use celeriac_machine::command::Command;
use tokio::sync::{mpsc, oneshot};

use self::decisions::{Decided, decide};
use crate::access::AccessError;
use crate::commit::{Passed, Settings};
use crate::config::{Config, ConfigError};
use crate::descriptors;
use crate::driver::Input;
use crate::encode;
use crate::session::Shared;
use crate::tally::Tally;
use crate::tls::{Certificates, TlsError};

/// The most calls of each kind that wait.
const WAITING_MAX: usize = 8;

/// A handle on a broker. It may be cloned and used from anywhere, also before the broker serves:
/// its calls then wait.
#[derive(Debug, Clone)]
pub struct Control {
    reloads: mpsc::Sender<Asked>,
    passing: mpsc::Sender<oneshot::Sender<Passed>>,
    tally: Arc<Tally>,
}

/// The other end of the handles.
#[derive(Debug)]
pub(crate) struct Calls {
    reloads: mpsc::Receiver<Asked>,
    passing: mpsc::Receiver<oneshot::Sender<Passed>>,
}

#[derive(Debug)]
struct Asked {
    config: Box<Config>,
    answer: oneshot::Sender<Result<Reloaded, ReloadError>>,
}

/// What became of new settings. The settings have the names of the fields of [`Config`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reloaded {
    /// Settings that have changed and count from now on.
    pub taken: Vec<&'static str>,
    /// Settings that differ from those of the broker's start, which still count.
    pub needs_restart: Vec<&'static str>,
}

/// Why nothing of the new settings was taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReloadError {
    /// A value is not allowed.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file of TLS cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The access file cannot be used.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The broker shuts down, or has ended.
    #[error("the broker shuts down")]
    Ended,
}

impl Control {
    pub(crate) fn new(tally: Arc<Tally>) -> (Self, Calls) {
        let (reloads, asked) = mpsc::channel(WAITING_MAX);
        let (passing, passes) = mpsc::channel(WAITING_MAX);
        (Self { reloads, passing, tally }, Calls { reloads: asked, passing: passes })
    }

    /// Takes the settings of this configuration that a broker can change while it serves, all or
    /// none of them: the files of TLS and the access file, which it reads again in any case,
    /// `result_ttl_ms`, `disk_reserve_bytes` and `connections_max`. They count when this returns.
    /// No connection ends but those whose entry of the access file is gone or has changed.
    ///
    /// # Errors
    /// The first setting that cannot be used. Nothing has changed then.
    pub async fn reload(&self, config: Config) -> Result<Reloaded, ReloadError> {
        let (answer, answered) = oneshot::channel();
        let asked = Asked { config: Box::new(config), answer };
        self.reloads.send(asked).await.map_err(|_| ReloadError::Ended)?;
        let outcome = answered.await.unwrap_or(Err(ReloadError::Ended));
        self.tally.note_reload(outcome.is_err());
        outcome
    }

    /// The process could not read its own settings again, so there is nothing to take. Monitors
    /// learn of it as of a reload that fails.
    pub fn note_failed_reload(&self) {
        self.tally.note_reload(true);
    }

    /// Returns when it has come through the driver and the commit in the way of a request, so that
    /// a request would have been answered. `None`: the broker has ended, or shuts down.
    pub async fn pass(&self) -> Option<Passed> {
        let (waiting, passed) = oneshot::channel();
        self.passing.send(waiting).await.ok()?;
        passed.await.ok()
    }
}

/// The settings of a broker that serves.
pub(crate) struct InUse {
    /// The settings of its start, and those that it has taken since.
    pub asked: Config,
    pub certificates: Option<Certificates>,
    /// `connections_max`, as far as the file descriptors allow it.
    pub seats: usize,
    pub shared: Arc<Shared>,
}

impl Calls {
    /// Carries out the calls until it is dropped.
    pub(crate) async fn carry_out(self, mut in_use: InUse) {
        let Calls { mut reloads, mut passing } = self;
        let inputs = in_use.shared.inputs.clone();
        let pass_on = async {
            while let Some(waiting) = passing.recv().await {
                // The driver has ended if it takes no more. Then the caller learns it.
                let _ = inputs.send(Input::Pass(waiting)).await;
            }
        };
        let reload = async {
            while let Some(Asked { config, answer }) = reloads.recv().await {
                // The caller may be gone; the settings count all the same.
                let _ = answer.send(in_use.reload(&config).await);
            }
        };
        tokio::join!(pass_on, reload);
        // Every handle is gone.
        std::future::pending().await
    }
}

impl InUse {
    async fn reload(&mut self, config: &Config) -> Result<Reloaded, ReloadError> {
        config.check()?;
        let Decided { config, taken, needs_restart } = decide(&self.asked, config);
        // Whatever else a reload reads from files is read and checked here, and put into its place
        // below, so that a mistake in one of them changes nothing.
        let prepared = match &self.certificates {
            Some(certificates) => Some((certificates, certificates.prepare(&config).await?)),
            None => None,
        };
        let access = match &self.shared.access {
            Some(access) => Some((access, access.prepare().await?)),
            None => None,
        };
        // Nothing fails from here on.
        if let Some((access, prepared)) = access {
            access.take(prepared);
        }
        if let Some((certificates, prepared)) = prepared {
            certificates.take(prepared).await;
        }
        if config.connections_max != self.asked.connections_max {
            self.change_seats(config.connections_max);
        }
        let Config { disk_reserve_bytes, result_ttl_ms, .. } = config;
        let of_clients =
            Config { result_ttl_ms, connections_max: self.seats, ..self.shared.config.clone() };
        let settings = Settings { disk_reserve_bytes, limits: encode::limits(&of_clients) };
        let inputs = &self.shared.inputs;
        let (waiting, passed) = oneshot::channel();
        for input in
            [Input::Settings(settings, Command::ResultTtl(result_ttl_ms)), Input::Pass(waiting)]
        {
            inputs.send(input).await.map_err(|_| ReloadError::Ended)?;
        }
        passed.await.map_err(|_| ReloadError::Ended)?;
        self.asked = config;
        Ok(Reloaded { taken, needs_restart })
    }

    fn change_seats(&mut self, wanted: usize) {
        let places = descriptors::places(wanted);
        // Connections before Hello keep the places that they had at the start.
        let kept = self.shared.lobby.guests_max().saturating_sub(places.guests);
        self.seats = places.connections.saturating_sub(kept).max(1);
        self.shared.lobby.set_seats_max(self.seats);
    }
}
