//! Tests of the built binary: its arguments and settings without a broker, and all commands with a
//! broker process.

mod absence;
mod access;
mod backup;
mod broker;
mod completions;
mod dead;
mod documents;
mod door;
mod foreign_text;
mod full_answers;
mod help;
mod info;
mod lines;
mod listing;
mod log;
mod log_lines;
mod memory;
mod older_broker;
mod process;
mod queues;
mod results;
mod secrets;
mod settings;
mod signals;
mod split_debug;
mod terminal;
mod tls;
mod top;
mod usage;
mod work;
mod work_faults;
mod worker;
mod workers;
