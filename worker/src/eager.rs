//! Running tasks at once and without a broker, for tests of the code that submits them: a real client whose submits run
//! the handler before they return. Queues, delays, expiry and cancelling belong to a broker and do not exist here.
//!
//! A run goes the way it goes in a worker, through a slot and its leases: payload and result are written and read as
//! JSON, panics and limits are failures, middleware is called. Only what the broker would make of the reports is played.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use celeriac_client::Client;
use celeriac_client::connection::Connection;
use celeriac_proto::limits::PRIORITY_DEFAULT;
use celeriac_proto::wire::task_report::Report;
use celeriac_proto::wire::{
    self, ErrorCode, OnConflict, SubmitOutcome, TaskInfo, TaskState, client_frame, server_frame, submit_outcome,
};
use tokio::sync::Notify;

use crate::builder::WorkerBuilder;
use crate::context::WorkerSide;
use crate::leases::Leases;
use crate::middleware::Chain;
use crate::shared::SharedValues;
use crate::slot::{Handlers, Slot};
use crate::threads::Threads;

/// A submit returns when its task has ended, and a task may take its time.
const SUBMIT_TIMEOUT: Duration = Duration::from_secs(24 * 3_600);

/// As a broker has it, where the task says nothing.
const ATTEMPTS_MAX: u32 = 4;

impl WorkerBuilder {
    /// A client for tests that runs these handlers itself, at once and without a broker: `delay` and `submit` return
    /// when the task has ended, and `get` gives its value or its failure. No connection is made; the URL is not used.
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
    /// A task that fails is run again without a pause, as often as its retry policy says; its `info` has the attempts,
    /// their errors and the newest progress. Its handler may submit tasks itself: they run at once too. An eta or an
    /// expiry is not heeded, and all that concerns queues, workers and dead tasks is refused as `unsupported`; so is a
    /// task for which there is no handler.
    ///
    /// # Panics
    /// Outside a tokio runtime, and where [`Worker::run`](crate::Worker::run) would say that the worker cannot start.
    pub fn eager(self) -> Client {
        if let Some(fault) = self.fault() {
            panic!("the worker cannot start: {fault}");
        }
        let eager = Arc::new(Eager {
            handlers: Arc::new(self.handlers),
            middleware: Arc::new(self.middleware),
            threads: Threads::default(),
            data: Arc::new(self.data),
            latest_lease: AtomicU64::new(0),
            tasks: Mutex::default(),
            changed: Notify::new(),
        });
        let answer = move |connection, body| {
            let eager = eager.clone();
            async move { eager.answer(connection, body).await }
        };
        Client::over(Connection::local(answer)).with_timeout(SUBMIT_TIMEOUT)
    }
}

struct Eager {
    handlers: Arc<Handlers>,
    middleware: Arc<Chain>,
    threads: Threads,
    data: Arc<SharedValues>,
    latest_lease: AtomicU64,
    tasks: Mutex<HashMap<String, TaskInfo>>,
    /// A task has ended.
    changed: Notify,
}

