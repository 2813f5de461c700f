//! The machine and a naive reference do the same random steps with mailboxes and routes, and must
//! agree on every answer, every push and every listing. When all connections and names are gone,
//! nothing may be left.

mod reference;

use std::sync::Arc;

use bytes::Bytes;
use celeriac_proto::limits::{MAILBOX_BYTES_MAX, MAILBOX_MESSAGES_MAX};
use celeriac_proto::{ExchangeName, MailboxName, QueueName};
use celeriac_record::{ExchangeKind, ExchangeRecord, Record};
use proptest::prelude::*;

use self::reference::{Reference, To};
use super::script::settings;
use crate::command::{
    Answer, Ask, Binding, BindingOutline, Code, Command, Connect, DestinationName, Effect, Mail,
    MailMessage, MailboxOptions, MailboxOutline, Message, Now, Outlines, Patterns, Publish, Push,
    Route, Scope,
};
use crate::{Effects, Machine};

const PEERS: u64 = 3;
/// This peer may not use the queue of the bindings.
const SCOPED: u64 = 2;
const EXCHANGES: [&str; 3] = ["", "e", "f"];
const KEYS: [&str; 6] = ["m0", "m1", "m2", "m0.m1", "#", "*.m1"];

/// One random step. The numbers choose among what there is.
#[derive(Debug, Clone)]
enum Step {
    Pass(u64),
    Lose(u64),
    Restart,
    Declare { peer: u64, mailbox: usize, options: usize },
    Delete { peer: u64, mailbox: usize, only_unneeded: bool },
    Purge { peer: u64, mailbox: usize },
    Consume { peer: u64, mailbox: usize },
    Unconsume { peer: u64, consumer: u64 },
    Fetch { peer: u64, mailbox: usize },
    Ack { peer: u64, tag: u64 },
    PutBack { peer: u64, tag: u64 },
    Publish { peer: u64, exchange: usize, key: usize },
    DeclareExchange { peer: u64, exchange: usize, kind: usize, auto_delete: bool },
    DeleteExchange { peer: u64, exchange: usize, if_unused: bool },
    Bind { peer: u64, exchange: usize, key: usize, to: usize },
    Unbind { peer: u64, exchange: usize, key: usize, to: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    use Step::*;
    let peer = || 0..PEERS;
    let (name, key) = (|| 0..3_usize, || 0..KEYS.len());
    let step = prop_oneof![
        3 => (1..4_000_u64).prop_map(Pass),
        1 => peer().prop_map(Lose),
        1 => Just(Restart),
        6 => (peer(), name(), 0..6_usize)
            .prop_map(|(peer, mailbox, options)| Declare { peer, mailbox, options }),
        1 => (peer(), name(), any::<bool>())
            .prop_map(|(peer, mailbox, only_unneeded)| Delete { peer, mailbox, only_unneeded }),
        1 => (peer(), name()).prop_map(|(peer, mailbox)| Purge { peer, mailbox }),
        3 => (peer(), name()).prop_map(|(peer, mailbox)| Consume { peer, mailbox }),
        2 => (peer(), 0..9_u64).prop_map(|(peer, consumer)| Unconsume { peer, consumer }),
        4 => (peer(), name()).prop_map(|(peer, mailbox)| Fetch { peer, mailbox }),
        4 => (peer(), 0..40_u64).prop_map(|(peer, tag)| Ack { peer, tag }),
        4 => (peer(), 0..40_u64).prop_map(|(peer, tag)| PutBack { peer, tag }),
        12 => (peer(), 0..3_usize, key())
            .prop_map(|(peer, exchange, key)| Publish { peer, exchange, key }),
        3 => (peer(), 1..3_usize, 0..3_usize, any::<bool>()).prop_map(
            |(peer, exchange, kind, auto_delete)| DeclareExchange {
                peer, exchange, kind, auto_delete
            }
        ),
        1 => (peer(), 1..3_usize, any::<bool>())
            .prop_map(|(peer, exchange, if_unused)| DeleteExchange { peer, exchange, if_unused }),
        6 => (peer(), 1..3_usize, key(), 0..7_usize)
            .prop_map(|(peer, exchange, key, to)| Bind { peer, exchange, key, to }),
        2 => (peer(), 1..3_usize, key(), 0..7_usize)
            .prop_map(|(peer, exchange, key, to)| Unbind { peer, exchange, key, to }),
    ];
    proptest::collection::vec(step, 1..150)
}

/// What a request did, as far as both sides can say.
#[derive(Debug, Clone, PartialEq)]
enum Outcome {
    Done,
    Count(u64),
    Mailbox(u64, u32),
    Consumer(u64),
    Fetched(Option<u64>, u64, u64),
    Refused(Code),
}

/// A message that a consumer got.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Pushed {
    connection: u64,
    consumer: u64,
    tag: u64,
    body: u64,
}

