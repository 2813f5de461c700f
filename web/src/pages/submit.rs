//! A form to submit a task.

use std::sync::Arc;

use axum::extract::State as Of;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use celeriac_client::{Error, ErrorCode, Submission};
use maud::{Markup, html};
use serde_json::{Map, Value, value::RawValue};

use super::done::Done;
use super::layout::{self, Tab, sentence};
use super::look::Look;
use super::{Page, refusal, see};
use crate::api::Unread;
use crate::asked::Asked;
use crate::documents::{SubmissionDocument, SubmittedDocument};
use crate::problem::Problem;
use crate::router::Shared;
use crate::site::with_pairs;
use crate::visitor::Visitor;

/// A field: its name, its label, what stands there before, and whether it has several lines.
type Field = (&'static str, &'static str, &'static str, bool);

const FIELDS: [Field; 11] = [
    ("name", "Name, which is needed", "such as songs.cluster", false),
    ("args", "Arguments, a JSON array", "none: []", true),
    ("kwargs", "Named arguments, a JSON object", "none: {}", true),
    ("queue", "Queue", "the queue default", false),
    ("id", "Id", "a new UUID", false),
    ("priority", "Priority, 0 to 9", "the usual one: 4", false),
    ("countdown", "Starts in", "now", false),
    ("expires", "Expires in", "never", false),
    ("max_attempts", "Attempts at most", "as the broker says", false),
    ("time_limit", "Time limit", "none", false),
    ("tags", "Tags, with commas between them", "", false),
];

pub(super) async fn form(Of(shared): Of<Arc<Shared>>, visitor: Visitor, uri: Uri) -> Response {
    let look = Look::once(shared, visitor);
    // Who may not come in at all gets the login.
    if let Err(problem) = look.shared.callers.client(&look.visitor.caller).await {
        return refusal(&look, &uri, problem);
    }
    show(&look, &uri, &Asked::of(uri.query().unwrap_or_default()), None)
}

pub(super) async fn submit(
    Of(shared): Of<Arc<Shared>>,
    visitor: Visitor,
    uri: Uri,
    body: Unread,
) -> Response {
    let look = Look::once(shared, visitor);
    let asked = match body.form(&look.shared, &look.visitor.caller).await {
        Ok(asked) => asked,
        Err(problem) => return refusal(&look, &uri, problem),
    };
    match send(&look, asked.clone()).await {
        Ok(path) => see(&look.visitor.site.to(&path)),
        Err(problem) if problem.status() == StatusCode::UNAUTHORIZED => {
            refusal(&look, &uri, problem)
        }
        Err(problem) => show(&look, &uri, &asked, Some(&problem)),
    }
}

/// Submits the task, and gives the path of its page. The page says when the id was not new.
async fn send(look: &Look, asked: Asked) -> Result<String, Problem> {
    let submission = submission(asked)?;
    let outcomes = look.ask(async |client| client.submit_many([submission]).await).await?;
    let outcome = outcomes.into_iter().next();
    let outcome = outcome.ok_or_else(|| Problem::new(ErrorCode::Internal, "no outcome"))?;
    let submitted = outcome.map_err(|refusal| Problem::from(Error::from(refusal)))?;
    let page = with_pairs("/task", [("id", submitted.id.as_str())]);
    let outcome = SubmittedDocument::new(&submitted).outcome();
    Ok(Done::new(outcome, 0).map_or(page.clone(), |done| done.after(look, &page)))
}

/// The task that the fields describe: the same document that programs send.
fn submission(mut asked: Asked) -> Result<Submission, Problem> {
    let mut document = Map::new();
    let (args, kwargs) = (asked.take("args")?, asked.take("kwargs")?);
    for name in ["priority", "max_attempts"] {
        if let Some(number) = asked.number(name, 0..=u64::from(u32::MAX))? {
            document.insert(name.to_owned(), number.into());
        }
    }
    if let Some(tags) = asked.take("tags")? {
        let tags = tags.split(',').map(str::trim).filter(|tag| !tag.is_empty());
        document.insert("tags".to_owned(), tags.map(Value::from).collect());
    }
    for name in ["name", "queue", "id", "countdown", "expires", "time_limit"] {
        if let Some(text) = asked.take(name)? {
            document.insert(name.to_owned(), text.trim().into());
        }
    }
    asked.finish()?;
    let mut text = Value::Object(document).to_string();
    // The arguments stay as they were typed, digit by digit.
    for (name, json) in [("args", args), ("kwargs", kwargs)] {
        let Some(json) = json else { continue };
        serde_json::from_str::<&RawValue>(&json)
            .map_err(|error| Problem::invalid(format!("{name} is not JSON: {error}")))?;
        text.pop();
        let comma = if text.len() > 1 { ", " } else { "" };
        text += &format!("{comma}\"{name}\": {json}}}");
    }
    let document: SubmissionDocument =
        serde_json::from_str(&text).map_err(|error| Problem::invalid(error.to_string()))?;
    document.into_submission().map_err(Problem::invalid)
}

fn show(look: &Look, uri: &Uri, asked: &Asked, problem: Option<&Problem>) -> Response {
    let value = |name: &str| {
        asked.rest().find(|(known, _)| *known == name).map(|(_, value)| value).unwrap_or_default()
    };
    let body = html! {
        @if let Some(problem) = problem { p.problem role="alert" { (sentence(problem.detail())) } }
        form.fields method="post" action=(look.visitor.site.to("/submit")) {
            @for field in FIELDS { (input(field, value(field.0))) }
            button.main { "Submit" }
        }
    };
    let page = layout::page(look, uri, Page::new(Tab::Submit, "Submit a task").fixed(body), None);
    (problem.map_or(StatusCode::OK, Problem::status), page).into_response()
}

fn input((name, label, hint, is_long): Field, value: &str) -> Markup {
    html! {
        label { (label) " "
            @if is_long {
                textarea name=(name) rows="3" placeholder=(hint) spellcheck="false" { (value) }
            } @else {
                input name=(name) value=(value) placeholder=(hint) required[name == "name"]
                    autocomplete="off" spellcheck="false";
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_describes_the_same_task_as_a_document() {
        let form = "name=a&args=%5B12345678901234567890%5D&kwargs=&queue=q&priority=9&tags=x%2C+y";
        assert!(submission(Asked::of(form)).is_ok());
        for (form, sentence) in [
            ("name=", "missing field `name`"),
            ("name=a&args=%7B%7D", "args has to be an array"),
            ("name=a&args=%5B1", "args is not JSON"),
            ("name=a&args=%5B%5D%2C%22id%22%3A%22x%22", "args is not JSON"),
            ("name=a&priority=-1", "priority"),
            ("name=a&countdown=soon", "countdown"),
            ("name=a&other=1", "`other` means nothing here"),
        ] {
            let problem = submission(Asked::of(form)).expect_err(form);
            assert!(problem.detail().contains(sentence), "{form}: {}", problem.detail());
        }
    }
}
