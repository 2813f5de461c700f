//! What is done to queues: pause, resume, purge, delete, set. The list itself is in `queues`.

use std::time::Duration;

use celeriac_client::{Client, QueueInfo, QueueSettings};
use celeriac_proto::QueueName;
use clap::{ArgGroup, Args, Subcommand};
use serde::Serialize;

use crate::arguments::{EXIT_CODES, Global};
use crate::confirm::Confirm;
use crate::connection::{connect, failure};
use crate::exit::{Exit, Failure};
use crate::output::{Output, clean};
use crate::submit::parse_queue;
use crate::time::{parse_span, rough, whole_ms};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Deliver nothing from these queues until they are resumed; running tasks go on
    #[command(after_help = EXIT_CODES)]
    Pause(Names),
    /// Deliver from these queues again
    #[command(after_help = EXIT_CODES)]
    Resume(Names),
    /// Revoke every waiting task of a queue
    #[command(after_help = EXIT_CODES)]
    Purge(Empty),
    /// Purge a queue and drop its settings; refused while tasks of it run
    #[command(after_help = EXIT_CODES)]
    Delete(Empty),
    /// Set the bounds of a queue and the defaults of its tasks; what is not named stays as it is
    #[command(after_help = EXIT_CODES)]
    Set(Set),
}

/// The arguments of `queues pause` and `queues resume`.
#[derive(Args)]
pub(super) struct Names {
    /// The queues
    #[arg(required = true, value_parser = parse_queue, value_name = "QUEUE")]
    queues: Vec<QueueName>,
}

/// The arguments of `queues purge` and `queues delete`.
#[derive(Args)]
pub(super) struct Empty {
    /// The queue
    #[arg(value_parser = parse_queue, value_name = "QUEUE")]
    queue: QueueName,

    #[command(flatten)]
    confirm: Confirm,
}

/// The arguments of `queues set`.
#[derive(Args)]
#[command(group(ArgGroup::new("settings").args(["tasks_max", "bytes_max", "expires", "result_ttl"]).multiple(true).required(true)))]
pub(super) struct Set {
    /// The queue; made if need be
    #[arg(value_parser = parse_queue, value_name = "QUEUE")]
    queue: QueueName,

    /// Refuse submits while so many tasks have not ended
    #[arg(long, value_parser = parse_count, value_name = "COUNT|none")]
    tasks_max: Option<Setting<u64>>,

    /// Refuse submits over so many bytes of payloads
    #[arg(long, value_parser = parse_count, value_name = "BYTES|none")]
    bytes_max: Option<Setting<u64>>,

    /// Revoke tasks that have not started after this long, unless they say otherwise
    #[arg(long, value_parser = parse_optional_span, value_name = "SPAN|none")]
    expires: Option<Setting<Duration>>,

    /// Keep ended tasks for this long, unless they say otherwise
    #[arg(long, value_parser = parse_optional_span, value_name = "SPAN|none")]
    result_ttl: Option<Setting<Duration>>,
}

/// A value, or `none` to clear what was set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Setting<T>(Option<T>);

fn parse_count(text: &str) -> Result<Setting<u64>, String> {
    match text {
        "none" => Ok(Setting(None)),
        text => text
            .parse()
            .map(|count| Setting(Some(count)))
            .map_err(|_| format!("`{text}` is no number and not none")),
    }
}

fn parse_optional_span(text: &str) -> Result<Setting<Duration>, String> {
    match text {
        "none" => Ok(Setting(None)),
        text => parse_span(text).map(|span| Setting(Some(span))),
    }
}

/// What a program reads about what was done.
#[derive(Serialize)]
struct Document<'a> {
    queue: &'a str,
    outcome: &'a str,
    /// How many waiting tasks a purge or delete revoked.
    revoked: Option<u64>,
}

/// What a program reads about the settings of a queue, also in the list of queues.
#[derive(Serialize)]
pub(super) struct SettingsDocument {
    tasks_max: Option<u64>,
    bytes_max: Option<u64>,
    expires_in_ms: Option<u64>,
    result_ttl_ms: Option<u64>,
}

#[derive(Serialize)]
struct SetDocument<'a> {
    queue: &'a str,
    #[serde(flatten)]
    settings: SettingsDocument,
}

