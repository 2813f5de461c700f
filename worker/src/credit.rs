//! How many leases the worker asks for. It tells the broker after every connect, and again until
//! the broker has confirmed it.
//!
//! A worker that holds more tasks than it runs saves short tasks the time of their delivery. Behind
//! a long task, such a held task would wait. When another worker is idle, the broker itself takes
//! the held task back. But while all workers are busy, a held task would begin before a task of
//! higher priority that was submitted later. So the worker looks ahead only while its tasks are
//! short, and hands back tasks that have waited for long.

use std::time::Duration;

use celeriac_client::connection::Connection;
use celeriac_proto::wire::{Credit, client_frame};
use tokio::sync::watch;

use crate::leases::Pace;

/// How long the broker may take to confirm the credit.
const CREDIT_TIMEOUT: Duration = Duration::from_secs(10);

/// The pause before the worker asks again for a credit that was not confirmed.
const CREDIT_PAUSE: Duration = Duration::from_millis(500);

/// How often the pace is checked. Tasks are short when every execution ends one within this time.
pub(crate) const PACE_INTERVAL: Duration = Duration::from_millis(250);

/// A delivery that has waited for an execution this long goes back to its queue, which has the
/// order of the priorities.
const HELD_UP_MAX: Duration = Duration::from_millis(400);

/// The bounds of the credit. They are equal when the user has set the credit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CreditPlan {
    /// The credit while tasks are long, and at the start.
    pub(crate) least: u32,
    /// The credit while tasks are short.
    pub(crate) most: u32,
}

impl CreditPlan {
    /// Whether the user has set the credit: then the pace does not change it.
    pub(crate) fn is_fixed(&self) -> bool {
        self.least == self.most
    }
}

/// What the worker does at its present pace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Adjustment {
    /// Leave the credit as it is.
    Keep,
    /// Hold more tasks than run.
    LookAhead,
    /// Hold no more tasks than run, and hand back those that wait.
    HandBack,
}

/// What the worker does at this pace.
pub(crate) fn adjustment(plan: CreditPlan, pace: Pace) -> Adjustment {
    if plan.is_fixed() {
        Adjustment::Keep
    } else if pace.held_up >= HELD_UP_MAX {
        Adjustment::HandBack
    } else if pace.ended >= u64::from(plan.least) {
        Adjustment::LookAhead
    } else {
        Adjustment::Keep
    }
}

/// The credit that the worker wants. A task of its own tells it to the broker.
#[derive(Debug)]
pub(crate) struct CreditKeeper {
    /// Wakes the task that tells the broker.
    wanted: watch::Sender<Wanted>,
    /// The credit while the worker takes deliveries. [`CreditKeeper::stop`] does not change it.
    credit: u32,
}

#[derive(Debug, Clone, Copy)]
struct Wanted {
    credit: u32,
    /// False until the first connection.
    connected: bool,
}

impl CreditKeeper {
    /// A keeper that asks for `credit` from the first [`CreditKeeper::connected`] on.
    pub(crate) fn new(connection: Connection, credit: u32) -> Self {
        let (wanted, receiver) = watch::channel(Wanted { credit, connected: false });
        tokio::spawn(tell(connection, receiver));
        Self { wanted, credit }
    }

    /// A connection has begun. The broker begins each connection with a credit of 0.
    pub(crate) fn connected(&self) {
        self.wanted.send_modify(|wanted| wanted.connected = true);
    }

    /// Asks for another credit from now on.
    pub(crate) fn set(&mut self, credit: u32) {
        if credit != self.credit {
            tracing::debug!(credit, "the credit changes");
            self.credit = credit;
            self.want(credit);
        }
    }

    /// Asks for no more deliveries.
    pub(crate) fn stop(&self) {
        self.want(0);
    }

    /// Asks for deliveries again.
    pub(crate) fn resume(&self) {
        self.want(self.credit);
    }

    /// Sets the wanted credit, and wakes the task if it changes.
    fn want(&self, credit: u32) {
        self.wanted
            .send_if_modified(|wanted| std::mem::replace(&mut wanted.credit, credit) != credit);
    }
}

/// Tells the broker the wanted credit, whenever it changes or a connection begins.
async fn tell(connection: Connection, mut wanted: watch::Receiver<Wanted>) {
    loop {
        let Wanted { credit, connected } = *wanted.borrow_and_update();
        if connected {
            // The broker's limit may be lower than the wanted credit.
            let credit = credit.min(connection.limits().credit_max);
            let body = client_frame::Body::Credit(Credit { credit });
            tokio::select! {
                // A newer credit replaces one that is not answered yet.
                changed = wanted.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return,
                },
                answer = connection.request(body, CREDIT_TIMEOUT) => if let Err(error) = answer {
                    tracing::debug!(credit, "the broker did not take the credit: {error}");
                    tokio::time::sleep(CREDIT_PAUSE).await;
                    if !connection.is_connected() || error.is_retryable() {
                        continue;
                    }
                },
            }
        }
        if wanted.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worker_looks_ahead_only_while_tasks_are_short() {
        let plan = CreditPlan { least: 4, most: 20 };
        let pace = |ended, held_up_ms| Pace { ended, held_up: Duration::from_millis(held_up_ms) };
        assert_eq!(adjustment(plan, pace(4, 0)), Adjustment::LookAhead);
        assert_eq!(adjustment(plan, pace(3, 0)), Adjustment::Keep);
        assert_eq!(adjustment(plan, pace(0, 400)), Adjustment::HandBack);
        let fixed = CreditPlan { least: 20, most: 20 };
        assert_eq!(adjustment(fixed, pace(100, 0)), Adjustment::Keep);
        assert_eq!(adjustment(fixed, pace(0, 400)), Adjustment::Keep);
    }
}
