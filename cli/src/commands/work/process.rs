//! The process of a command: it gets the arguments of its task on stdin, and its stdout is the
//! result. A process group of its own holds the command and everything that it starts, so that a
//! cancel or the end of the worker reaches all of them.

use std::convert::Infallible;
use std::process::ExitStatus;
use std::time::Duration;

use bytes::Bytes;
use celeriac_worker::{Context, TaskFailure};
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use std::os::unix::process::ExitStatusExt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout};
use tokio::time::Instant;

use super::command::Command;
use super::guard::{Fate, Guard};
use super::lines::Lines;
use super::start::{Started, start};
use super::targets::STDERR_TARGET;
use crate::json;
use crate::signals::in_words;

/// The longest output that is read, so that a command cannot fill the memory. The broker has a
/// lower limit for results.
const OUTPUT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The end of stderr that is kept for the error of the task.
const ERROR_BYTES_MAX: usize = 8 * 1024;
/// How long the output is read after the end of the command. A process that the command left in the
/// background may hold it open.
const OUTPUT_PATIENCE: Duration = Duration::from_secs(1);
/// How often the worker looks whether the processes that a stopped command left behind have ended.
const GROUP_INTERVAL: Duration = Duration::from_millis(50);
/// The exit codes EX_USAGE and EX_DATAERR of `sysexits.h`: the arguments are wrong, and another
/// attempt would have the same ones.
const NEVER_AGAIN: [i32; 2] = [64, 65];

/// How a command is ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// The time between SIGTERM and SIGKILL.
    pub(super) grace: Duration,
}

/// Runs a command to its end, and returns its result as JSON.
///
/// # Errors
/// The command cannot be started, or it did not end with exit code 0.
pub(super) async fn run(
    command: Command,
    stdin: Bytes,
    context: &Context,
    limits: Limits,
    guard: &Guard,
) -> Result<Bytes, TaskFailure> {
    let Started { mut child, mut progress } = start(&command, context).await?;
    let mut group = ProcessGroup::of(&child, guard);
    let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let mut output = CommandOutput::default();
    let status = {
        let reading = output.exchange(stdin, pipes, context.id());
        let following = progress.follow(context);
        wait(&mut child, &group, (reading, following), context, limits).await
    };
    let status = status.map_err(|error| {
        TaskFailure::new("command", format!("cannot wait for {}: {error}", command.program))
    })?;
    group.has_ended();
    progress.finish(context);
    output.into_result(status)
}

/// Waits for the end of the command and of its output. A cancel, or the soft time limit, sends
/// SIGTERM, and SIGKILL follows after the grace, also for what the command has left behind.
async fn wait(
    child: &mut Child,
    group: &ProcessGroup<'_>,
    (reading, following): (impl Future<Output = ()>, impl Future<Output = Infallible>),
    context: &Context,
    limits: Limits,
) -> std::io::Result<ExitStatus> {
    let told_to_stop = async {
        tokio::select! {
            () = context.cancelled() => {}
            () = context.soft_limit() => {}
        }
    };
    tokio::pin!(reading, following, told_to_stop);
    let (mut is_read, mut ended, mut is_told, mut kill_at) = (false, None, false, None);
    let status = loop {
        // A command that ends by itself may leave processes behind.
        match ended {
            Some(status) if kill_at.is_none() || !group.is_alive() => break status,
            _ => {}
        }
        tokio::select! {
            status = child.wait(), if ended.is_none() => ended = Some(status?),
            () = &mut reading, if !is_read => is_read = true,
            never = &mut following => match never {},
            () = &mut told_to_stop, if !is_told => {
                is_told = true;
                kill_at = Some(Instant::now() + limits.grace);
                group.signal(Signal::TERM);
            }
            () = reached(kill_at) => {
                kill_at = None;
                group.signal(Signal::KILL);
            }
            () = tokio::time::sleep(GROUP_INTERVAL), if ended.is_some() => {}
        }
    };
    if is_told {
        // Of processes that nobody here may see.
        group.signal(Signal::KILL);
    }
    if !is_read {
        let _ = tokio::time::timeout(OUTPUT_PATIENCE, reading).await;
    }
    Ok(status)
}

/// Returns at this moment; never without one.
async fn reached(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// The process group of a command. When this value is dropped before the command has ended, the
/// whole group is killed: the hard time limit is over, or the worker ends.
struct ProcessGroup<'a> {
    /// `None` when the command has ended.
    group: Option<Pid>,
    guard: &'a Guard,
}

