//! The segments of the journal as files of the data folder: `journal.0`, `journal.1`, and so on.
//!
//! The first page of each file says which journal the file belongs to. A new file gets its name
//! when it is complete. Files become longer with zeros that are written and synced first, so that a
//! commit changes nothing but bytes that are there, which is the fastest kind of sync.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::JournalConfig;
use super::files::{PRIVATE_FILE, sync_folder};
use super::folder::{Folder, room_in};
use super::note::NOTE_BYTES;
use super::sync::sync_data;
use super::watch::{NOTES_BYTES, open_notes, read_notes, was_cut, was_replaced};
use crate::error::Error;
use crate::journal::{PAGE_BYTES, Segments};

/// With less free room than so many segments take, the journal does not grow.
const GROWTH_ROOM_SEGMENTS: u64 = 4;
const HEADER_MAGIC: [u8; 8] = *b"CELJOURN";
const HEADER_SUMMED_BYTES: usize = 20;
const NOTE_MAGIC: [u8; 8] = *b"CELJNOTE";
const NOTE_SUMMED_BYTES: usize = 24;
/// No segment that a broker makes is longer. A longer file is not read, because it may not fit into
/// memory.
const FILE_BYTES_MAX: u64 = 1 << 30;
/// A file that does not have its name yet.
const UNFINISHED: &str = "journal.new";

/// The files of a journal.
pub(super) struct SegmentFiles {
    folder: PathBuf,
    /// The same folder, for short ways to its files.
    opened: File,
    mark: u64,
    config: JournalConfig,
    files: RwLock<Vec<Arc<SegmentFile>>>,
    /// The note of the broker before.
    noted: u64,
    /// Whether the notes of the broker before have their place in `durable`.
    has_notes: bool,
    notes: Mutex<Notes>,
}

/// The notes on the journal in the file `durable`.
#[derive(Default)]
struct Notes {
    file: Option<File>,
    /// The number of notes so far.
    count: u64,
}

struct SegmentFile {
    name: String,
    path: PathBuf,
    file: File,
    device: u64,
    inode: u64,
    bytes: AtomicU32,
}

impl SegmentFiles {
    /// Makes a new journal, in place of files that an interrupted start has left.
    pub(super) fn make(folder: &Folder, config: JournalConfig) -> Result<Self, Error> {
        for name in folder.names(folder.path())? {
            if is_segment(&name) {
                fs::remove_file(folder.path().join(&name))
                    .map_err(folder.io("remove the leftover", &name))?;
            }
        }
        let notes = open_notes(folder.path())?;
        notes
            .write_all_at(&[0; 2 * NOTE_BYTES], 2 * NOTE_BYTES as u64)
            .and_then(|()| notes.sync_all())
            .map_err(folder.io("write", "durable"))?;
        let (mark, _) = uuid::Uuid::new_v4().as_u64_pair();
        let segments = Self {
            folder: folder.path().to_owned(),
            opened: open_folder(folder)?,
            mark,
            config,
            files: RwLock::default(),
            noted: 0,
            has_notes: true,
            notes: Mutex::default(),
        };
        segments.add(PAGE_BYTES as u32)?;
        Ok(segments)
    }

    /// Opens the journal of a folder. With a `config` for writing, without one only for reading;
    /// either changes nothing.
    pub(super) fn open(folder: &Folder, config: Option<JournalConfig>) -> Result<Self, Error> {
        let names = folder.names(folder.path())?;
        let is_stray = |name: &&String| is_finished_segment(name) && number_of(name).is_none();
        if let Some(stray) = names.iter().find(is_stray) {
            let reason = format!("it holds `{stray}`, which is no file of its journal");
            return Err(folder.damaged(reason));
        }
        let count = names.iter().filter(|name| is_finished_segment(name)).count();
        let notes = read_notes(folder)?;
        let has_notes = notes.len() as u64 >= NOTES_BYTES;
        let (noted, notes) = latest_note(&notes);
        let mut segments = Self {
            folder: folder.path().to_owned(),
            opened: open_folder(folder)?,
            mark: 0,
            config: config.unwrap_or_default(),
            files: RwLock::default(),
            noted,
            has_notes,
            notes: Mutex::new(Notes { file: None, count: notes }),
        };
        for segment in 0..count.max(1) as u32 {
            let name = name_of(segment);
            if !names.contains(&name) {
                return Err(folder.damaged(format!("its file `{name}` is missing")));
            }
            segments.open_next(folder, segment, config.is_some())?;
        }
        Ok(segments)
    }

    /// Whether the notes of the broker before have their place. Without them nobody knows how far
    /// the journal was confirmed.
    pub(super) fn has_notes(&self) -> bool {
        self.has_notes
    }

