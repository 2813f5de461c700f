//! The dashboard. A page is a function from a request to pieces of HTML: those that stay, and those
//! that an open page gets anew when they change. Each page reads without a script.

mod actions;
mod attention;
mod broker;
mod confirm;
pub(crate) mod done;
mod layout;
mod list;
mod login;
mod look;
mod overview;
mod payload;
mod queue;
mod queues;
mod rows;
mod search;
mod show;
mod stream;
mod submit;
mod task;
mod tasks;
mod worker;
mod workers;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State as Of};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use maud::Markup;

use self::layout::Tab;
use self::look::Look;
use crate::asked::Asked;
use crate::assets;
use crate::problem::Problem;
use crate::query::shortened;
use crate::router::Shared;
use crate::visitor::Visitor;

/// A page without what stands around it.
struct Page {
    title: String,
    tab: Tab,
    pieces: Vec<Piece>,
    /// Whether an open page follows what happens.
    is_live: bool,
}

/// A piece of a page.
enum Piece {
    /// It stays as it is.
    Fixed(Markup),
    /// An open page gets it anew when it has changed. The id is unique within the page.
    Live(&'static str, Markup),
}

impl Page {
    fn new(tab: Tab, title: impl Into<String>) -> Self {
        Self { title: title.into(), tab, pieces: Vec::new(), is_live: false }
    }

    fn fixed(mut self, markup: Markup) -> Self {
        self.pieces.push(Piece::Fixed(markup));
        self
    }

    fn live(mut self, id: &'static str, markup: Markup) -> Self {
        self.pieces.push(Piece::Live(id, markup));
        self.is_live = true;
        self
    }
}

/// The paths of the pages, of what they send, and of their files.
pub(crate) fn quick() -> Router<Arc<Shared>> {
    let pages = ["/", "/queues", "/queue", "/tasks", "/dead", "/task", "/workers", "/worker"];
    let mut router = Router::new();
    for path in pages.into_iter().chain(["/broker"]) {
        router = router.route(path, get(page));
    }
    router
        .route("/tasks/{id}", get(task_of_path))
        .route("/queues/{name}", get(queue_of_path))
        .route("/submit", get(submit::form).post(submit::submit))
        .route("/search", get(search::search))
        .route("/act", post(actions::act))
        .route("/login", get(login::form).post(login::login))
        .route("/logout", post(login::logout))
        .route("/assets/{name}", get(assets::asset))
}

/// The stream of an open page.
pub(crate) fn slow() -> Router<Arc<Shared>> {
    Router::new().route("/events", get(stream::events))
}

async fn page(Of(shared): Of<Arc<Shared>>, visitor: Visitor, uri: Uri) -> Response {
    let look = Look::once(shared, visitor);
    let mut asked = Asked::of(uri.query().unwrap_or_default());
    let outcome = match done::taken(&mut asked) {
        Ok(done) => pieces(&look, uri.path(), asked).await.map(|page| (page, done)),
        Err(problem) => Err(problem),
    };
    match outcome {
        Ok((page, done)) => {
            let done = done.filter(|it| look.shared.unsaid.take(&look.visitor.caller, *it));
            layout::page(&look, &uri, page, done).into_response()
        }
        Err(problem) => refusal(&look, &uri, problem),
    }
}

/// An address in the form of the API leads to the page.
async fn task_of_path(visitor: Visitor, Path(id): Path<String>) -> Response {
    see(&visitor.site.link("/task", &[("id", &id)]))
}

async fn queue_of_path(visitor: Visitor, Path(name): Path<String>) -> Response {
    see(&visitor.site.link("/queue", &[("name", &name)]))
}

/// The page of this path.
async fn pieces(look: &Look, path: &str, asked: Asked) -> Result<Page, Problem> {
    match path {
        "/" => overview::page(look, asked).await,
        "/queues" => queues::page(look, asked).await,
        "/queue" => queue::page(look, asked).await,
        "/tasks" => tasks::page(look, asked).await,
        "/dead" => tasks::dead(look, asked).await,
        "/task" => task::page(look, asked).await,
        "/workers" => workers::page(look, asked).await,
        "/worker" => worker::page(look, asked).await,
        "/broker" => broker::page(look, asked).await,
        _ => Err(Problem::not_found(format!("there is no page `{}`", shortened(path)))),
    }
}

/// What a visitor sees in place of a page: the login where the broker asks for a token, and else
/// the sentence of the problem.
fn refusal(look: &Look, uri: &Uri, problem: Problem) -> Response {
    let site = &look.visitor.site;
    if problem.status() == StatusCode::UNAUTHORIZED {
        if let Some(session) = &look.visitor.session {
            look.shared.sessions.end(session);
        }
        let next = uri.path_and_query().map_or("/", |it| it.as_str());
        return see(&site.link("/login", &[("next", next)]));
    }
    let status = problem.status();
    (status, layout::problem(look, uri, &problem)).into_response()
}

/// Sends the browser to another page, with a GET.
fn see(target: &str) -> Response {
    (StatusCode::SEE_OTHER, [(header::LOCATION, target)]).into_response()
}

/// The page for a path that does not exist, where a browser asks for it.
pub(crate) fn no_page(
    shared: Arc<Shared>,
    visitor: Visitor,
    uri: &Uri,
    headers: &HeaderMap,
) -> Option<Response> {
    let accepts = headers.get(header::ACCEPT)?.to_str().ok()?;
    if uri.path().starts_with("/api/") || !accepts.contains("text/html") {
        return None;
    }
    let look = Look::once(shared, visitor);
    let problem = Problem::not_found(format!("there is no page `{}`", shortened(uri.path())));
    Some(refusal(&look, uri, problem))
}
