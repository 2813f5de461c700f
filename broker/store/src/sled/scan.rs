//! Reads sled's data file without sled and without touching it, to find out whether sled would
//! recover all of it.
//!
//! sled's own recovery is destructive: where it finds a broken message, it takes this place as the
//! end of the log and overwrites the bytes that follow. The file is a row of segments. Each has a
//! header with its position in the log, then messages with a checksum each; see
//! `pagecache/{iterator,logger}.rs` of sled 0.34.7, which this file mirrors. The scan does not
//! replay the pages, so it can only find a suspicion; `guard.rs` then tries a copy.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::log::SEGMENT_BYTES;
use super::note::Note;

const SEGMENT_HEADER_BYTES: usize = 20;
/// No message begins this close to the end of its segment.
const RED_ZONE_BYTES: usize = 32;
const KIND_CORRUPTED: u8 = 0;
const KIND_CAP: u8 = 2;
const KIND_MAX: u8 = 11;

/// One segment that has a valid header.
#[derive(Debug)]
struct Segment {
    /// The position of the segment in sled's log.
    position: i64,
    /// The end of its whole messages.
    end: usize,
    /// Whether the messages are whole up to the end of the segment.
    complete: bool,
}

#[derive(Debug, Default)]
pub(super) struct Scan {
    segments: Vec<Segment>,
    broken_headers: Vec<u64>,
    file_bytes: u64,
}

/// Reads the whole file once.
pub(super) fn scan(database: &Path) -> io::Result<Scan> {
    let file = File::open(database)?;
    let mut scan = Scan { file_bytes: file.metadata()?.len(), ..Scan::default() };
    let mut buffer = vec![0; SEGMENT_BYTES];
    let mut offset = 0;
    while offset < scan.file_bytes {
        let length =
            usize::try_from(scan.file_bytes - offset).unwrap_or(usize::MAX).min(SEGMENT_BYTES);
        let bytes = &mut buffer[..length];
        file.read_exact_at(bytes, offset)?;
        match segment_position(bytes) {
            Some(position) => scan.segments.push(read_segment(position, bytes)),
            // sled clears the free segments at start; a new segment at the end may be a hole.
            None if bytes.iter().take(SEGMENT_HEADER_BYTES).all(|byte| *byte == 0) => {}
            None => scan.broken_headers.push(offset),
        }
        offset += SEGMENT_BYTES as u64;
    }
    scan.segments.sort_by_key(|segment| segment.position);
    Ok(scan)
}

impl Scan {
    /// Why sled might not recover everything that `note` says was durable. `None`: sled will
    /// recover everything.
    pub(super) fn suspicion(&self, note: &Note) -> Option<String> {
        if self.file_bytes < note.file_bytes {
            return Some(format!(
                "its file `db` has {} bytes, it had {}",
                self.file_bytes, note.file_bytes
            ));
        }
        if let Some(offset) = self.broken_headers.first() {
            return Some(format!(
                "the segment at byte {offset} of its file `db` has a broken header"
            ));
        }
        if let Some(pair) =
            self.segments.windows(2).find(|pair| pair[0].position == pair[1].position)
        {
            return Some(format!(
                "its file `db` has two segments for position {}",
                pair[0].position
            ));
        }
        let Some((last, earlier)) = self.segments.split_last() else {
            return Some("its file `db` is empty".into());
        };
        if let Some(segment) = earlier.iter().find(|segment| !segment.complete) {
            return Some(format!(
                "the segment for position {} of its file `db` is broken",
                segment.position
            ));
        }
        let durable = last.position + last.end as i64;
        (durable <= note.position).then(|| {
            format!(
                "its file `db` is whole up to position {durable}, it was up to {}",
                note.position
            )
        })
    }
}

/// The position in a segment's header, if the header is whole.
fn segment_position(bytes: &[u8]) -> Option<i64> {
    let header = bytes.get(..SEGMENT_HEADER_BYTES)?;
    let sum = u32::from_le_bytes(header[0..4].try_into().ok()?) ^ u32::MAX;
    let position = i64::from_le_bytes(header[4..12].try_into().ok()?) ^ i64::MAX;
    (crc32fast::hash(&header[4..]) == sum).then_some(position)
}

fn read_segment(position: i64, bytes: &[u8]) -> Segment {
    let number = position as u64 / SEGMENT_BYTES as u64;
    let mut end = SEGMENT_HEADER_BYTES;
    while end + RED_ZONE_BYTES < SEGMENT_BYTES {
        match message(&bytes[end.min(bytes.len())..], number) {
            Some((KIND_CAP, _)) => return Segment { position, end: SEGMENT_BYTES, complete: true },
            Some((_, length)) => end += length,
            None => return Segment { position, end, complete: false },
        }
    }
    Segment { position, end: SEGMENT_BYTES, complete: true }
}

/// The kind and the whole length of the message at the start of `bytes`, if the message is whole
/// and belongs to this segment.
fn message(bytes: &[u8], segment: u64) -> Option<(u8, usize)> {
    let sum = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?) ^ u32::MAX;
    let kind = *bytes.get(4)?;
    if kind == KIND_CORRUPTED || kind > KIND_MAX {
        return None;
    }
    let mut at = 5;
    let length = sled_varint(bytes, &mut at)?;
    let of_segment = sled_varint(bytes, &mut at)?;
    let _page = sled_varint(bytes, &mut at)?;
    let body = bytes.get(at..at.checked_add(usize::try_from(length).ok()?)?)?;
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(body);
    hasher.update(&bytes[4..at]);
    (hasher.finalize() == sum && of_segment == segment).then_some((kind, at + body.len()))
}

/// Reads a number in sled's own variable-length encoding.
fn sled_varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let first = *bytes.get(*at)?;
    let extra = match first {
        0..=240 => 0,
        241..=248 => 1,
        249 => 2,
        250..=255 => usize::from(first) - 247,
    };
    let tail = bytes.get(*at + 1..*at + 1 + extra)?;
    *at += 1 + extra;
    Some(match first {
        0..=240 => u64::from(first),
        241..=248 => 240 + 256 * (u64::from(first) - 241) + u64::from(tail[0]),
        249 => 2288 + 256 * u64::from(tail[0]) + u64::from(tail[1]),
        _ => tail.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)),
    })
}
