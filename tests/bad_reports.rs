//! Reports and other requests with false claims. They change nothing, and the answer says why.

use celeriac_proto::limits;
use celeriac_proto::wire::{self, ErrorCode, TaskState, task_report};
use celeriac_tests::raw::{self, Request};
use celeriac_tests::{BrokerProcess, RawConnection};

/// A broker, the connection of a worker, and a delivery of the only task.
async fn one_delivery() -> (BrokerProcess, RawConnection, wire::Delivery) {
    let broker = BrokerProcess::start().await;
    let mut worker = RawConnection::worker(broker.address(), &["default"], &["n"], 1).await;
    worker.submit_one(raw::task("task", "n")).await;
    let delivery = worker.delivery().await;
    (broker, worker, delivery)
}

#[tokio::test]
async fn a_report_with_an_invented_lease_is_stale_and_changes_nothing() {
    let (_broker, mut worker, delivery) = one_delivery().await;
    for lease in [0, delivery.lease + 1, delivery.lease.wrapping_sub(1), u64::MAX] {
        let invented = wire::Delivery { lease, ..delivery.clone() };
        for what in [
            raw::started(),
            raw::complete(b"1"),
            raw::fail("no"),
            task_report::Report::Release(wire::Release::default()),
        ] {
            let outcome = worker.report_one(raw::report(&invented, what)).await;
            assert_eq!(outcome.code(), ErrorCode::StaleLease, "lease {lease}: {outcome:?}");
        }
    }
    assert_eq!(worker.info("task").await.state(), TaskState::Leased);
    assert_eq!(
        worker.report_one(raw::report(&delivery, raw::complete(b"1"))).await.code(),
        ErrorCode::Unspecified
    );
}

#[tokio::test]
async fn a_report_with_the_lease_of_another_task_is_stale() {
    let (_broker, mut worker, first) = one_delivery().await;
    worker.credit(2).await;
    worker.submit_one(raw::task("other", "n")).await;
    let second = worker.delivery().await;
    let crossed = wire::Delivery { lease: second.lease, ..first };
    assert_eq!(
        worker.report_one(raw::report(&crossed, raw::complete(b"1"))).await.code(),
        ErrorCode::StaleLease
    );
    assert_eq!(worker.info("task").await.state(), TaskState::Leased);
}

#[tokio::test]
async fn a_report_with_a_lease_that_is_over_is_stale() {
    let (_broker, mut worker, old) = one_delivery().await;
    worker
        .report_one(raw::report(&old, task_report::Report::Release(wire::Release::default())))
        .await;
    let new = worker.delivery().await;
    assert!(new.lease > old.lease, "leases rise");
    assert_eq!(
        worker.report_one(raw::report(&old, raw::complete(b"old"))).await.code(),
        ErrorCode::StaleLease
    );
    worker.report_one(raw::report(&new, raw::complete(b"new"))).await;
    assert_eq!(&worker.info("task").await.result[..], b"new");
}

#[tokio::test]
async fn a_report_on_an_unknown_id_is_not_found() {
    let (_broker, mut worker, delivery) = one_delivery().await;
    let unknown = wire::Delivery { id: "nobody".into(), ..delivery };
    assert_eq!(
        worker.report_one(raw::report(&unknown, raw::complete(b"1"))).await.code(),
        ErrorCode::NotFound
    );
}

#[tokio::test]
async fn a_report_without_an_id_or_without_a_kind_is_refused_and_the_others_count() {
    let (_broker, mut worker, delivery) = one_delivery().await;
    let nameless = wire::Delivery { id: String::new(), ..delivery.clone() };
    let empty = wire::TaskReport { id: "task".into(), lease: delivery.lease, report: None };
    let good = raw::report(&delivery, raw::complete(b"good"));
    let reports = vec![raw::report(&nameless, raw::complete(b"1")), empty, good];
    let reply = worker
        .request(Request::Report(wire::Report { reports }))
        .await
        .expect("an answer for each");
    let raw::Answer::ReportReply(reply) = reply else { panic!("not a ReportReply: {reply:?}") };
    let outcomes: Vec<_> =
        reply.outcomes.iter().map(|outcome| (outcome.code(), outcome.state())).collect();
    let wrong = ErrorCode::InvalidArgument;
    let good = (ErrorCode::Unspecified, TaskState::Success);
    assert_eq!(outcomes, [(wrong, TaskState::Unknown), (wrong, TaskState::Leased), good]);
    assert_eq!(worker.info("task").await.state(), TaskState::Success);
}

