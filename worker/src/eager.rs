//! Eager mode runs tasks at once and without a broker, for tests of the code that submits them: a
//! real client whose submits run the handler before they return. Queues, delays, expiry and
//! cancelling need a broker and do not exist here.
//!
//! A run uses the same execution and the same leases as in a worker: payload and result are encoded
//! and decoded as JSON, panics and time limits are failures, middleware is called. Only the
//! broker's part is simulated; `shown` has its transitions.

mod shown;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use celeriac_client::Client;
use celeriac_client::connection::Connection;
use celeriac_proto::wire::task_report::Report;
use celeriac_proto::wire::{
    self, ErrorCode, OnConflict, SubmitOutcome, TaskInfo, TaskState, client_frame, server_frame,
    submit_outcome,
};
use tokio::sync::Notify;

use crate::builder::WorkerBuilder;
use crate::context::WorkerSide;
use crate::execution::{Execution, Handlers};
use crate::leases::Leases;
use crate::middleware::Chain;
use crate::pending_reports::is_end;
use crate::shared::SharedValues;
use crate::threads::Threads;
use shown::{apply, delivery, end, is_ended, queued, shown, started, unknown};

/// The time limit of a submit, which returns when its task has ended.
const SUBMIT_TIMEOUT: Duration = Duration::from_secs(24 * 3_600);

impl WorkerBuilder {
    /// A client for tests, which runs these handlers itself, at once and without a broker: `delay`
    /// and `submit` return when the task has ended, and `get` returns its value or its failure.
    /// The client makes no connection and does not use the URL.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use celeriac_client::Client;
    /// use celeriac_worker::{Worker, WorkerBuilder, task};
    ///
    /// #[task]
    /// async fn double(number: i64) -> i64 {
    ///     number * 2
    /// }
    ///
    /// /// The program builds its worker with this function.
    /// fn worker(url: &str) -> WorkerBuilder {
    ///     Worker::builder(url).register(double)
    /// }
    ///
    /// /// The code under test.
    /// async fn quadruple(client: &Client, number: i64) -> Result<i64, celeriac_client::Error> {
    ///     const SOON: Duration = Duration::from_secs(5);
    ///     let doubled = client.delay(&double, (number,)).await?.get(SOON).await?;
    ///     client.delay(&double, (doubled,)).await?.get(SOON).await
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let client = worker("celeriac://unused").eager();
    /// assert_eq!(quadruple(&client, 3).await.unwrap(), 12);
    /// # }
    /// ```
    ///
    /// - A task that fails runs again without a pause, as often as its retry policy says. Its
    ///   `info` has the attempts, their errors and the newest progress.
    /// - A handler may submit tasks: they run at once too.
    /// - A submit that joins a running task, or makes it run once more afterwards, does not wait
    ///   for it. When the caller drops the future of a submit, the task runs to its end
    ///   nevertheless.
    /// - An ETA or an expiry has no effect.
    /// - Cancels, listings, and all requests about queues, workers and dead tasks are refused as
    ///   `unsupported`. So is a task without a handler.
    ///
    /// # Panics
    /// Outside a tokio runtime, and where [`Worker::run`](crate::Worker::run) would fail because
    /// the worker's setup does not allow it to start.
    pub fn eager(self) -> Client {
        if let Some(fault) = self.fault() {
            panic!("the worker cannot start: {fault}");
        }
        let connection = Connection::local(|show| {
            let eager = Arc::new(Eager {
                handlers: Arc::new(self.handlers),
                middleware: Arc::new(self.middleware),
                threads: Threads::default(),
                data: Arc::new(self.data),
                latest_lease: AtomicU64::new(0),
                tasks: Mutex::default(),
                ended: Notify::new(),
                show,
            });
            move |connection, body| eager.clone().answer(connection, body)
        });
        Client::over(connection).with_timeout(SUBMIT_TIMEOUT)
    }
}

/// The simulated broker and worker behind an eager client.
struct Eager {
    /// The handlers of the worker.
    handlers: Arc<Handlers>,
    /// The middleware of the worker.
    middleware: Arc<Chain>,
    /// The threads for blocking handlers.
    threads: Threads,
    /// The values that the handlers share.
    data: Arc<SharedValues>,
    /// The latest lease; leases rise over all runs.
    latest_lease: AtomicU64,
    /// The tasks that are not forgotten, by their ids.
    tasks: Mutex<HashMap<String, Record>>,
    /// Wakes the tasks that wait for the end of a run.
    ended: Notify,
    /// Shows a transition to the watches. Called while `tasks` is locked, so that the watches see
    /// the versions rise.
    show: Box<dyn Fn(&TaskInfo) + Send + Sync>,
}

