//! Which values are written and which are refused, with the messages.

mod flaws;

use std::collections::BTreeMap;
use std::fmt::{self, Display};

use serde::ser::{Error as _, Serializer};
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
    let value =
        (map, "text", 'c', (), [1u8; 3], i64::MIN, u64::MAX, f32::MAX, json!({"a": [null, true]}));
    assert_eq!(
        to_vec(&value).expect("it is JSON"),
        serde_json::to_vec(&value).expect("it is JSON")
    );
    let shapes =
        [Shape::Unit, Shape::One(1.0), Shape::Two(1, 2.0), Shape::Named { x: 1.0, y: None }];
    assert_eq!(
        to_vec(&shapes).expect("it is JSON"),
        serde_json::to_vec(&shapes).expect("it is JSON")
    );
    assert_eq!(
        to_value_inside(0, &shapes).expect("it is JSON"),
        serde_json::to_value(&shapes).expect("it is JSON")
    );
}

#[test]
fn numbers_that_json_does_not_have_are_refused_with_their_path() {
    assert_eq!(refusal(f64::NAN), "$: JSON has no number NaN");
    assert_eq!(
        refusal(scores_in_a_map(vec![1.0, f64::INFINITY])),
        "$.scores[1]: JSON has no number inf"
    );
    assert_eq!(refusal((1, f32::NEG_INFINITY)), "$[1]: JSON has no number -inf");
    assert_eq!(refusal([Shape::One(f64::NAN)]), "$[0].One: JSON has no number NaN");
    assert_eq!(refusal(Shape::Two(0, f32::NAN)), "$.Two[1]: JSON has no number NaN");
    assert_eq!(
        refusal(Shape::Named { x: 0.0, y: Some(f64::NAN) }),
        "$.Named.y: JSON has no number NaN"
    );
}

fn scores_in_a_map(scores: Vec<f64>) -> BTreeMap<&'static str, Vec<f64>> {
    BTreeMap::from([("scores", scores)])
}

