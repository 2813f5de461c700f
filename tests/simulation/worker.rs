//! The workers of a world: real workers on the simulated network. Their one handler does what the
//! arguments of its task say: it takes time, fails, panics, reports progress, obeys a cancel or
//! ignores it, or ends the whole process.

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use celeriac_client::Submission;
use celeriac_history::{Event, History};
use celeriac_worker::{Context, RunError, TaskFailure, Worker, WorkerBuilder};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::findings::{Findings, ON_PURPOSE};
use crate::network::{Network, Node};
use crate::producer::{Environment, TaskIds};
use crate::trace;
use celeriac_tests::RandomSource;

pub const URL: &str = "celeriac://127.0.0.1:23537";
pub const NAME: &str = "world.work";

/// The arguments of a task: what its handler does.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    pub millis: u64,
    /// The number of attempts that fail before one succeeds.
    pub failures: u32,
    pub failure: Failure,
    pub result_bytes: usize,
    pub progress: u32,
    /// Whether the handler ends when it is cancelled.
    pub heeds: bool,
    /// Tasks that the handler submits before it ends.
    pub children: u32,
    /// The handler ends its process.
    pub kills: bool,
    /// Gives payloads different lengths.
    pub filling: String,
}

impl Plan {
    fn of_a_child(&self) -> Self {
        Self {
            millis: self.millis / 2 + 1,
            failures: 0,
            children: 0,
            filling: String::new(),
            ..*self
        }
    }
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub enum Failure {
    Retryable,
    Later,
    Fatal,
    Panic,
    /// The value of the panic panics again when it is dropped.
    NastyPanic,
    /// An error that is its own source.
    EndlessError,
}

/// Panics when it is dropped.
pub struct PanicOnDrop;

impl Drop for PanicOnDrop {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("{ON_PURPOSE}");
        }
    }
}

#[derive(Debug)]
struct Endless;

impl fmt::Display for Endless {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it was itself")
    }
}

impl Error for Endless {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(self)
    }
}

/// The longest time from the end of a process, by one of its tasks, to the start of the next one.
const GONE_MAX_MS: u64 = 20_000;

/// The difference between the node numbers of two successive processes of a worker. A world has
/// fewer programs.
const NODES_APART: Node = 1_000;

/// One worker of the world. A supervisor restarts its process.
pub struct SimulatedWorker {
    pub node: Node,
    running: JoinHandle<()>,
    stop: watch::Sender<bool>,
}

/// Starts one process of a worker after the other.
struct Supervisor {
    node: Node,
    name: String,
    queues: Vec<(String, u32)>,
    concurrency: u32,
    grace: Duration,
    look_ahead: Option<u32>,
    environment: Environment,
    random: RandomSource,
}

/// One process of a worker: what its handlers share.
struct Process {
    concurrency: u32,
    running: AtomicU32,
    begun: Mutex<BTreeSet<u64>>,
    history: History,
    findings: Findings,
    task_ids: TaskIds,
    network: Network,
    node: Node,
    /// Notified when a task has ended the process.
    ended_by_task: Notify,
}

impl SimulatedWorker {
    /// Starts a worker of these queues.
    pub fn start(
        node: Node,
        name: String,
        queues: &[String],
        environment: &Environment,
        random: &mut RandomSource,
    ) -> Self {
        let concurrency = random.between(1, 4) as u32;
        let grace = random.span(100, 60_000);
        let queues =
            queues.iter().map(|queue| (queue.clone(), random.between(1, 3) as u32)).collect();
        let look_ahead = random.one_in(3).then(|| random.below(8) as u32);
        let (environment, random) = (environment.clone(), random.fork());
        let supervisor =
            Supervisor { node, name, queues, concurrency, grace, look_ahead, environment, random };
        let (stop, stopped) = watch::channel(false);
        Self { node, running: tokio::spawn(supervisor.run(stopped)), stop }
    }

    /// Ends its process now.
    pub fn kill(self, network: &Network) {
        network.kill(self.node);
        self.running.abort();
    }

    /// Tells it to end.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    pub fn has_ended(&self) -> bool {
        self.running.is_finished()
    }
}

