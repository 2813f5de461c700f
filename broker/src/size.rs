//! The most bytes that a message takes in a frame. They are computed from the lengths of its parts,
//! so that the broker need not encode the message to measure it. This file knows only one fact
//! about the wire format: a field is a tag, perhaps a length, and a value.

use bytes::Bytes;
use celeriac_machine::command::{
    Answer, BindingOutline, DeliveredMail, DestinationName, Push, QueueOutline, QueueStats, Stats,
    StoredOutcome, SubmitOutcome, WorkerStatus,
};
use celeriac_proto::limits::{
    BATCH_ITEMS_MAX, ERROR_TEXT_BYTES_MAX, ERRORS_KEPT, HEADERS_BYTES_MAX, NAME_BYTES_MAX,
    PROGRESS_BYTES_MAX, TAGS_MAX,
};
use celeriac_record::{Actor, Changed, Submitted, TaskError};

use crate::outgoing::{Outgoing, Selection, Shown, TaskView, WorkerView};

/// The most bytes of a field's tag and length.
const FIELD: usize = 2 + 5;

/// The parts of a frame that are not counted separately: the id of the request, the tags of the
/// body, cursors.
pub(crate) const FRAME: usize = 512;

/// The most bytes of all numbers of a task, a queue, a worker, or an error.
const NUMBERS: usize = 256;
const ERROR_NUMBERS: usize = 56;

/// The figures of the broker.
pub(crate) const BROKER: usize = 512;

/// The broker's own figures for monitors: numbers, two histograms of a queue and that of the
/// commits, and a count for each code.
const BROKER_STATS: usize = 3_072;

/// A refusal in an outcome, without its sentence.
pub(crate) const OUTCOME: usize = 40;

/// A number in a packed list: a lease, or the place of an id.
const LEASE: usize = 10;
pub(crate) const PLACE: usize = 5;

/// The sentence of a refusal is cut to this length.
pub(crate) const SENTENCE_BYTES_MAX: usize = ERROR_TEXT_BYTES_MAX;

const NAME: usize = FIELD + NAME_BYTES_MAX;

/// The headers of one task. Their names differ, so few headers have less than two bytes. A header
/// of two bytes takes six bytes in a frame, and a header of three bytes takes nine. Longer headers
/// take less than three times their bytes.
const HEADERS: usize = 3 * HEADERS_BYTES_MAX + 1024;

/// The largest delivery without its payload: numbers, eight names, tags, headers.
pub(crate) const DELIVERY_BYTES_MAX: usize =
    FIELD + NUMBERS + 8 * NAME + TAGS_MAX * NAME + HEADERS + FRAME;

/// The largest task in an answer without its result: numbers, ten names, tags, headers, progress,
/// errors. The places of all other tasks of the request are counted too.
pub(crate) const VIEW_BYTES_MAX: usize = FIELD
    + NUMBERS
    + 10 * NAME
    + TAGS_MAX * NAME
    + HEADERS
    + (2 * FIELD + NAME + ERROR_NUMBERS + PROGRESS_BYTES_MAX)
    + ERRORS_KEPT * (3 * FIELD + 2 * NAME + ERROR_NUMBERS + 2 * ERROR_TEXT_BYTES_MAX)
    + BATCH_ITEMS_MAX * PLACE
    + FRAME;

/// The least frame that holds every answer about one task with such a payload and such a result.
pub(crate) fn frame_bytes_for(payload_bytes: usize, result_bytes: usize) -> usize {
    (DELIVERY_BYTES_MAX + payload_bytes).max(VIEW_BYTES_MAX + result_bytes)
}

/// The bytes of a field that holds text or bytes. An empty field is not written.
fn part(length: usize) -> usize {
    if length == 0 { 0 } else { FIELD + length }
}

fn parts<'a>(texts: impl IntoIterator<Item = &'a str>) -> usize {
    texts.into_iter().map(|text| part(text.len())).sum()
}

/// Bytes of an encoded length.
fn length_bytes(length: usize) -> usize {
    (usize::BITS - (length | 1).leading_zeros()).div_ceil(7) as usize
}

