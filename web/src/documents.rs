//! What programs read and write as JSON: over HTTP, and from the command line with `--json`. Both
//! have the same names, which are a contract with scripts.

mod broker;
mod json;
mod queue;
mod submission;
mod task;
mod worker;

pub use self::broker::BrokerDocument;
pub use self::json::{Count, Rfc3339, embed};
pub use self::queue::{QueueDocument, QueueSettingsDocument};
pub use self::submission::{SubmissionDocument, SubmittedDocument};
pub use self::task::TaskDocument;
pub use self::worker::WorkerDocument;
