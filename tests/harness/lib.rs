//! The harness of the tests from outside: the broker and workers as real processes, raw
//! connections, deadlines, traffic with a history, and faults. It has no test of the product.

// The harness fails with a panic and a sentence, and prints what happened to stderr.
#![allow(clippy::print_stderr)]

pub mod authority;
mod binary;
mod broker_process;
mod deadline;
pub mod faults;
mod file_system_shutdown;
mod guard;
pub mod honest;
mod in_process_worker;
pub mod inside;
mod mounted_file_system;
pub mod planted;
pub mod proxy;
mod random_source;
pub mod raw;
mod recording_proxy;
pub mod simulated_disk;
pub mod soak;
pub mod traffic;
mod traffic_run;
mod worker_process;

pub use binary::{celeriac_binary, simulation_binary, test_broker_binary, worker_binary};
pub use broker_process::{BrokerProcess, Exit, Setup};
pub use deadline::{PATIENCE, until, within};
pub use guard::Guarded;
pub use in_process_worker::InProcessWorker;
pub use proxy::Proxy;
pub use random_source::RandomSource;
pub use raw::RawConnection;
pub use recording_proxy::RecordingProxy;
pub use traffic_run::TrafficRun;
pub use worker_process::{WorkerProcess, held};

/// How often a test repeats what it does: the environment variable `RUNS`, or this number.
pub fn runs(by_default: usize) -> usize {
    std::env::var("RUNS").ok().and_then(|text| text.parse().ok()).unwrap_or(by_default)
}

/// The seed of a fault: the environment variable `SEED`, or this number.
pub fn seed(by_default: u64) -> u64 {
    std::env::var("SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(by_default)
}
