//! Requests about exchanges and bindings, and the route of a message: from an exchange and a
//! routing key to mailboxes and queues.
//!
//! Exchanges and bindings to queues are in the records. A binding to a mailbox ends with the
//! mailbox.

use celeriac_proto::{ExchangeName, QueueName};
use celeriac_record::{BindingRecord, ExchangeRecord, Name, Named, Record};

use crate::Machine;
use crate::command::{Answer, Binding, Code, DestinationName, Forbidden, Refusal, Scope};
use crate::exchange::{Destination, Destinations, Place};
use crate::step::{Asker, Step};

/// What a request changed, or why it changed nothing.
type Outcome = Result<(), Refusal>;

impl Machine {
    /// The mailboxes and queues that a message goes to. Without an exchange the routing key is the
    /// name of a mailbox, or of a queue that is in use. A message that leads nowhere is no error.
    pub(crate) fn route(
        &self,
        exchange: Option<&ExchangeName>,
        routing_key: &str,
    ) -> Result<Destinations, Refusal> {
        if let Some(name) = exchange {
            let exchange = self.exchanges.find(name).ok_or_else(|| no_exchange(name))?;
            return Ok(exchange.route(routing_key));
        }
        let mut found = Destinations::default();
        if let Some(mailbox) = self.mailboxes.find(routing_key) {
            found.mailboxes.insert(mailbox);
        } else if let Ok(queue) = QueueName::parse(routing_key)
            && self.is_queue_in_use(&queue)
        {
            found.queues.insert(queue);
        }
        Ok(found)
    }

    /// Whether listings show a queue of this name.
    pub(crate) fn is_queue_in_use(&self, name: &QueueName) -> bool {
        self.queues.find(name).is_some_and(|key| self.queues.is_listed(key))
    }

    pub(crate) fn declare_exchange(
        &mut self,
        step: &mut Step<'_>,
        asker: Asker,
        record: ExchangeRecord,
    ) {
        let outcome = match self.exchanges.find(&record.name) {
            Some(known) if known.record == record => Ok(()),
            Some(_) => Err(Refusal::new(
                Code::InvalidArgument,
                format!("the exchange `{}` has another type or other options", record.name),
            )),
            None => self.exchanges.create(record.clone()).map(|()| {
                step.store(Record::Named(Named::Exchange(record)));
            }),
        };
        answer(step, asker, outcome);
    }

    pub(crate) fn find_exchange(&self, step: &mut Step<'_>, asker: Asker, name: &ExchangeName) {
        let outcome = self.exchanges.find(name).map(|_| ()).ok_or_else(|| no_exchange(name));
        answer(step, asker, outcome);
    }

    pub(crate) fn delete_exchange(
        &mut self,
        step: &mut Step<'_>,
        asker: Asker,
        name: &ExchangeName,
        if_unused: bool,
    ) {
        let outcome = match self.exchanges.find(name) {
            Some(exchange) if if_unused && !exchange.is_unused() => {
                Err(Refusal::new(Code::NotFinished, format!("the exchange `{name}` has bindings")))
            }
            // Whoever may not remove a binding by itself may not do so with its exchange.
            Some(_) if self.leads_to_others(step.scope.as_deref(), name) => {
                step.forbade(asker, Forbidden::Exchange(name.clone()));
                let message = format!(
                    "the exchange `{name}` has bindings to queues or mailboxes that the access of \
                     this client does not allow"
                );
                Err(Refusal::new(Code::Forbidden, message))
            }
            Some(_) => {
                self.end_exchange(step, name);
                Ok(())
            }
            None => Ok(()),
        };
        answer(step, asker, outcome);
    }

    /// Whether a binding of the exchange leads to something outside the scope.
    fn leads_to_others(&self, scope: Option<&Scope>, exchange: &ExchangeName) -> bool {
        let Some(scope) = scope else { return false };
        let is_foreign = |(_, to): &(Place, Destination)| match to {
            Destination::Mailbox(key) => !scope.queues.allow(&self.mailboxes.mailbox(*key).name),
            Destination::Queue(name) => !scope.queues.allow(name),
        };
        self.exchanges.bindings_of(exchange).iter().any(is_foreign)
    }

