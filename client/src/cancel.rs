//! Cancelling tasks: by their ids, by the root of their tree, or by a tag.

use std::time::Duration;

use celeriac_proto::wire::{self, client_frame, server_frame};

use crate::client::{Client, owned};
use crate::error::Error;
use crate::info::span_ms;

/// What happens to a task that runs while it is cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum CancelMode {
    /// The worker tells the handler, and the handler may finish as it likes.
    #[default]
    Cooperative,
    /// The worker drops the handler. After the grace the broker revokes the task in any case.
    Force {
        /// How long the worker has for that; `None` means 10 s.
        grace: Option<Duration>,
    },
    /// The handler goes on, and its worker hears nothing. The task does not run again after it.
    Waiting,
}

/// What a cancel did to one task.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cancelled {
    /// The id of the task.
    pub id: String,
    /// What the broker did.
    pub outcome: CancelOutcome,
}

/// What a cancel did; see [`Cancelled`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CancelOutcome {
    /// The task waited and never starts.
    Revoked,
    /// The task runs, and the broker told its worker.
    Signalled,
    /// The task had ended: there was nothing to cancel.
    AlreadyEnded,
    /// The broker knows no such task.
    NotFound,
    /// [`CancelMode::Waiting`]: the task runs and goes on. It will not run again.
    LeftRunning,
}

impl From<wire::CancelOutcome> for Cancelled {
    fn from(cancelled: wire::CancelOutcome) -> Self {
        use wire::cancel_outcome::Kind;
        let outcome = match cancelled.kind() {
            Kind::Revoked => CancelOutcome::Revoked,
            Kind::Signalled => CancelOutcome::Signalled,
            Kind::AlreadyEnded => CancelOutcome::AlreadyEnded,
            Kind::LeftRunning => CancelOutcome::LeftRunning,
            Kind::NotFound | Kind::Unspecified => CancelOutcome::NotFound,
        };
        Self { id: cancelled.id, outcome }
    }
}

impl Client {
    /// Cancels tasks. A task that waits never starts; a task that runs is treated as `mode` says.
    /// The answer has one outcome for each id.
    ///
    /// ```no_run
    /// # async fn example(client: celeriac_client::Client) -> Result<(), celeriac_client::Error> {
    /// use celeriac_client::CancelMode;
    ///
    /// for cancelled in client.cancel(&["a", "b"], CancelMode::Force { grace: None }).await? {
    ///     println!("{}: {:?}", cancelled.id, cancelled.outcome);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Connection::request`](crate::connection::Connection::request).
    pub async fn cancel(
        &self,
        ids: &[impl AsRef<str>],
        mode: CancelMode,
    ) -> Result<Vec<Cancelled>, Error> {
        let mut outcomes = Vec::with_capacity(ids.len());
        for ids in ids.chunks(self.ids_per_request()) {
            let cancel = wire::Cancel { ids: owned(ids), ..Default::default() };
            outcomes.extend(self.send_cancel(cancel, mode).await?);
        }
        Ok(outcomes)
    }

    /// Cancels every task of a tree, by the id of its root. The answer has one outcome for each
    /// task that was found.
    ///
    /// ```no_run
    /// # async fn example(client: celeriac_client::Client) -> Result<(), celeriac_client::Error> {
    /// use celeriac_client::CancelMode;
    ///
    /// let cancelled = client.cancel_tree("import-1", CancelMode::Cooperative).await?;
    /// println!("{} tasks", cancelled.len());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Client::cancel`].
    pub async fn cancel_tree(
        &self,
        root_id: impl Into<String>,
        mode: CancelMode,
    ) -> Result<Vec<Cancelled>, Error> {
        self.send_cancel(wire::Cancel { root_id: root_id.into(), ..Default::default() }, mode).await
    }

    /// Cancels every task with this tag. The answer has one outcome for each task that was found.
    ///
    /// # Errors
    /// As [`Client::cancel`].
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
        use wire::cancel::Mode;
        let mode = match mode {
            CancelMode::Cooperative => Mode::Cooperative,
            CancelMode::Force { grace } => {
                cancel.grace_ms = grace.map(span_ms);
                Mode::Force
            }
            CancelMode::Waiting => Mode::Waiting,
        };
        cancel.mode = mode.into();
        match self.request(client_frame::Body::Cancel(cancel)).await? {
            server_frame::Body::CancelReply(reply) => {
                Ok(reply.outcomes.into_iter().map(Cancelled::from).collect())
            }
            _ => Err(Error::unexpected("a CancelReply")),
        }
    }
}
