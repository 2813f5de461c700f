//! `celeriac submit`: submits one task by its name, with JSON arguments. `submit::task` has its
//! flags, and `submit::lines` submits the tasks of a file.

use std::path::PathBuf;
use std::time::Duration;

use celeriac_client::{State, Submitted, TaskInfo, Watch};
use clap::Args;

use self::task::{TaskArguments, print, submission};
use crate::arguments::{FOREVER, SharedOptions};
use crate::connection::{address, connect, failure, part};
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::task_result::{Broker, print_result, wait_and_print, waiting};
use crate::time::parse_span;

mod lines;
mod task;

/// The arguments of `submit`.
#[derive(Args)]
pub(crate) struct SubmitArguments {
    #[command(flatten)]
    task: TaskArguments,

    /// Submit a task for each line of this file, a JSON object such as {"id": "a", "queue": "b"};
    /// `-` reads stdin. What a line leaves out comes from the other flags
    #[arg(long, value_name = "FILE", conflicts_with_all = ["id", "wait"])]
    lines: Option<PathBuf>,

    /// Wait for the end and print the result, as `celeriac result --wait` does; without a value
    /// there is no limit
    #[arg(long, num_args = 0..=1, default_missing_value = FOREVER)]
    #[arg(value_parser = parse_span, value_name = "SECONDS")]
    wait: Option<Duration>,
}

/// Submits the task and prints the outcome. With `--wait` it waits for the result.
pub(crate) async fn run(
    arguments: SubmitArguments,
    shared: &SharedOptions,
    output: &mut Output,
) -> Result<Exit, Failure> {
    output.outlive_reader();
    if let Some(file) = &arguments.lines {
        if arguments.task.args == "-" || arguments.task.kwargs == "-" {
            return Err(Failure::usage("--args and --kwargs of --lines are not read from stdin"));
        }
        let client = connect(shared).await?;
        let exit = lines::submit_lines(&client, file, &arguments.task, output).await;
        return part(&client, exit).await;
    }
    let wait = arguments.wait;
    let submission = submission(arguments.task)?;
    let client = connect(shared).await?;
    // The watch begins before the submit: the broker forgets a task whose result is not kept as
    // soon as it ends.
    let watch = match wait {
        Some(_) => Some(client.watch_with_results(&[submission.id()]).await.map_err(failure)?),
        None => None,
    };
    let mut outcomes = client.submit_many([submission]).await.map_err(failure)?;
    let outcome = outcomes
        .pop()
        .ok_or_else(|| Failure::error("the answer of the broker does not have an outcome"))?;
    let submitted = outcome.map_err(|refusal| failure(refusal.into()))?;
    if wait.is_none() || output.is_json() {
        print(&submitted, output)?;
    }
    let exit = match watch.zip(wait) {
        Some((watch, span)) => {
            let broker = Broker { client: &client, address: &address(shared) };
            wait_for_end(&broker, watch, &submitted, span, output).await
        }
        None => Ok(Exit::Success),
    };
    part(&client, exit).await
}

async fn wait_for_end(
    broker: &Broker<'_>,
    watch: Watch,
    submitted: &Submitted,
    span: Duration,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let ended = async {
        let end = end_of(watch, submitted.generation);
        Ok(tokio::time::timeout(span, end).await.ok().flatten())
    };
    match waiting(broker, &submitted.id, ended).await? {
        Some(task) => print_result(&task, output),
        // The time is over, or the broker has forgotten the task. Its present state is the answer.
        None => wait_and_print(broker, &submitted.id, Duration::ZERO, output).await,
    }
}

/// Waits for the end of this generation of the task. `None` means that the broker has forgotten the
/// task. The end of an earlier generation does not count.
async fn end_of(mut watch: Watch, generation: u32) -> Option<TaskInfo> {
    // The first message has the state before the submit: unknown, an earlier generation, or the
    // task that the submit joined.
    let mut task = watch.next().await?;
    while task.generation < generation || !task.state.is_ended() {
        task = watch.next().await?;
        if task.state == State::Unknown {
            return None;
        }
    }
    Some(task)
}
