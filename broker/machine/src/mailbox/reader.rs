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
    bytes: u64,
}

/// A message that a reader has got.
#[derive(Debug)]
pub(crate) struct Given {
    /// The mailbox may have ended since.
    pub mailbox: MailboxKey,
    /// Absent for a message that was fetched.
    pub consumer: Option<MailConsumerKey>,
    pub waiting: Waiting,
}

impl Reader {
    /// Whether the connection may get one more message.
    pub fn has_room(&self) -> bool {
        self.unacknowledged.len() < MAIL_UNACKNOWLEDGED_MAX
            && self.bytes < MAIL_UNACKNOWLEDGED_BYTES_MAX
    }

    pub fn give(&mut self, tag: MailTag, given: Given) {
        self.bytes += given.waiting.cost();
        self.unacknowledged.insert(tag, given);
    }

    /// Takes a message off the list, if the connection has it.
    pub fn release(&mut self, tag: MailTag) -> Option<Given> {
        let given = self.unacknowledged.remove(&tag)?;
        self.bytes -= given.waiting.cost();
        Some(given)
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
