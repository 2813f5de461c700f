//! Setting the wall clock moves schedules and no lease.

use celeriac_tests::faults::clock_jumps;
use celeriac_tests::runs;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_jump_of_the_wall_clock_moves_schedules_and_no_lease() {
    clock_jumps::run(runs(12) as u64, 5).await.assert_clean();
}