#[test]
fn nesting_is_allowed_as_deep_as_it_can_be_read() {
    let nested = |levels: usize, map: bool| {
        (1..levels)
            .fold(json!([]), |inner, _| if map { json!({ "a": inner }) } else { json!([inner]) })
    };
    for map in [false, true] {
        let bytes = to_vec(&nested(DEPTH_MAX, map)).expect("it can be read");
        serde_json::from_slice::<Value>(&bytes).expect("it can be read");
        let deeper = nested(DEPTH_MAX + 1, map);
        let bytes = serde_json::to_vec(&deeper).expect("serde_json writes it");
        serde_json::from_slice::<Value>(&bytes).expect_err("and does not read it");
        assert!(
            refusal(deeper).ends_with("…: lists and maps inside each other are at most 127 deep")
        );
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
            let reads = serde_json::to_vec(&chain)
                .is_ok_and(|bytes| serde_json::from_slice::<Value>(&bytes).is_ok());
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

/// Numbers without order, the same in each run.
struct Bits(u64);

impl Iterator for Bits {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        Some(mixed ^ (mixed >> 31))
    }
}

#[test]
fn a_float_is_read_as_the_one_that_was_written() {
    let any = Bits(7).take(5_000).map(f64::from_bits).filter(|float| float.is_finite());
    // Most programs have these.
    let fractions = Bits(8).take(5_000).map(|bits| (bits >> 11) as f64 / (1u64 << 53) as f64);
    let floats: Vec<f64> =
        any.chain(fractions).chain([0.9073038322028689, -0.0, f64::MIN_POSITIVE, 5e-324]).collect();
    let text = to_vec(&floats).expect("they are JSON");
    let bits = |floats: Vec<f64>| floats.into_iter().map(f64::to_bits).collect::<Vec<_>>();
    assert_eq!(bits(serde_json::from_slice(&text).expect("floats")), bits(floats.clone()));
    let value = to_value_inside(0, &floats).expect("they are JSON");
    assert_eq!(bits(serde_json::from_value(value).expect("floats")), bits(floats));
}

#[test]
fn whole_numbers_that_are_read_as_floats_are_refused() {
    let numbers = (u128::from(u64::MAX), i128::from(u64::MAX), i128::from(i64::MIN));
    let text = to_vec(&numbers).expect("they are JSON");
    let read: Value = serde_json::from_slice(&text).expect("they are JSON");
    assert_eq!(serde_json::from_value::<(u128, i128, i128)>(read).expect("the numbers"), numbers);
    let above = u128::from(u64::MAX) + 1;
    let reason = "more than 64 bits; write it as a text";
    assert_eq!(refusal([0, above]), format!("$[1]: the number {above} has {reason}"));
    assert!(refusal(i128::from(u64::MAX) + 1).ends_with(reason));
    assert!(refusal(i128::from(i64::MIN) - 1).ends_with(reason));
    // A name is a text anyway.
    assert_eq!(
        to_vec(&BTreeMap::from([(above, 1)])).expect("JSON"),
        format!(r#"{{"{above}":1}}"#).into_bytes()
    );
}

#[test]
fn bytes_are_as_deep_as_the_list_that_they_are_written_as() {
    struct Bytes;
    impl Serialize for Bytes {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_bytes(&[1, 2])
        }
    }
    assert_eq!(to_vec(&Bytes).expect("JSON"), b"[1,2]");
    to_vec_inside(DEPTH_MAX - 1, &Bytes).expect("it can be read");
    let refusal = to_vec_inside(DEPTH_MAX, &Bytes).expect_err("it cannot be read");
    assert!(refusal.reason.contains("at most 127 deep"));
}

#[test]
fn names_that_stand_twice_are_refused() {
    #[derive(Serialize)]
    struct Song {
        title: &'static str,
        #[serde(flatten)]
        extra: BTreeMap<String, Value>,
    }
    #[derive(Serialize)]
    #[serde(tag = "kind")]
    enum Told {
        Song(BTreeMap<String, u8>),
        Other { year: u32 },
        Named(Named),
    }
    #[derive(Serialize)]
    struct Named {
        kind: u8,
    }
    let song = |name: &str| Song {
        title: "Dynamite",
        extra: BTreeMap::from([(name.to_owned(), json!(1))]),
    };
    assert_eq!(refusal([song("title")]), "$[0]: the name `title` stands twice");
    assert_eq!(to_vec(&song("year")).expect("JSON"), br#"{"title":"Dynamite","year":1}"#);
    let told = |name: &str| Told::Song(BTreeMap::from([(name.to_owned(), 1)]));
    assert_eq!(refusal([told("kind")]), "$[0]: the name `kind` stands twice");
    assert_eq!(refusal(Told::Named(Named { kind: 1 })), "$: the name `kind` stands twice");
    to_vec(&(told("year"), Told::Other { year: 1999 })).expect("each name stands once");
}

#[test]
fn raw_json_is_read_before_it_is_sent() {
    let check = |text: &str, depth| raw::check(text, depth).map_err(|error| error.to_string());
    let lists = |levels| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    for fine in ["1", "-1.5e3", " {\"a\": [null, true, {}]} ", r#""\u00e4""#, &lists(DEPTH_MAX)] {
        assert_eq!(check(fine, 0), Ok(()), "{fine}");
    }
    for wrong in
        ["", "1 2", "1e999", "[1,]", r#""\ud800""#, "nul", &lists(DEPTH_MAX + 1), &lists(200)]
    {
        check(wrong, 0).expect_err(wrong);
    }
    check("[]", DEPTH_MAX).expect_err("one deeper than can be read");
    check("{}", DEPTH_MAX).expect_err("one deeper than can be read");
    check("1", DEPTH_MAX).expect("no deeper");
    assert!(
        check(r#"{"a": 1, "a": 2}"#, 0)
            .expect_err("twice")
            .starts_with("the name `a` stands twice")
    );

    for name in [raw::RAW_VALUE, raw::NUMBER] {
        let raw = |text| flaws::Raw { name, text };
        assert!(
            refusal([raw("1e999")])
                .starts_with("$[0]: the raw JSON cannot be read back: number out of range")
        );
        assert_eq!(
            to_vec(&raw("12")).expect("JSON"),
            serde_json::to_vec(&raw("12")).expect("JSON")
        );
    }
}