/// The present task of an id.
struct Record {
    /// The task as a request sees it.
    info: TaskInfo,
    /// The run of its present generation.
    run: Arc<Run>,
    /// The submit that runs once more when this run has ended.
    next: Option<Submit>,
}

/// A submit, and the connection for the client of its handler.
struct Submit {
    connection: Connection,
    task: wire::Task,
}

/// One generation of a task.
struct Run {
    /// The id of the task.
    id: String,
    /// Whether the task is dropped as soon as it has succeeded.
    is_result_ignored: bool,
    /// The leases of this run; there is one at a time.
    leases: Arc<Leases>,
    /// The task when it had ended, for those that wait for it: by then its id may have the next
    /// run, or no task.
    ended: OnceLock<TaskInfo>,
}

/// How a submit was accepted.
enum Accepted {
    /// It began this run, and waits for its end.
    Begun(Arc<Run>),
    /// It has this outcome at once, and waits for nothing.
    AtOnce(SubmitOutcome),
}

impl Eager {
    /// Locks the tasks.
    fn tasks(&self) -> MutexGuard<'_, HashMap<String, Record>> {
        self.tasks.lock().expect("no code panics while it holds this lock")
    }

    /// Answers one request of the client.
    async fn answer(
        self: Arc<Self>,
        connection: Connection,
        body: client_frame::Body,
    ) -> Result<server_frame::Body, wire::Error> {
        match body {
            client_frame::Body::Submit(submit) => {
                // In a task of its own: when the caller drops the submit, the run still ends.
                let submitting = tokio::spawn(self.submit_all(connection, submit.tasks));
                let outcomes = submitting
                    .await
                    .map_err(|lost| error(ErrorCode::Internal, &lost.to_string()))?;
                Ok(server_frame::Body::SubmitReply(wire::SubmitReply { outcomes }))
            }
            client_frame::Body::Get(wire::Get { ids, with_results, .. }) => {
                let tasks = self.look(&ids, with_results);
                Ok(server_frame::Body::GetReply(wire::GetReply { tasks, ..Default::default() }))
            }
            client_frame::Body::Wait(wait) => {
                Ok(server_frame::Body::WaitReply(self.wait(wait).await))
            }
            client_frame::Body::Watch(wire::Watch { ids, with_results }) => {
                let tasks = self.look(&ids, with_results);
                Ok(server_frame::Body::WatchReply(wire::WatchReply {
                    watch_id: 1,
                    tasks,
                    ..Default::default()
                }))
            }
            client_frame::Body::Forget(forget) => {
                let outcomes = forget.ids.iter().map(|id| self.forget(id).into()).collect();
                Ok(server_frame::Body::ForgetReply(wire::ForgetReply { outcomes }))
            }
            _ => Err(error(
                ErrorCode::Unsupported,
                "eager mode only runs tasks; use a broker for this request",
            )),
        }
    }

    /// The present states of these tasks, in order.
    fn look(&self, ids: &[String], with_results: bool) -> Vec<TaskInfo> {
        let tasks = self.tasks();
        let info = |id: &String| {
            tasks.get(id).map_or_else(|| unknown(id), |record| shown(&record.info, with_results))
        };
        ids.iter().map(info).collect()
    }

    /// Answers a wait when enough of its tasks have ended. A task that does not exist counts as
    /// ended.
    async fn wait(&self, wait: wire::Wait) -> wire::WaitReply {
        let runs: Vec<Option<Arc<Run>>> = {
            let tasks = self.tasks();
            wait.ids.iter().map(|id| tasks.get(id).map(|record| record.run.clone())).collect()
        };
        let is_over =
            |run: &Option<Arc<Run>>| run.as_ref().is_none_or(|run| run.ended.get().is_some());
        self.until(|| match wait.mode() {
            wire::wait::Mode::All => runs.iter().all(is_over),
            wire::wait::Mode::Any => runs.iter().any(is_over),
        })
        .await;
        // A task that ended while the wait lasted is shown as it ended, even if it runs again by
        // now.
        let mut tasks = self.look(&wait.ids, wait.with_results);
        for (task, run) in tasks.iter_mut().zip(runs) {
            if let Some(ended) = run.as_ref().and_then(|run| run.ended.get()) {
                *task = shown(ended, wait.with_results);
            }
        }
        wire::WaitReply { satisfied: true, tasks, ..Default::default() }
    }

    /// Returns when the condition is true. It is checked after the end of each run.
    async fn until(&self, mut is_so: impl FnMut() -> bool) {
        loop {
            let mut ended = std::pin::pin!(self.ended.notified());
            // Listen before looking, so that an end in between is not missed.
            ended.as_mut().enable();
            if is_so() {
                return;
            }
            ended.await;
        }
    }

    /// Drops an ended task, or returns why it cannot.
    fn forget(&self, id: &str) -> ErrorCode {
        let mut tasks = self.tasks();
        match tasks.get(id) {
            None => ErrorCode::NotFound,
            Some(record) if !is_ended(&record.info) => ErrorCode::NotFinished,
            Some(_) => {
                self.remove(&mut tasks, id);
                ErrorCode::Unspecified
            }
        }
    }

    /// Drops a task, and shows its watches that it is unknown now.
    fn remove(&self, tasks: &mut HashMap<String, Record>, id: &str) {
        tasks.remove(id);
        (self.show)(&unknown(id));
    }

    /// Runs the tasks of one submit, one after the other.
    async fn submit_all(
        self: Arc<Self>,
        connection: Connection,
        tasks: Vec<wire::Task>,
    ) -> Vec<SubmitOutcome> {
        let mut outcomes = Vec::with_capacity(tasks.len());
        for task in tasks {
            let outcome = match self.accept(&connection, task) {
                Ok(Accepted::Begun(run)) => self.outcome(&run).await,
                Ok(Accepted::AtOnce(outcome)) => outcome,
                Err(error) => {
                    let kind = submit_outcome::Kind::Refused.into();
                    SubmitOutcome { kind, error: Some(error), ..SubmitOutcome::default() }
                }
            };
            outcomes.push(outcome);
        }
        outcomes
    }

    /// Waits for the end of a run, and returns the outcome of its submit.
    async fn outcome(&self, run: &Run) -> SubmitOutcome {
        self.until(|| run.ended.get().is_some()).await;
        let info = run.ended.get().expect("it has ended");
        let is_first = info.generation == 1;
        let kind = if is_first {
            submit_outcome::Kind::Created
        } else {
            submit_outcome::Kind::NewGeneration
        };
        // The id differs from that of the submit when the task ran beside another.
        SubmitOutcome { id: run.id.clone(), ..outcome(kind, info.generation, info.state()) }
    }

    /// Begins a run of this task, unless the present task of its id does not allow it.
    fn accept(
        self: &Arc<Self>,
        connection: &Connection,
        mut task: wire::Task,
    ) -> Result<Accepted, wire::Error> {
        if !self.handlers.contains_key(&task.name) {
            return Err(error(
                ErrorCode::Unsupported,
                &format!("no handler is registered for `{}`", task.name),
            ));
        }
        let mut tasks = self.tasks();
        let Some(present) = tasks.get_mut(&task.id) else {
            return Ok(Accepted::Begun(self.begin(&mut tasks, connection.clone(), task, 1)));
        };
        let next = present.info.generation + 1;
        match task.on_conflict() {
            OnConflict::Reject => {
                return Err(error(ErrorCode::TaskExists, "a task of this id exists"));
            }
            _ if is_ended(&present.info) => {}
            OnConflict::RunAgainAfter => {
                let is_first = present.next.is_none();
                let kind = if is_first {
                    submit_outcome::Kind::NewGeneration
                } else {
                    submit_outcome::Kind::Joined
                };
                present.next.get_or_insert(Submit { connection: connection.clone(), task });
                return Ok(Accepted::AtOnce(outcome(kind, next, TaskState::Scheduled)));
            }
            OnConflict::Replace => self.replaced(present),
            OnConflict::Beside => {
                task.id = format!("{}~{}", task.id, task.submit_key);
                return Ok(Accepted::Begun(self.begin(&mut tasks, connection.clone(), task, 1)));
            }
            _ => {
                let info = &present.info;
                return Ok(Accepted::AtOnce(outcome(
                    submit_outcome::Kind::Joined,
                    info.generation,
                    info.state(),
                )));
            }
        }
        Ok(Accepted::Begun(self.begin(&mut tasks, connection.clone(), task, next)))
    }

    /// Begins a run in the background.
    fn begin(
        self: &Arc<Self>,
        tasks: &mut HashMap<String, Record>,
        connection: Connection,
        task: wire::Task,
        generation: u32,
    ) -> Arc<Run> {
        let info = queued(&task, generation);
        (self.show)(&info);
        let (leases, is_result_ignored) = (Arc::new(Leases::new()), task.result_ttl_ms == Some(0));
        let run = Arc::new(Run {
            id: task.id.clone(),
            is_result_ignored,
            leases,
            ended: OnceLock::new(),
        });
        tasks.insert(info.id.clone(), Record { info, run: run.clone(), next: None });
        tokio::spawn(self.clone().run(connection, task, run.clone()));
        run
    }

    /// Ends the present run, whose task a submit replaces: its handler is dropped.
    fn replaced(&self, record: &mut Record) {
        record.info.revoked_reason = "replaced".to_owned();
        record.info.version += 1;
        end(&mut record.info, TaskState::Revoked);
        record.run.leases.lose_all();
        record.run.leases.close();
        self.tell(record);
    }

    /// Shows a transition to the watches, and an end also to those that wait for it.
    fn tell(&self, record: &Record) {
        (self.show)(&record.info);
        if is_ended(&record.info) {
            record.run.ended.get_or_init(|| record.info.clone());
            self.ended.notify_waiters();
        }
    }

    /// Changes the task of a run. `None` when the run has ended: then nothing changes.
    fn update(self: &Arc<Self>, run: &Run, change: impl FnOnce(&mut TaskInfo)) -> Option<TaskInfo> {
        let mut tasks = self.tasks();
        // A run that was replaced has ended before its successor begins.
        if run.ended.get().is_some() {
            return None;
        }
        let record = tasks.get_mut(&run.id)?;
        change(&mut record.info);
        record.info.version += 1;
        self.tell(record);
        let info = record.info.clone();
        if is_ended(&info) {
            match record.next.take() {
                Some(Submit { connection, task }) => {
                    self.begin(&mut tasks, connection, task, info.generation + 1);
                }
                None if run.is_result_ignored && info.state() == TaskState::Success => {
                    self.remove(&mut tasks, &info.id)
                }
                None => {}
            }
        }
        Some(info)
    }

    /// Runs all attempts of a task, one after the other.
    async fn run(self: Arc<Self>, connection: Connection, task: wire::Task, run: Arc<Run>) {
        let client = Client::over(connection).with_timeout(SUBMIT_TIMEOUT);
        let (leases, threads, data) = (run.leases.clone(), self.threads.clone(), self.data.clone());
        let worker = Arc::new(WorkerSide { leases, client, threads, data });
        let (handlers, middleware) = (self.handlers.clone(), self.middleware.clone());
        let execution = Execution { worker, handlers, middleware };
        while let Some(info) = self.update(&run, started) {
            let lease = self.latest_lease.fetch_add(1, Ordering::Relaxed) + 1;
            run.leases.deliver(vec![delivery(&task, &info, lease)]);
            // `None` when the run was replaced at this moment.
            let Some(begun) = run.leases.next().await else { return };
            self.attempt(&run, execution.run_fenced(begun)).await;
            run.leases.lose_all();
        }
    }

    /// Runs one attempt until its end is reported. A thread may go on after that; nothing waits for
    /// it.
    async fn attempt(self: &Arc<Self>, run: &Run, attempt: impl Future<Output = ()>) {
        let mut attempt = std::pin::pin!(attempt);
        let mut is_over = false;
        // When to look for progress that is held back because it came too fast.
        let mut more_in = None;
        while !is_over {
            tokio::select! {
                biased;
                () = &mut attempt => is_over = true,
                () = run.leases.due() => {}
                () = tokio::time::sleep(more_in.unwrap_or_default()), if more_in.is_some() => {}
            }
            let batch = run.leases.take_batch(usize::MAX, usize::MAX);
            more_in = batch.next_in;
            for report in batch.reports {
                is_over |= is_end(&report);
                // The state already says that the task has begun.
                if !matches!(report.report, Some(Report::Started(_))) {
                    self.update(run, |info| apply(info, report.report));
                }
            }
        }
    }
}

/// The outcome of a submit.
fn outcome(kind: submit_outcome::Kind, generation: u32, state: TaskState) -> SubmitOutcome {
    SubmitOutcome { kind: kind.into(), generation, state: state.into(), ..SubmitOutcome::default() }
}

/// A refusal.
fn error(code: ErrorCode, message: &str) -> wire::Error {
    wire::Error { code: code.into(), message: message.to_owned(), ..wire::Error::default() }
}
