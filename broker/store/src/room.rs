//! How much room is left, and what follows from that: when new tasks are refused, when cleaning no
//! longer waits for commits, and when the medium is asked to have what was removed count as room.
//!
//! Room is what is free on the disk, and what is inside the broker's own file and will be written
//! to again.

use std::time::{Duration, Instant};

use super::Store;
use super::error::Error;
use super::medium::Room;

/// How long an answer of the system about the disk is good for, when little was written since.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Cleaning takes room before it gives any. With less than this the medium is asked first to give
/// what it can.
const CLEANING_ROOM_BYTES: u64 = 40 * 1024 * 1024;
/// Parts of the medium that are in use at any time, whatever the log holds.
const IN_USE_BYTES_MIN: u64 = 32 * 1024 * 1024;
/// A change of the log or of the room that makes further turns worth while.
const WORTH_A_TURN_BYTES: u64 = 4 * 1024 * 1024;
/// Turns one after the other, before the medium's own thread gets time to move what is spread thin.
const TURNS_AT_ONCE: u32 = 3;
/// Turns after which there is nothing to be had by more.
const TURNS_MAX: u32 = 12;

/// What the store knows of its disk.
#[derive(Debug, Default)]
pub(super) struct Outlook {
    /// The latest answer, and when it came.
    pub(super) room: Option<(Instant, Room)>,
    /// Bytes of chunks that were written since.
    pub(super) written_bytes: u64,
    /// Turns of the medium since something changed that made one worth while.
    turns: u32,
    log_bytes_at_turn: u64,
    reusable_bytes_at_turn: u64,
}

impl Store {
    /// Whether so little is free that new tasks should be refused, so that running ones can still
    /// report. Asks once a second, and sooner when much has been written since; keeps the last
    /// answer if the system gives none.
    pub fn disk_is_low(&mut self) -> bool {
        self.look_at_the_disk();
        self.outlook.room.is_some_and(|(_, room)| room.is_low(self.config.disk_reserve_bytes))
    }

    pub(super) fn look_at_the_disk(&mut self) {
        let much = self.outlook.written_bytes > self.config.disk_reserve_bytes / 16;
        let stale =
            much || self.outlook.room.is_none_or(|(asked, _)| asked.elapsed() >= LOOK_EVERY);
        if stale && let Ok(room) = self.medium.room() {
            self.outlook.room = Some((Instant::now(), room));
            self.outlook.written_bytes = 0;
        }
    }

    /// Whether the disk is low, or will be soon: to clean only then would be too late for the tasks
    /// that come first.
    pub(super) fn is_tight(&self) -> bool {
        self.outlook.room.is_some_and(|(_, room)| room.is_low(2 * self.config.disk_reserve_bytes))
    }

    /// Whether cleaning can write what it has to until that gives room: what is removed is noted,
    /// what is live is copied, and the medium moves what is left of a part that gets thin.
    pub(super) fn has_room_to_clean(&self) -> bool {
        let Some((_, room)) = self.outlook.room else { return true };
        let needed = if self.outlook.turns < TURNS_MAX {
            CLEANING_ROOM_BYTES
        } else {
            self.medium.reclaim_bytes()
        };
        !self.is_tight() || room.usable_bytes() >= needed.min(self.config.disk_reserve_bytes / 2)
    }

    /// Has the medium turn over, when its file holds much more than the log and that would change
    /// something. Returns whether to do it again at once.
    pub(super) fn turn_over(&mut self) -> Result<bool, Error> {
        let Some((_, room)) = self.outlook.room else { return Ok(false) };
        let log_bytes = self.index.log_bytes();
        let in_use = room.file_bytes.saturating_sub(room.reusable_bytes);
        let turn_bytes = self.medium.reclaim_bytes();
        let outlook = &mut self.outlook;
        let is_shorter = log_bytes + WORTH_A_TURN_BYTES <= outlook.log_bytes_at_turn;
        if is_shorter || room.reusable_bytes >= outlook.reusable_bytes_at_turn + WORTH_A_TURN_BYTES
        {
            outlook.turns = 0;
        }
        (outlook.log_bytes_at_turn, outlook.reusable_bytes_at_turn) =
            (log_bytes, room.reusable_bytes);
        if in_use <= log_bytes + log_bytes / 4 + IN_USE_BYTES_MIN {
            outlook.turns = TURNS_MAX;
        }
        if room.usable_bytes() < turn_bytes || outlook.turns >= TURNS_MAX {
            return Ok(false);
        }
        outlook.turns += 1;
        outlook.room = None;
        let goes_on = outlook.turns < TURNS_AT_ONCE;
        self.medium.reclaim().map_err(|error| self.fail(error))?;
        self.look_at_the_disk();
        Ok(goes_on)
    }
}
