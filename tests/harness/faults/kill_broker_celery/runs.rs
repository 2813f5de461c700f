//! The runs of an application: each says that it begins before it does anything. They are written
//! into the history, and judged here: Celery's worker is no witness of what it did itself.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use celeriac_history::{Answer, Entry, Event, History};
use celeriac_proto::wire::TaskState;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep};

/// One run: of this generation of an id, under this lease. A run under a lease that no worker was
/// given has no generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) id: String,
    pub(super) lease: u64,
    pub(super) generation: Option<u32>,
}

/// All runs so far.
#[derive(Debug)]
pub(super) struct Runs {
    address: SocketAddr,
    history: History,
    heard: Arc<Mutex<Vec<Run>>>,
    accepting: AbortHandle,
}

impl Runs {
    /// Listens for runs, and writes them into this history.
    pub(super) async fn listen(history: &History) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it listens");
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (into, all) = (history.clone(), Arc::clone(&heard));
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(hear(stream, into.clone(), Arc::clone(&all)));
            }
        });
        Self { address, history: history.clone(), heard, accepting: accepting.abort_handle() }
    }

    /// Where runs say that they begin.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many there were.
    pub(super) fn count(&self) -> usize {
        self.heard.lock().expect("no thread panics while it holds this lock").len()
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<Run> {
        self.heard.lock().expect("no thread panics while it holds this lock").clone()
    }

    /// Whether there are so many within this time.
    pub(super) async fn grow_to(&self, enough: usize, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        while self.count() < enough {
            if Instant::now() >= deadline {
                return false;
            }
            sleep(Duration::from_millis(2)).await;
        }
        true
    }

    /// What is wrong with the runs of a history whose end was read.
    pub(super) fn verdict(&self) -> Vec<String> {
        judge(&self.all(), &self.history.entries())
    }
}

impl Drop for Runs {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Writes down each run of one process before it may go on.
async fn hear(mut stream: TcpStream, history: History, heard: Arc<Mutex<Vec<Run>>>) {
    let _ = stream.set_nodelay(true);
    let (read, mut write) = stream.split();
    let mut lines = BufReader::new(read).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let (id, lease): (String, u64) =
            serde_json::from_str(&line).expect("a run says its id and its lease");
        let delivery = history.delivery(lease).filter(|delivery| delivery.id == id);
        let generation = delivery.as_ref().map(|delivery| delivery.generation);
        if let Some(delivery) = delivery {
            history.note(Event::Began {
                id: id.clone(),
                generation: delivery.generation,
                lease,
                deliveries: delivery.deliveries,
                attempt: delivery.attempt,
            });
        }
        let run = Run { id, lease, generation };
        heard.lock().expect("no thread panics while it holds this lock").push(run);
        // A process that is gone needs no answer.
        let _ = write.write_all(b"\n").await;
    }
}

/// No worker was lost, so each generation of an id runs at most once, and once if it succeeded.
pub(super) fn judge(runs: &[Run], entries: &[Entry]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut leases: BTreeMap<(&str, u32), Vec<u64>> = BTreeMap::new();
    for run in runs {
        match run.generation {
            Some(generation) => leases.entry((&run.id, generation)).or_default().push(run.lease),
            None => wrong
                .push(format!("{}: ran under lease {}, which no worker had", run.id, run.lease)),
        }
    }
    for ((id, generation), leases) in leases.iter().filter(|(_, leases)| leases.len() > 1) {
        let times = leases.len();
        wrong.push(format!(
            "{id}: generation {generation} ran {times} times, under the leases {leases:?}"
        ));
    }
    let succeeded: BTreeSet<(&str, u32)> = entries.iter().filter_map(success).collect();
    let never = succeeded.into_iter().filter(|run| !leases.contains_key(run));
    wrong.extend(never.map(|(id, generation)| {
        format!("{id}: generation {generation} is SUCCESS, and never ran")
    }));
    wrong
}

/// The id and the generation that a client was shown as successful.
fn success(entry: &Entry) -> Option<(&str, u32)> {
    match &entry.event {
        Event::Answered { answer: Answer::Read(info), .. }
            if info.state() == TaskState::Success && info.deliveries > 0 =>
        {
            Some((&info.id, info.generation))
        }
        _ => None,
    }
}
