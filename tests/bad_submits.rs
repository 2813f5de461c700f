//! Invalid tasks: each is refused with a code and a sentence, nothing of it is kept, and the other
//! tasks of its batch are accepted.

use bytes::Bytes;
use celeriac_proto::limits;
use celeriac_proto::wire::submit_outcome::Kind;
use celeriac_proto::wire::{self, ErrorCode, TaskState};
use celeriac_tests::raw::{self, Request};
use celeriac_tests::{BrokerProcess, RawConnection, Setup};

/// Submits the task between two valid ones. All three outcomes must be right.
async fn refused(connection: &mut RawConnection, what: &str, task: wire::Task) -> ErrorCode {
    let id = task.id.clone();
    let left = raw::task(&format!("left of {what}"), "nothing");
    let right = raw::task(&format!("right of {what}"), "nothing");
    let outcomes = connection.submit(vec![left, task, right]).await;
    let kinds: Vec<_> = outcomes.iter().map(wire::SubmitOutcome::kind).collect();
    assert_eq!(kinds, [Kind::Created, Kind::Refused, Kind::Created], "{what}: {outcomes:?}");
    let error = outcomes[1].error.clone().expect("a refused item says why");
    assert!(error.message.split_whitespace().count() >= 3, "{what}: no sentence: {error:?}");
    if (1..=limits::NAME_BYTES_MAX).contains(&id.len()) {
        assert_eq!(
            connection.info(&id).await.state(),
            TaskState::Unknown,
            "{what}: kept all the same"
        );
    }
    error.code()
}

fn bad(change: impl FnOnce(&mut wire::Task)) -> wire::Task {
    let mut task = raw::task("bad", "nothing");
    change(&mut task);
    task
}

#[tokio::test]
async fn ids_and_names_have_1_to_255_bytes() {
    let broker = BrokerProcess::start().await;
    let mut connection = RawConnection::open(broker.address()).await;
    let long = "ä".repeat(128);
    let cases = [
        ("an empty id", bad(|task| task.id.clear())),
        ("an id of 256 bytes", bad(|task| task.id.clone_from(&long))),
        ("an empty name", bad(|task| task.name.clear())),
        ("a name of 256 bytes", bad(|task| task.name.clone_from(&long))),
        ("a queue of 256 bytes", bad(|task| task.queue.clone_from(&long))),
        ("a shadow without end", bad(|task| task.shadow = "x".repeat(100_000))),
        ("a root id of 256 bytes", bad(|task| task.root_id.clone_from(&long))),
        ("a parent id of 256 bytes", bad(|task| task.parent_id.clone_from(&long))),
        ("a tag of 256 bytes", bad(|task| task.tags = vec![long.clone()])),
    ];
    for (what, task) in cases {
        assert_eq!(
            refused(&mut connection, what, task).await,
            ErrorCode::InvalidArgument,
            "{what}"
        );
    }
    let mut longest = raw::task(&"i".repeat(255), &"n".repeat(255));
    longest.queue = "q".repeat(255);
    assert_eq!(connection.submit_one(longest).await.kind(), Kind::Created);
}

#[tokio::test]
async fn any_text_is_an_id() {
    let broker = BrokerProcess::start().await;
    let mut connection = RawConnection::open(broker.address()).await;
    for id in [" ", "\0", "\n", "../../etc/passwd", "💿", "a b\tc", "%s{}'\"; DROP TABLE tasks"] {
        assert_eq!(
            connection.submit_one(raw::task(id, "nothing")).await.kind(),
            Kind::Created,
            "{id:?}"
        );
        assert_eq!(connection.info(id).await.id, id);
    }
}

