//! A program's door to the broker: submit tasks, ask for states and results, wait, watch, cancel,
//! forget. The operator's calls are in `admin`; how the connection keeps itself alive is told in
//! `connection`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use celeriac_proto::wire::{self, ErrorCode, client_frame, server_frame};
use serde::de::DeserializeOwned;

use crate::apply::ApplyAsync;
use crate::args::IntoArgs;
use crate::connection::{Connection, ConnectionOptions, Connector};
use crate::error::{Error, Refusal};
use crate::getting;
use crate::handle::TaskHandle;
use crate::info::{TaskInfo, span_ms};
use crate::submission::{Lineage, Submission, Submitted};
use crate::submitting::{submit_all, submit_one};
use crate::task::TaskDefinition;
use crate::url::BrokerUrl;
use crate::watch::Watch;

/// How long a request may take unless the builder says otherwise, reconnects included.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// Ids in one request; more are sent in several.
const IDS_PER_REQUEST: usize = 1_000;

/// A client of one broker. Cheap to clone; all clones use one connection, which heals itself.
#[derive(Clone)]
pub struct Client {
    pub(crate) connection: Connection,
    pub(crate) timeout: Duration,
    lineage: Option<Arc<Lineage>>,
}

/// Options for connecting. Made by [`Client::builder`].
#[derive(Clone)]
#[must_use = "nothing is connected before `connect`"]
pub struct ClientBuilder {
    url: String,
    instance: Option<String>,
    timeout: Duration,
    options: ConnectionOptions,
}

impl ClientBuilder {
    /// Names this program in the broker's logs and listings. By default made from the process id.
    pub fn instance(mut self, name: impl Into<String>) -> Self {
        self.instance = Some(name.into());
        self
    }

    /// How long one request may take, reconnects included; 30 s by default. Waiting for a task has
    /// its own time.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How long one attempt to connect may take; 5 s by default.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.options.connect_timeout = timeout;
        self
    }

    /// Keeps trying to connect for so long, instead of failing when the first attempt does: for
    /// programs that are started together with their broker.
    pub fn wait_for_broker(mut self, span: Duration) -> Self {
        self.options.connect_wait = Some(span);
        self
    }

    /// How often to send heartbeats; by default the broker says.
    pub fn heartbeat(mut self, every: Duration) -> Self {
        self.options.heartbeat = Some(every);
        self
    }

    /// Opens byte streams with this in place of TCP.
    pub fn connector(mut self, connector: Connector) -> Self {
        self.options.connector = Some(connector);
        self
    }

    /// Connects.
    ///
    /// # Errors
    /// [`Error::Url`], [`Error::Connect`] when nobody answers, [`Error::Handshake`] when the broker
    /// refuses.
    pub async fn connect(self) -> Result<Client, Error> {
        let url: BrokerUrl = self.url.parse()?;
        let mut options = self.options;
        options.address = url.address();
        options.token = url.token().to_owned();
        if let Some(instance) = self.instance {
            options.instance_id = instance;
        }
        // A client is sent nothing that its watches do not take.
        let (connection, _events) = Connection::open(options).await?;
        Ok(Client::over(connection).with_timeout(self.timeout))
    }
}

impl Client {
    /// Connects to `celeriac://[token@]host[:port]`.
    ///
    /// # Errors
    /// As [`ClientBuilder::connect`].
    pub async fn connect(url: &str) -> Result<Self, Error> {
        Self::builder(url).connect().await
    }

    /// Connects with options.
    pub fn builder(url: impl Into<String>) -> ClientBuilder {
        let options = ConnectionOptions::new("");
        ClientBuilder { url: url.into(), instance: None, timeout: TIMEOUT_DEFAULT, options }
    }

    /// A client on a connection that is open already, as a worker has one.
    pub fn over(connection: Connection) -> Self {
        Self { connection, timeout: TIMEOUT_DEFAULT, lineage: None }
    }

