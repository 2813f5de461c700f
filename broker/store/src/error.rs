//! The errors of the store. There are few kinds. Each kind ends the process with its own exit code,
//! and each sentence says what happened and what to do. The store never retries after an error.

use std::io;
use std::path::PathBuf;

/// Why the store cannot be opened, or can no longer be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another broker has the folder open.
    #[error("the data folder {} is in use by another broker; stop that one or choose another folder", folder.display())]
    Locked {
        /// The data folder.
        folder: PathBuf,
    },
    /// A newer broker wrote the folder.
    #[error(
        "the data folder {} has format {found}, this broker knows formats up to {known}; start the newer broker again",
        folder.display()
    )]
    NewerFormat {
        /// The data folder.
        folder: PathBuf,
        /// The format of the folder.
        found: u32,
        /// The newest format this program reads.
        known: u32,
    },
    /// The folder holds other files than this store's.
    #[error("{} is not a Celeriac data folder: {reason}; choose another folder", folder.display())]
    Foreign {
        /// The data folder.
        folder: PathBuf,
        /// The reason.
        reason: String,
    },
    /// The folder for a restore holds something, or lies in a wrong place.
    #[error("{} {reason}", folder.display())]
    Occupied {
        /// The folder.
        folder: PathBuf,
        /// What is wrong with it and what to do, as the rest of the sentence.
        reason: String,
    },
    /// A restore has not ended: only a part of a backup may be there.
    #[error(
        "a restore into {} was interrupted, so only a part of the backup is there; restore the backup into this folder again",
        folder.display()
    )]
    HalfRestored {
        /// The folder.
        folder: PathBuf,
    },
    /// Bytes are wrong or missing. The broker refuses the folder, because it must not serve only a
    /// part of the confirmed tasks.
    #[error(
        "the data folder {} is damaged: {reason}; nothing is served from it; bring back the folder from a backup",
        folder.display()
    )]
    Damaged {
        /// The data folder.
        folder: PathBuf,
        /// The damage.
        reason: String,
    },
    /// Bytes of a backup are wrong or missing.
    #[error("the backup {} is damaged: {reason}; restore another one", folder.display())]
    DamagedBackup {
        /// The folder of the backup.
        folder: PathBuf,
        /// The damage.
        reason: String,
    },
    /// The disk has too little room for a start.
    #[error(
        "the disk of the data folder {} is full: {free_bytes} bytes are free and starting needs {needed_bytes}; make room",
        folder.display()
    )]
    DiskFull {
        /// The data folder.
        folder: PathBuf,
        /// Free bytes.
        free_bytes: u64,
        /// Bytes that a start may need.
        needed_bytes: u64,
    },
    /// The disk had no room for a write of a start.
    #[error("cannot {doing}: {source}; make room, then start the broker again")]
    Full {
        /// The failed action, with the path.
        doing: String,
        /// The system's error.
        source: io::Error,
    },
    /// A file or folder cannot be made, found, read or locked, because its path or its permissions
    /// are wrong.
    #[error("cannot {doing}: {source}; give this user access to it, or choose another place")]
    Inaccessible {
        /// The failed action, with the path.
        doing: String,
        /// The system's error.
        source: io::Error,
    },
    /// The operating system gives this process too few descriptors or threads, or too little
    /// memory.
    #[error(
        "cannot {doing}: {source}; raise what this process may have (`ulimit -n`, `ulimit -u`, `ulimit -v`)"
    )]
    Limited {
        /// The failed action, with the path.
        doing: String,
        /// The system's error.
        source: io::Error,
    },
    /// The disk has too little room for a copy of the data.
    #[error(
        "the copy in {} needs {needed_bytes} bytes and {free_bytes} are free; make room, or choose another place",
        place.display()
    )]
    NoRoom {
        /// The place of the copy.
        place: PathBuf,
        /// Free bytes at that place.
        free_bytes: u64,
        /// Bytes that the copy may need.
        needed_bytes: u64,
    },
    /// The operating system refused a read or a write.
    #[error("cannot {doing}: {source}; check the disk, then start the broker again")]
    Io {
        /// The failed action.
        doing: String,
        /// The system's error.
        source: io::Error,
    },
    /// sled reported an error. sled accepts nothing after an error.
    #[error(
        "the storage engine failed to {doing}: {reason}; check the disk, then start the broker again"
    )]
    Engine {
        /// The failed action.
        doing: &'static str,
        /// The reason, in our words.
        reason: String,
    },
    /// A flush returned without a sync of the file: a power cut would lose confirmed tasks.
    #[error(
        "a flush did not sync the data file; this program was linked wrongly and must not be used, build it again"
    )]
    NotSynced,
    /// Reads do not go through the function that watches them: a failed read during a start would
    /// lose everything.
    #[error(
        "failed reads are not noticed; this program was linked wrongly and must not be used, build it again"
    )]
    NotWatched,
    /// An earlier error of this store; see the log for it.
    #[error("the store failed before ({reason}) and accepts nothing more; start the broker again")]
    Failed {
        /// The sentence of the first error.
        reason: String,
    },
}

impl Error {
    /// The exit code of a broker that ends with this error.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Locked { .. } => 11,
            Self::NewerFormat { .. } => 12,
            Self::Damaged { .. } | Self::DamagedBackup { .. } => 13,
            Self::DiskFull { .. } | Self::Full { .. } | Self::NoRoom { .. } => 14,
            Self::Io { .. } | Self::Engine { .. } | Self::Failed { .. } => 15,
            Self::NotSynced | Self::NotWatched => 16,
            Self::Foreign { .. } | Self::Inaccessible { .. } => 17,
            Self::Occupied { .. } | Self::HalfRestored { .. } => 17,
            Self::Limited { .. } => 1,
        }
    }

    /// The error as a start reports it: a disk without room needs no check of the disk.
    pub(crate) fn of_start(self) -> Self {
        use io::ErrorKind as K;
        match self {
            Self::Io { doing, source }
                if matches!(source.kind(), K::StorageFull | K::QuotaExceeded) =>
            {
                Self::Full { doing, source }
            }
            error => error,
        }
    }

    /// Makes the error for a refusal of the operating system, by its kind: a path or a permission,
    /// a limit of this process, or the disk.
    pub fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |source| {
            let doing = doing.into();
            match kind_of(&source) {
                Kind::Place => Self::Inaccessible { doing, source },
                Kind::Limit => Self::Limited { doing, source },
                Kind::Disk => Self::Io { doing, source },
            }
        }
    }
}

enum Kind {
    Place,
    Limit,
    Disk,
}

fn kind_of(error: &io::Error) -> Kind {
    use io::ErrorKind as K;
    match (error.raw_os_error(), error.kind()) {
        (Some(libc::EMFILE | libc::ENFILE), _) | (_, K::OutOfMemory | K::WouldBlock) => Kind::Limit,
        (Some(libc::ELOOP | libc::ENXIO), _) => Kind::Place,
        (
            _,
            K::NotFound
            | K::PermissionDenied
            | K::AlreadyExists
            | K::NotADirectory
            | K::IsADirectory,
        ) => Kind::Place,
        (_, K::InvalidInput | K::InvalidFilename | K::ReadOnlyFilesystem | K::ResourceBusy) => {
            Kind::Place
        }
        _ => Kind::Disk,
    }
}
