//! `/metrics`: the figures of the broker and its queues, in the text of OpenMetrics. One scrape is
//! one question to the broker.
//!
//! `families` has the metrics, and `busiest` says which queues have a label of their own.

mod busiest;
mod families;

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State as Of;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use celeriac_client::{Client, Error, Stats};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use serde::Deserialize;
use utoipa::IntoParams;

pub(crate) use self::busiest::Others;
use self::families::Scrape;
use crate::caller::CalledBy;
use crate::problem::Problem;
use crate::query::InQuery;
use crate::router::Shared;

/// The most queues that a scrape may name.
const NAMED_MAX: usize = 1_000;

/// Which queues.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Which {
    /// The names of queues with commas between them, or `*` for all. Without it the busiest queues
    /// have their names, and the others stand together as `_other`.
    queue: Option<String>,
}

/// The figures of the broker and its queues, in the text of OpenMetrics.
#[utoipa::path(
    get, path = "/metrics", tag = "health", params(Which),
    responses((status = 200, description = "The figures", body = String,
               content_type = "application/openmetrics-text"))
)]
pub(crate) async fn metrics(
    Of(shared): Of<Arc<Shared>>,
    CalledBy(caller): CalledBy,
    InQuery(Which { queue }): InQuery<Which>,
) -> Result<Response, Problem> {
    let names: Option<Vec<String>> = match queue.as_deref() {
        None | Some("*") => None,
        Some(names) => Some(checked(names)?),
    };
    let ask = async |client: Client| -> Result<Stats, Error> {
        match &names {
            Some(names) => client.stats_of(names).await,
            None => client.stats().await,
        }
    };
    let config = shared.settings.now();
    let is_public = config.metrics_public && config.knows_callers && caller.is_nobody();
    let stats = match is_public {
        true => shared.callers.ask_for_everybody(ask).await?,
        false => shared.callers.ask(&caller, ask).await?,
    };
    let Stats { at, broker, queues, .. } = stats;
    let queues = match queue {
        Some(_) => queues,
        None => {
            let removed = broker.as_ref().map(|broker| &broker.removed_queues);
            shared.others.fold(&caller, queues, removed)
        }
    };
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape { at, broker, queues }));
    let mut text = String::new();
    encode(&mut text, &registry)
        .map_err(|error| Problem::new(celeriac_client::ErrorCode::Internal, error.to_string()))?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

fn checked(names: &str) -> Result<Vec<String>, Problem> {
    let names: BTreeSet<&str> = names.split(',').collect();
    if names.len() > NAMED_MAX {
        return Err(Problem::invalid(format!("a scrape names at most {NAMED_MAX} queues")));
    }
    let check = |name: &&str| {
        celeriac_proto::QueueName::check(name)
            .map(|_| (*name).to_owned())
            .map_err(|error| Problem::invalid(error.to_string()))
    };
    names.iter().map(check).collect()
}
