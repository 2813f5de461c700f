//! Which queues have a label of their own. A monitor keeps a series for each label for weeks, so
//! that ten thousand queues would cost it more than they cost the broker.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use celeriac_client::{QueueCounters, QueueStats};

use crate::caller::Caller;

/// The most queues with a label of their own.
const NAMED_MAX: usize = 200;
/// The label of all others together.
const OTHER: &str = "_other";
/// The callers whose labels are remembered.
const CALLERS_MAX: usize = 64;

/// The labels that each caller has seen.
#[derive(Debug, Default)]
pub(crate) struct Others(Mutex<HashMap<Caller, Labels>>);

/// The labels of one caller. A queue keeps its place, among the named ones or among the others: a
/// queue that changed it would look to a monitor like counters that fall.
#[derive(Debug, Default)]
struct Labels {
    /// The queues with a label of their own, and their counters in the last scrape that had them.
    named: BTreeMap<String, Option<QueueCounters>>,
    /// What named queues had that are gone.
    gone: Option<QueueCounters>,
    has_others: bool,
}

impl Others {
    /// The busiest queues by themselves, and the others as one. `removed` are the counters of
    /// queues that are gone.
    pub(crate) fn fold(
        &self,
        caller: &Caller,
        queues: Vec<QueueStats>,
        removed: Option<&QueueCounters>,
    ) -> Vec<QueueStats> {
        // A token sees the same queues from each address.
        let caller = caller.without_address();
        let mut all = self.0.lock().expect("no panic while it is locked");
        if all.len() >= CALLERS_MAX && !all.contains_key(&caller) {
            all.clear();
        }
        all.entry(caller).or_default().fold(queues, removed)
    }
}

impl Labels {
    fn fold(
        &mut self,
        mut queues: Vec<QueueStats>,
        removed: Option<&QueueCounters>,
    ) -> Vec<QueueStats> {
        self.name_new_ones(&queues);
        let total = total(&queues, removed);
        let others: Vec<QueueStats> =
            queues.extract_if(.., |queue| !self.named.contains_key(&queue.name)).collect();
        self.note(&queues);
        self.has_others |= !others.is_empty();
        if let Some(counters) = total.filter(|_| self.has_others)
            && let Some(template) = others.first().or(queues.first())
        {
            let mut other = template.clone();
            if others.is_empty() {
                empty(&mut other);
            }
            for queue in others.iter().skip(1) {
                add(&mut other, queue);
            }
            other.name = OTHER.to_owned();
            other.counters = counters;
            for counters in self.named.values().flatten().chain(&self.gone) {
                other.counters -= counters;
            }
            queues.push(other);
        }
        queues
    }

    /// Gives labels to the busiest queues while there are free ones and no queue is among the
    /// others.
    fn name_new_ones(&mut self, queues: &[QueueStats]) {
        if self.has_others {
            return;
        }
        let mut new: Vec<&QueueStats> =
            queues.iter().filter(|queue| !self.named.contains_key(&queue.name)).collect();
        new.sort_by_key(|queue| std::cmp::Reverse((queue.counters.submitted, queue.ready)));
        let free = NAMED_MAX.saturating_sub(self.named.len());
        self.named.extend(new.iter().take(free).map(|queue| (queue.name.clone(), None)));
    }

    /// Notes the counters of the named queues. A queue whose counters have fallen was gone
    /// meanwhile.
    fn note(&mut self, queues: &[QueueStats]) {
        let now: HashMap<&str, &QueueCounters> =
            queues.iter().map(|queue| (queue.name.as_str(), &queue.counters)).collect();
        for (name, last) in &mut self.named {
            let now = now.get(name.as_str()).copied();
            if let Some(before) = last
                && now.is_none_or(|now| now.submitted < before.submitted)
            {
                match &mut self.gone {
                    Some(gone) => *gone += before,
                    None => self.gone = Some(before.clone()),
                }
            }
            *last = now.cloned();
        }
    }
}

/// The counters of all queues, of those that are gone too.
fn total(queues: &[QueueStats], removed: Option<&QueueCounters>) -> Option<QueueCounters> {
    let mut counters = queues.iter().map(|queue| &queue.counters).chain(removed);
    let mut sum = counters.next()?.clone();
    counters.for_each(|counters| sum += counters);
    Some(sum)
}

