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
pub(crate) struct LatestHealth(Mutex<Option<(Instant, Health)>>);

impl LatestHealth {
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
        (status = 200, description = "The process is alive", body = String,
         content_type = "text/plain"),
        (status = 503, description = "No request comes through", body = String,
         content_type = "text/plain"),
    )
)]
pub(crate) async fn healthz(State(shared): State<Arc<Shared>>) -> Response {
    let health = shared.health.look(shared.callers.upstream()).await;
    let (status, words) = match health {
        Health::Restoring { records } => {
            (StatusCode::OK, format!("reads its data folder: {records} records so far"))
        }
        Health::Serves { .. } => (StatusCode::OK, "serves".to_owned()),
        Health::Ends => (StatusCode::OK, "shuts down".to_owned()),
        // A restart of this process would not bring the broker back.
        Health::Away => (StatusCode::OK, "serves, and the broker does not answer".to_owned()),
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
    let health = shared.health.look(shared.callers.upstream()).await;
    let (status, words) = match health {
        Health::Serves { draining: true, .. } => (StatusCode::SERVICE_UNAVAILABLE, "drains"),
        Health::Serves { disk_is_low: true, .. } => {
            (StatusCode::OK, "ready, but its disk is low: it takes no new tasks")
        }
        Health::Serves { .. } => (StatusCode::OK, "ready"),
        Health::Restoring { .. } => (StatusCode::SERVICE_UNAVAILABLE, "reads its data folder"),
        Health::Ends => (StatusCode::SERVICE_UNAVAILABLE, "shuts down"),
        Health::Silent => (StatusCode::SERVICE_UNAVAILABLE, "no request came through"),
        Health::Away => (StatusCode::SERVICE_UNAVAILABLE, "the broker does not answer"),
    };
    text(status, words)
}

fn text(status: StatusCode, words: &str) -> Response {
    let headers =
        [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-store")];
    (status, headers, format!("{words}\n")).into_response()
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::pin::Pin;
    use std::sync::Mutex;

    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use celeriac_client::{Client, ClientBuilder};
    use tower::ServiceExt;

    use super::*;
    use crate::caller::{Caller, Peer};
    use crate::config::WebConfig;
    use crate::router::Web;

    /// A broker that is as it is told.
    struct Told(Mutex<Health>);

    impl Upstream for Told {
        fn client(&self, _: &Caller) -> ClientBuilder {
            Client::builder("celeriac://127.0.0.1:1")
        }

        fn client_for_metrics(&self) -> Option<ClientBuilder> {
            None
        }

        fn health(&self) -> Pin<Box<dyn Future<Output = Health> + Send + '_>> {
            let health = *self.0.lock().expect("no panic");
            Box::pin(async move {
                match health {
                    // It does not answer, and the look ends by itself.
                    Health::Silent => std::future::pending().await,
                    health => health,
                }
            })
        }
    }

    async fn probe(health: Health, path: &str) -> (u16, String) {
        let told = Arc::new(Told(Mutex::new(health)));
        let config = WebConfig { knows_callers: true, ..WebConfig::default() };
        let web = Web::new(config, told).expect("the settings are good");
        let mut request = Request::get(path).body(Body::empty()).expect("a request");
        let address = IpAddr::from([10, 0, 0, 1]);
        request.extensions_mut().insert(Peer { address, certificate: None, encrypted: false });
        let answer = web.router.oneshot(request).await.expect("it answers");
        let status = answer.status().as_u16();
        let body = to_bytes(answer.into_body(), 1_000).await.expect("a short text");
        (status, String::from_utf8(body.into()).expect("text"))
    }

    #[tokio::test(start_paused = true)]
    async fn o25_a_probe_tells_a_broker_that_reads_its_folder_from_one_that_serves() {
        let serves = |draining, disk_is_low| Health::Serves { draining, disk_is_low };
        for (health, healthz, readyz, words) in [
            (Health::Restoring { records: 7 }, 200, 503, "reads its data folder"),
            (serves(false, false), 200, 200, "ready"),
            (serves(true, false), 200, 503, "drains"),
            (serves(false, true), 200, 200, "its disk is low"),
            (Health::Ends, 200, 503, "shuts down"),
            (Health::Silent, 503, 503, "no request came through"),
            (Health::Away, 200, 503, "the broker does not answer"),
        ] {
            let (status, _) = probe(health, "/healthz").await;
            assert_eq!(status, healthz, "{health:?}");
            let (status, text) = probe(health, "/readyz").await;
            assert_eq!(status, readyz, "{health:?}");
            assert!(text.contains(words), "{text}");
        }
        let (_, text) = probe(Health::Restoring { records: 7 }, "/healthz").await;
        assert!(text.contains("7 records"), "{text}");
    }
}
