//! A request of the client that the script has to name. A batch is named item by item: several
//! steps may name the tasks of one `Submit`, and one step may name the tasks of several.

use celeriac_proto::wire::client_frame::Body;
use celeriac_proto::wire::{ClientFrame, ReportOutcome, SubmitOutcome, server_frame, task_report};
use celeriac_proto::wire::{ReportReply, SubmitReply};
use prost_reflect::{DynamicMessage, Value};

use crate::bodies::{Bodies, body, compare};

/// A request that is not answered yet.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) connection: u64,
    pub(crate) id: u64,
    pub(crate) frame: ClientFrame,
    /// The kit has answered it by itself. A script may name it and does not have to.
    pub(crate) is_answered: bool,
    whole: DynamicMessage,
    /// A request that is no batch has one item.
    items: Vec<Item>,
}

#[derive(Debug)]
struct Item {
    key: Key,
    /// The message to compare. The only item of a request that is no batch has none.
    message: Option<DynamicMessage>,
    taken: bool,
    outcome: Option<Outcome>,
}

/// The field that names an item: the id of a task, or the lease of a report.
type Key = Option<Value>;

/// The answer of the broker to one item.
#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    Submit(SubmitOutcome),
    Report(ReportOutcome),
}

/// The place of an item: its request, and its number there.
pub(crate) type Place = (u64, u64, usize);

/// The name of the field with the items of a batch, and the name of the field that names an item.
fn batch(name: &str) -> Option<(&'static str, &'static str)> {
    match name {
        "submit" => Some(("tasks", "id")),
        "report" => Some(("reports", "lease")),
        _ => None,
    }
}

/// The items of a batch; `None` for any other frame.
fn items_of(frame: &DynamicMessage) -> Option<Vec<(Key, DynamicMessage)>> {
    let (name, body) = body(frame)?;
    let (field, key) = batch(&name)?;
    let list = body.get_field_by_name(field)?;
    let item = |value: &Value| {
        let message = value.as_message()?;
        Some((message.get_field_by_name(key).map(|key| key.into_owned()), message.clone()))
    };
    list.as_list()?.iter().map(item).collect()
}

impl Request {
    pub(crate) fn new(connection: u64, frame: ClientFrame, bodies: &Bodies) -> Self {
        let whole = bodies.received(&frame);
        let items = match items_of(&whole) {
            Some(items) => {
                items.into_iter().map(|(key, message)| Item::new(key, Some(message))).collect()
            }
            None => vec![Item::new(None, None)],
        };
        Self { connection, id: frame.request_id, frame, is_answered: false, whole, items }
    }

    /// Whether steps have named all its items.
    pub(crate) fn is_taken(&self) -> bool {
        self.items.iter().all(|item| item.taken)
    }

    /// Whether the whole request is such a frame.
    pub(crate) fn is_as(&self, expected: &DynamicMessage) -> bool {
        compare(expected, &self.whole).is_ok()
    }

    /// The request as text for a person.
    pub(crate) fn shown(&self) -> String {
        let left =
            self.items.iter().filter(|item| !item.taken).filter_map(|item| item.message.as_ref());
        let items: Vec<String> = left.map(ToString::to_string).collect();
        let name = body(&self.whole).map_or_else(|| "no body".to_owned(), |(name, _)| name);
        if items.is_empty() {
            self.whole.to_string()
        } else {
            format!("{name} {{ {} }}", items.join(", "))
        }
    }

    /// Marks the expected item as named by a step. The error says how the item differs.
    pub(crate) fn take(&mut self, wanted: &Wanted) -> Result<Place, String> {
        let is_same_kind = body(&self.whole).map(|(name, _)| name) == Some(wanted.kind.clone());
        if !is_same_kind {
            return Err(String::new());
        }
        let place = match &wanted.item {
            None if self.is_taken() => return Err(String::new()),
            None => {
                compare(&wanted.frame, &self.whole)?;
                0
            }
            Some((key, expected)) => {
                let found = self.items.iter().position(|item| !item.taken && item.key == *key);
                let place = found.ok_or_else(String::new)?;
                compare(
                    expected,
                    self.items[place].message.as_ref().expect("an item of a batch has a message"),
                )?;
                place
            }
        };
        self.items[place].taken = true;
        Ok((self.connection, self.id, place))
    }

    /// Accepts the reports of a start whose lease no step names.
    pub(crate) fn accept_starts(&mut self, is_named: impl Fn(u64) -> bool) {
        let Some(Body::Report(report)) = &self.frame.body else { return };
        for (item, report) in self.items.iter_mut().zip(&report.reports) {
            let is_start = matches!(report.report, Some(task_report::Report::Started(_)));
            if is_start && !item.taken && !is_named(report.lease) {
                item.taken = true;
                let state = celeriac_proto::wire::TaskState::Started.into();
                item.outcome = Some(Outcome::Report(ReportOutcome { code: 0, state }));
            }
        }
    }

    pub(crate) fn set_outcome(&mut self, place: usize, outcome: Outcome) {
        self.items[place].outcome = Some(outcome);
    }

    /// The answer, once there is an outcome for each item of the batch.
    pub(crate) fn answer(&self) -> Option<server_frame::Body> {
        let outcomes: Option<Vec<Outcome>> =
            self.items.iter().map(|item| item.outcome.clone()).collect();
        let outcomes = outcomes.filter(|outcomes| !outcomes.is_empty())?;
        let submitted: Vec<SubmitOutcome> =
            outcomes.iter().filter_map(Outcome::of_submit).collect();
        Some(match submitted.is_empty() {
            false => server_frame::Body::SubmitReply(SubmitReply { outcomes: submitted }),
            true => {
                let outcomes = outcomes.iter().filter_map(Outcome::of_report).collect();
                server_frame::Body::ReportReply(ReportReply { outcomes })
            }
        })
    }
}

impl Item {
    fn new(key: Key, message: Option<DynamicMessage>) -> Self {
        Self { key, message, taken: false, outcome: None }
    }
}

impl Outcome {
    fn of_submit(&self) -> Option<SubmitOutcome> {
        if let Self::Submit(outcome) = self { Some(outcome.clone()) } else { None }
    }

    fn of_report(&self) -> Option<ReportOutcome> {
        if let Self::Report(outcome) = self { Some(*outcome) } else { None }
    }
}

/// What one step expects: a whole frame, or one item of a batch.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    kind: String,
    frame: DynamicMessage,
    item: Option<(Key, DynamicMessage)>,
}

impl Wanted {
    /// The items that a step expects.
    pub(crate) fn of(frame: &DynamicMessage) -> Vec<Self> {
        let Some((kind, _)) = body(frame) else { return Vec::new() };
        let whole = Self { kind, frame: frame.clone(), item: None };
        match items_of(frame) {
            Some(items) if !items.is_empty() => {
                items.into_iter().map(|item| Self { item: Some(item), ..whole.clone() }).collect()
            }
            _ => vec![whole],
        }
    }

    pub(crate) fn kind(&self) -> &str {
        &self.kind
    }

    /// The lease, if the item is the report of a start.
    pub(crate) fn start_of(&self) -> Option<u64> {
        let (key, report) = self.item.as_ref()?;
        let is_start = report.has_field_by_name("started");
        if self.kind == "report" && is_start { key.as_ref()?.as_u64() } else { None }
    }
}
