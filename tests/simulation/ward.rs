//! A ward: a queue with tasks that all succeed, but for one whose handler ends every process that
//! it runs in. Nothing else befalls its workers but what befalls the broker. In the end that one is
//! dead, and all others have succeeded.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use celeriac_client::{Client, RetryPolicy, State, Submission, TaskInfo};
use tokio::task::JoinHandle;

use crate::dice::Dice;
use crate::findings::Findings;
use crate::network::Node;
use crate::producer::{Known, Trade, expect};
use crate::worker::{Failure, Hand, NAME, Plan, URL};

const QUEUE: &str = "ward";
const POISON: &str = "ward-poison";
/// Results are kept until they are judged.
const RESULT_TTL: Duration = Duration::from_secs(30 * 24 * 3_600);

/// One ward.
pub struct Ward {
    producing: JoinHandle<()>,
    hands: Vec<Hand>,
    known: Known,
    confirmed: Arc<Mutex<Vec<String>>>,
}

impl Ward {
    /// With these programs: the first produces, the others work.
    pub fn open(nodes: &[Node], trade: &Trade, dice: &mut Dice) -> Self {
        // Nobody else has second thoughts about its tasks.
        let known = Known::default();
        let queues = vec![QUEUE.to_owned()];
        let trade = Trade { queues, known: known.clone(), may_operate: false, ..trade.clone() };
        let confirmed = Arc::new(Mutex::new(Vec::new()));
        let (producer, workers) = nodes.split_first().expect("somebody produces");
        let hands = workers
            .iter()
            .map(|node| Hand::start(*node, format!("ward-{node}"), &trade.queues, &trade, dice))
            .collect();
        let producing = tokio::spawn(produce(*producer, trade, dice.fork(), confirmed.clone()));
        Self { producing, hands, known, confirmed }
    }

    /// Waits until its producer has nothing under way.
    pub async fn end(&mut self) {
        // A panic was written down.
        let _ = (&mut self.producing).await;
    }

    /// All ids of it.
    pub fn ids(&self) -> Vec<String> {
        self.known.all()
    }

    /// Its workers, when all is done.
    pub fn close(self) -> Vec<Hand> {
        self.hands
    }

    /// What became of the tasks that were confirmed.
    pub fn judge(&self, infos: &[TaskInfo], findings: &Findings) {
        for id in self.confirmed.lock().expect("nothing panics with this lock").iter() {
            let Some(info) = infos.iter().find(|info| info.id == *id) else { continue };
            let wanted = if id == POISON { State::Failure } else { State::Success };
            if info.state != wanted {
                let (state, attempts, deliveries) = (info.state, info.attempts, info.deliveries);
                let errors: Vec<&str> = info.errors.iter().map(|error| &*error.kind).collect();
                findings.add(format!(
                    "the ward: {id} is {state:?} after {attempts} attempts and {deliveries} deliveries, {errors:?}"
                ));
            }
        }
    }
}

async fn produce(node: Node, trade: Trade, mut dice: Dice, confirmed: Arc<Mutex<Vec<String>>>) {
    let name = format!("ward-{node}");
    let connector = trade.network.connector(node, &name, &trade.history);
    let client = Client::builder(URL)
        .connector(connector)
        .instance(name)
        .wait_for_broker(Duration::from_secs(3_600));
    let Ok(client) = client.connect().await else { return };
    let mut is_over = trade.is_over.clone();
    let (mut made, poisoned_at) = (0, dice.between(1, 20));
    while !*is_over.borrow() {
        for _ in 0..dice.between(1, 12) {
            made += 1;
            let is_poison = made == poisoned_at;
            let id = if is_poison { POISON.to_owned() } else { format!("ward-{node}-{made}") };
            trade.known.add(&id);
            let outcome = client.submit_many([task(&id, is_poison, &mut dice)]).await;
            if outcome.as_ref().is_ok_and(|receipts| receipts.iter().all(|receipt| receipt.is_ok()))
            {
                confirmed.lock().expect("nothing panics with this lock").push(id);
            }
            expect(&trade.findings, "submit", outcome);
        }
        let pause = dice.span(100, 30_000);
        tokio::select! {
            _ = tokio::time::sleep(pause) => {}
            _ = is_over.wait_for(|over| *over) => break,
        }
    }
    client.close().await;
}

fn task(id: &str, is_poison: bool, dice: &mut Dice) -> Submission {
    let plan = Plan {
        millis: if is_poison { dice.below(30) } else { dice.span(1, 4_000).as_millis() as u64 },
        failures: 0,
        failure: Failure::Fatal,
        result_bytes: 10,
        progress: 0,
        heeds: false,
        children: 0,
        kills: is_poison,
        filling: String::new(),
    };
    // Those that run beside it when it ends their process lose an attempt each time, and have
    // enough of them.
    let attempts = if is_poison { dice.between(1, 4) as u32 } else { 8 };
    let retry = RetryPolicy::fixed(Duration::from_secs(1)).max_attempts(attempts);
    Submission::new(NAME).task_id(id).args((plan,)).queue(QUEUE).result_ttl(RESULT_TTL).retry(retry)
}
