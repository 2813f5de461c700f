//! A world: one broker, its disk, a network, producers and workers, and what befalls them. In the
//! end all is healed, every task gets the time to end, and everything is read.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use celeriac_broker::Config;
use celeriac_broker::internals::simulation::{Disk, Fault};
use celeriac_client::{Client, State};
use celeriac_tests::history::{Event, History, Moment};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::dice::Dice;
use crate::findings::Findings;
use crate::host::{Counts, Host, Order};
use crate::network::{Network, Node};
use crate::producer::{Known, Producer, Trade};
use crate::ward::Ward;
use crate::worker::{Hand, URL};
use crate::{interpose, trace};

/// In this time, with healthy workers, everything has to end: what is put off, runs or tries again
/// takes less.
const DRAIN: Duration = Duration::from_secs(24 * 3_600);

/// How long results are kept in most worlds: until the end of it.
const RESULT_TTL_MS: u64 = 30 * 24 * 3_600 * 1_000;

/// Workers for the end.
const HEALTHY: usize = 4;

/// Programs of a ward: its producer, and one worker or two.
const WARD: (u64, u64) = (2, 3);

/// What one worker gets done.
const LINE_PAUSE_MAX_MS: u64 = 120_000;

/// Somebody sets the wall clock, by up to an hour; the next time back.
pub fn set_clock(dice: &mut Dice, history: &History, counts: &Counts) {
    let millis = match interpose::jumped_ms() {
        0 => dice.span(100, 3_600_000).as_millis() as i64 * if dice.one_in(2) { 1 } else { -1 },
        away => -away,
    };
    trace::step(&format!("the wall clock is set by {millis} ms"));
    counts.clock_jumps.fetch_add(1, Relaxed);
    interpose::jump(millis);
    history.note(Event::ClockSet);
}

pub struct World {
    dice: Dice,
    pub network: Network,
    pub history: History,
    pub findings: Findings,
    pub disk: Disk,
    pub counts: Arc<Counts>,
    orders: mpsc::UnboundedSender<Order>,
    producers: Vec<Producer>,
    hands: Vec<Hand>,
    ending: Vec<Hand>,
    /// The worker of the queue that is looked at for its order.
    in_line: Option<Hand>,
    line_producer: Option<Producer>,
    ward: Option<Ward>,
    trade: Trade,
    over: watch::Sender<bool>,
    latest: Node,
    pub worker_kills: u64,
    pub result_ttl_ms: u64,
}

impl World {
    /// The beginning: a broker on an empty disk, some producers, some workers.
    pub fn begin(seed: u64, findings: Findings) -> Self {
        let mut dice = Dice::new(seed);
        let network = Network::new(dice.fork());
        let history = History::with_clock(|| {
            let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            Moment {
                mono_ms: interpose::elapsed().as_millis() as u64,
                wall_ms: wall.as_millis() as i64,
            }
        });
        // What is forgotten soon makes room: only then is the log cleaned.
        let result_ttl_ms =
            if dice.one_in(4) { dice.between(5_000, 120_000) } else { RESULT_TTL_MS };
        let disk = Disk::new(dice.roll());
        let counts = Arc::new(Counts::default());
        let (orders, given) = mpsc::unbounded_channel();
        let host = Host {
            config: Config { result_ttl_ms, ..Config::new("simulated") },
            disk: disk.clone(),
            network: network.clone(),
            history: history.clone(),
            findings: findings.clone(),
            counts: counts.clone(),
            dice: dice.fork(),
        };
        tokio::spawn(host.run(given));
        let (over, is_over) = watch::channel(false);
        let queues = (0..dice.between(1, 4)).map(|number| format!("queue-{number}")).collect();
        let trade = Trade {
            network: network.clone(),
            history: history.clone(),
            findings: findings.clone(),
            known: Known::default(),
            queues,
            pause_max_ms: dice.span(8_000, 120_000).as_millis() as u64,
            may_operate: true,
            orders: orders.clone(),
            counts: counts.clone(),
            is_over,
        };
        let (producers, hands, ending, in_line) = (Vec::new(), Vec::new(), Vec::new(), None);
        let (latest, worker_kills) = (0, 0);
        let mut world = Self {
            dice,
            network,
            history,
            findings,
            disk,
            counts,
            orders,
            producers,
            hands,
            ending,
            in_line,
            line_producer: None,
            ward: None,
            trade,
            over,
            latest,
            worker_kills,
            result_ttl_ms,
        };
        (0..world.dice.between(1, 3)).for_each(|_| world.add_producer());
        (0..world.dice.between(1, 3)).for_each(|_| world.add_worker(false));
        if world.dice.one_in(3) {
            world.add_line();
        }
        if world.dice.one_in(3) {
            let programs = world.dice.between(WARD.0, WARD.1);
            let nodes: Vec<Node> = (0..programs).map(|_| world.next_node()).collect();
            world.ward = Some(Ward::open(&nodes, &world.trade, &mut world.dice));
        }
        world
    }

