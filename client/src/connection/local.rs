//! A connection without a broker: a function in this process answers every request. A worker's
//! eager mode is built on it, so that the code under test has a real [`crate::Client`]. This module
//! stores only which tasks are watched. The function decides what happens to a call whose caller
//! has gone.

use std::future::Future;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use celeriac_proto::wire::{self, client_frame, server_frame};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::state_buffer::WatchRequest;
use super::{COMMANDS_MAX, Command, Connection, Inner, Purpose, Reply, Shared, Waits, driver};
use crate::error::Error;

/// What the function returns.
type Answer = Result<server_frame::Body, wire::Error>;

impl Connection {
    /// A connection whose requests are answered by the function that `make` returns, many at once,
    /// on the runtime of the caller. The function also gets a handle on the connection, for a
    /// request that leads to further requests. Its future is dropped when the time of the
    /// request is over, and for a `Wait` also when the caller has gone.
    ///
    /// `make` gets a function that shows a transition to the watches of its task. The watches show
    /// the transitions in the order of these calls.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[doc(hidden)]
    pub fn local<M, F, A>(make: M) -> Self
    where
        M: FnOnce(Box<dyn Fn(&wire::TaskInfo) + Send + Sync>) -> F,
        F: Fn(Connection, client_frame::Body) -> A + Send + Sync + 'static,
        A: Future<Output = Answer> + Send + 'static,
    {
        let (commands, receiver) = mpsc::channel(COMMANDS_MAX);
        let (closing, closing_receiver) = watch::channel(None);
        let (end, ended) = watch::channel(());
        let shared = Arc::new(Shared::default());
        shared.connected.store(true, std::sync::atomic::Ordering::Relaxed);
        // Nobody listens for withdrawn waits: each wait sees at its reply that its caller has gone.
        let (waits, _) = Waits::new();
        let inner = Arc::new(Inner { commands, closing, ended, shared, waits });
        let watches = Arc::new(LocalWatches::default());
        let shown = watches.clone();
        let answer = make(Box::new(move |task| shown.show(task)));
        // Weak, so that the task ends when the last handle is dropped.
        let local = Local { handle: Arc::downgrade(&inner), watches, answer };
        tokio::spawn(async move {
            let _end = end;
            local.serve(receiver, closing_receiver).await;
        });
        Self { inner }
    }
}

/// The task behind a local connection: it takes the place of the driver and of the broker.
struct Local<F> {
    /// For the handle that each answer gets.
    handle: Weak<Inner>,
    watches: Arc<LocalWatches>,
    answer: F,
}

impl<F, A> Local<F>
where
    F: Fn(Connection, client_frame::Body) -> A,
    A: Future<Output = Answer> + Send + 'static,
{
    /// Answers requests until the connection is closed.
    async fn serve(
        self,
        mut commands: mpsc::Receiver<Command>,
        mut closing: watch::Receiver<Option<Duration>>,
    ) {
        // Apart, because closing waits for the calls and not for the waits.
        let (mut calls, mut waits) = (JoinSet::new(), JoinSet::new());
        let close_time = loop {
            tokio::select! {
                time = driver::asked_to_close(&mut closing) => break time,
                Some(_) = calls.join_next() => {}
                Some(_) = waits.join_next() => {}
                command = commands.recv() => {
                    let (Some(command), Some(inner)) = (command, self.handle.upgrade()) else {
                        break Duration::ZERO;
                    };
                    self.begin(command, &Connection { inner }, &mut calls, &mut waits);
                }
            }
        };
        // As with a broker: waits end, other unanswered requests are answered, and later requests
        // fail.
        drop(waits);
        commands.close();
        while let Ok(command) = commands.try_recv() {
            let _ = command.reply.send(Reply::Failed(Error::Closed));
        }
        let _ = timeout(close_time, async { while calls.join_next().await.is_some() {} }).await;
        self.watches.end();
    }

    /// Begins to answer one request.
    fn begin(
        &self,
        command: Command,
        connection: &Connection,
        calls: &mut JoinSet<()>,
        waits: &mut JoinSet<()>,
    ) {
        let Command { body, timeout: within, purpose, reply } = command;
        let body = Arc::unwrap_or_clone(body);
        let get = match &body {
            client_frame::Body::Wait(wait) => Some(wire::Get {
                ids: wait.ids.clone(),
                with_results: wait.with_results,
                with_payloads: false,
            }),
            _ => None,
        };
        let answering = (self.answer)(connection.clone(), body);
        if let Some(get) = get {
            let present = (self.answer)(connection.clone(), client_frame::Body::Get(get));
            waits.spawn(wait(answering, present, within, reply));
            return;
        }
        let watch = match purpose {
            Purpose::Watch(request) => Some(self.watches.add(request)),
            Purpose::Answer | Purpose::Wait(_) => None,
        };
        calls.spawn(async move {
            let mut answer =
                timeout(within, answering).await.unwrap_or_else(|_| Err(deadline_exceeded()));
            if let (Ok(server_frame::Body::WatchReply(begun)), Some(watch)) = (&mut answer, watch)
                && let Some(states) = watch.states()
            {
                for task in std::mem::take(&mut begun.tasks) {
                    states.push(task);
                }
            }
            // The caller may have gone.
            let _ = reply.send(as_reply(answer));
        });
    }
}

