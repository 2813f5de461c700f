//! Tests of the rules of a task. Each test is a script. The files in `tests/` hold the scripts by
//! subject, and `proto/RULES.md` lists the tests of each rule. `UPDATE_EXPECT=1` writes the present
//! output of the machine into the scripts; read the changes before you keep them.

mod announced;
mod cancel;
mod chords;
mod conflicts;
mod crowd;
mod dead;
mod declared;
mod delivery;
mod drain;
mod info;
mod leases;
mod limits;
mod listing;
mod mail;
mod mail_model;
mod mailboxes;
mod model;
mod nonsense;
mod outcomes;
mod put_tasks;
mod queues;
mod reports;
mod results;
mod retries;
mod routes;
mod scans;
mod scopes;
mod script;
mod serving;
mod sessions;
mod settle;
mod simulation;
mod slices;
mod stats;
mod submits;
mod suspects;
mod take_back;
mod time;
mod transcript;
mod words;
mod workers;

use expect_test::Expect;

/// A transcript: commands, and below each command, indented, the output of the machine.
fn check(transcript: Expect) {
    let script = transcript.data().to_owned();
    transcript.assert_eq(&script::run(&script));
}
