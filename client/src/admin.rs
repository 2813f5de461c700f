//! The calls of an operator: the broker itself, queues, listings, dead tasks, workers, backups. A
//! listing of queues or workers asks for page after page; every other call is one request and its
//! answer.

use std::time::Duration;

use bytes::Bytes;
use celeriac_proto::wire::{self, client_frame, server_frame};

use crate::broker::BrokerInfo;
use crate::client::{Client, owned};
use crate::error::Error;
use crate::listing::{TaskFilter, TaskPage, WorkerOrder, WorkerStatus};
use crate::queue::{QueueInfo, QueueSettings};

/// How long a backup may take: a slow disk needs hours for a terabyte.
const BACKUP_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// A backup that is complete and durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Backup {
    /// The number of tasks that the broker knew when the backup began, ended tasks included.
    pub tasks: u64,
    /// The bytes of the records that were copied.
    pub bytes: u64,
}

impl Client {
    /// The broker itself: its version, what it holds, how full its disk is, and its limits.
    ///
    /// ```no_run
    /// # async fn example(client: celeriac_client::Client) -> Result<(), celeriac_client::Error> {
    /// let broker = client.broker_info().await?;
    /// println!("{} of {} connections", broker.connections, broker.connections_max);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Refused`] with [`ErrorCode::Unsupported`](crate::ErrorCode::Unsupported) when the
    /// broker is older than this request; otherwise as [`Client::queues`].
    pub async fn broker_info(&self) -> Result<BrokerInfo, Error> {
        match self.request(client_frame::Body::Info(wire::Info {})).await? {
            server_frame::Body::BrokerInfo(info) => Ok(info.into()),
            _ => Err(Error::unexpected("a BrokerInfo")),
        }
    }

    /// All queues, with their contents and settings.
    ///
    /// # Errors
    /// As [`Connection::request`](crate::connection::Connection::request), like every call of an
    /// operator.
    pub async fn queues(&self) -> Result<Vec<QueueInfo>, Error> {
        self.list_queues(Vec::new()).await
    }

    /// One queue; `None` if it does not exist.
    ///
    /// ```no_run
    /// # async fn example(client: celeriac_client::Client) -> Result<(), celeriac_client::Error> {
    /// if let Some(queue) = client.queue("songs").await? {
    ///     println!("{} ready, {} leased, {} dead", queue.ready, queue.leased, queue.dead);
    /// }
    /// # Ok(())
    /// # }
    /// ```
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

    /// Replaces all settings of a queue. Creates the queue if it does not exist.
    ///
    /// ```no_run
    /// # async fn example(client: celeriac_client::Client) -> Result<(), celeriac_client::Error> {
    /// use celeriac_client::QueueSettings;
    ///
    /// let settings = QueueSettings { tasks_max: Some(10_000), ..QueueSettings::default() };
    /// client.configure_queue("songs", settings).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Client::queues`].
    pub async fn configure_queue(&self, queue: &str, settings: QueueSettings) -> Result<(), Error> {
        let settings = Some(settings.to_wire());
        let configure = wire::ConfigureQueue { queue: queue.to_owned(), settings };
        self.order(client_frame::Body::ConfigureQueue(configure)).await
    }

    /// Pauses queues: the broker delivers nothing from them until they are resumed, over restarts
    /// too. Running tasks go on. Submits are still accepted.
    ///
    /// ```no_run
    /// # async fn example(client: celeriac_client::Client) -> Result<(), celeriac_client::Error> {
    /// client.pause_queues(&["songs"]).await?;
    /// // Change what the tasks depend on.
    /// client.resume_queues(&["songs"]).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Client::queues`].
    pub async fn pause_queues(&self, queues: &[impl AsRef<str>]) -> Result<(), Error> {
        self.set_paused(queues, true).await
    }

