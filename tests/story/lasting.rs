//! What lasts longer than one call: ids that are used again, results until they are forgotten, and
//! clients and workers whose counterparts end.

use super::*;

#[tokio::test]
async fn a_wait_for_any_or_all_ends_by_its_deadline() {
    let broker = BrokerProcess::start().await;
    let _pool = InProcessWorker::start(worker(&broker));
    let client = broker.client().await;
    let ends = client.delay(&add, (1, 1)).await.expect("submitted");
    let never: TaskHandle<()> =
        client.submit(Submission::new("story.nobody-knows-it")).await.expect("submitted");
    let ids = [ends.id().to_owned(), never.id().to_owned()];
    let any = client.wait(&ids, WaitMode::Any, PATIENCE).await.expect("answered");
    assert!(any.satisfied);
    let short = Duration::from_millis(100);
    let all =
        within("the deadline", client.wait(&ids, WaitMode::All, short)).await.expect("answered");
    assert!(!all.satisfied);
    let states: Vec<_> = all.tasks.iter().map(|task| task.state).collect();
    assert_eq!(states, [State::Success, State::Queued]);
    let error = within("the deadline", never.get(short)).await.expect_err("it never ends");
    assert!(matches!(error, Error::NotFinished { state: State::Queued, .. }), "{error:?}");
}

#[tokio::test]
async fn thousands_who_wait_on_one_connection_hold_nobody_up_and_may_go_away() {
    const WAITS: usize = 5_000;
    let broker = BrokerProcess::start().await;
    let _pool = InProcessWorker::start(worker(&broker));
    let client = broker.client().await;
    // More than three times the requests that a connection may have in flight, and then more than
    // that again of dropped ones.
    for round in 0..3 {
        let never = (0..WAITS).map(|number| {
            Submission::new("story.nobody-knows-it").task_id(format!("{round}-{number}"))
        });
        let mut waits = tokio::task::JoinSet::new();
        for submitted in client.submit_many(never).await.expect("submitted") {
            let handle: TaskHandle<()> = client.result(submitted.expect("accepted").id);
            waits.spawn(async move { handle.get(PATIENCE).await });
        }
        tokio::task::yield_now().await;
        for number in 0..20 {
            let sum = async { client.delay(&add, (number, 1)).await?.get(PATIENCE).await };
            assert_eq!(
                within("a result beside the waits", sum).await.expect("it ends"),
                number + 1
            );
        }
        match round {
            0 => waits.shutdown().await,
            _ => {
                let ids: Vec<String> =
                    (0..WAITS).map(|number| format!("{round}-{number}")).collect();
                client.cancel(&ids, Default::default()).await.expect("cancelled");
                while let Some(ended) = within("the end of each", waits.join_next()).await {
                    assert!(matches!(ended.expect("not aborted"), Err(Error::TaskRevoked { .. })));
                }
            }
        }
    }
}

#[tokio::test]
async fn a_forgotten_result_is_gone_and_so_is_one_past_its_ttl() {
    let broker = BrokerProcess::start().await;
    let _pool = InProcessWorker::start(worker(&broker));
    let client = broker.client().await;
    let handle = client.delay(&add, (1, 1)).await.expect("submitted");
    handle.get(PATIENCE).await.expect("it succeeds");
    handle.forget().await.expect("it has ended");
    assert_eq!(handle.state().await.expect("answered"), State::Unknown);
    assert!(matches!(handle.get(PATIENCE).await, Err(Error::NotFound { .. })));

    let short = client
        .apply_async(&add, (1, 1))
        .result_ttl(Duration::from_millis(300))
        .send()
        .await
        .expect("submitted");
    assert_eq!(short.get(PATIENCE).await.expect("it succeeds"), 2);
    celeriac_tests::until("the result is past its time", || async {
        short.state().await.expect("answered") == State::Unknown
    })
    .await;
}

