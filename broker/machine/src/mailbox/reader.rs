//! A connection that uses mailboxes: its consumers, the mailboxes that belong to it, and the
//! messages that it has got and not acknowledged. These messages are bounded, so that a client that
//! does not read holds little.

use std::collections::{BTreeMap, BTreeSet};

use celeriac_proto::limits::{MAIL_UNACKNOWLEDGED_BYTES_MAX, MAIL_UNACKNOWLEDGED_MAX};

use super::Waiting;
use crate::command::{MailConsumerKey, MailTag};
use crate::keys::MailboxKey;

#[derive(Debug, Default)]
pub(crate) struct Reader {
    pub consumers: BTreeSet<MailConsumerKey>,
    /// The exclusive mailboxes of the connection.
    pub owned: BTreeSet<MailboxKey>,
    unacknowledged: BTreeMap<MailTag, Given>,
    /// The cost of the unacknowledged messages.
    bytes: u64,
    /// The cost of those that the broker still has.
    held: u64,
}

/// A message that a reader has got.
#[derive(Debug)]
pub(crate) struct Given {
    /// The mailbox may have ended since.
    pub mailbox: MailboxKey,
    /// Absent for a message that was fetched.
    pub consumer: Option<MailConsumerKey>,
    pub cost: u64,
    /// Absent for a message that the broker has forgotten: it cannot come back.
    pub waiting: Option<Waiting>,
}

impl Reader {
    /// Whether the connection may get one more message.
    pub fn has_room(&self) -> bool {
        self.unacknowledged.len() < MAIL_UNACKNOWLEDGED_MAX
            && self.bytes < MAIL_UNACKNOWLEDGED_BYTES_MAX
    }

    pub fn give(&mut self, tag: MailTag, given: Given) {
        self.bytes += given.cost;
        self.held += given.cost;
        self.unacknowledged.insert(tag, given);
    }

    /// Takes a message off the list, if the connection has it.
    pub fn release(&mut self, tag: MailTag) -> Option<Given> {
        let given = self.unacknowledged.remove(&tag)?;
        self.bytes -= given.cost;
        if given.waiting.is_some() {
            self.held -= given.cost;
        }
        Some(given)
    }

    /// The cost of the messages that the broker still has.
    pub fn held(&self) -> u64 {
        self.held
    }

    /// Forgets the oldest message that the broker still has. The message stays unacknowledged, so
    /// the connection gets no other one for it.
    pub fn forget_oldest(&mut self) {
        let held = self.unacknowledged.values_mut().find(|given| given.waiting.is_some());
        if let Some(given) = held {
            given.waiting = None;
            self.held -= given.cost;
        }
    }

    /// The tags of the messages that a consumer has got; without a consumer, of all messages.
    pub fn tags_of(&self, consumer: Option<MailConsumerKey>) -> Vec<MailTag> {
        let is_meant = |given: &Given| consumer.is_none() || given.consumer == consumer;
        self.unacknowledged
            .iter()
            .filter(|(_, given)| is_meant(given))
            .map(|(tag, _)| *tag)
            .collect()
    }

    pub fn is_empty(&self) -> bool {
        self.consumers.is_empty() && self.owned.is_empty() && self.unacknowledged.is_empty()
    }

    /// For the invariant checks: the messages, and the stored sum of their costs.
    pub fn given(&self) -> (impl Iterator<Item = (MailTag, &Given)>, u64) {
        (self.unacknowledged.iter().map(|(tag, given)| (*tag, given)), self.bytes)
    }
}
