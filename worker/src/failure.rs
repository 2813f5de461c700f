//! Why a handler failed, as the worker reports it to the broker: kind, message, traceback, and
//! whether another attempt makes sense. The task's retry policy decides when that attempt runs.

use std::any::type_name;
use std::error::Error;
use std::fmt::{self, Write as _};
use std::time::Duration;

use celeriac_proto::limits::{ERROR_TEXT_BYTES_MAX, NAME_BYTES_MAX, SPAN_MS_MAX};
use celeriac_proto::wire;

use crate::panics::fenced;

/// The most sources of an error that are reported.
const SOURCES_MAX: usize = 32;

/// Replaces the rest of a text whose `Display` failed.
const UNSHOWABLE: &str = "(the rest cannot be shown: its Display failed)";

/// Fills up a text that was cut, so that it counts as full. As long as the longest character.
const FULL: &str = "....";

/// The kind of a failure whose type has no useful name.
const KIND_UNNAMED: &str = "Error";

/// The failure of one attempt.
///
/// `?` converts every error to a `TaskFailure` that it can convert to a boxed error. The kind is
/// then the name of the error's type, and the message contains the chain of its sources. Such a
/// failure is retryable: the task runs again while its policy has attempts left.
///
/// ```
/// use celeriac_worker::TaskFailure;
///
/// fn parse(text: &str) -> Result<u64, TaskFailure> {
///     if text.is_empty() {
///         return Err(TaskFailure::fatal("EmptyText", "there is nothing to parse"));
///     }
///     Ok(text.parse::<u64>()?)
/// }
///
/// let failure = parse("ten").expect_err("no number");
/// assert_eq!(failure.kind(), "ParseIntError");
/// assert!(failure.is_retryable());
/// assert!(!parse("").expect_err("empty").is_retryable());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskFailure {
    kind: String,
    message: String,
    traceback: String,
    retryable: bool,
    retry_after: Option<Duration>,
    /// The worker cannot run the task now, and hands it back.
    handed_back: bool,
}

impl TaskFailure {
    /// A failure after which the task may run again, as its retry policy says. The failure keeps
    /// the first 255 bytes of the kind and the first 16 KiB of the message.
    pub fn new(kind: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            kind: cut(kind.into(), NAME_BYTES_MAX),
            message: cut(message.into(), ERROR_TEXT_BYTES_MAX),
            traceback: String::new(),
            retryable: true,
            retry_after: None,
            handed_back: false,
        }
    }

    /// A failure that another attempt would not fix: the task ends as a Failure, even if it has
    /// attempts left.
    pub fn fatal(kind: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(kind, message).without_retry()
    }

    /// Makes this failure final, as [`TaskFailure::fatal`] does.
    #[must_use]
    pub fn without_retry(mut self) -> Self {
        self.retryable = false;
        self.retry_after = None;
        self
    }

    /// Makes this failure retryable, with this delay before the next attempt in place of the
    /// policy's delay. The policy still bounds the number of attempts.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use celeriac_worker::TaskFailure;
    ///
    /// let failure = TaskFailure::new("Busy", "the service is busy")
    ///     .retry_after(Duration::from_secs(30));
    /// assert!(failure.is_retryable());
    /// ```
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.retryable = true;
        self.retry_after = Some(delay);
        self
    }

    /// Hands the task back in place of a failure, because this worker cannot run it now, for
    /// example for lack of memory. No attempt is counted, and the broker gives the task to any
    /// worker, this one included: wait a while before you hand a task back. The handler must not
    /// have begun its work.
    ///
    /// ```
    /// use celeriac_worker::TaskFailure;
    ///
    /// let failure = TaskFailure::hand_back("System", "there is no room for another process");
    /// assert!(failure.is_handed_back());
    /// ```
    pub fn hand_back(kind: impl Into<String>, message: impl Into<String>) -> Self {
        Self { handed_back: true, ..Self::new(kind, message) }
    }

    /// True for a task that is handed back, and has not failed.
    pub fn is_handed_back(&self) -> bool {
        self.handed_back
    }

    /// Adds a traceback for people to read. The failure keeps its first 16 KiB.
    #[must_use]
    pub fn with_traceback(mut self, traceback: impl Into<String>) -> Self {
        self.traceback = cut(traceback.into(), ERROR_TEXT_BYTES_MAX);
        self
    }

    /// The short name of the kind of failure, for example `ParseIntError` or `panic`.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The message for people.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The traceback; empty when there is none.
    pub fn traceback(&self) -> &str {
        &self.traceback
    }

    /// True when the task may run again.
    pub fn is_retryable(&self) -> bool {
        self.retryable
    }

    /// The report of this failure to the broker.
    pub(crate) fn into_report(self, attempt: u32, at_ms: i64) -> wire::task_report::Report {
        let error = wire::TaskError {
            kind: self.kind,
            message: self.message,
            traceback: self.traceback,
            at_ms,
            attempt,
            ..wire::TaskError::default()
        };
        match self.retry_after {
            Some(delay) => wire::task_report::Report::Retry(wire::RetryLater {
                after_ms: Some(
                    u64::try_from(delay.as_millis()).unwrap_or(u64::MAX).min(SPAN_MS_MAX),
                ),
                error: Some(error),
            }),
            None => wire::task_report::Report::Fail(wire::Fail {
                error: Some(error),
                r#final: !self.retryable,
                ..wire::Fail::default()
            }),
        }
    }
}

