//! A full disk, on a small file system in memory: new tasks are refused, running ones still end, and
//! the broker starts again. It needs the right to mount; without it the test says so and ends.

use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use celeriac_proto::wire::{self, ErrorCode, TaskState};
use celeriac_tests::{RawConnection, Setup, raw};

/// A mounted tmpfs that is unmounted at the end.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path, mebibytes: usize) -> Option<Self> {
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mebibytes}m"), "celeriac-test"])
            .arg(at)
            .output()
            .is_ok_and(|output| output.status.success());
        mounted.then(|| Self(at.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the broker may still be on its way out.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_full_disk_refuses_submits_serves_reports_and_lets_the_broker_start_again() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let Some(_disk) = SmallDisk::mount(folder.path(), 192) else {
        eprintln!("SKIPPED: the full disk needs the right to mount a tmpfs");
        return;
    };
    let setup = Setup::new().data(folder.path().join("data")).set("disk_reserve_bytes = 33554432");
    let mut broker = setup.start().await;
    let mut worker = RawConnection::worker(broker.address(), &["default"], &["work"], 5).await;
    worker.submit((0..5).map(|number| raw::task(&format!("work-{number}"), "work")).collect()).await;
    let held = worker.deliveries(5).await;

    let mut kept = 0;
    let refusal = loop {
        let payload = Bytes::from(vec![(kept % 251) as u8; 200_000]);
        let tasks = (0..5).map(|item| {
            let id = format!("fill-{}", kept + item);
            wire::Task { payload: payload.clone(), ..raw::task(&id, "nothing") }
        });
        let outcomes = worker.submit(tasks.collect()).await;
        kept += outcomes.iter().filter(|outcome| outcome.error.is_none()).count();
        if let Some(error) = outcomes.into_iter().find_map(|outcome| outcome.error) {
            break error;
        }
        assert!(kept < 2_000, "400 MB went onto a disk of 192");
    };
    assert_eq!(refusal.code(), ErrorCode::DiskFull, "{refusal:?}");
    assert!(refusal.retryable && kept > 20, "{refusal:?} after {kept}");

    for delivery in &held[..3] {
        let outcome = worker.report_one(raw::report(delivery, raw::complete(b"\"done\""))).await;
        assert_eq!(outcome.code(), ErrorCode::Unspecified, "reports go on");
    }
    broker.kill().await;
    // Now not one byte is left.
    std::fs::write(folder.path().join("filler"), vec![0; 192 << 20]).expect_err("the disk is full");
    broker.restart().await;
    let mut reader = RawConnection::open(broker.address()).await;
    for delivery in &held[..3] {
        assert_eq!(reader.info(&delivery.id).await.state(), TaskState::Success);
    }
    for number in (0..kept).step_by(7) {
        assert_eq!(reader.info(&format!("fill-{number}")).await.state(), TaskState::Queued, "{number}");
    }
    let refused = reader.submit_one(raw::task("more", "nothing")).await;
    assert_eq!(refused.error.map(|error| error.code()), Some(ErrorCode::DiskFull));

    std::fs::remove_file(folder.path().join("filler")).expect("it can be removed");
}
