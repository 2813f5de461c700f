//! A disk whose sync never returns. The broker ends by itself, because it must not look alive while
//! it can confirm nothing.

use celeriac_proto::wire;
use celeriac_tests::raw::{self, Request};
use celeriac_tests::{RawConnection, Setup, test_broker_binary};

/// The exit code of a commit that took too long.
const COMMIT_TIMEOUT: i32 = 21;

/// The driver commits one task itself, and hands a thousand over to the store's thread.
#[tokio::test]
async fn a_disk_that_hangs_ends_the_broker_within_the_commit_timeout() {
    for batch in [1, 1_000] {
        let home = tempfile::tempdir().expect("a temporary folder can be made");
        let mut broker = Setup::new()
            .program(test_broker_binary())
            .data(home.path().join("data"))
            .set("commit_timeout_ms = 500")
            .variable("CELERIAC_TEST_FAULT", "fdatasync ready 1 hang")
            .variable("CELERIAC_TEST_DISK", home.path().display().to_string())
            .start()
            .await;
        let mut connection = RawConnection::open(broker.address()).await;
        let tasks = (0..batch).map(|number| raw::task(&format!("task-{number}"), "n")).collect();
        let submit = Request::Submit(wire::Submit { tasks });
        let answer = connection.try_request(submit).await;
        assert!(answer.is_err(), "batch of {batch}: confirmed, and not durable: {answer:?}");
        let exit = broker.exit().await;
        assert_eq!(exit.status.code(), Some(COMMIT_TIMEOUT), "batch of {batch}: {exit:?}");
        assert!(exit.is_a_clear_refusal(), "batch of {batch}: {exit:?}");
    }
}
