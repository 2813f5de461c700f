//! One step of the machine: the time, the actor and the effects of one command or one tick. The
//! functions of the machine pass the step down as one value.

use std::sync::Arc;

use celeriac_record::{Actor, Record};

use crate::clocks::{Clocks, Moment};
use crate::command::{
    Answer, ConnectionKey, Effect, Forbidden, Message, Now, Outlines, Push, RequestId, Scope, When,
};

/// The effects of one or more commands, in order.
#[derive(Debug, Default)]
pub struct Effects {
    pub list: Vec<Effect>,
}

/// One step; see the head of this file.
#[derive(Debug)]
pub(crate) struct Step<'a> {
    pub now: Now,
    /// The present times of the clocks of tasks.
    pub clocks: Clocks,
    /// The actor of the changes of tasks.
    pub actor: Actor,
    /// What the client whose request this step carries out may see. Absent: everything.
    pub scope: Option<Arc<Scope>>,
    effects: &'a mut Effects,
}

/// The origin of a request: the connection and the id of the request. The answer goes there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asker {
    pub connection: ConnectionKey,
    pub request: RequestId,
}

impl<'a> Step<'a> {
    /// A step of the broker itself.
    pub fn new(now: Now, clocks: Clocks, effects: &'a mut Effects) -> Self {
        Self { now, clocks, actor: Actor::Broker, scope: None, effects }
    }

    /// The same step on behalf of `actor`.
    pub fn on_behalf_of(&mut self, actor: Actor) -> Step<'_> {
        let scope = self.scope.clone();
        Step { now: self.now, clocks: self.clocks, actor, scope, effects: self.effects }
    }

    /// The same step within a scope.
    pub fn within(&mut self, scope: Option<Arc<Scope>>) -> Step<'_> {
        let actor = self.actor.clone();
        Step { now: self.now, clocks: self.clocks, actor, scope, effects: self.effects }
    }

    /// The clock and time for a producer's time: a time of day follows the wall clock, a span the
    /// steady clock.
    pub fn moment(&self, when: When) -> Moment {
        match when {
            When::At(at) => Moment::At(at),
            When::In(span_ms) => Moment::Steady(self.clocks.after(span_ms)),
        }
    }

    /// The present second of the monotonic clock, for rates.
    pub fn second(&self) -> u64 {
        self.now.mono / 1_000
    }

    pub fn push(&mut self, effect: Effect) {
        self.effects.list.push(effect);
    }

    pub fn store(&mut self, record: Record) {
        self.push(Effect::Store(record));
    }

    pub fn send(&mut self, connection: ConnectionKey, message: Message) {
        self.push(Effect::Send(connection, message));
    }

    pub fn answer(&mut self, asker: Asker, answer: Answer) {
        self.send(asker.connection, Message::Answer(asker.request, answer));
    }

    pub fn show(&mut self, asker: Asker, outlines: Outlines) {
        self.send(asker.connection, Message::Show(asker.request, outlines));
    }

    /// Notes for the audit log that a request was refused.
    pub fn forbade(&mut self, asker: Asker, what: Forbidden) {
        self.push(Effect::Forbade(asker.connection, Box::new(what)));
    }

    pub fn tell(&mut self, connection: ConnectionKey, push: Push) {
        self.send(connection, Message::Push(push));
    }
}
