//! How many bytes of a frame a message takes at most, told from the lengths of its parts, so that
//! nobody has to encode it to know. Nothing here knows the wire but for this: a field is a tag,
//! perhaps a length, and what it holds.

use bytes::Bytes;
use celeriac_machine::command::{Delivery, Message, QueueInfo, SubmitOutcome, View, WorkerStatus};
use celeriac_proto::limits::{
    BATCH_ITEMS_MAX, ERROR_TEXT_BYTES_MAX, ERRORS_KEPT, HEADERS_BYTES_MAX, NAME_BYTES_MAX,
    PROGRESS_BYTES_MAX, TAGS_MAX,
};
use celeriac_record::{Actor, Changed, Submitted, TaskError};

/// The tag of a field and its length, at most.
const FIELD: usize = 2 + 5;

/// All that a frame holds beside what is counted on its own: the id of the request, the tags of the
/// body, cursors.
pub(crate) const FRAME: usize = 512;

/// The numbers of a task, a queue, a worker, or an error; none of them has more.
const NUMBERS: usize = 256;
const ERROR_NUMBERS: usize = 32;

/// A refusal in an outcome, without its sentence.
pub(crate) const OUTCOME: usize = 40;

/// A number in a packed list: a lease, or the place of an id.
const LEASE: usize = 10;
pub(crate) const PLACE: usize = 5;

/// The sentence of a refusal is cut to this.
pub(crate) const SENTENCE_BYTES_MAX: usize = ERROR_TEXT_BYTES_MAX;

const NAME: usize = FIELD + NAME_BYTES_MAX;

/// The headers of one task. Names differ, so that few headers have less than two bytes; one of two
/// bytes takes six in a frame, one of three nine, longer ones less.
const HEADERS: usize = 3 * HEADERS_BYTES_MAX + 1024;

/// The largest delivery but for its payload: numbers, seven names, tags, headers.
pub(crate) const DELIVERY_BYTES_MAX: usize =
    FIELD + NUMBERS + 7 * NAME + TAGS_MAX * NAME + HEADERS + FRAME;

/// The largest task in an answer but for its result: numbers, ten names, tags, headers, progress,
/// errors. Beside it, the places of all others that were asked for.
pub(crate) const VIEW_BYTES_MAX: usize = FIELD
    + NUMBERS
    + 10 * NAME
    + TAGS_MAX * NAME
    + HEADERS
    + (2 * FIELD + NAME + ERROR_NUMBERS + PROGRESS_BYTES_MAX)
    + ERRORS_KEPT * (3 * FIELD + NAME + ERROR_NUMBERS + 2 * ERROR_TEXT_BYTES_MAX)
    + BATCH_ITEMS_MAX * PLACE
    + FRAME;

/// The least frame that holds every answer about one task with such a payload and such a result.
pub(crate) fn frame_bytes_for(payload_bytes: usize, result_bytes: usize) -> usize {
    (DELIVERY_BYTES_MAX + payload_bytes).max(VIEW_BYTES_MAX + result_bytes)
}

/// A text or bytes in a field of their own. An empty one is not written.
fn part(length: usize) -> usize {
    if length == 0 { 0 } else { FIELD + length }
}

fn parts<'a>(texts: impl IntoIterator<Item = &'a str>) -> usize {
    texts.into_iter().map(|text| part(text.len())).sum()
}

/// Bytes of a length itself.
fn length_bytes(length: usize) -> usize {
    (usize::BITS - (length | 1).leading_zeros()).div_ceil(7) as usize
}

/// There may be very many of them, so they are counted to the byte.
fn headers(headers: &[(Box<str>, Bytes)]) -> usize {
    let part = |length: usize| if length == 0 { 0 } else { 1 + length_bytes(length) + length };
    let header = |(key, value): &(Box<str>, Bytes)| {
        let both = part(key.len()) + part(value.len());
        1 + length_bytes(both) + both
    };
    headers.iter().map(header).sum()
}

/// What a task has in a delivery and in an answer, but for its payload.
fn head(task: &Submitted) -> usize {
    let names = [
        &task.id,
        &*task.name,
        &task.queue,
        &task.content_type,
        &task.shadow,
        &task.root_id,
        &task.parent_id,
    ];
    let tags = task.tags.iter().map(|tag| FIELD + tag.len()).sum::<usize>();
    FIELD + NUMBERS + parts(names) + tags + headers(&task.headers)
}

