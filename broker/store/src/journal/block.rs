//! The block: one write of the journal, with a header that proves that the block is whole, in its
//! place, and written after the block before it.
//!
//! ```text
//! 0   4   CRC32C of the rest of the header
//! 4   4   magic "CELJ"
//! 8   2   version of this layout
//! 10  2   1: the last block of its batch, 0: more blocks follow
//! 12  4   chunks in the block
//! 16  8   the mark of the journal
//! 24  8   sequence number of the block
//! 32  8   sequence number of the first block of its batch
//! 40  4   its segment
//! 44  4   its offset in the segment
//! 48  8   number of the first chunk; the others follow without gaps
//! 56  4   bytes of the body
//! 60  4   CRC32C of the body
//! 64  4   the first four bytes of the block before it
//! 68  4   the life of the journal: one more at each start
//! 72      body: the length of each chunk (u16), then the chunks
//! ```
//! Numbers are little-endian. A block begins at a multiple of [`PAGE_BYTES`], and the rest of its
//! last page is zeros.

use bytes::{Buf, Bytes};

/// Disks write pages of this size as a whole. Full pages also spare the system a read before the
/// write.
pub(crate) const PAGE_BYTES: usize = 4096;
const HEADER_BYTES: usize = 72;
const LENGTH_BYTES: usize = 2;
const VERSION: u16 = 1;
const MAGIC: [u8; 4] = *b"CELJ";

/// The place of bytes in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) segment: u32,
    pub(super) offset: u32,
}

/// The header of a block, without what follows from its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) mark: u64,
    pub(super) sequence: u64,
    /// The sequence number of the first block of the batch.
    pub(super) batch: u64,
    pub(super) is_last: bool,
    pub(super) place: Place,
    pub(super) first_chunk: u64,
    /// The sum of the block before it.
    pub(super) chain: u32,
    /// The life that wrote the block. It tells a block from another one of the same number that an
    /// earlier life wrote and did not confirm.
    pub(super) life: u32,
}

/// A whole block that was read.
#[derive(Debug, Clone)]
pub(super) struct Block {
    pub(super) header: Header,
    /// The sum of the header.
    pub(super) sum: u32,
    /// All bytes of the block, with the rest of its last page.
    pub(super) bytes: u32,
    /// The place and the length of each chunk in the segment.
    pub(super) chunks: Vec<(u32, u16)>,
}

/// The bytes that a block with chunks of these lengths takes.
pub(super) fn block_bytes(chunks: usize, chunk_bytes: usize) -> usize {
    (HEADER_BYTES + chunks * LENGTH_BYTES + chunk_bytes).next_multiple_of(PAGE_BYTES)
}

/// Writes a block into `buffer`, and calls `place` with the offset of each chunk in the block.
/// Returns the sum of the block.
pub(super) fn encode(
    buffer: &mut Vec<u8>,
    header: Header,
    chunks: &[(u64, Bytes)],
    mut place: impl FnMut(u32, u16),
) -> u32 {
    buffer.clear();
    buffer.resize(HEADER_BYTES, 0);
    for (_, chunk) in chunks {
        buffer.extend_from_slice(&(chunk.len() as u16).to_le_bytes());
    }
    for (_, chunk) in chunks {
        place(buffer.len() as u32, chunk.len() as u16);
        buffer.extend_from_slice(chunk);
    }
    let body_bytes = (buffer.len() - HEADER_BYTES) as u32;
    let body_sum = crc32c::crc32c(&buffer[HEADER_BYTES..]);
    buffer[4..8].copy_from_slice(&MAGIC);
    buffer[8..10].copy_from_slice(&VERSION.to_le_bytes());
    buffer[10..12].copy_from_slice(&u16::from(header.is_last).to_le_bytes());
    buffer[12..16].copy_from_slice(&(chunks.len() as u32).to_le_bytes());
    buffer[16..24].copy_from_slice(&header.mark.to_le_bytes());
    buffer[24..32].copy_from_slice(&header.sequence.to_le_bytes());
    buffer[32..40].copy_from_slice(&header.batch.to_le_bytes());
    buffer[40..44].copy_from_slice(&header.place.segment.to_le_bytes());
    buffer[44..48].copy_from_slice(&header.place.offset.to_le_bytes());
    buffer[48..56].copy_from_slice(&header.first_chunk.to_le_bytes());
    buffer[56..60].copy_from_slice(&body_bytes.to_le_bytes());
    buffer[60..64].copy_from_slice(&body_sum.to_le_bytes());
    buffer[64..68].copy_from_slice(&header.chain.to_le_bytes());
    buffer[68..72].copy_from_slice(&header.life.to_le_bytes());
    let sum = crc32c::crc32c(&buffer[4..HEADER_BYTES]);
    buffer[..4].copy_from_slice(&sum.to_le_bytes());
    buffer.resize(buffer.len().next_multiple_of(PAGE_BYTES), 0);
    sum
}

