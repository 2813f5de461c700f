//! One mailbox: messages that wait in memory, in the order of their tags, up to a bound.
//!
//! The table (`mailbox/table.rs`) has all mailboxes and their consumers; a mailbox knows nothing of
//! connections except the one that owns it.

mod reader;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use celeriac_proto::MailboxName;
use celeriac_proto::limits::MAIL_OVERHEAD_BYTES;

pub(crate) use self::table::Mailboxes;
use crate::command::{
    ConnectionKey, MailConsumerKey, MailMessage, MailTag, MailboxOptions, Monotonic,
};

/// The machine looks for messages that are too old at most once in this time. A reader never gets
/// such a message, so the time only delays the release of memory.
const SWEEP_MS: u64 = 1_000;

#[derive(Debug)]
pub(crate) struct Mailbox {
    pub name: MailboxName,
    pub options: MailboxOptions,
    /// The connection that an exclusive mailbox belongs to.
    pub owner: Option<ConnectionKey>,
    waiting: BTreeMap<MailTag, Waiting>,
    /// The cost of the messages that wait.
    bytes: u64,
    /// The messages that readers have got and not acknowledged.
    pub unacknowledged: u64,
    pub consumers: BTreeSet<MailConsumerKey>,
    /// The consumer that was served last. The next consumer in turn comes after it.
    pub turn: MailConsumerKey,
    /// When the mailbox was last used by a program other than a publisher.
    pub used_at: Monotonic,
    /// The time of the mailbox's timer, if the timer is set.
    pub timer_at: Option<Monotonic>,
    pub dropped_total: u64,
    /// The messages that were dropped since a reader was last told.
    untold: u64,
}

/// A message that waits in a mailbox, or that a reader has got and not acknowledged.
#[derive(Debug, Clone)]
pub(crate) struct Waiting {
    pub message: Arc<MailMessage>,
    /// From this time on no reader gets the message.
    pub expires_at: Option<Monotonic>,
    pub redelivered: bool,
}

impl Waiting {
    /// The bytes that the message counts for.
    pub fn cost(&self) -> u64 {
        self.message.bytes() as u64 + MAIL_OVERHEAD_BYTES
    }

    pub fn is_over(&self, now: Monotonic) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }
}

impl Mailbox {
    pub fn new(
        name: MailboxName,
        options: MailboxOptions,
        owner: Option<ConnectionKey>,
        now: Monotonic,
    ) -> Self {
        Self {
            name,
            options,
            owner,
            waiting: BTreeMap::new(),
            bytes: 0,
            unacknowledged: 0,
            consumers: BTreeSet::new(),
            turn: 0,
            used_at: now,
            timer_at: None,
            dropped_total: 0,
            untold: 0,
        }
    }

    /// The number of messages that wait.
    pub fn ready(&self) -> u64 {
        self.waiting.len() as u64
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds a message in its place, and drops the oldest messages that find no room. Returns
    /// whether this message has stayed.
    pub fn put(&mut self, tag: MailTag, waiting: Waiting) -> bool {
        if waiting.cost() > self.options.bytes_max {
            self.note_dropped();
            return false;
        }
        self.bytes += waiting.cost();
        self.waiting.insert(tag, waiting);
        while self.ready() > u64::from(self.options.messages_max)
            || self.bytes > self.options.bytes_max
        {
            self.drop_oldest();
        }
        self.waiting.contains_key(&tag)
    }

    /// Puts a message back in its place, unless its time is over. A message that the broker has
    /// forgotten counts as dropped. Returns whether the message has stayed.
    pub fn put_back(&mut self, tag: MailTag, waiting: Option<Waiting>, now: Monotonic) -> bool {
        let Some(waiting) = waiting else {
            self.note_dropped();
            return false;
        };
        !waiting.is_over(now) && self.put(tag, Waiting { redelivered: true, ..waiting })
    }

    /// Drops the oldest message for want of room.
    pub fn drop_oldest(&mut self) {
        if self.take().is_some() {
            self.note_dropped();
        }
    }

    fn note_dropped(&mut self) {
        self.dropped_total += 1;
        self.untold += 1;
    }

    /// Takes the oldest message that waits.
    pub fn take(&mut self) -> Option<(MailTag, Waiting)> {
        let (tag, waiting) = self.waiting.pop_first()?;
        self.bytes -= waiting.cost();
        Some((tag, waiting))
    }

    /// The number of dropped messages that a reader is told now.
    pub fn tell_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.untold)
    }

    /// Removes the messages whose time is over. The oldest messages come first, because all
    /// messages have the same span.
    pub fn expire(&mut self, now: Monotonic) {
        while self.waiting.first_key_value().is_some_and(|(_, waiting)| waiting.is_over(now)) {
            self.take();
        }
    }

    /// Removes all messages that wait. Returns their number.
    pub fn purge(&mut self) -> u64 {
        let count = self.ready();
        self.waiting.clear();
        self.bytes = 0;
        count
    }

    /// Whether the mailbox has no consumer and nobody has used it for its idle time.
    pub fn is_idle(&self, now: Monotonic) -> bool {
        self.idle_at().is_some_and(|at| at <= now)
    }

    fn idle_at(&self) -> Option<Monotonic> {
        let idle_ms = self.options.idle_ms.filter(|_| self.consumers.is_empty())?;
        Some(self.used_at.saturating_add(idle_ms))
    }

    /// When the machine must look at the mailbox again.
    pub fn look_at(&self) -> Option<Monotonic> {
        let oldest = self.waiting.first_key_value().and_then(|(_, waiting)| waiting.expires_at);
        let sweep_at = oldest.map(|at| at.saturating_add(SWEEP_MS));
        sweep_at.into_iter().chain(self.idle_at()).min()
    }

    /// For the invariant checks: the messages that wait.
    pub fn waiting(&self) -> impl Iterator<Item = (MailTag, &Waiting)> {
        self.waiting.iter().map(|(tag, waiting)| (*tag, waiting))
    }
}