    /// Resumes queues: the broker delivers from them again.
    ///
    /// # Errors
    /// As [`Client::queues`].
    pub async fn resume_queues(&self, queues: &[impl AsRef<str>]) -> Result<(), Error> {
        self.set_paused(queues, false).await
    }

    async fn set_paused(&self, queues: &[impl AsRef<str>], paused: bool) -> Result<(), Error> {
        for queues in queues.chunks(self.ids_per_request()) {
            let pause = wire::PauseQueues { queues: owned(queues), paused };
            self.order(client_frame::Body::PauseQueues(pause)).await?;
        }
        Ok(())
    }

    /// Revokes every waiting task of a queue, and returns how many they were. Leased tasks go on.
    ///
    /// # Errors
    /// As [`Client::queues`]. The client never sends this request twice: the call ends with
    /// [`Error::Interrupted`] if the connection breaks before the answer.
    pub async fn purge_queue(&self, queue: &str) -> Result<u64, Error> {
        self.count(client_frame::Body::PurgeQueue(wire::PurgeQueue { queue: queue.to_owned() }))
            .await
    }

    /// Purges a queue and drops its settings, and returns how many tasks were revoked. The broker
    /// refuses this while tasks of the queue are leased.
    ///
    /// # Errors
    /// As [`Client::purge_queue`].
    pub async fn delete_queue(&self, queue: &str) -> Result<u64, Error> {
        self.count(client_frame::Body::DeleteQueue(wire::DeleteQueue { queue: queue.to_owned() }))
            .await
    }

