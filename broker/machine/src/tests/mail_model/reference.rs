//! What mailboxes and routes mean, in lists and loops. Nothing here is fast, and every question is
//! answered by looking at everything.

use celeriac_record::ExchangeKind;

use super::{Outcome, Pushed};
use crate::command::{Code, MailboxOptions};

#[derive(Debug, Default)]
pub(super) struct Reference {
    pub now: u64,
    pub mailboxes: Vec<Mailbox>,
    exchanges: Vec<Exchange>,
    bindings: Vec<Binding>,
    consumers: u64,
    tags: u64,
    /// What was pushed since the last look.
    pub pushed: Vec<Pushed>,
}

#[derive(Debug)]
pub(super) struct Mailbox {
    pub name: String,
    pub options: MailboxOptions,
    owner: Option<u64>,
    /// Messages in the order of their tags, wherever they are.
    messages: Vec<Message>,
    /// Each consumer with its connection.
    consumers: Vec<(u64, u64)>,
    turn: u64,
    used_at: u64,
    pub dropped: u64,
    untold: u64,
}

#[derive(Debug, Clone)]
struct Message {
    tag: u64,
    body: u64,
    over_at: Option<u64>,
    /// The connection that has got the message, and its consumer (0: it fetched the message).
    at: Option<(u64, u64)>,
}

#[derive(Debug)]
struct Exchange {
    name: String,
    kind: ExchangeKind,
    auto_delete: bool,
}

#[derive(Debug, Clone, PartialEq)]
struct Binding {
    exchange: String,
    key: String,
    to: To,
}

/// A mailbox, or a queue of tasks.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum To {
    Mailbox(String),
    Queue(String),
}

fn means(pattern: &[&str], words: &[&str]) -> bool {
    match (pattern.split_first(), words.split_first()) {
        (None, None) => true,
        (Some((&"#", rest)), _) => (0..=words.len()).any(|take| means(rest, &words[take..])),
        (Some((part, rest)), Some((word, words))) => {
            (*part == "*" || part == word) && means(rest, words)
        }
        _ => false,
    }
}

impl Mailbox {
    pub fn ready(&self) -> u64 {
        self.messages.iter().filter(|message| message.at.is_none()).count() as u64
    }

    pub fn unacknowledged(&self) -> u64 {
        self.messages.len() as u64 - self.ready()
    }

    pub fn consumers(&self) -> u32 {
        self.consumers.len() as u32
    }

    /// Drops the oldest messages that have no room.
    fn cut(&mut self) {
        while self.ready() > u64::from(self.options.messages_max) {
            let oldest = self.messages.iter().position(|message| message.at.is_none());
            self.messages.remove(oldest.expect("some message waits"));
            self.dropped += 1;
            self.untold += 1;
        }
    }

    fn put_back(&mut self, is_meant: impl Fn(&Message) -> bool) -> u64 {
        let tags: Vec<u64> =
            self.messages.iter().filter(|one| is_meant(one)).map(|one| one.tag).collect();
        let mut count = 0;
        for tag in tags {
            let place = self.messages.iter().position(|one| one.tag == tag).expect("it is there");
            self.messages[place].at = None;
            self.cut();
            count += u64::from(self.messages.iter().any(|one| one.tag == tag));
        }
        count
    }
}

impl Reference {
    /// Messages whose time is over are gone, unless a reader has got them.
    fn expire(&mut self) {
        let now = self.now;
        for mailbox in &mut self.mailboxes {
            mailbox
                .messages
                .retain(|one| one.at.is_some() || one.over_at.is_none_or(|over_at| over_at > now));
        }
    }

    /// Time passes: mailboxes end that nobody has used for their time.
    pub fn pass(&mut self, span_ms: u64) {
        self.now += span_ms;
        self.expire();
        let is_idle = |one: &Mailbox| {
            let idle_ms = one.options.idle_ms.filter(|_| one.consumers.is_empty());
            idle_ms.is_some_and(|idle_ms| one.used_at + idle_ms <= self.now)
        };
        let idle: Vec<String> =
            self.mailboxes.iter().filter(|one| is_idle(one)).map(|one| one.name.clone()).collect();
        idle.iter().for_each(|name| self.end(name));
    }

