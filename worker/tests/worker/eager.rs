//! Eager mode: a client that runs the handlers itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use celeriac_client::{Client, Error, ErrorCode, OnConflict, RetryPolicy, State, Submission, SubmitKind, Task};
use celeriac_worker::{Context, TaskFailure, Worker, WorkerBuilder, task};

use crate::broker::within;

const SOON: Duration = Duration::from_secs(20);

#[task]
async fn add(a: i64, b: i64) -> i64 {
    a + b
}

/// Adds to itself through a task of its own.
#[task]
async fn double(context: &Context, number: i64) -> Result<i64, TaskFailure> {
    let handle = context.delay(&add, (number, number)).await?;
    Ok(handle.get(SOON).await?)
}

#[task(max_attempts = 3, retry_delay = "1h")]
async fn fail_twice(context: &Context) -> Result<u32, TaskFailure> {
    context.progress("TRYING", &context.attempt()).await?;
    if context.is_last_attempt() { Ok(context.attempt()) } else { Err(TaskFailure::new("Busy", "not now")) }
}

#[task]
async fn fail_for_good() -> Result<(), TaskFailure> {
    Err(TaskFailure::fatal("Broken", "for good"))
}

#[task(max_attempts = 1)]
fn panic_while_blocking() {
    panic!("in a thread");
}

fn worker() -> WorkerBuilder {
    Worker::builder("celeriac://unused")
        .register(add)
        .register(double)
        .register(fail_twice)
        .register(fail_for_good)
        .register(panic_while_blocking)
}

#[tokio::test]
async fn an_eager_client_runs_the_handler_before_the_submit_returns() {
    let client = worker().eager();
    let handle = within(client.delay(&add, (2, 3))).await.expect("submitted");
    assert_eq!(handle.state().await.expect("known"), State::Success);
    assert_eq!(handle.get(SOON).await.expect("its value"), 5);
    let mut watch = client.watch(&[handle.id()]).await.expect("begun");
    assert_eq!(within(watch.next()).await.expect("its present state").state, State::Success);
    // As from another place in the program, that has the id alone.
    assert_eq!(client.result::<i64>(handle.id()).get(SOON).await.expect("its value"), 5);
    assert!(matches!(client.result::<i64>("another").get(SOON).await, Err(Error::NotFound { .. })));
}

#[tokio::test]
async fn arguments_and_results_go_through_json_as_with_a_broker() {
    const ADD_TEXTS: Task<(String, String), i64> = Task::new("add");
    const ADD_TO_TEXT: Task<(i64, i64), String> = Task::new("add");
    let client = worker().eager();
    let handle = within(client.delay(&ADD_TEXTS, ("2".to_owned(), "3".to_owned()))).await.expect("submitted");
    let error = handle.get(SOON).await.expect_err("texts are no numbers");
    assert!(matches!(&error, Error::TaskFailed { kind, .. } if kind == "invalid_arguments"), "{error}");
    let handle = within(client.delay(&ADD_TO_TEXT, (2, 3))).await.expect("submitted");
    assert!(matches!(handle.get(SOON).await, Err(Error::Decode { .. })));
}

#[tokio::test]
async fn an_eager_task_is_tried_again_at_once_and_its_attempts_are_told() {
    let client = worker().eager();
    let handle = within(client.delay(&fail_twice, ())).await.expect("submitted");
    assert_eq!(handle.get(SOON).await.expect("the third attempt"), 3);
    let info = handle.info().await.expect("known");
    assert_eq!((info.state, info.attempts, info.attempts_max), (State::Success, 3, 3));
    let errors: Vec<_> = info.errors.iter().map(|error| (error.kind.as_str(), error.attempt)).collect();
    assert_eq!(errors, [("Busy", 1), ("Busy", 2)]);
    let progress = info.progress.expect("its newest progress");
    assert_eq!((progress.state.as_str(), progress.meta::<u32>().expect("a number")), ("TRYING", 3));

    let once = client.apply_async(&fail_twice, ()).retry(RetryPolicy::new().max_attempts(1));
    let handle = within(once.send()).await.expect("submitted");
    assert_eq!(handle.get(SOON).await.expect("its only attempt is its last"), 1);
}

