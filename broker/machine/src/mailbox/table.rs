//! All mailboxes, by key and by name, with their consumers and the connections that use them.
//!
//! The table keeps its sums and sets right. Which mailbox ends when, and who is told, is decided in
//! `mail.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use celeriac_proto::MailboxName;

use super::reader::{Given, Reader};
use super::{Mailbox, Waiting};
use crate::command::{
    Code, ConnectionKey, DeliveredMail, MailConsumerKey, MailMessage, MailTag, MailboxOptions,
    Monotonic, Refusal,
};
use crate::keys::MailboxKey;

/// The maximum number of mailboxes. One publish may reach all of them in one step.
const MAILBOXES_MAX: usize = 10_000;

/// The maximum number of consumers of one mailbox, and of one connection: a change of either looks
/// at all of them.
const CONSUMERS_MAX: usize = 1_000;

/// The maximum cost of the messages that wait in all mailboxes together. Over it, the mailbox that
/// holds the most drops its oldest messages.
const MAIL_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// The maximum cost of the messages that all connections have got and not acknowledged. Over it,
/// the broker forgets the oldest of the connection that has the most: they cannot come back.
const HELD_BYTES_MAX: u64 = 256 * 1024 * 1024;

#[derive(Debug, Default)]
pub(crate) struct Mailboxes {
    all: BTreeMap<MailboxKey, Mailbox>,
    by_name: BTreeMap<MailboxName, MailboxKey>,
    consumers: BTreeMap<MailConsumerKey, Consuming>,
    readers: BTreeMap<ConnectionKey, Reader>,
    /// The mailboxes with messages, by cost.
    by_bytes: BTreeSet<(u64, MailboxKey)>,
    /// The sum of those costs.
    bytes: u64,
    /// The connections with unacknowledged messages, by the cost of those that the table holds.
    by_held: BTreeSet<(u64, ConnectionKey)>,
    /// The sum of those costs.
    held: u64,
    /// The mailboxes with a message and a consumer that has room for it.
    ready: BTreeSet<MailboxKey>,
    latest_key: MailboxKey,
    latest_consumer: MailConsumerKey,
    latest_tag: MailTag,
}

/// A consumer: one connection gets messages of one mailbox.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Consuming {
    pub mailbox: MailboxKey,
    pub connection: ConnectionKey,
}