impl fmt::Display for TaskFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.message)
    }
}

/// `TaskFailure` itself does not implement `Error`; otherwise this conversion would overlap with
/// that of a type to itself.
impl<E> From<E> for TaskFailure
where
    E: Into<Box<dyn Error + Send + Sync>>,
{
    fn from(error: E) -> Self {
        let error: Box<dyn Error + Send + Sync> = error.into();
        let failure = Self::new(kind_of::<E>(), message_of(error.as_ref()));
        // A panic of the error's `drop` must not replace the failure.
        if let Err(panic) = fenced(move || drop(error)) {
            tracing::error!(
                kind = failure.kind,
                "an error panicked while it was dropped: {}",
                panic.message
            );
        }
        failure
    }
}

/// The last part of the type's path. The types of texts and boxes say nothing about the error.
fn kind_of<E>() -> &'static str {
    let path = type_name::<E>();
    let path = path.split('<').next().unwrap_or(path);
    match path.rsplit("::").next() {
        None | Some("" | "String" | "Box" | "&str") => KIND_UNNAMED,
        Some(name) => name,
    }
}

/// The text of an error and of its sources. Their code is the user's: a chain of sources may be a
/// circle, and a text may have no end.
fn message_of(error: &(dyn Error + 'static)) -> String {
    let mut message = text_of(error);
    let sources = std::iter::successors(source_of(error), |error| source_of(*error));
    for source in sources.take(SOURCES_MAX) {
        let text = text_of(source);
        // Some errors already print their source.
        if !message.ends_with(&text) {
            message.push_str(": ");
            message.push_str(&text);
        }
        if message.len() > ERROR_TEXT_BYTES_MAX {
            break;
        }
    }
    cut(message, ERROR_TEXT_BYTES_MAX)
}

fn source_of<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    fenced(|| error.source()).ok().flatten()
}

/// The text of a value, as far as a report holds it.
pub(crate) fn text_of(value: &(impl fmt::Display + ?Sized)) -> String {
    let mut text = Bounded(String::new());
    let shown = fenced(|| write!(text, "{value}")).unwrap_or(Err(fmt::Error));
    let Bounded(mut text) = text;
    if shown.is_err() && text.len() < ERROR_TEXT_BYTES_MAX {
        text.push_str(UNSHOWABLE);
    }
    cut(text, ERROR_TEXT_BYTES_MAX)
}

/// Takes text until it is full, and then tells the writer to stop.
struct Bounded(String);

impl fmt::Write for Bounded {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let room = ERROR_TEXT_BYTES_MAX.saturating_sub(self.0.len());
        self.0.push_str(&part[..part.floor_char_boundary(room)]);
        if part.len() <= room {
            return Ok(());
        }
        // The text is full now, whatever the length of the character that did not fit.
        self.0.push_str(FULL);
        Err(fmt::Error)
    }
}

