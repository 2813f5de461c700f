//! The comparison of the machine with the reference.

use std::collections::BTreeMap;

use celeriac_proto::QueueName;
use celeriac_record::State;

use super::{BESIDE, CLIENT, IDS, KEYS, Model, PUT_QUEUE, QUEUES, id_of, number_of, queue_of};
use crate::command::{Ask, Message, Observe, Operate, Outlines, QueueOutline};

impl Model {
    /// Compares the states of all tasks and the counts of the queues.
    pub(super) fn compare(&mut self) {
        let ids = (0..IDS).chain(BESIDE..BESIDE + IDS * KEYS).map(id_of).collect();
        let answer = self.answer(
            CLIENT,
            Ask::Observe(Observe::Get { ids, with_results: false, with_payloads: false }),
        );
        let Some(Message::Show(_, Outlines::Got { tasks })) = answer else {
            panic!("no answer: {answer:?}")
        };
        for view in &tasks {
            let (id, Some(task)) = (number_of(&view.id), &view.task) else { continue };
            let known = self.reference.tasks.get(&id).expect("the reference has every task");
            let first = *self.shown.entry((known.submitted, task.version)).or_insert(task.state);
            assert_eq!(
                first, task.state,
                "version {} of {} names one state",
                task.version, view.id
            );
        }
        let found: BTreeMap<u8, (State, u32)> = tasks
            .into_iter()
            .filter_map(|view| {
                Some((number_of(&view.id), view.task.map(|task| (task.state, task.generation))?))
            })
            .collect();
        let known =
            self.reference.tasks.iter().map(|(id, task)| (*id, (task.state, task.generation)));
        assert_eq!(found, known.collect(), "the machine, then the reference");
        self.compare_dead();
        self.compare_counters();
        let answer = self
            .answer(CLIENT, Ask::Operate(Operate::ListQueues { names: Vec::new(), after: None }));
        let Some(Message::Show(_, Outlines::Queues { queues, .. })) = answer else {
            panic!("no answer: {answer:?}")
        };
        // The default queue always exists, and this test does not use it.
        let listed: Vec<&str> = queues.iter().map(|queue| queue.record.name.as_str()).collect();
        let is_listed = |queue: &u8| self.reference.is_listed(*queue);
        let expected: Vec<QueueName> =
            (Some(PUT_QUEUE).filter(is_listed).map(queue_of).into_iter())
                .chain([QueueName::default()])
                .chain((0..QUEUES).filter(is_listed).map(queue_of))
                .collect();
        assert_eq!(
            listed,
            expected.iter().map(QueueName::as_str).collect::<Vec<_>>(),
            "the machine, then the reference"
        );
        let is_default = |queue: &QueueOutline| queue.record.name == QueueName::default();
        for queue in queues.into_iter().filter(|queue| !is_default(queue)) {
            let numbers = [0, 1, PUT_QUEUE].into_iter();
            let mut numbers = numbers.filter(|number| queue_of(*number) == queue.record.name);
            let number = numbers.next().expect("a queue of this test");
            let counts = [queue.ready, queue.scheduled, queue.leased, queue.dead];
            assert_eq!(counts, self.reference.counts(number), "of queue {}", queue.record.name);
        }
    }
}
