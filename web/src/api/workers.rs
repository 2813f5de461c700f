//! Workers: look, and give orders.

use std::sync::Arc;

use axum::Json;
use axum::extract::State as Of;
use axum::response::{IntoResponse, Response};
use celeriac_client::{WorkerOrder, WorkerStatus};
use serde::Serialize;
use utoipa::ToSchema;

use crate::caller::{CalledBy, Caller};
use crate::documents::WorkerDocument;
use crate::problem::Problem;
use crate::query::{InPath, shortened};
use crate::router::Shared;

/// All workers.
#[derive(Serialize, ToSchema)]
pub(crate) struct Workers<'a> {
    workers: Vec<WorkerDocument<'a>>,
}

/// All workers, with the tasks that they run.
#[utoipa::path(
    get, path = "/api/v1/workers", tag = "workers",
    responses((status = 200, description = "The workers", body = Workers))
)]
pub(crate) async fn list(
    Of(shared): Of<Arc<Shared>>,
    CalledBy(caller): CalledBy,
) -> Result<Response, Problem> {
    let workers = shared.callers.ask(&caller, async |client| client.workers().await).await?;
    let workers = workers.iter().map(WorkerDocument::new).collect();
    Ok(Json(Workers { workers }).into_response())
}

/// One worker, with the tasks that it runs.
#[utoipa::path(
    get, path = "/api/v1/workers/{instance}", tag = "workers",
    params(("instance" = String, Path, description = "The instance of the worker")),
    responses((status = 200, description = "The worker", body = WorkerDocument))
)]
pub(crate) async fn worker(
    Of(shared): Of<Arc<Shared>>,
    CalledBy(caller): CalledBy,
    InPath(instance): InPath,
) -> Result<Response, Problem> {
    let worker = existing(&shared, &caller, &instance).await?;
    Ok(Json(WorkerDocument::new(&worker)).into_response())
}

async fn existing(
    shared: &Shared,
    caller: &Caller,
    instance: &str,
) -> Result<WorkerStatus, Problem> {
    let workers = shared.callers.ask(caller, async |client| client.workers().await).await?;
    let worker = workers.into_iter().find(|worker| worker.instance_id == instance);
    worker.ok_or_else(|| Problem::not_found(format!("no worker {}", shortened(instance))))
}

/// The order that a worker got.
#[derive(Serialize, ToSchema)]
pub(crate) struct Ordered {
    instance_id: String,
    /// `quiet`, `resume` or `shutdown`.
    order: &'static str,
}

async fn order(
    shared: &Shared,
    caller: &Caller,
    instance: &str,
    (order, name): (WorkerOrder, &'static str),
) -> Result<Json<Ordered>, Problem> {
    let instance_id = existing(shared, caller, instance).await?.instance_id;
    let ids = [&instance_id];
    shared.callers.ask(caller, async |client| client.order_workers(&ids, order).await).await?;
    Ok(Json(Ordered { instance_id, order: name }))
}

/// The worker takes no more tasks until it is resumed.
#[utoipa::path(
    post, path = "/api/v1/workers/{instance}/quiet", tag = "workers",
    params(("instance" = String, Path, description = "The instance of the worker")),
    responses((status = 200, description = "The worker has the order", body = Ordered))
)]
pub(crate) async fn quiet(
    Of(shared): Of<Arc<Shared>>,
    CalledBy(caller): CalledBy,
    InPath(instance): InPath,
) -> Result<Json<Ordered>, Problem> {
    order(&shared, &caller, &instance, (WorkerOrder::Quiet, "quiet")).await
}

/// The worker takes tasks again.
#[utoipa::path(
    post, path = "/api/v1/workers/{instance}/resume", tag = "workers",
    params(("instance" = String, Path, description = "The instance of the worker")),
    responses((status = 200, description = "The worker has the order", body = Ordered))
)]
pub(crate) async fn resume(
    Of(shared): Of<Arc<Shared>>,
    CalledBy(caller): CalledBy,
    InPath(instance): InPath,
) -> Result<Json<Ordered>, Problem> {
    order(&shared, &caller, &instance, (WorkerOrder::Resume, "resume")).await
}

/// The worker ends after the tasks that it runs.
#[utoipa::path(
    post, path = "/api/v1/workers/{instance}/shutdown", tag = "workers",
    params(("instance" = String, Path, description = "The instance of the worker")),
    responses((status = 200, description = "The worker has the order", body = Ordered))
)]
pub(crate) async fn shutdown(
    Of(shared): Of<Arc<Shared>>,
    CalledBy(caller): CalledBy,
    InPath(instance): InPath,
) -> Result<Json<Ordered>, Problem> {
    order(&shared, &caller, &instance, (WorkerOrder::Shutdown, "shutdown")).await
}