    /// The same client with another time for each request.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The same client for a handler's use: what it submits names this root and this parent, unless
    /// told otherwise.
    pub fn with_lineage(
        mut self,
        root_id: impl Into<String>,
        parent_id: impl Into<String>,
    ) -> Self {
        self.lineage =
            Some(Arc::new(Lineage { root_id: root_id.into(), parent_id: parent_id.into() }));
        self
    }

    /// The connection beneath.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Submits a task with its defaults.
    ///
    /// # Errors
    /// [`Error::Encode`] for arguments that are no tuple or cannot be JSON; otherwise as
    /// [`Client::submit`].
    pub async fn delay<D: TaskDefinition>(
        &self,
        task: &D,
        args: impl IntoArgs<D::Args>,
    ) -> Result<TaskHandle<D::Output>, Error> {
        self.apply_async(task, args).send().await
    }

    /// Begins a submit with options; [`ApplyAsync::send`] ends it.
    pub fn apply_async<D: TaskDefinition>(
        &self,
        task: &D,
        args: impl IntoArgs<D::Args>,
    ) -> ApplyAsync<D::Output> {
        ApplyAsync::new(self.clone(), task, &args.into_args())
    }

    /// Submits one task by name.
    ///
    /// # Errors
    /// [`Error::Refused`] when the broker, or a check in this crate, says no; otherwise as
    /// [`Connection::request`]. After [`Error::Timeout`] the task may exist: submit a clone of the
    /// same submission.
    pub async fn submit<T>(&self, submission: Submission) -> Result<TaskHandle<T>, Error> {
        let payload_bytes_max = self.connection.limits().payload_bytes_max;
        let item = submission.into_wire(self.lineage.as_ref(), payload_bytes_max);
        let submitted = submit_one(&self.connection, item, self.timeout).await?;
        Ok(TaskHandle::submitted(self.clone(), submitted))
    }

    /// Submits many tasks at once, each with its own outcome, in order. Lists longer than the
    /// broker takes in one request are sent in several.
    ///
    /// # Errors
    /// Only when nothing of it could be done. If some requests of a long list fail, their items are
    /// refused as `deadline_exceeded` and the like.
    pub async fn submit_many(
        &self,
        submissions: impl IntoIterator<Item = Submission>,
    ) -> Result<Vec<Result<Submitted, Refusal>>, Error> {
        let payload_bytes_max = self.connection.limits().payload_bytes_max;
        let lineage = self.lineage.as_ref();
        let items = submissions
            .into_iter()
            .map(|submission| submission.into_wire(lineage, payload_bytes_max))
            .collect();
        submit_all(&self.connection, items, self.timeout).await
    }

    /// A handle on any task, of this program or another, by its id. Nothing is asked yet.
    pub fn result<T>(&self, id: impl Into<String>) -> TaskHandle<T> {
        TaskHandle::new(self.clone(), id.into())
    }

    /// What the broker knows of these tasks, in order, without their results.
    ///
    /// # Errors
    /// As [`Connection::request`]. An id that does not exist is no error but
    /// [`crate::State::Unknown`].
    pub async fn info(&self, ids: &[impl AsRef<str>]) -> Result<Vec<TaskInfo>, Error> {
        self.get(ids, false).await
    }

    /// As [`Client::info`], with the results of those that ended as Success.
    ///
    /// # Errors
    /// As [`Client::info`].
    pub async fn info_with_results(&self, ids: &[impl AsRef<str>]) -> Result<Vec<TaskInfo>, Error> {
        self.get(ids, true).await
    }

    async fn get(
        &self,
        ids: &[impl AsRef<str>],
        with_results: bool,
    ) -> Result<Vec<TaskInfo>, Error> {
        let mut tasks = Vec::with_capacity(ids.len());
        for ids in ids.chunks(self.ids_per_request()) {
            let some =
                getting::get(&self.connection, owned(ids), with_results, self.timeout).await?;
            tasks.extend(some.into_iter().map(TaskInfo::from));
        }
        Ok(tasks)
    }

    /// The present state of these tasks and then every transition, for ids that do not exist yet
    /// too. Without results.
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

