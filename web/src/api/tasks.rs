//! Tasks: submit, look, wait, list.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State as Of;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use celeriac_client::{Client, Error, ErrorCode, Submission, TaskInfo, WaitMode};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use super::body::{Unread, parse};
use super::filter::FilterDocument;
use crate::caller::{CalledBy, Caller};
use crate::documents::{SubmissionDocument, SubmittedDocument, TaskDocument};
use crate::problem::Problem;
use crate::query::{InPath, InQuery, Within};
use crate::router::Shared;

/// The longest wait of one request. Proxies end requests that take longer.
const WAIT_MAX: u64 = 60;
/// The most tasks of one page.
const PAGE_MAX: u64 = 1_000;
const PAGE_DEFAULT: u64 = 100;
/// The most ids of one request.
const IDS_MAX: usize = 1_000;

/// One task, or many.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "the description of the body; `submit` reads it by hand")]
pub(crate) enum SubmitBody {
    /// One task.
    One(Box<SubmissionDocument>),
    /// Up to 10,000 tasks.
    Many {
        /// The tasks, each of which is accepted or refused by itself.
        tasks: Vec<SubmissionDocument>,
    },
}

/// The tasks of a body with many of them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Many {
    tasks: Vec<Box<RawValue>>,
}

/// What became of each task, in the order of the request.
#[derive(Serialize, ToSchema)]
pub(crate) struct Outcomes {
    #[schema(value_type = Vec<ItemOutcome>)]
    outcomes: Vec<Box<RawValue>>,
}

/// What became of one task.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "the description of an outcome")]
pub(crate) enum ItemOutcome<'a> {
    /// It was accepted.
    Accepted(SubmittedDocument<'a>),
    /// It was refused.
    Refused {
        /// The id that the request names, if it names one.
        id: Option<String>,
        /// Why.
        problem: Problem,
    },
}

/// Submits one task, or many.
///
/// One task answers with 201 when it was created, and with 200 when an unfinished task of this id
/// goes on. Many tasks answer with 200, and each outcome says whether its task was accepted.
#[utoipa::path(
    post, path = "/api/v1/tasks", tag = "tasks", request_body = SubmitBody,
    responses(
        (status = 200, description = "The task of this id goes on, or the outcomes of many tasks",
         body = Outcomes),
        (status = 201, description = "The task was created", body = SubmittedDocument),
    )
)]
pub(crate) async fn submit(
    Of(shared): Of<Arc<Shared>>,
    CalledBy(caller): CalledBy,
    body: Unread,
) -> Result<Response, Problem> {
    let body: Box<RawValue> = body.json(&shared, &caller).await?;
    if is_many(body.get()) {
        let Many { tasks } = parse(body.get().as_bytes())?;
        let client = shared.callers.client(&caller).await?;
        let outcomes = submit_many(&shared, &caller, &client, tasks).await?;
        return Ok(Json(Outcomes { outcomes }).into_response());
    }
    let submission = submission(&body)?;
    let submitted = shared
        .callers
        .ask(&caller, async |client| client.submit_many([submission]).await)
        .await?
        .pop();
    let submitted = submitted.ok_or_else(|| Problem::new(ErrorCode::Internal, "no outcome"))?;
    let submitted = submitted.map_err(|refusal| Problem::from(Error::from(refusal)))?;
    let document = SubmittedDocument::new(&submitted);
    let status = if document.is_joined() { StatusCode::OK } else { StatusCode::CREATED };
    Ok((status, Json(document)).into_response())
}

/// Whether the body has the one field of a body with many tasks.
fn is_many(body: &str) -> bool {
    #[derive(Deserialize)]
    struct Peek<'a> {
        #[serde(borrow)]
        tasks: Option<&'a RawValue>,
    }
    serde_json::from_str::<Peek<'_>>(body).is_ok_and(|peek| peek.tasks.is_some())
}

fn submission(body: &RawValue) -> Result<Submission, Problem> {
    if !body.get().starts_with('{') {
        return Err(Problem::invalid(
            "a task is a JSON object, such as {\"name\": \"songs.play\"}",
        ));
    }
    let document: SubmissionDocument = parse(body.get().as_bytes())?;
    document.into_submission().map_err(Problem::invalid)
}

/// Submits those that can be read. A task that cannot be read is refused by itself.
async fn submit_many(
    shared: &Shared,
    caller: &Caller,
    client: &Client,
    tasks: Vec<Box<RawValue>>,
) -> Result<Vec<Box<RawValue>>, Problem> {
    let most = client.connection().limits().batch_items_max;
    if tasks.is_empty() || tasks.len() > most as usize {
        return Err(Problem::invalid(format!(
            "a request has 1 to {most} tasks, not {}",
            tasks.len()
        )));
    }
    let (mut good, mut outcomes) = (Vec::new(), Vec::with_capacity(tasks.len()));
    for task in &tasks {
        match submission(task) {
            Ok(submission) => {
                good.push(submission);
                outcomes.push(None);
            }
            Err(problem) => outcomes.push(Some(refused(task, problem))),
        }
    }
    let mut submitted = match good.is_empty() {
        true => Vec::new(),
        false => shared.callers.ask(caller, async |client| client.submit_many(good).await).await?,
    }
    .into_iter();
    let mut next = |task| match submitted.next() {
        Some(Ok(submitted)) => raw(&SubmittedDocument::new(&submitted)),
        Some(Err(refusal)) => refused(task, Error::from(refusal).into()),
        None => refused(task, Problem::new(ErrorCode::Internal, "the broker gave no outcome")),
    };
    let all = tasks.iter().zip(outcomes);
    Ok(all.map(|(task, outcome)| outcome.unwrap_or_else(|| next(task))).collect())
}

