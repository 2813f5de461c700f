//! Cleaning: the log is a ring. When the log holds more than twice the live bytes, the store
//! appends the live records of the oldest chunks again and removes these chunks, in the same batch
//! as the records that a commit writes anyway.
//!
//! When the disk becomes low, cleaning does not wait for commits: the owner of the store calls
//! [`Store::clean_in_passing`] while it has nothing else to do, and the store removes nearly all
//! dead records.

use super::Store;
use super::chunk::{self, Kind};
use super::codec::{self, Glance};
use super::error::Error;
use super::index::Location;

/// Bytes removed for each byte that a batch appends. Even if the older half of the log is all live
/// and has to be copied, the log grows by no more than a quarter until the dead half comes up.
const REMOVED_PER_APPENDED: u64 = 4;
/// Bytes that even the smallest batch may remove.
const REMOVED_BYTES_MIN: u64 = 64 * 1024;
/// Bytes removed in one step between commits. A commit that is requested meanwhile waits for one
/// step.
const REMOVED_IN_PASSING: u64 = 1024 * 1024;
/// The cost of a chunk besides its bytes, so that many small chunks count too.
const CHUNK_COST_BYTES: u64 = 256;
/// When the disk becomes low, dead bytes up to the live bytes divided by this number stay: to
/// remove them, the store would have to copy all live records.
const DEAD_SHARE: u64 = 4;
/// Dead bytes that stay in any case.
const DEAD_BYTES_MIN: u64 = 1024 * 1024;

impl Store {
    /// Removes old chunks, in proportion to the bytes that this batch appends. Removes none while a
    /// backup copies them.
    pub(super) fn clean(&mut self) -> Result<(), Error> {
        if self.holds_cleaning() {
            return Ok(());
        }
        self.clean_some(REMOVED_BYTES_MIN + REMOVED_PER_APPENDED * self.tail.bytes() as u64)
    }

    /// Cleans a little between commits when the disk becomes low. Returns whether there is more to
    /// clean. No commit should wait long for the store, so the caller calls again when no commit
    /// waits.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub fn clean_in_passing(&mut self) -> Result<bool, Error> {
        assert!(!self.is_dirty(), "there is nothing to be done but cleaning");
        self.check()?;
        if self.is_tight() {
            // Each step changes the room.
            self.outlook.room = None;
        }
        self.look_at_the_disk();
        if !self.is_tight() || self.holds_cleaning() {
            return Ok(false);
        }
        self.clean_some(REMOVED_IN_PASSING)?;
        if self.removed.is_empty() {
            return self.turn_over();
        }
        // The room of the next step shows what this step has cost and freed.
        self.write_batch()
            .and_then(|()| self.medium.carry_out_removals())
            .map_err(|error| self.fail(error))?;
        Ok(true)
    }

    fn clean_some(&mut self, budget: u64) -> Result<(), Error> {
        let mut spent = 0;
        while spent < budget && self.is_oversized() {
            let Some((pieces, live)) = self.index.oldest() else { return Ok(()) };
            let first = self.index.base();
            if first + pieces > self.tail.first().unwrap_or(self.index.end())
                || !self.has_room_to_clean()
            {
                return Ok(());
            }
            if live {
                self.append_again(first)?;
            }
            for number in first..first + pieces {
                spent += self.index.pop_chunk() + CHUNK_COST_BYTES;
                self.removed.push(number);
            }
        }
        Ok(())
    }

    fn is_oversized(&self) -> bool {
        let live = self.index.live_bytes();
        let dead = self.index.log_bytes() - live;
        let bound = live + self.config.slack_bytes;
        dead > if self.is_tight() { bound.min(live / DEAD_SHARE + DEAD_BYTES_MIN) } else { bound }
    }

    /// Copies the live records of the oldest chunk to the tail.
    fn append_again(&mut self, number: u64) -> Result<(), Error> {
        let bytes = self.chunk(number)?;
        let header =
            chunk::open(number, &bytes).map_err(|found| self.damaged(found.to_string()))?;
        if header.kind != Kind::Records {
            return self.append_one_again(Location::run(number));
        }
        let frames =
            chunk::frames(&header, &bytes).map_err(|found| self.damaged(found.to_string()))?;
        for (offset, length) in frames {
            self.append_one_again(Location::frame(number, offset, length))?;
        }
        Ok(())
    }

    /// Copies one record if it is live. A submit is copied together with its change, so that a
    /// submit always comes first.
    fn append_one_again(&mut self, at: Location) -> Result<(), Error> {
        let body = self.body(at)?;
        let glance =
            codec::glance(&body).map_err(|malformed| self.damaged(malformed.to_string()))?;
        if !self.index.is_live(&glance, at) {
            return Ok(());
        }
        // The change must be read before the submit is recorded again, because that makes every
        // earlier change of the slot stale.
        let change = match glance {
            Glance::Submitted(slot) => {
                match self.index.locate(slot).and_then(|located| located.changed) {
                    Some(changed) => Some((slot, self.body(changed)?)),
                    None => None,
                }
            }
            _ => None,
        };
        let copy = self.append_bytes(&body);
        self.index.record(glance, copy);
        if let Some((slot, body)) = change {
            let copy = self.append_bytes(&body);
            self.index.record(Glance::Changed(slot), copy);
        }
        Ok(())
    }
}