impl Eager {
    fn tasks(&self) -> MutexGuard<'_, HashMap<String, TaskInfo>> {
        self.tasks.lock().expect("no code panics while it holds this lock")
    }

    async fn answer(
        &self,
        connection: Connection,
        body: client_frame::Body,
    ) -> Result<server_frame::Body, wire::Error> {
        match body {
            client_frame::Body::Submit(submit) => {
                let mut outcomes = Vec::with_capacity(submit.tasks.len());
                for task in submit.tasks {
                    let outcome = self.submit(&connection, task).await;
                    outcomes.push(outcome.unwrap_or_else(|error| SubmitOutcome {
                        kind: submit_outcome::Kind::Refused.into(),
                        error: Some(error),
                        ..SubmitOutcome::default()
                    }));
                }
                Ok(server_frame::Body::SubmitReply(wire::SubmitReply { outcomes }))
            }
            client_frame::Body::Get(wire::Get { ids, with_results }) => {
                Ok(server_frame::Body::GetReply(wire::GetReply {
                    tasks: self.look(&ids, with_results),
                    ..Default::default()
                }))
            }
            client_frame::Body::Wait(wait) => Ok(server_frame::Body::WaitReply(self.wait(wait).await)),
            client_frame::Body::Watch(wire::Watch { ids, with_results }) => {
                let tasks = self.look(&ids, with_results);
                Ok(server_frame::Body::WatchReply(wire::WatchReply { watch_id: 1, tasks, ..Default::default() }))
            }
            client_frame::Body::Forget(forget) => {
                let outcomes = forget.ids.iter().map(|id| self.forget(id).into()).collect();
                Ok(server_frame::Body::ForgetReply(wire::ForgetReply { outcomes }))
            }
            _ => Err(error(ErrorCode::Unsupported, "eager mode runs tasks, and has nothing else of a broker")),
        }
    }

    /// How these tasks stand, in order.
    fn look(&self, ids: &[String], with_results: bool) -> Vec<TaskInfo> {
        let tasks = self.tasks();
        let look = |id: &String| {
            let mut info = tasks.get(id).cloned().unwrap_or_else(|| TaskInfo { id: id.clone(), ..TaskInfo::default() });
            if !with_results {
                info.result.clear();
            }
            info
        };
        ids.iter().map(look).collect()
    }

    async fn wait(&self, wait: wire::Wait) -> wire::WaitReply {
        let is_over = |task: &TaskInfo| task.state() == TaskState::Unknown || is_ended(task);
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // Listen before looking: an end in between is not missed.
            changed.as_mut().enable();
            let tasks = self.look(&wait.ids, wait.with_results);
            let satisfied = match wait.mode() {
                wire::wait::Mode::All => tasks.iter().all(is_over),
                wire::wait::Mode::Any => tasks.iter().any(is_over),
            };
            if satisfied {
                return wire::WaitReply { satisfied, tasks, ..Default::default() };
            }
            changed.await;
        }
    }

    fn forget(&self, id: &str) -> ErrorCode {
        let mut tasks = self.tasks();
        match tasks.get(id) {
            None => ErrorCode::NotFound,
            Some(task) if !is_ended(task) => ErrorCode::NotFinished,
            Some(_) => {
                tasks.remove(id);
                ErrorCode::Unspecified
            }
        }
    }

    /// Runs a task to its end, unless one of its id is running.
    async fn submit(&self, connection: &Connection, task: wire::Task) -> Result<SubmitOutcome, wire::Error> {
        if !self.handlers.contains_key(&task.name) {
            return Err(error(ErrorCode::Unsupported, &format!("no handler is registered for `{}`", task.name)));
        }
        let mut generation = 1;
        {
            let mut tasks = self.tasks();
            if let Some(present) = tasks.get(&task.id) {
                match task.on_conflict() {
                    OnConflict::Reject => return Err(error(ErrorCode::TaskExists, "a task of this id exists")),
                    OnConflict::RunAgainIfFinished if !is_ended(present) => {
                        return Ok(outcome(submit_outcome::Kind::Joined, present));
                    }
                    _ => generation = present.generation + 1,
                }
            }
            tasks.insert(task.id.clone(), begun(&task, generation));
        }
        let ended = self.run(connection, &task, generation).await;
        let kind = match generation {
            1 => submit_outcome::Kind::Created,
            _ => submit_outcome::Kind::NewGeneration,
        };
        let outcome = outcome(kind, &ended);
        let mut tasks = self.tasks();
        // One that was replaced while it ran has nothing more to say.
        if tasks.get(&task.id).is_some_and(|present| present.generation == generation) {
            match task.result_ttl_ms {
                Some(0) => drop(tasks.remove(&task.id)),
                _ => drop(tasks.insert(task.id, ended)),
            }
        }
        drop(tasks);
        self.changed.notify_waiters();
        Ok(outcome)
    }

    /// All attempts of a task, one after the other.
    async fn run(&self, connection: &Connection, task: &wire::Task, generation: u32) -> TaskInfo {
        let mut info = begun(task, generation);
        while !is_ended(&info) {
            let leases = Arc::new(Leases::new());
            let client = Client::over(connection.clone()).with_timeout(SUBMIT_TIMEOUT);
            let slot = Slot {
                worker: Arc::new(WorkerSide {
                    leases: leases.clone(),
                    client,
                    threads: self.threads.clone(),
                    data: self.data.clone(),
                }),
                handlers: self.handlers.clone(),
                middleware: self.middleware.clone(),
            };
            info.deliveries += 1;
            leases.deliver(vec![self.delivery(task, &info)]);
            let job = leases.next().await.expect("it was delivered, and nobody closes these leases");
            slot.run_fenced(job).await;
            info.attempts += 1;
            for report in leases.take_batch(usize::MAX, usize::MAX).reports {
                apply(&mut info, report.report);
            }
        }
        info
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

/// A task whose first attempt is about to begin.
fn begun(task: &wire::Task, generation: u32) -> TaskInfo {
    let now_ms = now_ms();
    TaskInfo {
        id: task.id.clone(),
        state: TaskState::Started.into(),
        generation,
        version: 1,
        name: task.name.clone(),
        queue: if task.queue.is_empty() { "default".to_owned() } else { task.queue.clone() },
        shadow: task.shadow.clone(),
        priority: task.priority.unwrap_or(PRIORITY_DEFAULT),
        headers: task.headers.clone(),
        tags: task.tags.clone(),
        root_id: task.root_id.clone(),
        parent_id: task.parent_id.clone(),
        submitted_at_ms: now_ms,
        leased_at_ms: Some(now_ms),
        started_at_ms: Some(now_ms),
        worker: "eager".to_owned(),
        // What is not to begin twice is not tried again either.
        attempts_max: match task.early_ack {
            true => 1,
            false => task.retry.as_ref().and_then(|retry| retry.max_attempts).unwrap_or(ATTEMPTS_MAX),
        },
        ..TaskInfo::default()
    }
}

/// What a broker makes of a report.
fn apply(info: &mut TaskInfo, report: Option<Report>) {
    info.version += 1;
    match report {
        // Each run is counted, whether or not its start is reported.
        Some(Report::Started(_)) => {}
        Some(Report::Progress(progress)) => {
            let state = if progress.state.is_empty() { "PROGRESS".to_owned() } else { progress.state };
            info.progress = Some(wire::Progress { state, meta: progress.meta, at_ms: now_ms() });
        }
        Some(Report::Complete(complete)) => {
            info.result = complete.result;
            info.result_content_type = complete.content_type;
            end(info, TaskState::Success);
        }
        Some(Report::Fail(fail)) => failed(info, fail.error, fail.r#final),
        Some(Report::Retry(retry)) => failed(info, retry.error, false),
        Some(Report::Reject(reject)) => failed(info, reject.error, true),
        // Nothing here takes a run away from its handler.
        Some(Report::Release(_)) | None => {
            info.revoked_reason = "released".to_owned();
            end(info, TaskState::Revoked);
        }
    }
}

fn failed(info: &mut TaskInfo, error: Option<wire::TaskError>, is_final: bool) {
    info.errors.extend(error);
    if is_final || info.attempts >= info.attempts_max {
        end(info, TaskState::Failure);
    }
}

fn end(info: &mut TaskInfo, state: TaskState) {
    info.state = state.into();
    info.finished_at_ms = Some(now_ms());
}

fn is_ended(info: &TaskInfo) -> bool {
    matches!(info.state(), TaskState::Success | TaskState::Failure | TaskState::Revoked)
}

fn outcome(kind: submit_outcome::Kind, info: &TaskInfo) -> SubmitOutcome {
    SubmitOutcome { kind: kind.into(), generation: info.generation, state: info.state, error: None }
}

fn error(code: ErrorCode, message: &str) -> wire::Error {
    wire::Error { code: code.into(), message: message.to_owned(), ..wire::Error::default() }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
