//! Damage to a data folder is refused with a sentence, or everything is served intact. `RUNS=2000`
//! damages more copies.

use celeriac_tests::faults::bit_rot;
use celeriac_tests::runs;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_or_a_cut_is_refused_or_everything_is_served_intact() {
    bit_rot::run(runs(100) as u64, 4).await.assert_clean();
}
