//! What a command that waits says when the broker goes away and comes back.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStderr, Stdio};
use std::time::Instant;

use tempfile::TempDir;

use crate::older_broker::broker_that_falls_silent;
use crate::process::{Broker, DEADLINE, celeriac, documents, run, within_deadline};

/// A command that waits for the task `a`, and its stderr.
fn waiting(broker: &Broker, arguments: &[&str]) -> (Child, BufReader<ChildStderr>) {
    let mut command = broker.command(arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary starts");
    let stderr = BufReader::new(child.stderr.take().expect("piped"));
    (child, stderr)
}

/// The next line that is about the broker.
fn line_about_the_broker(mut stderr: BufReader<ChildStderr>) -> (String, BufReader<ChildStderr>) {
    within_deadline(move || {
        loop {
            let mut line = String::new();
            assert!(stderr.read_line(&mut line).expect("text") > 0, "there is no such line");
            if line.contains("the broker at ") {
                return (line, stderr);
            }
        }
    })
}

fn started_again(data: &Path, address: &str) -> Broker {
    let mut command = celeriac(&["serve", "--listen", address, "--log", "warn", "--data"]);
    command.arg(data);
    Broker::ready(command)
}

#[test]
fn a_command_that_waits_says_once_that_the_broker_is_away_and_once_that_it_is_back() {
    for arguments in [
        &["watch", "a", "--json"][..],
        &["result", "a", "--wait", "--json"],
        &["submit", "n", "--id", "a", "--wait", "--json"],
    ] {
        let data = TempDir::new().expect("a folder");
        let broker = Broker::start(data.path(), &[]);
        let address = broker.address.clone();
        assert_eq!(broker.run(&["submit", "n", "--id", "a"]).code, Some(0));
        let (mut child, stderr) = waiting(&broker, arguments);
        // Only a command that is connected waits: it would fail at once.
        let give_up_at = Instant::now() + DEADLINE;
        while documents(&broker.run(&["info", "--json"]).stdout)[0]["connections"] != 2 {
            assert!(Instant::now() < give_up_at, "{arguments:?} is not connected");
        }
        broker.stop("TERM");
        let (line, stderr) = line_about_the_broker(stderr);
        let begin = format!("celeriac: the broker at {address} does not answer since ");
        let time = line.strip_prefix(&begin).unwrap_or_else(|| panic!("{line}"));
        assert_eq!(time.len(), "14:03:05; trying again\n".len(), "{line}");
        assert!(time.ends_with("; trying again\n"), "{line}");
        let broker = started_again(data.path(), &address);
        let (line, mut stderr) = line_about_the_broker(stderr);
        assert_eq!(line, format!("celeriac: the broker at {address} answers again\n"));
        assert_eq!(broker.run(&["cancel", "a"]).code, Some(0));
        let (code, stdout, rest) = within_deadline(move || {
            let (mut text, mut rest) = (String::new(), String::new());
            child.stdout.take().expect("piped").read_to_string(&mut text).expect("text");
            stderr.read_to_string(&mut rest).expect("text");
            (child.wait().expect("it ends").code(), text, rest)
        });
        assert_eq!(code, Some(6), "{arguments:?}: {stdout}");
        let last = documents(&stdout).pop().expect("a document");
        assert_eq!(last["state"], "REVOKED");
        assert!(!rest.contains("the broker at "), "{rest}");
    }
}

#[test]
fn a_command_whose_broker_falls_silent_says_so_when_its_time_is_over() {
    let address = broker_that_falls_silent();
    for command in
        [&["tasks"][..], &["tasks", "--all"], &["dead"], &["result", "a"], &["submit", "a"]]
    {
        let output = run(&[command, &["--url", &address, "--timeout", "1"]].concat());
        assert_eq!(output.code, Some(3), "{output:?}");
        assert_eq!(output.stderr, "celeriac: no answer within 1s\n", "{command:?}");
    }
}
