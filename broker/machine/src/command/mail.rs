//! The requests about mailboxes and routes, and what the machine answers and pushes for them.
//!
//! A message of a mailbox is no task: the machine keeps it in memory, and no record has it.

use std::sync::Arc;

use bytes::Bytes;
use celeriac_proto::{ExchangeName, MailboxName, QueueName};
use celeriac_record::{ExchangeKind, ExchangeRecord};

/// The number of a message in a mailbox. It rises from message to message, and is never 0.
pub type MailTag = u64;

/// The number of a consumer of a mailbox. It is never used again.
pub type MailConsumerKey = u64;

/// The requests about mailboxes and their messages.
#[derive(Debug)]
pub enum Mail {
    DeclareMailbox(MailboxName, MailboxOptions),
    /// Finds the mailbox, and creates none.
    FindMailbox(MailboxName),
    DeleteMailbox {
        mailbox: MailboxName,
        if_unused: bool,
        if_empty: bool,
    },
    PurgeMailbox(MailboxName),
    Consume(MailboxName),
    Unconsume(MailConsumerKey),
    Fetch(MailboxName),
    Ack(Vec<MailTag>),
    PutBack(Vec<MailTag>),
    Publish(Publish),
    ListMailboxes {
        /// Only mailboxes whose names come after this name.
        after: Option<MailboxName>,
    },
}

/// The requests about exchanges and bindings.
#[derive(Debug)]
pub enum Route {
    DeclareExchange(ExchangeRecord),
    /// Finds the exchange, and creates none.
    FindExchange(ExchangeName),
    DeleteExchange {
        exchange: ExchangeName,
        if_unused: bool,
    },
    Bind(Binding),
    Unbind(Binding),
    ListBindings {
        /// Only bindings that come after this one.
        after: Option<BindingOutline>,
    },
}

/// What the declarer of a mailbox chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MailboxOptions {
    /// The mailbox ends with the connection that declared it, and belongs to it alone.
    pub exclusive: bool,
    /// The mailbox ends with its last consumer.
    pub auto_delete: bool,
    /// The mailbox ends when nobody has used it for this long.
    pub idle_ms: Option<u64>,
    /// The longest time that a message waits.
    pub ttl_ms: Option<u64>,
    pub messages_max: u32,
    pub bytes_max: u64,
}

/// A message for all mailboxes that the exchange and the routing key lead to.
#[derive(Debug)]
pub struct Publish {
    pub message: MailMessage,
    /// Whether it is an error if no mailbox gets the message.
    pub mandatory: bool,
}

/// A message that waits in mailboxes. All mailboxes of one publish share it.
#[derive(Debug, PartialEq, Eq)]
pub struct MailMessage {
    /// Absent: the default exchange, which leads to the mailbox that the routing key names.
    pub exchange: Option<ExchangeName>,
    pub routing_key: Box<str>,
    /// The decoder has copied the bytes, so that they keep no frame in memory.
    pub body: Bytes,
    pub content_type: Box<str>,
    pub properties: Bytes,
}

impl MailMessage {
    /// The bytes of its parts.
    pub fn bytes(&self) -> usize {
        self.exchange.as_ref().map_or(0, |name| name.len())
            + self.routing_key.len()
            + self.body.len()
            + self.content_type.len()
            + self.properties.len()
    }
}

/// A message of a mailbox on its way to a reader.
#[derive(Debug, Clone)]
pub struct DeliveredMail {
    pub tag: MailTag,
    pub message: Arc<MailMessage>,
    /// Whether the message was given to a reader before.
    pub redelivered: bool,
}

/// A binding, by names.
#[derive(Debug)]
pub struct Binding {
    pub exchange: ExchangeName,
    pub routing_key: Box<str>,
    pub to: DestinationName,
}

/// Where a binding leads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum DestinationName {
    Mailbox(MailboxName),
    Queue(QueueName),
}

impl DestinationName {
    pub fn as_str(&self) -> &str {
        match self {
            DestinationName::Mailbox(name) => name,
            DestinationName::Queue(name) => name,
        }
    }
}

/// A mailbox in a listing.
#[derive(Debug, Clone)]
pub struct MailboxOutline {
    pub mailbox: MailboxName,
    pub exclusive: bool,
    pub auto_delete: bool,
    pub ready: u64,
    pub bytes: u64,
    pub unacknowledged: u64,
    pub consumers: u32,
    pub dropped_total: u64,
}

/// A binding in a listing, or an exchange without bindings.
#[derive(Debug, Clone)]
pub struct BindingOutline {
    pub exchange: ExchangeName,
    pub kind: ExchangeKind,
    pub routing_key: Box<str>,
    /// Absent: the exchange has no bindings.
    pub to: Option<DestinationName>,
}
