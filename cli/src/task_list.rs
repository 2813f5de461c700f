//! A listing of tasks for `tasks` and `dead list`: sorted, or page after page as the broker has
//! them.
//!
//! The broker lists tasks in an order of its own, or the newest first, or those that have just
//! ended. For every other order a listing asks for all tasks that match, and keeps those that it
//! will print.

use std::cell::Cell;
use std::cmp::Ordering;

use bytes::Bytes;
use celeriac_client::{Client, TaskFilter, TaskInfo, TaskPage};
use celeriac_web::documents::TaskDocument;
use clap::{Args, ValueEnum};

use crate::connection::failure;
use crate::draining;
use crate::exit::Failure;
use crate::looked::Looked;
use crate::output::{Output, print_to_stderr};
use crate::table::Table;
use crate::task_columns::{TaskColumn, chosen_table, table};
use crate::time::now_ms;

/// How many tasks are printed, in which order, and how much of each.
#[derive(Args)]
pub(crate) struct ListOptions {
    /// Print at most this many tasks
    #[arg(long, default_value_t = 100, value_name = "COUNT")]
    #[arg(value_parser = parse_count)]
    limit: u64,

    /// Print all tasks, unsorted if there is no --sort
    #[arg(long, conflicts_with = "limit")]
    all: bool,

    /// Sort the tasks [default: newest; `dead list`: ended]
    ///
    /// Except with `newest`, `ended` and `none`, the command reads all tasks that match from the
    /// broker, and prints the first ones of this order. With `ended` it does so when too few of the
    /// last 10,000 ends match.
    #[arg(long, value_enum, value_name = "ORDER")]
    sort: Option<TaskOrder>,

    /// Show these columns, separated by commas
    ///
    /// Ids are then whole, and no column is left out, also on a narrow terminal.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "COLUMNS")]
    columns: Vec<TaskColumn>,

    /// With --json: print the tracebacks of errors too
    #[arg(long)]
    tracebacks: bool,

    /// With --json: print the arguments of the tasks too
    #[arg(long, requires = "json")]
    payloads: bool,
}

/// A number of tasks.
fn parse_count(text: &str) -> Result<u64, String> {
    let count = text.parse().ok().filter(|count| *count > 0);
    count.ok_or_else(|| format!("`{text}` is not a whole number from 1 on"))
}

/// The order of a listing. Tasks that are equal in it are ordered from the newest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TaskOrder {
    /// Those that were submitted last come first
    Newest,
    /// Those that were submitted first come first
    Oldest,
    /// Those that ended last come first, and unfinished tasks at the end
    Ended,
    /// By the states, in the order of a task's life
    State,
    /// By the names
    Task,
    /// By the queues
    Queue,
    /// By the ids
    Id,
    /// As the broker has them: the fastest way
    None,
}

impl TaskOrder {
    fn compare(self, left: &TaskInfo, right: &TaskInfo) -> Ordering {
        match self {
            Self::Newest => right.submitted_at.cmp(&left.submitted_at),
            Self::Oldest => left.submitted_at.cmp(&right.submitted_at),
            Self::Ended => right.finished_at.cmp(&left.finished_at),
            Self::State => left.state.cmp(&right.state),
            Self::Task => left.title().cmp(right.title()),
            Self::Queue => left.queue.cmp(&right.queue),
            Self::Id => left.id.cmp(&right.id),
            Self::None => Ordering::Equal,
        }
    }
}

/// The tasks of one request.
const PAGE_TASKS_MAX: u64 = 1000;

/// More tasks than this are not asked for in an order of the broker's.
const IN_ORDER_MAX: usize = 10_000;

/// The payloads of one request. Each may have some megabytes.
const PAYLOADS_MAX: usize = 16;

/// What stderr says about a listing that left out tasks. It is no part of the listing.
const MORE: &str = "there are more tasks: --limit COUNT or --all shows them";

/// Prints the tasks that match.
pub(crate) async fn print_list(
    client: &Client,
    filter: TaskFilter,
    options: &ListOptions,
    usual: (&[TaskColumn], TaskOrder),
    output: &mut Output,
) -> Result<(), Failure> {
    let (columns, order) = usual;
    // All tasks may be more than the memory holds, so they are sorted only on demand.
    let order = options.sort.unwrap_or(if options.all { TaskOrder::None } else { order });
    let looked = Looked::new(!output.is_json());
    let listing =
        Listing { client, filter, options, columns, looked, has_waiting: Cell::new(false) };
    match order {
        TaskOrder::None => listing.print_pages(output).await?,
        order => listing.print_sorted(order, output).await?,
    }
    draining::tell(client, listing.has_waiting.get(), output).await;
    Ok(())
}

