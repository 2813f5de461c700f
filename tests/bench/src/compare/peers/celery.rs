//! Celery on Redis. The producers are Python processes. The worker is a Celery worker with two
//! processes and a prefetch of 64 tasks for each. Results go to the same Redis.
//! `celery/bench_tasks.py` has the Python code. Its client sends one request after the other, so it
//! never has several in flight. The worker is the same for every load.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use futures_util::future::LocalBoxFuture;
use serde_json::{Value, json};

use super::process::{Server, find};
use super::redis::{RedisServer, redis_version};
use crate::compare::system::{Load, Missing, Running, System, Timing, Workload};

const PROGRAM: &str = include_str!("../../../celery/bench_tasks.py");
/// The virtual environment, relative to the workspace.
const ENVIRONMENT: &str = "target/bench/venv";

/// Both rows.
pub(super) fn systems() -> [Box<dyn System>; 2] {
    [
        Box::new(Celery { durability: "appendfsync always, acks_late", fsync: "always" }),
        Box::new(Celery {
            durability: "appendfsync everysec, acks_late (may lose a second)",
            fsync: "everysec",
        }),
    ]
}

struct Celery {
    durability: &'static str,
    fsync: &'static str,
}

impl System for Celery {
    fn name(&self) -> &'static str {
        "Celery on Redis"
    }

    fn durability(&self) -> &'static str {
        self.durability
    }

    fn version(&self) -> Result<String, Missing> {
        let redis = redis_version()?;
        let (_, version) = python()?;
        Ok(format!("{version} on {redis}"))
    }

    fn offers(&self, workload: Workload) -> bool {
        // Waiting tasks are in Redis. The rows of Redis show that case, in far less time.
        use Workload::{Enqueue, Lifecycle, Roundtrip, Scheduled};
        matches!(workload, Enqueue | Lifecycle | Roundtrip | Scheduled)
    }

    fn start<'a>(&'a self, folder: &'a Path) -> LocalBoxFuture<'a, Result<Box<dyn Running>>> {
        Box::pin(async {
            let (python, _) = python().map_err(|missing| anyhow!(missing.0))?;
            let redis = RedisServer::start(folder, self.fsync).await?;
            std::fs::write(folder.join("bench_tasks.py"), PROGRAM)?;
            Ok(Box::new(CeleryOnRedis { redis, python, folder: folder.to_owned() })
                as Box<dyn Running>)
        })
    }
}

/// The first Python that has Celery, and Celery's version.
pub(super) fn python() -> Result<(PathBuf, String), Missing> {
    let environment =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(ENVIRONMENT).join("bin/python");
    let named = std::env::var_os("CELERY_PYTHON").map(PathBuf::from);
    for python in [named, Some(environment), find("python3")].into_iter().flatten() {
        let mut command = Command::new(&python);
        command.args(["-c", "import celery, kombu.transport.redis; print(celery.__version__)"]);
        if let Ok(output) = command.output()
            && output.status.success()
        {
            return Ok((python, String::from_utf8_lossy(&output.stdout).trim().to_owned()));
        }
    }
    Err(Missing(format!(
        "Celery is not installed: python3 -m venv {ENVIRONMENT} && {ENVIRONMENT}/bin/pip install 'celery[redis]' \
         (or CELERY_PYTHON=/path/to/python)"
    )))
}

struct CeleryOnRedis {
    redis: RedisServer,
    python: PathBuf,
    folder: PathBuf,
}

impl CeleryOnRedis {
    fn command(&self) -> Command {
        let mut python = Command::new(&self.python);
        python
            .current_dir(&self.folder)
            .env("BENCH_READY", self.ready())
            .env("PYTHONDONTWRITEBYTECODE", "1");
        python.env("BENCH_REDIS_PORT", self.redis.port().to_string());
        python
    }

    fn ready(&self) -> PathBuf {
        self.folder.join("worker-ready")
    }

    /// A running worker. It ends when this value is dropped.
    async fn worker(&self) -> Result<Server> {
        let _ = std::fs::remove_file(self.ready());
        let mut command = self.command();
        command.args([
            "-m",
            "celery",
            "-A",
            "bench_tasks",
            "worker",
            "--pool",
            "prefork",
            "--concurrency",
            "2",
        ]);
        command.args(["--prefetch-multiplier", "64", "-O", "fair", "--loglevel", "ERROR"]);
        command.args(["--without-gossip", "--without-mingle", "--without-heartbeat"]);
        if rustix::process::geteuid().is_root() {
            // This variable is its own way to run as root. Otherwise it would only warn.
            command.env("C_FORCE_ROOT", "1");
        }
        let mut worker = Server::start(command, &self.folder.join("worker.log"))?;
        let ready = self.ready();
        worker.ready(async || ready.exists()).await?;
        Ok(worker)
    }

    /// Runs the Python driver and reads its output.
    async fn drive(&self, what: &str, options: Value) -> Result<Timing> {
        let output = self.folder.join("outcome.json");
        let mut command = self.command();
        command.args(["bench_tasks.py", what, &options.to_string()]).arg(&output);
        Server::start(command, &self.folder.join("driver.log"))?.succeeded().await?;
        let outcome: Value = serde_json::from_slice(&std::fs::read(&output)?)?;
        let elapsed = outcome["elapsed"].as_f64().context("no time in the outcome")?;
        let latencies = outcome["latencies"].as_array().context("no latencies in the outcome")?;
        let latencies =
            latencies.iter().filter_map(Value::as_f64).map(Duration::from_secs_f64).collect();
        Ok(Timing { elapsed: Duration::from_secs_f64(elapsed), latencies })
    }
}

/// Ends a worker by SIGTERM. It gives back the tasks that it has taken and not begun.
async fn dismiss(mut worker: Server) -> Result<()> {
    worker.terminate()?;
    worker.ended().await
}

fn options(load: &Load, completed: bool) -> Value {
    json!({
        "tasks": load.tasks, "producers": load.producers, "batch": load.batch,
        "payload": load.payload, "result": load.result, "completed": completed,
    })
}

impl Running for CeleryOnRedis {
    fn enqueue<'a>(&'a self, load: &'a Load) -> LocalBoxFuture<'a, Result<Timing>> {
        Box::pin(self.drive("enqueue", options(load, false)))
    }

    fn lifecycle<'a>(&'a self, load: &'a Load) -> LocalBoxFuture<'a, Result<Timing>> {
        Box::pin(async {
            let worker = self.worker().await?;
            let timing = self.drive("enqueue", options(load, true)).await?;
            dismiss(worker).await?;
            Ok(timing)
        })
    }

    fn roundtrip(&self, tasks: u64) -> LocalBoxFuture<'_, Result<Timing>> {
        Box::pin(async move {
            let worker = self.worker().await?;
            let timing = self.drive("roundtrip", json!({ "tasks": tasks })).await?;
            dismiss(worker).await?;
            Ok(timing)
        })
    }

    fn schedule(
        &self,
        waiting: u64,
        due: u64,
        over: Duration,
    ) -> LocalBoxFuture<'_, Result<Timing>> {
        Box::pin(async move {
            // The worker is killed with the tasks that it holds. Giving back so many takes it long,
            // and they are not needed.
            let _worker = self.worker().await?;
            self.drive(
                "schedule",
                json!({ "waiting": waiting, "due": due, "over": over.as_secs_f64() }),
            )
            .await
        })
    }

    fn processes(&self) -> Vec<u32> {
        self.redis.processes()
    }
}