#[tokio::test]
async fn an_eager_task_with_early_ack_is_not_tried_again() {
    let client = worker().eager();
    for retry in [RetryPolicy::new(), RetryPolicy::new().max_attempts(9)] {
        let once = client.apply_async(&panic_while_blocking, ()).early_ack().retry(retry);
        let handle = within(once.send()).await.expect("submitted");
        let error = handle.get(SOON).await.expect_err("it failed");
        assert!(matches!(&error, Error::TaskFailed { kind, attempts: 1, .. } if kind == "panic"), "{error}");
    }
}

#[tokio::test]
async fn failures_and_panics_of_eager_tasks_are_told_by_the_handle() {
    let client = worker().eager();
    let handle = within(client.delay(&fail_for_good, ())).await.expect("submitted");
    let error = handle.get(SOON).await.expect_err("it failed");
    assert!(matches!(&error, Error::TaskFailed { kind, attempts: 1, .. } if kind == "Broken"), "{error}");
    let handle = within(client.delay(&panic_while_blocking, ())).await.expect("submitted");
    let error = handle.get(SOON).await.expect_err("it failed");
    assert!(matches!(&error, Error::TaskFailed { kind, .. } if kind == "panic"), "{error}");
}

#[tokio::test]
async fn tasks_submitted_by_an_eager_handler_run_at_once_too_and_belong_to_it() {
    let client = worker().eager();
    let handle = within(client.apply_async(&double, (4,)).task_id("top").send()).await.expect("submitted");
    assert_eq!(handle.get(SOON).await.expect("its value"), 8);

    let seen = Arc::new(std::sync::Mutex::new(String::new()));
    let looker = seen.clone();
    let client = Worker::builder("")
        .register_fn("above", |context: Context, ()| async move {
            let below = context.client().submit::<()>(Submission::new("below")).await?;
            Ok::<_, TaskFailure>(below.id().to_owned())
        })
        .register_fn("below", move |context: Context, ()| {
            *looker.lock().expect("unpoisoned") = format!("{} {}", context.root_id(), context.parent_id());
            async { Ok::<_, TaskFailure>(()) }
        })
        .eager();
    within(client.submit::<String>(Submission::new("above").task_id("top"))).await.expect("submitted");
    assert_eq!(*seen.lock().expect("unpoisoned"), "top top");
}

#[tokio::test]
async fn an_id_that_ended_runs_again_in_eager_mode_and_reject_is_heeded() {
    let runs = Arc::new(AtomicU32::new(0));
    let counter = runs.clone();
    let client = Worker::builder("")
        .register_fn("count", move |_, ()| {
            let run = counter.fetch_add(1, Ordering::SeqCst) + 1;
            async move { Ok::<_, TaskFailure>(run) }
        })
        .eager();
    let count = Submission::new("count").task_id("token");
    within(client.submit::<u32>(count.clone())).await.expect("submitted");
    let again = within(client.submit_many([count.clone()])).await.expect("asked").remove(0).expect("accepted");
    assert_eq!((again.kind, again.generation), (SubmitKind::NewGeneration, 2));
    assert_eq!(client.result::<u32>("token").get(SOON).await.expect("its value"), 2);
    let refused = within(client.submit::<u32>(count.on_conflict(OnConflict::Reject))).await.expect_err("it exists");
    assert!(matches!(refused, Error::Refused { code: ErrorCode::TaskExists, .. }), "{refused}");
    assert_eq!(runs.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn what_eager_mode_lacks_is_refused_and_does_not_hang() {
    let client: Client = worker().eager();
    let unknown = within(client.submit::<()>(Submission::new("unregistered"))).await.expect_err("no handler");
    assert!(unknown.to_string().contains("`unregistered`"), "{unknown}");
    let queues = within(client.queues()).await.expect_err("no queues");
    assert!(matches!(queues, Error::Refused { code: ErrorCode::Unsupported, .. }), "{queues}");
    within(client.close()).await;
    assert!(matches!(within(client.delay(&add, (1, 1))).await, Err(Error::Closed)));
}