/// The refusal of a task, with the id that it names. Also a task that cannot be read may name one.
fn refused(task: &RawValue, problem: Problem) -> Box<RawValue> {
    #[derive(Deserialize)]
    struct Named {
        id: Option<String>,
    }
    #[derive(Serialize)]
    struct Refused {
        id: Option<String>,
        problem: Problem,
    }
    let id = serde_json::from_str(task.get()).ok().and_then(|Named { id }| id);
    raw(&Refused { id, problem })
}

fn raw(document: &impl Serialize) -> Box<RawValue> {
    serde_json::value::to_raw_value(document).expect("a document is JSON")
}

/// What a request for one task asks beside it.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct With {
    /// With the result of a task that succeeded.
    #[serde(default)]
    result: bool,
    /// With the arguments.
    #[serde(default)]
    payload: bool,
}

/// One task: state, times, progress, errors; with its result or its arguments if asked.
#[utoipa::path(
    get, path = "/api/v1/tasks/{id}", tag = "tasks",
    params(("id" = String, Path, description = "The id of the task"), With),
    responses((status = 200, description = "The task", body = TaskDocument))
)]
pub(crate) async fn task(
    Of(shared): Of<Arc<Shared>>,
    CalledBy(caller): CalledBy,
    InPath(id): InPath,
    InQuery(with): InQuery<With>,
) -> Result<Response, Problem> {
    check_ids([&id])?;
    let task = shared.callers.ask(&caller, async |client| look(&client, &id, &with).await).await?;
    match task {
        Some(task) => Ok(Json(TaskDocument::new(&task)).into_response()),
        None => Err(no_task(&id)),
    }
}

async fn look(client: &Client, id: &str, with: &With) -> Result<Option<TaskInfo>, Error> {
    let task = match with.result {
        true => client.info_with_results(&[id]).await?.pop(),
        false => client.info(&[id]).await?.pop(),
    };
    let Some(mut task) = task.filter(TaskInfo::is_there) else { return Ok(None) };
    if with.payload
        && let Some(same) = client.info_with_payloads(&[id]).await?.pop()
        // Between the two answers the id may have got another run, with another payload.
        && same.generation == task.generation
    {
        task.payload = same.payload;
        task.payload_content_type = same.payload_content_type;
    }
    Ok(Some(task))
}

pub(super) fn no_task(id: &str) -> Problem {
    Problem::not_found(format!("no task {}", crate::query::shortened(id)))
}

/// Refuses ids that no task can have.
pub(crate) fn check_ids<'a>(ids: impl IntoIterator<Item = &'a String>) -> Result<(), Problem> {
    ids.into_iter().try_for_each(|id| {
        celeriac_proto::TaskId::check(id).map_err(|error| Problem::invalid(error.to_string()))
    })
}

/// How long to wait.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Wait {
    /// Wait for so many seconds, 0 to 60, until the task has ended.
    #[param(value_type = Option<u64>, minimum = 0, maximum = 60)]
    wait: Option<Within<0, WAIT_MAX>>,
}

/// The task with its result: 200 when it has ended, 202 when it has not.
#[utoipa::path(
    get, path = "/api/v1/tasks/{id}/result", tag = "tasks",
    params(("id" = String, Path, description = "The id of the task"), Wait),
    responses(
        (status = 200, description = "The task has ended", body = TaskDocument),
        (status = 202, description = "The task has not ended", body = TaskDocument),
    )
)]
pub(crate) async fn result(
    Of(shared): Of<Arc<Shared>>,
    CalledBy(caller): CalledBy,
    InPath(id): InPath,
    InQuery(Wait { wait }): InQuery<Wait>,
) -> Result<Response, Problem> {
    check_ids([&id])?;
    let wait = Duration::from_secs(wait.map_or(0, |Within(seconds)| seconds));
    let with = With { result: true, payload: false };
    let task = shared
        .callers
        .ask(&caller, async |client| {
            if !wait.is_zero() {
                let ids = [&id];
                tokio::select! {
                    waited = client.wait(&ids, WaitMode::All, wait) => drop(waited?),
                    () = shared.stop.cancelled() => {}
                }
            }
            look(&client, &id, &with).await
        })
        .await?;
    let task = task.ok_or_else(|| no_task(&id))?;
    let status = if task.state.is_ended() { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((status, Json(TaskDocument::new(&task))).into_response())
}

/// The ids of tasks.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ids {
    /// 1 to 1,000 ids.
    #[schema(min_items = 1, max_items = 1000)]
    pub ids: Vec<String>,
}

