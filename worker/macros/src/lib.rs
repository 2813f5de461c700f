//! The `#[task]` attribute of `celeriac-worker`, which re-exports it and documents its use.
//! Here a function is taken apart, checked and put together again as a task. What a task is and
//! how it is run is the worker's business: the expansion only names items of that crate.

mod attributes;
mod expansion;
mod parameter;
mod signature;
mod span;

use proc_macro::TokenStream;
use syn::{ItemFn, parse_macro_input};

use attributes::Attributes;
use signature::Signature;

/// Makes a task of a function: an item of the function's name that a worker registers and a
/// producer submits.
///
/// An `async fn` runs on the worker's runtime; a plain `fn` runs on a thread of the worker's own. A
/// first parameter of the type `Context` or `&Context` is the run's context; parameters of the type
/// `Data<T>` or `&Data<T>` are given what the worker's builder was given as `data`; all the others
/// are the task's arguments, and these are owned types that serde reads and writes. The function
/// returns a value, or a `Result` (any type whose last word is `Result`) of a value and an error
/// that becomes a `TaskFailure`.
///
/// ```text
/// #[task(name = "songs.preprocess", queue = "songs", max_attempts = 4, retry_delay = "1s", time_limit = "10m")]
/// async fn preprocess(context: &Context, title: String) -> Result<Features, TaskFailure> {
///     // ...
/// }
/// ```
///
/// | attribute | meaning | when left out |
/// |---|---|---|
/// | `name = "songs.preprocess"` | what producers call it, 1 to 255 bytes | the function's name |
/// | `queue = "songs"` | where it waits | `default` |
/// | `max_attempts = 4` | runs in all, the first included | the broker's: 4 |
/// | `retry_delay = "1s"` | before the second run | the broker's: 1 s |
/// | `backoff = "exponential"` | or `"fixed"`, `"polynomial"` | exponential |
/// | `retry_factor = 2.0` | of the back-off | 2 |
/// | `retry_delay_max = "10m"` | no delay is longer | 10 minutes, or `retry_delay` where that is longer |
/// | `jitter = "full"` | or `"none"`, `"equal"` | none |
/// | `soft_time_limit = "9m"` | from each start: a signal in the context | none |
/// | `time_limit = "10m"` | from each start: the run ends as a failure | none |
/// | `priority = 7` | 0 to 9, 9 first | 4 |
/// | `expires = "1d"` | no attempt begins later than that after its submit, or after its eta or countdown | never |
/// | `result_ttl = "1d"` | how long the ended task is kept | 1 day |
/// | `max_deliveries = 20` | how often it is begun without an outcome | 20 |
/// | `early_ack` | once started, it never runs a second time, not even after a failure | it may |
///
/// Spans of time are a whole number and a unit: `"500ms"`, `"10s"`, `"5m"`, `"1h"`, `"1d"`.
///
/// The item is a unit struct with the function's name, visibility and documentation; the
/// function itself is `name::run`, for tests of the body without a broker. As the struct takes
/// the function's name, no variable in its scope can have the same one.
#[proc_macro_attribute]
pub fn task(attributes: TokenStream, item: TokenStream) -> TokenStream {
    let attributes = parse_macro_input!(attributes as Attributes);
    let function = parse_macro_input!(item as ItemFn);
    match Signature::parse(&function) {
        Ok(signature) => expansion::expand(&attributes, &signature, &function).into(),
        Err(error) => error.into_compile_error().into(),
    }
}