    /// A queue with one producer and one worker, whom nothing befalls but what befalls the broker:
    /// it keeps its order.
    fn add_line(&mut self) {
        let queues = vec!["line".to_owned()];
        let trade = Trade {
            queues: queues.clone(),
            may_operate: false,
            pause_max_ms: LINE_PAUSE_MAX_MS,
            ..self.trade.clone()
        };
        let node = self.next_node();
        self.line_producer = Some(Producer::start(node, &trade, self.dice.fork()));
        let node = self.next_node();
        self.in_line = Some(Hand::start(node, "line".to_owned(), &queues, &trade, &mut self.dice));
        self.history.note(Event::InOrder { queue: "line".to_owned() });
    }

    fn next_node(&mut self) -> Node {
        self.latest += 1;
        self.latest
    }

    fn add_producer(&mut self) {
        let node = self.next_node();
        trace::step(&format!("producer {node} begins"));
        self.producers.push(Producer::start(node, &self.trade, self.dice.fork()));
    }

    fn add_worker(&mut self, of_all: bool) {
        let node = self.next_node();
        let mut queues: Vec<String> = self.trade.queues.clone();
        if !of_all {
            queues.retain(|_| !self.dice.one_in(4));
        }
        if queues.is_empty() {
            queues.clone_from(&self.trade.queues);
        }
        trace::step(&format!("worker {node} begins"));
        self.hands.push(Hand::start(
            node,
            format!("worker-{node}"),
            &queues,
            &self.trade,
            &mut self.dice,
        ));
    }

    /// Lives for so long, with a mishap now and then.
    pub async fn live(&mut self, time: Duration) {
        let until = Instant::now() + time;
        let pause_max_ms = self.dice.span(16_000, 240_000).as_millis() as u64;
        while Instant::now() < until {
            tokio::time::sleep(self.dice.span(400, pause_max_ms)).await;
            self.befall();
            self.ending.retain(|hand| !hand.has_ended());
            self.hands.retain(|hand| !hand.has_ended());
        }
    }

    fn befall(&mut self) {
        match self.dice.below(24) {
            0..4 => {
                let pause = self.dice.span(1, 40_000);
                self.order(Order::Crash(pause));
            }
            4 => {
                let pause = self.dice.span(1, 10_000);
                self.order(Order::Restart(pause));
            }
            5..8 if !self.hands.is_empty() => {
                let at = self.dice.below(self.hands.len() as u64) as usize;
                let hand = self.hands.swap_remove(at);
                trace::step(&format!("worker {} is killed", hand.node));
                self.worker_kills += 1;
                hand.kill(&self.network);
            }
            8 if !self.hands.is_empty() => {
                let at = self.dice.below(self.hands.len() as u64) as usize;
                let hand = self.hands.swap_remove(at);
                trace::step(&format!("worker {} is told to end", hand.node));
                hand.stop();
                self.ending.push(hand);
            }
            9 if !self.ending.is_empty() => {
                let at = self.dice.below(self.ending.len() as u64) as usize;
                let hand = self.ending.swap_remove(at);
                trace::step(&format!("worker {} is killed while it ends", hand.node));
                self.worker_kills += 1;
                hand.kill(&self.network);
            }
            9..12 if self.hands.len() < 4 => self.add_worker(false),
            12 => self.replace_producer(),
            13..15 => {
                let (node, span) = (self.anybody(), self.dice.span(200, 90_000));
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
                let fault = *self.dice.pick(&[Fault::Write, Fault::Sync, Fault::Stall]);
                trace::step(&format!("the disk will fail: {fault:?}"));
                self.disk.fail(fault);
            }
            22 => {
                let is_low = self.dice.one_in(2);
                trace::step(&format!("the disk is low: {is_low}"));
                self.disk.set_low(is_low);
            }
            23 => self.jump(),
            _ => {}
        }
    }

