//! `celeriac check`: whether a data folder that no broker uses is sound. It reads the folder itself
//! and asks no broker.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use celeriac_broker::Report;
use clap::Args;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::exit::{Exit, Failure};
use crate::output::{Format, Output};
use crate::printable::clean;

/// The end of the help of this command.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  the folder is sound
  1  any other error, or a signal ended the check; stderr has the sentence
  2  wrong usage
 11  a broker uses the folder
 12  a newer Celeriac wrote the folder
 13  the folder is damaged; the sentence says where
 14  there is no room for the copy that the check reads
 15  the disk failed
 17  the folder is no data folder, or cannot be read";

/// How often the removal of the copy is tried, while the checking thread may write to it.
const REMOVALS_MAX: u32 = 1_000;

/// How long the command waits for the path of the copy after a signal.
const COPY_PATH_WITHIN: Duration = Duration::from_millis(500);

/// The arguments of `check`.
#[derive(Args)]
pub(crate) struct CheckArguments {
    /// A data folder or a backup that no broker uses
    ///
    /// The command does not change the folder. It reads a copy, which it makes in the folder for
    /// temporary files. TMPDIR names another folder for the copy.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

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

/// Reads the whole folder. A folder that is not sound is a failure, with the same exit code that
/// `serve` would end with.
pub(crate) fn run(arguments: &CheckArguments, output: &mut Output) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::error(format!("cannot start: {error}")))?;
    let report = runtime.block_on(read(arguments.folder.clone()))?;
    let folder = arguments.folder.display().to_string();
    match output.format {
        Format::Json => output.document(&document(folder, &report))?,
        Format::Text => print(&folder, &report, output)?,
    }
    Ok(Exit::Success)
}

/// Checks the folder in a thread, so that a signal can end the command and remove its copy.
async fn read(folder: PathBuf) -> Result<Report, Failure> {
    let listen = |kind| {
        signal(kind).map_err(|error| Failure::error(format!("cannot listen for signals: {error}")))
    };
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut hang_up = listen(SignalKind::hangup())?;
    let mut quit = listen(SignalKind::quit())?;
    let (done, mut outcome) = oneshot::channel();
    let (sender, copy) = mpsc::channel::<PathBuf>();
    let check = move || {
        // After a signal nothing receives the path or the outcome.
        let send_path = |path: &Path| drop(sender.send(path.to_owned()));
        let _ = done.send(celeriac_broker::check_telling(&folder, send_path));
    };
    let thread = std::thread::Builder::new().name("check".into()).spawn(check);
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
    Err(Failure::error(format!(
        "{signal} ended the check before the whole folder was read; nothing is known about it"
    )))
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

fn print(folder: &str, report: &Report, output: &mut Output) -> std::io::Result<()> {
    output.line(&format!("{} is sound", clean(folder)))?;
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
