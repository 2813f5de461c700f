//! A disk whose calls fail: the broker ends with a code and a sentence, and nothing confirmed is
//! lost. `RUNS=300` fails more calls.

use celeriac_tests::faults::failing_disk;
use celeriac_tests::runs;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_confirmed_is_lost_when_system_calls_fail() {
    failing_disk::run(runs(30) as u64, 3).await.assert_clean();
}
