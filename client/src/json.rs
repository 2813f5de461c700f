//! JSON that its reader can read: what serde_json would write and nobody could read back is refused
//! where it is written, with the path to the value. These are numbers that JSON does not have or
//! nobody reads as they were, lists and maps nested deeper than serde_json reads, names that stand
//! twice, and what a `Serialize` with a flaw leaves half written. What no broker takes for its
//! length is refused before it fills the memory.
//!
//! The parts: `walk` knows how far the writing has come, `checking` looks at values, `parts` at
//! what lists and maps consist of, `names` at names that stand twice, `raw` at JSON that was
//! written elsewhere; `text` takes what is written.

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

/// Lists and maps inside each other, the outermost included: serde_json reads no more.
const DEPTH_MAX: usize = 127;

/// `Some` and structs of one value around each other. JSON has no trace of them, so they are no
/// levels; but each takes its part of the stack, and a value that contains itself has them without
/// end. Measured: with all levels and all of these, unoptimised, at most half of a thread's 2 MiB
/// is taken.
const WRAPPERS_MAX: usize = 500;

/// The longest JSON: no broker can be set to take longer frames.
const BYTES_MAX: usize = 1024 * 1024 * 1024;

/// The longest path that is told.
const PATH_BYTES_MAX: usize = 200;

/// Why a value cannot be written as JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {reason}")]
#[non_exhaustive]
pub struct NotJson {
    /// Where in the value it is, as `$.scores[3]`; `$` is the value itself.
    pub path: String,
    /// What is wrong there.
    pub reason: String,
}

/// Writes a value as JSON.
///
/// # Errors
/// [`NotJson`] for what cannot be read back or is longer than any broker takes, and for whatever
/// the value's own `Serialize` refuses.
pub fn to_vec(value: &(impl Serialize + ?Sized)) -> Result<Vec<u8>, NotJson> {
    to_vec_inside(0, value)
}

/// As [`to_vec`], for a value that will stand inside so many lists and maps.
pub(crate) fn to_vec_inside(
    levels: usize,
    value: &(impl Serialize + ?Sized),
) -> Result<Vec<u8>, NotJson> {
    write(Walk::new(levels, BYTES_MAX), value)
}

/// As [`to_vec_inside`], as a value. It is read from the text, so that what holds for the text
/// holds for it.
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
        // The value may have swallowed a refusal.
        Ok(()) if !walk.has_refused() => Ok(writer.into_inner().into_bytes()),
        Ok(()) => Err(walk.into_refusal(String::new())),
        Err(error) => Err(walk.into_refusal(error.to_string())),
    }
}
