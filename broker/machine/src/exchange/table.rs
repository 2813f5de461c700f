//! All exchanges by name, with the bindings of each destination.

use std::collections::{BTreeMap, BTreeSet};

use celeriac_proto::ExchangeName;
use celeriac_record::{BindingRecord, ExchangeRecord};

use super::{Destination, Exchange};
use crate::command::{Code, Refusal};

/// The maximum number of exchanges.
const EXCHANGES_MAX: usize = 10_000;

/// The maximum number of bindings of all exchanges: two for each mailbox, as programs use them. A
/// message to an exchange of topics is compared with each binding of the exchange.
const BINDINGS_MAX: usize = 20_000;

#[derive(Debug, Default)]
pub(crate) struct Exchanges {
    all: BTreeMap<ExchangeName, Exchange>,
    /// The bindings of each destination.
    of: BTreeMap<Destination, BTreeSet<Place>>,
    /// The number of all bindings.
    bindings: usize,
    /// Bindings that the log has. They find their exchanges when the whole log was read.
    restoring: BTreeSet<BindingRecord>,
}

/// Where a binding stands: its exchange and its routing key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub exchange: ExchangeName,
    pub routing_key: Box<str>,
}

impl Exchanges {
    pub fn find(&self, name: &ExchangeName) -> Option<&Exchange> {
        self.all.get(name)
    }

    pub fn create(&mut self, record: ExchangeRecord) -> Result<(), Refusal> {
        if self.all.len() >= EXCHANGES_MAX {
            return Err(Refusal::new(Code::Overloaded, "there are too many exchanges"));
        }
        self.restore(record);
        Ok(())
    }

    /// Adds a binding of an exchange that exists. Returns false if the binding exists.
    pub fn bind(&mut self, place: &Place, to: Destination) -> Result<bool, Refusal> {
        let is_known = self.of.get(&to).is_some_and(|places| places.contains(place));
        if is_known {
            return Ok(false);
        }
        if self.bindings >= BINDINGS_MAX {
            return Err(Refusal::new(Code::Overloaded, "there are too many bindings"));
        }
        self.add(place, to);
        Ok(true)
    }

    fn add(&mut self, place: &Place, to: Destination) {
        let exchange = self.all.get_mut(&place.exchange).expect("only exchanges are bound");
        exchange.bindings.entry(place.routing_key.clone()).or_default().insert(to.clone());
        self.of.entry(to).or_default().insert(place.clone());
        self.bindings += 1;
    }

    /// Removes a binding. Returns false if there is no such binding.
    pub fn unbind(&mut self, place: &Place, to: &Destination) -> bool {
        let Some(places) = self.of.get_mut(to) else { return false };
        if !places.remove(place) {
            return false;
        }
        if places.is_empty() {
            self.of.remove(to);
        }
        let exchange = self.all.get_mut(&place.exchange).expect("a binding has its exchange");
        let of_key = exchange.bindings.get_mut(&place.routing_key).expect("a binding has its key");
        of_key.remove(to);
        if of_key.is_empty() {
            exchange.bindings.remove(&place.routing_key);
        }
        self.bindings -= 1;
        true
    }

    /// The bindings that lead to a destination.
    pub fn bindings_to(&self, to: &Destination) -> Vec<Place> {
        self.of.get(to).into_iter().flatten().cloned().collect()
    }

    /// The bindings of an exchange.
    pub fn bindings_of(&self, name: &ExchangeName) -> Vec<(Place, Destination)> {
        let Some(exchange) = self.all.get(name) else { return Vec::new() };
        let mut found = Vec::new();
        for (routing_key, destinations) in &exchange.bindings {
            let place = Place { exchange: name.clone(), routing_key: routing_key.clone() };
            found.extend(destinations.iter().map(|to| (place.clone(), to.clone())));
        }
        found
    }

    /// Removes an exchange that has no bindings.
    pub fn remove(&mut self, name: &ExchangeName) {
        let exchange = self.all.remove(name);
        assert!(exchange.is_none_or(|exchange| exchange.is_unused()));
    }

