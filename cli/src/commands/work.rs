//! `celeriac work`: a worker that runs a command for each task. It needs no code.
//!
//! This file has the arguments and the worker. `work::command` fills the arguments of a task into
//! the command, `work::start` starts it, `work::process` runs it to its end, `work::guard` ends it
//! if the worker is killed, and `work::endings` says what became of the task. Nothing here waits
//! for a reader of stdout or stderr.

use std::convert::Infallible;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use celeriac_client::BrokerUrl;
use celeriac_proto::{QueueName, TaskName};
use celeriac_worker::{Context, Handler, Payload, Run, RunError, TaskFailure, Worker};
use clap::Args;
use tokio::sync::oneshot;

use self::command::CommandTemplate;
use self::endings::Endings;
use self::guard::Guard;
pub(crate) use self::guard::run_as_guard;
use self::process::Limits;
use self::targets::LOG_TARGET;
use crate::arguments::{SharedOptions, parse_name, parse_queue};
use crate::connection::{Broker, DEFAULT_TIMEOUT, broker, failure_at, has_token};
use crate::exit::{Exit, Failure};
use crate::logging::{self, LogFormat};
use crate::output::Output;
use crate::signals::{HangUp, ShutdownSignals};
use crate::time::parse_span;
use crate::unknown_host::masked;

mod command;
mod endings;
mod first_process;
mod guard;
mod lines;
mod process;
mod progress;
mod start;
mod targets;

/// The endings of tasks are in the lines of this command, so those of the worker's crate are left
/// out. The worker says when it loses the broker, and when it has it again.
const LOG_FILTER: &str = "warn,celeriac=info,celeriac_client=warn,celeriac_worker::worker=warn,\
                          celeriac_worker::execution=error";

/// The arguments of `work`.
#[derive(Args)]
pub(crate) struct WorkArguments {
    /// Run tasks of this name; may be given several times
    #[arg(long = "name", required = true, value_parser = parse_name, value_name = "NAME")]
    names: Vec<TaskName>,

    /// Take tasks from this queue; may be given several times [default: the queue `default`]
    #[arg(long = "queue", value_parser = parse_queue, value_name = "QUEUE")]
    queues: Vec<QueueName>,

    /// How many commands run at once [default: the number of processors]
    #[arg(long, value_name = "COUNT")]
    concurrency: Option<NonZeroU32>,

    /// The time between SIGTERM and SIGKILL for the command of a cancelled task, and the time for
    /// running commands when the worker shuts down
    #[arg(long, value_parser = parse_span, value_name = "SPAN", default_value = "10s")]
    grace: Duration,

    /// The name of this worker in listings [default: host name, process id and a random part]
    #[arg(long, value_name = "TEXT")]
    instance: Option<String>,

