//! Watches: every transition comes once, and the present state always comes, over reconnects and
//! refusals.

use celeriac_client::{State, Watch};
use celeriac_proto::wire::{self, ErrorCode, TaskState, client_frame, server_frame};
use futures_util::StreamExt;

use crate::broker::{FakeBroker, Peer, info, refusal};

async fn begin_watch(peer: &mut Peer, watch_id: u64, tasks: Vec<wire::TaskInfo>) -> Vec<String> {
    match peer.receive().await {
        (id, client_frame::Body::Watch(watch)) => {
            peer.answer(
                id,
                server_frame::Body::WatchReply(wire::WatchReply {
                    watch_id,
                    tasks,
                    ..Default::default()
                }),
            )
            .await;
            watch.ids
        }
        (_, other) => panic!("a watch and not {other:?}"),
    }
}

async fn push(peer: &mut Peer, watch_id: u64, task: wire::TaskInfo) {
    peer.push(server_frame::Body::Transition(wire::Transition { watch_id, task: Some(task) }))
        .await;
}

async fn next(watch: &mut Watch) -> (State, u32) {
    let task = watch.next().await.expect("the watch goes on");
    (task.state, task.version)
}

#[tokio::test]
async fn a_watch_shows_the_present_state_and_then_every_transition() {
    let broker = FakeBroker::bind().await;
    let (client, mut peer) = broker.client().await;
    let handle = client.result::<()>("a");
    let (watch, ids) = tokio::join!(handle.watch(), async {
        let ids = begin_watch(&mut peer, 7, vec![info("a", TaskState::Queued, 1)]).await;
        push(&mut peer, 7, info("a", TaskState::Leased, 2)).await;
        push(&mut peer, 7, info("a", TaskState::Started, 3)).await;
        ids
    });
    let mut watch = watch.expect("begun");
    assert_eq!(ids, ["a"]);
    assert_eq!(next(&mut watch).await, (State::Queued, 1));
    assert_eq!(next(&mut watch).await, (State::Leased, 2));
    assert_eq!(next(&mut watch).await, (State::Started, 3));
}

#[tokio::test]
async fn a_watch_survives_a_reconnect_without_showing_a_state_twice() {
    let broker = FakeBroker::bind().await;
    let (client, mut peer) = broker.client().await;
    let ids = ["a", "b"];
    let (watch, _) = tokio::join!(client.watch(&ids), async {
        let tasks = vec![info("a", TaskState::Queued, 1), info("b", TaskState::Started, 3)];
        begin_watch(&mut peer, 7, tasks).await;
    });
    let mut watch = watch.expect("begun");
    assert_eq!(next(&mut watch).await, (State::Queued, 1));
    assert_eq!(next(&mut watch).await, (State::Started, 3));
    drop(peer);
    let mut again = broker.welcome().await;
    // While the connection was down, `a` ended and `b` had no transition.
    let tasks = vec![info("a", TaskState::Success, 4), info("b", TaskState::Started, 3)];
    assert_eq!(begin_watch(&mut again, 9, tasks).await, ["a", "b"]);
    push(&mut again, 9, info("b", TaskState::Success, 4)).await;
    let (first, second) =
        (watch.next().await.expect("goes on"), watch.next().await.expect("goes on"));
    assert_eq!((first.id.as_str(), first.state), ("a", State::Success));
    assert_eq!((second.id.as_str(), second.state), ("b", State::Success));
}

#[tokio::test]
async fn a_watch_that_was_dropped_is_ended_at_the_broker() {
    let broker = FakeBroker::bind().await;
    let (client, mut peer) = broker.client().await;
    let ids = ["a"];
    let (watch, _) = tokio::join!(client.watch(&ids), begin_watch(&mut peer, 7, Vec::new()));
    drop(watch.expect("begun"));
    push(&mut peer, 7, info("a", TaskState::Started, 3)).await;
    let (_, body) = peer.receive().await;
    assert!(matches!(body, client_frame::Body::Unwatch(wire::Unwatch { watch_id: 7 })), "{body:?}");
}

#[tokio::test]
async fn a_watch_ends_when_the_broker_does_not_take_it_again_or_the_client_is_closed() {
    let broker = FakeBroker::bind().await;
    let (client, mut peer) = broker.client().await;
    let ids = ["a"];
    let (watch, _) = tokio::join!(client.watch(&ids), begin_watch(&mut peer, 7, Vec::new()));
    let mut watch = watch.expect("begun");
    drop(peer);
    let mut again = broker.welcome().await;
    let (id, _) = again.receive().await;
    again.answer(id, refusal(ErrorCode::Forbidden)).await;
    assert!(watch.next().await.is_none());

    let (watch, _) = tokio::join!(client.watch(&ids), begin_watch(&mut again, 8, Vec::new()));
    let mut watch = watch.expect("begun");
    let (last, _, _) = tokio::join!(watch.next(), client.close(), again.next());
    assert!(last.is_none());
}

#[tokio::test]
async fn a_watch_is_a_stream_and_a_handle_is_a_future() {
    let broker = FakeBroker::bind().await;
    let (client, mut peer) = broker.client().await;
    let ids = ["a"];
    let (watch, ()) = tokio::join!(client.watch(&ids), async {
        let (id, client_frame::Body::Watch(_)) = peer.receive().await else { panic!("a watch") };
        let tasks = vec![info("a", TaskState::Queued, 1)];
        peer.answer(
            id,
            server_frame::Body::WatchReply(wire::WatchReply {
                watch_id: 1,
                tasks,
                ..Default::default()
            }),
        )
        .await;
    });
    let states = watch.expect("it begins").map(|task| task.state);
    let seen = tokio::spawn(states.take(2).collect::<Vec<_>>());
    let task = Some(info("a", TaskState::Started, 3));
    peer.push(server_frame::Body::Transition(wire::Transition { watch_id: 1, task })).await;
    assert_eq!(seen.await.expect("it does not panic"), [State::Queued, State::Started]);

    let handle = client.result::<u32>("a");
    let output = tokio::spawn(async move { handle.await });
    let id = loop {
        if let (id, client_frame::Body::Wait(_)) = peer.receive().await {
            break id;
        }
    };
    let tasks = vec![wire::TaskInfo { result: "5".into(), ..info("a", TaskState::Success, 4) }];
    let reply = wire::WaitReply { satisfied: true, tasks, ..Default::default() };
    peer.answer(id, server_frame::Body::WaitReply(reply)).await;
    assert_eq!(output.await.expect("it does not panic").expect("a number"), 5);
}
