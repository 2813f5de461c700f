//! Threads for blocking handlers. A run that is given to them begins at once: there are as many as
//! handlers run at a time, and nothing else runs on them, as it would on the runtime's own pool.
//! They are made as they are needed, and go when they have had nothing to do for a while.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use std::{io, thread};

/// A thread without work goes after this.
const KEPT: Duration = Duration::from_secs(10);

/// What a thread is given to do. It must not panic.
pub(crate) type Work = Box<dyn FnOnce() + Send>;

/// See the head of this file.
#[derive(Debug, Default, Clone)]
pub(crate) struct Threads {
    idle: Arc<Mutex<Vec<Idle>>>,
}

#[derive(Debug)]
struct Idle {
    number: thread::ThreadId,
    work: mpsc::Sender<Work>,
}

impl Threads {
    /// Has a thread do this, from now on.
    ///
    /// # Errors
    /// The operating system gives no thread.
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
                        // It was taken for some work in this moment.
                        None => drop(idle),
                    }
                    let Ok(work) = receiver.recv() else { return };
                    work
                }
            };
            work();
        }
    }

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
