//! Writes JSON that its reader can read back. serde_json also writes values that nobody can read
//! back; this module refuses them while they are written, with the path to the value:
//!
//! - numbers that JSON does not have, and numbers that readers do not read as they were written,
//! - lists and maps that are nested deeper than serde_json reads,
//! - maps with the same name twice,
//! - values that a faulty `Serialize` leaves half written.
//!
//! JSON that is longer than any broker accepts is refused before it fills the memory.
//!
//! ```
//! use celeriac_client::json;
//!
//! assert_eq!(json::to_vec(&[1.5, 2.0])?, b"[1.5,2.0]");
//! let refusal = json::to_vec(&[1.5, f64::NAN]).expect_err("JSON has no NaN");
//! assert_eq!(refusal.path, "$[1]");
//! # Ok::<(), json::NotJson>(())
//! ```
//!
//! The modules: `walk` has the state of the writing, `checking` checks values, `parts` checks the
//! items of lists and maps, `names` finds names that occur twice, `raw` checks JSON that was
//! written elsewhere, and `text` takes the output.

mod checking;
mod names;
mod parts;
mod raw;
mod text;
mod walk;

#[cfg(test)]
mod tests;

use serde::Serialize;

use checking::Checked;
use text::Text;
use walk::Walk;

/// The deepest nesting of lists and maps that serde_json reads, the outermost included.
const DEPTH_MAX: usize = 127;

/// The deepest nesting of `Some` and newtype structs. They leave no trace in the JSON, so they do
/// not count as levels. But each of them takes a part of the stack, and a value that contains
/// itself has them without end. Measured without optimisation: the deepest nesting of both kinds
/// together takes at most half of a thread's 2 MiB.
const WRAPPERS_MAX: usize = 500;

/// The longest JSON. No broker can be configured to accept longer frames.
const BYTES_MAX: usize = 1024 * 1024 * 1024;

/// The longest path in a refusal.
const PATH_BYTES_MAX: usize = 200;

/// Why a value cannot be written as JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {reason}")]
#[non_exhaustive]
pub struct NotJson {
    /// The place in the value, as `$.scores[3]`; `$` is the value itself.
    pub path: String,
    /// What is wrong at this place.
    pub reason: String,
}

/// Writes a value as JSON.
///
/// # Errors
/// [`NotJson`] for a value that cannot be read back or is longer than any broker accepts, and for
/// whatever the value's own `Serialize` refuses.
pub fn to_vec(value: &(impl Serialize + ?Sized)) -> Result<Vec<u8>, NotJson> {
    to_vec_inside(0, value)
}

/// As [`to_vec`], for a value that will be inside `levels` lists and maps.
pub(crate) fn to_vec_inside(
    levels: usize,
    value: &(impl Serialize + ?Sized),
) -> Result<Vec<u8>, NotJson> {
    write(Walk::new(levels, BYTES_MAX), value)
}

/// As [`to_vec_inside`], for a [`serde_json::Value`]. The value is read from the text, so that both
/// have the same content.
pub(crate) fn to_value_inside(
    levels: usize,
    value: &(impl Serialize + ?Sized),
) -> Result<serde_json::Value, NotJson> {
    let text = to_vec_inside(levels, value)?;
    serde_json::from_slice(&text)
        .map_err(|error| NotJson { path: "$".to_owned(), reason: error.to_string() })
}

fn write(walk: Walk, value: &(impl Serialize + ?Sized)) -> Result<Vec<u8>, NotJson> {
    let mut writer = serde_json::Serializer::new(Text::new(walk.bytes_max()));
    let written = Checked::new(value, &walk).serialize(&mut writer);
    match written {
        // The value's own `Serialize` may have ignored a refusal.
        Ok(()) if !walk.has_refused() => Ok(writer.into_inner().into_bytes()),
        Ok(()) => Err(walk.into_refusal(String::new())),
        Err(error) => Err(walk.into_refusal(error.to_string())),
    }
}
