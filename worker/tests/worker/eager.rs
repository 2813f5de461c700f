//! Eager mode: a client that runs the handlers itself. `conflicts` has submits of an id whose task
//! has not ended.

mod conflicts;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use celeriac_client::{
    Client, Error, ErrorCode, OnConflict, RetryPolicy, State, Submission, SubmitKind, Task,
    TaskHandle, WaitMode, Watch,
};
use celeriac_worker::{Context, Data, TaskFailure, Worker, WorkerBuilder, task};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

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
    if context.is_last_attempt() {
        Ok(context.attempt())
    } else {
        Err(TaskFailure::new("Busy", "not now"))
    }
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
    // As code elsewhere in the program would, which only has the id.
    assert_eq!(client.result::<i64>(handle.id()).get(SOON).await.expect("its value"), 5);
    assert!(matches!(client.result::<i64>("another").get(SOON).await, Err(Error::NotFound { .. })));
}

#[tokio::test]
async fn arguments_and_results_go_through_json_as_with_a_broker() {
    const ADD_TEXTS: Task<(String, String), i64> = Task::new("add");
    const ADD_TO_TEXT: Task<(i64, i64), String> = Task::new("add");
    let client = worker().eager();
    let handle = within(client.delay(&ADD_TEXTS, ("2".to_owned(), "3".to_owned())))
        .await
        .expect("submitted");
    let error = handle.get(SOON).await.expect_err("texts are no numbers");
    assert!(
        matches!(&error, Error::TaskFailed { kind, .. } if kind == "invalid_arguments"),
        "{error}"
    );
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
    let errors: Vec<_> =
        info.errors.iter().map(|error| (error.kind.as_str(), error.attempt)).collect();
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
        assert!(
            matches!(&error, Error::TaskFailed { kind, attempts: 1, .. } if kind == "panic"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn failures_and_panics_of_eager_tasks_are_told_by_the_handle() {
    let client = worker().eager();
    let handle = within(client.delay(&fail_for_good, ())).await.expect("submitted");
    let error = handle.get(SOON).await.expect_err("it failed");
    assert!(
        matches!(&error, Error::TaskFailed { kind, attempts: 1, .. } if kind == "Broken"),
        "{error}"
    );
    let handle = within(client.delay(&panic_while_blocking, ())).await.expect("submitted");
    let error = handle.get(SOON).await.expect_err("it failed");
    assert!(matches!(&error, Error::TaskFailed { kind, .. } if kind == "panic"), "{error}");
}

#[tokio::test]
async fn tasks_submitted_by_an_eager_handler_run_at_once_too_and_belong_to_it() {
    let client = worker().eager();
    let handle =
        within(client.apply_async(&double, (4,)).task_id("top").send()).await.expect("submitted");
    assert_eq!(handle.get(SOON).await.expect("its value"), 8);

    let seen = Arc::new(Mutex::new(String::new()));
    let looker = seen.clone();
    let client = Worker::builder("")
        .register_fn("above", |context: Context, ()| async move {
            let below = context.client().submit::<()>(Submission::new("below")).await?;
            Ok::<_, TaskFailure>(below.id().to_owned())
        })
        .register_fn("below", move |context: Context, ()| {
            *looker.lock().expect("unpoisoned") =
                format!("{} {}", context.root_id(), context.parent_id());
            async { Ok::<_, TaskFailure>(()) }
        })
        .eager();
    within(client.submit::<String>(Submission::new("above").task_id("top")))
        .await
        .expect("submitted");
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
    let again = within(client.submit_many([count.clone()]))
        .await
        .expect("asked")
        .remove(0)
        .expect("accepted");
    assert_eq!((again.kind, again.generation), (SubmitKind::NewGeneration, 2));
    assert_eq!(client.result::<u32>("token").get(SOON).await.expect("its value"), 2);
    let refused = within(client.submit::<u32>(count.on_conflict(OnConflict::Reject)))
        .await
        .expect_err("it exists");
    assert!(matches!(refused, Error::Refused { code: ErrorCode::TaskExists, .. }), "{refused}");
    assert_eq!(runs.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn what_eager_mode_lacks_is_refused_and_does_not_hang() {
    let client: Client = worker().eager();
    let unknown =
        within(client.submit::<()>(Submission::new("unregistered"))).await.expect_err("no handler");
    assert!(unknown.to_string().contains("`unregistered`"), "{unknown}");
    let queues = within(client.queues()).await.expect_err("no queues");
    assert!(matches!(queues, Error::Refused { code: ErrorCode::Unsupported, .. }), "{queues}");
    within(client.close()).await;
    assert!(matches!(within(client.delay(&add, (1, 1))).await, Err(Error::Closed)));
}

/// Goes on until the test opens the gate, and ignores all signals.
#[task]
fn hold(held: Data<Mutex<Receiver<()>>>) {
    let _ = held.lock().expect("unpoisoned").recv();
}

/// Runs `gated` when the test opens the gate, and counts the runs that passed it.
fn gated() -> (WorkerBuilder, Arc<Semaphore>) {
    let (gate, runs) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicU32::new(0)));
    let of_handler = gate.clone();
    let builder = worker().register_fn("gated", move |_, ()| {
        let (gate, runs) = (of_handler.clone(), runs.clone());
        async move {
            gate.acquire().await.expect("it stays open").forget();
            Ok::<_, TaskFailure>(runs.fetch_add(1, Ordering::SeqCst) + 1)
        }
    });
    (builder, gate)
}

fn gated_task() -> Submission {
    Submission::new("gated").task_id("gated")
}

/// Submits in the background.
fn submit(client: &Client, submission: Submission) -> JoinHandle<Result<TaskHandle<u32>, Error>> {
    let client = client.clone();
    tokio::spawn(async move { client.submit(submission).await })
}

/// Submits in the background, and returns when `gated` runs.
async fn begin(
    client: &Client,
    submission: Submission,
) -> JoinHandle<Result<TaskHandle<u32>, Error>> {
    let submitting = submit(client, submission);
    within(until(client, "gated", State::Started)).await;
    submitting
}

/// The next states that a watch shows.
async fn seen(watch: &mut Watch, count: usize) -> Vec<(u32, State)> {
    let mut states = Vec::new();
    for _ in 0..count {
        let task = within(watch.next()).await.expect("the next state");
        states.push((task.generation, task.state));
    }
    states
}

async fn until(client: &Client, id: &str, state: State) {
    while client.result::<u32>(id).state().await.expect("answered") != state {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_eager_task_that_runs_when_the_time_is_over_is_not_finished() {
    let (builder, gate) = gated();
    let client = builder.eager();
    let submitting = begin(&client, gated_task()).await;
    let handle = client.result::<u32>("gated");
    let early = within(handle.get(Duration::from_millis(1))).await.expect_err("it runs");
    assert!(matches!(early, Error::NotFinished { state: State::Started, .. }), "{early}");
    let waited =
        within(client.wait(&["gated"], WaitMode::All, Duration::ZERO)).await.expect("answered");
    assert_eq!((waited.satisfied, waited.tasks[0].state), (false, State::Started));
    gate.add_permits(1);
    assert_eq!(within(handle.get(SOON)).await.expect("its value"), 1);
    within(submitting).await.expect("no panic").expect("submitted");
}

#[tokio::test]
async fn an_eager_submit_that_its_caller_gave_up_is_finished_nevertheless() {
    let (builder, gate) = gated();
    let client = builder.eager();
    let hurried = client.clone().with_timeout(Duration::from_millis(1));
    let given_up = within(
        hurried.submit_many([gated_task(), Submission::new("fail_for_good").task_id("behind")]),
    )
    .await;
    assert!(matches!(given_up, Err(Error::Timeout { .. })), "{given_up:?}");
    let joined = within(client.submit::<u32>(gated_task())).await.expect("it is still there");
    assert_eq!(joined.outcome(), Some(SubmitKind::Joined));
    gate.add_permits(1);
    assert_eq!(within(joined.get(Duration::MAX)).await.expect("its value"), 1);
    // The next task of the same request runs too.
    within(until(&client, "behind", State::Failure)).await;

    let dropped = begin(&client, gated_task()).await;
    dropped.abort();
    assert!(within(dropped).await.is_err());
    gate.add_permits(1);
    assert_eq!(
        within(client.result::<u32>("gated").get(Duration::MAX)).await.expect("its value"),
        2
    );
}

#[tokio::test]
async fn a_watch_of_eager_tasks_shows_every_transition_and_ends_with_its_client() {
    let client = worker().eager();
    let mut watch = client.watch_with_results(&["later"]).await.expect("begun");
    let twice = client
        .apply_async(&fail_twice, ())
        .task_id("later")
        .retry(RetryPolicy::new().max_attempts(2));
    let handle = within(twice.send()).await.expect("submitted");
    handle.forget().await.expect("it has ended");
    let mut states = Vec::new();
    for _ in 0..9 {
        let task = within(watch.next()).await.expect("the next state");
        assert_eq!(task.result.is_empty(), task.state != State::Success);
        states.push((task.state, task.attempts));
    }
    use State::{Queued, Retry, Started, Success, Unknown};
    // Each attempt also reports progress.
    let attempts = [
        (Queued, 0),
        (Started, 0),
        (Started, 0),
        (Retry, 1),
        (Started, 1),
        (Started, 1),
        (Success, 2),
    ];
    assert_eq!(states[..1], [(Unknown, 0)]);
    assert_eq!(states[1..8], attempts);
    assert_eq!(states[8], (Unknown, 0));
    client.close().await;
    assert!(within(watch.next()).await.is_none());
}

#[tokio::test]
async fn an_eager_success_with_a_result_time_of_zero_is_told_to_who_waits_and_a_failure_is_kept() {
    let (builder, gate) = gated();
    let client = builder.eager();
    let submitting = begin(&client, gated_task().ignore_result()).await;
    let waiter = tokio::spawn(client.result::<u32>("gated").into_future());
    tokio::task::yield_now().await;
    gate.add_permits(1);
    assert_eq!(within(waiter).await.expect("no panic").expect("its value"), 1);
    let handle = within(submitting).await.expect("no panic").expect("submitted");
    assert_eq!(handle.state().await.expect("answered"), State::Unknown);

    let failure = Submission::new("fail_for_good").ignore_result();
    let handle = within(client.submit::<()>(failure)).await.expect("submitted");
    assert_eq!(handle.state().await.expect("answered"), State::Failure);
}

#[tokio::test]
async fn an_eager_task_over_its_time_limit_has_failed_though_its_thread_goes_on() {
    let (release, held) = std::sync::mpsc::channel();
    let client = Worker::builder("celeriac://unused").register(hold).data(Mutex::new(held)).eager();
    let limited = client.apply_async(&hold, ()).time_limit(Duration::from_millis(1)).send();
    let handle = within(limited).await.expect("submitted");
    let error = within(handle.get(SOON)).await.expect_err("it failed");
    assert!(matches!(&error, Error::TaskFailed { kind, .. } if kind == "time_limit"), "{error}");
    drop::<std::sync::mpsc::Sender<()>>(release);
}

#[tokio::test]
async fn what_an_eager_handler_tells_is_seen_while_it_runs() {
    let gate = Arc::new(Semaphore::new(0));
    let of_handler = gate.clone();
    let client = Worker::builder("celeriac://unused")
        .register_fn("gated", move |context: Context, ()| {
            let gate = of_handler.clone();
            async move {
                if context.attempt() == 1 {
                    return Err(TaskFailure::new("Busy", "not now"));
                }
                for step in 1..=2 {
                    context.progress("STEP", &step).await?;
                }
                gate.acquire().await.expect("it stays open").forget();
                Ok(1)
            }
        })
        .eager();
    let _submitting = begin(&client, gated_task()).await;
    let mut watch = client.watch(&["gated"]).await.expect("begun");
    let told = loop {
        let task = within(watch.next()).await.expect("the next state");
        if let Some(progress) = &task.progress
            && progress.meta::<u32>().expect("a number") == 2
        {
            break task;
        }
    };
    assert_eq!((told.state, told.attempts, told.errors.len()), (State::Started, 1, 1));
    gate.add_permits(1);
}

#[tokio::test]
async fn a_closed_eager_client_ends_its_waits_at_once() {
    let (builder, gate) = gated();
    let client = builder.eager();
    let submitting = begin(&client, gated_task()).await;
    let waiter = tokio::spawn(client.result::<u32>("gated").into_future());
    tokio::task::yield_now().await;
    let closing = tokio::spawn(async move { client.close().await });
    assert!(matches!(within(waiter).await.expect("no panic"), Err(Error::Closed)));
    // Closing waits for the other unanswered requests.
    assert!(!submitting.is_finished());
    gate.add_permits(1);
    within(submitting).await.expect("no panic").expect("submitted");
    within(closing).await.expect("no panic");
}

#[tokio::test]
async fn an_eager_client_that_is_dropped_leaves_nothing_behind() {
    let (builder, gate) = gated();
    let client = builder.eager();
    let submitting = begin(&client, gated_task()).await;
    within(client.submit::<u32>(gated_task().on_conflict(OnConflict::RunAgainAfter)))
        .await
        .expect("submitted");
    submitting.abort();
    let waiter = tokio::spawn(client.result::<u32>("gated").into_future());
    tokio::task::yield_now().await;
    waiter.abort();
    drop(client);
    assert!(Arc::strong_count(&gate) > 1);
    // The run ends, and then nothing holds the handlers any more.
    gate.add_permits(2);
    let forgotten = async {
        while Arc::strong_count(&gate) > 1 {
            tokio::task::yield_now().await;
        }
    };
    within(forgotten).await;
}
