//! A tap: it reads the frames of one connection and writes the entries of a history.

use std::collections::HashMap;

use celeriac_proto::wire::client_frame::Body as ClientBody;
use celeriac_proto::wire::server_frame::Body as ServerBody;
use celeriac_proto::wire::task_report::Report;
use celeriac_proto::wire::{self, ClientFrame, ErrorCode, ServerFrame};

use super::History;
use super::event::{Answer, ConnectionId, Event, Position, RequestItem};

/// Writes down one connection. When it is dropped, the connection is closed.
#[derive(Debug)]
pub struct Tap {
    history: History,
    connection: ConnectionId,
    /// Requests without an answer.
    open: HashMap<u64, Open>,
}

/// A request without an answer: the positions of its items, and whether it is a cancel of many
/// tasks, whose answer lists the tasks.
#[derive(Debug)]
struct Open {
    positions: Vec<Position>,
    is_cancel_of_many: bool,
}

impl Tap {
    pub(super) fn new(history: History, connection: ConnectionId) -> Self {
        Self { history, connection, open: HashMap::new() }
    }

    /// The connection that this tap reads.
    pub fn connection(&self) -> ConnectionId {
        self.connection
    }

    /// Call this before the frame can reach the broker.
    pub fn sent(&mut self, frame: &ClientFrame) {
        let Some(body) = &frame.body else { return };
        let items = items(body);
        let is_cancel_of_many = matches!(items[..], [RequestItem::CancelMany { .. }]);
        let positions = items
            .into_iter()
            .map(|item| self.history.record(self.connection, Event::Asked(item)))
            .collect();
        self.open.insert(frame.request_id, Open { positions, is_cancel_of_many });
    }

    /// Call this when the frame has arrived.
    pub fn received(&mut self, frame: ServerFrame) {
        let Some(body) = frame.body else { return };
        if frame.request_id == 0 {
            return self.pushed(body);
        }
        let Some(Open { positions, is_cancel_of_many }) = self.open.remove(&frame.request_id)
        else {
            return;
        };
        if let ServerBody::Welcome(welcome) = body {
            self.history.record(self.connection, Event::Welcomed(Box::new(welcome)));
            return;
        }
        if let ServerBody::Error(error) = body {
            let code = error.code();
            // Such a request may or may not have been carried out.
            if !matches!(code, ErrorCode::DeadlineExceeded | ErrorCode::Internal) {
                for item in positions {
                    self.history.record(self.connection, Event::Refused { item, code });
                }
            }
            return;
        }
        let answers = match body {
            ServerBody::CancelReply(reply) if is_cancel_of_many => {
                vec![Answer::CancelMany(reply.outcomes)]
            }
            // One answer for all items: all were carried out.
            ServerBody::Done(_) => vec![Answer::Done; positions.len()],
            body => answers(body),
        };
        for (item, answer) in positions.into_iter().zip(answers) {
            self.history.record(self.connection, Event::Answered { item, answer });
        }
    }

    fn pushed(&self, body: ServerBody) {
        match body {
            ServerBody::Deliver(deliver) => {
                for delivery in deliver.deliveries {
                    self.history.record(self.connection, Event::Delivered(Box::new(delivery)));
                }
            }
            ServerBody::CancelSignal(signal) => {
                for lease in &signal.leases {
                    let event = Event::Signalled { lease: *lease, kind: signal.kind() };
                    self.history.record(self.connection, event);
                }
            }
            ServerBody::Transition(wire::Transition { task: Some(task), .. }) => {
                self.history.record(self.connection, Event::Pushed(Box::new(task)));
            }
            _ => {}
        }
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.history.record(self.connection, Event::Disconnected);
    }
}