#[tokio::test]
async fn an_unfinished_id_is_joined_and_a_finished_one_runs_again() {
    let broker = BrokerProcess::start().await;
    let client = broker.client().await;
    let submit = || client.apply_async(&add, (1, 1)).task_id("same").send();
    let first = submit().await.expect("submitted");
    let joined = submit().await.expect("joined");
    assert_eq!((first.generation(), joined.generation()), (Some(1), Some(1)));
    let _pool = InProcessWorker::start(worker(&broker));
    assert_eq!(joined.get(PATIENCE).await.expect("it succeeds"), 2);
    let again = submit().await.expect("runs again");
    assert_eq!(again.generation(), Some(2));
    assert_eq!(again.get(PATIENCE).await.expect("it succeeds"), 2);
    let refused = client
        .apply_async(&add, (1, 1))
        .task_id("same")
        .on_conflict(OnConflict::Reject)
        .send()
        .await;
    match refused {
        Err(Error::Refused { code, .. }) => assert_eq!(code, ErrorCode::TaskExists),
        other => panic!("not refused but {:?}", other.map(|handle| handle.id().to_owned())),
    }
}

#[tokio::test]
async fn a_worker_that_is_stopped_finishes_what_runs_and_gives_back_the_rest() {
    let broker = BrokerProcess::start().await;
    let gate = Arc::new(Semaphore::new(0));
    let opened = Arc::clone(&gate);
    let (begun, mut begins) = mpsc::unbounded_channel();
    let running_worker = InProcessWorker::start(
        Worker::builder(broker.url()).queues(["default"]).concurrency(1).register_fn(
            "story.gate",
            move |context: Context, (): ()| {
                let (gate, begun) = (Arc::clone(&opened), begun.clone());
                async move {
                    begun.send(context.id().to_string()).expect("the test listens");
                    gate.acquire().await.expect("never closed").forget();
                    Ok::<_, TaskFailure>(())
                }
            },
        ),
    );
    let client = broker.client().await;
    let tasks =
        (0..3).map(|number| Submission::new("story.gate").task_id(format!("gated-{number}")));
    client.submit_many(tasks.collect::<Vec<_>>()).await.expect("answered");
    let running = within("a task begins", begins.recv()).await.expect("the worker runs");
    let stopping = tokio::spawn(running_worker.stop());
    let waiting = if running == "gated-0" { "gated-2" } else { "gated-0" };
    celeriac_tests::until("the unstarted one is back", || async {
        client.result::<()>(waiting).state().await.expect("known") == State::Queued
    })
    .await;
    gate.add_permits(1);
    within("the worker stops", stopping).await.expect("it does not panic");
    assert_eq!(client.result::<()>(&running).state().await.expect("known"), State::Success);
    assert!(begins.try_recv().is_err(), "nothing else has begun");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_and_worker_go_on_over_kills_of_the_broker() {
    let mut broker = BrokerProcess::start().await;
    let runs = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&runs);
    let _pool = InProcessWorker::start(
        Worker::builder(broker.url()).queues(["default"]).concurrency(8).register_fn(
            "story.square",
            move |_: Context, (number,): (u64,)| {
                let runs = Arc::clone(&counted);
                async move {
                    runs.fetch_add(1, Ordering::SeqCst);
                    Ok::<_, TaskFailure>(number * number)
                }
            },
        ),
    );
    let client = broker.client().await;
    let producing = {
        let client = client.clone();
        tokio::spawn(async move {
            let mut accepted = Vec::new();
            for batch in 0..60_u64 {
                let numbers: Vec<_> = (batch * 10..batch * 10 + 10).collect();
                let tasks = numbers.iter().map(|number| {
                    Submission::new("story.square")
                        .args(json!([number]))
                        .task_id(format!("square-{number}"))
                });
                let outcomes = client
                    .submit_many(tasks.collect::<Vec<_>>())
                    .await
                    .expect("answered over every kill");
                for (number, outcome) in numbers.into_iter().zip(outcomes) {
                    outcome.expect("accepted");
                    accepted.push(number);
                }
            }
            accepted
        })
    };
    for life in 0..3 {
        celeriac_tests::until("tasks run", || async {
            runs.load(Ordering::SeqCst) > life * 100 + 50
        })
        .await;
        broker.kill().await;
        broker.restart().await;
    }
    let accepted = within("the producer to end", producing).await.expect("it does not panic");
    assert_eq!(accepted.len(), 600);
    for number in accepted {
        let result = client.result::<u64>(format!("square-{number}"));
        assert_eq!(result.get(PATIENCE).await.expect("confirmed means it ends"), number * number);
    }
}
