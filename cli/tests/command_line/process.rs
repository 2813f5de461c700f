//! Runs the built binary for the tests of this crate, in a clean environment and with a deadline.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;

/// Everything here takes less time, also on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// The binary, without the variables of the environment that could change its behaviour.
pub(crate) fn celeriac(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_celeriac"));
    without_variables(&mut command);
    command.args(arguments);
    command
}

/// Another program that finds the binary on its path, in the same clean environment.
pub(crate) fn program(name: &str) -> Command {
    let binary = Path::new(env!("CARGO_BIN_EXE_celeriac"));
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new(name);
    without_variables(&mut command);
    let folder = binary.parent().expect("a folder").display();
    command.env("PATH", format!("{folder}:{path}"));
    command
}

fn without_variables(command: &mut Command) {
    for (name, _) in std::env::vars().filter(|(name, _)| {
        name.starts_with("CELERIAC_") || ["NOTIFY_SOCKET", "NO_COLOR"].contains(&name.as_str())
    }) {
        command.env_remove(name);
    }
}

/// The exit code and the output of a process that has ended.
#[derive(Debug)]
pub(crate) struct CommandOutput {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for CommandOutput {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("stdout is text"),
            stderr: String::from_utf8(output.stderr).expect("stderr is text"),
        }
    }
}

/// Runs a command to its end.
pub(crate) fn run(arguments: &[&str]) -> CommandOutput {
    finish(&mut celeriac(arguments), "")
}

/// Runs a prepared command to its end, with this text on stdin.
pub(crate) fn finish(command: &mut Command, stdin: &str) -> CommandOutput {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    // The command may end without reading its stdin.
    let _ = child.stdin.take().expect("piped").write_all(stdin.as_bytes());
    within_deadline(move || child.wait_with_output().expect("it can be waited for")).into()
}

/// Panics if the work takes too long, so that a hanging test fails with its name.
pub(crate) fn within_deadline<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(work()));
    receiver.recv_timeout(DEADLINE).expect("it ends within the deadline")
}

/// Says that a test was skipped, and why.
#[allow(clippy::print_stderr, reason = "a test that was skipped says so")]
pub(crate) fn skip(why: &str) {
    eprintln!("SKIPPED: {why}");
}

/// The documents of an output with `--json`: one on each line.
pub(crate) fn documents(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

/// A broker in its own process, on a free port. Dropping this value kills the process.
pub(crate) struct Broker {
    child: Option<Child>,
    pub(crate) address: String,
}

impl Broker {
    /// Starts a broker on a data folder and waits until it is ready.
    pub(crate) fn start(data: &Path, more: &[&str]) -> Self {
        let mut command =
            celeriac(&["serve", "--listen", "127.0.0.1:0", "--log", "warn", "--data"]);
        command.arg(data).args(more);
        Self::ready(command)
    }

    /// Starts a prepared `serve` and waits until it is ready.
    pub(crate) fn ready(command: Command) -> Self {
        Self::after_lines(command, 1).0
    }

    /// Like [`ready`](Self::ready), also with the address of the HTTP side.
    pub(crate) fn ready_with_http(command: Command) -> (Self, String) {
        let (broker, lines) = Self::after_lines(command, 2);
        let address = lines[1].strip_prefix("celeriac: HTTP on ");
        (broker, address.unwrap_or_else(|| panic!("no HTTP: {lines:?}")).to_owned())
    }

    /// Starts a prepared `serve` and waits until it has written so many lines.
    fn after_lines(mut command: Command, count: usize) -> (Self, Vec<String>) {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the binary starts");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let lines: Vec<String> = within_deadline(move || {
            stdout.lines().take(count).map(|line| line.expect("stdout is text")).collect()
        });
        let address = lines
            .first()
            .and_then(|line| line.strip_prefix("celeriac: listening on "))
            .unwrap_or_else(|| panic!("not ready: {lines:?}"));
        (Self { address: address.to_owned(), child: Some(child) }, lines)
    }

    /// Runs a client command against this broker.
    pub(crate) fn run(&self, arguments: &[&str]) -> CommandOutput {
        finish(&mut self.command(arguments), "")
    }

    /// A client command for this broker, not yet started.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = celeriac(arguments);
        command.env("CELERIAC_URL", format!("celeriac://{}", self.address));
        command
    }

    /// The id of its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// The process id of the broker if another program has started it.
    pub(crate) fn child_of_its_process(&self) -> String {
        let pid = self.child.as_ref().expect("not stopped").id();
        let children =
            std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("a process");
        children.split_whitespace().next().map_or(pid.to_string(), str::to_owned)
    }

    /// Waits for the end of the broker.
    pub(crate) fn wait(mut self) -> CommandOutput {
        let child = self.child.take().expect("stopped once");
        within_deadline(move || child.wait_with_output().expect("it can be waited for")).into()
    }

    /// Sends the signal of this name, and waits for the end of the broker.
    pub(crate) fn stop(self, signal: &str) -> CommandOutput {
        let pid = self.child.as_ref().expect("stopped once").id().to_string();
        let status = Command::new("kill").args(["-s", signal, &pid]).status().expect("kill runs");
        assert!(status.success(), "the broker is still there");
        self.wait()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
