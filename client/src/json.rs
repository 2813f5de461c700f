//! JSON that its reader can read: what serde_json would write and nobody could read back is refused where it is written,
//! with the path to the value. These are numbers that JSON does not have, which would become `null`, and lists and maps
//! nested deeper than serde_json reads.

use std::cell::{Cell, RefCell};
use std::fmt::{self, Display, Write as _};

use serde::Serialize;
use serde::ser::{self, Error as _, Serializer};

/// Lists and maps inside each other, the outermost included: serde_json reads no more.
const DEPTH_MAX: usize = 127;

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
/// [`NotJson`] for what cannot be read back, and for whatever the value's own `Serialize` refuses.
pub fn to_vec(value: &(impl Serialize + ?Sized)) -> Result<Vec<u8>, NotJson> {
    to_vec_inside(0, value)
}

/// As [`to_vec`], for a value that will stand inside so many lists and maps.
pub(crate) fn to_vec_inside(levels: usize, value: &(impl Serialize + ?Sized)) -> Result<Vec<u8>, NotJson> {
    write(levels, value, |checked| serde_json::to_vec(checked))
}

/// As [`to_vec_inside`], as a value.
pub(crate) fn to_value_inside(levels: usize, value: &(impl Serialize + ?Sized)) -> Result<serde_json::Value, NotJson> {
    write(levels, value, |checked| serde_json::to_value(checked))
}

fn write<V: Serialize + ?Sized, T>(
    levels: usize,
    value: &V,
    writer: impl FnOnce(&Checked<'_, V>) -> serde_json::Result<T>,
) -> Result<T, NotJson> {
    let walk = Walk { depth: Cell::new(levels), ..Walk::default() };
    writer(&Checked { value, walk: &walk }).map_err(|error| NotJson { path: walk.path(), reason: error.to_string() })
}

/// How far the writing has come.
#[derive(Default)]
struct Walk {
    depth: Cell<usize>,
    /// After an error: the steps to the value, the innermost first.
    steps: RefCell<Vec<String>>,
}

impl Walk {
    fn deeper<E: ser::Error>(&self) -> Result<(), E> {
        self.depth.set(self.depth.get() + 1);
        match self.depth.get() > DEPTH_MAX {
            true => Err(E::custom(format_args!("lists and maps inside each other are at most {DEPTH_MAX} deep"))),
            false => Ok(()),
        }
    }

    fn back(&self) {
        self.depth.set(self.depth.get() - 1);
    }

    fn path(&self) -> String {
        let mut path = "$".to_owned();
        for step in self.steps.borrow().iter().rev() {
            if path.len() + step.len() > PATH_BYTES_MAX {
                path.push('…');
                break;
            }
            path.push_str(step);
        }
        path
    }

    /// Notes where an error came from.
    fn at<T, E>(&self, result: Result<T, E>, step: impl FnOnce() -> String) -> Result<T, E> {
        if result.is_err() {
            self.steps.borrow_mut().push(step());
        }
        result
    }
}

/// A value that is looked at while it is written.
struct Checked<'a, T: ?Sized> {
    value: &'a T,
    walk: &'a Walk,
}

impl<T: Serialize + ?Sized> Serialize for Checked<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(Checking { inner: serializer, walk: self.walk })
    }
}

/// A serializer of values, or of the parts of one.
struct Checking<'a, S> {
    inner: S,
    walk: &'a Walk,
}

/// The parts of a list or map.
struct Parts<'a, S> {
    inner: S,
    walk: &'a Walk,
    /// How many were written.
    count: usize,
    /// Of an enum; it is written as a map around the parts.
    variant: Option<&'static str>,
}

impl<'a, S> Parts<'a, S> {
    fn new<E: ser::Error>(
        walk: &'a Walk,
        variant: Option<&'static str>,
        begin: impl FnOnce() -> Result<S, E>,
    ) -> Result<Self, E> {
        if variant.is_some() {
            walk.deeper()?;
        }
        walk.deeper()?;
        Ok(Self { inner: begin()?, walk, count: 0, variant })
    }

    fn end<T>(self, end: impl FnOnce(S) -> T) -> T {
        if self.variant.is_some() {
            self.walk.back();
        }
        self.walk.back();
        end(self.inner)
    }

    /// The step to a part, as the text has it.
    fn step(&self, part: String) -> String {
        self.variant.map(|variant| format!(".{variant}{part}")).unwrap_or(part)
    }

    fn next(&mut self) -> usize {
        self.count += 1;
        self.count - 1
    }
}

fn not_finite<E: ser::Error>(number: impl Display) -> E {
    E::custom(format_args!("JSON has no number {number}"))
}

macro_rules! as_it_is {
    ($($method:ident($kind:ty))*) => {
        $(fn $method(self, value: $kind) -> Result<S::Ok, S::Error> {
            self.inner.$method(value)
        })*
    };
}

