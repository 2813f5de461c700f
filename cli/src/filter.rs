//! The options of `tasks` and `dead` that choose tasks.

use std::time::{Duration, SystemTime};

use celeriac_client::TaskFilter;
use celeriac_proto::{QueueName, TaskName};
use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use crate::arguments::{parse_name, parse_queue};
use crate::time::parse_span;

/// A task matches the filter if it matches every given option.
#[derive(Args)]
pub(crate) struct FilterOptions {
    /// Only tasks of this queue
    #[arg(long, value_parser = parse_queue)]
    queue: Option<QueueName>,

    /// Only tasks of this name, such as songs.cluster
    #[arg(long, value_parser = parse_name)]
    name: Option<TaskName>,

    /// Only tasks with this tag
    // An empty tag, root or prefix would match every task. A script with an unset variable must
    // not do that by mistake.
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    tag: Option<String>,

    /// Only tasks of the tree that began with this task
    #[arg(long, value_parser = NonEmptyStringValueParser::new(), value_name = "ID")]
    root: Option<String>,

    /// Only tasks whose id begins with this text
    #[arg(long, value_parser = NonEmptyStringValueParser::new(), value_name = "PREFIX")]
    id_prefix: Option<String>,

    /// Only tasks submitted longer ago than this
    #[arg(long, value_parser = parse_span, value_name = "SPAN")]
    older_than: Option<Duration>,

    /// Only tasks submitted more recently than this
    #[arg(long, value_parser = parse_span, value_name = "SPAN")]
    newer_than: Option<Duration>,
}

/// The times between which the filter selects tasks, by the clock of this machine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub(crate) after: SystemTime,
    pub(crate) before: SystemTime,
}

impl FilterOptions {
    /// The filter for the broker. The spans count back from now, on the clock of this machine.
    pub(crate) fn to_client(&self) -> TaskFilter {
        let times = self.times();
        let mut filter = TaskFilter::new();
        if let Some(queue) = &self.queue {
            filter = filter.queue(queue.as_str());
        }
        if let Some(name) = &self.name {
            filter = filter.name(name.as_str());
        }
        if let Some(tag) = &self.tag {
            filter = filter.tag(tag);
        }
        if let Some(root) = &self.root {
            filter = filter.root_id(root);
        }
        if let Some(prefix) = &self.id_prefix {
            filter = filter.id_prefix(prefix);
        }
        if self.older_than.is_some() {
            filter = filter.submitted_before(times.before);
        }
        if self.newer_than.is_some() {
            filter = filter.submitted_after(times.after);
        }
        filter
    }

    /// The times of the spans. Without a span it is the time of the oldest, or of the newest task.
    pub(crate) fn times(&self) -> Times {
        let now = SystemTime::now();
        // No task is older than 1970, so a longer span means the same as 1970.
        let ago = |span: Duration| {
            now.checked_sub(span).unwrap_or(SystemTime::UNIX_EPOCH).max(SystemTime::UNIX_EPOCH)
        };
        Times {
            after: self.newer_than.map_or(SystemTime::UNIX_EPOCH, ago),
            before: self.older_than.map_or(now, ago),
        }
    }
}
