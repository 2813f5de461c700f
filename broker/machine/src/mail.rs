//! Requests about mailboxes: declare, delete, purge, consume, fetch, acknowledge, put back and
//! publish; and the messages that the machine pushes to consumers. This module decides when a
//! mailbox ends.
//!
//! Nothing of this is in the records: a mailbox does not survive a restart, and an answer about it
//! depends on nothing that is on the disk.

use std::collections::BTreeMap;
use std::sync::Arc;

use celeriac_proto::{MailboxName, QueueName};

use crate::Machine;
use crate::command::{
    Answer, Code, ConnectionKey, DeliveredMail, Forbidden, MailConsumerKey, MailTag,
    MailboxOptions, Publish, Push, Refusal,
};
use crate::exchange::Destination;
use crate::keys::MailboxKey;
use crate::step::{Asker, Step};
use crate::timers::MonoTimer;

/// A push has messages of up to about this many bytes. A longer message comes alone.
const PUSH_BYTES: usize = 256 * 1024;

impl Machine {
    pub(crate) fn declare_mailbox(
        &mut self,
        step: &mut Step<'_>,
        asker: Asker,
        name: MailboxName,
        options: MailboxOptions,
    ) {
        let declared = match self.mailboxes.find(&name) {
            Some(_) => self.usable_mailbox(step, asker, &name).and_then(|key| {
                match self.mailboxes.mailbox(key).options == options {
                    true => Ok(key),
                    false => Err(Refusal::new(
                        Code::InvalidArgument,
                        format!("the mailbox `{name}` has other options"),
                    )),
                }
            }),
            None => self.create_mailbox(step, asker.connection, name, options),
        };
        self.show_mailbox(step, asker, declared);
    }

    fn create_mailbox(
        &mut self,
        step: &Step<'_>,
        connection: ConnectionKey,
        name: MailboxName,
        options: MailboxOptions,
    ) -> Result<MailboxKey, Refusal> {
        if QueueName::parse(&*name).is_ok_and(|queue| self.is_queue_in_use(&queue)) {
            return Err(Refusal::new(
                Code::InvalidArgument,
                format!("`{name}` is a queue of tasks: a mailbox needs another name"),
            ));
        }
        self.mailboxes.create(name, options, connection, step.now.mono)
    }

    pub(crate) fn find_mailbox(&mut self, step: &mut Step<'_>, asker: Asker, name: &MailboxName) {
        let found = self.usable_mailbox(step, asker, name);
        self.show_mailbox(step, asker, found);
    }

    /// The mailbox of this name, if there is one and the connection may use it.
    pub(crate) fn usable_mailbox(
        &self,
        step: &mut Step<'_>,
        asker: Asker,
        name: &MailboxName,
    ) -> Result<MailboxKey, Refusal> {
        let Some(key) = self.mailboxes.find(name) else {
            return Err(Refusal::new(Code::NotFound, format!("there is no mailbox `{name}`")));
        };
        match self.mailboxes.mailbox(key).owner {
            Some(owner) if owner != asker.connection => {
                step.forbade(asker, Forbidden::Mailbox(name.clone()));
                let message = format!("the mailbox `{name}` is exclusive to another connection");
                Err(Refusal::new(Code::Forbidden, message))
            }
            _ => Ok(key),
        }
    }

    /// Answers with the figures of a mailbox. To ask for them counts as use.
    fn show_mailbox(
        &mut self,
        step: &mut Step<'_>,
        asker: Asker,
        found: Result<MailboxKey, Refusal>,
    ) {
        let answer = match found {
            Ok(key) => {
                self.note_mail_use(step, key);
                self.mailboxes.change(key, |mailbox| mailbox.expire(step.now.mono));
                let mailbox = self.mailboxes.mailbox(key);
                Answer::Mailbox {
                    mailbox: mailbox.name.clone(),
                    ready: mailbox.ready(),
                    consumers: mailbox.consumers.len() as u32,
                }
            }
            Err(refusal) => Answer::Refused(refusal),
        };
        step.answer(asker, answer);
    }

    pub(crate) fn delete_mailbox(
        &mut self,
        step: &mut Step<'_>,
        asker: Asker,
        name: &MailboxName,
        if_unused: bool,
        if_empty: bool,
    ) {
        let is_usable = self.usable_mailbox(step, asker, name).and_then(|key| {
            self.mailboxes.change(key, |mailbox| mailbox.expire(step.now.mono));
            let mailbox = self.mailboxes.mailbox(key);
            match () {
                () if if_unused && !mailbox.consumers.is_empty() => {
                    Err(in_use(format!("the mailbox `{name}` has consumers")))
                }
                () if if_empty && mailbox.ready() > 0 => {
                    Err(in_use(format!("the mailbox `{name}` is not empty")))
                }
                () => Ok(key),
            }
        });
        let answer = match is_usable {
            Ok(key) => {
                let count = self.mailboxes.mailbox(key).ready();
                self.end_mailbox(step, key);
                Answer::Count(count)
            }
            Err(refusal) => Answer::Refused(refusal),
        };
        step.answer(asker, answer);
    }

