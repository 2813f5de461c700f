//! `celeriac watch`: the transitions of tasks as they happen, until the tasks have ended.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use celeriac_client::{State, TaskInfo, Watch as Transitions};
use clap::Args;

use crate::arguments::Global;
use crate::connection::{connect, failure};
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::submit::parse_id;
use crate::task_document::TaskDocument;
use crate::task_view::transition;
use crate::time::parse_span;

/// The arguments of `watch`.
#[derive(Args)]
pub(crate) struct Watch {
    /// The ids of the tasks; they need not exist yet
    #[arg(required = true, value_parser = parse_id, value_name = "ID")]
    ids: Vec<String>,

    /// Stop after this long [default: when every task has ended]
    #[arg(long, value_parser = parse_span, value_name = "SECONDS")]
    wait: Option<Duration>,
}

/// Follows the tasks. The exit code is that of the first one, in the order given, that did not end
/// well.
pub(crate) async fn run(
    watch: Watch,
    global: &Global,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let ids: Vec<&String> = watch.ids.iter().collect::<BTreeSet<_>>().into_iter().collect();
    let client = connect(global).await?;
    let transitions = client.watch(&ids).await.map_err(failure)?;
    let mut followed = Followed::default();
    let following = followed.follow(transitions, ids.len(), output);
    match watch.wait {
        Some(span) => {
            // The time is up: what has not ended counts as unfinished below.
            if let Ok(followed) = tokio::time::timeout(span, following).await {
                followed?;
            }
        }
        None => following.await?,
    }
    client.close().await;
    Ok(watch.ids.iter().map(|id| followed.exit(id)).fold(Exit::Success, Exit::and))
}

/// The last state seen of each task, and whether nothing more is to come of it.
#[derive(Default)]
struct Followed {
    tasks: BTreeMap<String, (State, bool)>,
}

impl Followed {
    async fn follow(
        &mut self,
        mut transitions: Transitions,
        count: usize,
        output: &mut Output,
    ) -> Result<(), Failure> {
        while self.tasks.len() < count || self.tasks.values().any(|(_, over)| !over) {
            let Some(task) = transitions.next().await else {
                return Err(Failure::new(Exit::Unreachable, "the broker ended the watch"));
            };
            match output.json {
                true => output.document(&TaskDocument::new(&task))?,
                false => output.line(&transition(&task, count > 1))?,
            }
            self.see(&task);
        }
        Ok(())
    }

    fn see(&mut self, task: &TaskInfo) {
        let before = self.tasks.get(task.id.as_str()).copied();
        let now = match (before, task.state) {
            // Forgotten after its end: how it ended is still the answer.
            (Some((state, true)), State::Unknown) => (state, true),
            // Gone before anybody saw its end.
            (Some((state, false)), State::Unknown) if state != State::Unknown => {
                (State::Unknown, true)
            }
            (_, state) => (state, state.is_ended()),
        };
        self.tasks.insert(task.id.clone(), now);
    }

    fn exit(&self, id: &str) -> Exit {
        match self.tasks.get(id) {
            Some((State::Success, _)) => Exit::Success,
            Some((State::Failure, _)) => Exit::Failed,
            Some((State::Revoked, _)) => Exit::Revoked,
            Some((State::Unknown, _)) | None => Exit::NotFound,
            Some(_) => Exit::Unfinished,
        }
    }
}
