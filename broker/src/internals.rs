//! The inside of the broker, for the simulation, the fuzz functions and the measurements of this
//! workspace, behind the feature of this name. This interface is not stable.

pub mod inside;
pub mod simulation;

pub use celeriac_store::FAIL_READS;

pub use crate::encode::{Limits, frame, limits};
pub use crate::outgoing::{
    BrokerView, Delivery, FoundTask, Outgoing, QueueView, Selection, Shown, StatsView, TaskView,
    WorkerView,
};
pub use crate::session::client_command;
pub use crate::session::decode::{Bounds, ask, hello, needs_no_answer};

/// The bytes that a message takes in a frame, at most.
pub fn message_bytes(message: &Outgoing) -> usize {
    crate::size::message(message)
}
