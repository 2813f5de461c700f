//! Checks JSON that a value contains as text and that serde_json writes unchanged: its `RawValue`,
//! and its numbers of any length. The text is read once, as its reader will read it.

use std::collections::BTreeSet;
use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};

use super::DEPTH_MAX;

/// The names of the structs in which serde_json keeps such text.
pub(super) const RAW_VALUE: &str = "$serde_json::private::RawValue";
pub(super) const NUMBER: &str = "$serde_json::private::Number";

pub(super) fn is_raw(name: &str) -> bool {
    // The first byte tells all other names apart.
    name.starts_with('$') && matches!(name, RAW_VALUE | NUMBER)
}

/// Whether a text is one JSON value that can be read inside `depth` lists and maps.
pub(super) fn check(text: &str, depth: usize) -> serde_json::Result<()> {
    let mut reader = serde_json::Deserializer::from_str(text);
    Readable { depth }.deserialize(&mut reader)?;
    reader.end()
}

/// Reads any JSON and keeps nothing of it.
struct Readable {
    /// How many lists and maps are open.
    depth: usize,
}

impl Readable {
    /// One level more; an error when serde_json would not read so deep.
    fn deeper<E: serde::de::Error>(&self) -> Result<usize, E> {
        match self.depth < DEPTH_MAX {
            true => Ok(self.depth + 1),
            false => Err(E::custom(format_args!(
                "lists and maps inside each other are at most {DEPTH_MAX} deep"
            ))),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Readable {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// The methods for values that need no check.
macro_rules! accept {
    ($($method:ident($kind:ty))*) => {
        $(fn $method<E>(self, _: $kind) -> Result<(), E> {
            Ok(())
        })*
    };
}

impl<'de> Visitor<'de> for Readable {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    accept! { visit_bool(bool) visit_i64(i64) visit_u64(u64) visit_f64(f64) visit_str(&str) }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let depth = self.deeper()?;
        while list.next_element_seed(Readable { depth })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut next = map.next_key::<String>()?;
        // serde_json represents a number of any length as such a map.
        if next.as_deref() == Some(NUMBER) {
            return number(&map.next_value::<String>()?);
        }
        let depth = self.deeper()?;
        // A reader sees one of two equal names, or refuses both.
        let mut names = BTreeSet::new();
        while let Some(name) = next {
            map.next_value_seed(Readable { depth })?;
            if let Some(name) = names.replace(name) {
                return Err(A::Error::custom(format_args!("the name `{name}` stands twice")));
            }
            next = map.next_key()?;
        }
        Ok(())
    }
}

/// Checks a number of any length: its reader must have a float for it.
fn number<E: serde::de::Error>(text: &str) -> Result<(), E> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(()),
        _ => Err(E::custom("number out of range")),
    }
}
