//! A short soak: twenty seconds of what `make soak` does for ten minutes.

use std::time::Duration;

use celeriac_tests::soak::{Plan, soak};

#[tokio::test]
async fn every_task_is_accounted_for_while_workers_and_broker_break() {
    let plan = Plan {
        span: Duration::from_secs(20),
        rate: 100,
        workers: 3,
        trouble_every: Duration::from_millis(700),
        // With this seed the first five troubles are of the five kinds.
        seed: 106,
        worker: env!("CARGO_BIN_EXE_celeriac-test-worker").into(),
    };
    let samples = soak(&plan, |sample| eprintln!("{sample:?}")).await;
    for trouble in ["worker", "frozen", "cut off", "told to end", "broker killed"] {
        assert!(samples.iter().any(|sample| sample.trouble.contains(trouble)), "never: {trouble}");
    }
}