impl<'a> ProcessGroup<'a> {
    fn of(child: &Child, guard: &'a Guard) -> Self {
        let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        if let Some(group) = group {
            guard.tell(group, Fate::Started);
        }
        Self { group, guard }
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            // The group may have ended meanwhile.
            let _ = kill_process_group(group, signal);
        }
    }

    /// Whether any process of the group still runs. One that has ended may stay in the group for
    /// long: its parent has ended too, and the first process of a container may never collect it.
    fn is_alive(&self) -> bool {
        let Some(group) = self.group else { return false };
        let Ok(processes) = std::fs::read_dir("/proc") else { return true };
        test_kill_process_group(group).is_ok()
            && processes
                .flatten()
                .filter_map(|process| std::fs::read(process.path().join("stat")).ok())
                .any(|stat| runs_in(&String::from_utf8_lossy(&stat), group))
    }

    fn has_ended(&mut self) {
        if let Some(group) = self.group.take() {
            self.guard.tell(group, Fate::Ended);
        }
    }
}

/// Whether this line of `/proc/*/stat` is that of a running process of the group. The name of the
/// program, in parentheses, may hold anything.
fn runs_in(stat: &str, group: Pid) -> bool {
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let mut fields = fields.split_whitespace();
    let (state, of_group) = (fields.next(), fields.nth(1));
    !matches!(state, Some("Z" | "X")) && of_group == Some(&group.as_raw_nonzero().to_string())
}

impl Drop for ProcessGroup<'_> {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        self.has_ended();
    }
}

/// What a command wrote.
#[derive(Default)]
struct CommandOutput {
    stdout: Vec<u8>,
    /// The end of stderr.
    stderr: Vec<u8>,
}

impl CommandOutput {
    /// Writes to stdin and reads the output, until all three are closed.
    async fn exchange(
        &mut self,
        input: Bytes,
        (stdin, stdout, stderr): (Option<ChildStdin>, Option<ChildStdout>, Option<ChildStderr>),
        id: &str,
    ) {
        let feed = async {
            if let Some(mut stdin) = stdin {
                // The command need not read its arguments here.
                let _ = stdin.write_all(&input).await;
            }
        };
        let errors = read_end(stderr, id, &mut self.stderr);
        tokio::join!(feed, read_all(stdout, &mut self.stdout), errors);
    }

    fn into_result(self, status: ExitStatus) -> Result<Bytes, TaskFailure> {
        if !status.success() {
            return Err(self.into_failure(status));
        }
        if self.stdout.len() > OUTPUT_BYTES_MAX {
            let message = format!("the command printed more than {OUTPUT_BYTES_MAX} bytes");
            return Err(TaskFailure::fatal("result_too_large", message));
        }
        let text = String::from_utf8(self.stdout).map_err(|_| {
            TaskFailure::fatal("result", "the command printed bytes that are not UTF-8 text")
        })?;
        Ok(json::of_text(text.trim_end_matches(['\n', '\r'])))
    }

    /// The failure for a command that did not succeed: its exit code, and the end of stderr.
    fn into_failure(self, status: ExitStatus) -> TaskFailure {
        let ended = match (status.code(), status.signal()) {
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(signal)) => format!("ended by {}", in_words(signal)),
            (None, None) => "ended in an unknown way".to_owned(),
        };
        let stderr = String::from_utf8_lossy(&self.stderr);
        let last_line = stderr.lines().rev().find(|line| !line.trim().is_empty());
        let message = match last_line {
            Some(line) => format!("{ended}: {}", line.trim()),
            None => ended,
        };
        let failure = TaskFailure::new("command", message).with_traceback(stderr.trim_end());
        match status.code().is_some_and(|code| NEVER_AGAIN.contains(&code)) {
            true => failure.without_retry(),
            false => failure,
        }
    }
}

/// Reads the whole output, and throws away what is over the limit.
async fn read_all(source: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    read(source, |bytes| {
        // One byte over the limit says that the output was longer.
        let room = (OUTPUT_BYTES_MAX + 1).saturating_sub(kept.len());
        kept.extend_from_slice(&bytes[..room.min(bytes.len())]);
    })
    .await;
}

/// Passes the lines of stderr on to the log, and keeps the end.
async fn read_end(source: Option<impl AsyncRead + Unpin>, id: &str, kept: &mut Vec<u8>) {
    let mut lines = Lines::new(ERROR_BYTES_MAX);
    let log = |line: &str| tracing::info!(target: STDERR_TARGET, id, "{line}");
    read(source, |bytes| {
        lines.take(bytes, log);
        kept.extend_from_slice(bytes);
        let over = kept.len().saturating_sub(ERROR_BYTES_MAX);
        kept.drain(..over);
    })
    .await;
    lines.end(log);
}

