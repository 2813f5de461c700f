//! `celeriac submit --lines`: submits a task for each line of a file, in batches.
//!
//! A line is a JSON object. What a line leaves out comes from the flags of the command.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use celeriac_client::{Client, Submission};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;

use super::task::{TaskArguments, print, submission};
use crate::arguments::{parse_id, parse_name, parse_queue};
use crate::connection::failure;
use crate::exit::{Exit, Failure};
use crate::output::{Output, print_to_stderr};
use crate::printable::clean;
use crate::time::{parse_moment_or_span, parse_span};

/// The tasks of one batch, and the bytes of their lines. A batch is confirmed as a whole.
const BATCH_TASKS: usize = 1_000;
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// The longest line: larger than any payload that a broker takes.
const LINE_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// The lines that are read while a batch is on its way.
const LINES_AHEAD: usize = 64;
/// The time between two lines of progress on a terminal.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// One line of the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TaskLine {
    name: Option<String>,
    args: Option<Box<RawValue>>,
    kwargs: Option<Box<RawValue>>,
    id: Option<String>,
    queue: Option<String>,
    shadow: Option<String>,
    priority: Option<u8>,
    countdown: Option<String>,
    expires: Option<String>,
    #[serde(default)]
    tags: Vec<String>,
}

/// What became of the lines so far.
#[derive(Default)]
struct Counts {
    accepted: u64,
    refused: u64,
}

/// Submits the tasks of a file, or of stdin for `-`. A line that cannot be read ends the command;
/// the tasks of the lines before it are submitted.
pub(super) async fn submit_lines(
    client: &Client,
    file: &Path,
    defaults: &TaskArguments,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let mut lines = Lines::open(file)?;
    let mut progress = ProgressLine::new();
    let (mut counts, mut exit) = (Counts::default(), Exit::Success);
    loop {
        let (batch, end) = lines.batch(defaults).await;
        if !batch.is_empty() {
            exit = exit.and(submit(client, batch, &mut counts, output).await?);
        }
        progress.show(&counts, &lines);
        match end {
            Ok(BatchEnd::More) => {}
            Ok(BatchEnd::EndOfFile) => break,
            Err(sentence) => {
                progress.clear();
                return Err(Failure::usage(format!(
                    "{sentence}; tasks of the lines before it that were submitted: {}",
                    counts.accepted
                )));
            }
        }
    }
    progress.clear();
    if !output.is_json() {
        output.line(&format!("{} submitted, {} refused", counts.accepted, counts.refused))?;
    }
    Ok(exit)
}

async fn submit(
    client: &Client,
    batch: Vec<(u64, Submission)>,
    counts: &mut Counts,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let (numbers, submissions): (Vec<u64>, Vec<Submission>) = batch.into_iter().unzip();
    let outcomes = client.submit_many(submissions).await.map_err(failure)?;
    let mut exit = Exit::Success;
    for (number, outcome) in numbers.into_iter().zip(outcomes) {
        match outcome {
            Ok(submitted) => {
                counts.accepted += 1;
                if output.is_json() {
                    print(&submitted, output)?;
                }
            }
            Err(refusal) => {
                counts.refused += 1;
                let Failure::Sentence { exit: code, sentence } = failure(refusal.into()) else {
                    continue;
                };
                exit = exit.and(code);
                print_to_stderr(&clean(&format!("line {number}: {sentence}")));
            }
        }
    }
    Ok(exit)
}

/// Why a batch ends.
enum BatchEnd {
    More,
    EndOfFile,
}

/// The lines of a file, with their numbers. A thread reads them, so that a batch goes to the broker
/// when no more lines are there yet, and heartbeats go on meanwhile.
struct Lines {
    read: mpsc::Receiver<Result<(u64, String), String>>,
    number: u64,
}

impl Lines {
    fn open(file: &Path) -> Result<Self, Failure> {
        let reader: Box<dyn BufRead + Send> = if file == Path::new("-") {
            Box::new(BufReader::new(io::stdin()))
        } else {
            let opened = File::open(file).map_err(|error| {
                Failure::usage(format!("cannot read {}: {error}", clean(&file.to_string_lossy())))
            })?;
            Box::new(BufReader::new(opened))
        };
        let (sender, read) = mpsc::channel(LINES_AHEAD);
        std::thread::Builder::new()
            .name("lines".into())
            .spawn(move || read_lines(reader, &sender))
            .map_err(|error| Failure::error(format!("cannot start a thread: {error}")))?;
        Ok(Self { read, number: 0 })
    }

