//! The reader: a program that did not submit the tasks and knows only their ids. In a real service
//! it runs in another container than the web handler.
//!
//! The reader has its own connection. It watches the states of the tasks and fetches their results.
//! `main` submits the tasks, and `screen` draws the states.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use anyhow::{Context, bail};
use celeriac_client::{Client, Error, TaskInfo};
use serde::de::DeserializeOwned;

use crate::history::History;
use crate::screen::Screen;

/// If no task changes its state for this long, the program ends with an error instead of waiting
/// forever.
const NO_CHANGE_MAX: Duration = Duration::from_secs(60);

/// The time limit for fetching a result. The task has ended, so the broker answers at once.
const FETCH_MAX: Duration = Duration::from_secs(10);

/// How a task ended.
pub(crate) struct TaskOutcome<T> {
    /// The states of the task.
    pub(crate) history: History,
    /// The result of the task, or the reason why there is none.
    pub(crate) result: Result<T, String>,
}

/// A client that watches tasks and fetches results.
pub(crate) struct Reader {
    client: Client,
}

impl Reader {
    /// Connects to the broker. The reader shares nothing with the program that submits.
    pub(crate) async fn connect(url: &str) -> anyhow::Result<Self> {
        let client = Client::builder(url).instance("reader").connect().await?;
        Ok(Self { client })
    }

    /// Closes the connection.
    pub(crate) async fn close(self) {
        self.client.close().await;
    }

    /// Watches the tasks until each has ended, shows each state on the screen, and fetches the
    /// results. The outcomes are in the order of `ids`. The function `on_change` gets each state.
    pub(crate) async fn follow<T: DeserializeOwned>(
        &self,
        ids: &[&str],
        screen: &mut Screen,
        mut on_change: impl FnMut(&TaskInfo, &mut Screen) -> anyhow::Result<()>,
    ) -> anyhow::Result<Vec<TaskOutcome<T>>> {
        let mut histories: HashMap<String, History> = HashMap::new();
        let mut watch = self.client.watch(ids).await?;
        let mut running: HashSet<&str> = ids.iter().copied().collect();
        while !running.is_empty() {
            let next = tokio::time::timeout(NO_CHANGE_MAX, watch.next()).await;
            let Some(info) = next.context("no task has changed its state for a minute")? else {
                bail!("the watch ended before the tasks");
            };
            let history = histories.entry(info.id.clone()).or_default();
            history.observe(&info);
            screen.show(&info, history);
            on_change(&info, screen)?;
            if info.state.is_ended() {
                running.remove(info.id.as_str());
            }
        }
        let mut outcomes = Vec::with_capacity(ids.len());
        for id in ids {
            let result = self.client.result::<T>(*id).get(FETCH_MAX).await;
            let history = histories.remove(*id).unwrap_or_default();
            outcomes.push(TaskOutcome { history, result: result.map_err(|error| reason(&error)) });
        }
        Ok(outcomes)
    }
}

/// Why there is no result. The caller adds the title of the song.
fn reason(error: &Error) -> String {
    match error {
        Error::TaskFailed { message, attempts, .. } => {
            format!("failed after {attempts} attempts: {message}")
        }
        other => other.to_string(),
    }
}
