//! Sending submissions in batches: one task or many, in order, and each task once, even when the
//! connection breaks between a submit and its answer. What happens then is in `resend`.

mod resend;

use std::sync::Arc;
use std::time::Duration;

use celeriac_proto::limits::{HEADERS_FIELD_MAX, TAGS_FIELD_MAX};
use celeriac_proto::wire::{self, ErrorCode, client_frame, server_frame};
use prost::Message;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::connection::{Connection, Purpose, Reply, deadline_after};
use crate::error::{Error, Refusal};
use crate::submission::{CheckedTask, IdOrigin, Submitted};
use resend::Resend;

/// The most tasks of one request, unless the broker allows fewer. So many tasks make the cost of a
/// request negligible, and other requests still get their turn between two batches.
const BATCH_ITEMS: usize = 1_000;

/// The most bytes of one request, for the same reason.
const BATCH_BYTES: usize = 1024 * 1024;

/// The bytes that a frame has besides its tasks.
const FRAME_OVERHEAD_BYTES: usize = 64;

/// The bytes that a task has in a frame besides its own encoding: a tag of one byte and a length of
/// up to five.
const TASK_OVERHEAD_BYTES: usize = 6;

/// The tasks of one request.
struct Batch {
    /// The tasks, until the batch is sent.
    tasks: Vec<wire::Task>,
    /// One entry for each task.
    id_origins: Vec<IdOrigin>,
    /// The place of each task in the caller's list; empty for a task that is submitted alone.
    positions: Vec<usize>,
    /// The encoded length of the tasks.
    bytes: usize,
}

impl Batch {
    /// An empty batch with room for so many tasks.
    fn with_capacity(tasks: usize) -> Self {
        let (id_origins, positions) = (Vec::with_capacity(tasks), Vec::with_capacity(tasks));
        Self { tasks: Vec::with_capacity(tasks), id_origins, positions, bytes: 0 }
    }
}

/// The outcome of each submission of a list, in the order of the list.
type Outcomes = Vec<Result<Submitted, Refusal>>;

/// The answer to a whole batch: one outcome for each id.
struct BatchAnswer {
    /// The ids of the batch, in its order.
    ids: Vec<String>,
    /// One outcome for each id.
    outcomes: Vec<wire::SubmitOutcome>,
}

/// How long a request may take: the caller's timeout, and the moment when it is over.
#[derive(Clone, Copy)]
struct TimeLimit {
    /// As the caller gave it, for the error message.
    timeout: Duration,
    /// When it is over.
    deadline: Instant,
}

impl TimeLimit {
    /// A time limit that begins now.
    fn begin(timeout: Duration) -> Self {
        Self { timeout, deadline: deadline_after(timeout) }
    }
}

/// Submits one task. Does not build the lists that a batch of many tasks needs.
pub(crate) async fn submit_one(
    connection: &Connection,
    item: Result<CheckedTask, Refusal>,
    timeout: Duration,
) -> Result<Submitted, Error> {
    let CheckedTask { task, id_origin } = item?;
    let bytes = encoded_bytes(&task, connection.limits().frame_bytes_max)?;
    let (tasks, id_origins) = (vec![*task], vec![id_origin]);
    let batch = Batch { tasks, id_origins, positions: Vec::new(), bytes };
    let mut answer = SentBatch::send(connection, batch, timeout).await.finish().await?;
    match (answer.ids.pop(), answer.outcomes.pop()) {
        (Some(id), Some(outcome)) => Ok(Submitted::from_wire(id, outcome)?),
        _ => Err(Error::unexpected("one outcome for one task")),
    }
}

/// The bytes of a task in a frame.
fn encoded_bytes(task: &wire::Task, frame_bytes_max: u64) -> Result<usize, Refusal> {
    let bytes = task.encoded_len() + TASK_OVERHEAD_BYTES;
    if (bytes + FRAME_OVERHEAD_BYTES) as u64 > frame_bytes_max {
        let message =
            format!("a task of {bytes} bytes does not fit into a frame of {frame_bytes_max}");
        return Err(Refusal::local(ErrorCode::PayloadTooLarge, message));
    }
    // The broker refuses a frame with such a task as a whole, and the task alone is at fault.
    for (count, most, what) in [
        (task.tags.len(), TAGS_FIELD_MAX, "tags"),
        (task.headers.len(), HEADERS_FIELD_MAX, "headers"),
    ] {
        if count > most as usize {
            let message = format!("a task with {count} {what}: no broker takes more than {most}");
            return Err(Refusal::local(ErrorCode::InvalidArgument, message));
        }
    }
    Ok(bytes)
}

/// Submits the tasks that passed the checks, and gives every item of the list its outcome.
///
/// Fails as a whole only if all of its batches failed.
pub(crate) async fn submit_all(
    connection: &Connection,
    items: Vec<Result<CheckedTask, Refusal>>,
    timeout: Duration,
) -> Result<Outcomes, Error> {
    let mut outcomes: Vec<Option<Result<Submitted, Refusal>>> = Vec::with_capacity(items.len());
    outcomes.resize_with(items.len(), || None);
    let mut sent: Vec<SentBatch> = Vec::new();
    // All batches are handed over, in order, before the first answer is awaited.
    for batch in split(items, &connection.limits(), &mut outcomes) {
        // When a batch found no room within its whole time, the next one does not wait as long
        // again.
        let is_stuck = sent.last().is_some_and(|before| before.reply.is_none());
        let timeout = if is_stuck { Duration::ZERO } else { timeout };
        sent.push(SentBatch::send(connection, batch, timeout).await);
    }
    let batches = sent.len();
    let mut failed = Vec::new();
    for mut batch in sent {
        let positions = std::mem::take(&mut batch.batch.positions);
        match batch.finish().await {
            Ok(BatchAnswer { ids, outcomes: answered }) => {
                for ((position, id), outcome) in positions.into_iter().zip(ids).zip(answered) {
                    outcomes[position] = Some(Submitted::from_wire(id, outcome));
                }
            }
            Err(error) => {
                let refusal = Refusal::from_error(&error);
                for position in positions {
                    outcomes[position] = Some(Err(refusal.clone()));
                }
                failed.push(error);
            }
        }
    }
    match failed.pop() {
        // Nothing was submitted: the caller gets the error in place of a list of refusals.
        Some(error) if failed.len() + 1 == batches => Err(error),
        _ => Ok(outcomes
            .into_iter()
            .map(|outcome| outcome.expect("every item was refused, answered or failed"))
            .collect()),
    }
}

