//! "The other container": a program that did not submit the tasks, knows only their ids, and learns
//! how they go.
//!
//! Lives here: its own connection, following states and fetching values. Does not live here:
//! submitting (see `main`) and drawing (see `screen`).

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use anyhow::{Context, bail};
use celeriac_client::{Client, Error};
use serde::de::DeserializeOwned;

use crate::history::History;
use crate::screen::Screen;

/// If no task moves for this long, something is wrong with the stage and the demo says so instead
/// of waiting for ever.
const STILL_MAX: Duration = Duration::from_secs(60);

/// A fetched value is there already, so its answer comes at once.
const FETCH_MAX: Duration = Duration::from_secs(10);

/// How one task ended.
pub(crate) struct Ended<T> {
    /// What it went through.
    pub(crate) history: History,
    /// Its value, or why there is none.
    pub(crate) outcome: Result<T, String>,
}

/// The other container.
pub(crate) struct OtherContainer {
    client: Client,
}

impl OtherContainer {
    /// Connects to the broker; nothing is shared with the program that submits.
    pub(crate) async fn connect(url: &str) -> anyhow::Result<Self> {
        let client = Client::builder(url).instance("other-container").connect().await?;
        Ok(Self { client })
    }

    /// Takes leave of the broker.
    pub(crate) async fn close(self) {
        self.client.close().await;
    }

    /// Follows the tasks until each has ended, showing each step on the screen, and fetches their
    /// values. The results stand in the order of `ids`.
    pub(crate) async fn follow<T: DeserializeOwned>(
        &self,
        ids: &[&str],
        screen: &mut Screen,
    ) -> anyhow::Result<Vec<Ended<T>>> {
        let mut histories: HashMap<String, History> = HashMap::new();
        let mut watch = self.client.watch(ids).await?;
        let mut running: HashSet<&str> = ids.iter().copied().collect();
        while !running.is_empty() {
            let next = tokio::time::timeout(STILL_MAX, watch.next()).await;
            let Some(info) = next.context("no task has moved for a minute")? else {
                bail!("the watch ended before the tasks did");
            };
            let history = histories.entry(info.id.clone()).or_default();
            history.observe(&info);
            screen.show(&info, history);
            if info.state.is_ended() {
                running.remove(info.id.as_str());
            }
        }
        let mut all = Vec::with_capacity(ids.len());
        for id in ids {
            let outcome = self.client.result::<T>(*id).get(FETCH_MAX).await;
            let history = histories.remove(*id).unwrap_or_default();
            all.push(Ended { history, outcome: outcome.map_err(|error| reason(&error)) });
        }
        Ok(all)
    }
}

/// Why there is no value, for people who know already which song it is about.
fn reason(error: &Error) -> String {
    match error {
        Error::TaskFailed { message, attempts, .. } => {
            format!("failed after {attempts} attempts: {message}")
        }
        other => other.to_string(),
    }
}