#[tokio::test]
async fn who_is_no_worker_is_told_nothing_of_a_lease_that_has_ended() {
    let (broker, mut worker, delivery) = one_delivery().await;
    let complete = raw::report(&delivery, raw::complete(b"1"));
    assert_eq!(worker.report_one(complete.clone()).await.code(), ErrorCode::Unspecified);
    let outcome = RawConnection::open(broker.address()).await.report_one(complete).await;
    assert_eq!(outcome.code(), ErrorCode::StaleLease);
}

#[tokio::test]
async fn the_same_report_twice_counts_once() {
    let (_broker, mut worker, delivery) = one_delivery().await;
    let complete = raw::report(&delivery, raw::complete(b"1"));
    for time in ["first", "second"] {
        let outcome = worker.report_one(complete.clone()).await;
        assert_eq!(
            (outcome.code(), outcome.state()),
            (ErrorCode::Unspecified, TaskState::Success),
            "{time} time"
        );
    }
    let info = worker.info("task").await;
    assert_eq!((&info.result[..], info.attempts), (b"1".as_slice(), 1));
}

#[tokio::test]
async fn a_report_with_the_lease_of_another_session_is_judged_by_the_lease_alone_or_refused() {
    let (broker, mut worker, delivery) = one_delivery().await;
    let mut stranger = RawConnection::worker(broker.address(), &["default"], &["n"], 0).await;
    let outcome = stranger.report_one(raw::report(&delivery, raw::complete(b"stranger"))).await;
    let info = worker.info("task").await;
    match outcome.code() {
        ErrorCode::Unspecified => assert_eq!(&info.result[..], b"stranger"),
        code => {
            assert_eq!((code, info.state()), (ErrorCode::StaleLease, TaskState::Leased));
        }
    }
}

#[tokio::test]
async fn a_result_over_the_limit_ends_the_task_as_failure_however_often_it_is_sent() {
    let (_broker, mut worker, delivery) = one_delivery().await;
    let large = vec![b'1'; limits::RESULT_BYTES_MAX + 1];
    for time in ["first", "second"] {
        let outcome = worker.report_one(raw::report(&delivery, raw::complete(&large))).await;
        assert_eq!(
            (outcome.code(), outcome.state()),
            (ErrorCode::ResultTooLarge, TaskState::Failure),
            "{time} time"
        );
    }
    let info = worker.ended("task").await;
    assert_eq!(info.state(), TaskState::Failure);
    assert_eq!(info.errors.last().map(|error| error.kind.as_str()), Some("result_too_large"));
}

#[tokio::test]
async fn a_result_at_the_limit_is_kept_over_a_restart() {
    let (mut broker, mut worker, delivery) = one_delivery().await;
    let large: Vec<u8> = (0..limits::RESULT_BYTES_MAX).map(|at| (at % 249) as u8).collect();
    worker.report_one(raw::report(&delivery, raw::complete(&large))).await;
    broker.kill().await;
    broker.restart().await;
    let info = RawConnection::open(broker.address()).await.info("task").await;
    assert!(info.state() == TaskState::Success && info.result == large, "{:?}", info.state());
}

#[tokio::test]
async fn a_credit_over_the_limit_is_refused() {
    let (_broker, mut worker, _delivery) = one_delivery().await;
    for credit in [limits::CREDIT_MAX + 1, u32::MAX] {
        let error = worker
            .request(Request::Credit(wire::Credit { credit }))
            .await
            .expect_err("it is too much");
        assert_eq!(error.code(), ErrorCode::InvalidArgument);
    }
}

#[tokio::test]
async fn a_credit_of_a_connection_that_is_no_worker_has_no_effect() {
    let broker = BrokerProcess::start().await;
    let mut producer = RawConnection::open(broker.address()).await;
    producer.credit(10).await;
    producer.submit_one(raw::task("task", "n")).await;
    assert_eq!(producer.pushed_so_far().await, []);
    assert_eq!(producer.info("task").await.state(), TaskState::Queued);
}

#[tokio::test]
async fn a_cancel_names_exactly_one_of_ids_root_and_tag() {
    let broker = BrokerProcess::start().await;
    let mut connection = RawConnection::open(broker.address()).await;
    connection.submit_one(raw::task("task", "n")).await;
    let both = wire::Cancel { ids: vec!["task".into()], tag: "t".into(), ..Default::default() };
    for cancel in [wire::Cancel::default(), both] {
        let error = connection
            .request(Request::Cancel(cancel))
            .await
            .expect_err("it is not clear what is meant");
        assert_eq!(error.code(), ErrorCode::InvalidArgument);
    }
    assert_eq!(connection.info("task").await.state(), TaskState::Queued);
}

