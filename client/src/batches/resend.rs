//! Sending a batch again after its connection broke before the answer.
//!
//! Sent again unchanged, a batch would run those tasks twice that the broker accepted the first
//! time and that have ended since. So:
//! - A task whose id this crate generated is sent again with `reject`. If the broker then answers
//!   that the task exists, the first copy was accepted.
//! - For a task whose id the caller chose, this crate first asks the broker. If that task was
//!   submitted or has ended since the first copy was sent, this counts as the answer: the submit
//!   happened while the task was unfinished.
//!
//! Neither way sees a task that ended and was dropped at once, as with `ignore_result`. Such a task
//! may run twice.

use std::collections::HashMap;

use celeriac_proto::wire::{self, ErrorCode, submit_outcome};
use tokio::time::Instant;

use super::{TimeLimit, outcomes, submit_body, submitted_tasks};
use crate::connection::{Connection, Purpose, Reply};
use crate::error::Error;
use crate::getting::{self, With};
use crate::submission::IdOrigin;

/// A batch that may have to be sent again, and what is known of its outcome.
pub(super) struct Resend<'c> {
    /// The connection on which the batch is sent.
    connection: &'c Connection,
    /// The ids of the whole batch.
    ids: &'c [String],
    /// Who chose each id of the batch.
    id_origins: Vec<IdOrigin>,
    /// The outcomes of the whole batch. `None` for the tasks without an answer: these are the ones
    /// that are sent, in order.
    outcomes: Vec<Option<wire::SubmitOutcome>>,
    /// When the first copy was sent that the broker may have accepted, by the broker's clock;
    /// never later than the real moment. `None` while there is no such copy.
    first_sent_at_ms: Option<i64>,
    /// The time of the whole submit, over all copies.
    time: TimeLimit,
}

impl<'c> Resend<'c> {
    /// A batch whose first copy was sent and not answered.
    pub(super) fn new(
        connection: &'c Connection,
        ids: &'c [String],
        id_origins: Vec<IdOrigin>,
        time: TimeLimit,
    ) -> Self {
        let outcomes = vec![None; ids.len()];
        Self { connection, ids, id_origins, outcomes, first_sent_at_ms: None, time }
    }

    /// Sends the batch until it is answered or its time is over. Begins with the reply to the first
    /// copy.
    pub(super) async fn run(
        mut self,
        mut tasks: Vec<wire::Task>,
        mut reply: Option<Reply>,
    ) -> Result<Vec<wire::SubmitOutcome>, Error> {
        let TimeLimit { timeout, deadline } = self.time;
        loop {
            match reply.ok_or_else(|| self.connection.timeout(timeout))? {
                Reply::Answer(answer) => {
                    let answers = outcomes(*answer, self.open().len())?;
                    return self.complete(answers).await;
                }
                Reply::Failed(error) => return Err(self.connection.with_time(error, timeout)),
                Reply::Interrupted { sent_at_ms, refused } => {
                    // A broker that refused the batch has done nothing.
                    if refused.is_none() {
                        tasks = self.prepare(tasks, sent_at_ms).await?;
                    }
                    if tasks.is_empty() {
                        // The broker accepted all tasks before the connection broke.
                        return self.complete(Vec::new()).await;
                    }
                    self.connection.pause_before_repeat(refused, deadline).await?;
                }
            }
            // Each copy has the time that is left for the whole submit.
            let left = deadline.saturating_duration_since(Instant::now());
            let body = submit_body(tasks);
            reply = self.connection.send_once(body.clone(), left, Purpose::Answer, deadline).await;
            tasks = submitted_tasks(body);
        }
    }

    /// The places of the tasks without an answer.
    fn open(&self) -> Vec<usize> {
        (0..self.outcomes.len()).filter(|index| self.outcomes[*index].is_none()).collect()
    }

