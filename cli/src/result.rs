//! `celeriac result`: the value a task returned, alone on stdout, or the reason why there is none.

use std::time::Duration;

use celeriac_client::{Client, State, TaskInfo, WaitMode};
use clap::Args;

use crate::arguments::Global;
use crate::connection::{connect, failure};
use crate::exit::{Exit, Failure};
use crate::json::shown;
use crate::output::{Output, clean};
use crate::submit::parse_id;
use crate::task_document::TaskDocument;
use crate::task_view::failed_attempt;
use crate::time::parse_span;

/// The arguments of `result`.
#[derive(Args)]
pub(crate) struct ResultOf {
    /// The id of the task
    #[arg(value_parser = parse_id, value_name = "ID")]
    id: String,

    /// Wait for the end; without a value as long as it takes
    #[arg(long, num_args = 0..=1, value_parser = parse_span, default_missing_value = FOREVER, value_name = "SECONDS")]
    wait: Option<Duration>,

    /// Print the bytes as they are, on a terminal too
    #[arg(long, conflicts_with = "json")]
    raw: bool,
}

/// `--wait` without a value: longer than any task.
pub(crate) const FOREVER: &str = "3650d";

/// Prints the result of a task that has ended, waiting for it when asked to.
pub(crate) async fn run(
    result: ResultOf,
    global: &Global,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let client = connect(global).await?;
    let span = result.wait.unwrap_or(Duration::ZERO);
    output.is_raw |= result.raw;
    let exit = wait_and_print(&client, &result.id, span, output).await;
    client.close().await;
    exit
}

/// Waits for the end of a task and prints what it returned.
pub(crate) async fn wait_and_print(
    client: &Client,
    id: &str,
    span: Duration,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let waited = match span {
        Duration::ZERO => None,
        span => client.wait(&[id], WaitMode::All, span).await.map_err(failure)?.tasks.pop(),
    };
    let present = client.info_with_results(&[id]).await.map_err(failure)?.pop();
    // A task whose result is not kept is gone when it has ended; the wait saw how.
    let present = present.filter(|task| waited.is_none() || task.state != State::Unknown);
    match present.or(waited) {
        Some(task) => print_result(&task, output),
        None => Err(Failure::error("the broker answered without the task that was asked for")),
    }
}

/// Prints what a task returned; for people a task without a result becomes the sentence that says
/// why.
pub(crate) fn print_result(task: &TaskInfo, output: &mut Output) -> Result<Exit, Failure> {
    let (exit, sentence) = verdict(task);
    if output.json {
        output.document(&TaskDocument::new(task))?;
        return Ok(exit);
    }
    if exit != Exit::Success {
        return Err(Failure::new(exit, sentence));
    }
    match std::str::from_utf8(&task.result) {
        // A handler that returns nothing, as JSON has it.
        Ok("") => output.line("null")?,
        Ok(text) if output.is_raw => output.bytes(format!("{text}\n").as_bytes())?,
        Ok(text) => output.line(text)?,
        // Not text: the bytes as they are, for a pipe.
        Err(_) if output.is_raw => output.bytes(&task.result)?,
        Err(_) => output
            .line(&format!("{}; --raw or a pipe gets them as they are", shown(&task.result)))?,
    }
    Ok(Exit::Success)
}

/// The exit code for a task's state, and the sentence for people where there is no result to print.
fn verdict(task: &TaskInfo) -> (Exit, String) {
    let id = clean(&task.id);
    match task.state {
        State::Success => (Exit::Success, String::new()),
        State::Failure => {
            let error = task
                .errors
                .last()
                .map(|error| format!(": {}", failed_attempt(error)))
                .unwrap_or_default();
            (Exit::Failed, format!("task {id} failed{error}"))
        }
        State::Revoked => {
            (Exit::Revoked, format!("task {id} was revoked: {}", clean(&task.revoked_reason)))
        }
        State::Unknown => (Exit::NotFound, format!("no task {id}")),
        state => (Exit::Unfinished, format!("task {id} has not ended, it is {state}")),
    }
}
