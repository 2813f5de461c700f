//! `/healthz` and `/readyz`, for probes. They need no token and tell no data.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::sync::Mutex;

use crate::router::Shared;
use crate::upstream::{Health, Upstream};

/// The broker is silent if no request comes through within this time.
const PATIENCE: Duration = Duration::from_secs(5);
/// Probes within this time share one look at the broker, so that a flood of them costs it nothing.
const FRESH: Duration = Duration::from_millis(250);

/// The latest look at the broker.
#[derive(Debug, Default)]
pub(crate) struct Looks(Mutex<Option<(Instant, Health)>>);

impl Looks {
    async fn look(&self, upstream: &dyn Upstream) -> Health {
        let mut latest = self.0.lock().await;
        if let Some((at, health)) = *latest
            && at.elapsed() < FRESH
        {
            return health;
        }
        let health = tokio::time::timeout(PATIENCE, upstream.health()).await;
        let health = health.unwrap_or(Health::Silent);
        *latest = Some((Instant::now(), health));
        health
    }
}

/// Whether the process is to be left alone: 200, or 503 if it has to be started anew.
#[utoipa::path(
    get, path = "/healthz", tag = "health", security(()),
    responses(
        (status = 200, description = "The broker serves, or reads its data folder", body = String,
         content_type = "text/plain"),
        (status = 503, description = "No request comes through", body = String,
         content_type = "text/plain"),
    )
)]
pub(crate) async fn healthz(State(shared): State<Arc<Shared>>) -> Response {
    let health = shared.looks.look(shared.callers.upstream()).await;
    let (status, words) = match health {
        Health::Restoring { records } => {
            (StatusCode::OK, format!("reads its data folder: {records} records so far"))
        }
        Health::Serves { .. } => (StatusCode::OK, "serves".to_owned()),
        Health::Ends => (StatusCode::OK, "shuts down".to_owned()),
        Health::Silent => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("no request came through within {} s", PATIENCE.as_secs()),
        ),
    };
    text(status, &words)
}

/// Whether clients should come here: 200, or 503 and the reason.
#[utoipa::path(
    get, path = "/readyz", tag = "health", security(()),
    responses(
        (status = 200, description = "The broker takes and delivers tasks", body = String,
         content_type = "text/plain"),
        (status = 503, description = "The reason why not", body = String,
         content_type = "text/plain"),
    )
)]
pub(crate) async fn readyz(State(shared): State<Arc<Shared>>) -> Response {
    let health = shared.looks.look(shared.callers.upstream()).await;
    let (status, words) = match health {
        Health::Serves { draining: true, .. } => (StatusCode::SERVICE_UNAVAILABLE, "drains"),
        Health::Serves { disk_is_low: true, .. } => {
            (StatusCode::OK, "ready, but its disk is low: it takes no new tasks")
        }
        Health::Serves { .. } => (StatusCode::OK, "ready"),
        Health::Restoring { .. } => (StatusCode::SERVICE_UNAVAILABLE, "reads its data folder"),
        Health::Ends => (StatusCode::SERVICE_UNAVAILABLE, "shuts down"),
        Health::Silent => (StatusCode::SERVICE_UNAVAILABLE, "no request came through"),
    };
    text(status, words)
}

fn text(status: StatusCode, words: &str) -> Response {
    let headers =
        [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-store")];
    (status, headers, format!("{words}\n")).into_response()
}
