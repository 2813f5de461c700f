//! The program under test. The kit starts it, gives it orders on its standard input and reads its
//! standard output.

use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value as Json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc::UnboundedSender;

use crate::listener::Event;

/// How many lines of its standard error are kept.
const COMPLAINTS_MAX: usize = 40;

/// A running subject. It is killed when this value is dropped.
#[derive(Debug)]
pub(crate) struct Subject {
    child: Child,
    orders: Option<ChildStdin>,
    complaints: Arc<Mutex<Vec<String>>>,
}

impl Subject {
    pub(crate) fn start(
        command: &[String],
        url: &str,
        events: UnboundedSender<Event>,
    ) -> Result<Self, String> {
        let (program, arguments) = command.split_first().ok_or("no command is given")?;
        let mut child = Command::new(program)
            .args(arguments)
            .env("CELERIAC_URL", url)
            .env_remove("CELERIAC_TOKEN")
            .env_remove("CELERIAC_TOKEN_FILE")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("{program} cannot be started: {error}"))?;
        let lines = child.stdout.take().expect("it is piped");
        tokio::spawn(async move {
            let mut lines = BufReader::new(lines).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let _ = events.send(Event::Line(line));
            }
        });
        let (complaints, errors) =
            (Arc::new(Mutex::new(Vec::new())), child.stderr.take().expect("it is piped"));
        let kept = complaints.clone();
        tokio::spawn(async move {
            let mut lines = BufReader::new(errors).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let mut kept = kept.lock().expect("no thread panics while it holds this lock");
                if kept.len() == COMPLAINTS_MAX {
                    kept.remove(0);
                }
                kept.push(line);
            }
        });
        let orders = child.stdin.take();
        Ok(Self { child, orders, complaints })
    }

    pub(crate) async fn tell(&mut self, order: &Json) -> Result<(), String> {
        let orders = self.orders.as_mut().expect("it is open until the end");
        let line = format!("{order}\n");
        orders
            .write_all(line.as_bytes())
            .await
            .map_err(|_| "the subject reads no orders any more".to_owned())
    }

    /// Its exit status, if it has ended.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// The last lines of its standard error.
    pub(crate) fn complaints(&self) -> Vec<String> {
        self.complaints.lock().expect("no thread panics while it holds this lock").clone()
    }
}