fn add(sum: &mut QueueStats, queue: &QueueStats) {
    sum.paused &= queue.paused;
    sum.scheduled += queue.scheduled;
    sum.ready += queue.ready;
    sum.leased += queue.leased;
    sum.started += queue.started;
    sum.dead += queue.dead;
    let oldest = [sum.oldest_ready_at, queue.oldest_ready_at];
    sum.oldest_ready_at = oldest.into_iter().flatten().min();
    sum.bytes += queue.bytes;
    sum.workers += queue.workers;
    sum.slots_busy += queue.slots_busy;
    sum.slots_free += queue.slots_free;
    sum.waiting_paused += queue.waiting_paused;
    sum.waiting_no_worker += queue.waiting_no_worker;
}

fn empty(queue: &mut QueueStats) {
    queue.paused = false;
    queue.scheduled = 0;
    queue.ready = 0;
    queue.leased = 0;
    queue.started = 0;
    queue.dead = 0;
    queue.oldest_ready_at = None;
    queue.bytes = 0;
    queue.workers = 0;
    queue.slots_busy = 0;
    queue.slots_free = 0;
    queue.waiting_paused = 0;
    queue.waiting_no_worker = 0;
}

#[cfg(test)]
mod tests {
    use celeriac_client::Stats;
    use celeriac_proto::wire;

    use super::*;

    fn stats(queues: &[(String, u64)], removed: u64) -> Stats {
        let counters =
            |submitted_total| Some(wire::QueueCounters { submitted_total, ..Default::default() });
        let queues = queues.iter().map(|(name, submitted)| wire::QueueStats {
            name: name.clone(),
            ready: 1,
            counters: counters(*submitted),
            ..Default::default()
        });
        let removed_queues = counters(removed);
        Stats::from(wire::StatsReply {
            queues: queues.collect(),
            broker: Some(wire::BrokerStats { removed_queues, ..Default::default() }),
            ..Default::default()
        })
    }

    fn fold(labels: &mut Labels, queues: &[(String, u64)], removed: u64) -> Vec<QueueStats> {
        let Stats { queues, broker, .. } = stats(queues, removed);
        let removed = broker.map(|broker| broker.removed_queues);
        labels.fold(queues, removed.as_ref())
    }

    fn other(queues: &[QueueStats]) -> Option<(u64, u64)> {
        let other = queues.iter().find(|queue| queue.name == OTHER)?;
        Some((other.counters.submitted, other.ready))
    }

    #[test]
    fn o34_beyond_two_hundred_queues_the_others_stand_together_and_no_counter_falls() {
        let mut labels = Labels::default();
        let mut all: Vec<(String, u64)> = (0..200).map(|n| (format!("q{n}"), 1_000 + n)).collect();
        assert_eq!(fold(&mut labels, &all, 5).len(), 200);
        // Two more: they stand together, with what queues had that were gone before.
        all.extend([("late".to_owned(), 9_000), ("later".to_owned(), 10)]);
        let folded = fold(&mut labels, &all, 5);
        assert_eq!((folded.len(), other(&folded)), (201, Some((9_015, 2))));
        // One of the others goes: what it had is in the counters of removed queues.
        all.retain(|(name, _)| name != "late");
        let folded = fold(&mut labels, &all, 9_005);
        assert_eq!(other(&folded), Some((9_015, 1)));
        // A named one goes, and later comes back with counters from zero.
        all.retain(|(name, _)| name != "q7");
        let folded = fold(&mut labels, &all, 9_005 + 1_007);
        assert_eq!((folded.len(), other(&folded)), (200, Some((9_015, 1))));
        all.push(("q7".to_owned(), 3));
        let folded = fold(&mut labels, &all, 9_005 + 1_007);
        assert_eq!((folded.len(), other(&folded)), (201, Some((9_015, 1))));
        // All of the others are gone: their counters stay.
        all.retain(|(name, _)| name != "later");
        let folded = fold(&mut labels, &all, 9_005 + 1_007 + 10);
        assert_eq!(other(&folded), Some((9_015, 0)));
    }
}