/// A task may have very many headers, so their bytes are counted exactly.
fn headers(headers: &[(Box<str>, Bytes)]) -> usize {
    let part = |length: usize| if length == 0 { 0 } else { 1 + length_bytes(length) + length };
    let header = |(key, value): &(Box<str>, Bytes)| {
        let both = part(key.len()) + part(value.len());
        1 + length_bytes(both) + both
    };
    headers.iter().map(header).sum()
}

/// The fields of a task that both a delivery and an answer have, without the payload.
fn head(task: &Submitted) -> usize {
    let spec = &task.spec;
    let names = [
        &spec.id,
        &*spec.name,
        &spec.queue,
        &spec.content_type,
        &spec.shadow,
        &spec.root_id,
        &spec.parent_id,
    ];
    let tags = spec.tags.iter().map(|tag| FIELD + tag.len()).sum::<usize>();
    FIELD + NUMBERS + parts(names) + tags + headers(&spec.headers)
}

pub(crate) fn delivery(task: &Submitted) -> usize {
    head(task) + part(task.spec.payload.len())
}

/// A task in an answer, or an id without a task.
pub(crate) fn task(view: &TaskView) -> usize {
    match &view.found {
        Some(found) => {
            let payload = part(found.submitted.spec.payload.len());
            head(&found.submitted) + payload + found.changed.as_deref().map_or(0, change)
        }
        None => FIELD + part(view.id.len()),
    }
}

fn tasks(views: &[TaskView]) -> usize {
    views.iter().map(task).sum()
}

fn selection(selection: &Selection) -> usize {
    tasks(&selection.tasks) + selection.left_out.len() * PLACE
}

fn change(changed: &Changed) -> usize {
    // The worker may also be the actor.
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
    let texts = [&*error.kind, &error.message, &error.traceback, &error.worker];
    FIELD + ERROR_NUMBERS + parts(texts)
}

pub(crate) fn queue(queue: &QueueOutline) -> usize {
    FIELD + NUMBERS + part(queue.record.name.len())
}

/// The figures of a queue for monitors: each histogram has seventeen numbers and a sum.
pub(crate) fn queue_stats(queue: &QueueStats) -> usize {
    let spans = if queue.counters.spans.is_some() { 2 * (2 * FIELD + 18 * LEASE) } else { 0 };
    2 * FIELD + NUMBERS + part(queue.name.len()) + spans
}

