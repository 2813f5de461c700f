//! The broker's log on stderr: text for people, or JSON with one object per line for log
//! collectors.
//!
//! Every line goes through a queue, so that no thread waits for stderr. Each event is one line:
//! hidden characters are escaped on the way, so no name from a client can add a second line. Client
//! commands do not log.

use std::io;
use std::sync::Arc;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

use crate::exit::Failure;
use crate::printable::{clean, clean_json};

pub(crate) use self::queue::{LineWriter, Queue};

mod queue;

/// The format of a line of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// Text for people
    Text,
    /// One JSON object per line, for log collectors
    Json,
}

/// Checks a filter such as `info` or `warn,celeriac_broker=debug`.
pub(crate) fn check_filter(filter: &str) -> Result<EnvFilter, String> {
    EnvFilter::builder().parse(filter).map_err(|error| error.to_string())
}

/// Starts the log. It also has the panics of all threads. Called once, before the broker starts.
pub(crate) fn start(filter: &str, format: LogFormat) -> Result<Arc<Queue>, Failure> {
    let filter = check_filter(filter)
        .map_err(|error| Failure::usage(format!("log filter `{filter}`: {error}")))?;
    let queue = Queue::start(move |lost| {
        format.line(
            "WARN",
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
    let builder = builder.with_writer(Sink { queue: queue.clone(), format });
    match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    }
    .map_err(|error| Failure::error(format!("cannot start the log: {error}")))?;
    log_panics(queue.clone(), format);
    Ok(queue)
}

/// Sends panics to the log. The default hook of Rust waits for stderr, and panics itself when it
/// cannot write.
fn log_panics(queue: Arc<Queue>, format: LogFormat) {
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
        queue.push(format.line("ERROR", &text, backtrace.as_deref()));
    }));
}

impl LogFormat {
    /// A line of this program, which the filter does not apply to. In text the backtrace follows on
    /// more lines. It needs no escapes, because this program made it.
    fn line(self, level: &'static str, message: &str, backtrace: Option<&str>) -> Vec<u8> {
        let mut time = String::new();
        // If the time cannot be formatted, the line has none.
        let _ = SystemTime.format_time(&mut Writer::new(&mut time));
        let target = module_path!();
        match self {
            LogFormat::Text => {
                let backtrace = backtrace.map(|text| format!("{text}\n")).unwrap_or_default();
                format!("{time} {level:>5} {target}: {}\n{backtrace}", clean(message)).into_bytes()
            }
            LogFormat::Json => {
                let mut event = json!({
                    "timestamp": time,
                    "level": level,
                    "message": message,
                    "target": target,
                });
                if let Some(backtrace) = backtrace {
                    event["backtrace"] = backtrace.into();
                }
                format!("{}\n", clean_json(&event.to_string())).into_bytes()
            }
        }
    }
}

/// The writer of tracing: it puts each event into the queue as one line.
struct Sink {
    queue: Arc<Queue>,
    format: LogFormat,
}

impl<'a> MakeWriter<'a> for Sink {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> &'a Self {
        self
    }
}

impl io::Write for &Sink {
    /// Tracing writes each event with one call, and with a line break at its end.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let mut line = match self.format {
            LogFormat::Text => clean(text),
            LogFormat::Json => clean_json(text).into_owned(),
        };
        line.push('\n');
        self.queue.push(line.into_bytes());
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