/// Cuts a text between two characters, and frees the memory of the rest.
fn cut(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max));
        text.shrink_to_fit();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the song cannot be read")]
    struct Unreadable(#[source] std::num::ParseIntError);

    #[test]
    fn an_error_becomes_a_failure_with_its_type_and_its_sources() {
        let source = "ten".parse::<u64>().expect_err("no number");
        let failure = TaskFailure::from(Unreadable(source));
        assert_eq!(failure.kind(), "Unreadable");
        assert_eq!(failure.message(), "the song cannot be read: invalid digit found in string");
        assert!(failure.is_retryable());
    }

    /// Its source is itself.
    #[derive(Debug)]
    struct Circle;

    impl fmt::Display for Circle {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("round")
        }
    }

    impl Error for Circle {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&Turned)
        }
    }

    #[derive(Debug)]
    struct Turned;

    impl fmt::Display for Turned {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("and round")
        }
    }

    impl Error for Turned {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&Circle)
        }
    }

    #[test]
    fn a_circle_of_sources_has_an_end() {
        let failure = TaskFailure::from(Circle);
        assert_eq!(failure.message(), "round: and round");
    }

    #[test]
    fn a_text_without_an_end_is_cut_while_it_is_written() {
        struct Endless;
        impl fmt::Display for Endless {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                loop {
                    f.write_str("ä and so on ")?;
                }
            }
        }
        let text = text_of(&Endless);
        assert!(
            text.len() <= ERROR_TEXT_BYTES_MAX && text.len() > ERROR_TEXT_BYTES_MAX - 4,
            "{}",
            text.len()
        );
        let long = "ä".repeat(ERROR_TEXT_BYTES_MAX);
        assert_eq!(text_of(&long), long[..ERROR_TEXT_BYTES_MAX]);
    }

    #[test]
    fn a_display_that_fails_is_told_as_far_as_it_came() {
        struct Fails;
        impl fmt::Display for Fails {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("so far ")?;
                Err(fmt::Error)
            }
        }
        assert_eq!(text_of(&Fails), format!("so far {UNSHOWABLE}"));
    }

    /// All of its code panics.
    #[derive(Debug)]
    struct Wild;

    impl fmt::Display for Wild {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("wild ")?;
            panic!("while it is shown")
        }
    }

    impl Error for Wild {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            panic!("while its source is asked for")
        }
    }

    impl Drop for Wild {
        fn drop(&mut self) {
            panic!("while it is dropped")
        }
    }

    #[test]
    fn an_error_whose_code_panics_is_a_failure_of_its_kind() {
        let failure = TaskFailure::from(Wild);
        assert_eq!(
            (failure.kind(), failure.message()),
            ("Wild", format!("wild {UNSHOWABLE}").as_str())
        );
    }

    #[test]
    fn texts_and_boxed_errors_become_failures_too() {
        let from_text: TaskFailure = "no such song".into();
        assert_eq!((from_text.kind(), from_text.message()), ("Error", "no such song"));
        let boxed: Box<dyn Error + Send + Sync> = "no such song".into();
        assert_eq!(TaskFailure::from(boxed), from_text);
    }

    #[test]
    fn the_report_says_whether_and_when_to_try_again() {
        use wire::task_report::Report;
        let report = TaskFailure::new("Busy", "later").into_report(2, 7);
        let Report::Fail(fail) = report else { panic!("{report:?}") };
        let error = fail.error.expect("an error");
        assert_eq!((fail.r#final, error.attempt, error.at_ms), (false, 2, 7));
        let report = TaskFailure::fatal("Broken", "never").into_report(1, 0);
        assert!(matches!(report, Report::Fail(fail) if fail.r#final));
        let report =
            TaskFailure::new("Busy", "later").retry_after(Duration::from_secs(3)).into_report(1, 0);
        assert!(matches!(report, Report::Retry(retry) if retry.after_ms == Some(3_000)));
    }

    #[test]
    fn long_texts_are_cut_at_a_character() {
        assert_eq!(cut("ää".to_owned(), 3), "ä");
        assert_eq!(cut("ab".to_owned(), 2), "ab");
    }
}
