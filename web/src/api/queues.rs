//! Queues: look, pause, set, purge, delete; and how many tasks wait, for autoscalers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State as Of;
use axum::response::{IntoResponse, Response};
use celeriac_client::{Client, QueueInfo, QueueSettings, State, TaskFilter};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::body::Unread;
use crate::caller::{CalledBy, Caller};
use crate::documents::{QueueDocument, QueueSettingsDocument};
use crate::problem::Problem;
use crate::query::{InPath, InQuery, shortened};
use crate::router::Shared;

/// The most tasks of one name that are counted, and those of one look.
const OF_NAME_MAX: u64 = 10_000;
const AT_ONCE: u32 = 1_000;
/// How long they are counted.
const PATIENCE: Duration = Duration::from_secs(10);

/// All queues.
#[derive(Serialize, ToSchema)]
pub(crate) struct Queues<'a> {
    queues: Vec<QueueDocument<'a>>,
}

/// All queues.
#[utoipa::path(
    get, path = "/api/v1/queues", tag = "queues",
    responses((status = 200, description = "The queues", body = Queues))
)]
pub(crate) async fn list(
    Of(shared): Of<Arc<Shared>>,
    CalledBy(caller): CalledBy,
) -> Result<Response, Problem> {
    let queues = shared.callers.ask(&caller, async |client| client.queues().await).await?;
    let queues = queues.iter().map(QueueDocument::new).collect();
    Ok(Json(Queues { queues }).into_response())
}

/// One queue.
#[utoipa::path(
    get, path = "/api/v1/queues/{queue}", tag = "queues",
    params(("queue" = String, Path, description = "The name of the queue")),
    responses((status = 200, description = "The queue", body = QueueDocument))
)]
pub(crate) async fn queue(
    Of(shared): Of<Arc<Shared>>,
    CalledBy(caller): CalledBy,
    InPath(name): InPath,
) -> Result<Response, Problem> {
    let queue = existing(&shared, &caller, &name).await?;
    Ok(Json(QueueDocument::new(&queue)).into_response())
}

async fn existing(shared: &Shared, caller: &Caller, name: &str) -> Result<QueueInfo, Problem> {
    celeriac_proto::QueueName::check(name).map_err(|error| Problem::invalid(error.to_string()))?;
    let queue = shared.callers.ask(caller, async |client| client.queue(name).await).await?;
    queue.ok_or_else(|| Problem::not_found(format!("no queue {}", shortened(name))))
}

/// New settings of a queue. A field that is null is cleared, and one that is not there stays.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    /// The most unfinished tasks.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<u64>)]
    tasks_max: Option<Option<u64>>,
    /// The most bytes of payloads.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<u64>)]
    bytes_max: Option<Option<u64>>,
    /// Tasks that have not started after this long are revoked, if they name no other time.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<u64>)]
    expires_in_ms: Option<Option<u64>>,
    /// Ended tasks are kept for this long, if they name no other time.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<u64>)]
    result_ttl_ms: Option<Option<u64>>,
}

fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<u64>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl Settings {
    fn over(self, present: QueueSettings) -> QueueSettings {
        let span = |given: Option<Option<u64>>, present: Option<Duration>| {
            given.map_or(present, |ms| ms.map(Duration::from_millis))
        };
        QueueSettings {
            tasks_max: self.tasks_max.unwrap_or(present.tasks_max),
            bytes_max: self.bytes_max.unwrap_or(present.bytes_max),
            expires_in: span(self.expires_in_ms, present.expires_in),
            result_ttl: span(self.result_ttl_ms, present.result_ttl),
        }
    }
}

/// Sets the bounds of a queue and the defaults of its tasks. A queue that does not exist is
/// created.
#[utoipa::path(
    patch, path = "/api/v1/queues/{queue}", tag = "queues", request_body = Settings,
    params(("queue" = String, Path, description = "The name of the queue")),
    responses((status = 200, description = "The settings", body = QueueSettingsDocument))
)]
pub(crate) async fn set(
    Of(shared): Of<Arc<Shared>>,
    CalledBy(caller): CalledBy,
    InPath(name): InPath,
    body: Unread,
) -> Result<Response, Problem> {
    celeriac_proto::QueueName::check(&name).map_err(|error| Problem::invalid(error.to_string()))?;
    let settings: Settings = body.json(&shared, &caller).await?;
    let settings = shared
        .callers
        .ask(&caller, async |client| {
            let present = client.queue(&name).await?.map(|queue| queue.settings);
            let settings = settings.over(present.unwrap_or_default());
            client.configure_queue(&name, settings).await?;
            Ok(settings)
        })
        .await?;
    Ok(Json(QueueSettingsDocument::new(&settings)).into_response())
}

/// What happened to a queue.
#[derive(Serialize, ToSchema)]
pub(crate) struct Changed {
    queue: String,
    /// `paused`, `resumed`, `purged` or `deleted`.
    outcome: &'static str,
    /// How many waiting tasks a purge or delete revoked.
    revoked: Option<u64>,
}

/// Delivers no tasks of this queue until it is resumed. Tasks that run go on.
#[utoipa::path(
    post, path = "/api/v1/queues/{queue}/pause", tag = "queues",
    params(("queue" = String, Path, description = "The name of the queue")),
    responses((status = 200, description = "The queue is paused", body = Changed))
)]
pub(crate) async fn pause(
    Of(shared): Of<Arc<Shared>>,
    CalledBy(caller): CalledBy,
    InPath(name): InPath,
) -> Result<Json<Changed>, Problem> {
    let queue = existing(&shared, &caller, &name).await?.name;
    shared.callers.ask(&caller, async |client| client.pause_queues(&[&queue]).await).await?;
    Ok(Json(Changed { queue, outcome: "paused", revoked: None }))
}

