//! The requests about mailboxes and routes: from the wire to [`Mail`] and [`Route`].

use bytes::Bytes;
use celeriac_machine::command::{
    Binding, BindingOutline, Code, DestinationName, Mail, MailMessage, MailboxOptions, Publish,
    Refusal, Route,
};
use celeriac_proto::limits::{MAIL_PROPERTIES_BYTES_MAX, MAILBOX_BYTES_MAX, MAILBOX_MESSAGES_MAX};
use celeriac_proto::wire::{self, client_frame};
use celeriac_proto::{ExchangeName, MailboxName, QueueName};
use celeriac_record::{ExchangeKind, ExchangeRecord};
use prost::Message;
use uuid::Uuid;

use super::{Bounds, Checked, batch, invalid, known, short, span, unsupported};

/// Whether this request may have the id 0, because its client needs no answer.
pub fn needs_no_answer(body: &Option<client_frame::Body>) -> bool {
    use client_frame::Body::{AckMail, Publish};
    matches!(body, Some(Publish(_) | AckMail(_)))
}

pub(super) fn declare_mailbox(declare: wire::DeclareMailbox) -> Checked<Mail> {
    if declare.passive {
        return Ok(Mail::FindMailbox(MailboxName::parse(declare.mailbox)?));
    }
    let options = MailboxOptions {
        exclusive: declare.exclusive,
        auto_delete: declare.auto_delete,
        idle_ms: span("idle_ms", declare.idle_ms, 1)?,
        ttl_ms: span("ttl_ms", declare.ttl_ms, 0)?,
        messages_max: at_most("messages", declare.messages_max, MAILBOX_MESSAGES_MAX)?,
        bytes_max: at_most("bytes", declare.bytes_max, MAILBOX_BYTES_MAX)?,
    };
    let name = match declare.mailbox.as_str() {
        "" => format!("mailbox.{}", Uuid::new_v4()),
        _ => declare.mailbox,
    };
    Ok(Mail::DeclareMailbox(MailboxName::parse(name)?, options))
}

/// A bound that a declarer sets; 0 stands for the most.
fn at_most<T: PartialOrd + Default + Copy + std::fmt::Display>(
    what: &str,
    value: T,
    max: T,
) -> Checked<T> {
    if value > max {
        return Err(invalid(format!("a mailbox has at most {max} {what}, not {value}")));
    }
    Ok(if value == T::default() { max } else { value })
}

pub(super) fn delete_mailbox(delete: wire::DeleteMailbox) -> Checked<Mail> {
    Ok(Mail::DeleteMailbox {
        mailbox: MailboxName::parse(delete.mailbox)?,
        if_unused: delete.if_unused,
        if_empty: delete.if_empty,
    })
}

pub(super) fn purge_mailbox(purge: wire::PurgeMailbox) -> Checked<Mail> {
    Ok(Mail::PurgeMailbox(MailboxName::parse(purge.mailbox)?))
}

pub(super) fn consume(consume: wire::Consume) -> Checked<Mail> {
    Ok(Mail::Consume(MailboxName::parse(consume.mailbox)?))
}

pub(super) fn fetch(fetch: wire::FetchMail) -> Checked<Mail> {
    Ok(Mail::Fetch(MailboxName::parse(fetch.mailbox)?))
}

pub(super) fn ack(ack: wire::AckMail) -> Checked<Mail> {
    batch(ack.tags.len())?;
    Ok(Mail::Ack(ack.tags))
}

pub(super) fn put_back(put_back: wire::PutBackMail) -> Checked<Mail> {
    batch(put_back.tags.len())?;
    Ok(Mail::PutBack(put_back.tags))
}

pub(super) fn publish(publish: wire::Publish, bounds: &Bounds) -> Checked<Mail> {
    let (bytes, max) = (publish.body.len(), bounds.payload_bytes_max);
    if bytes > max {
        let message = format!("the body has {bytes} bytes, and {max} are allowed");
        return Err(Refusal::new(Code::PayloadTooLarge, message));
    }
    let bytes = publish.properties.len();
    if bytes > MAIL_PROPERTIES_BYTES_MAX {
        return Err(invalid(format!(
            "the properties have {bytes} bytes, and {MAIL_PROPERTIES_BYTES_MAX} are allowed"
        )));
    }
    // A message may wait for long, so it must not keep the memory of its frame.
    let message = MailMessage {
        exchange: (!publish.exchange.is_empty())
            .then(|| ExchangeName::parse(publish.exchange))
            .transpose()?,
        routing_key: short("routing key", publish.routing_key)?,
        body: Bytes::copy_from_slice(&publish.body),
        content_type: short("content type", publish.content_type)?,
        properties: Bytes::copy_from_slice(&publish.properties),
    };
    Ok(Mail::Publish(Publish { message, mandatory: publish.mandatory }))
}

