//! Eager submits of an id whose task has not ended.

use celeriac_client::{Error, OnConflict, State, Submission, SubmitKind};
use celeriac_worker::TaskFailure;

use super::{SOON, begin, gated, gated_task, seen, submit};
use crate::broker::within;

#[tokio::test]
async fn an_eager_task_that_is_replaced_is_revoked_and_its_handler_dropped() {
    let (builder, gate) = gated();
    let client = builder.eager();
    let submitting = begin(&client, gated_task()).await;
    let waiter = tokio::spawn(client.result::<u32>("gated").into_future());
    let mut watch = client.watch(&["gated"]).await.expect("begun");
    assert_eq!(within(watch.next()).await.expect("its present state").state, State::Started);
    let replacing = submit(&client, gated_task().on_conflict(OnConflict::Replace));
    let replaced = within(waiter).await.expect("no panic").expect_err("it was replaced");
    assert!(
        matches!(&replaced, Error::TaskRevoked { reason, .. } if reason == "replaced"),
        "{replaced}"
    );
    within(submitting).await.expect("no panic").expect("it was submitted");
    gate.add_permits(1);
    let handle = within(replacing).await.expect("no panic").expect("submitted");
    assert_eq!((handle.outcome(), handle.generation()), (Some(SubmitKind::NewGeneration), Some(2)));
    // The first run did not pass the gate.
    assert_eq!(within(handle.get(SOON)).await.expect("its value"), 1);
    assert_eq!(
        seen(&mut watch, 4).await,
        [(1, State::Revoked), (2, State::Queued), (2, State::Started), (2, State::Success)]
    );
}

#[tokio::test]
async fn an_eager_task_runs_beside_an_unfinished_one_of_its_id() {
    let (builder, gate) = gated();
    let client = builder.register_fn("free", |_, ()| async { Ok::<_, TaskFailure>(7) }).eager();
    let submitting = begin(&client, gated_task()).await;
    let beside = Submission::new("free").task_id("gated").on_conflict(OnConflict::Beside);
    let handle = within(client.submit::<u32>(beside)).await.expect("submitted");
    assert!(handle.id().starts_with("gated~"), "{}", handle.id());
    assert_eq!(handle.outcome(), Some(SubmitKind::Created));
    assert_eq!(within(handle.get(SOON)).await.expect("its value"), 7);
    let gated = client.result::<u32>("gated");
    assert_eq!(gated.info().await.expect("known").state, State::Started);
    gate.add_permits(1);
    within(submitting).await.expect("no panic").expect("the first one goes on");
    assert_eq!(within(gated.into_future()).await.expect("its value"), 1);
}

#[tokio::test]
async fn an_unfinished_eager_task_runs_once_more_afterwards_and_no_submit_waits_for_that() {
    let (builder, gate) = gated();
    let client = builder.eager();
    let submitting = begin(&client, gated_task()).await;
    let again = gated_task().on_conflict(OnConflict::RunAgainAfter);
    for kind in [SubmitKind::NewGeneration, SubmitKind::Joined] {
        let handle = within(client.submit::<u32>(again.clone())).await.expect("submitted");
        assert_eq!((handle.outcome(), handle.generation()), (Some(kind), Some(2)));
    }
    assert_eq!(client.result::<u32>("gated").info().await.expect("known").generation, 1);
    let waiter = tokio::spawn(client.result::<u32>("gated").into_future());
    let mut watch = client.watch(&["gated"]).await.expect("begun");
    assert_eq!(seen(&mut watch, 1).await, [(1, State::Started)]);
    gate.add_permits(1);
    assert_eq!(
        seen(&mut watch, 3).await,
        [(1, State::Success), (2, State::Queued), (2, State::Started)]
    );
    // The value of the first run, although the id has the second run by now.
    assert_eq!(within(waiter).await.expect("no panic").expect("its value"), 1);
    within(submitting).await.expect("no panic").expect("submitted");
    gate.add_permits(1);
    assert_eq!(seen(&mut watch, 1).await, [(2, State::Success)]);
    gate.add_permits(1);
    let handle = within(client.submit::<u32>(again)).await.expect("it has ended, and runs at once");
    assert_eq!(
        (handle.generation(), handle.state().await.expect("known")),
        (Some(3), State::Success)
    );
}
