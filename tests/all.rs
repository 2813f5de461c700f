//! The tests from outside. They are one binary, so that it is linked once. Each module has one
//! subject. The harness is a library of its own.

mod abuse;
mod backup;
mod bad_frames;
mod bad_reports;
mod bad_submits;
mod chords;
mod conflicts;
mod contract;
mod data_folder;
mod delivery;
mod faults;
mod full_answers;
mod handshake;
mod hanging_disk;
mod interruptions;
mod journal;
mod lost_worker;
mod mailboxes;
mod network;
mod operators;
mod outcomes;
mod reports;
mod restart;
mod serving;
mod simulation;
mod soak;
mod story;
mod system_calls;
mod tidy;
mod tls;
mod traps;
mod two_ways;
mod vectors;
mod worker_troubles;
