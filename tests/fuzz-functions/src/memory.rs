//! Chunks in memory: the medium of a broker that lives for one input.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use celeriac_store::{
    Archive, Chunks, Copier, Copy, Direct, Error, Medium, ReadChunk, ReadError, Room,
};

/// More than any input fills.
const DISK_BYTES: u64 = 1 << 40;

#[derive(Default)]
struct Memory(Mutex<BTreeMap<u64, Bytes>>);

/// An empty medium.
pub(crate) fn medium() -> Box<dyn Medium> {
    Box::new(Direct::over(Arc::new(Memory::default())))
}

impl Memory {
    fn chunks(&self) -> MutexGuard<'_, BTreeMap<u64, Bytes>> {
        self.0.lock().expect("no panic while it is locked")
    }
}

impl Chunks for Memory {
    fn newest(&self) -> Result<Option<(u64, Bytes)>, ReadError> {
        Ok(self.chunks().last_key_value().map(|(number, chunk)| (*number, chunk.clone())))
    }

    fn read_next(&self, number: u64) -> Result<Bytes, ReadError> {
        let chunk = self.chunks().get(&number).cloned();
        chunk.ok_or_else(|| format!("chunk {number} is missing").into())
    }

    fn numbers_below(&self, base: u64) -> Result<Vec<u64>, ReadError> {
        Ok(self.chunks().range(..base).map(|(number, _)| *number).collect())
    }
}

impl Archive for Memory {
    fn place(&self) -> &Path {
        Path::new("memory")
    }

    fn confirmed(&self) -> Option<u64> {
        None
    }

    fn read(&self, number: u64) -> Result<Option<Bytes>, Error> {
        Ok(self.chunks().get(&number).cloned())
    }

    fn write(&self, chunks: &[(u64, Bytes)], removed: &[u64]) -> Result<(), Error> {
        let mut kept = self.chunks();
        kept.extend(chunks.iter().cloned());
        kept.retain(|number, _| !removed.contains(number));
        Ok(())
    }

    fn flush(&self, _newest: Option<u64>) -> Result<(), Error> {
        Ok(())
    }

    fn inspect(&self) -> Result<(), Error> {
        Ok(())
    }

    fn opened(&self) -> Result<(), Error> {
        Ok(())
    }

    fn room(&self) -> Result<Room, Error> {
        Ok(Room { free_bytes: DISK_BYTES / 2, disk_bytes: DISK_BYTES, ..Room::default() })
    }

    fn reclaim(&self) -> Result<(), Error> {
        Ok(())
    }

    fn reclaim_bytes(&self) -> u64 {
        0
    }

    fn copier(&self, _copy: Copy, _read: ReadChunk) -> Option<Copier> {
        None
    }

    fn close(&self) -> Result<(), Error> {
        Ok(())
    }
}
