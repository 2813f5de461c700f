//! What every client asked and was told, and a checker that reads it afterwards and says which
//! promise was broken. It knows nothing of how the broker works. Order between two clients is
//! never taken from the clock: what the rules need stands in leases, counts and broker lives.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use celeriac_proto::wire::TaskState;

/// How often a task may be handed out when its producer says nothing.
const DELIVERIES_MAX: u32 = 20;

/// One thing that a client asked or was told.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A producer sent a task, once or again.
    SubmitAsked {
        /// Chosen by the producer.
        id: String,
        /// As sent.
        payload: Bytes,
    },
    /// The broker said that it has the task.
    SubmitConfirmed {
        /// As asked.
        id: String,
    },
    /// A worker resumed its session, and the broker named the leases it keeps.
    LeasesKept {
        /// As named in Welcome.
        leases: Vec<u64>,
    },
    /// A worker was handed a task.
    Delivered {
        /// The task.
        id: String,
        /// Its run.
        generation: u32,
        /// The right to report.
        lease: u64,
        /// How often it was handed out, by the broker's count.
        deliveries: u32,
        /// As received.
        payload: Bytes,
        /// Which life of the broker this was, from 1.
        life: u32,
    },
    /// A worker said that its attempt failed.
    FailAsked {
        /// The task.
        id: String,
        /// Under this lease.
        lease: u64,
    },
    /// A worker sent a result.
    CompleteAsked {
        /// The task.
        id: String,
        /// Under this lease.
        lease: u64,
        /// As sent.
        result: Bytes,
    },
    /// The broker took it.
    CompleteConfirmed {
        /// The task.
        id: String,
        /// Its run.
        generation: u32,
        /// Under this lease.
        lease: u64,
    },
    /// Somebody read the task at the very end, when all had ended.
    Read {
        /// The task.
        id: String,
        /// As told.
        state: TaskState,
        /// Its run.
        generation: u32,
        /// As told.
        result: Bytes,
    },
}

/// The common history of all clients of a test, in the order in which they wrote it.
#[derive(Debug, Clone, Default)]
pub struct History(Arc<Mutex<Vec<Event>>>);

impl History {
    /// An empty history.
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes down one event.
    pub fn record(&self, event: Event) {
        self.0.lock().expect("nobody panics with this lock").push(event);
    }

    /// All of it so far.
    pub fn events(&self) -> Vec<Event> {
        self.0.lock().expect("nobody panics with this lock").clone()
    }

    /// The ids whose submit was confirmed.
    pub fn confirmed(&self) -> BTreeSet<String> {
        let confirmed = |event| match event {
            Event::SubmitConfirmed { id } => Some(id),
            _ => None,
        };
        self.events().into_iter().filter_map(confirmed).collect()
    }

    /// Reads the whole history.
    ///
    /// # Panics
    /// With every broken promise, when there is one.
    pub fn assert_kept(&self) {
        let broken = broken_promises(&self.events());
        let shown: Vec<_> = broken.iter().take(20).map(|line| format!("  {line}\n")).collect();
        assert!(broken.is_empty(), "{} broken promises:\n{}", broken.len(), shown.concat());
    }
}

/// What is known of one task after the whole history was read.
#[derive(Debug, Default)]
struct Story {
    asked: Option<Bytes>,
    confirmed: bool,
    /// By generation and lease: the broker's count of deliveries.
    leases: BTreeMap<(u32, u64), u32>,
    failed: BTreeSet<u64>,
    sent: BTreeMap<u64, Bytes>,
    completed: Vec<(u32, u64)>,
    read: Option<(TaskState, u32, Bytes)>,
}

/// One line for each promise that the history shows broken.
pub fn broken_promises(events: &[Event]) -> Vec<String> {
    let mut broken = Vec::new();
    let mut stories: BTreeMap<&str, Story> = BTreeMap::new();
    for event in events {
        tell(event, &mut stories, &mut broken);
    }
    for (id, story) in &stories {
        judge(id, story, &mut broken);
    }
    leases_name_one_task_and_rise(events, &mut broken);
    broken
}

