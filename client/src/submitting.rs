//! Sending submissions: one batch or many, in order, and each task once, even when the connection
//! breaks between a submit and its answer.
//!
//! Sent again, a batch would run those tasks twice that were accepted the first time and have ended
//! meanwhile. So:
//! - an id that this crate made is sent again with `reject`: if the task exists, the first copy was
//!   accepted;
//! - of an id that the caller chose, the broker is asked first. A task that was submitted or has
//!   ended since the first copy was sent is taken as the answer: the submit then counts as having
//!   happened while the task was unfinished.
//!
//! Neither sees a task that ended and was dropped at once, as `ignore_result` has it: such a task
//! may run twice.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use celeriac_proto::wire::{self, ErrorCode, client_frame, server_frame, submit_outcome};
use prost::Message;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::connection::{Connection, Purpose, Reply, deadline_after};
use crate::error::{Error, Refusal};
use crate::getting;
use crate::submission::Submitted;

/// Tasks in one request, if the broker allows so many: large enough to cost nothing per request,
/// and small enough that others come in between.
const BATCH_ITEMS: usize = 1_000;

/// The same for the bytes.
const BATCH_BYTES: usize = 1024 * 1024;

/// What a frame has around its tasks.
const FRAME_OVERHEAD_BYTES: usize = 64;

/// Tasks of one request.
struct Batch {
    tasks: Vec<wire::Task>,
    /// Which ids this crate made.
    minted: Vec<bool>,
    /// Where each one stands in the caller's list.
    positions: Vec<usize>,
    bytes: usize,
}

impl Batch {
    fn with_capacity(tasks: usize) -> Self {
        let (minted, positions) = (Vec::with_capacity(tasks), Vec::with_capacity(tasks));
        Self { tasks: Vec::with_capacity(tasks), minted, positions, bytes: 0 }
    }
}

type Outcomes = Vec<Result<Submitted, Refusal>>;

/// Submits one task, which takes no lists.
pub(crate) async fn submit_one(
    connection: &Connection,
    item: Result<(Box<wire::Task>, bool), Refusal>,
    timeout: Duration,
) -> Result<Submitted, Error> {
    let (task, minted) = item?;
    let bytes = encoded_bytes(&task, connection.limits().frame_bytes_max)?;
    let batch = Batch { tasks: vec![*task], minted: vec![minted], positions: Vec::new(), bytes };
    let (mut ids, mut answers) =
        SubmitUnderWay::begin(connection, batch, timeout).await.finish().await?;
    match (ids.pop(), answers.pop()) {
        (Some(id), Some(answer)) => Ok(Submitted::from_wire(id, answer)?),
        _ => Err(Error::unexpected("one outcome for one task")),
    }
}

/// What a task takes in a frame, with its tag and its length.
fn encoded_bytes(task: &wire::Task, frame_bytes_max: u64) -> Result<usize, Refusal> {
    let bytes = task.encoded_len() + 6;
    if (bytes + FRAME_OVERHEAD_BYTES) as u64 > frame_bytes_max {
        let message =
            format!("a task of {bytes} bytes does not fit into a frame of {frame_bytes_max}");
        return Err(Refusal::local(ErrorCode::PayloadTooLarge, message));
    }
    Ok(bytes)
}