    /// One page of a listing of tasks: up to `limit` tasks, from the beginning or from the cursor
    /// of the page before. A page has fewer tasks, or none, where more do not fit into the answer,
    /// and where the broker has looked at very many tasks for it. The errors of the tasks come
    /// without their tracebacks.
    ///
    /// ```no_run
    /// # async fn example(client: celeriac_client::Client) -> Result<(), celeriac_client::Error> {
    /// use celeriac_client::{State, TaskFilter};
    ///
    /// let mut cursor = None;
    /// loop {
    ///     let dead = TaskFilter::new().queue("songs").state(State::Failure);
    ///     let page = client.tasks(dead, 100, cursor).await?;
    ///     for task in &page.tasks {
    ///         println!("{} {}", task.id, task.title());
    ///     }
    ///     cursor = page.cursor;
    ///     if cursor.is_none() {
    ///         break;
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Client::queues`].
    pub async fn tasks(
        &self,
        filter: TaskFilter,
        limit: u32,
        cursor: Option<Bytes>,
    ) -> Result<TaskPage, Error> {
        let list = wire::ListTasks { limit, ..Default::default() };
        self.list_tasks(filter, cursor, list).await
    }

    /// As [`Client::tasks`], with the tracebacks of the errors.
    ///
    /// # Errors
    /// As [`Client::queues`].
    pub async fn tasks_with_tracebacks(
        &self,
        filter: TaskFilter,
        limit: u32,
        cursor: Option<Bytes>,
    ) -> Result<TaskPage, Error> {
        let list = wire::ListTasks { limit, with_tracebacks: true, ..Default::default() };
        self.list_tasks(filter, cursor, list).await
    }

    /// As [`Client::tasks`], and the tasks that were submitted last come first. The broker looks at
    /// all its tasks for each page, so this is for the first few pages.
    ///
    /// A broker that is older than this order lists the tasks in its own: see
    /// [`TaskPage::newest_first`].
    ///
    /// # Errors
    /// As [`Client::queues`].
    pub async fn newest_tasks(
        &self,
        filter: TaskFilter,
        limit: u32,
        cursor: Option<Bytes>,
        with_tracebacks: bool,
    ) -> Result<TaskPage, Error> {
        let list =
            wire::ListTasks { limit, with_tracebacks, newest_first: true, ..Default::default() };
        self.list_tasks(filter, cursor, list).await
    }

    /// The tasks that ended last, the last one first: those of the last 10,000 ends that are kept
    /// and match. The parameters are those of [`Client::tasks`].
    ///
    /// A broker that does not know this list lists other tasks: see [`TaskPage::just_ended`].
    ///
    /// # Errors
    /// As [`Client::queues`].
    pub async fn ended_tasks(
        &self,
        filter: TaskFilter,
        limit: u32,
        cursor: Option<Bytes>,
    ) -> Result<TaskPage, Error> {
        let list = wire::ListTasks { limit, just_ended: true, ..Default::default() };
        self.list_tasks(filter, cursor, list).await
    }

    async fn list_tasks(
        &self,
        filter: TaskFilter,
        cursor: Option<Bytes>,
        list: wire::ListTasks,
    ) -> Result<TaskPage, Error> {
        let filter = Some(filter.into_wire());
        let list = wire::ListTasks { filter, cursor: cursor.unwrap_or_default(), ..list };
        match self.request(client_frame::Body::ListTasks(list)).await? {
            server_frame::Body::TaskPage(page) => Ok(page.into()),
            _ => Err(Error::unexpected("a TaskPage")),
        }
    }

    /// Runs these dead tasks again, and returns how many of them were found. An id that does not
    /// exist, or whose task is not dead, is not counted. More ids than one request may name go in
    /// several requests: after an error the first of them may have been carried out.
    ///
    /// # Errors
    /// As [`Client::purge_queue`].
    pub async fn replay_dead(&self, ids: &[impl AsRef<str>]) -> Result<u64, Error> {
        let mut count = 0;
        for ids in ids.chunks(self.ids_per_request()) {
            let replay = wire::ReplayDead { ids: owned(ids), filter: None };
            count += self.count(client_frame::Body::ReplayDead(replay)).await?;
        }
        Ok(count)
    }

    /// Runs the dead tasks again that match the filter, and returns how many they were.
    ///
    /// ```no_run
    /// # async fn example(client: celeriac_client::Client) -> Result<(), celeriac_client::Error> {
    /// use celeriac_client::TaskFilter;
    ///
    /// let count = client.replay_dead_matching(TaskFilter::new().queue("songs")).await?;
    /// println!("{count} tasks run again");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Client::purge_queue`].
    pub async fn replay_dead_matching(&self, filter: TaskFilter) -> Result<u64, Error> {
        let replay = wire::ReplayDead { ids: Vec::new(), filter: Some(filter.into_wire()) };
        self.count(client_frame::Body::ReplayDead(replay)).await
    }

    /// Drops these dead tasks, and returns how many of them were found. Many ids go in several
    /// requests, as those of [`Client::replay_dead`] do.
    ///
    /// # Errors
    /// As [`Client::purge_queue`].
    pub async fn discard_dead(&self, ids: &[impl AsRef<str>]) -> Result<u64, Error> {
        let mut count = 0;
        for ids in ids.chunks(self.ids_per_request()) {
            let discard = wire::DiscardDead { ids: owned(ids), ..Default::default() };
            count += self.count(client_frame::Body::DiscardDead(discard)).await?;
        }
        Ok(count)
    }

    /// Drops the dead tasks that match the filter, and returns how many they were. The broker
    /// refuses a filter that sets nothing: see [`Client::discard_all_dead`].
    ///
    /// # Errors
    /// As [`Client::purge_queue`].
    pub async fn discard_dead_matching(&self, filter: TaskFilter) -> Result<u64, Error> {
        let discard = wire::DiscardDead { filter: Some(filter.into_wire()), ..Default::default() };
        self.count(client_frame::Body::DiscardDead(discard)).await
    }

    /// Drops all dead tasks, and returns how many they were.
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

    /// All workers, including those whose connection is lost at the moment.
    ///
    /// ```no_run
    /// # async fn example(client: celeriac_client::Client) -> Result<(), celeriac_client::Error> {
    /// for worker in client.workers().await? {
    ///     println!("{} on {} runs:", worker.instance_id, worker.hostname);
    ///     for task in &worker.running {
    ///         println!("  {} {}", task.id, task.title());
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
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

