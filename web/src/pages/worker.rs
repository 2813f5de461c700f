//! One worker: what it can run, what it runs, and orders.

use celeriac_client::WorkerStatus;
use maud::{Markup, html};

use super::actions::button;
use super::layout::Tab;
use super::look::Look;
use super::show::{bytes, text, time};
use super::{Page, workers};
use crate::asked::Asked;
use crate::problem::Problem;
use crate::query::shortened;
use crate::site::with_pairs;

pub(super) async fn page(look: &Look, mut asked: Asked) -> Result<Page, Problem> {
    let instance = asked.need("instance")?;
    asked.finish()?;
    let all = look.workers().await?;
    let worker = all.iter().find(|worker| worker.instance_id == instance).ok_or_else(|| {
        let instance = shortened(&instance);
        Problem::not_found(format!("there is no worker {instance}: it has ended, or never was"))
    })?;
    Ok(Page::new(Tab::Workers, format!("Worker {instance}"))
        .live("worker", facts(look, worker))
        .live("running", workers::running(&look.visitor.site, worker)))
}

fn facts(look: &Look, worker: &WorkerStatus) -> Markup {
    let site = &look.visitor.site;
    let back = with_pairs("/worker", [("instance", worker.instance_id.as_str())]);
    let of = |order, word| button(look, order, &[("instance", &worker.instance_id)], &back, word);
    html! {
        p.ident { code.copy { (text(&worker.instance_id)) } }
        dl.facts {
            dt { "State" } dd { (workers::state(worker)) }
            dt { "Host" } dd { (text(&worker.hostname)) ", process " (worker.pid) }
            dt { "Runs" } dd {
                (workers::held(worker)) " of " (worker.concurrency) " at once; it asks for "
                (worker.credit) " tasks"
            }
            dt { "Memory" } dd { (bytes(worker.memory_bytes)) }
            dt { "Connected" } dd { (time(worker.connected_at)) }
            dt { "Seen" } dd { (time(worker.seen_at)) }
            dt { "Queues" } dd.tags { @for queue in &worker.queues {
                a href=(site.link("/queue", &[("name", queue)])) { (text(queue)) } " "
            } }
            dt { "Names" } dd.tags { @for name in &worker.task_names { code { (text(name)) } " " } }
        }
        div.actions {
            @if worker.quiet { (of("resume-worker", "Take tasks again")) }
            @else { (of("quiet", "Quiet: take no more tasks")) }
            (of("shutdown", "Shut down…"))
        }
    }
}
