//! The built binary, as a shell sees it: arguments and settings without a broker, then a whole broker process with clients.

mod backup;
mod broker;
mod dead;
mod full_answers;
mod listing;
mod process;
mod queues;
mod results;
mod terminal;
mod top;
mod usage;
mod worker;
mod workers;
