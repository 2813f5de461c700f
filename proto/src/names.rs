//! The names of the protocol as parsed types: a value of one of these types has been checked.
//!
//! Any UTF-8 text of 1 to 255 bytes is a name, including control characters and spaces. Ids are
//! tokens, URLs and keys of other systems, and the broker never splits them. A program that prints
//! a name must escape it; this module does not.

use std::fmt;
use std::ops::Deref;

use crate::limits::NAME_BYTES_MAX;

/// Why a text is not a name: it is empty, or longer than [`NAME_BYTES_MAX`] bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidName {
    /// The text is empty; the field says which kind of name was expected.
    #[error("a {0} must not be empty")]
    Empty(&'static str),
    /// The text has more than [`NAME_BYTES_MAX`] bytes; the second field is its number of bytes.
    #[error("a {0} has at most {NAME_BYTES_MAX} bytes, this one has {1}")]
    TooLong(&'static str, usize),
}

fn check(what: &'static str, text: &str) -> Result<(), InvalidName> {
    match text.len() {
        0 => Err(InvalidName::Empty(what)),
        1..=NAME_BYTES_MAX => Ok(()),
        bytes => Err(InvalidName::TooLong(what, bytes)),
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Box<str>);

        impl $name {
            /// Checks the length of a text and takes the text as it is. Any UTF-8 text of 1 to 255
            /// bytes is right.
            ///
            /// # Errors
            /// [`InvalidName`] for a text that is empty or too long.
            ///
            /// ```
            #[doc = concat!("use celeriac_proto::", stringify!($name), ";")]
            ///
            #[doc = concat!("let name = ", stringify!($name), "::parse(\"songs/1\")?;")]
            /// assert_eq!(name.as_str(), "songs/1");
            #[doc = concat!("assert!(", stringify!($name), "::parse(\"\").is_err());")]
            /// # Ok::<(), celeriac_proto::InvalidName>(())
            /// ```
            pub fn parse(text: impl Into<Box<str>>) -> Result<Self, InvalidName> {
                let text = text.into();
                check($what, &text)?;
                Ok(Self(text))
            }

            /// Checks a text as [`Self::parse`] does, without taking it.
            ///
            /// # Errors
            /// The same as [`Self::parse`].
            pub fn check(text: &str) -> Result<(), InvalidName> {
                check($what, text)
            }

            /// The text, exactly as it was parsed.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Deref for $name {
            type Target = str;
            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl TryFrom<&str> for $name {
            type Error = InvalidName;
            fn try_from(text: &str) -> Result<Self, InvalidName> {
                Self::parse(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, InvalidName> {
                Self::parse(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.into_string()
            }
        }
    };
}

name!(
    /// The id of a task. Its producer chooses it, and it is unique in the broker.
    TaskId,
    "task id"
);
name!(
    /// The name of the code that a task runs, e.g. `songs.cluster`. Workers say which names they
    /// can run.
    TaskName,
    "task name"
);
name!(
    /// The name of a queue, where tasks wait for workers. Its default is `default`.
    QueueName,
    "queue name"
);

name!(
    /// The name of a mailbox, where messages wait for the programs that read them.
    MailboxName,
    "mailbox name"
);
name!(
    /// The name of an exchange, which leads messages to mailboxes and to queues.
    ExchangeName,
    "name of an exchange"
);
/// The name of an ended task that never ran: a client put its outcome.
pub const OUTCOME_TASK_NAME: &str = "celeriac.outcome";

/// The name of an ended task that never ran: a client put a progress, and another outcome may take
/// its place.
pub const PROGRESS_TASK_NAME: &str = "celeriac.progress";

/// The name of an ended task that never ran: the part of a chord that one member returned.
pub const CHORD_PART_TASK_NAME: &str = "celeriac.chord-part";

/// The name of an ended task that never ran: it stands for a member that was added to a chord.
pub const CHORD_MEMBER_TASK_NAME: &str = "celeriac.chord-member";

/// The task names that no producer may submit.
pub const RESERVED_TASK_NAMES: [&str; 4] =
    [OUTCOME_TASK_NAME, PROGRESS_TASK_NAME, CHORD_PART_TASK_NAME, CHORD_MEMBER_TASK_NAME];

/// The queue of ended tasks that never ran.
pub const OUTCOMES_QUEUE: &str = "celeriac.outcomes";

impl Default for QueueName {
    fn default() -> Self {
        Self("default".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_1_to_255_bytes() {
        assert_eq!(TaskId::parse(""), Err(InvalidName::Empty("task id")));
        assert!(TaskId::parse("a".repeat(255)).is_ok());
        assert_eq!(TaskId::parse("ä".repeat(128)), Err(InvalidName::TooLong("task id", 256)));
    }

    #[test]
    fn any_text_is_a_name_and_stays_as_it_was() {
        for text in ["a b", "ä/🎵", "line\nbreak", "\0", "https://example.org/?song=1#x"] {
            assert_eq!(TaskName::parse(text).expect(text).as_str(), text);
        }
    }
}