    /// The exchanges by name, from `from` on.
    pub fn listed(&self, from: Option<&ExchangeName>) -> impl Iterator<Item = &Exchange> {
        let from = from.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Included);
        self.all.range((from, std::ops::Bound::Unbounded)).map(|(_, exchange)| exchange)
    }

    pub fn restore(&mut self, record: ExchangeRecord) {
        self.all.insert(record.name.clone(), Exchange::new(record));
    }

    pub fn unrestore(&mut self, name: &ExchangeName) {
        self.all.remove(name);
    }

    pub fn restore_binding(&mut self, binding: BindingRecord) {
        self.restoring.insert(binding);
    }

    pub fn unrestore_binding(&mut self, binding: &BindingRecord) {
        self.restoring.remove(binding);
    }

    /// Called after the whole log was read. Returns the bindings without an exchange, and the
    /// exchanges that end because they have no bindings any more.
    pub fn restored(&mut self) -> (Vec<BindingRecord>, Vec<ExchangeName>) {
        let mut lost = Vec::new();
        for binding in std::mem::take(&mut self.restoring) {
            if !self.all.contains_key(&binding.exchange) {
                lost.push(binding);
                continue;
            }
            let BindingRecord { exchange, routing_key, queue } = binding;
            self.add(&Place { exchange, routing_key }, Destination::Queue(queue));
        }
        let is_over = |exchange: &&Exchange| exchange.record.auto_delete && exchange.is_unused();
        let over = self.all.values().filter(is_over).map(|exchange| exchange.record.name.clone());
        let over: Vec<_> = over.collect();
        over.iter().for_each(|name| self.remove(name));
        (lost, over)
    }

    /// # Panics
    /// When the two sides of the bindings do not agree, or a binding leads to a mailbox that does
    /// not exist.
    pub fn check(&self, exists: impl Fn(&Destination) -> bool) {
        let mut count = 0;
        for (name, exchange) in &self.all {
            assert_eq!(*name, exchange.record.name);
            for (routing_key, destinations) in &exchange.bindings {
                assert!(!destinations.is_empty(), "a key without destinations is not kept");
                count += destinations.len();
                let place = Place { exchange: name.clone(), routing_key: routing_key.clone() };
                for to in destinations {
                    assert!(self.of[to].contains(&place), "the destination knows its binding");
                    assert!(exists(to), "a binding leads to something: {to:?}");
                }
            }
        }
        assert_eq!(count, self.bindings);
        assert_eq!(count, self.of.values().map(BTreeSet::len).sum::<usize>());
        assert!(self.restoring.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use celeriac_proto::QueueName;
    use celeriac_record::ExchangeKind;

    use super::*;

    fn name(text: &str) -> ExchangeName {
        ExchangeName::parse(text).expect("a name of an exchange")
    }

    fn record(text: &str) -> ExchangeRecord {
        ExchangeRecord { name: name(text), kind: ExchangeKind::Direct, auto_delete: false }
    }

    #[test]
    fn the_numbers_of_exchanges_and_bindings_are_bounded() {
        let mut exchanges = Exchanges::default();
        for number in 0..EXCHANGES_MAX {
            exchanges.create(record(&format!("e{number}"))).expect("there is room");
        }
        let refusal = exchanges.create(record("another")).expect_err("they are too many");
        assert_eq!(refusal.code, Code::Overloaded);
        let place =
            |key: usize| Place { exchange: name("e0"), routing_key: key.to_string().into() };
        let songs = || Destination::Queue(QueueName::default());
        for key in 0..BINDINGS_MAX {
            assert_eq!(exchanges.bind(&place(key), songs()), Ok(true));
        }
        let refusal = exchanges.bind(&place(BINDINGS_MAX), songs()).expect_err("too many");
        assert_eq!(refusal.code, Code::Overloaded);
        assert_eq!(exchanges.bind(&place(7), songs()), Ok(false), "the binding exists");
        assert!(exchanges.unbind(&place(7), &songs()));
        assert_eq!(exchanges.bind(&place(BINDINGS_MAX), songs()), Ok(true));
        exchanges.remove(&name("e1"));
        exchanges.create(record("another")).expect("there is room again");
        exchanges.check(|_| true);
    }
}
