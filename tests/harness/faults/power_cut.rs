//! Power cuts: a broker works on an ext4 or XFS file system in a file, which is shut down at some
//! moment.
//! All data that was not synced is lost, as in a power failure. Many cuts in a row hit the same
//! data, under load and while the broker starts. The fault needs the right to mount. It assumes
//! that the disk itself keeps what it has confirmed.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{Tally, in_two_lanes};
use crate::file_system_shutdown::cut_off;
use crate::mounted_file_system::{Kind, MountedFileSystem};
use crate::{BrokerProcess, Exit, PATIENCE, RandomSource, Setup, TrafficRun, test_broker_binary};

const IMAGE_BYTES: u64 = 384 << 20;
/// Cuts on the same data, before a new image is made.
const CUTS_IN_A_ROW: u64 = 10;
/// With so little slack the log is cleaned all the time.
const SLACK_BYTES: u64 = 256 * 1024;
/// The exit code of a disk that failed.
const DISK_FAILED: i32 = 15;
/// This file is written right before each cut and is lost after it. That proves that the cut
/// worked.
const NEVER_SYNCED: &[u8] = b"never synced";

/// Cuts the power so often.
pub async fn run(runs: u64, seed: u64) -> Tally {
    let tally = Tally::new("power cut", "cuts");
    let probed = [Kind::Ext4, Kind::Xfs].map(|kind| (kind, Disk::new(kind).err()));
    let kinds: Vec<_> =
        probed.iter().filter(|(_, why)| why.is_none()).map(|(kind, _)| *kind).collect();
    let missing: Vec<_> = probed.into_iter().filter_map(|(_, why)| why).collect();
    if kinds.is_empty() {
        return Tally { skipped: Some(missing.join("; ")), ..tally };
    }
    let lane = |runs, seed| lane(kinds.clone(), runs, seed);
    let mut tally = in_two_lanes(tally, runs, seed, lane).await.with_counts_as_remarks();
    for reason in missing {
        tally.remarks = format!("{}; {reason}", tally.remarks);
    }
    tally
}

async fn lane(kinds: Vec<Kind>, runs: u64, seed: u64) -> Tally {
    let mut tally = Tally::default();
    let mut random = RandomSource::new(seed);
    while tally.runs < runs {
        let image_seed = random.bits();
        let cuts = CUTS_IN_A_ROW.min(runs - tally.runs);
        let before = tally.violations.len() + tally.failed_starts.len();
        if let Err(reason) = one_image(&kinds, cuts, image_seed, &mut tally).await {
            tally.violations.push(format!("image seed {image_seed}: {reason}"));
        }
        if tally.violations.len() + tally.failed_starts.len() > before {
            // An error that broke this image ends its runs.
            tally.runs = tally.runs.max(1);
            break;
        }
    }
    tally
}

/// Many cuts on one image. At the end the history of the clients is judged.
async fn one_image(kinds: &[Kind], cuts: u64, seed: u64, tally: &mut Tally) -> Result<(), String> {
    let mut random = RandomSource::new(seed);
    let kind = kinds[random.below(kinds.len() as u64) as usize];
    let mut disk = Disk::new(kind)?;
    let setup = setup(&disk, &mut random);
    let mut broker = start(&setup, tally, "on a fresh image").await?;
    let address = broker.address();
    let setup = setup.listen(address);
    let traffic = TrafficRun::start(address, 3);
    for cut in 1..=cuts {
        let what = format!("image seed {seed}, after cut {cut}");
        if !traffic.completes(random.between(1, 400), PATIENCE).await {
            return Err(format!("{what}: no task ends any more"));
        }
        disk.cut()?;
        if random.below(2) == 0 {
            judge_end(&format!("{what}, at work"), &broker.exit().await, tally);
            // No client knows the address of this broker, and it runs only for a moment.
            match setup.clone().try_start().await {
                Err(exit) => judge_end(&format!("{what}, started on the dead disk"), &exit, tally),
                Ok(_) => tally.violations.push(format!("{what}: a broker started on a dead disk")),
            }
        } else {
            broker.kill().await;
        }
        disk.plug_in_again()?;
        traffic.note_restart();
        if random.below(3) == 0 {
            cut_while_starting(&setup, &mut disk, random.between(1, 120)).await?;
            traffic.note_restart();
        }
        broker = start(&setup, tally, &what).await?;
        tally.runs += 1;
        tally.count(match kind {
            Kind::Ext4 => "on ext4",
            Kind::Xfs => "on XFS",
        });
    }
    let broken = traffic.verdict().await;
    tally
        .violations
        .extend(broken.into_iter().map(|line| format!("image seed {seed}, {cuts} cuts: {line}")));
    broker.kill().await;
    Ok(())
}

