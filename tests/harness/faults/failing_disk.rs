//! A disk that fails: one system call of a broker that works or starts fails, once or for ever. The
//! broker soon ends with an exit code and a sentence, or goes on if the failure does not matter. It
//! confirms nothing that is not kept, and the next start serves everything that it confirmed. The
//! calls fail inside the process of the broker, see `children/interposed.rs`.

use std::path::Path;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{Tally, in_two_lanes};
use crate::{
    BrokerProcess, Exit, PATIENCE, RandomSource, RawConnection, Setup, TrafficRun, raw,
    test_broker_binary,
};

/// Failures on the same data, before the history of the clients is judged.
const POINTS_IN_A_ROW: u64 = 8;
/// With so little slack the log is cleaned all the time.
const SLACK_BYTES: u64 = 256 * 1024;
/// So many more results show that a broker goes on after a failure, or that the failure does not
/// happen any more.
const GOES_ON: u64 = 300;
/// How soon a broker that does not go on must end. It should end within a second, and gets more
/// time on a busy machine. A broker that hangs until its own limit of 10 s for a commit is found in
/// any case.
const END: Duration = Duration::from_secs(5);
/// The exit codes that deploy/README.md lists for a disk that fails or is full. Code 13 is not
/// among them: a folder that cannot be read at the moment is not damaged, and no backup must be
/// restored. Neither is code 20, wherever the engine panics over the failure.
const CODES: [i32; 2] = [14, 15];

/// A call, and the highest number of it that is worth failing: during a start, and from ready on.
const CALLS: [(&str, u64, u64); 11] = [
    ("open", 30, 12),
    ("read", 16, 4),
    ("pread", 60, 40),
    ("write", 8, 4),
    ("pwrite", 10, 200),
    ("fdatasync", 4, 200),
    ("fsync", 6, 4),
    ("ftruncate", 2, 2),
    ("rename", 2, 2),
    ("unlink", 3, 2),
    ("mkdir", 3, 2),
];

/// Fails so many calls.
pub async fn run(runs: u64, seed: u64) -> Tally {
    if !cfg!(target_os = "linux") {
        return Tally::skipped(
            "failing system calls",
            "points",
            "the calls are taken over as on Linux",
        );
    }
    let tally = Tally::new("failing system calls", "points");
    in_two_lanes(tally, runs, seed, lane).await.with_counts_as_remarks()
}

async fn lane(runs: u64, seed: u64) -> Tally {
    let mut tally = Tally::default();
    let mut random = RandomSource::new(seed);
    while tally.runs < runs {
        let points = POINTS_IN_A_ROW.min(runs - tally.runs);
        let folder_seed = random.bits();
        if let Err(reason) = one_folder(points, folder_seed, &mut tally).await {
            tally.violations.push(format!("folder seed {folder_seed}: {reason}"));
            // An error that broke this folder ends the row, and not all runs.
            tally.runs += points;
        }
    }
    tally
}

/// Several failures on one data folder.
async fn one_folder(points: u64, seed: u64, tally: &mut Tally) -> Result<(), String> {
    let mut random = RandomSource::new(seed);
    let home = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
    let mut bench = Bench::new(home).await?;
    let mut done = Vec::new();
    for _ in 0..points {
        // Many plans name a call that never happens.
        while !bench.fail(&draw(&mut random), tally).await? {}
        done.push(bench.latest.clone());
        tally.runs += 1;
        bench.start_in_good_health(tally).await?;
    }
    if random.below(2) == 0 {
        fail_the_first_start(&mut random, tally).await?;
        tally.runs += 1;
    }
    let broken = bench.verdict().await;
    let after = done.join("; ");
    tally.violations.extend(broken.into_iter().map(|line| format!("after `{after}`: {line}")));
    Ok(())
}

