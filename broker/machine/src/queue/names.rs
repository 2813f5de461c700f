//! The ready tasks of a queue, counted by name. So the figures say how many of them have a name
//! that no worker knows, and nobody looks at the tasks for it.

use std::collections::BTreeMap;

use crate::keys::NameKey;

/// So many names are kept without a ready task: a queue with a task now and then allocates nothing.
const EMPTY_NAMES_KEPT: usize = 8;

#[derive(Debug, Default)]
pub(crate) struct ReadyNames(BTreeMap<NameKey, u64>);

impl ReadyNames {
    pub fn add(&mut self, name: NameKey) {
        *self.0.entry(name).or_default() += 1;
    }

    pub fn remove(&mut self, name: NameKey) {
        let count = self.0.get_mut(&name).expect("a ready task was counted");
        *count -= 1;
        if *count == 0 && self.0.len() > EMPTY_NAMES_KEPT {
            self.0.remove(&name);
        }
    }

    /// The names that have ready tasks.
    pub fn iter(&self) -> impl Iterator<Item = (NameKey, u64)> {
        self.0.iter().map(|(name, count)| (*name, *count)).filter(|(_, count)| *count > 0)
    }
}
