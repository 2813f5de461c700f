//! Chunks in memory: the newest chunks, because new tasks are read from them, and chunks read from
//! the disk, because the next reads often need the same chunk. Each of the two kinds has a budget.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;

#[derive(Debug)]
pub(super) struct Cache {
    /// The last chunks of the log without a gap; `written_base` is the number of the first.
    written: VecDeque<Bytes>,
    written_base: u64,
    written_bytes: usize,
    read: HashMap<u64, Bytes>,
    /// The numbers of the read chunks, in the order of reading, oldest first.
    read_order: VecDeque<u64>,
    read_bytes: usize,
    /// The budget of each of the two kinds.
    budget_bytes: usize,
}

impl Cache {
    pub(super) fn new(budget_bytes: u64) -> Self {
        Self {
            written: VecDeque::new(),
            written_base: 0,
            written_bytes: 0,
            read: HashMap::new(),
            read_order: VecDeque::new(),
            read_bytes: 0,
            budget_bytes: usize::try_from(budget_bytes / 2).unwrap_or(usize::MAX),
        }
    }

    pub(super) fn find(&self, number: u64) -> Option<&Bytes> {
        let recent =
            number.checked_sub(self.written_base).and_then(|at| self.written.get(at as usize));
        recent.or_else(|| self.read.get(&number))
    }

    /// Keeps a newly sealed chunk, at least until [`trim`](Self::trim): reads find it here before
    /// its commit has written it.
    pub(super) fn wrote(&mut self, number: u64, chunk: Bytes) {
        if self.written.is_empty() {
            self.written_base = number;
        }
        assert_eq!(
            number,
            self.written_base + self.written.len() as u64,
            "chunks are written in order"
        );
        self.written_bytes += chunk.len();
        self.written.push_back(chunk);
    }

    /// Forgets the oldest written chunks beyond the budget, once they are on the disk.
    pub(super) fn trim(&mut self) {
        while self.written_bytes > self.budget_bytes {
            let Some(chunk) = self.written.pop_front() else { return };
            self.written_bytes -= chunk.len();
            self.written_base += 1;
        }
    }

    pub(super) fn read(&mut self, number: u64, chunk: Bytes) {
        self.read_bytes += chunk.len();
        if let Some(old) = self.read.insert(number, chunk) {
            self.read_bytes -= old.len();
        } else {
            self.read_order.push_back(number);
        }
        while self.read_bytes > self.budget_bytes {
            let Some(oldest) = self.read_order.pop_front() else { return };
            self.read_bytes -= self.read.remove(&oldest).map_or(0, |chunk| chunk.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(bytes: usize) -> Bytes {
        vec![0; bytes].into()
    }

    #[test]
    fn written_chunks_stay_until_trimmed_and_the_newest_stay_longest() {
        let mut cache = Cache::new(200);
        for number in 5..10 {
            cache.wrote(number, chunk(50));
        }
        assert!((5..10).all(|number| cache.find(number).is_some()));
        cache.trim();
        assert_eq!(
            (5..10).filter(|number| cache.find(*number).is_some()).collect::<Vec<_>>(),
            [8, 9]
        );
    }

    #[test]
    fn read_chunks_leave_in_order_of_reading() {
        let mut cache = Cache::new(200);
        for number in [7, 3, 9] {
            cache.read(number, chunk(50));
        }
        assert!(cache.find(7).is_none());
        assert!(cache.find(3).is_some() && cache.find(9).is_some());
    }
}
