#![doc = include_str!("../README.md")]
//!
//! # Where things are
//! | module | content |
//! |---|---|
//! | `config` | the configuration of a broker |
//! | `control` | settings that change while the broker serves |
//! | `server` | [`run`]: open, accept, shut down |
//! | `door` | connections of the process around the broker, without a socket |
//! | `descriptors` | how many connections the process can hold |
//! | `accept` | accepts connections, with TLS or without |
//! | `access` | who may do what: the access file, roles, scopes, the audit log |
//! | `cursors` | the cursors of clients with a scope |
//! | `regular_file` | opens and reads the files that the operator names |
//! | `tls` | the certificates, and the handshake of a connection |
//! | `session` | one connection: wire frames to commands, messages to wire frames |
//! | `lobby` | connections before and after their Hello, and how many of each there may be |
//! | `log_filter` | the filter of the log, which clients may change |
//! | `refused` | how often the log says that clients were refused |
//! | `room` | memory and turns that all connections share, and the callers that wait for them |
//! | `driver` | the loop that owns the machine |
//! | `commit` | the store's thread: append, commit, then answer |
//! | `outgoing` | the messages to clients, completed from the records |
//! | `send_queue` | the messages that wait for the writer of a connection |
//! | `process` | the memory, processor time and descriptors of the process |
//! | `tally` | what the broker counts outside the machine, for monitors |
//! | `size` | how many bytes of a frame a message takes |
//! | `clock` | the one file that reads the time |
//! | `error` | the errors that end a broker |
//! | [`testing`] | a broker in the process of a test, also for users of the crates |
//! | `internals` | the internals, only for the tests and the bench of the workspace |
//!
//! Three crates in this crate's folder hold the rest: `celeriac-machine` is the task queue itself,
//! pure and deterministic; `celeriac-store` keeps the records; `celeriac-record` defines the
//! records that both use.

mod accept;
mod access;
mod clock;
mod commit;
mod config;
mod control;
mod cursors;
mod descriptors;
mod door;
mod driver;
mod encode;
mod error;
mod gather;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod internals;
mod lobby;
mod log_filter;
mod outgoing;
mod process;
mod refused;
mod regular_file;
mod room;
mod send_queue;
mod server;
mod session;
mod size;
mod tally;
pub mod testing;
mod tls;

pub use access::{Access, AccessEntry, AccessError, AccessReport, NewToken, Role};
pub use celeriac_store::{Error as StoreError, Report, check, check_telling, restore};
pub use commit::Passed;
pub use config::{AuditWhat, Config, ConfigError, TlsClient};
pub use control::{Control, ReloadError, Reloaded};
pub use door::{Door, Entrance, Origin, Purpose, door};
pub use error::RunError;
pub use log_filter::LogFilter;
pub use server::{Broker, Restored, run};
pub use tls::{Certificates, ShownCertificate, TlsError};
