//! The settings of access, and how they go together.

use serde::{Deserialize, Serialize};

use super::{Config, ConfigError};

/// The allowed requests that the audit log has a line of. It has one of each refused request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuditWhat {
    /// What operators alone may send.
    #[default]
    Operators,
    /// Submits too, and every other request that changes something.
    All,
}

impl Config {
    /// A setting that has no effect is a mistake: the operator believes that it has one.
    pub(super) fn check_access(&self) -> Result<(), ConfigError> {
        let without = |key| Err(ConfigError::Alone { key, other: "access_file" });
        if self.access_file.is_some() {
            return match &self.token {
                Some(_) => Err(ConfigError::Both { key: "access_file", other: "token" }),
                None => Ok(()),
            };
        }
        match (&self.backup_folder, &self.audit_file, self.audit) {
            (Some(_), ..) => without("backup_folder"),
            (_, Some(_), _) => without("audit_file"),
            (.., AuditWhat::All) => without("audit"),
            _ => Ok(()),
        }
    }
}
