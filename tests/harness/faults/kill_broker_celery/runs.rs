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

/// One run, as it says it.
#[derive(Debug, Clone)]
pub(super) struct Run {
    /// The id and the lease that the broker gave it.
    pub(super) id: String,
    pub(super) lease: u64,
    pub(super) call: Call,
    /// Whether a worker was given this lease.
    pub(super) is_known: bool,
}

/// What Celery runs once for each time that it is called: an id, the name of a task, and how many
/// retries came before.
pub(super) type Call = (String, String, u64);

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

    /// What is wrong with the runs of a history whose end was read. These ids were called twice.
    pub(super) fn verdict(&self, twice: &BTreeSet<String>) -> Vec<String> {
        judge(&self.all(), &self.history.entries(), twice)
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
        let (id, lease, called, name, retries): (String, u64, String, String, u64) =
            serde_json::from_str(&line).expect("a run says what it is");
        let delivery = history.delivery(lease).filter(|delivery| delivery.id == id);
        let is_known = delivery.is_some();
        if let Some(delivery) = delivery {
            history.note(Event::Began {
                id: id.clone(),
                generation: delivery.generation,
                lease,
                deliveries: delivery.deliveries,
                attempt: delivery.attempt,
            });
        }
        let run = Run { id, lease, call: (called, name, retries), is_known };
        heard.lock().expect("no thread panics while it holds this lock").push(run);
        // A process that is gone needs no answer.
        let _ = write.write_all(b"\n").await;
    }
}

/// No worker was lost, so each call runs at most once, and once if it succeeded.
pub(super) fn judge(runs: &[Run], entries: &[Entry], twice: &BTreeSet<String>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut leases: BTreeMap<&Call, Vec<u64>> = BTreeMap::new();
    for run in runs {
        leases.entry(&run.call).or_default().push(run.lease);
        if !run.is_known {
            let Run { id, lease, .. } = run;
            wrong.push(format!("{id}: ran under lease {lease}, which no worker had"));
        }
    }
    for ((id, name, retries), leases) in leases {
        let (times, calls) = (leases.len(), 1 + usize::from(twice.contains(id)));
        if times > calls {
            wrong.push(format!(
                "{id}: {name} ran {times} times after {retries} retries, and was called {calls} \
                 times; its leases are {leases:?}"
            ));
        }
    }
    let ran: BTreeSet<&str> = runs.iter().map(|run| &*run.id).collect();
    let succeeded: BTreeSet<&str> = entries.iter().filter_map(success).collect();
    let never = succeeded.difference(&ran);
    wrong.extend(never.map(|id| format!("{id}: is SUCCESS, and never ran")));
    wrong
}

/// The id of a task that a client was shown as successful. What never was a task had no delivery.
fn success(entry: &Entry) -> Option<&str> {
    match &entry.event {
        Event::Answered { answer: Answer::Read(info), .. }
            if info.state() == TaskState::Success && info.deliveries > 0 =>
        {
            Some(&info.id)
        }
        _ => None,
    }
}
