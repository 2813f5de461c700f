//! A serializer that checks each value before serde_json writes it. `parts` checks the items of
//! lists and maps.

use std::cell::Cell;
use std::fmt::{self, Display, Write as _};

use serde::Serialize;
use serde::ser::Serializer;

use super::parts::{Kind, Parts};
use super::raw;
use super::walk::Walk;

/// A value that is checked while it is written. With `NAME` it is the name of an entry of a map,
/// which becomes a text.
pub(super) struct Checked<'a, T: ?Sized, const NAME: bool = false> {
    /// The value itself.
    value: &'a T,
    /// The state of the writing.
    walk: &'a Walk,
}

impl<'a, T: ?Sized> Checked<'a, T> {
    pub(super) fn new(value: &'a T, walk: &'a Walk) -> Self {
        Self { value, walk }
    }
}

impl<'a, T: ?Sized> Checked<'a, T, true> {
    pub(super) fn key(value: &'a T, walk: &'a Walk) -> Self {
        Self { value, walk }
    }
}

impl<T: Serialize + ?Sized, const NAME: bool> Serialize for Checked<'_, T, NAME> {
    #[inline]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(Checking::<S, NAME> { inner: serializer, walk: self.walk })
    }
}

/// A serializer of values.
struct Checking<'a, S, const NAME: bool> {
    inner: S,
    walk: &'a Walk,
}

impl<S: Serializer, const NAME: bool> Checking<'_, S, NAME> {
    /// Refuses a float that JSON does not have: NaN and the infinities.
    #[cold]
    fn not_finite(&self, number: impl Display) -> Result<S::Ok, S::Error> {
        self.walk.refuse(format_args!("JSON has no number {number}"))
    }

    /// Readers take a whole number of more than 64 bits for the nearest float.
    #[cold]
    fn too_large(&self, number: impl Display) -> Result<S::Ok, S::Error> {
        self.walk
            .refuse(format_args!("the number {number} has more than 64 bits; write it as a text"))
    }
}

/// A length is only a hint. With 0 serde_json would close the list at once, even if items come.
/// With a large length it would take the memory before any item comes.
fn hint(length: usize) -> usize {
    length.clamp(1, 1_024)
}

/// The methods for values that need no check.
macro_rules! as_it_is {
    ($($method:ident($kind:ty))*) => {
        $(fn $method(self, value: $kind) -> Result<S::Ok, S::Error> {
            self.inner.$method(value)
        })*
    };
}

