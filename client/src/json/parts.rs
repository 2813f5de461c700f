//! Checks the items of lists and maps: names occur once, and each name has its value. Notes the
//! step to each item, for the path of a refusal.

use std::mem;

use serde::{Serialize, ser};

use super::PATH_BYTES_MAX;
use super::checking::Checked;
use super::names::{self, Names};
use super::raw;
use super::text::Text;
use super::walk::Walk;

/// Writes the items of a list or map.
pub(super) struct Parts<'a, S> {
    /// The serializer of serde_json.
    inner: S,
    /// The state of the writing.
    walk: &'a Walk,
    /// What is special about this list or map.
    kind: Kind,
    /// The depth of the list or map itself; a step is noted once at each depth. Raw JSON has none,
    /// and notes no step.
    depth: usize,
    /// How many items were written.
    count: usize,
    /// The first field of a struct. An enum that names its variant in a field writes that field
    /// first, and the variant may have a field of the same name.
    first_name: &'static str,
    /// Whether a name was written without its value.
    open: bool,
}

/// What is special about a list or map.
pub(super) enum Kind {
    /// An ordinary list, map or struct.
    Plain,
    /// The variant of an enum, which is written as a map around the items.
    Variant(&'static str),
    /// A map in which a name may occur twice.
    Named(Box<Names>),
    /// JSON that was written elsewhere, and no map.
    Raw,
}

impl<'a, S> Parts<'a, S> {
    /// Begins a list or map. Fails when it is nested too deeply.
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

    /// Ends it. Fails when a name occurs twice, when the last name has no value, or when a part was
    /// refused before.
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

    /// The step to an item, as the path shows it.
    fn step(&self, part: String) -> String {
        match self.kind {
            Kind::Variant(variant) => format!(".{variant}{part}"),
            Kind::Plain | Kind::Named(_) | Kind::Raw => part,
        }
    }

    /// Counts an item, and returns its place.
    fn next(&mut self) -> usize {
        self.count += 1;
        self.count - 1
    }

    /// Checks the name of a field of a struct.
    #[inline]
    fn field<E: ser::Error>(&mut self, name: &'static str) -> Result<(), E> {
        if self.next() == 0 {
            self.first_name = name;
        } else if name == self.first_name {
            return names::stands_twice(self.walk, name);
        }
        Ok(())
    }

    /// Checks the next name of a map, and returns its place.
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

    /// Keeps a name for the check at the end of the map.
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

    /// The text of raw JSON, when it can be read back at its place.
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

    /// Refuses a name without a value.
    #[cold]
    fn without_value<T, E: ser::Error>(&self) -> Result<T, E> {
        let place = self.count.saturating_sub(1);
        self.walk.at(self.depth, self.walk.refuse("a name without a value"), || {
            format!(".(value {place})")
        })
    }
}

impl Kind {
    /// A map whose names are checked.
    pub(super) fn named(walk: &Walk) -> Self {
        Kind::Named(Box::new(Names::new(walk.bytes_max())))
    }

    /// How many nested lists and maps are written for it.
    fn levels(&self) -> usize {
        match self {
            Kind::Plain | Kind::Named(_) => 1,
            Kind::Variant(_) => 2,
            Kind::Raw => 0,
        }
    }
}

/// The traits of serde for items without names. They differ in the name of one method.
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

/// The traits of serde for items with names that are known at compile time.
macro_rules! by_name {
    ($($part:ident)*) => {
        $(impl<S: ser::$part> ser::$part for Parts<'_, S> {
            type Ok = S::Ok;
            type Error = S::Error;

            #[inline]
            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), S::Error> {
                self.field(name)?;
                let walk = self.walk;
                let value = Checked::new(value, walk);
                let written = match self.kind {
                    Kind::Raw => {
                        self.raw(&value).and_then(|text| self.inner.serialize_field(name, &text))
                    }
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

    /// A name of a map whose value comes in another call.
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), S::Error> {
        let (place, walk) = (self.name(key)?, self.walk);
        self.open = true;
        walk.at(self.depth, self.inner.serialize_key(&Checked::key(key, walk)), || {
            format!(".(key {place})")
        })
    }

    /// The value for the name before.
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), S::Error> {
        let (place, walk) = (self.count.saturating_sub(1), self.walk);
        let written = match mem::take(&mut self.open) {
            true => self.inner.serialize_value(&Checked::new(value, walk)),
            false => walk.refuse("a value without a name"),
        };
        walk.at(self.depth, written, || format!(".(value {place})"))
    }

    /// A name with its value. serde calls this for maps, and nearly all entries come here.
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

/// The step to the value of a name, when the name is a short text.
fn shown(key: &(impl Serialize + ?Sized)) -> Option<String> {
    let walk = Walk::new(0, PATH_BYTES_MAX);
    let written = Text::of(&Checked::key(key, &walk), PATH_BYTES_MAX).ok()?;
    serde_json::from_slice::<String>(&written).ok().map(|name| format!(".{name}"))
}