/// A dead disk ends the broker with the exit code for it.
fn judge_end(what: &str, exit: &Exit, tally: &mut Tally) {
    if exit.status.code() != Some(DISK_FAILED) || !exit.is_a_clear_refusal() {
        tally.violations.push(format!("{what}: {exit:?}"));
    }
}

/// The real broker, or one that differs only in that its log is cleaned all the time.
fn setup(disk: &Disk, random: &mut RandomSource) -> Setup {
    let setup =
        Setup::new().data(disk.mounted.path().join("data")).set("disk_reserve_bytes = 16777216");
    match random.below(2) {
        0 => setup,
        _ => setup
            .program(test_broker_binary())
            .variable("CELERIAC_TEST_SLACK_BYTES", SLACK_BYTES.to_string()),
    }
}

async fn start(setup: &Setup, tally: &mut Tally, what: &str) -> Result<BrokerProcess, String> {
    let begun = Instant::now();
    match setup.clone().try_start().await {
        Ok(broker) => {
            tally.ready_after(begun.elapsed());
            Ok(broker)
        }
        Err(exit) => {
            tally.failed_starts.push(format!("{what}: {exit:?}"));
            Err(format!("{what}: the broker did not start"))
        }
    }
}

/// The power fails again this soon after the start.
async fn cut_while_starting(setup: &Setup, disk: &mut Disk, moment_ms: u64) -> Result<(), String> {
    let mut starting = Box::pin(setup.clone().try_start());
    // Time itself is what the fault is about: how far the start has come by then.
    let started = tokio::time::timeout(Duration::from_millis(moment_ms), &mut starting).await;
    disk.cut()?;
    if let Ok(Ok(mut broker)) = started {
        broker.kill().await;
    }
    // The broker is killed with the disk.
    drop(starting);
    disk.plug_in_again()
}

/// A file system in a file that can be shut down.
struct Disk {
    kind: Kind,
    /// This field stands before the folder, so that the file system is unmounted when the folder
    /// is removed.
    mounted: MountedFileSystem,
    folder: TempDir,
    cuts: u64,
}

impl Disk {
    /// The error says why there can be no such file system on this machine.
    fn new(kind: Kind) -> Result<Self, String> {
        let folder =
            tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
        let (at, image) = (folder.path().join("disk"), folder.path().join("image"));
        let made = fs::create_dir(&at)
            .and_then(|()| fs::File::create(&image))
            .and_then(|file| file.set_len(IMAGE_BYTES));
        made.map_err(|error| format!("no room for the image: {error}"))?;
        let mounted = MountedFileSystem::in_an_image(kind, &image, &at)?;
        let mut disk = Self { kind, mounted, folder, cuts: 0 };
        // A kernel that cannot do it is found here, and not in the first run.
        disk.cut()?;
        disk.plug_in_again()?;
        Ok(disk)
    }

    fn witness(&self) -> PathBuf {
        self.mounted.path().join(format!("witness-{}", self.cuts))
    }

    /// From now on nothing reaches the disk, and data that has not reached it is lost.
    fn cut(&mut self) -> Result<(), String> {
        self.cuts += 1;
        fs::write(self.witness(), NEVER_SYNCED)
            .map_err(|error| format!("the image is full: {error}"))?;
        cut_off(self.mounted.path())
            .map_err(|error| format!("this kernel cannot cut off a file system: {error}"))
    }

    /// Mounts the file system again.
    fn plug_in_again(&mut self) -> Result<(), String> {
        let patience = Instant::now() + PATIENCE;
        // The killed process may still be ending.
        while let Err(reason) = self.mounted.unmount() {
            if Instant::now() > patience {
                return Err(reason);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.mounted.mount_image(self.kind, &self.folder.path().join("image"))?;
        match fs::read(self.witness()) {
            Ok(bytes) if bytes == NEVER_SYNCED => {
                Err("what was never synced is still there: this is no power cut".into())
            }
            _ => Ok(()),
        }
    }
}
