//! `celeriac watch`: the transitions of tasks as they happen, until the tasks have ended.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use celeriac_client::{Client, State, TaskInfo, Watch};
use celeriac_web::documents::TaskDocument;
use clap::Args;

use crate::absence::while_watched;
use crate::arguments::{SharedOptions, parse_id};
use crate::connection::{address, connect, failure};
use crate::exit::{Exit, Failure};
use crate::output::{Format, Output};
use crate::reader::until_reader_gone;
use crate::task_view::{id_width, transition};
use crate::time::{now_ms, parse_span};

/// The arguments of `watch`.
#[derive(Args)]
pub(crate) struct WatchArguments {
    /// The ids of the tasks; they need not exist yet
    #[arg(required = true, value_parser = parse_id, value_name = "ID")]
    ids: Vec<String>,

    /// Stop after this long [default: when every task has ended]
    #[arg(long, value_parser = parse_span, value_name = "SECONDS")]
    wait: Option<Duration>,
}

/// Prints the transitions. The exit code is the one of the first task, in the given order, that did
/// not succeed.
pub(crate) async fn run(
    arguments: WatchArguments,
    shared: &SharedOptions,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let ids: Vec<&String> = arguments.ids.iter().collect::<BTreeSet<_>>().into_iter().collect();
    let client = connect(shared).await?;
    let watch = client.watch(&ids).await.map_err(failure)?;
    let mut tasks = WatchedTasks::default();
    let printing = until_reader_gone(tasks.print_until_over(&client, watch, &ids, output));
    let address = address(shared);
    let printing = while_watched(&client, &address, printing);
    match arguments.wait {
        Some(span) => {
            // When the time is over, the tasks that have not ended count as unfinished.
            if let Ok(printed) = tokio::time::timeout(span, printing).await {
                printed?;
            }
        }
        None => printing.await?,
    }
    client.close().await;
    Ok(arguments.ids.iter().map(|id| tasks.exit(id)).fold(Exit::Success, Exit::and))
}

/// Why the watch has ended before the tasks did. When the broker accepts this client no longer, any
/// request has that as its error.
async fn why_ended(client: &Client, ids: &[&String]) -> Failure {
    match client.info(&ids[..1]).await {
        Err(error) => failure(error),
        Ok(_) => Failure::new(Exit::Unreachable, "the broker ended the watch"),
    }
}

/// The tasks that were seen so far, by id.
#[derive(Default)]
struct WatchedTasks {
    last_seen: BTreeMap<String, LastSeen>,
}

/// The last state of a task.
#[derive(Clone, Copy)]
struct LastSeen {
    state: State,
    /// No more transitions follow.
    is_over: bool,
}

impl WatchedTasks {
    async fn print_until_over(
        &mut self,
        client: &Client,
        mut watch: Watch,
        ids: &[&String],
        output: &mut Output,
    ) -> Result<(), Failure> {
        let id_width = id_width(ids);
        while self.last_seen.len() < ids.len() || self.last_seen.values().any(|task| !task.is_over)
        {
            let Some(task) = watch.next().await else {
                return Err(why_ended(client, ids).await);
            };
            match output.format {
                Format::Json => output.document(&TaskDocument::new(&task))?,
                Format::Text => {
                    let width = output.size().width;
                    output.lines(&transition(&task, id_width, now_ms(), width))?;
                }
            }
            self.see(&task);
        }
        Ok(())
    }

    fn see(&mut self, task: &TaskInfo) {
        let before = self.last_seen.get(task.id.as_str()).copied();
        let now = match (before, task.state) {
            // The task was forgotten after its end: its last state is still the answer.
            (Some(before), State::Unknown) if before.is_over => before,
            // The task was forgotten before this command saw its end.
            (Some(before), State::Unknown) if before.state != State::Unknown => {
                LastSeen { state: State::Unknown, is_over: true }
            }
            (_, state) => LastSeen { state, is_over: state.is_ended() },
        };
        self.last_seen.insert(task.id.clone(), now);
    }

    fn exit(&self, id: &str) -> Exit {
        match self.last_seen.get(id).map(|task| task.state) {
            Some(State::Success) => Exit::Success,
            Some(State::Failure) => Exit::Failed,
            Some(State::Revoked) => Exit::Revoked,
            Some(State::Unknown) | None => Exit::NotFound,
            Some(_) => Exit::Unfinished,
        }
    }
}
