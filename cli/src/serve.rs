//! `celeriac serve`: the broker as a process, with its settings, its log, its signals and its
//! service manager.
//!
//! The broker itself is `celeriac_broker::Broker`.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;

use celeriac_broker::{Broker, RunError};
use clap::ArgMatches;
use clap::parser::ValueSource;
use rustix::process::{Resource, getrlimit};
use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::allocator::give_back_when_quiet;
use crate::config_file::ConfigFile;
use crate::exit::{Exit, Failure};
use crate::logging::{self, Lines, Queue};
use crate::output::Output;
use crate::printable::clean;
use crate::secret_file;
use crate::settings::{Effective, Serve, token_variable};
use crate::signals::Signals;

/// Runs the broker until a signal ends it, or only checks its settings. A sentence about its end
/// goes the log's way to stderr, which waits for nobody for long.
pub(crate) fn run(
    serve: Serve,
    token_file: Option<PathBuf>,
    matches: &ArgMatches,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let mut log = None;
    let outcome = check_and_serve(serve, token_file, matches, output, &mut log);
    let outcome = match outcome {
        Err(Failure::Sentence { exit, sentence }) => {
            // Without a thread for it the sentence is told like that of any other command.
            let Some(queue) = log.take().or_else(|| Queue::start(|_| Vec::new()).ok()) else {
                return Err(Failure::new(exit, sentence));
            };
            queue.push(format!("celeriac: {}\n", clean(&sentence)).into_bytes());
            log = Some(queue);
            Ok(exit)
        }
        outcome => outcome,
    };
    if let Some(log) = log {
        log.flush();
    }
    outcome
}

fn check_and_serve(
    serve: Serve,
    token_file: Option<PathBuf>,
    matches: &ArgMatches,
    output: &mut Output,
    log: &mut Option<Arc<Queue>>,
) -> Result<Exit, Failure> {
    let check_only = serve.check_config;
    let (effective, warnings) = load(serve, token_file, matches)?;
    if check_only {
        warnings.iter().for_each(|warning| crate::complain(&clean(warning)));
        print(&effective, output)?;
        return Ok(Exit::Success);
    }
    check_memory()?;
    *log = Some(logging::start(&effective.log, effective.log_format)?);
    warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    serve_in_runtime(effective)
}

fn serve_in_runtime(effective: Effective) -> Result<Exit, Failure> {
    let build = || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(session_threads())
            .enable_all()
            .build()
    };
    // It panics where the operating system gives no thread.
    let runtime = std::panic::catch_unwind(build)
        .map_err(|_| {
            Failure::error("cannot start: no thread for the sessions; raise the limit of processes (`ulimit -u`)")
        })?
        .map_err(|error| Failure::error(format!("cannot start: {error}")))?;
    let outcome = runtime.block_on(async {
        tokio::select! {
            outcome = serve_until_signalled(effective) => outcome,
            never = give_back_when_quiet(session_threads()) => match never {},
        }
    });
    // After a second signal something may still hang; the process is not to wait for it.
    runtime.shutdown_background();
    outcome
}

/// Threads for the sessions: half of the processors. The other half is for the store, whose two
/// threads work while the sessions do; and each thread more is one that is woken, only to find that
/// the others were faster.
fn session_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |processors| (processors.get() / 2).max(1))
}

/// Refuses a limit of the address space (`ulimit -v`) with which some thread or other would not get
/// its memory, now or later. What is reserved counts for that limit, and that is several times what
/// is used.
fn check_memory() -> Result<(), Failure> {
    const MIB: u64 = 1024 * 1024;
    // The allocator's arena, and what the C library and it reserve for each of the threads, a dozen
    // and those of sessions.
    let needed = (2048 + 128 * (session_threads() as u64 - 1)) * MIB;
    match getrlimit(Resource::As).current {
        Some(limit) if limit < needed => Err(Failure::new(
            Exit::Memory,
            format!(
                "the address space of this process is limited to {} MiB (`ulimit -v`), and a broker on this machine needs {} MiB of \
                 it, most of which it never uses: raise that limit, or bound memory with MemoryMax= of systemd or a container",
                limit / MIB,
                needed / MIB
            ),
        )),
        _ => Ok(()),
    }
}

/// Merges flags, environment, file and defaults, and checks what comes out. Says too what is not
/// wrong and yet not good.
fn load(
    serve: Serve,
    token_file: Option<PathBuf>,
    matches: &ArgMatches,
) -> Result<(Effective, Vec<String>), Failure> {
    let mut given = serve.settings;
    given.token = token_variable()?;
    given.token_file = token_file;
    let (file, settings) = match &serve.config {
        Some(path) => {
            let (file, settings) = ConfigFile::read(path)?;
            (Some(file), given.over(settings))
        }
        None => (None, given),
    };
    let token_file = settings.token_file.as_deref();
    let warnings =
        [file.as_ref().and_then(ConfigFile::warning), token_file.and_then(secret_file::warning)];
    let warnings = warnings.into_iter().flatten().collect();
    let effective = settings.resolve()?;
    effective.check().map_err(|(key, sentence)| match origin(key, file.as_ref(), matches) {
        Some(origin) => Failure::usage(format!("{origin}: {sentence}")),
        None => Failure::usage(sentence),
    })?;
    Ok((effective, warnings))
}

/// Who set a value: the flag, the variable, or the line of the file. `None` for a default.
fn origin(key: &str, file: Option<&ConfigFile>, matches: &ArgMatches) -> Option<String> {
    let flag = if key == "token" { "token_file" } else { key };
    let serve = matches.subcommand_matches("serve")?;
    match serve.value_source(flag) {
        Some(ValueSource::CommandLine) => Some(format!("--{}", flag.replace('_', "-"))),
        Some(ValueSource::EnvVariable) => Some(format!("CELERIAC_{}", flag.to_uppercase())),
        _ if key == "token" && std::env::var_os("CELERIAC_TOKEN").is_some() => {
            Some("CELERIAC_TOKEN".to_owned())
        }
        _ => file.and_then(|file| file.place(key)),
    }
}

fn print(effective: &Effective, output: &mut Output) -> Result<(), Failure> {
    if output.json {
        return Ok(output.document(effective)?);
    }
    let text = toml::to_string(effective).map_err(|error| {
        Failure::usage(format!("the settings cannot be written as text: {error}"))
    })?;
    Ok(output.line(text.trim_end())?)
}

async fn serve_until_signalled(effective: Effective) -> Result<Exit, Failure> {
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
    announce(address);
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

/// Says that the broker is ready. Whoever started it may not read stdout, or have closed it; that
/// is no reason not to serve.
fn announce(address: SocketAddr) {
    tell_manager(NotifyState::Ready);
    let say = move || {
        let line = format!("celeriac: listening on {address}\n");
        if let Err(error) = Lines::new(rustix::stdio::stdout()).write(line.as_bytes()) {
            tracing::warn!(%error, "stdout does not take the line that says that the broker is ready");
        }
    };
    if let Err(error) = std::thread::Builder::new().name("celeriac-ready".to_owned()).spawn(say) {
        tracing::warn!(%error, "no thread to say on stdout that the broker is ready");
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
