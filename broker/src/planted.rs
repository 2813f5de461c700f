//! Bugs that are planted on purpose, so that the tests can show that they would find them. A
//! planted bug is asked for by name in the environment variable `CELERIAC_PLANTED_BUG`, and only a
//! debug build with the feature `internals` asks: in any other the answer is a constant, and no
//! trace of this is left in the binary.
//!
//! Each bug breaks a promise that the checker of histories (`tests/harness/history/`) knows by its
//! number. If you add one, plant it at the one place where it would really happen.

/// A promise to break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// A commit returns before its bytes are durable. Promise 1: what was confirmed is lost with
    /// the next crash.
    SkipTheFlush,
    /// Answers leave before the commit that they depend on. Promise 1, in a narrower gap.
    ReplyBeforeTheCommit,
    /// The leases of a worker that is gone never come back. Promise 1: its tasks never end.
    ForgetADeadWorker,
    /// A result loses its last byte. Promise 2.
    CutAResult,
    /// A second worker is handed a lease that a first one holds. Promise 3.
    HandOutALeaseTwice,
    /// A restart forgets how often a task was tried. Promise 4: it is tried more often than its
    /// limit.
    LoseTheRetryCount,
    /// Now and then a completed task is queued again. Promise 5.
    DeliverAfterCompletion,
    /// An id that has not ended is run again where it should be joined. Promises 7 and 9.
    RunAConflictTwice,
    /// What ended is dropped at once, whatever time it was given. Promise 8.
    ForgetTooEarly,
    /// A task does not wait for its time. Promise 10.
    StartBeforeTheEta,
    /// A task that was tried before its expiry is tried after it too. Promise 10.
    RetryAfterTheExpiry,
    /// A restart takes a task that had come due back to where it waited. Promise 11.
    ForgetADueVersion,
    /// A pause leaves workers what they have not begun. Promise 12.
    LeaveLeasesInAPause,
    /// All that a lost worker held is charged for it. Promise 13.
    ChargeWhatNeverBegan,
    /// The worker was lost in the last attempt, and another one begins. Promise 13.
    StartOnceMore,
    /// A task that asks to begin once is tried again after a failure. Promise 13.
    RetryWhatBeginsOnce,
}

/// The names of all of them, for those who want to see each one found.
#[cfg(feature = "internals")]
pub const NAMES: [&str; 16] = [
    "SkipTheFlush",
    "ReplyBeforeTheCommit",
    "ForgetADeadWorker",
    "CutAResult",
    "HandOutALeaseTwice",
    "LoseTheRetryCount",
    "DeliverAfterCompletion",
    "RunAConflictTwice",
    "ForgetTooEarly",
    "StartBeforeTheEta",
    "RetryAfterTheExpiry",
    "ForgetADueVersion",
    "LeaveLeasesInAPause",
    "ChargeWhatNeverBegan",
    "StartOnceMore",
    "RetryWhatBeginsOnce",
];

/// Whether this bug is to do its harm.
#[cfg(not(all(feature = "internals", debug_assertions)))]
pub(crate) const fn is_planted(_bug: Bug) -> bool {
    false
}

/// Whether this bug is to do its harm.
#[cfg(all(feature = "internals", debug_assertions))]
pub(crate) fn is_planted(bug: Bug) -> bool {
    static PLANTED: std::sync::OnceLock<Option<usize>> = std::sync::OnceLock::new();
    let planted = PLANTED.get_or_init(|| {
        let name = std::env::var("CELERIAC_PLANTED_BUG").ok()?;
        // A name with a slip in it would plant nothing, and a test would find that nothing is
        // found.
        Some(
            NAMES
                .iter()
                .position(|known| *known == name)
                .expect("CELERIAC_PLANTED_BUG is the name of a planted bug"),
        )
    });
    *planted == Some(bug as usize)
}

#[cfg(all(test, feature = "internals"))]
mod tests {
    use super::*;

    #[test]
    fn every_bug_is_found_under_its_name() {
        let bugs = [
            Bug::SkipTheFlush,
            Bug::ReplyBeforeTheCommit,
            Bug::ForgetADeadWorker,
            Bug::CutAResult,
            Bug::HandOutALeaseTwice,
            Bug::LoseTheRetryCount,
            Bug::DeliverAfterCompletion,
            Bug::RunAConflictTwice,
            Bug::ForgetTooEarly,
            Bug::StartBeforeTheEta,
            Bug::RetryAfterTheExpiry,
            Bug::ForgetADueVersion,
            Bug::LeaveLeasesInAPause,
            Bug::ChargeWhatNeverBegan,
            Bug::StartOnceMore,
            Bug::RetryWhatBeginsOnce,
        ];
        for bug in bugs {
            assert_eq!(NAMES[bug as usize], format!("{bug:?}"));
        }
    }
}
