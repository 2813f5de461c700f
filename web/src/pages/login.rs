//! Login and logout, where the broker asks for a token. A browser sends the token once, and gets a
//! cookie for it.

use std::sync::Arc;

use axum::extract::State as Of;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};

use super::actions::hidden;
use super::layout::{self, Tab, sentence};
use super::look::Look;
use super::{refusal, see};
use crate::asked::Asked;
use crate::problem::Problem;
use crate::router::Shared;
use crate::visitor::Visitor;

/// A form for a token is no longer than this.
const FORM_BYTES_MAX: usize = 16 * 1024;

pub(super) async fn form(Of(shared): Of<Arc<Shared>>, visitor: Visitor, uri: Uri) -> Response {
    let look = Look::once(shared, visitor);
    let mut asked = Asked::of(uri.query().unwrap_or_default());
    let next = match asked.take("next") {
        Ok(next) => safe(next),
        Err(problem) => return refusal(&look, &uri, problem),
    };
    // Who is let in already needs no login.
    match look.shared.callers.client(&look.visitor.caller).await {
        Ok(_) => see(&look.visitor.site.to(&next)),
        Err(problem) if problem.status() == StatusCode::UNAUTHORIZED => {
            page(&look, &next, None).into_response()
        }
        Err(problem) => refusal(&look, &uri, problem),
    }
}

pub(super) async fn login(
    Of(shared): Of<Arc<Shared>>,
    visitor: Visitor,
    uri: Uri,
    body: axum::body::Body,
) -> Response {
    let look = Look::once(shared, visitor);
    let read = axum::body::to_bytes(body, FORM_BYTES_MAX).await;
    let text = read.ok().and_then(|bytes| String::from_utf8(bytes.to_vec()).ok());
    let Some(text) = text else {
        let problem = Problem::malformed("the form is too long, or not text in UTF-8");
        return refusal(&look, &uri, problem);
    };
    let mut asked = Asked::of(&text);
    let next = safe(asked.take("next").ok().flatten());
    match begin(&look, asked).await {
        Ok(cookie) => {
            ([(header::SET_COOKIE, cookie)], see(&look.visitor.site.to(&next))).into_response()
        }
        Err(problem) => (problem.status(), page(&look, &next, Some(&problem))).into_response(),
    }
}

/// Asks the broker whether it knows the token, and gives the cookie for it.
async fn begin(look: &Look, mut asked: Asked) -> Result<String, Problem> {
    let token = asked.need("token")?.trim().to_owned();
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Problem::unauthenticated("a token has no spaces and no special characters"));
    }
    let caller = crate::caller::Caller { token: token.clone(), ..look.visitor.caller.clone() };
    look.shared.callers.client(&caller).await?;
    if let Some(before) = &look.visitor.session {
        look.shared.sessions.end(before);
    }
    let key = look.shared.sessions.begin(token)?;
    Ok(look.shared.sessions.cookie(&look.visitor.site, Some(&key)))
}

pub(super) async fn logout(Of(shared): Of<Arc<Shared>>, visitor: Visitor) -> Response {
    if let Some(session) = &visitor.session {
        shared.sessions.end(session);
    }
    let gone = shared.sessions.cookie(&visitor.site, None);
    ([(header::SET_COOKIE, gone)], see(&visitor.site.to("/login"))).into_response()
}

/// A page of this server to go on to.
fn safe(next: Option<String>) -> String {
    let is_safe = |next: &String| {
        next.starts_with('/')
            && !next.starts_with("//")
            && next.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
    };
    next.filter(is_safe).unwrap_or_else(|| "/".to_owned())
}

fn page(look: &Look, next: &str, problem: Option<&Problem>) -> Markup {
    layout::frame(
        look,
        "Log in",
        Tab::None,
        None,
        html! {
            h1 { "Log in" }
            p { "The broker asks for a token. It stays with this server; the browser gets a cookie that "
                "ends after eight hours, or after one hour without use." }
            @if let Some(problem) = problem { p.problem role="alert" { (sentence(problem.detail())) } }
            form.fields method="post" action=(look.visitor.site.to("/login")) {
                (hidden("next", next))
                label { "Token "
                    input name="token" type="password" autocomplete="current-password" required
                        autofocus spellcheck="false" maxlength="4096"; }
                button.main { "Log in" }
            }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_goes_on_to_pages_of_this_server_alone() {
        let next = |text: &str| safe(Some(text.to_owned()));
        assert_eq!(next("/task?id=a%2Fb"), "/task?id=a%2Fb");
        for hostile in ["//evil.example", "https://evil.example", "/\\evil", "/a\r\nb: c", "", "a"]
        {
            assert_eq!(next(hostile), "/", "{hostile}");
        }
    }
}
