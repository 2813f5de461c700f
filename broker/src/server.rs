//! The broker as one call: open the store, build the machine, accept connections, and on shutdown
//! commit and close.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use celeriac_machine::command::Command;
use celeriac_machine::{Effects, Machine, MachineConfig};
use celeriac_record::Record;
#[cfg(feature = "internals")]
use celeriac_store::JournalConfig;
use celeriac_store::{FolderConfig, Marks, Store, StoreConfig};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::accept::{Listeners, accept};
use crate::access::Access;
use crate::clock::{Clock, Stopwatch};
use crate::commit::{self, CommitConfig, Commits};
use crate::config::Config;
use crate::control::{Calls, Control, InUse};
use crate::descriptors::{self, Places};
use crate::door::Entrance;
use crate::driver::{Driver, INPUTS_MAX, Input};
use crate::encode;
use crate::error::RunError;
use crate::lobby::Lobby;
use crate::log_filter::LogFilter;
use crate::refused::Refused;
use crate::room::Room;
use crate::session::{Decoding, FrameRooms, REQUESTS_WEIGHT_MAX, Shared};
use crate::size;
use crate::tally::Tally;
use crate::tls::Certificates;

/// The most payload bytes that are leased to one worker at once.
const LEASED_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// When the broker closes, connections have this long to take their last answers.
const FAREWELL: Duration = Duration::from_secs(5);

/// When the broker ends, the last lines of the audit log have this long to be written.
const LAST_AUDIT: Duration = Duration::from_secs(1);

/// When the disk has failed during a start, the start has this long to report the failure itself.
const DISK_FAILURE_PATIENCE: Duration = Duration::from_millis(500);

/// A broker whose data folder is open and read, ready to serve.
#[derive(Debug)]
pub struct Broker {
    config: Config,
    /// The settings as they were given.
    asked: Config,
    clock: Clock,
    machine: Machine,
    store: Store,
    restored: Effects,
    certificates: Option<Certificates>,
    access: Option<Access>,
    plain: Option<TcpListener>,
    entrance: Option<Entrance>,
    control: (Control, Calls),
    log: Option<LogFilter>,
    tally: Arc<Tally>,
}

/// How many records a broker has read at its start so far. It may be cloned and read from anywhere.
#[derive(Debug, Clone, Default)]
pub struct Restored(Arc<AtomicU64>);

