#![doc = include_str!("../README.md")]
//!
//! # Where things are
//!
//! - [`Worker`] runs tasks; [`WorkerBuilder`] sets it up, and [`RunError`] says why it ended.
//! - [`macro@task`] makes a task of a function. [`Handler`] is the trait behind it, and [`Run`] one
//!   run of a handler.
//! - [`Context`] is what a running handler knows of its task, and [`Data`] a value that handlers
//!   share.
//! - [`TaskFailure`] is the failure of one attempt.
//! - [`Middleware`] has hooks around every run.
//!
//! The crate has no optional features.

mod answers;
mod blocking;
mod builder;
mod context;
mod credit;
mod delivered;
mod driver;
mod eager;
mod execution;
#[doc(hidden)]
pub mod expansion;
mod failure;
mod handler;
mod leases;
mod middleware;
mod panics;
mod payload;
mod pending_reports;
mod report_sender;
mod shared;
mod signals;
mod termination;
mod threads;
mod worker;

pub use builder::WorkerBuilder;
pub use celeriac_client::{EnvironmentError, Task, TaskDefinition, TaskOptions};
/// # Examples
///
/// An asynchronous task with options, a blocking one, and one without arguments:
///
/// ```
/// use std::time::Duration;
///
/// use celeriac_worker::{Context, TaskDefinition, TaskFailure, task};
///
/// #[task(queue = "mail", max_attempts = 5, retry_delay = "10s", jitter = "full", priority = 7)]
/// async fn send(context: &Context, to: String, body: String) -> Result<(), TaskFailure> {
///     context.progress("CONNECTING", &to).await?;
///     Ok(())
/// }
///
/// #[task(name = "photos.scale", soft_time_limit = "50s", time_limit = "1m")]
/// fn scale(photo: Vec<u8>, width: u32) -> std::io::Result<Vec<u8>> {
///     Ok(photo)
/// }
///
/// #[task(early_ack)]
/// async fn charge_all() {}
///
/// assert_eq!(send.defaults().queue, Some("mail"));
/// assert_eq!(TaskDefinition::name(&scale), "photos.scale");
/// assert_eq!(scale.defaults().time_limit, Some(Duration::from_secs(60)));
/// assert!(charge_all.defaults().early_ack);
/// ```
///
/// A mistake is an error of the compiler, at its place:
///
/// ```compile_fail
/// #[celeriac_worker::task(priority = 10)]
/// async fn too_urgent() {}
/// ```
///
/// ```compile_fail
/// #[celeriac_worker::task]
/// async fn borrows(title: &str) {}
/// ```
pub use celeriac_macros::task;
pub use context::{Context, Dropped, ProgressError};
pub use failure::TaskFailure;
pub use handler::{Handler, Outcome, Run};
pub use middleware::Middleware;
pub use payload::Payload;
pub use shared::{Data, DataType};
pub use worker::{RunError, Worker};
