//! The log on a terminal, for a person who typed `serve` or `work`: the time of day, the level, and
//! what happened, broken between words. A file or a pipe has the full time and the part of the
//! program too.

use std::io::{self, IsTerminal};

use rustix::stdio::stderr;
use tracing::Level;

use crate::line::{Line, Text, Tone};
use crate::output::{Color, width_of};
use crate::time::{now_ms, time_of_day};

/// The lines of a command that `work` runs: its `STDERR_TARGET`.
const OF_COMMANDS: &str = "celeriac::work::stderr";

/// How the log looks on this terminal.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    has_colours: bool,
}

impl Look {
    /// `None` when stderr is no terminal.
    pub(super) fn of_stderr(color: Color) -> Option<Self> {
        io::stderr().is_terminal().then(|| Self { has_colours: color.is_on(true) })
    }

    /// An event of this part of the program, as it goes to the terminal.
    pub(super) fn event(self, level: Level, target: &str, text: &str) -> String {
        let part = match target {
            OF_COMMANDS => "stderr: ",
            target if target.starts_with("celeriac") => "",
            target => &format!("{target}: "),
        };
        let text = format!("{part}{text}");
        let lines = event_lines(level, now_ms(), &text, width_of(stderr()));
        lines.iter().map(|line| line.render(self.has_colours) + "\n").collect()
    }
}

/// An event at this time, on a terminal of this width.
pub(crate) fn event_lines(
    level: Level,
    at_ms: i64,
    text: &str,
    width_max: Option<usize>,
) -> Vec<Line> {
    let seconds: String = time_of_day(at_ms).chars().take(8).collect();
    let mut line = Line::from(Text::new(&seconds, Tone::Faint));
    line.push(" ");
    line.push(Text::new(&format!("{level:>5}"), tone(level)));
    line.push(" ");
    let indent = line.width();
    line.push(text);
    line.wrapped(width_max, indent)
}

fn tone(level: Level) -> Tone {
    match level {
        Level::ERROR => Tone::Bad,
        Level::WARN => Tone::Warning,
        Level::INFO => Tone::Good,
        _ => Tone::Faint,
    }
}
