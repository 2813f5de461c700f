//! The operator's calls: queues, listings, dead tasks, workers. Each is one request and its answer,
//! nothing more.

use std::time::Duration;

use bytes::Bytes;
use celeriac_proto::wire::{self, client_frame, server_frame};

use crate::client::{Client, owned};
use crate::error::Error;
use crate::listing::{TaskFilter, TaskPage, WorkerOrder, WorkerStatus};
use crate::queue::{QueueInfo, QueueSettings};

/// A slow disk takes hours for a terabyte.
const BACKUP_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// A backup that is complete and on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Backup {
    /// Tasks that the broker knew when the backup began, ended ones included.
    pub tasks: u64,
    /// Bytes of records that were copied.
    pub bytes: u64,
}

impl Client {
    /// All queues.
    ///
    /// # Errors
    /// As [`crate::connection::Connection::request`], like every call of an operator.
    pub async fn queues(&self) -> Result<Vec<QueueInfo>, Error> {
        self.list_queues(Vec::new()).await
    }

    /// One queue; `None` if it does not exist.
    ///
    /// # Errors
    /// As [`Client::queues`].
    pub async fn queue(&self, name: &str) -> Result<Option<QueueInfo>, Error> {
        match self.list_queues(vec![name.to_owned()]).await {
            Ok(queues) => Ok(queues.into_iter().find(|queue| queue.name == name)),
            Err(Error::Refused { code: wire::ErrorCode::NotFound, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn list_queues(&self, queues: Vec<String>) -> Result<Vec<QueueInfo>, Error> {
        let (mut found, mut cursor) = (Vec::new(), Bytes::new());
        loop {
            let list = wire::ListQueues { queues: queues.clone(), cursor };
            let server_frame::Body::QueueList(page) =
                self.request(client_frame::Body::ListQueues(list)).await?
            else {
                return Err(Error::unexpected("a QueueList"));
            };
            found.extend(page.queues.into_iter().map(QueueInfo::from));
            cursor = page.cursor;
            if cursor.is_empty() {
                return Ok(found);
            }
        }
    }

    /// Creates a queue if need be and replaces its settings.
    ///
    /// # Errors
    /// As [`Client::queues`].
    pub async fn configure_queue(&self, queue: &str, settings: QueueSettings) -> Result<(), Error> {
        let settings = Some(settings.to_wire());
        let configure = wire::ConfigureQueue { queue: queue.to_owned(), settings };
        self.order(client_frame::Body::ConfigureQueue(configure)).await
    }

    /// Delivers nothing from these queues until they are resumed, over restarts too. Running tasks
    /// go on.
    ///
    /// # Errors
    /// As [`Client::queues`].
    pub async fn pause_queues(&self, queues: &[impl AsRef<str>]) -> Result<(), Error> {
        let pause = wire::PauseQueues { queues: owned(queues), paused: true };
        self.order(client_frame::Body::PauseQueues(pause)).await
    }

    /// Delivers from these queues again.
    ///
    /// # Errors
    /// As [`Client::queues`].
    pub async fn resume_queues(&self, queues: &[impl AsRef<str>]) -> Result<(), Error> {
        let resume = wire::PauseQueues { queues: owned(queues), paused: false };
        self.order(client_frame::Body::PauseQueues(resume)).await
    }

    /// Revokes every waiting task of a queue and says how many.
    ///
    /// # Errors
    /// As [`Client::queues`]. Never sent twice: [`Error::Interrupted`] if the connection breaks
    /// before the answer.
    pub async fn purge_queue(&self, queue: &str) -> Result<u64, Error> {
        self.count(client_frame::Body::PurgeQueue(wire::PurgeQueue { queue: queue.to_owned() }))
            .await
    }

    /// Purges a queue, drops its settings, and says how many tasks were revoked. Refused while
    /// tasks are leased.
    ///
    /// # Errors
    /// As [`Client::purge_queue`].
    pub async fn delete_queue(&self, queue: &str) -> Result<u64, Error> {
        self.count(client_frame::Body::DeleteQueue(wire::DeleteQueue { queue: queue.to_owned() }))
            .await
    }

    /// A page of tasks: up to `limit`, from the beginning or from the cursor of the page before. A
    /// page ends earlier where it is full. Without the tracebacks of errors.
    ///
    /// # Errors
    /// As [`Client::queues`].
    pub async fn tasks(
        &self,
        filter: TaskFilter,
        limit: u32,
        cursor: Option<Bytes>,
    ) -> Result<TaskPage, Error> {
        self.list_tasks(filter, limit, cursor, false).await
    }

    /// As [`Client::tasks`], with the tracebacks.
    ///
    /// # Errors
    /// As [`Client::queues`].
    pub async fn tasks_with_tracebacks(
        &self,
        filter: TaskFilter,
        limit: u32,
        cursor: Option<Bytes>,
    ) -> Result<TaskPage, Error> {
        self.list_tasks(filter, limit, cursor, true).await
    }

    async fn list_tasks(
        &self,
        filter: TaskFilter,
        limit: u32,
        cursor: Option<Bytes>,
        with_tracebacks: bool,
    ) -> Result<TaskPage, Error> {
        let filter = Some(filter.into_wire());
        let list =
            wire::ListTasks { filter, limit, cursor: cursor.unwrap_or_default(), with_tracebacks };
        match self.request(client_frame::Body::ListTasks(list)).await? {
            server_frame::Body::TaskPage(page) => Ok(page.into()),
            _ => Err(Error::unexpected("a TaskPage")),
        }
    }

    /// Runs these dead tasks again and says how many were found.
    ///
    /// # Errors
    /// As [`Client::purge_queue`].
    pub async fn replay_dead(&self, ids: &[impl AsRef<str>]) -> Result<u64, Error> {
        self.count(client_frame::Body::ReplayDead(wire::ReplayDead {
            ids: owned(ids),
            filter: None,
        }))
        .await
    }

    /// Runs the dead tasks that match again.
    ///
    /// # Errors
    /// As [`Client::purge_queue`].
    pub async fn replay_dead_matching(&self, filter: TaskFilter) -> Result<u64, Error> {
        let replay = wire::ReplayDead { ids: Vec::new(), filter: Some(filter.into_wire()) };
        self.count(client_frame::Body::ReplayDead(replay)).await
    }

    /// Drops these dead tasks and says how many were found.
    ///
    /// # Errors
    /// As [`Client::purge_queue`].
    pub async fn discard_dead(&self, ids: &[impl AsRef<str>]) -> Result<u64, Error> {
        self.count(client_frame::Body::DiscardDead(wire::DiscardDead {
            ids: owned(ids),
            ..Default::default()
        }))
        .await
    }

    /// Drops the dead tasks that match. A filter that says nothing is refused: see
    /// [`Client::discard_all_dead`].
    ///
    /// # Errors
    /// As [`Client::purge_queue`].
    pub async fn discard_dead_matching(&self, filter: TaskFilter) -> Result<u64, Error> {
        let discard = wire::DiscardDead { filter: Some(filter.into_wire()), ..Default::default() };
        self.count(client_frame::Body::DiscardDead(discard)).await
    }

    /// Drops all dead tasks.
    ///
    /// # Errors
    /// As [`Client::purge_queue`].
    pub async fn discard_all_dead(&self) -> Result<u64, Error> {
        self.count(client_frame::Body::DiscardDead(wire::DiscardDead {
            all: true,
            ..Default::default()
        }))
        .await
    }

    /// All workers, those included whose connection is lost for the moment.
    ///
    /// # Errors
    /// As [`Client::queues`].
    pub async fn workers(&self) -> Result<Vec<WorkerStatus>, Error> {
        let (mut found, mut cursor) = (Vec::new(), Bytes::new());
        loop {
            let list = wire::ListWorkers { cursor, with_tracebacks: false };
            let server_frame::Body::WorkerList(page) =
                self.request(client_frame::Body::ListWorkers(list)).await?
            else {
                return Err(Error::unexpected("a WorkerList"));
            };
            found.extend(page.workers.into_iter().map(WorkerStatus::from));
            cursor = page.cursor;
            if cursor.is_empty() {
                return Ok(found);
            }
        }
    }

    /// Gives workers an order; no ids: all of them.
    ///
    /// # Errors
    /// As [`Client::queues`].
    pub async fn order_workers(
        &self,
        instance_ids: &[impl AsRef<str>],
        order: WorkerOrder,
    ) -> Result<(), Error> {
        let order =
            wire::OrderWorkers { instance_ids: owned(instance_ids), order: order.to_wire().into() };
        self.order(client_frame::Body::OrderWorkers(order)).await
    }

    /// Has the broker copy what it stores into a new folder on its own machine, while it serves. A
    /// broker started on the copy has everything that was confirmed before this call. `folder`
    /// is an absolute path there; it must not exist, or be empty.
    ///
    /// # Errors
    /// As [`Client::purge_queue`]. The copying itself may take up to a day; the client's timeout
    /// does not count.
    pub async fn backup(&self, folder: impl Into<String>) -> Result<Backup, Error> {
        let body = client_frame::Body::Backup(wire::Backup { folder: folder.into() });
        match self.connection.request(body, BACKUP_TIMEOUT).await? {
            server_frame::Body::BackupReply(reply) => {
                Ok(Backup { tasks: reply.tasks, bytes: reply.bytes })
            }
            _ => Err(Error::unexpected("a BackupReply")),
        }
    }

    /// A request whose answer says nothing of interest: `Done`, or how many were concerned.
    async fn order(&self, body: client_frame::Body) -> Result<(), Error> {
        match self.request(body).await? {
            server_frame::Body::Done(_) | server_frame::Body::CountReply(_) => Ok(()),
            _ => Err(Error::unexpected("Done")),
        }
    }

    async fn count(&self, body: client_frame::Body) -> Result<u64, Error> {
        match self.request(body).await? {
            server_frame::Body::CountReply(reply) => Ok(reply.count),
            _ => Err(Error::unexpected("a CountReply")),
        }
    }
}
