//! The steps of the model, and their frequencies.

use proptest::prelude::*;

use super::super::script::LEASE_MS;
use super::super::words::DAY_MS;
use super::{BEAT_MS, BESIDE, IDS, KEYS, PRESENT_LEASE, QUEUES, WORKERS};
use crate::command::{CancelMode, OnConflict, Release};

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Submit {
    pub queue: u8,
    pub name: u8,
    pub priority: u8,
    pub eta: Option<i64>,
    pub expires: Option<i64>,
    pub ttl_ms: u64,
    pub attempts_max: u32,
    pub max_deliveries: u32,
    pub conflict: OnConflict,
    pub key: Option<u8>,
    pub lead_ms: u64,
    pub forget_at_end: bool,
    /// Whether the task has the tag of the cancels.
    pub tagged: bool,
}

/// A worker's report on a lease.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum End {
    Start,
    Settle,
    Progress,
    Complete { result_ttl_ms: Option<u64> },
    Fail { last: bool, result_ttl_ms: Option<u64> },
    Release(Release),
}

/// An outcome that a client puts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Put {
    pub lease: u64,
    pub says: Says,
    pub result_ttl_ms: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Says {
    Success,
    Failure,
    Revoked,
    Retry,
    Progress,
}

/// A request about a chord, by a worker if it is connected, otherwise by the client.
#[derive(Debug, Clone, Copy)]
pub(super) struct ChordStep {
    pub group: u8,
    pub by_worker: Option<usize>,
    pub ask: Chord,
    pub result_ttl_ms: Option<u64>,
    pub lease_ms: u64,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Chord {
    Part {
        member: u8,
        index: Option<u32>,
        size: Option<u32>,
    },
    Extend {
        size: Option<u32>,
        added: &'static [u8],
        claim: bool,
    },
    Renew,
    /// Under the present lease, or under an earlier one.
    Done {
        earlier: bool,
    },
}

#[derive(Debug, Clone)]
pub(super) enum Step {
    Submit(u8, Submit),
    Put(u8, Put),
    Chord(ChordStep),
    /// The queues and names, as sets of bits.
    Connect {
        worker: usize,
        queues: u8,
        names: u8,
        resume: bool,
        /// The entry of the access file; 0: none.
        entry: u8,
    },
    Credit(usize, u32),
    Beat(usize),
    Disconnect(usize),
    Goodbye(usize),
    /// A report on one of the leases that the worker ever got.
    Report(usize, u8, End),
    Cancel(u8, CancelMode),
    /// Every task with the tag.
    CancelTagged(CancelMode),
    /// The dead tasks of a queue.
    ReplayDead(u8),
    DiscardDead(u8),
    Forget(u8),
    Pause(u8, bool),
    Drain(bool),
    Purge(u8),
    Delete(u8),
    Pass(u64),
    Jump(i64),
    Restart,
}

fn any_submit() -> impl Strategy<Value = Submit> {
    let span =
        || proptest::option::weighted(0.3, (0..40_i64).prop_map(|beats| beats * BEAT_MS as i64));
    let conflict = prop_oneof![
        4 => Just(OnConflict::RunAgainIfFinished),
        1 => Just(OnConflict::Reject),
        1 => Just(OnConflict::Replace),
        1 => Just(OnConflict::Supersede { lease: 0 }),
        4 => Just(OnConflict::Supersede { lease: PRESENT_LEASE }),
        1 => Just(OnConflict::Supersede { lease: 1 }),
        3 => Just(OnConflict::Beside)
    ];
    let lead_ms = prop_oneof![3 => Just(0), 1 => (0..20_u64).prop_map(|beats| beats * BEAT_MS)];
    let again = (conflict, proptest::option::weighted(0.4, 0..KEYS));
    let rest = (lead_ms, proptest::bool::weighted(0.1), proptest::bool::weighted(0.3));
    let ttl_ms = prop_oneof![3 => Just(DAY_MS), 1 => Just(0), 1 => Just(5_000)];
    let place = (0..QUEUES, 0..2_u8, prop_oneof![3 => Just(4_u8), 1 => 3..6_u8]);
    (place, span(), span(), ttl_ms, 1..4_u32, 1..4_u32, again, rest).prop_map(
        |(
            (queue, name, priority),
            eta,
            expires,
            ttl_ms,
            attempts_max,
            max_deliveries,
            (conflict, key),
            (lead_ms, forget_at_end, tagged),
        )| Submit {
            queue,
            name,
            priority,
            eta,
            expires,
            ttl_ms,
            attempts_max,
            max_deliveries,
            conflict,
            // The broker takes no submit that may run beside another without a key.
            key: key.or((conflict == OnConflict::Beside).then_some(0)),
            lead_ms,
            forget_at_end,
            tagged,
        },
    )
}

fn any_put() -> impl Strategy<Value = Put> {
    let lease = prop_oneof![3 => Just(0), 6 => Just(PRESENT_LEASE), 1 => Just(1)];
    let says = prop_oneof![
        Just(Says::Success),
        Just(Says::Failure),
        Just(Says::Revoked),
        Just(Says::Retry),
        Just(Says::Progress)
    ];
    let ttl_ms = prop_oneof![4 => Just(None), 1 => Just(Some(0)), 1 => Just(Some(3_000))];
    (lease, says, ttl_ms).prop_map(|(lease, says, result_ttl_ms)| Put {
        lease,
        says,
        result_ttl_ms,
    })
}

fn any_chord_step() -> impl Strategy<Value = ChordStep> {
    let size = || proptest::option::weighted(0.4, 1..4_u32);
    let added = prop_oneof![
        4 => Just(&[][..]),
        1 => Just(&[0, 3][..]),
        1 => Just(&[3, 3][..]),
    ];
    let ask = prop_oneof![
        8 => (0..4_u8, proptest::option::weighted(0.8, 0..2_u32), size())
            .prop_map(|(member, index, size)| Chord::Part { member, index, size }),
        3 => (size(), added, any::<bool>())
            .prop_map(|(size, added, claim)| Chord::Extend { size, added, claim }),
        1 => Just(Chord::Renew),
        2 => prop_oneof![4 => Just(false), 1 => Just(true)]
            .prop_map(|earlier| Chord::Done { earlier }),
    ];
    let by_worker = proptest::option::weighted(0.6, 0..WORKERS);
    let ttl_ms = prop_oneof![2 => Just(None), 1 => Just(Some(3_000)), 1 => Just(Some(20_000))];
    let lease_ms = (1..8_u64).prop_map(|beats| beats * BEAT_MS);
    (0..2_u8, by_worker, ask, ttl_ms, lease_ms).prop_map(
        |(group, by_worker, ask, result_ttl_ms, lease_ms)| ChordStep {
            group,
            by_worker,
            ask,
            result_ttl_ms,
            lease_ms,
        },
    )
}

pub(super) fn any_step() -> impl Strategy<Value = Step> {
    let (worker, queue) = (0..WORKERS, 0..QUEUES);
    let id = prop_oneof![6 => 0..IDS, 1 => BESIDE..BESIDE + IDS * KEYS];
    let ttl_ms = || prop_oneof![4 => Just(None), 1 => Just(Some(0)), 1 => Just(Some(3_000))];
    let release = prop_oneof![
        2 => Just(Release::Unfinished),
        1 => Just(Release::NotBegun),
        2 => Just(Release::Lost)
    ];
    let end = prop_oneof![
        5 => Just(End::Start),
        2 => Just(End::Settle),
        1 => Just(End::Progress),
        2 => ttl_ms().prop_map(|result_ttl_ms| End::Complete { result_ttl_ms }),
        3 => ttl_ms().prop_map(|result_ttl_ms| End::Fail { last: false, result_ttl_ms }),
        1 => ttl_ms().prop_map(|result_ttl_ms| End::Fail { last: true, result_ttl_ms }),
        3 => release.prop_map(End::Release)
    ];
    let mode = prop_oneof![Just(CancelMode::Cooperative), Just(CancelMode::Waiting)];
    let entry = prop_oneof![6 => Just(1_u8), 1 => Just(0), 1 => Just(2)];
    let jump = prop_oneof![-60..60_i64, -7_200..7_200_i64]
        .prop_map(|beats| Step::Jump(beats * BEAT_MS as i64));
    prop_oneof![
        20 => (0..IDS, any_submit()).prop_map(|(id, submit)| Step::Submit(id, submit)),
        8 => any_chord_step().prop_map(Step::Chord),
        8 => (0..IDS, any_put()).prop_map(|(id, put)| Step::Put(id, put)),
        10 => (worker.clone(), 1..4_u8, 1..4_u8, any::<bool>(), entry).prop_map(
            |(worker, queues, names, resume, entry)| {
                Step::Connect { worker, queues, names, resume, entry }
            }
        ),
        10 => (worker.clone(), 0..4_u32).prop_map(|(worker, credit)| Step::Credit(worker, credit)),
        4 => worker.clone().prop_map(Step::Beat),
        4 => worker.clone().prop_map(Step::Disconnect),
        2 => worker.clone().prop_map(Step::Goodbye),
        25 => (worker, any::<u8>(), end).prop_map(|(worker, which, end)| Step::Report(worker, which, end)),
        5 => (id.clone(), mode.clone()).prop_map(|(id, mode)| Step::Cancel(id, mode)),
        2 => mode.prop_map(Step::CancelTagged),
        2 => queue.clone().prop_map(Step::ReplayDead),
        1 => queue.clone().prop_map(Step::DiscardDead),
        3 => id.prop_map(Step::Forget),
        4 => (queue.clone(), any::<bool>()).prop_map(|(queue, paused)| Step::Pause(queue, paused)),
        2 => any::<bool>().prop_map(Step::Drain),
        1 => queue.clone().prop_map(Step::Purge),
        1 => queue.prop_map(Step::Delete),
        8 => (1..8_u64).prop_map(Step::Pass),
        2 => (LEASE_MS / BEAT_MS..40).prop_map(Step::Pass),
        2 => jump,
        3 => Just(Step::Restart)
    ]
}
