#![doc = include_str!("../README.md")]
//!
//! # Where things are
//!
//! - [`Client`] submits tasks and asks about them; [`ClientBuilder`] connects it.
//! - [`Task`] and [`TaskDefinition`] describe a task that can be called with types, and
//!   [`TaskOptions`] its default options.
//! - [`Submission`] is one submit with its options, [`ApplyAsync`] the same for a typed call.
//! - [`TaskHandle`] refers to one task, [`TaskInfo`] is what the broker knows of it, and [`Watch`]
//!   is a stream of its states.
//! - [`Error`] says why a call failed, and [`Refusal`] why one item of a list was refused.
//!
//! The wire protocol is not visible here, except in [`connection`], on which the worker crate is
//! built. No code in this crate runs a task.
//!
//! The feature `tls`, which is on by default, brings addresses that begin with `celeriacs://`. A
//! program that reaches its broker on its own machine alone can leave it out, and builds without
//! the cryptography then.

mod admin;
mod apply;
mod args;
mod batches;
mod broker;
mod builder;
mod cancel;
mod client;
#[doc(hidden)]
pub mod connection;
mod environment;
mod error;
mod getting;
mod handle;
mod info;
pub mod json;
mod listing;
mod minting;
mod options;
mod queue;
mod retry;
mod stats;
mod submission;
mod task;
mod token_file;
mod url;
mod wait;
mod watch;

pub use admin::Backup;
pub use apply::{ApplyAsync, TypedCall};
pub use args::{IntoArgs, IntoArgument};
pub use broker::{BrokerInfo, BrokerLimits, DataUsage};
pub use builder::ClientBuilder;
pub use cancel::{CancelMode, CancelOutcome, Cancelled};
pub use client::Client;
pub use environment::{BrokerFromEnv, EnvironmentError, broker_from_env, url_from_env};
pub use error::{Error, ErrorCode, Refusal, TlsReason};
pub use handle::TaskHandle;
pub use info::{Progress, State, TaskError, TaskInfo, WaitingFor};
pub use listing::{TaskFilter, TaskPage, WorkerOrder, WorkerStatus};
pub use options::{OnConflict, TaskOptions};
pub use queue::{QueueInfo, QueueSettings};
pub use retry::{Backoff, Jitter, RetryPolicy};
pub use stats::{
    AuthFailures, BrokerStats, Histogram, ProcessStats, QueueCounters, QueueStats, Stats,
};
pub use submission::{Submission, SubmitKind, Submitted};
pub use task::{Task, TaskDefinition};
pub use url::{BrokerUrl, InvalidUrl};
pub use wait::{WaitMode, Waited};
pub use watch::Watch;
