//! Nothing confirmed is lost in a power cut. `RUNS=500` cuts for longer.

use celeriac_tests::faults::power_cut;
use celeriac_tests::runs;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_confirmed_is_lost_in_a_power_cut() {
    power_cut::run(runs(10) as u64, 6).await.assert_clean();
}