    /// Prepares the tasks that have to be sent again, and leaves out those that need not be.
    async fn prepare(
        &mut self,
        tasks: Vec<wire::Task>,
        sent_at_ms: i64,
    ) -> Result<Vec<wire::Task>, Error> {
        let first_sent_at_ms = *self.first_sent_at_ms.get_or_insert(sent_at_ms);
        let open = self.open();
        let chosen = open
            .iter()
            .zip(&tasks)
            .filter(|(index, _)| self.id_origins[**index] == IdOrigin::Chosen)
            .filter(|(_, task)| task.submit_key.is_empty())
            .map(|(_, task)| task.id.clone())
            .collect();
        // Only tasks whose id the caller chose: a generated id needs no question. The broker itself
        // knows a submit with a key again.
        let present = self.present(chosen).await?;
        let mut again = Vec::with_capacity(tasks.len());
        for (index, mut task) in open.into_iter().zip(tasks) {
            if self.id_origins[index] == IdOrigin::Generated {
                task.on_conflict = wire::OnConflict::Reject.into();
            } else if let Some(info) = present.get(&task.id) {
                self.outcomes[index] = accepted_before(&task, info, first_sent_at_ms);
            }
            if self.outcomes[index].is_none() {
                again.push(task);
            }
        }
        Ok(again)
    }

    /// Takes the answers to the last copy. A generated id that exists already was accepted with the
    /// first copy.
    async fn complete(
        mut self,
        answers: Vec<wire::SubmitOutcome>,
    ) -> Result<Vec<wire::SubmitOutcome>, Error> {
        let open = self.open();
        let mut exist = Vec::new();
        for (index, answer) in open.into_iter().zip(answers) {
            let refused_as = answer.error.as_ref().map(wire::Error::code);
            if self.first_sent_at_ms.is_some()
                && self.id_origins[index] == IdOrigin::Generated
                && refused_as == Some(ErrorCode::TaskExists)
            {
                exist.push(index);
            }
            self.outcomes[index] = Some(answer);
        }
        let ids = exist.iter().map(|index| self.ids[*index].clone()).collect();
        let present = self.present(ids).await?;
        for index in exist {
            let info = present.get(&self.ids[index]);
            self.outcomes[index] = Some(wire::SubmitOutcome {
                kind: submit_outcome::Kind::Created.into(),
                generation: info.map_or(1, |info| info.generation),
                state: info.map_or(wire::TaskState::Unknown, wire::TaskInfo::state).into(),
                ..wire::SubmitOutcome::default()
            });
        }
        Ok(self
            .outcomes
            .into_iter()
            .map(|outcome| outcome.expect("open ones were answered"))
            .collect())
    }

    /// What the broker knows of these ids.
    async fn present(&self, ids: Vec<String>) -> Result<HashMap<String, wire::TaskInfo>, Error> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let left = self.time.deadline.saturating_duration_since(Instant::now());
        let tasks = getting::get(self.connection, ids, With::Nothing, left).await?;
        Ok(tasks.into_iter().map(|task| (task.id.clone(), task)).collect())
    }
}

/// The outcome of the first copy, when the task that the broker has is the one that this copy made
/// or joined.
fn accepted_before(
    task: &wire::Task,
    info: &wire::TaskInfo,
    first_sent_at_ms: i64,
) -> Option<wire::SubmitOutcome> {
    if info.state() == wire::TaskState::Unknown && info.generation == 0 {
        return None;
    }
    let submitted_since = info.submitted_at_ms >= first_sent_at_ms;
    let ended_since = info.finished_at_ms.is_some_and(|at_ms| at_ms >= first_sent_at_ms);
    let kind = match task.on_conflict() {
        // Nobody can tell whether the task is this submit's own, and to report an existing task is
        // the purpose of `reject`.
        wire::OnConflict::Reject => return None,
        _ if submitted_since && info.generation > 1 => submit_outcome::Kind::NewGeneration,
        _ if submitted_since => submit_outcome::Kind::Created,
        wire::OnConflict::RunAgainIfFinished if ended_since => submit_outcome::Kind::Joined,
        _ => return None,
    };
    Some(wire::SubmitOutcome {
        kind: kind.into(),
        generation: info.generation,
        state: info.state,
        ..wire::SubmitOutcome::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_that_ended_after_the_first_copy_was_sent_is_not_run_again() {
        let task = wire::Task::default();
        let at = |submitted_at_ms, finished_at_ms| wire::TaskInfo {
            state: wire::TaskState::Success.into(),
            generation: 1,
            submitted_at_ms,
            finished_at_ms: Some(finished_at_ms),
            ..Default::default()
        };
        let kind = |info| accepted_before(&task, &info, 100).map(|outcome| outcome.kind());
        assert_eq!(kind(at(100, 101)), Some(submit_outcome::Kind::Created));
        assert_eq!(kind(at(50, 101)), Some(submit_outcome::Kind::Joined));
        assert_eq!(kind(at(50, 99)), None);
        assert_eq!(kind(wire::TaskInfo::default()), None);
    }
}
