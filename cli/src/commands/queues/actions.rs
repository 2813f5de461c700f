//! The subcommands of `queues` that change a queue: pause, resume, purge, delete, set.

use std::collections::BTreeSet;
use std::time::Duration;

use celeriac_client::{Client, QueueInfo, QueueSettings};
use celeriac_proto::QueueName;
use celeriac_web::documents::QueueSettingsDocument;
use clap::{ArgGroup, Args, Subcommand};
use serde::Serialize;

use crate::arguments::{SharedOptions, parse_queue};
use crate::byte_size::parse_bytes;
use crate::confirm::ConfirmOptions;
use crate::connection::{connect, failure};
use crate::exit::{Exit, Failure};
use crate::output::{Format, Output};
use crate::queue_view::setting_rows;
use crate::time::parse_span;
use celeriac_web::printable::clean;

#[derive(Subcommand)]
pub(super) enum QueuesSubcommand {
    /// Deliver no tasks of these queues until they are resumed; running tasks go on
    Pause(PauseArguments),
    /// Deliver tasks of these queues again
    Resume(QueuesArguments),
    /// Revoke every waiting task of a queue
    Purge(PurgeArguments),
    /// Purge a queue and drop its settings; refused while tasks of the queue run
    Delete(PurgeArguments),
    /// Set the bounds of a queue and the defaults of its tasks; other settings stay unchanged
    #[command(override_usage = SET_USAGE, after_help = SETTINGS)]
    Set(SetArguments),
}

/// The usage of `queues set`, and what a setting is in it.
const SET_USAGE: &str = "celeriac queues set [OPTIONS] <QUEUE> <SETTING>...";
const SETTINGS: &str = "A SETTING is --tasks-max, --bytes-max, --expires or --result-ttl, with its \
                        value. At least one is required.";

/// The arguments of `queues pause`.
#[derive(Args)]
pub(super) struct PauseArguments {
    #[command(flatten)]
    which: QueuesArguments,

    /// Pause also queues that do not exist yet: the broker makes them, paused
    #[arg(long)]
    create: bool,
}

/// The arguments of `queues resume`.
#[derive(Args)]
pub(super) struct QueuesArguments {
    /// The names of the queues
    #[arg(required = true, value_parser = parse_queue, value_name = "QUEUE")]
    queues: Vec<QueueName>,
}

/// The arguments of `queues purge` and `queues delete`.
#[derive(Args)]
pub(super) struct PurgeArguments {
    /// The name of the queue
    #[arg(value_parser = parse_queue, value_name = "QUEUE")]
    queue: QueueName,

    #[command(flatten)]
    confirm: ConfirmOptions,
}

/// The arguments of `queues set`.
#[derive(Args)]
#[command(group(
    ArgGroup::new("settings")
        .args(["tasks_max", "bytes_max", "expires", "result_ttl"])
        .multiple(true)
        .required(true)
))]
pub(super) struct SetArguments {
    /// The name of the queue; a queue that does not exist is created
    #[arg(value_parser = parse_queue, value_name = "QUEUE")]
    queue: QueueName,

    /// Refuse submits while the queue has this many unfinished tasks
    #[arg(long, value_parser = parse_count, value_name = "COUNT|none")]
    tasks_max: Option<Setting<u64>>,

    /// Refuse submits that would bring the payloads of the queue over this size, such as 64MiB
    #[arg(long, value_parser = parse_optional_bytes, value_name = "SIZE|none")]
    bytes_max: Option<Setting<u64>>,

    /// Revoke tasks that have not started after this long, if they name no other time
    #[arg(long, value_parser = parse_optional_span, value_name = "SPAN|none")]
    expires: Option<Setting<Duration>>,

    /// Keep ended tasks for this long, if they name no other time
    #[arg(long, value_parser = parse_optional_span, value_name = "SPAN|none")]
    result_ttl: Option<Setting<Duration>>,
}

/// A new value of a setting; `none` clears the setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Setting<T>(Option<T>);

