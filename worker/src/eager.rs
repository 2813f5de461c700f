//! Running tasks at once and without a broker, for tests of the code that submits them: a real
//! client whose submits run the handler before they return. Queues, delays, expiry and cancelling
//! belong to a broker and do not exist here.
//!
//! A run goes the way it goes in a worker, through a slot and its leases: payload and result are
//! written and read as JSON, panics and limits are failures, middleware is called. Only what the
//! broker would make of the reports is played.

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
use crate::leases::Leases;
use crate::middleware::Chain;
use crate::outbox::is_end;
use crate::shared::SharedValues;
use crate::slot::{Handlers, Slot};
use crate::threads::Threads;
use shown::{apply, end, is_ended, queued, shown, started, unknown};

/// A submit returns when its task has ended, and a task may take its time.
const SUBMIT_TIMEOUT: Duration = Duration::from_secs(24 * 3_600);

impl WorkerBuilder {
    /// A client for tests that runs these handlers itself, at once and without a broker: `delay`
    /// and `submit` return when the task has ended, and `get` gives its value or its failure.
    /// No connection is made; the URL is not used.
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
    /// /// As the program builds its worker.
    /// fn worker(url: &str) -> WorkerBuilder {
    ///     Worker::builder(url).register(double)
    /// }
    ///
    /// /// The code under test, which knows nothing of the test.
    /// async fn quadruple(client: &Client, number: i64) -> Result<i64, celeriac_client::Error> {
    ///     let doubled = client.delay(&double, (number,)).await?.get(Duration::from_secs(5)).await?;
    ///     client.delay(&double, (doubled,)).await?.get(Duration::from_secs(5)).await
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let client = worker("celeriac://unused").eager();
    /// assert_eq!(quadruple(&client, 3).await.unwrap(), 12);
    /// # }
    /// ```
    ///
    /// A task that fails is run again without a pause, as often as its retry policy says; its
    /// `info` has the attempts, their errors and the newest progress. Its handler may submit
    /// tasks itself: they run at once too. A submit that joins a task which runs, or has it run
    /// once more afterwards, does not wait for it; one that its caller gives up is
    /// finished nevertheless. An eta or an expiry is not heeded. Cancels, listings and all that
    /// concerns queues, workers and dead tasks are refused as `unsupported`; so is a task for
    /// which there is no handler.
    ///
    /// # Panics
    /// Outside a tokio runtime, and where [`Worker::run`](crate::Worker::run) would say that the
    /// worker cannot start.
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

struct Eager {
    handlers: Arc<Handlers>,
    middleware: Arc<Chain>,
    threads: Threads,
    data: Arc<SharedValues>,
    latest_lease: AtomicU64,
    tasks: Mutex<HashMap<String, Record>>,
    /// A run has ended.
    ended: Notify,
    /// Shows a transition to those who watch. Called with `tasks` locked, so that they see the
    /// versions rise.
    show: Box<dyn Fn(&TaskInfo) + Send + Sync>,
}

/// What an id shows.
struct Record {
    info: TaskInfo,
    run: Arc<Run>,
    /// What is to be run once more when this has ended.
    next: Option<(Connection, wire::Task)>,
}

/// One generation of a task.
struct Run {
    id: String,
    is_result_ignored: bool,
    leases: Arc<Leases>,
    /// How it ended, for those who wait for it: by then its id may show the next run, or nothing.
    end: OnceLock<TaskInfo>,
}

/// What a submit leads to.
enum Accepted {
    Begun(Arc<Run>),
    /// Nothing that it would have to wait for.
    Beside(SubmitOutcome),
}

impl Eager {
    fn tasks(&self) -> MutexGuard<'_, HashMap<String, Record>> {
        self.tasks.lock().expect("no code panics while it holds this lock")
    }

