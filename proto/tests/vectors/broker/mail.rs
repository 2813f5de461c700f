//! Answers about mailboxes and routes, and messages of mailboxes.

use bytes::Bytes;
use celeriac_proto::wire::server_frame::Body;
use celeriac_proto::wire::{
    BindingInfo, BindingList, ConsumeReply, ConsumerEnded, Destination, ErrorCode, ExchangeType,
    FetchMailReply, Mail, MailMessage, MailboxInfo, MailboxList, MailboxReply, ServerFrame,
};

use super::{error, vector};
use crate::Vector;

const INBOX: &str = "worker-1.celery.pidbox";

fn message(tag: u64) -> MailMessage {
    MailMessage {
        tag,
        exchange: "celeryev".into(),
        routing_key: "task.received".into(),
        body: Bytes::from_static(br#"{"uuid":"user-7f3a"}"#),
        content_type: "application/json".into(),
        properties: Bytes::from_static(br#"{"clock":7}"#),
        redelivered: false,
    }
}

pub(super) fn mailboxes() -> Vec<Vector<ServerFrame>> {
    let again = MailMessage { redelivered: true, ..message(12) };
    let exclusive = "the mailbox `worker-1.celery.pidbox` is exclusive to another connection";
    vec![
        vector(
            "mailbox-reply",
            "",
            2,
            Body::MailboxReply(MailboxReply { mailbox: INBOX.into(), ready: 3, consumers: 1 }),
        ),
        vector(
            "error/mailbox-of-another",
            "The mailbox belongs to another connection.",
            2,
            Body::Error(error(ErrorCode::Forbidden, exclusive, None)),
        ),
        vector("consume-reply", "", 7, Body::ConsumeReply(ConsumeReply { consumer_id: 5 })),
        vector(
            "mail",
            "Two messages for a consumer that lost three others.",
            0,
            Body::Mail(Mail {
                consumer_id: 5,
                messages: vec![message(11), again.clone()],
                dropped: 3,
            }),
        ),
        vector(
            "consumer-ended",
            "Somebody deleted the mailbox.",
            0,
            Body::ConsumerEnded(ConsumerEnded { consumer_id: 5, mailbox: INBOX.into() }),
        ),
        vector(
            "fetch-mail-reply",
            "",
            9,
            Body::FetchMailReply(FetchMailReply { message: Some(again), ready: 2, dropped: 1 }),
        ),
        vector(
            "fetch-mail-reply/empty",
            "Nothing waits.",
            9,
            Body::FetchMailReply(FetchMailReply::default()),
        ),
        vector(
            "mailbox-list",
            "A page that is not the last.",
            11,
            Body::MailboxList(MailboxList {
                mailboxes: vec![MailboxInfo {
                    mailbox: INBOX.into(),
                    exclusive: true,
                    auto_delete: true,
                    ready: 3,
                    bytes: 1_200,
                    unacknowledged: 2,
                    consumers: 1,
                    dropped_total: 7,
                }],
                cursor: Bytes::from_static(INBOX.as_bytes()),
            }),
        ),
    ]
}

pub(super) fn bindings() -> Vec<Vector<ServerFrame>> {
    let binding = |exchange: &str, kind: ExchangeType, key: &str, to| BindingInfo {
        exchange: exchange.into(),
        r#type: kind.into(),
        routing_key: key.into(),
        destination: Some(to),
    };
    let inbox = || Destination { mailbox: INBOX.into(), ..Destination::default() };
    let songs = Destination { queue: "songs".into(), ..Destination::default() };
    let unbound = BindingInfo {
        exchange: "media".into(),
        r#type: ExchangeType::Direct.into(),
        ..BindingInfo::default()
    };
    let all = vec![
        binding("celery.pidbox", ExchangeType::Fanout, "", inbox()),
        binding("celeryev", ExchangeType::Topic, "task.#", inbox()),
        binding("media", ExchangeType::Direct, "songs", songs),
    ];
    vec![
        vector(
            "binding-list",
            "Two mailboxes' and one queue's.",
            10,
            Body::BindingList(BindingList { bindings: all, cursor: Bytes::new() }),
        ),
        vector(
            "binding-list/unbound",
            "An exchange without bindings, on a page that is not the last.",
            10,
            Body::BindingList(BindingList {
                bindings: vec![unbound],
                cursor: Bytes::from_static(b"\x0a\x05media\x10\x01"),
            }),
        ),
    ]
}
