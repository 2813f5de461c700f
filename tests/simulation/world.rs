//! A world: one broker, its disk, a network, producers, workers, and the faults that happen to
//! them. At the end all faults stop, every task gets the time to end, and the state of every task
//! is read.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use celeriac_broker::Config;
use celeriac_client::{Client, State};
use celeriac_history::{Event, History, Moment};
use celeriac_tests::simulated_disk::{Disk, Fault};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::findings::Findings;
use crate::host::{Counts, Host, Order};
use crate::network::{Network, Node};
use crate::poison_queue::PoisonQueue;
use crate::producer::{Environment, Producer, TaskIds};
use crate::worker::{SimulatedWorker, URL};
use crate::{interpose, trace};
use celeriac_tests::RandomSource;

/// With healthy workers every task ends in this time. Countdowns, runs and retries of all tasks
/// take less.
const DRAIN: Duration = Duration::from_secs(24 * 3_600);

/// How long results are kept in most worlds: longer than the world lasts.
const RESULT_TTL_MS: u64 = 30 * 24 * 3_600 * 1_000;

/// Workers that are started for the end of a world.
const HEALTHY: usize = 4;

/// The number of programs of a poison queue: its producer, and one worker or two.
const POISON_QUEUE_PROGRAMS: (u64, u64) = (2, 3);

/// The longest pause between two requests of the producer of the ordered queue. One worker can keep
/// up with it.
const ORDERED_PAUSE_MAX_MS: u64 = 120_000;

/// Sets the wall clock by up to an hour. The next call sets it back.
pub fn set_clock(random: &mut RandomSource, history: &History, counts: &Counts) {
    let millis = match interpose::jumped_ms() {
        0 => random.span(100, 3_600_000).as_millis() as i64 * if random.one_in(2) { 1 } else { -1 },
        away => -away,
    };
    trace::step(&format!("the wall clock is set by {millis} ms"));
    counts.clock_jumps.fetch_add(1, Relaxed);
    interpose::jump(millis);
    history.note(Event::ClockSet);
}

pub struct World {
    random: RandomSource,
    pub network: Network,
    pub history: History,
    pub findings: Findings,
    pub disk: Disk,
    pub counts: Arc<Counts>,
    orders: mpsc::UnboundedSender<Order>,
    producers: Vec<Producer>,
    workers: Vec<SimulatedWorker>,
    ending: Vec<SimulatedWorker>,
    /// The one worker of the queue whose order is judged.
    ordered_worker: Option<SimulatedWorker>,
    ordered_producer: Option<Producer>,
    poison_queue: Option<PoisonQueue>,
    environment: Environment,
    over: watch::Sender<bool>,
    latest: Node,
    pub worker_kills: u64,
    pub result_ttl_ms: u64,
}

impl World {
    /// Starts a broker on an empty disk, some producers and some workers.
    pub fn begin(seed: u64, findings: Findings) -> Self {
        let mut random = RandomSource::new(seed);
        let network = Network::new(random.fork());
        let history = History::with_clock(|| {
            let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            Moment {
                mono_ms: interpose::elapsed().as_millis() as u64,
                wall_ms: wall.as_millis() as i64,
            }
        });
        // The log is cleaned only when tasks are forgotten soon.
        let result_ttl_ms =
            if random.one_in(4) { random.between(5_000, 120_000) } else { RESULT_TTL_MS };
        let disk = Disk::new(random.bits());
        let counts = Arc::new(Counts::default());
        let (orders, given) = mpsc::unbounded_channel();
        let host = Host {
            config: Config { result_ttl_ms, ..Config::new("simulated") },
            disk: disk.clone(),
            network: network.clone(),
            history: history.clone(),
            findings: findings.clone(),
            counts: counts.clone(),
            random: random.fork(),
        };
        tokio::spawn(host.run(given));
        let (over, is_over) = watch::channel(false);
        let queues = (0..random.between(1, 4)).map(|number| format!("queue-{number}")).collect();
        let environment = Environment {
            network: network.clone(),
            history: history.clone(),
            findings: findings.clone(),
            task_ids: TaskIds::default(),
            queues,
            pause_max_ms: random.span(8_000, 120_000).as_millis() as u64,
            may_operate: true,
            orders: orders.clone(),
            counts: counts.clone(),
            is_over,
        };
        let mut world = Self {
            random,
            network,
            history,
            findings,
            disk,
            counts,
            orders,
            producers: Vec::new(),
            workers: Vec::new(),
            ending: Vec::new(),
            ordered_worker: None,
            ordered_producer: None,
            poison_queue: None,
            environment,
            over,
            latest: 0,
            worker_kills: 0,
            result_ttl_ms,
        };
        world.populate();
        world
    }

