//! A full disk refuses new tasks, lets running ones end, and lets the broker start again.

use celeriac_tests::faults::full_disk;
use celeriac_tests::runs;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_submits_serves_reports_and_lets_the_broker_start_again() {
    full_disk::run(runs(2) as u64, 1).await.assert_clean();
}