/// The figures for monitors without those of queues: the cursor repeats the last name.
pub(crate) fn stats_head(stats: &Stats) -> usize {
    NAME + NUMBERS + if stats.broker.is_some() { BROKER_STATS } else { 0 }
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

/// The bytes that a view takes in memory beyond its bytes in a frame: each header and each tag is
/// one allocation or two.
pub(crate) fn memory(view: &TaskView) -> usize {
    let spec = view.found.as_ref().map(|found| &found.submitted.spec);
    spec.map_or(0, |spec| 512 + 96 * spec.headers.len() + 32 * spec.tags.len())
}

pub(crate) fn outcomes(outcomes: &[SubmitOutcome]) -> usize {
    let outcome = |outcome: &SubmitOutcome| match outcome {
        SubmitOutcome::Refused(refusal) => {
            OUTCOME + part(refusal.message.len().min(SENTENCE_BYTES_MAX))
        }
        SubmitOutcome::CreatedBeside { id, .. } | SubmitOutcome::JoinedBeside { id, .. } => {
            OUTCOME + part(id.len())
        }
        SubmitOutcome::Created { .. }
        | SubmitOutcome::Joined { .. }
        | SubmitOutcome::NewGeneration { .. } => OUTCOME,
    };
    outcomes.iter().map(outcome).sum()
}

pub(crate) fn stored(outcomes: &[StoredOutcome]) -> usize {
    let sentence = |outcome: &StoredOutcome| match outcome {
        Ok(_) => 0,
        Err((refusal, _)) => part(refusal.message.len().min(SENTENCE_BYTES_MAX)),
    };
    outcomes.iter().map(|outcome| OUTCOME + sentence(outcome)).sum()
}

/// A whole message.
#[cfg(any(test, feature = "internals"))]
pub(crate) fn message(message: &Outgoing) -> usize {
    FRAME + body(message)
}

/// A message without the parts that every frame has.
pub(crate) fn body(message: &Outgoing) -> usize {
    match message {
        Outgoing::Answer(_, reply) => answer(reply),
        Outgoing::Show(_, answer) => shown(answer),
        Outgoing::Deliver(deliveries) => {
            deliveries.iter().map(|one| delivery(&one.submitted)).sum()
        }
        Outgoing::Transition { task: view, .. } => task(view),
        Outgoing::Push(Push::Signal { leases, .. }) => leases.len() * LEASE,
        Outgoing::Push(Push::Closing(refusal)) => {
            OUTCOME + refusal.message.len().min(SENTENCE_BYTES_MAX)
        }
        Outgoing::Push(Push::Order(_)) => 0,
        Outgoing::Push(Push::Mail { messages, .. }) => messages.iter().map(mail).sum(),
        Outgoing::Push(Push::ConsumerEnded { mailbox, .. }) => part(mailbox.len()),
    }
}

/// A message of a mailbox.
fn mail(mail: &DeliveredMail) -> usize {
    let message = &mail.message;
    let exchange = message.exchange.as_ref().map_or(0, |name| part(name.len()));
    let texts = part(message.routing_key.len()) + part(message.content_type.len());
    FIELD + OUTCOME + exchange + texts + part(message.body.len()) + part(message.properties.len())
}

fn binding(binding: &BindingOutline) -> usize {
    let to = binding.to.as_ref().map_or(0, |to| match to {
        DestinationName::Mailbox(name) => FIELD + part(name.len()),
        DestinationName::Queue(name) => FIELD + part(name.len()),
    });
    FIELD + OUTCOME + part(binding.exchange.len()) + part(binding.routing_key.len()) + to
}

fn answer(answer: &Answer) -> usize {
    match answer {
        Answer::Welcome { leases, .. } => leases.len() * LEASE,
        Answer::Refused(refusal) => OUTCOME + refusal.message.len().min(SENTENCE_BYTES_MAX),
        Answer::Submitted(outcomes) => self::outcomes(outcomes),
        Answer::Stored(outcomes) => stored(outcomes),
        Answer::Chord(chord) => {
            NUMBERS + chord.parts.iter().map(|id| part(id.len())).sum::<usize>()
        }
        Answer::Reported(outcomes) => outcomes.len() * OUTCOME / 2,
        Answer::Forgot(outcomes) => outcomes.len() * PLACE,
        Answer::Cancelled(outcomes) => {
            outcomes.iter().map(|(id, _)| OUTCOME / 2 + part(id.len())).sum::<usize>()
        }
        Answer::Done
        | Answer::Heartbeat { .. }
        | Answer::Count(_)
        | Answer::Declared { .. }
        | Answer::BackedUp { .. } => 0,
        Answer::LogFilter(filter) => part(filter.len()),
        Answer::Mailbox { mailbox, .. } => part(mailbox.len()),
        Answer::Consuming(_) => 0,
        Answer::Fetched { message, .. } => message.as_ref().map_or(0, mail),
    }
}

fn shown(shown: &Shown) -> usize {
    match shown {
        Shown::Got { tasks } | Shown::Waited { tasks, .. } | Shown::Watching { tasks, .. } => {
            selection(tasks)
        }
        Shown::Page(page) => page.tasks.iter().map(|(_, view)| task(view)).sum(),
        Shown::Queues { queues, .. } => queues.iter().map(|one| queue(&one.outline)).sum(),
        Shown::Workers { workers, .. } => {
            let one = |view: &WorkerView| worker(&view.status) + tasks(&view.running);
            workers.iter().map(one).sum()
        }
        Shown::Mailboxes { mailboxes, .. } => {
            // The cursor repeats the last name.
            let names = mailboxes.iter().map(|one| FIELD + 2 * OUTCOME + part(one.mailbox.len()));
            names.sum::<usize>() + NAME
        }
        Shown::Broker(_) => BROKER,
        Shown::Stats(view) => {
            stats_head(&view.stats) + view.stats.queues.iter().map(queue_stats).sum::<usize>()
        }
        Shown::Bindings { bindings, .. } => {
            // The cursor repeats the last binding.
            let last = bindings.last().map_or(0, binding);
            bindings.iter().map(binding).sum::<usize>() + last
        }
    }
}
