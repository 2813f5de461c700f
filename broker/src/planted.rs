//! Bugs that are planted on purpose, so that the tests can show that they would find them. A planted bug is asked for by
//! name in the environment, and only a debug build with the feature `internals` asks: in any other the answer is a
//! constant, and no trace of this is left in the binary.

/// A promise to break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(dead_code, reason = "each is named where it would do its harm")]
pub(crate) enum Bug {
    /// A commit returns before its bytes are durable.
    SkipTheFlush,
}

/// Whether this bug is to do its harm.
#[cfg(not(all(feature = "internals", debug_assertions)))]
#[allow(dead_code, reason = "used where a bug would do its harm")]
pub(crate) const fn is_planted(_bug: Bug) -> bool {
    false
}

/// Whether this bug is to do its harm.
#[cfg(all(feature = "internals", debug_assertions))]
#[allow(dead_code, reason = "used where a bug would do its harm")]
pub(crate) fn is_planted(bug: Bug) -> bool {
    static NAME: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    let name = NAME.get_or_init(|| std::env::var("CELERIAC_PLANTED_BUG").ok());
    name.as_ref().is_some_and(|name| *name == format!("{bug:?}"))
}
