//! A history sorted by task, by lease, by connection and by session, with what the order of the
//! entries says about the time at which each lease was given. The rules judge it.

mod build;

use std::collections::BTreeMap;

use celeriac_proto::wire::{self, ErrorCode, TaskState, cancel_outcome, task_report};

use super::Promises;
use super::clocks::Clocks;
use super::event::{ConnectionId, Position};

/// An index of a whole history.
pub(super) struct Index<'h> {
    pub(super) promises: &'h Promises,
    pub(super) clocks: Clocks,
    pub(super) tasks: BTreeMap<&'h str, Task<'h>>,
    pub(super) leases: BTreeMap<u64, Lease<'h>>,
    pub(super) connections: BTreeMap<ConnectionId, Connection<'h>>,
    pub(super) sessions: BTreeMap<&'h str, Session>,
    /// The requests about each chord, in the order in which they were sent.
    pub(super) chords: BTreeMap<&'h str, Vec<ChordRequest<'h>>>,
    /// Each request to purge or delete a queue.
    pub(super) purges: Vec<QueueOperation<'h>>,
    /// Each request to pause a queue, and each answer that shows a paused queue.
    pub(super) pauses: Vec<QueueOperation<'h>>,
    /// Each request to resume a queue.
    pub(super) resumes: Vec<QueueOperation<'h>>,
    /// Each request to drain the broker, and each one to end a drain. They concern every queue.
    pub(super) drains: Vec<QueueOperation<'h>>,
    pub(super) ends_of_drains: Vec<QueueOperation<'h>>,
    /// The position of each cancel of many tasks. It takes effect after this position.
    pub(super) cancels_of_many: Vec<Position>,
    /// Each request to replay (true) or discard (false) dead tasks by a filter.
    dead_of_many: Vec<(Position, bool)>,
    /// Each end of the broker process. Requests that it had not answered by then take no effect
    /// later.
    pub(super) downs: Vec<Position>,
    pub(super) in_order: Vec<&'h str>,
    pub(super) settled: Option<Position>,
}

/// All requests, deliveries and answers about one id.
#[derive(Default)]
pub(super) struct Task<'h> {
    pub(super) submits: Vec<Submit<'h>>,
    pub(super) cancels: Vec<IdRequest<cancel_outcome::Kind>>,
    pub(super) forgets: Vec<IdRequest<ErrorCode>>,
    /// Each request to replay it as a dead task. It takes effect after this position.
    pub(super) replays: Vec<Position>,
    pub(super) reports: Vec<Reported<'h>>,
    /// In rising order.
    pub(super) leases: Vec<u64>,
    pub(super) seen: Vec<Seen<'h>>,
}

/// A submit of this id, or of another one beside whose task the task of this id runs. Submits whose
/// whole request was refused are left out: they did nothing.
#[derive(Clone, Copy)]
pub(super) struct Submit<'h> {
    pub(super) asked: Position,
    pub(super) answered: Option<(Position, &'h wire::SubmitOutcome)>,
    pub(super) connection: ConnectionId,
    pub(super) task: &'h wire::Task,
}

/// A request about a chord.
pub(super) struct ChordRequest<'h> {
    pub(super) asked: Position,
    /// The answer to a `ChordDone` has no reply.
    pub(super) answered: Option<(Position, Option<&'h wire::ChordReply>)>,
    pub(super) connection: ConnectionId,
    pub(super) ask: ChordAsk<'h>,
}

/// What a request about a chord asks for.
pub(super) enum ChordAsk<'h> {
    Part(&'h wire::ChordPart),
    Extend(&'h wire::ChordExtend),
    Done(&'h wire::ChordDone),
}

/// A request about one id, and its answer.
pub(super) struct IdRequest<Outcome> {
    pub(super) asked: Position,
    pub(super) answered: Option<(Position, Outcome)>,
}

/// A request that concerns a whole queue, or an answer that shows its state.
#[derive(Clone, Copy)]
pub(super) struct QueueOperation<'h> {
    pub(super) asked: Position,
    pub(super) told: Option<Position>,
    pub(super) queue: &'h str,
}

/// A report, or an outcome that was put. What was sent twice is here twice.
#[derive(Clone, Copy)]
pub(super) struct Reported<'h> {
    pub(super) asked: Position,
    pub(super) answered: Option<(Position, &'h wire::ReportOutcome)>,
    pub(super) lease: u64,
    pub(super) what: &'h task_report::Report,
    pub(super) is_put: bool,
}

/// A client was told the state of a task.
pub(super) struct Seen<'h> {
    /// The position of the request. A push has none.
    pub(super) asked: Option<Position>,
    pub(super) told: Position,
    pub(super) connection: ConnectionId,
    /// Whether a watch told it: by its first answer or by a push.
    pub(super) is_watched: bool,
    pub(super) with_result: bool,
    pub(super) info: &'h wire::TaskInfo,
}

/// One delivery of a task.
pub(super) struct Lease<'h> {
    pub(super) delivery: &'h wire::Delivery,
    pub(super) sights: Vec<(Position, ConnectionId)>,
    /// Deliveries with the same lease number and different content.
    pub(super) otherwise: Vec<(Position, &'h wire::Delivery)>,
    pub(super) reports: Vec<Reported<'h>>,
    pub(super) began: Vec<Position>,
    /// The lease was given after this entry, as far as the order of the entries tells.
    pub(super) given_after: Position,
    /// This lease or a lower one was given after this entry.
    pub(super) lower_after: Position,
    pub(super) taken_back: Option<Position>,
}