struct Listing<'a> {
    client: &'a Client,
    filter: TaskFilter,
    options: &'a ListOptions,
    columns: &'a [TaskColumn],
    looked: Looked,
    /// Whether a task that was printed waits for its delivery.
    has_waiting: Cell<bool>,
}

impl Listing<'_> {
    /// Prints one page after the other. For people each page is its own table, so that a list of
    /// any length needs little memory.
    async fn print_pages(&self, output: &mut Output) -> Result<(), Failure> {
        let mut left = if self.options.all { u64::MAX } else { self.options.limit };
        let (mut before, mut is_first) = (None, true);
        loop {
            // One task more than is printed shows whether there are more.
            let wanted = left.saturating_add(1).min(PAGE_TASKS_MAX);
            let mut page = self.page_after(&self.filter, before.as_ref(), wanted).await?;
            self.looked.clear();
            let printed = page.tasks.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let has_more = page.tasks.len() > printed;
            left -= printed as u64;
            // A page may have no task and not be the last.
            if printed > 0 || is_first && page.cursor.is_none() {
                self.print(&mut page.tasks[..printed], is_first, output).await?;
                is_first = false;
            }
            if has_more && !output.is_json() {
                print_to_stderr(MORE);
            }
            if has_more || page.cursor.is_none() {
                return Ok(());
            }
            self.looked.show(&page);
            before = Some(page);
        }
    }

    /// Prints the first tasks in this order.
    async fn print_sorted(&self, order: TaskOrder, output: &mut Output) -> Result<(), Failure> {
        let limit = if self.options.all { u64::MAX } else { self.options.limit };
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let (mut tasks, has_more) = match self.read_in_order(order, limit).await? {
            Some(found) => found,
            None => self.read(&self.filter, FirstTasks::new(order, limit)).await?.finish(),
        };
        self.looked.clear();
        self.print(&mut tasks, true, output).await?;
        if has_more && !output.is_json() {
            print_to_stderr(MORE);
        }
        Ok(())
    }

    /// The first tasks of an order in which the broker itself lists them, and whether there are
    /// more. `None`: the broker has no such order, or its list ends too early. Of the newest it
    /// looks at all its tasks for each page, so that many are read in any order.
    async fn read_in_order(
        &self,
        order: TaskOrder,
        limit: usize,
    ) -> Result<Option<(Vec<TaskInfo>, bool)>, Failure> {
        if limit > IN_ORDER_MAX {
            return Ok(None);
        }
        let (mut tasks, mut cursor) = (Vec::new(), None);
        loop {
            // One task more than is printed shows whether there are more.
            let count = (limit + 1 - tasks.len()).min(PAGE_TASKS_MAX as usize) as u32;
            let Some(page) = self.page_in_order(order, count, cursor).await? else {
                return Ok(None);
            };
            tasks.extend(page.tasks);
            cursor = page.cursor;
            if tasks.len() > limit {
                tasks.truncate(limit);
                return Ok(Some((tasks, true)));
            }
            if cursor.is_none() {
                // What has ended before, and what has not ended, is in no list of ends.
                return Ok((order == TaskOrder::Newest).then_some((tasks, false)));
            }
        }
    }

    /// A page of the broker's own list in this order; `None` if it has none.
    async fn page_in_order(
        &self,
        order: TaskOrder,
        count: u32,
        cursor: Option<Bytes>,
    ) -> Result<Option<TaskPage>, Failure> {
        let (filter, tracebacks) = (self.filter.clone(), self.options.tracebacks);
        let page = match order {
            TaskOrder::Newest => self.client.newest_tasks(filter, count, cursor, tracebacks).await,
            // The list of ends has no tracebacks.
            TaskOrder::Ended if !tracebacks => self.client.ended_tasks(filter, count, cursor).await,
            _ => return Ok(None),
        };
        let page = page.map_err(failure)?;
        // A broker may be older than the order, and then lists in its own.
        let is_in_order =
            if order == TaskOrder::Newest { page.newest_first } else { page.just_ended };
        Ok(is_in_order.then_some(page))
    }

    /// Adds all tasks that match.
    async fn read(
        &self,
        filter: &TaskFilter,
        mut first: FirstTasks,
    ) -> Result<FirstTasks, Failure> {
        let mut before = None;
        loop {
            let mut page = self.page_after(filter, before.as_ref(), PAGE_TASKS_MAX).await?;
            first.add(std::mem::take(&mut page.tasks));
            if page.cursor.is_none() {
                return Ok(first);
            }
            self.looked.show(&page);
            before = Some(page);
        }
    }

    /// The first page, or the page after this one.
    async fn page_after(
        &self,
        filter: &TaskFilter,
        before: Option<&TaskPage>,
        count: u64,
    ) -> Result<TaskPage, Failure> {
        let cursor = before.and_then(|page| page.cursor.clone());
        let (filter, count) = (filter.clone(), count as u32);
        match self.options.tracebacks {
            true => self.client.tasks_with_tracebacks(filter, count, cursor).await,
            false => self.client.tasks(filter, count, cursor).await,
        }
        .map_err(failure)
    }

    async fn print(
        &self,
        tasks: &mut [TaskInfo],
        is_first: bool,
        output: &mut Output,
    ) -> Result<(), Failure> {
        if !output.is_json() {
            if draining::one_waits(tasks) {
                self.has_waiting.set(true);
            }
            let width = output.size().width;
            let lines = self.table(tasks, now_ms()).lines(width);
            // The columns of each page have their own widths, so a person needs each heading. A
            // program that reads the lines needs one.
            let skipped = usize::from(!is_first && width.is_none());
            return Ok(output.lines(&lines[skipped..])?);
        }
        for tasks in tasks.chunks_mut(PAYLOADS_MAX) {
            if self.options.payloads {
                add_payloads(self.client, tasks).await?;
            }
            for task in tasks {
                output.document(&TaskDocument::new(task))?;
            }
        }
        Ok(())
    }

    fn table(&self, tasks: &[TaskInfo], now_ms: i64) -> Table {
        match self.options.columns.as_slice() {
            [] => table(tasks, self.columns, now_ms),
            chosen => chosen_table(tasks, chosen, now_ms),
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

/// The first tasks of an order, out of any number of tasks.
struct FirstTasks {
    order: TaskOrder,
    limit: usize,
    /// At most twice the limit, and a page.
    tasks: Vec<TaskInfo>,
    left_out: bool,
}

impl FirstTasks {
    fn new(order: TaskOrder, limit: usize) -> Self {
        Self { order, limit, tasks: Vec::new(), left_out: false }
    }

    fn add(&mut self, tasks: Vec<TaskInfo>) {
        self.tasks.extend(tasks);
        if self.tasks.len() / 2 > self.limit {
            self.shorten();
        }
    }

    /// Sorts the tasks, and drops those beyond the limit. The ids make the order complete.
    fn shorten(&mut self) {
        self.tasks.sort_by(|left, right| {
            let newest = || TaskOrder::Newest.compare(left, right);
            let order = self.order.compare(left, right).then_with(newest);
            order.then_with(|| left.id.cmp(&right.id))
        });
        self.left_out |= self.tasks.len() > self.limit;
        self.tasks.truncate(self.limit);
    }

    /// The tasks, and whether there are more.
    fn finish(mut self) -> (Vec<TaskInfo>, bool) {
        self.shorten();
        (self.tasks, self.left_out)
    }
}

#[cfg(test)]
mod tests {
    use celeriac_proto::wire;

    use super::*;

    fn task(number: i64) -> TaskInfo {
        wire::TaskInfo {
            id: format!("{number:03}"),
            state: wire::TaskState::Queued.into(),
            submitted_at_ms: number / 2,
            ..Default::default()
        }
        .into()
    }

    fn ids(order: TaskOrder, limit: usize, numbers: impl Iterator<Item = i64>) -> Vec<String> {
        let mut first = FirstTasks::new(order, limit);
        for number in numbers {
            first.add(vec![task(number)]);
            assert!(first.tasks.len() <= 2 * limit + 1);
        }
        let (tasks, has_more) = first.finish();
        assert!(has_more);
        tasks.into_iter().map(|task| task.id).collect()
    }

    #[test]
    fn the_first_tasks_of_an_order_are_kept_and_no_more_than_twice_as_many() {
        let up = || 1..100;
        assert_eq!(ids(TaskOrder::Newest, 3, up()), ["098", "099", "096"]);
        assert_eq!(ids(TaskOrder::Newest, 3, up().rev()), ["098", "099", "096"]);
        assert_eq!(ids(TaskOrder::Oldest, 3, up()), ["001", "002", "003"]);
        assert_eq!(ids(TaskOrder::Id, 2, up().rev()), ["001", "002"]);
        // Nothing has ended: from the newest.
        assert_eq!(ids(TaskOrder::Ended, 1, up()), ["098"]);
    }

    #[test]
    fn nothing_is_left_out_of_a_short_list() {
        let mut first = FirstTasks::new(TaskOrder::Newest, 2);
        first.add(vec![task(2), task(4)]);
        let (tasks, has_more) = first.finish();
        assert_eq!((tasks[0].id.as_str(), tasks.len(), has_more), ("004", 2, false));
    }
}
