//! A serializer that looks at each value before it lets serde_json write it. What lists and maps
//! consist of is looked at in `parts`.

use std::cell::Cell;
use std::fmt::{self, Display, Write as _};

use serde::Serialize;
use serde::ser::Serializer;

use super::parts::{Kind, Parts};
use super::raw;
use super::walk::Walk;

/// A value that is looked at while it is written. As the name of one in a map it becomes a text,
/// whatever it is.
pub(super) struct Checked<'a, T: ?Sized, const NAME: bool = false> {
    value: &'a T,
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

/// A serializer of values, or of the parts of one.
struct Checking<'a, S, const NAME: bool> {
    inner: S,
    walk: &'a Walk,
}

impl<S: Serializer, const NAME: bool> Checking<'_, S, NAME> {
    #[cold]
    fn not_finite(&self, number: impl Display) -> Result<S::Ok, S::Error> {
        self.walk.refuse(format_args!("JSON has no number {number}"))
    }

    /// Others read whole numbers of 64 bits, and longer ones as the nearest float.
    #[cold]
    fn too_large(&self, number: impl Display) -> Result<S::Ok, S::Error> {
        self.walk
            .refuse(format_args!("the number {number} has more than 64 bits; write it as a text"))
    }
}

/// A length is a hint only. With 0 serde_json would close the list at once, whatever comes, and
/// with a large one it would take the memory before anything comes.
fn hint(length: usize) -> usize {
    length.clamp(1, 1_024)
}

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

    fn serialize_i128(self, value: i128) -> Result<S::Ok, S::Error> {
        let fits = i64::try_from(value).is_ok() || u64::try_from(value).is_ok();
        if fits || NAME { self.inner.serialize_i128(value) } else { self.too_large(value) }
    }

    fn serialize_u128(self, value: u128) -> Result<S::Ok, S::Error> {
        let fits = u64::try_from(value).is_ok();
        if fits || NAME { self.inner.serialize_u128(value) } else { self.too_large(value) }
    }

    fn serialize_f32(self, value: f32) -> Result<S::Ok, S::Error> {
        if value.is_finite() { self.inner.serialize_f32(value) } else { self.not_finite(value) }
    }

    fn serialize_f64(self, value: f64) -> Result<S::Ok, S::Error> {
        if value.is_finite() { self.inner.serialize_f64(value) } else { self.not_finite(value) }
    }

    /// They are written as a list of numbers.
    fn serialize_bytes(self, value: &[u8]) -> Result<S::Ok, S::Error> {
        self.walk.deeper()?;
        let written = self.inner.serialize_bytes(value);
        self.walk.back();
        written
    }

    fn serialize_none(self) -> Result<S::Ok, S::Error> {
        self.inner.serialize_none()
    }

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
        // Those who know their length are collections, or ought to be; flattened structs do not
        // know it.
        let kind = if length.is_none() { Kind::named(self.walk) } else { Kind::Plain };
        Parts::new(self.walk, kind, || self.inner.serialize_map(length.map(hint)))
    }

    fn serialize_struct(
        self,
        name: &'static str,
        length: usize,
    ) -> Result<Self::SerializeStruct, S::Error> {
        let kind = if raw::is_raw(name) { Kind::Raw } else { Kind::Plain };
        Parts::new(self.walk, kind, || self.inner.serialize_struct(name, hint(length)))
    }

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

/// A `Display` that never fails by itself: serde_json panics when one does. Nor does it go on
/// without end: not all serializers write it piece by piece.
struct Shown<'a, T: ?Sized> {
    value: &'a T,
    bytes_left: Cell<usize>,
    problem: Cell<Option<&'static str>>,
}

impl<T: Display + ?Sized> Display for Shown<'_, T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut piecewise = Piecewise { formatter, bytes_left: &self.bytes_left, end: None };
        let shown = write!(piecewise, "{}", self.value);
        match piecewise.end {
            Some(End::Below) => return Err(fmt::Error),
            Some(End::TooLong) => {
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

/// Takes pieces of text until one cannot be written, and none after it.
struct Piecewise<'a, 'b> {
    formatter: &'a mut fmt::Formatter<'b>,
    bytes_left: &'a Cell<usize>,
    end: Option<End>,
}

enum End {
    /// The serializer has its own error.
    Below,
    TooLong,
}

impl fmt::Write for Piecewise<'_, '_> {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        if self.end.is_some() {
            return Err(fmt::Error);
        }
        self.end = match self.bytes_left.get().checked_sub(piece.len()) {
            None => Some(End::TooLong),
            Some(left) => {
                self.bytes_left.set(left);
                self.formatter.write_str(piece).is_err().then_some(End::Below)
            }
        };
        if self.end.is_some() { Err(fmt::Error) } else { Ok(()) }
    }
}