fn parse_count(text: &str) -> Result<Setting<u64>, String> {
    match text {
        "none" => Ok(Setting(None)),
        text => text
            .parse()
            .map(|count| Setting(Some(count)))
            .map_err(|_| format!("`{text}` is neither a number nor none")),
    }
}

fn parse_optional_bytes(text: &str) -> Result<Setting<u64>, String> {
    match text {
        "none" => Ok(Setting(None)),
        text => parse_bytes(text).map(|bytes| Setting(Some(bytes))),
    }
}

fn parse_optional_span(text: &str) -> Result<Setting<Duration>, String> {
    match text {
        "none" => Ok(Setting(None)),
        text => parse_span(text).map(|span| Setting(Some(span))),
    }
}

/// What happened to a queue, for programs.
#[derive(Serialize)]
struct Document<'a> {
    queue: &'a str,
    outcome: &'a str,
    /// How many waiting tasks a purge or delete revoked.
    revoked: Option<u64>,
}

/// The new settings of a queue, for programs.
#[derive(Serialize)]
struct SetDocument<'a> {
    queue: &'a str,
    #[serde(flatten)]
    settings: QueueSettingsDocument,
}

/// Whether a queue delivers its tasks.
#[derive(Clone, Copy)]
enum Delivery {
    Paused,
    Resumed,
}

/// What happens with a queue that does not exist.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    Created,
    Refused,
}

/// Runs a subcommand.
pub(super) async fn run(
    subcommand: QueuesSubcommand,
    shared: &SharedOptions,
    output: &mut Output,
) -> Result<Exit, Failure> {
    output.outlive_reader();
    match subcommand {
        QueuesSubcommand::Pause(PauseArguments { which, create }) => {
            let missing = if create { Missing::Created } else { Missing::Refused };
            set_delivery(&which.queues, Delivery::Paused, missing, shared, output).await
        }
        QueuesSubcommand::Resume(which) => {
            set_delivery(&which.queues, Delivery::Resumed, Missing::Refused, shared, output).await
        }
        QueuesSubcommand::Purge(arguments) => purge(arguments, shared, output).await,
        QueuesSubcommand::Delete(arguments) => delete(arguments, shared, output).await,
        QueuesSubcommand::Set(arguments) => set(&arguments, shared, output).await,
    }
}

async fn set_delivery(
    queues: &[QueueName],
    delivery: Delivery,
    missing: Missing,
    shared: &SharedOptions,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let client = connect(shared).await?;
    if missing == Missing::Refused {
        refuse_missing(&client, queues).await?;
    }
    let names: Vec<&str> = queues.iter().map(|queue| queue.as_str()).collect();
    let (answer, outcome) = match delivery {
        Delivery::Paused => (client.pause_queues(&names).await, "paused"),
        Delivery::Resumed => (client.resume_queues(&names).await, "resumed"),
    };
    answer.map_err(failure)?;
    client.close().await;
    for queue in queues {
        match output.format {
            Format::Json => {
                output.document(&Document { queue: queue.as_str(), outcome, revoked: None })?
            }
            Format::Text => output.line(&format!("{}  {outcome}", clean(queue)))?,
        }
    }
    Ok(Exit::Success)
}

/// Fails if one of the queues does not exist. Nothing was changed then: a misspelled name must not
/// look like a paused queue.
async fn refuse_missing(client: &Client, queues: &[QueueName]) -> Result<(), Failure> {
    let present: BTreeSet<String> =
        client.queues().await.map_err(failure)?.into_iter().map(|queue| queue.name).collect();
    match queues.iter().find(|queue| !present.contains(queue.as_str())) {
        Some(missing) => Err(no_queue(missing)),
        None => Ok(()),
    }
}

fn no_queue(name: &QueueName) -> Failure {
    Failure::new(Exit::NotFound, format!("no queue {}", clean(name)))
}

