//! What the log names in the lines of `celeriac work`.

/// The worker's own lines.
pub(super) const LOG_TARGET: &str = "celeriac::work";

/// The lines that commands write to their stderr. Another name than that of the worker's own lines:
/// a command cannot speak for the worker.
pub(super) const STDERR_TARGET: &str = "celeriac::work::stderr";
