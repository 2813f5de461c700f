//! Connections that are silent, slow, cut off or not read. Nothing hangs, no request takes effect
//! by half, and no other client notices.

use std::time::{Duration, Instant};

use bytes::Bytes;
use celeriac_client::{Client, Submission};
use celeriac_proto::wire::{self, ErrorCode, TaskState};
use celeriac_tests::proxy::{Toxic, Toxics};
use celeriac_tests::raw::{self, Answer, Request};
use celeriac_tests::{BrokerProcess, InProcessWorker, Proxy, RawConnection, Setup, within};
use celeriac_worker::{Context, TaskFailure, Worker};

/// Each of the two large frames below takes a second and a half, which is more than two of these
/// leases.
const NARROW: Toxic = Toxic { rate: 400_000, ..Toxic::HARMLESS };
const LARGE: usize = 600_000;

async fn with_short_leases() -> BrokerProcess {
    Setup::new().set("heartbeat_ms = 200").set("lease_ms = 600").start().await
}

#[tokio::test]
async fn a_payload_that_takes_long_on_its_way_arrives_and_its_client_does_not_give_up() {
    let broker = with_short_leases().await;
    let wire = Proxy::toxic(broker.address(), Toxics { up: NARROW, ..Toxics::default() }, 1).await;
    let client = Client::connect(&wire.url()).await.expect("the wire is narrow, and free");
    let submission =
        Submission::new("large").payload(vec![b'1'; LARGE], "text/plain").task_id("large");
    let handle =
        within("the submit", client.submit::<()>(submission)).await.expect("it is confirmed");
    let [up, _] = wire.passed();
    // If the payload had been sent again after a lost connection, it would have passed twice.
    assert!(up < 2 * LARGE as u64, "{up} bytes were sent");
    assert_eq!(handle.info().await.expect("it is there").generation, 1);
}

#[tokio::test]
async fn a_worker_whose_report_takes_long_on_its_way_keeps_its_lease() {
    let broker = with_short_leases().await;
    let wire =
        Proxy::toxic(broker.address(), Toxics { up: NARROW, down: NARROW, ends_once: false }, 1)
            .await;
    let worker = Worker::builder(wire.url())
        .register_fn("large", |_context: Context, (count,): (usize,)| async move {
            Ok::<_, TaskFailure>("1".repeat(count))
        });
    let worker = InProcessWorker::start(worker);
    let client = Client::connect(&broker.url()).await.expect("the broker takes clients");
    let submission = Submission::new("large").args((LARGE,)).task_id("large");
    let handle = client.submit::<String>(submission).await.expect("it is confirmed");
    let result =
        within("the result", handle.get(Duration::from_secs(60))).await.expect("it succeeds");
    let info = handle.info().await.expect("it is there");
    assert_eq!((result.len(), info.deliveries, info.attempts), (LARGE, 1, 1));
    worker.stop().await;
}

#[tokio::test]
async fn a_connection_that_never_says_hello_is_closed_after_5_seconds() {
    let broker = BrokerProcess::start().await;
    let begun = Instant::now();
    let error = RawConnection::silent(broker.address())
        .await
        .closed_with()
        .await
        .expect("an error before the close");
    assert_eq!(error.code(), ErrorCode::Handshake);
    let took = begun.elapsed();
    assert!(
        took > Duration::from_secs(4) && took < Duration::from_secs(9),
        "closed after {took:?}"
    );
}

#[tokio::test]
async fn a_sender_of_one_byte_at_a_time_is_served() {
    let broker = BrokerProcess::start().await;
    let mut connection = RawConnection::silent(broker.address()).await;
    for byte in raw::hello_bytes() {
        connection.send_bytes(&[byte]).await.expect("the broker reads");
        tokio::task::yield_now().await;
    }
    let answer = within("the Welcome", connection.answer(1)).await.expect("the connection goes on");
    assert!(matches!(answer, Answer::Welcome(_)), "{answer:?}");
    let submit = Request::Submit(wire::Submit { tasks: vec![raw::task("slow", "nothing")] });
    for byte in
        raw::frame_bytes(wire::ClientFrame { request_id: 2, timeout_ms: 0, body: Some(submit) })
    {
        connection.send_bytes(&[byte]).await.expect("the broker reads");
        tokio::task::yield_now().await;
    }
    let answer =
        within("the SubmitReply", connection.answer(2)).await.expect("the connection goes on");
    assert!(matches!(answer, Answer::SubmitReply(_)), "{answer:?}");
}

