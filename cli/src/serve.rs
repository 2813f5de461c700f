//! `celeriac serve`: the broker as a process, with its settings, its log, its signals and its service manager.
//!
//! The broker itself is `celeriac_broker::Broker`.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::time::{Duration, Instant};

use celeriac_broker::{Broker, RunError};
use clap::ArgMatches;
use clap::parser::ValueSource;
use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::config_file::ConfigFile;
use crate::exit::{Exit, Failure};
use crate::logging;
use crate::output::Output;
use crate::settings::{Effective, Serve, token_variable};

/// Signals that follow the first within this time belong to it.
const ONE_SIGNAL: Duration = Duration::from_secs(1);

/// Runs the broker until a signal ends it, or only checks its settings.
pub(crate) fn run(
    serve: Serve,
    token_file: Option<PathBuf>,
    matches: &ArgMatches,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let check_only = serve.check_config;
    let effective = load(serve, token_file, matches)?;
    if check_only {
        print(&effective, output)?;
        return Ok(Exit::Success);
    }
    logging::start(&effective.log, effective.log_format)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(session_threads())
        .enable_all()
        .build()
        .map_err(|error| Failure::error(format!("cannot start: {error}")))?;
    let outcome = runtime.block_on(serve_until_signalled(effective, output));
    // After a second signal something may still hang; the process is not to wait for it.
    runtime.shutdown_background();
    outcome
}

/// Threads for the sessions: half of the processors. The other half is for the store, whose two threads work while the
/// sessions do; and each thread more is one that is woken, only to find that the others were faster.
fn session_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |processors| (processors.get() / 2).max(1))
}

/// Merges flags, environment, file and defaults, and checks what comes out.
fn load(serve: Serve, token_file: Option<PathBuf>, matches: &ArgMatches) -> Result<Effective, Failure> {
    let mut given = serve.settings;
    given.token = token_variable()?;
    given.token_file = token_file;
    let (file, effective) = match &serve.config {
        Some(path) => {
            let (file, settings) = ConfigFile::read(path)?;
            (Some(file), given.over(settings).resolve()?)
        }
        None => (None, given.resolve()?),
    };
    effective.check().map_err(|(key, sentence)| match origin(key, file.as_ref(), matches) {
        Some(origin) => Failure::usage(format!("{origin}: {sentence}")),
        None => Failure::usage(sentence),
    })?;
    Ok(effective)
}

/// Who set a value: the flag, the variable, or the line of the file. `None` for a default.
fn origin(key: &str, file: Option<&ConfigFile>, matches: &ArgMatches) -> Option<String> {
    let flag = if key == "token" { "token_file" } else { key };
    let serve = matches.subcommand_matches("serve")?;
    match serve.value_source(flag) {
        Some(ValueSource::CommandLine) => Some(format!("--{}", flag.replace('_', "-"))),
        Some(ValueSource::EnvVariable) => Some(format!("CELERIAC_{}", flag.to_uppercase())),
        _ if key == "token" && std::env::var_os("CELERIAC_TOKEN").is_some() => Some("CELERIAC_TOKEN".to_owned()),
        _ => file.and_then(|file| file.place(key)),
    }
}

fn print(effective: &Effective, output: &mut Output) -> Result<(), Failure> {
    if output.json {
        return Ok(output.document(effective)?);
    }
    let text = toml::to_string(effective)
        .map_err(|error| Failure::usage(format!("the settings cannot be written as text: {error}")))?;
    Ok(output.line(text.trim_end())?)
}

async fn serve_until_signalled(effective: Effective, output: &mut Output) -> Result<Exit, Failure> {
    let mut signals = Signals::listen()?;
    let listener = bind(effective.listen).await?;
    let address = listener.local_addr().map_err(|error| cannot_listen(effective.listen, &error))?;
    warn_of_open_doors(&effective);

    // Nothing has been promised yet: a signal while the folder is read ends the process at once.
    let broker = tokio::select! {
        opened = Broker::open(effective.broker) => match opened {
            Ok(broker) => broker,
            Err(error) => return ended(Err(error)),
        },
        _ = signals.next() => return ended(Ok(())),
    };
    let (shut_down, shutdown) = oneshot::channel::<()>();
    let mut broker = pin!(broker.serve(listener, async {
        // An error means that the sender is gone, and this function with it.
        let _ = shutdown.await;
    }));
    announce(address, output)?;
    let signal = tokio::select! {
        outcome = &mut broker => return ended(outcome),
        signal = signals.next() => signal,
    };
    tracing::info!(signal, "shutting down");
    tell_manager(NotifyState::Stopping);
    // The broker may have ended at this very moment; then nobody listens.
    let _ = shut_down.send(());
    tokio::select! {
        outcome = &mut broker => ended(outcome),
        signal = signals.second() => Err(Failure::error(format!("ended at once by a second {signal}; what was confirmed is safe"))),
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| cannot_listen(address, &error))
}

fn cannot_listen(address: SocketAddr, error: &io::Error) -> Failure {
    Failure::new(Exit::Address, format!("cannot listen on {address}: {error}"))
}

fn warn_of_open_doors(effective: &Effective) {
    if !effective.is_public() {
        return;
    }
    match effective.broker.token {
        Some(_) => tracing::warn!(
            "the token and all tasks cross the network in clear text: let only a trusted network reach this port"
        ),
        None => tracing::warn!("anybody who reaches this port may submit, read and run tasks"),
    }
}

fn announce(address: SocketAddr, output: &mut Output) -> Result<(), Failure> {
    tell_manager(NotifyState::Ready);
    match output.line(&format!("celeriac: listening on {address}")).map_err(Failure::from) {
        // A service manager may have closed stdout; that is no reason not to serve.
        Err(Failure::ReaderGone) | Ok(()) => Ok(()),
        Err(failure) => Err(failure),
    }
}

/// Tells systemd, if it asked to be told. A broken notify socket must not stop a broker that works.
fn tell_manager(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "cannot notify the service manager");
    }
}

fn ended(outcome: Result<(), RunError>) -> Result<Exit, Failure> {
    match outcome {
        Ok(()) => {
            tracing::info!("stopped");
            Ok(Exit::Success)
        }
        Err(error) => Err(Failure::new(Exit::Broker(error.exit_code()), error.to_string())),
    }
}

/// The signals that ask for an end.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(|error| Failure::error(format!("cannot listen for signals: {error}")));
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    /// A signal that was meant as another one. Terminals and supervisors send the first to the process and to its whole
    /// group, so that it comes twice.
    async fn second(&mut self) -> &'static str {
        let first = Instant::now();
        loop {
            let signal = self.next().await;
            if first.elapsed() > ONE_SIGNAL {
                return signal;
            }
        }
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
