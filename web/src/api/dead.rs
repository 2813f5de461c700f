//! Dead tasks: run them again, or drop them. `GET /api/v1/tasks?state=FAILURE` lists them.

use std::sync::Arc;

use axum::Json;
use axum::extract::State as Of;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::body::Unread;
use super::filter::FilterDocument;
use crate::caller::CalledBy;
use crate::problem::Problem;
use crate::query::InPath;
use crate::router::Shared;

/// The most ids of one request.
const IDS_MAX: usize = 1_000;

/// Which dead tasks: those of the ids, those that match the filter, or all.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Which {
    /// 1 to 1,000 ids.
    ids: Option<Vec<String>>,
    /// The tasks that match.
    filter: Option<FilterDocument>,
    /// Every dead task.
    #[serde(default)]
    all: bool,
}

/// Those of the ids, or all that match.
enum Selected {
    Ids(Vec<String>),
    Matching(FilterDocument),
    All,
}

impl Which {
    fn selected(self) -> Result<Selected, Problem> {
        match (self.ids, self.filter, self.all) {
            (Some(ids), None, false) if (1..=IDS_MAX).contains(&ids.len()) => {
                Ok(Selected::Ids(ids))
            }
            (Some(ids), None, false) => Err(Problem::invalid(format!(
                "a request has 1 to {IDS_MAX} ids, not {}",
                ids.len()
            ))),
            // A filter without a field means all tasks: whoever means that says so.
            (None, Some(filter), false) if !filter.is_empty() => Ok(Selected::Matching(filter)),
            (None, None, true) => Ok(Selected::All),
            _ => Err(Problem::invalid(
                "one of ids, filter (with a field) and `\"all\": true` has to be there",
            )),
        }
    }
}

/// How many tasks there were.
#[derive(Serialize, ToSchema)]
pub(crate) struct Count {
    count: u64,
}

/// Runs dead tasks again. An id that names no dead task is not counted.
#[utoipa::path(
    post, path = "/api/v1/dead/replay", tag = "dead", request_body = Which,
    responses((status = 200, description = "How many tasks run again", body = Count))
)]
pub(crate) async fn replay(
    Of(shared): Of<Arc<Shared>>,
    CalledBy(caller): CalledBy,
    body: Unread,
) -> Result<Json<Count>, Problem> {
    let which: Which = body.json(&shared, &caller).await?;
    let ask = &shared.callers;
    let count = match which.selected()? {
        Selected::Ids(ids) => ask.ask(&caller, async |client| client.replay_dead(&ids).await).await,
        Selected::Matching(filter) => {
            let filter = filter.into_filter()?;
            ask.ask(&caller, async |client| client.replay_dead_matching(filter).await).await
        }
        Selected::All => {
            let filter = FilterDocument::default().into_filter()?;
            ask.ask(&caller, async |client| client.replay_dead_matching(filter).await).await
        }
    }?;
    Ok(Json(Count { count }))
}

/// Drops dead tasks before their time. An id that names no dead task is not counted.
#[utoipa::path(
    post, path = "/api/v1/dead/discard", tag = "dead", request_body = Which,
    responses((status = 200, description = "How many tasks were dropped", body = Count))
)]
pub(crate) async fn discard(
    Of(shared): Of<Arc<Shared>>,
    CalledBy(caller): CalledBy,
    body: Unread,
) -> Result<Json<Count>, Problem> {
    let which: Which = body.json(&shared, &caller).await?;
    let ask = &shared.callers;
    let count = match which.selected()? {
        Selected::Ids(ids) => {
            ask.ask(&caller, async |client| client.discard_dead(&ids).await).await
        }
        Selected::Matching(filter) => {
            let filter = filter.into_filter()?;
            ask.ask(&caller, async |client| client.discard_dead_matching(filter).await).await
        }
        Selected::All => ask.ask(&caller, async |client| client.discard_all_dead().await).await,
    }?;
    Ok(Json(Count { count }))
}

/// Runs one dead task again.
#[utoipa::path(
    post, path = "/api/v1/tasks/{id}/replay", tag = "tasks",
    params(("id" = String, Path, description = "The id of the task")),
    responses((status = 200, description = "The task runs again", body = Count))
)]
pub(crate) async fn replay_one(
    Of(shared): Of<Arc<Shared>>,
    CalledBy(caller): CalledBy,
    InPath(id): InPath,
) -> Result<Json<Count>, Problem> {
    let ask = &shared.callers;
    match ask.ask(&caller, async |client| client.replay_dead(&[&id]).await).await? {
        0 => Err(Problem::not_found("there is no dead task of this id")),
        count => Ok(Json(Count { count })),
    }
}
