//! Peers that take more than their share: too many connections, and too few descriptors for them.
//! Faults with such peers are in `faults.rs`.

use celeriac_proto::limits;
use celeriac_proto::wire::{self, ErrorCode};
use celeriac_tests::raw::{self, Answer, Request};
use celeriac_tests::{BrokerProcess, RawConnection, Setup, within};

/// A broker with a limit of 64 open files, set by this flag of `ulimit`: `-n` for both limits,
/// `-Sn` for the soft one.
async fn with_descriptors(flag: &str) -> BrokerProcess {
    Setup::new().under(["sh", "-c", &format!("ulimit {flag} 64; exec \"$@\""), "sh"]).start().await
}

/// Connects clients until the broker refuses one for lack of room, at most so many. Returns the
/// accepted ones.
async fn let_in(broker: &BrokerProcess, at_most: usize) -> Vec<RawConnection> {
    let mut inside = Vec::new();
    while inside.len() < at_most {
        let mut connection = RawConnection::silent(broker.address()).await;
        connection.send(Request::Hello(raw::hello()), 0).await.expect("it is read or refused");
        match within("an answer", connection.next()).await.expect("an answer comes before the end")
        {
            (_, Answer::Welcome(_)) => inside.push(connection),
            (_, Answer::Error(error)) if error.code() == ErrorCode::Overloaded => break,
            other => panic!("neither let in nor refused: {other:?}"),
        }
    }
    inside
}

#[tokio::test]
async fn a_broker_with_few_descriptors_keeps_some_for_its_files() {
    let broker = with_descriptors("-n").await;
    let mut inside = let_in(&broker, 64).await;
    assert!(inside.len() > 8 && inside.len() < 64, "{} were let in", inside.len());
    assert!(
        broker.stderr().contains("raise the limit of open files"),
        "it is not told:\n{}",
        broker.stderr()
    );
    // No more clients are accepted, and yet the broker can open files.
    let folder = broker.home().join("copy").display().to_string();
    let backup = inside[0].request(Request::Backup(wire::Backup { folder })).await;
    assert!(matches!(backup, Ok(Answer::BackupReply(_))), "{backup:?}");
}

#[tokio::test]
async fn a_soft_limit_of_open_files_is_raised_as_far_as_it_may() {
    let broker = with_descriptors("-Sn").await;
    assert_eq!(let_in(&broker, 100).await.len(), 100);
}

#[tokio::test]
async fn answers_that_nobody_reads_are_refused_before_they_fill_the_memory() {
    const GETS: usize = 300;
    let broker = BrokerProcess::start().await;
    let mut worker = RawConnection::worker(broker.address(), &["default"], &["n"], 1).await;
    worker.submit_one(raw::task("large", "n")).await;
    let delivery = worker.delivery().await;
    worker.report_one(raw::report(&delivery, raw::complete(&vec![b'1'; 900 * 1024]))).await;
    let mut asking = RawConnection::open(broker.address()).await;
    let get = || {
        Request::Get(wire::Get {
            ids: vec!["large".into()],
            with_results: true,
            ..Default::default()
        })
    };
    for _ in 0..GETS {
        asking.send(get(), 0).await.expect("the broker reads on: so many may be in flight");
    }
    // A request on another connection: when it is answered, the requests before it were answered
    // too.
    worker.info("large").await;
    let (mut answered, mut refused) = (0, 0);
    for _ in 0..GETS {
        match within("an answer", asking.next()).await.expect("the connection goes on") {
            (_, Answer::GetReply(_)) => answered += 1,
            (_, Answer::Error(error))
                if error.code() == ErrorCode::Overloaded && error.retryable =>
            {
                refused += 1
            }
            other => panic!("neither answered nor refused for now: {other:?}"),
        }
    }
    assert!(answered >= 32 && refused > 0, "{answered} answered, {refused} refused");
    assert!(
        matches!(asking.request(get()).await, Ok(Answer::GetReply(_))),
        "what was read makes room"
    );
}

#[tokio::test]
async fn a_connection_waits_for_a_bounded_number_of_ids() {
    let broker = BrokerProcess::start().await;
    let mut connection = RawConnection::open(broker.address()).await;
    let ids: Vec<String> = (0..limits::BATCH_ITEMS_MAX).map(|number| number.to_string()).collect();
    connection.submit(ids.iter().map(|id| raw::task(id, "n")).collect()).await;
    let wait =
        || Request::Wait(wire::Wait { ids: ids.clone(), mode: 0, until: 0, with_results: false });
    for _ in 0..limits::WAITED_IDS_MAX / limits::BATCH_ITEMS_MAX {
        connection.send(wait(), 0).await.expect("the broker reads");
    }
    let refused = connection.request(wait()).await.expect_err("as many as may be are waited for");
    assert_eq!((refused.code(), refused.retryable), (ErrorCode::Overloaded, true));
}

#[tokio::test]
async fn queues_are_bounded_however_they_are_made() {
    let broker = BrokerProcess::start().await;
    let mut connection = RawConnection::open(broker.address()).await;
    let pause = |names: Vec<String>| {
        Request::PauseQueues(wire::PauseQueues { queues: names, paused: true })
    };
    for part in 0..10 {
        let names =
            (0..limits::BATCH_ITEMS_MAX).map(|number| format!("queue-{part}-{number}")).collect();
        connection.request(pause(names)).await.expect("a hundred thousand there may be");
    }
    let requests = [
        pause(vec!["one more".into()]),
        Request::ConfigureQueue(wire::ConfigureQueue {
            queue: "one more".into(),
            settings: Some(wire::QueueSettings { tasks_max: Some(1), ..Default::default() }),
        }),
    ];
    for request in requests {
        assert_eq!(
            connection.request(request).await.expect_err("it is one more").code(),
            ErrorCode::Overloaded
        );
    }
    let mut worker = RawConnection::silent(broker.address()).await;
    let hello = Request::Hello(raw::worker_hello(&["one more"], &["n"]));
    assert_eq!(
        worker.request(hello).await.expect_err("it is one more").code(),
        ErrorCode::Overloaded
    );
    let known = RawConnection::worker(broker.address(), &["queue-3-14"], &["n"], 1).await;
    drop(known);
}

