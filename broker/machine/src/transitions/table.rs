//! The table of transitions: the old state, the new state, the cause and the actors. A transition
//! that is not in the table is a bug in the machine: the machine panics, which ends the broker.
//! PROTOCOL.md has the same table; a test compares the two.

use celeriac_record::{Actor, State};

use State::{Failure, Leased, Queued, Retry, Revoked, Scheduled, Started, Success};

/// Why a task changes its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The time of the task has come, or the earlier run of its id has ended.
    Due,
    /// The broker delivers the task to a worker with credit.
    Delivered,
    /// The handler has begun.
    Started,
    /// The handler has returned.
    Completed,
    /// The handler has failed, or its result is too large.
    Failed,
    /// The worker hands the task back.
    Released,
    /// The session that holds the lease has ended.
    WorkerLost,
    /// The broker takes a lease back before the handler has begun.
    TakenBack,
    /// The expiry of the task has passed.
    Expired,
    /// A client cancels the task.
    Cancelled,
    /// An operator purges the queue.
    Purged,
    /// A client submits the id again and replaces this run.
    Replaced,
    /// The handler of this run submits the id again.
    Superseded,
    /// The task was cancelled or has expired, and a worker announces its end.
    CalledOff,
    /// The task has run longer than its hard time limit.
    TimeLimit,
}

const CAUSES: usize = Cause::TimeLimit as usize + 1;
const STATES: usize = Revoked as usize + 1;

/// The actors, one bit each: the broker itself, the worker with the lease, any other client.
const BROKER: u8 = 1;
const WORKER: u8 = 2;
const CLIENT: u8 = 4;

/// One transition, and the actors that may make it.
struct Transition {
    from: State,
    to: State,
    cause: Cause,
    actors: u8,
}

const fn row(from: State, to: State, cause: Cause, actors: u8) -> Transition {
    Transition { from, to, cause, actors }
}

/// All transitions within one run of a task. A submit or a replay makes a task SCHEDULED or QUEUED.
/// An ended task has no transition: the broker forgets it in the end.
const TRANSITIONS: [Transition; 42] = [
    row(Scheduled, Queued, Cause::Due, BROKER),
    row(Scheduled, Queued, Cause::CalledOff, BROKER | CLIENT),
    row(Scheduled, Revoked, Cause::Expired, BROKER),
    row(Scheduled, Revoked, Cause::Cancelled, CLIENT),
    row(Scheduled, Revoked, Cause::Purged, CLIENT),
    row(Scheduled, Revoked, Cause::Replaced, CLIENT),
    row(Scheduled, Revoked, Cause::Superseded, CLIENT),
    row(Queued, Leased, Cause::Delivered, BROKER),
    row(Queued, Revoked, Cause::Expired, BROKER),
    row(Queued, Revoked, Cause::Cancelled, CLIENT),
    row(Queued, Revoked, Cause::Purged, CLIENT),
    row(Queued, Revoked, Cause::Replaced, CLIENT),
    row(Queued, Revoked, Cause::Superseded, CLIENT),
    row(Leased, Started, Cause::Started, WORKER),
    row(Leased, Queued, Cause::Released, WORKER),
    row(Leased, Queued, Cause::TakenBack, BROKER | WORKER | CLIENT),
    row(Leased, Queued, Cause::WorkerLost, BROKER),
    row(Leased, Failure, Cause::WorkerLost, BROKER),
    row(Leased, Revoked, Cause::Expired, BROKER | WORKER),
    row(Leased, Revoked, Cause::Cancelled, BROKER | WORKER | CLIENT),
    row(Leased, Revoked, Cause::Purged, CLIENT),
    row(Leased, Revoked, Cause::Replaced, CLIENT),
    row(Leased, Revoked, Cause::Superseded, CLIENT),
    row(Started, Success, Cause::Completed, WORKER),
    row(Started, Retry, Cause::Failed, WORKER),
    row(Started, Failure, Cause::Failed, WORKER),
    row(Started, Failure, Cause::Released, WORKER),
    row(Started, Failure, Cause::WorkerLost, BROKER | WORKER),
    row(Started, Failure, Cause::TimeLimit, BROKER),
    row(Started, Queued, Cause::Released, WORKER),
    row(Started, Queued, Cause::WorkerLost, BROKER | WORKER),
    row(Started, Revoked, Cause::Expired, WORKER),
    row(Started, Revoked, Cause::Cancelled, BROKER | WORKER | CLIENT),
    row(Started, Revoked, Cause::Replaced, CLIENT),
    row(Started, Revoked, Cause::Superseded, CLIENT),
    row(Retry, Queued, Cause::Due, BROKER),
    row(Retry, Queued, Cause::CalledOff, BROKER | CLIENT),
    row(Retry, Revoked, Cause::Expired, BROKER),
    row(Retry, Revoked, Cause::Cancelled, CLIENT),
    row(Retry, Revoked, Cause::Purged, CLIENT),
    row(Retry, Revoked, Cause::Replaced, CLIENT),
    row(Retry, Revoked, Cause::Superseded, CLIENT),
];