    pub(crate) fn purge_mailbox(&mut self, step: &mut Step<'_>, asker: Asker, name: &MailboxName) {
        let answer = match self.usable_mailbox(step, asker, name) {
            Ok(key) => {
                let now = step.now.mono;
                Answer::Count(self.mailboxes.change(key, |mailbox| {
                    mailbox.expire(now);
                    mailbox.purge()
                }))
            }
            Err(refusal) => Answer::Refused(refusal),
        };
        step.answer(asker, answer);
    }

    /// Ends a mailbox, with its messages, its bindings and its consumers, which are told.
    fn end_mailbox(&mut self, step: &mut Step<'_>, key: MailboxKey) {
        let (mailbox, ended) = self.mailboxes.remove(key);
        if let Some(at) = mailbox.timer_at {
            self.timers.clear_mono(at, MonoTimer::Mailbox(key));
        }
        self.drop_bindings_to(step, &Destination::Mailbox(key));
        for (consumer, connection) in ended {
            let mailbox = mailbox.name.clone();
            step.tell(connection, Push::ConsumerEnded { consumer, mailbox });
        }
    }

    pub(crate) fn consume(&mut self, step: &mut Step<'_>, asker: Asker, name: &MailboxName) {
        let consumer = self
            .usable_mailbox(step, asker, name)
            .and_then(|key| self.mailboxes.add_consumer(key, asker.connection));
        step.answer(asker, consumer.map_or_else(Answer::Refused, Answer::Consuming));
    }

    pub(crate) fn unconsume(
        &mut self,
        step: &mut Step<'_>,
        asker: Asker,
        consumer: MailConsumerKey,
    ) {
        let Some(key) = self.mailboxes.consumed_by(asker.connection, consumer) else {
            let text = "this connection has no such consumer";
            let refusal = Refusal::new(Code::NotFound, text);
            return step.answer(asker, Answer::Refused(refusal));
        };
        self.mailboxes.remove_consumer(consumer);
        let tags = self.mailboxes.tags_of(asker.connection, Some(consumer));
        self.mailboxes.put_back(asker.connection, &tags, step.now.mono);
        self.lose_consumer(step, key);
        step.answer(asker, Answer::Done);
    }

    /// A consumer of the mailbox has left. Without consumers the mailbox may be over.
    fn lose_consumer(&mut self, step: &mut Step<'_>, key: MailboxKey) {
        let mailbox = self.mailboxes.mailbox(key);
        if mailbox.options.auto_delete && mailbox.consumers.is_empty() {
            self.end_mailbox(step, key);
        } else {
            self.note_mail_use(step, key);
        }
    }

    pub(crate) fn fetch_mail(&mut self, step: &mut Step<'_>, asker: Asker, name: &MailboxName) {
        let connection = asker.connection;
        let found = self.usable_mailbox(step, asker, name).and_then(|key| {
            match self.mailboxes.may_get(connection) {
                true => Ok(key),
                false => Err(Refusal::new(
                    Code::Overloaded,
                    "this connection has got as many messages as it may: acknowledge some",
                )),
            }
        });
        let answer = match found {
            Ok(key) => {
                self.note_mail_use(step, key);
                let message = self.mailboxes.give(key, None, connection, step.now.mono);
                let mailbox = self.mailboxes.mailbox_mut(key);
                let (ready, dropped) = (mailbox.ready(), mailbox.tell_dropped());
                Answer::Fetched { message, ready, dropped }
            }
            Err(refusal) => Answer::Refused(refusal),
        };
        step.answer(asker, answer);
    }

    pub(crate) fn acknowledge_mail(&mut self, step: &mut Step<'_>, asker: Asker, tags: &[MailTag]) {
        self.mailboxes.acknowledge(asker.connection, tags);
        answer_if_asked(step, asker, Answer::Done);
    }

    pub(crate) fn put_back_mail(&mut self, step: &mut Step<'_>, asker: Asker, tags: &[MailTag]) {
        let (touched, count) = self.mailboxes.put_back(asker.connection, tags, step.now.mono);
        for key in touched {
            self.note_mail_use(step, key);
        }
        step.answer(asker, Answer::Count(count));
    }

    pub(crate) fn publish_mail(&mut self, step: &mut Step<'_>, asker: Asker, publish: Publish) {
        let answer = self.post(step, publish).map_or_else(Answer::Refused, Answer::Count);
        answer_if_asked(step, asker, answer);
    }

    /// Puts a message into every mailbox on its route. Returns the number of mailboxes that have
    /// it.
    fn post(&mut self, step: &Step<'_>, publish: Publish) -> Result<u64, Refusal> {
        let Publish { message, mandatory } = publish;
        let destinations = self.route(message.exchange.as_ref(), &message.routing_key)?;
        if let Some(queue) = destinations.queues.first() {
            let seen = step.scope.as_ref().is_none_or(|scope| scope.queues.allow(queue));
            let queue = if seen { format!("the queue of tasks `{queue}`") } else { "tasks".into() };
            return Err(Refusal::new(
                Code::InvalidArgument,
                format!("the message leads to {queue}: submit a task instead"),
            ));
        }
        if mandatory && destinations.mailboxes.is_empty() {
            return Err(Refusal::new(Code::NotFound, "the message leads to no mailbox"));
        }
        let message = Arc::new(message);
        let mut count = 0;
        for key in destinations.mailboxes {
            count += u64::from(self.mailboxes.post(key, message.clone(), step.now.mono));
            self.arm_mailbox(key);
        }
        Ok(count)
    }

