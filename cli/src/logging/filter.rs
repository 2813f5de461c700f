//! The filter of the log while the process runs: it can be shown and changed.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::reload::Handle;

use super::directives::parse;

/// Puts another filter into the place of the one before.
pub(super) type Change = Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>;

/// The filter of a log that has been started.
pub(crate) struct LogFilter {
    /// The filter as it was given. Who changes the filter holds the lock, so that it is the one
    /// that counts.
    shown: Mutex<String>,
    change: Change,
}

impl LogFilter {
    pub(super) fn new(shown: String, change: Change) -> Self {
        Self { shown: Mutex::new(shown), change }
    }

    /// Changes the filter if there is a new one, and returns the one that counts.
    ///
    /// # Errors
    /// A sentence about the new one. The one before still counts.
    pub(crate) fn change(&self, new: Option<&str>) -> Result<String, String> {
        if let Some(new) = new {
            self.set(new).map_err(|error| format!("log filter `{new}`: {error}"))?;
        }
        Ok(self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// Changes the filter until the process ends.
    ///
    /// # Errors
    /// What is wrong with the filter. The one before still counts.
    pub(crate) fn set(&self, filter: &str) -> Result<(), String> {
        let parsed = parse(filter)?;
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        (self.change)(parsed)?;
        filter.clone_into(&mut shown);
        Ok(())
    }
}

impl fmt::Debug for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogFilter").field("shown", &self.shown).finish_non_exhaustive()
    }
}

/// The change of a subscriber's filter.
pub(super) fn change<S: 'static>(handle: Handle<EnvFilter, S>) -> Change {
    Box::new(move |filter| handle.reload(filter).map_err(|error| error.to_string()))
}
