//! Submits in the reference: ids that have a task, and new tasks.

use celeriac_record::State;

use super::super::steps::Submit;
use super::super::{beside, id_of};
use super::{Reference, Task};
use crate::command::{OnConflict, SubmitOutcome};

impl Reference {
    /// Whether the id has a task already, so that the broker refuses the submit.
    pub fn refuses(&self, id: u8, submit: &Submit) -> bool {
        let carries_key = |task: &Task| submit.key.is_some() && task.submit.key == submit.key;
        let present = self.tasks.get(&id).filter(|task| !carries_key(task));
        submit.conflict == OnConflict::Reject && present.is_some()
    }

    pub fn submit(&mut self, id: u8, submit: Submit, slot: u32) -> SubmitOutcome {
        let other = submit.key.map(|key| beside(id, key));
        if let (OnConflict::Beside, Some(other)) = (submit.conflict, other)
            && let Some(task) = self.tasks.get(&other)
        {
            let (generation, state) = (task.generation, task.state);
            return SubmitOutcome::JoinedBeside { id: id_of(other), generation, state };
        }
        let mut generation = 1;
        if let Some(present) = self.tasks.get(&id).cloned() {
            generation = present.generation;
            let is_over = present.state.is_terminal();
            let is_resent = submit.key.is_some() && present.submit.key == submit.key;
            let is_joined = match submit.conflict {
                OnConflict::RunAgainIfFinished => !is_over,
                OnConflict::Supersede { lease } => {
                    lease != 0 && lease != present.lease || present.state == State::Revoked
                }
                _ => false,
            };
            if is_resent || is_joined {
                return SubmitOutcome::Joined { generation, state: present.state };
            }
            match submit.conflict {
                OnConflict::Supersede { .. } if present.cancelled && !is_over => {
                    self.becomes(id, State::Revoked);
                    return SubmitOutcome::Joined { generation, state: State::Revoked };
                }
                OnConflict::Beside if !is_over => {
                    let other = other.expect("a submit that may run beside another has a key");
                    let state = self.create(other, submit, slot, 1);
                    return SubmitOutcome::CreatedBeside { id: id_of(other), state };
                }
                _ => {}
            }
            generation += 1;
            if !is_over {
                self.count(id, State::Revoked);
            }
            self.remove(id);
        }
        let state = self.create(id, submit, slot, generation);
        if generation == 1 {
            SubmitOutcome::Created { state }
        } else {
            SubmitOutcome::NewGeneration { generation, state }
        }
    }

    pub(super) fn create(&mut self, id: u8, submit: Submit, slot: u32, generation: u32) -> State {
        self.submitted += 1;
        let now = self.now.wall;
        let due = submit.eta.map_or(now, |eta| eta - submit.lead_ms as i64);
        let state = if due > now { State::Scheduled } else { State::Queued };
        let task = Task {
            slot,
            submit,
            generation,
            state,
            stored: None,
            attempts: 0,
            deliveries: 0,
            losses: 0,
            silent: 0,
            alone: false,
            lease: 0,
            holder: None,
            cancelled: false,
            settled: false,
            progress: None,
            redelivered: false,
            is_put_progress: false,
            result_ttl_ms: None,
            due,
            due_mono: None,
            first: state,
            submitted: self.submitted,
            order: 0,
            ended_at: 0,
            ended: 0,
            submitted_at: now,
            ready: 0,
            is_ready_anew: true,
            is_as_submitted: false,
            began: 0,
            began_at: 0,
        };
        self.tasks.insert(id, task);
        self.counters_of(id).submitted += 1;
        if state == State::Queued {
            self.line_up(id);
        }
        state
    }
}
