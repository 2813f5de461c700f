//! `celeriac dead`: lists dead tasks, runs them again, or drops them. A dead task ended as FAILURE
//! and is kept.

use std::collections::BTreeSet;

use celeriac_client::{Client, State};
use clap::{ArgGroup, Args, Subcommand};
use serde::Serialize;

use crate::arguments::{SharedOptions, parse_id};
use crate::confirm::ConfirmOptions;
use crate::connection::{connect, failure, part};
use crate::exit::{Exit, Failure};
use crate::filter::FilterOptions;
use crate::output::{Format, Output};
use crate::task_columns::DEAD;
use crate::task_count::{TaskCount, count};
use crate::task_history::TaskHistory;
use crate::task_list::{ListOptions, TaskOrder, print_list};
use celeriac_web::printable::clean;

/// The arguments of `dead`.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct DeadArguments {
    #[command(subcommand)]
    subcommand: Option<DeadSubcommand>,

    // Without a subcommand the dead tasks are listed.
    #[command(flatten)]
    list: ListArguments,
}

#[derive(Subcommand)]
enum DeadSubcommand {
    /// List dead tasks
    List(ListArguments),
    /// Show one dead task with its whole history
    Show(ShowArguments),
    /// Run dead tasks again, each as a new generation
    #[command(override_usage = which_usage("replay"), after_help = FILTERS)]
    Replay(ReplayArguments),
    /// Drop dead tasks with their errors
    #[command(override_usage = which_usage("discard"), after_help = FILTERS)]
    Discard(DiscardArguments),
}

/// The arguments of `dead list`.
#[derive(Args)]
struct ListArguments {
    #[command(flatten)]
    filter: FilterOptions,
    #[command(flatten)]
    list: ListOptions,
}

/// The arguments of `dead show`.
#[derive(Args)]
struct ShowArguments {
    /// The id of the dead task
    #[arg(value_parser = parse_id, value_name = "ID")]
    id: String,
}

/// The arguments of `dead replay`: ids, a filter, or all.
#[derive(Args)]
#[command(group(
    ArgGroup::new("which")
        .args(["named", "queue", "name", "tag", "root", "id_prefix"])
        .args(["older_than", "newer_than", "all"])
        .multiple(true)
        .required(true)
))]
struct ReplayArguments {
    /// The ids of dead tasks
    #[arg(value_parser = parse_id, value_name = "ID")]
    #[arg(conflicts_with_all = ["FilterOptions", "all"])]
    named: Vec<String>,

    #[command(flatten)]
    filter: FilterOptions,

    /// All dead tasks
    #[arg(long, conflicts_with = "FilterOptions")]
    all: bool,
}

/// The arguments of `dead discard`.
#[derive(Args)]
struct DiscardArguments {
    #[command(flatten)]
    which: ReplayArguments,
    #[command(flatten)]
    confirm: ConfirmOptions,
}

/// What a filter is in that usage.
const FILTERS: &str = "A FILTER is --queue, --name, --tag, --root, --id-prefix, --older-than or \
                       --newer-than, with its value. A task has to match all of them.";

/// The usage of a command that takes ids, filters or all.
fn which_usage(command: &str) -> String {
    format!(
        "celeriac dead {command} [OPTIONS] <ID>...
       celeriac dead {command} [OPTIONS] <FILTER>...
       celeriac dead {command} [OPTIONS] --all"
    )
}

/// The outcome of a replay or a discard, for programs.
#[derive(Serialize)]
struct Document<'a> {
    outcome: &'a str,
    count: u64,
}

