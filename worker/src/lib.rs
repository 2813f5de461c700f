#![doc = include_str!("../README.md")]

mod answers;
mod blocking;
mod builder;
mod context;
mod credit;
mod delivered;
mod driver;
mod eager;
#[doc(hidden)]
pub mod expansion;
mod failure;
mod handler;
mod leases;
mod middleware;
mod outbox;
mod panics;
mod payload;
mod shared;
mod signals;
mod slot;
mod termination;
mod threads;
mod worker;

pub use builder::WorkerBuilder;
pub use celeriac_client::{EnvironmentError, Task, TaskDefinition, TaskOptions};
pub use celeriac_macros::task;
pub use context::{Context, ProgressError};
pub use failure::TaskFailure;
pub use handler::{Handler, Outcome, Run};
pub use middleware::Middleware;
pub use payload::Payload;
pub use shared::{Data, DataType};
pub use worker::{RunError, Worker};
