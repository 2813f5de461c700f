//! Requests of workers about their leases.

use bytes::Bytes;
use celeriac_proto::wire::client_frame::Body;
use celeriac_proto::wire::task_report::Report as Outcome;
use celeriac_proto::wire::{
    ClientFrame, Complete, Credit, Fail, ProgressReport, QueueSubscription, Reject, Release,
    Report, RetryLater, Serve, Settle, Started, Take, TaskError, TaskReport,
};

use super::{ID, ids, vector};
use crate::Vector;

pub(super) fn report(
    name: &'static str,
    about: &'static str,
    request_id: u64,
    report: Outcome,
) -> Vector<ClientFrame> {
    let report = TaskReport { id: ID.into(), lease: 42, report: Some(report) };
    vector(name, about, request_id, Body::Report(Report { reports: vec![report] }))
}

pub(super) fn broken_file() -> Option<TaskError> {
    Some(TaskError {
        kind: "DecodeError".into(),
        message: "no audio track".into(),
        traceback: "decode.py:12".into(),
        ..TaskError::default()
    })
}

pub(super) fn work() -> Vec<Vector<ClientFrame>> {
    let complete =
        || Complete { result: Bytes::from_static(br#"{"tempo":114.0}"#), ..Complete::default() };
    let batch = vec![
        TaskReport { id: ID.into(), lease: 42, report: Some(Outcome::Complete(complete())) },
        TaskReport {
            id: "user-0000".into(),
            lease: 41,
            report: Some(Outcome::Release(Release::default())),
        },
    ];
    vec![
        vector("credit", "At most four leases at once.", 2, Body::Credit(Credit { credit: 4 })),
        vector("credit/none", "No more deliveries.", 8, Body::Credit(Credit { credit: 0 })),
        report("report/started", "The handler has begun.", 3, Outcome::Started(Started {})),
        report(
            "report/progress",
            "Half of it is done.",
            4,
            Outcome::Progress(ProgressReport {
                state: "DECODING".into(),
                meta: Bytes::from_static(br#"{"percent":50}"#),
            }),
        ),
        report(
            "report/complete",
            "The handler returned a value.",
            5,
            Outcome::Complete(complete()),
        ),
        report(
            "report/fail",
            "The handler failed and may run again.",
            6,
            Outcome::Fail(Fail { error: broken_file(), ..Fail::default() }),
        ),
        report(
            "report/fail-final",
            "The handler failed and must not run again.",
            6,
            Outcome::Fail(Fail { error: broken_file(), r#final: true, ..Fail::default() }),
        ),
        report(
            "report/retry",
            "The handler asks for another attempt in 30 seconds.",
            6,
            Outcome::Retry(RetryLater { after_ms: Some(30_000), error: None }),
        ),
        report("report/release", "Handed back.", 6, Outcome::Release(Release::default())),
        report(
            "report/reject",
            "Dead at once.",
            6,
            Outcome::Reject(Reject { error: broken_file() }),
        ),
        vector(
            "report/batch",
            "Two leases in one frame.",
            7,
            Body::Report(Report { reports: batch }),
        ),
    ]
}

/// What a worker serves, and tasks that it takes.
pub(super) fn serving() -> Vec<Vector<ClientFrame>> {
    vec![
        vector(
            "serve",
            "One queue and one name more, one queue and one name less.",
            3,
            Body::Serve(Serve {
                add_queues: vec![QueueSubscription { queue: "night".into(), weight: 1 }],
                remove_queues: ids(&["default"]),
                add_task_names: ids(&["songs.master"]),
                remove_task_names: ids(&["songs.cluster"]),
            }),
        ),
        vector(
            "take",
            "Up to two ready tasks of a queue, at once.",
            4,
            Body::Take(Take { queue: "night".into(), count: 2 }),
        ),
    ]
}

/// The other fields of reports.
pub(super) fn more() -> Vec<Vector<ClientFrame>> {
    vec![
        report(
            "report/complete-msgpack",
            "The handler returned a value that is no JSON.",
            5,
            Outcome::Complete(Complete {
                result: Bytes::from_static(&[0x93, 1, 2, 3]),
                content_type: "application/msgpack".into(),
                ..Complete::default()
            }),
        ),
        report(
            "report/complete-kept",
            "The broker keeps the result for five minutes, whatever the submit said.",
            5,
            Outcome::Complete(Complete {
                result: Bytes::from_static(b"1"),
                result_ttl_ms: Some(300_000),
                ..Complete::default()
            }),
        ),
        report(
            "report/fail-result",
            "The handler failed for good, and readers get a result with the failure.",
            6,
            Outcome::Fail(Fail {
                error: broken_file(),
                r#final: true,
                result: Bytes::from_static(br#"{"exc_type":"DecodeError"}"#),
                content_type: "application/json".into(),
                result_ttl_ms: Some(300_000),
            }),
        ),
        report(
            "report/settle",
            "The handler has begun, and the task never runs again.",
            3,
            Outcome::Settle(Settle {}),
        ),
        report(
            "report/retry-by-policy",
            "The handler asks for another attempt when the retry policy says, and tells why.",
            6,
            Outcome::Retry(RetryLater { after_ms: None, error: broken_file() }),
        ),
        report(
            "report/release-not-begun",
            "Started was reported, and the handler has not begun all the same.",
            6,
            Outcome::Release(Release { not_begun: true, lost: false }),
        ),
        report(
            "report/release-lost",
            "The process that ran the handler died.",
            6,
            Outcome::Release(Release { not_begun: false, lost: true }),
        ),
    ]
}