#[tokio::test]
async fn a_sender_that_drips_its_hello_for_ever_is_closed_too() {
    let broker = BrokerProcess::start().await;
    let mut connection = RawConnection::silent(broker.address()).await;
    let begun = Instant::now();
    // Each byte comes in time, but the whole handshake does not.
    within("the broker to close the connection", async {
        let bytes = raw::hello_bytes();
        let dripped = bytes[..bytes.len() - 1].iter();
        for byte in dripped {
            if connection.send_bytes(&[*byte]).await.is_err() {
                return;
            }
            // Time itself is what the test is about.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        connection.closed_with().await;
    })
    .await;
    assert!(begun.elapsed() < Duration::from_secs(9), "closed after {:?}", begun.elapsed());
}

#[tokio::test]
async fn a_conversation_cut_at_any_byte_happened_as_a_whole_or_not_at_all() {
    let mut broker = BrokerProcess::start().await;
    let mut reader = RawConnection::open(broker.address()).await;
    let submit = |id: &str| {
        let tasks = vec![raw::task(&format!("{id}-a"), "n"), raw::task(&format!("{id}-b"), "n")];
        let body = Some(Request::Submit(wire::Submit { tasks }));
        raw::frame_bytes(wire::ClientFrame { request_id: 2, timeout_ms: 0, body })
    };
    let length = raw::hello_bytes().len() + submit("cut-000").len();
    for cut in 0..=length {
        let id = format!("cut-{cut:03}");
        let bytes = [raw::hello_bytes(), submit(&id)].concat();
        let mut connection = RawConnection::silent(broker.address()).await;
        connection.send_bytes(&bytes[..cut]).await.expect("the broker reads");
        connection.close_sending().await;
        connection.closed_with().await;
        let states = [
            reader.info(&format!("{id}-a")).await.state(),
            reader.info(&format!("{id}-b")).await.state(),
        ];
        let whole = states == [TaskState::Queued; 2];
        assert!(whole || states == [TaskState::Unknown; 2], "cut at {cut} of {length}: {states:?}");
        assert!(
            !whole || cut == length,
            "half a request was carried out, cut at {cut} of {length}"
        );
    }
    assert!(broker.is_running() && !broker.stderr().contains("panicked"), "the broker panicked");
}

#[tokio::test]
async fn a_client_that_stops_reading_is_closed_and_holds_up_nobody() {
    const TASKS: usize = 3_000;
    let broker = BrokerProcess::start().await;
    let ids: Vec<String> = (0..TASKS).map(|number| format!("task-{number}")).collect();
    let mut deaf = RawConnection::open(broker.address()).await;
    deaf.watch(&ids.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let mut honest = RawConnection::open(broker.address()).await;
    // About 150 MB of transitions for the client that does not read.
    for ids in ids.chunks(100) {
        let tasks = ids.iter().map(|id| {
            let mut task = raw::task(id, "n");
            task.headers.insert("filling".into(), Bytes::from(vec![b'x'; 50_000]));
            task
        });
        let outcomes = honest.submit(tasks.collect()).await;
        assert!(outcomes.iter().all(|outcome| outcome.error.is_none()), "{outcomes:?}");
    }
    let resident_kib = broker.resident_kib();
    assert!(resident_kib < 512 * 1024, "the broker holds {resident_kib} KiB");
    let error = deaf.closed_with().await;
    assert!(
        error.is_none_or(|error| error.code() == ErrorCode::SlowConsumer),
        "closed for another reason"
    );
}
