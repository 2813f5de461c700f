//! `celeriac tasks`: lists the tasks that match a filter.

use celeriac_client::State;
use clap::{Args, ValueEnum};

use crate::arguments::SharedOptions;
use crate::connection::{connect, part};
use crate::exit::{Exit, Failure};
use crate::filter::FilterOptions;
use crate::output::Output;
use crate::task_columns::USUAL;
use crate::task_list::{ListOptions, TaskOrder, print_list};

/// The arguments of `tasks`.
#[derive(Args)]
pub(crate) struct TasksArguments {
    /// Only tasks in this state; may be given several times
    #[arg(long = "state", value_enum, ignore_case = true, value_name = "STATE")]
    states: Vec<ListedState>,

    #[command(flatten)]
    filter: FilterOptions,

    #[command(flatten)]
    list: ListOptions,
}

/// The states that an existing task can have.
#[derive(Clone, Copy, ValueEnum)]
enum ListedState {
    Scheduled,
    Queued,
    Leased,
    Started,
    Retry,
    Success,
    Failure,
    Revoked,
}

impl From<ListedState> for State {
    fn from(state: ListedState) -> Self {
        match state {
            ListedState::Scheduled => Self::Scheduled,
            ListedState::Queued => Self::Queued,
            ListedState::Leased => Self::Leased,
            ListedState::Started => Self::Started,
            ListedState::Retry => Self::Retry,
            ListedState::Success => Self::Success,
            ListedState::Failure => Self::Failure,
            ListedState::Revoked => Self::Revoked,
        }
    }
}

/// Lists the tasks that match.
pub(crate) async fn run(
    arguments: TasksArguments,
    shared: &SharedOptions,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let client = connect(shared).await?;
    let mut filter = arguments.filter.to_client();
    for state in &arguments.states {
        filter = filter.state((*state).into());
    }
    let usual = (USUAL.as_slice(), TaskOrder::Newest);
    let listed = print_list(&client, filter, &arguments.list, usual, output).await;
    part(&client, listed).await.map(|()| Exit::Success)
}
