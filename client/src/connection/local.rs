//! A connection without a broker: every request is answered by a function in this process. It is
//! what a worker's eager mode stands on, so that the code under test holds a real
//! [`crate::Client`]. Nothing is stored here but which tasks are watched; what becomes of a call
//! whose caller has gone is the function's own matter.

use std::future::Future;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use celeriac_proto::wire::{self, client_frame, server_frame};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::watching::WatchPart;
use super::{COMMANDS_MAX, Command, Connection, Inner, Purpose, Reply, Shared, Waits, driver};
use crate::error::Error;

/// What `answer` gives back.
type Answer = Result<server_frame::Body, wire::Error>;

impl Connection {
    /// A connection whose requests are answered by what `make` makes, many at once, on the runtime
    /// this is called on. An answer is given a handle on the connection as well, for a request
    /// that leads to others, and is dropped when its time is over or, for a `Wait`, its caller
    /// has gone.
    ///
    /// `make` is given what shows a transition, in the order of the calls, to those who watch its
    /// task.
    ///
    /// # Panics
    /// Outside a runtime.
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
        // Nobody listens for withdrawn waits: that its caller has gone is seen at each one's reply.
        let (waits, _) = Waits::new();
        let inner = Arc::new(Inner { commands, closing, ended, shared, waits });
        let watches = Arc::new(Watches::default());
        let shown = watches.clone();
        let answer = make(Box::new(move |task| shown.show(task)));
        // Weak: the last handle that is dropped ends the task.
        let local = Local { handle: Arc::downgrade(&inner), watches, answer };
        tokio::spawn(async move {
            let _end = end;
            local.serve(receiver, closing_receiver).await;
        });
        Self { inner }
    }
}

struct Local<F> {
    handle: Weak<Inner>,
    watches: Arc<Watches>,
    answer: F,
}

impl<F, A> Local<F>
where
    F: Fn(Connection, client_frame::Body) -> A,
    A: Future<Output = Answer> + Send + 'static,
{
    async fn serve(
        self,
        mut commands: mpsc::Receiver<Command>,
        mut closing: watch::Receiver<Option<Duration>>,
    ) {
        let (mut calls, mut waits) = (JoinSet::new(), JoinSet::new());
        let patience = loop {
            tokio::select! {
                patience = driver::asked_to_close(&mut closing) => break patience,
                Some(_) = calls.join_next() => {}
                Some(_) = waits.join_next() => {}
                command = commands.recv() => {
                    let (Some(command), Some(inner)) = (command, self.handle.upgrade()) else { break Duration::ZERO };
                    self.begin(command, &Connection { inner }, &mut calls, &mut waits);
                }
            }
        };
        // As with a broker: waits end, what is under way besides is answered, and what comes later
        // is not.
        drop(waits);
        commands.close();
        while let Ok(command) = commands.try_recv() {
            let _ = command.reply.send(Reply::Failed(Error::Closed));
        }
        let _ = timeout(patience, async { while calls.join_next().await.is_some() {} }).await;
        self.watches.end();
    }

    fn begin(
        &self,
        command: Command,
        connection: &Connection,
        calls: &mut JoinSet<()>,
        waits: &mut JoinSet<()>,
    ) {
        let Command { body, timeout: within, purpose, reply } = command;
        let body = Arc::unwrap_or_clone(body);
        let standing = match &body {
            client_frame::Body::Wait(wait) => {
                Some(wire::Get { ids: wait.ids.clone(), with_results: wait.with_results })
            }
            _ => None,
        };
        let answering = (self.answer)(connection.clone(), body);
        if let Some(standing) = standing {
            let standing = (self.answer)(connection.clone(), client_frame::Body::Get(standing));
            waits.spawn(wait(answering, standing, within, reply));
            return;
        }
        let part = match purpose {
            Purpose::Watch(part) => Some(self.watches.add(part)),
            Purpose::Answer | Purpose::Wait(_) => None,
        };
        calls.spawn(async move {
            let mut answer =
                timeout(within, answering).await.unwrap_or_else(|_| Err(deadline_exceeded()));
            if let (Ok(server_frame::Body::WatchReply(begun)), Some(part)) = (&mut answer, part)
                && let Some(sink) = part.sink()
            {
                std::mem::take(&mut begun.tasks).into_iter().for_each(|task| sink.push(task));
            }
            // Of no use to a caller that has gone.
            let _ = reply.send(as_reply(answer));
        });
    }
}

