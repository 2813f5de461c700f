//! Producers submit one batch after the other. Between batches wild ones cancel, forget, use ids
//! again, read, purge the queue, or pause it for a moment.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use celeriac_proto::wire;
use tokio::time::sleep;

use super::{NAME, ORDERED, QUEUE, RETRY_PAUSE, Traffic, soon};
use crate::RandomSource;
use crate::raw::{self, Lost, RawConnection, Request};

const BATCH: usize = 20;
/// One in so many requests is a pause.
const RARELY: u64 = 60;
/// How many ids a producer remembers.
const REMEMBERED: usize = 400;

/// One producer, over all its connections.
struct Producer {
    number: usize,
    queue: &'static str,
    connection: Option<RawConnection>,
    random: RandomSource,
    batches: u64,
    ids: Vec<String>,
    /// The queue is paused or may be, and this producer has to resume it.
    has_paused: bool,
}

impl Traffic {
    /// Submits one batch after the other. A tame producer sends each again until it is confirmed. A
    /// wild one may give up.
    pub async fn produce(self: Arc<Self>, number: usize) {
        self.produce_for(number, QUEUE).await;
    }

    /// The one producer whose order is judged.
    pub async fn produce_in_order(self: Arc<Self>) {
        self.produce_for(usize::MAX >> 1, ORDERED).await;
    }

    async fn produce_for(&self, number: usize, queue: &'static str) {
        let random = self.random(1, number);
        let (batches, ids, has_paused) = (0, Vec::new(), false);
        let mut producer =
            Producer { number, queue, connection: None, random, batches, ids, has_paused };
        while self.producing.load(Ordering::SeqCst) {
            let request = producer.next_request(self.is_wild);
            while let Err(Lost(_)) = producer.send(self, &request).await {
                producer.connection = None;
                // The broker may be down: try again after a pause.
                sleep(RETRY_PAUSE).await;
                if self.is_wild && producer.random.below(2) == 0 {
                    break;
                }
            }
        }
        while producer.has_paused {
            if producer.send(self, &pause(queue, false)).await.is_ok() {
                producer.has_paused = false;
            } else {
                producer.connection = None;
                // The broker may be down: try again after a pause.
                sleep(RETRY_PAUSE).await;
            }
        }
    }
}

impl Producer {
    async fn send(&mut self, traffic: &Traffic, request: &Request) -> Result<(), Lost> {
        if self.connection.is_none() {
            let name = format!("producer-{}", self.number);
            self.connection = Some(traffic.open(&name, raw::hello()).await?.0);
        }
        let connection = self.connection.as_mut().expect("it was just opened");
        soon(connection.try_request(request.clone())).await.map(|_| ())
    }

    fn next_request(&mut self, is_wild: bool) -> Request {
        let is_ordered = self.queue == ORDERED;
        if is_wild && !is_ordered && self.random.below(RARELY) == 0 {
            self.has_paused = true;
            return pause(self.queue, true);
        }
        if is_wild && !is_ordered && self.random.below(5 * RARELY) == 0 {
            return Request::PurgeQueue(wire::PurgeQueue { queue: self.queue.into() });
        }
        if self.has_paused && self.random.below(3) == 0 {
            // The answer does not matter: the producer asks again at the end, and no promise says
            // that the queue is resumed.
            return pause(self.queue, false);
        }
        match self.random.below(10) {
            0 if is_wild && !is_ordered => self.again(),
            1 if is_wild && !is_ordered => Request::Cancel(self.cancel()),
            2 if is_wild && !is_ordered => Request::Forget(wire::Forget { ids: self.some_ids(3) }),
            3 | 4 if is_wild && !self.ids.is_empty() => Request::Get(wire::Get {
                ids: self.some_ids(20),
                with_results: true,
                ..Default::default()
            }),
            _ => self.batch(is_wild),
        }
    }

    fn batch(&mut self, is_wild: bool) -> Request {
        self.batches += 1;
        let tasks: Vec<wire::Task> = (0..BATCH)
            .map(|item| {
                let id = format!("{}-{}-{item}", self.number, self.batches);
                let tame = tame(&id, self.queue);
                if is_wild { wild(tame, &mut self.random, self.queue == ORDERED) } else { tame }
            })
            .collect();
        self.ids.extend(tasks.iter().map(|task| task.id.clone()));
        let forgotten = self.ids.len().saturating_sub(REMEMBERED);
        self.ids.drain(..forgotten);
        Request::Submit(wire::Submit { tasks })
    }

