//! How many tasks match a filter, for a question before they are changed. The broker lists them for
//! that, so there is a limit: a person who asks for more than this knows enough.

use std::time::Duration;

use celeriac_client::{Client, TaskFilter};

/// The most tasks that are counted.
const COUNT_MAX: u64 = 10_000;
/// The tasks of one request.
const PAGE_TASKS: u32 = 1_000;
/// A person waits for the question.
const TIME_MAX: Duration = Duration::from_secs(2);

/// A number with its noun: `1 task`, `2 tasks`.
pub(crate) fn counted(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// A number of tasks, as far as they were counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TaskCount {
    Exactly(u64),
    MoreThan(u64),
    /// The broker did not answer in time.
    Unknown,
}

/// Counts the tasks that match.
pub(crate) async fn count(client: &Client, filter: &TaskFilter) -> TaskCount {
    let mut counted = TaskCount::Unknown;
    let counting = async {
        let (mut count, mut cursor) = (0, None);
        // An error is no reason to ask without a number: the request that follows reports it.
        while let Ok(page) = client.tasks(filter.clone(), PAGE_TASKS, cursor).await {
            count += page.tasks.len() as u64;
            cursor = page.cursor;
            if cursor.is_none() {
                counted = TaskCount::Exactly(count);
                break;
            }
            if count > 0 {
                counted = TaskCount::MoreThan(count - 1);
            }
            if count > COUNT_MAX {
                counted = TaskCount::MoreThan(COUNT_MAX);
                break;
            }
        }
    };
    // What was counted by then is known.
    let _ = tokio::time::timeout(TIME_MAX, counting).await;
    counted
}

impl TaskCount {
    /// With one task more that the filter does not find.
    pub(crate) fn and_one(self) -> Self {
        match self {
            Self::Exactly(count) => Self::Exactly(count + 1),
            Self::MoreThan(count) => Self::MoreThan(count),
            Self::Unknown => Self::Unknown,
        }
    }

    /// The count behind the words for the tasks: `every dead task (7 now)`.
    pub(crate) fn in_brackets(self) -> String {
        match self {
            Self::Exactly(count) => format!(" ({count} now)"),
            Self::MoreThan(count) => format!(" (more than {count} now)"),
            Self::Unknown => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_as_exact_as_it_is_known() {
        assert_eq!(TaskCount::Exactly(6).and_one().in_brackets(), " (7 now)");
        assert_eq!(TaskCount::MoreThan(10_000).and_one().in_brackets(), " (more than 10000 now)");
        assert_eq!(TaskCount::Unknown.and_one().in_brackets(), "");
    }
}
