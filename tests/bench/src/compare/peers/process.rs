//! A server as a child process: it has a process group and a log of its own, is polled until it
//! answers, and is ended with all its children. The file of each peer has its command and its first
//! request.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use celeriac_tests::Guarded;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::compare::system::Missing;

/// Longest wait for a first answer. RabbitMQ needs several seconds, and a large append-only file is
/// read first.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// Longest wait for a clean end.
const END_WITHIN: Duration = Duration::from_secs(60);
/// Longest wait for children of a server that was killed.
const GONE_WITHIN: Duration = Duration::from_secs(5);
const LOG_LINES_SHOWN: usize = 15;

/// A child process that runs, or that has ended and was not dropped yet.
pub(crate) struct Server {
    child: Child,
    log: PathBuf,
    _guarded: Guarded,
}

impl Server {
    /// Starts it in a group of its own. Its output is appended to this log.
    pub fn start(mut command: Command, log: &Path) -> Result<Self> {
        let output = OpenOptions::new().create(true).append(true).open(log)?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).process_group(0);
        let child = command
            .spawn()
            .with_context(|| format!("{} did not start", command.get_program().display()))?;
        let guarded = Guarded::group(child.id())?;
        Ok(Self { child, log: log.to_owned(), _guarded: guarded })
    }

    /// Polls until the answer is yes. An end of the server is noticed at once.
    pub async fn ready(&mut self, mut answers: impl AsyncFnMut() -> bool) -> Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            if answers().await {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("the server ended with {status}:\n{}", self.log_tail());
            }
            if Instant::now() > deadline {
                bail!("the server does not answer:\n{}", self.log_tail());
            }
            // Servers of others do not signal that they are ready, so they are polled.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// SIGTERM to the server itself.
    pub fn terminate(&self) -> Result<()> {
        Ok(kill_process(self.pid(), Signal::TERM)?)
    }

    /// Waits for its end, after it was told to end.
    pub async fn ended(&mut self) -> Result<()> {
        let deadline = Instant::now() + END_WITHIN;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                bail!("the server does not end:\n{}", self.log_tail());
            }
            // The standard library has no wait with a timeout.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Waits until the process has ended, however long that takes.
    pub async fn succeeded(&mut self) -> Result<()> {
        loop {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.success(), "a program ended with {status}:\n{}", self.log_tail());
                return Ok(());
            }
            // The standard library has no other wait that can be given up.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The server, its children, and their children.
    pub fn processes(&self) -> Vec<u32> {
        let mut found = vec![self.child.id()];
        let parents = parents();
        let mut next = 0;
        while next < found.len() {
            let parent = found[next];
            found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
            next += 1;
        }
        found
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    fn log_tail(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            // Its process id may belong to another process by now. A group with this number can
            // only be its own.
            let _ = kill_process_group(self.pid(), Signal::KILL);
            return;
        }
        let processes = self.processes();
        let _ = kill_process_group(self.pid(), Signal::KILL);
        // Some processes left the group, as Erlang's children do. Processes that are gone already
        // do not matter.
        for process in &processes {
            if let Some(pid) = i32::try_from(*process).ok().and_then(Pid::from_raw) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        let _ = self.child.wait();
        let deadline = Instant::now() + GONE_WITHIN;
        while processes.iter().any(|process| runs(*process)) && Instant::now() < deadline {
            // Only a parent can wait for the end of a process, and the parents of these have ended.
            // They may still hold files.
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Whether it still runs. A process that has ended stays in the list until its parent asks for its
/// status.
fn runs(pid: u32) -> bool {
    stat(pid).is_some_and(|(state, _)| state != 'Z' && state != 'X')
}

/// Every process with its parent.
fn parents() -> Vec<(u32, u32)> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| parent(&entry.file_name())).collect()
}

fn parent(pid: &OsStr) -> Option<(u32, u32)> {
    let pid = pid.to_str()?.parse().ok()?;
    Some((pid, stat(pid)?.1))
}

/// State and parent.
fn stat(pid: u32) -> Option<(char, u32)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in brackets before them and may contain anything.
    let mut words = stat.rsplit_once(')')?.1.split_whitespace();
    Some((words.next()?.chars().next()?, words.next()?.parse().ok()?))
}

/// A port on which no process listened just now.
pub(super) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// A program in `PATH` or in the folders where Debian installs servers.
pub(super) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let servers = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(servers)
        .map(|folder| folder.join(program))
        .find(|file| File::open(file).is_ok())
}

/// A program of a Debian package, or the command that installs it.
pub(super) fn installed(program: &str, package: &str) -> Result<PathBuf, Missing> {
    find(program)
        .ok_or_else(|| Missing(format!("{program} is not installed: apt-get install {package}")))
}

/// The first word of the output of the program that begins with a digit, or with `v` and a digit.
pub(super) fn printed_version(mut command: Command) -> Result<String, Missing> {
    let program = command.get_program().display().to_string();
    let output =
        command.output().map_err(|error| Missing(format!("{program} cannot be run: {error}")))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version =
        text.split(|letter: char| letter.is_whitespace() || letter == '=').find_map(|word| {
            let word = word.trim_start_matches('v');
            word.starts_with(|letter: char| letter.is_ascii_digit()).then(|| word.to_owned())
        });
    version.ok_or_else(|| Missing(format!("{program} does not say its version")))
}
