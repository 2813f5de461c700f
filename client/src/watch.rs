//! A stream of what happens to some tasks. The promises of it are kept in `connection::watching`.

use std::collections::HashSet;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use celeriac_proto::wire;
use futures_core::Stream;

use crate::client::{Client, owned};
use crate::connection::Connection;
use crate::connection::watching::WatchSink;
use crate::error::Error;
use crate::info::TaskInfo;

/// The present state of some tasks, and then every transition as it happens.
///
/// It survives reconnects: after one, the present state is compared with what was shown, so no
/// state comes twice and the latest is never missed. States that came and went while the connection
/// was down are not seen, nor are all of those that a reader is more than a thousand transitions
/// behind. Dropping it ends the watch.
pub struct Watch {
    sink: Arc<WatchSink>,
    /// The last handle on a connection closes it; a watch is one.
    _connection: Connection,
}

impl Watch {
    pub(crate) async fn begin(
        client: &Client,
        ids: &[impl AsRef<str>],
        with_results: bool,
    ) -> Result<Self, Error> {
        let sink = Arc::new(WatchSink::default());
        let mut seen = HashSet::new();
        let ids: Vec<&str> = ids.iter().map(AsRef::as_ref).filter(|id| seen.insert(*id)).collect();
        for ids in ids.chunks(client.ids_per_request()) {
            let request = wire::Watch { ids: owned(ids), with_results };
            client.connection.watch(request, &sink, client.timeout).await?;
        }
        Ok(Self { sink, _connection: client.connection.clone() })
    }

    /// The next state of one of the tasks; a task that does not exist, or was forgotten, is
    /// [`crate::State::Unknown`]. `None` when the client was closed or the broker ended the watch.
    /// May be dropped while it waits without losing anything.
    pub async fn next(&mut self) -> Option<TaskInfo> {
        poll_fn(|context| self.sink.poll_next(context)).await.map(TaskInfo::from)
    }
}

/// The same as [`Watch::next`], for the combinators of the futures crate.
impl Stream for Watch {
    type Item = TaskInfo;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<TaskInfo>> {
        self.sink.poll_next(context).map(|task| task.map(TaskInfo::from))
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}
