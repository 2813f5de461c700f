//! What the program shows while the tasks run: a bar for each running task on a terminal, plain
//! lines elsewhere.
//!
//! This file only draws. The states come from `reader`, and `table` makes the table at the end.

use std::collections::HashMap;

use celeriac_client::{State, TaskInfo};
use console::{Term, truncate_str};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::history::History;
use crate::tasks::Progress;

/// A full bar, in thousandths of a task.
const BAR_LENGTH: u64 = 1_000;

/// The widest title beside a bar. Longer titles are cut.
const TITLE_MAX: usize = 32;

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
    columns: usize,
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
            let target = ProgressDrawTarget::stdout();
            self.bars = Some(Bars::new(target, self.columns().into(), count));
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
    /// The bars of `count` tasks, on a terminal whose lines have a width of `columns`.
    fn new(target: ProgressDrawTarget, columns: usize, count: usize) -> Self {
        let all = MultiProgress::with_draw_target(target);
        let total = all.add(unattached_bar(count as u64, "{pos} of {len} tasks {elapsed:.dim}"));
        total.tick();
        Self { all, total, running: HashMap::new(), columns }
    }

    fn show(&mut self, info: &TaskInfo, history: &History) {
        match (info.state, &info.progress) {
            (state, _) if state.is_ended() => {
                let took_ms = history.steps().last().map_or(0, |last| history.after_ms(last));
                self.end(&info.id, info.title(), state, took_ms);
            }
            // Progress belongs to a running attempt; before it and after it the state is shown.
            (State::Started, Some(report)) => {
                let done = report.meta::<Progress>().map_or(0.0, |progress| progress.done);
                self.advance(&info.id, info.title(), &report.state, done);
            }
            (State::Leased | State::Started | State::Retry, _) => {
                self.advance(&info.id, info.title(), &info.state.to_string(), 0.0);
            }
            _ => {}
        }
    }

    /// Replaces the bar of an ended task with a line.
    fn end(&mut self, id: &str, title: &str, state: State, took_ms: u128) {
        if let Some(bar) = self.running.remove(id) {
            bar.finish_and_clear();
        }
        let mark = if state == State::Success { '✔' } else { '✘' };
        let title_width = title_width(self.columns);
        let title = truncate_str(title, title_width, "…");
        let line = format!("{mark} {title:<title_width$} {state} after {took_ms} ms");
        // This fails if the terminal was closed.
        let _ = self.all.println(truncate_str(&line, self.columns, "…"));
        self.total.inc(1);
    }

    /// Moves the bar of a running task, or adds it.
    fn advance(&mut self, id: &str, title: &str, state: &str, done: f64) {
        let bar = self.running.entry(id.to_owned()).or_insert_with(|| {
            let title = truncate_str(title, title_width(self.columns), "…");
            let bar = unattached_bar(BAR_LENGTH, &running_template(self.columns))
                .with_prefix(title.into_owned());
            self.all.insert_before(&self.total, bar)
        });
        bar.set_message(state.to_owned());
        bar.set_position((done * BAR_LENGTH as f64) as u64);
    }
}

/// The width of a title beside its bar.
fn title_width(columns: usize) -> usize {
    TITLE_MAX.min(columns / 2)
}

/// The line of a running task. Its bar takes what the title and the state leave, so that no line
/// is wider than the terminal: it would take two lines, and only one of them would be redrawn.
fn running_template(columns: usize) -> String {
    format!("  {{prefix:{}!}} {{wide_bar:.cyan/dim}} {{msg:8!}}", title_width(columns))
}

/// A bar that draws nothing until it is added to the others. A bar with a terminal of its own would
/// draw a line of which the others do not know, and which they would never remove.
fn unattached_bar(length: u64, template: &str) -> ProgressBar {
    let style =
        ProgressStyle::with_template(template).expect("the templates in this file are valid");
    ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::hidden()).with_style(style)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use console::measure_text_width;
    use indicatif::TermLike;

    use super::*;

    /// A terminal that keeps every text written to it.
    #[derive(Clone, Debug)]
    struct Recorder {
        columns: u16,
        written: Arc<Mutex<Vec<String>>>,
    }

    impl TermLike for Recorder {
        fn width(&self) -> u16 {
            self.columns
        }

        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn write_line(&self, text: &str) -> io::Result<()> {
            self.write_str(text)
        }

        fn write_str(&self, text: &str) -> io::Result<()> {
            self.written.lock().unwrap().push(text.to_owned());
            Ok(())
        }

        fn clear_line(&self) -> io::Result<()> {
            Ok(())
        }

        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        for columns in [60, 80, 120] {
            let recorder = Recorder { columns, written: Arc::default() };
            // The highest rate, so that every change is drawn.
            let target = ProgressDrawTarget::term_like_with_hz(Box::new(recorder.clone()), 255);
            let mut bars = Bars::new(target, columns.into(), 2);
            for title in ["preprocess: paper lanterns", &"a long way home ".repeat(9)] {
                bars.advance(title, title, "LEASED", 0.0);
                bars.advance(title, title, "A LONG NAME OF A STATE", 0.5);
                bars.end(title, title, State::Success, 123_456);
            }
            let written = recorder.written.lock().unwrap();
            for part in ["paper lanterns", "░", "a long way", "SUCCESS after 123456 ms"] {
                assert!(written.iter().any(|text| text.contains(part)), "{part}: {written:?}");
            }
            for text in written.iter() {
                assert!(measure_text_width(text) <= columns.into(), "{text:?}");
            }
        }
    }
}