/// One connection.
#[derive(Default)]
pub(super) struct Connection<'h> {
    pub(super) connecting: Position,
    pub(super) welcome: Option<(Position, &'h wire::Welcome)>,
    pub(super) gone: Option<Position>,
    /// The first request for credit.
    pub(super) credit: Option<Position>,
    /// The position of the latest request that was answered.
    pub(super) last_answered: Option<Position>,
}

/// The session of a worker, over all its connections.
#[derive(Default)]
pub(super) struct Session {
    pub(super) connections: Vec<ConnectionId>,
    /// The positions of requests that were answered. The broker heard of the session after each.
    pub(super) signs: Vec<Position>,
    pub(super) goodbye: Option<Position>,
    pub(super) lease_ms: u64,
}

impl<'h> Task<'h> {
    /// The outcomes that were put and not refused.
    pub(super) fn puts(&self) -> impl Iterator<Item = &Reported<'h>> {
        let is_sure = |put: &&Reported<'_>| put.answered.is_none() || put.accepted().is_some();
        self.reports.iter().filter(|report| report.is_put).filter(is_sure)
    }
}

impl Reported<'_> {
    /// By when it took effect.
    pub(super) fn told(&self) -> Position {
        self.answered.map_or(Position::MAX, |(told, _)| told)
    }

    pub(super) fn accepted(&self) -> Option<Position> {
        self.answered
            .filter(|(_, outcome)| outcome.code() == ErrorCode::Unspecified)
            .map(|(position, _)| position)
    }

    pub(super) fn ends_the_lease(&self) -> bool {
        use task_report::Report;
        !matches!(self.what, Report::Started(_) | Report::Settle(_) | Report::Progress(_))
    }

    /// Whether the worker handed the task back in good order. A handler whose process died is a
    /// lost worker and no release.
    pub(super) fn is_release(&self) -> bool {
        matches!(self.what, task_report::Report::Release(release) if !release.lost)
    }

    /// Whether the worker stored the end of a task that was revoked or had expired, in place of
    /// running it.
    fn is_end_without_a_run(&self) -> bool {
        self.is_put
            && matches!(self.what, task_report::Report::Reject(_))
            && self.answered.is_some_and(|(_, outcome)| outcome.state() == TaskState::Revoked)
    }

    /// Whether it follows from the report that the handler began.
    pub(super) fn is_of_a_run(&self) -> bool {
        !self.is_release() && !self.is_end_without_a_run()
    }

    /// Whether the worker reported that the task never runs again.
    pub(super) fn is_settle(&self) -> bool {
        matches!(self.what, task_report::Report::Settle(_))
    }

    /// Whether a run that asked for a later one told of that one before it began: an outcome RETRY
    /// counts under the earlier lease.
    pub(super) fn is_of_the_waiting_run(&self) -> bool {
        let waits = |state: TaskState| {
            let has_lease = state == TaskState::Leased;
            has_lease
                || matches!(state, TaskState::Scheduled | TaskState::Queued | TaskState::Retry)
        };
        let is_retry = matches!(
            self.what,
            task_report::Report::Progress(progress) if progress.state == "RETRY"
        );
        self.is_put && is_retry && self.answered.is_some_and(|(_, outcome)| waits(outcome.state()))
    }

    /// Whether the worker handed the task back and said that the handler has not begun, whatever it
    /// reported before.
    pub(super) fn is_unbegun(&self) -> bool {
        matches!(self.what, task_report::Report::Release(release) if release.not_begun)
    }
}

impl Lease<'_> {
    /// Whether the worker only announces the end of the task, and does not begin it.
    pub(super) fn is_announcement(&self) -> bool {
        !self.delivery.revoked_reason.is_empty()
    }

    /// The first report from which it follows that the handler began.
    pub(super) fn begun(&self) -> Option<Position> {
        if self.is_announcement() {
            return None;
        }
        self.reports.iter().filter(|report| report.is_of_a_run()).map(|report| report.asked).min()
    }

    /// Whether the worker handed the task back without having begun it.
    pub(super) fn is_released(&self) -> bool {
        self.begun().is_none() && !self.reports.is_empty()
    }

    pub(super) fn first_seen(&self) -> Position {
        self.sights.first().map_or(0, |(position, _)| *position)
    }
}

impl<'h> Index<'h> {
    /// A lease that came on this connection, and that its session did not hold before, was given
    /// after this position.
    pub(super) fn not_before(&self, connection: ConnectionId, lease: u64) -> Option<Position> {
        let connection = self.connections.get(&connection)?;
        let (_, welcome) = connection.welcome?;
        (!welcome.leases.contains(&lease))
            .then(|| connection.credit.unwrap_or(connection.connecting))
    }

    /// The session of a connection.
    pub(super) fn session_of(&self, connection: ConnectionId) -> Option<&'h str> {
        let (_, welcome) = self.connections.get(&connection)?.welcome?;
        Some(&welcome.session_id)
    }
}
