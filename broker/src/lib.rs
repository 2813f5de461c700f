#![doc = include_str!("../README.md")]
//!
//! # Where things are
//!
//! | module | what it is |
//! |---|---|
//! | `config` | what an operator may choose |
//! | `server` | [`run`]: open, accept, shut down |
//! | `descriptors` | how many connections the process can hold |
//! | `session` | one connection: wire frames to commands, messages to wire frames |
//! | `lobby` | connections before and after their Hello, and how many of each there may be |
//! | `room` | what all connections share of memory and of turns, and who waits for it |
//! | `driver` | the loop that owns the machine |
//! | `machine` | what a task queue is: pure, deterministic, the index of the store |
//! | `commit` | the store's thread: append, commit, then answer |
//! | `outbox` | what waits for the writer of a connection |
//! | `store` | the log of records in sled; knows nothing of the machine |
//! | `error` | why a broker ends |
//! | `record` | what machine and store agree on |
//! | `clock` | the one file that reads the time |
//! | `internals` | the inside, for the fault harness and the bench: behind the feature of that name |
//! | [`testing`] | a broker in the process of a test, for users of the crates too |

mod clock;
mod commit;
mod config;
mod descriptors;
mod driver;
mod error;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod internals;
mod lobby;
mod outbox;
mod room;
mod server;
mod session;
mod size;
pub mod testing;

pub use celeriac_store::{Error as StoreError, Report, check, check_telling};
pub use config::{Config, ConfigError};
pub use error::RunError;
pub use server::{Broker, run};
