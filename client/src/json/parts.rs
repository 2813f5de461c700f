//! What lists and maps consist of: the step to each part is known for the path of a refusal, names
//! stand once, and each name has its value.

use std::mem;

use serde::{Serialize, ser};

use super::PATH_BYTES_MAX;
use super::checking::Checked;
use super::names::{self, Names};
use super::raw;
use super::text::Text;
use super::walk::Walk;

/// The parts of a list or map.
pub(super) struct Parts<'a, S> {
    inner: S,
    walk: &'a Walk,
    kind: Kind,
    /// How deep it is itself; a step is told once at each depth. Raw JSON is at none, and tells no
    /// step.
    depth: usize,
    /// How many were written.
    count: usize,
    /// Of a struct. An enum that tells its variant by a field has that one first, and the variant
    /// may have the name too.
    first_name: &'static str,
    /// A name was written, and its value was not.
    open: bool,
}

/// What is special about them.
pub(super) enum Kind {
    Plain,
    /// Of an enum; it is written as a map around the parts.
    Variant(&'static str),
    /// A map that may have a name twice.
    Named(Box<Names>),
    /// No map, but JSON from elsewhere.
    Raw,
}

impl<'a, S> Parts<'a, S> {
    pub(super) fn new<E: ser::Error>(
        walk: &'a Walk,
        kind: Kind,
        begin: impl FnOnce() -> Result<S, E>,
    ) -> Result<Self, E> {
        for _ in 0..kind.levels() {
            walk.deeper()?;
        }
        let depth = if matches!(kind, Kind::Raw) { usize::MAX } else { walk.depth() };
        Ok(Self { inner: begin()?, walk, kind, depth, count: 0, first_name: "", open: false })
    }

    fn end<T, E: ser::Error>(self, end: impl FnOnce(S) -> Result<T, E>) -> Result<T, E> {
        self.walk.unless_refused()?;
        match &self.kind {
            Kind::Plain | Kind::Variant(_) => {}
            Kind::Named(names) => names.check(self.walk)?,
            Kind::Raw if self.count == 1 => {}
            Kind::Raw => return self.walk.refuse("the raw JSON has no text"),
        }
        if self.open {
            return self.without_value();
        }
        for _ in 0..self.kind.levels() {
            self.walk.back();
        }
        end(self.inner)
    }

    /// The step to a part, as the text has it.
    fn step(&self, part: String) -> String {
        match self.kind {
            Kind::Variant(variant) => format!(".{variant}{part}"),
            Kind::Plain | Kind::Named(_) | Kind::Raw => part,
        }
    }

    fn next(&mut self) -> usize {
        self.count += 1;
        self.count - 1
    }

    #[inline]
    fn field<E: ser::Error>(&mut self, name: &'static str) -> Result<(), E> {
        if self.next() == 0 {
            self.first_name = name;
        } else if name == self.first_name {
            return names::stands_twice(self.walk, name);
        }
        Ok(())
    }

    /// The next name of a map; tells its place.
    #[inline]
    fn name<T: Serialize + ?Sized, E: ser::Error>(&mut self, key: &T) -> Result<usize, E> {
        if self.open {
            return self.without_value();
        }
        let place = self.next();
        if place == 0 && names::is_of_a_program::<T>() && matches!(self.kind, Kind::Plain) {
            self.kind = Kind::named(self.walk);
        }
        if matches!(self.kind, Kind::Named(_)) {
            self.remember(key, place)?;
        }
        Ok(place)
    }

    #[inline(never)]
    fn remember<T: Serialize + ?Sized, E: ser::Error>(
        &mut self,
        key: &T,
        place: usize,
    ) -> Result<(), E> {
        let Kind::Named(names) = &mut self.kind else { return Ok(()) };
        self.walk
            .at(self.depth, names.add(&Checked::key(key, self.walk)), || format!(".(key {place})"))
    }

    /// The text of raw JSON, when it can be read where it stands.
    #[cold]
    #[inline(never)]
    fn raw<E: ser::Error>(&self, text: &impl Serialize) -> Result<String, E> {
        let written = Text::of(text, self.walk.bytes_max())
            .and_then(|text| serde_json::from_slice::<String>(&text));
        let text = written
            .or_else(|error| self.walk.refuse(format_args!("the raw JSON has no text: {error}")))?;
        match raw::check(&text, self.walk.depth()) {
            Ok(()) => Ok(text),
            Err(error) => {
                self.walk.refuse(format_args!("the raw JSON cannot be read back: {error}"))
            }
        }
    }

    #[cold]
    fn without_value<T, E: ser::Error>(&self) -> Result<T, E> {
        let place = self.count.saturating_sub(1);
        self.walk.at(self.depth, self.walk.refuse("a name without a value"), || {
            format!(".(value {place})")
        })
    }
}

impl Kind {
    pub(super) fn named(walk: &Walk) -> Self {
        Kind::Named(Box::new(Names::new(walk.bytes_max())))
    }

    /// As how many lists and maps inside each other they are written.
    fn levels(&self) -> usize {
        match self {
            Kind::Plain | Kind::Named(_) => 1,
            Kind::Variant(_) => 2,
            Kind::Raw => 0,
        }
    }
}

macro_rules! by_place {
    ($($part:ident::$method:ident)*) => {
        $(impl<S: ser::$part> ser::$part for Parts<'_, S> {
            type Ok = S::Ok;
            type Error = S::Error;

            #[inline]
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), S::Error> {
                let (place, walk) = (self.next(), self.walk);
                let written = self.inner.$method(&Checked::new(value, walk));
                walk.at(self.depth, written, || self.step(format!("[{place}]")))
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

            #[inline]
            fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), S::Error> {
                self.field(name)?;
                let walk = self.walk;
                let value = Checked::new(value, walk);
                let written = match self.kind {
                    Kind::Raw => self.raw(&value).and_then(|text| self.inner.serialize_field(name, &text)),
                    _ => self.inner.serialize_field(name, &value),
                };
                walk.at(self.depth, written, || self.step(format!(".{name}")))
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
        let (place, walk) = (self.name(key)?, self.walk);
        self.open = true;
        walk.at(self.depth, self.inner.serialize_key(&Checked::key(key, walk)), || {
            format!(".(key {place})")
        })
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), S::Error> {
        let (place, walk) = (self.count.saturating_sub(1), self.walk);
        let written = match mem::take(&mut self.open) {
            true => self.inner.serialize_value(&Checked::new(value, walk)),
            false => walk.refuse("a value without a name"),
        };
        walk.at(self.depth, written, || format!(".(value {place})"))
    }

    #[inline]
    fn serialize_entry<K: Serialize + ?Sized, V: Serialize + ?Sized>(
        &mut self,
        key: &K,
        value: &V,
    ) -> Result<(), S::Error> {
        let (place, walk) = (self.name(key)?, self.walk);
        let written =
            self.inner.serialize_entry(&Checked::key(key, walk), &Checked::new(value, walk));
        walk.at(self.depth, written, || shown(key).unwrap_or_else(|| format!(".(value {place})")))
    }

    fn end(self) -> Result<S::Ok, S::Error> {
        Parts::end(self, S::end)
    }
}

/// The step to the value of a name, when that is a text that is short enough.
fn shown(key: &(impl Serialize + ?Sized)) -> Option<String> {
    let walk = Walk::new(0, PATH_BYTES_MAX);
    let written = Text::of(&Checked::key(key, &walk), PATH_BYTES_MAX).ok()?;
    serde_json::from_slice::<String>(&written).ok().map(|name| format!(".{name}"))
}
