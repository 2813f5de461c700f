//! What the buttons of the pages do. Every one of them posts a form to `/act`. What cannot be
//! undone shows a page that asks first, and only the form of that page does it.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use axum::extract::State as Of;
use axum::http::Uri;
use axum::response::{IntoResponse, Response};
use celeriac_client::{CancelMode, Client, QueueSettings, State, TaskFilter, WorkerOrder};
use maud::{Markup, html};

use super::confirm;
use super::done::{Done, without_done};
use super::list::take_filter;
use super::look::Look;
use super::{refusal, see};
use crate::api::Unread;
use crate::api::filter::FilterDocument;
use crate::api::tasks::check_ids;
use crate::asked::{Asked, for_form};
use crate::problem::Problem;
use crate::router::Shared;
use crate::time::parse_span;
use crate::visitor::Visitor;

/// The tasks of one request where the broker has none for all that match.
const AT_ONCE: u32 = 1_000;
/// How long such requests go on. After it, the page says that there may be more.
const PATIENCE: Duration = Duration::from_secs(25);

/// What to do.
#[derive(Debug, Clone)]
pub(super) enum Action {
    Queue(QueueOrder, String),
    Set(String, QueueSettings),
    Tasks(TaskOrder, Which, CancelMode),
    Worker(WorkerOrder, String),
    Drain(bool),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum QueueOrder {
    Pause,
    Resume,
    Purge,
    Delete,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TaskOrder {
    Cancel,
    Forget,
    Replay,
    Discard,
}

impl TaskOrder {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Forget => "forget",
            Self::Replay => "replay",
            Self::Discard => "discard",
        }
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Cancel => "Cancel",
            Self::Forget => "Forget",
            Self::Replay => "Replay",
            Self::Discard => "Discard",
        }
    }

    /// The states that tasks have for this order, where the filter names none.
    pub(super) fn states(self) -> &'static str {
        match self {
            Self::Cancel => "SCHEDULED,QUEUED,LEASED,STARTED,RETRY",
            Self::Forget => "SUCCESS,FAILURE,REVOKED",
            Self::Replay | Self::Discard => "FAILURE",
        }
    }
}

/// Which tasks: those of these ids, or all that match and were submitted before this time.
#[derive(Debug, Clone)]
pub(super) enum Which {
    Ids(Vec<String>),
    Matching { filter: FilterDocument, until: SystemTime },
}

/// The filter for the broker: what came after the click stays.
pub(super) fn until(filter: &FilterDocument, until: SystemTime) -> Result<TaskFilter, Problem> {
    let has_end = filter.older_than.is_some();
    let filter = filter.clone().into_filter()?;
    Ok(if has_end { filter } else { filter.submitted_before(until) })
}

/// A form with one button. The fields are texts of strangers.
pub(super) fn button(
    look: &Look,
    order: &str,
    fields: &[(&str, &str)],
    back: &str,
    word: &str,
) -> Markup {
    html! {
        form method="post" action=(look.visitor.site.to("/act")) {
            @for (name, text) in fields { (hidden_text(name, text)) }
            (hidden("back", back))
            button name="do" value=(order) { (word) }
        }
    }
}

/// A field that the visitor does not see, with a word, a number or a path of these pages.
pub(super) fn hidden(name: &str, value: &str) -> Markup {
    html! { input type="hidden" name=(name) value=(value); }
}

/// A field that the visitor does not see, with a text of a stranger.
pub(super) fn hidden_text(name: &str, text: &str) -> Markup {
    hidden(name, &for_form(text))
}

pub(super) async fn act(
    Of(shared): Of<Arc<Shared>>,
    visitor: Visitor,
    uri: Uri,
    body: Unread,
) -> Response {
    let look = Look::once(shared, visitor);
    match outcome(&look, &uri, body).await {
        Ok(response) => response,
        Err(problem) => refusal(&look, &uri, problem),
    }
}

async fn outcome(look: &Look, uri: &Uri, body: Unread) -> Result<Response, Problem> {
    let mut asked = body.form(&look.shared, &look.visitor.caller).await?;
    let back = without_done(&asked.take("back")?.unwrap_or_else(|| "/".to_owned()));
    if !back.starts_with('/') || back.starts_with("//") || !back.bytes().all(is_plain) {
        return Err(Problem::invalid("`back` is no path of this server"));
    }
    let is_sure = asked.take("sure")?.is_some();
    let action = read(&mut asked)?;
    asked.finish()?;
    if !is_sure && let Some(question) = confirm::question(look, &action).await? {
        return Ok(confirm::page(look, uri, &action, &question, &back).into_response());
    }
    let back = after(&action, back);
    let done = carry_out(look, action).await?;
    look.shared.callers.look_anew(&look.visitor.caller);
    Ok(see(&look.visitor.site.to(&done.after(look, &back))))
}

