//! Messages about mailboxes and routes: from domain to wire.

use bytes::Bytes;
use celeriac_machine::command::{
    BindingOutline, DeliveredMail, DestinationName, MailConsumerKey, MailboxOutline,
};
use celeriac_proto::MailboxName;
use celeriac_proto::wire::{self, server_frame::Body};
use celeriac_record::ExchangeKind;
use prost::Message;

pub(super) fn declared(mailbox: MailboxName, ready: u64, consumers: u32) -> Body {
    Body::MailboxReply(wire::MailboxReply { mailbox: mailbox.into(), ready, consumers })
}

pub(super) fn consuming(consumer: MailConsumerKey) -> Body {
    Body::ConsumeReply(wire::ConsumeReply { consumer_id: consumer })
}

pub(super) fn fetched(mail: Option<DeliveredMail>, ready: u64, dropped: u64) -> Body {
    Body::FetchMailReply(wire::FetchMailReply { message: mail.map(message), ready, dropped })
}

pub(super) fn pushed(
    consumer: MailConsumerKey,
    messages: Vec<DeliveredMail>,
    dropped: u64,
) -> Body {
    let messages = messages.into_iter().map(message).collect();
    Body::Mail(wire::Mail { consumer_id: consumer, messages, dropped })
}

fn message(mail: DeliveredMail) -> wire::MailMessage {
    let DeliveredMail { tag, message, redelivered } = mail;
    wire::MailMessage {
        tag,
        exchange: message.exchange.as_ref().map(ToString::to_string).unwrap_or_default(),
        routing_key: message.routing_key.to_string(),
        body: message.body.clone(),
        content_type: message.content_type.to_string(),
        properties: message.properties.clone(),
        redelivered,
    }
}

pub(super) fn mailboxes(mailboxes: Vec<MailboxOutline>, next: Option<MailboxName>) -> Body {
    let mailboxes = mailboxes.into_iter().map(mailbox).collect();
    let cursor = next.map(|next| Bytes::from(String::from(next))).unwrap_or_default();
    Body::MailboxList(wire::MailboxList { mailboxes, cursor })
}

fn mailbox(outline: MailboxOutline) -> wire::MailboxInfo {
    wire::MailboxInfo {
        mailbox: outline.mailbox.into(),
        exclusive: outline.exclusive,
        auto_delete: outline.auto_delete,
        ready: outline.ready,
        bytes: outline.bytes,
        unacknowledged: outline.unacknowledged,
        consumers: outline.consumers,
        dropped_total: outline.dropped_total,
    }
}

pub(super) fn bindings(bindings: Vec<BindingOutline>, is_last: bool) -> Body {
    let bindings: Vec<_> = bindings.into_iter().map(binding).collect();
    let last = bindings.last().filter(|_| !is_last);
    let cursor = last.map(|last| Bytes::from(last.encode_to_vec())).unwrap_or_default();
    Body::BindingList(wire::BindingList { bindings, cursor })
}

fn binding(outline: BindingOutline) -> wire::BindingInfo {
    let kind = match outline.kind {
        ExchangeKind::Direct => wire::ExchangeType::Direct,
        ExchangeKind::Topic => wire::ExchangeType::Topic,
        ExchangeKind::Fanout => wire::ExchangeType::Fanout,
    };
    let to = outline.to.map(|to| match to {
        DestinationName::Mailbox(name) => {
            wire::Destination { mailbox: name.into(), ..wire::Destination::default() }
        }
        DestinationName::Queue(name) => {
            wire::Destination { queue: name.into(), ..wire::Destination::default() }
        }
    });
    wire::BindingInfo {
        exchange: outline.exchange.into(),
        r#type: kind.into(),
        routing_key: outline.routing_key.into(),
        destination: to,
    }
}
