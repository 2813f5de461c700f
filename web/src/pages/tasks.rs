//! Lists of tasks with a filter, and actions for ticked rows and for all that match.

use celeriac_client::TaskPage;
use maud::{Markup, html};

use super::Page;
use super::actions::{TaskOrder, hidden, hidden_text};
use super::layout::Tab;
use super::list::{List, Order, pairs};
use super::look::{Look, part};
use super::rows::{self, TICKS};
use super::show::empty;
use crate::asked::Asked;
use crate::problem::Problem;
use crate::site::with_pairs;

const STATES: [&str; 8] =
    ["SCHEDULED", "QUEUED", "LEASED", "STARTED", "RETRY", "SUCCESS", "FAILURE", "REVOKED"];

/// One of the two pages of lists.
struct Kind {
    path: &'static str,
    tab: Tab,
    title: &'static str,
    orders: &'static [TaskOrder],
    /// What stands there without a task.
    none: &'static str,
    command: &'static str,
}

const TASKS: Kind = Kind {
    path: "/tasks",
    tab: Tab::Tasks,
    title: "Tasks",
    orders: &[TaskOrder::Cancel, TaskOrder::Forget, TaskOrder::Replay],
    none: "No task matches.",
    command: "celeriac submit songs.play --args '[\"Dynamite\"]'",
};

const DEAD: Kind = Kind {
    path: "/dead",
    tab: Tab::Dead,
    title: "Dead tasks",
    orders: &[TaskOrder::Replay, TaskOrder::Discard],
    none: "No task is dead. A task that fails for good stands here until it is replayed or discarded.",
    command: "celeriac dead list",
};

pub(super) async fn page(look: &Look, mut asked: Asked) -> Result<Page, Problem> {
    let list = List::take(&mut asked, Order::Newest)?;
    asked.finish()?;
    page_of(look, &TASKS, list).await
}

pub(super) async fn dead(look: &Look, mut asked: Asked) -> Result<Page, Problem> {
    asked.take_all("state");
    let mut list = List::take(&mut asked, Order::Kept)?;
    list.filter.state = Some("FAILURE".to_owned());
    asked.finish()?;
    page_of(look, &DEAD, list).await
}

async fn page_of(look: &Look, kind: &Kind, list: List) -> Result<Page, Problem> {
    let rows = part(list.page(look).await, "tasks", |page| rows_of(look, kind, &list, &page))?;
    let page = Page::new(kind.tab, kind.title)
        .fixed(form(look, kind, &list))
        .fixed(bulk(look, kind, &list));
    Ok(match list.is_quick() {
        true => page.live("rows", rows),
        false => page.fixed(rows),
    })
}

fn rows_of(look: &Look, kind: &Kind, list: &List, page: &TaskPage) -> Markup {
    html! {
        @if !page.tasks.is_empty() {
            (rows::tasks(&look.visitor.site, kind.title, &page.tasks, true))
        } @else if page.cursor.is_some() {
            (empty("Nothing so far: the list goes on.", None))
        } @else {
            (empty(kind.none, Some(kind.command)))
        }
        (list.pages(look, kind.path, page))
    }
}

/// The filter as a form whose address can be sent to others.
fn form(look: &Look, kind: &Kind, list: &List) -> Markup {
    let filter = &list.filter;
    let field = |name: &str, label: &str, value: &Option<String>, hint: &str| {
        html! {
            label { (label) " "
                input name=(name) value=(value.as_deref().unwrap_or_default()) maxlength="255"
                    placeholder=(hint) autocomplete="off" spellcheck="false"; }
        }
    };
    let chosen = filter.state.as_deref().unwrap_or_default();
    html! {
        form.filters action=(look.visitor.site.to(kind.path)) {
            (field("queue", "Queue", &filter.queue, "its whole name"))
            (field("name", "Name", &filter.name, "the whole name"))
            @if kind.tab == Tab::Tasks {
                label { "State "
                    select name="state" {
                        option value="" { "any" }
                        @for state in STATES {
                            option value=(state) selected[chosen == state] { (state) }
                        }
                        @if chosen.contains(',') {
                            option value=(chosen) selected { (chosen) }
                        }
                    }
                }
            }
            (field("tag", "Tag", &filter.tag, "the whole tag"))
            (field("id_prefix", "Id begins with", &filter.id_prefix, ""))
            (field("root_id", "Root of its tree", &filter.root_id, "the whole id"))
            (field("older_than", "Older than", &filter.older_than, "such as 2h"))
            (field("newer_than", "Newer than", &filter.newer_than, "such as 30m"))
            label { "Order "
                select name="order" {
                    @for (order, name, label) in Order::ALL {
                        option value=(name) selected[order == list.order] { (label) }
                    }
                }
            }
            button.main { "Show" }
            a.button href=(look.visitor.site.to(kind.path)) { "Clear" }
        }
    }
}

/// The actions for ticked rows, and for all tasks that match.
fn bulk(look: &Look, kind: &Kind, list: &List) -> Markup {
    let site = &look.visitor.site;
    let mut address = pairs(&list.filter);
    address.push(("order", list.order.name()));
    let back = with_pairs(kind.path, address);
    html! {
        div.bulk {
            form id=(TICKS) method="post" action=(site.to("/act")) {
                (hidden("back", &back))
                span.dim { "Ticked rows: " }
                @for order in kind.orders {
                    button name="do" value=(order.name()) { (order.word()) "…" }
                }
            }
            form method="post" action=(site.to("/act")) {
                (hidden("back", &back))
                (hidden("all", "yes"))
                @for (name, text) in pairs(&list.filter) { (hidden_text(name, text)) }
                span.dim { "All that match: " }
                @for order in kind.orders {
                    button name="do" value=(order.name()) { (order.word()) " all…" }
                }
            }
        }
    }
}
