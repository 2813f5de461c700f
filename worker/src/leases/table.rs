//! The table of the leases that a worker holds, and the transitions of a lease: it waits, its
//! handler runs, its end is reported. No code here wakes anybody; `leases` does.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use celeriac_proto::wire::task_report::Report;
use celeriac_proto::wire::{Delivery, Release, Started, TaskReport};
use foldhash::fast::FixedState;

use crate::delivered::{BegunDelivery, Delivered, WaitingDelivery};
use crate::pending_reports::{Batch, PendingReports};
use crate::signals::Signal;

/// All leases of a worker, and what is still to be reported of them.
#[derive(Debug, Default)]
pub(super) struct LeaseTable {
    /// The deliveries that wait for an execution, in the order in which the broker sent them.
    pub(super) waiting: VecDeque<WaitingDelivery>,
    /// What each held lease does.
    pub(super) held: HashMap<u64, Held, FixedState>,
    /// The reports that wait to be sent.
    pub(super) reports: PendingReports,
    /// The leases whose handler began and whose start is not reported yet. A lease that has ended
    /// since needs no such report: its end says it too. So there are no more entries than leases.
    begun: Vec<u64>,
    /// Whether the driver will take a batch within [`Leases::START_DELAY`](super::Leases), or as
    /// soon as it may send.
    pub(super) is_batch_planned: bool,
    /// Whether the driver was told that there is a report to send now, and has taken no batch
    /// since.
    pub(super) is_due: bool,
    /// How many executions wait for a delivery.
    pub(super) idle_executions: usize,
    /// Whether the worker ends: no execution gets a delivery any more.
    pub(super) is_closed: bool,
    /// When a delivery last left the queue, or came into an empty one.
    pub(super) moved_at: Option<Instant>,
}

/// What a lease does.
#[derive(Debug)]
pub(super) enum Held {
    /// The delivery waits for an execution.
    Waiting,
    /// An execution has the delivery. Its handler runs, or will begin when the broker has answered
    /// the report of the start.
    Running(Arc<Delivered>),
    /// The end is reported, and the report is not answered yet.
    Reported,
}

/// What there is for an execution that looks for work.
pub(super) enum NextDelivery {
    /// The execution has this delivery now.
    Begun(BegunDelivery, StartNotice),
    /// No delivery waits.
    Idle,
    /// The worker ends.
    Closed,
}

/// Whether the driver has to be told that a handler has begun.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum StartNotice {
    /// No batch is planned that would report the start soon.
    Needed,
    /// The driver already plans to take a batch, and then finds the start.
    NotNeeded,
}

/// What the broker has answered.
#[derive(Debug, Default)]
pub(crate) struct Answered {
    /// The leases whose end the broker now has.
    pub(crate) ended: Vec<u64>,
    /// The leases whose start the broker now has.
    pub(crate) started: Vec<u64>,
}

impl LeaseTable {
    /// Queues new deliveries. A repeated delivery is ignored.
    pub(super) fn queue(&mut self, arrived: Vec<WaitingDelivery>) {
        self.is_batch_planned = true;
        if self.waiting.is_empty() {
            self.moved_at = Some(Instant::now());
        }
        for waiting in arrived {
            let delivery = &waiting.delivered.delivery;
            match self.held.entry(delivery.lease) {
                Entry::Vacant(entry) => {
                    entry.insert(Held::Waiting);
                }
                Entry::Occupied(_) => {
                    tracing::debug!(
                        id = delivery.id,
                        lease = delivery.lease,
                        "ignored a repeated delivery"
                    );
                    continue;
                }
            }
            self.waiting.push_back(waiting);
        }
    }

    /// Takes the next delivery for an execution.
    pub(super) fn begin(&mut self) -> NextDelivery {
        if self.is_closed {
            return NextDelivery::Closed;
        }
        let Some(WaitingDelivery { delivered, payload, content_type }) = self.waiting.pop_front()
        else {
            return NextDelivery::Idle;
        };
        let (lease, begun_at) = (delivered.delivery.lease, Instant::now());
        self.held.insert(lease, Held::Running(delivered.clone()));
        self.moved_at = Some(begun_at);
        if delivered.delivery.report_start {
            self.reports.push_start(report(&delivered.delivery, Report::Started(Started {})));
        } else {
            self.begun.push(lease);
        }
        let notice = match std::mem::replace(&mut self.is_batch_planned, true) {
            true => StartNotice::NotNeeded,
            false => StartNotice::Needed,
        };
        let begun = BegunDelivery { delivered, payload, content_type, begun_at };
        NextDelivery::Begun(begun, notice)
    }