    /// Pushes messages to all consumers that have room for them.
    pub(crate) fn push_mail(&mut self, step: &mut Step<'_>) {
        let mut from = 0;
        while let Some(key) = self.mailboxes.next_ready(from) {
            from = key + 1;
            self.push_mail_of(step, key);
        }
    }

    /// Pushes messages of one mailbox. Its consumers take turns.
    fn push_mail_of(&mut self, step: &mut Step<'_>, key: MailboxKey) {
        let mut pushes: BTreeMap<MailConsumerKey, (ConnectionKey, Vec<DeliveredMail>, usize)> =
            BTreeMap::new();
        while let Some((consumer, connection)) = self.mailboxes.next_consumer(key) {
            let given = self.mailboxes.give(key, Some(consumer), connection, step.now.mono);
            let Some(message) = given else { break };
            self.mailboxes.mailbox_mut(key).turn = consumer;
            let more = message.message.bytes();
            let (_, messages, bytes) =
                pushes.entry(consumer).or_insert((connection, Vec::new(), 0));
            let is_full = !messages.is_empty() && *bytes + more > PUSH_BYTES;
            let full = is_full.then(|| std::mem::take(messages));
            *bytes = if is_full { more } else { *bytes + more };
            messages.push(message);
            if let Some(messages) = full {
                self.push_messages(step, key, consumer, connection, messages);
            }
        }
        for (consumer, (connection, messages, _)) in pushes {
            self.push_messages(step, key, consumer, connection, messages);
        }
    }

    fn push_messages(
        &mut self,
        step: &mut Step<'_>,
        key: MailboxKey,
        consumer: MailConsumerKey,
        connection: ConnectionKey,
        messages: Vec<DeliveredMail>,
    ) {
        let dropped = self.mailboxes.mailbox_mut(key).tell_dropped();
        step.tell(connection, Push::Mail { consumer, messages, dropped });
    }

    /// A connection is lost, and so are its consumers and its own mailboxes. The messages that it
    /// has not acknowledged go back to the other mailboxes.
    pub(crate) fn end_mail(&mut self, step: &mut Step<'_>, connection: ConnectionKey) {
        let (consumers, owned) = self.mailboxes.used_by(connection);
        let left = consumers.into_iter().filter_map(|key| self.mailboxes.remove_consumer(key));
        let left: Vec<MailboxKey> = left.map(|consuming| consuming.mailbox).collect();
        let tags = self.mailboxes.tags_of(connection, None);
        let (touched, _) = self.mailboxes.put_back(connection, &tags, step.now.mono);
        for key in owned {
            self.end_mailbox(step, key);
        }
        for key in left {
            if self.mailboxes.exists(key) {
                self.lose_consumer(step, key);
            }
        }
        for key in touched {
            if self.mailboxes.exists(key) {
                self.arm_mailbox(key);
            }
        }
    }

    /// A program other than a publisher uses the mailbox.
    fn note_mail_use(&mut self, step: &Step<'_>, key: MailboxKey) {
        self.mailboxes.mailbox_mut(key).used_at = step.now.mono;
        self.arm_mailbox(key);
    }

    /// Sets the timer of a mailbox, unless the timer comes early enough. A timer that comes too
    /// early is set again.
    fn arm_mailbox(&mut self, key: MailboxKey) {
        let mailbox = self.mailboxes.mailbox_mut(key);
        let Some(at) = mailbox.look_at() else { return };
        if mailbox.timer_at.is_some_and(|set| set <= at) {
            return;
        }
        if let Some(set) = mailbox.timer_at.replace(at) {
            self.timers.clear_mono(set, MonoTimer::Mailbox(key));
        }
        self.timers.set_mono(at, MonoTimer::Mailbox(key));
    }

    pub(crate) fn mailbox_timer(&mut self, step: &mut Step<'_>, key: MailboxKey) {
        let now = step.now.mono;
        self.mailboxes.mailbox_mut(key).timer_at = None;
        self.mailboxes.change(key, |mailbox| mailbox.expire(now));
        if self.mailboxes.mailbox(key).is_idle(now) {
            self.end_mailbox(step, key);
        } else {
            self.arm_mailbox(key);
        }
    }
}

/// Answers a request, unless it has the id 0 and so asks for no answer.
fn answer_if_asked(step: &mut Step<'_>, asker: Asker, answer: Answer) {
    if asker.request != 0 {
        step.answer(asker, answer);
    }
}

fn in_use(text: String) -> Refusal {
    Refusal::new(Code::NotFinished, text)
}
