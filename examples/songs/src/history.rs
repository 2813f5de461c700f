//! The states of a task with their times, as a line such as `QUEUED 0 → STARTED 4 → SUCCESS 210
//! ms`.
//!
//! `reader` watches the tasks, and `screen` and `table` show the lines.

use std::fmt;
use std::time::SystemTime;

use celeriac_client::{State, TaskInfo};

/// Stands between two states in a line.
pub(crate) const ARROW: &str = " → ";

/// One state of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// The state in capitals, or the name in a progress report.
    pub(crate) state: String,
    /// When the task entered the state, by the broker's clock.
    pub(crate) at: SystemTime,
}

/// The states of one task, oldest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    submitted_at: Option<SystemTime>,
    steps: Vec<Step>,
}

impl History {
    /// Adds the states in one message of a watch. A message has only the present state, but the
    /// times in it show the states before, also when the watch began late.
    pub(crate) fn observe(&mut self, info: &TaskInfo) {
        self.submitted_at = info.submitted_at;
        self.add("QUEUED", info.submitted_at);
        self.add("LEASED", info.leased_at);
        self.add("STARTED", info.started_at);
        if let Some(progress) = &info.progress {
            self.add(&progress.state, Some(progress.at));
        }
        let entered_at = match info.state {
            State::Retry => info.errors.last().map(|error| error.at),
            State::Success | State::Failure | State::Revoked => info.finished_at,
            // The task is in the queue again for its next attempt, which was due at that time.
            State::Queued => info.eta,
            _ => None,
        };
        self.add(&info.state.to_string(), entered_at);
    }

    /// Adds a step, unless it has no time, is known, or is older than the last one.
    fn add(&mut self, state: &str, at: Option<SystemTime>) {
        let Some(at) = at else { return };
        let is_known = self.steps.iter().any(|step| step.state == state && step.at == at);
        // More progress under the same name is shown by the bar, not by the history.
        let is_same_state = self.steps.last().is_some_and(|last| last.state == state);
        let is_late = self.steps.last().is_some_and(|last| last.at > at);
        if !is_known && !is_same_state && !is_late {
            self.steps.push(Step { state: state.to_owned(), at });
        }
    }

    pub(crate) fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The names of the states without their times, and the time of the last one:
    /// `QUEUED → STARTED → SUCCESS 210 ms`.
    pub(crate) fn names(&self) -> String {
        let names: Vec<&str> = self.steps.iter().map(|step| step.state.as_str()).collect();
        match self.steps.last() {
            Some(last) => format!("{} {} ms", names.join(ARROW), self.after_ms(last)),
            None => String::new(),
        }
    }

    /// The last state and the time from the submit to it: `SUCCESS 0.2 s`.
    pub(crate) fn end(&self) -> String {
        self.steps.last().map_or_else(String::new, |last| {
            format!("{} {:.1} s", last.state, self.after_ms(last) as f64 / 1_000.0)
        })
    }

    /// The milliseconds from the submit to a step.
    pub(crate) fn after_ms(&self, step: &Step) -> u128 {
        let submitted_at = self.submitted_at.unwrap_or(step.at);
        step.at.duration_since(submitted_at).map_or(0, |after| after.as_millis())
    }
}

impl fmt::Display for History {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.steps.iter().enumerate() {
            let arrow = if index == 0 { "" } else { ARROW };
            write!(formatter, "{arrow}{} {}", step.state, self.after_ms(step))?;
        }
        if self.steps.is_empty() { Ok(()) } else { formatter.write_str(" ms") }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use super::*;

    /// The line for these states.
    fn line_of(states: &[(&str, Option<u64>)]) -> String {
        history_of(states).to_string()
    }

    /// The history of these states. Their times are milliseconds after the submit.
    pub(crate) fn history_of(states: &[(&str, Option<u64>)]) -> History {
        let submitted_at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        let mut history = History { submitted_at: Some(submitted_at), steps: Vec::new() };
        for (state, after_ms) in states {
            history.add(
                state,
                after_ms.map(|after_ms| submitted_at + Duration::from_millis(after_ms)),
            );
        }
        history
    }

    #[test]
    fn short_forms_keep_the_last_state_and_the_whole_time() {
        let history =
            history_of(&[("QUEUED", Some(0)), ("STARTED", Some(4)), ("SUCCESS", Some(1_260))]);
        assert_eq!(history.names(), "QUEUED → STARTED → SUCCESS 1260 ms");
        assert_eq!(history.end(), "SUCCESS 1.3 s");
        assert_eq!(History::default().names() + &History::default().end(), "");
    }

    #[test]
    fn each_step_is_shown_once_with_its_time() {
        let states = [
            ("QUEUED", Some(0)),
            ("QUEUED", Some(0)),
            ("LEASED", Some(3)),
            ("STARTED", None),
            ("DECODE", Some(20)),
            ("DECODE", Some(40)),
            ("LEASED", Some(3)),
            ("SUCCESS", Some(210)),
        ];
        assert_eq!(line_of(&states), "QUEUED 0 → LEASED 3 → DECODE 20 → SUCCESS 210 ms");
    }

    #[test]
    fn every_attempt_is_shown() {
        let states = [
            ("QUEUED", Some(0)),
            ("STARTED", Some(1)),
            ("RETRY", Some(2)),
            ("STARTED", Some(1)),
            ("STARTED", Some(202)),
            ("FAILURE", Some(203)),
        ];
        assert_eq!(
            line_of(&states),
            "QUEUED 0 → STARTED 1 → RETRY 2 → STARTED 202 → FAILURE 203 ms"
        );
    }

    #[test]
    fn a_history_without_steps_is_an_empty_line() {
        assert_eq!(History::default().to_string(), "");
    }
}
