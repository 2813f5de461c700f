//! When something is due: schedules on the wall clock, limits and waits on the clock that never jumps.
//!
//! Wall timers are by the million, so they are small and never taken out: one that no longer holds is
//! recognised when it fires. Monotonic timers are few and exact.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use super::command::Monotonic;
use super::sessions::SessionKey;
use super::watch::WaitKey;
use crate::record::{Lease, Slot, TaskKey, Timestamp};

/// What a wall timer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The eta or the next attempt.
    Due,
    /// The task must have started by now.
    Expires,
    /// An ended task is dropped.
    Forget,
}

/// 16 bytes, ordered by time. The tag is the kind and the low bits of the serial number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct WallTimer {
    pub at: Timestamp,
    pub slot: Slot,
    tag: u32,
}

const SERIAL_MASK: u32 = (1 << 30) - 1;

impl WallTimer {
    fn new(at: Timestamp, key: TaskKey, kind: Kind) -> Self {
        let kind = match kind {
            Kind::Due => 0,
            Kind::Expires => 1,
            Kind::Forget => 2,
        };
        Self { at, slot: key.slot, tag: kind << 30 | (key.serial as u32 & SERIAL_MASK) }
    }

    pub fn kind(self) -> Kind {
        match self.tag >> 30 {
            0 => Kind::Due,
            1 => Kind::Expires,
            _ => Kind::Forget,
        }
    }

    /// Whether the slot still holds the task that the timer was set for.
    pub fn is_for(self, serial: u64) -> bool {
        self.tag & SERIAL_MASK == serial as u32 & SERIAL_MASK
    }
}

/// What a monotonic timer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum MonoTimer {
    /// Has the session been silent for too long?
    Session(SessionKey),
    Wait(WaitKey),
    SoftTimeLimit(Slot, Lease),
    TimeLimit(Slot, Lease),
    /// A forced cancel has waited long enough.
    CancelGrace(Slot, Lease),
    /// Does a worker hold what another could run?
    Balance,
}

#[derive(Debug, Default)]
pub(super) struct Timers {
    wall: BinaryHeap<Reverse<WallTimer>>,
    mono: BTreeSet<(Monotonic, MonoTimer)>,
}

impl Timers {
    pub fn set_wall(&mut self, at: Timestamp, key: TaskKey, kind: Kind) {
        self.wall.push(Reverse(WallTimer::new(at, key, kind)));
    }

    pub fn set_mono(&mut self, at: Monotonic, timer: MonoTimer) {
        self.mono.insert((at, timer));
    }

    pub fn clear_mono(&mut self, at: Monotonic, timer: MonoTimer) {
        self.mono.remove(&(at, timer));
    }

    pub fn pop_wall(&mut self, now: Timestamp) -> Option<WallTimer> {
        if self.wall.peek()?.0.at > now {
            return None;
        }
        self.wall.pop().map(|Reverse(timer)| timer)
    }

    pub fn pop_mono(&mut self, now: Monotonic) -> Option<MonoTimer> {
        if self.mono.first()?.0 > now {
            return None;
        }
        self.mono.pop_first().map(|(_, timer)| timer)
    }

    pub fn next_wall(&self) -> Option<Timestamp> {
        self.wall.peek().map(|Reverse(timer)| timer.at)
    }

    pub fn next_mono(&self) -> Option<Monotonic> {
        self.mono.first().map(|(at, _)| *at)
    }

    /// Throws out wall timers that no longer hold, once they outnumber the tasks by far: else a
    /// queue whose tasks name a distant expiry and end at once would fill the memory until then.
    pub fn compact(&mut self, tasks: usize, holds: impl Fn(&WallTimer) -> bool) {
        if self.wall.len() > 4 * tasks + 10_000 {
            self.wall.retain(|Reverse(timer)| holds(timer));
        }
    }
}
