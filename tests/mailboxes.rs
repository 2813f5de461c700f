//! Mailboxes and routes over a real broker process: they come and go with their connections, hold
//! what nobody has read yet, and stay bounded.

use bytes::Bytes;
use celeriac_proto::wire::{self, Destination, ErrorCode, ExchangeType, MailMessage, MailboxInfo};
use celeriac_tests::raw::{Answer, Request};
use celeriac_tests::{BrokerProcess, RawConnection, until, within};

const MIB: usize = 1024 * 1024;

/// A connection with the requests of these tests.
struct Peer(RawConnection);

impl Peer {
    async fn of(broker: &BrokerProcess) -> Self {
        Self(RawConnection::open(broker.address()).await)
    }

    async fn ask(&mut self, request: Request) -> Answer {
        self.0.request(request).await.expect("the broker carries it out")
    }

    async fn refusal(&mut self, request: Request) -> ErrorCode {
        self.0.request(request).await.expect_err("the broker refuses it").code()
    }

    async fn declare(&mut self, declare: wire::DeclareMailbox) -> wire::MailboxReply {
        match self.ask(Request::DeclareMailbox(declare)).await {
            Answer::MailboxReply(reply) => reply,
            other => panic!("not the figures of a mailbox: {other:?}"),
        }
    }

    async fn consume(&mut self, name: &str) -> u64 {
        match self.ask(Request::Consume(wire::Consume { mailbox: name.into() })).await {
            Answer::ConsumeReply(reply) => reply.consumer_id,
            other => panic!("no consumer: {other:?}"),
        }
    }

    /// The messages of the next push, and the number of those that were dropped before it.
    async fn mail(&mut self) -> (Vec<MailMessage>, u64) {
        match within("a message", self.0.push()).await.expect("connected") {
            Answer::Mail(mail) => (mail.messages, mail.dropped),
            other => panic!("no message: {other:?}"),
        }
    }

    /// The next message, which comes alone. It is acknowledged.
    async fn one(&mut self) -> Bytes {
        let (messages, _) = self.mail().await;
        let [message] = &messages[..] else { panic!("not one message: {messages:?}") };
        let ack = Request::AckMail(wire::AckMail { tags: vec![message.tag] });
        self.0.send_unanswered(ack).await.expect("connected");
        message.body.clone()
    }

    async fn fetch(&mut self, name: &str) -> wire::FetchMailReply {
        match self.ask(Request::FetchMail(wire::FetchMail { mailbox: name.into() })).await {
            Answer::FetchMailReply(reply) => reply,
            other => panic!("nothing was fetched: {other:?}"),
        }
    }

    async fn publish(&mut self, exchange: &str, key: &str, body: impl Into<Bytes>) -> u64 {
        match self.ask(Request::Publish(message(exchange, key, body))).await {
            Answer::CountReply(reply) => reply.count,
            other => panic!("no count: {other:?}"),
        }
    }

    async fn exchange(&mut self, name: &str, kind: ExchangeType) {
        let declare = wire::DeclareExchange {
            exchange: name.into(),
            r#type: kind.into(),
            ..Default::default()
        };
        self.ask(Request::DeclareExchange(declare)).await;
    }

    async fn bind(&mut self, exchange: &str, key: &str, to: Destination) {
        let destination = Some(to);
        let (exchange, routing_key) = (exchange.into(), key.into());
        self.ask(Request::Bind(wire::Bind { exchange, routing_key, destination })).await;
    }

    async fn mailboxes(&mut self) -> Vec<MailboxInfo> {
        match self.ask(Request::ListMailboxes(wire::ListMailboxes::default())).await {
            Answer::MailboxList(list) => list.mailboxes,
            other => panic!("no list: {other:?}"),
        }
    }

    async fn bindings(&mut self) -> Vec<wire::BindingInfo> {
        match self.ask(Request::ListBindings(wire::ListBindings::default())).await {
            Answer::BindingList(list) => list.bindings,
            other => panic!("no list: {other:?}"),
        }
    }
}

fn message(exchange: &str, key: &str, body: impl Into<Bytes>) -> wire::Publish {
    wire::Publish {
        exchange: exchange.into(),
        routing_key: key.into(),
        body: body.into(),
        ..Default::default()
    }
}

fn mailbox(name: &str) -> Destination {
    Destination { mailbox: name.into(), ..Default::default() }
}

fn queue(name: &str) -> Destination {
    Destination { queue: name.into(), ..Default::default() }
}

