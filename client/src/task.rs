//! What a program knows of a task that it calls: its name, the types of its arguments and its
//! output, its defaults. The body is a worker's affair.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::retry::RetryPolicy;

/// A task that can be called with types. A worker's `#[task]` functions implement it; a program
/// without the body declares a [`Task`].
pub trait TaskDefinition {
    /// A tuple: `()`, `(String,)`, `(String, u32)`.
    type Args: Serialize;
    /// What its handler returns on success.
    type Output: DeserializeOwned;

    /// What it is called on the wire, e.g. `songs.preprocess`.
    fn name(&self) -> &str;

    /// What every submit of it says unless the caller says otherwise.
    fn defaults(&self) -> TaskOptions {
        TaskOptions::new()
    }
}

/// What a task definition sets for all its submits. What is not set is left to the queue and the
/// broker.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub struct TaskOptions {
    /// Where it waits; `default` when not set.
    pub queue: Option<&'static str>,
    /// 0 to 9, 9 first.
    pub priority: Option<u32>,
    /// When a failed task runs again.
    pub retry: Option<RetryPolicy>,
    /// From the start of each attempt: a signal to the handler.
    pub soft_time_limit: Option<Duration>,
    /// From the start of each attempt: the end of it.
    pub time_limit: Option<Duration>,
    /// How often it may be begun without an outcome.
    pub max_deliveries: Option<u32>,
    /// How long the ended task is kept.
    pub result_ttl: Option<Duration>,
    /// From the submit, or from its eta or countdown: no attempt begins after it.
    pub expires_in: Option<Duration>,
    /// Once started, a lost worker means Failure and not a second run.
    pub early_ack: bool,
}

impl TaskOptions {
    /// Nothing set.
    pub const fn new() -> Self {
        Self {
            queue: None,
            priority: None,
            retry: None,
            soft_time_limit: None,
            time_limit: None,
            max_deliveries: None,
            result_ttl: None,
            expires_in: None,
            early_ack: false,
        }
    }
}

/// A task that this program calls and another one runs.
///
/// ```
/// use celeriac_client::{RetryPolicy, Task};
/// use serde::Deserialize;
///
/// #[derive(Deserialize)]
/// struct Features { tempo: f64 }
///
/// const PREPROCESS: Task<(String,), Features> =
///     Task::new("songs.preprocess").queue("songs").retry(RetryPolicy::new().max_attempts(2));
/// ```
pub struct Task<A, R> {
    name: &'static str,
    options: TaskOptions,
    types: PhantomData<fn(A) -> R>,
}

impl<A, R> Task<A, R> {
    /// A task of this name, with the defaults of the broker.
    pub const fn new(name: &'static str) -> Self {
        Self { name, options: TaskOptions::new(), types: PhantomData }
    }

    /// Where it waits.
    pub const fn queue(mut self, queue: &'static str) -> Self {
        self.options.queue = Some(queue);
        self
    }

    /// When a failed task runs again.
    pub const fn retry(mut self, policy: RetryPolicy) -> Self {
        self.options.retry = Some(policy);
        self
    }

    /// All defaults at once.
    pub const fn options(mut self, options: TaskOptions) -> Self {
        self.options = options;
        self
    }
}

impl<A: Serialize, R: DeserializeOwned> TaskDefinition for Task<A, R> {
    type Args = A;
    type Output = R;

    fn name(&self) -> &str {
        self.name
    }

    fn defaults(&self) -> TaskOptions {
        self.options
    }
}

impl<A, R> Clone for Task<A, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<A, R> Copy for Task<A, R> {}

impl<A, R> fmt::Debug for Task<A, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").field("name", &self.name).field("options", &self.options).finish()
    }
}
