//! `celeriac dead`: the tasks that ended as FAILURE and are kept, to be looked at, run again, or
//! dropped.

use std::collections::BTreeSet;

use celeriac_client::{Client, State, TaskInfo};
use clap::{ArgGroup, Args, Subcommand};
use serde::Serialize;

use crate::arguments::{EXIT_CODES, Global};
use crate::confirm::Confirm;
use crate::connection::{connect, failure};
use crate::exit::{Exit, Failure};
use crate::filter::Filter;
use crate::output::{Output, clean};
use crate::show::{self, Show};
use crate::submit::parse_id;
use crate::task_view::{failed_attempt, shortened};
use crate::tasks::{Pages, list};
use crate::time::{ms, relative};

/// The arguments of `dead`.
#[derive(Args)]
pub(crate) struct Dead {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List dead tasks
    #[command(after_help = EXIT_CODES)]
    List(List),
    /// Show one dead task with its attempts and errors
    #[command(after_help = EXIT_CODES)]
    Show(Show),
    /// Run dead tasks again, as a new generation each
    #[command(after_help = EXIT_CODES)]
    Replay(Which),
    /// Drop dead tasks for good
    #[command(after_help = EXIT_CODES)]
    Discard(Discard),
}

/// The arguments of `dead list`.
#[derive(Args)]
struct List {
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    pages: Pages,
}

/// The arguments of `dead replay`: ids, a filter, or all.
#[derive(Args)]
#[command(group(
    ArgGroup::new("which")
        .args(["named", "queue", "name", "tag", "root", "id_prefix", "older_than", "newer_than", "all"])
        .multiple(true)
        .required(true)
))]
struct Which {
    /// The ids of dead tasks
    #[arg(value_parser = parse_id, conflicts_with_all = ["Filter", "all"], value_name = "ID")]
    named: Vec<String>,

    #[command(flatten)]
    filter: Filter,

    /// All dead tasks
    #[arg(long, conflicts_with = "Filter")]
    all: bool,
}

/// The arguments of `dead discard`.
#[derive(Args)]
struct Discard {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    confirm: Confirm,
}

/// What a program reads about a replay or a discard.
#[derive(Serialize)]
struct Document<'a> {
    outcome: &'a str,
    count: u64,
}

const HEADINGS: [&str; 6] = ["ID", "TASK", "QUEUE", "ATTEMPTS", "DIED", "ERROR"];

/// Does what the subcommand says.
pub(crate) async fn run(dead: Dead, global: &Global, output: &mut Output) -> Result<Exit, Failure> {
    match dead.command {
        Command::List(arguments) => {
            let client = connect(global).await?;
            let filter = arguments.filter.to_client().state(State::Failure);
            let listed = list(&client, filter, &arguments.pages, HEADINGS, row, output).await;
            client.close().await;
            listed
        }
        Command::Show(arguments) => show_dead(&arguments, global, output).await,
        Command::Replay(which) => {
            let client = connect(global).await?;
            let count = match which.named.as_slice() {
                [] => client.replay_dead_matching(which.filter.to_client()).await,
                ids => client.replay_dead(ids).await,
            };
            finish(&client, &which, "replayed", count.map_err(failure)?, output).await
        }
        Command::Discard(Discard { which, confirm }) => {
            let consent = confirm.consent("a discard")?;
            consent.ask(&format!("Discard {}?", which.in_words())).await?;
            let client = connect(global).await?;
            let count = match which.named.as_slice() {
                [] if which.all => client.discard_all_dead().await,
                [] => client.discard_dead_matching(which.filter.to_client()).await,
                ids => client.discard_dead(ids).await,
            };
            finish(&client, &which, "discarded", count.map_err(failure)?, output).await
        }
    }
}

impl Which {
    fn in_words(&self) -> String {
        match (self.named.as_slice(), self.all) {
            ([], true) => "all dead tasks".to_owned(),
            ([], false) => "the dead tasks that match".to_owned(),
            ([id], _) => format!("the dead task {}", clean(id)),
            (ids, _) => format!("{} dead tasks", ids.len()),
        }
    }
}

async fn show_dead(show: &Show, global: &Global, output: &mut Output) -> Result<Exit, Failure> {
    let client = connect(global).await?;
    let (task, children) = show::whole(&client, show.id()).await?;
    client.close().await;
    match task.state {
        State::Failure => show::print(&task, &children, output)?,
        State::Unknown => {
            return Err(Failure::new(Exit::NotFound, format!("no task {}", clean(&task.id))));
        }
        state => {
            let sentence = format!("task {} is not dead, it is {state}", clean(&task.id));
            return Err(Failure::new(Exit::NotFound, sentence));
        }
    }
    Ok(Exit::Success)
}

/// Says how many there were. Ids that are no dead tasks make the exit code 4.
async fn finish(
    client: &Client,
    which: &Which,
    outcome: &str,
    count: u64,
    output: &mut Output,
) -> Result<Exit, Failure> {
    client.close().await;
    match output.json {
        true => output.document(&Document { outcome, count })?,
        false => output.line(&format!("{count} {outcome}"))?,
    }
    let named = which.named.iter().collect::<BTreeSet<_>>().len() as u64;
    match named.saturating_sub(count) {
        0 => Ok(Exit::Success),
        missing => {
            Err(Failure::new(Exit::NotFound, format!("{missing} of {named} ids name no dead task")))
        }
    }
}

fn row(task: &TaskInfo, now_ms: i64) -> [String; 6] {
    [
        clean(&task.id),
        clean(task.title()),
        clean(&task.queue),
        format!("{}/{}", task.attempts, task.attempts_max),
        task.finished_at.map(|at| relative(ms(at), now_ms)).unwrap_or_default(),
        task.errors.last().map(|error| shortened(&failed_attempt(error))).unwrap_or_default(),
    ]
}