/// Submits what was found good and gives every item of the list its outcome.
///
/// Fails as a whole only if every batch of it failed.
pub(crate) async fn submit_all(
    connection: &Connection,
    items: Vec<Result<(Box<wire::Task>, bool), Refusal>>,
    timeout: Duration,
) -> Result<Outcomes, Error> {
    let mut outcomes: Vec<Option<Result<Submitted, Refusal>>> = Vec::with_capacity(items.len());
    outcomes.resize_with(items.len(), || None);
    let mut under_way: Vec<SubmitUnderWay> = Vec::new();
    // Every batch is handed over before the first answer is awaited, and in order.
    for batch in split(items, &connection.limits(), &mut outcomes) {
        // Where one batch found no room in all its time, the next need not try for as long again.
        let stuck = under_way.last().is_some_and(|before| before.first.is_none());
        let patience = if stuck { Duration::ZERO } else { timeout };
        under_way.push(SubmitUnderWay::begin(connection, batch, patience).await);
    }
    let batches = under_way.len();
    let mut failed = Vec::new();
    for mut submit in under_way {
        let positions = std::mem::take(&mut submit.batch.positions);
        match submit.finish().await {
            Ok((ids, answers)) => {
                for ((position, id), answer) in positions.into_iter().zip(ids).zip(answers) {
                    outcomes[position] = Some(Submitted::from_wire(id, answer));
                }
            }
            Err(error) => {
                let refusal = Refusal::from_error(&error);
                positions
                    .into_iter()
                    .for_each(|position| outcomes[position] = Some(Err(refusal.clone())));
                failed.push(error);
            }
        }
    }
    match failed.pop() {
        Some(error) if failed.len() + 1 == batches => Err(error),
        _ => Ok(outcomes
            .into_iter()
            .map(|outcome| outcome.expect("every item was refused, answered or failed"))
            .collect()),
    }
}

/// Puts the good items into batches that the broker takes, and the refusals in their places.
fn split(
    items: Vec<Result<(Box<wire::Task>, bool), Refusal>>,
    limits: &wire::Limits,
    outcomes: &mut [Option<Result<Submitted, Refusal>>],
) -> Vec<Batch> {
    let items_max = (limits.batch_items_max as usize).clamp(1, BATCH_ITEMS);
    let frame_bytes = usize::try_from(limits.frame_bytes_max)
        .unwrap_or(usize::MAX)
        .saturating_sub(FRAME_OVERHEAD_BYTES);
    let bytes_max = frame_bytes.min(BATCH_BYTES);
    let mut batches: Vec<Batch> = Vec::new();
    let mut left = items.len();
    for (position, item) in items.into_iter().enumerate() {
        left -= 1;
        let fits = |(task, minted): (Box<wire::Task>, bool)| {
            Ok((encoded_bytes(&task, limits.frame_bytes_max)?, task, minted))
        };
        let (bytes, task, minted) = match item.and_then(fits) {
            Ok(item) => item,
            Err(refusal) => {
                outcomes[position] = Some(Err(refusal));
                continue;
            }
        };
        let full =
            |batch: &Batch| batch.tasks.len() >= items_max || batch.bytes + bytes > bytes_max;
        if batches.last().is_none_or(full) {
            batches.push(Batch::with_capacity(items_max.min(left + 1)));
        }
        let batch = batches.last_mut().expect("one was pushed if there was none");
        batch.tasks.push(*task);
        batch.minted.push(minted);
        batch.positions.push(position);
        batch.bytes += bytes;
    }
    batches
}

/// A batch on its way.
struct SubmitUnderWay<'c> {
    connection: &'c Connection,
    batch: Batch,
    /// The tasks of the batch.
    body: Arc<client_frame::Body>,
    timeout: Duration,
    deadline: Instant,
    first: Option<Result<oneshot::Receiver<Reply>, Error>>,
}

impl<'c> SubmitUnderWay<'c> {
    async fn begin(connection: &'c Connection, mut batch: Batch, timeout: Duration) -> Self {
        let deadline = deadline_after(timeout);
        let body = submit_body(std::mem::take(&mut batch.tasks));
        let first = connection.enqueue(body.clone(), timeout, Purpose::Answer, deadline).await;
        Self { connection, batch, body, timeout, deadline, first }
    }

