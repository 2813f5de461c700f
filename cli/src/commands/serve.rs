//! `celeriac serve`: runs the broker as a process, with its configuration, its log, its signals and
//! the messages for its service manager.
//!
//! The broker itself is `celeriac_broker::Broker`.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;

use celeriac_broker::{
    Access, Broker, Certificates, LogFilter as LogControl, Restored, RunError, door,
};
use clap::{ArgMatches, Args};
use rustix::process::{Resource, getrlimit};
use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};

use self::config::{ConfigLayer, ServeConfig};
use self::http::{Http, Inside};
use self::notify::{feed_watchdog, notify_manager};
use self::reload::{AccessText, Reload};
use self::sockets::{Sockets, cannot_listen, listen};
use self::source::{Loaded, Source};
use crate::allocator::give_back_when_idle;
use crate::arguments::SharedOptions;
use crate::exit::{Exit, Failure};
use crate::logging::{self, LineWriter, Log, LogFilter, Queue};
use crate::output::{Output, print_to_stderr, stderr_text};
use crate::signals::{HangUp, ShutdownSignals};
use celeriac_web::printable::clean;

mod config;
mod config_file;
mod http;
mod http_config;
mod names;
mod notify;
mod reload;
mod sockets;
mod source;
mod units;

/// The end of the help of this command.
pub(crate) const SETTINGS_HELP: &str = "\
Every setting can also be given in the file, with underscores for dashes, or in the environment, as \
CELERIAC_ and the name in capitals. A flag has priority over the environment, and the environment \
over the file. deploy/README.md lists the exit codes.";

/// The arguments of `serve`.
#[derive(Args)]
pub(crate) struct ServeArguments {
    /// Read settings from this TOML file
    #[arg(long, env = "CELERIAC_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,

    /// Print the settings with masked secrets, as JSON with --json, and exit: with 0 if they are
    /// valid, else with 2
    #[arg(long)]
    check_config: bool,

    #[command(flatten)]
    layer: ConfigLayer,
}

/// Runs the broker until a signal ends it, or only checks its configuration. The sentence of a
/// failure goes to stderr through the queue of the log, so that a reader that has stopped does not
/// hold the process.
pub(crate) fn run(
    arguments: ServeArguments,
    shared: SharedOptions,
    matches: &ArgMatches,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let mut log = None;
    let outcome = check_and_serve(arguments, shared, matches, output, &mut log);
    match (log, outcome) {
        (Some(log), outcome) => log.end(outcome),
        (None, Err(Failure::Sentence { exit, sentence })) => fail_without_log(exit, sentence),
        (None, outcome) => outcome,
    }
}

/// Writes the sentence of a failure before the log was started.
fn fail_without_log(exit: Exit, sentence: String) -> Result<Exit, Failure> {
    // If the queue cannot be started either, the sentence goes the way of all commands.
    let Ok(queue) = Queue::start(rustix::stdio::stderr(), |_| Vec::new()) else {
        return Err(Failure::new(exit, sentence));
    };
    queue.push(stderr_text(&clean(&sentence)).into_bytes());
    queue.flush();
    Ok(exit)
}

/// Does the work of `run`. When the log was started, `log` has it, also after a failure.
fn check_and_serve(
    arguments: ServeArguments,
    shared: SharedOptions,
    matches: &ArgMatches,
    output: &mut Output,
    log: &mut Option<Log>,
) -> Result<Exit, Failure> {
    let ServeArguments { config, check_config: is_check_only, mut layer } = arguments;
    layer.token_file = shared.token_file;
    let sockets = Sockets::take()?;
    let addresses = sockets.addresses();
    let source = Source { config, layer, addresses, matches: matches.clone() };
    let Loaded { config, warnings } = source.load()?;
    if is_check_only {
        // A broker that starts logs these itself.
        let of_tls = Certificates::check(&config.broker).unwrap_or_default();
        let of_access = Access::check(&config.broker).unwrap_or_default();
        for warning in warnings.iter().chain(&of_tls).chain(&of_access) {
            print_to_stderr(&clean(warning));
        }
        print(&config, output)?;
        return Ok(Exit::Success);
    }
    keep_files_private();
    check_memory()?;
    let started = log.insert(logging::start(&config.log, config.log_format, shared.color)?);
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    serve_in_runtime(config, sockets, Arc::new(source), started.filter())
}

