//! One queue: its figures, its settings, and its lists.

use celeriac_client::{QueueInfo, State, TaskFilter, TaskPage};
use maud::{Markup, html};

use super::actions::{button, hidden, hidden_text};
use super::layout::Tab;
use super::look::{Look, Unserved, part};
use super::show::{
    bytes, count, empty, rate, span, table, task_link, tile, time_or_dash, word_of_shell,
};
use super::{Page, queues, rows};
use crate::asked::Asked;
use crate::problem::Problem;
use crate::site::with_pairs;

/// The rows of a list.
const ROWS: u32 = 25;

/// The lists of a queue: name, word, and states.
const LISTS: [(&str, &str, &[State]); 5] = [
    ("waiting", "Waiting", &[State::Queued]),
    ("running", "With workers", &[State::Leased, State::Started]),
    ("scheduled", "Scheduled", &[State::Scheduled, State::Retry]),
    ("dead", "Dead", &[State::Failure]),
    ("ended", "Just ended", &[]),
];

pub(super) async fn page(look: &Look, mut asked: Asked) -> Result<Page, Problem> {
    let name = asked.need("name")?;
    let list = asked.take("list")?.unwrap_or_else(|| "waiting".to_owned());
    asked.finish()?;
    let list = LISTS.iter().find(|(known, ..)| *known == list);
    let list = list.ok_or_else(|| Problem::invalid("the queue has no such list"))?;
    let queue = look.queue(&name).await?;
    let unserved = look.unserved(std::slice::from_ref(&*queue)).await;
    let back = with_pairs("/queue", [("name", queue.name.as_str()), ("list", list.0)]);
    let page = Page::new(Tab::Queues, format!("Queue {name}"))
        .live("figures", figures(&queue, &unserved))
        .live("actions", actions(look, &queue, &back))
        .fixed(settings(look, &queue, &back))
        .fixed(tabs(look, &queue, list.0));
    // The scheduled tasks are found by a look at all tasks.
    if list.0 == "scheduled" {
        let rows = if look.is_again() {
            html! {}
        } else {
            list_of(look, &queue, list).await?
        };
        return Ok(page.fixed(rows));
    }
    let rows = list_of(look, &queue, list).await?;
    Ok(page.live("list", rows))
}

fn figures(queue: &QueueInfo, unserved: &Unserved) -> Markup {
    let oldest = (queue.ready > 0).then(|| span(queue.oldest_ready));
    html! {
        p { (queues::state(queue, unserved)) }
        @if let Some(tasks) = unserved.get(&queue.name) { p.notice { (queues::unserved(*tasks)) } }
        dl.tiles {
            (tile("Ready", &count(queue.ready), html! {
                @if let Some(oldest) = oldest { "oldest " (oldest) }
            }))
            (tile("Scheduled", &count(queue.scheduled), html! {}))
            (tile("Leased", &count(queue.leased), html! {}))
            (tile("Dead", &count(queue.dead), html! {}))
            (tile("In", &rate(queue.submitted_per_second), html! {
                "per second, " (count(queue.submitted_total)) " in all"
            }))
            (tile("Out", &rate(queue.ended_per_second), html! {
                "per second, " (count(queue.ended_total)) " in all"
            }))
            (tile("Workers", &queue.workers.to_string(), html! {}))
            (tile("Payloads", &bytes(queue.bytes), html! {}))
        }
    }
}

fn actions(look: &Look, queue: &QueueInfo, back: &str) -> Markup {
    let of = |order, word| button(look, order, &[("queue", &queue.name)], back, word);
    html! {
        div.actions {
            @if queue.paused { (of("resume-queue", "Resume")) } @else { (of("pause", "Pause")) }
            (of("purge", "Purge…"))
            (of("delete", "Delete…"))
        }
    }
}