/// The page after an action: the one with its button, unless that page may be gone. A queue without
/// tasks and settings is gone, and so is a task that was dropped, or a worker that has ended.
fn after(action: &Action, back: String) -> String {
    let list = match action {
        Action::Queue(QueueOrder::Purge | QueueOrder::Delete, _) => "/queues",
        Action::Tasks(TaskOrder::Forget, ..) if back.starts_with("/task?") => "/tasks",
        Action::Tasks(TaskOrder::Discard, ..) if back.starts_with("/task?") => "/dead",
        Action::Worker(WorkerOrder::Shutdown, _) => "/workers",
        _ => return back,
    };
    list.to_owned()
}

/// A header of an answer has these characters and no others.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_graphic() && byte != b'\\'
}

fn read(asked: &mut Asked) -> Result<Action, Problem> {
    use QueueOrder::{Delete, Pause, Purge, Resume};
    use TaskOrder::{Cancel, Discard, Forget, Replay};
    let order = asked.need("do")?;
    let queue = |asked: &mut Asked, order| Ok(Action::Queue(order, need(asked, "queue")?));
    let worker = |asked: &mut Asked, order| Ok(Action::Worker(order, need(asked, "instance")?));
    match order.as_str() {
        "pause" => queue(asked, Pause),
        "resume-queue" => queue(asked, Resume),
        "purge" => queue(asked, Purge),
        "delete" => queue(asked, Delete),
        "set" => settings(asked),
        "cancel" => tasks(asked, Cancel),
        "forget" => tasks(asked, Forget),
        "replay" => tasks(asked, Replay),
        "discard" => tasks(asked, Discard),
        "quiet" => worker(asked, WorkerOrder::Quiet),
        "resume-worker" => worker(asked, WorkerOrder::Resume),
        "shutdown" => worker(asked, WorkerOrder::Shutdown),
        "drain" => Ok(Action::Drain(true)),
        "undrain" => Ok(Action::Drain(false)),
        _ => Err(Problem::invalid("`do` names no action")),
    }
}

fn settings(asked: &mut Asked) -> Result<Action, Problem> {
    let span = |asked: &mut Asked, name: &str| {
        let text = asked.take(name)?;
        let span = text.map(|text| parse_span(text.trim())).transpose();
        span.map_err(|sentence| Problem::invalid(format!("{name}: {sentence}")))
    };
    let settings = QueueSettings {
        tasks_max: asked.number("tasks_max", 0..=u64::MAX)?,
        bytes_max: asked.number("bytes_max", 0..=u64::MAX)?,
        expires_in: span(asked, "expires_in")?,
        result_ttl: span(asked, "result_ttl")?,
    };
    Ok(Action::Set(need(asked, "queue")?, settings))
}

/// A text that a form has to name.
fn need(asked: &mut Asked, name: &str) -> Result<String, Problem> {
    asked.take_text(name)?.ok_or_else(|| Problem::invalid(format!("`{name}` is missing")))
}

fn tasks(asked: &mut Asked, order: TaskOrder) -> Result<Action, Problem> {
    let mode = match asked.take("mode")?.as_deref() {
        None => CancelMode::Cooperative,
        Some("force") => CancelMode::Force { grace: None },
        Some(_) => return Err(Problem::invalid("`mode` is not `force`")),
    };
    if asked.take("all")?.is_none() {
        let ids = asked.take_texts("id")?;
        check_ids(&ids)?;
        return match ids.is_empty() {
            true => Err(Problem::invalid("no row is ticked: tick the tasks that you mean")),
            false => Ok(Action::Tasks(order, Which::Ids(ids), mode)),
        };
    }
    let mut filter = take_filter(asked, Asked::take_text)?;
    filter.state.get_or_insert_with(|| order.states().to_owned());
    // The moment of the click: the page that asks sends it back.
    let until = match asked.number("until", 0..=u64::MAX / 2)? {
        Some(ms) => SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(ms)),
        None => Some(SystemTime::now()),
    };
    let until = until.ok_or_else(|| Problem::invalid("`until` is no time"))?;
    Ok(Action::Tasks(order, Which::Matching { filter, until }, mode))
}

