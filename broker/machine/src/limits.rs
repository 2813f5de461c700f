//! What happens to a task because its time has come: eta, expiry, time limits, the end of its
//! record.

use celeriac_record::{Lease, Slot, State};

use super::command::{Now, SignalKind};
use super::task::Extra;
use super::timers::{Kind, Moment, MonoTimer, Timer};
use super::{Effects, Machine};

impl Machine {
    pub(super) fn task_timer(&mut self, now: Now, timer: Timer, fx: &mut Effects) {
        if !self.timer_holds(&timer) {
            return;
        }
        match timer.kind {
            Kind::Due => self.promote(now, timer.slot, fx),
            Kind::Expires => {
                if let Some(present) = self.successors.present_of(timer.slot) {
                    return self.drop_successor(present, fx);
                }
                if self.tasks.task(timer.slot).state == State::Leased {
                    self.signal(timer.slot, SignalKind::TakenBack, "expired", fx);
                }
                self.revoke(now, timer.slot, "expired", fx);
            }
            Kind::Forget => self.drop_ended(timer.slot, fx),
        }
    }

    /// Whether what a timer is for happens now.
    fn timer_holds(&self, timer: &Timer) -> bool {
        let Some(task) = self.tasks.try_task(timer.slot) else { return false };
        // What runs goes on after its expiry. Should it come back to wait, `expire_if_over` sees to
        // it.
        self.timer_is_needed(timer)
            && !(timer.kind == Kind::Expires && task.state == State::Started)
    }

    /// Whether a timer still means what it meant when it was set.
    fn timer_is_needed(&self, timer: &Timer) -> bool {
        let Some(task) = self.tasks.try_task(timer.slot) else { return false };
        match timer.kind {
            Kind::Due => {
                matches!(task.state, State::Scheduled | State::Retry) && task.due() == timer.at
            }
            Kind::Expires => {
                let at = self.expiry(timer.slot).map(|(Moment::At(at) | Moment::Steady(at))| at);
                !task.state.is_terminal() && at == Some(timer.at)
            }
            Kind::Forget => task.state.is_terminal() && task.due() == timer.at,
        }
    }

    pub(super) fn compact_timers(&mut self) {
        let mut timers = std::mem::take(&mut self.timers);
        timers.compact(self.tasks.len(), |timer| self.timer_is_needed(timer));
        self.timers = timers;
    }

    pub(super) fn set_expiry_timer(&mut self, slot: Slot) {
        if let Some(moment) = self.expiry(slot) {
            self.timers.set(moment, slot, Kind::Expires);
        }
    }

    /// To be called whenever a task that ran begins to wait: its timer may have come meanwhile, and
    /// meant nothing.
    pub(super) fn expire_if_over(&mut self, slot: Slot) {
        if self.is_expired(slot) {
            self.set_expiry_timer(slot);
        }
    }

    /// No attempt of it may begin any more.
    pub(super) fn is_expired(&self, slot: Slot) -> bool {
        self.expiry(slot).is_some_and(|moment| self.clocks.has_come(moment))
    }

    fn expiry(&self, slot: Slot) -> Option<Moment> {
        let task = self.tasks.task(slot);
        self.tasks.plan(task).and_then(|plan| plan.expires)
    }

    pub(super) fn soft_limit_timer(&mut self, slot: Slot, lease: Lease, fx: &mut Effects) {
        if self.runs_under(slot, lease) {
            self.signal(slot, SignalKind::SoftTimeLimit, "soft_time_limit", fx);
        }
    }

    pub(super) fn limit_timer(&mut self, now: Now, slot: Slot, lease: Lease, fx: &mut Effects) {
        if self.runs_under(slot, lease) {
            self.exceed_time_limit(now, slot, fx);
        }
    }

    fn runs_under(&self, slot: Slot, lease: Lease) -> bool {
        self.tasks
            .try_task(slot)
            .is_some_and(|task| task.state == State::Started && task.lease() == lease)
    }

    /// After a restart the limits of a running task go on from its start, by the wall clock as the
    /// best there is.
    pub(super) fn resume_limits(&mut self, now: Now, slot: Slot) {
        let lease = self.tasks.task(slot).lease();
        let Extra { plan: Some(plan), run: Some(run), .. } = self.tasks.extra_mut(slot) else {
            return;
        };
        let Some(started_at) = run.started_at else { return };
        let ran_ms = now.wall.saturating_sub(started_at).max(0) as u64;
        let at = |span_ms: u64| now.mono.saturating_add(span_ms.saturating_sub(ran_ms));
        run.soft_limit_at = plan.soft_time_limit_ms.map(at);
        run.limit_at = plan.time_limit_ms.map(at);
        if let Some(at) = run.soft_limit_at {
            self.timers.set_mono(at, MonoTimer::SoftTimeLimit(slot, lease));
        }
        if let Some(at) = run.limit_at {
            self.timers.set_mono(at, MonoTimer::TimeLimit(slot, lease));
        }
    }
}
