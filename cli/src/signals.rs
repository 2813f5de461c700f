//! The signals of `serve` and `work`. Some of them end the process in order; others would kill it
//! if nothing handled them. `serve.rs` and `work.rs` have the shutdown itself. The other commands
//! leave their signals to the operating system. Only in a container they need
//! [`end_as_first_process`].

use std::fs::File;
use std::time::{Duration, Instant};

use rustix::process::Signal as Number;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::exit::Failure;

/// A signal within this time after the first one counts as the same signal.
const SAME_SIGNAL: Duration = Duration::from_secs(1);

/// The signals that end the process in order.
const SHUTDOWN: [(Number, &str); 3] =
    [(Number::TERM, "SIGTERM"), (Number::INT, "SIGINT"), (Number::QUIT, "SIGQUIT")];

/// A process that a signal ended has this exit code, plus the number of the signal.
pub(crate) const SIGNALLED: i32 = 128;

/// The signals that are logged and ignored. The system sends SIGXFSZ when a write would make a
/// file too long; the write then fails as on a full disk.
const IGNORED: [(Number, &str); 10] = [
    (Number::USR1, "SIGUSR1"),
    (Number::USR2, "SIGUSR2"),
    (Number::ALARM, "SIGALRM"),
    (Number::VTALARM, "SIGVTALRM"),
    (Number::PROF, "SIGPROF"),
    (Number::IO, "SIGIO"),
    (Number::POWER, "SIGPWR"),
    (Number::XCPU, "SIGXCPU"),
    (Number::XFSZ, "SIGXFSZ"),
    (Number::STKFLT, "SIGSTKFLT"),
];

/// Signals that a process cannot handle, or that mean a fault of the process itself.
const OTHERS: [(Number, &str); 9] = [
    (Number::KILL, "SIGKILL"),
    (Number::HUP, "SIGHUP"),
    (Number::PIPE, "SIGPIPE"),
    (Number::ABORT, "SIGABRT"),
    (Number::BUS, "SIGBUS"),
    (Number::FPE, "SIGFPE"),
    (Number::ILL, "SIGILL"),
    (Number::SEGV, "SIGSEGV"),
    (Number::SYS, "SIGSYS"),
];

/// What SIGHUP means. It never ends a process that was started to ignore it, as by `nohup`.
#[derive(Debug, Clone)]
pub(crate) enum HangUp {
    /// It ends the process like SIGTERM.
    Ends,
    /// It ends a process that has a terminal. Without one service managers and operators send it
    /// to make a program read its settings again: the sender is told of it. When the channel is
    /// full, a reading is to come anyway.
    EndsOrReloads(mpsc::Sender<()>),
}

/// The signals that end the process, in the order in which they come.
pub(crate) struct ShutdownSignals {
    names: mpsc::Receiver<&'static str>,
}

impl ShutdownSignals {
    /// Handles all signals of this file from now on.
    ///
    /// # Errors
    /// The operating system refuses the handlers.
    pub(crate) fn listen(hang_up: HangUp) -> Result<Self, Failure> {
        // When the channel is full, another signal would change nothing.
        let (sender, names) = mpsc::channel(4);
        let shut_down = |name| {
            let sender = sender.clone();
            move || {
                let _ = sender.try_send(name);
            }
        };
        for (number, name) in SHUTDOWN {
            on_each(number.as_raw(), shut_down(name))?;
        }
        match (hang_up.ends_the_process(), hang_up) {
            (true, _) => on_each(Number::HUP.as_raw(), shut_down("SIGHUP"))?,
            (false, HangUp::Ends) => on_each(Number::HUP.as_raw(), || log_ignored("SIGHUP"))?,
            (false, HangUp::EndsOrReloads(reload)) => on_each(Number::HUP.as_raw(), move || {
                let _ = reload.try_send(());
            })?,
        }
        for (number, name) in IGNORED {
            on_each(number.as_raw(), move || log_ignored(name))?;
        }
        for number in libc::SIGRTMIN()..=libc::SIGRTMAX() {
            let name = real_time_name(number);
            on_each(number, move || log_ignored(&name))?;
        }
        Ok(Self { names })
    }

