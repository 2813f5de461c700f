//! Frames of a later broker within version 1: fields, bodies and values that the client does not
//! know.

use celeriac_proto::wire::server_frame::Body;
use celeriac_proto::wire::{
    CancelOutcome, CancelReply, CancelSignal, Error, ForgetReply, GetReply, Order, ReportOutcome,
    ReportReply, ServerFrame, SubmitOutcome, SubmitReply, TaskInfo, TaskState, Transition,
};
use prost::Message;

use super::encodings::{field, raw, same};
use super::{Received, Then, frame, frame_of, received};

/// A value that no enum has yet.
const LATER: i32 = 1_000;

/// Fields that no message has yet: a number, 8 bytes, a text, 4 bytes.
const LATER_FIELDS: &[u8] = &[
    0xc0, 0x3e, 0x96, 0x01, //
    0xc9, 0x3e, 1, 2, 3, 4, 5, 6, 7, 8, //
    0xd2, 0x3e, 0x05, b'l', b'a', b't', b'e', b'r', //
    0xdd, 0x3e, 1, 2, 3, 4,
];

pub(super) fn fields() -> Vec<Received> {
    let done = [&frame_of("done").encode_to_vec()[..], LATER_FIELDS].concat();
    let Some(Body::SubmitReply(reply)) = frame_of("submit-reply/created").body else {
        unreachable!("it is one")
    };
    let answer =
        [&[0x08, 0x02], &field(32, &[&reply.encode_to_vec()[..], LATER_FIELDS].concat())[..]]
            .concat();
    let Some(Body::Transition(push)) = frame_of("transition/started").body else {
        unreachable!("it is one")
    };
    let push = field(131, &[&push.encode_to_vec()[..], LATER_FIELDS].concat());
    let Some(Body::WatchReply(reply)) = frame_of("watch-reply").body else {
        unreachable!("it is one")
    };
    let task = field(2, &[&reply.tasks[0].encode_to_vec()[..], LATER_FIELDS].concat());
    let nested = [&[0x08, 0x02], &field(37, &[&[0x08, 0x01], &task[..]].concat())[..]].concat();
    vec![
        same(
            "unknown/fields-of-a-frame",
            "Four fields that the client does not know, one of each kind.",
            "C: credit",
            "done",
            &done,
        ),
        same(
            "unknown/fields-of-an-answer",
            "The same in the answer itself.",
            "C: submit/one-task",
            "submit-reply/created",
            &answer,
        ),
        same(
            "unknown/fields-of-a-push",
            "The same in what is pushed.",
            "C: watch, B: watch-reply",
            "transition/started",
            &push,
        ),
        same(
            "unknown/fields-of-a-task",
            "The same in a message within the answer.",
            "C: watch",
            "watch-reply",
            &nested,
        ),
    ]
}

pub(super) fn bodies() -> Vec<Received> {
    let later = |name, about, given, request_id, then| {
        let known = ServerFrame { request_id, body: None };
        let bytes = raw(&[&known.encode_to_vec()[..], &field(2_000, &[])].concat());
        Received { bytes, ..received(name, about, given, known, then) }
    };
    vec![
        later("unknown/push", "The broker sends something new unasked.", "", 0, Then::Ignore),
        later(
            "unknown/answer",
            "An answer of a new kind, which this request cannot have: whether it was carried out is not known.",
            "C: get",
            4,
            Then::FailRequest { retryable: false },
        ),
    ]
}

fn known_task() -> TaskInfo {
    match frame_of("watch-reply").body {
        Some(Body::WatchReply(reply)) => reply.tasks[0].clone(),
        _ => unreachable!("it is one"),
    }
}

pub(super) fn values() -> Vec<Received> {
    let task = TaskInfo { state: LATER, version: 2, ..known_task() };
    let waits = TaskInfo { waiting_for: LATER, ..known_task() };
    let got = |task| frame(4, Body::GetReply(GetReply { tasks: vec![task], left_out: vec![] }));
    let moved = frame(0, Body::Transition(Transition { watch_id: 1, task: Some(task.clone()) }));
    let signal = CancelSignal { leases: vec![42], kind: LATER, reason: "later".into() };
    let error = |retryable| Error {
        code: LATER,
        message: "a reason of a later protocol".into(),
        retryable,
        ..Error::default()
    };
    vec![
        received(
            "unknown/state-pushed",
            "A watched task is in a state that the client does not know; it may ask again.",
            "C: watch, B: watch-reply",
            moved,
            Then::Take("TASK_STATE_UNKNOWN"),
        ),
        received(
            "unknown/state-answered",
            "The same in the answer to a Get.",
            "C: get",
            got(task),
            Then::Take("TASK_STATE_UNKNOWN"),
        ),
        received(
            "unknown/waiting-for",
            "The task waits for something new.",
            "C: get",
            got(waits),
            Then::Take("WAITING_FOR_NOTHING"),
        ),
        received(
            "unknown/signal",
            "A signal of a new kind: the handler of lease 42 runs on.",
            "C: credit, B: deliver",
            frame(0, Body::CancelSignal(signal)),
            Then::Ignore,
        ),
        received(
            "unknown/order",
            "An order of a new kind: the worker goes on.",
            "",
            frame(0, Body::Order(Order { kind: LATER })),
            Then::Ignore,
        ),
        received(
            "unknown/error-retryable",
            "A new code: `retryable` says what to do.",
            "C: get",
            frame(4, Body::Error(error(true))),
            Then::FailRequest { retryable: true },
        ),
        received(
            "unknown/error-final",
            "The same, when trying again is of no use.",
            "C: get",
            frame(4, Body::Error(error(false))),
            Then::FailRequest { retryable: false },
        ),
    ]
}

pub(super) fn outcomes() -> Vec<Received> {
    let reported = ReportOutcome { code: LATER, state: TaskState::Started.into() };
    let submitted = SubmitOutcome {
        kind: LATER,
        generation: 3,
        state: TaskState::Queued.into(),
        ..SubmitOutcome::default()
    };
    let cancelled = CancelOutcome { id: "user-7f3a".into(), kind: LATER };
    vec![
        received(
            "unknown/report-code",
            "The report was refused for a new reason: it is not sent again, and it does not count.",
            "C: credit, B: deliver, C: report/complete",
            frame(5, Body::ReportReply(ReportReply { outcomes: vec![reported] })),
            Then::FailItem,
        ),
        received(
            "unknown/forget-code",
            "The task was not dropped, for a new reason; the outcome has its place all the same.",
            "C: forget",
            frame(8, Body::ForgetReply(ForgetReply { outcomes: vec![LATER] })),
            Then::FailItem,
        ),
        received(
            "unknown/submit-kind",
            "The client cannot tell what became of the task: it looks with Get.",
            "C: submit/one-task",
            frame(2, Body::SubmitReply(SubmitReply { outcomes: vec![submitted] })),
            Then::FailItem,
        ),
        received(
            "unknown/cancel-kind",
            "The client cannot tell what the cancel did.",
            "C: cancel/tag",
            frame(8, Body::CancelReply(CancelReply { outcomes: vec![cancelled] })),
            Then::Take("KIND_UNSPECIFIED"),
        ),
    ]
}
