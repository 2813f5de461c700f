//! A stream of the states of some tasks. `connection::state_buffer` keeps its promises.

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
use crate::connection::state_buffer::StateBuffer;
use crate::error::Error;
use crate::info::TaskInfo;

/// The present states of some tasks, and then every transition as it happens. Made by
/// [`Client::watch`] and [`TaskHandle::watch`](crate::TaskHandle::watch).
///
/// A watch survives reconnects. After a reconnect the present state is compared with the last state
/// that the watch showed: no state comes twice, and the latest state always comes. The watch does
/// not show states that came and went while the connection was down. A reader that is more than
/// about a thousand transitions behind misses some of the older ones. Dropping the watch ends it.
///
/// With the `futures-util` crate a watch is a stream like any other:
///
/// ```no_run
/// use celeriac_client::{Client, State};
/// use futures_util::StreamExt;
///
/// # async fn example(client: Client) -> Result<(), celeriac_client::Error> {
/// let watch = client.watch(&["a", "b"]).await?;
/// let states: Vec<State> = watch.map(|task| task.state).take(10).collect().await;
/// # Ok(())
/// # }
/// ```
pub struct Watch {
    states: Arc<StateBuffer>,
    /// The last handle on a connection closes it when it is dropped. A watch counts as a handle.
    _connection: Connection,
}

impl Watch {
    pub(crate) async fn begin(
        client: &Client,
        ids: &[impl AsRef<str>],
        with_results: bool,
    ) -> Result<Self, Error> {
        let states = Arc::new(StateBuffer::default());
        let mut unique_ids = Vec::with_capacity(ids.len());
        let mut seen = HashSet::new();
        for id in ids {
            if seen.insert(id.as_ref()) {
                unique_ids.push(id.as_ref());
            }
        }
        for ids in unique_ids.chunks(client.ids_per_request()) {
            let request = wire::Watch { ids: owned(ids), with_results };
            client.connection.watch(request, &states, client.timeout).await?;
        }
        Ok(Self { states, _connection: client.connection.clone() })
    }

    /// The next state of one of the tasks. A task that does not exist, or was forgotten, is
    /// [`crate::State::Unknown`]. `None` when the client was closed or the broker ended the watch.
    ///
    /// The future may be dropped while it waits: no state is lost.
    pub async fn next(&mut self) -> Option<TaskInfo> {
        poll_fn(|context| self.states.poll_next(context)).await.map(TaskInfo::from)
    }
}

/// The same as [`Watch::next`], for the combinators of the `futures` crates.
impl Stream for Watch {
    type Item = TaskInfo;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<TaskInfo>> {
        self.states.poll_next(context).map(|task| task.map(TaskInfo::from))
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}
