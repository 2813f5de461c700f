//! The broker itself: its figures, its disk, its limits, and its drain.

use std::sync::Arc;

use celeriac_client::{BrokerInfo, DataUsage};
use maud::{Markup, html};

use super::Page;
use super::actions::button;
use super::layout::Tab;
use super::look::{Look, part};
use super::show::{bytes, count, dot, span, text, time};
use crate::asked::Asked;
use crate::problem::Problem;

pub(super) async fn page(look: &Look, asked: Asked) -> Result<Page, Problem> {
    asked.finish()?;
    let shown = part(look.broker().await, "the broker", |broker| all(look, &broker))?;
    Ok(Page::new(Tab::Broker, "Broker").live("broker", shown))
}

fn all(look: &Look, broker: &Arc<BrokerInfo>) -> Markup {
    html! {
        dl.facts {
            dt { "State" } dd {
                @if broker.draining { (dot("paused", "Drains: it delivers no task")) }
                @else { (dot("success", "Delivers tasks")) }
            }
            dt { "Version" } dd { (text(&broker.version)) ", protocol " (broker.protocol) }
            dt { "Started" } dd { (time(broker.started_at)) }
            @if let Some(memory) = broker.memory_bytes { dt { "Memory" } dd { (bytes(memory)) } }
            dt { "Connections" } dd { (count(broker.connections.into())) " of " (count(broker.connections_max.into())) }
            dt { "Workers" } dd {
                (broker.workers) " connected"
                @if broker.workers_lost > 0 { ", " (broker.workers_lost) " lost" }
            }
            dt { "Mailboxes" } dd { (broker.mailboxes) }
            dt { "Tasks" } dd {
                (count(broker.ready)) " ready, " (count(broker.scheduled)) " scheduled, "
                (count(broker.leased)) " leased, " (count(broker.dead)) " dead, "
                (count(broker.ended)) " ended and kept"
            }
        }
        @if let Some(data) = &broker.data { h2 { "Disk" } (disk(data)) }
        h2 { "Limits" }
        (limits(broker))
        h2 { "Drain" }
        p.dim {
            "A broker that drains delivers no task. Tasks that run go on, and new ones are taken. "
            "A restart ends it."
        }
        @if broker.draining { (button(look, "undrain", &[], "/broker", "End the drain")) }
        @else { (button(look, "drain", &[], "/broker", "Drain…")) }
    }
}

fn disk(data: &DataUsage) -> Markup {
    html! {
        dl.facts {
            dt { "State" } dd {
                @if data.disk_is_low { (dot("failure", "Low: the broker takes no new tasks")) }
                @else { (dot("success", "Enough room")) }
            }
            dt { "Left" } dd {
                (bytes(data.usable_bytes)) "; low below " (bytes(data.disk_low_bytes))
            }
            dt { "Records" } dd {
                (bytes(data.live_bytes)) " in use of " (bytes(data.log_bytes)) " written"
            }
            dt { "Files" } dd {
                (bytes(data.file_bytes)) ", of which " (bytes(data.reusable_bytes))
                " are free for new records"
            }
            dt { "Disk" } dd { (bytes(data.disk_free_bytes)) " free of " (bytes(data.disk_bytes)) }
        }
    }
}

fn limits(broker: &BrokerInfo) -> Markup {
    let it = &broker.limits;
    html! {
        dl.facts {
            dt { "Payload" } dd { (bytes(it.payload_bytes_max)) }
            dt { "Result" } dd { (bytes(it.result_bytes_max)) }
            dt { "Frame" } dd { (bytes(it.frame_bytes_max)) }
            dt { "Items of a request" } dd { (count(it.batch_items_max.into())) }
            dt { "Requests in flight" } dd { (count(it.requests_in_flight_max.into())) }
            dt { "Tasks of a worker" } dd { (count(it.credit_max.into())) }
            dt { "Heartbeat" } dd { (span(it.heartbeat)) }
            dt { "Lease" } dd { (span(it.lease)) }
            dt { "Ended tasks are kept for" } dd { (span(it.result_ttl)) }
        }
    }
}
