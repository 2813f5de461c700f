//! How the broker shows tasks: answers to requests, and transitions that it pushes to watches.

use bytes::Bytes;
use celeriac_proto::wire::server_frame::Body;
use celeriac_proto::wire::{
    GetReply, Progress, ServerFrame, TaskError, TaskInfo, TaskState, Transition, WaitReply,
    WaitingFor, WatchReply,
};

use super::vector;
use crate::client::ID;
use crate::{HOUR_MS, NOW_MS, Vector};

pub(super) fn queued() -> TaskInfo {
    TaskInfo {
        id: ID.into(),
        state: TaskState::Queued.into(),
        generation: 1,
        version: 1,
        name: "songs.preprocess".into(),
        queue: "songs".into(),
        shadow: "preprocess: Dynamite".into(),
        priority: 4,
        waiting_for: WaitingFor::Worker.into(),
        submitted_at_ms: NOW_MS,
        attempts_max: 4,
        deliveries_max: 20,
        ..TaskInfo::default()
    }
}

pub(super) fn started() -> TaskInfo {
    TaskInfo {
        state: TaskState::Started.into(),
        version: 3,
        waiting_for: WaitingFor::Nothing.into(),
        leased_at_ms: Some(NOW_MS + 100),
        started_at_ms: Some(NOW_MS + 101),
        worker: "worker-1-4711".into(),
        attempts: 1,
        deliveries: 1,
        ..queued()
    }
}

