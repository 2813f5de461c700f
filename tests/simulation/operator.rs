//! What operators of a world do: cancel many, purge, delete, pause and resume queues, run dead
//! tasks again, order workers about; and mishaps at the moments that matter: when a pause was
//! answered, when a task is due.

use std::time::Duration;

use celeriac_client::{CancelMode, Client, Submission, WorkerOrder};
use tokio::task::JoinSet;

use crate::dice::Dice;
use crate::host::Order;
use crate::producer::{Maker, Trade, expect};
use crate::world::set_clock;

/// The longest that a queue stands still.
const PAUSE_MAX_MS: u64 = 20_000;
/// The longest that a task is put off whose due time is waited for.
const DUE_MAX_MS: u64 = 4_000;

impl Maker {
    /// What operators do, now and then.
    pub fn operate(&mut self, client: Client, under_way: &mut JoinSet<()>) {
        let findings = self.trade.findings.clone();
        let queue = self.dice.pick(&self.trade.queues).clone();
        match self.dice.below(20) {
            0..3 => {
                let tag = format!("tag-{}", self.dice.below(6));
                let mode = CancelMode::Cooperative;
                under_way.spawn(async move {
                    expect(&findings, "cancel", client.cancel_tagged(tag, mode).await)
                });
            }
            3 | 4 => {
                let Some(root) = self.trade.known.some(&mut self.dice, 1).pop() else { return };
                let mode = CancelMode::Force { grace: None };
                under_way.spawn(async move {
                    expect(&findings, "cancel", client.cancel_tree(root, mode).await)
                });
            }
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
            10 => {
                under_way.spawn(async move {
                    expect(&findings, "delete", client.delete_queue(&queue).await)
                });
            }
            11 => {
                let ids = self.trade.known.some(&mut self.dice, 4);
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
            13..15 => {
                let stand =
                    Still { client, trade: self.trade.clone(), dice: self.dice.fork(), queue };
                under_way.spawn(stand.interrupt());
            }
            15..17 => {
                let task = self.task();
                let stand =
                    Still { client, trade: self.trade.clone(), dice: self.dice.fork(), queue };
                under_way.spawn(stand.put_off(task));
            }
            7..10 => {
                under_way.spawn(async move {
                    expect(&findings, "resume", client.resume_queues(&[queue]).await)
                });
            }
            _ => {
                let worker = format!("worker-{}", self.dice.between(1, 20));
                let order = *self.dice.pick(&[
                    WorkerOrder::Quiet,
                    WorkerOrder::Resume,
                    WorkerOrder::Shutdown,
                ]);
                under_way.spawn(async move {
                    expect(&findings, "order", client.order_workers(&[worker], order).await)
                });
            }
        }
    }
}

/// A queue that stands still while something happens.
struct Still {
    client: Client,
    trade: Trade,
    dice: Dice,
    queue: String,
}

impl Still {
    /// The queue is full of work, and is paused for a while.
    async fn interrupt(mut self) {
        self.pause().await;
        tokio::time::sleep(self.dice.span(10, PAUSE_MAX_MS)).await;
        self.resume().await;
    }

    /// A task of a queue that stands still is due, is seen to be so, and right then something
    /// happens.
    async fn put_off(mut self, task: Submission) {
        self.pause().await;
        let countdown = self.dice.span(20, DUE_MAX_MS);
        let task = task.queue(self.queue.clone()).countdown(countdown);
        let ids = [task.id().to_owned()];
        let watched = self.client.watch(&ids).await;
        let watching = async {
            if let Ok(mut watch) = watched {
                while watch.next().await.is_some() {}
            }
        };
        let mishap = async {
            expect(&self.trade.findings, "submit", self.client.submit_many([task]).await);
            tokio::time::sleep(countdown / 2).await;
            if self.dice.one_in(3) {
                set_clock(&mut self.dice, &self.trade.history, &self.trade.counts);
            }
            tokio::time::sleep(countdown / 2 + self.dice.millis(0, 40)).await;
            let pause = self.dice.span(1, 2_000);
            let order =
                if self.dice.one_in(2) { Order::Restart(pause) } else { Order::Crash(pause) };
            // The host lives as long as the world.
            let _ = self.trade.orders.send(order);
            tokio::time::sleep(self.dice.span(1, PAUSE_MAX_MS)).await;
            expect(&self.trade.findings, "info", self.client.info(&ids).await);
            expect(&self.trade.findings, "resume", self.client.resume_queues(&[&self.queue]).await);
            tokio::time::sleep(Duration::from_secs(2)).await;
        };
        tokio::select! {
            () = mishap => {}
            () = async { watching.await; std::future::pending().await } => {}
        }
    }

    async fn pause(&self) {
        expect(&self.trade.findings, "pause", self.client.pause_queues(&[&self.queue]).await);
    }

    async fn resume(&self) {
        expect(&self.trade.findings, "resume", self.client.resume_queues(&[&self.queue]).await);
    }
}
