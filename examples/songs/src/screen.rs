//! What is seen while the tasks run: a bar for each running task on a terminal, plain lines
//! elsewhere.
//!
//! Lives here: the drawing. Does not live here: where the states come from (see `container`) and
//! the table at the end (see `table`).

use std::collections::HashMap;

use celeriac_client::{State, TaskInfo};
use console::Term;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::history::History;
use crate::tasks::Done;

/// A bar counts thousandths of a task.
const BAR_LENGTH: u64 = 1_000;

/// Columns of the table where the output is no terminal and so has no width of its own.
const PLAIN_COLUMNS: u16 = 160;

/// The terminal, or the file or pipe in its place.
pub(crate) struct Screen {
    terminal: Term,
    bars: Option<Bars>,
    steps_shown: HashMap<String, usize>,
}

struct Bars {
    all: MultiProgress,
    total: ProgressBar,
    running: HashMap<String, ProgressBar>,
}

impl Screen {
    /// Standard output.
    pub(crate) fn new() -> Self {
        Self { terminal: Term::stdout(), bars: None, steps_shown: HashMap::new() }
    }

    /// Width of a line.
    pub(crate) fn columns(&self) -> u16 {
        self.terminal.size_checked().map_or(PLAIN_COLUMNS, |(_, columns)| columns)
    }

    /// Writes a line above the bars.
    pub(crate) fn say(&self, line: &str) {
        // If nobody reads any more there is nobody to tell that either.
        let _unread = match &self.bars {
            Some(bars) => bars.all.println(line),
            None => self.terminal.write_line(line),
        };
    }

    /// From now on `count` tasks are shown.
    pub(crate) fn expect(&mut self, count: usize) {
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

    /// Shows where a task is now.
    pub(crate) fn show(&mut self, info: &TaskInfo, history: &History) {
        match &mut self.bars {
            Some(bars) => bars.show(info, history),
            None => self.show_plainly(info, history),
        }
    }

    fn show_plainly(&mut self, info: &TaskInfo, history: &History) {
        let shown = self.steps_shown.entry(info.id.clone()).or_default();
        let lines: Vec<String> = history.steps()[*shown..]
            .iter()
            .map(|step| {
                format!("{:>6} ms  {:<8} {}", history.after_ms(step), step.state, info.title())
            })
            .collect();
        *shown = history.steps().len();
        lines.iter().for_each(|line| self.say(line));
    }

    /// Takes the bars away.
    pub(crate) fn close(&mut self) {
        if let Some(bars) = self.bars.take() {
            bars.total.finish_and_clear();
        }
        self.steps_shown.clear();
    }
}

impl Bars {
    fn show(&mut self, info: &TaskInfo, history: &History) {
        if info.state.is_ended() {
            if let Some(bar) = self.running.remove(&info.id) {
                bar.finish_and_clear();
            }
            let mark = if info.state == State::Success { '✔' } else { '✘' };
            let took = history.steps().last().map_or(0, |last| history.after_ms(last));
            // A line that cannot be written is a terminal that was closed.
            let _unread = self.all.println(format!(
                "{mark} {:<32} {} after {took} ms",
                info.title(),
                info.state
            ));
            self.total.inc(1);
        } else if matches!(info.state, State::Leased | State::Started | State::Retry) {
            let bar = self.running.entry(info.id.clone()).or_insert_with(|| {
                let bar = ProgressBar::new(BAR_LENGTH)
                    .with_style(style("  {prefix:<32} {bar:30.cyan/dim} {msg}"));
                bar.set_prefix(info.title().to_owned());
                self.all.insert_before(&self.total, bar)
            });
            let (state, part) = moment(info);
            bar.set_message(state);
            bar.set_position((part * BAR_LENGTH as f64) as u64);
        }
    }
}

/// What to write beside the bar, and how far the bar reaches.
fn moment(info: &TaskInfo) -> (String, f64) {
    match &info.progress {
        Some(progress) if info.state == State::Started => {
            (progress.state.clone(), progress.meta::<Done>().map_or(0.0, |done| done.part))
        }
        _ => (info.state.to_string(), 0.0),
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates stand in this file")
}
