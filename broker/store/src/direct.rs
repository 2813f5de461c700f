//! An archive alone as the medium of a store: each commit writes to it and flushes it.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::error::Error;
use super::medium::{
    Archive, Chunks, Copier, Copy, FORMAT_WITHOUT_JOURNAL, Medium, ReadError, Room,
};

/// The medium of a store whose commits go straight to an archive.
pub struct Direct(Arc<dyn Archive>);

impl std::fmt::Debug for Direct {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Direct").field("place", &self.0.place()).finish()
    }
}

impl Direct {
    /// Makes the archive a medium.
    pub fn over(archive: Arc<dyn Archive>) -> Self {
        Self(archive)
    }
}

impl Chunks for Direct {
    fn newest(&self) -> Result<Option<(u64, Bytes)>, ReadError> {
        self.0.newest()
    }

    fn read_next(&self, number: u64) -> Result<Bytes, ReadError> {
        self.0.read_next(number)
    }

    fn numbers_below(&self, base: u64) -> Result<Vec<u64>, ReadError> {
        self.0.numbers_below(base)
    }
}

impl Medium for Direct {
    fn place(&self) -> &Path {
        self.0.place()
    }

    fn confirmed(&self) -> Option<u64> {
        self.0.confirmed()
    }

    fn read(&self, number: u64) -> Result<Option<Bytes>, Error> {
        self.0.read(number)
    }

    fn write(&mut self, chunks: &[(u64, Bytes)], removed: &[u64]) -> Result<(), Error> {
        self.0.inspect()?;
        self.0.write(chunks, removed)?;
        self.0.flush(chunks.last().map(|(number, _)| *number))
    }

    fn opened(&mut self) -> Result<(), Error> {
        self.0.opened()
    }

    fn format(&self) -> u32 {
        FORMAT_WITHOUT_JOURNAL
    }

    fn abandon(self: Box<Self>) {}

    fn room(&self) -> Result<Room, Error> {
        self.0.room()
    }

    fn reclaim(&mut self) -> Result<(), Error> {
        self.0.reclaim()
    }

    fn reclaim_bytes(&self) -> u64 {
        self.0.reclaim_bytes()
    }

    fn copier(&self, copy: Copy) -> Option<Copier> {
        let archive = self.0.clone();
        let read = Box::new(move |number| archive.read_next(number));
        self.0.copier(copy, read)
    }

    fn close(&mut self) -> Result<(), Error> {
        self.0.close()
    }
}
