//! Which path leads where, and what stands before all of them.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use celeriac_client::ErrorCode;
use tokio_util::sync::CancellationToken;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{NotForContentType, Predicate, SizeAbove};
use tower_http::cors::{AllowOrigin, CorsLayer};
use tower_http::csrf::{CsrfLayer, ProtectionError};
use tower_http::timeout::TimeoutLayer;

use crate::api;
use crate::callers::Callers;
use crate::config::{Settings, WebConfig};
use crate::guard::guard;
use crate::health::LatestHealth;
use crate::metrics::Others;
use crate::openapi;
use crate::pages;
use crate::pages::done::Unsaid;
use crate::places::{AnswerRoom, Place};
use crate::problem::Problem;
use crate::query::shortened;
use crate::sessions::Sessions;
use crate::upstream::Upstream;
use crate::visitor::Visitor;

/// A request that takes longer is answered with 408. Streams and waits have times of their own.
const DEADLINE: Duration = Duration::from_secs(45);
/// Shorter answers are not compressed.
const COMPRESSED_ABOVE: u64 = 1_024;

/// The HTTP side of a broker.
pub struct Web {
    pub(crate) shared: Arc<Shared>,
    pub(crate) router: Router,
}

/// What all requests share.
pub(crate) struct Shared {
    pub settings: Settings,
    pub callers: Callers,
    pub health: LatestHealth,
    pub others: Others,
    pub bodies: Arc<api::BodyRoom>,
    pub sessions: Sessions,
    pub answers: AnswerRoom,
    pub unsaid: Unsaid,
    /// Cancelled when streams have to end.
    pub stop: CancellationToken,
}

impl Web {
    /// The HTTP side of this broker. It asks the broker for nothing before a request comes.
    ///
    /// # Errors
    /// The key of the setting that cannot be used, and why.
    pub fn new(
        config: WebConfig,
        upstream: Arc<dyn Upstream>,
    ) -> Result<Self, (&'static str, String)> {
        config.check()?;
        let cross_site = cross_site(&config)?;
        let cors = cors(&config);
        let callers = Callers::new(upstream, config.knows_callers);
        let shared = Arc::new(Shared {
            settings: Settings::new(config),
            callers,
            health: LatestHealth::default(),
            others: Others::default(),
            bodies: Arc::default(),
            answers: AnswerRoom::default(),
            sessions: Sessions::default(),
            unsaid: Unsaid::default(),
            stop: CancellationToken::new(),
        });
        let (paths, document) = openapi::paths();
        let quick = paths
            .quick
            .merge(pages::quick())
            .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, DEADLINE));
        let router = quick
            .merge(paths.slow)
            .merge(pages::slow())
            .merge(openapi::path(document))
            .fallback(no_path)
            .method_not_allowed_fallback(no_method)
            .layer(DefaultBodyLimit::disable())
            .layer(from_fn_with_state(shared.clone(), hold_answer))
            .layer(
                CompressionLayer::new().compress_when(
                    SizeAbove::new(COMPRESSED_ABOVE)
                        .and(NotForContentType::const_new("text/event-stream")),
                ),
            )
            .layer(cross_site)
            .layer(cors)
            .layer(from_fn_with_state(shared.clone(), guard))
            .with_state(shared.clone());
        Ok(Self { shared, router })
    }

    /// The handle by which some settings change while it serves.
    pub fn settings(&self) -> Settings {
        self.shared.settings.clone()
    }
}

/// The answer to what a page of another site sends.
type Rejection = fn(ProtectionError) -> Response;

/// Refuses what a page of another site sends with the browser of a user. A GET changes nothing.
fn cross_site(config: &WebConfig) -> Result<CsrfLayer<Rejection>, (&'static str, String)> {
    let mut layer = CsrfLayer::new();
    for origin in &config.origins {
        layer = layer
            .add_trusted_origin(origin)
            .map_err(|error| ("http_origins", format!("`{origin}` cannot be used: {error}")))?;
    }
    Ok(layer.with_rejection_response(refused as Rejection))
}

fn refused(_: ProtectionError) -> Response {
    let sentence = "the page of another site sent this request: its origin is none of http_origins";
    Problem::new(ErrorCode::Forbidden, sentence).into_response()
}

/// Pages of these origins may read the answers. Without an origin no page of another site may.
fn cors(config: &WebConfig) -> CorsLayer {
    let origins = config.origins.iter().filter_map(|origin| origin.parse().ok());
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods([Method::GET, Method::POST, Method::PATCH, Method::DELETE])
        .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE])
}

/// Gives an answer the room that it needs, before it is compressed.
async fn hold_answer(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let place = request.extensions().get::<Arc<Place>>().cloned();
    let (parts, body) = next.run(request).await.into_parts();
    let held = match place {
        Some(place) => shared.answers.hold(body, &place),
        None => Some(body),
    };
    match held {
        Some(body) => Response::from_parts(parts, body),
        None => {
            Problem::overloaded("too many large answers wait for their clients").into_response()
        }
    }
}

async fn no_path(
    State(shared): State<Arc<Shared>>,
    visitor: Visitor,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    if let Some(page) = pages::no_page(shared, visitor, &uri, &headers) {
        return page;
    }
    Problem::of_http(StatusCode::NOT_FOUND, format!("there is no path `{}`", shortened(uri.path())))
        .into_response()
}

async fn no_method(method: Method, uri: Uri) -> impl IntoResponse {
    let path = shortened(uri.path());
    Problem::of_http(
        StatusCode::METHOD_NOT_ALLOWED,
        format!("the path `{path}` has no method {}", shortened(method.as_str())),
    )
}