/// The plan of a failure: `CALL PHASE NTH HARM`.
fn draw(random: &mut RandomSource) -> String {
    let (call, in_start, when_ready) = CALLS[random.below(CALLS.len() as u64) as usize];
    // Half of the plans are for the two calls that commits are made of.
    let (call, in_start, when_ready) = match random.below(4) {
        0 => CALLS[4],
        1 => CALLS[5],
        _ => (call, in_start, when_ready),
    };
    let harms: &[&str] = match call {
        "write" | "pwrite" => {
            &["eio", "eio-for-ever", "enospc", "enospc-for-ever", "short", "torn"]
        }
        _ => &["eio", "eio-for-ever", "enospc", "enospc-for-ever"],
    };
    let harm = harms[random.below(harms.len() as u64) as usize];
    let (phase, most) =
        if random.below(5) < 2 { ("start", in_start) } else { ("ready", when_ready) };
    // Early calls are chosen more often, because there are fewer of them.
    let most = random.between(1, most);
    format!("{call} {phase} {} {harm}", random.between(1, most))
}

/// A data folder, the broker on it, and the clients.
struct Bench {
    setup: Setup,
    home: TempDir,
    broker: Option<BrokerProcess>,
    traffic: TrafficRun,
    /// The latest plan.
    latest: String,
    backups: u32,
}

impl Bench {
    async fn new(home: TempDir) -> Result<Self, String> {
        let setup = Setup::new()
            .program(test_broker_binary())
            .variable("CELERIAC_TEST_SLACK_BYTES", SLACK_BYTES.to_string())
            .data(home.path().join("data"));
        let started = setup.clone().try_start().await;
        let broker = started.map_err(|exit| format!("a first start failed: {exit:?}"))?;
        let traffic = TrafficRun::start(broker.address(), 3);
        let setup = setup.listen(broker.address());
        Ok(Self { setup, home, broker: Some(broker), traffic, latest: String::new(), backups: 0 })
    }

    /// Stops the present broker, and starts one whose call fails. False: the call never happened.
    async fn fail(&mut self, plan: &str, tally: &mut Tally) -> Result<bool, String> {
        if let Some(mut broker) = self.broker.take() {
            broker.kill().await;
            self.traffic.note_restart();
        }
        plan.clone_into(&mut self.latest);
        let setup = with_fault(&self.setup, plan, self.home.path());
        let outcome = match setup.try_start().await {
            Err(exit) => {
                judge_exit(plan, &exit, tally);
                tally.count("ended in the start");
                Ok(went_wrong(&exit.stderr))
            }
            Ok(broker) => self.watch(broker, plan, tally).await,
        };
        self.traffic.note_restart();
        outcome
    }

