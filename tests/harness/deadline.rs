//! Waiting with an end: nothing in these tests may hang, and nothing sleeps and hopes.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

/// How long a test waits for what should happen at once. Long, because machines are shared.
pub const PATIENCE: Duration = Duration::from_secs(20);

const POLL: Duration = Duration::from_millis(5);

/// The future's output, or a panic that says what did not come in time.
///
/// # Panics
/// When [`PATIENCE`] is over.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("waited {PATIENCE:?} in vain for {what}"),
    }
}

/// Asks again and again until the condition holds.
///
/// # Panics
/// When [`PATIENCE`] is over.
pub async fn until<Asked>(what: &str, mut condition: impl FnMut() -> Asked)
where
    Asked: Future<Output = bool>,
{
    let deadline = Instant::now() + PATIENCE;
    while !within(what, condition()).await {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain until {what}");
        sleep(POLL).await;
    }
}