pub(super) fn success() -> TaskInfo {
    TaskInfo {
        state: TaskState::Success.into(),
        version: 4,
        finished_at_ms: Some(NOW_MS + 2_000),
        forget_at_ms: Some(NOW_MS + 2_000 + 24 * HOUR_MS),
        result: Bytes::from_static(br#"{"tempo":114.0}"#),
        ..started()
    }
}

pub(super) fn failure() -> TaskInfo {
    TaskInfo {
        id: "user-0000".into(),
        state: TaskState::Failure.into(),
        version: 9,
        headers: [("traceparent".to_owned(), Bytes::from_static(b"00-0af7651916cd43dd-01"))].into(),
        tags: vec!["album:1".into()],
        root_id: "album-1".into(),
        parent_id: "album-1".into(),
        eta_at_ms: Some(NOW_MS + 50),
        expires_at_ms: Some(NOW_MS + HOUR_MS),
        finished_at_ms: Some(NOW_MS + 2_000),
        attempts: 1,
        attempts_max: 1,
        progress: Some(Progress {
            state: "DECODING".into(),
            meta: Bytes::from_static(br#"{"percent":50}"#),
            at_ms: NOW_MS + 900,
        }),
        errors: vec![TaskError {
            kind: "DecodeError".into(),
            message: "no audio track".into(),
            traceback: "decode.py:12".into(),
            at_ms: NOW_MS + 2_000,
            attempt: 1,
            leased_at_ms: Some(NOW_MS + 100),
            started_at_ms: Some(NOW_MS + 101),
            worker: "worker-1-4711".into(),
        }],
        ..started()
    }
}

pub(super) fn looking() -> Vec<Vector<ServerFrame>> {
    let unknown = TaskInfo { id: "user-9999".into(), ..TaskInfo::default() };
    vec![
        vector(
            "get-reply",
            "Ended with a result, dead after its attempts, never heard of.",
            4,
            Body::GetReply(GetReply {
                tasks: vec![success(), failure(), unknown],
                left_out: vec![],
            }),
        ),
        vector(
            "get-reply/full",
            "The frame had room for the first task and the third; ask for the second and the fourth.",
            13,
            Body::GetReply(GetReply { tasks: vec![success(), failure()], left_out: vec![1, 3] }),
        ),
        vector(
            "wait-reply/full",
            "Both tasks have ended; the frame had room for the second.",
            14,
            Body::WaitReply(WaitReply {
                satisfied: true,
                tasks: vec![success()],
                left_out: vec![0],
            }),
        ),
        vector(
            "watch-reply/full",
            "Watch 2 begins for 131 tasks; the frame had room for all but the last.",
            15,
            Body::WatchReply(WatchReply {
                watch_id: 2,
                tasks: vec![queued(); 130],
                left_out: vec![130],
            }),
        ),
        vector(
            "wait-reply/satisfied",
            "The task has ended.",
            3,
            Body::WaitReply(WaitReply {
                satisfied: true,
                tasks: vec![success()],
                left_out: vec![],
            }),
        ),
        vector(
            "wait-reply/time-over",
            "The time was over first; this is what is there.",
            3,
            Body::WaitReply(WaitReply {
                satisfied: false,
                tasks: vec![started()],
                left_out: vec![],
            }),
        ),
        vector(
            "watch-reply",
            "Watch 1 begins; the task waits.",
            2,
            Body::WatchReply(WatchReply { watch_id: 1, tasks: vec![queued()], left_out: vec![] }),
        ),
    ]
}

pub(super) fn transitions() -> Vec<Vector<ServerFrame>> {
    let revoked = TaskInfo {
        state: TaskState::Revoked.into(),
        version: 2,
        waiting_for: WaitingFor::Nothing.into(),
        finished_at_ms: Some(NOW_MS + 60),
        revoked_reason: "expired".into(),
        cancel_requested: false,
        ..queued()
    };
    vec![
        vector(
            "transition/started",
            "Pushed for watch 1.",
            0,
            Body::Transition(Transition { watch_id: 1, task: Some(started()) }),
        ),
        vector(
            "transition/success",
            "The last one of this generation; the watch did not ask for results.",
            0,
            Body::Transition(Transition {
                watch_id: 1,
                task: Some(TaskInfo { result: Bytes::new(), ..success() }),
            }),
        ),
        vector(
            "transition/revoked",
            "It expired before it started.",
            0,
            Body::Transition(Transition { watch_id: 1, task: Some(revoked) }),
        ),
    ]
}

/// A task that is scheduled for an hour later.
fn scheduled() -> TaskInfo {
    TaskInfo {
        id: "user-0001".into(),
        state: TaskState::Scheduled.into(),
        waiting_for: WaitingFor::Time.into(),
        eta_at_ms: Some(NOW_MS + HOUR_MS),
        ..queued()
    }
}

/// A task that failed once; its second attempt is due a second later. After a failure the delivery
/// does not count.
fn retry() -> TaskInfo {
    TaskInfo {
        id: "user-0002".into(),
        state: TaskState::Retry.into(),
        version: 4,
        waiting_for: WaitingFor::Time.into(),
        eta_at_ms: Some(NOW_MS + 3_000),
        attempts: 1,
        deliveries: 0,
        errors: vec![TaskError {
            kind: "DecodeError".into(),
            message: "no audio track".into(),
            traceback: "decode.py:12".into(),
            at_ms: NOW_MS + 2_000,
            attempt: 1,
            leased_at_ms: Some(NOW_MS + 100),
            started_at_ms: Some(NOW_MS + 101),
            worker: "worker-1-4711".into(),
        }],
        actor: "worker-1-4711".into(),
        ..started()
    }
}

fn leased() -> TaskInfo {
    TaskInfo {
        state: TaskState::Leased.into(),
        version: 2,
        started_at_ms: None,
        attempts: 0,
        actor: "broker".into(),
        ..started()
    }
}

/// The reasons why tasks may wait, except for a worker.
pub(super) fn waiting() -> Vec<Vector<ServerFrame>> {
    let turn = TaskInfo { waiting_for: WaitingFor::Turn.into(), ..queued() };
    let paused =
        TaskInfo { id: "user-0003".into(), waiting_for: WaitingFor::Queue.into(), ..queued() };
    let msgpack = TaskInfo {
        result: Bytes::from_static(&[0x93, 1, 2, 3]),
        result_content_type: "application/msgpack".into(),
        actor: "worker-1-4711".into(),
        ..success()
    };
    vec![
        vector(
            "get-reply/waiting",
            "One waits for its eta, one for its next attempt, one for a worker to be free, one for its queue to be resumed.",
            4,
            Body::GetReply(GetReply {
                tasks: vec![scheduled(), retry(), turn, paused],
                left_out: vec![],
            }),
        ),
        vector(
            "get-reply/payload",
            "One with its payload, and one whose payload had no room beside its result.",
            4,
            Body::GetReply(GetReply {
                tasks: vec![
                    TaskInfo {
                        payload: Bytes::from_static(br#"[["Dynamite"],{}]"#),
                        content_type: "application/json".into(),
                        ..queued()
                    },
                    TaskInfo { payload_left_out: true, ..success() },
                ],
                left_out: vec![],
            }),
        ),
        vector(
            "get-reply/msgpack",
            "The result has a content type of its own.",
            4,
            Body::GetReply(GetReply { tasks: vec![msgpack], left_out: vec![] }),
        ),
    ]
}

/// Transitions with their actors.
pub(super) fn changes() -> Vec<Vector<ServerFrame>> {
    let cancelled = TaskInfo {
        version: 4,
        cancel_requested: true,
        cancel_requested_at_ms: Some(NOW_MS + 1_500),
        actor: "web-1".into(),
        ..started()
    };
    let transition = |task| Body::Transition(Transition { watch_id: 1, task: Some(task) });
    vec![
        vector(
            "transition/leased",
            "The broker handed the task to a worker.",
            0,
            transition(leased()),
        ),
        vector(
            "transition/cancel-requested",
            "A client asked the running task to stop; its state is the same and its version is not.",
            0,
            transition(cancelled),
        ),
        vector(
            "transition/retry",
            "A worker reported a failure, and attempts are left.",
            0,
            transition(retry()),
        ),
        vector(
            "transition/forgotten",
            "The task is gone; its versions begin anew if the id is submitted again.",
            0,
            transition(TaskInfo { id: ID.into(), ..TaskInfo::default() }),
        ),
    ]
}