    /// The ids, and one outcome for each, in order.
    async fn finish(self) -> Result<(Vec<String>, Vec<wire::SubmitOutcome>), Error> {
        let Self { connection, batch, body, timeout, deadline, first } = self;
        let first = first.ok_or_else(|| connection.timeout(timeout))??;
        let reply = connection.answer(first, deadline).await;
        let tasks = submitted_tasks(body);
        if let Some(Reply::Answer(answer)) = reply {
            let answers = outcomes(*answer, tasks.len())?;
            return Ok((tasks.into_iter().map(|task| task.id).collect(), answers));
        }
        let ids: Vec<String> = tasks.iter().map(|task| task.id.clone()).collect();
        let repeat = Repeat {
            minted: batch.minted,
            outcomes: vec![None; ids.len()],
            first_sent_at_ms: None,
        };
        let outcomes = repeat.run(connection, &ids, tasks, reply, (timeout, deadline)).await?;
        Ok((ids, outcomes))
    }
}

fn submit_body(tasks: Vec<wire::Task>) -> Arc<client_frame::Body> {
    Arc::new(client_frame::Body::Submit(wire::Submit { tasks }))
}

/// The tasks of a submit that is over, which the connection has let go of by then.
fn submitted_tasks(body: Arc<client_frame::Body>) -> Vec<wire::Task> {
    match Arc::unwrap_or_clone(body) {
        client_frame::Body::Submit(submit) => submit.tasks,
        _ => unreachable!("made by `submit_body`"),
    }
}

/// The outcomes in an answer, one for each of so many tasks.
fn outcomes(answer: server_frame::Body, tasks: usize) -> Result<Vec<wire::SubmitOutcome>, Error> {
    match answer {
        server_frame::Body::SubmitReply(answer) if answer.outcomes.len() == tasks => {
            Ok(answer.outcomes)
        }
        server_frame::Body::SubmitReply(answer) => {
            Err(Error::Protocol(format!("{} outcomes for {tasks} tasks", answer.outcomes.len())))
        }
        _ => Err(Error::unexpected("a SubmitReply")),
    }
}

/// What is known of a batch that may have to be sent again.
struct Repeat {
    minted: Vec<bool>,
    /// Of the whole batch; None for those that are still to be answered, which are the ones sent,
    /// in order.
    outcomes: Vec<Option<wire::SubmitOutcome>>,
    /// On the broker's clock, and not later. Set once it is possible that a copy was accepted.
    first_sent_at_ms: Option<i64>,
}