    fn open_next(&mut self, folder: &Folder, segment: u32, writes: bool) -> Result<(), Error> {
        let name = name_of(segment);
        let path = folder.path().join(&name);
        let opened = OpenOptions::new().read(true).write(writes).open(&path);
        let file = opened.map_err(folder.io("open", &name))?;
        let found = file.metadata().map_err(folder.io("look at", &name))?;
        if found.len() > FILE_BYTES_MAX {
            let reason = format!("its file `{name}` is longer than any part of a journal");
            return Err(folder.damaged(reason));
        }
        let mut header = [0; HEADER_SUMMED_BYTES + 4];
        let read = file.read_at(&mut header, 0).map_err(folder.io("read", &name))?;
        let mark = (read == header.len()).then(|| parse_header(&header, segment)).flatten();
        match mark {
            Some(mark) if segment == 0 || mark == self.mark => self.mark = mark,
            Some(_) => {
                return Err(folder.damaged(format!("its file `{name}` is of another journal")));
            }
            None => return Err(folder.damaged(format!("its file `{name}` has a broken header"))),
        }
        // Only a file that was cut has another length than whole pages.
        let bytes = found.len() / PAGE_BYTES as u64 * PAGE_BYTES as u64;
        let file =
            SegmentFile::new(path, file, bytes as u32).map_err(folder.io("look at", &name))?;
        self.files.get_mut().expect("nothing panics with this lock").push(Arc::new(file));
        Ok(())
    }

    fn file(&self, segment: u32) -> Arc<SegmentFile> {
        self.files.read().expect("nothing panics with this lock")[segment as usize].clone()
    }

    /// Adds the next file.
    fn add(&self, bytes: u32) -> Result<(), Error> {
        let segment = self.count();
        let (unfinished, path) = (self.folder.join(UNFINISHED), self.folder.join(name_of(segment)));
        let doing = || format!("make {}", path.display());
        let make = || {
            let mut options = OpenOptions::new();
            options.create(true).truncate(true).read(true).write(true).mode(PRIVATE_FILE);
            let file = options.open(&unfinished)?;
            let mut content = vec![0; bytes as usize];
            content[..HEADER_SUMMED_BYTES + 4].copy_from_slice(&header(self.mark, segment));
            file.write_all_at(&content, 0)?;
            file.sync_all()?;
            fs::rename(&unfinished, &path)?;
            Ok(file)
        };
        let file = make().map_err(Error::io(doing()))?;
        sync_folder(&self.folder)?;
        let file = SegmentFile::new(path.clone(), file, bytes).map_err(Error::io(doing()))?;
        self.files.write().expect("nothing panics with this lock").push(Arc::new(file));
        Ok(())
    }
}

impl SegmentFile {
    fn new(path: PathBuf, file: File, bytes: u32) -> io::Result<Self> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (found, bytes) = (file.metadata()?, AtomicU32::new(bytes));
        Ok(Self { name, path, file, device: found.dev(), inode: found.ino(), bytes })
    }

    /// What has happened to the file since it was opened, if the next start would miss something.
    fn harm(&self, folder: &File) -> io::Result<Option<String>> {
        let found = match rustix::fs::statat(folder, &self.name, AtFlags::empty()) {
            Ok(found) if (found.st_dev, found.st_ino) == (self.device, self.inode) => found,
            Ok(_) | Err(Errno::NOENT) => return Ok(Some(was_replaced(&self.name))),
            Err(error) => return Err(error.into()),
        };
        let is_short = found.st_size < i64::from(self.bytes.load(Ordering::Acquire));
        Ok(is_short.then(|| was_cut(&self.name)))
    }

    fn doing(&self, what: &str) -> String {
        format!("{what} {}", self.path.display())
    }
}

impl Segments for SegmentFiles {
    fn mark(&self) -> u64 {
        self.mark
    }

    fn count(&self) -> u32 {
        self.files.read().expect("nothing panics with this lock").len() as u32
    }

    fn bytes(&self, segment: u32) -> u32 {
        self.file(segment).bytes.load(Ordering::Acquire)
    }

    fn bytes_max(&self) -> u32 {
        self.config.segment_bytes
    }

    fn count_max(&self) -> u32 {
        self.config.segments
    }

    fn read(&self, segment: u32, offset: u32, buffer: &mut [u8]) -> Result<(), Error> {
        let file = self.file(segment);
        file.file.read_exact_at(buffer, u64::from(offset)).map_err(Error::io(file.doing("read")))
    }

    fn inspect(&self) -> Result<(), Error> {
        for file in &*self.files.read().expect("nothing panics with this lock") {
            let harm = file.harm(&self.opened).map_err(Error::io(file.doing("look at")))?;
            if let Some(reason) = harm {
                return Err(Error::Damaged { folder: self.folder.clone(), reason });
            }
        }
        Ok(())
    }