/// The items of a request, in order.
fn items(body: &ClientBody) -> Vec<RequestItem> {
    let reads = |ids: &[String], with_result: bool| {
        ids.iter().map(|id| RequestItem::Read { id: id.clone(), with_result }).collect::<Vec<_>>()
    };
    let watches = |ids: &[String], with_result: bool| {
        ids.iter().map(|id| RequestItem::Watch { id: id.clone(), with_result }).collect::<Vec<_>>()
    };
    match body {
        ClientBody::Submit(submit) => {
            submit.tasks.iter().map(|task| RequestItem::Submit(Box::new(task.clone()))).collect()
        }
        ClientBody::Cancel(cancel) if cancel.ids.is_empty() => {
            vec![RequestItem::CancelMany {
                root_id: cancel.root_id.clone(),
                tag: cancel.tag.clone(),
            }]
        }
        ClientBody::Cancel(cancel) => {
            let force = cancel.mode() == wire::cancel::Mode::Force;
            cancel.ids.iter().map(|id| RequestItem::Cancel { id: id.clone(), force }).collect()
        }
        ClientBody::Forget(forget) => {
            forget.ids.iter().map(|id| RequestItem::Forget { id: id.clone() }).collect()
        }
        ClientBody::Get(get) => reads(&get.ids, get.with_results),
        ClientBody::Wait(wait) => reads(&wait.ids, wait.with_results),
        ClientBody::Watch(watch) => watches(&watch.ids, watch.with_results),
        ClientBody::Report(report) => report
            .reports
            .iter()
            .map(|report| RequestItem::Report(Box::new(report.clone())))
            .collect(),
        ClientBody::PutOutcome(put) => put.outcomes.iter().map(put_as_report).collect(),
        ClientBody::ChordPart(part) => vec![RequestItem::ChordPart(Box::new(part.clone()))],
        ClientBody::ChordExtend(extend) => {
            vec![RequestItem::ChordExtend(Box::new(extend.clone()))]
        }
        ClientBody::ChordDone(done) => vec![RequestItem::ChordDone(done.clone())],
        ClientBody::PurgeQueue(purge) => vec![RequestItem::Purge { queue: purge.queue.clone() }],
        ClientBody::DeleteQueue(delete) => {
            vec![RequestItem::Delete { queue: delete.queue.clone() }]
        }
        ClientBody::PauseQueues(pause) => {
            let paused = pause.paused;
            pause
                .queues
                .iter()
                .map(|queue| RequestItem::Pause { queue: queue.clone(), paused })
                .collect()
        }
        ClientBody::Drain(drain) => vec![RequestItem::Drain { draining: drain.draining }],
        ClientBody::ReplayDead(replay) => {
            vec![RequestItem::Dead { ids: replay.ids.clone(), again: true }]
        }
        ClientBody::DiscardDead(discard) => {
            vec![RequestItem::Dead { ids: discard.ids.clone(), again: false }]
        }
        ClientBody::ListTasks(_) | ClientBody::ListWorkers(_) => vec![RequestItem::List],
        ClientBody::ListQueues(_) => vec![RequestItem::Queues],
        ClientBody::Credit(credit) => vec![RequestItem::Credit(credit.credit)],
        ClientBody::Goodbye(_) => vec![RequestItem::Goodbye],
        _ => vec![RequestItem::Other],
    }
}

/// The answers to the items, in the same order.
fn answers(body: ServerBody) -> Vec<Answer> {
    let read = |task: wire::TaskInfo| Answer::Read(Box::new(task));
    match body {
        ServerBody::SubmitReply(reply) => reply.outcomes.into_iter().map(Answer::Submit).collect(),
        ServerBody::ForgetReply(reply) => reply.outcomes().map(Answer::Forget).collect(),
        ServerBody::GetReply(reply) => reply.tasks.into_iter().map(read).collect(),
        ServerBody::WaitReply(reply) => reply.tasks.into_iter().map(read).collect(),
        ServerBody::WatchReply(reply) => reply.tasks.into_iter().map(read).collect(),
        ServerBody::ReportReply(reply) => reply.outcomes.into_iter().map(Answer::Report).collect(),
        ServerBody::PutOutcomeReply(reply) => {
            reply.outcomes.iter().map(|stored| Answer::Report(stored_as_reported(stored))).collect()
        }
        ServerBody::ChordReply(reply) => vec![Answer::Chord(Box::new(reply))],
        ServerBody::CancelReply(reply) => {
            reply.outcomes.iter().map(|outcome| Answer::Cancel(outcome.kind())).collect()
        }
        ServerBody::TaskPage(page) => vec![Answer::List(page.tasks)],
        ServerBody::WorkerList(list) => {
            vec![Answer::List(list.workers.into_iter().flat_map(|one| one.running).collect())]
        }
        ServerBody::QueueList(list) => vec![Answer::Queues(list.queues)],
        _ => vec![Answer::Done],
    }
}

/// The report that has the same effect as an outcome.
fn put_as_report(outcome: &wire::TaskOutcome) -> RequestItem {
    let error = outcome.error.clone();
    let report = match &*outcome.state {
        "SUCCESS" => {
            let (result, content_type) = (outcome.body.clone(), outcome.content_type.clone());
            Report::Complete(wire::Complete { result, content_type, ..wire::Complete::default() })
        }
        "FAILURE" => Report::Fail(wire::Fail { error, r#final: true, ..wire::Fail::default() }),
        "REVOKED" => Report::Reject(wire::Reject { error }),
        state => {
            let (state, meta) = (state.to_owned(), outcome.body.clone());
            Report::Progress(wire::ProgressReport { state, meta })
        }
    };
    let (id, lease) = (outcome.id.clone(), outcome.lease);
    RequestItem::Put(Box::new(wire::TaskReport { id, lease, report: Some(report) }))
}

fn stored_as_reported(stored: &wire::StoredOutcome) -> wire::ReportOutcome {
    let code = stored.error.as_ref().map_or(0, |error| error.code);
    wire::ReportOutcome { code, state: stored.state }
}
