//! A worker as a real process, which a test kills while it runs a task. Its program is
//! `children/worker.rs`.

use std::path::Path;
use std::process::{ExitStatus, Stdio};

use celeriac_client::Submission;
use celeriac_proto::wire;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::{BrokerProcess, RawConnection, raw, until, within};

/// A running worker process.
#[derive(Debug)]
pub struct WorkerProcess {
    child: Child,
    stdout: Lines<BufReader<ChildStdout>>,
}

impl WorkerProcess {
    /// Starts the program as a worker of the broker at `url`.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(program: impl AsRef<Path>, url: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new(program.as_ref())
            .arg(url)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the worker program can be started");
        let stdout = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
        Self { child, stdout }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id().expect("the worker runs")
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The next line that it prints: `started ID`, `finished ID` and the like.
    pub async fn line(&mut self) -> String {
        let line = within("a line of the worker process", self.stdout.next_line()).await;
        line.expect("the pipe is ours").expect("the worker process runs on")
    }

    /// Sends SIGKILL and waits until the process is gone.
    pub async fn kill(mut self) {
        within("the end of a killed worker", self.child.kill())
            .await
            .expect("our own child can be killed");
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        self.signal(rustix::process::Signal::TERM);
    }

    /// Sends SIGSTOP: the process stands still, as on a machine that sleeps.
    pub fn freeze(&self) {
        self.signal(rustix::process::Signal::STOP);
    }

    /// Sends SIGCONT, after [`freeze`](Self::freeze).
    pub fn thaw(&self) {
        self.signal(rustix::process::Signal::CONT);
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = i32::try_from(self.pid())
            .ok()
            .and_then(rustix::process::Pid::from_raw)
            .expect("a pid is above 0");
        rustix::process::kill_process(pid, signal).expect("our own child can be signalled");
    }

    /// The rest of its output, until it has ended.
    pub async fn lines_until_exit(mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Ok(Some(line)) =
            within("the end of the worker's lines", self.stdout.next_line()).await
        {
            lines.push(line);
        }
        self.exit().await;
        lines
    }

    /// Sends SIGTERM again, after the worker has taken the first one. Two signals of one kind count
    /// as one until the first is taken. A worker that has taken it asks for no more tasks.
    ///
    /// # Panics
    /// When a worker of the broker keeps asking for tasks.
    pub async fn terminate_again(&self, broker: &BrokerProcess) {
        until("the worker wants no more tasks", || async {
            let mut asking = RawConnection::open(broker.address()).await;
            match asking.request(raw::Request::ListWorkers(wire::ListWorkers::default())).await {
                Ok(raw::Answer::WorkerList(list)) => {
                    list.workers.iter().all(|worker| worker.credit == 0)
                }
                other => panic!("no WorkerList but {other:?}"),
            }
        })
        .await;
        self.terminate();
    }

    /// Waits for its end.
    pub async fn exit(mut self) -> ExitStatus {
        within("the end of the worker", self.child.wait()).await.expect("a child can be waited for")
    }
}

/// A task that runs in a worker process until this file exists.
pub fn held(id: &str, file: &Path) -> Submission {
    Submission::new("test.hold").args(json!([file])).task_id(id).queue("held")
}
