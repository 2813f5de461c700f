//! A program's access to the broker: connect, submit tasks, ask for states and results, watch,
//! forget. `wait` has the waiting, `cancel` the cancelling and `admin` an operator's calls.
//! `connection` keeps the connection alive.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use celeriac_proto::wire::{self, ErrorCode, client_frame, server_frame};
use serde::de::DeserializeOwned;

use crate::apply::ApplyAsync;
use crate::args::IntoArgs;
use crate::batches::{submit_all, submit_one};
use crate::builder::{ClientBuilder, TIMEOUT_DEFAULT};
use crate::connection::Connection;
use crate::error::{Error, Refusal};
use crate::getting::{self, With};
use crate::handle::TaskHandle;
use crate::info::TaskInfo;
use crate::submission::{Lineage, Submission, Submitted};
use crate::task::TaskDefinition;
use crate::watch::Watch;

/// The most ids of one request. Longer lists are sent in several requests.
const IDS_PER_REQUEST: usize = 1_000;

/// How long [`Client::close`] waits for answers.
const CLOSE_TIME: Duration = Duration::from_secs(5);

/// A client of one broker. A clone is cheap and uses the same connection. When the connection
/// breaks, the client connects again by itself.
///
/// ```no_run
/// use std::time::Duration;
///
/// use celeriac_client::{Client, Task};
///
/// const ADD: Task<(i64, i64), i64> = Task::new("sums.add");
///
/// # async fn example() -> Result<(), celeriac_client::Error> {
/// let client = Client::connect("celeriac://token@127.0.0.1:23537").await?;
/// let sum = client.delay(&ADD, (1, 2)).await?.get(Duration::from_secs(10)).await?;
/// client.close().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Client {
    pub(crate) connection: Connection,
    pub(crate) timeout: Duration,
    lineage: Option<Arc<Lineage>>,
}

impl Client {
    /// Connects to the broker at `celeriac://[token@]host[:port]`, or with TLS at
    /// `celeriacs://[token@]host[:port]`, with the default options.
    ///
    /// # Errors
    /// As [`ClientBuilder::connect`].
    pub async fn connect(url: &str) -> Result<Self, Error> {
        Self::builder(url).connect().await
    }

    /// Begins a client of the broker at `url`; [`ClientBuilder::connect`] connects it. The URL is
    /// checked then.
    pub fn builder(url: impl Into<String>) -> ClientBuilder {
        ClientBuilder::new(url.into())
    }

    /// A client on an open connection, such as the connection of a worker.
    pub fn over(connection: Connection) -> Self {
        Self { connection, timeout: TIMEOUT_DEFAULT, lineage: None }
    }

