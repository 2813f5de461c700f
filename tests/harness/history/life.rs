//! What may have become of a task by a certain entry, as far as the history shows: who made which
//! generation, what could have ended it, and whether it could be gone. Everything here errs on the
//! side of the broker.

use celeriac_proto::wire::submit_outcome::Kind;
use celeriac_proto::wire::{self, ErrorCode, OnConflict, TaskState, cancel_outcome, task_report};

use super::event::Mark;
use super::reading::{Reading, Submit, Task};

/// Handed out as often as this the limit may be near, and hand-overs that nobody saw may have
/// reached it.
const DELIVERIES_NEAR_THE_LIMIT: u32 = 8;
/// How often a task may be handed out, and tried, when its producer says nothing.
pub(super) const DELIVERIES_MAX: u32 = 20;
pub(super) const ATTEMPTS_MAX: u32 = 4;

pub(super) fn is_ended(state: TaskState) -> bool {
    matches!(state, TaskState::Success | TaskState::Failure | TaskState::Revoked)
}

/// When something is due. The clocks of the history and of the broker may be set apart, and a span
/// may be measured by either: only what every clock says is sure.
pub(super) struct Due {
    /// On the wall clock: not before the first, and not after the second.
    wall: (i64, i64),
    /// On the clocks of spans, where a span is meant.
    span: Option<Span>,
}

struct Span {
    /// On the clock that only goes forward.
    mono: (u64, u64),
    /// On the broker's steady clock. A restart takes over what the wall clock was to show then.
    steady: (i64, i64),
}

/// A cancel that was told to have revoked this generation.
pub(super) struct Revoked {
    pub(super) asked: Mark,
    pub(super) told: Mark,
    pub(super) generation: u32,
}

impl Submit<'_> {
    /// What it was told: the kind and the generation.
    pub(super) fn outcome(&self) -> Option<(Kind, u32)> {
        self.answered.map(|(_, outcome)| (outcome.kind(), outcome.generation))
    }

    pub(super) fn code(&self) -> Option<ErrorCode> {
        self.answered.and_then(|(_, outcome)| outcome.error.as_ref()).map(wire::Error::code)
    }

    /// The generation that this request is known to have made.
    pub(super) fn made(&self) -> Option<u32> {
        match self.outcome()? {
            (Kind::Created, _) => Some(1),
            (Kind::NewGeneration, generation) => Some(generation),
            _ => None,
        }
    }

    /// When the broker said that it has the task, whoever made it.
    pub(super) fn confirmed(&self) -> Option<(Mark, u32)> {
        let (mark, outcome) = self.answered?;
        match outcome.kind() {
            Kind::Created => Some((mark, 1)),
            Kind::NewGeneration | Kind::Joined => Some((mark, outcome.generation)),
            _ => None,
        }
    }

    pub(super) fn result_ttl_ms(&self, by_default: u64) -> u64 {
        self.task.result_ttl_ms.unwrap_or(by_default)
    }
}

impl<'h> Task<'h> {
    /// The requests that may have made a generation: the one that was told so, else those without
    /// an answer; and of a dead task that was run again all that may have made it before.
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

    /// Whether this generation may be a dead task that was run again: it has no times of its own
    /// then.
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

    /// Whether this generation, once begun, does not begin again, not even when it is handed back.
    pub(super) fn begins_once(&self, generation: u32) -> bool {
        let makers = self.makers(generation);
        !makers.is_empty() && makers.into_iter().all(|submit| submit.task.early_ack)
    }

    /// The first time that somebody was told that the broker has this id.
    pub(super) fn first_confirmed(&self) -> Option<Mark> {
        self.submits.iter().filter_map(|submit| submit.confirmed()).map(|(mark, _)| mark).min()
    }
}

impl<'h> Reading<'h> {
    /// The first entry at which something could have ended a task, any generation of it if none is
    /// named.
    pub(super) fn may_have_ended(
        &self,
        task: &Task<'h>,
        generation: Option<u32>,
        by: Mark,
    ) -> Option<Mark> {
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
        let replaced =
            task.submits.iter().filter(|submit| submit.task.on_conflict() == OnConflict::Replace);
        // The one that made this generation does not replace it.
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
        causes.into_iter().flatten().filter(|mark| *mark < by).min()
    }

    /// It expires, runs into its time limit, or is given up with its workers.
    fn may_end_by_itself(&self, task: &Task<'h>, submit: &Submit<'_>, by: Mark) -> bool {
        let clock = self.promises.clock_ms as i64;
        let expires = self
            .expires_at(submit, by)
            .is_some_and(|due| self.early_ms(&due, submit.asked, by) <= clock);
        // With its last attempt it goes when its worker is lost.
        // A worker may have begun it and died before it could say so.
        let leases = task.leases.iter().filter_map(|lease| self.leases.get(lease));
        let begun = leases.filter(|lease| lease.first_seen() < by && !lease.is_released());
        let attempts_max = submit
            .task
            .retry
            .as_ref()
            .and_then(|policy| policy.max_attempts)
            .unwrap_or(ATTEMPTS_MAX);
        let deliveries = task.leases.iter().filter_map(|lease| self.leases.get(lease));
        let deliveries = deliveries.map(|lease| lease.delivery.deliveries).max().unwrap_or(0);
        let limit = submit.task.max_deliveries.unwrap_or(DELIVERIES_MAX);
        expires
            || begun.count() >= attempts_max as usize
            || submit.task.time_limit_ms.is_some()
            || submit.task.early_ack
            || limit < DELIVERIES_NEAR_THE_LIMIT
            || deliveries >= DELIVERIES_NEAR_THE_LIMIT
    }

