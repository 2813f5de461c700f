//! What may have happened to a task by a certain entry: which request made a generation, what may
//! have ended it, and whether it may be gone. In every doubt it decides for the broker.

use celeriac_proto::wire::submit_outcome::Kind;
use celeriac_proto::wire::{self, ErrorCode, OnConflict, TaskState, cancel_outcome, task_report};

use super::event::{ConnectionId, Position};
use super::index::{Index, Lease, Submit, Task};

/// After so many deliveries the limit may be near: deliveries that no client saw may have reached
/// it.
const DELIVERIES_NEAR_THE_LIMIT: u32 = 8;
/// The limits of deliveries and attempts if the producer sets none.
pub(super) const DELIVERIES_MAX: u32 = 20;
pub(super) const ATTEMPTS_MAX: u32 = 4;

pub(super) fn is_ended(state: TaskState) -> bool {
    matches!(state, TaskState::Success | TaskState::Failure | TaskState::Revoked)
}

/// The time at which something is due. The clocks of the history and of the broker may differ, and
/// a duration may be measured by either. Only what all clocks show is certain.
pub(super) struct Due {
    /// The earliest and the latest time on the wall clock.
    wall: (i64, i64),
    /// The time on the clocks that measure durations, if it depends on one.
    span: Option<Span>,
}

struct Span {
    /// On the clock that only goes forward.
    mono: (u64, u64),
    /// On the broker's steady clock. After a restart it begins with the time that the wall clock
    /// shows then.
    steady: (i64, i64),
}

/// A cancel whose answer says that it revoked this generation.
pub(super) struct Revoked {
    pub(super) asked: Position,
    pub(super) told: Position,
    pub(super) generation: u32,
}

impl Submit<'_> {
    /// The id that its task has if it runs beside the task of the id that was submitted.
    pub(super) fn id_beside(&self) -> String {
        format!("{}~{}", self.task.id, self.task.submit_key)
    }

    /// The kind of its outcome and the generation.
    pub(super) fn outcome(&self) -> Option<(Kind, u32)> {
        self.answered.map(|(_, outcome)| (outcome.kind(), outcome.generation))
    }

    pub(super) fn code(&self) -> Option<ErrorCode> {
        self.answered.and_then(|(_, outcome)| outcome.error.as_ref()).map(wire::Error::code)
    }

    /// The generation that this request made, if its answer says so.
    pub(super) fn made(&self) -> Option<u32> {
        match self.outcome()? {
            (Kind::Created, _) => Some(1),
            (Kind::NewGeneration, generation) => Some(generation),
            _ => None,
        }
    }

    /// When the broker confirmed that it has the task, whichever request made it.
    pub(super) fn confirmed(&self) -> Option<(Position, u32)> {
        let (position, outcome) = self.answered?;
        match outcome.kind() {
            Kind::Created => Some((position, 1)),
            Kind::NewGeneration | Kind::Joined => Some((position, outcome.generation)),
            _ => None,
        }
    }

    pub(super) fn result_ttl_ms(&self, by_default: u64) -> u64 {
        self.task.result_ttl_ms.unwrap_or(by_default)
    }
}

impl<'h> Task<'h> {
    /// The requests that may have made a generation: the one whose answer says so, or else those
    /// without an answer. For a replayed dead task these are all requests that may have made it
    /// before.
    pub(super) fn makers(&self, generation: u32) -> Vec<&Submit<'h>> {
        let known: Vec<_> =
            self.submits.iter().filter(|submit| submit.made() == Some(generation)).collect();
        if !known.is_empty() {
            return known;
        }
        if self.may_be_replayed(generation) {
            return self.submits.iter().collect();
        }
        self.submits.iter().filter(|submit| submit.answered.is_none()).collect()
    }

    /// Whether this generation may be a replay of a dead task. A replay has no ETA and no expiry of
    /// its own.
    pub(super) fn may_be_replayed(&self, generation: u32) -> bool {
        !self.replays.is_empty()
            && generation > 1
            && self.submits.iter().all(|one| one.made() != Some(generation))
    }

    /// The most attempts that this generation may have.
    pub(super) fn attempts_max(&self, generation: u32) -> Option<u32> {
        let of = |submit: &Submit<'_>| match &submit.task.retry {
            _ if submit.task.early_ack => 1,
            policy => {
                policy.as_ref().and_then(|policy| policy.max_attempts).unwrap_or(ATTEMPTS_MAX)
            }
        };
        self.makers(generation).into_iter().map(of).max()
    }

    /// Whether this generation begins at most once, even when the worker hands it back.
    pub(super) fn begins_once(&self, generation: u32) -> bool {
        let makers = self.makers(generation);
        !makers.is_empty() && makers.into_iter().all(|submit| submit.task.early_ack)
    }

    /// Whether a worker may announce the end of this generation. It then shows its end later than a
    /// cancel was answered, and a worker that holds it already may begin it after its expiry.
    pub(super) fn may_announce_end(&self, generation: u32) -> bool {
        self.makers(generation).into_iter().any(|submit| submit.task.announce_end)
    }

    /// When a client was first told that the broker has this id.
    pub(super) fn first_confirmed(&self) -> Option<Position> {
        self.submits
            .iter()
            .filter_map(|submit| submit.confirmed())
            .map(|(position, _)| position)
            .min()
    }
}