#[tokio::test]
async fn requests_without_ids_are_refused() {
    let broker = BrokerProcess::start().await;
    let mut connection = RawConnection::open(broker.address()).await;
    let requests = [
        Request::Wait(wire::Wait::default()),
        Request::Watch(wire::Watch::default()),
        Request::Get(wire::Get::default()),
        Request::Forget(wire::Forget::default()),
        Request::Report(wire::Report::default()),
    ];
    for request in requests {
        let what = format!("{request:?}");
        let error = connection.request(request).await.expect_err(&what);
        assert_eq!(error.code(), ErrorCode::InvalidArgument, "{what}");
    }
}

#[tokio::test]
async fn more_ids_than_a_batch_holds_are_refused() {
    let broker = BrokerProcess::start().await;
    let mut connection = RawConnection::open(broker.address()).await;
    let ids: Vec<_> = (0..=limits::BATCH_ITEMS_MAX).map(|number| number.to_string()).collect();
    let get =
        Request::Get(wire::Get { ids: ids.clone(), with_results: false, ..Default::default() });
    assert_eq!(
        connection.request(get).await.expect_err("too many").code(),
        ErrorCode::InvalidArgument
    );
    let wait = Request::Wait(wire::Wait { ids, ..Default::default() });
    assert_eq!(
        connection.request(wait).await.expect_err("too many").code(),
        ErrorCode::InvalidArgument
    );
}

#[tokio::test]
async fn ids_that_cannot_be_are_refused_or_unknown_in_every_request() {
    let broker = BrokerProcess::start().await;
    let mut connection = RawConnection::open(broker.address()).await;
    for id in [String::new(), "x".repeat(256), "x".repeat(1_000_000)] {
        let requests = [
            Request::Get(wire::Get {
                ids: vec![id.clone()],
                with_results: false,
                ..Default::default()
            }),
            Request::Wait(wire::Wait { ids: vec![id.clone()], ..Default::default() }),
            Request::Watch(wire::Watch { ids: vec![id.clone()], with_results: false }),
            Request::Forget(wire::Forget { ids: vec![id.clone()] }),
        ];
        for request in requests {
            if let Err(error) = connection.request(request).await {
                assert_eq!(error.code(), ErrorCode::InvalidArgument, "{error:?}");
            }
        }
    }
    assert_eq!(connection.submit_one(raw::task("after", "n")).await.error, None);
}

#[tokio::test]
async fn the_end_of_a_watch_that_never_began_is_not_found() {
    let broker = BrokerProcess::start().await;
    let mut connection = RawConnection::open(broker.address()).await;
    for watch_id in [0, 1, u64::MAX] {
        let error = connection
            .request(Request::Unwatch(wire::Unwatch { watch_id }))
            .await
            .expect_err("there is none");
        assert_eq!(error.code(), ErrorCode::NotFound);
    }
}

#[tokio::test]
async fn a_wait_for_an_unknown_id_is_answered_at_once() {
    let broker = BrokerProcess::start().await;
    let mut connection = RawConnection::open(broker.address()).await;
    let info = connection.ended("nobody").await;
    assert_eq!(info.state(), TaskState::Unknown);
}

#[tokio::test]
async fn forget_says_per_id_what_it_did() {
    let (_broker, mut worker, delivery) = one_delivery().await;
    let forget = || Request::Forget(wire::Forget { ids: vec!["task".into(), "nobody".into()] });
    let raw::Answer::ForgetReply(reply) = worker.request(forget()).await.expect("per id") else {
        panic!("no reply")
    };
    let codes: Vec<_> = reply.outcomes().collect();
    assert_eq!(codes, [ErrorCode::NotFinished, ErrorCode::NotFound]);
    worker.report_one(raw::report(&delivery, raw::complete(b"1"))).await;
    let raw::Answer::ForgetReply(reply) = worker.request(forget()).await.expect("per id") else {
        panic!("no reply")
    };
    let codes: Vec<_> = reply.outcomes().collect();
    assert_eq!(codes, [ErrorCode::Unspecified, ErrorCode::NotFound]);
    assert_eq!(worker.info("task").await.state(), TaskState::Unknown);
}
