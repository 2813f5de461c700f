//! The chunk: one value of the log, with a header that proves that the chunk is whole and in its
//! place. This file knows frames of bytes, not records.
//!
//! ```text
//! 0   4   CRC32C of everything that follows
//! 4   4   magic "CELC"
//! 8   2   format version
//! 10  1   kind: 0 records, 1 first piece of a run, 2 a further piece
//! 11  1   zero
//! 12  8   number of the chunk
//! 20  8   base: the lowest number of the log once this chunk's batch is applied
//! 28  8   the highest serial ever used up to here
//! 36  8   the highest lease ever used up to here
//! 44  4   records: how many; first piece: pieces in the run; further piece: its place in the run
//! 48      records: frames of (length u16, bytes); pieces: bytes of the one record
//! ```
//! Numbers are little-endian. The first ten bytes keep their meaning in every later format, so that
//! an older program can tell a newer folder from a damaged one.

use bytes::{Buf, Bytes};

use super::Marks;

/// A leaf of sled holds up to 16 values and has to stay far below a quarter of its 8 MiB segments.
pub(super) const CHUNK_BYTES_MAX: usize = 24 * 1024;
pub(super) const HEADER_BYTES: usize = 48;
/// The longest record that shares a chunk with others.
pub(super) const FRAME_BYTES_MAX: usize = CHUNK_BYTES_MAX - HEADER_BYTES - FRAME_PREFIX_BYTES;
pub(super) const FRAME_PREFIX_BYTES: usize = 2;
/// The bytes of a long record that one piece holds.
pub(super) const PIECE_BYTES_MAX: usize = CHUNK_BYTES_MAX - HEADER_BYTES;
/// The newest format this program reads, and the one it writes.
pub(super) const FORMAT: u16 = 1;

/// No chunk number, serial or lease ever reaches this bound: a million a second would take a
/// thousand years. Code that keeps millions of them in memory may store each in seven bytes.
const NUMBER_MAX: u64 = 1 << 55;

const MAGIC: [u8; 4] = *b"CELC";

/// Why bytes are not the expected chunk.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    #[error("chunk {0} is too short or too long")]
    Length(u64),
    #[error("chunk {0} has a wrong checksum")]
    Checksum(u64),
    #[error("chunk {0} is not a chunk")]
    Magic(u64),
    #[error("chunk {0} has format {1}")]
    Newer(u64, u32),
    #[error("chunk {0} stands in the place of another")]
    Misplaced(u64),
    #[error("chunk {0} does not hold what its header says")]
    Content(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Records,
    RunStart,
    RunPiece,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) number: u64,
    pub(super) base: u64,
    pub(super) marks: Marks,
    pub(super) count: u32,
}

/// Writes the header into `buffer`, whose first [`HEADER_BYTES`] bytes are reserved for it.
pub(super) fn seal(buffer: &mut [u8], header: Header) {
    buffer[4..8].copy_from_slice(&MAGIC);
    buffer[8..10].copy_from_slice(&FORMAT.to_le_bytes());
    buffer[10] = match header.kind {
        Kind::Records => 0,
        Kind::RunStart => 1,
        Kind::RunPiece => 2,
    };
    buffer[11] = 0;
    buffer[12..20].copy_from_slice(&header.number.to_le_bytes());
    buffer[20..28].copy_from_slice(&header.base.to_le_bytes());
    buffer[28..36].copy_from_slice(&header.marks.serial.to_le_bytes());
    buffer[36..44].copy_from_slice(&header.marks.lease.to_le_bytes());
    buffer[44..48].copy_from_slice(&header.count.to_le_bytes());
    let sum = crc32c::crc32c(&buffer[4..]);
    buffer[0..4].copy_from_slice(&sum.to_le_bytes());
}

