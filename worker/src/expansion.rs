//! What the expansion of `#[task]` names, and nobody else: not part of the public interface, and
//! changed together with the macro.

use std::time::Duration;

use celeriac_client::{RetryPolicy, TaskDefinition, TaskOptions};
use serde::Serialize;

pub use celeriac_client::{Backoff, Jitter};

use crate::context::Context;
use crate::failure::TaskFailure;
use crate::handler::Outcome;
use crate::payload::encode_result;
use crate::shared::Data;

/// The attributes of one task as the macro has checked them.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)]
pub struct Attributes {
    pub queue: Option<&'static str>,
    pub max_attempts: Option<u32>,
    pub retry_delay_ms: Option<u64>,
    pub backoff: Option<Backoff>,
    pub retry_factor: Option<f64>,
    pub retry_delay_max_ms: Option<u64>,
    pub jitter: Option<Jitter>,
    pub soft_time_limit_ms: Option<u64>,
    pub time_limit_ms: Option<u64>,
    pub priority: Option<u32>,
    pub expires_ms: Option<u64>,
    pub result_ttl_ms: Option<u64>,
    pub max_deliveries: Option<u32>,
    pub early_ack: bool,
}

impl Attributes {
    /// Nothing was written.
    pub const NONE: Self = Self {
        queue: None,
        max_attempts: None,
        retry_delay_ms: None,
        backoff: None,
        retry_factor: None,
        retry_delay_max_ms: None,
        jitter: None,
        soft_time_limit_ms: None,
        time_limit_ms: None,
        priority: None,
        expires_ms: None,
        result_ttl_ms: None,
        max_deliveries: None,
        early_ack: false,
    };

    /// As the options of the task's definition.
    pub fn into_options(self) -> TaskOptions {
        let span = |ms: Option<u64>| ms.map(Duration::from_millis);
        let mut options = TaskOptions::new();
        options.queue = self.queue;
        options.priority = self.priority;
        options.retry = self.retry();
        options.soft_time_limit = span(self.soft_time_limit_ms);
        options.time_limit = span(self.time_limit_ms);
        options.max_deliveries = self.max_deliveries;
        options.result_ttl = span(self.result_ttl_ms);
        options.expires_in = span(self.expires_ms);
        options.early_ack = self.early_ack;
        options
    }

    /// A policy only where something of it was written: otherwise it is the broker's.
    fn retry(&self) -> Option<RetryPolicy> {
        let mut policy = RetryPolicy::new();
        if let Some(runs) = self.max_attempts {
            policy = policy.max_attempts(runs);
        }
        if let Some(ms) = self.retry_delay_ms {
            policy = policy.delay(Duration::from_millis(ms));
        }
        if let Some(backoff) = self.backoff {
            policy = policy.backoff(backoff);
        }
        if let Some(factor) = self.retry_factor {
            policy = policy.factor(factor);
        }
        if let Some(ms) = self.retry_delay_max_ms {
            policy = policy.delay_max(Duration::from_millis(ms));
        }
        if let Some(jitter) = self.jitter {
            policy = policy.jitter(jitter);
        }
        let is_written =
            policy != RetryPolicy::new() || self.backoff.is_some() || self.jitter.is_some();
        is_written.then_some(policy)
    }
}

/// The worker's shared value of this type. A worker without it does not start, so that only a
/// context without a worker lacks it.
pub fn data<T: Send + Sync + 'static>(context: &Context) -> Result<Data<T>, TaskFailure> {
    let missing = || {
        TaskFailure::fatal(
            "missing_data",
            format!("there is no `Data<{}>` here", std::any::type_name::<T>()),
        )
    };
    context.data().ok_or_else(missing)
}

/// The queue of a definition, for the worker's subscription.
pub fn queue(task: &impl TaskDefinition) -> Option<String> {
    task.defaults().queue.map(str::to_owned)
}

/// The outcome of a function that cannot fail.
pub fn outcome<T: Serialize + ?Sized>(value: &T) -> Outcome {
    encode_result(value)
}

/// The outcome of a function that can.
pub fn fallible_outcome<T: Serialize, E: Into<TaskFailure>>(result: Result<T, E>) -> Outcome {
    match result {
        Ok(value) => encode_result(&value),
        Err(error) => Err(error.into()),
    }
}