    fn populate(&mut self) {
        for _ in 0..self.random.between(1, 3) {
            self.add_producer();
        }
        for _ in 0..self.random.between(1, 3) {
            self.add_worker(false);
        }
        if self.random.one_in(3) {
            self.add_ordered_queue();
        }
        if self.random.one_in(3) {
            let programs = self.random.between(POISON_QUEUE_PROGRAMS.0, POISON_QUEUE_PROGRAMS.1);
            let nodes: Vec<Node> = (0..programs).map(|_| self.next_node()).collect();
            let queue = PoisonQueue::open(&nodes, &self.environment, &mut self.random);
            self.poison_queue = Some(queue);
        }
    }

    /// Adds a queue with one producer and one worker. Faults happen to the broker only, so the
    /// queue keeps its order.
    fn add_ordered_queue(&mut self) {
        let queues = vec!["line".to_owned()];
        let environment = Environment {
            queues: queues.clone(),
            may_operate: false,
            pause_max_ms: ORDERED_PAUSE_MAX_MS,
            ..self.environment.clone()
        };
        let node = self.next_node();
        self.ordered_producer = Some(Producer::start(node, &environment, self.random.fork()));
        let node = self.next_node();
        self.ordered_worker = Some(SimulatedWorker::start(
            node,
            "line".to_owned(),
            &queues,
            &environment,
            &mut self.random,
        ));
        self.history.note(Event::InOrder { queue: "line".to_owned() });
    }

    fn next_node(&mut self) -> Node {
        self.latest += 1;
        self.latest
    }

    fn add_producer(&mut self) {
        let node = self.next_node();
        trace::step(&format!("producer {node} begins"));
        self.producers.push(Producer::start(node, &self.environment, self.random.fork()));
    }

    fn add_worker(&mut self, of_all: bool) {
        let node = self.next_node();
        let mut queues: Vec<String> = self.environment.queues.clone();
        if !of_all {
            queues.retain(|_| !self.random.one_in(4));
        }
        if queues.is_empty() {
            queues.clone_from(&self.environment.queues);
        }
        trace::step(&format!("worker {node} begins"));
        self.workers.push(SimulatedWorker::start(
            node,
            format!("worker-{node}"),
            &queues,
            &self.environment,
            &mut self.random,
        ));
    }

    /// Runs the world for this time, with a fault after every random pause.
    pub async fn live(&mut self, time: Duration) {
        let until = Instant::now() + time;
        let pause_max_ms = self.random.span(16_000, 240_000).as_millis() as u64;
        while Instant::now() < until {
            tokio::time::sleep(self.random.span(400, pause_max_ms)).await;
            self.cause_mishap();
            self.ending.retain(|worker| !worker.has_ended());
            self.workers.retain(|worker| !worker.has_ended());
        }
    }

    fn cause_mishap(&mut self) {
        match self.random.below(24) {
            0..4 => {
                let pause = self.random.span(1, 40_000);
                self.order(Order::Crash(pause));
            }
            4 => {
                let pause = self.random.span(1, 10_000);
                self.order(Order::Restart(pause));
            }
            5..8 if !self.workers.is_empty() => {
                let at = self.random.below(self.workers.len() as u64) as usize;
                let worker = self.workers.swap_remove(at);
                trace::step(&format!("worker {} is killed", worker.node));
                self.worker_kills += 1;
                worker.kill(&self.network);
            }
            8 if !self.workers.is_empty() => {
                let at = self.random.below(self.workers.len() as u64) as usize;
                let worker = self.workers.swap_remove(at);
                trace::step(&format!("worker {} is told to end", worker.node));
                worker.stop();
                self.ending.push(worker);
            }
            9 if !self.ending.is_empty() => {
                let at = self.random.below(self.ending.len() as u64) as usize;
                let worker = self.ending.swap_remove(at);
                trace::step(&format!("worker {} is killed while it ends", worker.node));
                self.worker_kills += 1;
                worker.kill(&self.network);
            }
            9..12 if self.workers.len() < 4 => self.add_worker(false),
            12 => self.replace_producer(),
            13..15 => {
                let (node, span) = (self.anybody(), self.random.span(200, 90_000));
                trace::step(&format!("{node} is cut off for {span:?}"));
                self.network.cut_off(node, span);
            }
            15..19 => {
                let node = self.anybody();
                trace::step(&format!("a connection of {node} will break"));
                self.network.reset_soon(node);
            }
            19 => {
                let node = self.anybody();
                trace::step(&format!("one direction of {node} ends"));
                self.network.half_close(node);
            }
            20 | 21 => {
                let fault = *self.random.pick(&[Fault::Write, Fault::Sync, Fault::Stall]);
                trace::step(&format!("the disk will fail: {fault:?}"));
                self.disk.fail(fault);
            }
            22 => {
                let is_low = self.random.one_in(2);
                trace::step(&format!("the disk is low: {is_low}"));
                self.disk.set_low(is_low);
            }
            23 => self.jump(),
            _ => {}
        }
    }

