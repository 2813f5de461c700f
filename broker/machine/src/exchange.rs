//! One exchange: its bindings, and how it compares routing keys.
//!
//! The table (`exchange/table.rs`) has all exchanges, and finds the bindings of a destination.

mod table;

use std::collections::{BTreeMap, BTreeSet};

use celeriac_proto::QueueName;
use celeriac_record::{ExchangeKind, ExchangeRecord};

pub(crate) use self::table::{Exchanges, Place};
use crate::keys::MailboxKey;

#[derive(Debug)]
pub(crate) struct Exchange {
    pub record: ExchangeRecord,
    /// The destinations of each routing key.
    bindings: BTreeMap<Box<str>, BTreeSet<Destination>>,
}

/// Where a binding leads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Destination {
    Mailbox(MailboxKey),
    /// The queue need not exist: its first task creates it.
    Queue(QueueName),
}

/// All destinations of one message.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Destinations {
    pub mailboxes: BTreeSet<MailboxKey>,
    pub queues: BTreeSet<QueueName>,
}

impl Destinations {
    fn add(&mut self, destinations: &BTreeSet<Destination>) {
        for destination in destinations {
            match destination {
                Destination::Mailbox(key) => drop(self.mailboxes.insert(*key)),
                Destination::Queue(name) => drop(self.queues.insert(name.clone())),
            }
        }
    }
}

impl Exchange {
    fn new(record: ExchangeRecord) -> Self {
        Self { record, bindings: BTreeMap::new() }
    }

    pub fn is_unused(&self) -> bool {
        self.bindings.is_empty()
    }

    /// The destinations of a message with this routing key.
    pub fn route(&self, routing_key: &str) -> Destinations {
        let mut found = Destinations::default();
        match self.record.kind {
            ExchangeKind::Direct => {
                self.bindings.get(routing_key).into_iter().for_each(|to| found.add(to));
            }
            ExchangeKind::Fanout => self.bindings.values().for_each(|to| found.add(to)),
            ExchangeKind::Topic => {
                let words: Vec<&str> = routing_key.split('.').collect();
                let bindings = self.bindings.iter();
                bindings
                    .filter(|(pattern, _)| is_match(pattern, &words))
                    .for_each(|(_, to)| found.add(to));
            }
        }
        found
    }

    /// The bindings from a routing key on.
    pub fn bindings_from(
        &self,
        routing_key: &str,
    ) -> impl Iterator<Item = (&str, &BTreeSet<Destination>)> {
        let from = self
            .bindings
            .range::<str, _>((std::ops::Bound::Included(routing_key), std::ops::Bound::Unbounded));
        from.map(|(key, destinations)| (&**key, destinations))
    }
}

/// Whether a topic's pattern matches the words. After a mismatch the comparison goes back to the
/// latest `#`, which then takes one word more; earlier ones need not change.
fn is_match(pattern: &str, words: &[&str]) -> bool {
    let pattern: Vec<&str> = pattern.split('.').collect();
    let (mut at, mut word) = (0, 0);
    // The place after the latest `#`, and the first word that this `#` does not take.
    let mut latest: Option<(usize, usize)> = None;
    while word < words.len() {
        match pattern.get(at) {
            Some(&"#") => {
                at += 1;
                latest = Some((at, word));
            }
            Some(part) if *part == "*" || *part == words[word] => {
                at += 1;
                word += 1;
            }
            _ => {
                let Some((after, taken)) = latest else { return false };
                (at, word) = (after, taken + 1);
                latest = Some((after, word));
            }
        }
    }
    pattern[at..].iter().all(|part| *part == "#")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The meaning of a pattern, word by word, by trying everything.
    fn means(pattern: &[&str], words: &[&str]) -> bool {
        match (pattern.split_first(), words.split_first()) {
            (None, None) => true,
            (Some((&"#", rest)), _) => (0..=words.len()).any(|take| means(rest, &words[take..])),
            (Some((part, rest)), Some((word, words))) => {
                (*part == "*" || part == word) && means(rest, words)
            }
            _ => false,
        }
    }

    #[test]
    fn a_star_is_one_word_and_a_hash_is_any_number_of_words() {
        for (pattern, key, expected) in [
            ("task.*", "task.received", true),
            ("task.*", "task", false),
            ("task.*", "task.a.b", false),
            ("#", "", true),
            ("#", "worker.heartbeat", true),
            ("worker.#", "worker", true),
            ("worker.#", "worker.a.b", true),
            ("worker.#", "workers", false),
            ("#.end", "end", true),
            ("#.end", "a.end.b", false),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
        ] {
            let words: Vec<&str> = key.split('.').collect();
            assert_eq!(is_match(pattern, &words), expected, "{pattern} and {key}");
        }
    }

    #[test]
    fn every_short_pattern_matches_what_it_means() {
        let texts = |parts: &[&str]| {
            let mut all = vec![vec![]];
            for length in 0..4 {
                let longer: Vec<Vec<String>> = all
                    .iter()
                    .filter(|text: &&Vec<String>| text.len() == length)
                    .flat_map(|text| {
                        let more = |part: &&str| [text.clone(), vec![(*part).to_owned()]].concat();
                        parts.iter().map(more).collect::<Vec<_>>()
                    })
                    .collect();
                all.extend(longer);
            }
            all.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>()
        };
        for pattern in texts(&["a", "b", "*", "#"]) {
            for words in texts(&["a", "b"]) {
                let pattern: Vec<&str> = pattern.iter().map(String::as_str).collect();
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                assert_eq!(
                    is_match(&pattern.join("."), &words),
                    means(&pattern, &words),
                    "{pattern:?} and {words:?}"
                );
            }
        }
    }
}