impl<'h> Index<'h> {
    /// The first entry at which something may have ended a task: any generation of it if none is
    /// named.
    pub(super) fn may_have_ended(
        &self,
        task: &Task<'h>,
        generation: Option<u32>,
        by: Position,
    ) -> Option<Position> {
        let reported = task.reports.iter().filter(|report| ends(report.what)).filter(|report| {
            let lease = self.leases.get(&report.lease).map(|lease| lease.delivery.generation);
            generation.is_none() || lease.is_none_or(|lease| Some(lease) == generation)
        });
        let reported = reported.map(|report| report.asked).min();
        let cancelled = task.cancels.iter().map(|cancel| cancel.asked).min();
        let queues: Vec<&str> = task.submits.iter().map(|submit| &*submit.task.queue).collect();
        let purged = self
            .purges
            .iter()
            .filter(|purge| queues.contains(&purge.queue))
            .map(|purge| purge.asked)
            .min();
        let many = self.cancels_of_many.first().copied();
        let replaced = task.submits.iter().filter(|submit| {
            matches!(submit.task.on_conflict(), OnConflict::Replace | OnConflict::Supersede)
        });
        // The request that made this generation does not replace it.
        let replaced =
            replaced.filter(|submit| generation.is_none_or(|known| submit.made() != Some(known)));
        let replaced = replaced.map(|submit| submit.asked).min();
        let made = |submit: &&Submit<'_>| {
            generation.is_none_or(|known| submit.made().is_none_or(|made| made == known))
        };
        let by_itself = task
            .submits
            .iter()
            .filter(made)
            .filter(|submit| self.may_end_by_itself(task, submit, by));
        let by_itself = by_itself.map(|submit| submit.asked).min();
        let causes = [reported, cancelled, purged, many, replaced, by_itself];
        causes.into_iter().flatten().filter(|position| *position < by).min()
    }

    /// Whether a task may end without a request: it expires, exceeds its time limit, or is given up
    /// with its workers.
    fn may_end_by_itself(&self, task: &Task<'h>, submit: &Submit<'_>, by: Position) -> bool {
        let clock = self.promises.clock_ms as i64;
        let expires = self
            .expires_at(submit, by)
            .is_some_and(|due| self.early_ms(&due, submit.asked, by) <= clock);
        // A task on its last attempt ends when its worker is lost. A worker may have begun it and
        // died before it could report that.
        let leases = task.leases.iter().filter_map(|lease| self.leases.get(lease));
        let leases: Vec<&Lease<'_>> = leases.filter(|lease| lease.first_seen() < by).collect();
        let begun = leases.iter().filter(|lease| !lease.is_released()).count();
        let begun = begun + self.deliveries_unseen(&leases, submit.asked, by);
        let attempts_max = submit
            .task
            .retry
            .as_ref()
            .and_then(|policy| policy.max_attempts)
            .unwrap_or(ATTEMPTS_MAX);
        let is_settled = task.reports.iter().any(|report| report.is_settle() && report.asked < by);
        let deliveries = task.leases.iter().filter_map(|lease| self.leases.get(lease));
        let deliveries = deliveries.map(|lease| lease.delivery.deliveries).max().unwrap_or(0);
        let limit = submit.task.max_deliveries.unwrap_or(DELIVERIES_MAX);
        expires
            || begun >= attempts_max as usize
            || submit.task.time_limit_ms.is_some()
            || submit.task.early_ack
            || is_settled
            || limit < DELIVERIES_NEAR_THE_LIMIT
            || deliveries >= DELIVERIES_NEAR_THE_LIMIT
    }

    /// To how many connections a task may have been delivered between two entries that never read
    /// the delivery, apart from the readers of these leases.
    pub(super) fn deliveries_unseen(
        &self,
        leases: &[&Lease<'_>],
        from: Position,
        to: Position,
    ) -> usize {
        let read_it = |id: &ConnectionId| {
            leases.iter().any(|lease| lease.sights.iter().any(|(_, connection)| connection == id))
        };
        let unread = self.connections.iter().filter(|(id, connection)| {
            let was_there = connection.connecting < to && self.may_seem_alive(**id, from);
            let read_all = connection.last_answered.is_some_and(|asked| asked > to);
            connection.credit.is_some() && was_there && !read_all && !read_it(id)
        });
        unread.count()
    }

    /// Whether the broker may still take a connection for alive at an entry. Of a worker whose
    /// machine is gone the broker hears nothing until its session is over.
    fn may_seem_alive(&self, id: ConnectionId, position: Position) -> bool {
        let Some(gone) = self.connections[&id].gone.filter(|gone| *gone <= position) else {
            return true;
        };
        let session = self.session_of(id).and_then(|session| self.sessions.get(session));
        let patience_ms = session.map_or(0, |session| session.lease_ms) + self.promises.late_ms;
        let is_down = self.downs.iter().any(|down| (gone..position).contains(down));
        let silent_ms = self.clocks.mono(position).saturating_sub(self.clocks.mono(gone));
        !is_down && silent_ms <= patience_ms
    }

    /// The time after which no attempt of the task begins.
    pub(super) fn expires_at(&self, submit: &Submit<'_>, by: Position) -> Option<Due> {
        self.due(submit, submit.task.expires_at_ms, submit.task.expires_in_ms, by)
    }

    /// The time before which the task does not start.
    pub(super) fn eta(&self, submit: &Submit<'_>, by: Position) -> Option<Due> {
        self.due(submit, submit.task.eta_at_ms, submit.task.countdown_ms, by)
    }

    /// A duration begins when the broker takes the request: between the request and its answer.
    fn due(
        &self,
        submit: &Submit<'_>,
        at: Option<i64>,
        span: Option<u64>,
        by: Position,
    ) -> Option<Due> {
        if let Some(at) = at {
            return Some(Due { wall: (at, at), span: None });
        }
        let span = span?;
        let taken_in = submit.answered.map_or(by, |(position, _)| position).max(submit.asked);
        Some(self.after(submit.asked, taken_in, span, span))
    }

    /// The end of a duration that begins between two entries and lasts from `least` to `most`.
    pub(super) fn after(&self, from: Position, to: Position, least: u64, most: u64) -> Due {
        let earliest = self.clocks.earliest(from, to).saturating_add_unsigned(least);
        let latest = self.clocks.latest(from, to).saturating_add_unsigned(most);
        let mono = (
            self.clocks.mono(from).saturating_add(least),
            self.clocks.mono(to).saturating_add(most),
        );
        let steady_from = self.clocks.earliest_steady(from, to).saturating_add_unsigned(least);
        let steady_to = self.clocks.latest_steady(from, to).saturating_add_unsigned(most);
        let steady = (steady_from.min(earliest), steady_to.max(latest));
        Due { wall: (earliest, latest), span: Some(Span { mono, steady }) }
    }

    /// How long before its time an event certainly was that happened between two entries.
    pub(super) fn early_ms(&self, due: &Due, from: Position, to: Position) -> i64 {
        let wall = due.wall.0.saturating_sub(self.clocks.latest(from, to));
        let Some(span) = &due.span else { return wall };
        let mono = ms(span.mono.0).saturating_sub(ms(self.clocks.mono(to)));
        let steady = span.steady.0.saturating_sub(self.clocks.latest_steady(from, to));
        wall.min(mono).min(steady)
    }

    /// How long after its time an event certainly was that happened between two entries.
    pub(super) fn late_ms(&self, due: &Due, from: Position, to: Position) -> i64 {
        let wall = self.clocks.earliest(from, to).saturating_sub(due.wall.1);
        let Some(span) = &due.span else { return wall };
        let mono = ms(self.clocks.mono(from)).saturating_sub(ms(span.mono.1));
        let steady = self.clocks.earliest_steady(from, to).saturating_sub(span.steady.1);
        wall.min(mono).min(steady)
    }

    /// Whether the broker must have noticed, before the first of two entries, that something is
    /// due. It had all the time that it may take, even after the clock was set.
    pub(super) fn is_overdue(&self, due: &Due, from: Position, to: Position) -> bool {
        self.late_ms(due, self.clocks.since(from, self.promises.late_ms), to)
            > self.promises.clock_ms as i64
    }

    /// Whether a task may be gone by an entry: it was forgotten, or it ended and its TTL is over.
    pub(super) fn may_be_gone(&self, task: &Task<'h>, by: Position) -> bool {
        if task.forgets.iter().any(|forget| forget.asked < by) {
            return true;
        }
        let Some(ended) = self.may_have_ended(task, None, by) else { return false };
        let ttl_ms = task
            .submits
            .iter()
            .map(|submit| submit.result_ttl_ms(self.promises.result_ttl_ms))
            .min();
        let gone_at = self.after(ended, by, ttl_ms.unwrap_or(0), 0);
        self.early_ms(&gone_at, ended, by) <= self.promises.clock_ms as i64
    }

    /// Whether the id may have been gone and submitted again between two moments, the first not
    /// before `from` and the second not after `to`. The state that was shown at the second is then
    /// of another task than the state that was shown at the first.
    pub(super) fn may_name_another_task(
        &self,
        task: &Task<'h>,
        from: Position,
        to: Position,
    ) -> bool {
        let makers: Vec<(Position, Position)> = task
            .submits
            .iter()
            .filter(|submit| submit.outcome().is_none_or(|(kind, _)| kind == Kind::Created))
            .map(|submit| (submit.asked, submit.answered.map_or(Position::MAX, |(told, _)| told)))
            .chain(task.puts().map(|put| (put.asked, put.told())))
            .collect();
        let last = self.clocks.len().saturating_sub(1);
        let begins = |(asked, told): &(Position, Position)| {
            let others = makers.iter().filter(|(other, _)| other != asked);
            let is_between = *asked < to && *told > from;
            is_between
                && others.into_iter().any(|(other, _)| other < told)
                && self.may_be_gone(task, (*told).min(last))
        };
        makers.iter().any(begins)
    }

    /// Whether the id may have been gone, and submitted again or put as an outcome. It may then
    /// have named two tasks of the same generation.
    pub(super) fn may_name_two_tasks(&self, task: &Task<'h>) -> bool {
        let last = task
            .submits
            .iter()
            .filter(|submit| submit.outcome().is_none_or(|(kind, _)| kind != Kind::Refused));
        let Some(last) = last.max_by_key(|submit| submit.asked) else { return false };
        let last_entry = self.clocks.len().saturating_sub(1);
        let by = last.answered.map_or(usize::MAX, |(position, _)| position).min(last_entry);
        (task.submits.len() > 1 && self.may_be_gone(task, by))
            || task.puts().any(|put| self.may_be_gone(task, put.told().min(last_entry)))
    }

    /// The generations that confirmed cancels revoked, where only one generation is possible.
    pub(super) fn revoked(&self, task: &Task<'h>) -> Vec<Revoked> {
        let mut revoked = Vec::new();
        for cancel in &task.cancels {
            let Some((told, cancel_outcome::Kind::Revoked)) = cancel.answered else { continue };
            let is_clear = task.submits.iter().all(|submit| {
                submit.answered.is_some_and(|(answered, _)| answered < cancel.asked)
                    || submit.asked > told
            });
            let before = task.submits.iter().filter(|submit| submit.asked < cancel.asked);
            let generation = before
                .filter_map(|submit| submit.confirmed())
                .map(|(_, generation)| generation)
                .max();
            let is_replayed = task.replays.iter().any(|asked| *asked < told);
            if let Some(generation) = generation.filter(|_| is_clear && !is_replayed) {
                revoked.push(Revoked { asked: cancel.asked, told, generation });
            }
        }
        revoked
    }
}

fn ms(moment: u64) -> i64 {
    i64::try_from(moment).unwrap_or(i64::MAX)
}

/// Whether a report may end its task.
fn ends(report: &task_report::Report) -> bool {
    use task_report::Report;
    matches!(report, Report::Complete(_) | Report::Fail(_) | Report::Retry(_) | Report::Reject(_))
}
