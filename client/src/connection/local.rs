//! A connection without a broker: every request is answered by a function in this process. It is what a worker's eager
//! mode stands on, so that the code under test holds a real [`crate::Client`]. Nothing is stored here, and nothing is
//! pushed: a watch shows how its tasks stand when it begins, and nothing after that.

use std::future::Future;
use std::sync::{Arc, Weak};
use std::time::Duration;

use celeriac_proto::wire::{self, client_frame, server_frame};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{COMMANDS_MAX, Command, Connection, Inner, Purpose, Reply, Shared, Waits, driver};
use crate::error::Error;

impl Connection {
    /// A connection whose requests `answer` answers, many at once, on the runtime this is called on. It is given a handle
    /// on the connection as well, for a request that leads to others.
    ///
    /// # Panics
    /// Outside a runtime.
    #[doc(hidden)]
    pub fn local<F, A>(answer: F) -> Self
    where
        F: Fn(Connection, client_frame::Body) -> A + Send + Sync + 'static,
        A: Future<Output = Result<server_frame::Body, wire::Error>> + Send + 'static,
    {
        let (commands, receiver) = mpsc::channel(COMMANDS_MAX);
        let (closing, closing_receiver) = watch::channel(None);
        let (end, ended) = watch::channel(());
        let shared = Arc::new(Shared::default());
        shared.connected.store(true, std::sync::atomic::Ordering::Relaxed);
        // A call whose caller has gone is finished nevertheless.
        let (waits, _withdrawn) = Waits::new();
        let inner = Arc::new(Inner { commands, closing, ended, shared, waits });
        // Weak: the last handle that is dropped ends the task.
        let handle = Arc::downgrade(&inner);
        tokio::spawn(async move {
            let _end = end;
            serve(handle, receiver, closing_receiver, answer).await;
        });
        Self { inner }
    }
}

async fn serve<F, A>(
    handle: Weak<Inner>,
    mut commands: mpsc::Receiver<Command>,
    mut closing: watch::Receiver<Option<Duration>>,
    answer: F,
) where
    F: Fn(Connection, client_frame::Body) -> A,
    A: Future<Output = Result<server_frame::Body, wire::Error>> + Send + 'static,
{
    let mut calls = JoinSet::new();
    let patience = loop {
        tokio::select! {
            patience = driver::asked_to_close(&mut closing) => break patience,
            Some(_) = calls.join_next() => {}
            command = commands.recv() => {
                let (Some(command), Some(inner)) = (command, handle.upgrade()) else { break Duration::ZERO };
                let Command { body, timeout: within, purpose, reply } = command;
                let answering = answer(Connection { inner }, Arc::unwrap_or_clone(body));
                calls.spawn(async move {
                    let mut answer = timeout(within, answering).await.unwrap_or_else(|_| Err(deadline_exceeded()));
                    if let (Ok(server_frame::Body::WatchReply(begun)), Purpose::Watch(part)) = (&mut answer, purpose)
                        && let Some(sink) = part.sink()
                    {
                        std::mem::take(&mut begun.tasks).into_iter().for_each(|task| sink.push(task));
                    }
                    // Of no use to a caller that has gone.
                    let _ = reply.send(match answer {
                        Ok(answer) => Reply::Answer(Box::new(answer)),
                        Err(error) => Reply::Failed(error.into()),
                    });
                });
            }
        }
    };
    // As with a broker: what is under way is answered, and what comes later is not.
    commands.close();
    while let Ok(command) = commands.try_recv() {
        let _ = command.reply.send(Reply::Failed(Error::Closed));
    }
    let _ = timeout(patience, async { while calls.join_next().await.is_some() {} }).await;
}

fn deadline_exceeded() -> wire::Error {
    wire::Error {
        code: wire::ErrorCode::DeadlineExceeded.into(),
        message: "the request took longer than its caller waits".to_owned(),
        retryable: true,
        retry_after_ms: 0,
    }
}
