//! Which tasks a list shows: the filter, the order and the page of an address.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use celeriac_client::{State, TaskPage};
use maud::{Markup, html};

use super::look::Look;
use super::show::count;
use crate::api::filter::FilterDocument;
use crate::asked::Asked;
use crate::problem::Problem;
use crate::site::with_pairs;

/// The rows of a page, where the address names no other number.
const ROWS: u64 = 50;
const ROWS_MAX: u64 = 200;

/// The order of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Newest,
    Ended,
    Kept,
}

impl Order {
    pub(super) const ALL: [(Self, &'static str, &'static str); 3] = [
        (Self::Newest, "newest", "Newest first"),
        (Self::Ended, "ended", "Latest ended first (of the last 10,000)"),
        (Self::Kept, "kept", "As the broker keeps them"),
    ];

    pub(super) fn name(self) -> &'static str {
        Self::ALL.iter().find(|(order, ..)| *order == self).map_or("", |(_, name, _)| name)
    }
}

/// The part of a listing that an address names.
#[derive(Debug, Clone)]
pub(super) struct List {
    pub filter: FilterDocument,
    pub order: Order,
    rows: u64,
    cursor: Option<String>,
}

/// How a field is taken: from a query as it is, from a form as a page has encoded it.
type Take = fn(&mut Asked, &str) -> Result<Option<String>, Problem>;

/// Takes a filter from a query or a form.
pub(super) fn take_filter(asked: &mut Asked, take: Take) -> Result<FilterDocument, Problem> {
    let states = asked.take_all("state");
    Ok(FilterDocument {
        queue: take(asked, "queue")?,
        state: (!states.is_empty()).then(|| states.join(",")),
        name: take(asked, "name")?,
        tag: take(asked, "tag")?,
        root_id: take(asked, "root_id")?,
        id_prefix: take(asked, "id_prefix")?,
        older_than: take(asked, "older_than")?,
        newer_than: take(asked, "newer_than")?,
    })
}

/// The fields of a filter that are there.
pub(super) fn pairs(filter: &FilterDocument) -> Vec<(&'static str, &str)> {
    let fields = [
        ("queue", &filter.queue),
        ("state", &filter.state),
        ("name", &filter.name),
        ("tag", &filter.tag),
        ("root_id", &filter.root_id),
        ("id_prefix", &filter.id_prefix),
        ("older_than", &filter.older_than),
        ("newer_than", &filter.newer_than),
    ];
    fields.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?))).collect()
}

impl List {
    pub(super) fn take(asked: &mut Asked, order: Order) -> Result<Self, Problem> {
        let filter = take_filter(asked, Asked::take)?;
        let order = match asked.take("order")? {
            None => order,
            Some(name) => Order::ALL
                .iter()
                .find(|(_, known, _)| *known == name)
                .map(|(order, ..)| *order)
                .ok_or_else(|| Problem::invalid("order is none of newest, ended, kept"))?,
        };
        let rows = asked.number("limit", 1..=ROWS_MAX)?.unwrap_or(ROWS);
        Ok(Self { filter, order, rows, cursor: asked.take("cursor")? })
    }

    /// Whether the broker finds these tasks without a look at others, so that an open page may ask
    /// every second.
    pub(super) fn is_quick(&self) -> bool {
        if self.cursor.is_some() {
            return false;
        }
        let mut rest = self.filter.clone();
        let states = rest.state.take();
        match self.order {
            Order::Newest => states.is_none() && rest.is_empty(),
            Order::Ended => true,
            Order::Kept => {
                rest.queue = None;
                states.is_some_and(|it| it == State::Failure.to_string()) && rest.is_empty()
            }
        }
    }

    pub(super) async fn page(&self, look: &Look) -> Result<TaskPage, Problem> {
        let filter = self.filter.clone().into_filter()?;
        let cursor = self.cursor.as_deref().map(|text| URL_SAFE_NO_PAD.decode(text));
        let cursor = cursor.transpose().map(|bytes| bytes.map(Bytes::from));
        let cursor = cursor.map_err(|_| Problem::invalid("the cursor is none of these pages"))?;
        let (rows, order) = (self.rows as u32, self.order);
        look.ask(async |client| match order {
            Order::Newest => client.newest_tasks(filter, rows, cursor, false).await,
            Order::Ended => client.ended_tasks(filter, rows, cursor).await,
            Order::Kept => client.tasks(filter, rows, cursor).await,
        })
        .await
    }

    /// The path of this list with this cursor.
    fn path(&self, path: &str, cursor: Option<&str>) -> String {
        let rows = self.rows.to_string();
        let mut pairs = pairs(&self.filter);
        pairs.push(("order", self.order.name()));
        if self.rows != ROWS {
            pairs.push(("limit", &rows));
        }
        pairs.extend(cursor.map(|cursor| ("cursor", cursor)));
        with_pairs(path, pairs)
    }

    /// How far the listing looked, and the ways to its other pages.
    pub(super) fn pages(&self, look: &Look, path: &str, page: &TaskPage) -> Markup {
        let site = &look.visitor.site;
        let next = page.cursor.as_ref().map(|cursor| URL_SAFE_NO_PAD.encode(cursor));
        html! {
            p.pages {
                @if self.cursor.is_some() {
                    a href=(site.to(&self.path(path, None))) { "First page" }
                }
                @if let Some(next) = &next {
                    a href=(site.to(&self.path(path, Some(next)))) { "Next page" }
                }
                @if page.total > 0 {
                    span.dim {
                        "Looked at " (count(page.looked)) " of " (count(page.total)) " tasks."
                        @if next.is_none() { " This is the end of the list." }
                        @else { " The list goes on." }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o42_an_open_page_follows_lists_that_need_no_look_at_other_tasks() {
        let is_quick = |query: &str| {
            let list = List::take(&mut Asked::of(query), Order::Newest);
            list.expect("the query is good").is_quick()
        };
        for query in ["", "order=ended&state=FAILURE&queue=q", "order=kept&state=FAILURE&queue=q"] {
            assert!(is_quick(query), "{query}");
        }
        // The broker finds these by a look at all tasks, or at those before a cursor.
        for query in [
            "queue=q",
            "state=QUEUED",
            "order=kept",
            "order=kept&state=FAILURE&name=n",
            "order=kept&state=FAILURE,REVOKED",
            "cursor=AA",
        ] {
            assert!(!is_quick(query), "{query}");
        }
    }
}
