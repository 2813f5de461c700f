//! Waiting with a deadline: no test may hang, and no test sleeps and hopes.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

/// How long a test waits for something that should happen at once. It is long because the machine
/// runs other programs too.
pub const PATIENCE: Duration = Duration::from_secs(20);

const POLL: Duration = Duration::from_millis(5);

/// The output of the future. The panic says what did not happen in time.
///
/// # Panics
/// When [`PATIENCE`] is over.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("waited {PATIENCE:?} in vain for {what}"),
    }
}

/// Checks the condition repeatedly until it holds.
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
