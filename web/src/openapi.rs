//! The description of `/api/v1` by OpenAPI 3.1, made from the code of its paths.

use std::sync::Arc;

use axum::Router;
use axum::http::header;
use axum::routing::get;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, OpenApi, RefOr, ResponseBuilder, Schema};
use utoipa::{Modify, OpenApi as _, PartialSchema, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::{broker, dead, endings, events, queues, tasks, workers};
use crate::problem::Problem;
use crate::router::Shared;
use crate::{health, metrics};

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Celeriac",
        description = "The JSON API of a Celeriac broker.\n\n\
            Names are stable: a later version may add fields. Times are milliseconds since 1970 \
            (`..._at_ms`) and text by RFC 3339 (`..._at`). Spans are milliseconds (`..._ms`), or text \
            such as `10s`. A number above 2^53 is text.\n\n\
            An id stands percent-encoded in the path. `/api/v1/task?id=ID`, and all paths below it, \
            mean the same as `/api/v1/tasks/ID`, for proxies that decode `%2F`; so do \
            `/api/v1/queue?name=QUEUE` and `/api/v1/worker?instance=INSTANCE`.\n\n\
            Errors are `application/problem+json` with the code of the protocol.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    tags(
        (name = "tasks", description = "Submit, look, wait, cancel, forget"),
        (name = "dead", description = "Tasks that failed for good"),
        (name = "queues", description = "Look, pause, set, purge, delete"),
        (name = "workers", description = "Look, and give orders"),
        (name = "broker", description = "The broker itself"),
        (name = "health", description = "For probes"),
    ),
    modifiers(&Common),
    security((), ("token" = [])),
)]
struct Description;

/// What all paths have: the token, and errors.
struct Common;

impl Modify for Common {
    fn modify(&self, api: &mut OpenApi) {
        let components = api.components.get_or_insert_default();
        let token = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("A token of the broker"))
            .build();
        components.add_security_scheme("token", SecurityScheme::Http(token));
        components.schemas.insert(Problem::name().into_owned(), Problem::schema());
    }
}

/// The paths in two parts.
pub(crate) struct Paths {
    /// Those that end soon.
    pub quick: Router<Arc<Shared>>,
    /// Streams, waits and backups.
    pub slow: Router<Arc<Shared>>,
}

/// The paths and their description.
pub(crate) fn paths() -> (Paths, OpenApi) {
    let (quick, mut api) = OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(tasks::submit, tasks::list))
        .routes(routes!(tasks::task, endings::forget))
        .routes(routes!(endings::cancel))
        .routes(routes!(dead::replay_one))
        .routes(routes!(tasks::lookup))
        .routes(routes!(endings::cancel_many))
        .routes(routes!(dead::replay))
        .routes(routes!(dead::discard))
        .routes(routes!(queues::list))
        .routes(routes!(queues::queue, queues::set, queues::delete))
        .routes(routes!(queues::pause))
        .routes(routes!(queues::resume))
        .routes(routes!(queues::purge))
        .routes(routes!(queues::scale))
        .routes(routes!(workers::list))
        .routes(routes!(workers::worker))
        .routes(routes!(workers::quiet))
        .routes(routes!(workers::resume))
        .routes(routes!(workers::shutdown))
        .routes(routes!(broker::info))
        .routes(routes!(broker::drain))
        .routes(routes!(broker::log, broker::set_log))
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(metrics::metrics))
        .split_for_parts();
    let (slow, of_slow) = OpenApiRouter::new()
        .routes(routes!(tasks::result))
        .routes(routes!(events::task))
        .routes(routes!(events::queue))
        .routes(routes!(broker::backup))
        .split_for_parts();
    api.merge(of_slow);
    add_errors(&mut api);
    (Paths { quick, slow }, api)
}

/// Every path but those for probes may answer with a problem.
fn add_errors(api: &mut OpenApi) {
    let problem = || {
        let content = ContentBuilder::new()
            .schema(Some(RefOr::<Schema>::Ref(utoipa::openapi::Ref::from_schema_name(
                Problem::name(),
            ))))
            .build();
        ResponseBuilder::new()
            .description("The request was refused")
            .content("application/problem+json", content)
            .build()
    };
    for (path, item) in &mut api.paths.paths {
        if !path.starts_with("/api/") && path != "/metrics" {
            continue;
        }
        let operations = [&mut item.get, &mut item.post, &mut item.patch, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            for status in ["4XX", "5XX"] {
                operation.responses.responses.insert(status.to_owned(), problem().into());
            }
        }
    }
}

/// The description as it is committed and served, in JSON.
pub fn document() -> String {
    let (_, api) = paths();
    api.to_pretty_json().expect("a description is JSON") + "\n"
}

/// `/openapi.json`.
pub(crate) fn path(document: OpenApi) -> Router<Arc<Shared>> {
    let json = document.to_pretty_json().expect("a description is JSON") + "\n";
    let json: &'static str = json.leak();
    Router::new().route(
        "/openapi.json",
        get(move || async move { ([(header::CONTENT_TYPE, "application/json")], json) }),
    )
}