    /// After this no attempt of the task begins.
    pub(super) fn expires_at(&self, submit: &Submit<'_>, by: Mark) -> Option<Due> {
        self.due(submit, submit.task.expires_at_ms, submit.task.expires_in_ms, by)
    }

    /// Before this the task does not start.
    pub(super) fn eta(&self, submit: &Submit<'_>, by: Mark) -> Option<Due> {
        self.due(submit, submit.task.eta_at_ms, submit.task.countdown_ms, by)
    }

    /// A span counts from when the broker takes the request in: between the question and its
    /// answer.
    fn due(
        &self,
        submit: &Submit<'_>,
        at: Option<i64>,
        span: Option<u64>,
        by: Mark,
    ) -> Option<Due> {
        if let Some(at) = at {
            return Some(Due { wall: (at, at), span: None });
        }
        let span = span?;
        let taken_in = submit.answered.map_or(by, |(mark, _)| mark).max(submit.asked);
        Some(self.after(submit.asked, taken_in, span, span))
    }

    /// A span that begins between two entries, and is as long as the first or the second.
    pub(super) fn after(&self, from: Mark, to: Mark, least: u64, most: u64) -> Due {
        let earliest = self.walls.earliest(from, to).saturating_add_unsigned(least);
        let latest = self.walls.latest(from, to).saturating_add_unsigned(most);
        let mono =
            (self.walls.mono(from).saturating_add(least), self.walls.mono(to).saturating_add(most));
        let steady_from = self.walls.earliest_steady(from, to).saturating_add_unsigned(least);
        let steady_to = self.walls.latest_steady(from, to).saturating_add_unsigned(most);
        let steady = (steady_from.min(earliest), steady_to.max(latest));
        Due { wall: (earliest, latest), span: Some(Span { mono, steady }) }
    }

    /// How long before its time something surely was that happened between two entries.
    pub(super) fn early_ms(&self, due: &Due, from: Mark, to: Mark) -> i64 {
        let wall = due.wall.0.saturating_sub(self.walls.latest(from, to));
        let Some(span) = &due.span else { return wall };
        let mono = ms(span.mono.0).saturating_sub(ms(self.walls.mono(to)));
        let steady = span.steady.0.saturating_sub(self.walls.latest_steady(from, to));
        wall.min(mono).min(steady)
    }

    /// How long after its time something surely was that happened between two entries.
    pub(super) fn late_ms(&self, due: &Due, from: Mark, to: Mark) -> i64 {
        let wall = self.walls.earliest(from, to).saturating_sub(due.wall.1);
        let Some(span) = &due.span else { return wall };
        let mono = ms(self.walls.mono(from)).saturating_sub(ms(span.mono.1));
        let steady = self.walls.earliest_steady(from, to).saturating_sub(span.steady.1);
        wall.min(mono).min(steady)
    }

    /// Whether the broker must have noticed, before the first of two entries, that something is
    /// due: it had the time that it may take, also after the clock was set.
    pub(super) fn is_overdue(&self, due: &Due, from: Mark, to: Mark) -> bool {
        self.late_ms(due, self.walls.since(from, self.promises.late_ms), to)
            > self.promises.clock_ms as i64
    }

    /// Whether a task could be gone by an entry: forgotten, or ended and its time over.
    pub(super) fn may_be_gone(&self, task: &Task<'h>, by: Mark) -> bool {
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
    /// before `from` and the second not after `to`: what was shown at the second is then
    /// another task than what was shown at the first.
    pub(super) fn may_have_another_life(&self, task: &Task<'h>, from: Mark, to: Mark) -> bool {
        let makers: Vec<(Mark, Mark)> = task
            .submits
            .iter()
            .filter(|submit| submit.outcome().is_none_or(|(kind, _)| kind == Kind::Created))
            .map(|submit| (submit.asked, submit.answered.map_or(Mark::MAX, |(told, _)| told)))
            .collect();
        let last = self.walls.len().saturating_sub(1);
        let begins = |(asked, told): &(Mark, Mark)| {
            let others = makers.iter().filter(|(other, _)| other != asked);
            let is_between = *asked < to && *told > from;
            is_between
                && others.into_iter().any(|(other, _)| other < told)
                && self.may_be_gone(task, (*told).min(last))
        };
        makers.iter().any(begins)
    }

    /// Whether the id may have been gone and submitted again, and so have two tasks of the same
    /// generation.
    pub(super) fn may_be_born_again(&self, task: &Task<'h>) -> bool {
        let last = task
            .submits
            .iter()
            .filter(|submit| submit.outcome().is_none_or(|(kind, _)| kind != Kind::Refused));
        let Some(last) = last.max_by_key(|submit| submit.asked) else { return false };
        let by = last
            .answered
            .map_or(usize::MAX, |(mark, _)| mark)
            .min(self.walls.len().saturating_sub(1));
        task.submits.len() > 1 && self.may_be_gone(task, by)
    }

    /// The generation that a confirmed cancel revoked, where only one is possible.
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