impl Mailboxes {
    /// The number of mailboxes.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    pub fn find(&self, name: &str) -> Option<MailboxKey> {
        let name = MailboxName::parse(name).ok()?;
        self.by_name.get(&name).copied()
    }

    pub fn mailbox(&self, key: MailboxKey) -> &Mailbox {
        self.all.get(&key).expect("a mailbox with a key is in the table")
    }

    /// Changes what does not depend on the messages and consumers of the mailbox.
    pub fn mailbox_mut(&mut self, key: MailboxKey) -> &mut Mailbox {
        self.all.get_mut(&key).expect("a mailbox with a key is in the table")
    }

    pub fn exists(&self, key: MailboxKey) -> bool {
        self.all.contains_key(&key)
    }

    pub fn create(
        &mut self,
        name: MailboxName,
        options: MailboxOptions,
        declarer: ConnectionKey,
        now: Monotonic,
    ) -> Result<MailboxKey, Refusal> {
        if self.all.len() >= MAILBOXES_MAX {
            return Err(Refusal::new(Code::Overloaded, "there are too many mailboxes"));
        }
        self.latest_key += 1;
        let key = self.latest_key;
        if options.exclusive {
            self.readers.entry(declarer).or_default().owned.insert(key);
        }
        self.by_name.insert(name.clone(), key);
        let owner = options.exclusive.then_some(declarer);
        self.all.insert(key, Mailbox::new(name, options, owner, now));
        Ok(key)
    }

    /// Removes a mailbox. Returns it with its consumers, which have ended with it.
    pub fn remove(&mut self, key: MailboxKey) -> (Mailbox, Vec<(MailConsumerKey, ConnectionKey)>) {
        let consumers: Vec<_> = self.mailbox(key).consumers.iter().copied().collect();
        let ended = consumers.into_iter().filter_map(|consumer| {
            let connection = self.remove_consumer(consumer)?.connection;
            Some((consumer, connection))
        });
        let ended: Vec<_> = ended.collect();
        self.change(key, |mailbox| mailbox.purge());
        let mailbox = self.all.remove(&key).expect("a mailbox is removed once");
        self.by_name.remove(&mailbox.name);
        if let Some(owner) = mailbox.owner {
            self.change_reader(owner, |reader| reader.owned.remove(&key));
        }
        (mailbox, ended)
    }

    /// Changes the messages of a mailbox, and then the sums and sets that depend on them.
    pub fn change<T>(&mut self, key: MailboxKey, change: impl FnOnce(&mut Mailbox) -> T) -> T {
        let mailbox = self.all.get_mut(&key).expect("a mailbox with a key is in the table");
        let before = mailbox.bytes();
        let outcome = change(mailbox);
        let after = mailbox.bytes();
        if before != after {
            self.bytes = self.bytes - before + after;
            self.by_bytes.remove(&(before, key));
            if after > 0 {
                self.by_bytes.insert((after, key));
            }
        }
        self.note_ready(key);
        outcome
    }

    /// Changes the data of a connection, which the table drops when nothing is left in it.
    fn change_reader<T>(
        &mut self,
        connection: ConnectionKey,
        change: impl FnOnce(&mut Reader) -> T,
    ) -> T {
        let reader = self.readers.entry(connection).or_default();
        let before = reader.held();
        let outcome = change(reader);
        let after = reader.held();
        if reader.is_empty() {
            self.readers.remove(&connection);
        }
        if before != after {
            self.held = self.held - before + after;
            self.by_held.remove(&(before, connection));
            if after > 0 {
                self.by_held.insert((after, connection));
            }
        }
        outcome
    }

    /// Updates `ready`. Call this after the messages or the consumers of the mailbox changed, and
    /// after a consumer got room.
    fn note_ready(&mut self, key: MailboxKey) {
        let mailbox = self.mailbox(key);
        let has_reader = || mailbox.consumers.iter().any(|consumer| self.has_room(*consumer));
        if mailbox.ready() > 0 && has_reader() {
            self.ready.insert(key);
        } else {
            self.ready.remove(&key);
        }
    }

    fn has_room(&self, consumer: MailConsumerKey) -> bool {
        self.readers[&self.consumers[&consumer].connection].has_room()
    }

    /// Puts a message into a mailbox. Returns whether it has stayed.
    pub fn post(&mut self, key: MailboxKey, message: Arc<MailMessage>, now: Monotonic) -> bool {
        self.latest_tag += 1;
        let tag = self.latest_tag;
        let ttl_ms = self.mailbox(key).options.ttl_ms;
        let expires_at = ttl_ms.map(|ttl_ms| now.saturating_add(ttl_ms));
        let waiting = Waiting { message, expires_at, redelivered: false };
        let stayed = self.change(key, |mailbox| {
            mailbox.expire(now);
            mailbox.put(tag, waiting)
        });
        self.keep_to_the_bound();
        stayed
    }

    /// The fullest mailbox drops its oldest messages until all mailboxes together keep to their
    /// bound.
    fn keep_to_the_bound(&mut self) {
        while self.bytes > MAIL_BYTES_MAX {
            let (_, fullest) = *self.by_bytes.last().expect("the bytes are those of some mailbox");
            self.change(fullest, Mailbox::drop_oldest);
        }
    }

    pub fn add_consumer(
        &mut self,
        mailbox: MailboxKey,
        connection: ConnectionKey,
    ) -> Result<MailConsumerKey, Refusal> {
        let of_connection =
            self.readers.get(&connection).map_or(0, |reader| reader.consumers.len());
        if of_connection.max(self.mailbox(mailbox).consumers.len()) >= CONSUMERS_MAX {
            let text = "the mailbox or the connection has too many consumers";
            return Err(Refusal::new(Code::Overloaded, text));
        }
        self.latest_consumer += 1;
        let consumer = self.latest_consumer;
        self.consumers.insert(consumer, Consuming { mailbox, connection });
        self.readers.entry(connection).or_default().consumers.insert(consumer);
        self.mailbox_mut(mailbox).consumers.insert(consumer);
        self.note_ready(mailbox);
        Ok(consumer)
    }

    /// The mailbox of a consumer of this connection.
    pub fn consumed_by(
        &self,
        connection: ConnectionKey,
        consumer: MailConsumerKey,
    ) -> Option<MailboxKey> {
        let consuming = self.consumers.get(&consumer)?;
        (consuming.connection == connection).then_some(consuming.mailbox)
    }

    /// Removes a consumer. Its messages stay with the connection.
    pub fn remove_consumer(&mut self, consumer: MailConsumerKey) -> Option<Consuming> {
        let consuming = self.consumers.remove(&consumer)?;
        self.mailbox_mut(consuming.mailbox).consumers.remove(&consumer);
        self.note_ready(consuming.mailbox);
        self.change_reader(consuming.connection, |reader| reader.consumers.remove(&consumer));
        Some(consuming)
    }

    /// The consumers and the own mailboxes of a connection.
    pub fn used_by(&self, connection: ConnectionKey) -> (Vec<MailConsumerKey>, Vec<MailboxKey>) {
        let Some(reader) = self.readers.get(&connection) else { return Default::default() };
        (reader.consumers.iter().copied().collect(), reader.owned.iter().copied().collect())
    }

    /// Whether the connection may get one more message.
    pub fn may_get(&self, connection: ConnectionKey) -> bool {
        self.readers.get(&connection).is_none_or(Reader::has_room)
    }

    /// A mailbox that has a message for a consumer with room, from `from` on.
    pub fn next_ready(&self, from: MailboxKey) -> Option<MailboxKey> {
        self.ready.range(from..).next().copied()
    }

    /// The next consumer in turn that has room.
    pub fn next_consumer(&self, mailbox: MailboxKey) -> Option<(MailConsumerKey, ConnectionKey)> {
        let Mailbox { consumers, turn, .. } = self.mailbox(mailbox);
        let after = consumers.range((Bound::Excluded(*turn), Bound::Unbounded));
        let consumer = *after.chain(consumers.range(..=*turn)).find(|key| self.has_room(**key))?;
        Some((consumer, self.consumers[&consumer].connection))
    }

    /// Gives the oldest message of a mailbox to a connection.
    pub fn give(
        &mut self,
        mailbox: MailboxKey,
        consumer: Option<MailConsumerKey>,
        connection: ConnectionKey,
        now: Monotonic,
    ) -> Option<DeliveredMail> {
        let taken = self.change(mailbox, |mailbox| {
            mailbox.expire(now);
            let taken = mailbox.take()?;
            mailbox.unacknowledged += 1;
            Some(taken)
        });
        let (tag, waiting) = taken?;
        let delivered = DeliveredMail {
            tag,
            message: waiting.message.clone(),
            redelivered: waiting.redelivered,
        };
        let given = Given { mailbox, consumer, cost: waiting.cost(), waiting: Some(waiting) };
        self.change_reader(connection, |reader| reader.give(tag, given));
        while self.held > HELD_BYTES_MAX {
            let (_, most) = *self.by_held.last().expect("some connection has what is held");
            self.change_reader(most, Reader::forget_oldest);
        }
        if !self.may_get(connection) {
            self.note_room(connection);
        }
        Some(delivered)
    }

    /// Takes a message off the list of those that a connection has got.
    fn release(&mut self, connection: ConnectionKey, tag: MailTag) -> Option<Given> {
        let had_room = self.may_get(connection);
        let given = self.change_reader(connection, |reader| reader.release(tag))?;
        if let Some(mailbox) = self.all.get_mut(&given.mailbox) {
            mailbox.unacknowledged -= 1;
        }
        if !had_room && self.may_get(connection) {
            self.note_room(connection);
        }
        Some(given)
    }

    /// The connection got room for messages, or has no more room.
    fn note_room(&mut self, connection: ConnectionKey) {
        let (consumers, _) = self.used_by(connection);
        for consumer in consumers {
            self.note_ready(self.consumers[&consumer].mailbox);
        }
    }

    /// The connection has taken these messages.
    pub fn acknowledge(&mut self, connection: ConnectionKey, tags: &[MailTag]) {
        for tag in tags {
            self.release(connection, *tag);
        }
    }

    /// Puts messages of a connection back into their mailboxes. Returns the mailboxes to look at,
    /// and the number of messages that went back.
    pub fn put_back(
        &mut self,
        connection: ConnectionKey,
        tags: &[MailTag],
        now: Monotonic,
    ) -> (BTreeSet<MailboxKey>, u64) {
        let (mut touched, mut count) = (BTreeSet::new(), 0);
        for tag in tags {
            let Some(given) = self.release(connection, *tag) else { continue };
            if self.exists(given.mailbox) {
                touched.insert(given.mailbox);
                count += u64::from(self.change(given.mailbox, |mailbox| {
                    mailbox.expire(now);
                    mailbox.put_back(*tag, given.waiting, now)
                }));
            }
        }
        self.keep_to_the_bound();
        (touched, count)
    }

    /// The tags of the messages that a connection has got, by one consumer or in all.
    pub fn tags_of(
        &self,
        connection: ConnectionKey,
        consumer: Option<MailConsumerKey>,
    ) -> Vec<MailTag> {
        self.readers.get(&connection).map(|reader| reader.tags_of(consumer)).unwrap_or_default()
    }

    /// The mailboxes by name, from the name after `after` on.
    pub fn listed(&self, after: Option<&MailboxName>) -> impl Iterator<Item = MailboxKey> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.by_name.range((from, Bound::Unbounded)).map(|(_, key)| *key)
    }

    /// # Panics
    /// When the sums and sets of the table do not agree with each other.
    pub fn check(&self, is_connected: impl Fn(ConnectionKey) -> bool) {
        let (mut bytes, mut held) = (0, 0);
        let mut given: BTreeMap<MailboxKey, u64> = BTreeMap::new();
        for (connection, reader) in &self.readers {
            assert!(is_connected(*connection), "each reader is connected");
            assert!(!reader.is_empty(), "a reader without anything is not kept");
            let (messages, said) = reader.given();
            let (mut sum, mut held_by) = (0, 0);
            for (_, message) in messages {
                *given.entry(message.mailbox).or_default() += 1;
                sum += message.cost;
                let waiting = message.waiting.as_ref();
                held_by += waiting.map_or(0, Waiting::cost);
                assert!(waiting.is_none_or(|waiting| waiting.cost() == message.cost));
            }
            assert_eq!(held_by, reader.held(), "the bytes that are held for a reader");
            assert_eq!(held_by > 0, self.by_held.contains(&(held_by, *connection)));
            held += held_by;
            assert_eq!(sum, said, "the bytes that a reader has not acknowledged");
            for consumer in &reader.consumers {
                assert_eq!(self.consumers[consumer].connection, *connection);
            }
            for owned in &reader.owned {
                assert_eq!(self.mailbox(*owned).owner, Some(*connection));
            }
        }
        assert_eq!(
            self.readers.values().map(|reader| reader.consumers.len()).sum::<usize>(),
            self.consumers.len()
        );
        for (key, mailbox) in &self.all {
            assert_eq!(self.by_name.get(&mailbox.name), Some(key), "the name finds the mailbox");
            let sum = mailbox.waiting().map(|(_, waiting)| waiting.cost()).sum::<u64>();
            assert_eq!(sum, mailbox.bytes(), "the bytes of {}", mailbox.name);
            assert_eq!(sum > 0, self.by_bytes.contains(&(sum, *key)));
            assert!(mailbox.ready() <= u64::from(mailbox.options.messages_max));
            assert!(sum <= mailbox.options.bytes_max, "{} keeps to its bound", mailbox.name);
            let unacknowledged = given.get(key).copied().unwrap_or_default();
            assert_eq!(unacknowledged, mailbox.unacknowledged, "unacknowledged: {}", mailbox.name);
            let has_reader = mailbox.consumers.iter().any(|consumer| self.has_room(*consumer));
            assert_eq!(self.ready.contains(key), mailbox.ready() > 0 && has_reader);
            if let Some(owner) = mailbox.owner {
                assert!(self.readers[&owner].owned.contains(key), "the owner knows its mailbox");
            }
            bytes += sum;
        }
        assert_eq!((bytes, self.by_name.len()), (self.bytes, self.all.len()));
        assert!(self.bytes <= MAIL_BYTES_MAX && self.held <= HELD_BYTES_MAX);
        assert_eq!(held, self.held);
        assert!(self.by_bytes.len() <= self.all.len() && self.ready.len() <= self.all.len());
    }

    /// Whether nothing is left of any connection.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
            && self.consumers.is_empty()
            && self.readers.is_empty()
            && self.by_bytes.is_empty()
            && self.by_held.is_empty()
            && self.bytes == 0
            && self.held == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: MailboxOptions = MailboxOptions {
        exclusive: false,
        auto_delete: false,
        idle_ms: None,
        ttl_ms: None,
        messages_max: 1,
        bytes_max: 1_000,
    };

    #[test]
    fn the_numbers_of_mailboxes_and_of_their_consumers_are_bounded() {
        let mut mailboxes = Mailboxes::default();
        let mut create = |text: &str| {
            let name = MailboxName::parse(text).expect("a mailbox name");
            mailboxes.create(name, OPTIONS, 1, 0)
        };
        let first = create("first").expect("there is room");
        let second = create("second").expect("there is room");
        for number in 2..MAILBOXES_MAX {
            create(&format!("m{number}")).expect("there is room");
        }
        assert_eq!(create("another").expect_err("they are too many").code, Code::Overloaded);
        for _ in 0..CONSUMERS_MAX {
            mailboxes.add_consumer(first, 1).expect("there is room");
        }
        mailboxes.add_consumer(first, 2).expect_err("the mailbox has too many");
        mailboxes.add_consumer(second, 1).expect_err("the connection has too many");
        let consumer = mailboxes.add_consumer(second, 2).expect("there is room");
        assert_eq!(mailboxes.consumed_by(2, consumer), Some(second));
        assert_eq!(mailboxes.remove(first).1.len(), CONSUMERS_MAX);
        mailboxes.add_consumer(second, 1).expect("there is room again");
        mailboxes.check(|_| true);
    }
}