impl<'a, S: Serializer> Serializer for Checking<'a, S> {
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
        serialize_bool(bool) serialize_char(char) serialize_str(&str) serialize_bytes(&[u8])
        serialize_i8(i8) serialize_i16(i16) serialize_i32(i32) serialize_i64(i64) serialize_i128(i128)
        serialize_u8(u8) serialize_u16(u16) serialize_u32(u32) serialize_u64(u64) serialize_u128(u128)
        serialize_unit_struct(&'static str)
    }

    fn serialize_f32(self, value: f32) -> Result<S::Ok, S::Error> {
        if value.is_finite() { self.inner.serialize_f32(value) } else { Err(not_finite(value)) }
    }

    fn serialize_f64(self, value: f64) -> Result<S::Ok, S::Error> {
        if value.is_finite() { self.inner.serialize_f64(value) } else { Err(not_finite(value)) }
    }

    fn serialize_none(self) -> Result<S::Ok, S::Error> {
        self.inner.serialize_none()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.serialize_some(&Checked { value, walk: self.walk })
    }

    fn serialize_unit(self) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit()
    }

    fn serialize_unit_variant(self, name: &'static str, index: u32, variant: &'static str) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit_variant(name, index, variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, name: &'static str, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.serialize_newtype_struct(name, &Checked { value, walk: self.walk })
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        self.walk.deeper()?;
        let checked = Checked { value, walk: self.walk };
        let written = self.inner.serialize_newtype_variant(name, index, variant, &checked);
        self.walk.back();
        self.walk.at(written, || format!(".{variant}"))
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<Self::SerializeSeq, S::Error> {
        Parts::new(self.walk, None, || self.inner.serialize_seq(length))
    }

    fn serialize_tuple(self, length: usize) -> Result<Self::SerializeTuple, S::Error> {
        Parts::new(self.walk, None, || self.inner.serialize_tuple(length))
    }

    fn serialize_tuple_struct(self, name: &'static str, length: usize) -> Result<Self::SerializeTupleStruct, S::Error> {
        Parts::new(self.walk, None, || self.inner.serialize_tuple_struct(name, length))
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Self::SerializeTupleVariant, S::Error> {
        Parts::new(self.walk, Some(variant), || self.inner.serialize_tuple_variant(name, index, variant, length))
    }

    fn serialize_map(self, length: Option<usize>) -> Result<Self::SerializeMap, S::Error> {
        Parts::new(self.walk, None, || self.inner.serialize_map(length))
    }

    fn serialize_struct(self, name: &'static str, length: usize) -> Result<Self::SerializeStruct, S::Error> {
        Parts::new(self.walk, None, || self.inner.serialize_struct(name, length))
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Self::SerializeStructVariant, S::Error> {
        Parts::new(self.walk, Some(variant), || self.inner.serialize_struct_variant(name, index, variant, length))
    }

    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        // A `Display` that fails is an error, and would be a panic.
        let mut text = String::new();
        write!(text, "{value}").map_err(|fmt::Error| S::Error::custom("a value that cannot be shown as text"))?;
        self.inner.serialize_str(&text)
    }
}

macro_rules! by_place {
    ($($part:ident::$method:ident)*) => {
        $(impl<S: ser::$part> ser::$part for Parts<'_, S> {
            type Ok = S::Ok;
            type Error = S::Error;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), S::Error> {
                let (place, walk) = (self.next(), self.walk);
                let written = self.inner.$method(&Checked { value, walk });
                walk.at(written, || self.step(format!("[{place}]")))
            }

            fn end(self) -> Result<S::Ok, S::Error> {
                Parts::end(self, S::end)
            }
        })*
    };
}

by_place! {
    SerializeSeq::serialize_element
    SerializeTuple::serialize_element
    SerializeTupleStruct::serialize_field
    SerializeTupleVariant::serialize_field
}

macro_rules! by_name {
    ($($part:ident)*) => {
        $(impl<S: ser::$part> ser::$part for Parts<'_, S> {
            type Ok = S::Ok;
            type Error = S::Error;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), S::Error> {
                let walk = self.walk;
                let written = self.inner.serialize_field(name, &Checked { value, walk });
                walk.at(written, || self.step(format!(".{name}")))
            }

            fn skip_field(&mut self, name: &'static str) -> Result<(), S::Error> {
                self.inner.skip_field(name)
            }

            fn end(self) -> Result<S::Ok, S::Error> {
                Parts::end(self, S::end)
            }
        })*
    };
}

by_name! { SerializeStruct SerializeStructVariant }

