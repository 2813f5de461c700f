//! A full disk, on a small file system in memory. The broker refuses new tasks with `disk_full`,
//! running tasks still end, and the broker starts with no byte free and serves everything that it
//! confirmed. The fault needs the right to mount.

use std::fs;

use bytes::Bytes;
use celeriac_client::CancelMode;
use celeriac_proto::wire::{self, ErrorCode, TaskState};

use super::{Tally, in_two_lanes};
use crate::mounted_file_system::MountedFileSystem;
use crate::{BrokerProcess, RandomSource, RawConnection, Setup, raw};

const HELD: usize = 8;

/// Fills so many disks.
pub async fn run(runs: u64, seed: u64) -> Tally {
    let tally = Tally::new("full disk", "disks filled");
    let probe = tempfile::tempdir().expect("a temporary folder can be made");
    if let Err(reason) = MountedFileSystem::in_memory(probe.path(), 1) {
        return Tally { skipped: Some(reason), ..tally };
    }
    in_two_lanes(tally, runs, seed, lane).await
}

async fn lane(runs: u64, seed: u64) -> Tally {
    let mut tally = Tally::default();
    let mut random = RandomSource::new(seed);
    for _ in 0..runs {
        let seed = random.bits();
        if let Err(reason) = one_disk(seed, &mut tally).await {
            tally.violations.push(format!("disk seed {seed}: {reason}"));
        }
        tally.runs += 1;
    }
    tally
}

/// The properties of one disk.
struct Shape {
    mebibytes: u64,
    payload_bytes: u64,
    batch: u64,
    /// Before the disk is full, workers report after every so many batches.
    report_every: u64,
    killed: bool,
}

async fn one_disk(seed: u64, tally: &mut Tally) -> Result<(), String> {
    let mut random = RandomSource::new(seed);
    let shape = Shape {
        mebibytes: random.between(300, 420),
        payload_bytes: random.between(20_000, 400_000),
        batch: random.between(1, 8),
        report_every: random.between(20, 100),
        killed: random.below(3) > 0,
    };
    let folder = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
    // This field is declared after the folder, so that the file system is unmounted before the
    // folder is removed.
    let disk = MountedFileSystem::in_memory(folder.path(), shape.mebibytes)?;
    let setup = Setup::new().data(disk.path().join("data"));
    let started = setup.try_start().await;
    let mut broker = started.map_err(|exit| format!("no start on an empty disk: {exit:?}"))?;
    let mut worker =
        RawConnection::worker(broker.address(), &["default"], &["work"], HELD as u32).await;
    worker
        .submit((0..HELD).map(|number| raw::task(&format!("work-{number}"), "work")).collect())
        .await;
    let held = worker.deliveries(HELD).await;

    let (kept, reported) = fill(&shape, &mut worker, &held).await?;
    let done = &held[..HELD - 2];
    for delivery in &done[reported.min(done.len())..] {
        report(&mut worker, delivery).await?;
    }
    if shape.killed {
        broker.kill().await;
    } else {
        let exit = broker.stop().await;
        if exit.status.code() != Some(0) {
            return Err(format!("told to end on a full disk: {exit:?}"));
        }
    }
    // Now no byte is free.
    if fs::write(disk.path().join("filler"), vec![0; (shape.mebibytes << 20) as usize]).is_ok() {
        return Err("the disk was not full".into());
    }
    if let Err(exit) = broker.try_restart().await {
        tally.failed_starts.push(format!("disk seed {seed}: {exit:?}"));
        return Ok(());
    }
    look(&broker, &shape, kept, done).await?;
    empty(&broker, kept).await?;
    if shape.killed {
        broker.kill().await;
        let again = broker.try_restart().await;
        again.map_err(|exit| format!("no start after the queue was emptied: {exit:?}"))?;
    }
    fs::remove_file(disk.path().join("filler"))
        .map_err(|error| format!("the filler stays: {error}"))?;
    serves_again(&broker).await?;
    broker.kill().await;
    Ok(())
}

/// Ends and forgets all tasks.
async fn empty(broker: &BrokerProcess, kept: u64) -> Result<(), String> {
    let client =
        celeriac_client::Client::connect(&broker.url()).await.map_err(|error| error.to_string())?;
    let ids: Vec<_> = (0..kept).map(|number| format!("fill-{number}")).collect();
    client
        .cancel(&ids, CancelMode::Cooperative)
        .await
        .map_err(|error| format!("the queue is not emptied: {error}"))?;
    let forgotten =
        client.forget(&ids).await.map_err(|error| format!("nothing is forgotten: {error}"))?;
    match forgotten.iter().filter(|outcome| outcome.is_err()).count() {
        0 => Ok(()),
        count => Err(format!(
            "{count} of {kept} tasks are not forgotten: {:?}",
            forgotten.iter().find(|outcome| outcome.is_err())
        )),
    }
}

