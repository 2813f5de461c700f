#![doc = include_str!("../README.md")]
//!
//! This crate reads a function, checks it, and writes the task in its place. The expansion only
//! names items of `celeriac-worker`, which has the code that runs tasks. The crate has no optional
//! features.

mod attributes;
mod expansion;
mod parameter;
mod signature;
mod span;

use proc_macro::TokenStream;
use syn::{ItemFn, parse_macro_input};

use attributes::Attributes;
use signature::Signature;

/// Makes a task of a function: an item of the function's name, which a worker registers and a
/// producer submits.
///
/// An `async fn` runs on the worker's runtime, a plain `fn` on a thread of the worker's own. The
/// parameters are:
///
/// - The first parameter may be the run's context, of type `Context` or `&Context`.
/// - A parameter of type `Data<T>` or `&Data<T>` gets the value that was added with the builder's
///   method `data`.
/// - All other parameters are the arguments of the task. Their types are owned types that serde
///   reads and writes.
///
/// The function returns a value, or a `Result` of a value and an error that becomes a
/// `TaskFailure`. A type counts as a `Result` when the last segment of its path is `Result`.
///
/// ```text
/// #[task(name = "songs.preprocess", queue = "songs", max_attempts = 4, time_limit = "10m")]
/// async fn preprocess(context: &Context, title: String) -> Result<Features, TaskFailure> {
///     // ...
/// }
/// ```
///
/// | attribute | meaning | when left out |
/// |---|---|---|
/// | `name = "songs.preprocess"` | the name of the task, 1 to 255 bytes | the function's name |
/// | `queue = "songs"` | the queue in which it waits | `default` |
/// | `max_attempts = 4` | the number of runs, the first included | the broker's: 4 |
/// | `retry_delay = "1s"` | the delay before the second run | the broker's: 1 s |
/// | `backoff = "exponential"` | how the delay grows; or `"fixed"`, `"polynomial"` | exponential |
/// | `retry_factor = 2.0` | the factor of the back-off | 2 |
/// | `retry_delay_max = "10m"` | the longest delay | 10 minutes, or `retry_delay` where that is longer |
/// | `jitter = "full"` | how the delay varies at random; or `"none"`, `"equal"` | none |
/// | `soft_time_limit = "9m"` | counted from each start: the context then has a signal | none |
/// | `time_limit = "10m"` | counted from each start: the run then ends as a failure | none |
/// | `priority = 7` | 0 to 9; the broker delivers 9 first | 4 |
/// | `expires = "1d"` | no attempt begins after this span, counted from the submit, or from the ETA or countdown | never |
/// | `result_ttl = "1d"` | how long the broker keeps the ended task | 1 day |
/// | `max_deliveries = 20` | how many times workers may begin it without an outcome | 20 |
/// | `early_ack` | once started, the task never runs a second time, not even after a failure | it may |
///
/// A span of time is a whole number and a unit: `"500ms"`, `"10s"`, `"5m"`, `"1h"`, `"1d"`.
///
/// The item is a unit struct with the function's name, visibility and documentation. The function
/// itself is `name::run`, for tests of the body without a broker. Because the struct has the
/// function's name, no variable in its scope can have the same name.
///
/// # What the attribute writes
///
/// For the function above:
///
/// ```text
/// struct preprocess;
///
/// impl preprocess {
///     // The function itself.
///     async fn run(context: &Context, title: String) -> Result<Features, TaskFailure> { .. }
/// }
///
/// // For producers: the types of arguments and output, and the options of every submit.
/// impl TaskDefinition for preprocess {
///     type Args = (String,);
///     type Output = Features;
///     fn name(&self) -> &str { "songs.preprocess" }
///     fn defaults(&self) -> TaskOptions { .. }
/// }
///
/// // For workers: reads the arguments and makes a run of the function.
/// impl Handler for preprocess { .. }
/// ```
///
/// # Errors
///
/// The compiler reports every mistake at its place, and all mistakes in the attributes at once.
/// These functions cannot be tasks:
///
/// - A function with `self`, a generic function, and one that is `const`, `unsafe` or `extern`.
/// - A function with more than 16 arguments: put them into a struct.
/// - A function that takes a reference as an argument, or returns one: arguments and result travel
///   in messages and must be owned.
/// - A function that takes or returns an `impl Trait`: serde needs the type.
/// - A function with `#[cfg(..)]` below `#[task]`: write it above, so that it applies to the whole
///   task.
#[proc_macro_attribute]
pub fn task(attributes: TokenStream, item: TokenStream) -> TokenStream {
    let attributes = parse_macro_input!(attributes as Attributes);
    let function = parse_macro_input!(item as ItemFn);
    match Signature::parse(&function) {
        Ok(signature) => expansion::expand(&attributes, &signature, &function).into(),
        Err(error) => error.into_compile_error().into(),
    }
}