impl<S: ser::SerializeMap> ser::SerializeMap for Parts<'_, S> {
    type Ok = S::Ok;
    type Error = S::Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), S::Error> {
        let place = self.next();
        self.walk.at(self.inner.serialize_key(key), || format!(".(key {place})"))
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), S::Error> {
        let (place, walk) = (self.count.saturating_sub(1), self.walk);
        walk.at(self.inner.serialize_value(&Checked { value, walk }), || format!(".(value {place})"))
    }

    fn serialize_entry<K: Serialize + ?Sized, V: Serialize + ?Sized>(
        &mut self,
        key: &K,
        value: &V,
    ) -> Result<(), S::Error> {
        let (place, walk) = (self.next(), self.walk);
        walk.at(self.inner.serialize_entry(key, &Checked { value, walk }), || match serde_json::to_value(key) {
            Ok(serde_json::Value::String(key)) => format!(".{key}"),
            _ => format!(".(value {place})"),
        })
    }

    fn end(self) -> Result<S::Ok, S::Error> {
        Parts::end(self, S::end)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::*;

    #[derive(Serialize)]
    enum Shape {
        Unit,
        One(f64),
        Two(u8, f32),
        Named { x: f64, y: Option<f64> },
    }

    fn refusal(value: impl Serialize) -> String {
        to_vec(&value).expect_err("it cannot be read back").to_string()
    }

    #[test]
    fn what_can_be_read_is_written_as_serde_json_writes_it() {
        let map = BTreeMap::from([(1, Some(vec![1.5, -0.0])), (2, None)]);
        let value = (map, "text", 'c', (), [1u8; 3], i64::MIN, u64::MAX, f32::MAX, json!({"a": [null, true]}));
        assert_eq!(to_vec(&value).expect("it is JSON"), serde_json::to_vec(&value).expect("it is JSON"));
        let shapes = [Shape::Unit, Shape::One(1.0), Shape::Two(1, 2.0), Shape::Named { x: 1.0, y: None }];
        assert_eq!(to_vec(&shapes).expect("it is JSON"), serde_json::to_vec(&shapes).expect("it is JSON"));
        assert_eq!(
            to_value_inside(0, &shapes).expect("it is JSON"),
            serde_json::to_value(&shapes).expect("it is JSON")
        );
    }

    #[test]
    fn numbers_that_json_does_not_have_are_refused_with_their_path() {
        assert_eq!(refusal(f64::NAN), "$: JSON has no number NaN");
        assert_eq!(refusal(scores_in_a_map(vec![1.0, f64::INFINITY])), "$.scores[1]: JSON has no number inf");
        assert_eq!(refusal((1, f32::NEG_INFINITY)), "$[1]: JSON has no number -inf");
        assert_eq!(refusal([Shape::One(f64::NAN)]), "$[0].One: JSON has no number NaN");
        assert_eq!(refusal(Shape::Two(0, f32::NAN)), "$.Two[1]: JSON has no number NaN");
        assert_eq!(refusal(Shape::Named { x: 0.0, y: Some(f64::NAN) }), "$.Named.y: JSON has no number NaN");
    }

    fn scores_in_a_map(scores: Vec<f64>) -> BTreeMap<&'static str, Vec<f64>> {
        BTreeMap::from([("scores", scores)])
    }

    #[test]
    fn nesting_is_allowed_as_deep_as_it_can_be_read() {
        let nested = |levels: usize, map: bool| {
            (1..levels).fold(json!([]), |inner, _| if map { json!({ "a": inner }) } else { json!([inner]) })
        };
        for map in [false, true] {
            let bytes = to_vec(&nested(DEPTH_MAX, map)).expect("it can be read");
            serde_json::from_slice::<Value>(&bytes).expect("it can be read");
            let deeper = nested(DEPTH_MAX + 1, map);
            let bytes = serde_json::to_vec(&deeper).expect("serde_json writes it");
            serde_json::from_slice::<Value>(&bytes).expect_err("and does not read it");
            assert!(refusal(deeper).ends_with("…: lists and maps inside each other are at most 127 deep"));
        }
        // Those that stand beside each other are not inside each other.
        to_vec(&vec![nested(DEPTH_MAX - 1, true); 300]).expect("it can be read");
    }

    #[test]
    fn enum_variants_count_as_the_levels_that_they_are_written_as() {
        #[derive(Serialize, serde::Deserialize)]
        enum Chain {
            Next(Box<Chain>),
            Pair(u8, Option<Box<Chain>>),
            End,
        }
        let chain = |levels: usize, pair: bool| {
            (0..levels).fold(Chain::End, |inner, _| match pair {
                true => Chain::Pair(1, Some(Box::new(inner))),
                false => Chain::Next(Box::new(inner)),
            })
        };
        for pair in [false, true] {
            for levels in 1..200 {
                let chain = chain(levels, pair);
                let reads =
                    serde_json::to_vec(&chain).is_ok_and(|bytes| serde_json::from_slice::<Value>(&bytes).is_ok());
                assert_eq!(to_vec(&chain).is_ok(), reads, "{levels} levels");
            }
        }
    }

    #[test]
    fn whatever_the_value_itself_refuses_is_told_with_its_path() {
        struct Refuses;
        impl Serialize for Refuses {
            fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
                Err(S::Error::custom("not today"))
            }
        }
        struct Unshowable;
        impl Display for Unshowable {
            fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
                Err(fmt::Error)
            }
        }
        struct AsText;
        impl Serialize for AsText {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(&Unshowable)
            }
        }
        assert_eq!(refusal([Refuses]), "$[0]: not today");
        assert_eq!(refusal((AsText,)), "$[0]: a value that cannot be shown as text");
        assert!(refusal(BTreeMap::from([((1, 2), 3)])).contains("key must be a string"));
    }
}
