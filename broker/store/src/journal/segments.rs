//! What a journal lies on: segments of bytes that can be written anywhere.

use crate::error::Error;

/// The segments of a journal. For every broker they are files of the data folder. The simulation of
/// the tests has its own, which lose pages that were not synced.
///
/// The first page of each segment belongs to the segments; the journal writes behind it.
pub trait Segments: Send + Sync {
    /// The number that was drawn when the journal was made. A block without it is not of this
    /// journal.
    fn mark(&self) -> u64;

    /// The number of segments that are present.
    fn count(&self) -> u32;

    /// The length of a segment. Each of its bytes was written before, or is zero and lies on the
    /// disk.
    fn bytes(&self, segment: u32) -> u32;

    /// The length of a segment that is as long as it may become.
    fn bytes_max(&self) -> u32;

    /// The number of segments that the journal shall use. A batch that is larger than all of them
    /// adds more.
    fn count_max(&self) -> u32;

    /// Reads bytes of a segment.
    ///
    /// # Errors
    /// When the system refuses the read, or the segment is shorter.
    fn read(&self, segment: u32, offset: u32, buffer: &mut [u8]) -> Result<(), Error>;

    /// Checks that all segments are where the next start looks for them, and as long as they were.
    ///
    /// # Errors
    /// When a segment was removed, replaced or cut short.
    fn inspect(&self) -> Result<(), Error>;

    /// Writes bytes within the length of a segment. They are durable after the next
    /// [`sync`](Self::sync).
    ///
    /// # Errors
    /// When the system refuses the write.
    fn write(&self, segment: u32, offset: u32, bytes: &[u8]) -> Result<(), Error>;

    /// Makes all that was written to a segment durable.
    ///
    /// # Errors
    /// When the system refuses the sync.
    fn sync(&self, segment: u32) -> Result<(), Error>;

    /// Makes a segment at least so long, or adds the next segment. The new bytes are zeros, and
    /// durable when the call returns.
    ///
    /// # Errors
    /// When the system refuses one of the steps.
    fn grow(&self, segment: u32, bytes: u32) -> Result<(), Error>;

    /// Whether the disk has room for longer or for more segments. Without room the journal uses
    /// those that are present.
    fn may_grow(&self) -> bool;

    /// Notes that all blocks up to this one are durable. The note need not be durable itself: an
    /// older note is true too, and only promises less.
    ///
    /// # Errors
    /// When the system refuses the write.
    fn note(&self, sequence: u64) -> Result<(), Error>;

    /// The latest note of the broker before. 0: none.
    fn noted(&self) -> u64;
}