    fn order(&mut self, order: Order) {
        trace::step(&format!("{order:?}"));
        // The host lives as long as the world.
        let _ = self.orders.send(order);
    }

    fn replace_producer(&mut self) {
        if self.producers.len() > 1 {
            let at = self.dice.below(self.producers.len() as u64) as usize;
            let producer = self.producers.swap_remove(at);
            trace::step(&format!("producer {} is killed", producer.node));
            producer.kill(&self.network);
        }
        self.add_producer();
    }

    fn anybody(&mut self) -> Node {
        let nodes: Vec<Node> = self
            .hands
            .iter()
            .map(|hand| hand.node)
            .chain(self.producers.iter().map(|one| one.node))
            .collect();
        if nodes.is_empty() { 0 } else { *self.dice.pick(&nodes) }
    }

    fn jump(&mut self) {
        set_clock(&mut self.dice, &self.history, &self.counts);
    }

    /// No more mishaps and no more requests: everything ends, and is read.
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
            std::mem::take(&mut self.producers).into_iter().chain(self.line_producer.take())
        {
            producer.end().await;
        }
        if let Some(ward) = &mut self.ward {
            ward.end().await;
        }
        let node = self.next_node();
        let connector = self.network.connector(node, "the reader", &self.history);
        // A crash that was ordered before may still come, and take its time.
        let patience = Duration::from_secs(600);
        let client =
            Client::builder(URL).connector(connector).wait_for_broker(patience).timeout(patience);
        let client = match client.connect().await {
            Ok(client) => client,
            Err(error) => return self.findings.add(format!("in the end nobody gets in: {error}")),
        };
        if let Err(error) = client.resume_queues(&self.trade.queues).await {
            self.findings.add(format!("in the end no queue can be resumed: {error}"));
        }
        self.drain(&client).await;
        self.history.note(Event::Settled);
        trace::step("settled");
        let ids = self.ids();
        match client.info_with_results(&ids).await {
            Ok(infos) => self.ward.iter().for_each(|ward| ward.judge(&infos, &self.findings)),
            Err(error) => self.findings.add(format!("in the end nothing can be read: {error}")),
        }
        let of_ward = self.ward.take().map_or_else(Vec::new, Ward::close);
        for hand in
            std::mem::take(&mut self.hands).into_iter().chain(self.in_line.take()).chain(of_ward)
        {
            hand.stop();
            self.ending.push(hand);
        }
        client.close().await;
    }

    /// Until every task has ended, or should have.
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
                Err(error) => self.findings.add(format!("in the end a read fails: {error}")),
            }
            if left.is_empty() && is_all || Instant::now() > until {
                return;
            }
            if left.is_empty() {
                // Those that ended late may have submitted others, and those that had ended once
                // more.
                left = self.ids();
                continue;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(300));
        }
    }

    fn ids(&self) -> Vec<String> {
        let of_ward = self.ward.iter().flat_map(Ward::ids);
        self.trade.known.all().into_iter().chain(of_ward).collect()
    }

    pub fn tasks(&self) -> usize {
        self.ids().len()
    }

    pub fn crashes(&self) -> u64 {
        self.counts.crashes.load(Relaxed)
    }
}
