//! The threads for blocking handlers. A run begins at once on one of them: a thread is started when
//! none is idle, and no other work runs on these threads, as it would on the runtime's own pool. A
//! thread that was idle for a while ends.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use std::{io, thread};

/// An idle thread ends after this.
const KEPT: Duration = Duration::from_secs(10);

/// The work of a thread. It must not panic.
pub(crate) type Work = Box<dyn FnOnce() + Send>;

/// The threads of one worker. They are shared by all clones.
#[derive(Debug, Default, Clone)]
pub(crate) struct Threads {
    /// The threads that wait for work, the latest last: it is used first, so that the others can
    /// end.
    idle: Arc<Mutex<Vec<Idle>>>,
}

/// A thread that waits for work.
#[derive(Debug)]
struct Idle {
    /// Tells the thread from the others.
    number: thread::ThreadId,
    /// Gives the thread its next work.
    work: mpsc::Sender<Work>,
}

impl Threads {
    /// Begins this work on a thread now.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub(crate) fn run(&self, mut work: Work) -> io::Result<()> {
        while let Some(idle) = self.idle().pop() {
            match idle.work.send(work) {
                Ok(()) => return Ok(()),
                Err(mpsc::SendError(back)) => work = back,
            }
        }
        let threads = self.clone();
        thread::Builder::new()
            .name("celeriac-handler".to_owned())
            .spawn(move || threads.live(work))
            .map(drop)
    }

    /// Does the first work, and then further work until the thread was idle for too long.
    fn live(&self, work: Work) {
        work();
        let (sender, receiver) = mpsc::channel();
        let number = thread::current().id();
        loop {
            self.idle().push(Idle { number, work: sender.clone() });
            let work = match receiver.recv_timeout(KEPT) {
                Ok(work) => work,
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    let mut idle = self.idle();
                    match idle.iter().position(|idle| idle.number == number) {
                        Some(place) => {
                            idle.remove(place);
                            return;
                        }
                        // Another thread has just taken this one for some work, and sends it now.
                        None => drop(idle),
                    }
                    let Ok(work) = receiver.recv() else { return };
                    work
                }
            };
            work();
        }
    }

    /// Locks the list of idle threads.
    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().expect("no code panics while it holds this lock")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn all_run_at_once_and_their_threads_are_used_again() {
        const RUNS: usize = 20;
        let threads = Threads::default();
        let mut used = HashSet::new();
        for _ in 0..3 {
            let (sender, receiver) = mpsc::channel();
            // None of them gets past it unless all of them have begun.
            let barrier = Arc::new(Barrier::new(RUNS));
            for _ in 0..RUNS {
                let (sender, barrier) = (sender.clone(), barrier.clone());
                let work = move || {
                    barrier.wait();
                    sender.send(thread::current().id()).expect("somebody listens");
                };
                threads.run(Box::new(work)).expect("there are threads enough");
            }
            used.extend((0..RUNS).map(|_| receiver.recv().expect("each says so")));
            while threads.idle().len() < RUNS {
                thread::yield_now();
            }
        }
        assert_eq!(used.len(), RUNS);
    }
}
