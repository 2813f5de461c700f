//! From frames to entries: a tap sees what goes over one connection and writes it down.

use std::collections::HashMap;

use celeriac_proto::wire::client_frame::Body as Request;
use celeriac_proto::wire::server_frame::Body as Told;
use celeriac_proto::wire::{self, ClientFrame, ErrorCode, ServerFrame};

use super::History;
use super::event::{Answer, Ask, ConnectionId, Event, Mark};

/// Writes down one connection. Ends with its value, and the connection is then gone.
#[derive(Debug)]
pub struct Tap {
    history: History,
    connection: ConnectionId,
    /// Requests without an answer.
    open: HashMap<u64, Open>,
}

/// A request without an answer: the entries of its items, and whether it is one that says itself
/// which tasks it meant.
#[derive(Debug)]
struct Open {
    marks: Vec<Mark>,
    is_cancel_of_many: bool,
}

impl Tap {
    pub(super) fn new(history: History, connection: ConnectionId) -> Self {
        Self { history, connection, open: HashMap::new() }
    }

    /// The connection that this tap is at.
    pub fn connection(&self) -> ConnectionId {
        self.connection
    }

    /// To be called before the frame may reach the broker.
    pub fn sent(&mut self, frame: &ClientFrame) {
        let Some(body) = &frame.body else { return };
        let asks = asks(body);
        let is_cancel_of_many = matches!(asks[..], [Ask::CancelMany { .. }]);
        let marks = asks
            .into_iter()
            .map(|ask| self.history.record(self.connection, Event::Asked(ask)))
            .collect();
        self.open.insert(frame.request_id, Open { marks, is_cancel_of_many });
    }

    /// To be called when the frame has come.
    pub fn received(&mut self, frame: ServerFrame) {
        let Some(body) = frame.body else { return };
        if frame.request_id == 0 {
            return self.pushed(body);
        }
        let Some(Open { marks, is_cancel_of_many }) = self.open.remove(&frame.request_id) else {
            return;
        };
        if let Told::Welcome(welcome) = body {
            self.history.record(self.connection, Event::Welcomed(Box::new(welcome)));
            return;
        }
        if let Told::Error(error) = body {
            let code = error.code();
            // Nobody knows whether such a request was carried out.
            if !matches!(code, ErrorCode::DeadlineExceeded | ErrorCode::Internal) {
                for ask in marks {
                    self.history.record(self.connection, Event::Refused { ask, code });
                }
            }
            return;
        }
        let answers = match body {
            Told::CancelReply(reply) if is_cancel_of_many => {
                vec![Answer::CancelMany(reply.outcomes)]
            }
            // It is one answer, and all that was asked for was done.
            Told::Done(_) => vec![Answer::Done; marks.len()],
            body => answers(body),
        };
        for (ask, answer) in marks.into_iter().zip(answers) {
            self.history.record(self.connection, Event::Answered { ask, answer });
        }
    }

    fn pushed(&self, body: Told) {
        match body {
            Told::Deliver(deliver) => {
                for delivery in deliver.deliveries {
                    self.history.record(self.connection, Event::Delivered(Box::new(delivery)));
                }
            }
            Told::CancelSignal(signal) => {
                for lease in &signal.leases {
                    let event = Event::Signalled { lease: *lease, kind: signal.kind() };
                    self.history.record(self.connection, event);
                }
            }
            Told::Transition(wire::Transition { task: Some(task), .. }) => {
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
fn asks(body: &Request) -> Vec<Ask> {
    let reads = |ids: &[String], with_result: bool| {
        ids.iter().map(|id| Ask::Read { id: id.clone(), with_result }).collect::<Vec<_>>()
    };
    let watches = |ids: &[String], with_result: bool| {
        ids.iter().map(|id| Ask::Watch { id: id.clone(), with_result }).collect::<Vec<_>>()
    };
    match body {
        Request::Submit(submit) => {
            submit.tasks.iter().map(|task| Ask::Submit(Box::new(task.clone()))).collect()
        }
        Request::Cancel(cancel) if cancel.ids.is_empty() => {
            vec![Ask::CancelMany { root_id: cancel.root_id.clone(), tag: cancel.tag.clone() }]
        }
        Request::Cancel(cancel) => {
            let force = cancel.mode() == wire::cancel::Mode::Force;
            cancel.ids.iter().map(|id| Ask::Cancel { id: id.clone(), force }).collect()
        }
        Request::Forget(forget) => {
            forget.ids.iter().map(|id| Ask::Forget { id: id.clone() }).collect()
        }
        Request::Get(get) => reads(&get.ids, get.with_results),
        Request::Wait(wait) => reads(&wait.ids, wait.with_results),
        Request::Watch(watch) => watches(&watch.ids, watch.with_results),
        Request::Report(report) => {
            report.reports.iter().map(|report| Ask::Report(Box::new(report.clone()))).collect()
        }
        Request::PurgeQueue(purge) => vec![Ask::Purge { queue: purge.queue.clone() }],
        Request::DeleteQueue(delete) => vec![Ask::Delete { queue: delete.queue.clone() }],
        Request::PauseQueues(pause) => {
            let paused = pause.paused;
            pause.queues.iter().map(|queue| Ask::Pause { queue: queue.clone(), paused }).collect()
        }
        Request::ReplayDead(replay) => vec![Ask::Dead { ids: replay.ids.clone(), again: true }],
        Request::DiscardDead(discard) => vec![Ask::Dead { ids: discard.ids.clone(), again: false }],
        Request::ListTasks(_) | Request::ListWorkers(_) => vec![Ask::List],
        Request::ListQueues(_) => vec![Ask::Queues],
        Request::Credit(credit) => vec![Ask::Credit(credit.credit)],
        Request::Goodbye(_) => vec![Ask::Goodbye],
        _ => vec![Ask::Other],
    }
}

/// The answers to the items, in the same order.
fn answers(body: Told) -> Vec<Answer> {
    let read = |task: wire::TaskInfo| Answer::Read(Box::new(task));
    match body {
        Told::SubmitReply(reply) => reply.outcomes.into_iter().map(Answer::Submit).collect(),
        Told::ForgetReply(reply) => reply.outcomes().map(Answer::Forget).collect(),
        Told::GetReply(reply) => reply.tasks.into_iter().map(read).collect(),
        Told::WaitReply(reply) => reply.tasks.into_iter().map(read).collect(),
        Told::WatchReply(reply) => reply.tasks.into_iter().map(read).collect(),
        Told::ReportReply(reply) => reply.outcomes.into_iter().map(Answer::Report).collect(),
        Told::CancelReply(reply) => {
            reply.outcomes.iter().map(|outcome| Answer::Cancel(outcome.kind())).collect()
        }
        Told::TaskPage(page) => vec![Answer::List(page.tasks)],
        Told::WorkerList(list) => {
            vec![Answer::List(list.workers.into_iter().flat_map(|one| one.running).collect())]
        }
        Told::QueueList(list) => vec![Answer::Queues(list.queues)],
        _ => vec![Answer::Done],
    }
}
