//! The harness of the tests from outside: the broker and workers as real processes, the raw wire,
//! deadlines, and histories with their checker. No test of the product lives here; the tests in
//! this crate are those of the checker.

// A harness fails by panicking with a sentence, and tells about a failure on stderr.
#![allow(clippy::print_stderr)]

mod binary;
mod broker_process;
mod crowd;
mod deadline;
pub mod faults;
mod file_system_shutdown;
pub mod history;
pub mod honest;
pub mod inside;
mod luck;
mod mounted;
pub mod planted;
mod pool;
pub mod proxy;
pub mod raw;
mod recording;
pub mod soak;
pub mod traffic;
mod worker_process;

pub use binary::{celeriac_binary, simulation_binary, test_broker_binary, worker_binary};
pub use broker_process::{BrokerProcess, Exit, Setup};
pub use crowd::Crowd;
pub use deadline::{PATIENCE, until, within};
pub use luck::Luck;
pub use pool::Pool;
pub use proxy::Proxy;
pub use raw::RawConnection;
pub use recording::RecordingProxy;
pub use worker_process::WorkerProcess;

/// How often a test that repeats itself should do so: the environment variable `RUNS`, or what the
/// test says.
pub fn runs(by_default: usize) -> usize {
    std::env::var("RUNS").ok().and_then(|text| text.parse().ok()).unwrap_or(by_default)
}

/// The seed of a fault: the environment variable `SEED`, or what the test says.
pub fn seed(by_default: u64) -> u64 {
    std::env::var("SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(by_default)
}