pub(crate) fn delivery(task: &Submitted) -> usize {
    head(task) + part(task.payload.len())
}

/// A view whose records are filled in, or one of no task.
pub(crate) fn view(view: &View) -> usize {
    match view.task.as_ref().and_then(|task| task.records.as_ref()) {
        Some((submitted, changed)) => head(submitted) + changed.as_deref().map_or(0, change),
        None => FIELD + part(view.id.len()),
    }
}

fn change(changed: &Changed) -> usize {
    // The worker may be the actor, too.
    let actor = match &changed.actor {
        Actor::Client(instance) => instance.len(),
        _ => changed.worker.len() + "broker".len(),
    };
    let result = changed
        .result
        .as_ref()
        .map_or(0, |result| part(result.bytes.len()) + part(result.content_type.len()));
    let progress = changed.progress.as_ref();
    let progress = progress.map_or(0, |progress| {
        FIELD + ERROR_NUMBERS + part(progress.state.len()) + part(progress.meta.len())
    });
    let errors = changed.errors.iter().map(error).sum::<usize>();
    part(actor)
        + part(changed.worker.len())
        + part(changed.revoked_reason.len())
        + result
        + progress
        + errors
}

fn error(error: &TaskError) -> usize {
    FIELD + ERROR_NUMBERS + parts([&*error.kind, &error.message, &error.traceback])
}

pub(crate) fn queue(queue: &QueueInfo) -> usize {
    FIELD + NUMBERS + part(queue.record.name.len())
}

/// A worker without the tasks that it holds.
pub(crate) fn worker(worker: &WorkerStatus) -> usize {
    let names = worker
        .queues
        .iter()
        .map(|name| &**name)
        .chain(worker.task_names.iter().map(|name| &**name));
    FIELD + NUMBERS + parts([&*worker.instance, &*worker.hostname]) + parts(names)
}

/// What a task takes in memory beyond that: each header and each tag is an allocation or two.
pub(crate) fn memory(task: &Submitted) -> usize {
    512 + 96 * task.headers.len() + 32 * task.tags.len()
}

pub(crate) fn outcomes(outcomes: &[SubmitOutcome]) -> usize {
    let outcome = |outcome: &SubmitOutcome| match outcome {
        SubmitOutcome::Refused(refusal) => {
            OUTCOME + part(refusal.message.len().min(SENTENCE_BYTES_MAX))
        }
        _ => OUTCOME,
    };
    outcomes.iter().map(outcome).sum()
}

/// A whole message whose records are filled in.
pub(crate) fn message(message: &Message) -> usize {
    let views = |tasks: &[View]| tasks.iter().map(view).sum::<usize>();
    FRAME
        + match message {
            Message::Welcome { leases, .. } | Message::Signal { leases, .. } => {
                leases.len() * LEASE
            }
            Message::Refused { refusal, .. } | Message::Closing(refusal) => {
                OUTCOME + refusal.message.len().min(SENTENCE_BYTES_MAX)
            }
            Message::Submitted { outcomes, .. } => self::outcomes(outcomes),
            Message::Reported { outcomes, .. } => outcomes.len() * OUTCOME / 2,
            Message::Forgot { outcomes, .. } => outcomes.len() * PLACE,
            Message::Cancelled { outcomes, .. } => {
                outcomes.iter().map(|(id, _)| OUTCOME / 2 + part(id.len())).sum::<usize>()
            }
            Message::Got { tasks, left_out, .. }
            | Message::Waited { tasks, left_out, .. }
            | Message::Watching { tasks, left_out, .. } => views(tasks) + left_out.len() * PLACE,
            Message::Page { tasks, .. } => views(tasks),
            Message::Queues { queues, .. } => queues.iter().map(queue).sum(),
            Message::Workers { workers, .. } => {
                workers.iter().map(|status| worker(status) + views(&status.running)).sum()
            }
            Message::Deliver(deliveries) => {
                let task = |one: &Delivery| one.submitted.as_deref().map_or(0, delivery);
                deliveries.iter().map(task).sum()
            }
            Message::Transition { task, .. } => view(task),
            Message::Done { .. }
            | Message::HeartbeatReply { .. }
            | Message::Count { .. }
            | Message::BackedUp { .. }
            | Message::Order(_) => 0,
        }
}