impl Restored {
    /// The number of records.
    pub fn records(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Runs a broker on `listener` until `shutdown` resolves: [`Broker::open`], then [`Broker::serve`].
///
/// # Errors
/// The errors of these two calls.
pub async fn run(
    config: Config,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> Result<(), RunError> {
    Broker::open(config).await?.serve(listener, shutdown).await
}

impl Broker {
    /// Checks the configuration, opens the data folder and reads it.
    ///
    /// # Errors
    /// [`RunError::Config`], or [`RunError::Store`] when the folder cannot be used. The folder is
    /// then unchanged.
    pub async fn open(config: Config) -> Result<Self, RunError> {
        // A certificate that cannot be used is found before the folder is touched.
        config.check()?;
        let certificates = Certificates::of(&config)?;
        Self::open_prepared(config, certificates, &Restored::default()).await
    }

    /// Like [`open`](Self::open) with certificates that were read before, and counts the records
    /// meanwhile.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_prepared(
        config: Config,
        certificates: Option<Certificates>,
        restored: &Restored,
    ) -> Result<Self, RunError> {
        let (folder, store) = (FolderConfig::new(&config.data), store_config(&config));
        Self::open_store(config, certificates, folder, store, restored.clone()).await
    }

    /// Like [`open`](Self::open), but the store cleans its log once the log is this much larger
    /// than twice its live records, and its journal is so small that it moves chunks all the time.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    #[cfg(feature = "internals")]
    #[doc(hidden)]
    pub async fn open_with_small_bounds(
        config: Config,
        slack_bytes: u64,
    ) -> Result<Self, RunError> {
        let store = StoreConfig { slack_bytes, ..store_config(&config) };
        let journal = Some(JournalConfig { segment_bytes: 256 * 1024, segments: 4 });
        let folder = FolderConfig { journal, ..FolderConfig::new(&config.data) };
        config.check()?;
        let certificates = Certificates::of(&config)?;
        Self::open_store(config, certificates, folder, store, Restored::default()).await
    }

    async fn open_store(
        config: Config,
        certificates: Option<Certificates>,
        folder: FolderConfig,
        store: StoreConfig,
        restored: Restored,
    ) -> Result<Self, RunError> {
        config.check()?;
        let access = Access::load(&config, Clock::new())?;
        let open = move || {
            let broker = open_with(config, |load| {
                Store::open(folder, store, &mut |record| {
                    restored.0.fetch_add(1, Ordering::Relaxed);
                    load(record);
                })
            })?;
            Ok(Self { certificates, access, ..broker })
        };
        let opening = tokio::task::spawn_blocking(open);
        tokio::select! {
            biased;
            opened = opening => opened.map_err(|_| RunError::panicked())?,
            error = disk_failed() => Err(error),
        }
    }

    /// The certificates of a broker with TLS. With this handle they can be read again while the
    /// broker serves. The broker itself reads them again soon after their files have changed.
    pub fn certificates(&self) -> Option<Certificates> {
        self.certificates.clone()
    }

    /// Clients may show and change this filter of the log.
    #[must_use]
    pub fn with_log(mut self, filter: LogFilter) -> Self {
        self.log = Some(filter);
        self
    }

    /// The handle by which the broker takes new settings while it serves.
    pub fn control(&self) -> Control {
        self.control.0.clone()
    }

    /// The broker also accepts connections of this listener, and those never speak TLS. Let no
    /// other machine reach it.
    #[must_use]
    pub fn with_plain(mut self, listener: TcpListener) -> Self {
        self.plain = Some(listener);
        self
    }

    /// The broker also serves the connections that enter by this door. They need no place in the
    /// network, and count as all others.
    #[must_use]
    pub fn with_door(mut self, entrance: Entrance) -> Self {
        self.entrance = Some(entrance);
        self
    }

    /// Serves until `shutdown` resolves. The broker answers connections from the first moment on.
    /// With certificates these connections speak TLS.
    ///
    /// The broker raises the soft limit of open files where `connections_max` needs that; where the
    /// hard limit is too low, the broker accepts fewer connections.
    ///
    /// # Errors
    /// [`RunError`] when the data folder fails. Everything that the broker confirmed is on disk in
    /// any case.
    pub async fn serve(
        mut self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), RunError> {
        let places = descriptors::places(self.config.connections_max);
        // Who reads the log may not know the folder in which the broker was started.
        let folder = std::path::absolute(&self.config.data);
        let folder = folder.unwrap_or_else(|_| self.config.data.clone());
        info!(
            version = env!("CARGO_PKG_VERSION"),
            address = listener.local_addr().ok().map(display),
            tls = self.certificates.is_some(),
            data = %folder.display(),
            format = self.store.format(),
            tasks = self.machine.tasks(),
            "the broker is ready"
        );
        let (certificates, plain) = (self.certificates.take(), self.plain.take());
        let entrance = self.entrance.take();
        if let Some(certificates) = &certificates {
            self.tally.shows_certificate(certificates.expires());
        }
        let asked = self.asked.clone();
        let (_, calls) = std::mem::replace(&mut self.control, Control::new(self.tally.clone()));
        let listeners = Listeners { listener, certificates, plain, entrance };
        let Running { mut driver, shared, overdue } =
            self.start(places, Decoding::Apart, commit::start)?;
        let commit_timeout = Duration::from_millis(shared.config.commit_timeout_ms);
        let inputs = shared.inputs.clone();
        let sessions = TaskTracker::new();
        let (fresh, access) = (listeners.certificates.clone(), shared.access.clone());
        let (certificates, seats) = (fresh.clone(), places.connections);
        let in_use = InUse { asked, certificates, seats, shared: shared.clone() };
        let accept = accept(listeners, shared.clone(), sessions.clone());
        let keep_fresh = async {
            match &fresh {
                Some(certificates) => certificates.keep_fresh().await,
                None => std::future::pending().await,
            }
        };
        let look_at_access = async {
            match &access {
                Some(access) => access.keep_fresh().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ended = &mut driver => return ended.unwrap_or_else(|_| Err(RunError::panicked())),
            () = overdue.cancelled() => return Err(RunError::overdue(commit_timeout)),
            () = accept => unreachable!("accepting goes on until it is dropped"),
            () = keep_fresh => unreachable!("looking at the files goes on until it is dropped"),
            () = look_at_access => unreachable!("looking at the entries goes on until it is dropped"),
            () = calls.carry_out(in_use) => unreachable!("calls are taken until it is dropped"),
            () = shutdown => info!("the broker shuts down"),
        }
        // The driver may have failed at this moment; its result says so. The driver must learn of
        // the shutdown before any connection does: a connection that learns of it first disconnects
        // from the driver, and then its client is not told why.
        let _ = inputs.send(Input::Command(Command::Shutdown)).await;
        shared.stop.cancel();
        let result = tokio::select! {
            ended = driver => ended.unwrap_or_else(|_| Err(RunError::panicked())),
            () = overdue.cancelled() => return Err(RunError::overdue(commit_timeout)),
        };
        finish(&sessions, access.as_ref()).await;
        result
    }

    /// Starts the driver with any implementation of the commits.
    pub(crate) fn start(
        self,
        places: Places,
        decoding: Decoding,
        commit: impl FnOnce(Store, CommitConfig, Arc<Tally>) -> Result<Commits, RunError>,
    ) -> Result<Running, RunError> {
        let Broker { config, clock, machine, store, restored, log, access, tally, .. } = self;
        // The broker names the number of connections that it can hold, not the number that it was
        // asked to hold.
        let config = Config { connections_max: places.connections, ..config };
        let (inputs, receiver) = mpsc::channel(INPUTS_MAX);
        let (signs, heard) = mpsc::unbounded_channel();
        let commit_timeout = Duration::from_millis(config.commit_timeout_ms);
        let Config { frame_bytes_max, result_bytes_max, .. } = config;
        let (timeout, limits) = (commit_timeout, encode::limits(&config));
        let commit_config = CommitConfig { frame_bytes_max, result_bytes_max, timeout, limits };
        let commits = commit(store, commit_config, tally.clone())?;
        let lobby = Lobby::new(places.guests, places.connections);
        tally.serves(lobby.clone());
        let overdue = commits.overdue.clone();
        let driver = Driver::new(machine, clock.clone(), receiver, heard, commits, commit_timeout);
        let driver = tokio::spawn(driver.run(restored));
        let shared = Shared {
            clock,
            access,
            wrong_tokens: Refused::default(),
            failed_handshakes: Refused::default(),
            inputs,
            signs,
            lobby,
            tally,
            frames: FrameRooms::new(config.frame_bytes_max),
            requests: Room::new(REQUESTS_WEIGHT_MAX),
            turn: Room::new(1),
            decoding,
            log,
            stop: CancellationToken::new(),
            config,
        };
        Ok(Running { driver, shared: Arc::new(shared), overdue })
    }
}

/// Waits until a disk call has failed inside the engine and the engine has not reported the
/// failure: one of its threads waits for another thread that has ended.
async fn disk_failed() -> RunError {
    loop {
        tokio::time::sleep(DISK_FAILURE_PATIENCE).await;
        if let Some(error) = celeriac_store::disk_failure() {
            tokio::time::sleep(DISK_FAILURE_PATIENCE).await;
            return RunError::Store(error);
        }
    }
}

/// A broker that runs.
pub(crate) struct Running {
    pub driver: JoinHandle<Result<(), RunError>>,
    /// The state that its sessions share.
    pub shared: Arc<Shared>,
    /// Cancelled when a commit on the driver's thread does not end.
    pub overdue: CancellationToken,
}

fn store_config(config: &Config) -> StoreConfig {
    StoreConfig { disk_reserve_bytes: config.disk_reserve_bytes, ..StoreConfig::default() }
}

/// The result of opening a store.
type Opened = Result<(Store, Marks), celeriac_store::Error>;

/// Waits for the last answers to the clients, and for the last lines of the audit log.
async fn finish(sessions: &TaskTracker, access: Option<&Access>) {
    sessions.close();
    if tokio::time::timeout(FAREWELL, sessions.wait()).await.is_err() {
        warn!("some connections did not take their last answers");
    }
    if let Some(access) = access
        && tokio::time::timeout(LAST_AUDIT, access.written()).await.is_err()
    {
        warn!("the last lines of the audit log may be missing: its disk does not answer");
    }
}

/// Opens a store and builds the machine from its records.
pub(crate) fn open_with(
    mut config: Config,
    open: impl FnOnce(&mut dyn FnMut(Record)) -> Opened,
) -> Result<Broker, RunError> {
    let (clock, asked, reading) = (Clock::new(), config.clone(), Stopwatch::start());
    let mut machine = Machine::new(MachineConfig {
        lease_ms: config.lease_ms,
        result_ttl_ms: config.result_ttl_ms,
        result_bytes_max: config.result_bytes_max,
        leased_bytes_max: LEASED_BYTES_MAX,
        seed: uuid::Uuid::new_v4().as_u64_pair().0,
    });
    let now = clock.now();
    let mut largest = Largest::default();
    let (store, marks) = open(&mut |record| {
        largest.note(&record);
        machine.restore(now, record);
    })?;
    largest.make_room(&mut config);
    let mut restored = Effects::default();
    machine.restored(clock.now(), marks.lease, marks.serial, &mut restored);
    let tally = Arc::new(Tally::new(clock.clone(), reading.elapsed()));
    Ok(Broker {
        config,
        asked,
        clock,
        machine,
        store,
        restored,
        certificates: None,
        access: None,
        plain: None,
        entrance: None,
        control: Control::new(tally.clone()),
        log: None,
        tally,
    })
}

/// The largest sizes among the stored tasks. The limits may have been larger when a task was
/// submitted.
#[derive(Debug, Default)]
struct Largest {
    payload_bytes: usize,
    result_bytes: usize,
}

impl Largest {
    fn note(&mut self, record: &Record) {
        match record {
            Record::Submitted(task) => {
                self.payload_bytes = self.payload_bytes.max(task.spec.payload.len())
            }
            Record::Changed(change) => {
                let bytes = change.result.as_ref().map_or(0, |result| result.bytes.len());
                self.result_bytes = self.result_bytes.max(bytes);
            }
            _ => {}
        }
    }

    /// Raises the limit of frames so that every stored task can be delivered and read under today's
    /// configuration.
    fn make_room(&self, config: &mut Config) {
        let needed = size::frame_bytes_for(self.payload_bytes, self.result_bytes);
        if needed > config.frame_bytes_max {
            warn!(
                frame_bytes_max = config.frame_bytes_max,
                needed_bytes = needed,
                "stored tasks are larger than the limits of today: clients are told to take longer frames"
            );
            config.frame_bytes_max = needed;
        }
    }
}
