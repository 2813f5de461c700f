//! Requests about mailboxes and routes from the words of a script's line, and their outcomes in
//! words.

use bytes::Bytes;
use celeriac_proto::limits::{MAILBOX_BYTES_MAX, MAILBOX_MESSAGES_MAX};
use celeriac_proto::{ExchangeName, MailboxName, QueueName};
use celeriac_record::{ExchangeKind, ExchangeRecord};

use crate::command::{
    Answer, Ask, Binding, BindingOutline, DeliveredMail, DestinationName, Mail, MailMessage,
    MailboxOptions, MailboxOutline, Message, Outlines, Publish, Push, Route,
};
use crate::tests::words::Words;

pub(super) fn ask(verb: &str, words: &Words<'_>) -> Option<Ask> {
    let first = words.plain.get(1).copied().unwrap_or("");
    let mailbox = || MailboxName::parse(first).expect("a mailbox name");
    let exchange = || ExchangeName::parse(first).expect("a name of an exchange");
    let numbers = || {
        let numbers = words.plain[1..].iter().filter_map(|word| word.parse().ok());
        numbers.collect::<Vec<u64>>()
    };
    Some(match verb {
        "mailbox" => Ask::Mail(Mail::DeclareMailbox(mailbox(), options(words))),
        "find_mailbox" => Ask::Mail(Mail::FindMailbox(mailbox())),
        "drop_mailbox" => Ask::Mail(Mail::DeleteMailbox {
            mailbox: mailbox(),
            if_unused: words.has("if_unused"),
            if_empty: words.has("if_empty"),
        }),
        "empty_mailbox" => Ask::Mail(Mail::PurgeMailbox(mailbox())),
        "consume" => Ask::Mail(Mail::Consume(mailbox())),
        "unconsume" => Ask::Mail(Mail::Unconsume(first.parse().expect("a number"))),
        "fetch" => Ask::Mail(Mail::Fetch(mailbox())),
        "ack" => Ask::Mail(Mail::Ack(numbers())),
        "put_back" => Ask::Mail(Mail::PutBack(numbers())),
        "publish" => Ask::Mail(Mail::Publish(publish(words))),
        "mailboxes" => Ask::Mail(Mail::ListMailboxes { after: None }),
        "exchange" => Ask::Route(Route::DeclareExchange(ExchangeRecord {
            name: exchange(),
            kind: kind(words.option("type").unwrap_or("direct")),
            auto_delete: words.has("auto_delete"),
        })),
        "find_exchange" => Ask::Route(Route::FindExchange(exchange())),
        "drop_exchange" => Ask::Route(Route::DeleteExchange {
            exchange: exchange(),
            if_unused: words.has("if_unused"),
        }),
        "bind" => Ask::Route(Route::Bind(binding(exchange(), words))),
        "unbind" => Ask::Route(Route::Unbind(binding(exchange(), words))),
        "bindings" => Ask::Route(Route::ListBindings { after: None }),
        _ => return None,
    })
}

fn options(words: &Words<'_>) -> MailboxOptions {
    MailboxOptions {
        exclusive: words.has("exclusive"),
        auto_delete: words.has("auto_delete"),
        idle_ms: words.span("idle"),
        ttl_ms: words.span("ttl"),
        messages_max: words.number("messages").map_or(MAILBOX_MESSAGES_MAX, |max| max as u32),
        bytes_max: words.number("bytes").unwrap_or(MAILBOX_BYTES_MAX),
    }
}

/// The words that are not options are the bodies; the routing key is `key`.
fn publish(words: &Words<'_>) -> Publish {
    let bytes = words.number("bytes").unwrap_or(0) as usize;
    let body = words.plain.get(1).map_or(Vec::new(), |word| word.as_bytes().to_vec());
    Publish {
        message: MailMessage {
            exchange: words
                .option("exchange")
                .map(|name| ExchangeName::parse(name).expect("a name of an exchange")),
            routing_key: words.option("key").unwrap_or("").into(),
            body: Bytes::from([body, vec![b' '; bytes]].concat()),
            content_type: "".into(),
            properties: Bytes::new(),
        },
        mandatory: words.has("mandatory"),
    }
}