fn tell<'events>(event: &'events Event, stories: &mut BTreeMap<&'events str, Story>, broken: &mut Vec<String>) {
    match event {
        Event::SubmitAsked { id, payload } => stories.entry(id).or_default().asked = Some(payload.clone()),
        Event::SubmitConfirmed { id } => stories.entry(id).or_default().confirmed = true,
        Event::LeasesKept { .. } => {}
        Event::Delivered { id, generation, lease, deliveries, payload, .. } => {
            let story = stories.entry(id).or_default();
            match &story.asked {
                None => broken.push(format!("{id}: delivered, and nobody submitted it")),
                Some(asked) if asked != payload => broken.push(format!("{id}: delivered with another payload")),
                Some(_) => {}
            }
            let before = story.leases.insert((*generation, *lease), *deliveries);
            if before.is_some_and(|before| before != *deliveries) {
                broken.push(format!("{id}: lease {lease} was sent again with another count of deliveries"));
            }
        }
        Event::FailAsked { id, lease } => {
            stories.entry(id).or_default().failed.insert(*lease);
        }
        Event::CompleteAsked { id, lease, result } => {
            stories.entry(id).or_default().sent.insert(*lease, result.clone());
        }
        Event::CompleteConfirmed { id, generation, lease } => {
            let completed = &mut stories.entry(id).or_default().completed;
            // The same report may be sent again and is confirmed again.
            if !completed.contains(&(*generation, *lease)) {
                completed.push((*generation, *lease));
            }
        }
        Event::Read { id, state, generation, result } => {
            stories.entry(id).or_default().read = Some((*state, *generation, result.clone()));
        }
    }
}

fn judge(id: &str, story: &Story, broken: &mut Vec<String>) {
    for (generation, lease) in &story.completed {
        if story.completed.iter().any(|(other, another)| other == generation && another > lease) {
            broken.push(format!("{id}: two leases completed generation {generation}"));
        }
        if let Some(((_, later), _)) = story.leases.range((*generation, lease + 1)..(generation + 1, 0)).next() {
            broken.push(format!("{id}: delivered under lease {later} after it was completed under {lease}"));
        }
    }
    for (earlier, later) in story.leases.iter().zip(story.leases.iter().skip(1)) {
        let ((generation, lease), count) = earlier;
        // A failure is an outcome, and with one the hand-over need not count. Without one it was lost, and does.
        let counted = later.1 > count || (story.failed.contains(lease) && later.1 == count);
        if *generation == later.0.0 && !counted {
            broken.push(format!("{id}: handed out again with no cause after lease {lease}: {:?}", story.leases));
        }
    }
    if story.leases.values().any(|count| *count > DELIVERIES_MAX) {
        broken.push(format!("{id}: handed out more than {DELIVERIES_MAX} times"));
    }
    match (&story.read, story.confirmed) {
        (None, true) => broken.push(format!("{id}: confirmed, and never looked at in the end")),
        (None, false) => {}
        (Some((TaskState::Success, generation, result)), _) => {
            judge_result(id, story, *generation, result, broken);
        }
        (Some((state, ..)), true) => broken.push(format!("{id}: confirmed, and in the end {state:?}")),
        (Some((state, ..)), false) if !story.completed.is_empty() => {
            broken.push(format!("{id}: completed, and in the end {state:?}"));
        }
        (Some(_), false) => {}
    }
}

fn judge_result(id: &str, story: &Story, generation: u32, result: &Bytes, broken: &mut Vec<String>) {
    if !story.sent.values().any(|sent| sent == result) {
        broken.push(format!("{id}: has a result that no worker sent"));
    }
    if let Some((last, lease)) = story.completed.iter().max() {
        if *last > generation {
            broken.push(format!("{id}: generation {last} was completed, and {generation} is shown"));
        } else if *last == generation && story.sent.get(lease) != Some(result) {
            broken.push(format!("{id}: shows another result than the confirmed one"));
        }
    }
}