    /// Waits for the next signal that ends the process.
    pub(crate) async fn next(&mut self) -> &'static str {
        match self.names.recv().await {
            Some(name) => name,
            // The tasks that send the names ended with their runtime.
            None => std::future::pending().await,
        }
    }

    /// Waits for a second signal. Terminals and supervisors send the first signal to the process
    /// and to its process group, so it comes twice within [`SAME_SIGNAL`].
    pub(crate) async fn second(&mut self) -> &'static str {
        let first = Instant::now();
        loop {
            let signal = self.next().await;
            if first.elapsed() > SAME_SIGNAL {
                return signal;
            }
        }
    }
}

/// Makes signals end a command that is the first process of a container. The kernel delivers to
/// such a process only the signals that it handles. A separate thread ends the process, whatever
/// the command waits for.
pub(crate) fn end_as_first_process() -> Result<(), Failure> {
    if !rustix::process::getpid().is_init() {
        return Ok(());
    }
    let failed =
        |error: std::io::Error| Failure::error(format!("cannot listen for signals: {error}"));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(failed)?;
    let end = async {
        for (number, _) in SHUTDOWN.into_iter().chain([(Number::HUP, "SIGHUP")]) {
            // A shell shows the same exit code for a process that a signal ended.
            let number = number.as_raw();
            on_each(number, move || std::process::exit(SIGNALLED + number))?;
        }
        Ok::<_, Failure>(())
    };
    runtime.block_on(end)?;
    let wait = move || runtime.block_on(std::future::pending::<()>());
    std::thread::Builder::new().name("signals".into()).spawn(wait).map(drop).map_err(failed)
}

/// Calls `act` for each signal of this number, as long as the runtime lives.
fn on_each(number: i32, act: impl Fn() + Send + 'static) -> Result<(), Failure> {
    let kind = SignalKind::from_raw(number);
    let mut signal: Signal = signal(kind)
        .map_err(|error| Failure::error(format!("cannot listen for signals: {error}")))?;
    tokio::spawn(async move {
        while signal.recv().await.is_some() {
            act();
        }
    });
    Ok(())
}

fn log_ignored(signal: &str) {
    tracing::info!(signal, "this signal has no meaning here, ignored");
}

/// A signal that ended another process: `signal 9 (SIGKILL)`.
pub(crate) fn in_words(number: i32) -> String {
    let mut named = SHUTDOWN.iter().chain(&IGNORED).chain(&OTHERS);
    let name = named.find(|(known, _)| known.as_raw() == number);
    match name {
        Some((_, name)) => format!("signal {number} ({name})"),
        None if (libc::SIGRTMIN()..=libc::SIGRTMAX()).contains(&number) => {
            format!("signal {number} ({})", real_time_name(number))
        }
        None => format!("signal {number}"),
    }
}

/// The name of a real-time signal, as `kill -l` shows it.
fn real_time_name(number: i32) -> String {
    match number - libc::SIGRTMIN() {
        0 => "SIGRTMIN".to_owned(),
        more => format!("SIGRTMIN+{more}"),
    }
}

impl HangUp {
    fn ends_the_process(&self) -> bool {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let is_meant = match self {
            Self::Ends => true,
            Self::EndsOrReloads(_) => File::open("/dev/tty").is_ok(),
        };
        is_meant && !is_ignored(&status, Number::HUP)
    }
}

/// Whether the mask of ignored signals in `/proc/self/status` has this signal.
fn is_ignored(status: &str, number: Number) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    mask & 1 << (number.as_raw() - 1) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_named_with_its_number() {
        assert_eq!(in_words(9), "signal 9 (SIGKILL)");
        assert_eq!(in_words(libc::SIGRTMIN()), "signal 34 (SIGRTMIN)");
        assert_eq!(in_words(libc::SIGRTMIN() + 3), "signal 37 (SIGRTMIN+3)");
        // The C library keeps these two for itself.
        assert_eq!(in_words(33), "signal 33");
        assert_eq!(in_words(65), "signal 65");
    }

    #[test]
    fn the_mask_of_ignored_signals_is_read_bit_by_bit() {
        let status = "Name:\tceleriac\nSigBlk:\t0000000000000001\nSigIgn:\t0000000000001000\n";
        assert!(is_ignored(status, Number::PIPE));
        assert!(!is_ignored(status, Number::HUP));
        assert!(is_ignored("SigIgn:\t0000000000001001\n", Number::HUP));
        assert!(!is_ignored("", Number::HUP));
    }
}