/// The broker accepts new tasks again, and more than a few, although nothing else writes meanwhile.
async fn serves_again(broker: &BrokerProcess) -> Result<(), String> {
    let mut producer = RawConnection::open(broker.address()).await;
    let begun = std::time::Instant::now();
    let mut taken = 0;
    while taken < 100 {
        let task = wire::Task {
            payload: vec![7; 100_000].into(),
            ..raw::task(&format!("again-{taken}"), "nothing")
        };
        match producer.submit_one(task).await.error {
            None => taken += 1,
            Some(error) if begun.elapsed() > crate::PATIENCE => {
                return Err(format!(
                    "{taken} tasks were taken after the disk was emptied, then: {error:?}"
                ));
            }
            Some(_) => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
        }
    }
    Ok(())
}

/// Submits until the broker refuses. Returns how many tasks it accepted, and how many of the held
/// ones were reported meanwhile.
async fn fill(
    shape: &Shape,
    worker: &mut RawConnection,
    held: &[wire::Delivery],
) -> Result<(u64, usize), String> {
    let (mut kept, mut reported, mut batches) = (0, 0, 0);
    loop {
        let tasks = (0..shape.batch).map(|item| fill_task(shape, kept + item)).collect();
        let outcomes = worker.submit(tasks).await;
        let refused: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.error.clone()).collect();
        kept += outcomes.len() as u64 - refused.len() as u64;
        if let Some(error) = refused.first() {
            if error.code() != ErrorCode::DiskFull || !error.retryable {
                return Err(format!("refused, but not as a full disk: {error:?}"));
            }
            if kept * shape.payload_bytes < 20 << 20 {
                return Err(format!("refused after {kept} tasks of {} bytes", shape.payload_bytes));
            }
            return Ok((kept, reported));
        }
        batches += 1;
        if batches % shape.report_every == 0 && reported + 4 < HELD {
            report(worker, &held[reported]).await?;
            reported += 1;
        }
        if kept * shape.payload_bytes > shape.mebibytes << 20 {
            return Err(format!(
                "{kept} tasks of {} bytes went onto {} MiB",
                shape.payload_bytes, shape.mebibytes
            ));
        }
    }
}

fn fill_task(shape: &Shape, number: u64) -> wire::Task {
    let payload = Bytes::from(vec![(number % 251) as u8; shape.payload_bytes as usize]);
    wire::Task { payload, ..raw::task(&format!("fill-{number}"), "nothing") }
}

async fn report(worker: &mut RawConnection, delivery: &wire::Delivery) -> Result<(), String> {
    let outcome = worker.report_one(raw::report(delivery, raw::complete(b"\"done\""))).await;
    match outcome.code() {
        ErrorCode::Unspecified => Ok(()),
        code => Err(format!("a report was refused: {code:?}")),
    }
}

/// Every confirmed task exists, and new tasks are still refused.
async fn look(
    broker: &BrokerProcess,
    shape: &Shape,
    kept: u64,
    done: &[wire::Delivery],
) -> Result<(), String> {
    let mut reader = RawConnection::open(broker.address()).await;
    for delivery in done {
        let state = reader.info(&delivery.id).await.state();
        if state != TaskState::Success {
            return Err(format!("{} was completed, and is {state:?}", delivery.id));
        }
    }
    for number in 0..kept {
        let state = reader.info(&format!("fill-{number}")).await.state();
        if state != TaskState::Queued {
            return Err(format!("fill-{number} of {kept} was confirmed, and is {state:?}"));
        }
    }
    let refused = reader.submit_one(raw::task("more", "nothing")).await;
    if refused.error.as_ref().map(wire::Error::code) != Some(ErrorCode::DiskFull) {
        return Err(format!("a task was taken without any room: {refused:?}"));
    }
    // A payload comes back intact from a disk on which nothing can be written except to the reserve
    // file.
    let mut worker = RawConnection::worker(broker.address(), &["default"], &["nothing"], 1).await;
    let delivery = worker.delivery().await;
    let number = delivery.id.trim_start_matches("fill-").parse().unwrap_or(u64::MAX);
    if delivery.payload != fill_task(shape, number).payload {
        return Err(format!("{} has another payload", delivery.id));
    }
    report(&mut worker, &delivery).await
}
