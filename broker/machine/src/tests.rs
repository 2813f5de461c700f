//! The rules of a task, each as a script; the files beside this one hold them by subject, and
//! `proto/RULES.md` says which test shows which rule. `UPDATE_EXPECT=1` writes what the machine
//! says now; read it before you keep it.

mod cancel;
mod dead;
mod delivery;
mod leases;
mod listing;
mod model;
mod nonsense;
mod queues;
mod reports;
mod results;
mod retries;
mod scans;
mod script;
mod sessions;
mod simulation;
mod submits;
mod suspects;
mod take_back;
mod time;
mod transcript;
mod words;
mod workers;

use expect_test::Expect;

/// A transcript: commands, and indented beneath each what the machine said.
fn check(transcript: Expect) {
    let script = transcript.data().to_owned();
    transcript.assert_eq(&script::run(&script));
}
