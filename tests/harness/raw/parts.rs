//! The parts of the frames that tests send most: a Hello, a task, reports.

use bytes::{Bytes, BytesMut};
use celeriac_proto::wire::{self, task_report};
use celeriac_proto::{FrameCodec, limits};
use tokio_util::codec::Encoder;

use super::Request;

/// A Hello that the broker must accept.
pub fn hello() -> wire::Hello {
    wire::Hello {
        protocol_min: limits::PROTOCOL_VERSION,
        protocol_max: limits::PROTOCOL_VERSION,
        client_name: "celeriac-tests".into(),
        client_version: "0".into(),
        instance_id: format!("test-{}", uuid::Uuid::now_v7()),
        ..Default::default()
    }
}

/// A Hello of a worker of these queues and task names.
pub fn worker_hello(queues: &[&str], names: &[&str]) -> wire::Hello {
    let subscriptions = queues
        .iter()
        .map(|queue| wire::QueueSubscription { queue: (*queue).into(), weight: 1 })
        .collect();
    let worker = wire::WorkerInfo {
        queues: subscriptions,
        task_names: names.iter().map(|name| (*name).into()).collect(),
        hostname: "test".into(),
        pid: std::process::id(),
        concurrency: 1,
        ..wire::WorkerInfo::default()
    };
    wire::Hello { worker: Some(worker), ..hello() }
}

/// A task with an empty JSON call as its payload.
pub fn task(id: &str, name: &str) -> wire::Task {
    wire::Task {
        id: id.into(),
        name: name.into(),
        payload: Bytes::from_static(b"[[],{}]"),
        ..Default::default()
    }
}

/// A report on a delivery.
pub fn report(delivery: &wire::Delivery, report: task_report::Report) -> wire::TaskReport {
    wire::TaskReport { id: delivery.id.clone(), lease: delivery.lease, report: Some(report) }
}

/// The handler's success.
pub fn complete(result: &[u8]) -> task_report::Report {
    task_report::Report::Complete(wire::Complete {
        result: Bytes::copy_from_slice(result),
        content_type: "application/json".into(),
        ..Default::default()
    })
}

/// The handler's failure. The retry policy of the task may run it again.
pub fn fail(message: &str) -> task_report::Report {
    let error =
        wire::TaskError { kind: "TestError".into(), message: message.into(), ..Default::default() };
    task_report::Report::Fail(wire::Fail {
        error: Some(error),
        r#final: false,
        ..Default::default()
    })
}

/// The handler has begun.
pub fn started() -> task_report::Report {
    task_report::Report::Started(wire::Started {})
}

/// The bytes of a frame, its length in front.
pub fn frame_bytes(frame: wire::ClientFrame) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    FrameCodec::<wire::ServerFrame, _>::new(0).encode(frame, &mut bytes).expect("it is short");
    bytes.to_vec()
}

/// The bytes of a frame with a good Hello, as request 1.
pub fn hello_bytes() -> Vec<u8> {
    frame_bytes(wire::ClientFrame {
        request_id: 1,
        timeout_ms: 0,
        body: Some(Request::Hello(hello())),
    })
}
