//! The worker in a container, where it is the first process. The kernel makes such a process the
//! parent of each process whose own parent has ended, and these stay in the table of processes when
//! nobody waits for them. So the worker itself runs in a child, and the first process waits for
//! every process that ends, and passes signals on.

use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, wait};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::exit::Failure;
use crate::signals::SIGNALLED;

/// The signals that the worker gets from the first process.
const PASSED_ON: [Signal; 6] =
    [Signal::TERM, Signal::INT, Signal::QUIT, Signal::HUP, Signal::USR1, Signal::USR2];

/// Runs this command line again in a child, and ends with the exit code of the child. It returns at
/// once if this process is not the first one.
///
/// # Errors
/// The child cannot be started, or the system refuses the handlers of signals.
pub(super) async fn stand_in() -> Result<(), Failure> {
    if !rustix::process::getpid().is_init() {
        return Ok(());
    }
    let failed =
        |error: std::io::Error| Failure::error(format!("cannot start the worker: {error}"));
    let mut ended = signal(SignalKind::child()).map_err(failed)?;
    let (sender, mut signals) = mpsc::unbounded_channel();
    for number in PASSED_ON {
        let mut stream = signal(SignalKind::from_raw(number.as_raw())).map_err(failed)?;
        let sender = sender.clone();
        tokio::spawn(async move {
            while stream.recv().await.is_some() {
                let _ = sender.send(number);
            }
        });
    }
    let mut worker = Command::new(std::env::current_exe().map_err(failed)?);
    // A terminal sends its signals to this process alone, so that the worker gets each once.
    worker.args(std::env::args_os().skip(1)).process_group(0);
    let worker = Pid::from_child(&worker.spawn().map_err(failed)?);
    loop {
        tokio::select! {
            Some(number) = signals.recv() => {
                // The worker may have ended meanwhile.
                let _ = kill_process(worker, number);
            }
            _ = ended.recv() => {
                while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
                    if pid == worker {
                        std::process::exit(exit_code(status));
                    }
                }
            }
        }
    }
}

fn exit_code(status: WaitStatus) -> i32 {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, Some(number)) => SIGNALLED + number,
        (None, None) => SIGNALLED,
    }
}
