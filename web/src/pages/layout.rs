//! What stands around each page: the head, the navigation, the search, the switches.

use axum::http::Uri;
use maud::{DOCTYPE, Markup, html};

use super::done::Done;
use super::look::Look;
use super::show::text;
use super::{Page, Piece};
use crate::assets;
use crate::problem::Problem;

/// The entries of the navigation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tab {
    Overview,
    Queues,
    Tasks,
    Dead,
    Workers,
    Broker,
    Submit,
    None,
}

const TABS: [(Tab, &str, &str); 7] = [
    (Tab::Overview, "/", "Overview"),
    (Tab::Queues, "/queues", "Queues"),
    (Tab::Tasks, "/tasks", "Tasks"),
    (Tab::Dead, "/dead", "Dead"),
    (Tab::Workers, "/workers", "Workers"),
    (Tab::Broker, "/broker", "Broker"),
    (Tab::Submit, "/submit", "Submit"),
];

/// A whole page.
pub(super) fn page(look: &Look, uri: &Uri, page: Page, done: Option<Done>) -> Markup {
    let here = uri.path_and_query().map_or("/", |it| it.as_str());
    let events = page.is_live.then(|| look.visitor.site.link("/events", &[("of", here)]));
    frame(
        look,
        &page.title,
        page.tab,
        events.as_deref(),
        html! {
            h1 { (text(&page.title)) }
            div #done role="status" { @if let Some(done) = done { p.done { (done.sentence()) } } }
            @for piece in &page.pieces {
                @match piece {
                    Piece::Fixed(markup) => (markup),
                    Piece::Live(id, markup) => div id=(id) data-live="" { (markup) },
                }
            }
        },
    )
}

/// The page of a problem.
pub(super) fn problem(look: &Look, uri: &Uri, problem: &Problem) -> Markup {
    let status = problem.status();
    let title = match status.as_u16() {
        404 => "Not found",
        403 => "Not allowed",
        502..=504 => "The broker does not answer",
        400..500 => "This cannot be done",
        _ => "Something went wrong",
    };
    let here = look.visitor.site.to(uri.path_and_query().map_or("/", |it| it.as_str()));
    frame(
        look,
        title,
        Tab::None,
        None,
        html! {
            h1 { (title) }
            p.problem role="alert" { (sentence(problem.detail())) }
            @if status.is_server_error() { p { a.button href=(here) { "Try again" } } }
            p.dim { (status.as_u16()) " " (status.canonical_reason().unwrap_or_default()) }
        },
    )
}

/// A sentence with a large letter at its beginning and a full stop at its end.
pub(super) fn sentence(detail: &str) -> String {
    let detail = text(detail);
    let mut letters = detail.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    let end = if detail.ends_with(['.', '!', '?']) { "" } else { "." };
    format!("{first}{}{end}", letters.as_str())
}

/// A page with its head and navigation.
pub(super) fn frame(
    look: &Look,
    title: &str,
    tab: Tab,
    events: Option<&str>,
    body: Markup,
) -> Markup {
    let site = &look.visitor.site;
    let [style, script, icon] = assets::all();
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (text(title)) " · Celeriac" }
                link rel="icon" type="image/svg+xml" href=(site.to(&icon.path));
                link rel="stylesheet" href=(site.to(&style.path));
                script src=(site.to(&script.path)) {}
            }
            body data-events=[events] {
                a.skip href="#main" { "Skip to the content" }
                (header(look, tab))
                main #main tabindex="-1" { (body) }
            }
        }
    }
}

fn header(look: &Look, here: Tab) -> Markup {
    let site = &look.visitor.site;
    html! {
        header {
            a.brand href=(site.to("/")) {
                img src=(site.to(&assets::all()[2].path)) alt="" width="22" height="22";
                "Celeriac"
            }
            nav aria-label="Pages" {
                @for (tab, path, name) in TABS {
                    a href=(site.to(path)) aria-current=[(tab == here).then_some("page")] { (name) }
                }
            }
            form.search role="search" action=(site.to("/search")) {
                label.hidden for="q" { "Find a task by its id" }
                input #q name="q" type="search" placeholder="Task id" autocomplete="off"
                    spellcheck="false" maxlength="255" required;
                button { "Find" }
            }
            div.tools {
                button #live type="button" aria-pressed="true" hidden { "Live" }
                button #theme type="button" hidden { "Theme: auto" }
                @if look.visitor.session.is_some() {
                    form method="post" action=(site.to("/logout")) { button { "Log out" } }
                }
            }
        }
    }
}
