//! The slots of tasks by the hashes of their ids, in many small tables. Tables grow and shrink one
//! after the other, so that no step of the machine pays for many of them.

use celeriac_record::Slot;
use hashbrown::HashTable;
use hashbrown::hash_table::OccupiedEntry;

/// The number of tables. Each table grows in about a millisecond; the growth of one table of all
/// ids would stop the broker for a second.
const SHARDS: usize = 1024;

/// A table whose turn it is grows when it is at least so full. Ids are spread evenly, so without
/// turns most tables would be full within the same few steps.
const GROWS_AT: (usize, usize) = (3, 4);
/// The turn of the next table comes after so many inserts for each of its places: so each table has
/// its turn before it is full.
const INSERTS_PER_PLACE: (usize, usize) = (1, 8);

/// A table whose turn it is shrinks when it has room for this many times its number of ids, and for
/// more than `ROOM_MIN`.
const ROOM_MAX: usize = 8;
const ROOM_MIN: usize = 256;
/// The turn of the next table comes after so many removals for each of its places.
const REMOVALS_PER_PLACE: (usize, usize) = (1, 16);

#[derive(Debug)]
pub(super) struct ById {
    tables: Vec<HashTable<Slot>>,
    growing: Turn,
    shrinking: Turn,
}

/// Whose turn it is.
#[derive(Debug, Default)]
struct Turn {
    table: usize,
    /// The inserts or removals since the turn of the table before.
    since: usize,
}

impl Turn {
    /// The table whose turn it is after this insert or removal, if the one before had its turn long
    /// enough ago.
    fn next(&mut self, tables: &[HashTable<Slot>], (part, whole): (usize, usize)) -> Option<usize> {
        self.since += 1;
        if self.since < tables[self.table].capacity() * part / whole {
            return None;
        }
        self.since = 0;
        let table = self.table;
        self.table = (table + 1) % tables.len();
        Some(table)
    }
}

impl ById {
    pub(super) fn new() -> Self {
        let tables = (0..SHARDS).map(|_| HashTable::new()).collect();
        Self { tables, growing: Turn::default(), shrinking: Turn::default() }
    }

    pub(super) fn find(&self, hash: u64, is_it: impl FnMut(&Slot) -> bool) -> Option<&Slot> {
        self.tables[shard(hash)].find(hash, is_it)
    }

    pub(super) fn find_mut(
        &mut self,
        hash: u64,
        is_it: impl FnMut(&Slot) -> bool,
    ) -> Option<&mut Slot> {
        self.tables[shard(hash)].find_mut(hash, is_it)
    }

    /// Makes room for so many ids, and a little more, so that hardly any table has to grow.
    pub(super) fn reserve(&mut self, ids: usize, rehash: impl Fn(&Slot) -> u64) {
        let share = ids / SHARDS;
        for table in &mut self.tables {
            table.reserve(share + share / 16, &rehash);
        }
    }

    /// Adds the slot of an id that is not there.
    pub(super) fn insert(&mut self, hash: u64, slot: Slot, rehash: impl Fn(&Slot) -> u64) {
        self.tables[shard(hash)].insert_unique(hash, slot, &rehash);
        if let Some(table) = self.growing.next(&self.tables, INSERTS_PER_PLACE) {
            let table = &mut self.tables[table];
            let (part, whole) = GROWS_AT;
            if table.len() * whole >= table.capacity() * part {
                table.reserve(table.capacity() - table.len() + 1, &rehash);
            }
        }
    }

    /// Removes a slot that must be there.
    pub(super) fn remove(&mut self, hash: u64, slot: Slot, rehash: impl Fn(&Slot) -> u64) {
        let found = self.tables[shard(hash)].find_entry(hash, |other| *other == slot);
        found.map(OccupiedEntry::remove).expect("every task is in the index");
        if let Some(table) = self.shrinking.next(&self.tables, REMOVALS_PER_PLACE) {
            let table = &mut self.tables[table];
            if table.capacity() > ROOM_MIN.max(ROOM_MAX * table.len()) {
                table.shrink_to(2 * table.len(), &rehash);
            }
        }
    }
}

/// The table of a hash. Its bits are those that the tables themselves do not use first.
fn shard(hash: u64) -> usize {
    (hash >> 40) as usize % SHARDS
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher;

    use foldhash::fast::FixedState;

    use super::*;

    const BATCH: usize = 500;

    fn hash_of(slot: &Slot) -> u64 {
        FixedState::with_seed(7).hash_one(slot)
    }

    /// The most ids that one batch of changes moved from one memory to another.
    fn most_moved(ids: &mut ById, slots: &[Slot], change: impl Fn(&mut ById, Slot)) -> usize {
        let mut most = 0;
        for batch in slots.chunks(BATCH) {
            let before: Vec<usize> = ids.tables.iter().map(HashTable::capacity).collect();
            batch.iter().for_each(|slot| change(ids, *slot));
            let grown = ids.tables.iter().zip(before).filter(|(table, was)| {
                // Inserting and removing also changes the capacity, by what graves take.
                table.capacity() > was * 3 / 2 || table.capacity() * 3 / 2 < *was
            });
            most = most.max(grown.map(|(table, _)| table.len()).sum());
        }
        most
    }

    #[test]
    fn no_batch_moves_many_ids_while_millions_come_and_go() {
        let mut ids = ById::new();
        let slots: Vec<Slot> = (0..3_000_000).collect();
        let insert = |ids: &mut ById, slot| ids.insert(hash_of(&slot), slot, hash_of);
        let largest = 3_000_000 / SHARDS * 2;
        let most = most_moved(&mut ids, &slots, insert);
        assert!(most <= 8 * BATCH + largest, "{most}");
        assert!(slots.iter().all(|slot| ids.find(hash_of(slot), |other| other == slot).is_some()));
        let room: usize = ids.tables.iter().map(HashTable::capacity).sum();
        let remove = |ids: &mut ById, slot| ids.remove(hash_of(&slot), slot, hash_of);
        let most = most_moved(&mut ids, &slots, remove);
        assert!(most <= 16 * BATCH / ROOM_MAX + largest, "{most}");
        let left: usize = ids.tables.iter().map(HashTable::capacity).sum();
        assert!(left < room / 8, "{left} of {room} places are left");
    }
}