fn named(name: &str) -> wire::DeclareMailbox {
    wire::DeclareMailbox { mailbox: name.into(), ..Default::default() }
}

fn exclusive(name: &str) -> wire::DeclareMailbox {
    wire::DeclareMailbox { exclusive: true, auto_delete: true, ..named(name) }
}

#[tokio::test]
async fn a_broadcast_reaches_every_mailbox_and_the_replies_come_back() {
    let broker = BrokerProcess::start().await;
    let (mut workers, mut caller) = (Vec::new(), Peer::of(&broker).await);
    for number in 0..3 {
        let mut worker = Peer::of(&broker).await;
        let name = format!("celery@host{number}.celery.pidbox");
        worker.declare(exclusive(&name)).await;
        worker.exchange("celery.pidbox", ExchangeType::Fanout).await;
        worker.bind("celery.pidbox", "", mailbox(&name)).await;
        worker.consume(&name).await;
        workers.push(worker);
    }
    // The caller's mailbox gets the replies before the caller consumes.
    let replies =
        caller.declare(wire::DeclareMailbox { exclusive: true, ..named("") }).await.mailbox;
    assert!(replies.len() > 20, "the broker made a name: {replies}");
    caller.exchange("reply.celery.pidbox", ExchangeType::Direct).await;
    caller.bind("reply.celery.pidbox", "me", mailbox(&replies)).await;
    assert_eq!(caller.publish("celery.pidbox", "", "ping").await, 3);
    for worker in &mut workers {
        assert_eq!(worker.one().await, "ping");
        let pong = Request::Publish(message("reply.celery.pidbox", "me", "pong"));
        worker.0.send_unanswered(pong).await.expect("connected");
        // The answer to a later request shows that the publish is done.
        worker.mailboxes().await;
    }
    caller.consume(&replies).await;
    let (messages, dropped) = caller.mail().await;
    assert_eq!((messages.len(), dropped), (3, 0));
    assert!(messages.iter().all(|message| message.body == "pong" && !message.redelivered));
    assert_eq!(messages[0].exchange, "reply.celery.pidbox");
    assert_eq!(messages[0].routing_key, "me");
}

