//! Requests about mailboxes and routes beside the tasks: clients and workers declare, consume and
//! publish while connections break and the broker starts again. The invariants and the model of the
//! mailboxes say what must hold; here it must hold beside everything else.

use bytes::Bytes;
use celeriac_proto::{ExchangeName, MailboxName, QueueName};
use celeriac_record::{ExchangeKind, ExchangeRecord};

use super::World;
use crate::command::{
    Ask, Binding, DestinationName, Mail, MailMessage, MailboxOptions, Publish, Route,
};

const MAILBOXES: u64 = 4;

impl World {
    pub(super) fn mail(&mut self, peer: usize) {
        let (mailbox, number) = (self.mailbox(), self.below(30));
        let ask = match self.below(10) {
            0..2 => Ask::Mail(Mail::DeclareMailbox(mailbox, self.mailbox_options())),
            2 => Ask::Mail(Mail::Consume(mailbox)),
            3 => Ask::Mail(Mail::Fetch(mailbox)),
            4 => Ask::Mail(Mail::Ack((number..number + 20).collect())),
            5 => Ask::Mail(Mail::PutBack(vec![number])),
            6 => {
                let kind = ExchangeKind::Fanout;
                let record = ExchangeRecord { name: exchange(), kind, auto_delete: number < 15 };
                Ask::Route(Route::DeclareExchange(record))
            }
            7 => {
                let to = match number {
                    0 => DestinationName::Queue(QueueName::default()),
                    _ => DestinationName::Mailbox(mailbox),
                };
                let (exchange, routing_key) = (exchange(), "".into());
                Ask::Route(Route::Bind(Binding { exchange, routing_key, to }))
            }
            _ => Ask::Mail(Mail::Publish(Publish {
                message: MailMessage {
                    exchange: (number < 20).then(exchange),
                    routing_key: mailbox.as_str().into(),
                    body: Bytes::from(vec![0; number as usize]),
                    content_type: "".into(),
                    properties: Bytes::new(),
                },
                mandatory: number % 2 == 0,
            })),
        };
        self.ask(peer, ask);
    }

    fn mailbox(&mut self) -> MailboxName {
        let name = format!("m{}", self.below(MAILBOXES));
        MailboxName::parse(name).expect("a mailbox name")
    }

    fn mailbox_options(&mut self) -> MailboxOptions {
        MailboxOptions {
            exclusive: self.below(3) == 0,
            auto_delete: self.below(2) == 0,
            idle_ms: (self.below(4) == 0).then_some(5_000),
            ttl_ms: (self.below(4) == 0).then_some(1_000),
            messages_max: 5,
            bytes_max: 10_000,
        }
    }
}

fn exchange() -> ExchangeName {
    ExchangeName::parse("e").expect("a name of an exchange")
}
