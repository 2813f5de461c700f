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

    /// The number and the tasks in words: `7 unfinished tasks`.
    pub(crate) fn of(self, kind: &str) -> String {
        match self {
            Self::Exactly(1) => format!("1 {kind} task"),
            Self::Exactly(count) => format!("{count} {kind} tasks"),
            Self::MoreThan(count) => format!("more than {count} {kind} tasks"),
            Self::Unknown => format!("every {kind} task"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_in_words_as_exact_as_it_is_known() {
        let words = |count: TaskCount| count.of("dead");
        assert_eq!(words(TaskCount::Exactly(0)), "0 dead tasks");
        assert_eq!(words(TaskCount::Exactly(1)), "1 dead task");
        assert_eq!(words(TaskCount::Exactly(7)), "7 dead tasks");
        assert_eq!(words(TaskCount::MoreThan(10_000)), "more than 10000 dead tasks");
        assert_eq!(words(TaskCount::Unknown), "every dead task");
    }
}
