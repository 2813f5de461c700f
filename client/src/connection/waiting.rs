//! Waits: requests that are answered much later. One takes no room from other requests, and is
//! withdrawn as soon as its caller goes away.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use celeriac_proto::wire::{self, client_frame, server_frame};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Connection, Purpose, Reply, deadline_after};
use crate::error::Error;

/// The broker answers at the end of its time; the answer needs a moment to arrive.
const GRACE: Duration = Duration::from_secs(1);

/// A broker that answers "not yet" before its time, as for a task that was forgotten in the
/// meantime, is asked again after this.
const PAUSE: Duration = Duration::from_millis(50);

/// One wait of a connection, over all its reconnects.
pub(super) type WaitKey = u64;

/// The numbers of waits, and the way to tell the task that owns the socket which of them nobody
/// waits for any more.
pub(super) struct Waits {
    latest: AtomicU64,
    withdrawn: mpsc::UnboundedSender<WaitKey>,
}

impl Waits {
    pub(super) fn new() -> (Self, mpsc::UnboundedReceiver<WaitKey>) {
        let (withdrawn, receiver) = mpsc::unbounded_channel();
        (Self { latest: AtomicU64::new(0), withdrawn }, receiver)
    }
}

/// Withdraws its wait when it is dropped before the answer is there.
struct Ticket<'a> {
    waits: &'a Waits,
    key: WaitKey,
    is_answered: bool,
}

impl<'a> Ticket<'a> {
    fn take(waits: &'a Waits) -> Self {
        Self { waits, key: waits.latest.fetch_add(1, Ordering::Relaxed), is_answered: false }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if !self.is_answered {
            // A task that is gone has no waits.
            let _ = self.waits.withdrawn.send(self.key);
        }
    }
}

impl Connection {
    /// Waits for tasks, over reconnects, for `timeout` and at most a second more: an answer at the
    /// end of the time is still an answer, with `satisfied` false. When the future is dropped,
    /// the broker is told that nobody waits.
    ///
    /// # Errors
    /// As [`Connection::request`].
    pub async fn wait(
        &self,
        wait: wire::Wait,
        timeout: Duration,
    ) -> Result<wire::WaitReply, Error> {
        let until = deadline_after(timeout);
        let deadline = until + GRACE;
        let body = Arc::new(client_frame::Body::Wait(wait));
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let mut ticket = Ticket::take(&self.inner.waits);
            let reply =
                self.send_once(body.clone(), left, Purpose::Wait(ticket.key), deadline).await;
            let reply = reply.ok_or_else(|| self.timeout(timeout))?;
            ticket.is_answered = true;
            match reply {
                Reply::Answer(answer) => match *answer {
                    server_frame::Body::WaitReply(reply)
                        if !reply.satisfied && Instant::now() + PAUSE < until =>
                    {
                        tokio::time::sleep(PAUSE).await;
                    }
                    server_frame::Body::WaitReply(reply) => return Ok(reply),
                    _ => return Err(Error::unexpected("a WaitReply")),
                },
                Reply::Failed(error) => return Err(self.with_time(error, timeout)),
                Reply::Interrupted { refused, .. } => {
                    self.pause_before_repeat(refused, until).await?
                }
            }
        }
    }
}
