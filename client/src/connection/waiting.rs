//! `Wait` requests, which the broker answers much later. A wait takes no room from other requests.
//! When its caller drops the future, the client withdraws the wait at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use celeriac_proto::wire::{self, client_frame, server_frame};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Connection, Purpose, Reply, deadline_after};
use crate::error::Error;

/// The broker answers when the time of the wait is over. The answer needs a moment to arrive.
const GRACE: Duration = Duration::from_secs(1);

/// The pause before the broker is asked again that answered "not yet" before the time was over, as
/// for a task that was forgotten in the meantime.
const PAUSE: Duration = Duration::from_millis(50);

/// The number of a wait. It stays the same over all reconnects of the connection.
pub(super) type WaitKey = u64;

/// Numbers the waits, and tells the task that owns the socket which of them are withdrawn.
pub(super) struct Waits {
    /// The latest number.
    latest: AtomicU64,
    /// Unbounded, because a dropped future cannot wait for room. There are no more entries than
    /// waits.
    withdrawn: mpsc::UnboundedSender<WaitKey>,
}

impl Waits {
    /// The numbers, and the receiver of the withdrawn waits.
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
    /// Takes the next number.
    fn take(waits: &'a Waits) -> Self {
        Self { waits, key: waits.latest.fetch_add(1, Ordering::Relaxed), is_answered: false }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if !self.is_answered {
            // Without that task there is nothing to withdraw.
            let _ = self.waits.withdrawn.send(self.key);
        }
    }
}

impl Connection {
    /// Waits for tasks, over reconnects too, for `timeout` and at most a second more. When the time
    /// is over, the broker still answers, with `satisfied` false. When the future is dropped,
    /// the client tells the broker that nobody waits any more.
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
            // A number for each sending: a wait that was interrupted cannot be withdrawn any more.
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