    /// The tasks of the lines that are there, at least one, with their numbers, and why the batch
    /// ends.
    async fn batch(
        &mut self,
        defaults: &TaskArguments,
    ) -> (Vec<(u64, Submission)>, Result<BatchEnd, String>) {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        let mut next = self.read.recv().await;
        loop {
            let Some(line) = next else { return (batch, Ok(BatchEnd::EndOfFile)) };
            let submission = line.and_then(|(number, line)| {
                (self.number, bytes) = (number, bytes + line.len());
                task(&line, defaults).map_err(|sentence| format!("line {number}: {sentence}"))
            });
            match submission {
                Ok(submission) => batch.push((self.number, submission)),
                Err(sentence) => return (batch, Err(sentence)),
            }
            if batch.len() >= BATCH_TASKS || bytes >= BATCH_BYTES {
                return (batch, Ok(BatchEnd::More));
            }
            next = match self.read.try_recv() {
                Ok(line) => Some(line),
                Err(TryRecvError::Empty) => return (batch, Ok(BatchEnd::More)),
                Err(TryRecvError::Disconnected) => None,
            };
        }
    }
}

/// Sends the lines that are not empty, until the file ends or cannot be read.
fn read_lines(
    mut reader: Box<dyn BufRead + Send>,
    lines: &mpsc::Sender<Result<(u64, String), String>>,
) {
    for number in 1.. {
        let mut line = String::new();
        let mut bounded = io::Read::take(&mut reader, LINE_BYTES_MAX);
        let read = match bounded.read_line(&mut line) {
            Ok(0) => return,
            Ok(_) if line.trim().is_empty() => continue,
            Ok(_) => Ok((number, line)),
            Err(error) => Err(format!("line {number}: {error}")),
        };
        let is_over = read.is_err();
        // The command may have ended.
        if lines.blocking_send(read).is_err() || is_over {
            return;
        }
    }
}

/// The task of a line, with the flags of the command where the line says nothing.
fn task(line: &str, defaults: &TaskArguments) -> Result<Submission, String> {
    let line: TaskLine = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let mut arguments = defaults.clone();
    if let Some(name) = &line.name {
        arguments.name = Some(parse_name(name)?);
    }
    arguments.args = line.args.map_or(arguments.args, |args| args.get().to_owned());
    arguments.kwargs = line.kwargs.map_or(arguments.kwargs, |kwargs| kwargs.get().to_owned());
    if let Some(id) = &line.id {
        arguments.id = Some(parse_id(id)?);
    }
    if let Some(queue) = &line.queue {
        arguments.queue = Some(parse_queue(queue)?);
    }
    arguments.shadow = line.shadow.or(arguments.shadow);
    arguments.priority = line.priority.or(arguments.priority);
    if let Some(countdown) = line.countdown {
        (arguments.eta, arguments.countdown) = (None, Some(parse_span(&countdown)?));
    }
    if let Some(expires) = line.expires {
        arguments.expires = Some(parse_moment_or_span(&expires)?);
    }
    arguments.tags.extend(line.tags);
    submission(arguments).map_err(|error| match error {
        Failure::Sentence { sentence, .. } => sentence,
        Failure::ReaderGone => "stdout is closed".to_owned(),
    })
}

/// A line on a terminal that says how far the command is.
struct ProgressLine {
    shown_at: Option<Instant>,
}

impl ProgressLine {
    fn new() -> Self {
        Self { shown_at: None }
    }

    fn show(&mut self, counts: &Counts, lines: &Lines) {
        let is_due = self.shown_at.is_none_or(|at| at.elapsed() >= PROGRESS_INTERVAL);
        if is_due && io::stderr().is_terminal() {
            self.shown_at = Some(Instant::now());
            let (read, accepted) = (lines.number, counts.accepted);
            // If stderr is closed there is nobody to see it.
            let _ = write!(io::stderr(), "\r{read} lines read, {accepted} tasks submitted ");
        }
    }

    fn clear(&mut self) {
        if self.shown_at.take().is_some() {
            let _ = write!(io::stderr(), "\r\u{1b}[K");
        }
    }
}
