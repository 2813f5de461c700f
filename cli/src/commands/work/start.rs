//! Starts the command of a task: what is checked before the first task comes, and what is done when
//! the system has no room for another process.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use celeriac_worker::{Context, TaskFailure};
use rustix::fs::{Access, access};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::process::Child;
use tokio::time::Instant;

use super::command::Command;
use super::progress::ProgressPipe;
use super::targets::LOG_TARGET;

/// How long a start is tried when the system lacks room, and the pause between two tries. Then the
/// task goes back to the broker, because another worker may have room.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(200);

/// The descriptors of a command: three of its streams, one of its process, two of its progress, and
/// a part of those that are open only while it is started.
const DESCRIPTORS: u64 = 8;
/// The descriptors for everything else: the connection, the runtimes, stdio.
const RESERVE: u64 = 40;

/// A command that runs.
pub(super) struct Started {
    pub(super) child: Child,
    pub(super) progress: ProgressPipe,
}

/// Checks that there is such a program, so that a slip of the pen does not cost every task its
/// attempts.
///
/// # Errors
/// The program cannot be found or run.
pub(super) fn check(program: &str) -> Result<(), String> {
    if program.contains('/') {
        return match is_runnable(Path::new(program)) {
            Ok(()) => Ok(()),
            Err(error) => Err(format!("cannot run {program}: {error}")),
        };
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/bin:/usr/bin".into());
    // An empty part of PATH is the present folder.
    let mut places =
        std::env::split_paths(&path).map(|folder| match folder.as_os_str().is_empty() {
            true => PathBuf::from(".").join(program),
            false => folder.join(program),
        });
    match places.any(|place| is_runnable(&place).is_ok()) {
        true => Ok(()),
        false => Err(format!("there is no command {program} in the folders of PATH")),
    }
}

fn is_runnable(program: &Path) -> Result<(), io::Error> {
    if program.metadata()?.is_dir() {
        return Err(io::Error::from(io::ErrorKind::IsADirectory));
    }
    Ok(access(program, Access::EXEC_OK)?)
}

/// How many commands may run at once: as many as are wanted, or as many as the limit of open files
/// allows. The soft limit is raised as far as they need.
pub(super) fn places(wanted: u32) -> u32 {
    let needed = u64::from(wanted) * DESCRIPTORS + RESERVE;
    let limit = getrlimit(Resource::Nofile);
    let Some(soft) = limit.current.filter(|soft| *soft < needed) else { return wanted };
    let raised = limit.maximum.map_or(needed, |hard| needed.min(hard)).max(soft);
    let new = Rlimit { current: Some(raised), maximum: limit.maximum };
    let allowed = if setrlimit(Resource::Nofile, new).is_ok() { raised } else { soft };
    let places = u32::try_from(allowed.saturating_sub(RESERVE) / DESCRIPTORS).unwrap_or(wanted);
    let places = places.clamp(1, wanted);
    if places < wanted {
        tracing::warn!(
            target: LOG_TARGET,
            open_files_max = allowed,
            concurrency = wanted,
            "{places} commands run at once and no more: raise the limit of open files (`ulimit -n`)"
        );
    }
    places
}

/// Starts a command. When the system has no room for it, the start is tried again for a while.
///
/// # Errors
/// The command cannot be started, which counts as a failed attempt; or there is no room, and the
/// task is handed back.
pub(super) async fn start(command: &Command, context: &Context) -> Result<Started, TaskFailure> {
    let give_up_at = Instant::now() + PATIENCE;
    loop {
        let error = match spawn(command, context) {
            Ok(started) => return Ok(started),
            Err(error) => error,
        };
        let sentence = format!("cannot start {}: {error}", command.program);
        if !is_shortage(&error) {
            return Err(TaskFailure::new("command", sentence));
        }
        if Instant::now() >= give_up_at {
            tracing::warn!(
                target: LOG_TARGET,
                id = context.id(),
                "{sentence}: raise the limits of this worker (`ulimit -n`, `ulimit -u`), \
                 or lower --concurrency"
            );
            return Err(TaskFailure::hand_back("system", sentence));
        }
        tokio::select! {
            () = context.cancelled() => return Err(TaskFailure::new("command", sentence)),
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

fn spawn(command: &Command, context: &Context) -> io::Result<Started> {
    let progress = ProgressPipe::open()?;
    let child = tokio::process::Command::new(&command.program)
        .args(&command.arguments)
        .env("CELERIAC_TASK_ID", context.id())
        .env("CELERIAC_TASK_NAME", context.name())
        .env("CELERIAC_TASK_QUEUE", context.queue())
        .env("CELERIAC_TASK_ATTEMPT", context.attempt().to_string())
        .env("CELERIAC_PROGRESS", progress.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    Ok(Started { child, progress })
}

/// Whether the system lacks room, which is no fault of the command or its task.
fn is_shortage(error: &io::Error) -> bool {
    const SHORTAGES: [Errno; 4] = [Errno::MFILE, Errno::NFILE, Errno::AGAIN, Errno::NOMEM];
    error.raw_os_error().is_some_and(|code| SHORTAGES.contains(&Errno::from_raw_os_error(code)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_looked_for_before_the_first_task() {
        assert_eq!(check("sh"), Ok(()));
        assert_eq!(check("/bin/sh"), Ok(()));
        for (program, reason) in [
            ("no-such-program", "there is no command no-such-program in the folders of PATH"),
            ("./no-such-program", "cannot run ./no-such-program: No such file"),
            ("/", "cannot run /: is a directory"),
            ("/proc/version", "cannot run /proc/version: Permission denied"),
        ] {
            let sentence = check(program).expect_err(program);
            assert!(sentence.starts_with(reason), "{sentence}");
        }
    }
}