/// The block at the beginning of `bytes`, which lie at `place` of the journal with this mark.
/// `None`: there is no whole block.
pub(super) fn decode(bytes: &[u8], mark: u64, place: Place) -> Option<Block> {
    let mut fields = bytes.get(..HEADER_BYTES)?;
    let sum = fields.get_u32_le();
    if fields[..4] != MAGIC || sum != crc32c::crc32c(&bytes[4..HEADER_BYTES]) {
        return None;
    }
    fields.advance(4);
    let (version, flags) = (fields.get_u16_le(), fields.get_u16_le());
    let count = fields.get_u32_le() as usize;
    let found_mark = fields.get_u64_le();
    let (sequence, batch) = (fields.get_u64_le(), fields.get_u64_le());
    let found_place = Place { segment: fields.get_u32_le(), offset: fields.get_u32_le() };
    let first_chunk = fields.get_u64_le();
    let (body_bytes, body_sum) = (fields.get_u32_le() as usize, fields.get_u32_le());
    let (chain, life) = (fields.get_u32_le(), fields.get_u32_le());
    if (version, found_mark, found_place) != (VERSION, mark, place) || flags > 1 {
        return None;
    }
    let body = bytes.get(HEADER_BYTES..HEADER_BYTES.checked_add(body_bytes)?)?;
    if body_sum != crc32c::crc32c(body) {
        return None;
    }
    let mut lengths = body.get(..count.checked_mul(LENGTH_BYTES)?)?;
    let mut at = HEADER_BYTES + lengths.len();
    let mut chunks = Vec::with_capacity(count);
    for _ in 0..count {
        let length = lengths.get_u16_le();
        chunks.push((place.offset + at as u32, length));
        at += usize::from(length);
    }
    let header =
        Header { mark, sequence, batch, is_last: flags == 1, place, first_chunk, chain, life };
    let is_whole = at == HEADER_BYTES + body_bytes && batch <= sequence;
    is_whole.then(|| Block { header, sum, bytes: at.next_multiple_of(PAGE_BYTES) as u32, chunks })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Header = Header {
        mark: 7,
        sequence: 12,
        batch: 11,
        is_last: true,
        place: Place { segment: 3, offset: 8192 },
        first_chunk: 40,
        chain: 99,
        life: 5,
    };

    fn chunks() -> Vec<(u64, Bytes)> {
        (40..43).map(|number| (number, Bytes::from(vec![number as u8; 2_000]))).collect()
    }

    #[test]
    fn block_comes_back_with_the_places_of_its_chunks() {
        let (mut buffer, mut places) = (Vec::new(), Vec::new());
        let sum = encode(&mut buffer, HEADER, &chunks(), |at, length| places.push((at, length)));
        assert_eq!(buffer.len(), block_bytes(3, 6_000));
        let block = decode(&buffer, 7, HEADER.place).unwrap();
        assert_eq!((block.header, block.sum, block.bytes), (HEADER, sum, 8192));
        let expected: Vec<_> = places.iter().map(|(at, length)| (at + 8192, *length)).collect();
        assert_eq!(block.chunks, expected);
        assert_eq!(buffer[places[2].0 as usize..][..2_000], [42; 2_000]);
    }

    #[test]
    fn block_with_a_flipped_bit_cut_short_or_in_another_place_is_no_block() {
        let mut buffer = Vec::new();
        encode(&mut buffer, HEADER, &chunks(), |_, _| {});
        let used = HEADER_BYTES + 3 * LENGTH_BYTES + 6_000;
        for bit in (0..used * 8).filter(|bit| *bit < 600 || bit % 97 == 0) {
            let mut broken = buffer.clone();
            broken[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&broken, 7, HEADER.place).is_none(), "bit {bit}");
        }
        for length in [0, 1, HEADER_BYTES - 1, HEADER_BYTES, used - 1] {
            assert!(decode(&buffer[..length], 7, HEADER.place).is_none(), "{length} bytes");
        }
        assert!(decode(&buffer, 8, HEADER.place).is_none(), "another mark");
        assert!(decode(&buffer, 7, Place { segment: 3, offset: 4096 }).is_none());
        assert!(decode(&buffer, 7, Place { segment: 2, offset: 8192 }).is_none());
    }
}
