//! Task names as small numbers: a million tasks of one name store the text once.

use std::collections::BTreeMap;

use celeriac_proto::TaskName;

use crate::keys::NameKey;

#[derive(Debug, Default)]
pub(crate) struct Names {
    entries: Vec<Entry>,
    free: Vec<NameKey>,
    by_name: BTreeMap<TaskName, NameKey>,
    /// The last name that was looked up. Most batches have tasks of one name.
    latest: Option<NameKey>,
}

#[derive(Debug)]
struct Entry {
    name: Option<TaskName>,
    uses: u64,
}

impl Names {
    /// The number of a name. One more use is counted.
    pub fn take(&mut self, name: &TaskName) -> NameKey {
        let key = self.lookup(name).unwrap_or_else(|| self.add(name));
        self.entries[key as usize].uses += 1;
        self.latest = Some(key);
        key
    }

    /// Counts one more use of a name in use.
    pub fn take_again(&mut self, key: NameKey) {
        self.entries[key as usize].uses += 1;
    }

    /// Counts one use less. After the last use the number is free.
    pub fn release(&mut self, key: NameKey) {
        let entry = &mut self.entries[key as usize];
        entry.uses -= 1;
        if entry.uses == 0 {
            let name = entry.name.take().expect("a number in use has a name");
            self.by_name.remove(&name);
            self.free.push(key);
            self.latest = None;
        }
    }

    pub fn lookup(&self, name: &TaskName) -> Option<NameKey> {
        match self.latest {
            Some(key) if self.entries[key as usize].name.as_ref() == Some(name) => Some(key),
            _ => self.by_name.get(name).copied(),
        }
    }

    pub fn name(&self, key: NameKey) -> &TaskName {
        self.entries[key as usize].name.as_ref().expect("a number in use has a name")
    }

    fn add(&mut self, name: &TaskName) -> NameKey {
        let entry = Entry { name: Some(name.clone()), uses: 0 };
        let key = match self.free.pop() {
            Some(key) => {
                self.entries[key as usize] = entry;
                key
            }
            None => {
                self.entries.push(entry);
                (self.entries.len() - 1) as NameKey
            }
        };
        self.by_name.insert(name.clone(), key);
        key
    }
}
