//! The system calls of the running broker, seen by strace: never `sync_file_range`, which makes
//! nothing durable, and an `fdatasync` before each answer that promises something.

use std::fs;
use std::process::Command;

use celeriac_tests::{RawConnection, Setup, raw, until};

#[tokio::test]
async fn every_answer_comes_after_an_fdatasync_and_sync_file_range_is_never_called() {
    if !Command::new("strace")
        .args(["-o", "/dev/null", "true"])
        .status()
        .is_ok_and(|status| status.success())
    {
        eprintln!(
            "SKIPPED: the system calls are seen by strace, which is not there or not allowed"
        );
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let trace = folder.path().join("trace");
    let trace_text = trace.to_str().expect("temporary folders have plain names").to_owned();
    // With -D the tracer is the grandchild, so that signals reach the broker.
    let program = [
        "strace",
        "-D",
        "-f",
        "-o",
        &trace_text,
        "-e",
        "trace=fdatasync,fsync,sync_file_range,sendto,write,writev",
    ];
    let mut broker = Setup::new().under(program).start().await;
    let mut connection = RawConnection::open(broker.address()).await;
    for number in 0..10 {
        connection.submit_one(raw::task(&format!("mark-{number}"), "n")).await;
    }
    drop(connection);
    broker.stop().await;
    until("strace has written all", || async {
        fs::read_to_string(&trace).is_ok_and(|calls| calls.contains("+++ exited"))
    })
    .await;
    let calls = fs::read_to_string(&trace).expect("strace wrote it");
    assert!(!calls.contains("sync_file_range("), "sync_file_range was called");
    let synced =
        calls.lines().filter(|line| line.contains("fdatasync") && line.contains("= 0")).count();
    assert!(
        synced >= 10,
        "{synced} fdatasync for 10 submits that were confirmed one after the other"
    );
    every_reply_follows_a_sync(&calls);
}

/// Between one SubmitReply and the next an fdatasync must have ended. A SubmitReply is recognised
/// by its tag, field 32 of a ServerFrame, as strace prints it.
fn every_reply_follows_a_sync(calls: &str) {
    let mut synced = false;
    let mut replies = 0;
    for line in calls.lines() {
        if line.contains("fdatasync") && line.ends_with("= 0") {
            synced = true;
        }
        if line.contains("\"\\0\\0\\0") && line.contains("\\202\\2") {
            replies += 1;
            assert!(synced, "answered before the sync: {line}");
            synced = false;
        }
    }
    assert_eq!(replies, 10, "replies that were recognised");
}
