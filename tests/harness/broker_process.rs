//! A broker as a real process: `celeriac serve` on a temporary folder and a free port. A test can
//! kill it, stop it, and start it again on the same folder and port. The stderr of the broker is
//! printed when the test fails.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use celeriac_client::Client;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use crate::{Guarded, celeriac_binary, within};

/// The address that brokers under test listen on. It is not 127.0.0.1 where there is a choice:
/// clients that try to connect while the broker is down connect from 127.0.0.1, and one of their
/// own ports could have the same number on the same address.
const LISTEN: &str = if cfg!(target_os = "linux") { "127.0.0.2:0" } else { "127.0.0.1:0" };

/// The configuration of a broker under test.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    settings: Vec<String>,
    data: Option<PathBuf>,
    prefix: Vec<String>,
    program: Option<PathBuf>,
    environment: Vec<(String, String)>,
    listen: Option<SocketAddr>,
}

impl Setup {
    /// The default configuration with a new folder.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a line to the broker's TOML file, e.g. `lease_ms = 1000`.
    #[must_use]
    pub fn set(mut self, line: impl Into<String>) -> Self {
        self.settings.push(line.into());
        self
    }

    /// Uses this data folder, which the caller keeps.
    #[must_use]
    pub fn data(mut self, folder: impl Into<PathBuf>) -> Self {
        self.data = Some(folder.into());
        self
    }

    /// Starts the broker under another program, e.g. `strace`.
    #[must_use]
    pub fn under<S: Into<String>>(mut self, program: impl IntoIterator<Item = S>) -> Self {
        self.prefix = program.into_iter().map(Into::into).collect();
        self
    }

    /// Starts this program instead of `celeriac`. It must take the same arguments.
    #[must_use]
    pub fn program(mut self, program: impl Into<PathBuf>) -> Self {
        self.program = Some(program.into());
        self
    }

    /// Starts the program with this environment variable.
    #[must_use]
    pub fn variable(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Listens on this address, on which a broker that has ended listened before.
    #[must_use]
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen = Some(address);
        self
    }

    /// Starts a broker that must become ready.
    ///
    /// # Panics
    /// When it exits before it is ready, with what it wrote to stderr.
    pub async fn start(self) -> BrokerProcess {
        match self.try_start().await {
            Ok(broker) => broker,
            Err(exit) => panic!("the broker did not start: {exit:?}"),
        }
    }

    /// Starts a broker that may fail to start.
    ///
    /// # Errors
    /// How it ended, when it ended before it was ready.
    pub async fn try_start(self) -> Result<BrokerProcess, Exit> {
        let home = tempfile::tempdir().expect("a temporary folder can be made");
        let data = self.data.clone().unwrap_or_else(|| home.path().join("data"));
        let (child, guarded, address, stderr) = self.spawn(home.path(), &data).await?;
        Ok(BrokerProcess { setup: self, home, data, child: Some(child), guarded, address, stderr })
    }

    fn spawn_child(&self, home: &Path, data: &Path) -> Child {
        let config = home.join("celeriac.toml");
        std::fs::write(&config, self.settings.join("\n"))
            .expect("the temporary folder is writable");
        let listen = self.listen.map_or_else(|| LISTEN.to_owned(), |address| address.to_string());
        let mut words: Vec<std::ffi::OsString> = self.prefix.iter().map(Into::into).collect();
        let program = self.program.as_deref().unwrap_or_else(|| celeriac_binary());
        words.extend([program.into(), "serve".into(), "--data".into(), data.into()]);
        words.extend(["--listen".into(), listen.into(), "--config".into(), config.into()]);
        Command::new(&words[0])
            .args(&words[1..])
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the broker can be started")
    }

    async fn spawn(
        &self,
        home: &Path,
        data: &Path,
    ) -> Result<(Child, Option<Guarded>, SocketAddr, Collected), Exit> {
        let mut child = self.spawn_child(home, data);
        let guarded = guarded(&child);
        let mut stderr = Collected::from(child.stderr.take().expect("stderr is piped"));
        let mut stdout = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
        let ready = async {
            while let Ok(Some(line)) = stdout.next_line().await {
                if let Some(address) = line.strip_prefix("celeriac: listening on ") {
                    return Some(
                        address.trim().parse().expect("the ready line ends with an address"),
                    );
                }
            }
            None
        };
        match tokio::time::timeout(self.start_patience(), ready).await {
            Ok(Some(address)) => {
                // The rest of its output is read too, so that the broker never blocks on a full
                // pipe.
                tokio::spawn(async move { while let Ok(Some(_)) = stdout.next_line().await {} });
                Ok((child, guarded, address, stderr))
            }
            Ok(None) => {
                let status =
                    within("the exit of a broker that closed its stdout", child.wait()).await;
                Err(Exit {
                    status: status.expect("a child can be waited for"),
                    stderr: stderr.all().await,
                })
            }
            Err(_) => {
                panic!("the broker is neither ready nor gone; it wrote:\n{}", stderr.so_far())
            }
        }
    }

    /// A start with a large folder, or under a tracer, takes long.
    fn start_patience(&self) -> std::time::Duration {
        crate::PATIENCE * 6
    }
}

/// How a broker ended.
#[derive(Debug, Clone)]
pub struct Exit {
    /// Code or signal.
    pub status: ExitStatus,
    /// Everything that it wrote to stderr.
    pub stderr: String,
}