#[tokio::test]
async fn millions_of_tags_in_one_task_are_refused_undecoded_and_the_error_names_them() {
    let broker = BrokerProcess::start().await;
    let before = broker.resident_kib();
    let mut connection = RawConnection::open(broker.address()).await;
    let task = wire::Task { tags: vec![String::new(); 5_000_000], ..raw::task("tagged", "n") };
    connection
        .send(Request::Submit(wire::Submit { tasks: vec![task] }), 0)
        .await
        .expect("the broker reads");
    let error = connection.closed_with().await.expect("an error before the close");
    assert_eq!(error.code(), ErrorCode::Malformed);
    assert!(error.message.contains("tags in a Task"), "{}", error.message);
    let grown = broker.resident_kib().saturating_sub(before);
    assert!(grown < 64 * 1024, "{grown} KiB more than before");
}

#[tokio::test]
async fn one_task_with_a_few_tags_or_headers_too_many_is_refused_alone() {
    let broker = BrokerProcess::start().await;
    let mut connection = RawConnection::open(broker.address()).await;
    let tags =
        wire::Task { tags: vec!["t".into(); limits::TAGS_MAX + 1], ..raw::task("tags", "n") };
    let headers = (0..=limits::HEADERS_MAX).map(|key| (key.to_string(), "v".into())).collect();
    let headers = wire::Task { headers, ..raw::task("headers", "n") };
    let outcomes = connection
        .submit(vec![raw::task("first", "n"), tags, headers, raw::task("last", "n")])
        .await;
    let codes: Vec<_> =
        outcomes.into_iter().map(|outcome| outcome.error.map(|error| error.code())).collect();
    assert_eq!(
        codes,
        [None, Some(ErrorCode::InvalidArgument), Some(ErrorCode::InvalidArgument), None]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_never_end_hold_bounded_memory_and_give_way_to_those_that_do() {
    const STUCK: usize = 100;
    let broker = BrokerProcess::start().await;
    let before = broker.resident_kib();
    let mut almost = raw::frame_bytes(wire::ClientFrame {
        request_id: 2,
        timeout_ms: 0,
        body: Some(Request::Submit(wire::Submit {
            tasks: vec![wire::Task {
                payload: vec![b'x'; 16 * 1024 * 1024 - 200].into(),
                ..raw::task("stuck", "n")
            }],
        })),
    });
    almost.pop();
    let mut stuck = tokio::task::JoinSet::new();
    let almost = std::sync::Arc::new(almost);
    for _ in 0..STUCK {
        let mut connection = RawConnection::open(broker.address()).await;
        let almost = almost.clone();
        stuck.spawn(async move {
            // The broker does not read from connections for which there is no room.
            let _ = connection.send_bytes(&almost).await;
            connection.closed_with().await
        });
    }
    // Small frames are still read. A long frame gets room as soon as the frame of a slow peer is
    // given up.
    let mut honest = RawConnection::open(broker.address()).await;
    assert_eq!(honest.submit_one(raw::task("small", "n")).await.error, None);
    let long = wire::Task { payload: vec![b'x'; 8 * 1024 * 1024].into(), ..raw::task("long", "n") };
    assert_eq!(honest.submit_one(long).await.error, None);
    let held = broker.resident_kib().saturating_sub(before);
    assert!(held < 400 * 1024, "{held} KiB for frames that are not whole");
    let first = within("a client that is too slow is closed", stuck.join_next()).await;
    let error = first.expect("there are many").expect("it does not panic").expect("it is told");
    assert_eq!((error.code(), error.retryable), (ErrorCode::Overloaded, true));
    stuck.shutdown().await;
    celeriac_tests::until("the memory is given back", || async {
        broker.resident_kib() < before + 64 * 1024
    })
    .await;
}

#[tokio::test]
async fn a_quiet_broker_gives_memory_back() {
    const HALF_FRAME_BYTES: usize = 300 * 1024;
    let broker = BrokerProcess::start().await;
    let before = broker.resident_kib();
    let mut half = u32::try_from(2 * HALF_FRAME_BYTES).expect("it is short").to_be_bytes().to_vec();
    half.resize(HALF_FRAME_BYTES, b'x');
    let mut connections = Vec::new();
    for _ in 0..200 {
        let mut connection = RawConnection::open(broker.address()).await;
        connection.send_bytes(&half).await.expect("there is room for it");
        connections.push(connection);
    }
    celeriac_tests::until("all of it was read", || async {
        broker.resident_kib() > before + 50 * 1024
    })
    .await;
    drop(connections);
    celeriac_tests::until("the memory is given back", || async {
        broker.resident_kib() < before + 8 * 1024
    })
    .await;
}

#[tokio::test]
async fn connections_that_say_nothing_do_not_keep_others_out() {
    const PLACES: usize = 20;
    let broker = Setup::new().set(format!("connections_max = {PLACES}")).start().await;
    let mut silent = Vec::new();
    for _ in 0..600 {
        silent.push(RawConnection::silent(broker.address()).await);
    }
    assert_eq!(let_in(&broker, PLACES + 10).await.len(), PLACES);
    let error = within("the oldest is sent away", silent.swap_remove(0).closed_with())
        .await
        .expect("it is told");
    assert_eq!((error.code(), error.retryable), (ErrorCode::Overloaded, true));
}
