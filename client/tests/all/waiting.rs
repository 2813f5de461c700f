//! Waiting for outputs: what a task said, unknown tasks, the end of patience, reconnects.

use std::time::Duration;

use celeriac_client::{Error, State, WaitMode};
use celeriac_proto::wire::{self, TaskState, client_frame, server_frame};

use crate::fake_broker::{FakeBroker, Peer, SOON, info};

async fn answer_wait(peer: &mut Peer, satisfied: bool, tasks: Vec<wire::TaskInfo>) -> wire::Wait {
    match peer.receive().await {
        (id, client_frame::Body::Wait(wait)) => {
            peer.answer(id, server_frame::Body::WaitReply(wire::WaitReply { satisfied, tasks, ..Default::default() }))
                .await;
            wait
        }
        (_, other) => panic!("a wait and not {other:?}"),
    }
}

fn success(result: &'static str) -> wire::TaskInfo {
    wire::TaskInfo { result: result.into(), ..info("a", TaskState::Success, 4) }
}

#[tokio::test]
async fn the_output_comes_as_its_type() {
    let broker = FakeBroker::bind().await;
    let (client, mut peer) = broker.client().await;
    let handle = client.result::<(u32, String)>("a");
    let (output, wait) = tokio::join!(handle.get(SOON), answer_wait(&mut peer, true, vec![success("[7,\"x\"]")]));
    assert_eq!(output.expect("a pair"), (7, "x".to_owned()));
    assert!(wait.with_results);
    let (output, _) = tokio::join!(handle.get(SOON), answer_wait(&mut peer, true, vec![success("{}")]));
    assert!(matches!(output, Err(Error::Decode { .. })));
}

#[tokio::test]
async fn failures_revocations_and_unknown_tasks_are_errors_of_their_own() {
    let broker = FakeBroker::bind().await;
    let (client, mut peer) = broker.client().await;
    let handle = client.result::<()>("a");
    let failed = wire::TaskInfo {
        errors: vec![wire::TaskError { kind: "Broken".into(), message: "no sound".into(), ..Default::default() }],
        attempts: 4,
        ..info("a", TaskState::Failure, 9)
    };
    let (output, _) = tokio::join!(handle.get(SOON), answer_wait(&mut peer, true, vec![failed]));
    assert!(matches!(output, Err(Error::TaskFailed { kind, attempts: 4, .. }) if kind == "Broken"));
    let revoked = wire::TaskInfo { revoked_reason: "expired".into(), ..info("a", TaskState::Revoked, 2) };
    let (output, _) = tokio::join!(handle.get(SOON), answer_wait(&mut peer, true, vec![revoked]));
    assert!(matches!(output, Err(Error::TaskRevoked { reason, .. }) if reason == "expired"));
    let unknown = wire::TaskInfo { id: "a".into(), ..Default::default() };
    let (output, _) = tokio::join!(handle.get(SOON), answer_wait(&mut peer, true, vec![unknown]));
    assert!(matches!(output, Err(Error::NotFound { id }) if id == "a"));
}

#[tokio::test]
async fn waiting_ends_when_the_callers_time_is_over() {
    let broker = FakeBroker::bind().await;
    let (client, mut peer) = broker.client().await;
    let handle = client.result::<()>("a");
    let patience = Duration::from_millis(120);
    let (output, ()) = tokio::join!(handle.get(patience), async {
        // Too early, so it is asked again; then in time.
        answer_wait(&mut peer, false, vec![info("a", TaskState::Started, 3)]).await;
        let (id, client_frame::Body::Wait(_)) = peer.receive().await else { panic!("a wait") };
        // The passing of the caller's own time is what is tested.
        tokio::time::sleep(patience).await;
        let tasks = vec![info("a", TaskState::Started, 3)];
        peer.answer(
            id,
            server_frame::Body::WaitReply(wire::WaitReply { satisfied: false, tasks, ..Default::default() }),
        )
        .await;
    });
    assert!(matches!(output, Err(Error::Timeout { after, .. }) if after == patience));
}

#[tokio::test]
async fn waiting_goes_on_after_a_reconnect() {
    let broker = FakeBroker::bind().await;
    let (client, mut peer) = broker.client().await;
    let handle = client.result::<u32>("a");
    let (output, ()) = tokio::join!(handle.get(SOON), async {
        peer.receive().await;
        drop(peer);
        answer_wait(&mut broker.welcome().await, true, vec![success("5")]).await;
    });
    assert_eq!(output.expect("a number"), 5);
}

#[tokio::test]
async fn many_waits_leave_room_for_other_requests() {
    let mut broker = FakeBroker::bind().await;
    broker.limits.requests_in_flight_max = 20;
    let (client, mut peer) = broker.client().await;
    let mut waits = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let handle = client.result::<u32>("a");
        waits.spawn(async move { handle.get(SOON).await });
    }
    for _ in 0..10 {
        assert!(matches!(peer.receive().await, (_, client_frame::Body::Wait(_))));
    }
    let ids = ["b"];
    let (tasks, asked) = tokio::join!(client.info(&ids), peer.answer_get(vec![info("b", TaskState::Queued, 1)]));
    tasks.expect("answered beside the waits");
    assert_eq!(asked, ["b"]);
}

#[tokio::test]
async fn waiting_for_any_of_several_returns_them_all_as_they_stand() {
    let broker = FakeBroker::bind().await;
    let (client, mut peer) = broker.client().await;
    let ids = ["a", "b"];
    let tasks = vec![info("a", TaskState::Started, 3), info("b", TaskState::Failure, 5)];
    let (waited, wait) = tokio::join!(client.wait(&ids, WaitMode::Any, SOON), answer_wait(&mut peer, true, tasks));
    let waited = waited.expect("answered");
    assert!(waited.satisfied);
    assert_eq!(waited.tasks.iter().map(|task| task.state).collect::<Vec<_>>(), [State::Started, State::Failure]);
    assert_eq!((wait.mode(), wait.ids), (wire::wait::Mode::Any, vec!["a".to_owned(), "b".to_owned()]));
}