/// Every file that this process makes belongs to its user alone, from its first byte on: sled makes
/// the files of a backup itself, also in a folder that others may look into.
pub(super) fn keep_files_private() {
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
}

fn serve_in_runtime(
    config: ServeConfig,
    sockets: Sockets,
    source: Arc<Source>,
    log: Arc<LogFilter>,
) -> Result<Exit, Failure> {
    let build = || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(session_threads())
            .enable_all()
            .build()
    };
    // The runtime panics if the operating system cannot start a thread.
    let runtime = std::panic::catch_unwind(build)
        .map_err(|_| {
            Failure::error(
                "cannot start a thread for the sessions: \
                 raise the limit of processes (`ulimit -u`)",
            )
        })?
        .map_err(|error| Failure::error(format!("cannot start: {error}")))?;
    let outcome = runtime.block_on(async {
        tokio::select! {
            outcome = serve_until_signalled(config, sockets, source, log) => outcome,
            never = give_back_when_idle(session_threads()) => match never {},
        }
    });
    // After a second signal a task may still hang. The process must not wait for it.
    runtime.shutdown_background();
    outcome
}

/// The number of threads for the sessions: half of the processors. The other half is for the two
/// threads of the store, which work at the same time. More session threads would only be woken in
/// vain, because the others are faster.
fn session_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |processors| (processors.get() / 2).max(1))
}

/// Refuses a limit of the address space (`ulimit -v`) that is too low for all threads. Reserved
/// memory counts for that limit, and the process reserves several times the memory that it uses.
fn check_memory() -> Result<(), Failure> {
    const MIB: u64 = 1024 * 1024;
    // The arena of the allocator, and the memory that the allocator and the C library reserve for
    // each thread. There are a dozen threads and those of the sessions.
    let needed = (2048 + 128 * (session_threads() as u64 - 1)) * MIB;
    match getrlimit(Resource::As).current {
        Some(limit) if limit < needed => Err(Failure::new(
            Exit::Memory,
            format!(
                "the address space of this process is limited to {} MiB (`ulimit -v`), but a \
                 broker on this machine reserves {} MiB, most of which it never uses: raise that \
                 limit, or limit the memory with MemoryMax= of systemd or a container",
                limit / MIB,
                needed / MIB
            ),
        )),
        _ => Ok(()),
    }
}

fn print(config: &ServeConfig, output: &mut Output) -> Result<(), Failure> {
    if output.is_json() {
        return Ok(output.document(config)?);
    }
    let text = toml::to_string(config).map_err(|error| {
        Failure::usage(format!("the settings cannot be written as text: {error}"))
    })?;
    Ok(output.line(text.trim_end())?)
}

/// A broker that is ready to serve, with all that listens.
struct Opened {
    broker: Broker,
    listener: TcpListener,
    http: Option<Http>,
    /// The addresses of the protocol: with TLS, if there is any, and without it.
    addresses: (SocketAddr, Option<SocketAddr>),
}

/// Listens, and reads the data folder. A signal meanwhile ends the process: the broker has
/// confirmed nothing yet.
async fn open(
    config: &ServeConfig,
    mut sockets: Sockets,
    signals: &mut ShutdownSignals,
    log: &Arc<LogFilter>,
) -> Result<ControlFlow<Exit, Opened>, Failure> {
    let listener = listen(sockets.listener.take(), config.listen).await?;
    let address = listener.local_addr().map_err(|error| cannot_listen(config.listen, &error))?;
    let plain = match config.listen_plain {
        Some(address) => Some(listen(sockets.plain.take(), address).await?),
        None => None,
    };
    let addresses = (address, plain.as_ref().and_then(|plain| plain.local_addr().ok()));
    warn_if_public(config);
    let certificates = match Certificates::of(&config.broker) {
        Ok(certificates) => certificates,
        Err(error) => return exit_after(Err(error.into())).map(ControlFlow::Break),
    };
    // The HTTP side listens before the data folder is read, so that a probe can tell a broker that
    // is slow from one that is dead.
    let (door, entrance) = door();
    let (restored, (serves, control)) = (Restored::default(), watch::channel(None));
    let inside = Inside::new(config, door, restored.clone(), control, certificates.clone());
    let http = Http::start(config, &mut sockets, inside).await?;
    let broker = tokio::select! {
        opened = Broker::open_prepared(config.broker.clone(), certificates, &restored) => opened,
        _ = signals.next() => return exit_after(Ok(())).map(ControlFlow::Break),
    };
    let broker = match broker {
        Ok(broker) => broker,
        Err(error) => return exit_after(Err(error)).map(ControlFlow::Break),
    };
    let broker = match plain {
        Some(listener) => broker.with_plain(listener),
        None => broker,
    };
    let filter = log.clone();
    let log = LogControl::new(move |new| filter.change(new));
    let broker = broker.with_door(entrance).with_log(log);
    serves.send_replace(Some(broker.control()));
    Ok(ControlFlow::Continue(Opened { broker, listener, http, addresses }))
}

