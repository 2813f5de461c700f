//! `celeriac submit --lines`: submits a task for each line of a file, in batches.
//!
//! A line is a JSON object. What a line leaves out comes from the flags of the command.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::num::NonZeroU32;
use std::path::Path;
use std::time::{Duration, Instant};

use celeriac_client::{Client, Error, ErrorCode, Submission, SubmitKind, Submitted};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;

use super::task::{Header, TaskArguments, print, submission};
use crate::arguments::{parse_id, parse_name, parse_queue, without_nul};
use crate::connection::failure;
use crate::exit::{Exit, Failure};
use crate::output::{Output, is_dumb, print_to_stderr};
use crate::task_count::counted;
use crate::time::{parse_moment, parse_moment_or_span, parse_span};
use celeriac_web::printable::clean;

/// The tasks of one batch, and the bytes of their lines. A batch is confirmed as a whole.
const BATCH_TASKS: usize = 1_000;
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// The longest line: larger than any payload that a broker takes.
const LINE_BYTES_MAX: u64 = 256 * 1024 * 1024;
const BYTE_ORDER_MARK: char = '\u{feff}';
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
    eta: Option<String>,
    countdown: Option<String>,
    expires: Option<String>,
    result_ttl: Option<String>,
    max_attempts: Option<NonZeroU32>,
    max_deliveries: Option<NonZeroU32>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    tags: Vec<String>,
}

/// What became of the lines so far.
#[derive(Default)]
struct Counts {
    created: u64,
    joined: u64,
    again: u64,
    refused: u64,
    /// Tasks whose submit was not answered: the broker may have them or not.
    uncertain: u64,
}

impl Counts {
    fn accepted(&self) -> u64 {
        self.created + self.joined + self.again
    }

    fn count(&mut self, kind: SubmitKind) {
        match kind {
            SubmitKind::Joined => self.joined += 1,
            SubmitKind::NewGeneration => self.again += 1,
            _ => self.created += 1,
        }
    }

    /// The last line for people.
    fn in_words(&self) -> String {
        let Self { created, joined, again, refused, .. } = self;
        let again = if *again > 0 { format!("{again} run again, ") } else { String::new() };
        format!("{created} created, {joined} joined, {again}{refused} refused")
    }

    /// How far a command came that could not go on, and what its user can do.
    fn how_far(&self) -> String {
        let confirmed = counted(self.accepted(), "task");
        let (uncertain, again) = match self.uncertain {
            0 => (String::new(), "the rest can be submitted"),
            count => (
                format!("; the broker may have {} more", counted(count, "task")),
                "the same command can be given again, and joins the tasks that are there",
            ),
        };
        format!(
            "the broker has confirmed {confirmed} and refused {}{uncertain}; if each line has an \
             `id`, {again}",
            self.refused
        )
    }
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
    let mut refused = Refused::default();
    loop {
        let (batch, end) = lines.batch(defaults).await;
        progress.clear();
        let submitted = match batch.is_empty() {
            true => Ok(Exit::Success),
            false => submit(client, batch, &mut counts, &mut refused, output).await,
        };
        // The last batch may be empty.
        if submitted.is_err() || !matches!(end, Ok(BatchEnd::More)) {
            refused.say_the_rest();
        }
        match submitted {
            Ok(code) => exit = exit.and(code),
            Err(Failure::Sentence { exit, sentence }) => {
                return Err(Failure::new(exit, format!("{sentence}; {}", counts.how_far())));
            }
            Err(gone) => return Err(gone),
        }
        match end {
            Ok(BatchEnd::More) => progress.show(&counts, &lines),
            Ok(BatchEnd::EndOfFile) => break,
            Err(sentence) => {
                return Err(Failure::usage(format!(
                    "{sentence}; of the lines before it: {}",
                    counts.in_words()
                )));
            }
        }
    }
    if !output.is_json() {
        output.line(&counts.in_words())?;
    }
    Ok(exit)
}