/// Checks that `bytes` are the whole chunk `number`.
pub(super) fn open(number: u64, bytes: &[u8]) -> Result<Header, Fault> {
    if bytes.len() < HEADER_BYTES || bytes.len() > CHUNK_BYTES_MAX {
        return Err(Fault::Length(number));
    }
    let mut header = &bytes[..HEADER_BYTES];
    let sum = header.get_u32_le();
    if sum != crc32c::crc32c(&bytes[4..]) {
        return Err(Fault::Checksum(number));
    }
    if header.copy_to_bytes(4) != MAGIC[..] {
        return Err(Fault::Magic(number));
    }
    let format = header.get_u16_le();
    if format > FORMAT {
        return Err(Fault::Newer(number, u32::from(format)));
    }
    let kind = match header.get_u8() {
        0 => Kind::Records,
        1 => Kind::RunStart,
        2 => Kind::RunPiece,
        _ => return Err(Fault::Content(number)),
    };
    header.advance(1);
    let header = Header {
        kind,
        number: header.get_u64_le(),
        base: header.get_u64_le(),
        marks: Marks { serial: header.get_u64_le(), lease: header.get_u64_le() },
        count: header.get_u32_le(),
    };
    if header.number != number {
        return Err(Fault::Misplaced(number));
    }
    let highest = header.number.max(header.marks.serial).max(header.marks.lease);
    if header.base > number || highest > NUMBER_MAX {
        return Err(Fault::Content(number));
    }
    Ok(header)
}

/// The records of a chunk as (offset, length), without their length prefix.
pub(super) fn frames(header: &Header, bytes: &Bytes) -> Result<Vec<(u16, u16)>, Fault> {
    let fault = Fault::Content(header.number);
    let mut frames = Vec::with_capacity(header.count as usize & 0xFFFF);
    let mut at = HEADER_BYTES;
    while at < bytes.len() {
        let Some(prefix) = bytes.get(at..at + FRAME_PREFIX_BYTES) else { return Err(fault) };
        let length = u16::from_le_bytes([prefix[0], prefix[1]]);
        at += FRAME_PREFIX_BYTES;
        if length == 0 || at + length as usize > bytes.len() {
            return Err(fault);
        }
        frames.push((at as u16, length));
        at += length as usize;
    }
    if frames.len() != header.count as usize { Err(fault) } else { Ok(frames) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> (Header, Vec<u8>) {
        let mut buffer = vec![0; HEADER_BYTES];
        for body in [&b"one"[..], b"second", b"3"] {
            buffer.extend_from_slice(&(body.len() as u16).to_le_bytes());
            buffer.extend_from_slice(body);
        }
        let header = Header {
            kind: Kind::Records,
            number: 77,
            base: 70,
            marks: Marks { serial: 9, lease: 4 },
            count: 3,
        };
        seal(&mut buffer, header);
        (header, buffer)
    }

    #[test]
    fn sealed_chunk_opens_with_its_header_and_frames() {
        let (header, buffer) = example();
        assert_eq!(open(77, &buffer), Ok(header));
        assert_eq!(frames(&header, &buffer.into()), Ok(vec![(50, 3), (55, 6), (63, 1)]));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let (_, buffer) = example();
        for bit in 0..buffer.len() * 8 {
            let mut broken = buffer.clone();
            broken[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open(77, &broken), Err(Fault::Checksum(77)), "bit {bit}");
        }
    }

    #[test]
    fn every_cut_is_noticed() {
        let (_, buffer) = example();
        for length in 0..buffer.len() {
            assert!(open(77, &buffer[..length]).is_err(), "cut at {length}");
        }
    }

    #[test]
    fn chunk_in_the_wrong_place_is_noticed() {
        let (_, buffer) = example();
        assert_eq!(open(78, &buffer), Err(Fault::Misplaced(78)));
    }

    #[test]
    fn newer_format_is_told_from_damage() {
        let (_, mut buffer) = example();
        buffer[8..10].copy_from_slice(&(FORMAT + 1).to_le_bytes());
        let sum = crc32c::crc32c(&buffer[4..]);
        buffer[0..4].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(open(77, &buffer), Err(Fault::Newer(77, u32::from(FORMAT) + 1)));
    }

    #[test]
    fn numbers_that_nobody_can_have_reached_are_refused() {
        let (header, buffer) = example();
        let changes: [fn(&mut Header); 4] = [
            |header| header.base = header.number + 1,
            |header| header.marks.serial = u64::MAX,
            |header| header.marks.serial = (1 << 55) + 1,
            |header| header.marks.lease = 1 << 63,
        ];
        for change in changes {
            let (mut header, mut buffer) = (header, buffer.clone());
            change(&mut header);
            seal(&mut buffer, header);
            assert_eq!(open(77, &buffer), Err(Fault::Content(77)), "{header:?}");
        }
    }
}