/// Delivers tasks of this queue again.
#[utoipa::path(
    post, path = "/api/v1/queues/{queue}/resume", tag = "queues",
    params(("queue" = String, Path, description = "The name of the queue")),
    responses((status = 200, description = "The queue is resumed", body = Changed))
)]
pub(crate) async fn resume(
    Of(shared): Of<Arc<Shared>>,
    CalledBy(caller): CalledBy,
    InPath(name): InPath,
) -> Result<Json<Changed>, Problem> {
    let queue = existing(&shared, &caller, &name).await?.name;
    shared.callers.ask(&caller, async |client| client.resume_queues(&[&queue]).await).await?;
    Ok(Json(Changed { queue, outcome: "resumed", revoked: None }))
}

/// Revokes every waiting task of a queue.
#[utoipa::path(
    post, path = "/api/v1/queues/{queue}/purge", tag = "queues",
    params(("queue" = String, Path, description = "The name of the queue")),
    responses((status = 200, description = "The queue is empty", body = Changed))
)]
pub(crate) async fn purge(
    Of(shared): Of<Arc<Shared>>,
    CalledBy(caller): CalledBy,
    InPath(name): InPath,
) -> Result<Json<Changed>, Problem> {
    let queue = existing(&shared, &caller, &name).await?.name;
    let revoked = shared.callers.ask(&caller, async |client| client.purge_queue(&queue).await);
    let revoked = Some(revoked.await?);
    Ok(Json(Changed { queue, outcome: "purged", revoked }))
}

/// Purges a queue and drops its settings. Refused while tasks of the queue run.
#[utoipa::path(
    delete, path = "/api/v1/queues/{queue}", tag = "queues",
    params(("queue" = String, Path, description = "The name of the queue")),
    responses((status = 200, description = "The queue is deleted", body = Changed))
)]
pub(crate) async fn delete(
    Of(shared): Of<Arc<Shared>>,
    CalledBy(caller): CalledBy,
    InPath(name): InPath,
) -> Result<Json<Changed>, Problem> {
    let queue = existing(&shared, &caller, &name).await?.name;
    let revoked = shared.callers.ask(&caller, async |client| client.delete_queue(&queue).await);
    let revoked = Some(revoked.await?);
    Ok(Json(Changed { queue, outcome: "deleted", revoked }))
}

/// Which queue an autoscaler asks about.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Scale {
    /// The name of the queue.
    queue: String,
    /// Only tasks of this name, up to 10,000 of them. The broker looks through the tasks of the
    /// queue for it: a name with many tasks wants a queue of its own.
    name: Option<String>,
}

/// The number for an autoscaler.
#[derive(Serialize, ToSchema)]
pub(crate) struct ScaleValue {
    /// The tasks that wait for a worker and those that workers hold. Tasks that wait for their time
    /// do not count.
    value: u64,
}

/// How many tasks there are for the workers of a queue. A queue that does not exist has none: an
/// autoscaler that gets an error cannot start from zero.
#[utoipa::path(
    get, path = "/api/v1/scale", tag = "queues", params(Scale),
    responses((status = 200, description = "The number of tasks", body = ScaleValue))
)]
pub(crate) async fn scale(
    Of(shared): Of<Arc<Shared>>,
    CalledBy(caller): CalledBy,
    InQuery(Scale { queue, name }): InQuery<Scale>,
) -> Result<Json<ScaleValue>, Problem> {
    celeriac_proto::QueueName::check(&queue)
        .map_err(|error| Problem::invalid(error.to_string()))?;
    if let Some(name) = name {
        let value = of_name(&shared, &caller, &queue, &name).await?;
        return Ok(Json(ScaleValue { value }));
    }
    let queue = shared.callers.ask(&caller, async |client| client.queue(&queue).await).await?;
    let value = queue.map_or(0, |queue| queue.ready.saturating_add(queue.leased));
    Ok(Json(ScaleValue { value }))
}

/// How many tasks of this name a queue has for its workers. A count that is not whole would stop
/// workers, so there is none rather than that.
async fn of_name(
    shared: &Shared,
    caller: &Caller,
    queue: &str,
    name: &str,
) -> Result<u64, Problem> {
    celeriac_proto::TaskName::check(name).map_err(|error| Problem::invalid(error.to_string()))?;
    let filter = TaskFilter::new().queue(queue).name(name);
    let filter = [State::Queued, State::Leased, State::Started]
        .into_iter()
        .fold(filter, |filter, state| filter.state(state));
    let (began, mut value, mut cursor) = (Instant::now(), 0, None);
    loop {
        let filter = filter.clone();
        let ask = async |client: Client| client.tasks(filter, AT_ONCE, cursor).await;
        let page = shared.callers.ask(caller, ask).await?;
        value += page.tasks.len() as u64;
        cursor = page.cursor;
        if cursor.is_none() || value >= OF_NAME_MAX {
            return Ok(value.min(OF_NAME_MAX));
        }
        if began.elapsed() > PATIENCE {
            return Err(Problem::overloaded(
                "the queue has too many tasks of other names to count those of this one: give the \
                 name a queue of its own",
            ));
        }
    }
}
