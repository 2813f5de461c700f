//! Plays the broker's side of the protocol from scripts, and says where a client does something
//! else than PROTOCOL.md says. README.md tells how the scripts are written, and what the program
//! does that the kit starts.

mod bodies;
mod items;
mod laws;
mod peer;
mod player;
mod script;
mod subject;
mod welcome;

pub use player::{Failure, Plan, play};
pub use script::{Role, Script, scripts};