fn settings(look: &Look, queue: &QueueInfo, back: &str) -> Markup {
    let it = &queue.settings;
    let number = |value: Option<u64>| value.map(|it| it.to_string()).unwrap_or_default();
    let seconds = |value: Option<std::time::Duration>| match value {
        Some(it) if it.subsec_millis() == 0 => format!("{}s", it.as_secs()),
        Some(it) => format!("{}ms", it.as_millis()),
        None => String::new(),
    };
    let field = |name: &str, label: &str, value: String, hint: &str| {
        html! {
            label { (label) " " input name=(name) value=(value) placeholder=(hint)
                autocomplete="off" maxlength="40"; }
        }
    };
    html! {
        details {
            summary { "Settings" }
            form.fields method="post" action=(look.visitor.site.to("/act")) {
                (hidden("do", "set"))
                (hidden_text("queue", &queue.name))
                (hidden("back", back))
                (field("tasks_max", "Most unfinished tasks", number(it.tasks_max), "no bound"))
                (field("bytes_max", "Most bytes of payloads", number(it.bytes_max), "no bound"))
                (field("expires_in", "Tasks expire in", seconds(it.expires_in), "never"))
                (field("result_ttl", "Ended tasks are kept for", seconds(it.result_ttl),
                    "as the broker says"))
                button.main { "Save" }
            }
        }
    }
}

fn tabs(look: &Look, queue: &QueueInfo, here: &str) -> Markup {
    let site = &look.visitor.site;
    html! {
        nav.tabs aria-label="Lists of the queue" {
            @for (list, word, _) in LISTS {
                a href=(site.link("/queue", &[("name", &queue.name), ("list", list)]))
                    aria-current=[(list == here).then_some("page")] { (word) }
            }
        }
    }
}

type ListOf = (&'static str, &'static str, &'static [State]);

async fn list_of(look: &Look, queue: &QueueInfo, list: &ListOf) -> Result<Markup, Problem> {
    let (name, word, states) = *list;
    let filter = TaskFilter::new().queue(&queue.name);
    let filter = states.iter().fold(filter, |filter, state| filter.state(*state));
    let tasks = look.ask(async |client| match name {
        "ended" => client.ended_tasks(filter, ROWS, None).await,
        _ => client.tasks(filter, ROWS, None).await,
    });
    part(tasks.await, "the tasks of this queue", |page| {
        html! {
            @if page.tasks.is_empty() { (none(queue, name)) }
            @else if name == "waiting" { (line(look, &page)) }
            @else { (rows::tasks(&look.visitor.site, word, &page.tasks, false)) }
            @if page.cursor.is_some() { (more(look, queue, list)) }
        }
    })
}

/// The tasks in the order in which workers get them.
fn line(look: &Look, page: &TaskPage) -> Markup {
    let site = &look.visitor.site;
    let head = html! {
        th.n scope="col" { "Place" }
        th scope="col" { "Task" }
        th.n scope="col" { "Priority" }
        th scope="col" { "Submitted" }
        th.wide scope="col" { "Waits for" }
    };
    table(
        "Waiting",
        head,
        html! {
            @for (place, task) in page.tasks.iter().enumerate() {
                tr {
                    td.n { (place + 1) }
                    td.task { b { (rows::title(task)) } br; (task_link(site, &task.id)) }
                    td.n { (task.priority) }
                    td { (time_or_dash(task.submitted_at)) }
                    td.wide { (rows::waits_for(task.waiting_for).unwrap_or_default()) }
                }
            }
        },
    )
}

fn more(look: &Look, queue: &QueueInfo, list: &ListOf) -> Markup {
    let states: Vec<String> = list.2.iter().map(State::to_string).collect();
    let states = states.join(",");
    let pairs = match list.0 {
        "ended" => vec![("queue", queue.name.as_str()), ("order", "ended")],
        _ => vec![("queue", queue.name.as_str()), ("state", &states), ("order", "kept")],
    };
    html! { p { a href=(look.visitor.site.link("/tasks", &pairs)) { "More of these" } } }
}

fn none(queue: &QueueInfo, list: &str) -> Markup {
    let name = word_of_shell(&queue.name);
    let submit = name.map(|name| format!("celeriac submit --queue {name} songs.play"));
    match list {
        "waiting" => empty("No task waits in this queue.", submit.as_deref()),
        "running" => empty("No worker has a task of this queue.", None),
        "scheduled" => empty("No task of this queue waits for its time.", None),
        "dead" => empty("No task of this queue is dead.", None),
        _ => empty("No task of this queue is among the 10,000 that ended last.", None),
    }
}
