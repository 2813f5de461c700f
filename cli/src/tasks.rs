//! `celeriac tasks`: which tasks there are, page after page.

use celeriac_client::{Client, State, TaskFilter, TaskInfo};
use clap::{Args, ValueEnum};

use crate::arguments::Global;
use crate::connection::{connect, failure};
use crate::exit::{Exit, Failure};
use crate::filter::Filter;
use crate::output::Output;
use crate::task_document::TaskDocument;
use crate::task_view::{HEADINGS, row};
use crate::time::now_ms;

/// The arguments of `tasks`.
#[derive(Args)]
pub(crate) struct Tasks {
    /// In this state; may be given several times
    #[arg(long = "state", value_enum, ignore_case = true, value_name = "STATE")]
    states: Vec<Listed>,

    #[command(flatten)]
    filter: Filter,

    #[command(flatten)]
    pages: Pages,
}

/// How much of a listing is shown.
#[derive(Args)]
pub(crate) struct Pages {
    /// Show at most so many
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..), default_value_t = 100, value_name = "COUNT")]
    limit: u64,

    /// Show all of them
    #[arg(long, conflicts_with = "limit")]
    all: bool,

    /// With --json: the tracebacks of errors too
    #[arg(long)]
    tracebacks: bool,
}

/// The states a task that exists can be in.
#[derive(Clone, Copy, ValueEnum)]
enum Listed {
    Scheduled,
    Queued,
    Leased,
    Started,
    Retry,
    Success,
    Failure,
    Revoked,
}

impl From<Listed> for State {
    fn from(listed: Listed) -> Self {
        match listed {
            Listed::Scheduled => Self::Scheduled,
            Listed::Queued => Self::Queued,
            Listed::Leased => Self::Leased,
            Listed::Started => Self::Started,
            Listed::Retry => Self::Retry,
            Listed::Success => Self::Success,
            Listed::Failure => Self::Failure,
            Listed::Revoked => Self::Revoked,
        }
    }
}

/// Lists the tasks that match.
pub(crate) async fn run(
    tasks: Tasks,
    global: &Global,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let client = connect(global).await?;
    let filter = tasks
        .states
        .iter()
        .fold(tasks.filter.to_client(), |filter, state| filter.state((*state).into()));
    let listed = list(&client, filter, &tasks.pages, HEADINGS, row, output).await;
    client.close().await;
    listed
}

/// What one request brings at most.
const PAGE_TASKS_MAX: u64 = 1000;

/// Prints the tasks that match, as they come: each page for people is a table of its own, so that
/// any number of tasks is shown in little memory.
pub(crate) async fn list<const N: usize>(
    client: &Client,
    filter: TaskFilter,
    pages: &Pages,
    headings: [&str; N],
    row: impl Fn(&TaskInfo, i64) -> [String; N],
    output: &mut Output,
) -> Result<Exit, Failure> {
    let mut left = if pages.all { u64::MAX } else { pages.limit };
    let mut cursor = None;
    let mut is_first = true;
    loop {
        // One more than is shown: it tells whether there is more.
        let wanted = left.saturating_add(1).min(PAGE_TASKS_MAX);
        let page = match pages.tracebacks {
            true => client.tasks_with_tracebacks(filter.clone(), wanted as u32, cursor).await,
            false => client.tasks(filter.clone(), wanted as u32, cursor).await,
        };
        let page = page.map_err(failure)?;
        let shown = page.tasks.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let has_more = page.tasks.len() > shown;
        let tasks = &page.tasks[..shown];
        left -= shown as u64;
        if output.json {
            tasks.iter().try_for_each(|task| output.document(&TaskDocument::new(task)))?;
        } else if is_first || shown > 0 {
            let now_ms = now_ms();
            output
                .table(headings, &tasks.iter().map(|task| row(task, now_ms)).collect::<Vec<_>>())?;
        }
        is_first = false;
        if has_more && !output.json {
            output.line("… and more: --limit COUNT or --all shows them")?;
        }
        cursor = page.cursor;
        if has_more || cursor.is_none() {
            return Ok(Exit::Success);
        }
    }
}
