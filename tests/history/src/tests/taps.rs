//! From bytes to entries.

use std::time::Duration;

use celeriac_proto::FrameCodec;
use celeriac_proto::wire::client_frame::Body as ClientBody;
use celeriac_proto::wire::server_frame::Body as ServerBody;
use celeriac_proto::wire::{ClientFrame, ServerFrame};
use futures_util::{SinkExt, StreamExt};
use tokio_util::codec::Framed;

use super::*;
use crate::{History, TappedStream};

type Client = Framed<TappedStream<tokio::io::DuplexStream>, FrameCodec<ServerFrame, ClientFrame>>;
type Broker = Framed<tokio::io::DuplexStream, FrameCodec<ClientFrame, ServerFrame>>;

/// A client with a tap, and its peer. Few bytes fit between them, so that frames are
/// written in pieces.
fn connected(history: &History) -> (Client, Broker) {
    let (near, far) = tokio::io::duplex(7);
    let near = TappedStream::new(near, history.connecting("client"));
    (Framed::new(near, FrameCodec::new(1 << 20)), Framed::new(far, FrameCodec::new(1 << 20)))
}

fn request(request_id: u64, body: ClientBody) -> ClientFrame {
    ClientFrame { request_id, timeout_ms: 0, body: Some(body) }
}

#[tokio::test]
async fn frames_become_entries_whatever_pieces_they_come_in() {
    let history = History::new();
    let (mut client, mut broker) = connected(&history);
    let answering = tokio::spawn(async move {
        let asked = broker.next().await.expect("it items").expect("in a frame");
        let outcome = |kind: Kind| wire::SubmitOutcome {
            kind: kind.into(),
            generation: 1,
            ..Default::default()
        };
        let outcomes = vec![outcome(Kind::Created), outcome(Kind::Joined)];
        let body = Some(ServerBody::SubmitReply(wire::SubmitReply { outcomes }));
        broker.send(ServerFrame { request_id: asked.request_id, body }).await.expect("it is there");
        let deliver = wire::Deliver { deliveries: vec![delivery("a", 7)] };
        broker
            .send(ServerFrame { request_id: 0, body: Some(ServerBody::Deliver(deliver)) })
            .await
            .expect("it is there");
        broker
    });
    let submit = wire::Submit { tasks: vec![task("a"), task("a")] };
    client.send(request(1, ClientBody::Submit(submit))).await.expect("the other end reads");
    for _ in 0..2 {
        client.next().await.expect("it answers").expect("in a frame");
    }
    drop((client, answering.await));
    let events: Vec<String> = history.entries().iter().map(|entry| named(&entry.event)).collect();
    assert_eq!(
        events,
        ["connecting", "submit", "submit", "answer to 1", "answer to 2", "delivered 7", "gone"]
    );
}

fn named(event: &Event) -> String {
    match event {
        Event::Connecting => "connecting".into(),
        Event::Asked(RequestItem::Submit(_)) => "submit".into(),
        Event::Answered { item, answer: Answer::Submit(_) } => format!("answer to {item}"),
        Event::Refused { item, .. } => format!("refusal of {item}"),
        Event::Delivered(delivery) => format!("delivered {}", delivery.lease),
        Event::Disconnected => "gone".into(),
        other => format!("{other:?}"),
    }
}

#[tokio::test]
async fn what_is_asked_is_written_down_before_it_can_be_seen() {
    let history = History::new();
    let (mut client, _broker) = connected(&history);
    // No peer reads, and the frame does not fit: the client is still writing.
    let request = request(1, ClientBody::Submit(wire::Submit { tasks: vec![task("a")] }));
    assert!(tokio::time::timeout(Duration::from_millis(10), client.send(request)).await.is_err());
    assert!(matches!(history.entries()[1].event, Event::Asked(RequestItem::Submit(_))));
}

#[tokio::test]
async fn a_request_that_was_refused_as_a_whole_is_told_from_one_whose_fate_is_unknown() {
    for (code, refusals) in [(ErrorCode::InvalidArgument, 1), (ErrorCode::DeadlineExceeded, 0)] {
        let history = History::new();
        let mut tap = history.connecting("client");
        tap.sent(&request(1, ClientBody::Submit(wire::Submit { tasks: vec![task("a")] })));
        let error = wire::Error { code: code.into(), ..Default::default() };
        tap.received(ServerFrame { request_id: 1, body: Some(ServerBody::Error(error)) });
        let refused = history
            .entries()
            .iter()
            .filter(|entry| matches!(entry.event, Event::Refused { .. }))
            .count();
        assert_eq!(refused, refusals, "{code:?}");
    }
}

#[test]
fn a_cancel_says_of_each_id_what_it_did_and_of_a_tree_which_ids_it_meant() {
    let history = History::new();
    let mut tap = history.connecting("client");
    let outcome =
        || wire::CancelOutcome { id: "a".into(), kind: cancel_outcome::Kind::Revoked.into() };
    let reply = || Some(ServerBody::CancelReply(wire::CancelReply { outcomes: vec![outcome()] }));
    tap.sent(&request(
        1,
        ClientBody::Cancel(wire::Cancel { ids: vec!["a".into()], ..Default::default() }),
    ));
    tap.received(ServerFrame { request_id: 1, body: reply() });
    tap.sent(&request(
        2,
        ClientBody::Cancel(wire::Cancel { root_id: "a".into(), ..Default::default() }),
    ));
    tap.received(ServerFrame { request_id: 2, body: reply() });
    let entries = history.entries();
    assert!(matches!(entries[2].event, Event::Answered { item: 1, answer: Answer::Cancel(_) }));
    assert!(matches!(entries[4].event, Event::Answered { item: 3, answer: Answer::CancelMany(_) }));
}

#[test]
fn a_pause_of_many_queues_is_answered_once_for_all() {
    let history = History::new();
    let mut tap = history.connecting("operator");
    let queues = vec!["one".into(), "two".into()];
    tap.sent(&request(1, ClientBody::PauseQueues(wire::PauseQueues { queues, paused: true })));
    tap.received(ServerFrame { request_id: 1, body: Some(ServerBody::Done(wire::Done {})) });
    let entries = history.entries();
    assert!(
        matches!(&entries[2].event, Event::Asked(RequestItem::Pause { queue, paused: true }) if queue == "two")
    );
    assert!(matches!(entries[3].event, Event::Answered { item: 1, answer: Answer::Done }));
    assert!(matches!(entries[4].event, Event::Answered { item: 2, answer: Answer::Done }));
}

#[test]
fn a_list_of_workers_shows_the_tasks_that_they_hold() {
    let history = History::new();
    let mut tap = history.connecting("operator");
    tap.sent(&request(1, ClientBody::ListWorkers(wire::ListWorkers::default())));
    let worker =
        wire::WorkerStatus { running: vec![at("a", 2, TaskState::Leased)], ..Default::default() };
    let body = Some(ServerBody::WorkerList(wire::WorkerList {
        workers: vec![worker.clone(), worker],
        ..Default::default()
    }));
    tap.received(ServerFrame { request_id: 1, body });
    assert!(
        matches!(&history.entries()[2].event, Event::Answered { answer: Answer::List(tasks), .. } if tasks.len() == 2)
    );
}
