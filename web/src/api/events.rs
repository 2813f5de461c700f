//! Streams of server-sent events: the states of one task, and the figures of one queue.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State as Of;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use celeriac_client::{QueueInfo, TaskInfo, Watch};
use futures_core::Stream;
use futures_util::stream::unfold;
use serde::Deserialize;
use utoipa::IntoParams;

use super::tasks::{check_ids, no_task};
use crate::caller::{CalledBy, Caller};
use crate::callers::StreamPermit;
use crate::documents::{QueueDocument, TaskDocument};
use crate::live::{LOOK, Latest};
use crate::problem::Problem;
use crate::query::{InPath, InQuery};
use crate::router::Shared;

/// An idle stream has a comment this often, so that proxies do not end it.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What a stream of a task has.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct With {
    /// With the result of a task that succeeds.
    #[serde(default)]
    result: bool,
}

/// The states of a task as they change, as server-sent events. Each event is `state`, its data is
/// the task, and its id is the generation and the version of the task. The stream ends when the
/// task has ended. A state that `Last-Event-ID` names does not come again. Where it names the state
/// in which the task has ended, there is no stream but 204, after which a browser does not come
/// back.
#[utoipa::path(
    get, path = "/api/v1/tasks/{id}/events", tag = "tasks",
    params(("id" = String, Path, description = "The id of the task"), With),
    responses(
        (status = 200, description = "The stream", body = String,
         content_type = "text/event-stream"),
        (status = 204, description = "The task has ended, and the reader knows it"),
    )
)]
pub(crate) async fn task(
    Of(shared): Of<Arc<Shared>>,
    CalledBy(caller): CalledBy,
    InPath(id): InPath,
    InQuery(With { result }): InQuery<With>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    check_ids([&id])?;
    let permit = shared.callers.stream(&caller).await?;
    let (seen, stop) = (last_seen(&headers), shared.stop.clone());
    let (task, watch) = shared
        .callers
        .ask(&caller, async |client| {
            // The watch begins before the look, so that nothing happens between them unseen.
            let watch = match result {
                true => client.watch_with_results(&[&id]).await?,
                false => client.watch(&[&id]).await?,
            };
            Ok((client.info(&[&id]).await?.pop(), watch))
        })
        .await?;
    let task = task.filter(TaskInfo::is_there).ok_or_else(|| no_task(&id))?;
    // An `EventSource` comes back after each end of a stream, until it gets this status.
    if task.state.is_ended() && has_seen(seen, &task) {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let states = Some(States { watch, seen, _permit: permit });
    let stream = unfold(states, move |states| {
        let stop = stop.clone();
        async move {
            tokio::select! {
                next = next_state(states?) => next,
                () = stop.cancelled() => None,
            }
        }
    });
    Ok(answer(stream))
}

struct States {
    watch: Watch,
    seen: Option<(u32, u32)>,
    _permit: StreamPermit,
}

/// The next state that the reader has not seen, and what is left of the stream.
async fn next_state(mut states: States) -> Option<(Result<Event, Infallible>, Option<States>)> {
    loop {
        let task = states.watch.next().await?;
        let is_over = !task.is_there() || task.state.is_ended();
        if has_seen(states.seen, &task) {
            if is_over {
                return None;
            }
            continue;
        }
        let event = state_event(&task);
        return Some((Ok(event), (!is_over).then_some(states)));
    }
}

/// Whether a reader that has seen this generation and version knows the present state.
fn has_seen(seen: Option<(u32, u32)>, task: &TaskInfo) -> bool {
    seen.is_some_and(|seen| seen >= (task.generation, task.version))
}

fn state_event(task: &TaskInfo) -> Event {
    let event = Event::default().event("state").id(format!("{}.{}", task.generation, task.version));
    let json = serde_json::to_string(&TaskDocument::new(task)).expect("a document is JSON");
    event.data(json)
}

/// The generation and the version in `Last-Event-ID`.
fn last_seen(headers: &HeaderMap) -> Option<(u32, u32)> {
    let (generation, version) = headers.get("last-event-id")?.to_str().ok()?.split_once('.')?;
    Some((generation.parse().ok()?, version.parse().ok()?))
}

/// The figures of a queue each time that they have changed, once a second at most, as server-sent
/// events. Each event is `queue`, and its data is the queue.
#[utoipa::path(
    get, path = "/api/v1/queues/{queue}/events", tag = "queues",
    params(("queue" = String, Path, description = "The name of the queue")),
    responses((status = 200, description = "The stream", body = String,
               content_type = "text/event-stream"))
)]
pub(crate) async fn queue(
    Of(shared): Of<Arc<Shared>>,
    CalledBy(caller): CalledBy,
    InPath(name): InPath,
) -> Result<Response, Problem> {
    celeriac_proto::QueueName::check(&name).map_err(|error| Problem::invalid(error.to_string()))?;
    let permit = shared.callers.stream(&caller).await?;
    let first = shared.callers.ask(&caller, async |client| client.queue(&name).await).await?;
    if first.is_none() {
        return Err(Problem::not_found(format!("no queue {}", crate::query::shortened(&name))));
    }
    let stop = shared.stop.clone();
    let latest = permit.looks().queue.at(&name);
    let look = Looking { shared, caller, name, latest, last: String::new(), _permit: permit };
    let stream = unfold(look, move |look| {
        let stop = stop.clone();
        async move {
            tokio::select! {
                next = look.next() => next,
                () = stop.cancelled() => None,
            }
        }
    });
    Ok(answer(stream))
}

struct Looking {
    shared: Arc<Shared>,
    caller: Caller,
    name: String,
    /// What all streams of the caller know of this queue.
    latest: Arc<Latest<Option<Arc<QueueInfo>>>>,
    last: String,
    _permit: StreamPermit,
}

impl Looking {
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        loop {
            if !self.last.is_empty() {
                tokio::time::sleep(LOOK).await;
            }
            let name = &self.name;
            let ask = async {
                let ask =
                    self.shared.callers.ask(&self.caller, async |client| client.queue(name).await);
                Ok(ask.await?.map(Arc::new))
            };
            // A queue that is gone, a caller who may no longer look: the stream ends.
            let queue = self.latest.at(ask).await.ok()??;
            let json = serde_json::to_string(&QueueDocument::new(&queue)).expect("JSON");
            if json != self.last {
                self.last.clone_from(&json);
                return Some((Ok(Event::default().event("queue").data(json)), self));
            }
        }
    }
}

pub(crate) fn answer(
    stream: impl Stream<Item = Result<Event, Infallible>> + Send + 'static,
) -> Response {
    let alive = KeepAlive::new().interval(KEEP_ALIVE).text("alive");
    // Some proxies hold an answer back until it is long.
    ([("x-accel-buffering", "no")], Sse::new(stream).keep_alive(alive)).into_response()
}
