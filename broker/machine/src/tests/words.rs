//! The words of a script's line: options, spans of time, and other words.

use std::collections::BTreeMap;

pub(super) const DAY_MS: u64 = 86_400_000;

/// The `key=value` words of a line, and the other words.
pub(super) struct Words<'a> {
    pub(super) plain: Vec<&'a str>,
    options: BTreeMap<&'a str, &'a str>,
}

impl<'a> Words<'a> {
    pub(super) fn of(line: &'a str) -> Self {
        let (options, plain): (Vec<_>, Vec<_>) =
            line.split_whitespace().partition(|word| word.contains('='));
        Self { plain, options: options.iter().filter_map(|word| word.split_once('=')).collect() }
    }

    pub(super) fn option(&self, key: &str) -> Option<&'a str> {
        self.options.get(key).copied()
    }

    pub(super) fn number(&self, key: &str) -> Option<u64> {
        self.option(key).map(|text| text.parse().expect("a number"))
    }

    pub(super) fn span(&self, key: &str) -> Option<u64> {
        self.option(key).map(span_ms)
    }

    pub(super) fn list(&self, key: &str) -> Vec<&'a str> {
        self.option(key).map(|text| text.split(',').collect()).unwrap_or_default()
    }

    pub(super) fn has(&self, word: &str) -> bool {
        self.plain.contains(&word)
    }
}

pub(super) fn span_ms(text: &str) -> u64 {
    let digits = text.trim_end_matches(char::is_alphabetic);
    let number: u64 = digits.parse().expect("a number and a unit");
    match &text[digits.len()..] {
        "ms" => number,
        "s" => number * 1_000,
        "m" => number * 60_000,
        "h" => number * 3_600_000,
        "d" => number * DAY_MS,
        unit => panic!("unknown unit of time: {unit}"),
    }
}
