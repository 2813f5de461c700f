//! What may have become of a task by a certain entry, as far as the history shows: who made which generation, what could
//! have ended it, and whether it could be gone. Everything here errs on the side of the broker.

use celeriac_proto::wire::submit_outcome::Kind;
use celeriac_proto::wire::{self, ErrorCode, OnConflict, TaskState, cancel_outcome, task_report};

use super::event::Mark;
use super::reading::{Reading, Submit, Task};

/// Handed out as often as this the limit may be near, and hand-overs that nobody saw may have reached it.
const DELIVERIES_NEAR_THE_LIMIT: u32 = 8;
/// How often a task may be handed out, and tried, when its producer says nothing.
pub(super) const DELIVERIES_MAX: u32 = 20;
pub(super) const ATTEMPTS_MAX: u32 = 4;

pub(super) fn is_ended(state: TaskState) -> bool {
    matches!(state, TaskState::Success | TaskState::Failure | TaskState::Revoked)
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
    /// The requests that may have made a generation: the one that was told so, else those without an answer.
    pub(super) fn makers(&self, generation: u32) -> Vec<&Submit<'h>> {
        let known: Vec<_> = self.submits.iter().filter(|submit| submit.made() == Some(generation)).collect();
        if !known.is_empty() {
            return known;
        }
        self.submits.iter().filter(|submit| submit.answered.is_none()).collect()
    }

    /// The first time that somebody was told that the broker has this id.
    pub(super) fn first_confirmed(&self) -> Option<Mark> {
        self.submits.iter().filter_map(|submit| submit.confirmed()).map(|(mark, _)| mark).min()
    }
}

impl<'h> Reading<'h> {
    /// The first entry at which something could have ended a task, any generation of it if none is named.
    pub(super) fn may_have_ended(&self, task: &Task<'h>, generation: Option<u32>, by: Mark) -> Option<Mark> {
        let reported = task.reports.iter().filter(|report| ends(report.what)).filter(|report| {
            let lease = self.leases.get(&report.lease).map(|lease| lease.delivery.generation);
            generation.is_none() || lease.is_none_or(|lease| Some(lease) == generation)
        });
        let reported = reported.map(|report| report.asked).min();
        let cancelled = task.cancels.iter().map(|cancel| cancel.asked).min();
        let queues: Vec<&str> = task.submits.iter().map(|submit| &*submit.task.queue).collect();
        let purged = self.purges.iter().filter(|(_, queue)| queues.contains(queue)).map(|(mark, _)| *mark).min();
        let many = self.cancels_of_many.first().copied();
        let replaced = task.submits.iter().filter(|submit| submit.task.on_conflict() == OnConflict::Replace);
        // The one that made this generation does not replace it.
        let replaced = replaced.filter(|submit| generation.is_none_or(|known| submit.made() != Some(known)));
        let replaced = replaced.map(|submit| submit.asked).min();
        let made = |submit: &&Submit<'_>| generation.is_none_or(|known| submit.made().is_none_or(|made| made == known));
        let by_itself = task.submits.iter().filter(made).filter(|submit| self.may_end_by_itself(task, submit, by));
        let by_itself = by_itself.map(|submit| submit.asked).min();
        let causes = [reported, cancelled, purged, many, replaced, by_itself];
        causes.into_iter().flatten().filter(|mark| *mark < by).min()
    }

    /// It expires, runs into its time limit, or is given up with its workers.
    fn may_end_by_itself(&self, task: &Task<'h>, submit: &Submit<'_>, by: Mark) -> bool {
        let clock = self.promises.clock_ms as i64;
        let expires = self
            .expires_at(submit, by)
            .is_some_and(|(at, _)| self.walls.latest(submit.asked, by).saturating_add(clock) >= at);
        let deliveries = task.leases.iter().filter_map(|lease| self.leases.get(lease));
        let deliveries = deliveries.map(|lease| lease.delivery.deliveries).max().unwrap_or(0);
        let limit = submit.task.max_deliveries.unwrap_or(DELIVERIES_MAX);
        expires
            || submit.task.time_limit_ms.is_some()
            || submit.task.early_ack
            || limit < DELIVERIES_NEAR_THE_LIMIT
            || deliveries >= DELIVERIES_NEAR_THE_LIMIT
    }

