//! Reads whole data folders for `check` and `restore`: in a thread, so that a signal can end the
//! command, and shows what a sound folder has.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use celeriac_broker::{Report, StoreError};
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::exit::{Exit, Failure};
use crate::output::{Format, Output};
use celeriac_web::printable::clean;

/// How often the removal of the copy is tried, while the checking thread may write to it.
const REMOVALS_MAX: u32 = 1_000;

/// How long the command waits for the path of the copy after a signal.
const COPY_PATH_WITHIN: Duration = Duration::from_millis(500);

/// A sound folder for programs.
#[derive(Serialize)]
struct Document<'a> {
    folder: String,
    format: u32,
    tasks: u64,
    states: Vec<StateCount>,
    queues: u64,
    live_bytes: u64,
    log_bytes: u64,
    file_bytes: u64,
    oddity: Option<&'a str>,
}

#[derive(Serialize)]
struct StateCount {
    state: &'static str,
    tasks: u64,
}

/// Calls a function that tells the path of the copy that it makes, and returns its report. When a
/// signal ends the command before that, the copy is removed, and the failure says `ended`.
pub(crate) fn run_apart(
    work: impl FnOnce(&dyn Fn(&Path)) -> Result<Report, StoreError> + Send + 'static,
    ended: &str,
) -> Result<Report, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::error(format!("cannot start: {error}")))?;
    runtime.block_on(wait_for(work, ended))
}

async fn wait_for(
    work: impl FnOnce(&dyn Fn(&Path)) -> Result<Report, StoreError> + Send + 'static,
    ended: &str,
) -> Result<Report, Failure> {
    let listen = |kind| {
        signal(kind).map_err(|error| Failure::error(format!("cannot listen for signals: {error}")))
    };
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut hang_up = listen(SignalKind::hangup())?;
    let mut quit = listen(SignalKind::quit())?;
    let (done, mut outcome) = oneshot::channel();
    let (sender, copy) = mpsc::channel::<PathBuf>();
    let run = move || {
        // After a signal nothing receives the path or the outcome.
        let send_path = |path: &Path| drop(sender.send(path.to_owned()));
        let _ = done.send(work(&send_path));
    };
    let thread = std::thread::Builder::new().name("check".into()).spawn(run);
    thread
        .map_err(|error| Failure::error(format!("cannot start a thread for the check: {error}")))?;
    let signal = tokio::select! {
        outcome = &mut outcome => {
            let outcome = outcome.map_err(|_| Failure::error("the thread of the check panicked"))?;
            return outcome.map_err(|error| {
                Failure::new(Exit::Broker(error.exit_code()), error.to_string())
            });
        }
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
        _ = hang_up.recv() => "SIGHUP",
        _ = quit.recv() => "SIGQUIT",
    };
    // The thread may be about to make the copy.
    if let Ok(copy) = copy.recv_timeout(COPY_PATH_WITHIN) {
        remove(&copy);
    }
    Err(Failure::error(format!("{signal} ended {ended}")))
}

/// Removes the copy, although the thread may be writing to it.
fn remove(copy: &Path) {
    for _ in 0..REMOVALS_MAX {
        match std::fs::remove_dir_all(copy) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
            Err(_) => std::thread::yield_now(),
        }
    }
}

/// Prints what a sound folder has. For people `what` says what it is, such as `is sound`.
pub(crate) fn show(
    folder: &Path,
    what: &str,
    report: &Report,
    output: &mut Output,
) -> std::io::Result<()> {
    let folder = folder.display().to_string();
    match output.format {
        Format::Json => output.document(&document(folder, report)),
        Format::Text => print(&format!("{} {what}", clean(&folder)), report, output),
    }
}

fn document(folder: String, report: &Report) -> Document<'_> {
    Document {
        folder,
        format: report.format,
        tasks: tasks(report),
        states: report
            .tasks
            .iter()
            .map(|(state, tasks)| StateCount { state, tasks: *tasks })
            .collect(),
        queues: report.queues,
        live_bytes: report.live_bytes,
        log_bytes: report.log_bytes,
        file_bytes: report.file_bytes,
        oddity: report.oddity.as_deref(),
    }
}

fn print(sentence: &str, report: &Report, output: &mut Output) -> std::io::Result<()> {
    output.line(sentence)?;
    let present = report.tasks.iter().filter(|(_, tasks)| *tasks > 0);
    let states: Vec<String> = present.map(|(state, tasks)| format!("{state} {tasks}")).collect();
    let mut rows = vec![
        ("format", report.format.to_string()),
        ("tasks", tasks(report).to_string()),
        ("states", states.join(", ")),
        ("queues", report.queues.to_string()),
        ("live bytes", report.live_bytes.to_string()),
        ("log bytes", report.log_bytes.to_string()),
        ("file bytes", report.file_bytes.to_string()),
    ];
    rows.retain(|(_, value)| !value.is_empty());
    if let Some(oddity) = &report.oddity {
        rows.push(("oddity", format!("{oddity}; nothing is lost")));
    }
    output.details(&rows)
}

fn tasks(report: &Report) -> u64 {
    report.tasks.iter().map(|(_, tasks)| tasks).sum()
}