/// Answers a wait when it is over, or with the present states when its time is over. Gives no
/// answer when its caller has gone.
async fn wait(
    answering: impl Future<Output = Answer>,
    present: impl Future<Output = Answer>,
    within: Duration,
    mut reply: oneshot::Sender<Reply>,
) {
    let answering = async {
        match timeout(within, answering).await {
            Ok(answer) => answer,
            Err(_) => present.await.map(not_satisfied),
        }
    };
    let answer = tokio::select! {
        answer = answering => answer,
        () = reply.closed() => return,
    };
    let _ = reply.send(as_reply(answer));
}

/// Makes the answer to a wait whose time is over of the present states.
fn not_satisfied(present: server_frame::Body) -> server_frame::Body {
    match present {
        server_frame::Body::GetReply(wire::GetReply { tasks, left_out }) => {
            server_frame::Body::WaitReply(wire::WaitReply { satisfied: false, tasks, left_out })
        }
        other => other,
    }
}

/// The reply to the caller of a request.
fn as_reply(answer: Answer) -> Reply {
    match answer {
        Ok(answer) => Reply::Answer(Box::new(answer)),
        Err(error) => Reply::Failed(error.into()),
    }
}

/// What a broker answers when the time of a request is over.
fn deadline_exceeded() -> wire::Error {
    wire::Error {
        code: wire::ErrorCode::DeadlineExceeded.into(),
        message: "the request took longer than its caller waits".to_owned(),
        retryable: true,
        retry_after_ms: 0,
    }
}

/// The watches of a local connection. A watch that nobody reads any more is removed with the next
/// transition or the next watch.
#[derive(Default)]
struct LocalWatches {
    requests: Mutex<Vec<Arc<WatchRequest>>>,
}

impl LocalWatches {
    /// Adds a watch, which sees every transition from now on. Add it before its first states are
    /// looked up, so that no transition between the two is missed. When a state comes in both ways,
    /// the buffer drops the older one.
    fn add(&self, request: WatchRequest) -> Arc<WatchRequest> {
        let request = Arc::new(request);
        let mut requests = self.requests.lock().expect("no holder of this lock panics");
        requests.retain(|request| request.states().is_some());
        requests.push(request.clone());
        request
    }

    /// Shows a transition to the watches of its task.
    fn show(&self, task: &wire::TaskInfo) {
        let mut requests = self.requests.lock().expect("no holder of this lock panics");
        requests.retain(|request| request.states().is_some());
        for request in requests.iter().filter(|request| request.request.ids.contains(&task.id)) {
            if let Some(states) = request.states() {
                let mut task = task.clone();
                if !request.request.with_results {
                    task.result.clear();
                }
                states.push(task);
            }
        }
    }

    /// Ends all watches.
    fn end(&self) {
        let mut requests = self.requests.lock().expect("no holder of this lock panics");
        for states in requests.drain(..).filter_map(|request| request.states()) {
            states.end();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::super::state_buffer::StateBuffer;
    use super::*;
    use crate::client::Client;

    /// Longer than any of these tests takes, unless it hangs.
    const TIME_MAX: Duration = Duration::from_secs(20);

    async fn until(condition: impl Fn() -> bool) {
        let met = async {
            while !condition() {
                tokio::task::yield_now().await;
            }
        };
        timeout(TIME_MAX, met).await.expect("the test hangs");
    }

    #[tokio::test]
    async fn a_dropped_wait_leaves_nothing_behind() {
        let asked = Arc::new(());
        let held = asked.clone();
        let client = Client::over(Connection::local(|_| {
            move |_, _| {
                let held = held.clone();
                async move {
                    let _held = held;
                    pending().await
                }
            }
        }));
        let before = Arc::strong_count(&asked);
        let waiter = client.clone();
        let waiting =
            tokio::spawn(async move { waiter.result::<()>("a").get(Duration::MAX).await });
        until(|| Arc::strong_count(&asked) > before).await;
        waiting.abort();
        until(|| Arc::strong_count(&asked) == before).await;
    }

    #[test]
    fn a_dropped_watch_leaves_nothing_behind() {
        let (watches, states) = (LocalWatches::default(), Arc::new(StateBuffer::default()));
        let request = wire::Watch { ids: vec!["a".to_owned()], with_results: false };
        let kept = || watches.requests.lock().expect("unpoisoned").len();
        watches.add(WatchRequest::new(request.clone(), &states));
        watches.show(&wire::TaskInfo { id: "a".to_owned(), ..Default::default() });
        assert_eq!(kept(), 1);
        drop(states);
        watches.show(&wire::TaskInfo { id: "b".to_owned(), ..Default::default() });
        assert_eq!(kept(), 0);
        for _ in 0..3 {
            watches.add(WatchRequest::new(request.clone(), &Arc::new(StateBuffer::default())));
        }
        assert_eq!(kept(), 1);
    }
}