    /// When a task must have started: not before the first, and not after the second.
    pub(super) fn expires_at(&self, submit: &Submit<'_>, by: Mark) -> Option<(i64, i64)> {
        self.time(submit, submit.task.expires_at_ms, submit.task.expires_in_ms, by)
    }

    /// When a task may start: not before the first, and not after the second.
    pub(super) fn eta(&self, submit: &Submit<'_>, by: Mark) -> Option<(i64, i64)> {
        self.time(submit, submit.task.eta_at_ms, submit.task.countdown_ms, by)
    }

    /// A span counts from when the broker takes the request in: between the question and its answer.
    fn time(&self, submit: &Submit<'_>, at: Option<i64>, span: Option<u64>, by: Mark) -> Option<(i64, i64)> {
        if let Some(at) = at {
            return Some((at, at));
        }
        let span = span?;
        let taken_in = submit.answered.map_or(by, |(mark, _)| mark).max(submit.asked);
        let earliest = self.walls.earliest(submit.asked, taken_in).saturating_add_unsigned(span);
        Some((earliest, self.walls.latest(submit.asked, taken_in).saturating_add_unsigned(span)))
    }

    /// Whether a task could be gone by an entry: forgotten, or ended and its time over.
    pub(super) fn may_be_gone(&self, task: &Task<'h>, by: Mark) -> bool {
        if task.forgets.iter().any(|forget| forget.asked < by) {
            return true;
        }
        let Some(ended) = self.may_have_ended(task, None, by) else { return false };
        let ttl_ms = task.submits.iter().map(|submit| submit.result_ttl_ms(self.promises.result_ttl_ms)).min();
        let gone_at = self.walls.earliest(ended, by).saturating_add_unsigned(ttl_ms.unwrap_or(0));
        let clock = self.promises.clock_ms as i64;
        self.walls.latest(ended, by).saturating_add(clock) >= gone_at
    }

    /// Whether the id may have been gone and submitted again, and so have two tasks of the same generation.
    pub(super) fn may_be_born_again(&self, task: &Task<'h>) -> bool {
        let last = task.submits.iter().filter(|submit| submit.outcome().is_none_or(|(kind, _)| kind != Kind::Refused));
        let Some(last) = last.max_by_key(|submit| submit.asked) else { return false };
        let by = last.answered.map_or(usize::MAX, |(mark, _)| mark).min(self.walls.len().saturating_sub(1));
        task.submits.len() > 1 && self.may_be_gone(task, by)
    }

    /// The generation that a confirmed cancel revoked, where only one is possible.
    pub(super) fn revoked(&self, task: &Task<'h>) -> Vec<Revoked> {
        let mut revoked = Vec::new();
        for cancel in &task.cancels {
            let Some((told, cancel_outcome::Kind::Revoked)) = cancel.answered else { continue };
            let is_clear = task.submits.iter().all(|submit| {
                submit.answered.is_some_and(|(answered, _)| answered < cancel.asked) || submit.asked > told
            });
            let before = task.submits.iter().filter(|submit| submit.asked < cancel.asked);
            let generation = before.filter_map(|submit| submit.confirmed()).map(|(_, generation)| generation).max();
            if let Some(generation) = generation.filter(|_| is_clear) {
                revoked.push(Revoked { asked: cancel.asked, told, generation });
            }
        }
        revoked
    }
}

/// Whether a report may end its task.
fn ends(report: &task_report::Report) -> bool {
    use task_report::Report;
    matches!(report, Report::Complete(_) | Report::Fail(_) | Report::Retry(_) | Report::Reject(_))
}
