#![doc = include_str!("../README.md")]
//!
//! # Where things are
//!
//! [`Client`] submits and asks, [`TaskHandle`] stands for one task, [`Task`] and [`TaskDefinition`]
//! for what can be called, [`Submission`] for one call, [`TaskInfo`] for what is known of a task.
//! The wire protocol is not visible here, apart from [`connection`], on which the worker crate is
//! built. Nothing in this crate runs a task.

mod admin;
mod apply;
mod args;
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
mod queue;
mod retry;
mod submission;
mod submitting;
mod task;
mod url;
mod wait;
mod watch;

pub use admin::Backup;
pub use apply::ApplyAsync;
pub use args::{IntoArgs, IntoArgument};
pub use client::{CancelMode, CancelOutcome, Cancelled, Client, ClientBuilder};
pub use environment::{EnvironmentError, url_from_env};
pub use error::{Error, ErrorCode, Refusal};
pub use handle::TaskHandle;
pub use info::{Progress, State, TaskError, TaskInfo, WaitingFor};
pub use listing::{TaskFilter, TaskPage, WorkerOrder, WorkerStatus};
pub use queue::{QueueInfo, QueueSettings};
pub use retry::{Backoff, Jitter, RetryPolicy};
pub use submission::{OnConflict, Submission, SubmitKind, Submitted};
pub use task::{Task, TaskDefinition, TaskOptions};
pub use url::{BrokerUrl, InvalidUrl};
pub use wait::{WaitMode, Waited};
pub use watch::Watch;
