//! The signals of `serve`: those that ask for an end, and those that would end the process without
//! order if nobody took them. What an end is belongs to `serve.rs`. Other commands leave their
//! signals to the operating system, which needs help in a container.

use std::fs::File;
use std::time::{Duration, Instant};

use rustix::process::Signal as Number;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::exit::Failure;

/// Signals that follow the first within this time belong to it.
const ONE_SIGNAL: Duration = Duration::from_secs(1);

/// They ask for an end.
const ENDING: [(Number, &str); 3] =
    [(Number::TERM, "SIGTERM"), (Number::INT, "SIGINT"), (Number::QUIT, "SIGQUIT")];

/// The exit code of a process that was ended by a signal, less the number of the signal.
const SIGNALLED: i32 = 128;

/// They mean nothing to a broker. SIGXFSZ comes with a write that would make a file too long, which
/// then fails as on a full disk.
const NOTED: [(Number, &str); 9] = [
    (Number::USR1, "SIGUSR1"),
    (Number::USR2, "SIGUSR2"),
    (Number::ALARM, "SIGALRM"),
    (Number::VTALARM, "SIGVTALRM"),
    (Number::PROF, "SIGPROF"),
    (Number::IO, "SIGIO"),
    (Number::POWER, "SIGPWR"),
    (Number::XCPU, "SIGXCPU"),
    (Number::XFSZ, "SIGXFSZ"),
];

/// The signals that ask for an end, one after the other.
pub(crate) struct Signals {
    ending: mpsc::Receiver<&'static str>,
}

impl Signals {
    /// Listens to all of them from now on.
    ///
    /// # Errors
    /// The operating system does not let us.
    pub(crate) fn listen() -> Result<Self, Failure> {
        // One that finds the channel full adds nothing to those that are in it.
        let (sender, ending) = mpsc::channel(4);
        let end = |name| {
            let sender = sender.clone();
            move || {
                let _ = sender.try_send(name);
            }
        };
        for (number, name) in ENDING {
            on_each(number, end(name))?;
        }
        match hang_up_ends() {
            true => on_each(Number::HUP, end("SIGHUP"))?,
            false => on_each(Number::HUP, || note("SIGHUP"))?,
        }
        for (number, name) in NOTED {
            on_each(number, move || note(name))?;
        }
        Ok(Self { ending })
    }

    /// The next signal that asks for an end.
    pub(crate) async fn next(&mut self) -> &'static str {
        match self.ending.recv().await {
            Some(name) => name,
            // The tasks that send have gone with their runtime.
            None => std::future::pending().await,
        }
    }

    /// A signal that was meant as another one. Terminals and supervisors send the first to the
    /// process and to its whole group, so that it comes twice.
    pub(crate) async fn second(&mut self) -> &'static str {
        let first = Instant::now();
        loop {
            let signal = self.next().await;
            if first.elapsed() > ONE_SIGNAL {
                return signal;
            }
        }
    }
}

/// Sees to it that a command ends on a signal when it is the first process of a container: to that
/// one the kernel gives only the signals that it listens to. A thread of its own ends the process,
/// whatever the command waits for.
pub(crate) fn end_as_first_process() -> Result<(), Failure> {
    if !rustix::process::getpid().is_init() {
        return Ok(());
    }
    let failed =
        |error: std::io::Error| Failure::error(format!("cannot listen for signals: {error}"));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(failed)?;
    let end = async {
        for (number, _) in ENDING.into_iter().chain([(Number::HUP, "SIGHUP")]) {
            // As a shell shows the end by a signal.
            on_each(number, move || std::process::exit(SIGNALLED + number.as_raw()))?;
        }
        Ok::<_, Failure>(())
    };
    runtime.block_on(end)?;
    let wait = move || runtime.block_on(std::future::pending::<()>());
    std::thread::Builder::new().name("signals".into()).spawn(wait).map(drop).map_err(failed)
}

/// Calls `act` each time this signal comes, for the life of the runtime.
fn on_each(number: Number, act: impl Fn() + Send + 'static) -> Result<(), Failure> {
    let kind = SignalKind::from_raw(number.as_raw());
    let mut signal: Signal = signal(kind)
        .map_err(|error| Failure::error(format!("cannot listen for signals: {error}")))?;
    tokio::spawn(async move {
        while signal.recv().await.is_some() {
            act();
        }
    });
    Ok(())
}

fn note(signal: &'static str) {
    tracing::info!(signal, "a signal that means nothing to a broker, ignored");
}

/// A broker that was started from a terminal ends with it, unless `nohup` said otherwise. Without
/// one nobody who sends this signal means an end: service managers use it to have settings read
/// again, which a broker does not do.
fn hang_up_ends() -> bool {
    let has_terminal = File::open("/dev/tty").is_ok();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    has_terminal && !is_ignored(&status, Number::HUP)
}

/// Reads the mask of ignored signals in `/proc/self/status`.
fn is_ignored(status: &str, number: Number) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    mask & 1 << (number.as_raw() - 1) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_of_ignored_signals_is_read_bit_by_bit() {
        let status = "Name:\tceleriac\nSigBlk:\t0000000000000001\nSigIgn:\t0000000000001000\n";
        assert!(is_ignored(status, Number::PIPE));
        assert!(!is_ignored(status, Number::HUP));
        assert!(is_ignored("SigIgn:\t0000000000001001\n", Number::HUP));
        assert!(!is_ignored("", Number::HUP));
    }
}