    /// The command and its arguments. `{}` is replaced by the arguments of the task as JSON, `{0}`
    /// by its first positional argument, and `{title}` by its named argument `title`. Exit code 0
    /// is a success, 64 and 65 fail the task for good, and any other fails the attempt. Lines that
    /// the command writes to the file `$CELERIAC_PROGRESS` are its progress
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Works until a signal or an order ends the worker.
pub(crate) async fn run(
    arguments: WorkArguments,
    shared: &SharedOptions,
    output: &Output,
) -> Result<Exit, Failure> {
    first_process::stand_in().await?;
    let log = logging::start(LOG_FILTER, LogFormat::Text, shared.color)?;
    let documents = match output.is_json().then(endings::documents).transpose() {
        Ok(documents) => documents,
        Err(error) => {
            return log.end(Err(Failure::error(format!("cannot start a thread: {error}"))));
        }
    };
    let outcome = work(arguments, shared, Endings::new(documents.clone())).await;
    if let Some(documents) = documents {
        documents.flush();
    }
    log.end(outcome)
}

async fn work(
    arguments: WorkArguments,
    shared: &SharedOptions,
    endings: Endings,
) -> Result<Exit, Failure> {
    let Broker { url, token_file } =
        broker(shared, |warning| tracing::warn!(target: LOG_TARGET, "{warning}"))?;
    let command = CommandTemplate::parse(arguments.command).map_err(Failure::usage)?;
    start::check(command.program()).map_err(Failure::usage)?;
    let mut signals = ShutdownSignals::listen(HangUp::Ends)?;
    let (command, endings) = (Arc::new(command), Arc::new(endings));
    let limits = Limits { grace: arguments.grace };
    let guard = Arc::new(Guard::start());
    let mut worker = Worker::builder(&url)
        .shutdown_grace(arguments.grace)
        .connect_wait(shared.timeout.unwrap_or(DEFAULT_TIMEOUT))
        .concurrency(start::places(concurrency(arguments.concurrency)))
        .middleware(endings.clone());
    if let Some(file) = token_file {
        worker = worker.token_file(file);
    }
    for name in &arguments.names {
        let (name, command, guard) = (name.to_string(), command.clone(), guard.clone());
        worker = worker.register(CommandHandler { name, command, limits, guard });
    }
    for queue in &arguments.queues {
        worker = worker.queue(queue.as_str());
    }
    if let Some(instance) = arguments.instance {
        worker = worker.instance(instance);
    }
    let names: Vec<&str> = arguments.names.iter().map(|name| &**name).collect();
    let default = [QueueName::default()];
    let queues = if arguments.queues.is_empty() { &default[..] } else { &arguments.queues };
    let queues: Vec<&str> = queues.iter().map(|queue| &**queue).collect();
    let (names, queues, has_token) = (names.join(", "), queues.join(", "), has_token(&url));
    let broker = address(&url);
    let shown = masked(&broker, has_token);
    tracing::info!(
        target: LOG_TARGET,
        broker = shown,
        queues,
        "the worker waits for tasks of the name {names}"
    );
    let (stop, stopped) = oneshot::channel::<()>();
    let (end, ended) = oneshot::channel::<()>();
    let working = worker.build().run_until(told(stopped), told(ended));
    let outcome = tokio::select! {
        outcome = working => outcome,
        never = obey(&mut signals, &endings, arguments.grace, stop, end) => match never {},
    };
    outcome.map(|()| Exit::Success).map_err(|error| match error {
        RunError::Connection(error) => failure_at(&broker, has_token, error),
        RunError::Setup(fault) => Failure::usage(fault),
        error => Failure::error(error.to_string()),
    })
}

/// Shuts the worker down at the first signal, and ends it at the second one.
async fn obey(
    signals: &mut ShutdownSignals,
    endings: &Endings,
    grace: Duration,
    stop: oneshot::Sender<()>,
    end: oneshot::Sender<()>,
) -> Infallible {
    let signal = signals.next().await;
    let (running, grace) = (endings.running(), format!("{grace:?}"));
    match running {
        0 => tracing::info!(target: LOG_TARGET, signal, "a signal ends the worker"),
        _ => tracing::info!(
            target: LOG_TARGET,
            signal,
            running,
            "a signal ends the worker, which waits up to {grace} for its commands; \
             another signal ends it at once"
        ),
    }
    // The worker may have just ended by itself; then nothing receives this.
    let _ = stop.send(());
    let signal = signals.second().await;
    tracing::warn!(target: LOG_TARGET, signal, "a second signal ends the worker at once");
    let _ = end.send(());
    std::future::pending().await
}

/// Returns when the other side sends.
async fn told(receiver: oneshot::Receiver<()>) {
    if receiver.await.is_err() {
        std::future::pending().await
    }
}

/// How many commands are wanted at once.
fn concurrency(given: Option<NonZeroU32>) -> u32 {
    let processors = || {
        std::thread::available_parallelism()
            .map_or(1, |number| u32::try_from(number.get()).unwrap_or(1))
    };
    given.map_or_else(processors, NonZeroU32::get)
}

fn address(url: &str) -> String {
    url.parse::<BrokerUrl>().map(|url| url.address()).unwrap_or_default()
}

/// Runs the command for the tasks of one name.
struct CommandHandler {
    name: String,
    command: Arc<CommandTemplate>,
    limits: Limits,
    guard: Arc<Guard>,
}

impl Handler for CommandHandler {
    fn name(&self) -> &str {
        &self.name
    }

    fn start(&self, context: Context, payload: Payload<'_>) -> Result<Run, TaskFailure> {
        let command = self.command.fill(&payload)?;
        let (limits, stdin, guard) = (self.limits, payload.bytes().clone(), self.guard.clone());
        Ok(Run::future(async move { process::run(command, stdin, &context, limits, &guard).await }))
    }
}
