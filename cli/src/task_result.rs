//! The result of a task on stdout, for `result` and `submit --wait`: the value alone, or the reason
//! why there is none.

use std::convert::Infallible;
use std::time::Duration;

use celeriac_client::{Client, State, TaskInfo, WaitMode};
use celeriac_web::documents::TaskDocument;

use crate::absence::while_watched;
use crate::connection::failure;
use crate::exit::{Exit, Failure};
use crate::json::shown;
use crate::output::{Output, print_to_stderr};
use crate::reader::until_reader_gone;
use crate::task_view::{last_error, why_it_waits};
use celeriac_web::printable::clean;

/// The time between two looks at a task that somebody waits for.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// The broker that a command waits for, and its address for people.
pub(crate) struct Broker<'a> {
    pub(crate) client: &'a Client,
    pub(crate) address: &'a str,
}

/// Waits for the outcome of a request that waits for the end of a task. If the task does not begin,
/// stderr has the reason: a person who waits in vain must not have to guess it.
pub(crate) async fn waiting<T>(
    broker: &Broker<'_>,
    id: &str,
    outcome: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let Broker { client, address } = *broker;
    let outcome = while_watched(client, address, until_reader_gone(outcome));
    tokio::select! {
        outcome = outcome => outcome,
        never = print_reasons(client, id) => match never {},
    }
}

/// Prints why a task waits, and again when there is another reason.
async fn print_reasons(client: &Client, id: &str) -> Infallible {
    let mut last = None;
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        // If the broker does not answer, the request that waits reports it.
        let task = client.info(&[id]).await.ok().and_then(|mut tasks| tasks.pop());
        let reason = task.as_ref().and_then(why_it_waits);
        if let Some(reason) = reason.as_ref().filter(|_| reason != last) {
            print_to_stderr(&format!("task {} waits: {reason}", clean(id)));
        }
        last = reason;
    }
}

/// Waits for the end of a task and prints its result.
pub(crate) async fn wait_and_print(
    broker: &Broker<'_>,
    id: &str,
    span: Duration,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let client = broker.client;
    let waited = match span {
        Duration::ZERO => None,
        span => {
            let ended = async { client.wait(&[id], WaitMode::All, span).await.map_err(failure) };
            waiting(broker, id, ended).await?.tasks.pop()
        }
    };
    let present = client.info_with_results(&[id]).await.map_err(failure)?.pop();
    // The broker forgets a task whose result is not kept as soon as it ends. Then only the answer
    // to the wait has its end.
    let present = present.filter(|task| waited.is_none() || task.state != State::Unknown);
    match present.or(waited) {
        Some(task) => print_result(&task, output),
        None => Err(Failure::error("the answer of the broker does not have the requested task")),
    }
}

/// Prints the result of a task. For people a task without a result is a failure, whose sentence
/// says why there is none.
pub(crate) fn print_result(task: &TaskInfo, output: &mut Output) -> Result<Exit, Failure> {
    if output.is_json() {
        output.document(&TaskDocument::new(task))?;
        return Ok(exit_of(task));
    }
    if task.state != State::Success {
        return Err(Failure::new(exit_of(task), why_no_result(task)));
    }
    if output.is_unquoted
        && let Some(text) = text(task)
    {
        output.bytes(format!("{text}\n").as_bytes())?;
        return Ok(Exit::Success);
    }
    match std::str::from_utf8(&task.result) {
        // A handler that returned nothing: in JSON this is null.
        Ok("") => output.line("null")?,
        Ok(text) if output.is_raw => output.bytes(format!("{text}\n").as_bytes())?,
        Ok(text) => output.line(text)?,
        Err(_) if output.is_raw => output.bytes(&task.result)?,
        Err(_) => output
            .line(&format!("{}; --raw or a pipe gets them as they are", shown(&task.result)))?,
    }
    Ok(Exit::Success)
}

/// The text of a result that is a string in JSON, as a shell wants it.
fn text(task: &TaskInfo) -> Option<String> {
    match task.result_content_type.as_str() {
        "" | "application/json" => serde_json::from_slice(&task.result).ok(),
        _ => None,
    }
}

/// The exit code for the state of a task.
fn exit_of(task: &TaskInfo) -> Exit {
    match task.state {
        State::Success => Exit::Success,
        State::Failure => Exit::Failed,
        State::Revoked => Exit::Revoked,
        State::Unknown => Exit::NotFound,
        _ => Exit::Unfinished,
    }
}

/// The sentence for a task that has no result.
fn why_no_result(task: &TaskInfo) -> String {
    let id = clean(&task.id);
    match task.state {
        State::Failure if task.errors.is_empty() => format!("task {id} failed"),
        State::Failure => format!("task {id} failed: {}", last_error(task)),
        State::Revoked => format!("task {id} was revoked: {}", clean(&task.revoked_reason)),
        State::Unknown => format!("no task {id}"),
        state => {
            let reason = why_it_waits(task).map(|reason| format!(": {reason}"));
            format!("task {id} has not ended, it is {state}{}", reason.unwrap_or_default())
        }
    }
}
