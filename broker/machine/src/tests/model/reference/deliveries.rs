//! Deliveries in the reference: which task a session may get next.

use celeriac_record::State;

use super::{Reference, Session, Task};

impl Reference {
    /// The tasks that this session may get next: one task of each of its queues.
    fn next_for(&self, session: &Session, id: u64) -> Vec<u8> {
        let (held, in_credit) = (self.held(id), self.in_credit(id));
        let has_suspect = self.tasks.values().any(|task| task.holder == Some(id) && task.alone);
        if self.drain || !session.is_connected || in_credit >= session.credit || has_suspect {
            return Vec::new();
        }
        let mut next = Vec::new();
        for queue in session.queues.iter().filter(|queue| !self.paused.contains(queue)) {
            let can_run = |id: &&u8| {
                let submit = &self.tasks[id].submit;
                let may_run = submit.queue == *queue && session.names.contains(&submit.name);
                may_run && (held == 0 || !self.is_suspect(**id))
            };
            let waiting: Vec<u8> = self.line.iter().filter(can_run).copied().collect();
            let priority = waiting.iter().map(|id| self.tasks[id].submit.priority).max();
            let first_of = |(name, suspect): (u8, bool)| {
                let stands = |id: &&u8| {
                    let submit = &self.tasks[id].submit;
                    Some(submit.priority) == priority
                        && submit.name == name
                        && self.is_suspect(**id) == suspect
                };
                waiting.iter().find(stands).copied()
            };
            let lines = session.names.iter().flat_map(|name| [(*name, false), (*name, true)]);
            next.extend(lines.filter_map(first_of).min_by_key(|id| self.tasks[id].order));
        }
        next
    }

    fn held(&self, session: u64) -> usize {
        self.tasks.values().filter(|task| task.holder == Some(session)).count()
    }

    /// The leases that count against the credit.
    fn in_credit(&self, session: u64) -> usize {
        let counts = |task: &&Task| task.holder == Some(session) && !task.settled;
        self.tasks.values().filter(counts).count()
    }

    /// Whether a worker with room may take no tasks, so that it becomes free for a suspect.
    fn may_drain(&self, session: &Session, id: u64) -> bool {
        let waits = |id: &u8| {
            let submit = &self.tasks[id].submit;
            let is_served =
                session.queues.contains(&submit.queue) && !self.paused.contains(&submit.queue);
            self.is_suspect(*id) && is_served && session.names.contains(&submit.name)
        };
        self.held(id) > 0 && self.line.iter().any(waits)
    }

    /// The machine delivers a task to a session. Checks that it was the turn of that task.
    pub fn deliver(&mut self, session: u64, id: u8, lease: u64) {
        let allowed = self.next_for(&self.sessions[&session], session);
        assert!(
            allowed.contains(&id),
            "task {id} was handed out, and it was the turn of {allowed:?}"
        );
        self.count_wait(id);
        self.becomes(id, State::Leased);
        let alone = self.is_suspect(id);
        let task = self.task(id);
        task.alone = alone;
        task.progress = task.progress.filter(|says| *says == super::Says::Retry);
        task.redelivered = task.lease != 0;
        task.lease = lease;
        task.holder = Some(session);
        task.deliveries += 1;
    }

    /// Whether no worker is left that could get a task.
    pub fn is_all_handed_out(&self) -> bool {
        self.sessions.iter().all(|(id, session)| {
            self.next_for(session, *id).is_empty() || self.may_drain(session, *id)
        })
    }
}
