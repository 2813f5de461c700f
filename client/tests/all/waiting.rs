//! Waiting for outputs: results and failures, unknown tasks, the end of the time, reconnects.

use std::time::Duration;

use celeriac_client::{Error, ErrorCode, State, WaitMode};
use celeriac_proto::limits::{BATCH_ITEMS_MAX, WAITED_IDS_MAX};
use celeriac_proto::wire::{self, TaskState, client_frame, server_frame};

use crate::broker::{FakeBroker, Peer, SOON, info};

async fn answer_wait(peer: &mut Peer, satisfied: bool, tasks: Vec<wire::TaskInfo>) -> wire::Wait {
    match peer.receive().await {
        (id, client_frame::Body::Wait(wait)) => {
            peer.answer(
                id,
                server_frame::Body::WaitReply(wire::WaitReply {
                    satisfied,
                    tasks,
                    ..Default::default()
                }),
            )
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
    let (output, wait) =
        tokio::join!(handle.get(SOON), answer_wait(&mut peer, true, vec![success("[7,\"x\"]")]));
    assert_eq!(output.expect("a pair"), (7, "x".to_owned()));
    assert!(wait.with_results);
    let (output, _) =
        tokio::join!(handle.get(SOON), answer_wait(&mut peer, true, vec![success("{}")]));
    assert!(matches!(output, Err(Error::Decode { .. })));
}

#[tokio::test]
async fn failures_revocations_and_unknown_tasks_are_errors_of_their_own() {
    let broker = FakeBroker::bind().await;
    let (client, mut peer) = broker.client().await;
    let handle = client.result::<()>("a");
    let failed = wire::TaskInfo {
        errors: vec![wire::TaskError {
            kind: "Broken".into(),
            message: "no sound".into(),
            ..Default::default()
        }],
        attempts: 4,
        ..info("a", TaskState::Failure, 9)
    };
    let (output, _) = tokio::join!(handle.get(SOON), answer_wait(&mut peer, true, vec![failed]));
    assert!(matches!(output, Err(Error::TaskFailed { kind, attempts: 4, .. }) if kind == "Broken"));
    let revoked =
        wire::TaskInfo { revoked_reason: "expired".into(), ..info("a", TaskState::Revoked, 2) };
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
        // The first answer comes too early, so the client asks again. The second comes in time.
        answer_wait(&mut peer, false, vec![info("a", TaskState::Started, 3)]).await;
        let (id, client_frame::Body::Wait(_)) = peer.receive().await else { panic!("a wait") };
        // The test is about the passing of the caller's own time.
        tokio::time::sleep(patience).await;
        let tasks = vec![info("a", TaskState::Started, 3)];
        peer.answer(
            id,
            server_frame::Body::WaitReply(wire::WaitReply {
                satisfied: false,
                tasks,
                ..Default::default()
            }),
        )
        .await;
    });
    let error = output.expect_err("it has not ended");
    assert!(error.is_retryable());
    assert_eq!(error.to_string(), "task a has not ended within 120ms: it is STARTED");
    let Error::NotFinished { id, state, after } = error else { panic!("{error}") };
    assert_eq!((id.as_str(), state, after), ("a", State::Started, patience));
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
async fn waits_take_no_room_from_other_requests() {
    let mut broker = FakeBroker::bind().await;
    broker.limits.requests_in_flight_max = 20;
    let (client, mut peer) = broker.client().await;
    let mut waits = tokio::task::JoinSet::new();
    for _ in 0..500 {
        let handle = client.result::<u32>("a");
        waits.spawn(async move { handle.get(SOON).await });
    }
    for _ in 0..500 {
        assert!(matches!(peer.receive().await, (_, client_frame::Body::Wait(_))));
    }
    let ids = ["b"];
    let (tasks, asked) =
        tokio::join!(client.info(&ids), peer.answer_get(vec![info("b", TaskState::Queued, 1)]));
    tasks.expect("answered beside the waits");
    assert_eq!(asked, ["b"]);
}

#[tokio::test]
async fn waiting_for_any_of_several_returns_them_all_as_they_stand() {
    let broker = FakeBroker::bind().await;
    let (client, mut peer) = broker.client().await;
    let ids = ["a", "b"];
    let tasks = vec![info("a", TaskState::Started, 3), info("b", TaskState::Failure, 5)];
    let (waited, wait) =
        tokio::join!(client.wait(&ids, WaitMode::Any, SOON), answer_wait(&mut peer, true, tasks));
    let waited = waited.expect("answered");
    assert!(waited.satisfied);
    assert_eq!(
        waited.tasks.iter().map(|task| task.state).collect::<Vec<_>>(),
        [State::Started, State::Failure]
    );
    assert_eq!(
        (wait.mode(), wait.ids),
        (wire::wait::Mode::Any, vec!["a".to_owned(), "b".to_owned()])
    );
}

/// The request ids of the waits that the client withdraws next.
async fn withdrawn(peer: &mut Peer) -> Vec<u64> {
    match peer.receive().await {
        (_, client_frame::Body::Unwait(unwait)) => unwait.request_ids,
        (_, other) => panic!("an Unwait and not {other:?}"),
    }
}

#[tokio::test]
async fn a_caller_that_goes_away_withdraws_its_wait_at_once_and_no_other() {
    let broker = FakeBroker::bind().await;
    let (client, mut peer) = broker.client().await;
    let stays = tokio::spawn({
        let handle = client.result::<u32>("a");
        async move { handle.get(SOON).await }
    });
    let (stays_id, client_frame::Body::Wait(_)) = peer.receive().await else { panic!("a wait") };
    let goes = tokio::spawn({
        let handle = client.result::<u32>("a");
        async move { handle.get(SOON).await }
    });
    let (goes_id, client_frame::Body::Wait(_)) = peer.receive().await else { panic!("a wait") };
    goes.abort();
    assert_eq!(withdrawn(&mut peer).await, [goes_id]);
    // The answer to the withdrawn wait was already on its way.
    for id in [goes_id, stays_id] {
        let tasks = vec![success("5")];
        let reply = wire::WaitReply { satisfied: true, tasks, ..Default::default() };
        peer.answer(id, server_frame::Body::WaitReply(reply)).await;
    }
    assert_eq!(stays.await.expect("it was not aborted").expect("a number"), 5);
}

#[tokio::test]
async fn a_broker_that_does_not_answer_in_time_is_told_that_nobody_waits() {
    let broker = FakeBroker::bind().await;
    let (client, mut peer) = broker.client().await;
    let handle = client.result::<u32>("a");
    let (output, ()) = tokio::join!(handle.get(Duration::from_millis(10)), async {
        let (id, client_frame::Body::Wait(_)) = peer.receive().await else { panic!("a wait") };
        assert_eq!(withdrawn(&mut peer).await, [id]);
    });
    assert!(matches!(output, Err(Error::Timeout { .. })), "{output:?}");
}

#[tokio::test]
async fn one_wait_more_than_a_connection_may_have_is_refused_at_once_and_room_comes_back() {
    let broker = FakeBroker::bind().await;
    let (client, mut peer) = broker.client().await;
    let ids: Vec<String> = (0..BATCH_ITEMS_MAX).map(|id| id.to_string()).collect();
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..WAITED_IDS_MAX / BATCH_ITEMS_MAX {
        let (client, ids) = (client.clone(), ids.clone());
        all.spawn(async move { client.wait(&ids, WaitMode::Any, SOON).await });
        assert!(matches!(peer.receive().await, (_, client_frame::Body::Wait(_))));
    }
    let error = client.result::<u32>("a").get(SOON).await.expect_err("there is no room");
    assert!(matches!(error, Error::Refused { code: ErrorCode::Overloaded, .. }), "{error:?}");
    all.abort_all();
    withdrawn(&mut peer).await;
    let handle = client.result::<u32>("a");
    let (output, _) =
        tokio::join!(handle.get(SOON), answer_wait(&mut peer, true, vec![success("5")]));
    assert_eq!(output.expect("a number"), 5);
}