    /// Gives an order to workers, by their instance ids. Without any id the order is for all
    /// workers.
    ///
    /// ```no_run
    /// # async fn example(client: celeriac_client::Client) -> Result<(), celeriac_client::Error> {
    /// use celeriac_client::WorkerOrder;
    ///
    /// client.order_workers(&["web-1"], WorkerOrder::Quiet).await?;
    /// # Ok(())
    /// # }
    /// ```
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

    /// Makes a backup: the broker copies its stored data into a folder on its own machine, while it
    /// serves. A broker that starts on the copy has everything that was confirmed before this call.
    /// `folder` is an absolute path on the broker's machine. The folder must not exist, or must be
    /// empty.
    ///
    /// ```no_run
    /// # async fn example(client: celeriac_client::Client) -> Result<(), celeriac_client::Error> {
    /// let backup = client.backup("/var/backups/celeriac").await?;
    /// println!("{} tasks, {} bytes", backup.tasks, backup.bytes);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Client::purge_queue`]. The backup may take up to a day: the client's own timeout does
    /// not apply.
    pub async fn backup(&self, folder: impl Into<String>) -> Result<Backup, Error> {
        let body = client_frame::Body::Backup(wire::Backup { folder: folder.into() });
        match self.connection.request(body, BACKUP_TIMEOUT).await? {
            server_frame::Body::BackupReply(reply) => {
                Ok(Backup { tasks: reply.tasks, bytes: reply.bytes })
            }
            _ => Err(Error::unexpected("a BackupReply")),
        }
    }

    /// Begins or ends a drain of the broker. A broker that is drained delivers no task, and takes
    /// submits and reports. It takes back what workers hold and have not begun. The drain is
    /// complete when no task is leased: see [`BrokerInfo::leased`]. A restart of the broker ends
    /// it.
    ///
    /// ```no_run
    /// # async fn example(client: celeriac_client::Client) -> Result<(), celeriac_client::Error> {
    /// client.drain(true).await?;
    /// println!("{} tasks still run", client.broker_info().await?.leased);
    /// client.drain(false).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Client::purge_queue`].
    pub async fn drain(&self, draining: bool) -> Result<(), Error> {
        self.order(client_frame::Body::Drain(wire::Drain { draining })).await
    }

    /// Changes the filter of the broker's log until the broker restarts, and returns it. `None`
    /// changes nothing.
    ///
    /// ```no_run
    /// # async fn example(client: celeriac_client::Client) -> Result<(), celeriac_client::Error> {
    /// client.log_filter(Some("info,celeriac_broker=debug")).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Refused`] when the filter cannot be used; otherwise as [`Client::queues`].
    pub async fn log_filter(&self, filter: Option<&str>) -> Result<String, Error> {
        let filter = filter.map(str::to_owned);
        match self.request(client_frame::Body::LogFilter(wire::LogFilter { filter })).await? {
            server_frame::Body::LogFilterReply(reply) => Ok(reply.filter),
            _ => Err(Error::unexpected("a LogFilterReply")),
        }
    }

    /// Sends a request whose answer has nothing for the caller: `Done`, or a number.
    async fn order(&self, body: client_frame::Body) -> Result<(), Error> {
        match self.request(body).await? {
            server_frame::Body::Done(_) | server_frame::Body::CountReply(_) => Ok(()),
            _ => Err(Error::unexpected("Done")),
        }
    }

    /// Sends a request whose answer is a number of tasks.
    async fn count(&self, body: client_frame::Body) -> Result<u64, Error> {
        match self.request(body).await? {
            server_frame::Body::CountReply(reply) => Ok(reply.count),
            _ => Err(Error::unexpected("a CountReply")),
        }
    }
}
