//! What people are told while the broker drains: it delivers nothing, which no queue and no task
//! shows.
//!
//! Only some clients may ask whether it drains. A refused request has a line in the audit log, so
//! nothing is asked where nobody would read the answer, and not again after a refusal.

use std::borrow::Borrow;
use std::cell::Cell;
use std::io::{self, IsTerminal};

use celeriac_client::{Client, Error, ErrorCode, State, TaskInfo};

use crate::output::{Output, print_to_stderr};

/// The sentence below what the user asked for.
pub(crate) const NOTE: &str =
    "the broker drains: it delivers nothing; `celeriac drain --off` ends it";

/// Asks whether the broker drains, until it refuses to say.
#[derive(Default)]
pub(crate) struct DrainLook {
    is_refused: Cell<bool>,
}

impl DrainLook {
    /// Asks nothing where no person would read it.
    pub(crate) fn unless(is_for_programs: bool) -> Self {
        Self { is_refused: Cell::new(is_for_programs) }
    }

    /// Whether the broker drains, as far as this client may know.
    pub(crate) async fn is_draining(&self, client: &Client) -> bool {
        if self.is_refused.get() {
            return false;
        }
        match client.broker_info().await {
            Ok(broker) => broker.draining,
            Err(Error::Refused { code: ErrorCode::Forbidden | ErrorCode::Unsupported, .. }) => {
                self.is_refused.set(true);
                false
            }
            // The command itself reports what is wrong with the connection.
            Err(_) => false,
        }
    }
}

/// Whether a person reads what goes to stderr.
pub(crate) fn has_reader(output: &Output) -> bool {
    !output.is_json() && io::stderr().is_terminal()
}

/// Tells a person that the broker drains, when something waits for its delivery.
pub(crate) async fn tell(client: &Client, waits: bool, output: &Output) {
    if waits && has_reader(output) && DrainLook::default().is_draining(client).await {
        print_to_stderr(NOTE);
    }
}

/// Whether one of these tasks waits for nothing but its delivery.
pub(crate) fn one_waits(tasks: &[impl Borrow<TaskInfo>]) -> bool {
    let waits = |task: &TaskInfo| task.state == State::Queued;
    tasks.iter().any(|task| waits(task.borrow()))
}
