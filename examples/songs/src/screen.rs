//! What the program shows while the tasks run: a bar for each running task on a terminal, plain
//! lines elsewhere.
//!
//! This file only draws. The states come from `reader`, and `table` makes the table at the end.

use std::collections::HashMap;

use celeriac_client::{State, TaskInfo};
use console::Term;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::history::History;
use crate::tasks::Progress;

/// A full bar, in thousandths of a task.
const BAR_LENGTH: u64 = 1_000;

/// The width of the table where the output is no terminal.
const PLAIN_COLUMNS: u16 = 160;

/// Standard output: a terminal, a file or a pipe.
pub(crate) struct Screen {
    terminal: Term,
    bars: Option<Bars>,
    steps_shown: HashMap<String, usize>,
}

/// The bars on a terminal: one for each running task, and one for all tasks together.
struct Bars {
    all: MultiProgress,
    total: ProgressBar,
    running: HashMap<String, ProgressBar>,
}

impl Screen {
    pub(crate) fn new() -> Self {
        Self { terminal: Term::stdout(), bars: None, steps_shown: HashMap::new() }
    }

    /// The width of a line.
    pub(crate) fn columns(&self) -> u16 {
        self.terminal.size_checked().map_or(PLAIN_COLUMNS, |(_, columns)| columns)
    }

    /// Prints a line above the bars.
    pub(crate) fn print(&self, line: &str) {
        // This fails if the reader has closed standard output. The tasks go on in any case.
        let _ = match &self.bars {
            Some(bars) => bars.all.println(line),
            None => self.terminal.write_line(line),
        };
    }

    /// Starts to show `count` tasks.
    pub(crate) fn open(&mut self, count: usize) {
        self.close();
        if self.terminal.is_term() {
            let all = MultiProgress::new();
            let total = all.add(
                ProgressBar::new(count as u64)
                    .with_style(style("{pos} of {len} tasks {elapsed:.dim}")),
            );
            total.tick();
            self.bars = Some(Bars { all, total, running: HashMap::new() });
        }
    }

    /// Shows the present state of a task.
    pub(crate) fn show(&mut self, info: &TaskInfo, history: &History) {
        match &mut self.bars {
            Some(bars) => bars.show(info, history),
            None => self.show_plainly(info, history),
        }
    }

    fn show_plainly(&mut self, info: &TaskInfo, history: &History) {
        let shown = self.steps_shown.insert(info.id.clone(), history.steps().len()).unwrap_or(0);
        for step in &history.steps()[shown..] {
            let after_ms = history.after_ms(step);
            self.print(&format!("{after_ms:>6} ms  {:<8} {}", step.state, info.title()));
        }
    }

    /// Removes the bars.
    pub(crate) fn close(&mut self) {
        if let Some(bars) = self.bars.take() {
            bars.total.finish_and_clear();
        }
        self.steps_shown.clear();
    }
}

impl Bars {
    fn show(&mut self, info: &TaskInfo, history: &History) {
        match info.state {
            state if state.is_ended() => self.end(info, history),
            State::Leased | State::Started | State::Retry => self.advance(info),
            _ => {}
        }
    }

    /// Replaces the bar of an ended task with a line.
    fn end(&mut self, info: &TaskInfo, history: &History) {
        if let Some(bar) = self.running.remove(&info.id) {
            bar.finish_and_clear();
        }
        let mark = if info.state == State::Success { '✔' } else { '✘' };
        let took_ms = history.steps().last().map_or(0, |last| history.after_ms(last));
        // This fails if the terminal was closed.
        let _ = self.all.println(format!(
            "{mark} {:<32} {} after {took_ms} ms",
            info.title(),
            info.state
        ));
        self.total.inc(1);
    }

    /// Moves the bar of a running task, or adds it.
    fn advance(&mut self, info: &TaskInfo) {
        let bar = self.running.entry(info.id.clone()).or_insert_with(|| {
            let bar = ProgressBar::new(BAR_LENGTH)
                .with_style(style("  {prefix:<32} {bar:30.cyan/dim} {msg}"));
            bar.set_prefix(info.title().to_owned());
            self.all.insert_before(&self.total, bar)
        });
        // Progress belongs to a running attempt; before it and after it the state is shown.
        match &info.progress {
            Some(report) if info.state == State::Started => {
                let done = report.meta::<Progress>().map_or(0.0, |progress| progress.done);
                bar.set_message(report.state.clone());
                bar.set_position((done * BAR_LENGTH as f64) as u64);
            }
            _ => {
                bar.set_message(info.state.to_string());
                bar.set_position(0);
            }
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates in this file are valid")
}
