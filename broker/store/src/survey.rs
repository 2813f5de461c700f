//! Reads the log from end to end: checks that every chunk is present and whole, finds the live
//! records, and hands them to the caller.

use std::io;
use std::ops::Range;
use std::path::Path;

use bytes::{Bytes, BytesMut};
use celeriac_record::Record;

use super::Marks;
use super::chunk::{self, FORMAT, Fault, HEADER_BYTES, Kind};
use super::codec;
use super::error::Error;
use super::index::{Index, Location};
use super::medium::{Chunks, ReadError};
use super::varint::Malformed;

/// Why the store refuses to serve a log.
#[derive(Debug)]
pub(super) enum Refusal {
    Damaged(String),
    /// The disk did not deliver the log; the log itself may be whole.
    Unreadable(io::Error),
    Refused(Error),
    Newer(u32),
}

impl Refusal {
    pub(super) fn into_error(self, folder: &Path) -> Error {
        let folder = folder.to_owned();
        match self {
            Self::Damaged(reason) => Error::Damaged { folder, reason },
            Self::Unreadable(source) => {
                Error::io(format!("read {}", folder.join("db").display()))(source)
            }
            Self::Refused(error) => error,
            Self::Newer(found) => Error::NewerFormat { folder, found, known: u32::from(FORMAT) },
        }
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Newer(_, format) => Self::Newer(format),
            fault => Self::Damaged(fault.to_string()),
        }
    }
}

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Self::Damaged(reason)
    }
}

impl From<ReadError> for Refusal {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Damaged(reason) => Self::Damaged(reason),
            ReadError::Refused(error) => Self::Refused(error),
        }
    }
}

impl From<Malformed> for Refusal {
    fn from(malformed: Malformed) -> Self {
        Self::Damaged(malformed.to_string())
    }
}

/// The result of the first reading.
#[derive(Debug)]
pub(super) struct Survey {
    pub(super) index: Index,
    pub(super) marks: Marks,
    /// Removed chunks that are present again: sled lost their removal, which does no harm.
    pub(super) leftovers: Vec<u64>,
}

/// Reads and checks every chunk. The log was durable at least up to the chunk `confirmed`.
pub(super) fn survey(log: &dyn Chunks, confirmed: Option<u64>) -> Result<Survey, Refusal> {
    let Some((newest, bytes)) = log.newest()? else {
        return match confirmed {
            Some(chunk) => Err(format!("its log is empty, but chunk {chunk} was confirmed").into()),
            None => {
                Ok(Survey { index: Index::new(0), marks: Marks::default(), leftovers: Vec::new() })
            }
        };
    };
    if let Some(chunk) = confirmed.filter(|chunk| *chunk > newest) {
        return Err(
            format!("its log ends with chunk {newest}, but chunk {chunk} was confirmed").into()
        );
    }
    let newest_header = chunk::open(newest, &bytes)?;
    let leftovers = log.numbers_below(newest_header.base)?;
    let mut survey =
        Survey { index: Index::new(newest_header.base), marks: newest_header.marks, leftovers };
    let mut reader = Reader::default();
    for number in newest_header.base..=newest {
        let bytes = log.read_next(number)?;
        let header = chunk::open(number, &bytes)?;
        survey.index.push_chunk(bytes.len(), header.kind == Kind::RunPiece);
        survey.marks.raise(header.marks);
        let index = &mut survey.index;
        reader.chunk(header, bytes, |at, bytes, body| {
            index.record(codec::glance(&bytes[body])?, at);
            Ok(())
        })?;
    }
    reader.finish()?;
    Ok(survey)
}

/// Hands every live record to the caller, in the order of the log.
pub(super) fn load(
    log: &dyn Chunks,
    index: &Index,
    load: &mut dyn FnMut(Record),
) -> Result<(), Refusal> {
    let mut reader = Reader::default();
    for number in index.base()..index.end() {
        let bytes = log.read_next(number)?;
        let header = chunk::open(number, &bytes)?;
        reader.chunk(header, bytes, |at, bytes, body| {
            if index.is_live(&codec::glance(&bytes[body.clone()])?, at) {
                let record = codec::decode(bytes.slice(body))?;
                if !header.marks.cover(&record) {
                    return Err(Fault::Content(number).into());
                }
                load(record);
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// Turns chunks into records, and joins the pieces of a record that fills a run of chunks.
#[derive(Debug, Default)]
struct Reader {
    run: Option<Run>,
}

#[derive(Debug)]
struct Run {
    first: u64,
    pieces: u32,
    seen: u32,
    body: BytesMut,
}

impl Reader {
    /// Calls `visit` with the location of each record, the bytes that contain the record, and its
    /// range in them.
    fn chunk(
        &mut self,
        header: chunk::Header,
        bytes: Bytes,
        mut visit: impl FnMut(Location, &Bytes, Range<usize>) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let number = header.number;
        let fault = || Refusal::from(Fault::Content(number));
        match (header.kind, &mut self.run) {
            (Kind::Records, None) => {
                for (offset, length) in chunk::frames(&header, &bytes)? {
                    let body = usize::from(offset)..usize::from(offset) + usize::from(length);
                    visit(Location::frame(number, offset, length), &bytes, body)?;
                }
                return Ok(());
            }
            (Kind::RunStart, None) if header.count > 0 => {
                let body = BytesMut::from(&bytes[HEADER_BYTES..]);
                self.run = Some(Run { first: number, pieces: header.count, seen: 1, body });
            }
            (Kind::RunPiece, Some(run)) if header.count == run.seen => {
                run.body.extend_from_slice(&bytes[HEADER_BYTES..]);
                run.seen += 1;
            }
            _ => return Err(fault()),
        }
        if let Some(run) = self.run.take_if(|run| run.seen == run.pieces) {
            let body = run.body.freeze();
            visit(Location::run(run.first), &body, 0..body.len())?;
        }
        Ok(())
    }

    /// The log must not end inside a run.
    fn finish(self) -> Result<(), Refusal> {
        match self.run {
            None => Ok(()),
            Some(run) => {
                Err(format!("the record that starts in chunk {} has no end", run.first).into())
            }
        }
    }
}
