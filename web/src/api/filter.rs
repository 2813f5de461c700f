//! Which tasks a listing, a replay or a discard means.

use std::time::{Duration, SystemTime};

use celeriac_client::{State, TaskFilter};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use crate::problem::Problem;
use crate::query::shortened;
use crate::time::parse_span;

/// A task matches if it matches every field that is there.
#[derive(Debug, Clone, Default, Deserialize, ToSchema, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct FilterDocument {
    /// Only tasks of this queue.
    pub queue: Option<String>,
    /// Only tasks in one of these states, with commas between them.
    #[schema(example = "QUEUED,STARTED")]
    #[param(example = "QUEUED,STARTED")]
    pub state: Option<String>,
    /// Only tasks of this name.
    pub name: Option<String>,
    /// Only tasks with this tag.
    pub tag: Option<String>,
    /// Only tasks of the tree that began with this task.
    pub root_id: Option<String>,
    /// Only tasks whose id begins with this text.
    pub id_prefix: Option<String>,
    /// Only tasks submitted longer ago than this span.
    pub older_than: Option<String>,
    /// Only tasks submitted more recently than this span.
    pub newer_than: Option<String>,
}

type Set = fn(TaskFilter, String) -> TaskFilter;

/// The states by their names.
const STATES: [State; 8] = [
    State::Scheduled,
    State::Queued,
    State::Leased,
    State::Started,
    State::Retry,
    State::Success,
    State::Failure,
    State::Revoked,
];

impl FilterDocument {
    /// Whether no field is there. Such a filter means all tasks.
    pub(crate) fn is_empty(&self) -> bool {
        let Self { queue, state, name, tag, root_id, id_prefix, older_than, newer_than } = self;
        [queue, state, name, tag, root_id, id_prefix, older_than, newer_than]
            .into_iter()
            .all(Option::is_none)
    }

    /// The filter for the broker. Spans count back from now, on the clock of this machine.
    pub(crate) fn into_filter(self) -> Result<TaskFilter, Problem> {
        // An empty text would match everything. A script with an unset variable must not do that by
        // mistake.
        let text = |name: &str, value: Option<String>| match value {
            Some(value) if value.is_empty() => Err(Problem::invalid(format!("{name} is empty"))),
            value => Ok(value),
        };
        let mut filter = TaskFilter::new();
        if let Some(states) = text("state", self.state)? {
            for name in states.split(',') {
                filter = filter.state(state(name)?);
            }
        }
        let set: [(_, _, Set); 5] = [
            ("queue", self.queue, TaskFilter::queue),
            ("name", self.name, TaskFilter::name),
            ("tag", self.tag, TaskFilter::tag),
            ("root_id", self.root_id, TaskFilter::root_id),
            ("id_prefix", self.id_prefix, TaskFilter::id_prefix),
        ];
        for (name, value, set) in set {
            if let Some(value) = text(name, value)? {
                filter = set(filter, value);
            }
        }
        if let Some(span) = self.older_than {
            filter = filter.submitted_before(ago("older_than", &span)?);
        }
        if let Some(span) = self.newer_than {
            filter = filter.submitted_after(ago("newer_than", &span)?);
        }
        Ok(filter)
    }
}

fn state(name: &str) -> Result<State, Problem> {
    let found = STATES.into_iter().find(|state| state.to_string().eq_ignore_ascii_case(name));
    found.ok_or_else(|| {
        let names: Vec<String> = STATES.iter().map(State::to_string).collect();
        Problem::invalid(format!("state: `{}` is none of {}", shortened(name), names.join(", ")))
    })
}

fn ago(name: &str, text: &str) -> Result<SystemTime, Problem> {
    let span: Duration =
        parse_span(text).map_err(|sentence| Problem::invalid(format!("{name}: {sentence}")))?;
    // No task is older than 1970, so a longer span means the same as 1970.
    let now = SystemTime::now();
    Ok(now.checked_sub(span).unwrap_or(SystemTime::UNIX_EPOCH).max(SystemTime::UNIX_EPOCH))
}