/// The actors that may make a transition, by from, to and cause: the table for a fast look-up.
const ALLOWED: [[[u8; CAUSES]; STATES]; STATES] = {
    let mut allowed = [[[0; CAUSES]; STATES]; STATES];
    let mut at = 0;
    while at < TRANSITIONS.len() {
        let Transition { from, to, cause, actors } = &TRANSITIONS[at];
        allowed[*from as usize][*to as usize][*cause as usize] = *actors;
        at += 1;
    }
    allowed
};

/// # Panics
/// When the table has no such transition, or does not allow this actor to make it.
pub(super) fn assert_allowed(from: State, to: State, cause: Cause, actor: &Actor) {
    let who = match actor {
        Actor::Broker => BROKER,
        Actor::Worker => WORKER,
        Actor::Client(_) => CLIENT,
    };
    assert!(
        ALLOWED[from as usize][to as usize][cause as usize] & who != 0,
        "there is no transition from {from:?} to {to:?} by {cause:?} of {actor:?}"
    );
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    /// The words that PROTOCOL.md uses for a cause.
    fn words(cause: Cause) -> &'static [&'static str] {
        match cause {
            Cause::Due => &["has come", "is over"],
            Cause::Delivered => &["has credit"],
            Cause::Started => &["`Started`"],
            Cause::Completed => &["`Complete`"],
            Cause::Failed => &["`Fail`"],
            Cause::Released => &["`Release`"],
            Cause::WorkerLost => &["session over"],
            Cause::TakenBack => &["taken back"],
            Cause::Expired => &["expiry"],
            Cause::Cancelled => &["`Cancel`", "a cancel was requested"],
            Cause::Purged => &["purged"],
            Cause::Replaced => &["replaced"],
            Cause::Superseded => &["superseded"],
            Cause::CalledOff => &["called off"],
            Cause::TimeLimit => &["time limit"],
        }
    }

    fn actors(cell: &str) -> u8 {
        let actor = |word: &str| match word.trim() {
            "broker" => BROKER,
            "worker" => WORKER,
            "client" | "operator" => CLIENT,
            word => panic!("unknown actor: {word}"),
        };
        cell.split(',').map(actor).fold(0, |all, one| all | one)
    }

    fn state(text: &str) -> Option<State> {
        let all = [Scheduled, Queued, Leased, Started, Retry, Success, Failure, Revoked];
        all.into_iter().find(|state| format!("{state:?}").to_uppercase() == text)
    }

    #[test]
    fn the_table_is_the_one_of_the_protocol() {
        let protocol = include_str!("../../../../proto/PROTOCOL.md");
        let section = protocol
            .split("\n## Transitions of a task\n")
            .nth(1)
            .expect("PROTOCOL.md has the section");
        let section = section.split("\n## ").next().unwrap_or_default();
        let mut found = BTreeSet::new();
        let mut known: BTreeMap<(State, State), (u8, Vec<Cause>)> = BTreeMap::new();
        for Transition { from, to, cause, actors } in TRANSITIONS {
            let entry = known.entry((from, to)).or_default();
            entry.0 |= actors;
            entry.1.push(cause);
        }
        for row in section.lines().filter_map(|line| line.strip_prefix("| ")) {
            let cells: Vec<&str> = row.trim_end_matches('|').split(" | ").map(str::trim).collect();
            let [from, to, causes, who] = cells[..] else {
                panic!("a row without four cells: {row}")
            };
            // A `-` stands for an id without a task: before a submit and after the task was
            // forgotten.
            let (Some(from), Some(to)) = (state(from), state(to)) else { continue };
            assert!(found.insert((from, to)), "PROTOCOL.md names {from:?} to {to:?} twice");
            let (may, why) =
                known.get(&(from, to)).expect("the machine has each transition of PROTOCOL.md");
            assert_eq!(actors(who), *may, "the actors from {from:?} to {to:?}");
            for cause in why {
                let is_named = words(*cause).iter().any(|word| causes.contains(word));
                assert!(is_named, "PROTOCOL.md names {cause:?} from {from:?} to {to:?}");
            }
        }
        assert!(
            known.keys().all(|pair| found.contains(pair)),
            "PROTOCOL.md lacks one of {known:?}"
        );
    }
}
