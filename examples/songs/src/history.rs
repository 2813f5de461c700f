//! What a task has been through, with the times.
//!
//! Lives here: turning the states that a watch pushes into a line such as `QUEUED 0 → STARTED 4 →
//! SUCCESS 210 ms`. Does not live here: the watching (see `container`) and the drawing (see
//! `screen` and `table`).

use std::fmt;
use std::time::SystemTime;

use celeriac_client::{State, TaskInfo};

/// One state, and when the task entered it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// The state in capitals, or the name that a progress report gave.
    pub(crate) state: String,
    /// When, by the broker's clock.
    pub(crate) at: SystemTime,
}

/// The states of one task in the order in which they came.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    submitted_at: Option<SystemTime>,
    steps: Vec<Step>,
}

impl History {
    /// Takes in what a watch pushed. A watch that began late saw only the present state; the times
    /// in it tell of the states before.
    pub(crate) fn observe(&mut self, info: &TaskInfo) {
        self.submitted_at = info.submitted_at;
        let mut marks = vec![("QUEUED", info.submitted_at), ("LEASED", info.leased_at)];
        marks.push(("STARTED", info.started_at));
        if let Some(progress) = &info.progress {
            marks.push((&progress.state, Some(progress.at)));
        }
        let name = info.state.to_string();
        match info.state {
            State::Retry => marks.push((&name, info.errors.last().map(|error| error.at))),
            State::Success | State::Failure | State::Revoked => {
                marks.push((&name, info.finished_at))
            }
            // Back in the queue for its next attempt, which was due at that time.
            State::Queued => marks.push((&name, info.eta)),
            _ => (),
        }
        for (state, at) in marks {
            self.note(state, at);
        }
    }

    /// Adds a step unless it is known already or older than the last one.
    fn note(&mut self, state: &str, at: Option<SystemTime>) {
        let Some(at) = at else { return };
        let known = self.steps.iter().any(|step| step.state == state && step.at == at);
        // Progress within a stage is told by the bar, not by the history.
        let same = self.steps.last().is_some_and(|last| last.state == state);
        let late = self.steps.last().is_some_and(|last| last.at > at);
        if !known && !same && !late {
            self.steps.push(Step { state: state.to_owned(), at });
        }
    }

    /// All steps so far.
    pub(crate) fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Milliseconds from the submit to a step.
    pub(crate) fn after_ms(&self, step: &Step) -> u128 {
        let submitted_at = self.submitted_at.unwrap_or(step.at);
        step.at.duration_since(submitted_at).map_or(0, |after| after.as_millis())
    }
}

impl fmt::Display for History {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.steps.iter().enumerate() {
            let arrow = if index == 0 { "" } else { " → " };
            write!(formatter, "{arrow}{} {}", step.state, self.after_ms(step))?;
        }
        if self.steps.is_empty() { Ok(()) } else { formatter.write_str(" ms") }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// The marks' times are milliseconds after the submit.
    fn told(marks: &[(&str, Option<u64>)]) -> String {
        let submitted_at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        let mut history = History { submitted_at: Some(submitted_at), steps: Vec::new() };
        for (state, after_ms) in marks {
            history.note(
                state,
                after_ms.map(|after_ms| submitted_at + Duration::from_millis(after_ms)),
            );
        }
        history.to_string()
    }

    #[test]
    fn steps_are_told_once_with_their_times() {
        let marks = [
            ("QUEUED", Some(0)),
            ("QUEUED", Some(0)),
            ("LEASED", Some(3)),
            ("STARTED", None),
            ("DECODE", Some(20)),
            ("DECODE", Some(40)),
            ("LEASED", Some(3)),
            ("SUCCESS", Some(210)),
        ];
        assert_eq!(told(&marks), "QUEUED 0 → LEASED 3 → DECODE 20 → SUCCESS 210 ms");
    }

    #[test]
    fn every_attempt_is_told() {
        let marks = [
            ("QUEUED", Some(0)),
            ("STARTED", Some(1)),
            ("RETRY", Some(2)),
            ("STARTED", Some(1)),
            ("STARTED", Some(202)),
            ("FAILURE", Some(203)),
        ];
        assert_eq!(told(&marks), "QUEUED 0 → STARTED 1 → RETRY 2 → STARTED 202 → FAILURE 203 ms");
    }

    #[test]
    fn nothing_seen_is_an_empty_line() {
        assert_eq!(History::default().to_string(), "");
    }
}
