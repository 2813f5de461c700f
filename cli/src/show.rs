//! `celeriac show`: the whole history of one task, as far as the broker keeps it.

use celeriac_client::{Client, TaskFilter, TaskInfo};
use clap::Args;
use serde::Serialize;

use crate::arguments::Global;
use crate::connection::{connect, failure};
use crate::exit::{Exit, Failure};
use crate::history::history;
use crate::output::Output;
use crate::submit::parse_id;
use crate::task_document::TaskDocument;
use crate::task_view::exists;
use crate::time::now_ms;

/// The arguments of `show`.
#[derive(Args)]
pub(crate) struct Show {
    /// The id of the task
    #[arg(value_parser = parse_id, value_name = "ID")]
    id: String,
}

impl Show {
    /// The task to be shown.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }
}

/// A task for programs, with those it submitted.
#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    task: TaskDocument<'a>,
    children: Vec<&'a str>,
}

/// Shows all that is known of the task. An id without a task is shown as UNKNOWN and makes the exit
/// code 4.
pub(crate) async fn run(show: Show, global: &Global, output: &mut Output) -> Result<Exit, Failure> {
    let client = connect(global).await?;
    let (task, children) = whole(&client, &show.id).await?;
    client.close().await;
    print(&task, &children, output)?;
    Ok(exists(&task))
}

/// A task with its result, and the first of the tasks it submitted.
pub(crate) async fn whole(client: &Client, id: &str) -> Result<(TaskInfo, Vec<TaskInfo>), Failure> {
    let task = client.info_with_results(&[id]).await.map_err(failure)?.pop();
    let task = task
        .ok_or_else(|| Failure::error("the broker answered without the task that was asked for"))?;
    if exists(&task) != Exit::Success {
        return Ok((task, Vec::new()));
    }
    // The tree is named after its first task, which itself names none.
    let root = if task.root_id.is_empty() { &task.id } else { &task.root_id };
    let filter = TaskFilter::new().root_id(root);
    let (mut children, mut left, mut cursor) = (Vec::new(), TREE_TASKS_MAX, None);
    while left > 0 {
        let page = client.tasks(filter.clone(), left, cursor).await.map_err(failure)?;
        left = left.saturating_sub(page.tasks.len() as u32);
        children.extend(page.tasks.into_iter().filter(|other| other.parent_id == task.id));
        cursor = page.cursor;
        if cursor.is_none() {
            break;
        }
    }
    Ok((task, children))
}

/// So many tasks are looked at: a tree may have any number of them, and `tasks --root` lists them
/// all.
const TREE_TASKS_MAX: u32 = 1000;

/// Prints one task in full.
pub(crate) fn print(
    task: &TaskInfo,
    children: &[TaskInfo],
    output: &mut Output,
) -> Result<(), Failure> {
    match output.json {
        true => {
            let children = children.iter().map(|child| child.id.as_str()).collect();
            output.document(&Document { task: TaskDocument::new(task), children })?;
        }
        false => output.lines(&history(task, children, now_ms()))?,
    }
    Ok(())
}
