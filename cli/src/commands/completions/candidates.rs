//! What the broker knows, for a word that a user completes. The user waits for it with every Tab:
//! so there is little time, little is asked, and an error is the same as no candidate.

use std::cell::RefCell;
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

use celeriac_client::{Client, Error, State, TaskFilter, TaskInfo};

use super::place::{Kind, Place};
use crate::arguments::SharedOptions;
use crate::connection::connect;
use celeriac_web::printable::clean;

/// The time for the broker's answers. What has come by then is used.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(250);
/// The time for all of it. A slow resolver or a token file that is a pipe may block the thread.
const TIMEOUT: Duration = Duration::from_millis(300);
/// More candidates than this would fill the terminal.
const CANDIDATES_MAX: usize = 100;
/// The tasks of one request.
const PAGE_TASKS: u32 = 1_000;

/// The candidates for a place, the best first. There are none when the broker does not answer.
pub(super) fn ask(place: Place, shared: SharedOptions) -> Vec<String> {
    if let Kind::Word(words) = place.kind {
        return words.into_iter().filter(|word| word.starts_with(&place.prefix)).collect();
    }
    let (sender, receiver) = mpsc::channel();
    // The end of the process ends the thread too.
    let thread = std::thread::Builder::new().spawn(move || sender.send(answer(&place, shared)));
    match thread {
        Ok(_) => receiver.recv_timeout(TIMEOUT).unwrap_or_default(),
        Err(_) => Vec::new(),
    }
}

fn answer(place: &Place, mut shared: SharedOptions) -> Vec<String> {
    shared.timeout = Some(ANSWER_TIMEOUT);
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return Vec::new();
    };
    let known = RefCell::new(Vec::new());
    let asking = async {
        if let Ok(client) = connect(&shared).await {
            // An error leaves what is known by then.
            let _ = fetch(&client, place, &known).await;
        }
    };
    let _ = runtime.block_on(async { tokio::time::timeout(ANSWER_TIMEOUT, asking).await });
    let mut names = known.into_inner();
    names.retain(|name| is_offered(name, &place.prefix));
    names.truncate(CANDIDATES_MAX);
    names
}

/// Whether a name may appear in the command line. A shell quotes spaces and the like by itself, but
/// it would send invisible characters to the terminal. A name with a `-` in front would be a flag.
fn is_offered(name: &str, prefix: &str) -> bool {
    name.starts_with(prefix) && !name.starts_with('-') && clean(name) == name
}

/// Asks the broker, and keeps each answer that is better than the one before.
async fn fetch(client: &Client, place: &Place, known: &RefCell<Vec<String>>) -> Result<(), Error> {
    let mut names: Vec<String> = match &place.kind {
        Kind::Task(states) => return fetch_tasks(client, &place.prefix, states, known).await,
        Kind::Word(words) => words.clone(),
        Kind::Queue => client.queues().await?.into_iter().map(|queue| queue.name).collect(),
        Kind::Worker => {
            client.workers().await?.into_iter().map(|worker| worker.instance_id).collect()
        }
    };
    names.sort();
    *known.borrow_mut() = names;
    Ok(())
}

/// The newest tasks. The broker lists tasks in an order that is not the one of their times. So
/// when there are more than one page has, those of the last second are asked for, then those of the
/// last ten seconds, and so on, until there are enough.
async fn fetch_tasks(
    client: &Client,
    prefix: &str,
    states: &[State],
    known: &RefCell<Vec<String>>,
) -> Result<(), Error> {
    let mut filter = states.iter().fold(TaskFilter::new(), |filter, state| filter.state(*state));
    if !prefix.is_empty() {
        filter = filter.id_prefix(prefix);
    }
    let page = client.tasks(filter.clone(), PAGE_TASKS, None).await?;
    let has_more = page.cursor.is_some();
    *known.borrow_mut() = newest_first(page.tasks);
    let now = SystemTime::now();
    let mut spans =
        std::iter::successors(Some(Duration::from_secs(1)), |span| span.checked_mul(10));
    while has_more && let Some(start) = spans.next().and_then(|span| now.checked_sub(span)) {
        if start < SystemTime::UNIX_EPOCH {
            break;
        }
        let page = client.tasks(filter.clone().submitted_after(start), PAGE_TASKS, None).await?;
        if page.tasks.len() >= CANDIDATES_MAX {
            *known.borrow_mut() = newest_first(page.tasks);
            break;
        }
    }
    Ok(())
}

fn newest_first(mut tasks: Vec<TaskInfo>) -> Vec<String> {
    tasks.sort_by_key(|task| std::cmp::Reverse(task.submitted_at));
    tasks.into_iter().map(|task| task.id).collect()
}