impl Exit {
    /// Whether it ended with an exit code and a sentence, and not by a panic or a signal.
    pub fn is_a_clear_refusal(&self) -> bool {
        self.status.code().is_some_and(|code| code != 0 && code != 101)
            && !self.stderr.contains("panicked at")
            && self.stderr.lines().any(|line| line.split_whitespace().count() >= 4)
    }
}

/// A broker process. It runs, or was killed and can be started again.
#[derive(Debug)]
pub struct BrokerProcess {
    setup: Setup,
    home: TempDir,
    data: PathBuf,
    child: Option<Child>,
    /// It is dropped after the child.
    guarded: Option<Guarded>,
    address: SocketAddr,
    stderr: Collected,
}

/// The broker ends with the test, also when the test is killed. A child that has ended needs no
/// guard.
fn guarded(child: &Child) -> Option<Guarded> {
    child.id().map(|pid| Guarded::process(pid).expect("a shell can be started"))
}

impl BrokerProcess {
    /// Starts a broker with the default configuration and a new folder.
    pub async fn start() -> Self {
        Setup::new().start().await
    }

    /// The address on which it listens. It is the same after a restart.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL for clients and workers.
    pub fn url(&self) -> String {
        format!("celeriac://{}", self.address)
    }

    /// A client of the client crate.
    ///
    /// # Panics
    /// When the broker refuses it.
    pub async fn client(&self) -> Client {
        Client::connect(&self.url()).await.expect("the broker accepts clients")
    }

    /// Its data folder.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// A folder for any use by the test. It is removed with the broker.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Its process id. Under another program it is the id of that program.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().and_then(Child::id).expect("the broker runs")
    }

    /// Its resident memory, as the kernel counts it.
    ///
    /// # Panics
    /// Where there is no /proc.
    pub fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))
            .expect("the broker runs");
        // A process that has ended and was not waited for holds no memory.
        let Some(line) = status.lines().find(|line| line.starts_with("VmRSS:")) else { return 0 };
        line.split_whitespace()
            .nth(1)
            .and_then(|number| number.parse().ok())
            .expect("it is a number")
    }

    /// What it wrote to stderr so far.
    pub fn stderr(&self) -> String {
        self.stderr.so_far()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Sends SIGKILL and waits until the process is gone.
    pub async fn kill(&mut self) {
        let mut child = self.child.take().expect("the broker runs");
        within("the end of a killed broker", child.kill())
            .await
            .expect("our own child can be killed");
        self.guarded = None;
    }

    /// Sends SIGTERM and returns how the process ended.
    pub async fn stop(&mut self) -> Exit {
        self.signal(rustix::process::Signal::TERM);
        self.exit().await
    }

    /// Sends it this signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = i32::try_from(self.pid())
            .ok()
            .and_then(rustix::process::Pid::from_raw)
            .expect("a pid is above 0");
        rustix::process::kill_process(pid, signal).expect("our own child can be signalled");
    }

    /// Waits for its end.
    pub async fn exit(&mut self) -> Exit {
        let mut child = self.child.take().expect("the broker runs");
        let status =
            within("the end of the broker", child.wait()).await.expect("a child can be waited for");
        self.guarded = None;
        Exit { status, stderr: self.stderr.all().await }
    }

    /// Starts it again as [`restart`](Self::restart) does, and kills it after this time, ready or
    /// not.
    pub async fn restart_and_kill(&mut self, after: Duration) {
        assert!(self.child.is_none(), "only a broker that is gone can be started again");
        self.setup.listen = Some(self.address);
        let mut child = self.setup.spawn_child(self.home.path(), &self.data);
        let _guarded = guarded(&child);
        // Time itself is what the test is about.
        tokio::time::sleep(after).await;
        within("the end of a killed broker", child.kill())
            .await
            .expect("our own child can be killed");
    }

    /// Starts it again on the same folder and port, after [`kill`](Self::kill) or
    /// [`stop`](Self::stop).
    pub async fn restart(&mut self) {
        if let Err(exit) = self.try_restart().await {
            panic!("the broker did not start again: {exit:?}");
        }
    }

    /// As [`restart`](Self::restart), for a broker that may fail to start.
    ///
    /// # Errors
    /// How it ended, when it ended before it was ready.
    pub async fn try_restart(&mut self) -> Result<(), Exit> {
        assert!(self.child.is_none(), "only a broker that is gone can be started again");
        self.setup.listen = Some(self.address);
        let (child, guarded, address, stderr) =
            self.setup.spawn(self.home.path(), &self.data).await?;
        (self.child, self.guarded) = (Some(child), guarded);
        self.address = address;
        self.stderr = stderr;
        Ok(())
    }
}

impl Drop for BrokerProcess {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "--- stderr of the broker ---\n{}----------------------------",
                self.stderr.so_far()
            );
        }
    }
}

/// A stream that is read to its end in the background.
#[derive(Debug)]
struct Collected {
    text: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

/// The end of the output is enough to see what went wrong.
const COLLECTED_BYTES_MAX: usize = 1024 * 1024;

impl Collected {
    fn from(stream: impl AsyncRead + Unpin + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(String::new()));
        let target = Arc::clone(&text);
        let reader = tokio::spawn(async move {
            let mut lines = BufReader::new(stream).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let mut target = target.lock().expect("no thread panics while it holds this lock");
                if target.len() < COLLECTED_BYTES_MAX {
                    target.push_str(&line);
                    target.push('\n');
                }
            }
        });
        Self { text, reader: Some(reader) }
    }

    fn so_far(&self) -> String {
        self.text.lock().expect("no thread panics while it holds this lock").clone()
    }

    async fn all(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            within("the rest of stderr", reader).await.expect("the reader does not panic");
        }
        self.so_far()
    }
}
