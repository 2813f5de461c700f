//! The items that the expansion of `#[task]` names. They are not part of the public interface, and
//! change together with the macro.

use celeriac_client::TaskDefinition;
use serde::Serialize;

/// The types that the attributes of a retry policy name.
pub use celeriac_client::{Backoff, Jitter, RetryPolicy};

use crate::context::Context;
use crate::failure::TaskFailure;
use crate::handler::Outcome;
use crate::payload::encode_result;
use crate::shared::Data;

/// The worker's shared value of this type. A worker without it does not start, so only a context
/// without a worker lacks it.
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

/// The outcome of a function that returns a `Result`.
pub fn fallible_outcome<T: Serialize, E: Into<TaskFailure>>(result: Result<T, E>) -> Outcome {
    match result {
        Ok(value) => encode_result(&value),
        Err(error) => Err(error.into()),
    }
}
