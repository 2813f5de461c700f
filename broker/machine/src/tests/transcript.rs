//! A script whose next line depends on the output of the machine.

use std::collections::VecDeque;
use std::fmt::Write;

use super::script::Scene;

/// The lines so far.
pub(super) struct Transcript {
    scene: Scene,
    text: String,
    /// The tasks that the worker of the latest connection holds and has not begun, in order.
    unstarted: VecDeque<String>,
}

impl Transcript {
    pub(super) fn new() -> Self {
        Self { scene: Scene::new(), text: String::new(), unstarted: VecDeque::new() }
    }

    pub(super) fn line(&mut self, line: &str) -> Vec<String> {
        let said = self.scene.line(line);
        if line.starts_with("connect") {
            self.unstarted.clear();
        }
        for line in &said {
            let task =
                line.split_once(": deliver ").and_then(|(_, delivery)| delivery.split_once(' '));
            self.unstarted.extend(task.map(|(task, _)| task.to_owned()));
        }
        writeln!(self.text, "{line}\n    {}", said.join("\n    "))
            .expect("a write to a string succeeds");
        said
    }

    /// Takes the task that the worker begins next.
    pub(super) fn next_unstarted(&mut self) -> Option<String> {
        self.unstarted.pop_front()
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }
}
