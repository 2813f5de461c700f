//! The cost of one frame, counted and not timed. It is a program of its own, because its allocator
//! counts.

use bytes::Bytes;
use celeriac_proto::limits::{
    BATCH_FIELD_ITEMS_MAX, FRAME_BYTES_MAX, HEADERS_FIELD_MAX, TAGS_FIELD_MAX,
};
use celeriac_proto::wire::{self, ClientFrame, client_frame::Body};
use celeriac_tests::faults::fuzz;
use celeriac_tests::inside::fuzz::{Counting, cost, taken};
use prost::Message;

#[global_allocator]
static COUNTING: Counting = Counting;

fn frame(body: Body) -> Vec<u8> {
    ClientFrame { request_id: 1, timeout_ms: 0, body: Some(body) }.encode_to_vec()
}

fn submit(task: wire::Task, count: usize) -> Vec<u8> {
    frame(Body::Submit(wire::Submit { tasks: vec![task; count] }))
}

#[test]
fn the_allocator_counts() {
    let before = taken();
    drop(vec![0_u8; 1_000]);
    assert_eq!(taken() - before, 1_000);
}

#[test]
fn no_frame_costs_more_than_its_bytes_and_items_explain() {
    let short = || wire::Task { id: "i".into(), name: "n".into(), ..Default::default() };
    let headers =
        |count: u32| (0..count).map(|key| (key.to_string(), Bytes::from_static(b"v"))).collect();
    let tags = |count: u32| vec![String::from("t"); count as usize];
    let batch = BATCH_FIELD_ITEMS_MAX as usize;
    let failure = wire::TaskError { kind: "k".into(), message: "m".into(), ..Default::default() };
    let fail = wire::Fail { error: Some(failure), r#final: true, ..Default::default() };
    let report = wire::TaskReport {
        report: Some(wire::task_report::Report::Fail(fail)),
        ..Default::default()
    };
    let worker = wire::WorkerInfo {
        queues: vec![wire::QueueSubscription { queue: "q".into(), weight: 1 }; batch],
        task_names: vec!["n".into(); batch],
        ..Default::default()
    };
    let frames = [
        submit(wire::Task::default(), batch),
        submit(short(), batch),
        submit(wire::Task { tags: tags(TAGS_FIELD_MAX), ..short() }, 10_000),
        submit(
            wire::Task { tags: vec![String::new(); TAGS_FIELD_MAX as usize], ..short() },
            10_000,
        ),
        submit(wire::Task { headers: headers(HEADERS_FIELD_MAX), ..short() }, 300),
        submit(wire::Task { headers: headers(20), ..short() }, 10_000),
        submit(wire::Task { payload: vec![1; FRAME_BYTES_MAX / 2].into(), ..short() }, 1),
        frame(Body::Report(wire::Report { reports: vec![report; batch] })),
        frame(Body::Get(wire::Get {
            ids: vec!["i".into(); batch],
            with_results: true,
            ..Default::default()
        })),
        frame(Body::Hello(wire::Hello { worker: Some(worker), ..Default::default() })),
        // Submit with one task of five million empty tags.
        nested(&[32, 1], &[0xaa, 0x01, 0x00].repeat(5_000_000)),
        // A filter with text, and with packed and unpacked states.
        nested(&[69, 1, 2], &[1; 1_000_000]),
        nested(&[69, 1], &[0x10, 0x01].repeat(1_000_000)),
        [15 << 3, 1].repeat(1_000_000),
        vec![0x0b; 1_000_000],
    ];
    for frame in frames {
        cost(&frame);
    }
}

/// Nested fields, the outermost first.
fn nested(fields: &[u32], content: &[u8]) -> Vec<u8> {
    fields.iter().rev().fold(content.to_vec(), |content, field| {
        let mut around = Vec::with_capacity(content.len() + 10);
        prost::encoding::encode_key(
            *field,
            prost::encoding::WireType::LengthDelimited,
            &mut around,
        );
        prost::encoding::encode_varint(content.len() as u64, &mut around);
        around.extend(content);
        around
    })
}

#[tokio::test]
async fn any_frame_costs_what_its_bytes_explain() {
    fuzz::check("cost", 5_000, 1).await;
}