struct World {
    machine: Machine,
    reference: Reference,
    now: Now,
    log: Vec<Record>,
    /// The connection of each peer.
    peers: Vec<u64>,
    latest: u64,
    bodies: u64,
    pushed: Vec<Pushed>,
}

fn options(number: usize) -> MailboxOptions {
    let plain = MailboxOptions {
        exclusive: false,
        auto_delete: false,
        idle_ms: None,
        ttl_ms: None,
        messages_max: MAILBOX_MESSAGES_MAX,
        bytes_max: MAILBOX_BYTES_MAX,
    };
    match number {
        0 => plain,
        1 => MailboxOptions { exclusive: true, ..plain },
        2 => MailboxOptions { auto_delete: true, ..plain },
        3 => MailboxOptions { messages_max: 2, ttl_ms: Some(3_000), ..plain },
        4 => MailboxOptions { idle_ms: Some(5_000), ..plain },
        _ => MailboxOptions { exclusive: true, auto_delete: true, messages_max: 1, ..plain },
    }
}

fn mailbox(number: usize) -> MailboxName {
    MailboxName::parse(format!("m{number}")).expect("a mailbox name")
}

fn exchange(number: usize) -> ExchangeName {
    ExchangeName::parse(EXCHANGES[number]).expect("a name of an exchange")
}