    /// Hands back a delivery whose handler has not begun: the broker may deliver it elsewhere.
    pub(super) fn hand_back(&mut self, delivery: &Delivery) {
        self.held.insert(delivery.lease, Held::Reported);
        self.reports
            .push_end(report(delivery, Report::Release(Release { not_begun: true, lost: false })));
    }

    /// Hands back every delivery that waits for an execution.
    pub(super) fn release_waiting(&mut self) {
        for waiting in std::mem::take(&mut self.waiting) {
            self.hand_back(&waiting.delivered.delivery);
        }
    }

    /// Hands back the deliveries that executions have and that `is_meant`. Their handlers stop, or
    /// never begin.
    pub(super) fn release_running(&mut self, is_meant: impl Fn(&Delivered) -> bool) {
        for held in self.held.values_mut() {
            if let Held::Running(delivered) = held
                && is_meant(delivered)
            {
                // An execution that waits for the answer to a start checks this signal before it
                // begins the handler.
                delivered.signals.raise(Signal::HANDED_BACK);
                delivered.signals.raise(Signal::DROP);
                let release = Release { not_begun: !delivered.may_have_begun(), lost: false };
                self.reports.push_end(report(&delivered.delivery, Report::Release(release)));
                *held = Held::Reported;
            }
        }
    }

    /// Forgets a lease: its handler is dropped, and nothing more is reported of it.
    pub(super) fn lose(&mut self, lease: u64, reason: Signal) {
        match self.held.remove(&lease) {
            Some(Held::Running(delivered)) => {
                delivered.signals.raise(reason);
                delivered.signals.raise(Signal::DROP);
            }
            Some(Held::Waiting) => self.waiting.retain(|waiting| waiting.lease() != lease),
            Some(Held::Reported) | None => {}
        }
        self.reports.forget(lease);
    }

    /// Forgets all leases, for the reason that this signal names.
    pub(super) fn lose_all(&mut self, reason: Signal) {
        for (_, held) in self.held.drain() {
            if let Held::Running(delivered) = held {
                delivered.signals.raise(reason);
                delivered.signals.raise(Signal::DROP);
            }
        }
        self.waiting.clear();
        self.begun.clear();
        self.reports.clear();
    }

    /// Takes the next reports to send. The starts of handlers that still run are among them.
    pub(super) fn take_batch(&mut self, items_max: usize, bytes_max: usize) -> Batch {
        self.is_due = false;
        for lease in self.begun.drain(..) {
            if let Some(Held::Running(delivered)) = self.held.get(&lease) {
                let started = Report::Started(Started {});
                self.reports.push_start(report(&delivered.delivery, started));
            }
        }
        let mut batch = self.reports.take_batch(items_max, bytes_max, Instant::now());
        // Where a handler has ended, the next one begins.
        self.is_batch_planned = !batch.reports.is_empty() && !self.waiting.is_empty();
        if self.is_batch_planned {
            batch.next_in = Some(super::Leases::START_DELAY);
        }
        batch
    }

    /// Takes the broker's answers: ended leases are no longer held, and a handler that waited for
    /// the answer to its start begins.
    pub(super) fn answered(&mut self, answered: &Answered) {
        for lease in &answered.ended {
            self.held.remove(lease);
        }
        for lease in &answered.started {
            if let Some(Held::Running(delivered)) = self.held.get(lease) {
                delivered.signals.raise(Signal::MAY_BEGIN);
            }
        }
    }
}

/// A report about a delivery.
fn report(delivery: &Delivery, report: Report) -> TaskReport {
    TaskReport { id: delivery.id.clone(), lease: delivery.lease, report: Some(report) }
}
