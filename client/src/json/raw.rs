//! JSON that stands in a value as text, and that serde_json writes as it is: its `RawValue`, and
//! its numbers of any length. It is read once, for what its reader will meet.

use std::collections::BTreeSet;
use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};

use super::DEPTH_MAX;

/// How serde_json names the structs by which it knows such text.
pub(super) const RAW_VALUE: &str = "$serde_json::private::RawValue";
pub(super) const NUMBER: &str = "$serde_json::private::Number";

pub(super) fn is_raw(name: &str) -> bool {
    // All other names are told apart by their first byte.
    name.starts_with('$') && matches!(name, RAW_VALUE | NUMBER)
}

/// Whether a text is one piece of JSON that can be read inside so many lists and maps.
pub(super) fn check(text: &str, depth: usize) -> serde_json::Result<()> {
    let mut reader = serde_json::Deserializer::from_str(text);
    Readable { depth }.deserialize(&mut reader)?;
    reader.end()
}

/// Reads whatever comes and keeps nothing.
struct Readable {
    depth: usize,
}

impl Readable {
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
        // How a number of any length comes, where serde_json keeps them.
        if next.as_deref() == Some(NUMBER) {
            return number(&map.next_value::<String>()?);
        }
        let depth = self.deeper()?;
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

fn number<E: serde::de::Error>(text: &str) -> Result<(), E> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(()),
        _ => Err(E::custom("number out of range")),
    }
}