fn leases_name_one_task_and_rise(events: &[Event], broken: &mut Vec<String>) {
    let mut owners: BTreeMap<u64, &str> = BTreeMap::new();
    let mut highest_of_life: BTreeMap<u32, u64> = BTreeMap::new();
    let mut known: BTreeSet<u64> = BTreeSet::new();
    for event in events {
        match event {
            Event::LeasesKept { leases } => known.extend(leases),
            Event::Delivered { id, lease, life, .. } => {
                if *lease == 0 {
                    broken.push(format!("{id}: delivered with lease 0"));
                }
                if *owners.entry(*lease).or_insert(id) != id {
                    broken.push(format!("lease {lease} was given to {id} and to {}", owners[lease]));
                }
                // A lease of an earlier life may be sent again to the session that keeps it.
                let is_new = known.insert(*lease);
                let earlier = highest_of_life.range(..*life).map(|(_, highest)| *highest).max().unwrap_or(0);
                if is_new && *lease <= earlier {
                    broken
                        .push(format!("{id}: lease {lease} in life {life}, and {earlier} was given in an earlier one"));
                }
                let highest = highest_of_life.entry(*life).or_default();
                *highest = (*highest).max(*lease);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn submitted(id: &str) -> Vec<Event> {
        let payload = Bytes::from_static(b"p");
        vec![Event::SubmitAsked { id: id.into(), payload }, Event::SubmitConfirmed { id: id.into() }]
    }

    fn delivered(id: &str, lease: u64, deliveries: u32, life: u32) -> Event {
        Event::Delivered { id: id.into(), generation: 1, lease, deliveries, payload: Bytes::from_static(b"p"), life }
    }

    fn completed(id: &str, lease: u64, result: &'static [u8]) -> Vec<Event> {
        let result = Bytes::from_static(result);
        vec![
            Event::CompleteAsked { id: id.into(), lease, result },
            Event::CompleteConfirmed { id: id.into(), generation: 1, lease },
        ]
    }

    fn read(id: &str, state: TaskState, result: &'static [u8]) -> Event {
        Event::Read { id: id.into(), state, generation: 1, result: Bytes::from_static(result) }
    }

    fn good() -> Vec<Event> {
        let mut events = submitted("a");
        events.push(delivered("a", 1, 1, 1));
        events.push(delivered("a", 5, 2, 2));
        events.extend(completed("a", 5, b"r"));
        events.push(read("a", TaskState::Success, b"r"));
        events
    }

    fn assert_broken(events: &[Event], words: &str) {
        let broken = broken_promises(events);
        assert!(broken.iter().any(|line| line.contains(words)), "`{words}` is not among {broken:?}");
    }

    #[test]
    fn a_history_that_kept_every_promise_is_accepted() {
        assert_eq!(broken_promises(&good()), Vec::<String>::new());
    }

    #[test]
    fn a_confirmed_task_that_is_gone_is_found() {
        let mut events = submitted("a");
        events.push(read("a", TaskState::Unknown, b""));
        assert_broken(&events, "confirmed, and in the end Unknown");
    }

    #[test]
    fn a_confirmed_task_that_was_never_read_is_found() {
        assert_broken(&submitted("a"), "never looked at");
    }

    #[test]
    fn a_task_nobody_submitted_is_found() {
        assert_broken(&[delivered("ghost", 1, 1, 1)], "nobody submitted it");
    }

    #[test]
    fn a_changed_payload_is_found() {
        let mut events = submitted("a");
        let payload = Bytes::from_static(b"q");
        events.push(Event::Delivered { id: "a".into(), generation: 1, lease: 1, deliveries: 1, payload, life: 1 });
        assert_broken(&events, "another payload");
    }

    #[test]
    fn a_changed_result_is_found() {
        let mut events = good();
        events.pop();
        events.push(read("a", TaskState::Success, b"x"));
        assert_broken(&events, "no worker sent");
        assert_broken(&events, "another result than the confirmed one");
    }

    #[test]
    fn a_delivery_after_the_confirmed_completion_is_found() {
        let mut events = good();
        events.push(delivered("a", 6, 3, 2));
        assert_broken(&events, "after it was completed");
    }

    #[test]
    fn two_completions_of_one_generation_are_found() {
        let mut events = good();
        events.extend(completed("a", 1, b"r"));
        assert_broken(&events, "two leases completed");
    }

    #[test]
    fn a_lease_of_two_tasks_is_found() {
        let mut events = good();
        events.extend(submitted("b"));
        events.push(delivered("b", 5, 1, 2));
        assert_broken(&events, "lease 5 was given to");
    }

    #[test]
    fn a_lease_that_falls_over_a_restart_is_found() {
        let mut events = good();
        events.extend(submitted("b"));
        events.push(delivered("b", 2, 1, 3));
        assert_broken(&events, "lease 2 in life 3");
        events.insert(0, Event::LeasesKept { leases: vec![2] });
        assert!(!broken_promises(&events).iter().any(|line| line.contains("in life 3")));
    }

    #[test]
    fn a_second_delivery_without_a_cause_is_found() {
        let mut events = submitted("a");
        events.push(delivered("a", 1, 1, 1));
        events.push(delivered("a", 2, 1, 1));
        assert_broken(&events, "with no cause after lease 1");
        events.push(Event::FailAsked { id: "a".into(), lease: 1 });
        assert!(!broken_promises(&events).iter().any(|line| line.contains("no cause")));
    }

    #[test]
    fn too_many_deliveries_are_found() {
        let mut events = submitted("a");
        events.push(delivered("a", 1, 21, 1));
        assert_broken(&events, "more than 20 times");
    }
}
