//! The log of `serve` and `work` on stderr: text for people, or JSON with one object per line for
//! log collectors.
//!
//! Every line goes through a queue, so that no thread waits for stderr. Each event is one line:
//! hidden characters are escaped on the way, so no name from a client can add a second line. The
//! other commands do not log.

use std::io;
use std::sync::Arc;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

use crate::exit::{Exit, Failure};
use crate::output::{Color, stderr_text};
use celeriac_web::printable::{clean, clean_json};

pub(crate) use self::directives::parse as parse_filter;
pub(crate) use self::filter::LogFilter;
pub(crate) use self::queue::{LineWriter, Queue};
#[cfg(test)]
pub(crate) use self::terminal::event_lines;

mod directives;
mod filter;
mod journal;
mod queue;
mod terminal;

/// The format of a line of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// Text for people
    Text,
    /// One JSON object per line, for log collectors
    Json,
}

/// The form of the lines: the format, whether each line begins with its level for the journal, and
/// how text looks on a terminal.
#[derive(Debug, Clone, Copy)]
struct Form {
    format: LogFormat,
    has_prefixes: bool,
    look: Option<terminal::Look>,
}

/// A log that has been started.
pub(crate) struct Log {
    form: Form,
    queue: Arc<Queue>,
    filter: Arc<LogFilter>,
}

impl Log {
    /// The filter, which may change while the process runs.
    pub(crate) fn filter(&self) -> Arc<LogFilter> {
        self.filter.clone()
    }

    /// The outcome of a command that logs, for the shell. The sentence of a failure goes through
    /// the queue, so that a reader that has stopped does not hold the process.
    pub(crate) fn end(&self, outcome: Result<Exit, Failure>) -> Result<Exit, Failure> {
        let outcome = match outcome {
            Err(Failure::Sentence { exit, sentence }) => {
                self.failure(&sentence);
                Ok(exit)
            }
            outcome => outcome,
        };
        self.flush();
        outcome
    }

    /// Waits until all lines are written, but not for long: the reader may have stopped.
    fn flush(&self) {
        self.queue.flush();
    }

    /// Writes the sentence of a failure that ends the process, whatever the filter says. In JSON
    /// it is an object like every other line.
    fn failure(&self, sentence: &str) {
        let Form { format, has_prefixes, .. } = self.form;
        self.queue.push(match format {
            LogFormat::Json => self.form.line(Level::ERROR, sentence, None),
            LogFormat::Text => {
                let prefix = if has_prefixes { journal::prefix(Level::ERROR) } else { "" };
                format!("{prefix}{}", stderr_text(&clean(sentence))).into_bytes()
            }
        });
    }
}

/// Starts the log. It also has the panics of all threads. Called once, before the broker starts.
pub(crate) fn start(filter: &str, format: LogFormat, color: Color) -> Result<Log, Failure> {
    let look = terminal::Look::of_stderr(color).filter(|_| format == LogFormat::Text);
    let form = Form { format, has_prefixes: journal::is_stderr(), look };
    let shown = filter.to_owned();
    let filter = parse_filter(filter)
        .map_err(|error| Failure::usage(format!("log filter `{filter}`: {error}")))?;
    let queue = Queue::start(rustix::stdio::stderr(), move |lost| {
        form.line(
            Level::WARN,
            &format!("{lost} lines of this log could not be written and are missing"),
            None,
        )
    })
    .map_err(|error| Failure::error(format!("cannot start a thread for the log: {error}")))?;
    // The subscriber would print its own errors on stderr, and panics when it cannot.
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .log_internal_errors(false);
    let builder = builder.with_writer(Sink { queue: queue.clone(), form });
    let (started, change) = match format {
        // The look of a terminal adds its own time and level.
        LogFormat::Text if look.is_some() => {
            let builder = builder.with_target(false).with_level(false).without_time();
            let builder = builder.with_filter_reloading();
            let change = filter::change(builder.reload_handle());
            (builder.try_init(), change)
        }
        LogFormat::Text => {
            let builder = builder.with_filter_reloading();
            let change = filter::change(builder.reload_handle());
            (builder.try_init(), change)
        }
        LogFormat::Json => {
            let builder = builder.json().flatten_event(true).with_filter_reloading();
            let change = filter::change(builder.reload_handle());
            (builder.try_init(), change)
        }
    };
    started.map_err(|error| Failure::error(format!("cannot start the log: {error}")))?;
    log_panics(queue.clone(), form);
    Ok(Log { form, queue, filter: Arc::new(LogFilter::new(shown, change)) })
}

