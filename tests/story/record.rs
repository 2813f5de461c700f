//! What the broker keeps of a task for later readers.

use super::*;

#[tokio::test]
async fn a_record_keeps_everything_that_happened_to_its_task() {
    let broker = BrokerProcess::start().await;
    let client = broker.client().await;
    let named =
        Submission::new("story.flaky").task_id("kept").shadow("flaky: three times").tag("night");
    let task =
        client.submit::<u32>(named.retry(RetryPolicy::fixed(Duration::from_millis(10)))).await;
    let task = task.expect("submitted");
    let _pool = InProcessWorker::start(worker(&broker).instance("the-one"));
    assert_eq!(task.get(PATIENCE).await.expect("it succeeds"), 3);
    let infos = client.info_with_results(&["kept"]).await.expect("answered");
    let info = &infos[0];
    assert_eq!(
        (info.name.as_str(), info.queue.as_str(), info.shadow.as_str()),
        ("story.flaky", "default", "flaky: three times")
    );
    assert_eq!((info.state, info.generation, info.worker.as_str()), (State::Success, 1, "the-one"));
    assert_eq!((info.attempts, info.attempts_max, info.deliveries), (3, 4, 1));
    assert_eq!(
        (&info.result[..], info.errors.len(), info.actor.as_str()),
        (&b"3"[..], 2, "the-one")
    );
    assert!(info.errors.iter().all(|error| error.kind == "TooEarly"), "{:?}", info.errors);
    let times =
        [info.submitted_at, info.leased_at, info.started_at, info.finished_at, info.forget_at];
    assert!(times.iter().all(Option::is_some) && times.is_sorted(), "{times:?}");
    assert_eq!(info.forget_at, info.finished_at.map(|ended| ended + DAY));
}

#[tokio::test]
async fn who_waits_or_watches_is_told_the_same_of_an_end_as_who_asks_later() {
    let broker = BrokerProcess::start().await;
    let client = broker.client().await;
    for (id, args) in [("succeeds", json!([1, 2])), ("fails", json!(["one", "two"]))] {
        let task = client
            .submit::<i64>(Submission::new("story.add").task_id(id).args(args))
            .await
            .expect("submitted");
        let mut watch = task.watch().await.expect("watched");
        let running_worker = InProcessWorker::start(worker(&broker));
        let waited = client.wait(&[id], WaitMode::All, PATIENCE).await.expect("it ends");
        let mut last = watch.next().await.expect("a state");
        while !last.state.is_ended() {
            last = watch.next().await.expect("a state");
        }
        let asked = task.info().await.expect("known");
        assert_eq!(asked.forget_at, asked.finished_at.map(|ended| ended + DAY), "{id}");
        assert_eq!(
            (waited.tasks[0].forget_at, last.forget_at),
            (asked.forget_at, asked.forget_at),
            "{id}"
        );
        drop(running_worker);
    }
}

#[tokio::test]
async fn a_transition_names_who_made_it() {
    let broker = BrokerProcess::start().await;
    let client = Client::builder(broker.url())
        .instance("web-1")
        .connect()
        .await
        .expect("the broker takes clients");
    let waits = client
        .submit::<()>(Submission::new("nobody.runs").task_id("waits"))
        .await
        .expect("submitted");
    let expires =
        Submission::new("nobody.runs").task_id("expires").expires_in(Duration::from_millis(1));
    client.submit::<()>(expires).await.expect("submitted");
    assert_eq!(
        waits.info().await.expect("answered").actor,
        "",
        "nothing has happened since the submit"
    );
    waits.cancel().await.expect("cancelled");
    client.wait(&["expires"], WaitMode::All, PATIENCE).await.expect("it expires");
    let infos = client.info(&["waits", "expires"]).await.expect("answered");
    let actors: Vec<&str> = infos.iter().map(|info| info.actor.as_str()).collect();
    assert_eq!(actors, ["web-1", "broker"]);
}