impl Supervisor {
    /// Runs one process after the other: when a task ends the process, the next one is started.
    async fn run(mut self, stopped: watch::Receiver<bool>) {
        loop {
            let process = self.process();
            let mut stopping = stopped.clone();
            let shutdown = async move {
                if stopping.wait_for(|stopped| *stopped).await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                biased;
                () = process.ended_by_task.notified() => {}
                ended = self.builder(&process).build().run(shutdown) => {
                    // A worker that was told to end while the broker was down returns this error.
                    let may_be_unheard = matches!(ended, Err(RunError::Unanswered { .. })) && *stopped.borrow();
                    if let Err(error) = ended
                        && !may_be_unheard
                    {
                        self.environment.findings.add(format!("{} ended by itself: {error}", self.name));
                    }
                    return;
                }
            }
            trace::step(&format!("worker {} was ended by its task", self.node));
            tokio::time::sleep(self.random.span(1, GONE_MAX_MS)).await;
            if *stopped.borrow() {
                return;
            }
            // Bytes of the old process that still arrive must not belong to the new one.
            self.node += NODES_APART;
        }
    }

    fn process(&self) -> Arc<Process> {
        let Environment { history, findings, task_ids, network, .. } = self.environment.clone();
        let (concurrency, node) = (self.concurrency, self.node);
        let (running, begun, ended_by_task) = (AtomicU32::new(0), Mutex::default(), Notify::new());
        Arc::new(Process {
            concurrency,
            running,
            begun,
            history,
            findings,
            task_ids,
            network,
            node,
            ended_by_task,
        })
    }

    fn builder(&self, process: &Arc<Process>) -> WorkerBuilder {
        let Environment { network, history, .. } = &self.environment;
        let mut builder = Worker::builder(URL)
            .own_thread(false)
            .connector(network.connector(self.node, &self.name, history))
            .instance(self.name.clone())
            .concurrency(self.concurrency)
            .shutdown_grace(self.grace);
        for (queue, weight) in &self.queues {
            builder = builder.queue_weighted(queue.clone(), *weight);
        }
        if let Some(tasks) = self.look_ahead {
            builder = builder.look_ahead(tasks);
        }
        let process = process.clone();
        builder.register_fn(NAME, move |context: Context, (plan,): (Plan,)| {
            let process = process.clone();
            async move { process.work(&context, plan).await }
        })
    }
}

/// Counts a running handler. It is dropped however the handler ends.
struct Counted<'a>(&'a AtomicU32);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Process {
    async fn work(&self, context: &Context, plan: Plan) -> Result<String, TaskFailure> {
        let (id, lease) = (context.id().to_owned(), context.lease());
        if self.running.fetch_add(1, Relaxed) >= self.concurrency {
            self.findings
                .add(format!("{id}: a worker runs more than {} handlers", self.concurrency));
        }
        let _counted = Counted(&self.running);
        if !self.begun.lock().expect("no thread panics while it holds this lock").insert(lease) {
            self.findings.add(format!("{id}: its handler began twice under lease {lease}"));
        }
        let (generation, deliveries, attempt) =
            (context.generation(), context.deliveries(), context.attempt());
        self.history.note(Event::Began { id, generation, lease, deliveries, attempt });
        if plan.kills {
            // The process ends some time after the start was reported, or before that.
            tokio::time::sleep(Duration::from_millis(plan.millis)).await;
            self.network.kill(self.node);
            self.ended_by_task.notify_one();
            std::future::pending::<()>().await;
        }
        for step in 0..=plan.progress {
            if step > 0 {
                // When the lease is lost, progress is not reported. The handler need not know.
                let _ = context.progress("WORKING", &step).await;
            }
            // The run time of a handler.
            let time = tokio::time::sleep(Duration::from_millis(plan.millis) / (plan.progress + 1));
            tokio::select! {
                () = time => {}
                () = context.cancelled(), if plan.heeds => {
                    return Err(TaskFailure::fatal("Cancelled", "it was told to end"));
                }
            }
        }
        for child in 0..plan.children {
            let child = format!("{}-{child}", context.id());
            self.task_ids.add(&child);
            let task = Submission::new(NAME)
                .task_id(child)
                .args((plan.of_a_child(),))
                .queue(context.queue());
            // The child may exist already, and the broker may be down.
            let _ =
                context.client().with_timeout(Duration::from_secs(20)).submit::<String>(task).await;
        }
        if attempt <= plan.failures {
            return match plan.failure {
                Failure::Retryable => Err(TaskFailure::new("Busy", "try again")),
                Failure::Later => Err(TaskFailure::new("Busy", "try later")
                    .retry_after(Duration::from_millis(plan.millis))),
                Failure::Fatal => Err(TaskFailure::fatal("Broken", "for good")),
                Failure::Panic => panic!("{ON_PURPOSE}"),
                Failure::NastyPanic => std::panic::panic_any(PanicOnDrop),
                Failure::EndlessError => Err(TaskFailure::from(Endless)),
            };
        }
        Ok("r".repeat(plan.result_bytes))
    }
}
