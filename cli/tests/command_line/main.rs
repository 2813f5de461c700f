//! The built binary, as a shell sees it: arguments and settings without a broker, then a whole
//! broker process with clients.

mod backup;
mod broker;
mod dead;
mod foreign_text;
mod full_answers;
mod listing;
mod log;
mod memory;
mod process;
mod queues;
mod results;
mod secrets;
mod signals;
mod terminal;
mod top;
mod usage;
mod worker;
mod workers;