    fn write(&self, segment: u32, offset: u32, bytes: &[u8]) -> Result<(), Error> {
        let file = self.file(segment);
        file.file.write_all_at(bytes, u64::from(offset)).map_err(Error::io(file.doing("write")))
    }

    fn sync(&self, segment: u32) -> Result<(), Error> {
        let file = self.file(segment);
        sync_data(&file.file).map_err(Error::io(file.doing("sync")))
    }

    fn grow(&self, segment: u32, bytes: u32) -> Result<(), Error> {
        if segment == self.count() {
            return self.add(bytes);
        }
        let file = self.file(segment);
        let present = file.bytes.load(Ordering::Acquire);
        let zeros = vec![0; bytes.saturating_sub(present) as usize];
        let grown =
            file.file.write_all_at(&zeros, u64::from(present)).and_then(|()| file.file.sync_all());
        grown.map_err(Error::io(file.doing("enlarge")))?;
        file.bytes.fetch_max(bytes, Ordering::AcqRel);
        Ok(())
    }

    fn may_grow(&self) -> bool {
        let needed = GROWTH_ROOM_SEGMENTS * u64::from(self.config.segment_bytes);
        room_in(&self.folder).is_ok_and(|room| room.free_bytes >= needed)
    }

    fn note(&self, sequence: u64) -> Result<(), Error> {
        let doing = || format!("write {}", self.folder.join("durable").display());
        let Notes { file, count } = &mut *self.notes.lock().expect("nothing panics with this lock");
        let file = match file {
            Some(file) => file,
            None => file.insert(open_notes(&self.folder)?),
        };
        *count += 1;
        let place = (2 + *count % 2) * NOTE_BYTES as u64;
        file.write_all_at(&note(sequence, *count), place).map_err(Error::io(doing()))
    }

    fn noted(&self) -> u64 {
        self.noted
    }
}

fn open_folder(folder: &Folder) -> Result<File, Error> {
    File::open(folder.path()).map_err(Error::io(format!("open {}", folder.path().display())))
}

pub(super) fn is_segment(name: &str) -> bool {
    name.starts_with("journal.")
}

pub(super) fn is_finished_segment(name: &str) -> bool {
    is_segment(name) && name != UNFINISHED
}

/// The number of the segment of this name.
fn number_of(name: &str) -> Option<u32> {
    let number = name.strip_prefix("journal.")?.parse().ok()?;
    (name == name_of(number)).then_some(number)
}

fn name_of(segment: u32) -> String {
    format!("journal.{segment}")
}

fn header(mark: u64, segment: u32) -> [u8; HEADER_SUMMED_BYTES + 4] {
    let mut bytes = [0; HEADER_SUMMED_BYTES + 4];
    bytes[..8].copy_from_slice(&HEADER_MAGIC);
    bytes[8..16].copy_from_slice(&mark.to_le_bytes());
    bytes[16..20].copy_from_slice(&segment.to_le_bytes());
    let sum = crc32c::crc32c(&bytes[..HEADER_SUMMED_BYTES]);
    bytes[HEADER_SUMMED_BYTES..].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// The mark of the journal, if these bytes are the header of this segment.
fn parse_header(bytes: &[u8], segment: u32) -> Option<u64> {
    let mark = u64::from_le_bytes(bytes.get(8..16)?.try_into().ok()?);
    (bytes == header(mark, segment)).then_some(mark)
}

/// A note that all blocks up to this one are durable. Notes are counted, and take turns.
fn note(sequence: u64, count: u64) -> [u8; NOTE_BYTES] {
    let mut bytes = [0; NOTE_BYTES];
    bytes[..8].copy_from_slice(&NOTE_MAGIC);
    bytes[8..16].copy_from_slice(&sequence.to_le_bytes());
    bytes[16..24].copy_from_slice(&count.to_le_bytes());
    let sum = crc32c::crc32c(&bytes[..NOTE_SUMMED_BYTES]);
    bytes[NOTE_SUMMED_BYTES..NOTE_SUMMED_BYTES + 4].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// The block of the latest whole note, and the count of that note.
fn latest_note(notes: &[u8]) -> (u64, u64) {
    let parse = |bytes: &[u8]| {
        let sequence = u64::from_le_bytes(bytes.get(8..16)?.try_into().ok()?);
        let count = u64::from_le_bytes(bytes.get(16..24)?.try_into().ok()?);
        (bytes == note(sequence, count)).then_some((sequence, count))
    };
    notes.chunks(NOTE_BYTES).filter_map(parse).max_by_key(|(_, count)| *count).unwrap_or_default()
}
