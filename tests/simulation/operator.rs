//! The requests of operators in a world: they cancel many tasks, purge, delete, pause and resume
//! queues, drain the broker, run dead tasks again and give orders to workers. Some restart the
//! broker at a chosen moment, such as when a task is due.

use std::time::Duration;

use celeriac_client::{CancelMode, Client, Submission, WorkerOrder};
use tokio::task::JoinSet;

use crate::host::Order;
use crate::producer::{Environment, ProducerProgram, expect};
use crate::world::set_clock;
use celeriac_tests::RandomSource;

/// The longest pause of a queue.
const PAUSE_MAX_MS: u64 = 20_000;
/// The longest countdown of a task whose due time the operator waits for.
const DUE_MAX_MS: u64 = 4_000;

impl ProducerProgram {
    /// Begins one request of an operator.
    pub fn operate(&mut self, client: Client, under_way: &mut JoinSet<()>) {
        let findings = self.environment.findings.clone();
        let queue = self.random.pick(&self.environment.queues).clone();
        match self.random.below(20) {
            0..3 => self.cancel_tagged(client, under_way),
            3 | 4 => self.cancel_tree(client, under_way),
            5 => {
                under_way.spawn(async move {
                    expect(&findings, "purge", client.purge_queue(&queue).await)
                });
            }
            6 => {
                under_way.spawn(async move {
                    expect(&findings, "pause", client.pause_queues(&[queue]).await)
                });
            }
            7..10 => {
                under_way.spawn(async move {
                    expect(&findings, "resume", client.resume_queues(&[queue]).await)
                });
            }
            10 => {
                under_way.spawn(async move {
                    expect(&findings, "delete", client.delete_queue(&queue).await)
                });
            }
            11 => {
                let ids = self.environment.task_ids.some(&mut self.random, 4);
                under_way.spawn(async move {
                    expect(&findings, "replay", client.replay_dead(&ids).await)
                });
            }
            12 => {
                under_way.spawn(async move {
                    expect(&findings, "list", client.queues().await);
                    expect(&findings, "list", client.workers().await);
                });
            }
            13 => {
                under_way.spawn(self.paused_queue(client, queue).pause_for_a_while());
            }
            14 => self.drain_for_a_while(client, under_way),
            15..17 => {
                let task = self.task();
                under_way.spawn(self.paused_queue(client, queue).restart_when_due(task));
            }
            _ => self.order_worker(client, under_way),
        }
    }

    fn cancel_tagged(&mut self, client: Client, under_way: &mut JoinSet<()>) {
        let findings = self.environment.findings.clone();
        let tag = format!("tag-{}", self.random.below(6));
        under_way.spawn(async move {
            let cancelled = client.cancel_tagged(tag, CancelMode::Cooperative).await;
            expect(&findings, "cancel", cancelled);
        });
    }

    fn cancel_tree(&mut self, client: Client, under_way: &mut JoinSet<()>) {
        let findings = self.environment.findings.clone();
        let root = self.environment.task_ids.some(&mut self.random, 1).pop();
        let Some(root) = root else { return };
        under_way.spawn(async move {
            let cancelled = client.cancel_tree(root, CancelMode::Force { grace: None }).await;
            expect(&findings, "cancel", cancelled);
        });
    }

    /// Drains the broker for some time. A restart in between ends the drain, and so does another
    /// operator.
    fn drain_for_a_while(&mut self, client: Client, under_way: &mut JoinSet<()>) {
        let findings = self.environment.findings.clone();
        let span = self.random.span(10, PAUSE_MAX_MS);
        under_way.spawn(async move {
            expect(&findings, "drain", client.drain(true).await);
            tokio::time::sleep(span).await;
            expect(&findings, "end of the drain", client.drain(false).await);
        });
    }

    fn order_worker(&mut self, client: Client, under_way: &mut JoinSet<()>) {
        let findings = self.environment.findings.clone();
        let worker = format!("worker-{}", self.random.between(1, 20));
        let orders = [WorkerOrder::Quiet, WorkerOrder::Resume, WorkerOrder::Shutdown];
        let order = *self.random.pick(&orders);
        under_way.spawn(async move {
            expect(&findings, "order", client.order_workers(&[worker], order).await)
        });
    }

    fn paused_queue(&mut self, client: Client, queue: String) -> PausedQueue {
        let (environment, random) = (self.environment.clone(), self.random.fork());
        PausedQueue { client, environment, random, queue }
    }
}

/// A queue that is paused while something else happens.
struct PausedQueue {
    client: Client,
    environment: Environment,
    random: RandomSource,
    queue: String,
}

impl PausedQueue {
    /// Pauses the queue for some time while tasks are submitted to it.
    async fn pause_for_a_while(mut self) {
        self.pause().await;
        tokio::time::sleep(self.random.span(10, PAUSE_MAX_MS)).await;
        self.resume().await;
    }

    /// A task of the paused queue becomes due, a watcher is told so, and then the broker restarts
    /// or crashes.
    async fn restart_when_due(mut self, task: Submission) {
        self.pause().await;
        let countdown = self.random.span(20, DUE_MAX_MS);
        let task = task.queue(self.queue.clone()).countdown(countdown);
        let ids = [task.id().to_owned()];
        let watched = self.client.watch(&ids).await;
        let watching = async {
            if let Ok(mut watch) = watched {
                while watch.next().await.is_some() {}
            }
        };
        let mishap = async {
            expect(&self.environment.findings, "submit", self.client.submit_many([task]).await);
            tokio::time::sleep(countdown / 2).await;
            if self.random.one_in(3) {
                set_clock(&mut self.random, &self.environment.history, &self.environment.counts);
            }
            tokio::time::sleep(countdown / 2 + self.random.millis(0, 40)).await;
            let pause = self.random.span(1, 2_000);
            let order =
                if self.random.one_in(2) { Order::Restart(pause) } else { Order::Crash(pause) };
            // The receiver lives as long as the world.
            let _ = self.environment.orders.send(order);
            tokio::time::sleep(self.random.span(1, PAUSE_MAX_MS)).await;
            expect(&self.environment.findings, "info", self.client.info(&ids).await);
            expect(
                &self.environment.findings,
                "resume",
                self.client.resume_queues(&[&self.queue]).await,
            );
            tokio::time::sleep(Duration::from_secs(2)).await;
        };
        tokio::select! {
            () = mishap => {}
            () = async { watching.await; std::future::pending().await } => {}
        }
    }

    async fn pause(&self) {
        expect(&self.environment.findings, "pause", self.client.pause_queues(&[&self.queue]).await);
    }

    async fn resume(&self) {
        expect(
            &self.environment.findings,
            "resume",
            self.client.resume_queues(&[&self.queue]).await,
        );
    }
}
