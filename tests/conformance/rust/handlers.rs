//! The handlers that every subject has.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use celeriac_worker::{Context, Handler, Payload, Run, TaskFailure, WorkerBuilder};
use serde_json::{Map, Value as Json, json};
use tokio::sync::watch;

use crate::say;

/// The tasks whose handler `hold` may go on.
#[derive(Debug, Clone)]
pub(crate) struct Releases(Arc<watch::Sender<HashSet<String>>>);

impl Default for Releases {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(HashSet::new())))
    }
}

impl Releases {
    pub(crate) fn release(&self, id: String) {
        self.0.send_modify(|released| {
            released.insert(id);
        });
    }

    async fn of(&self, id: &str) {
        let mut released = self.0.subscribe();
        let _ = released.wait_for(|released| released.contains(id)).await;
    }
}

/// One of the handlers, by its name.
struct Named {
    name: String,
    releases: Releases,
}

/// Adds a handler to a worker.
pub(crate) fn register(worker: WorkerBuilder, name: &str, releases: &Releases) -> WorkerBuilder {
    worker.register(Named { name: name.to_owned(), releases: releases.clone() })
}

impl Handler for Named {
    fn name(&self) -> &str {
        &self.name
    }

    fn start(&self, context: Context, payload: Payload<'_>) -> Result<Run, TaskFailure> {
        let (args, kwargs): (Vec<Json>, Map<String, Json>) =
            serde_json::from_slice(payload.bytes())
                .map_err(|error| TaskFailure::fatal("undecodable_payload", error.to_string()))?;
        let (name, releases) = (self.name.clone(), self.releases.clone());
        Ok(Run::future(async move {
            say(&json!({ "began": context.id(), "attempt": context.attempt() }));
            let returned = run(&name, &context, &args, &kwargs, &releases).await?;
            Ok(serde_json::to_vec(&returned).unwrap_or_default().into())
        }))
    }
}

async fn run(
    name: &str,
    context: &Context,
    args: &[Json],
    kwargs: &Map<String, Json>,
    releases: &Releases,
) -> Result<Json, TaskFailure> {
    let argument = |place: usize| args.get(place).cloned().unwrap_or_default();
    let text = |place: usize| argument(place).as_str().unwrap_or_default().to_owned();
    match name {
        "echo" => Ok(argument(0)),
        "fail" if kwargs.get("final") == Some(&Json::Bool(true)) => {
            Err(TaskFailure::fatal(text(0), text(1)))
        }
        "fail" => Err(TaskFailure::new(text(0), text(1))),
        "later" => {
            let after = Duration::from_millis(argument(0).as_u64().unwrap_or_default());
            Err(TaskFailure::new("later", "it asks for another attempt").retry_after(after))
        }
        "progress" => {
            context
                .progress("HALF", &argument(0))
                .await
                .map_err(|error| TaskFailure::new("progress", error.to_string()))?;
            Ok(Json::Null)
        }
        "hold" => hold(context, releases).await,
        name => Err(TaskFailure::fatal("unknown", format!("{name} is no handler of a subject"))),
    }
}

/// Says that its run was stopped, when it is dropped with it.
struct Stopped {
    id: String,
    over: bool,
}

impl Drop for Stopped {
    fn drop(&mut self) {
        if !self.over {
            say(&json!({ "stopped": self.id }));
        }
    }
}

async fn hold(context: &Context, releases: &Releases) -> Result<Json, TaskFailure> {
    let mut stopped = Stopped { id: context.id().to_owned(), over: false };
    tokio::select! {
        () = releases.of(context.id()) => {
            stopped.over = true;
            Ok("released".into())
        }
        () = context.cancelled() => Err(TaskFailure::new("stopped", "it was cancelled")),
        () = context.soft_limit() => Err(TaskFailure::new("stopped", "its soft time limit is over")),
    }
}
