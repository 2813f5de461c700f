//! The options of `tasks` and `dead` that choose tasks.

use std::time::{Duration, SystemTime};

use celeriac_client::TaskFilter;
use celeriac_proto::{QueueName, TaskName};
use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use crate::arguments::{parse_id, parse_name, parse_queue};
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
    // An empty tag or prefix would match every task. A script with an unset variable must
    // not do that by mistake.
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    tag: Option<String>,

    /// Only tasks of the tree that began with this task
    #[arg(long, value_parser = parse_id, value_name = "ID")]
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

impl FilterOptions {
    /// The filter for the broker. The spans count back from now, on the clock of this machine.
    pub(crate) fn to_client(&self) -> TaskFilter {
        let now = SystemTime::now();
        // No task is older than 1970, so a longer span means the same as 1970.
        let ago = |span: Duration| {
            now.checked_sub(span).unwrap_or(SystemTime::UNIX_EPOCH).max(SystemTime::UNIX_EPOCH)
        };
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
        if let Some(span) = self.older_than {
            filter = filter.submitted_before(ago(span));
        }
        if let Some(span) = self.newer_than {
            filter = filter.submitted_after(ago(span));
        }
        filter
    }
}