async fn serve_until_signalled(
    config: ServeConfig,
    sockets: Sockets,
    source: Arc<Source>,
    log: Arc<LogFilter>,
) -> Result<Exit, Failure> {
    // A second signal while the files are read means one more reading.
    let (reload, mut reloads) = mpsc::channel(1);
    let mut signals = ShutdownSignals::listen(HangUp::EndsOrReloads(reload))?;
    let opened = match open(&config, sockets, &mut signals, &log).await? {
        ControlFlow::Continue(opened) => opened,
        ControlFlow::Break(exit) => return Ok(exit),
    };
    let Opened { broker, listener, http, addresses: (address, plain) } = opened;
    let control = broker.control();
    let access = AccessText::read(&config);
    let settings = http.as_ref().map(|http| http.settings.clone());
    let mut reload =
        Reload { source, counts: config, log, control: control.clone(), access, http: settings };
    let (shut_down, shutdown) = oneshot::channel::<()>();
    let mut broker = pin!(broker.serve(listener, async {
        // An error means that the sender is dropped, and this function has ended with it.
        let _ = shutdown.await;
    }));
    announce(address, plain, http.as_ref().map(|http| http.address));
    let keep_fresh = async {
        while reloads.recv().await.is_some() {
            reload.run().await;
        }
        std::future::pending::<Infallible>().await
    };
    let signal = tokio::select! {
        outcome = &mut broker => return exit_after(outcome),
        signal = signals.next() => signal,
        never = keep_fresh => match never {},
        never = feed_watchdog(&control) => match never {},
    };
    tracing::info!(signal, "a signal ends the broker");
    notify_manager(NotifyState::Stopping);
    if let Some(http) = &http {
        http.stop();
    }
    // The broker may have just ended by itself; then nothing receives this.
    let _ = shut_down.send(());
    tokio::select! {
        outcome = &mut broker => {
            if let Some(http) = http {
                http.ended().await;
            }
            exit_after(outcome)
        }
        signal = signals.second() => Err(Failure::error(format!(
            "a second {signal} ended the broker at once; everything that was confirmed is safe"
        ))),
    }
}

fn warn_if_public(config: &ServeConfig) {
    if !config.is_public() {
        return;
    }
    if !config.broker.knows_clients() {
        tracing::warn!("every program that reaches this port may submit, read and run tasks");
    } else if !config.has_tls() {
        tracing::warn!(
            "the token and all tasks cross the network in clear text: \
             let only a trusted network reach this port, or set tls_certificate and tls_key"
        );
    }
}

/// Prints that the broker is ready. The program that started the broker may not read stdout, or
/// have closed it; the broker serves in any case. A separate thread prints the line, because the
/// write may block.
fn announce(address: SocketAddr, plain: Option<SocketAddr>, http: Option<SocketAddr>) {
    notify_manager(NotifyState::Ready);
    let print = move || {
        let mut lines = format!("celeriac: listening on {address}\n");
        if let Some(plain) = plain {
            lines += &format!("celeriac: listening on {plain} without TLS\n");
        }
        if let Some(http) = http {
            lines += &format!("celeriac: HTTP on {http}\n");
        }
        if let Err(error) = LineWriter::new(rustix::stdio::stdout()).write(lines.as_bytes()) {
            tracing::warn!(%error, "cannot write to stdout that the broker is ready");
        }
    };
    if let Err(error) = std::thread::Builder::new().name("celeriac-ready".to_owned()).spawn(print) {
        tracing::warn!(%error, "cannot start a thread to write to stdout that the broker is ready");
    }
}

fn exit_after(outcome: Result<(), RunError>) -> Result<Exit, Failure> {
    match outcome {
        Ok(()) => {
            tracing::info!("the broker has ended");
            Ok(Exit::Success)
        }
        Err(error) => Err(Failure::new(Exit::Broker(error.exit_code()), error.to_string())),
    }
}
