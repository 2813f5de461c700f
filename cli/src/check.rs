//! `celeriac check`: whether a data folder that no broker uses is sound. The one client command
//! that asks no broker.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use celeriac_broker::Report;
use clap::Args;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::exit::{Exit, Failure};
use crate::output::{Output, clean};

/// Shown at the end of the command's help.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  the folder is sound
  1  any other error, or ended by a signal; stderr has the sentence
  2  wrong usage
 11  a broker uses the folder
 12  a newer Celeriac wrote it
 13  it is damaged; the sentence says where
 14  there is no room for the copy that is read
 15  the disk failed
 17  it is no data folder, or cannot be read";

/// A copy that is still written to is removed as often as that.
const REMOVALS_MAX: u32 = 1_000;

/// How long a check that was ended may take to say where its copy is.
const TOLD_WITHIN: Duration = Duration::from_millis(500);

/// The arguments of `check`.
#[derive(Args)]
pub(crate) struct Check {
    /// A data folder or a backup, not in use
    ///
    /// It is not changed. What is read is a copy in the folder for temporary files; TMPDIR names
    /// another one.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// What a program reads about a sound folder.
#[derive(Serialize)]
struct Document<'a> {
    folder: String,
    format: u32,
    tasks: u64,
    states: Vec<State>,
    queues: u64,
    live_bytes: u64,
    log_bytes: u64,
    file_bytes: u64,
    oddity: Option<&'a str>,
}

#[derive(Serialize)]
struct State {
    state: &'static str,
    tasks: u64,
}

/// Reads the whole folder; a folder that is not sound is a failure with the exit code that `serve`
/// would end with.
pub(crate) fn run(check: &Check, output: &mut Output) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::error(format!("cannot start: {error}")))?;
    let report = runtime.block_on(read(check.folder.clone()))?;
    let folder = check.folder.display().to_string();
    match output.json {
        true => output.document(&document(folder, &report))?,
        false => print(&folder, &report, output)?,
    }
    Ok(Exit::Success)
}

/// Checks the folder in a thread, so that a signal can end it and its copy with it.
async fn read(folder: PathBuf) -> Result<Report, Failure> {
    let listen = |kind| {
        signal(kind).map_err(|error| Failure::error(format!("cannot listen for signals: {error}")))
    };
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut hang_up = listen(SignalKind::hangup())?;
    let (done, mut outcome) = oneshot::channel();
    let (tell, copy) = mpsc::channel::<PathBuf>();
    let check = move || {
        // Who asked may be gone.
        let told = |path: &Path| drop(tell.send(path.to_owned()));
        let _ = done.send(celeriac_broker::check_telling(&folder, told));
    };
    let thread = std::thread::Builder::new().name("check".into()).spawn(check);
    thread.map_err(|error| Failure::error(format!("no thread for the check: {error}")))?;
    let signal = tokio::select! {
        outcome = &mut outcome => {
            let outcome = outcome.map_err(|_| Failure::error("the check failed inside"))?;
            return outcome.map_err(|error| Failure::new(Exit::Broker(error.exit_code()), error.to_string()));
        }
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
        _ = hang_up.recv() => "SIGHUP",
    };
    // It may be made at this very moment.
    if let Ok(copy) = copy.recv_timeout(TOLD_WITHIN) {
        remove(&copy);
    }
    Err(Failure::error(format!(
        "ended by {signal} before the folder was read; nothing is known about it"
    )))
}

/// The thread may still be writing to it.
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
        states: report.tasks.iter().map(|(state, tasks)| State { state, tasks: *tasks }).collect(),
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