    /// Submits some used ids again, with other payloads and any policy.
    fn again(&mut self) -> Request {
        let ids = self.some_ids(4);
        let tasks = ids.into_iter().map(|id| {
            let policy = [
                wire::OnConflict::RunAgainIfFinished,
                wire::OnConflict::Reject,
                wire::OnConflict::Replace,
                wire::OnConflict::Beside,
            ];
            let policy = policy[self.random.below(4) as usize];
            let mut task = wire::Task { on_conflict: policy.into(), ..tame(&id, self.queue) };
            let number = self.random.below(1_000);
            task.payload = Bytes::from(format!("[[\"{id} again {number}\"],{{}}]"));
            if policy == wire::OnConflict::Beside || self.random.below(4) == 0 {
                task.submit_key = format!("{:x}", self.random.bits());
            }
            task
        });
        let tasks: Vec<_> = tasks.collect();
        if tasks.is_empty() { self.batch(true) } else { Request::Submit(wire::Submit { tasks }) }
    }

    fn cancel(&mut self) -> wire::Cancel {
        let mode = [wire::cancel::Mode::Cooperative, wire::cancel::Mode::Force]
            [self.random.below(2) as usize];
        wire::Cancel {
            ids: self.some_ids(3),
            mode: mode.into(),
            grace_ms: Some(50),
            ..Default::default()
        }
    }

    /// Some known ids: half of the time recent ones. There may be fewer than asked for.
    fn some_ids(&mut self, count: usize) -> Vec<String> {
        let known = self.ids.len() as u64;
        if known == 0 {
            // No task has this id, and the answer says so.
            return vec!["nobody".into()];
        }
        let mut ids: Vec<String> = (0..count)
            .map(|_| {
                let back = if self.random.below(2) == 0 {
                    self.random.below(known.min(30))
                } else {
                    self.random.below(known)
                };
                self.ids[(known - 1 - back) as usize].clone()
            })
            .collect();
        ids.sort();
        ids.dedup();
        ids
    }
}

fn pause(queue: &str, paused: bool) -> Request {
    Request::PauseQueues(wire::PauseQueues { queues: vec![queue.into()], paused })
}

pub(super) fn tame(id: &str, queue: &str) -> wire::Task {
    let retry = wire::RetryPolicy {
        delay_ms: Some(5),
        backoff: wire::Backoff::Fixed.into(),
        ..Default::default()
    };
    wire::Task {
        queue: queue.into(),
        payload: Bytes::from(format!("[[\"{id}\"],{{}}]")),
        retry: Some(retry),
        on_conflict: wire::OnConflict::Reject.into(),
        ..raw::task(id, NAME)
    }
}

/// Gives the task some of all options that a task can have.
fn wild(mut task: wire::Task, random: &mut RandomSource, is_ordered: bool) -> wire::Task {
    task.priority = (random.below(3) == 0).then(|| random.below(10) as u32);
    if is_ordered {
        return task;
    }
    if random.below(2) == 0 {
        task.on_conflict = wire::OnConflict::RunAgainIfFinished.into();
    }
    match random.below(16) {
        0 | 1 => task.countdown_ms = Some(random.between(5, 300)),
        2 => task.expires_in_ms = Some(random.between(1, 60)),
        3 => task.expires_in_ms = Some(10_000),
        4 => {
            task.countdown_ms = Some(random.between(5, 50));
            task.expires_in_ms = Some(random.between(20, 100));
        }
        5 => task.result_ttl_ms = Some(random.between(0, 2_000)),
        // A task whose first attempts fail may expire between two attempts.
        10 | 11 => {
            task.expires_in_ms = Some(random.between(1, 400));
            let (delay_ms, backoff) = (Some(random.between(1, 400)), wire::Backoff::Fixed.into());
            task.retry = Some(wire::RetryPolicy { delay_ms, backoff, ..Default::default() });
        }
        6 => task.retry = Some(wire::RetryPolicy { max_attempts: Some(1), ..Default::default() }),
        7 => task.early_ack = true,
        12 => task.announce_end = true,
        13 => {
            task.announce_end = true;
            task.expires_in_ms = Some(random.between(1, 60));
        }
        8 => task.max_deliveries = Some(random.between(1, 3) as u32),
        9 => {
            let filler = "x".repeat(random.below(40_000) as usize);
            task.payload = Bytes::from(format!("[[\"{} {filler}\"],{{}}]", task.id));
        }
        _ => {}
    }
    task
}
