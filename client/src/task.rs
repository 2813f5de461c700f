//! What a program knows of a task that it calls: the name, the types of arguments and output, and
//! the default options. A worker has the body.

use std::fmt;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::options::TaskOptions;
use crate::retry::RetryPolicy;

/// A task that can be called with types. Workers' `#[task]` functions implement this trait. A
/// program without the body declares a [`Task`].
///
/// Implement the trait by hand only where the name or the options are not known at compile time:
///
/// ```
/// use celeriac_client::{TaskDefinition, TaskOptions};
///
/// /// The same task in a queue for each tenant.
/// struct Import {
///     queue: &'static str,
/// }
///
/// impl TaskDefinition for Import {
///     type Args = (String,);
///     type Output = u64;
///
///     fn name(&self) -> &str {
///         "import"
///     }
///
///     fn defaults(&self) -> TaskOptions {
///         let mut options = TaskOptions::new();
///         options.queue = Some(self.queue);
///         options
///     }
/// }
/// ```
pub trait TaskDefinition {
    /// The arguments, a tuple: `()`, `(String,)`, `(String, u32)`.
    type Args: Serialize;
    /// The value that the handler returns on success.
    type Output: DeserializeOwned;

    /// The name of the task on the wire, for example `songs.preprocess`.
    fn name(&self) -> &str;

    /// The options of every submit of this task, unless the caller overrides them.
    fn defaults(&self) -> TaskOptions {
        TaskOptions::new()
    }
}

/// A task that this program calls and another program runs. `A` is the tuple of its arguments, `R`
/// its output.
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
    /// A task of this name that sets no option.
    pub const fn new(name: &'static str) -> Self {
        Self { name, options: TaskOptions::new(), types: PhantomData }
    }

    /// The queue in which the task waits. The default is `default`.
    pub const fn queue(mut self, queue: &'static str) -> Self {
        self.options.queue = Some(queue);
        self
    }

    /// When a failed task runs again.
    pub const fn retry(mut self, policy: RetryPolicy) -> Self {
        self.options.retry = Some(policy);
        self
    }

    /// Sets all options at once, and replaces those that were set before; see [`TaskOptions`].
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
