//! `/api/v1`, by subject. Each path is one request to the broker and its answer, with the names
//! that the command line prints with `--json`.

mod body;
pub(crate) mod broker;
pub(crate) mod dead;
pub(crate) mod endings;
pub(crate) mod events;
pub(crate) mod filter;
pub(crate) mod queues;
pub(crate) mod tasks;
pub(crate) mod workers;

pub(crate) use self::body::{BodyRoom, Unread};
pub(crate) use self::events::answer as stream_answer;