/// Submits a batch. Fails when the command cannot go on; all tasks of the batch are counted then.
async fn submit(
    client: &Client,
    batch: Vec<(u64, Submission)>,
    counts: &mut Counts,
    refused: &mut Refused,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let (numbers, submissions): (Vec<u64>, Vec<Submission>) = batch.into_iter().unzip();
    let outcomes: Vec<Result<Submitted, Error>> = match client.submit_many(submissions).await {
        Ok(outcomes) => outcomes.into_iter().map(|outcome| outcome.map_err(Error::from)).collect(),
        // The same happened to every task of the batch.
        Err(error) => numbers.iter().map(|_| Err(error.clone())).collect(),
    };
    let (mut exit, mut unanswered, mut unwritten) = (Exit::Success, None, None);
    for (number, outcome) in numbers.into_iter().zip(outcomes) {
        match outcome {
            Ok(submitted) => {
                counts.count(submitted.kind);
                if output.is_json() && unwritten.is_none() {
                    unwritten = print(&submitted, output).err();
                }
            }
            Err(error) if !is_refusal(&error) => {
                counts.uncertain += 1;
                unanswered = Some(failure(error));
            }
            Err(error) => {
                counts.refused += 1;
                if let Failure::Sentence { exit: code, sentence } = failure(error) {
                    exit = exit.and(code);
                    refused.add(number, sentence).iter().for_each(|said| print_to_stderr(said));
                }
            }
        }
    }
    refused.say_what_is_new();
    match unanswered.or(unwritten) {
        Some(failure) => Err(failure),
        None => Ok(exit),
    }
}

/// Whether a submit that ended with this error has certainly made no task.
fn is_refusal(error: &Error) -> bool {
    match error {
        Error::Refused { code, .. } => {
            !matches!(code, ErrorCode::DeadlineExceeded | ErrorCode::Unspecified)
        }
        _ => false,
    }
}

/// Lines that were refused one after the other for the same reason. They get one sentence at the
/// end of the first batch with that reason, and one for the lines of all later batches: a broker
/// that is full refuses a million lines.
#[derive(Default)]
struct Refused {
    sentence: String,
    was_said: bool,
    /// The first and the last line that no sentence has named yet.
    unsaid: Option<(u64, u64)>,
}

impl Refused {
    /// Adds a line. Returns what there is to say about the lines before it, if it begins anew.
    fn add(&mut self, number: u64, sentence: String) -> Option<String> {
        let mut said = None;
        if self.sentence != sentence {
            said = self.in_words();
            *self = Self { sentence, ..Self::default() };
        }
        self.unsaid = Some((self.unsaid.map_or(number, |(first, _)| first), number));
        said
    }

    /// At the end of a batch: names its lines, unless there was a sentence with their reason.
    fn say_what_is_new(&mut self) {
        if !self.was_said {
            self.say_the_rest();
        }
    }

    /// Names the lines that no sentence has named yet.
    fn say_the_rest(&mut self) {
        self.in_words().iter().for_each(|said| print_to_stderr(said));
    }

