//! The scope of a connection: the queues and the task names that its access allows.
//!
//! A client with a scope sees the tasks whose queue and whose name the scope allows. Every other
//! task answers it as an id without a task does. Names of mailboxes and exchanges count as names of
//! queues.

/// What a connection may see. A connection without a scope sees everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    pub queues: Patterns,
    pub names: Patterns,
}

/// Names, and beginnings of names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Patterns {
    /// Every name.
    All,
    Some {
        /// Both are in order.
        names: Vec<Box<str>>,
        beginnings: Vec<Box<str>>,
    },
}

impl Patterns {
    /// Reads patterns: `*` allows every name, `songs-*` each name with this beginning, and any
    /// other text itself. No pattern allows no name.
    pub fn of<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Self {
        let (mut names, mut beginnings) = (Vec::new(), Vec::new());
        for pattern in patterns {
            match pattern.strip_suffix('*') {
                Some("") => return Self::All,
                Some(beginning) => beginnings.push(beginning.into()),
                None => names.push(pattern.into()),
            }
        }
        names.sort_unstable();
        beginnings.sort_unstable();
        Self::Some { names, beginnings }
    }

    pub fn is_all(&self) -> bool {
        matches!(self, Self::All)
    }

    pub fn allow(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Some { names, beginnings } => {
                names.binary_search_by(|known| (**known).cmp(name)).is_ok()
                    || beginnings.iter().any(|beginning| name.starts_with(&**beginning))
            }
        }
    }
}

impl Scope {
    /// The scope of these patterns. `None`: they allow everything.
    pub fn of(queues: Patterns, names: Patterns) -> Option<Self> {
        (!queues.is_all() || !names.is_all()).then_some(Self { queues, names })
    }

    /// Whether the scope allows tasks of this name in this queue.
    pub fn allows(&self, queue: &str, name: &str) -> bool {
        self.queues.allow(queue) && self.names.allow(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o2_a_pattern_is_a_name_or_the_beginning_of_names_and_no_pattern_allows_nothing() {
        let some = Patterns::of(["songs", "mail-*", "a"]);
        for allowed in ["songs", "mail-", "mail-in", "a"] {
            assert!(some.allow(allowed), "{allowed}");
        }
        for refused in ["song", "songs2", "mail", "Songs", "ab", "*"] {
            assert!(!some.allow(refused), "{refused}");
        }
        assert!(!Patterns::of([]).allow("songs"));
        assert!(Patterns::of(["x", "*"]).is_all());
        assert_eq!(Scope::of(Patterns::All, Patterns::All), None);
        let scope = Scope::of(some, Patterns::of(["songs.*"])).expect("it is no scope of all");
        assert!(scope.allows("songs", "songs.play"));
        assert!(!scope.allows("songs", "mail.send") && !scope.allows("x", "songs.play"));
    }
}
