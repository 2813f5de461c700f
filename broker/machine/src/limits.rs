//! Timers of tasks: eta, expiry, time limits, and the time when an ended task is forgotten.

use celeriac_record::{Lease, Slot, State};

use crate::Machine;
use crate::clocks::Moment;
use crate::command::{Now, SignalKind};
use crate::step::Step;
use crate::task::Extra;
use crate::timers::{Kind, MonoTimer, Timer};
use crate::transitions::Cause;

impl Machine {
    pub(crate) fn task_timer(&mut self, step: &mut Step<'_>, timer: Timer) {
        if !self.timer_holds(&timer) {
            return;
        }
        match timer.kind {
            Kind::Due => self.promote(step, timer.slot),
            Kind::Expires => {
                if let Some(present) = self.successors.present_of(timer.slot) {
                    return self.drop_successor(step, present);
                }
                if self.announces_end(timer.slot) {
                    return self.call_off(step, timer.slot, "expired");
                }
                if self.tasks.task(timer.slot).state == State::Leased {
                    self.signal(step, timer.slot, SignalKind::TakenBack, "expired");
                }
                self.revoke(step, timer.slot, Cause::Expired, "expired");
            }
            Kind::Forget => {
                if !self.lives_with_chord(step, timer.slot) {
                    self.drop_ended(step, timer.slot);
                }
            }
        }
    }

    /// Whether the event of a timer happens now.
    fn timer_holds(&self, timer: &Timer) -> bool {
        let Some(task) = self.tasks.try_task(timer.slot) else { return false };
        // A running task continues after its expiry. If the task waits again later,
        // `expire_if_over` sets the timer again.
        self.timer_is_needed(timer)
            && !(timer.kind == Kind::Expires && task.state == State::Started)
    }

    /// Whether a timer is still valid for the task in its slot.
    fn timer_is_needed(&self, timer: &Timer) -> bool {
        let Some(task) = self.tasks.try_task(timer.slot) else { return false };
        match timer.kind {
            Kind::Due => {
                // The timer may be of the task that had this slot before.
                let is_of_it = match task.state {
                    State::Scheduled => timer.is_steady == task.is_due_steadily(),
                    State::Retry => timer.is_steady,
                    _ => false,
                };
                is_of_it && task.due() == timer.at
            }
            Kind::Expires => {
                !task.state.is_terminal() && self.expiry(timer.slot) == Some(timer.moment())
            }
            Kind::Forget => task.state.is_terminal() && task.due() == timer.at,
        }
    }

    pub(crate) fn compact_timers(&mut self) {
        let mut timers = std::mem::take(&mut self.timers);
        timers.compact(self.tasks.len(), |timer| self.timer_is_needed(timer));
        self.timers = timers;
    }

    pub(crate) fn set_expiry_timer(&mut self, slot: Slot) {
        if let Some(moment) = self.expiry(slot) {
            self.timers.set(moment, slot, Kind::Expires);
        }
    }

    /// Sets the expiry timer again if the expiry has passed. Call this whenever a task that ran
    /// begins to wait: its timer may have fired during the run, without effect.
    pub(crate) fn expire_if_over(&mut self, step: &Step<'_>, slot: Slot) {
        if self.is_expired(step, slot) {
            self.set_expiry_timer(slot);
        }
    }

    /// Whether the expiry has passed, so that no attempt may begin any more.
    pub(crate) fn is_expired(&self, step: &Step<'_>, slot: Slot) -> bool {
        self.expiry(slot).is_some_and(|moment| step.clocks.has_come(moment))
    }

    fn expiry(&self, slot: Slot) -> Option<Moment> {
        let task = self.tasks.task(slot);
        self.tasks.plan(task).and_then(|plan| plan.expires)
    }

    pub(crate) fn soft_limit_timer(&mut self, step: &mut Step<'_>, slot: Slot, lease: Lease) {
        if self.runs_under(slot, lease) {
            self.signal(step, slot, SignalKind::SoftTimeLimit, "soft_time_limit");
        }
    }

    pub(crate) fn limit_timer(&mut self, step: &mut Step<'_>, slot: Slot, lease: Lease) {
        if self.runs_under(slot, lease) {
            self.exceed_time_limit(step, slot);
        }
    }

    fn runs_under(&self, slot: Slot, lease: Lease) -> bool {
        self.tasks
            .try_task(slot)
            .is_some_and(|task| task.state == State::Started && task.lease() == lease)
    }

    /// After a restart the time limits of a running task continue from its start. The wall clock
    /// measures the time since then, because no other clock survives the restart.
    pub(crate) fn resume_limits(&mut self, now: Now, slot: Slot) {
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
