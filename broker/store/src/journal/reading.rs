//! A journal as it was found: for the checks of a folder, which read it over an archive, and for
//! the start.

use std::sync::Arc;

use bytes::Bytes;

use super::scan::{self, Found};
use super::segments::Segments;
use crate::medium::{Chunks, ReadError};

/// The content of a journal.
pub(crate) struct Reading {
    pub(super) segments: Arc<dyn Segments>,
    pub(super) found: Found,
}

/// The chunks of a journal, and below them those of an archive.
pub(crate) struct Overlay<'a> {
    reading: &'a Reading,
    archive: &'a dyn Chunks,
}

/// Bytes of all segments.
pub(super) fn file_bytes(segments: &dyn Segments) -> u64 {
    (0..segments.count()).map(|segment| u64::from(segments.bytes(segment))).sum()
}

impl Reading {
    /// Reads all segments.
    ///
    /// # Errors
    /// When the system refuses a read, or a block is missing that was confirmed.
    pub(crate) fn of(segments: Arc<dyn Segments>) -> Result<Self, ReadError> {
        let found = scan::scan(&*segments)?;
        Ok(Self { segments, found })
    }

    /// The newest chunk.
    pub(crate) fn newest(&self) -> Option<u64> {
        self.found.newest()
    }

    /// The number of blocks that were ever written.
    pub(crate) fn blocks(&self) -> u64 {
        self.found.end.map_or(0, |end| end.sequence)
    }

    /// Bytes of all segments.
    pub(crate) fn file_bytes(&self) -> u64 {
        file_bytes(&*self.segments)
    }

    /// Whether blocks are missing before the last ones. Their chunks may have left the journal in
    /// good order; the log tells.
    pub(crate) fn has_gap(&self) -> bool {
        self.found.has_gap
    }

    pub(crate) fn over<'a>(&'a self, archive: &'a dyn Chunks) -> Overlay<'a> {
        Overlay { reading: self, archive }
    }

    fn read(&self, number: u64) -> Option<Result<Bytes, ReadError>> {
        let index = usize::try_from(number.checked_sub(self.found.first)?).ok()?;
        let at = self.found.chunks.get(index)?;
        let mut bytes = vec![0; usize::from(at.length)];
        let read = self.segments.read(at.place.segment, at.place.offset, &mut bytes);
        Some(read.map(|()| bytes.into()).map_err(ReadError::from))
    }
}

impl Chunks for Overlay<'_> {
    fn newest(&self) -> Result<Option<(u64, Bytes)>, ReadError> {
        match self.reading.newest() {
            Some(number) => self.read_next(number).map(|bytes| Some((number, bytes))),
            None => self.archive.newest(),
        }
    }

    fn read_next(&self, number: u64) -> Result<Bytes, ReadError> {
        self.reading.read(number).unwrap_or_else(|| self.archive.read_next(number))
    }

    fn numbers_below(&self, base: u64) -> Result<Vec<u64>, ReadError> {
        self.archive.numbers_below(base)
    }
}