/// Answers a wait: as soon as it is over, at the end of its time with how the tasks stand, or never
/// when nobody waits for it any more.
async fn wait(
    answering: impl Future<Output = Answer>,
    standing: impl Future<Output = Answer>,
    within: Duration,
    mut reply: oneshot::Sender<Reply>,
) {
    let answering = async {
        match timeout(within, answering).await {
            Ok(answer) => answer,
            Err(_) => standing.await.map(not_satisfied),
        }
    };
    let answer = tokio::select! {
        answer = answering => answer,
        () = reply.closed() => return,
    };
    let _ = reply.send(as_reply(answer));
}

fn not_satisfied(standing: server_frame::Body) -> server_frame::Body {
    match standing {
        server_frame::Body::GetReply(wire::GetReply { tasks, left_out }) => {
            server_frame::Body::WaitReply(wire::WaitReply { satisfied: false, tasks, left_out })
        }
        other => other,
    }
}

fn as_reply(answer: Answer) -> Reply {
    match answer {
        Ok(answer) => Reply::Answer(Box::new(answer)),
        Err(error) => Reply::Failed(error.into()),
    }
}

fn deadline_exceeded() -> wire::Error {
    wire::Error {
        code: wire::ErrorCode::DeadlineExceeded.into(),
        message: "the request took longer than its caller waits".to_owned(),
        retryable: true,
        retry_after_ms: 0,
    }
}

/// The watches of a connection. Those that nobody reads any more go with the next transition or the
/// next watch.
#[derive(Default)]
struct Watches {
    parts: Mutex<Vec<Arc<WatchPart>>>,
}

impl Watches {
    /// From now on this one is shown what happens. It has to be added before its first states are
    /// looked up, so that nothing is missed between the two; of those that come in both ways,
    /// the older ones are not shown.
    fn add(&self, part: WatchPart) -> Arc<WatchPart> {
        let part = Arc::new(part);
        let mut parts = self.parts.lock().expect("no holder of this lock panics");
        parts.retain(|part| part.sink().is_some());
        parts.push(part.clone());
        part
    }

    fn show(&self, task: &wire::TaskInfo) {
        let mut parts = self.parts.lock().expect("no holder of this lock panics");
        parts.retain(|part| {
            let Some(sink) = part.sink() else { return false };
            if part.request.ids.contains(&task.id) {
                let mut task = task.clone();
                if !part.request.with_results {
                    task.result.clear();
                }
                sink.push(task);
            }
            true
        });
    }

    fn end(&self) {
        let mut parts = self.parts.lock().expect("no holder of this lock panics");
        parts.drain(..).filter_map(|part| part.sink()).for_each(|sink| sink.end());
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::super::watching::WatchSink;
    use super::*;
    use crate::client::Client;

    const PATIENCE: Duration = Duration::from_secs(20);

    async fn until(condition: impl Fn() -> bool) {
        let met = async {
            while !condition() {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, met).await.expect("the test hangs");
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
        let (watches, sink) = (Watches::default(), Arc::new(WatchSink::default()));
        let request = wire::Watch { ids: vec!["a".to_owned()], with_results: false };
        let kept = || watches.parts.lock().expect("unpoisoned").len();
        watches.add(WatchPart::new(request.clone(), &sink));
        watches.show(&wire::TaskInfo { id: "a".to_owned(), ..Default::default() });
        assert_eq!(kept(), 1);
        drop(sink);
        watches.show(&wire::TaskInfo { id: "b".to_owned(), ..Default::default() });
        assert_eq!(kept(), 0);
        for _ in 0..3 {
            watches.add(WatchPart::new(request.clone(), &Arc::new(WatchSink::default())));
        }
        assert_eq!(kept(), 1);
    }
}