async fn purge(
    arguments: PurgeArguments,
    shared: &SharedOptions,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let consent = arguments.confirm.consent("a purge")?;
    let client = connect(shared).await?;
    let queue = existing(&client, &arguments.queue).await?;
    let name = clean(&queue.name);
    if consent.is_to_be_asked() && queue.ready == 0 && queue.scheduled == 0 {
        // Without a question nothing may be revoked, whatever was submitted since.
        client.close().await;
        return print_revoked(&queue, "purged", 0, output);
    }
    consent.ask(&format!("Revoke {} of the queue {name}?", waiting(&queue))).await?;
    let revoked = client.purge_queue(&queue.name).await.map_err(failure)?;
    client.close().await;
    print_revoked(&queue, "purged", revoked, output)
}

async fn delete(
    arguments: PurgeArguments,
    shared: &SharedOptions,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let consent = arguments.confirm.consent("a delete")?;
    let client = connect(shared).await?;
    let queue = existing(&client, &arguments.queue).await?;
    let name = clean(&queue.name);
    consent.ask(&format!("Delete the queue {name} and revoke {}?", waiting(&queue))).await?;
    let revoked = client.delete_queue(&queue.name).await.map_err(failure)?;
    let left = client.queue(&queue.name).await.map_err(failure)?;
    client.close().await;
    let exit = print_revoked(&queue, "deleted", revoked, output)?;
    if let Some(left) = left.filter(|_| !output.is_json()) {
        output.line(&format!("{name} is still listed: {}", why_it_stays(&left)))?;
    }
    Ok(exit)
}

/// Why a queue without settings and waiting tasks exists.
fn why_it_stays(queue: &QueueInfo) -> String {
    match (queue.dead, queue.workers) {
        (0, 0) if queue.name == "default" => "this queue always exists".to_owned(),
        (0, 0) => "it was used again".to_owned(),
        (0, workers) => format!("workers that serve it: {workers}"),
        (dead, _) => format!("dead tasks that it keeps: {dead}"),
    }
}

async fn existing(client: &Client, name: &QueueName) -> Result<QueueInfo, Failure> {
    let queue = client.queue(name.as_str()).await.map_err(failure)?;
    queue.ok_or_else(|| no_queue(name))
}

fn waiting(queue: &QueueInfo) -> String {
    waiting_tasks(queue.ready.saturating_add(queue.scheduled))
}

fn waiting_tasks(count: u64) -> String {
    format!("{count} waiting task{}", if count == 1 { "" } else { "s" })
}

fn print_revoked(
    queue: &QueueInfo,
    outcome: &str,
    revoked: u64,
    output: &mut Output,
) -> Result<Exit, Failure> {
    match output.format {
        Format::Json => {
            output.document(&Document { queue: &queue.name, outcome, revoked: Some(revoked) })?
        }
        Format::Text => output.line(&format!(
            "{}  {outcome}, {} revoked",
            clean(&queue.name),
            waiting_tasks(revoked)
        ))?,
    }
    Ok(Exit::Success)
}

async fn set(
    arguments: &SetArguments,
    shared: &SharedOptions,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let client = connect(shared).await?;
    let name = arguments.queue.as_str();
    let present =
        client.queue(name).await.map_err(failure)?.map(|queue| queue.settings).unwrap_or_default();
    let settings = arguments.over(present);
    client.configure_queue(name, settings).await.map_err(failure)?;
    client.close().await;
    match output.format {
        Format::Json => {
            let settings = QueueSettingsDocument::new(&settings);
            output.document(&SetDocument { queue: name, settings })?
        }
        Format::Text => {
            let mut rows = vec![("queue", clean(name))];
            rows.extend(setting_rows(&settings));
            output.details(&rows)?
        }
    }
    Ok(Exit::Success)
}

impl SetArguments {
    /// The present settings with the given ones in their place.
    fn over(&self, present: QueueSettings) -> QueueSettings {
        QueueSettings {
            tasks_max: self.tasks_max.map_or(present.tasks_max, |Setting(count)| count),
            bytes_max: self.bytes_max.map_or(present.bytes_max, |Setting(bytes)| bytes),
            expires_in: self.expires.map_or(present.expires_in, |Setting(span)| span),
            result_ttl: self.result_ttl.map_or(present.result_ttl, |Setting(span)| span),
        }
    }
}