impl Repeat {
    /// Sends the batch as often as it takes, beginning with what the first time led to.
    async fn run(
        mut self,
        connection: &Connection,
        ids: &[String],
        mut tasks: Vec<wire::Task>,
        mut reply: Option<Reply>,
        (timeout, deadline): (Duration, Instant),
    ) -> Result<Vec<wire::SubmitOutcome>, Error> {
        loop {
            match reply.ok_or_else(|| connection.timeout(timeout))? {
                Reply::Answer(answer) => {
                    let answers = outcomes(*answer, self.open().len())?;
                    return self.complete(connection, ids, answers, deadline).await;
                }
                Reply::Failed(error) => return Err(connection.with_time(error, timeout)),
                Reply::Interrupted { sent_at_ms, refused } => {
                    // A broker that refused has done nothing.
                    if refused.is_none() {
                        tasks = self.prepare(connection, tasks, sent_at_ms, deadline).await?;
                    }
                    if tasks.is_empty() {
                        // Every one of them was accepted before the connection broke.
                        return self.complete(connection, ids, Vec::new(), deadline).await;
                    }
                    connection.pause_before_repeat(refused, deadline).await?;
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let body = submit_body(tasks);
            reply = connection.send_once(body.clone(), left, Purpose::Answer, deadline).await;
            tasks = submitted_tasks(body);
        }
    }

    fn open(&self) -> Vec<usize> {
        (0..self.outcomes.len()).filter(|index| self.outcomes[*index].is_none()).collect()
    }

    /// Makes the tasks ready for being sent again, less those that need not be.
    async fn prepare(
        &mut self,
        connection: &Connection,
        tasks: Vec<wire::Task>,
        sent_at_ms: i64,
        deadline: Instant,
    ) -> Result<Vec<wire::Task>, Error> {
        let first_sent_at_ms = *self.first_sent_at_ms.get_or_insert(sent_at_ms);
        let open = self.open();
        let chosen = open.iter().zip(&tasks).filter(|(index, _)| !self.minted[**index]);
        let chosen: Vec<String> = chosen.map(|(_, task)| task.id.clone()).collect();
        let present = present(connection, chosen, deadline).await?;
        let mut again = Vec::with_capacity(tasks.len());
        for (index, mut task) in open.into_iter().zip(tasks) {
            if self.minted[index] {
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

    /// Fills in the answers of what was sent last.
    async fn complete(
        mut self,
        connection: &Connection,
        ids: &[String],
        answers: Vec<wire::SubmitOutcome>,
        deadline: Instant,
    ) -> Result<Vec<wire::SubmitOutcome>, Error> {
        let open = self.open();
        let mut exist = Vec::new();
        for (index, answer) in open.into_iter().zip(answers) {
            let refused_as = answer.error.as_ref().map(wire::Error::code);
            if self.first_sent_at_ms.is_some()
                && self.minted[index]
                && refused_as == Some(ErrorCode::TaskExists)
            {
                exist.push(index);
            }
            self.outcomes[index] = Some(answer);
        }
        let present =
            present(connection, exist.iter().map(|index| ids[*index].clone()).collect(), deadline)
                .await?;
        for index in exist {
            let info = present.get(&ids[index]);
            self.outcomes[index] = Some(wire::SubmitOutcome {
                kind: submit_outcome::Kind::Created.into(),
                generation: info.map_or(1, |info| info.generation),
                state: info.map_or(wire::TaskState::Unknown, wire::TaskInfo::state).into(),
                error: None,
            });
        }
        Ok(self
            .outcomes
            .into_iter()
            .map(|outcome| outcome.expect("open ones were answered"))
            .collect())
    }
}

/// Whether what the broker has is what the first copy of this submit made or joined.
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
        // Whether it is this submit's own task cannot be told, and to be told so is the point of
        // `reject`.
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
        error: None,
    })
}

/// What the broker has under these ids.
async fn present(
    connection: &Connection,
    ids: Vec<String>,
    deadline: Instant,
) -> Result<HashMap<String, wire::TaskInfo>, Error> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let left = deadline.saturating_duration_since(Instant::now());
    let tasks = getting::get(connection, ids, false, left).await?;
    Ok(tasks.into_iter().map(|task| (task.id.clone(), task)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(id: &str, payload_bytes: usize) -> Result<(Box<wire::Task>, bool), Refusal> {
        let payload = vec![0; payload_bytes].into();
        Ok((Box::new(wire::Task { id: id.into(), payload, ..Default::default() }), true))
    }

    fn batches(
        items: Vec<Result<(Box<wire::Task>, bool), Refusal>>,
        limits: wire::Limits,
    ) -> (Vec<usize>, usize) {
        let mut outcomes = vec![None; items.len()];
        let sizes =
            split(items, &limits, &mut outcomes).iter().map(|batch| batch.tasks.len()).collect();
        (sizes, outcomes.iter().filter(|outcome| matches!(outcome, Some(Err(_)))).count())
    }

    #[test]
    fn batches_keep_to_the_brokers_limits_of_items_and_bytes() {
        let limits =
            wire::Limits { frame_bytes_max: 1_000, batch_items_max: 3, ..Default::default() };
        assert_eq!(batches((0..7).map(|_| task("a", 1)).collect(), limits), (vec![3, 3, 1], 0));
        assert_eq!(batches((0..4).map(|_| task("a", 400)).collect(), limits), (vec![2, 2], 0));
        assert_eq!(
            batches(vec![task("a", 1), task("b", 2_000), task("c", 1)], limits),
            (vec![2], 1)
        );
    }

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