    fn in_words(&mut self) -> Option<String> {
        let (first, last) = self.unsaid.take()?;
        self.was_said = true;
        let lines = match first == last {
            true => format!("line {first}"),
            false => format!("lines {first} to {last}"),
        };
        Some(clean(&format!("{lines}: {}", self.sentence)))
    }
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
            let opened = File::open(file).and_then(|opened| {
                let is_folder = opened.metadata()?.is_dir();
                if is_folder { Err(io::ErrorKind::IsADirectory.into()) } else { Ok(opened) }
            });
            let opened = opened.map_err(|error| {
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
            // Some editors put a mark of the byte order in front of a file.
            Ok(_) if number == 1 && line.starts_with(BYTE_ORDER_MARK) => {
                line.drain(..BYTE_ORDER_MARK.len_utf8());
                Ok((number, line))
            }
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

/// The values of a line. The names of an array would depend on their order, so it is refused.
fn parse(line: &str) -> Result<TaskLine, String> {
    if !line.trim_start().starts_with('{') {
        return Err("a line has to be a JSON object, such as {\"name\": \"songs.cluster\"}".into());
    }
    serde_json::from_str(line).map_err(|error: serde_json::Error| {
        let sentence = error.to_string();
        // The number of the line is that of the file, and the caller has it.
        let place = format!(" at line {} column {}", error.line(), error.column());
        match sentence.strip_suffix(&place) {
            Some(sentence) => format!("{sentence} at column {}", error.column()),
            None => sentence,
        }
    })
}

/// The task of a line, with the flags of the command where the line says nothing.
fn task(line: &str, defaults: &TaskArguments) -> Result<Submission, String> {
    let line = parse(line)?;
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
    if line.eta.is_some() && line.countdown.is_some() {
        return Err("eta and countdown are both set, keep one".into());
    }
    if let Some(eta) = line.eta {
        (arguments.eta, arguments.countdown) = (Some(parse_moment(&eta)?), None);
    }
    if let Some(countdown) = line.countdown {
        (arguments.eta, arguments.countdown) = (None, Some(parse_span(&countdown)?));
    }
    if let Some(expires) = line.expires {
        arguments.expires = Some(parse_moment_or_span(&expires)?);
    }
    if let Some(result_ttl) = line.result_ttl {
        arguments.result_ttl = Some(parse_span(&result_ttl)?);
    }
    arguments.max_attempts = line.max_attempts.map(u32::from).or(arguments.max_attempts);
    arguments.max_deliveries = line.max_deliveries.map(u32::from).or(arguments.max_deliveries);
    for (key, value) in line.headers {
        arguments.headers.push(Header::new(key, value)?);
    }
    for tag in line.tags {
        arguments.tags.push(without_nul(tag)?);
    }
    submission(arguments).map_err(|error| match error {
        Failure::Sentence { sentence, .. } => sentence,
        Failure::ReaderGone => "stdout is closed".to_owned(),
    })
}

/// A line on a terminal that says how far the command is.
struct ProgressLine {
    shown_at: Option<Instant>,
    is_there: bool,
}

impl ProgressLine {
    fn new() -> Self {
        Self { shown_at: None, is_there: false }
    }

    fn show(&mut self, counts: &Counts, lines: &Lines) {
        let is_due = self.shown_at.is_none_or(|at| at.elapsed() >= PROGRESS_INTERVAL);
        if is_due && io::stderr().is_terminal() && !is_dumb() {
            self.shown_at = Some(Instant::now());
            let (read, accepted) =
                (counted(lines.number, "line"), counted(counts.accepted(), "task"));
            // If stderr is closed there is nobody to see it.
            let _ = write!(io::stderr(), "\r{read} read, {accepted} submitted ");
            self.is_there = true;
        }
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.is_there) {
            let _ = write!(io::stderr(), "\r\u{1b}[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_refused_for_one_reason_get_one_sentence() {
        let mut refused = Refused::default();
        assert_eq!(refused.in_words(), None);
        let said: Vec<Option<String>> = [(3, "full"), (4, "full"), (6, "full"), (7, "wrong")]
            .map(|(number, sentence)| refused.add(number, sentence.to_owned()))
            .into();
        assert_eq!(said, [None, None, None, Some("lines 3 to 6: full".to_owned())]);
        assert_eq!(refused.in_words().as_deref(), Some("line 7: wrong"));
    }

    #[test]
    fn later_batches_that_are_refused_for_the_same_reason_get_one_sentence_together() {
        let mut refused = Refused::default();
        for number in 1..=3 {
            assert_eq!(refused.add(number, "full".to_owned()), None);
            refused.say_what_is_new();
        }
        assert_eq!(refused.add(9, "wrong".to_owned()).as_deref(), Some("lines 2 to 3: full"));
        refused.say_what_is_new();
        assert_eq!(refused.in_words(), None);
        assert_eq!(refused.add(10, "full".to_owned()), None);
        assert_eq!(refused.in_words().as_deref(), Some("line 10: full"));
    }
}
