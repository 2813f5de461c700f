//! Requests about mailboxes and routes.

use bytes::Bytes;
use celeriac_proto::wire::client_frame::Body;
use celeriac_proto::wire::{
    AckMail, Bind, ClientFrame, Consume, DeclareExchange, DeclareMailbox, DeleteExchange,
    DeleteMailbox, Destination, ExchangeType, FetchMail, ListBindings, ListMailboxes, Publish,
    PurgeMailbox, PutBackMail, Unbind, Unconsume,
};

use super::vector;
use crate::Vector;

const INBOX: &str = "worker-1.celery.pidbox";

fn to_mailbox() -> Option<Destination> {
    Some(Destination { mailbox: INBOX.into(), ..Destination::default() })
}

fn to_queue() -> Option<Destination> {
    Some(Destination { queue: "songs".into(), ..Destination::default() })
}

pub(super) fn mailboxes() -> Vec<Vector<ClientFrame>> {
    let mailbox = || INBOX.to_owned();
    vec![
        vector(
            "declare-mailbox",
            "With every option. It is the connection's own and ends with it.",
            2,
            Body::DeclareMailbox(DeclareMailbox {
                mailbox: mailbox(),
                exclusive: true,
                auto_delete: true,
                idle_ms: Some(10_000),
                ttl_ms: Some(300_000),
                messages_max: 1_000,
                bytes_max: 1_048_576,
                passive: false,
            }),
        ),
        vector(
            "declare-mailbox/unnamed",
            "The broker makes a name.",
            3,
            Body::DeclareMailbox(DeclareMailbox::default()),
        ),
        vector(
            "declare-mailbox/passive",
            "Is it there?",
            4,
            Body::DeclareMailbox(DeclareMailbox {
                mailbox: mailbox(),
                passive: true,
                ..DeclareMailbox::default()
            }),
        ),
        vector(
            "delete-mailbox",
            "Only if nobody needs it.",
            5,
            Body::DeleteMailbox(DeleteMailbox {
                mailbox: mailbox(),
                if_unused: true,
                if_empty: true,
            }),
        ),
        vector("purge-mailbox", "", 6, Body::PurgeMailbox(PurgeMailbox { mailbox: mailbox() })),
        vector("consume", "", 7, Body::Consume(Consume { mailbox: mailbox() })),
        vector("unconsume", "", 8, Body::Unconsume(Unconsume { consumer_id: 5 })),
        vector("fetch-mail", "", 9, Body::FetchMail(FetchMail { mailbox: mailbox() })),
        vector(
            "ack-mail",
            "The broker answers nothing.",
            0,
            Body::AckMail(AckMail { tags: vec![11, 12] }),
        ),
        vector("put-back-mail", "", 10, Body::PutBackMail(PutBackMail { tags: vec![13] })),
        vector(
            "list-mailboxes",
            "The second page.",
            11,
            Body::ListMailboxes(ListMailboxes { cursor: Bytes::from_static(INBOX.as_bytes()) }),
        ),
    ]
}

pub(super) fn exchanges() -> Vec<Vector<ClientFrame>> {
    let exchange = |name: &str, kind: ExchangeType| DeclareExchange {
        exchange: name.into(),
        r#type: kind.into(),
        ..DeclareExchange::default()
    };
    let to_all = || exchange("celery.pidbox", ExchangeType::Fanout);
    let events = exchange("celeryev", ExchangeType::Topic);
    let replies =
        DeclareExchange { auto_delete: true, ..exchange("replies", ExchangeType::Direct) };
    let find = DeclareExchange { passive: true, ..to_all() };
    vec![
        vector("declare-exchange", "", 2, Body::DeclareExchange(to_all())),
        vector("declare-exchange/topic", "", 3, Body::DeclareExchange(events)),
        vector(
            "declare-exchange/direct",
            "It ends with its last binding.",
            4,
            Body::DeclareExchange(replies),
        ),
        vector("declare-exchange/passive", "Is it there?", 5, Body::DeclareExchange(find)),
        vector(
            "declare-exchange/headers",
            "This broker has none of this type.",
            2,
            Body::DeclareExchange(exchange("by-headers", ExchangeType::Headers)),
        ),
        vector(
            "delete-exchange",
            "",
            6,
            Body::DeleteExchange(DeleteExchange {
                exchange: "celery.pidbox".into(),
                if_unused: true,
            }),
        ),
    ]
}

pub(super) fn routes() -> Vec<Vector<ClientFrame>> {
    vec![
        vector(
            "bind",
            "A mailbox gets the events of tasks.",
            7,
            Body::Bind(Bind {
                exchange: "celeryev".into(),
                routing_key: "task.#".into(),
                destination: to_mailbox(),
            }),
        ),
        vector(
            "unbind",
            "A queue of tasks.",
            8,
            Body::Unbind(Unbind {
                exchange: "media".into(),
                routing_key: "songs".into(),
                destination: to_queue(),
            }),
        ),
        vector(
            "publish",
            "To all that listen, or else it is an error.",
            9,
            Body::Publish(Publish {
                exchange: "celeryev".into(),
                routing_key: "task.received".into(),
                body: Bytes::from_static(br#"{"uuid":"user-7f3a"}"#),
                content_type: "application/json".into(),
                properties: Bytes::from_static(br#"{"clock":7}"#),
                mandatory: true,
            }),
        ),
        vector(
            "publish/unanswered",
            "To one mailbox. The broker answers nothing.",
            0,
            Body::Publish(Publish {
                routing_key: INBOX.into(),
                body: Bytes::from_static(br#"{"method":"ping"}"#),
                ..Publish::default()
            }),
        ),
        vector("list-bindings", "", 10, Body::ListBindings(ListBindings::default())),
        vector(
            "list-bindings/second",
            "The page after an exchange without bindings.",
            11,
            Body::ListBindings(ListBindings { cursor: Bytes::from_static(b"\x0a\x05media") }),
        ),
    ]
}
