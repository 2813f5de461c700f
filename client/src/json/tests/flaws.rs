//! Values whose own `Serialize` is faulty or never ends.

use std::iter;

use serde::ser::{SerializeMap, SerializeSeq, SerializeStruct};

use super::*;

/// A value that is written by a function.
macro_rules! written {
    ($name:ident, $serializer:ident => $body:expr) => {
        struct $name;
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, $serializer: S) -> Result<S::Ok, S::Error> {
                $body
            }
        }
    };
}

/// Raw JSON, as serde_json passes it through its serializer.
pub(super) struct Raw {
    pub(super) name: &'static str,
    pub(super) text: &'static str,
}

impl Serialize for Raw {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut raw = serializer.serialize_struct(self.name, 1)?;
        raw.serialize_field(self.name, self.text)?;
        raw.end()
    }
}

fn bounded(value: impl Serialize, bytes_max: usize) -> Result<Vec<u8>, NotJson> {
    write(Walk::new(0, bytes_max), &value)
}

#[test]
fn a_length_that_does_not_hold_changes_nothing() {
    written!(List, serializer => {
        let mut list = serializer.serialize_seq(Some(0))?;
        list.serialize_element(&1)?;
        list.serialize_element(&2)?;
        list.end()
    });
    written!(Map, serializer => {
        let mut map = serializer.serialize_map(Some(0))?;
        map.serialize_entry("a", &1)?;
        map.end()
    });
    written!(Struct, serializer => {
        let mut fields = serializer.serialize_struct("Struct", 0)?;
        fields.serialize_field("a", &List)?;
        fields.end()
    });
    written!(Huge, serializer => serializer.serialize_seq(Some(usize::MAX))?.end());
    assert_eq!(
        to_vec(&(List, Map, Struct, Huge)).expect("JSON"),
        br#"[[1,2],{"a":1},{"a":[1,2]},[]]"#
    );
    assert_eq!(
        to_value_inside(0, &(List, Map, Huge)).expect("JSON"),
        json!([[1, 2], { "a": 1 }, []])
    );
}

#[test]
fn a_refusal_that_is_swallowed_is_told_all_the_same() {
    written!(Swallows, serializer => {
        let mut list = serializer.serialize_seq(None)?;
        list.serialize_element(&1.0)?;
        if list.serialize_element(&[f64::NAN]).is_err() {
            list.serialize_element("x")?;
        }
        list.serialize_element(&(1, f64::INFINITY)).ok();
        list.end()
    });
    written!(Around, serializer => {
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry("a", &Swallows).ok();
        map.end()
    });
    assert_eq!(refusal(Swallows), "$[1][0]: JSON has no number NaN");
    assert_eq!(refusal((0, Around)), "$[1].a[1][0]: JSON has no number NaN");
}

#[test]
fn names_and_values_belong_together() {
    written!(NameAlone, serializer => {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_key("a")?;
        map.end()
    });
    written!(TwoNames, serializer => {
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_key("a")?;
        map.serialize_key("b")?;
        map.end()
    });
    written!(ValueAlone, serializer => {
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_value("a").ok();
        map.end()
    });
    assert_eq!(refusal([NameAlone]), "$[0].(value 0): a name without a value");
    assert_eq!(refusal([TwoNames]), "$[0].(value 0): a name without a value");
    assert_eq!(refusal([ValueAlone]), "$[0].(value 0): a value without a name");
    to_value_inside(0, &ValueAlone).expect_err("a value without a name");
}

#[test]
fn a_name_that_cannot_be_shown_is_refused() {
    struct Unshowable;
    impl Display for Unshowable {
        fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
            Err(fmt::Error)
        }
    }
    written!(Name, serializer => serializer.collect_str(&Unshowable));
    written!(Map, serializer => serializer.collect_map([(Name, 1)]));
    assert_eq!(refusal(Map), "$.(value 0): a value that cannot be shown as text");
}

#[test]
fn what_has_no_end_is_refused_at_the_bound() {
    struct Endless;
    impl Display for Endless {
        fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            loop {
                formatter.write_str("again and ")?;
            }
        }
    }
    written!(List, serializer => serializer.collect_seq(iter::repeat("a")));
    written!(Map, serializer => serializer.collect_map((0u64..).map(|number| (number, ()))));
    written!(Text, serializer => serializer.collect_str(&Endless));
    written!(Name, serializer => serializer.collect_map([(List, 1)]));
    written!(FlattenedName, serializer => {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry(&List, &1)?;
        map.end()
    });
    written!(RawList, serializer => {
        let mut raw = serializer.serialize_struct(raw::RAW_VALUE, 1)?;
        raw.serialize_field(raw::RAW_VALUE, &List)?;
        raw.end()
    });
    written!(RawText, serializer => {
        let mut raw = serializer.serialize_struct(raw::RAW_VALUE, 1)?;
        raw.serialize_field(raw::RAW_VALUE, &Text)?;
        raw.end()
    });
    let too_long = "the JSON is longer than 10000 bytes, and no broker takes more";
    for refusal in [bounded(List, 10_000), bounded(Map, 10_000), bounded(Text, 10_000)] {
        assert_eq!(refusal.expect_err("it has no end").reason, too_long);
    }
    bounded((RawText, 1), 10_000).expect_err("it has no end");
    bounded((RawList, 1), 10_000).expect_err("it has no end");
    bounded(Name, 10_000).expect_err("it has no end");
    bounded(FlattenedName, 10_000).expect_err("it has no end");
    assert_eq!(bounded("a".repeat(98), 100).map(|text| text.len()), Ok(100));
    assert_eq!(bounded("a".repeat(99), 100).expect_err("too long").path, "$");
}

#[test]
fn what_contains_itself_ends_before_the_stack_does() {
    written!(Option, serializer => serializer.serialize_some(&Option));
    written!(Wrapper, serializer => serializer.serialize_newtype_struct("Wrapper", &Wrapper));
    written!(List, serializer => serializer.collect_seq([Some(List)]));
    written!(Deepest, serializer => {
        serializer.serialize_newtype_variant("Deepest", 0, "Deepest", &Option)
    });
    // As deep as it may be, in all ways together.
    fn nested(levels: usize) -> Box<dyn Fn() -> Result<Vec<u8>, NotJson> + Send> {
        Box::new(move || to_vec_inside(levels, &(Option, Deepest)))
    }
    let on_a_small_stack = |write: Box<dyn Fn() -> Result<Vec<u8>, NotJson> + Send>| {
        let thread =
            std::thread::Builder::new().stack_size(1024 * 1024).spawn(write).expect("a thread");
        thread.join().expect("it does not end the process").expect_err("it has no end").reason
    };
    let wrapped = "wrapped in options and structs of one value at most 500 times";
    assert!(on_a_small_stack(nested(0)).contains(wrapped));
    assert!(on_a_small_stack(Box::new(|| to_vec(&Wrapper))).contains(wrapped));
    assert!(on_a_small_stack(Box::new(|| to_vec(&List))).contains("at most 127 deep"));
}
