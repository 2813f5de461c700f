//! Micro-benchmarks of the parts of the broker (decoding, machine, store with encoding):
//! `cargo bench -p celeriac-bench`. Each time is for a frame with a hundred tasks; divide it by a
//! hundred for one task. `celeriac-bench` measures a whole broker from outside.

use std::cell::RefCell;

use bytes::BytesMut;
use celeriac_tests::inside::Loop;
use divan::Bencher;

/// Tasks in a frame.
const BATCH: usize = 100;
const CREDIT: u32 = 10_000;

fn main() {
    divan::main();
}

/// Brings the broker to the stage before the measured one, and then measures that stage alone.
fn time(
    bencher: Bencher,
    broker: Loop,
    prepare: impl Fn(&mut Loop) -> BytesMut,
    stage: impl Fn(&mut Loop, BytesMut),
) {
    let broker = RefCell::new(broker);
    bencher
        .counter(divan::counter::ItemsCount::new(BATCH))
        .with_inputs(|| prepare(&mut broker.borrow_mut()))
        .bench_local_values(|frames| stage(&mut broker.borrow_mut(), frames));
}

/// Runs a hundred tasks to their end, so that they do not pile up.
fn empty(broker: &mut Loop) {
    let mut told = BytesMut::new();
    broker.broker.apply();
    broker.broker.commit();
    broker.broker.take(broker.producer, &mut BytesMut::new());
    broker.broker.take(broker.worker, &mut told);
    let (report, count) = broker.complete(&mut told).expect("the broker's frames are good");
    if count > 0 {
        broker.exchange(broker.worker, report);
    }
}

mod decoding {
    use super::*;

    #[divan::bench(sample_size = 1, sample_count = 500)]
    fn decode_submit(bencher: Bencher) {
        let prepare = |broker: &mut Loop| {
            empty(broker);
            broker.submit(BATCH)
        };
        time(bencher, Loop::in_memory(CREDIT), prepare, |broker, mut frames| {
            broker.broker.decode(broker.producer, &mut frames);
        });
    }
}

mod machine {
    use super::*;

    /// With so many ended tasks in the table, whose results are kept.
    #[divan::bench(args = [0, 10_000, 1_000_000], sample_size = 1, sample_count = 300)]
    fn submit_and_hand_out(bencher: Bencher, kept: usize) {
        time(
            bencher,
            kept_by(kept),
            |broker| {
                empty(broker);
                let mut frames = broker.submit(BATCH);
                broker.broker.decode(broker.producer, &mut frames);
                BytesMut::new()
            },
            |broker, _| broker.broker.apply(),
        );
    }

    #[divan::bench(args = [0, 10_000, 1_000_000], sample_size = 1, sample_count = 300)]
    fn complete(bencher: Bencher, kept: usize) {
        time(
            bencher,
            kept_by(kept),
            |broker| {
                empty(broker);
                let submit = broker.submit(BATCH);
                let mut told = broker.exchange(broker.producer, submit);
                let (mut report, _) =
                    broker.complete(&mut told).expect("the broker's frames are good");
                broker.broker.decode(broker.worker, &mut report);
                BytesMut::new()
            },
            |broker, _| broker.broker.apply(),
        );
    }

    fn kept_by(tasks: usize) -> Loop {
        let mut broker = Loop::in_memory(CREDIT);
        for _ in 0..tasks / BATCH {
            broker.lifecycles(BATCH).expect("all are handed out");
        }
        broker
    }
}

mod store {
    use super::*;

    #[divan::bench(sample_size = 1, sample_count = 500)]
    fn commit_to_memory(bencher: Bencher) {
        commit(bencher, Loop::in_memory(CREDIT));
    }

    /// With the fdatasync that every confirmation waits for.
    #[divan::bench(sample_size = 1, sample_count = 500)]
    fn commit_to_disk(bencher: Bencher) {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        commit(bencher, Loop::on_disk(folder.path(), CREDIT));
    }

    fn commit(bencher: Bencher, broker: Loop) {
        time(
            bencher,
            broker,
            |broker| {
                empty(broker);
                let mut frames = broker.submit(BATCH);
                broker.broker.decode(broker.producer, &mut frames);
                broker.broker.apply();
                BytesMut::new()
            },
            |broker, _| broker.broker.commit(),
        );
    }
}
