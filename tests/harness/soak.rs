//! A steady load while worker processes are killed, frozen, cut off and replaced, and the broker is
//! killed now and then. Every accepted task must succeed with its own result, and neither memory
//! nor disk may grow without bound. `celeriac-bench soak` runs it for minutes, a test for seconds.
//! The caller shows the samples.

mod load;
mod trouble;

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use crate::{BrokerProcess, Setup};
use load::Load;
use trouble::Workers;

/// The lease time is longer than any pause that a trouble makes, except that a frozen worker is
/// frozen for longer and loses its leases.
const LEASE: Duration = Duration::from_millis(1_500);
const HEARTBEAT_MS: u64 = 400;

/// Memory or disk grows if it is larger than one and a half times the earlier value plus this.
const MEMORY_SLACK_KIB: u64 = 32 * 1_024;
const DISK_SLACK_KIB: u64 = 128 * 1_024;

/// How long the soak is, how much load it has, and which seed it uses.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How long tasks are submitted and troubles happen.
    pub span: Duration,
    /// Tasks submitted in a second.
    pub rate: u32,
    /// Worker processes.
    pub workers: usize,
    /// The pause from one trouble to the next.
    pub trouble_every: Duration,
    /// The same seed gives the same troubles.
    pub seed: u64,
    /// The program of the workers: `celeriac-test-worker`.
    pub worker: PathBuf,
}

/// The state after one trouble.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The time since the start.
    pub at: Duration,
    /// The trouble.
    pub trouble: String,
    /// Tasks that the broker accepted.
    pub accepted: u64,
    /// Tasks that were seen to succeed with their result.
    pub verified: u64,
    /// The resident memory of the broker.
    pub resident_kib: u64,
    /// The size of its folder.
    pub disk_kib: u64,
}

/// Runs the soak and returns all samples. The last sample is of the end, when all tasks have ended.
///
/// # Panics
/// When a task was lost or has a wrong result, a worker ended by itself, or memory or disk grew
/// without bound.
pub async fn soak(plan: &Plan, mut tell: impl FnMut(&Sample)) -> Vec<Sample> {
    let lease = format!("lease_ms = {}", LEASE.as_millis());
    let mut broker =
        Setup::new().set(lease).set(format!("heartbeat_ms = {HEARTBEAT_MS}")).start().await;
    let begun = Instant::now();
    let load = Load::start(&broker.url(), plan.rate, plan.span).await;
    let mut workers = Workers::start(plan, &broker).await;
    let mut samples = Vec::new();
    let mut sample = |broker: &BrokerProcess, trouble: String| {
        let sample = Sample {
            at: begun.elapsed(),
            trouble,
            accepted: load.accepted(),
            verified: load.verified(),
            resident_kib: broker.resident_kib(),
            disk_kib: folder_kib(broker.data()),
        };
        tell(&sample);
        samples.push(sample);
    };
    let mut next = begun + plan.trouble_every;
    while next < begun + plan.span {
        tokio::time::sleep_until(next).await;
        let trouble = workers.trouble(&mut broker).await;
        sample(&broker, trouble);
        next = (next + plan.trouble_every).max(Instant::now());
    }
    load.settled().await;
    sample(&broker, "the end".into());
    load.assert_nothing_is_left(&broker).await;
    assert_flat(&samples, "memory", MEMORY_SLACK_KIB, |sample| sample.resident_kib);
    assert_flat(&samples, "disk", DISK_SLACK_KIB, |sample| sample.disk_kib);
    samples
}

/// The last quarter may be larger than the first half by the factor and the slack above. The first
/// quarter is still filling caches.
fn assert_flat(samples: &[Sample], what: &str, slack: u64, figure: impl Fn(&Sample) -> u64) {
    let quarter = samples.len().div_ceil(4);
    let most = |samples: &[Sample]| samples.iter().map(&figure).max().unwrap_or(0);
    let early = most(&samples[..samples.len().min(2 * quarter)]);
    let late = most(&samples[samples.len() - quarter..]);
    assert!(
        late <= early + early / 2 + slack,
        "{what} grows: {early} KiB at most in the first half, {late} at the end"
    );
}

/// The size of the folder on the disk. Files appear and disappear while it is read.
fn folder_kib(folder: &std::path::Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let kib = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(data) if data.is_dir() => folder_kib(&entry.path()),
        Ok(data) => data.blocks() / 2,
        Err(_) => 0,
    };
    entries.flatten().map(kib).sum()
}

#[test]
fn growth_is_told_from_what_goes_up_and_down() {
    let sample = |disk_kib| Sample {
        at: Duration::ZERO,
        trouble: String::new(),
        accepted: 0,
        verified: 0,
        resident_kib: 0,
        disk_kib,
    };
    let flat = |figures: &[u64]| {
        let samples: Vec<Sample> = figures.iter().copied().map(sample).collect();
        std::panic::catch_unwind(|| assert_flat(&samples, "disk", 10, |sample| sample.disk_kib))
            .is_ok()
    };
    assert!(flat(&[100, 200, 100, 200, 100, 200, 100, 200]));
    assert!(!flat(&[100, 200, 300, 400, 500, 600, 700, 800]));
}