#[tokio::test]
async fn a_mailbox_is_declared_on_one_connection_and_read_on_another() {
    let broker = BrokerProcess::start().await;
    let (mut one, mut other) = (Peer::of(&broker).await, Peer::of(&broker).await);
    one.declare(named("inbox")).await;
    let body = vec![7; 3 * MIB];
    one.publish("", "inbox", body.clone()).await;
    let properties = Bytes::from_static(br#"{"reply_to":"me"}"#);
    let rich = wire::Publish {
        content_type: "application/json".into(),
        properties: properties.clone(),
        ..message("", "inbox", "{}")
    };
    one.ask(Request::Publish(rich)).await;
    let first = other.fetch("inbox").await;
    assert_eq!(first.ready, 1);
    let first = first.message.expect("a message waits");
    assert_eq!(first.body, body);
    let put_back = Request::PutBackMail(wire::PutBackMail { tags: vec![first.tag] });
    assert!(matches!(other.ask(put_back).await, Answer::CountReply(reply) if reply.count == 1));
    let again = one.fetch("inbox").await.message.expect("the message came back to the front");
    assert!(again.redelivered && again.tag == first.tag);
    let second = other.fetch("inbox").await.message.expect("one more message waits");
    assert_eq!((second.content_type.as_str(), second.properties), ("application/json", properties));
    // A message that was not acknowledged goes back when its connection is lost.
    drop(other);
    until("the message is back", || async {
        let mut third = Peer::of(&broker).await;
        third.mailboxes().await[0].ready == 1
    })
    .await;
}

#[tokio::test]
async fn an_exclusive_mailbox_is_refused_to_others_and_ends_with_its_connection() {
    let broker = BrokerProcess::start().await;
    let (mut owner, mut other) = (Peer::of(&broker).await, Peer::of(&broker).await);
    owner.declare(exclusive("own")).await;
    owner.exchange("all", ExchangeType::Fanout).await;
    owner.bind("all", "", mailbox("own")).await;
    for request in [
        Request::DeclareMailbox(exclusive("own")),
        Request::Consume(wire::Consume { mailbox: "own".into() }),
        Request::FetchMail(wire::FetchMail { mailbox: "own".into() }),
        Request::DeleteMailbox(wire::DeleteMailbox { mailbox: "own".into(), ..Default::default() }),
    ] {
        assert_eq!(other.refusal(request).await, ErrorCode::Forbidden);
    }
    assert_eq!(other.publish("", "own", "hello").await, 1, "all may write to it");
    drop(owner);
    until("the mailbox is gone", || async { Peer::of(&broker).await.mailboxes().await.is_empty() })
        .await;
    assert_eq!(other.publish("all", "", "hello").await, 0);
    assert!(other.bindings().await.iter().all(|binding| binding.destination.is_none()));
}

#[tokio::test]
async fn an_auto_delete_mailbox_ends_with_its_last_consumer() {
    let broker = BrokerProcess::start().await;
    let (mut one, mut other) = (Peer::of(&broker).await, Peer::of(&broker).await);
    let events = || wire::DeclareMailbox { auto_delete: true, ..named("celeryev.1") };
    one.declare(events()).await;
    let consumer = one.consume("celeryev.1").await;
    other.consume("celeryev.1").await;
    one.ask(Request::Unconsume(wire::Unconsume { consumer_id: consumer })).await;
    assert_eq!(one.declare(events()).await.consumers, 1);
    drop(other);
    until("the mailbox is gone", || async { Peer::of(&broker).await.mailboxes().await.is_empty() })
        .await;
    let passive = wire::DeclareMailbox { passive: true, ..named("celeryev.1") };
    assert_eq!(one.refusal(Request::DeclareMailbox(passive)).await, ErrorCode::NotFound);
}

#[tokio::test]
async fn a_deleted_mailbox_tells_its_consumers() {
    let broker = BrokerProcess::start().await;
    let (mut one, mut other) = (Peer::of(&broker).await, Peer::of(&broker).await);
    one.declare(named("inbox")).await;
    let consumer = other.consume("inbox").await;
    let delete = wire::DeleteMailbox { mailbox: "inbox".into(), ..Default::default() };
    one.ask(Request::DeleteMailbox(delete)).await;
    match within("the end of the consumer", other.0.push()).await.expect("connected") {
        Answer::ConsumerEnded(ended) => {
            assert_eq!((ended.consumer_id, ended.mailbox.as_str()), (consumer, "inbox"));
        }
        other => panic!("not told: {other:?}"),
    }
}

#[tokio::test]
async fn a_reader_that_hangs_costs_the_broker_a_bounded_part_of_its_memory() {
    let broker = BrokerProcess::start().await;
    let (mut events, mut reader) = (Peer::of(&broker).await, Peer::of(&broker).await);
    events.exchange("celeryev", ExchangeType::Topic).await;
    reader.declare(named("celeryev.slow")).await;
    reader.bind("celeryev", "#", mailbox("celeryev.slow")).await;
    reader.consume("celeryev.slow").await;
    let before = broker.resident_kib();
    // The reader reads nothing, and acknowledges nothing.
    let body = Bytes::from(vec![b'e'; 20_000]);
    for _ in 0..6_000 {
        let event = Request::Publish(message("celeryev", "task.received", body.clone()));
        events.0.send_unanswered(event).await.expect("connected");
    }
    let [mailbox] = &events.mailboxes().await[..] else { panic!("one mailbox") };
    assert!(mailbox.bytes <= 16 * MIB as u64, "{mailbox:?}");
    assert!(mailbox.unacknowledged < 100, "about a megabyte is under way: {mailbox:?}");
    let kept = mailbox.ready + mailbox.unacknowledged;
    assert_eq!(mailbox.dropped_total, 6_000 - kept, "every other message is counted");
    let grown = broker.resident_kib().saturating_sub(before);
    assert!(grown < 100 * 1024, "of 120 MB the broker holds less than half: {grown} KiB");
    // When the reader goes on, it is told how many messages it lost.
    let (mut read, mut lost) = (0, 0);
    while read < kept {
        let (messages, dropped) = reader.mail().await;
        read += messages.len() as u64;
        lost += dropped;
        let tags = messages.iter().map(|message| message.tag).collect();
        reader.ask(Request::AckMail(wire::AckMail { tags })).await;
    }
    assert_eq!((read, lost), (kept, mailbox.dropped_total));
}

#[tokio::test]
async fn exchanges_and_bindings_to_queues_survive_a_restart_and_mailboxes_do_not() {
    let mut broker = BrokerProcess::start().await;
    let mut before = Peer::of(&broker).await;
    before.exchange("media", ExchangeType::Topic).await;
    before.bind("media", "songs.*", queue("songs")).await;
    before.declare(named("inbox")).await;
    before.bind("media", "#", mailbox("inbox")).await;
    broker.kill().await;
    broker.restart().await;
    let mut after = Peer::of(&broker).await;
    assert!(after.mailboxes().await.is_empty());
    let [binding] = &after.bindings().await[..] else { panic!("one binding") };
    assert_eq!(binding.r#type(), ExchangeType::Topic);
    assert_eq!((binding.exchange.as_str(), binding.routing_key.as_str()), ("media", "songs.*"));
    assert_eq!(binding.destination, Some(queue("songs")));
    let refused = Request::Publish(message("media", "songs.new", "hello"));
    assert_eq!(after.refusal(refused).await, ErrorCode::InvalidArgument);
    // A client declares its mailbox again after it has connected again.
    after.declare(named("inbox")).await;
    after.bind("media", "#", mailbox("inbox")).await;
    assert_eq!(after.publish("media", "films.new", "hello").await, 1);
}

#[tokio::test]
async fn what_an_exchange_may_not_be_is_refused() {
    let broker = BrokerProcess::start().await;
    let mut peer = Peer::of(&broker).await;
    let declare = |kind: i32| {
        let exchange = "e".to_owned();
        Request::DeclareExchange(wire::DeclareExchange {
            exchange,
            r#type: kind,
            ..Default::default()
        })
    };
    for (kind, code) in [
        (ExchangeType::Headers as i32, ErrorCode::Unsupported),
        (ExchangeType::Unspecified as i32, ErrorCode::InvalidArgument),
        (99, ErrorCode::InvalidArgument),
    ] {
        assert_eq!(peer.refusal(declare(kind)).await, code);
    }
    peer.exchange("e", ExchangeType::Direct).await;
    let other = declare(ExchangeType::Fanout as i32);
    assert_eq!(peer.refusal(other).await, ErrorCode::InvalidArgument);
    let greedy = wire::DeclareMailbox { messages_max: 10_001, ..named("m") };
    let greedy = Request::DeclareMailbox(greedy);
    assert_eq!(peer.refusal(greedy).await, ErrorCode::InvalidArgument);
    let long = wire::Publish { properties: vec![0; 64 * 1024 + 1].into(), ..message("", "m", "") };
    assert_eq!(peer.refusal(Request::Publish(long)).await, ErrorCode::InvalidArgument);
    let nowhere = wire::Publish { mandatory: true, ..message("e", "m", "") };
    assert_eq!(peer.refusal(Request::Publish(nowhere)).await, ErrorCode::NotFound);
}

#[tokio::test]
async fn ten_thousand_pings_leave_nothing_behind() {
    let broker = BrokerProcess::start().await;
    let mut worker = Peer::of(&broker).await;
    worker.declare(exclusive("w.celery.pidbox")).await;
    worker.exchange("celery.pidbox", ExchangeType::Fanout).await;
    worker.exchange("reply.celery.pidbox", ExchangeType::Direct).await;
    worker.bind("celery.pidbox", "", mailbox("w.celery.pidbox")).await;
    worker.consume("w.celery.pidbox").await;
    let mut caller = Peer::of(&broker).await;
    for round in 0..10_000 {
        // Some callers are programs of their own, as those of a probe.
        if round % 100 == 0 {
            caller = Peer::of(&broker).await;
        }
        let name = format!("{round}.reply.celery.pidbox");
        caller.declare(exclusive(&name)).await;
        caller.bind("reply.celery.pidbox", &name, mailbox(&name)).await;
        assert_eq!(caller.publish("celery.pidbox", "", name.clone()).await, 1);
        let reply_to = worker.one().await;
        let key = std::str::from_utf8(&reply_to).expect("a name");
        let pong = Request::Publish(message("reply.celery.pidbox", key, "pong"));
        worker.0.send_unanswered(pong).await.expect("connected");
        let consumer = caller.consume(&name).await;
        assert_eq!(caller.one().await, "pong");
        if round % 100 != 99 {
            caller.ask(Request::Unconsume(wire::Unconsume { consumer_id: consumer })).await;
        }
    }
    drop(caller);
    until("only the worker's mailbox is left", || async {
        let mut peer = Peer::of(&broker).await;
        let (mailboxes, bindings) = (peer.mailboxes().await, peer.bindings().await);
        let bound = bindings.iter().filter(|binding| binding.destination.is_some()).count();
        (mailboxes.len(), bound, bindings.len()) == (1, 1, 2)
    })
    .await;
    let [mailbox] = &worker.mailboxes().await[..] else { panic!("one mailbox") };
    assert_eq!((mailbox.ready, mailbox.unacknowledged, mailbox.dropped_total), (0, 0, 0));
}
