//! The names of the model: its ids, keys, queues and names of tasks are numbers.

use celeriac_proto::{QueueName, TaskId, TaskName};

use super::{BESIDE, IDS};

/// The ids from `BESIDE` on are those of tasks that run beside another: see [`beside`].
pub(super) fn id_of(id: u8) -> TaskId {
    let text = match id.checked_sub(BESIDE) {
        None => format!("task-{id}"),
        Some(beside) => format!("task-{}~{}", beside % IDS, key_of(beside / IDS)),
    };
    TaskId::parse(text).expect("the text is an id")
}

pub(super) fn number_of(id: &str) -> u8 {
    let number = |id: &str| id.trim_start_matches("task-").parse().expect("an id of this test");
    match id.split_once('~') {
        None => number(id),
        Some((id, key)) => {
            let key = key.trim_start_matches("key-").parse().expect("a key of this test");
            beside(number(id), key)
        }
    }
}

/// The task that was submitted with this key and runs beside the task of this id.
pub(super) fn beside(id: u8, key: u8) -> u8 {
    BESIDE + key * IDS + id
}

pub(super) fn key_of(key: u8) -> String {
    format!("key-{key}")
}

pub(super) fn queue_of(queue: u8) -> QueueName {
    QueueName::parse(["one", "two"][usize::from(queue)]).expect("the text is a name")
}

pub(super) fn name_of(name: u8) -> TaskName {
    TaskName::parse(["job", "song"][usize::from(name)]).expect("the text is a name")
}