    fn end_exchange(&mut self, step: &mut Step<'_>, name: &ExchangeName) {
        for (place, to) in self.exchanges.bindings_of(name) {
            self.exchanges.unbind(&place, &to);
            store_unbinding(step, place, to);
        }
        self.exchanges.remove(name);
        step.store(Record::Removed(Name::Exchange(name.clone())));
    }

    pub(crate) fn bind(&mut self, step: &mut Step<'_>, asker: Asker, binding: Binding) {
        let outcome = self.try_bind(step, asker, binding);
        answer(step, asker, outcome);
    }

    fn try_bind(&mut self, step: &mut Step<'_>, asker: Asker, binding: Binding) -> Outcome {
        let Binding { exchange, routing_key, to } = binding;
        if self.exchanges.find(&exchange).is_none() {
            return Err(no_exchange(&exchange));
        }
        let to = self.destination(step, asker, to)?;
        let place = Place { exchange, routing_key };
        if self.exchanges.bind(&place, to.clone())?
            && let Destination::Queue(queue) = to
        {
            step.store(Record::Named(Named::Binding(binding_record(place, queue))));
        }
        Ok(())
    }

    pub(crate) fn unbind(&mut self, step: &mut Step<'_>, asker: Asker, binding: Binding) {
        let Binding { exchange, routing_key, to } = binding;
        let outcome = match self.destination(step, asker, to) {
            Ok(to) => {
                self.drop_binding(step, Place { exchange, routing_key }, to);
                Ok(())
            }
            // A mailbox that does not exist has no bindings.
            Err(refusal) if refusal.code == Code::NotFound => Ok(()),
            Err(refusal) => Err(refusal),
        };
        answer(step, asker, outcome);
    }

    fn destination(
        &self,
        step: &mut Step<'_>,
        asker: Asker,
        name: DestinationName,
    ) -> Result<Destination, Refusal> {
        Ok(match name {
            DestinationName::Mailbox(name) => {
                Destination::Mailbox(self.usable_mailbox(step, asker, &name)?)
            }
            DestinationName::Queue(name) => Destination::Queue(name),
        })
    }

    /// Removes a binding, if it exists, and an exchange that ends with its last binding.
    fn drop_binding(&mut self, step: &mut Step<'_>, place: Place, to: Destination) {
        if !self.exchanges.unbind(&place, &to) {
            return;
        }
        let exchange = self.exchanges.find(&place.exchange).expect("it had the binding");
        let is_over = exchange.record.auto_delete && exchange.is_unused();
        let name = place.exchange.clone();
        store_unbinding(step, place, to);
        if is_over {
            self.end_exchange(step, &name);
        }
    }

    /// Removes all bindings to a mailbox that ends, or to a queue that is deleted.
    pub(crate) fn drop_bindings_to(&mut self, step: &mut Step<'_>, to: &Destination) {
        for place in self.exchanges.bindings_to(to) {
            self.drop_binding(step, place, to.clone());
        }
    }

    /// Called after the whole log was read. No mailbox has survived the restart, so exchanges that
    /// only had bindings to mailboxes may be over.
    pub(crate) fn restore_routes(&mut self, step: &mut Step<'_>) {
        let (lost, over) = self.exchanges.restored();
        for binding in lost {
            step.store(Record::Removed(Name::Binding(binding)));
        }
        for name in over {
            step.store(Record::Removed(Name::Exchange(name)));
        }
    }
}

fn answer(step: &mut Step<'_>, asker: Asker, outcome: Outcome) {
    step.answer(asker, outcome.map_or_else(Answer::Refused, |()| Answer::Done));
}

fn no_exchange(name: &ExchangeName) -> Refusal {
    Refusal::new(Code::NotFound, format!("there is no exchange `{name}`"))
}

fn binding_record(place: Place, queue: QueueName) -> BindingRecord {
    BindingRecord { exchange: place.exchange, routing_key: place.routing_key, queue }
}

fn store_unbinding(step: &mut Step<'_>, place: Place, to: Destination) {
    if let Destination::Queue(queue) = to {
        step.store(Record::Removed(Name::Binding(binding_record(place, queue))));
    }
}