async fn read(source: Option<impl AsyncRead + Unpin>, mut take: impl FnMut(&[u8])) {
    let Some(mut source) = source else { return };
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(count @ 1..) = source.read(&mut buffer).await {
        take(&buffer[..count]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ran(script: &str, stdin: &'static [u8]) -> Result<String, TaskFailure> {
        let arguments = vec!["-c".to_owned(), script.to_owned()];
        let command = Command { program: "sh".to_owned(), arguments };
        let limits = Limits { grace: Duration::from_secs(10) };
        let context = Context::detached("song-7");
        let result =
            run(command, Bytes::from_static(stdin), &context, limits, &Guard::absent()).await?;
        Ok(String::from_utf8(result.to_vec()).expect("JSON is text"))
    }

    #[tokio::test]
    async fn stdout_is_the_result_as_json_or_as_a_text() {
        let result = async |script| ran(script, b"").await.expect("it succeeds");
        assert_eq!(result("echo '{\"tempo\": 114.0}'").await, "{\"tempo\": 114.0}");
        assert_eq!(result("echo Hello \\\"you\\\"").await, "\"Hello \\\"you\\\"\"");
        assert_eq!(result("true").await, "null");
        assert_eq!(result("echo $CELERIAC_TASK_ID").await, "\"song-7\"");
        assert_eq!(ran("cat", b"[[1], {}]").await.expect("it succeeds"), "[[1], {}]");
    }

    #[tokio::test]
    async fn a_failure_has_the_exit_code_and_the_end_of_stderr() {
        let failure = ran("echo first >&2; echo no such song >&2; exit 3", b"").await;
        let failure = failure.expect_err("it fails");
        assert_eq!((failure.kind(), failure.message()), ("command", "exit code 3: no such song"));
        assert_eq!(failure.traceback(), "first\nno such song");
        assert!(failure.is_retryable());
        for (code, is_retryable) in [(64, false), (65, false), (66, true), (75, true)] {
            let failure = ran(&format!("exit {code}"), b"").await.expect_err("it fails");
            assert_eq!(failure.is_retryable(), is_retryable, "{code}");
        }
        let killed = ran("kill -9 $$", b"").await.expect_err("it is killed");
        assert_eq!(killed.message(), "ended by signal 9 (SIGKILL)");
        let killed = ran("kill -35 $$", b"").await.expect_err("it is killed");
        assert_eq!(killed.message(), "ended by signal 35 (SIGRTMIN+1)");
        let not_text = ran("printf '\\377'", b"").await.expect_err("not text");
        assert!(!not_text.is_retryable(), "{not_text:?}");
    }

    #[tokio::test]
    async fn a_long_output_and_an_unread_input_hold_nothing_up() {
        let long = ran("head -c 300000 /dev/zero | tr '\\0' x; head -c 300000 /dev/zero >&2", b"");
        assert_eq!(long.await.expect("it succeeds").len(), 300_002);
        const UNREAD: &[u8] = &[b' '; 1_000_000];
        assert_eq!(ran("echo 1", UNREAD).await.expect("it succeeds"), "1");
        let over = ran("head -c 17000000 /dev/zero | tr '\\0' 1", b"").await;
        assert_eq!(over.expect_err("too long").kind(), "result_too_large");
    }

    #[tokio::test]
    async fn what_the_command_leaves_in_the_background_does_not_hold_up_its_end() {
        assert_eq!(ran("sleep 30 & echo 1", b"").await.expect("it succeeds"), "1");
    }

    #[test]
    fn a_process_that_has_ended_does_not_count_for_its_group() {
        let group = Pid::from_raw(42).expect("a number");
        assert!(runs_in("7 (a) b) S 1 42 42 0", group));
        assert!(!runs_in("7 (sh) Z 1 42 42 0", group));
        assert!(!runs_in("7 (42 42) S 42 41 42 0", group));
        assert!(!runs_in("", group));
    }

    #[tokio::test]
    async fn a_command_that_cannot_start_is_a_failure() {
        let command = Command { program: "/does/not/exist".to_owned(), arguments: Vec::new() };
        let limits = Limits { grace: Duration::ZERO };
        let failure =
            run(command, Bytes::new(), &Context::detached("a"), limits, &Guard::absent()).await;
        assert!(failure.expect_err("no program").message().starts_with("cannot start /does"));
    }
}
