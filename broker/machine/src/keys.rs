//! The keys by which the modules of the machine name each other's entries. The holder of a key
//! looks the entry up in the table that made the key. The keys of tasks (`Slot`, `TaskKey`) are in
//! the records.

/// A session of this process. A key is never used again.
pub(crate) type SessionKey = u64;

/// The number of a queue that exists.
pub(crate) type QueueKey = u32;

/// The number of a task name in use.
pub(crate) type NameKey = u32;

/// One unanswered wait.
pub(crate) type WaitKey = u64;

/// A mailbox of this process. A key is never used again.
pub(crate) type MailboxKey = u64;
