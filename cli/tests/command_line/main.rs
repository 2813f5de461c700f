//! The built binary, as a shell sees it: arguments and settings without a broker, then a whole broker process with clients.

mod broker;
mod process;
mod results;
mod usage;
mod worker;
