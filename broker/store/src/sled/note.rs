//! The note in the file `durable`: how far the log was durable when the note was written. The file
//! has two places that take turns, so that a torn write damages only the newer note.

pub(super) const NOTE_BYTES: usize = 64;
const NOTE_SUMMED_BYTES: usize = 48;
const NOTE_MAGIC: [u8; 8] = *b"CELNOTE1";

/// How far the log was durable when the note was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) sequence: u64,
    /// The newest chunk.
    pub(super) chunk: u64,
    /// The position of the last stable byte, in sled's numbering.
    pub(super) position: i64,
    /// The length of the data file. sled may have cut the file since: a shorter file is a reason
    /// to check, not to refuse.
    pub(super) file_bytes: u64,
    /// The position of the snapshot that sled started from. 0: none, as in a folder's first run.
    pub(super) snapshot: u64,
}

impl Note {
    /// The position of the note in its file.
    pub(super) fn place(&self) -> u64 {
        (self.sequence % 2) * NOTE_BYTES as u64
    }

    pub(super) fn to_bytes(self) -> [u8; NOTE_BYTES] {
        let mut bytes = [0; NOTE_BYTES];
        bytes[0..8].copy_from_slice(&NOTE_MAGIC);
        bytes[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.chunk.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.position.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.file_bytes.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.snapshot.to_le_bytes());
        let sum = crc32c::crc32c(&bytes[..NOTE_SUMMED_BYTES]);
        bytes[48..52].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// `None`: the bytes are not a whole note.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let number = |at: usize| {
            bytes.get(at..at + 8).and_then(|part| part.try_into().ok()).map(u64::from_le_bytes)
        };
        let sum = u32::from_le_bytes(bytes.get(48..52)?.try_into().ok()?);
        if bytes[..8] != NOTE_MAGIC || sum != crc32c::crc32c(&bytes[..NOTE_SUMMED_BYTES]) {
            return None;
        }
        Some(Self {
            sequence: number(8)?,
            chunk: number(16)?,
            position: number(24)? as i64,
            file_bytes: number(32)?,
            snapshot: number(40)?,
        })
    }

    /// The newest note in the bytes of a file.
    pub(super) fn newest_in(bytes: &[u8]) -> Option<Self> {
        bytes.chunks(NOTE_BYTES).filter_map(Self::parse).max_by_key(|note| note.sequence)
    }
}
