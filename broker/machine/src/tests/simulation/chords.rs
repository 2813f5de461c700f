//! Chords in the simulation: a chord gives its lease to one caller at a time, and only when all its
//! parts are there. After the body was sent nobody gets a lease, until a size begins the chord
//! anew.

use std::collections::{BTreeMap, BTreeSet};

use celeriac_proto::TaskId;

use super::{World, result};
use crate::command::{Ask, ChordAsk, ChordExtend, ChordPart, ChordState, Monotonic, Produce};

const GROUPS: u64 = 3;
const MEMBERS: u64 = 4;
const LEASE_MS: u64 = 2_000;
const TTL_MS_MIN: u64 = 3_000;

/// What the callers of a chord know of it.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// The connection that got the lease last, the lease, and until when it holds the lease.
    holder: Option<(u64, u64, Monotonic)>,
    /// Every lease that any caller ever got.
    leases: BTreeSet<u64>,
    /// When a caller said that the body was sent, if the broker has not been restarted since then.
    done_at: Option<Monotonic>,
}

/// A request about a chord that is under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    group: u64,
    says_done: bool,
    begins_anew: bool,
}

pub(super) type Chords = BTreeMap<u64, Known>;

fn id(kind: &str, number: u64) -> TaskId {
    TaskId::parse(format!("{kind}{number}")).expect("an id")
}

impl World {
    pub(super) fn gather(&mut self, peer: usize) {
        let group = self.below(GROUPS);
        let size = (self.below(3) == 0).then(|| 1 + self.below(MEMBERS) as u32);
        let result_ttl_ms = [None, Some(TTL_MS_MIN), Some(30_000)][self.below(3) as usize];
        let held = self.chords.get(&group).and_then(|known| known.holder);
        let held = held.filter(|(connection, ..)| self.peers[peer].connection == Some(*connection));
        let member = id("m", self.below(MEMBERS));
        let ask = match self.below(10) {
            0..6 => ChordAsk::Part(ChordPart {
                member,
                index: (self.below(5) > 0).then(|| self.below(3) as u32),
                size,
                body: result(),
                result_ttl_ms,
                lease_ms: LEASE_MS,
            }),
            6..8 => ChordAsk::Extend(ChordExtend {
                size,
                added: if self.below(4) == 0 { vec![member] } else { Vec::new() },
                lease: held.map_or(0, |(_, lease, _)| lease),
                claim: self.below(2) == 0,
                parts_from: 0,
                result_ttl_ms,
                lease_ms: LEASE_MS,
            }),
            _ => {
                let lease = held.map_or(self.latest_lease, |(_, lease, _)| lease);
                ChordAsk::Done { lease, result_ttl_ms }
            }
        };
        self.asked = Some(Asked {
            group,
            says_done: matches!(&ask, ChordAsk::Done { .. }),
            begins_anew: matches!(&ask, ChordAsk::Extend(ChordExtend { size: Some(_), .. })),
        });
        self.ask(peer, Ask::Produce(Produce::Chord { group: id("g", group), ask }));
        self.asked = None;
    }

    /// The answer to the request about a chord that is under way.
    pub(super) fn hear_of_chord(&mut self, connection: u64, state: &ChordState) {
        let Some(Asked { group, begins_anew, .. }) = self.asked else { return };
        let now = self.now.mono;
        let others: Vec<u64> = self.peers.iter().filter_map(|peer| peer.connection).collect();
        let known = self.chords.entry(group).or_default();
        if !state.is_done {
            let done_at = known.done_at.take();
            let is_remembered = done_at.is_some_and(|at| now < at + TTL_MS_MIN);
            assert!(begins_anew || !is_remembered, "a chord that is done is remembered");
        }
        if state.lease == 0 {
            return;
        }
        let total = state.size.map(|size| size + state.added);
        // A caller that holds the lease may also add members.
        assert!(
            known.leases.contains(&state.lease) || total.is_some_and(|total| state.count >= total),
            "the lease of a chord is given when all parts are there"
        );
        assert!(!state.is_done, "the body is sent once");
        if let Some((holder, lease, until)) = known.holder {
            let is_lost = !others.contains(&holder) || until <= now;
            let is_same = holder == connection && lease == state.lease;
            assert!(is_same || is_lost || holder == connection, "one caller holds the lease");
            assert!(
                lease == state.lease || !known.leases.contains(&state.lease),
                "another holder gets a lease of its own"
            );
        }
        known.leases.insert(state.lease);
        known.holder = Some((connection, state.lease, now + LEASE_MS));
    }

    /// The broker took the word of a caller that the body was sent.
    pub(super) fn hear_of_done(&mut self) {
        if let Some(Asked { group, says_done: true, .. }) = self.asked {
            let known = self.chords.entry(group).or_default();
            (known.done_at, known.holder) = (Some(self.now.mono), None);
        }
    }

    /// After a restart the times of chords follow the wall clock, which may have jumped.
    pub(super) fn forget_ends_of_chords(&mut self) {
        self.chords.values_mut().for_each(|known| known.done_at = None);
    }
}
