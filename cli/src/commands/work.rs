//! `celeriac work`: a worker that runs a command for each task. It needs no code.
//!
//! This file has the arguments, the worker and the lines that it prints. `work::command` fills the
//! arguments of a task into the command, and `work::process` runs it.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use celeriac_client::BrokerUrl;
use celeriac_proto::{QueueName, TaskName};
use celeriac_worker::{Context, Handler, Payload, Run, RunError, TaskFailure, Worker};
use clap::Args;
use serde::Serialize;
use tokio::sync::mpsc;

use self::command::{Arguments, CommandTemplate};
use self::process::Limits;
use crate::arguments::{SharedOptions, parse_name, parse_queue};
use crate::connection::{DEFAULT_TIMEOUT, broker, failure};
use crate::exit::{Exit, Failure};
use crate::logging::{self, LogFormat};
use crate::output::{Format, Output, print_to_stderr};
use crate::printable::clean;
use crate::time::{now_ms, parse_span, rough, time_of_day, whole_ms};

mod command;
mod first_process;
mod process;

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
    /// by its first positional argument, and `{title}` by its named argument `title`
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Works until a signal or an order ends the worker.
pub(crate) async fn run(
    arguments: WorkArguments,
    shared: &SharedOptions,
    output: &mut Output,
) -> Result<Exit, Failure> {
    first_process::stand_in().await?;
    let url = broker(shared)?;
    let command = Arc::new(CommandTemplate::parse(arguments.command).map_err(Failure::usage)?);
    // The worker warns when it loses the broker, and when it has it again.
    let log = logging::start("warn,celeriac_worker::execution=error", LogFormat::Text)?;
    let limits = Limits { grace: arguments.grace };
    let (ended, mut endings) = mpsc::unbounded_channel();
    let mut worker = Worker::builder(&url)
        .shutdown_grace(arguments.grace)
        .connect_wait(shared.timeout.unwrap_or(DEFAULT_TIMEOUT));
    for name in &arguments.names {
        let (command, ended) = (command.clone(), ended.clone());
        worker = worker.register(CommandHandler { name: name.to_string(), command, limits, ended });
    }
    drop(ended);
    for queue in &arguments.queues {
        worker = worker.queue(queue.as_str());
    }
    if let Some(concurrency) = arguments.concurrency {
        worker = worker.concurrency(concurrency.get());
    }
    if let Some(instance) = arguments.instance {
        worker = worker.instance(instance);
    }
    print_to_stderr(&format!("{} at {}", waits_for(&arguments.names), address(&url)));
    let mut working = Box::pin(worker.build().run_until_signalled());
    let outcome = loop {
        tokio::select! {
            outcome = &mut working => break outcome,
            Some(ending) = endings.recv() => print(&ending, output),
        }
    };
    while let Ok(ending) = endings.try_recv() {
        print(&ending, output);
    }
    log.flush();
    outcome.map(|()| Exit::Success).map_err(|error| match error {
        RunError::Connection(error) => failure(error),
        RunError::Setup(fault) => Failure::usage(fault),
        error => Failure::error(error.to_string()),
    })
}

fn waits_for(names: &[TaskName]) -> String {
    let names: Vec<String> = names.iter().map(|name| clean(name)).collect();
    format!("the worker waits for tasks of the name {}", names.join(", "))
}

fn address(url: &str) -> String {
    url.parse::<BrokerUrl>().map(|url| url.address()).unwrap_or_default()
}

/// Runs the command for the tasks of one name.
struct CommandHandler {
    name: String,
    command: Arc<CommandTemplate>,
    limits: Limits,
    ended: mpsc::UnboundedSender<Ending>,
}

impl Handler for CommandHandler {
    fn name(&self) -> &str {
        &self.name
    }

    fn start(&self, context: Context, payload: Payload<'_>) -> Result<Run, TaskFailure> {
        let arguments = Arguments::of(&payload)?;
        let command = self.command.fill(&arguments)?;
        let (limits, ended) = (self.limits, self.ended.clone());
        Ok(Run::future(async move {
            let started = Instant::now();
            let outcome = process::run(command, arguments.into_stdin(), &context, limits).await;
            let error = outcome.as_ref().err();
            // The receiver is gone when the worker ends. Then there is nobody to read the line.
            let _ = ended.send(Ending {
                id: context.id().to_owned(),
                name: context.name().to_owned(),
                attempt: context.attempt(),
                run_ms: whole_ms(started.elapsed()),
                error: error.map(|error| format!("{}: {}", error.kind(), error.message())),
            });
            outcome
        }))
    }
}

/// The end of a command, for programs.
#[derive(Serialize)]
struct Ending {
    id: String,
    name: String,
    attempt: u32,
    run_ms: u64,
    error: Option<String>,
}

/// Prints the end of a command. The tasks go on when nobody reads it.
fn print(ending: &Ending, output: &mut Output) {
    let _ = match output.format {
        Format::Json => output.document(ending),
        Format::Text => {
            let (time, id, name) = (time_of_day(now_ms()), clean(&ending.id), clean(&ending.name));
            let end = match &ending.error {
                None => "succeeded".to_owned(),
                Some(error) => format!("failed: {}", clean(error)),
            };
            let run_time = rough(ending.run_ms);
            output.line(&format!("{time}  {id}  {name}  {end} after {run_time}"))
        }
    };
}