async fn carry_out(look: &Look, action: Action) -> Result<Done, Problem> {
    let (what, count) = match action {
        Action::Queue(order, queue) => in_queue(look, order, &queue).await?,
        Action::Set(queue, settings) => {
            celeriac_proto::QueueName::check(&queue)
                .map_err(|error| Problem::invalid(error.to_string()))?;
            look.ask(async |client| client.configure_queue(&queue, settings).await).await?;
            ("set", 0)
        }
        Action::Tasks(order, Which::Ids(ids), mode) => of_ids(look, order, &ids, mode).await?,
        Action::Tasks(order, Which::Matching { filter, until: end }, mode) => {
            of_matching(look, order, until(&filter, end)?, mode).await?
        }
        Action::Worker(order, instance) => {
            let all = look.workers().await?;
            if !all.iter().any(|worker| worker.instance_id == instance) {
                return Err(Problem::not_found("there is no such worker"));
            }
            look.ask(async |client| client.order_workers(&[&instance], order).await).await?;
            let what = match order {
                WorkerOrder::Quiet => "quiet",
                WorkerOrder::Resume => "active",
                _ => "shutdown",
            };
            (what, 0)
        }
        Action::Drain(draining) => {
            look.ask(async |client| client.drain(draining).await).await?;
            (if draining { "draining" } else { "delivering" }, 0)
        }
    };
    Ok(Done::new(what, count).expect("each action has its sentence"))
}

async fn in_queue(
    look: &Look,
    order: QueueOrder,
    queue: &str,
) -> Result<(&'static str, u64), Problem> {
    look.queue(queue).await?;
    look.ask(async |client| match order {
        QueueOrder::Pause => client.pause_queues(&[queue]).await.map(|()| ("paused", 0)),
        QueueOrder::Resume => client.resume_queues(&[queue]).await.map(|()| ("resumed", 0)),
        QueueOrder::Purge => client.purge_queue(queue).await.map(|count| ("purged", count)),
        QueueOrder::Delete => client.delete_queue(queue).await.map(|count| ("deleted", count)),
    })
    .await
}

async fn of_ids(
    look: &Look,
    order: TaskOrder,
    ids: &[String],
    mode: CancelMode,
) -> Result<(&'static str, u64), Problem> {
    look.ask(async |client| match order {
        TaskOrder::Cancel => cancel(&client, ids, mode).await.map(|count| ("cancelled", count)),
        TaskOrder::Forget => forget(&client, ids).await.map(|count| ("forgotten", count)),
        TaskOrder::Replay => client.replay_dead(ids).await.map(|count| ("replayed", count)),
        TaskOrder::Discard => client.discard_dead(ids).await.map(|count| ("discarded", count)),
    })
    .await
}

type Counted = Result<u64, celeriac_client::Error>;

async fn cancel(client: &Client, ids: &[String], mode: CancelMode) -> Counted {
    use celeriac_client::CancelOutcome::{Revoked, Signalled};
    let outcomes = client.cancel(ids, mode).await?;
    let changed = outcomes.iter().filter(|it| matches!(it.outcome, Revoked | Signalled));
    Ok(changed.count() as u64)
}

async fn forget(client: &Client, ids: &[String]) -> Counted {
    Ok(client.forget(ids).await?.iter().filter(|outcome| outcome.is_ok()).count() as u64)
}

async fn of_matching(
    look: &Look,
    order: TaskOrder,
    filter: TaskFilter,
    mode: CancelMode,
) -> Result<(&'static str, u64), Problem> {
    match order {
        TaskOrder::Replay => {
            let ask = look.ask(async |client| client.replay_dead_matching(filter).await);
            Ok(("replayed", ask.await?))
        }
        TaskOrder::Discard => {
            let ask = look.ask(async |client| client.discard_dead_matching(filter).await);
            Ok(("discarded", ask.await?))
        }
        TaskOrder::Cancel | TaskOrder::Forget => one_by_one(look, order, &filter, mode).await,
    }
}

/// The broker cancels and forgets by id alone, so the tasks are looked up page by page.
async fn one_by_one(
    look: &Look,
    order: TaskOrder,
    filter: &TaskFilter,
    mode: CancelMode,
) -> Result<(&'static str, u64), Problem> {
    let (start, mut cursor, mut count) = (Instant::now(), None, 0);
    let (all, some) = match order {
        TaskOrder::Cancel => ("cancelled", "cancelled-some"),
        _ => ("forgotten", "forgotten-some"),
    };
    loop {
        let filter = filter.clone();
        let page = look.ask(async |client| client.tasks(filter, AT_ONCE, cursor).await).await?;
        let of_order = |state: State| (order == TaskOrder::Forget) == state.is_ended();
        let tasks = page.tasks.into_iter().filter(|task| of_order(task.state));
        let ids: Vec<String> = tasks.map(|task| task.id).collect();
        if !ids.is_empty() {
            count += of_ids(look, order, &ids, mode).await?.1;
        }
        cursor = page.cursor;
        match &cursor {
            None => return Ok((all, count)),
            Some(_) if start.elapsed() > PATIENCE => return Ok((some, count)),
            Some(_) => {}
        }
    }
}
