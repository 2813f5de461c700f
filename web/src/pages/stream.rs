//! The stream of an open page: the pieces that have changed, once a second at most.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::State as Of;
use axum::http::Uri;
use axum::response::sse::Event;
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;

use super::look::Look;
use super::{Page, Piece, done, pieces};
use crate::api::stream_answer;
use crate::asked::Asked;
use crate::callers::StreamPermit;
use crate::live::{LOOK, Latest, Part, without_ages};
use crate::problem::Problem;
use crate::router::Shared;
use crate::visitor::Visitor;

/// `/events?of=PATH`.
pub(super) async fn events(Of(shared): Of<Arc<Shared>>, visitor: Visitor, uri: Uri) -> Response {
    match open(shared, visitor, &uri).await {
        Ok(answer) => answer,
        Err(problem) => problem.into_response(),
    }
}

async fn open(shared: Arc<Shared>, visitor: Visitor, uri: &Uri) -> Result<Response, Problem> {
    let mut asked = Asked::of(uri.query().unwrap_or_default());
    let of = done::without_done(&asked.need("of")?);
    asked.finish()?;
    let permit = shared.callers.stream(&visitor.caller).await?;
    let look = Look::again(shared.clone(), visitor, permit.looks().clone());
    let shared_parts = permit.looks().pages.at(&format!("{} {of}", look.visitor.site.base()));
    let sent = HashMap::new();
    let open = Open { look, of, shared_parts, sent, is_first: true, _permit: permit };
    // A page that cannot be shown has no stream: the browser gets the status.
    open.parts().await?;
    let stop = shared.stop.clone();
    Ok(stream_answer(unfold(open, move |open| {
        let stop = stop.clone();
        async move {
            tokio::select! {
                next = open.next() => next,
                () = stop.cancelled() => None,
            }
        }
    })))
}

struct Open {
    look: Look,
    of: String,
    /// The parts of the page, for all who have it open.
    shared_parts: Arc<Latest<Arc<[Part]>>>,
    /// The parts that the browser has.
    sent: HashMap<&'static str, String>,
    is_first: bool,
    _permit: StreamPermit,
}

impl Open {
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        loop {
            if !std::mem::replace(&mut self.is_first, false) {
                tokio::time::sleep(LOOK).await;
            }
            if !self.may_go_on() {
                return None;
            }
            // A caller who may no longer look, a broker that is gone: the browser comes again.
            let parts = self.parts().await.ok()?;
            let changed = self.changed(&parts);
            if changed.is_empty() {
                continue;
            }
            let json = serde_json::to_string(&changed).expect("texts are JSON");
            let event = Event::default().event("parts").retry(LOOK).data(json);
            return Some((Ok(event), self));
        }
    }

    /// Whether the login of the visitor goes on.
    fn may_go_on(&self) -> bool {
        let session = self.look.visitor.session.as_deref();
        session.is_none_or(|session| self.look.shared.sessions.goes_on(session))
    }

    /// The parts of the page, made once for all who have it open.
    async fn parts(&self) -> Result<Arc<[Part]>, Problem> {
        let make = async {
            let (path, query) = self.of.split_once('?').unwrap_or((&self.of, ""));
            pieces(&self.look, path, Asked::of(query)).await.map(parts_of)
        };
        self.shared_parts.at(make).await
    }

    fn changed<'a>(&mut self, parts: &'a [Part]) -> Vec<(&'static str, &'a str)> {
        let mut changed = Vec::new();
        for part in parts {
            if self.sent.get(part.id) != Some(&part.without_ages) {
                self.sent.insert(part.id, part.without_ages.clone());
                changed.push((part.id, part.html.as_str()));
            }
        }
        changed
    }
}

fn parts_of(page: Page) -> Arc<[Part]> {
    page.pieces
        .into_iter()
        .filter_map(|piece| match piece {
            Piece::Fixed(_) => None,
            Piece::Live(id, markup) => {
                let html = markup.into_string();
                Some(Part { id, without_ages: without_ages(&html), html })
            }
        })
        .collect()
}
