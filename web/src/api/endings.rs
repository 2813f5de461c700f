//! Tasks that end early, or are dropped after their end: cancel and forget.

use std::sync::Arc;

use axum::Json;
use axum::extract::State as Of;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use celeriac_client::{CancelMode, CancelOutcome, ErrorCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::body::Unread;
use super::tasks::{Ids, check_ids, no_task};
use crate::caller::CalledBy;
use crate::problem::Problem;
use crate::query::InPath;
use crate::router::Shared;
use crate::time::parse_span;

/// How a cancel treats tasks that run.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Mode {
    /// Ask their handlers to stop.
    #[default]
    Cooperative,
    /// Stop their handlers.
    Force,
    /// Leave them alone.
    Waiting,
}

/// How to cancel.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct How {
    /// How tasks that run are treated.
    #[serde(default)]
    mode: Mode,
    /// With `force`: the time that a handler has to end, such as `10s`.
    grace: Option<String>,
}

impl How {
    fn into_mode(self) -> Result<CancelMode, Problem> {
        let grace = self.grace.map(|grace| {
            parse_span(&grace).map_err(|sentence| Problem::invalid(format!("grace: {sentence}")))
        });
        match (self.mode, grace.transpose()?) {
            (Mode::Force, grace) => Ok(CancelMode::Force { grace }),
            (_, Some(_)) => Err(Problem::invalid("grace belongs to the mode force")),
            (Mode::Cooperative, None) => Ok(CancelMode::Cooperative),
            (Mode::Waiting, None) => Ok(CancelMode::Waiting),
        }
    }
}

/// What became of a task in a cancel or a forget.
#[derive(Serialize, ToSchema)]
pub(crate) struct Outcome {
    id: String,
    /// Of a cancel `revoked`, `signalled`, `already_ended`, `left_running` or `not_found`; of a
    /// forget `forgotten`, or the code of the refusal.
    outcome: String,
}

/// What became of each task.
#[derive(Serialize, ToSchema)]
pub(crate) struct CancelOutcomes {
    outcomes: Vec<Outcome>,
}

/// Revokes a task that waits, or asks one that runs to stop. A task that has ended stays as it is.
#[utoipa::path(
    post, path = "/api/v1/tasks/{id}/cancel", tag = "tasks", request_body = Option<How>,
    params(("id" = String, Path, description = "The id of the task")),
    responses((status = 200, description = "What became of the task", body = Outcome))
)]
pub(crate) async fn cancel(
    Of(shared): Of<Arc<Shared>>,
    CalledBy(caller): CalledBy,
    InPath(id): InPath,
    body: Unread,
) -> Result<Response, Problem> {
    check_ids([&id])?;
    let mode = body.json_or_default::<How>(&shared, &caller).await?.into_mode()?;
    let cancelled = shared
        .callers
        .ask(&caller, async |client| client.cancel(&[&id], mode).await)
        .await?
        .pop()
        .filter(|cancelled| cancelled.outcome != CancelOutcome::NotFound)
        .ok_or_else(|| no_task(&id))?;
    let outcome = outcome_of(cancelled.outcome).to_owned();
    Ok(Json(Outcome { id, outcome }).into_response())
}

/// Which tasks to cancel: those of the ids, or all of a tree, or all with a tag.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CancelMany {
    /// 1 to 1,000 ids.
    ids: Option<Vec<String>>,
    /// Every unfinished task of the tree that began with this task.
    root_id: Option<String>,
    /// Every unfinished task with this tag.
    tag: Option<String>,
    /// How tasks that run are treated.
    #[serde(default)]
    mode: Mode,
    /// With `force`: the time that a handler has to end, such as `10s`.
    grace: Option<String>,
}

/// Cancels many tasks: those of the ids, or all of a tree, or all with a tag.
#[utoipa::path(
    post, path = "/api/v1/cancel", tag = "tasks", request_body = CancelMany,
    responses((status = 200, description = "What became of the tasks", body = CancelOutcomes))
)]
pub(crate) async fn cancel_many(
    Of(shared): Of<Arc<Shared>>,
    CalledBy(caller): CalledBy,
    body: Unread,
) -> Result<Response, Problem> {
    let CancelMany { ids, root_id, tag, mode, grace } = body.json(&shared, &caller).await?;
    let mode = How { mode, grace }.into_mode()?;
    let cancelled = match (ids, root_id, tag) {
        (Some(ids), None, None) => {
            let ids = Ids { ids }.checked()?;
            shared.callers.ask(&caller, async |client| client.cancel(&ids, mode).await).await?
        }
        (None, Some(root), None) => {
            check_ids([&root])?;
            shared.callers.ask(&caller, async |client| client.cancel_tree(root, mode).await).await?
        }
        (None, None, Some(tag)) if !tag.is_empty() => {
            shared
                .callers
                .ask(&caller, async |client| client.cancel_tagged(tag, mode).await)
                .await?
        }
        _ => return Err(Problem::invalid("one of ids, root_id and tag has to be there")),
    };
    let outcomes = cancelled
        .into_iter()
        .map(|it| Outcome { id: it.id, outcome: outcome_of(it.outcome).to_owned() })
        .collect();
    Ok(Json(CancelOutcomes { outcomes }).into_response())
}

fn outcome_of(outcome: CancelOutcome) -> &'static str {
    match outcome {
        CancelOutcome::Revoked => "revoked",
        CancelOutcome::Signalled => "signalled",
        CancelOutcome::AlreadyEnded => "already_ended",
        CancelOutcome::LeftRunning => "left_running",
        CancelOutcome::NotFound => "not_found",
        _ => "unknown",
    }
}

/// Drops an ended task and its result.
#[utoipa::path(
    delete, path = "/api/v1/tasks/{id}", tag = "tasks",
    params(("id" = String, Path, description = "The id of the task")),
    responses((status = 204, description = "The task is forgotten"))
)]
pub(crate) async fn forget(
    Of(shared): Of<Arc<Shared>>,
    CalledBy(caller): CalledBy,
    InPath(id): InPath,
) -> Result<StatusCode, Problem> {
    check_ids([&id])?;
    let outcome = shared.callers.ask(&caller, async |client| client.forget(&[&id]).await).await?;
    match outcome.into_iter().next() {
        Some(Ok(())) => Ok(StatusCode::NO_CONTENT),
        Some(Err(ErrorCode::NotFound)) | None => Err(no_task(&id)),
        Some(Err(code)) => Err(Problem::new(code, "only an ended task can be forgotten")),
    }
}