/// Runs a subcommand.
pub(crate) async fn run(
    arguments: DeadArguments,
    shared: &SharedOptions,
    output: &mut Output,
) -> Result<Exit, Failure> {
    match arguments.subcommand.unwrap_or(DeadSubcommand::List(arguments.list)) {
        DeadSubcommand::List(arguments) => {
            let client = connect(shared).await?;
            let filter = arguments.filter.to_client().state(State::Failure);
            let usual = (DEAD.as_slice(), TaskOrder::Ended);
            let listed = print_list(&client, filter, &arguments.list, usual, output).await;
            part(&client, listed).await.map(|()| Exit::Success)
        }
        DeadSubcommand::Show(arguments) => show(&arguments, shared, output).await,
        DeadSubcommand::Replay(which) => {
            let client = connect(shared).await?;
            let count = match which.named.as_slice() {
                [] => client.replay_dead_matching(which.filter.to_client()).await,
                ids => client.replay_dead(ids).await,
            };
            finish(&client, &which, "replayed", count.map_err(failure)?, output).await
        }
        DeadSubcommand::Discard(DiscardArguments { which, confirm }) => {
            let consent = confirm.consent("a discard")?;
            let client = connect(shared).await?;
            if consent.is_to_be_asked() {
                let question = which.in_words(&client).await?;
                if question.is_about_none {
                    // Without a question nothing may be dropped, whatever has died since.
                    return finish(&client, &which, "discarded", 0, output).await;
                }
                consent.ask(&format!("Discard {}?", question.words)).await?;
            }
            let count = match which.named.as_slice() {
                [] if which.all => client.discard_all_dead().await,
                [] => client.discard_dead_matching(which.filter.to_client()).await,
                ids => client.discard_dead(ids).await,
            };
            finish(&client, &which, "discarded", count.map_err(failure)?, output).await
        }
    }
}

/// Dead tasks in words.
struct InWords {
    words: String,
    /// There is none at this moment.
    is_about_none: bool,
}

impl InWords {
    fn counted(words: &str, count: TaskCount) -> Self {
        let is_about_none = count == TaskCount::Exactly(0);
        Self { words: format!("{words}{}", count.in_brackets()), is_about_none }
    }

    fn named(words: String) -> Self {
        Self { words, is_about_none: false }
    }
}

/// How many dead tasks there are at this moment.
async fn all_dead(client: &Client) -> Result<TaskCount, Failure> {
    let queues = client.queues().await.map_err(failure)?;
    Ok(TaskCount::Exactly(queues.iter().map(|queue| queue.dead).sum()))
}

impl ReplayArguments {
    /// The tasks in words. Their number at this moment is part of it, as far as it is known.
    async fn in_words(&self, client: &Client) -> Result<InWords, Failure> {
        Ok(match self.named.as_slice() {
            [] if self.all => InWords::counted("all dead tasks", all_dead(client).await?),
            [] => {
                let filter = self.filter.to_client().state(State::Failure);
                let count = count(client, &filter).await;
                InWords::counted("the dead tasks that match", count)
            }
            [id] => InWords::named(format!("the dead task {}", clean(id))),
            ids => InWords::named(format!("{} dead tasks", ids.len())),
        })
    }
}

async fn show(
    arguments: &ShowArguments,
    shared: &SharedOptions,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let client = connect(shared).await?;
    let history = TaskHistory::fetch(&client, &arguments.id).await?;
    client.close().await;
    let id = clean(&history.task.id);
    match history.task.state {
        State::Failure => {
            history.print(output)?;
            Ok(Exit::Success)
        }
        State::Unknown => Err(Failure::new(Exit::NotFound, format!("no task {id}"))),
        state => {
            let sentence = format!("task {id} is not dead, it is {state}");
            Err(Failure::new(Exit::NotFound, sentence))
        }
    }
}

/// Prints how many tasks there were. An id that names no dead task makes the exit code 4.
async fn finish(
    client: &Client,
    which: &ReplayArguments,
    outcome: &str,
    count: u64,
    output: &mut Output,
) -> Result<Exit, Failure> {
    client.close().await;
    output.outlive_reader();
    match output.format {
        Format::Json => output.document(&Document { outcome, count })?,
        Format::Text => output.line(&format!("{count} {outcome}"))?,
    }
    let named = which.named.iter().collect::<BTreeSet<_>>().len() as u64;
    match named.saturating_sub(count) {
        0 => Ok(Exit::Success),
        missing => {
            Err(Failure::new(Exit::NotFound, format!("{missing} of {named} ids name no dead task")))
        }
    }
}
