//! What the pages read of the broker, on behalf of their visitor.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::http::StatusCode;
use celeriac_client::{BrokerInfo, Client, Error, QueueInfo, WorkerStatus};
use maud::{Markup, html};

use super::show::text;
use crate::live::Looks;
use crate::problem::Problem;
use crate::query::shortened;
use crate::router::Shared;
use crate::visitor::Visitor;

/// The most queues whose ready tasks are told apart by their names.
const UNSERVED_QUEUES: usize = 1_000;

/// The number of ready tasks whose names no worker of their queue knows, by queue.
pub(super) type Unserved = HashMap<String, u64>;

/// The view of one visitor.
pub(super) struct Look {
    pub shared: Arc<Shared>,
    pub visitor: Visitor,
    /// What all open pages of the caller share. `None` for a page that is opened: it shows the
    /// present.
    looks: Option<Arc<Looks>>,
}

impl Look {
    /// For a page that is opened.
    pub(super) fn once(shared: Arc<Shared>, visitor: Visitor) -> Self {
        Self { shared, visitor, looks: None }
    }

    /// For a page that is open.
    pub(super) fn again(shared: Arc<Shared>, visitor: Visitor, looks: Arc<Looks>) -> Self {
        Self { shared, visitor, looks: Some(looks) }
    }

    /// Whether the page is open already, and only what has changed counts.
    pub(super) fn is_again(&self) -> bool {
        self.looks.is_some()
    }

    /// Whether an open page of the caller was refused payloads and results.
    pub(super) fn has_no_bodies(&self) -> bool {
        self.looks.as_ref().is_some_and(|looks| looks.has_no_bodies.load(Ordering::Relaxed))
    }

    pub(super) fn note_no_bodies(&self) {
        if let Some(looks) = &self.looks {
            looks.has_no_bodies.store(true, Ordering::Relaxed);
        }
    }

    pub(super) async fn ask<T>(
        &self,
        request: impl AsyncFnOnce(Client) -> Result<T, Error>,
    ) -> Result<T, Problem> {
        self.shared.callers.ask(&self.visitor.caller, request).await
    }

    pub(super) async fn queues(&self) -> Result<Arc<[QueueInfo]>, Problem> {
        let ask = async {
            let queues = self.ask(async |client| client.queues().await).await?;
            Ok(Arc::from(queues))
        };
        match &self.looks {
            Some(looks) => looks.queues.at(ask).await,
            None => ask.await,
        }
    }

    pub(super) async fn workers(&self) -> Result<Arc<[WorkerStatus]>, Problem> {
        let ask = async {
            let workers = self.ask(async |client| client.workers().await).await?;
            Ok(Arc::from(workers))
        };
        match &self.looks {
            Some(looks) => looks.workers.at(ask).await,
            None => ask.await,
        }
    }

    pub(super) async fn broker(&self) -> Result<Arc<BrokerInfo>, Problem> {
        let ask = async {
            let broker = self.ask(async |client| client.broker_info().await).await?;
            Ok(Arc::new(broker))
        };
        match &self.looks {
            Some(looks) => looks.broker.at(ask).await,
            None => ask.await,
        }
    }

    /// One queue, which has to exist.
    pub(super) async fn queue(&self, name: &str) -> Result<Arc<QueueInfo>, Problem> {
        celeriac_proto::QueueName::check(name)
            .map_err(|error| Problem::invalid(error.to_string()))?;
        let queue = match &self.looks {
            Some(looks) => {
                let ask = self.ask_queue(name);
                looks.queue.at(name).at(ask).await?
            }
            None => self.ask_queue(name).await?,
        };
        queue.ok_or_else(|| Problem::not_found(format!("there is no queue {}", shortened(name))))
    }

    /// Which of these queues have ready tasks that none of their workers takes, although there are
    /// workers. The broker is asked only where there may be some.
    pub(super) async fn unserved(&self, queues: &[QueueInfo]) -> Unserved {
        let may_have = |queue: &&QueueInfo| queue.ready > 0 && queue.workers > 0 && !queue.paused;
        let mut queues: Vec<&QueueInfo> = queues.iter().filter(may_have).collect();
        queues.sort_by_key(|queue| Reverse(queue.ready));
        queues.truncate(UNSERVED_QUEUES);
        if queues.is_empty() {
            return Unserved::new();
        }
        let names: Vec<&str> = queues.iter().map(|queue| queue.name.as_str()).collect();
        // A broker that does not count them names none.
        let stats = self.ask(async |client| client.stats_of(&names).await).await;
        let stats = stats.map(|stats| stats.queues).unwrap_or_default();
        let waiting = stats.into_iter().map(|queue| (queue.name, queue.waiting_no_worker));
        waiting.filter(|(_, tasks)| *tasks > 0).collect()
    }

    async fn ask_queue(&self, name: &str) -> Result<Option<Arc<QueueInfo>>, Problem> {
        Ok(self.ask(async |client| client.queue(name).await).await?.map(Arc::new))
    }
}

/// A part of a page, or the sentence that the visitor may not see it. Another problem is one of the
/// whole page.
pub(super) fn part<T>(
    outcome: Result<T, Problem>,
    what: &str,
    shown: impl FnOnce(T) -> Markup,
) -> Result<Markup, Problem> {
    match outcome {
        Ok(it) => Ok(shown(it)),
        Err(problem) if problem.status() == StatusCode::FORBIDDEN => Ok(html! {
            p.notice { "You may not see " (what) ": " (text(problem.detail())) "." }
        }),
        Err(problem) => Err(problem),
    }
}
