//! Ends that a worker announces. A producer may ask that the end of a task which does not begin is
//! not silent: some other program counts on every end, and only a worker tells it. Such a task is
//! not revoked when it is cancelled or expires. It is called off: it becomes due at once, and the
//! next worker that gets it announces its end and reports. Then the task is REVOKED.

use celeriac_record::{Cancel, Slot, State};

use crate::Machine;
use crate::command::SignalKind;
use crate::step::Step;
use crate::transitions::Cause;

impl Machine {
    /// Whether a worker announces the end of the task if it does not begin.
    pub(crate) fn announces_end(&self, slot: Slot) -> bool {
        self.tasks.plan(self.tasks.task(slot)).is_some_and(|plan| plan.announce_end)
    }

    /// The reason of a task that was handed out so that its end is announced.
    pub(crate) fn call_off_reason(&self, slot: Slot) -> Option<Box<str>> {
        let run = self.tasks.run(self.tasks.task(slot))?;
        run.cancel.clone().filter(|_| run.cancel_as == Cancel::CalledOff)
    }

    /// Calls off a task that has not begun and whose end a worker announces. A worker that holds it
    /// already is told.
    pub(crate) fn call_off(&mut self, step: &mut Step<'_>, slot: Slot, reason: &str) {
        let task = self.tasks.task(slot);
        let (state, run) = (task.state, self.tasks.run(task));
        if run.is_some_and(|run| run.cancel.is_some()) {
            return;
        }
        let run = self.tasks.extra_mut(slot).run.get_or_insert_default();
        run.cancel = Some(reason.into());
        let cancel = if state == State::Leased { Cancel::Told } else { Cancel::CalledOff };
        run.note_cancel(cancel, step.now.wall);
        match state {
            State::Scheduled | State::Retry => {
                self.change_state(step, slot, State::Queued, Cause::CalledOff);
                self.line_up(slot, false);
            }
            _ => {
                let task = self.tasks.task_mut(slot);
                task.version = task.version.saturating_add(1);
            }
        }
        self.publish(step, slot);
        if state == State::Leased {
            self.signal(step, slot, SignalKind::Cooperative, reason);
        }
    }

    /// Whether a task that is about to be handed out has expired, and so ends. A task whose end a
    /// worker announces is called off and handed out.
    pub(crate) fn ends_expired(&mut self, step: &mut Step<'_>, slot: Slot) -> bool {
        if !self.is_expired(step, slot) {
            return false;
        }
        if self.announces_end(slot) {
            let run = self.tasks.extra_mut(slot).run.get_or_insert_default();
            run.cancel.get_or_insert_with(|| "expired".into());
            run.note_cancel(Cancel::CalledOff, step.now.wall);
            return false;
        }
        self.revoke(step, slot, Cause::Expired, "expired");
        true
    }

    /// Whether a task that its worker hands back must not begin any more.
    pub(crate) fn is_called_off_or_expired(&mut self, step: &Step<'_>, slot: Slot) -> bool {
        let is_expired = self.is_expired(step, slot);
        let run = self.tasks.run_mut(slot).expect("a leased task has a run");
        if is_expired {
            run.cancel.get_or_insert_with(|| "expired".into());
        }
        run.cancel.is_some()
    }
}
