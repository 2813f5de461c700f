//! How many leases the worker asks for, and that the broker knows it: said anew after every
//! connect, and until the broker has heard it.
//!
//! What a worker holds beyond its running handlers saves short tasks the way of their delivery.
//! Behind a long task it does harm. For another worker that is idle the broker takes it back by
//! itself; but while all are busy, what waits here would begin before a task of higher priority
//! that was submitted later. So the worker looks ahead only while its tasks are short, and hands
//! back what has waited for long.

use std::time::Duration;

use celeriac_client::connection::Connection;
use celeriac_proto::wire::{Credit, client_frame};
use tokio::sync::watch;

use crate::leases::Pace;

/// How long the broker may take to confirm, and the pause before saying it again.
const CREDIT_TIMEOUT: Duration = Duration::from_secs(10);
const CREDIT_PAUSE: Duration = Duration::from_millis(500);

/// How often the pace is looked at. Tasks are short when every slot ends one in this time.
pub(crate) const PACE_INTERVAL: Duration = Duration::from_millis(250);

/// A delivery that has waited for a slot this long is better off in its queue, in the order of the
/// priorities.
const HELD_UP_MAX: Duration = Duration::from_millis(400);

/// The bounds of the credit. They are equal where the user has chosen one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CreditPlan {
    /// While tasks are long, and at the start.
    pub(crate) least: u32,
    /// While tasks are short.
    pub(crate) most: u32,
}

impl CreditPlan {
    pub(crate) fn is_fixed(&self) -> bool {
        self.least == self.most
    }
}

/// What the pace of the work asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Adjustment {
    Keep,
    LookAhead,
    /// Hold no more than runs, and hand back what waits.
    HandBack,
}

/// What to do at this pace.
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

/// How many leases the worker wants to hold, told to the broker by a task of its own.
#[derive(Debug)]
pub(crate) struct CreditKeeper {
    wanted: watch::Sender<Wanted>,
    credit: u32,
}

#[derive(Debug, Clone, Copy)]
struct Wanted {
    credit: u32,
    /// False until the first connection is there.
    connected: bool,
}

impl CreditKeeper {
    /// A keeper that will ask for `credit`, from the first [`CreditKeeper::connected`] on.
    pub(crate) fn new(connection: Connection, credit: u32) -> Self {
        let (wanted, receiver) = watch::channel(Wanted { credit, connected: false });
        tokio::spawn(tell(connection, receiver));
        Self { wanted, credit }
    }

    /// A connection begins, with a credit of 0 on the broker's side.
    pub(crate) fn connected(&self) {
        self.wanted.send_modify(|wanted| wanted.connected = true);
    }

    /// Another credit from now on.
    pub(crate) fn set(&mut self, credit: u32) {
        if credit != self.credit {
            tracing::debug!(credit, "the credit changes");
            self.credit = credit;
            self.want(credit);
        }
    }

    /// No more deliveries.
    pub(crate) fn stop(&self) {
        self.want(0);
    }

    /// Deliveries again.
    pub(crate) fn resume(&self) {
        self.want(self.credit);
    }

    fn want(&self, credit: u32) {
        self.wanted
            .send_if_modified(|wanted| std::mem::replace(&mut wanted.credit, credit) != credit);
    }
}

async fn tell(connection: Connection, mut wanted: watch::Receiver<Wanted>) {
    loop {
        let Wanted { credit, connected } = *wanted.borrow_and_update();
        if connected {
            let credit = credit.min(connection.limits().credit_max);
            let body = client_frame::Body::Credit(Credit { credit });
            tokio::select! {
                // A newer wish overtakes one that is not answered.
                changed = wanted.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return,
                },
                answer = connection.request(body, CREDIT_TIMEOUT) => if let Err(error) = answer {
                    tracing::debug!(credit, "the credit was not taken: {error}");
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