#[tokio::test]
async fn progress_is_seen_under_its_name_or_as_progress() {
    let broker = BrokerProcess::start().await;
    let gate = Arc::new(Semaphore::new(0));
    let opened = Arc::clone(&gate);
    let _pool = InProcessWorker::start(worker(&broker).register_fn(
        "story.tells",
        move |context: Context, (name,): (String,)| {
            let gate = Arc::clone(&opened);
            async move {
                context.progress(&name, &json!({"percent": 50})).await?;
                gate.acquire().await.expect("never closed").forget();
                Ok::<_, TaskFailure>(())
            }
        },
    ));
    let client = broker.client().await;
    for (name, shown) in [("HALF", "HALF"), ("", "PROGRESS")] {
        let task = client
            .submit::<()>(Submission::new("story.tells").args(json!([name])))
            .await
            .expect("submitted");
        celeriac_tests::until("the progress is seen", || async {
            let info = task.info().await.expect("known");
            info.progress.is_some_and(|progress| {
                progress.state == shown && &progress.meta[..] == br#"{"percent":50}"#
            })
        })
        .await;
        gate.add_permits(1);
        task.get(PATIENCE).await.expect("it succeeds");
    }
}

#[tokio::test]
async fn a_handler_is_told_of_its_soft_time_limit() {
    let broker = BrokerProcess::start().await;
    let _pool = InProcessWorker::start(worker(&broker).register_fn(
        "story.patient",
        |context: Context, (): ()| async move {
            context.soft_limit().await;
            Ok::<_, TaskFailure>("in time")
        },
    ));
    let client = broker.client().await;
    let limited = Submission::new("story.patient")
        .soft_time_limit(Duration::from_millis(50))
        .time_limit(PATIENCE);
    let task = client.submit::<String>(limited).await.expect("submitted");
    assert_eq!(task.get(PATIENCE).await.expect("it succeeds"), "in time");
}

#[tokio::test]
async fn ids_that_nobody_chose_are_ordered_by_time() {
    let broker = BrokerProcess::start().await;
    let client = broker.client().await;
    let one = client.delay(&add, (1, 1)).await.expect("submitted");
    let other = client.delay(&add, (1, 1)).await.expect("submitted");
    for id in [one.id(), other.id()] {
        assert_eq!(id.parse::<uuid::Uuid>().expect("a UUID").get_version_num(), 7);
    }
    assert!(one.id() < other.id());
}

#[tokio::test]
async fn an_ignored_result_is_dropped_at_once() {
    let broker = BrokerProcess::start().await;
    let _pool = InProcessWorker::start(worker(&broker));
    let client = broker.client().await;
    let ignored = client.apply_async(&add, (1, 1)).ignore_result().send().await.expect("submitted");
    celeriac_tests::until("it is gone", || async {
        ignored.state().await.expect("answered") == State::Unknown
    })
    .await;
}

#[tokio::test]
async fn an_urgent_task_behind_ten_thousand_is_the_next_to_run() {
    let broker = BrokerProcess::start().await;
    let client = broker.client().await;
    let many = (0..10_000)
        .map(|number| Submission::new("story.order").task_id(format!("low-{number}")).priority(0));
    client.submit_many(many.collect::<Vec<_>>()).await.expect("answered");
    client
        .submit::<()>(Submission::new("story.order").task_id("urgent").priority(9))
        .await
        .expect("submitted");
    let (ran, mut order) = mpsc::unbounded_channel();
    let _pool = InProcessWorker::start(
        Worker::builder(broker.url()).queues(["default"]).concurrency(1).register_fn(
            "story.order",
            move |context: Context, (): ()| {
                // The test hears the first and goes.
                let _ = ran.send(context.id().to_owned());
                async { Ok::<_, TaskFailure>(()) }
            },
        ),
    );
    assert_eq!(within("the first to run", order.recv()).await.as_deref(), Some("urgent"));
}
