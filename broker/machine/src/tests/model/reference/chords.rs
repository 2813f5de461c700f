//! Chords in the reference.

use std::collections::{BTreeMap, BTreeSet};

use super::super::super::words::DAY_MS;
use super::super::steps::{Chord, ChordStep};
use super::Reference;
use crate::command::Code;

/// The parts, the size, the added members, the lease, and whether the body was sent.
type Shown = (u32, Option<u32>, u32, u64, bool);

#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    size: Option<u32>,
    /// Each part with the time of day until which it is kept by itself.
    parts: BTreeMap<(Option<u32>, u8), i64>,
    added: BTreeMap<u8, i64>,
    lease: u64,
    /// The caller with the lease, and until when.
    holder: Option<(u64, u64)>,
    is_done: bool,
    /// On the monotonic clock.
    expires_at: u64,
    /// The time of day that the store knows.
    stored: Option<i64>,
}

impl Known {
    fn shown(&self, lease: u64) -> Shown {
        let count = |count: usize| count as u32;
        (count(self.parts.len()), self.size, count(self.added.len()), lease, self.is_done)
    }

    fn is_complete(&self) -> bool {
        self.size.is_some_and(|size| self.parts.len() >= size as usize + self.added.len())
    }
}

pub(super) type Chords = BTreeMap<u8, Known>;

impl Reference {
    pub fn chord_lease(&self, group: u8) -> u64 {
        self.chords.get(&group).map_or(1, |chord| chord.lease)
    }

    /// `number` is the number of the lease that the machine gave to the caller.
    pub fn chord(&mut self, step: ChordStep, caller: u64, number: u64) -> Result<Shown, Code> {
        let ChordStep { group, ask, result_ttl_ms, lease_ms, .. } = step;
        let now = self.now;
        let ttl_ms = result_ttl_ms.unwrap_or(DAY_MS);
        let known = self.chords.get(&group).cloned();
        let mut chord = known.clone().unwrap_or_default();
        let own_until = now.wall + ttl_ms as i64;
        let mut is_changed = true;
        let mut claims = true;
        match ask {
            Chord::Part { .. } if chord.is_done => return Ok(chord.shown(0)),
            Chord::Part { member, index, size } => {
                chord.parts.entry((index, member)).or_insert(own_until);
                is_changed = size.is_some() && size != chord.size;
                chord.size = size.or(chord.size);
            }
            Chord::Done { .. } | Chord::Renew if known.is_none() => return Err(Code::NotFound),
            Chord::Done { earlier } => return self.finish_chord(group, chord, earlier, ttl_ms),
            Chord::Renew if chord.lease != 0 && chord.is_done => return Err(Code::StaleLease),
            Chord::Renew => {
                if chord.lease != 0 {
                    chord.holder = Some((caller, now.mono + lease_ms));
                }
                chord.expires_at = chord.expires_at.max(now.mono + ttl_ms);
                self.keep_chord(group, chord.clone(), true);
                return Ok(chord.shown(chord.lease));
            }
            Chord::Extend { size: None, added, .. } if known.is_none() && added.is_empty() => {
                return Err(Code::NotFound);
            }
            Chord::Extend { size: None, .. } if chord.is_done => return Ok(chord.shown(0)),
            Chord::Extend { size, added, claim } => {
                if chord.is_done {
                    (chord.is_done, chord.lease) = (false, 0);
                }
                chord.size = size.or(chord.size);
                for member in added.iter().collect::<BTreeSet<_>>() {
                    chord.added.entry(*member).or_insert(own_until);
                }
                claims = claim;
            }
        }
        chord.expires_at = chord.expires_at.max(now.mono + ttl_ms);
        let is_free =
            chord.holder.is_none_or(|(holder, until)| holder == caller || until <= now.mono);
        let mut given = 0;
        if claims && is_free && chord.is_complete() {
            is_changed |= number != chord.lease;
            assert!(number >= chord.lease, "the numbers of the leases of a chord rise");
            (given, chord.lease) = (number, number);
            chord.holder = Some((caller, now.mono + lease_ms));
            assert!(given > 0, "the caller gets the lease");
        }
        self.keep_chord(group, chord.clone(), is_changed);
        Ok(chord.shown(given))
    }

    fn finish_chord(
        &mut self,
        group: u8,
        chord: Known,
        earlier: bool,
        ttl_ms: u64,
    ) -> Result<Shown, Code> {
        let lease = chord.lease.saturating_sub(u64::from(earlier));
        if lease == 0 || lease != chord.lease {
            return Err(Code::StaleLease);
        }
        if !chord.is_done {
            let expires_at = chord.expires_at.max(self.now.mono + ttl_ms);
            let done = Known { lease, expires_at, is_done: true, ..Known::default() };
            self.keep_chord(group, done, true);
        }
        Ok((0, None, 0, 0, true))
    }

    fn keep_chord(&mut self, group: u8, mut chord: Known, is_stored: bool) {
        if is_stored {
            let left_ms = chord.expires_at.saturating_sub(self.now.mono);
            chord.stored = Some(self.now.wall + left_ms as i64);
        }
        self.chords.insert(group, chord);
    }

    /// A connection is lost.
    pub fn lose_caller(&mut self, caller: u64) {
        for chord in self.chords.values_mut() {
            chord.holder = chord.holder.filter(|(holder, _)| *holder != caller);
        }
    }

    pub(super) fn tick_chords(&mut self) {
        let now = self.now.mono;
        self.chords.retain(|_, chord| chord.expires_at > now);
    }

    /// The store knows the chord, if it changed, and each part with its own time.
    pub(super) fn restart_chords(&mut self) {
        let now = self.now;
        for chord in self.chords.values_mut() {
            let own = chord.parts.values().chain(chord.added.values()).copied();
            let until = own.chain(chord.stored).max().unwrap_or(0);
            chord.expires_at = now.mono + (until - now.wall).max(0) as u64;
            chord.holder = None;
        }
        self.tick_chords();
    }
}
