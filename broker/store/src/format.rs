//! The format of records and chunks, without a medium: for fuzz targets, and for tools that have
//! the chunks of a log and read them.

use std::collections::BTreeMap;

use bytes::Bytes;
use celeriac_record::{Record, Slot};

use super::Marks;
use super::chunk::{self, HEADER_BYTES, Header, Kind};
use super::codec::{self, Glance};
use super::medium::{Chunks, ReadError};
use super::survey::{self, Refusal};

/// The stored form of a record.
pub fn encode_record(record: &Record) -> Bytes {
    let mut bytes = Vec::new();
    codec::encode(record, &mut bytes);
    bytes.into()
}

/// Reads a record back.
///
/// # Errors
/// A sentence, when the bytes are not a record.
pub fn decode_record(bytes: Bytes) -> Result<Record, String> {
    codec::decode(bytes).map_err(|malformed| malformed.to_string())
}

/// Chunks by number.
pub type Stored = BTreeMap<u64, Bytes>;

/// Higher slots are legal but need the memory of a table of that size. The fuzz targets do not look
/// for that.
const SLOTS_MAX: Slot = 1 << 16;

/// The result of a start from these chunks: the live records in order, or why the start refuses the
/// chunks.
pub fn load(stored: &Stored) -> Result<(Vec<Record>, Marks), String> {
    if stored.iter().any(|(number, bytes)| names_a_far_slot(*number, bytes)) {
        return Err("a slot is far out".to_owned());
    }
    let mut records = Vec::new();
    let marks = survey_and_load(stored, &mut |record| records.push(record));
    let marks = marks.map_err(|refusal| match refusal {
        Refusal::Damaged(reason) => reason,
        Refusal::Unreadable(error) => error.to_string(),
        Refusal::Refused(error) => error.to_string(),
        Refusal::Newer(format) => format!("format {format}"),
    })?;
    Ok((records, marks))
}

fn survey_and_load(stored: &Stored, take: &mut dyn FnMut(Record)) -> Result<Marks, Refusal> {
    let survey = survey::survey(stored, None)?;
    survey::load(stored, &survey.index, take)?;
    Ok(survey.marks)
}

fn names_a_far_slot(number: u64, bytes: &Bytes) -> bool {
    let Ok(header) = chunk::open(number, bytes) else { return false };
    let is_far = |body: &[u8]| match codec::glance(body) {
        Ok(Glance::Submitted(slot) | Glance::Changed(slot) | Glance::Forgotten(slot)) => {
            slot >= SLOTS_MAX
        }
        _ => false,
    };
    let frames = chunk::frames(&header, bytes).unwrap_or_default();
    let bodies = frames
        .iter()
        .map(|(offset, length)| &bytes[usize::from(*offset)..][..usize::from(*length)]);
    is_far(&bytes[HEADER_BYTES..]) || bodies.into_iter().any(is_far)
}

/// Gives `bytes` the right checksum. Other parts may still be wrong.
pub fn with_checksum(mut bytes: Vec<u8>) -> Bytes {
    if bytes.len() >= HEADER_BYTES {
        let sum = crc32c::crc32c(&bytes[4..]);
        bytes[0..4].copy_from_slice(&sum.to_le_bytes());
    }
    bytes.into()
}

/// The chunk number in the header.
pub fn number_of(bytes: &[u8]) -> u64 {
    bytes.get(12..20).and_then(|number| number.try_into().ok()).map_or(0, u64::from_le_bytes)
}

/// A chunk of whole records, each up to 64 KiB.
pub fn chunk_of_records(number: u64, base: u64, marks: Marks, records: &[Bytes]) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_BYTES];
    for record in records {
        bytes.extend_from_slice(&(record.len() as u16).to_le_bytes());
        bytes.extend_from_slice(record);
    }
    let header = Header { kind: Kind::Records, number, base, marks, count: records.len() as u32 };
    chunk::seal(&mut bytes, header);
    bytes
}

/// A piece of a record that is longer than a chunk.
pub fn chunk_of_a_run(
    number: u64,
    base: u64,
    marks: Marks,
    place: u32,
    pieces: u32,
    body: &[u8],
) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_BYTES];
    bytes.extend_from_slice(body);
    let (kind, count) = if place == 0 { (Kind::RunStart, pieces) } else { (Kind::RunPiece, place) };
    chunk::seal(&mut bytes, Header { kind, number, base, marks, count });
    bytes
}

impl Chunks for Stored {
    fn newest(&self) -> Result<Option<(u64, Bytes)>, ReadError> {
        Ok(self.last_key_value().map(|(number, bytes)| (*number, bytes.clone())))
    }

    fn numbers_below(&self, base: u64) -> Result<Vec<u64>, ReadError> {
        Ok(self.range(..base).map(|(number, _)| *number).collect())
    }

    fn read_next(&self, number: u64) -> Result<Bytes, ReadError> {
        let chunk = self.get(&number).cloned();
        chunk.ok_or_else(|| format!("chunk {number} is missing from its log").into())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::records::{changed, submitted};
    use super::*;

    fn chunk(marks: Marks) -> Stored {
        let records = [
            Record::Submitted(Box::new(submitted(1, 9, 3))),
            Record::Changed(Box::new(changed(1, 9, 2))),
        ];
        let records = records.each_ref().map(encode_record);
        Stored::from([(7, chunk_of_records(7, 7, marks, &records).into())])
    }

    #[test]
    fn records_with_numbers_that_were_never_given_out_are_refused() {
        let served = load(&chunk(Marks { serial: 9, lease: 92 }))
            .expect("the chunk is as a store writes it");
        assert_eq!(served.0.len(), 2);
        for marks in [Marks { serial: 8, lease: 92 }, Marks { serial: 9, lease: 91 }] {
            let refusal =
                load(&chunk(marks)).expect_err("the record has a number that was never given out");
            assert_eq!(refusal, "chunk 7 does not hold what its header says");
        }
    }
}
