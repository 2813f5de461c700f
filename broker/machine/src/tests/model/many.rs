//! Requests that look at many tasks: cancel by tag, replay and discard of dead tasks, and the
//! listing of dead tasks.

use celeriac_record::{Record, State, TaskKey, Timestamp};

use super::{CLIENT, Model, QUEUES, number_of, queue_of};
use crate::command::{
    Answer, Ask, CancelMode, CancelTarget, Dead, Filter, Message, Operate, Outlines, Produce,
};

/// The tag that some tasks have.
pub(super) const TAG: &str = "night";

impl Model {
    pub(super) fn cancel_tagged(&mut self, mode: CancelMode) {
        let target = CancelTarget::Tag(TAG.into());
        let cancel = Produce::Cancel { target, mode, grace_ms: 0, reason: "".into() };
        let answer = self.answer(CLIENT, Ask::Produce(cancel));
        let Some(Message::Answer(_, Answer::Cancelled(outcomes))) = answer else {
            panic!("no answer: {answer:?}")
        };
        let outcomes: Vec<_> =
            outcomes.into_iter().map(|(id, outcome)| (number_of(&id), outcome)).collect();
        assert_eq!(outcomes, self.reference.cancel_tagged(mode));
    }

    pub(super) fn replay_dead(&mut self, queue: u8) {
        let count = self.settle_dead(Operate::ReplayDead(dead_of(queue)));
        assert_eq!(count, self.reference.replay_dead(queue));
    }

    pub(super) fn discard_dead(&mut self, queue: u8) {
        let count = self.settle_dead(Operate::DiscardDead(dead_of(queue)));
        assert_eq!(count, self.reference.discard_dead(queue));
    }

    fn settle_dead(&mut self, operate: Operate) -> u64 {
        let answer = self.answer(CLIENT, Ask::Operate(operate));
        let Some(Message::Answer(_, Answer::Count(count))) = answer else {
            panic!("no answer: {answer:?}")
        };
        count
    }

    /// The store makes a new submit of that of a dead task.
    pub(super) fn store_again(&mut self, key: TaskKey, generation: u32, at: Timestamp) {
        let mut submits = self.log.iter().rev().filter_map(|(slot, record)| match record {
            Record::Submitted(submitted) if *slot == Some(key.slot) => Some(submitted),
            _ => None,
        });
        let dead = submits.next().expect("a dead task was submitted");
        let again = Record::Submitted(Box::new(dead.clone().again(key, generation, at)));
        self.store(again);
    }

    /// Compares the dead tasks of each queue in the order of the listing.
    pub(super) fn compare_dead(&mut self) {
        for queue in 0..QUEUES {
            let states = vec![State::Failure];
            let filter = Filter { queue: Some(queue_of(queue)), states, ..Filter::default() };
            let list = Operate::ListTasks {
                filter,
                limit: 100,
                newest_first: false,
                just_ended: false,
                after: None,
                with_tracebacks: false,
            };
            let answer = self.answer(CLIENT, Ask::Operate(list));
            let Some(Message::Show(_, Outlines::Page(page))) = answer else {
                panic!("no answer: {answer:?}")
            };
            let listed = page.tasks.iter().map(|(_, task)| number_of(&task.id));
            let mut dead = self.reference.dead(queue);
            dead.reverse();
            assert_eq!(listed.collect::<Vec<u8>>(), dead, "the dead of queue {queue}");
        }
    }
}

fn dead_of(queue: u8) -> Dead {
    Dead::Matching(Filter { queue: Some(queue_of(queue)), ..Filter::default() })
}