fn kind(text: &str) -> ExchangeKind {
    match text {
        "direct" => ExchangeKind::Direct,
        "topic" => ExchangeKind::Topic,
        "fanout" => ExchangeKind::Fanout,
        other => panic!("unknown type of exchange: {other}"),
    }
}

fn binding(exchange: ExchangeName, words: &Words<'_>) -> Binding {
    let to = match (words.option("mailbox"), words.option("queue")) {
        (Some(name), _) => {
            DestinationName::Mailbox(MailboxName::parse(name).expect("a mailbox name"))
        }
        (_, Some(name)) => DestinationName::Queue(QueueName::parse(name).expect("a queue name")),
        _ => panic!("a binding leads to a mailbox or to a queue"),
    };
    Binding { exchange, routing_key: words.option("key").unwrap_or("").into(), to }
}

/// What the machine says about mailboxes and routes.
pub(super) fn words_of(message: Message) -> String {
    match message {
        Message::Answer(_, Answer::Mailbox { mailbox, ready, consumers }) => {
            format!("mailbox {mailbox}: ready {ready} consumers {consumers}")
        }
        Message::Answer(_, Answer::Consuming(consumer)) => format!("consumer {consumer}"),
        Message::Answer(_, Answer::Fetched { message, ready, dropped }) => {
            let message = message.as_ref().map_or("nothing".into(), shown);
            format!("fetched {message}, ready {ready}{}", lost(dropped))
        }
        Message::Show(_, Outlines::Mailboxes { mailboxes, .. }) => listed_mailboxes(&mailboxes),
        Message::Show(_, Outlines::Bindings { bindings, .. }) => listed_bindings(&bindings),
        Message::Push(Push::Mail { consumer, messages, dropped }) => {
            let messages: Vec<String> = messages.iter().map(shown).collect();
            format!("mail for {consumer}: {}{}", messages.join(", "), lost(dropped))
        }
        Message::Push(Push::ConsumerEnded { consumer, mailbox }) => {
            format!("consumer {consumer} of {mailbox} has ended")
        }
        other => unreachable!("it is not about mailboxes or routes: {other:?}"),
    }
}

fn shown(mail: &DeliveredMail) -> String {
    let again = if mail.redelivered { " again" } else { "" };
    let body = String::from_utf8_lossy(&mail.message.body).trim_end().to_owned();
    format!("{body} #{}{again}", mail.tag)
}

fn lost(dropped: u64) -> String {
    if dropped == 0 { String::new() } else { format!(", {dropped} dropped") }
}

fn listed_mailboxes(mailboxes: &[MailboxOutline]) -> String {
    let shown = mailboxes.iter().map(|mailbox| {
        format!(
            "{}: ready {} unacknowledged {} consumers {} dropped {}",
            mailbox.mailbox,
            mailbox.ready,
            mailbox.unacknowledged,
            mailbox.consumers,
            mailbox.dropped_total
        )
    });
    format!("mailboxes [{}]", shown.collect::<Vec<_>>().join("; "))
}

fn listed_bindings(bindings: &[BindingOutline]) -> String {
    let shown = bindings.iter().map(|binding| {
        let BindingOutline { exchange, kind, routing_key, to } = binding;
        match to {
            Some(DestinationName::Mailbox(name)) => {
                format!("{exchange} {kind:?} `{routing_key}` -> mailbox {name}")
            }
            Some(DestinationName::Queue(name)) => {
                format!("{exchange} {kind:?} `{routing_key}` -> queue {name}")
            }
            None => format!("{exchange} {kind:?}"),
        }
    });
    format!("bindings [{}]", shown.collect::<Vec<_>>().join("; "))
}
