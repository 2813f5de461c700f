//! The processes of an application of Celery: workers and a producer, in Python. They end when
//! their input does, so that none is left over when this program is killed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// The pools of the workers, in turn. Each has two processes or threads.
const POOLS: [&str; 2] = ["prefork", "threads"];

/// How long the application may take to end its tasks and to look at their results.
const FINISH: Duration = Duration::from_secs(180);

/// How long a worker may take to end its runs.
const END: Duration = Duration::from_secs(60);

/// The end of a log is enough to see what went wrong.
const LOG_BYTES_SHOWN: usize = 4_000;

/// A Python that has Celery.
#[derive(Debug)]
pub(super) struct Python {
    program: PathBuf,
}

impl Python {
    /// The Python of the environment that `.ci/python` makes, or the one that `CELERIAC_PYTHON`
    /// names.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn find() -> Result<Self, String> {
        let program = match std::env::var_os("CELERIAC_PYTHON") {
            Some(program) => PathBuf::from(program),
            None => made().await?,
        };
        let asked = Command::new(&program).args(["-c", "import celery"]).output().await;
        let asked = asked.map_err(|error| format!("{} does not start: {error}", program.display()));
        if !asked?.status.success() {
            return Err(format!("{} has no Celery", program.display()));
        }
        Ok(Self { program })
    }

    /// A program of the application.
    fn command(&self, script: &str, home: &Path) -> Command {
        let package = workspace().join("python");
        let mut command = Command::new(&self.program);
        command
            .arg(package.join("tests/celery").join(script))
            .env("PYTHONPATH", package.join("src"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .current_dir(home)
            .stdin(Stdio::piped())
            .kill_on_drop(true);
        command
    }
}

/// Makes the environment, once for all tests.
async fn made() -> Result<PathBuf, String> {
    let script = workspace().join(".ci/python");
    let output = Command::new(&script).output().await;
    let output = output.map_err(|error| format!("{} does not start: {error}", script.display()))?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
        return Err(format!("there is no Python with Celery: {reason}"));
    }
    let folder = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Ok(Path::new(&folder).join("bin/python"))
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests stand in the workspace")
}

/// What the application says at its end.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// How many tasks, chains, groups and chords it published.
    pub(super) calls: u64,
    /// The ids that it called twice, each.
    pub(super) twice: BTreeSet<String>,
    /// What was not as it should be. Each is a sentence.
    pub(super) wrong: Vec<String>,
}

#[derive(Deserialize)]
struct Line {
    published: BTreeMap<String, u64>,
    twice: BTreeSet<String>,
    wrong: Vec<String>,
}

/// A running application.
#[derive(Debug)]
pub(super) struct Application {
    producer: Child,
    workers: Vec<Child>,
    home: TempDir,
}

impl Application {
    /// Starts so many workers and a producer of the broker at `url`. Their runs say that they begin
    /// at `runs`.
    pub(super) fn start(
        python: &Python,
        url: &str,
        runs: SocketAddr,
        workers: usize,
        seed: u64,
    ) -> Self {
        let home = tempfile::tempdir().expect("a temporary folder can be made");
        let start = |script: &str, arguments: &[String], stdout: Stdio, log: &str| {
            let log = std::fs::File::create(home.path().join(log)).expect("the folder is writable");
            python
                .command(script, home.path())
                .args(arguments)
                .env("CELERIAC_TEST_URL", url)
                .env("CELERIAC_TEST_RUNS", runs.to_string())
                .stdout(stdout)
                .stderr(log)
                .spawn()
                .expect("the application can be started")
        };
        let workers = (0..workers).map(|number| {
            let name = format!("worker-{number}@load");
            let pool = POOLS[number % POOLS.len()];
            let options = ["-P", pool, "-c", "2", "-l", "INFO", "-n", &name].map(str::to_owned);
            start("load_worker.py", &options, Stdio::null(), &log_of(number))
        });
        let workers = workers.collect();
        let producer =
            start("load_producer.py", &[format!("{seed:x}")], Stdio::piped(), "producer.log");
        Self { producer, workers, home }
    }

    /// Tells the producer to publish no more, and waits until it has looked at every result.
    pub(super) async fn finish(&mut self) -> Told {
        match timeout(FINISH, self.ask_the_producer()).await {
            Ok(Ok(line)) => {
                let calls = line.published.values().sum();
                Told { calls, twice: line.twice, wrong: line.wrong }
            }
            Ok(Err(reason)) => self.failed(&format!("the producer failed: {reason}")),
            Err(_) => self.failed(&format!("the producer did not finish within {FINISH:?}")),
        }
    }

    /// Ends the workers, and returns what was wrong with their end.
    pub(super) async fn stop(mut self) -> Vec<String> {
        // A worker whose input is closed ends at once. Waiting for a child closes its input.
        let inputs: Vec<_> = self.workers.iter_mut().map(|worker| worker.stdin.take()).collect();
        for worker in &self.workers {
            let pid = worker.id().and_then(|pid| i32::try_from(pid).ok());
            if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
                // A worker that has ended by itself shows below.
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            }
        }
        let mut wrong = Vec::new();
        for (number, worker) in self.workers.iter_mut().enumerate() {
            let ended = timeout(END, worker.wait()).await;
            if !ended.is_ok_and(|status| status.is_ok_and(|status| status.success())) {
                let log = end_of(&self.home.path().join(log_of(number)));
                wrong.push(format!("worker {number} did not end in good order:\n{log}"));
            }
        }
        drop(inputs);
        wrong
    }

    async fn ask_the_producer(&mut self) -> Result<Line, String> {
        let mut input = self.producer.stdin.take().expect("its input is a pipe");
        input.write_all(b"stop\n").await.map_err(|error| error.to_string())?;
        let mut output = String::new();
        let stdout = self.producer.stdout.as_mut().expect("its output is a pipe");
        stdout.read_to_string(&mut output).await.map_err(|error| error.to_string())?;
        serde_json::from_str(&output).map_err(|error| error.to_string())
    }

    fn failed(&self, sentence: &str) -> Told {
        let log = end_of(&self.home.path().join("producer.log"));
        Told { wrong: vec![format!("{sentence}\n{log}")], ..Told::default() }
    }
}

fn log_of(worker: usize) -> String {
    format!("worker-{worker}.log")
}

fn end_of(log: &Path) -> String {
    let bytes = std::fs::read(log).unwrap_or_default();
    let from = bytes.len().saturating_sub(LOG_BYTES_SHOWN);
    String::from_utf8_lossy(&bytes[from..]).into_owned()
}
