//! What a client with a scope sees. A request finds the task of an id through this file, so that a
//! task outside the scope answers as an id without a task does.

use celeriac_record::Slot;

use crate::Machine;
use crate::command::Scope;
use crate::keys::SessionKey;
use crate::task::Task;

impl Machine {
    /// The task of an id, if there is one and the scope allows it.
    pub(crate) fn find_seen(&self, scope: Option<&Scope>, id: &str) -> Option<Slot> {
        self.tasks.find(id).filter(|slot| self.sees(scope, *slot))
    }

    /// Whether the scope allows the task of this slot, and the task that waits for its end: whoever
    /// may use an id may use all of its runs.
    pub(crate) fn sees(&self, scope: Option<&Scope>, slot: Slot) -> bool {
        scope.is_none()
            || self.sees_task(scope, self.tasks.task(slot))
                && self
                    .successors
                    .of(slot)
                    .is_none_or(|next| self.sees_task(scope, self.tasks.task(next)))
    }

    /// Whether the scope allows this task.
    pub(crate) fn sees_task(&self, scope: Option<&Scope>, task: &Task) -> bool {
        scope.is_none_or(|scope| {
            let queue = &self.queues.queue(task.queue()).record.name;
            scope.allows(queue, self.names.name(task.name))
        })
    }

    /// The scope of a session.
    pub(crate) fn scope_of(&self, session: SessionKey) -> Option<&Scope> {
        self.sessions.session(session).scope.as_deref()
    }
}