#[tokio::test]
async fn absurd_times_are_refused() {
    let broker = BrokerProcess::start().await;
    let mut connection = RawConnection::open(broker.address()).await;
    let over = limits::SPAN_MS_MAX + 1;
    let cases = [
        ("a negative eta", bad(|task| task.eta_at_ms = Some(-1))),
        ("the least eta there is", bad(|task| task.eta_at_ms = Some(i64::MIN))),
        ("the greatest eta there is", bad(|task| task.eta_at_ms = Some(i64::MAX))),
        ("a negative expiry", bad(|task| task.expires_at_ms = Some(-1))),
        ("the greatest expiry there is", bad(|task| task.expires_at_ms = Some(i64::MAX))),
        ("a countdown over 100 years", bad(|task| task.countdown_ms = Some(over))),
        ("the greatest countdown there is", bad(|task| task.countdown_ms = Some(u64::MAX))),
        ("the greatest expiry span there is", bad(|task| task.expires_in_ms = Some(u64::MAX))),
        ("the greatest result_ttl there is", bad(|task| task.result_ttl_ms = Some(u64::MAX))),
        ("the greatest time limit there is", bad(|task| task.time_limit_ms = Some(u64::MAX))),
        (
            "the greatest soft time limit there is",
            bad(|task| task.soft_time_limit_ms = Some(u64::MAX)),
        ),
        (
            "both eta and countdown",
            bad(|task| (task.eta_at_ms, task.countdown_ms) = (Some(2_000_000_000_000), Some(1))),
        ),
        (
            "both expiry and expiry span",
            bad(|task| {
                (task.expires_at_ms, task.expires_in_ms) = (Some(2_000_000_000_000), Some(1))
            }),
        ),
    ];
    for (what, task) in cases {
        assert_eq!(
            refused(&mut connection, what, task).await,
            ErrorCode::InvalidArgument,
            "{what}"
        );
    }
}

#[tokio::test]
async fn a_task_that_expired_before_it_was_submitted_is_revoked_or_refused_and_never_runs() {
    let broker = BrokerProcess::start().await;
    let mut worker = RawConnection::worker(broker.address(), &["default"], &["late"], 10).await;
    let mut connection = RawConnection::open(broker.address()).await;
    let outcome = connection
        .submit_one(bad(|task| (task.name, task.expires_at_ms) = ("late".into(), Some(1_000))))
        .await;
    match outcome.kind() {
        Kind::Refused => {
            assert_eq!(outcome.error.expect("it says why").code(), ErrorCode::InvalidArgument)
        }
        _ => assert_eq!(connection.ended("bad").await.revoked_reason, "expired"),
    }
    assert_eq!(worker.pushed_so_far().await, []);
}

#[tokio::test]
async fn an_absurd_retry_policy_is_refused() {
    let broker = BrokerProcess::start().await;
    let mut connection = RawConnection::open(broker.address()).await;
    let policies = [
        ("no attempts", wire::RetryPolicy { max_attempts: Some(0), ..Default::default() }),
        (
            "a delay over 100 years",
            wire::RetryPolicy { delay_ms: Some(u64::MAX), ..Default::default() },
        ),
        (
            "a cap over 100 years",
            wire::RetryPolicy { delay_max_ms: Some(u64::MAX), ..Default::default() },
        ),
        (
            "a factor that is no number",
            wire::RetryPolicy { factor: Some(f64::NAN), ..Default::default() },
        ),
        (
            "a factor without end",
            wire::RetryPolicy { factor: Some(f64::INFINITY), ..Default::default() },
        ),
        ("a negative factor", wire::RetryPolicy { factor: Some(-2.0), ..Default::default() }),
        ("an unknown backoff", wire::RetryPolicy { backoff: 77, ..Default::default() }),
        ("an unknown jitter", wire::RetryPolicy { jitter: -1, ..Default::default() }),
    ];
    for (what, policy) in policies {
        let code = refused(&mut connection, what, bad(|task| task.retry = Some(policy))).await;
        assert_eq!(code, ErrorCode::InvalidArgument, "{what}");
    }
    let code =
        refused(&mut connection, "an unknown conflict policy", bad(|task| task.on_conflict = 9))
            .await;
    assert_eq!(code, ErrorCode::InvalidArgument);
    let code =
        refused(&mut connection, "no deliveries", bad(|task| task.max_deliveries = Some(0))).await;
    assert_eq!(code, ErrorCode::InvalidArgument);
}

