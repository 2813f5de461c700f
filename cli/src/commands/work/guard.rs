//! The guard of a worker: a process of its own that kills the commands when the worker is killed.
//! A worker that ends in any other way has ended its commands before, and the guard finds none.
//!
//! The worker tells the guard through a pipe which process groups it has started and which have
//! ended. The pipe breaks when the worker is gone, whatever ended it.

use std::collections::BTreeSet;
use std::io::{self, BufRead, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, Signal, kill_process_group};

use super::targets::LOG_TARGET;

/// The name with which the program is started as a guard.
const NAME: &str = "celeriac-guard";

/// The worker's side.
pub(super) struct Guard {
    /// `None` when there is no guard, or no longer.
    process: Mutex<Option<Process>>,
}

struct Process {
    child: Child,
    pipe: ChildStdin,
}

/// What became of a process group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Started,
    Ended,
}

impl Guard {
    /// Starts the guard. Without one the worker works on, and says so.
    pub(super) fn start() -> Self {
        let process = Process::start()
            .inspect_err(|error| {
                tracing::warn!(
                    target: LOG_TARGET,
                    "cannot start the guard of the commands: {error}; they go on if this worker is killed"
                );
            })
            .ok();
        Self { process: Mutex::new(process) }
    }

    /// No guard, for tests of a command alone.
    #[cfg(test)]
    pub(super) fn absent() -> Self {
        Self { process: Mutex::new(None) }
    }

    /// Tells the guard of a process group.
    pub(super) fn tell(&self, group: Pid, fate: Fate) {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(guard) = process.as_mut() else { return };
        if let Err(error) = guard.tell(group, fate) {
            // It must not act on what it knew: the number may soon be that of another group.
            guard.end();
            *process = None;
            tracing::warn!(
                target: LOG_TARGET,
                "the guard of the commands is gone: {error}; they go on if this worker is killed"
            );
        }
    }
}

impl Process {
    fn start() -> io::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg0(NAME)
            .stdin(Stdio::piped())
            // It must not keep open what the worker's readers read to its end.
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Signals of a terminal are for the worker.
            .process_group(0)
            .spawn()?;
        let pipe = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
        // A guard that does not read must not stop the worker.
        fcntl_setfl(&pipe, fcntl_getfl(&pipe)? | OFlags::NONBLOCK)?;
        Ok(Self { child, pipe })
    }

    fn tell(&mut self, group: Pid, fate: Fate) -> io::Result<()> {
        let sign = if fate == Fate::Started { '+' } else { '-' };
        // A pipe takes so few bytes all at once, or none of them.
        self.pipe.write_all(format!("{sign}{}\n", group.as_raw_nonzero()).as_bytes())
    }

    fn end(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs as the guard, if this process was started as one.
pub(crate) fn run_as_guard() -> Option<ExitCode> {
    let is_guard = std::env::args_os().next().is_some_and(|name| name == NAME);
    is_guard.then(|| {
        for group in left_over(io::stdin().lock()).into_iter().filter_map(Pid::from_raw) {
            // It may have ended at this moment.
            let _ = kill_process_group(group, Signal::KILL);
        }
        ExitCode::SUCCESS
    })
}

/// The numbers of the groups that had not ended when the worker was gone.
fn left_over(worker: impl BufRead) -> BTreeSet<i32> {
    let mut groups = BTreeSet::new();
    // An error is an end too.
    for line in worker.lines().map_while(Result::ok) {
        let Some((sign, number)) = line.split_at_checked(1) else { continue };
        let Some(group) = number.parse().ok().filter(|group| *group > 0) else { continue };
        match sign {
            "+" => groups.insert(group),
            _ => groups.remove(&group),
        };
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guard_knows_the_groups_that_have_not_ended() {
        let left = |text: &str| -> Vec<i32> { left_over(text.as_bytes()).into_iter().collect() };
        assert_eq!(left("+7\n+8\n-7\n+9\n"), [8, 9]);
        assert_eq!(left("+7\n-7\n+7\n"), [7]);
        assert_eq!(left("+0\n+x\n\n+\n-5\n"), [0; 0]);
    }
}