    /// Drops ended tasks and their results before their time. One outcome per id: `Err(NotFound)`
    /// for one that does not exist, `Err(NotFinished)` for one that has not ended,
    /// `Err(Unspecified)` for a reason that this crate does not know.
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
                // One of a later broker: a refusal all the same.
                Err(_) => Err(ErrorCode::Unspecified),
            }));
        }
        Ok(outcomes)
    }

    /// Cancels tasks: waiting ones never start, running ones are told. One outcome per id.
    ///
    /// # Errors
    /// As [`Connection::request`].
    pub async fn cancel(
        &self,
        ids: &[impl AsRef<str>],
        mode: CancelMode,
    ) -> Result<Vec<Cancelled>, Error> {
        let mut outcomes = Vec::with_capacity(ids.len());
        for ids in ids.chunks(self.ids_per_request()) {
            outcomes.extend(
                self.send_cancel(wire::Cancel { ids: owned(ids), ..Default::default() }, mode)
                    .await?,
            );
        }
        Ok(outcomes)
    }

    /// Cancels every task of a tree, by the id of its root.
    ///
    /// # Errors
    /// As [`Connection::request`].
    pub async fn cancel_tree(
        &self,
        root_id: impl Into<String>,
        mode: CancelMode,
    ) -> Result<Vec<Cancelled>, Error> {
        self.send_cancel(wire::Cancel { root_id: root_id.into(), ..Default::default() }, mode).await
    }

    /// Cancels every task with a tag.
    ///
    /// # Errors
    /// As [`Connection::request`].
    pub async fn cancel_tagged(
        &self,
        tag: impl Into<String>,
        mode: CancelMode,
    ) -> Result<Vec<Cancelled>, Error> {
        self.send_cancel(wire::Cancel { tag: tag.into(), ..Default::default() }, mode).await
    }

    async fn send_cancel(
        &self,
        mut cancel: wire::Cancel,
        mode: CancelMode,
    ) -> Result<Vec<Cancelled>, Error> {
        if let CancelMode::Force { grace } = mode {
            cancel.mode = wire::cancel::Mode::Force.into();
            cancel.grace_ms = grace.map(span_ms);
        }
        match self.request(client_frame::Body::Cancel(cancel)).await? {
            server_frame::Body::CancelReply(reply) => {
                Ok(reply.outcomes.into_iter().map(Cancelled::from).collect())
            }
            _ => Err(Error::unexpected("a CancelReply")),
        }
    }

    /// Waits for the answers of what is under way, at most 5 s, and closes the connection, for all
    /// clones of this client. Later calls fail with [`Error::Closed`].
    pub async fn close(&self) {
        self.connection.close(Duration::from_secs(5)).await;
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

    /// Waits for one task and takes its output.
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

/// What happens to a task that is cancelled while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum CancelMode {
    /// Its handler is told, and may finish as it likes.
    #[default]
    Cooperative,
    /// The worker drops the handler; after the grace the broker revokes the task in any case.
    Force {
        /// 10 s by default.
        grace: Option<Duration>,
    },
}

/// What a cancel did to one task.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cancelled {
    /// The task.
    pub id: String,
    /// What was done.
    pub outcome: CancelOutcome,
}

/// See [`Cancelled`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CancelOutcome {
    /// It waited, and will never start.
    Revoked,
    /// It runs; its worker was told.
    Signalled,
    /// There was nothing left to cancel.
    AlreadyEnded,
    /// No such task.
    NotFound,
}

impl From<wire::CancelOutcome> for Cancelled {
    fn from(cancelled: wire::CancelOutcome) -> Self {
        use wire::cancel_outcome::Kind;
        let outcome = match cancelled.kind() {
            Kind::Revoked => CancelOutcome::Revoked,
            Kind::Signalled => CancelOutcome::Signalled,
            Kind::AlreadyEnded => CancelOutcome::AlreadyEnded,
            Kind::NotFound | Kind::Unspecified => CancelOutcome::NotFound,
        };
        Self { id: cancelled.id, outcome }
    }
}