fn number_in(body: &[u8]) -> u64 {
    u64::from_be_bytes(body.try_into().expect("each body is a number"))
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            machine: Machine::new(settings()),
            reference: Reference::default(),
            now: Now { wall: 1_000_000, mono: 0 },
            log: Vec::new(),
            peers: Vec::new(),
            latest: 0,
            bodies: 0,
            pushed: Vec::new(),
        };
        world.peers = (0..PEERS).map(|peer| world.connect(peer)).collect();
        world
    }

    fn apply(&mut self, command: Option<Command>) -> Vec<Message> {
        let mut fx = Effects::default();
        if let Some(command) = command {
            self.machine.apply(self.now, command, &mut fx);
        }
        self.machine.tick(self.now, &mut fx);
        self.settle(fx)
    }

    /// Keeps the records, notes what is pushed, and returns the answers.
    fn settle(&mut self, fx: Effects) -> Vec<Message> {
        self.machine.check_invariants();
        let mut answers = Vec::new();
        for effect in fx.list {
            match effect {
                Effect::Store(record) => self.log.push(record),
                Effect::Send(connection, Message::Push(Push::Mail { consumer, messages, .. })) => {
                    self.pushed.extend(messages.iter().map(|mail| Pushed {
                        connection,
                        consumer,
                        tag: mail.tag,
                        body: number_in(&mail.message.body),
                    }));
                }
                Effect::Send(_, Message::Push(_)) | Effect::Close(_) | Effect::Forbade(..) => {}
                Effect::Send(_, message) => answers.push(message),
                other => panic!("no such effect is due: {other:?}"),
            }
        }
        answers
    }

    fn connect(&mut self, peer: u64) -> u64 {
        self.latest += 1;
        let connection = self.latest;
        let mut session_id = [0; 16];
        session_id[..8].copy_from_slice(&connection.to_be_bytes());
        self.apply(Some(Command::Connect(Box::new(Connect {
            connection,
            request: 1,
            session_id,
            resume: None,
            instance: "peer".into(),
            worker: None,
            entry: None,
            scope: (peer == SCOPED).then(everything_but_songs),
        }))));
        connection
    }

    fn request(&mut self, connection: u64, ask: Ask) -> Message {
        let mut answers = self.apply(Some(Command::Request { connection, request: 1, ask }));
        assert_eq!(answers.len(), 1, "a request has one answer: {answers:?}");
        answers.pop().expect("there is one")
    }

    fn ask(&mut self, connection: u64, ask: Ask) -> Outcome {
        match self.request(connection, ask) {
            Message::Answer(_, Answer::Done) => Outcome::Done,
            Message::Answer(_, Answer::Count(count)) => Outcome::Count(count),
            Message::Answer(_, Answer::Mailbox { ready, consumers, .. }) => {
                Outcome::Mailbox(ready, consumers)
            }
            Message::Answer(_, Answer::Consuming(consumer)) => Outcome::Consumer(consumer),
            Message::Answer(_, Answer::Fetched { message, ready, dropped }) => {
                let body = message.map(|mail| number_in(&mail.message.body));
                Outcome::Fetched(body, ready, dropped)
            }
            Message::Answer(_, Answer::Refused(refusal)) => Outcome::Refused(refusal.code),
            other => panic!("not an answer to such a request: {other:?}"),
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Pass(span_ms) => {
                self.now.wall += *span_ms as i64;
                self.now.mono += *span_ms;
                self.apply(None);
                self.reference.pass(*span_ms);
            }
            Step::Lose(peer) => self.lose(*peer),
            Step::Restart => self.restart(),
            step => {
                let (connection, ask, expected) = self.both(step);
                let outcome = self.ask(connection, ask);
                assert_eq!(outcome, expected, "{step:?}");
            }
        }
        self.reference.push();
        let mut expected = std::mem::take(&mut self.reference.pushed);
        expected.sort();
        self.pushed.sort();
        assert_eq!(std::mem::take(&mut self.pushed), expected, "pushed after {step:?}");
        self.compare(step);
    }

    fn lose(&mut self, peer: u64) {
        let connection = self.peers[peer as usize];
        self.apply(Some(Command::Disconnect { connection, reason: None }));
        self.reference.lose(connection);
        self.peers[peer as usize] = self.connect(peer);
    }

    fn restart(&mut self) {
        self.machine = Machine::new(settings());
        self.log.iter().for_each(|record| self.machine.restore(self.now, record.clone()));
        let mut fx = Effects::default();
        self.machine.restored(self.now, 0, 0, &mut fx);
        self.settle(fx);
        self.reference.restart();
        self.peers = (0..PEERS).map(|peer| self.connect(peer)).collect();
    }

    /// The request of a step, with the outcome that the reference gives.
    fn both(&mut self, step: &Step) -> (u64, Ask, Outcome) {
        let peer = |peer: &u64| self.peers[*peer as usize];
        let reference = &mut self.reference;
        match step {
            Step::Declare { peer: by, mailbox: name, options: number } => {
                let (by, name, options) = (peer(by), mailbox(*name), options(*number));
                let expected = reference.declare(by, &name, options);
                (by, Ask::Mail(Mail::DeclareMailbox(name, options)), expected)
            }
            Step::Delete { peer: by, mailbox: name, only_unneeded } => {
                let (by, name) = (peer(by), mailbox(*name));
                let expected = reference.delete(by, &name, *only_unneeded);
                let (if_unused, if_empty) = (*only_unneeded, *only_unneeded);
                let delete = Mail::DeleteMailbox { mailbox: name, if_unused, if_empty };
                (by, Ask::Mail(delete), expected)
            }
            Step::Purge { peer: by, mailbox: name } => {
                let (by, name) = (peer(by), mailbox(*name));
                let expected = reference.purge(by, &name);
                (by, Ask::Mail(Mail::PurgeMailbox(name)), expected)
            }
            Step::Consume { peer: by, mailbox: name } => {
                let (by, name) = (peer(by), mailbox(*name));
                let expected = reference.consume(by, &name);
                (by, Ask::Mail(Mail::Consume(name)), expected)
            }
            Step::Unconsume { peer: by, consumer } => {
                let expected = reference.unconsume(peer(by), *consumer);
                (peer(by), Ask::Mail(Mail::Unconsume(*consumer)), expected)
            }
            Step::Fetch { peer: by, mailbox: name } => {
                let (by, name) = (peer(by), mailbox(*name));
                let expected = reference.fetch(by, &name);
                (by, Ask::Mail(Mail::Fetch(name)), expected)
            }
            Step::Ack { peer: by, tag } => {
                let expected = reference.acknowledge(peer(by), *tag);
                (peer(by), Ask::Mail(Mail::Ack(vec![*tag])), expected)
            }
            Step::PutBack { peer: by, tag } => {
                let expected = reference.put_back(peer(by), *tag);
                (peer(by), Ask::Mail(Mail::PutBack(vec![*tag])), expected)
            }
            Step::Publish { peer: by, exchange: name, key } => {
                self.bodies += 1;
                let (by, key) = (peer(by), KEYS[*key]);
                let expected = reference.publish(EXCHANGES[*name], key, self.bodies);
                let message = MailMessage {
                    exchange: (*name > 0).then(|| exchange(*name)),
                    routing_key: key.into(),
                    body: Bytes::copy_from_slice(&self.bodies.to_be_bytes()),
                    content_type: "".into(),
                    properties: Bytes::new(),
                };
                let publish = Publish { message, mandatory: false };
                (by, Ask::Mail(Mail::Publish(publish)), expected)
            }
            step => self.both_of_route(step),
        }
    }

    fn both_of_route(&mut self, step: &Step) -> (u64, Ask, Outcome) {
        let peer = |peer: &u64| self.peers[*peer as usize];
        let reference = &mut self.reference;
        let binding = |name: &usize, key: &usize, to: &usize| {
            let (to, destination) = match to {
                0 => (To::Queue("songs".into()), DestinationName::Queue(songs())),
                to => {
                    let name = mailbox(to % 3);
                    (To::Mailbox(name.to_string()), DestinationName::Mailbox(name))
                }
            };
            let (exchange, routing_key) = (exchange(*name), KEYS[*key].into());
            (to, Binding { exchange, routing_key, to: destination })
        };
        match step {
            Step::DeclareExchange { peer: by, exchange: name, kind, auto_delete } => {
                let kinds = [ExchangeKind::Direct, ExchangeKind::Topic, ExchangeKind::Fanout];
                let (name, kind) = (exchange(*name), kinds[*kind]);
                let expected = reference.declare_exchange(&name, kind, *auto_delete);
                let record = ExchangeRecord { name, kind, auto_delete: *auto_delete };
                (peer(by), Ask::Route(Route::DeclareExchange(record)), expected)
            }
            Step::DeleteExchange { peer: by, exchange: name, if_unused } => {
                let (exchange, if_unused) = (exchange(*name), *if_unused);
                let expected = reference.delete_exchange(&exchange, if_unused, *by == SCOPED);
                let delete = Route::DeleteExchange { exchange, if_unused };
                (peer(by), Ask::Route(delete), expected)
            }
            Step::Bind { peer: by, exchange, key, to } => {
                let (to, binding) = binding(exchange, key, to);
                let expected = reference.bind(peer(by), EXCHANGES[*exchange], KEYS[*key], to);
                (peer(by), Ask::Route(Route::Bind(binding)), expected)
            }
            Step::Unbind { peer: by, exchange, key, to } => {
                let (to, binding) = binding(exchange, key, to);
                let expected = reference.unbind(peer(by), EXCHANGES[*exchange], KEYS[*key], to);
                (peer(by), Ask::Route(Route::Unbind(binding)), expected)
            }
            other => unreachable!("{other:?} is no request"),
        }
    }

    fn listed(&mut self) -> Vec<MailboxOutline> {
        match self.request(self.peers[0], Ask::Mail(Mail::ListMailboxes { after: None })) {
            Message::Show(_, Outlines::Mailboxes { mailboxes, .. }) => mailboxes,
            other => panic!("not a listing: {other:?}"),
        }
    }

    /// Compares the listings with the reference.
    fn compare(&mut self, step: &Step) {
        let listed = self.listed().into_iter().map(|one| {
            let name = one.mailbox.to_string();
            (name, one.ready, one.unacknowledged, one.consumers, one.dropped_total)
        });
        let mut expected: Vec<_> = self
            .reference
            .mailboxes
            .iter()
            .map(|one| {
                let name = one.name.clone();
                (name, one.ready(), one.unacknowledged(), one.consumers(), one.dropped)
            })
            .collect();
        expected.sort();
        assert_eq!(listed.collect::<Vec<_>>(), expected, "mailboxes after {step:?}");
        let after = Ask::Route(Route::ListBindings { after: None });
        let Message::Show(_, Outlines::Bindings { bindings, .. }) =
            self.request(self.peers[0], after)
        else {
            panic!("not a listing");
        };
        let mut lines: Vec<String> = bindings.iter().map(line).collect();
        lines.sort();
        assert_eq!(lines, self.reference.routes(), "routes after {step:?}");
    }

    /// All connections go, and another one deletes what has a name.
    fn end(mut self) {
        for connection in self.peers.clone() {
            self.apply(Some(Command::Disconnect { connection, reason: None }));
        }
        self.peers = vec![self.connect(0)];
        let listed = self.listed();
        assert!(listed.iter().all(|one| !one.exclusive && one.unacknowledged == 0));
        for mailbox in listed {
            let (if_unused, if_empty) = (true, false);
            let delete = Mail::DeleteMailbox { mailbox: mailbox.mailbox, if_unused, if_empty };
            let outcome = self.ask(self.peers[0], Ask::Mail(delete));
            assert_eq!(outcome, Outcome::Count(mailbox.ready));
        }
        assert!(self.machine.mailboxes.is_empty(), "nothing is left of the mailboxes");
    }
}

fn everything_but_songs() -> Arc<Scope> {
    let queues = Patterns::of(["e", "f", "m*"]);
    Arc::new(Scope { queues, names: Patterns::All })
}

fn songs() -> QueueName {
    QueueName::parse("songs").expect("a queue name")
}

fn line(binding: &BindingOutline) -> String {
    let BindingOutline { exchange, kind, routing_key, to } = binding;
    match to {
        Some(DestinationName::Mailbox(name)) => {
            format!("{exchange} {kind:?} {routing_key} {:?}", To::Mailbox(name.to_string()))
        }
        Some(DestinationName::Queue(name)) => {
            format!("{exchange} {kind:?} {routing_key} {:?}", To::Queue(name.to_string()))
        }
        None => format!("{exchange} {kind:?}"),
    }
}

proptest! {
    #[test]
    fn mailboxes_and_routes_do_what_the_reference_does(steps in steps()) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
        }
        world.end();
    }
}
