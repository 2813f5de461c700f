//! The search for an id: the task where there is one, and else all whose ids begin so.

use std::sync::Arc;

use axum::extract::State as Of;
use axum::http::Uri;
use axum::response::Response;
use celeriac_client::TaskInfo;

use super::look::Look;
use super::{refusal, see};
use crate::api::tasks::check_ids;
use crate::asked::Asked;
use crate::problem::Problem;
use crate::router::Shared;
use crate::visitor::Visitor;

pub(super) async fn search(Of(shared): Of<Arc<Shared>>, visitor: Visitor, uri: Uri) -> Response {
    let look = Look::once(shared, visitor);
    match target(&look, Asked::of(uri.query().unwrap_or_default())).await {
        Ok(target) => see(&target),
        Err(problem) => refusal(&look, &uri, problem),
    }
}

async fn target(look: &Look, mut asked: Asked) -> Result<String, Problem> {
    let id = asked.need("q")?;
    asked.finish()?;
    check_ids([&id])?;
    let found = look.ask(async |client| client.info(&[&id]).await).await?;
    let site = &look.visitor.site;
    Ok(match found.first().is_some_and(TaskInfo::is_there) {
        true => site.link("/task", &[("id", &id)]),
        false => site.link("/tasks", &[("id_prefix", id.trim())]),
    })
}
