//! The room that is left. The store decides by it when the broker refuses new tasks, when cleaning
//! no longer waits for commits, and when the medium must turn removed chunks into free room.
//!
//! Room is the free space on the disk, plus the space inside the broker's own file that will be
//! written to again.

use std::time::{Duration, Instant};

use super::Store;
use super::error::Error;
use super::medium::Room;

/// How long the store uses one answer of the system about the disk, when little was written since.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Cleaning needs room before it frees any. With less room than this the store first asks the
/// medium to free room.
const CLEANING_ROOM_BYTES: u64 = 40 * 1024 * 1024;
/// Bytes of the medium that are always in use, whatever the log holds.
const IN_USE_BYTES_MIN: u64 = 32 * 1024 * 1024;
/// A change of the log or of the room by this many bytes justifies further turns.
const WORTH_A_TURN_BYTES: u64 = 4 * 1024 * 1024;
/// Turns in a row, before the medium's own thread gets time to move the rest of thin segments.
const TURNS_AT_ONCE: u32 = 3;
/// After this many turns, further turns free no room.
const TURNS_MAX: u32 = 12;

/// The store's knowledge of its disk.
#[derive(Debug, Default)]
pub(super) struct Outlook {
    /// The latest answer, and the time of it.
    pub(super) room: Option<(Instant, Room)>,
    /// Bytes of chunks written since that answer.
    pub(super) written_bytes: u64,
    /// Turns of the medium since the last change that justified a turn.
    turns: u32,
    /// Whether the log says at the moment that the disk is low.
    was_low: bool,
    log_bytes_at_turn: u64,
    reusable_bytes_at_turn: u64,
}

impl Store {
    /// Whether so little space is free that the broker should refuse new tasks, so that running
    /// tasks can still report. The store asks the system once a second, and sooner when much has
    /// been written since. It keeps the last answer if the system gives none.
    pub fn disk_is_low(&mut self) -> bool {
        self.look_at_the_disk();
        let Some((_, room)) = self.outlook.room else { return false };
        let needed_bytes = room.low_bytes(self.config.disk_reserve_bytes);
        let is_low = room.usable_bytes() < needed_bytes;
        if std::mem::replace(&mut self.outlook.was_low, is_low) != is_low {
            let folder = self.medium.place().display();
            let usable_bytes = room.usable_bytes();
            match is_low {
                true => tracing::warn!(
                    %folder, usable_bytes, needed_bytes,
                    "the disk is nearly full: the broker takes no new tasks until there is room"
                ),
                false => tracing::info!(
                    %folder, usable_bytes, needed_bytes,
                    "the disk has room again: the broker takes new tasks"
                ),
            }
        }
        is_low
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

    /// Whether the disk is low or will be low soon. Cleaning only on a low disk would be too late
    /// for the next tasks.
    pub fn is_tight(&self) -> bool {
        self.outlook.room.is_some_and(|(_, room)| room.is_low(2 * self.config.disk_reserve_bytes))
    }

    /// Whether there is room for the writes of cleaning until cleaning frees room: the store notes
    /// removed chunks, copies live records, and the medium moves the rest of thin segments.
    pub(super) fn has_room_to_clean(&self) -> bool {
        let Some((_, room)) = self.outlook.room else { return true };
        let needed = if self.outlook.turns < TURNS_MAX {
            CLEANING_ROOM_BYTES
        } else {
            self.medium.reclaim_bytes()
        };
        !self.is_tight() || room.usable_bytes() >= needed.min(self.config.disk_reserve_bytes / 2)
    }

    /// Makes the medium turn over when its file holds much more than the log and a turn could free
    /// room. Returns whether to do it again at once.
    pub(super) fn turn_over(&mut self) -> Result<bool, Error> {
        let Some((_, room)) = self.outlook.room else { return Ok(false) };
        let log_bytes = self.index.log_bytes();
        let in_use = room.file_bytes.saturating_sub(room.reusable_bytes + room.ring_bytes);
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
