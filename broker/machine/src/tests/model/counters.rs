//! The comparison of the counters.

use celeriac_proto::QueueName;

use super::reference::counters::{Counters, Present};
use super::{CLIENT, Model, PUT_QUEUE, queue_of};
use crate::command::{
    Ask, Histogram, Message, Operate, Outlines, QueueCounters, QueueStats, SPAN_BOUNDS_MS, Spans,
};

/// The handlers of a worker of this test.
const CONCURRENCY: u64 = 100;

impl Model {
    /// Compares the counters and the other figures of each queue.
    pub(super) fn compare_counters(&mut self) {
        self.reference.forget_queues();
        let ask = Ask::Operate(Operate::Stats { names: Vec::new(), after: None });
        let answer = self.answer(CLIENT, ask);
        let Some(Message::Show(_, Outlines::Stats(stats))) = answer else {
            panic!("no answer: {answer:?}")
        };
        let broker = stats.broker.expect("the client has no scope");
        assert_eq!(counted(&broker.removed), listed(&self.reference.removed), "of queues gone");
        for queue in stats.queues {
            if queue.name == QueueName::default() {
                assert_eq!(queue.counters, QueueCounters::default());
                continue;
            }
            let mut numbers = [0, 1, PUT_QUEUE].into_iter();
            let number = numbers.find(|number| queue_of(*number) == queue.name);
            let number = number.expect("a queue of this test");
            let (name, present) = (&queue.name, self.reference.present(number));
            assert_eq!(
                counted(&queue.counters),
                listed(&self.reference.counters(number)),
                "{name}"
            );
            assert_eq!(
                queue.slots_busy + queue.slots_free,
                u64::from(present.workers) * CONCURRENCY
            );
            assert_eq!(shown(&queue), present, "of {name}");
        }
    }
}

fn shown(queue: &QueueStats) -> Present {
    Present {
        leased: queue.leased,
        started: queue.started,
        oldest_ready_at: queue.oldest_ready_at,
        workers: queue.workers,
        waiting_paused: queue.waiting_paused,
        waiting_no_worker: queue.waiting_no_worker,
    }
}

type Numbers = ([u64; 9], Spans);

fn counted(counters: &QueueCounters) -> Numbers {
    let QueueCounters {
        submitted,
        succeeded,
        failed,
        revoked,
        retried,
        deliveries,
        worker_lost,
        released,
        taken_back,
        spans,
    } = counters;
    let numbers = [
        submitted,
        succeeded,
        failed,
        revoked,
        retried,
        deliveries,
        worker_lost,
        released,
        taken_back,
    ];
    (numbers.map(|number| *number), spans.as_deref().copied().unwrap_or_default())
}

fn listed(counters: &Counters) -> Numbers {
    let Counters { waits, runs, .. } = counters;
    let numbers = [
        counters.submitted,
        counters.succeeded,
        counters.failed,
        counters.revoked,
        counters.retried,
        counters.deliveries,
        counters.worker_lost,
        counters.released,
        counters.taken_back,
    ];
    (numbers, Spans { wait: histogram(waits), run: histogram(runs) })
}

fn histogram(spans: &[u64]) -> Histogram {
    let mut histogram = Histogram { sum: spans.iter().sum(), ..Histogram::default() };
    let mut below = 0;
    for (bucket, bound) in SPAN_BOUNDS_MS.iter().chain([&u64::MAX]).enumerate() {
        let up_to = spans.iter().filter(|span| *span <= bound).count() as u64;
        histogram.counts[bucket] = up_to - below;
        below = up_to;
    }
    histogram
}
