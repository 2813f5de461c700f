//! Which tasks a listing, a replay or a discard is about: the flags that `tasks` and `dead` share.

use std::time::{Duration, SystemTime};

use celeriac_client::TaskFilter;
use celeriac_proto::{QueueName, TaskName};
use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use crate::submit::{parse_name, parse_queue};
use crate::time::parse_span;

/// A task must match everything that is given.
#[derive(Args)]
pub(crate) struct Filter {
    /// In this queue
    #[arg(long, value_parser = parse_queue)]
    queue: Option<QueueName>,

    /// That run this, e.g. songs.cluster
    #[arg(long, value_parser = parse_name)]
    name: Option<TaskName>,

    /// With this tag
    // Empty, these would stand for all tasks: what a script's unset variable must not do.
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    tag: Option<String>,

    /// Of the tree that began with this task
    #[arg(long, value_parser = NonEmptyStringValueParser::new(), value_name = "ID")]
    root: Option<String>,

    /// Whose id begins so
    #[arg(long, value_parser = NonEmptyStringValueParser::new(), value_name = "PREFIX")]
    id_prefix: Option<String>,

    /// Submitted longer ago than this
    #[arg(long, value_parser = parse_span, value_name = "SPAN")]
    older_than: Option<Duration>,

    /// Submitted more recently than this
    #[arg(long, value_parser = parse_span, value_name = "SPAN")]
    newer_than: Option<Duration>,
}

impl Filter {
    /// The filter for the broker. Ages count from now, on the clock of this machine.
    pub(crate) fn to_client(&self) -> TaskFilter {
        let now = SystemTime::now();
        // A span that reaches back before 1970 reaches to the first task.
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
