//! A listing of tasks, page after page, for `tasks` and `dead list`.

use celeriac_client::{Client, TaskFilter, TaskInfo};
use clap::Args;

use crate::connection::failure;
use crate::exit::Failure;
use crate::output::Output;
use crate::task_document::TaskDocument;
use crate::time::now_ms;

/// How many tasks are printed, and how much of each.
#[derive(Args)]
pub(crate) struct PageOptions {
    /// Print at most this many tasks
    #[arg(long, default_value_t = 100, value_name = "COUNT")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,

    /// Print all tasks
    #[arg(long, conflicts_with = "limit")]
    all: bool,

    /// With --json: print the tracebacks of errors too
    #[arg(long)]
    tracebacks: bool,

    /// With --json: print the arguments of the tasks too
    #[arg(long, requires = "json")]
    payloads: bool,
}

/// The tasks of one request.
const PAGE_TASKS_MAX: u64 = 1000;

/// Prints the tasks that match, one page after the other. For people each page is its own table, so
/// that a list of any length needs little memory.
pub(crate) async fn print_list<const N: usize>(
    client: &Client,
    filter: TaskFilter,
    pages: &PageOptions,
    headings: [&str; N],
    row: impl Fn(&TaskInfo, i64) -> [String; N],
    output: &mut Output,
) -> Result<(), Failure> {
    let mut left = if pages.all { u64::MAX } else { pages.limit };
    let mut cursor = None;
    let mut is_first = true;
    loop {
        // One task more than is printed shows whether there are more.
        let wanted = left.saturating_add(1).min(PAGE_TASKS_MAX);
        let page = match pages.tracebacks {
            true => client.tasks_with_tracebacks(filter.clone(), wanted as u32, cursor).await,
            false => client.tasks(filter.clone(), wanted as u32, cursor).await,
        };
        let mut page = page.map_err(failure)?;
        if pages.payloads {
            add_payloads(client, &mut page.tasks).await?;
        }
        let printed = page.tasks.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let has_more = page.tasks.len() > printed;
        let tasks = &page.tasks[..printed];
        left -= printed as u64;
        if output.is_json() {
            for task in tasks {
                output.document(&TaskDocument::new(task))?;
            }
        } else if is_first || printed > 0 {
            let now_ms = now_ms();
            let rows: Vec<_> = tasks.iter().map(|task| row(task, now_ms)).collect();
            output.table(headings, &rows)?;
        }
        is_first = false;
        if has_more && !output.is_json() {
            output.line("… and more: --limit COUNT or --all shows them")?;
        }
        cursor = page.cursor;
        if has_more || cursor.is_none() {
            return Ok(());
        }
    }
}

/// Asks for the payloads of listed tasks. A listing itself has none.
async fn add_payloads(client: &Client, tasks: &mut [TaskInfo]) -> Result<(), Failure> {
    let ids: Vec<String> = tasks.iter().map(|task| task.id.clone()).collect();
    let with_payloads = client.info_with_payloads(&ids).await.map_err(failure)?;
    for (task, same) in tasks.iter_mut().zip(with_payloads) {
        // Between the two answers the id may have got another run, or have been forgotten.
        if same.generation == task.generation {
            task.payload = same.payload;
            task.payload_content_type = same.payload_content_type;
        }
    }
    Ok(())
}
