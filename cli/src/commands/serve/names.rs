//! The settings of `serve` with two names: one for a value with its unit (`lease = "15s"`), and an
//! exact one for a whole number (`lease_ms = 15000`), which `--check-config` prints.
//!
//! `config.rs` declares the settings, and merges the layers by the exact names.

use clap::parser::ValueSource;

use super::config::ConfigLayer;

/// The names of each setting: the one for a value with its unit, and the exact one.
const NAMES: [(&str, &str); 8] = [
    ("heartbeat", "heartbeat_ms"),
    ("lease", "lease_ms"),
    ("frame_max", "frame_bytes_max"),
    ("payload_max", "payload_bytes_max"),
    ("result_max", "result_bytes_max"),
    ("result_ttl", "result_ttl_ms"),
    ("disk_reserve", "disk_reserve_bytes"),
    ("commit_timeout", "commit_timeout_ms"),
];

/// All names of the setting with this name.
pub(super) fn names_of(key: &str) -> Vec<&str> {
    let pair = NAMES.iter().find(|(_, exact)| *exact == key);
    pair.map(|(name, _)| *name).into_iter().chain([key]).collect()
}

/// A setting of a layer under both of its names.
struct Pair<'a> {
    value: &'a mut Option<u64>,
    exact: &'a mut Option<u64>,
}

impl ConfigLayer {
    /// The settings in the order of [`NAMES`].
    fn pairs(&mut self) -> [Pair<'_>; 8] {
        [
            Pair { value: &mut self.heartbeat, exact: &mut self.heartbeat_ms },
            Pair { value: &mut self.lease, exact: &mut self.lease_ms },
            Pair { value: &mut self.frame_max, exact: &mut self.frame_bytes_max },
            Pair { value: &mut self.payload_max, exact: &mut self.payload_bytes_max },
            Pair { value: &mut self.result_max, exact: &mut self.result_bytes_max },
            Pair { value: &mut self.result_ttl, exact: &mut self.result_ttl_ms },
            Pair { value: &mut self.disk_reserve, exact: &mut self.disk_reserve_bytes },
            Pair { value: &mut self.commit_timeout, exact: &mut self.commit_timeout_ms },
        ]
    }

    /// Moves every value to its exact name. A flag has priority over a variable, whatever their
    /// names.
    ///
    /// # Errors
    /// The two names of a setting that has both in one place.
    pub(super) fn settle(
        &mut self,
        source: impl Fn(&str) -> Option<ValueSource>,
    ) -> Result<(), (&'static str, &'static str)> {
        for (Pair { value, exact }, (name, exact_name)) in self.pairs().into_iter().zip(NAMES) {
            let Some(value) = value.take() else { continue };
            if exact.is_some() && source(name) == source(exact_name) {
                return Err((name, exact_name));
            }
            if exact.is_none() || source(name) == Some(ValueSource::CommandLine) {
                *exact = Some(value);
            }
        }
        Ok(())
    }
}