impl Ids {
    pub(super) fn checked(self) -> Result<Vec<String>, Problem> {
        if self.ids.is_empty() || self.ids.len() > IDS_MAX {
            let sentence = format!("a request has 1 to {IDS_MAX} ids, not {}", self.ids.len());
            return Err(Problem::invalid(sentence));
        }
        check_ids(&self.ids)?;
        Ok(self.ids)
    }
}

/// Tasks.
#[derive(Serialize, ToSchema)]
pub(crate) struct Tasks<'a> {
    tasks: Vec<TaskDocument<'a>>,
}

/// Many tasks by their ids, in the order of the ids. A task that does not exist is UNKNOWN.
#[utoipa::path(
    post, path = "/api/v1/lookup", tag = "tasks", request_body = Ids,
    responses((status = 200, description = "The tasks", body = Tasks))
)]
pub(crate) async fn lookup(
    Of(shared): Of<Arc<Shared>>,
    CalledBy(caller): CalledBy,
    body: Unread,
) -> Result<Response, Problem> {
    let ids = body.json::<Ids>(&shared, &caller).await?.checked()?;
    let tasks = shared.callers.ask(&caller, async |client| client.info(&ids).await).await?;
    let tasks = tasks.iter().map(TaskDocument::new).collect();
    Ok(Json(Tasks { tasks }).into_response())
}

/// The order of a listing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Order {
    /// The order in which the broker keeps them.
    #[default]
    Kept,
    /// Those that were submitted last come first.
    Newest,
    /// The last 10,000 that ended, the latest first.
    Ended,
}

/// Which page of a listing.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Listing {
    /// Only tasks of this queue.
    queue: Option<String>,
    /// Only tasks in one of these states, with commas between them.
    #[param(example = "QUEUED,STARTED")]
    state: Option<String>,
    /// Only tasks of this name.
    name: Option<String>,
    /// Only tasks with this tag.
    tag: Option<String>,
    /// Only tasks of the tree that began with this task.
    root_id: Option<String>,
    /// Only tasks whose id begins with this text.
    id_prefix: Option<String>,
    /// Only tasks submitted longer ago than this span.
    older_than: Option<String>,
    /// Only tasks submitted more recently than this span.
    newer_than: Option<String>,
    /// The order.
    #[serde(default)]
    #[param(inline)]
    order: Order,
    /// The most tasks of this page, 1 to 1,000; by default 100.
    #[param(value_type = Option<u64>, minimum = 1, maximum = 1000)]
    limit: Option<Within<1, PAGE_MAX>>,
    /// Where the page begins: the cursor of the page before.
    cursor: Option<String>,
    /// With the tracebacks of errors.
    #[serde(default)]
    tracebacks: bool,
}

/// A page of tasks.
#[derive(Serialize, ToSchema)]
pub(crate) struct Page<'a> {
    tasks: Vec<TaskDocument<'a>>,
    /// Where the next page begins; null at the end of the listing.
    cursor: Option<String>,
    /// How many tasks the listing has looked at so far.
    looked: u64,
    /// How many tasks there are to look at.
    total: u64,
}

/// A page of tasks. A page may have fewer tasks than its limit, or none, before the end: the broker
/// looks at a bounded number of tasks for each page.
#[utoipa::path(
    get, path = "/api/v1/tasks", tag = "tasks", params(Listing),
    responses((status = 200, description = "A page of tasks", body = Page))
)]
pub(crate) async fn list(
    Of(shared): Of<Arc<Shared>>,
    CalledBy(caller): CalledBy,
    InQuery(listing): InQuery<Listing>,
) -> Result<Response, Problem> {
    let Listing { order, limit, cursor, tracebacks, .. } = listing;
    let Listing { queue, state, name, tag, root_id, id_prefix, older_than, newer_than, .. } =
        listing;
    let filter =
        FilterDocument { queue, state, name, tag, root_id, id_prefix, older_than, newer_than };
    let filter = filter.into_filter()?;
    let limit = limit.map_or(PAGE_DEFAULT, |Within(limit)| limit) as u32;
    let cursor = cursor.map(|cursor| read_cursor(&cursor)).transpose()?;
    let page = shared
        .callers
        .ask(&caller, async |client| match order {
            Order::Newest => client.newest_tasks(filter, limit, cursor, tracebacks).await,
            Order::Ended => client.ended_tasks(filter, limit, cursor).await,
            Order::Kept if tracebacks => client.tasks_with_tracebacks(filter, limit, cursor).await,
            Order::Kept => client.tasks(filter, limit, cursor).await,
        })
        .await?;
    let cursor = page.cursor.as_ref().map(|cursor| URL_SAFE_NO_PAD.encode(cursor));
    let tasks = page.tasks.iter().map(TaskDocument::new).collect();
    let (looked, total) = (page.looked, page.total);
    Ok(Json(Page { tasks, cursor, looked, total }).into_response())
}

fn read_cursor(text: &str) -> Result<Bytes, Problem> {
    URL_SAFE_NO_PAD
        .decode(text)
        .map(Bytes::from)
        .map_err(|_| Problem::invalid("the cursor is not one that a page has given"))
}
