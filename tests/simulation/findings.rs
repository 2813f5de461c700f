//! Violations that the history does not show: brokers that do not start, panics, tasks that never
//! end.

use std::sync::{Arc, Mutex};

use crate::worker::PanicOnDrop;

/// The findings of one world. Clones are the same list.
#[derive(Debug, Clone, Default)]
pub struct Findings(Arc<Mutex<Vec<String>>>);

/// The message of a handler that panics on purpose.
pub const ON_PURPOSE: &str = "a panic on purpose";

impl Findings {
    pub fn add(&self, sentence: impl Into<String>) {
        self.0.lock().expect("no thread panics while it holds this lock").push(sentence.into());
    }

    pub fn all(&self) -> Vec<String> {
        self.0.lock().expect("no thread panics while it holds this lock").clone()
    }

    /// Makes every panic a finding, unless it is on purpose.
    pub fn watch_panics(&self) {
        let findings = self.clone();
        std::panic::set_hook(Box::new(move |panic| {
            let said = panic.payload_as_str().unwrap_or("something that is no text");
            if said != ON_PURPOSE && !panic.payload().is::<PanicOnDrop>() {
                let place = panic.location().map(ToString::to_string).unwrap_or_default();
                findings.add(format!("a panic at {place}: {said}"));
            }
        }));
    }
}