#[tokio::test]
async fn a_priority_is_0_to_9() {
    let broker = BrokerProcess::start().await;
    let mut connection = RawConnection::open(broker.address()).await;
    for priority in [10, u32::MAX] {
        let code = refused(
            &mut connection,
            &priority.to_string(),
            bad(|task| task.priority = Some(priority)),
        )
        .await;
        assert_eq!(code, ErrorCode::InvalidArgument);
    }
    assert_eq!(
        connection.submit_one(bad(|task| task.priority = Some(9))).await.kind(),
        Kind::Created
    );
}

#[tokio::test]
async fn a_payload_over_the_limit_is_refused_and_one_at_the_limit_is_kept() {
    let broker = Setup::new().set("payload_bytes_max = 100000").start().await;
    let mut connection = RawConnection::open(broker.address()).await;
    let over = bad(|task| task.payload = vec![7; 100_001].into());
    assert_eq!(refused(&mut connection, "too large", over).await, ErrorCode::PayloadTooLarge);
    let payload = Bytes::from(vec![7; 100_000]);
    let at = bad(|task| (task.name, task.payload) = ("large".into(), payload.clone()));
    assert_eq!(connection.submit_one(at).await.kind(), Kind::Created);
    let mut worker = RawConnection::worker(broker.address(), &["default"], &["large"], 1).await;
    assert_eq!(worker.delivery().await.payload, payload);
}

#[tokio::test]
async fn a_payload_of_several_megabytes_arrives_unchanged_also_after_a_restart() {
    let mut broker = BrokerProcess::start().await;
    let payload: Bytes =
        (0..limits::PAYLOAD_BYTES_MAX).map(|at| (at % 251) as u8).collect::<Vec<_>>().into();
    let mut connection = RawConnection::open(broker.address()).await;
    let task = bad(|task| (task.name, task.payload) = ("large".into(), payload.clone()));
    assert_eq!(connection.submit_one(task).await.kind(), Kind::Created);
    broker.kill().await;
    broker.restart().await;
    let mut worker = RawConnection::worker(broker.address(), &["default"], &["large"], 1).await;
    assert!(worker.delivery().await.payload == payload, "another payload arrived");
}

#[tokio::test]
async fn too_many_tags_and_headers_are_refused() {
    let broker = BrokerProcess::start().await;
    let mut connection = RawConnection::open(broker.address()).await;
    let tags = bad(|task| {
        task.tags = (0..=limits::TAGS_MAX).map(|number| format!("tag-{number}")).collect()
    });
    assert_eq!(refused(&mut connection, "too many tags", tags).await, ErrorCode::InvalidArgument);
    let headers = bad(|task| {
        drop(task.headers.insert("k".into(), vec![0; limits::HEADERS_BYTES_MAX].into()))
    });
    assert_eq!(
        refused(&mut connection, "too large headers", headers).await,
        ErrorCode::InvalidArgument
    );
}

#[tokio::test]
async fn a_batch_has_1_to_10_000_items() {
    let broker = BrokerProcess::start().await;
    let mut connection = RawConnection::open(broker.address()).await;
    let batch = |count: usize| {
        let tasks =
            (0..count).map(|number| raw::task(&format!("{count}-{number}"), "nothing")).collect();
        Request::Submit(wire::Submit { tasks })
    };
    for count in [0, limits::BATCH_ITEMS_MAX + 1] {
        let error = connection.request(batch(count)).await.expect_err("the whole batch is refused");
        assert_eq!(error.code(), ErrorCode::InvalidArgument, "{count} items");
    }
    assert_eq!(connection.info("10001-0").await.state(), TaskState::Unknown);
    connection.request(batch(limits::BATCH_ITEMS_MAX)).await.expect("this many are allowed");
    assert_eq!(connection.info("10000-9999").await.state(), TaskState::Queued);
}

#[tokio::test]
async fn the_same_id_twice_in_one_batch_is_created_and_joined() {
    let broker = BrokerProcess::start().await;
    let mut connection = RawConnection::open(broker.address()).await;
    let outcomes =
        connection.submit(vec![raw::task("twin", "nothing"), raw::task("twin", "nothing")]).await;
    let kinds: Vec<_> = outcomes.iter().map(wire::SubmitOutcome::kind).collect();
    assert_eq!(kinds, [Kind::Created, Kind::Joined]);
}