    fn find(&mut self, connection: u64, name: &str) -> Result<&mut Mailbox, Code> {
        let found = self.mailboxes.iter_mut().find(|one| one.name == name);
        let mailbox = found.ok_or(Code::NotFound)?;
        match mailbox.owner {
            Some(owner) if owner != connection => Err(Code::Forbidden),
            _ => Ok(mailbox),
        }
    }

    fn end(&mut self, name: &str) {
        self.mailboxes.retain(|one| one.name != name);
        self.drop_bindings(|binding| binding.to == To::Mailbox(name.to_owned()));
    }

    /// Drops bindings, and exchanges that end with their last binding.
    fn drop_bindings(&mut self, is_meant: impl Fn(&Binding) -> bool) {
        let (gone, left): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.bindings).into_iter().partition(is_meant);
        self.bindings = left;
        let bindings = &self.bindings;
        self.exchanges.retain(|exchange| {
            let lost = gone.iter().any(|binding| binding.exchange == exchange.name);
            let has = bindings.iter().any(|binding| binding.exchange == exchange.name);
            !(exchange.auto_delete && lost && !has)
        });
    }

    pub fn declare(&mut self, connection: u64, name: &str, options: MailboxOptions) -> Outcome {
        let now = self.now;
        match self.find(connection, name) {
            Err(Code::NotFound) => self.mailboxes.push(Mailbox {
                name: name.to_owned(),
                options,
                owner: options.exclusive.then_some(connection),
                messages: Vec::new(),
                consumers: Vec::new(),
                turn: 0,
                used_at: now,
                dropped: 0,
                untold: 0,
            }),
            Err(code) => return Outcome::Refused(code),
            Ok(mailbox) if mailbox.options != options => {
                return Outcome::Refused(Code::InvalidArgument);
            }
            Ok(mailbox) => mailbox.used_at = now,
        }
        let mailbox = self.find(connection, name).expect("it was declared");
        Outcome::Mailbox(mailbox.ready(), mailbox.consumers())
    }

    pub fn delete(&mut self, connection: u64, name: &str, only_unneeded: bool) -> Outcome {
        let (ready, consumers) = match self.find(connection, name) {
            Ok(mailbox) => (mailbox.ready(), mailbox.consumers()),
            Err(code) => return Outcome::Refused(code),
        };
        if only_unneeded && (ready > 0 || consumers > 0) {
            return Outcome::Refused(Code::NotFinished);
        }
        self.end(name);
        Outcome::Count(ready)
    }

    pub fn purge(&mut self, connection: u64, name: &str) -> Outcome {
        match self.find(connection, name) {
            Ok(mailbox) => {
                let count = mailbox.ready();
                mailbox.messages.retain(|message| message.at.is_some());
                Outcome::Count(count)
            }
            Err(code) => Outcome::Refused(code),
        }
    }

    pub fn consume(&mut self, connection: u64, name: &str) -> Outcome {
        let consumer = self.consumers + 1;
        match self.find(connection, name) {
            Ok(mailbox) => mailbox.consumers.push((consumer, connection)),
            Err(code) => return Outcome::Refused(code),
        }
        self.consumers = consumer;
        Outcome::Consumer(consumer)
    }

    pub fn unconsume(&mut self, connection: u64, consumer: u64) -> Outcome {
        let now = self.now;
        let of = |one: &&mut Mailbox| one.consumers.contains(&(consumer, connection));
        let Some(mailbox) = self.mailboxes.iter_mut().find(of) else {
            return Outcome::Refused(Code::NotFound);
        };
        mailbox.consumers.retain(|one| one.0 != consumer);
        let is_meant = |one: &Message| one.at == Some((connection, consumer));
        mailbox
            .messages
            .retain(|one| !(is_meant(one) && one.over_at.is_some_and(|over_at| over_at <= now)));
        mailbox.put_back(is_meant);
        mailbox.used_at = now;
        let name = mailbox.name.clone();
        self.end_the_unconsumed(&[name]);
        Outcome::Done
    }

    /// Ends the mailboxes among these that have lost their last consumer.
    fn end_the_unconsumed(&mut self, names: &[String]) {
        for name in names {
            let is_over = self.mailboxes.iter().any(|one| {
                one.name == *name && one.options.auto_delete && one.consumers.is_empty()
            });
            if is_over {
                self.end(name);
            }
        }
    }

    pub fn fetch(&mut self, connection: u64, name: &str) -> Outcome {
        let now = self.now;
        let mailbox = match self.find(connection, name) {
            Ok(mailbox) => mailbox,
            Err(code) => return Outcome::Refused(code),
        };
        mailbox.used_at = now;
        let first = mailbox.messages.iter_mut().find(|message| message.at.is_none());
        let body = first.map(|message| {
            message.at = Some((connection, 0));
            message.body
        });
        let dropped = std::mem::take(&mut mailbox.untold);
        Outcome::Fetched(body, mailbox.ready(), dropped)
    }

    pub fn acknowledge(&mut self, connection: u64, tag: u64) -> Outcome {
        for mailbox in &mut self.mailboxes {
            let is_meant = |one: &Message| {
                one.tag == tag && one.at.is_some_and(|(holder, _)| holder == connection)
            };
            mailbox.messages.retain(|one| !is_meant(one));
        }
        Outcome::Done
    }

    pub fn put_back(&mut self, connection: u64, tag: u64) -> Outcome {
        let now = self.now;
        let mut count = 0;
        for mailbox in &mut self.mailboxes {
            let is_meant = |one: &Message| {
                one.tag == tag && one.at.is_some_and(|(holder, _)| holder == connection)
            };
            if !mailbox.messages.iter().any(is_meant) {
                continue;
            }
            mailbox.used_at = now;
            // A message whose time is over does not go back.
            mailbox.messages.retain(|one| {
                !(is_meant(one) && one.over_at.is_some_and(|over_at| over_at <= now))
            });
            count += mailbox.put_back(is_meant);
        }
        Outcome::Count(count)
    }

    pub fn lose(&mut self, connection: u64) {
        let now = self.now;
        let mut left = Vec::new();
        for mailbox in &mut self.mailboxes {
            if mailbox.consumers.iter().any(|one| one.1 == connection) {
                left.push(mailbox.name.clone());
                mailbox.used_at = now;
            }
            mailbox.consumers.retain(|one| one.1 != connection);
            mailbox.messages.retain(|one| {
                !(one.at.is_some_and(|(holder, _)| holder == connection)
                    && one.over_at.is_some_and(|over_at| over_at <= now))
            });
            mailbox.put_back(|one| one.at.is_some_and(|(holder, _)| holder == connection));
        }
        let owned: Vec<String> = self
            .mailboxes
            .iter()
            .filter(|one| one.owner == Some(connection))
            .map(|one| one.name.clone())
            .collect();
        owned.iter().for_each(|name| self.end(name));
        self.end_the_unconsumed(&left);
    }

    /// The broker starts again.
    pub fn restart(&mut self) {
        self.mailboxes.clear();
        self.bindings.retain(|binding| matches!(binding.to, To::Queue(_)));
        let bindings = &self.bindings;
        self.exchanges.retain(|exchange| {
            let has = bindings.iter().any(|binding| binding.exchange == exchange.name);
            has || !exchange.auto_delete
        });
        (self.consumers, self.tags) = (0, 0);
    }

    pub fn publish(&mut self, exchange: &str, key: &str, body: u64) -> Outcome {
        let words: Vec<&str> = key.split('.').collect();
        let to: Vec<To> = match self.exchanges.iter().find(|one| one.name == exchange) {
            None if exchange.is_empty() => vec![To::Mailbox(key.to_owned())],
            None => return Outcome::Refused(Code::NotFound),
            Some(found) => self
                .bindings
                .iter()
                .filter(|binding| binding.exchange == exchange)
                .filter(|binding| match found.kind {
                    ExchangeKind::Direct => binding.key == key,
                    ExchangeKind::Fanout => true,
                    ExchangeKind::Topic => {
                        means(&binding.key.split('.').collect::<Vec<_>>(), &words)
                    }
                })
                .map(|binding| binding.to.clone())
                .collect(),
        };
        if to.iter().any(|to| matches!(to, To::Queue(_))) {
            return Outcome::Refused(Code::InvalidArgument);
        }
        let mut count = 0;
        for mailbox in &mut self.mailboxes {
            if to.contains(&To::Mailbox(mailbox.name.clone())) {
                self.tags += 1;
                let over_at = mailbox.options.ttl_ms.map(|ttl_ms| self.now + ttl_ms);
                mailbox.messages.push(Message { tag: self.tags, body, over_at, at: None });
                mailbox.cut();
                count += 1;
            }
        }
        Outcome::Count(count)
    }

    pub fn declare_exchange(&mut self, name: &str, kind: ExchangeKind, auto: bool) -> Outcome {
        match self.exchanges.iter().find(|one| one.name == name) {
            Some(one) if (one.kind, one.auto_delete) == (kind, auto) => {}
            Some(_) => return Outcome::Refused(Code::InvalidArgument),
            None => self.exchanges.push(Exchange { name: name.into(), kind, auto_delete: auto }),
        }
        Outcome::Done
    }

    pub fn delete_exchange(&mut self, name: &str, if_unused: bool, is_scoped: bool) -> Outcome {
        if if_unused && self.bindings.iter().any(|binding| binding.exchange == name) {
            return Outcome::Refused(Code::NotFinished);
        }
        let leads_to_others =
            |one: &Binding| one.exchange == name && matches!(one.to, To::Queue(_));
        if is_scoped && self.bindings.iter().any(leads_to_others) {
            return Outcome::Refused(Code::Forbidden);
        }
        self.bindings.retain(|binding| binding.exchange != name);
        self.exchanges.retain(|exchange| exchange.name != name);
        Outcome::Done
    }

    pub fn bind(&mut self, connection: u64, exchange: &str, key: &str, to: To) -> Outcome {
        if !self.exchanges.iter().any(|one| one.name == exchange) {
            return Outcome::Refused(Code::NotFound);
        }
        if let To::Mailbox(name) = &to
            && let Err(code) = self.find(connection, name)
        {
            return Outcome::Refused(code);
        }
        let binding = Binding { exchange: exchange.into(), key: key.into(), to };
        if !self.bindings.contains(&binding) {
            self.bindings.push(binding);
        }
        Outcome::Done
    }

    pub fn unbind(&mut self, connection: u64, exchange: &str, key: &str, to: To) -> Outcome {
        if let To::Mailbox(name) = &to
            && let Err(Code::Forbidden) = self.find(connection, name)
        {
            return Outcome::Refused(Code::Forbidden);
        }
        let binding = Binding { exchange: exchange.into(), key: key.into(), to };
        self.drop_bindings(|one| *one == binding);
        Outcome::Done
    }

    /// Messages go to consumers, in turn.
    pub fn push(&mut self) {
        for mailbox in &mut self.mailboxes {
            mailbox.consumers.sort_unstable();
            for message in mailbox.messages.iter_mut().filter(|message| message.at.is_none()) {
                let after = mailbox.consumers.iter().find(|one| one.0 > mailbox.turn);
                let Some((consumer, connection)) = after.or(mailbox.consumers.first()) else {
                    break;
                };
                mailbox.turn = *consumer;
                message.at = Some((*connection, *consumer));
                self.pushed.push(Pushed {
                    connection: *connection,
                    consumer: *consumer,
                    tag: message.tag,
                    body: message.body,
                });
                mailbox.untold = 0;
            }
        }
    }

    /// All exchanges and bindings, one line each, in order.
    pub fn routes(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for Exchange { name, kind, .. } in &self.exchanges {
            let of = self.bindings.iter().filter(|binding| binding.exchange == *name);
            let before = lines.len();
            lines.extend(
                of.map(|binding| format!("{name} {kind:?} {} {:?}", binding.key, binding.to)),
            );
            if lines.len() == before {
                lines.push(format!("{name} {kind:?}"));
            }
        }
        lines.sort();
        lines
    }
}