    async fn answer(
        self: Arc<Self>,
        connection: Connection,
        body: client_frame::Body,
    ) -> Result<server_frame::Body, wire::Error> {
        match body {
            client_frame::Body::Submit(submit) => {
                // On its own: a caller who gives it up leaves no task behind that never ends.
                let submitting = tokio::spawn(self.submit_all(connection, submit.tasks));
                let outcomes = submitting
                    .await
                    .map_err(|lost| error(ErrorCode::Internal, &lost.to_string()))?;
                Ok(server_frame::Body::SubmitReply(wire::SubmitReply { outcomes }))
            }
            client_frame::Body::Get(wire::Get { ids, with_results }) => {
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
                "eager mode runs tasks, and has nothing else of a broker",
            )),
        }
    }

    /// How these tasks stand, in order.
    fn look(&self, ids: &[String], with_results: bool) -> Vec<TaskInfo> {
        let tasks = self.tasks();
        let info = |id: &String| {
            tasks.get(id).map_or_else(|| unknown(id), |record| shown(&record.info, with_results))
        };
        ids.iter().map(info).collect()
    }

    async fn wait(&self, wait: wire::Wait) -> wire::WaitReply {
        let runs: Vec<Option<Arc<Run>>> = {
            let tasks = self.tasks();
            wait.ids.iter().map(|id| tasks.get(id).map(|record| record.run.clone())).collect()
        };
        let is_over =
            |run: &Option<Arc<Run>>| run.as_ref().is_none_or(|run| run.end.get().is_some());
        self.until(|| match wait.mode() {
            wire::wait::Mode::All => runs.iter().all(is_over),
            wire::wait::Mode::Any => runs.iter().any(is_over),
        })
        .await;
        let mut tasks = self.look(&wait.ids, wait.with_results);
        for (task, run) in tasks.iter_mut().zip(runs) {
            if let Some(ended) = run.as_ref().and_then(|run| run.end.get()) {
                *task = shown(ended, wait.with_results);
            }
        }
        wire::WaitReply { satisfied: true, tasks, ..Default::default() }
    }

    /// Until this is true, which the end of a run can make it.
    async fn until(&self, mut is_so: impl FnMut() -> bool) {
        loop {
            let mut ended = std::pin::pin!(self.ended.notified());
            // Listen before looking: an end in between is not missed.
            ended.as_mut().enable();
            if is_so() {
                return;
            }
            ended.await;
        }
    }

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

    fn remove(&self, tasks: &mut HashMap<String, Record>, id: &str) {
        tasks.remove(id);
        (self.show)(&unknown(id));
    }

    async fn submit_all(
        self: Arc<Self>,
        connection: Connection,
        tasks: Vec<wire::Task>,
    ) -> Vec<SubmitOutcome> {
        let mut outcomes = Vec::with_capacity(tasks.len());
        for task in tasks {
            let outcome = match self.accept(&connection, task) {
                Ok(Accepted::Begun(run)) => self.outcome(&run).await,
                Ok(Accepted::Beside(outcome)) => outcome,
                Err(error) => {
                    let kind = submit_outcome::Kind::Refused.into();
                    SubmitOutcome { kind, error: Some(error), ..SubmitOutcome::default() }
                }
            };
            outcomes.push(outcome);
        }
        outcomes
    }

    /// What came of a run, when it has ended.
    async fn outcome(&self, run: &Run) -> SubmitOutcome {
        self.until(|| run.end.get().is_some()).await;
        let info = run.end.get().expect("it has ended");
        let is_first = info.generation == 1;
        let kind = if is_first {
            submit_outcome::Kind::Created
        } else {
            submit_outcome::Kind::NewGeneration
        };
        outcome(kind, info.generation, info.state())
    }

    /// Begins a run of this task, unless what is there under its id stands against it.
    fn accept(
        self: &Arc<Self>,
        connection: &Connection,
        task: wire::Task,
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
                present.next.get_or_insert((connection.clone(), task));
                return Ok(Accepted::Beside(outcome(kind, next, TaskState::Scheduled)));
            }
            OnConflict::Replace => self.replaced(present),
            _ => {
                let info = &present.info;
                return Ok(Accepted::Beside(outcome(
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
        let run =
            Arc::new(Run { id: task.id.clone(), is_result_ignored, leases, end: OnceLock::new() });
        tasks.insert(info.id.clone(), Record { info, run: run.clone(), next: None });
        tokio::spawn(self.clone().run(connection, task, run.clone()));
        run
    }

    /// Its handler is dropped, and what is asked to follow it does not.
    fn replaced(&self, record: &mut Record) {
        record.info.revoked_reason = "replaced".to_owned();
        record.info.version += 1;
        end(&mut record.info, TaskState::Revoked);
        record.run.leases.lose_all();
        record.run.leases.close();
        self.tell(record);
    }

    /// Tells those who watch, and those who wait if it has ended.
    fn tell(&self, record: &Record) {
        (self.show)(&record.info);
        if is_ended(&record.info) {
            record.run.end.get_or_init(|| record.info.clone());
            self.ended.notify_waiters();
        }
    }

    /// Changes what is known of a run; `None` when it has ended, and there is nothing more to say
    /// of it.
    fn update(self: &Arc<Self>, run: &Run, change: impl FnOnce(&mut TaskInfo)) -> Option<TaskInfo> {
        let mut tasks = self.tasks();
        // The end of one that was replaced is there before its successor is.
        if run.end.get().is_some() {
            return None;
        }
        let record = tasks.get_mut(&run.id)?;
        change(&mut record.info);
        record.info.version += 1;
        self.tell(record);
        let info = record.info.clone();
        if is_ended(&info) {
            match record.next.take() {
                Some((connection, task)) => {
                    drop(self.begin(&mut tasks, connection, task, info.generation + 1))
                }
                None if run.is_result_ignored && info.state() == TaskState::Success => {
                    self.remove(&mut tasks, &info.id)
                }
                None => {}
            }
        }
        Some(info)
    }

    /// All attempts of a task, one after the other.
    async fn run(self: Arc<Self>, connection: Connection, task: wire::Task, run: Arc<Run>) {
        let client = Client::over(connection).with_timeout(SUBMIT_TIMEOUT);
        let (leases, threads, data) = (run.leases.clone(), self.threads.clone(), self.data.clone());
        let worker = Arc::new(WorkerSide { leases, client, threads, data });
        let slot =
            Slot { worker, handlers: self.handlers.clone(), middleware: self.middleware.clone() };
        while let Some(info) = self.update(&run, started) {
            run.leases.deliver(vec![self.delivery(&task, &info)]);
            // None when it was replaced in this moment.
            let Some(job) = run.leases.next().await else { return };
            self.attempt(&run, slot.run_fenced(job)).await;
            run.leases.lose_all();
        }
    }

    /// One attempt, until its end is reported: a thread may go on after that, and nobody waits for
    /// it.
    async fn attempt(self: &Arc<Self>, run: &Run, attempt: impl Future<Output = ()>) {
        let mut attempt = std::pin::pin!(attempt);
        let mut is_over = false;
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
                // What runs has begun.
                if !matches!(report.report, Some(Report::Started(_))) {
                    self.update(run, |info| apply(info, report.report));
                }
            }
        }
    }

    fn delivery(&self, task: &wire::Task, info: &TaskInfo) -> wire::Delivery {
        wire::Delivery {
            id: task.id.clone(),
            lease: self.latest_lease.fetch_add(1, Ordering::Relaxed) + 1,
            name: task.name.clone(),
            queue: info.queue.clone(),
            payload: task.payload.clone(),
            content_type: task.content_type.clone(),
            headers: task.headers.clone(),
            shadow: task.shadow.clone(),
            priority: info.priority,
            attempt: info.attempts + 1,
            attempts_max: info.attempts_max,
            deliveries: info.deliveries,
            generation: info.generation,
            submitted_at_ms: info.submitted_at_ms,
            soft_time_limit_ms: task.soft_time_limit_ms,
            time_limit_ms: task.time_limit_ms,
            root_id: task.root_id.clone(),
            parent_id: task.parent_id.clone(),
            tags: task.tags.clone(),
            ..wire::Delivery::default()
        }
    }
}

fn outcome(kind: submit_outcome::Kind, generation: u32, state: TaskState) -> SubmitOutcome {
    SubmitOutcome { kind: kind.into(), generation, state: state.into(), error: None }
}

fn error(code: ErrorCode, message: &str) -> wire::Error {
    wire::Error { code: code.into(), message: message.to_owned(), ..wire::Error::default() }
}