    /// Waits until the broker has ended or shows that it goes on. Returns whether the call
    /// happened.
    async fn watch(
        &mut self,
        mut broker: BrokerProcess,
        plan: &str,
        tally: &mut Tally,
    ) -> Result<bool, String> {
        let is_of_backup = matches!(
            plan.split(' ').next(),
            Some("open" | "mkdir" | "rename" | "fsync" | "unlink")
        );
        let backup = (is_of_backup && plan.contains("ready")).then(|| self.backup(&broker));
        let (begun, mut failed, mut finished) = (Instant::now(), None, self.traffic.finished());
        while broker.is_running() {
            if failed.is_none() && went_wrong(&broker.stderr()) {
                (failed, finished) = (Some(Instant::now()), self.traffic.finished());
            }
            let goes_on = self.traffic.finished() >= finished + GOES_ON;
            if goes_on && backup.as_ref().is_none_or(|backup| backup.1.is_finished()) {
                break;
            }
            let overdue = failed.is_some_and(|at| at.elapsed() > END) && !goes_on;
            if overdue || begun.elapsed() > 2 * PATIENCE {
                broker.kill().await;
                return Err(format!(
                    "`{plan}`: the broker neither ends nor goes on: {}",
                    broker.stderr()
                ));
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        if broker.is_running() {
            broker.kill().await;
            if failed.is_some() {
                tally.count("did not matter");
            }
        } else {
            let exit = broker.exit().await;
            judge_exit(plan, &exit, tally);
            failed = failed.or(went_wrong(&exit.stderr).then(Instant::now));
            tally.count("ended at work");
        }
        if let Some((folder, asked)) = backup {
            judge_backup(plan, &folder, asked.await.unwrap_or(false), tally);
        }
        Ok(failed.is_some())
    }

    /// Lets the broker make a backup. Returns whether it confirmed it.
    fn backup(
        &mut self,
        broker: &BrokerProcess,
    ) -> (std::path::PathBuf, tokio::task::JoinHandle<bool>) {
        self.backups += 1;
        let folder = self.home.path().join(format!("copy-{}", self.backups));
        let (url, path) = (broker.url(), folder.display().to_string());
        let asked = async move {
            let Ok(client) = celeriac_client::Client::connect(&url).await else { return false };
            tokio::time::timeout(PATIENCE, client.backup(&path))
                .await
                .is_ok_and(|outcome| outcome.is_ok())
        };
        (folder, tokio::spawn(asked))
    }

    /// The next start must work.
    async fn start_in_good_health(&mut self, tally: &mut Tally) -> Result<(), String> {
        let begun = Instant::now();
        match self.setup.clone().try_start().await {
            Ok(broker) => {
                tally.ready_after(begun.elapsed());
                self.broker = Some(broker);
                if self.traffic.completes(10, PATIENCE).await {
                    return Ok(());
                }
                Err(format!("after `{}`: no task ends any more", self.latest))
            }
            Err(exit) => {
                tally.failed_starts.push(format!("after `{}`: {exit:?}", self.latest));
                Err(format!("after `{}`: the broker does not start any more", self.latest))
            }
        }
    }

    async fn verdict(mut self) -> Vec<String> {
        let broken = self.traffic.verdict().await;
        if let Some(mut broker) = self.broker.take() {
            broker.kill().await;
        }
        broken
    }
}

/// A start that creates its folder fails. The next start creates it.
async fn fail_the_first_start(random: &mut RandomSource, tally: &mut Tally) -> Result<(), String> {
    let home = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
    let setup = Setup::new().program(test_broker_binary()).data(home.path().join("data"));
    let plan = loop {
        let plan = draw(random).replace("ready", "start");
        match with_fault(&setup, &plan, home.path()).try_start().await {
            Err(exit) => {
                judge_exit(&plan, &exit, tally);
                tally.count("ended in the first start");
                break plan;
            }
            Ok(mut broker) => {
                broker.kill().await;
                // An existing folder would make the next start different from the first.
                let _absent = std::fs::remove_dir_all(home.path().join("data"));
            }
        }
    };
    match setup.try_start().await {
        Ok(mut broker) => {
            let outcome = RawConnection::open(broker.address())
                .await
                .submit_one(raw::task("first", "nothing"))
                .await;
            if outcome.error.is_some() {
                tally.violations.push(format!("after `{plan}` in a first start: {outcome:?}"));
            }
            broker.kill().await;
        }
        Err(exit) => tally.failed_starts.push(format!("after `{plan}` in a first start: {exit:?}")),
    }
    Ok(())
}

fn with_fault(setup: &Setup, plan: &str, disk: &Path) -> Setup {
    setup
        .clone()
        .variable("CELERIAC_TEST_FAULT", plan)
        .variable("CELERIAC_TEST_DISK", disk.display().to_string())
}

fn went_wrong(stderr: &str) -> bool {
    stderr.contains("goes wrong")
}

fn judge_exit(plan: &str, exit: &Exit, tally: &mut Tally) {
    let is_documented = exit.status.code().is_some_and(|code| CODES.contains(&code));
    if !went_wrong(&exit.stderr) {
        tally
            .violations
            .push(format!("`{plan}`: the broker ended before anything went wrong: {exit:?}"));
    } else if !is_documented || !exit.stderr.lines().any(|line| line.starts_with("celeriac: ")) {
        tally.violations.push(format!("`{plan}`: {exit:?}"));
    }
}

/// A confirmed backup is complete.
fn judge_backup(plan: &str, folder: &Path, confirmed: bool, tally: &mut Tally) {
    tally.count(if confirmed { "backups made" } else { "backups refused" });
    if confirmed && let Err(error) = celeriac_broker::check(folder) {
        tally.violations.push(format!("`{plan}`: a backup was confirmed, and {error}"));
    }
}
