//! Finds names that occur twice in a map. A map of Rust has none. But a value that is flattened
//! into a struct can have a name that the struct has too, and the field in which an enum names its
//! variant can have the name of a field of the variant. Readers refuse such a map, or see only one
//! of the two.

use std::any;

use serde::{Serialize, ser};

use super::text::Text;
use super::walk::Walk;

/// The names of a map, one after the other, as JSON writes them.
pub(super) struct Names {
    text: Text,
    ends: Vec<usize>,
}

impl Names {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { text: Text::new(bytes_max), ends: Vec::new() }
    }

    pub(super) fn add<E: ser::Error>(&mut self, name: &impl Serialize) -> Result<(), E> {
        serde_json::to_writer(&mut self.text, name).map_err(E::custom)?;
        self.ends.push(self.text.bytes().len());
        Ok(())
    }

    /// Refuses the map when a name occurs twice.
    pub(super) fn check<E: ser::Error>(&self, walk: &Walk) -> Result<(), E> {
        let begins = [0].into_iter().chain(self.ends.iter().copied());
        let mut names: Vec<_> = begins
            .zip(&self.ends)
            .map(|(begin, end)| unquoted(self.text.bytes().get(begin..*end).unwrap_or_default()))
            .collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => stands_twice(walk, &String::from_utf8_lossy(pair[0])),
            None => Ok(()),
        }
    }
}

/// Removes the quotes: a number as a name is written in quotes and equals the text of its digits.
fn unquoted(name: &[u8]) -> &[u8] {
    name.strip_prefix(b"\"").and_then(|name| name.strip_suffix(b"\"")).unwrap_or(name)
}

pub(super) fn stands_twice<E: ser::Error>(walk: &Walk, name: &str) -> Result<(), E> {
    walk.refuse(format_args!("the name `{name}` stands twice"))
}

/// Whether a name comes from the source of a program, and not from a collection, whose names are
/// owned or borrowed. The field in which an enum names its variant is such a name, and serde writes
/// it first.
pub(super) fn is_of_a_program<T: ?Sized>() -> bool {
    any::type_name::<T>() == any::type_name::<str>()
}