/// Sends panics to the log. The default hook of Rust waits for stderr, and panics itself when it
/// cannot write.
fn log_panics(queue: Arc<Queue>, form: Form) {
    std::panic::set_hook(Box::new(move |panic| {
        let thread = std::thread::current();
        let place = panic.location().map(|location| format!(" at {location}")).unwrap_or_default();
        let message = panic.payload_as_str().unwrap_or("the reason is not text");
        let text = format!(
            "the thread {} panicked{place}: {message}",
            thread.name().unwrap_or("without a name")
        );
        let backtrace = std::backtrace::Backtrace::capture();
        let is_captured = backtrace.status() == std::backtrace::BacktraceStatus::Captured;
        let backtrace = is_captured.then(|| backtrace.to_string());
        queue.push(form.line(Level::ERROR, &text, backtrace.as_deref()));
    }));
}

impl Form {
    /// A line of this program, which the filter does not apply to. In text the backtrace follows on
    /// more lines. It needs no escapes, because this program made it.
    fn line(self, level: Level, message: &str, backtrace: Option<&str>) -> Vec<u8> {
        let mut time = String::new();
        // If the time cannot be formatted, the line has none.
        let _ = SystemTime.format_time(&mut Writer::new(&mut time));
        let target = module_path!();
        let prefix = if self.has_prefixes { journal::prefix(level) } else { "" };
        match self.format {
            LogFormat::Text => {
                let mut text = match self.look {
                    Some(look) => look.event(level, target, message),
                    None => format!("{prefix}{time} {level:>5} {target}: {}\n", clean(message)),
                };
                for line in backtrace.into_iter().flat_map(str::lines) {
                    text.extend([prefix, line, "\n"]);
                }
                text.into_bytes()
            }
            LogFormat::Json => {
                let mut event = json!({
                    "timestamp": time,
                    "level": level.as_str(),
                    "message": message,
                    "target": target,
                });
                if let Some(backtrace) = backtrace {
                    event["backtrace"] = backtrace.into();
                }
                format!("{prefix}{}\n", clean_json(&event.to_string())).into_bytes()
            }
        }
    }
}

/// The writer of tracing: it puts each event into the queue as one line.
struct Sink {
    queue: Arc<Queue>,
    form: Form,
}

/// The writer of one event.
struct EventWriter<'a> {
    sink: &'a Sink,
    level: Level,
    /// The part of the program that it comes from.
    target: String,
}

impl<'a> MakeWriter<'a> for Sink {
    type Writer = EventWriter<'a>;

    fn make_writer(&'a self) -> EventWriter<'a> {
        EventWriter { sink: self, level: Level::INFO, target: module_path!().to_owned() }
    }

    fn make_writer_for(&'a self, event: &Metadata<'_>) -> EventWriter<'a> {
        EventWriter { sink: self, level: *event.level(), target: event.target().to_owned() }
    }
}

impl io::Write for EventWriter<'_> {
    /// Tracing writes each event with one call, and with a line break at its end.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let Form { format, has_prefixes, look } = self.sink.form;
        if let Some(look) = look {
            let lines = look.event(self.level, &self.target, text.trim_start());
            self.sink.queue.push(lines.into_bytes());
            return Ok(event.len());
        }
        let mut line = if has_prefixes { journal::prefix(self.level) } else { "" }.to_owned();
        match format {
            LogFormat::Text => line.push_str(&clean(text)),
            LogFormat::Json => line.push_str(&clean_json(text)),
        }
        line.push('\n');
        self.sink.queue.push(line.into_bytes());
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