/// Puts the checked tasks into batches that the broker accepts, and the refusals into their places
/// in `outcomes`.
fn split(
    items: Vec<Result<CheckedTask, Refusal>>,
    limits: &wire::Limits,
    outcomes: &mut [Option<Result<Submitted, Refusal>>],
) -> Vec<Batch> {
    let items_max = (limits.batch_items_max as usize).clamp(1, BATCH_ITEMS);
    let frame_bytes = usize::try_from(limits.frame_bytes_max)
        .unwrap_or(usize::MAX)
        .saturating_sub(FRAME_OVERHEAD_BYTES);
    // A single task may be longer than `BATCH_BYTES`; it then has a batch of its own.
    let bytes_max = frame_bytes.min(BATCH_BYTES);
    let mut batches: Vec<Batch> = Vec::new();
    let mut left = items.len();
    for (position, item) in items.into_iter().enumerate() {
        left -= 1;
        let fits = |checked: CheckedTask| {
            Ok((encoded_bytes(&checked.task, limits.frame_bytes_max)?, checked))
        };
        let (bytes, CheckedTask { task, id_origin }) = match item.and_then(fits) {
            Ok(item) => item,
            Err(refusal) => {
                outcomes[position] = Some(Err(refusal));
                continue;
            }
        };
        let is_full =
            |batch: &Batch| batch.tasks.len() >= items_max || batch.bytes + bytes > bytes_max;
        if batches.last().is_none_or(is_full) {
            batches.push(Batch::with_capacity(items_max.min(left + 1)));
        }
        let batch = batches.last_mut().expect("one was pushed if there was none");
        batch.tasks.push(*task);
        batch.id_origins.push(id_origin);
        batch.positions.push(position);
        batch.bytes += bytes;
    }
    batches
}

/// A batch that was sent and whose answer is awaited.
struct SentBatch<'c> {
    connection: &'c Connection,
    batch: Batch,
    /// Holds the tasks of the batch until the answer is there.
    body: Arc<client_frame::Body>,
    time: TimeLimit,
    /// `None`: the batch could not be handed over within its time.
    reply: Option<Result<oneshot::Receiver<Reply>, Error>>,
}

impl<'c> SentBatch<'c> {
    /// Hands a batch over to the connection. It does not wait for the answer, so that the next
    /// batch can follow at once.
    async fn send(connection: &'c Connection, mut batch: Batch, timeout: Duration) -> Self {
        let time = TimeLimit::begin(timeout);
        let body = submit_body(std::mem::take(&mut batch.tasks));
        let reply = connection.enqueue(body.clone(), timeout, Purpose::Answer, time.deadline).await;
        Self { connection, batch, body, time, reply }
    }

    /// Waits for the answer, and sends the batch again as long as the connection breaks before it.
    async fn finish(self) -> Result<BatchAnswer, Error> {
        let Self { connection, batch, body, time, reply } = self;
        let reply = reply.ok_or_else(|| connection.timeout(time.timeout))??;
        let reply = connection.answer(reply, time.deadline).await;
        let tasks = submitted_tasks(body);
        if let Some(Reply::Answer(answer)) = reply {
            let outcomes = outcomes(*answer, tasks.len())?;
            return Ok(BatchAnswer {
                ids: tasks.into_iter().map(|task| task.id).collect(),
                outcomes,
            });
        }
        let ids: Vec<String> = tasks.iter().map(|task| task.id.clone()).collect();
        let resend = Resend::new(connection, &ids, batch.id_origins, time);
        let outcomes = resend.run(tasks, reply).await?;
        Ok(BatchAnswer { ids, outcomes })
    }
}

/// The body of a submit of these tasks.
fn submit_body(tasks: Vec<wire::Task>) -> Arc<client_frame::Body> {
    Arc::new(client_frame::Body::Submit(wire::Submit { tasks }))
}

/// Takes the tasks out of a submit that is over. The connection no longer holds the body then.
fn submitted_tasks(body: Arc<client_frame::Body>) -> Vec<wire::Task> {
    match Arc::unwrap_or_clone(body) {
        client_frame::Body::Submit(submit) => submit.tasks,
        _ => unreachable!("made by `submit_body`"),
    }
}

/// The outcomes in an answer to a submit of so many tasks.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn task(id: &str, payload_bytes: usize) -> Result<CheckedTask, Refusal> {
        let payload = vec![0; payload_bytes].into();
        let task = Box::new(wire::Task { id: id.into(), payload, ..Default::default() });
        Ok(CheckedTask { task, id_origin: IdOrigin::Generated })
    }

    fn batches(
        items: Vec<Result<CheckedTask, Refusal>>,
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
}