impl<'a, S: Serializer, const NAME: bool> Serializer for Checking<'a, S, NAME> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Parts<'a, S::SerializeSeq>;
    type SerializeTuple = Parts<'a, S::SerializeTuple>;
    type SerializeTupleStruct = Parts<'a, S::SerializeTupleStruct>;
    type SerializeTupleVariant = Parts<'a, S::SerializeTupleVariant>;
    type SerializeMap = Parts<'a, S::SerializeMap>;
    type SerializeStruct = Parts<'a, S::SerializeStruct>;
    type SerializeStructVariant = Parts<'a, S::SerializeStructVariant>;

    as_it_is! {
        serialize_bool(bool) serialize_char(char) serialize_str(&str)
        serialize_i8(i8) serialize_i16(i16) serialize_i32(i32) serialize_i64(i64)
        serialize_u8(u8) serialize_u16(u16) serialize_u32(u32) serialize_u64(u64)
        serialize_unit_struct(&'static str)
    }

    /// A number of more than 64 bits is refused. As the name of an entry it is a text, and is
    /// allowed.
    fn serialize_i128(self, value: i128) -> Result<S::Ok, S::Error> {
        let fits = i64::try_from(value).is_ok() || u64::try_from(value).is_ok();
        if fits || NAME { self.inner.serialize_i128(value) } else { self.too_large(value) }
    }

    /// As `serialize_i128`.
    fn serialize_u128(self, value: u128) -> Result<S::Ok, S::Error> {
        let fits = u64::try_from(value).is_ok();
        if fits || NAME { self.inner.serialize_u128(value) } else { self.too_large(value) }
    }

    /// A finite float is written; others are refused.
    fn serialize_f32(self, value: f32) -> Result<S::Ok, S::Error> {
        if value.is_finite() { self.inner.serialize_f32(value) } else { self.not_finite(value) }
    }

    /// As `serialize_f32`.
    fn serialize_f64(self, value: f64) -> Result<S::Ok, S::Error> {
        if value.is_finite() { self.inner.serialize_f64(value) } else { self.not_finite(value) }
    }

    /// serde_json writes bytes as a list of numbers.
    fn serialize_bytes(self, value: &[u8]) -> Result<S::Ok, S::Error> {
        self.walk.deeper()?;
        let written = self.inner.serialize_bytes(value);
        self.walk.back();
        written
    }

    fn serialize_none(self) -> Result<S::Ok, S::Error> {
        self.inner.serialize_none()
    }

    /// A `Some` leaves no trace in the JSON, but nests the stack.
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.walk.wrap()?;
        let written = self.inner.serialize_some(&Checked::<T, NAME> { value, walk: self.walk });
        self.walk.unwrap();
        written
    }

    fn serialize_unit(self) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit()
    }

    fn serialize_unit_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
    ) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit_variant(name, index, variant)
    }

    /// A newtype struct leaves no trace in the JSON, but nests the stack.
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        self.walk.wrap()?;
        let written = self
            .inner
            .serialize_newtype_struct(name, &Checked::<T, NAME> { value, walk: self.walk });
        self.walk.unwrap();
        written
    }

    /// A variant with one value is written as a map with one entry.
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        self.walk.deeper()?;
        let depth = self.walk.depth();
        let checked = Checked::new(value, self.walk);
        let written = self.inner.serialize_newtype_variant(name, index, variant, &checked);
        self.walk.back();
        self.walk.at(depth, written, || format!(".{variant}"))
    }

    /// A list is one level, whatever its length.
    fn serialize_seq(self, length: Option<usize>) -> Result<Self::SerializeSeq, S::Error> {
        Parts::new(self.walk, Kind::Plain, || self.inner.serialize_seq(length.map(hint)))
    }

    fn serialize_tuple(self, length: usize) -> Result<Self::SerializeTuple, S::Error> {
        Parts::new(self.walk, Kind::Plain, || self.inner.serialize_tuple(hint(length)))
    }

    fn serialize_tuple_struct(
        self,
        name: &'static str,
        length: usize,
    ) -> Result<Self::SerializeTupleStruct, S::Error> {
        Parts::new(self.walk, Kind::Plain, || self.inner.serialize_tuple_struct(name, hint(length)))
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Self::SerializeTupleVariant, S::Error> {
        let begin = || self.inner.serialize_tuple_variant(name, index, variant, hint(length));
        Parts::new(self.walk, Kind::Variant(variant), begin)
    }

    fn serialize_map(self, length: Option<usize>) -> Result<Self::SerializeMap, S::Error> {
        // Collections know their length. A struct with flattened fields does not, and may have a
        // name twice.
        let kind = if length.is_none() { Kind::named(self.walk) } else { Kind::Plain };
        Parts::new(self.walk, kind, || self.inner.serialize_map(length.map(hint)))
    }

    fn serialize_struct(
        self,
        name: &'static str,
        length: usize,
    ) -> Result<Self::SerializeStruct, S::Error> {
        // serde_json passes raw JSON through its serializer as a struct with a special name.
        let kind = if raw::is_raw(name) { Kind::Raw } else { Kind::Plain };
        Parts::new(self.walk, kind, || self.inner.serialize_struct(name, hint(length)))
    }

    /// A variant with fields is written as two maps, one inside the other.
    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Self::SerializeStructVariant, S::Error> {
        let begin = || self.inner.serialize_struct_variant(name, index, variant, hint(length));
        Parts::new(self.walk, Kind::Variant(variant), begin)
    }

    /// A value that is written with its `Display`. The text is bounded, and an error of the
    /// `Display` is a refusal.
    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        let shown =
            Shown { value, bytes_left: Cell::new(self.walk.bytes_max()), problem: Cell::new(None) };
        let written = self.inner.collect_str(&shown)?;
        match shown.problem.get() {
            Some(problem) => self.walk.refuse(problem),
            None => Ok(written),
        }
    }
}

/// A `Display` that never returns an error of its own, because serde_json panics then. Nor does it
/// write without end, because not all serializers take it piece by piece.
struct Shown<'a, T: ?Sized> {
    value: &'a T,
    /// The room that is left for the text.
    bytes_left: Cell<usize>,
    /// Why the text was refused. Kept here, because `fmt` can only return an error without a
    /// reason.
    problem: Cell<Option<&'static str>>,
}

impl<T: Display + ?Sized> Display for Shown<'_, T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut piecewise = Piecewise { formatter, bytes_left: &self.bytes_left, stopped_by: None };
        let shown = write!(piecewise, "{}", self.value);
        match piecewise.stopped_by {
            Some(StopCause::Serializer) => return Err(fmt::Error),
            Some(StopCause::TooLong) => {
                self.problem.set(Some("a text that is longer than any broker takes"))
            }
            None if shown.is_err() => {
                self.problem.set(Some("a value that cannot be shown as text"))
            }
            None => {}
        }
        Ok(())
    }
}

/// Takes pieces of text until one cannot be written, and none after that.
struct Piecewise<'a, 'b> {
    /// Where the pieces go.
    formatter: &'a mut fmt::Formatter<'b>,
    /// The room that is left for the text.
    bytes_left: &'a Cell<usize>,
    /// Set at the first piece that was not written.
    stopped_by: Option<StopCause>,
}

/// Why a text was not written to its end.
enum StopCause {
    /// The serializer below returned an error of its own.
    Serializer,
    /// The text is longer than any broker accepts.
    TooLong,
}

impl fmt::Write for Piecewise<'_, '_> {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        if self.stopped_by.is_some() {
            return Err(fmt::Error);
        }
        self.stopped_by = match self.bytes_left.get().checked_sub(piece.len()) {
            None => Some(StopCause::TooLong),
            Some(left) => {
                self.bytes_left.set(left);
                self.formatter.write_str(piece).is_err().then_some(StopCause::Serializer)
            }
        };
        if self.stopped_by.is_some() { Err(fmt::Error) } else { Ok(()) }
    }
}
