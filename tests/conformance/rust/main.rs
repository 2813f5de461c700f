//! The subject that tries this project's own crates. README.md of the kit tells what a subject
//! does.
#![expect(clippy::print_stdout, reason = "the kit reads what it prints")]

mod handlers;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use celeriac_client::{
    CancelMode, CancelOutcome, Client, Error, ErrorCode, OnConflict, RetryPolicy,
};
use celeriac_client::{Submission, SubmitKind};
use celeriac_worker::Worker;
use handlers::Releases;
use serde::Deserialize;
use serde_json::{Value as Json, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::{OnceCell, watch};
use tokio::task::JoinSet;

#[derive(Debug, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
enum Order {
    Submit(Box<Task>),
    SubmitMany {
        tasks: Vec<Task>,
    },
    Get {
        id: String,
    },
    Result {
        id: String,
        timeout_ms: u64,
    },
    Watch {
        id: String,
    },
    Cancel {
        id: String,
        #[serde(default)]
        force: bool,
    },
    Forget {
        id: String,
    },
    Work {
        queues: BTreeMap<String, u32>,
        names: Vec<String>,
        concurrency: u32,
    },
    Release {
        id: String,
    },
    Stop,
}

#[derive(Debug, Deserialize)]
struct Task {
    id: String,
    name: String,
    #[serde(default)]
    args: Vec<Json>,
    #[serde(default)]
    kwargs: serde_json::Map<String, Json>,
    #[serde(default)]
    options: Options,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    queue: Option<String>,
    shadow: Option<String>,
    priority: Option<u32>,
    countdown_ms: Option<u64>,
    expires_in_ms: Option<u64>,
    result_ttl_ms: Option<u64>,
    early_ack: bool,
    tags: Vec<String>,
    headers: BTreeMap<String, String>,
    on_conflict: Option<String>,
    max_attempts: Option<u32>,
}

/// What all orders share.
struct Subject {
    url: String,
    client: OnceCell<Client>,
    releases: Releases,
    stop: watch::Sender<bool>,
}

pub(crate) fn say(line: &Json) {
    println!("{line}");
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::var("CELERIAC_URL")?;
    let (client, releases) = (OnceCell::new(), Releases::default());
    let subject = Arc::new(Subject { url, client, releases, stop: watch::Sender::new(false) });
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let (mut workers, mut calls) = (JoinSet::new(), JoinSet::new());
    while let Some(line) = lines.next_line().await? {
        let subject = subject.clone();
        match serde_json::from_str(&line)? {
            Order::Stop => break,
            Order::Release { id } => subject.releases.release(id),
            Order::Work { queues, names, concurrency } => {
                drop(
                    workers.spawn(async move { work(&subject, queues, names, concurrency).await }),
                );
            }
            order => drop(calls.spawn(async move { call(&subject, order).await })),
        }
    }
    subject.stop.send_replace(true);
    workers.join_all().await;
    calls.abort_all();
    if let Some(client) = subject.client.get() {
        client.close().await;
    }
    // A read of the standard input that is under way would keep the process.
    std::process::exit(0);
}

async fn work(
    subject: &Subject,
    queues: BTreeMap<String, u32>,
    names: Vec<String>,
    concurrency: u32,
) {
    let mut worker = Worker::builder(&subject.url)
        .concurrency(concurrency)
        .shutdown_grace(Duration::from_secs(5));
    for (queue, weight) in queues {
        worker = worker.queue_weighted(queue, weight);
    }
    for name in names {
        worker = handlers::register(worker, &name, &subject.releases);
    }
    let mut stop = subject.stop.subscribe();
    let stopped = async move { drop(stop.wait_for(|stop| *stop).await.map(|_| ())) };
    if let Err(celeriac_worker::RunError::Connection(error)) = worker.build().run(stopped).await {
        say(&said(None, &error));
    }
}

async fn call(subject: &Subject, order: Order) {
    let id = match &order {
        Order::Submit(task) => Some(task.id.clone()),
        Order::Get { id } | Order::Result { id, .. } | Order::Watch { id } => Some(id.clone()),
        Order::Cancel { id, .. } | Order::Forget { id } => Some(id.clone()),
        _ => None,
    };
    let client = subject.client.get_or_try_init(|| Client::connect(&subject.url)).await;
    let outcome = match client {
        Ok(client) => carry_out(client, order).await,
        Err(error) => Err(error),
    };
    if let Err(error) = outcome {
        say(&said(id.as_deref(), &error));
    }
}

async fn carry_out(client: &Client, order: Order) -> Result<(), Error> {
    match order {
        Order::Submit(task) => {
            let id = task.id.clone();
            let handle = client.submit::<Json>(submission(*task)).await?;
            say(&submitted(&id, handle.outcome().unwrap_or(SubmitKind::Joined)));
        }
        Order::SubmitMany { tasks } => {
            let ids: Vec<String> = tasks.iter().map(|task| task.id.clone()).collect();
            for (id, outcome) in
                ids.iter().zip(client.submit_many(tasks.into_iter().map(submission)).await?)
            {
                match outcome {
                    Ok(task) => say(&submitted(id, task.kind)),
                    Err(refusal) => say(&said(Some(id), &refusal.into())),
                }
            }
        }
        Order::Get { id } => get(client, &id).await?,
        Order::Result { id, timeout_ms } => {
            result(client, &id, Duration::from_millis(timeout_ms)).await?
        }
        Order::Watch { id } => follow(client, &id).await?,
        Order::Cancel { id, force } => {
            let mode =
                if force { CancelMode::Force { grace: None } } else { CancelMode::Cooperative };
            for cancelled in client.cancel(&[&id], mode).await? {
                let outcome = match cancelled.outcome {
                    CancelOutcome::Revoked => "REVOKED",
                    CancelOutcome::Signalled => "SIGNALLED",
                    CancelOutcome::AlreadyEnded => "ALREADY_ENDED",
                    _ => "NOT_FOUND",
                };
                say(&json!({ "id": id, "cancelled": outcome }));
            }
        }
        Order::Forget { id } => match client.forget(&[&id]).await?.first() {
            Some(Ok(())) | None => say(&json!({ "id": id, "forgotten": true })),
            Some(Err(code)) => {
                say(&json!({ "id": id, "error": name_of(*code), "retryable": false }))
            }
        },
        Order::Work { .. } | Order::Release { .. } | Order::Stop => {}
    }
    Ok(())
}

async fn get(client: &Client, id: &str) -> Result<(), Error> {
    for task in client.info(&[id]).await? {
        let progress = task.progress.as_ref().and_then(|progress| progress.meta::<Json>().ok());
        match progress {
            Some(progress) => {
                say(&json!({ "id": id, "state": task.state.to_string(), "progress": progress }))
            }
            None => say(&json!({ "id": id, "state": task.state.to_string() })),
        }
    }
    Ok(())
}

async fn result(client: &Client, id: &str, timeout: Duration) -> Result<(), Error> {
    let line = match client.result::<Json>(id).get(timeout).await {
        Ok(result) => json!({ "id": id, "result": result }),
        Err(Error::TaskFailed { kind, message, .. }) => {
            json!({ "id": id, "failed": kind, "message": message })
        }
        Err(Error::TaskRevoked { reason, .. }) => json!({ "id": id, "revoked": reason }),
        Err(Error::NotFinished { state, .. }) => json!({ "id": id, "state": state.to_string() }),
        Err(Error::NotFound { .. }) => json!({ "id": id, "state": "UNKNOWN" }),
        Err(error) => return Err(error),
    };
    say(&line);
    Ok(())
}

async fn follow(client: &Client, id: &str) -> Result<(), Error> {
    let mut watch = client.watch(&[id]).await?;
    let mut seen = None;
    while let Some(task) = watch.next().await {
        if seen != Some(task.state) {
            say(&json!({ "id": id, "sees": task.state.to_string() }));
        }
        seen = Some(task.state);
        if task.state.is_ended() {
            break;
        }
    }
    Ok(())
}

fn submission(task: Task) -> Submission {
    let Options { queue, shadow, priority, countdown_ms, expires_in_ms, .. } = task.options;
    let Options { result_ttl_ms, early_ack, tags, headers, on_conflict, max_attempts, .. } =
        task.options;
    let mut submission =
        Submission::new(task.name).task_id(task.id).args(task.args).kwargs(task.kwargs);
    if let Some(queue) = queue {
        submission = submission.queue(queue);
    }
    if let Some(shadow) = shadow {
        submission = submission.shadow(shadow);
    }
    if let Some(priority) = priority {
        submission = submission.priority(priority);
    }
    if let Some(span) = countdown_ms {
        submission = submission.countdown(Duration::from_millis(span));
    }
    if let Some(span) = expires_in_ms {
        submission = submission.expires_in(Duration::from_millis(span));
    }
    if let Some(span) = result_ttl_ms {
        submission = submission.result_ttl(Duration::from_millis(span));
    }
    if let Some(attempts) = max_attempts {
        submission = submission.retry(RetryPolicy::new().max_attempts(attempts));
    }
    if early_ack {
        submission = submission.early_ack();
    }
    submission = match on_conflict.as_deref() {
        Some("REJECT") => submission.on_conflict(OnConflict::Reject),
        Some("REPLACE") => submission.on_conflict(OnConflict::Replace),
        Some("RUN_AGAIN_AFTER") => submission.on_conflict(OnConflict::RunAgainAfter),
        _ => submission,
    };
    submission = tags.into_iter().fold(submission, Submission::tag);
    headers.into_iter().fold(submission, |submission, (name, value)| submission.header(name, value))
}

fn submitted(id: &str, kind: SubmitKind) -> Json {
    let kind = match kind {
        SubmitKind::Created => "CREATED",
        SubmitKind::Joined => "JOINED",
        _ => "NEW_GENERATION",
    };
    json!({ "id": id, "submitted": kind })
}

fn said(id: Option<&str>, error: &Error) -> Json {
    let code = match error {
        Error::Refused { code, .. } | Error::Handshake { code, .. } => name_of(*code),
        _ => error.to_string(),
    };
    let retryable = error.is_retryable();
    match id {
        Some(id) => json!({ "id": id, "error": code, "retryable": retryable }),
        None => json!({ "error": code, "retryable": retryable }),
    }
}

fn name_of(code: ErrorCode) -> String {
    code.as_str_name().trim_start_matches("ERROR_CODE_").to_owned()
}