    fn order(&mut self, order: Order) {
        trace::step(&format!("{order:?}"));
        // The receiver lives as long as the world.
        let _ = self.orders.send(order);
    }

    fn replace_producer(&mut self) {
        if self.producers.len() > 1 {
            let at = self.random.below(self.producers.len() as u64) as usize;
            let producer = self.producers.swap_remove(at);
            trace::step(&format!("producer {} is killed", producer.node));
            producer.kill(&self.network);
        }
        self.add_producer();
    }

    fn anybody(&mut self) -> Node {
        let nodes: Vec<Node> = self
            .workers
            .iter()
            .map(|worker| worker.node)
            .chain(self.producers.iter().map(|one| one.node))
            .collect();
        if nodes.is_empty() { 0 } else { *self.random.pick(&nodes) }
    }

    fn jump(&mut self) {
        set_clock(&mut self.random, &self.history, &self.counts);
    }

    /// Ends all faults and all requests, waits until every task has ended, and reads all tasks.
    pub async fn settle(&mut self) {
        trace::step("all is healed");
        if interpose::jumped_ms() != 0 {
            self.jump();
        }
        self.network.heal();
        self.disk.set_low(false);
        self.over.send_replace(true);
        (0..HEALTHY).for_each(|_| self.add_worker(true));
        for producer in
            std::mem::take(&mut self.producers).into_iter().chain(self.ordered_producer.take())
        {
            producer.end().await;
        }
        if let Some(poison_queue) = &mut self.poison_queue {
            poison_queue.end().await;
        }
        let node = self.next_node();
        let connector = self.network.connector(node, "the reader", &self.history);
        // A crash that was ordered before may still happen, and the broker is then away for some
        // time.
        let patience = Duration::from_secs(600);
        let client =
            Client::builder(URL).connector(connector).wait_for_broker(patience).timeout(patience);
        let client = match client.connect().await {
            Ok(client) => client,
            Err(error) => {
                return self.findings.add(format!("at the end no client can connect: {error}"));
            }
        };
        if let Err(error) = client.resume_queues(&self.environment.queues).await {
            self.findings.add(format!("at the end no queue can be resumed: {error}"));
        }
        if let Err(error) = client.drain(false).await {
            self.findings.add(format!("at the end a drain cannot be ended: {error}"));
        }
        self.drain(&client).await;
        self.history.note(Event::Settled);
        trace::step("settled");
        let ids = self.ids();
        match client.info_with_results(&ids).await {
            Ok(infos) => self
                .poison_queue
                .iter()
                .for_each(|poison_queue| poison_queue.judge(&infos, &self.findings)),
            Err(error) => {
                self.findings.add(format!("at the end the tasks cannot be read: {error}"))
            }
        }
        let of_poison_queue = self.poison_queue.take().map_or_else(Vec::new, PoisonQueue::close);
        for worker in std::mem::take(&mut self.workers)
            .into_iter()
            .chain(self.ordered_worker.take())
            .chain(of_poison_queue)
        {
            worker.stop();
            self.ending.push(worker);
        }
        client.close().await;
    }

    /// Waits until every task has ended, at most for [`DRAIN`].
    async fn drain(&self, client: &Client) {
        let until = Instant::now() + DRAIN;
        let mut left = self.ids();
        let mut pause = Duration::from_millis(500);
        loop {
            let is_all = left.len() == self.ids().len();
            match client.info(&left).await {
                Ok(tasks) => {
                    let open = tasks
                        .iter()
                        .filter(|task| !task.state.is_ended() && task.state != State::Unknown);
                    left = open.map(|task| task.id.clone()).collect();
                }
                Err(error) => self.findings.add(format!("at the end a read fails: {error}")),
            }
            if left.is_empty() && is_all || Instant::now() > until {
                return;
            }
            if left.is_empty() {
                // Tasks that ended late may have submitted others, and ended tasks may have been
                // submitted again.
                left = self.ids();
                continue;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(300));
        }
    }

    fn ids(&self) -> Vec<String> {
        let of_poison_queue = self.poison_queue.iter().flat_map(PoisonQueue::ids);
        let mut ids: Vec<String> =
            self.environment.task_ids.all().into_iter().chain(of_poison_queue).collect();
        // Nobody may have heard of the id of a task beside another but the tap.
        let known: BTreeSet<&String> = ids.iter().collect();
        let confirmed = self.history.confirmed();
        let unheard: Vec<String> = confirmed.into_iter().filter(|id| !known.contains(id)).collect();
        ids.extend(unheard);
        ids
    }

    pub fn tasks(&self) -> usize {
        self.ids().len()
    }

    pub fn crashes(&self) -> u64 {
        self.counts.crashes.load(Relaxed)
    }
}
