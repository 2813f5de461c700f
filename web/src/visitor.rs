//! Who looks at a page. A program shows its token with each request; a browser shows the cookie of
//! its login. The cookie counts for pages alone: the API knows tokens, so that no page of a
//! stranger can do anything there with what the browser sends by itself.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header::{AUTHORIZATION, COOKIE};
use axum::http::request::Parts;

use crate::caller::{CalledBy, Caller, Peer};
use crate::problem::Problem;
use crate::router::Shared;
use crate::site::Site;

/// Who looks at a page, and from where.
#[derive(Debug, Clone)]
pub(crate) struct Visitor {
    pub caller: Caller,
    /// The key of the login.
    pub session: Option<String>,
    pub site: Site,
}

impl FromRequestParts<Arc<Shared>> for Visitor {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, Problem> {
        let site = parts.extensions.get::<Site>().cloned().unwrap_or_default();
        if parts.headers.contains_key(AUTHORIZATION) {
            let CalledBy(caller) = CalledBy::from_request_parts(parts, shared).await?;
            return Ok(Self { caller, session: None, site });
        }
        let cookies = parts.headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
        let mut keys = cookies.filter_map(|line| shared.sessions.key_in(line));
        let key = keys.next().map(str::to_owned);
        let token = key.as_deref().and_then(|key| shared.sessions.token(key));
        let session = key.filter(|_| token.is_some());
        let peer = parts.extensions.get::<Peer>().cloned().expect("each connection has a peer");
        let caller = Caller::new(token.unwrap_or_default(), peer);
        Ok(Self { caller, session, site })
    }
}
