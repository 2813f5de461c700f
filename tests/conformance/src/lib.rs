//! Plays the broker's side of the protocol from scripts and reports where a client does not follow
//! PROTOCOL.md. README.md says how scripts are written and what the program under test has to do.

mod bodies;
mod listener;
mod player;
mod protocol_rules;
mod request;
mod script;
mod subject;
mod welcome;

pub use player::{Failure, Plan, play};
pub use script::{Role, Script, scripts};