    /// The same client with another time limit for each request. Clones that exist keep theirs.
    ///
    /// ```no_run
    /// # async fn example(client: celeriac_client::Client) -> Result<(), celeriac_client::Error> {
    /// use std::time::Duration;
    ///
    /// // A health check must be fast, even while the client reconnects.
    /// let fast = client.clone().with_timeout(Duration::from_millis(500));
    /// fast.queues().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The same client for use in a handler: each task that it submits gets this root and this
    /// parent, unless its options set others. A worker's context has such a client.
    ///
    /// ```no_run
    /// # async fn example(client: celeriac_client::Client) -> Result<(), celeriac_client::Error> {
    /// use celeriac_client::Submission;
    ///
    /// let client = client.with_lineage("import-1", "import-1");
    /// client.submit::<()>(Submission::new("import.page").args((1,))).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn with_lineage(
        mut self,
        root_id: impl Into<String>,
        parent_id: impl Into<String>,
    ) -> Self {
        self.lineage =
            Some(Arc::new(Lineage { root_id: root_id.into(), parent_id: parent_id.into() }));
        self
    }

    /// The connection of this client.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Submits a task with the options of its definition. When this returns `Ok`, the broker has
    /// stored the task.
    ///
    /// ```no_run
    /// # async fn example(client: celeriac_client::Client) -> Result<(), celeriac_client::Error> {
    /// use celeriac_client::Task;
    ///
    /// const ADD: Task<(i64, i64), i64> = Task::new("sums.add");
    ///
    /// let handle = client.delay(&ADD, (1, 2)).await?;
    /// println!("submitted as {}", handle.id());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Encode`] for arguments that are no tuple or that JSON cannot represent. All other
    /// errors are those of [`Client::submit`].
    pub async fn delay<D: TaskDefinition>(
        &self,
        task: &D,
        args: impl IntoArgs<D::Args>,
    ) -> Result<TaskHandle<D::Output>, Error> {
        self.apply_async(task, args).send().await
    }

    /// Begins a submit whose options differ from those of the definition; [`ApplyAsync::send`]
    /// sends it.
    ///
    /// ```no_run
    /// # async fn example(client: celeriac_client::Client) -> Result<(), celeriac_client::Error> {
    /// use std::time::Duration;
    ///
    /// use celeriac_client::Task;
    ///
    /// const ADD: Task<(i64, i64), i64> = Task::new("sums.add");
    ///
    /// let in_a_minute = client.apply_async(&ADD, (1, 2)).countdown(Duration::from_secs(60));
    /// let handle = in_a_minute.send().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn apply_async<D: TaskDefinition>(
        &self,
        task: &D,
        args: impl IntoArgs<D::Args>,
    ) -> ApplyAsync<D::Output> {
        ApplyAsync::call(self.clone(), task, &args.into_args())
    }

    /// Submits one task by name. `T` is the type of its output; use [`serde_json::Value`] when it
    /// is not known.
    ///
    /// ```no_run
    /// # async fn example(client: celeriac_client::Client) -> Result<(), celeriac_client::Error> {
    /// use celeriac_client::Submission;
    ///
    /// let handle = client.submit::<i64>(Submission::new("sums.add").args((1, 2))).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Refused`] when the broker, or a check of its limits in this client, refuses the
    /// task. All other errors are those of [`Connection::request`]. After [`Error::Timeout`] the
    /// task may exist: submit a clone of the same submission.
    pub async fn submit<T>(&self, submission: Submission) -> Result<TaskHandle<T>, Error> {
        let payload_bytes_max = self.connection.limits().payload_bytes_max;
        let item = submission.into_checked(self.lineage.as_ref(), payload_bytes_max);
        let submitted = submit_one(&self.connection, item, self.timeout).await?;
        Ok(TaskHandle::submitted(self.clone(), submitted))
    }

    /// Submits many tasks at once. The answer has one outcome for each submission, in order: one
    /// refused task does not affect the others. A list that is longer than one request allows is
    /// sent in several requests.
    ///
    /// ```no_run
    /// # async fn example(client: celeriac_client::Client) -> Result<(), celeriac_client::Error> {
    /// use celeriac_client::Submission;
    ///
    /// let sums = (0..1_000).map(|n| Submission::new("sums.add").args((n, 1)));
    /// for outcome in client.submit_many(sums).await? {
    ///     match outcome {
    ///         Ok(submitted) => println!("{} {:?}", submitted.id, submitted.kind),
    ///         Err(refusal) => eprintln!("{refusal}"),
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Only when every request failed. When some requests of a long list fail, their tasks have an
    /// outcome such as `deadline_exceeded`.
    pub async fn submit_many(
        &self,
        submissions: impl IntoIterator<Item = Submission>,
    ) -> Result<Vec<Result<Submitted, Refusal>>, Error> {
        let payload_bytes_max = self.connection.limits().payload_bytes_max;
        let lineage = self.lineage.as_ref();
        let items = submissions
            .into_iter()
            .map(|submission| submission.into_checked(lineage, payload_bytes_max))
            .collect();
        submit_all(&self.connection, items, self.timeout).await
    }

    /// A handle on a task of any program, by the task's id. This call sends nothing; the handle's
    /// calls report an id that does not exist. `T` is the type of the task's output.
    ///
    /// ```no_run
    /// # async fn example(client: celeriac_client::Client) -> Result<(), celeriac_client::Error> {
    /// use std::time::Duration;
    ///
    /// let sum = client.result::<i64>("sum-4711").get(Duration::from_secs(10)).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn result<T>(&self, id: impl Into<String>) -> TaskHandle<T> {
        TaskHandle::new(self.clone(), id.into())
    }

    /// What the broker knows of these tasks, in the order of the ids, without their results.
    ///
    /// ```no_run
    /// # async fn example(client: celeriac_client::Client) -> Result<(), celeriac_client::Error> {
    /// for task in client.info(&["a", "b"]).await? {
    ///     println!("{} is {}", task.id, task.state);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Connection::request`]. An id that does not exist is no error: its state is
    /// [`crate::State::Unknown`].
    pub async fn info(&self, ids: &[impl AsRef<str>]) -> Result<Vec<TaskInfo>, Error> {
        self.get(ids, With::Nothing).await
    }

    /// As [`Client::info`], with the results of those tasks that ended as Success.
    ///
    /// ```no_run
    /// # async fn example(client: celeriac_client::Client) -> Result<(), celeriac_client::Error> {
    /// for task in client.info_with_results(&["a", "b"]).await? {
    ///     match task.output::<u64>() {
    ///         Ok(sum) => println!("{}: {sum}", task.id),
    ///         Err(error) => println!("{error}"),
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Client::info`].
    pub async fn info_with_results(&self, ids: &[impl AsRef<str>]) -> Result<Vec<TaskInfo>, Error> {
        self.get(ids, With::Results).await
    }

    /// As [`Client::info`], with the payloads as they were submitted: see [`TaskInfo::payload`].
    ///
    /// # Errors
    /// As [`Client::info`].
    pub async fn info_with_payloads(
        &self,
        ids: &[impl AsRef<str>],
    ) -> Result<Vec<TaskInfo>, Error> {
        self.get(ids, With::Payloads).await
    }

    async fn get(&self, ids: &[impl AsRef<str>], with: With) -> Result<Vec<TaskInfo>, Error> {
        let mut tasks = Vec::with_capacity(ids.len());
        for ids in ids.chunks(self.ids_per_request()) {
            let some = getting::get(&self.connection, owned(ids), with, self.timeout).await?;
            tasks.extend(some.into_iter().map(TaskInfo::from));
        }
        Ok(tasks)
    }

    /// Watches tasks: the stream begins with their present states, and then has every transition.
    /// An id that does not exist yet can be watched too. The stream has no results.
    ///
    /// ```no_run
    /// # async fn example(client: celeriac_client::Client) -> Result<(), celeriac_client::Error> {
    /// let mut watch = client.watch(&["a", "b"]).await?;
    /// while let Some(task) = watch.next().await {
    ///     println!("{} is {}", task.id, task.state);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Connection::request`].
    pub async fn watch(&self, ids: &[impl AsRef<str>]) -> Result<Watch, Error> {
        Watch::begin(self, ids, false).await
    }

    /// As [`Client::watch`]; a transition to Success carries the result.
    ///
    /// # Errors
    /// As [`Connection::request`].
    pub async fn watch_with_results(&self, ids: &[impl AsRef<str>]) -> Result<Watch, Error> {
        Watch::begin(self, ids, true).await
    }

    /// Drops ended tasks and their results before their `result_ttl` is over. The answer has one
    /// outcome for each id: `Err(NotFound)` when the task does not exist, `Err(NotFinished)` when
    /// it has not ended, `Err(Unspecified)` for a reason that this crate does not know.
    ///
    /// ```no_run
    /// # async fn example(client: celeriac_client::Client) -> Result<(), celeriac_client::Error> {
    /// let ids = ["a", "b"];
    /// for (id, outcome) in ids.iter().zip(client.forget(&ids).await?) {
    ///     if let Err(code) = outcome {
    ///         println!("{id} was not dropped: {code:?}");
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Connection::request`].
    pub async fn forget(
        &self,
        ids: &[impl AsRef<str>],
    ) -> Result<Vec<Result<(), ErrorCode>>, Error> {
        let mut outcomes = Vec::with_capacity(ids.len());
        for ids in ids.chunks(self.ids_per_request()) {
            let body = client_frame::Body::Forget(wire::Forget { ids: owned(ids) });
            let server_frame::Body::ForgetReply(reply) = self.request(body).await? else {
                return Err(Error::unexpected("a ForgetReply"));
            };
            outcomes.extend(reply.outcomes.iter().map(|code| match ErrorCode::try_from(*code) {
                Ok(ErrorCode::Unspecified) => Ok(()),
                Ok(code) => Err(code),
                // A code of a later broker is a refusal too.
                Err(_) => Err(ErrorCode::Unspecified),
            }));
        }
        Ok(outcomes)
    }

    /// Waits at most 5 s for the answers to unanswered requests, and closes the connection for all
    /// clones of this client. Later calls fail with [`Error::Closed`].
    pub async fn close(&self) {
        self.connection.close(CLOSE_TIME).await;
    }

    pub(crate) async fn request(
        &self,
        body: client_frame::Body,
    ) -> Result<server_frame::Body, Error> {
        self.connection.request(body, self.timeout).await
    }

    pub(crate) fn ids_per_request(&self) -> usize {
        (self.connection.limits().batch_items_max as usize).clamp(1, IDS_PER_REQUEST)
    }

    /// Waits for one task and decodes its output.
    pub(crate) async fn output<T: DeserializeOwned>(
        &self,
        id: &str,
        timeout: Duration,
    ) -> Result<T, Error> {
        self.wait_for_end(id, timeout).await?.output()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("connection", &self.connection).finish_non_exhaustive()
    }
}

pub(crate) fn owned(ids: &[impl AsRef<str>]) -> Vec<String> {
    ids.iter().map(|id| id.as_ref().to_owned()).collect()
}