pub(super) fn declare_exchange(declare: wire::DeclareExchange) -> Checked<Route> {
    let name = ExchangeName::parse(declare.exchange)?;
    if declare.passive {
        return Ok(Route::FindExchange(name));
    }
    let kind = match known::<wire::ExchangeType>("type of an exchange", declare.r#type)? {
        wire::ExchangeType::Direct => ExchangeKind::Direct,
        wire::ExchangeType::Topic => ExchangeKind::Topic,
        wire::ExchangeType::Fanout => ExchangeKind::Fanout,
        wire::ExchangeType::Headers => {
            return Err(unsupported(
                "this broker has no exchanges that compare headers: use direct, topic or fanout",
            ));
        }
        wire::ExchangeType::Unspecified => {
            return Err(invalid("the exchange has no type: use direct, topic or fanout"));
        }
    };
    Ok(Route::DeclareExchange(ExchangeRecord { name, kind, auto_delete: declare.auto_delete }))
}

pub(super) fn delete_exchange(delete: wire::DeleteExchange) -> Checked<Route> {
    let exchange = ExchangeName::parse(delete.exchange)?;
    Ok(Route::DeleteExchange { exchange, if_unused: delete.if_unused })
}

pub(super) fn bind(bind: wire::Bind) -> Checked<Route> {
    Ok(Route::Bind(binding(bind.exchange, bind.routing_key, bind.destination)?))
}

pub(super) fn unbind(unbind: wire::Unbind) -> Checked<Route> {
    Ok(Route::Unbind(binding(unbind.exchange, unbind.routing_key, unbind.destination)?))
}

fn binding(
    exchange: String,
    routing_key: String,
    to: Option<wire::Destination>,
) -> Checked<Binding> {
    Ok(Binding {
        exchange: ExchangeName::parse(exchange)?,
        routing_key: short("routing key", routing_key)?,
        to: destination(to)?.ok_or_else(|| invalid("a binding leads to a mailbox or a queue"))?,
    })
}

fn destination(to: Option<wire::Destination>) -> Checked<Option<DestinationName>> {
    let Some(wire::Destination { mailbox, queue }) = to else { return Ok(None) };
    Ok(Some(match (mailbox.is_empty(), queue.is_empty()) {
        (false, true) => DestinationName::Mailbox(MailboxName::parse(mailbox)?),
        (true, false) => DestinationName::Queue(QueueName::parse(queue)?),
        _ => return Err(invalid("a destination is a mailbox or a queue: one of the two")),
    }))
}

pub(super) fn list_mailboxes(list: wire::ListMailboxes) -> Checked<Mail> {
    let name = |bytes: &[u8]| MailboxName::parse(std::str::from_utf8(bytes).ok()?).ok();
    let after = match &*list.cursor {
        [] => None,
        bytes => Some(name(bytes).ok_or_else(not_ours)?),
    };
    Ok(Mail::ListMailboxes { after })
}

pub(super) fn list_bindings(list: wire::ListBindings) -> Checked<Route> {
    if list.cursor.is_empty() {
        return Ok(Route::ListBindings { after: None });
    }
    // The cursor is the last binding of the page before.
    let last = wire::BindingInfo::decode(list.cursor).map_err(|_| not_ours())?;
    let after = BindingOutline {
        exchange: ExchangeName::parse(last.exchange).map_err(|_| not_ours())?,
        // The order of bindings does not depend on the type.
        kind: ExchangeKind::Direct,
        routing_key: last.routing_key.into(),
        to: destination(last.destination).map_err(|_| not_ours())?,
    };
    Ok(Route::ListBindings { after: Some(after) })
}

fn not_ours() -> Refusal {
    invalid("the cursor is not one of ours")
}
