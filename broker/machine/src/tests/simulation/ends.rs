//! Requests that end tasks or take up ended ones: cancels, and replays and discards of dead tasks.
//! And requests that change nothing.

use celeriac_proto::QueueName;

use super::World;
use crate::command::{Ask, CancelMode, CancelTarget, Dead, Filter, Operate, Produce};

impl World {
    /// Replays or discards dead tasks, in one step or in slices.
    pub(super) fn settle_dead(&mut self, peer: usize) {
        let all = Filter { queue: Some(QueueName::default()), ..Filter::default() };
        let operate = match self.below(3) {
            0 => Operate::ReplayDead(Dead::Ids(vec![self.id()])),
            1 => Operate::ReplayDead(Dead::Matching(all)),
            _ => Operate::DiscardDead(Dead::Matching(all)),
        };
        self.ask(peer, Ask::Operate(operate));
    }

    /// A sign of life, or a look at the counters.
    pub(super) fn give_sign(&mut self, peer: usize) {
        let ask = match self.below(2) {
            0 => Ask::Operate(Operate::Stats { names: Vec::new(), after: None }),
            _ => Ask::Heartbeat { memory_bytes: 0 },
        };
        self.ask(peer, ask);
    }

    /// Cancels a task, or all tasks with the tag, which takes slices.
    pub(super) fn cancel(&mut self, peer: usize) {
        let target = match self.below(8) {
            0 => CancelTarget::Tag("night".into()),
            _ => CancelTarget::Ids(vec![self.id()]),
        };
        let modes = [CancelMode::Cooperative, CancelMode::Force, CancelMode::Waiting];
        let mode = modes[self.below(3) as usize];
        self.ask(
            peer,
            Ask::Produce(Produce::Cancel { target, mode, grace_ms: 1_000, reason: "".into() }),
        );
    }
}
