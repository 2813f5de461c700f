//! Cleaning: the log is a ring. When it holds more than twice what is live, the oldest chunks' live
//! records are appended again and the chunks leave, in the same batch as the records that a commit
//! writes anyway.
//!
//! When the disk gets low this does not wait for commits: whoever owns the store calls
//! [`Store::clean_in_passing`] while it has nothing else to do, and nearly everything that is dead
//! goes.

use super::Store;
use super::chunk::{self, Kind};
use super::codec::{self, Glance};
use super::error::Error;
use super::index::Location;

/// Bytes removed for each byte that a batch appends. Even if the older half of the log is all live
/// and has to be copied, the log grows by no more than a quarter until the dead half comes up.
const REMOVED_PER_APPENDED: u64 = 4;
/// What even the smallest batch may remove.
const REMOVED_BYTES_MIN: u64 = 64 * 1024;
/// What is removed at a time when nothing else is to be done. Whoever wants a commit meanwhile
/// waits for so much.
const REMOVED_IN_PASSING: u64 = 1024 * 1024;
/// What a chunk costs besides its bytes, so that a log of many small chunks is no free ride.
const CHUNK_COST_BYTES: u64 = 256;
/// On a disk that gets low, dead data up to this share of what is live stays: to get at it,
/// everything live would be copied.
const DEAD_SHARE: u64 = 4;
/// And so much stays in any case.
const DEAD_BYTES_MIN: u64 = 1024 * 1024;

impl Store {
    /// Removes old chunks, in proportion to what this batch appends; none while a backup copies
    /// them.
    pub(super) fn clean(&mut self) -> Result<(), Error> {
        if self.holds_cleaning() {
            return Ok(());
        }
        self.clean_some(REMOVED_BYTES_MIN + REMOVED_PER_APPENDED * self.tail.bytes() as u64)
    }

    /// Cleans a little when the disk gets low, between commits. Returns whether there is more to
    /// do: nobody should wait long for the store meanwhile, so it is called again when nobody
    /// does.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub fn clean_in_passing(&mut self) -> Result<bool, Error> {
        assert!(!self.is_dirty(), "there is nothing to be done but cleaning");
        self.check()?;
        if self.is_tight() {
            // Each step changes it.
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
        self.write_batch().map_err(|error| self.fail(error))?;
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

    /// Copies one record if it is live; a submit together with its change, so that a submit always
    /// comes first.
    fn append_one_again(&mut self, at: Location) -> Result<(), Error> {
        let body = self.body(at)?;
        let glance =
            codec::glance(&body).map_err(|malformed| self.damaged(malformed.to_string()))?;
        if !self.index.is_live(&glance, at) {
            return Ok(());
        }
        // Read before the submit is recorded again, which makes every earlier change of the slot
        // stale.
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
