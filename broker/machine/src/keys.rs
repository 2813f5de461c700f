//! The keys by which the parts of the machine name each other's things. A key says nothing of what
//! it stands for: whoever holds one asks the table that gave it out. Keys of tasks (`Slot`,
//! `TaskKey`) are in the records.

/// A session of this process; never used again.
pub(crate) type SessionKey = u64;

/// A queue that exists.
pub(crate) type QueueKey = u32;

/// A task name that is in use.
pub(crate) type NameKey = u32;

/// One unanswered wait.
pub(crate) type WaitKey = u64;
