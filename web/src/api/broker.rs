//! The broker itself: its figures, drain, the filter of its log, backups.

use std::sync::Arc;

use axum::Json;
use axum::extract::State as Of;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::body::Unread;
use crate::caller::CalledBy;
use crate::documents::BrokerDocument;
use crate::problem::Problem;
use crate::router::Shared;

/// The broker: its version, what it holds, how full its disk is, its limits.
#[utoipa::path(
    get, path = "/api/v1/broker", tag = "broker",
    responses((status = 200, description = "The broker", body = BrokerDocument))
)]
pub(crate) async fn info(
    Of(shared): Of<Arc<Shared>>,
    CalledBy(caller): CalledBy,
) -> Result<Response, Problem> {
    let broker = shared.callers.ask(&caller, async |client| client.broker_info().await).await?;
    Ok(Json(BrokerDocument::new(&broker)).into_response())
}

/// Whether the broker drains.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Draining {
    /// True: no task is delivered until it is false again, or the broker has been restarted.
    draining: bool,
}

/// Begins or ends a drain. `leased` of the broker says how many tasks are left.
#[utoipa::path(
    post, path = "/api/v1/broker/drain", tag = "broker", request_body = Draining,
    responses((status = 200, description = "Whether the broker drains", body = Draining))
)]
pub(crate) async fn drain(
    Of(shared): Of<Arc<Shared>>,
    CalledBy(caller): CalledBy,
    body: Unread,
) -> Result<Json<Draining>, Problem> {
    let Draining { draining } = body.json(&shared, &caller).await?;
    shared.callers.ask(&caller, async |client| client.drain(draining).await).await?;
    Ok(Json(Draining { draining }))
}

/// The filter of the broker's log.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Filter {
    /// A level such as `info`, or directives such as `info,celeriac_broker=debug`.
    filter: String,
}

/// The filter of the log.
#[utoipa::path(
    get, path = "/api/v1/broker/log", tag = "broker",
    responses((status = 200, description = "The filter", body = Filter))
)]
pub(crate) async fn log(
    Of(shared): Of<Arc<Shared>>,
    CalledBy(caller): CalledBy,
) -> Result<Json<Filter>, Problem> {
    let filter = shared.callers.ask(&caller, async |client| client.log_filter(None).await).await?;
    Ok(Json(Filter { filter }))
}

/// Changes the filter of the log until the broker is restarted.
#[utoipa::path(
    post, path = "/api/v1/broker/log", tag = "broker", request_body = Filter,
    responses((status = 200, description = "The filter that counts now", body = Filter))
)]
pub(crate) async fn set_log(
    Of(shared): Of<Arc<Shared>>,
    CalledBy(caller): CalledBy,
    body: Unread,
) -> Result<Json<Filter>, Problem> {
    let Filter { filter } = body.json(&shared, &caller).await?;
    let ask = shared.callers.ask(&caller, async |client| client.log_filter(Some(&filter)).await);
    Ok(Json(Filter { filter: ask.await? }))
}

/// Where a backup goes.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BackupTo {
    /// A folder on the broker's machine, as an absolute path; with an access file a name.
    folder: String,
}

/// A backup that was made.
#[derive(Serialize, ToSchema)]
pub(crate) struct BackupMade {
    folder: String,
    tasks: u64,
    bytes: u64,
}

/// Makes a backup, and answers when it is made.
#[utoipa::path(
    post, path = "/api/v1/broker/backup", tag = "broker", request_body = BackupTo,
    responses((status = 200, description = "The backup is made", body = BackupMade))
)]
pub(crate) async fn backup(
    Of(shared): Of<Arc<Shared>>,
    CalledBy(caller): CalledBy,
    body: Unread,
) -> Result<Json<BackupMade>, Problem> {
    let BackupTo { folder } = body.json(&shared, &caller).await?;
    let made = shared.callers.ask(&caller, async |client| client.backup(&folder).await).await?;
    Ok(Json(BackupMade { folder, tasks: made.tasks, bytes: made.bytes }))
}
