//! What the fuzz targets run, over everything that they ever found and over seeded mutations of it,
//! on a stable compiler. `RUNS=100000` for longer.

use celeriac_tests::faults::fuzz;
use celeriac_tests::runs;

#[tokio::test]
async fn any_bytes_are_frames_or_a_fault_of_framing() {
    fuzz::one("frame", runs(10_000) as u64, 1).await.assert_clean();
}

#[tokio::test]
async fn any_conversation_leaves_the_books_in_order() {
    fuzz::one("request", runs(3_000) as u64, 2).await.assert_clean();
}

#[tokio::test]
async fn any_chunks_are_refused_or_served() {
    fuzz::one("chunk", runs(3_000) as u64, 3).await.assert_clean();
}
