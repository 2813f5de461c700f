//! Listings of mailboxes and of bindings, page by page.

use celeriac_proto::MailboxName;

use crate::Machine;
use crate::command::{BindingOutline, DestinationName, MailboxOutline, Outlines, Scope};
use crate::exchange::{Destination, Exchange};
use crate::keys::MailboxKey;
use crate::step::{Asker, Step};

/// The most mailboxes, or bindings, of one page. A page of the longest names fits into the least
/// frame that a broker may have.
const PAGE: usize = 250;

impl Machine {
    pub(crate) fn list_mailboxes(
        &mut self,
        step: &mut Step<'_>,
        asker: Asker,
        after: Option<&MailboxName>,
    ) {
        let allows = |key: &MailboxKey| {
            let name = &self.mailboxes.mailbox(*key).name;
            step.scope.as_ref().is_none_or(|scope| scope.queues.allow(name))
        };
        let listed = self.mailboxes.listed(after).filter(allows);
        let mut keys: Vec<MailboxKey> = listed.take(PAGE + 1).collect();
        let is_last = keys.len() <= PAGE;
        keys.truncate(PAGE);
        let now = step.now.mono;
        let outline = |key: MailboxKey| {
            self.mailboxes.change(key, |mailbox| mailbox.expire(now));
            let mailbox = self.mailboxes.mailbox(key);
            MailboxOutline {
                mailbox: mailbox.name.clone(),
                exclusive: mailbox.options.exclusive,
                auto_delete: mailbox.options.auto_delete,
                ready: mailbox.ready(),
                bytes: mailbox.bytes(),
                unacknowledged: mailbox.unacknowledged,
                consumers: mailbox.consumers.len() as u32,
                dropped_total: mailbox.dropped_total,
            }
        };
        let mailboxes: Vec<_> = keys.into_iter().map(outline).collect();
        let last = mailboxes.last().filter(|_| !is_last);
        let next = last.map(|last| last.mailbox.clone());
        step.show(asker, Outlines::Mailboxes { mailboxes, next });
    }

    pub(crate) fn list_bindings(
        &self,
        step: &mut Step<'_>,
        asker: Asker,
        after: Option<&BindingOutline>,
    ) {
        let mut bindings = Vec::new();
        let scope = step.scope.as_deref();
        for exchange in self.exchanges.listed(after.map(|after| &after.exchange)) {
            if scope.is_some_and(|scope| !scope.queues.allow(&exchange.record.name)) {
                continue;
            }
            let after = after.filter(|after| after.exchange == exchange.record.name);
            self.add_bindings(scope, exchange, after, &mut bindings);
            if bindings.len() > PAGE {
                break;
            }
        }
        let is_last = bindings.len() <= PAGE;
        bindings.truncate(PAGE);
        step.show(asker, Outlines::Bindings { bindings, is_last });
    }

    /// Adds bindings of one exchange, those after `after` alone, until the page is full.
    fn add_bindings(
        &self,
        scope: Option<&Scope>,
        exchange: &Exchange,
        after: Option<&BindingOutline>,
        page: &mut Vec<BindingOutline>,
    ) {
        let outline = |routing_key: &str, to| BindingOutline {
            exchange: exchange.record.name.clone(),
            kind: exchange.record.kind,
            routing_key: routing_key.into(),
            to,
        };
        let before = page.len();
        let from = after.map_or("", |after| &*after.routing_key);
        for (routing_key, destinations) in exchange.bindings_from(from) {
            let after = after.filter(|after| *after.routing_key == *routing_key);
            let name = |destination: &Destination| match destination {
                Destination::Mailbox(key) => {
                    DestinationName::Mailbox(self.mailboxes.mailbox(*key).name.clone())
                }
                Destination::Queue(name) => DestinationName::Queue(name.clone()),
            };
            let allows = |name: &DestinationName| {
                scope.is_none_or(|scope| scope.queues.allow(name.as_str()))
            };
            let named = destinations.iter().map(name).filter(allows);
            let mut names: Vec<Option<DestinationName>> = named.map(Some).collect();
            names.sort_unstable();
            let is_later =
                |name: &Option<DestinationName>| after.is_none_or(|after| after.to < *name);
            page.extend(names.into_iter().filter(is_later).map(|to| outline(routing_key, to)));
            if page.len() > PAGE {
                return;
            }
        }
        // An exchange whose bindings are all of others looks like one without bindings.
        if page.len() == before && after.is_none() {
            page.push(outline("", None));
        }
    }
}