/// Does it. What is done to one queue after the other stops at the first that is refused.
pub(super) async fn run(
    command: Command,
    global: &Global,
    output: &mut Output,
) -> Result<Exit, Failure> {
    match command {
        Command::Pause(names) => pause(&names.queues, true, global, output).await,
        Command::Resume(names) => pause(&names.queues, false, global, output).await,
        Command::Purge(empty) => {
            let consent = empty.confirm.consent("a purge")?;
            let client = connect(global).await?;
            let queue = existing(&client, &empty.queue).await?;
            consent
                .ask(&format!("Revoke {} of the queue {}?", waiting(&queue), clean(&queue.name)))
                .await?;
            let revoked = client.purge_queue(&queue.name).await.map_err(failure)?;
            emptied(&client, &queue, "purged", revoked, output).await
        }
        Command::Delete(empty) => {
            let consent = empty.confirm.consent("a delete")?;
            let client = connect(global).await?;
            let queue = existing(&client, &empty.queue).await?;
            consent
                .ask(&format!(
                    "Delete the queue {} and revoke {}?",
                    clean(&queue.name),
                    waiting(&queue)
                ))
                .await?;
            let revoked = client.delete_queue(&queue.name).await.map_err(failure)?;
            emptied(&client, &queue, "deleted", revoked, output).await
        }
        Command::Set(set) => set_queue(&set, global, output).await,
    }
}

async fn pause(
    queues: &[QueueName],
    paused: bool,
    global: &Global,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let client = connect(global).await?;
    let names: Vec<&str> = queues.iter().map(|queue| queue.as_str()).collect();
    let done = match paused {
        true => client.pause_queues(&names).await,
        false => client.resume_queues(&names).await,
    };
    done.map_err(failure)?;
    client.close().await;
    let outcome = if paused { "paused" } else { "resumed" };
    for queue in queues {
        match output.json {
            true => output.document(&Document { queue: queue.as_str(), outcome, revoked: None })?,
            false => output.line(&format!("{}  {outcome}", clean(queue)))?,
        }
    }
    Ok(Exit::Success)
}

async fn existing(client: &Client, name: &QueueName) -> Result<QueueInfo, Failure> {
    let queue = client.queue(name.as_str()).await.map_err(failure)?;
    queue.ok_or_else(|| Failure::new(Exit::NotFound, format!("no queue {}", clean(name))))
}

fn waiting(queue: &QueueInfo) -> String {
    tasks(queue.ready.saturating_add(queue.scheduled))
}

fn tasks(count: u64) -> String {
    format!("{count} waiting task{}", if count == 1 { "" } else { "s" })
}

async fn emptied(
    client: &Client,
    queue: &QueueInfo,
    outcome: &str,
    revoked: u64,
    output: &mut Output,
) -> Result<Exit, Failure> {
    client.close().await;
    match output.json {
        true => {
            output.document(&Document { queue: &queue.name, outcome, revoked: Some(revoked) })?
        }
        false => output.line(&format!(
            "{}  {outcome}, {} revoked",
            clean(&queue.name),
            tasks(revoked)
        ))?,
    }
    Ok(Exit::Success)
}

async fn set_queue(set: &Set, global: &Global, output: &mut Output) -> Result<Exit, Failure> {
    let client = connect(global).await?;
    let name = set.queue.as_str();
    let present =
        client.queue(name).await.map_err(failure)?.map(|queue| queue.settings).unwrap_or_default();
    let settings = set.over(present);
    client.configure_queue(name, settings).await.map_err(failure)?;
    client.close().await;
    match output.json {
        true => {
            output.document(&SetDocument { queue: name, settings: settings_document(&settings) })?
        }
        false => output.details(&details(name, &settings))?,
    }
    Ok(Exit::Success)
}

impl Set {
    fn over(&self, present: QueueSettings) -> QueueSettings {
        QueueSettings {
            tasks_max: self.tasks_max.map_or(present.tasks_max, |Setting(count)| count),
            bytes_max: self.bytes_max.map_or(present.bytes_max, |Setting(bytes)| bytes),
            expires_in: self.expires.map_or(present.expires_in, |Setting(span)| span),
            result_ttl: self.result_ttl.map_or(present.result_ttl, |Setting(span)| span),
        }
    }
}

pub(super) fn settings_document(settings: &QueueSettings) -> SettingsDocument {
    SettingsDocument {
        tasks_max: settings.tasks_max,
        bytes_max: settings.bytes_max,
        expires_in_ms: settings.expires_in.map(whole_ms),
        result_ttl_ms: settings.result_ttl.map(whole_ms),
    }
}

fn details(name: &str, settings: &QueueSettings) -> [(&'static str, String); 5] {
    let count = |bound: Option<u64>| bound.map_or("none".to_owned(), |bound| bound.to_string());
    let span =
        |span: Option<Duration>| span.map_or("none".to_owned(), |span| rough(whole_ms(span)));
    [
        ("queue", clean(name)),
        ("tasks max", count(settings.tasks_max)),
        ("bytes max", count(settings.bytes_max)),
        ("expires", span(settings.expires_in)),
        ("result ttl", span(settings.result_ttl)),
    ]
}
