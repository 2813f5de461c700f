//! What users see when tasks, workers and brokers fail.

use super::*;

#[tokio::test]
async fn a_flaky_task_is_tried_again_and_succeeds() {
    let broker = BrokerProcess::start().await;
    let _pool = InProcessWorker::start(worker(&broker));
    let client = broker.client().await;
    let handle = client.delay(&flaky, ()).await.expect("submitted");
    assert_eq!(handle.get(PATIENCE).await.expect("it succeeds"), 3);
    let info = handle.info().await.expect("known");
    assert_eq!((info.attempts, info.attempts_max), (3, 4));
    let kinds: Vec<_> = info.errors.iter().map(|error| error.message.as_str()).collect();
    assert_eq!(kinds, ["attempt 1", "attempt 2"]);
}

#[tokio::test]
async fn a_task_fails_for_good_when_no_attempt_is_left_or_none_would_help() {
    let broker = BrokerProcess::start().await;
    let _pool = InProcessWorker::start(worker(&broker));
    let client = broker.client().await;
    let twice = RetryPolicy::fixed(Duration::from_millis(5)).max_attempts(2);
    let cases = [
        (Submission::new("story.hopeless").retry(twice), "NoHope", "there is none", 2),
        (Submission::new("story.fatal"), "Broken", "the file is no song", 1),
        (
            Submission::new("story.panics").retry(RetryPolicy::never()),
            "panic",
            "this handler panics on purpose",
            1,
        ),
    ];
    for (submission, kind, message, attempts) in cases {
        let handle: TaskHandle<()> = client.submit(submission).await.expect("submitted");
        match handle.get(PATIENCE).await {
            Err(Error::TaskFailed { kind: was, message: said, attempts: ran, .. }) => {
                assert_eq!((was.as_str(), ran), (kind, attempts), "{said}");
                assert!(said.contains(message), "{said}");
            }
            other => panic!("{kind}: not TaskFailed but {other:?}"),
        }
    }
    // The worker goes on.
    assert_eq!(
        client
            .delay(&add, (1, 1))
            .await
            .expect("submitted")
            .get(PATIENCE)
            .await
            .expect("it succeeds"),
        2
    );
}

#[tokio::test]
async fn a_handler_over_its_time_limit_is_ended() {
    let broker = BrokerProcess::start().await;
    let _pool = InProcessWorker::start(worker(&broker));
    let handle = broker.client().await.delay(&endless, ()).await.expect("submitted");
    match handle.get(PATIENCE).await {
        Err(Error::TaskFailed { kind, .. }) => assert_eq!(kind, "time_limit"),
        other => panic!("not TaskFailed but {other:?}"),
    }
}

#[tokio::test]
async fn a_result_over_the_limit_is_a_failure_and_no_crash() {
    let broker = Setup::new().set("result_bytes_max = 10000").start().await;
    let _pool = InProcessWorker::start(worker(&broker));
    let client = broker.client().await;
    match client.delay(&long, (20_000,)).await.expect("submitted").get(PATIENCE).await {
        Err(Error::TaskFailed { kind, .. }) => assert_eq!(kind, "result_too_large"),
        other => panic!("not TaskFailed but {other:?}"),
    }
    let short = client.delay(&long, (2_000,)).await.expect("submitted").get(PATIENCE).await;
    assert_eq!(short.expect("it succeeds").len(), 2_000);
}

#[tokio::test]
async fn arguments_that_do_not_fit_the_handler_are_a_failure_with_a_sentence() {
    let broker = BrokerProcess::start().await;
    let _pool = InProcessWorker::start(worker(&broker));
    let client = broker.client().await;
    let once = RetryPolicy::never();
    let handle: TaskHandle<i64> = client
        .submit(Submission::new("story.add").args(json!(["one"])).retry(once))
        .await
        .expect("submitted");
    match handle.get(PATIENCE).await {
        Err(Error::TaskFailed { message, .. }) => assert!(!message.is_empty()),
        other => panic!("not TaskFailed but {other:?}"),
    }
}

#[tokio::test]
async fn a_task_without_a_worker_is_revoked_when_it_expires() {
    let broker = BrokerProcess::start().await;
    let client = broker.client().await;
    let handle = client
        .apply_async(&add, (1, 1))
        .expires_in(Duration::from_millis(100))
        .send()
        .await
        .expect("submitted");
    match handle.get(PATIENCE).await {
        Err(Error::TaskRevoked { reason, .. }) => assert_eq!(reason, "expired"),
        other => panic!("not TaskRevoked but {other:?}"),
    }
}

#[tokio::test]
async fn a_wrong_token_is_told_at_connect_and_not_tried_again() {
    let broker = Setup::new().set("token = \"open-sesame\"").start().await;
    let error = within("the refusal", Client::connect(&broker.url())).await.expect_err("no token");
    assert!(
        matches!(error, Error::Handshake { code: ErrorCode::Unauthenticated, .. }),
        "{error:?}"
    );
    let url = broker.url().replace("celeriac://", "celeriac://open-sesame@");
    Client::connect(&url).await.expect("the right token");
}

#[tokio::test]
async fn a_client_without_a_broker_says_so_in_time() {
    let mut broker = BrokerProcess::start().await;
    let url = broker.url();
    let connected = broker.client().await;
    broker.kill().await;
    let error = within("the refusal", Client::connect(&url)).await.expect_err("nobody is there");
    assert!(matches!(error, Error::Connect { .. }), "{error:?}");
    let result = connected.result::<i64>("task");
    let error = within("the deadline", result.get(Duration::from_millis(300)))
        .await
        .expect_err("nobody is there");
    assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
}
