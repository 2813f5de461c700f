//! `result`, `watch` and `submit --wait` from the submit of a task to its end: their output and
//! their exit codes.

use std::fs;
use std::process::Stdio;

use celeriac_proto::wire::{self, task_report::Report};
use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Broker, CommandOutput, documents, within_deadline};
use crate::worker::Worker;

fn started() -> (Broker, Worker, TempDir) {
    let data = TempDir::new().expect("a folder");
    let broker = Broker::start(data.path(), &[]);
    let worker = Worker::connect(&broker, "songs.cluster");
    (broker, worker, data)
}

fn submit(broker: &Broker, id: &str) {
    assert_eq!(
        broker.run(&["submit", "songs.cluster", "--id", id, "--args", "[\"x\"]"]).code,
        Some(0)
    );
}

#[test]
fn a_result_is_printed_alone_and_unchanged() {
    let (broker, mut worker, _data) = started();
    submit(&broker, "a");
    worker.complete(b"{\"bpm\": 12345678901234567890123}", "");
    let output = broker.run(&["result", "a", "--wait"]);
    assert_eq!(
        (output.code, output.stdout.as_str()),
        (Some(0), "{\"bpm\": 12345678901234567890123}\n"),
        "{output:?}"
    );
    let output = broker.run(&["result", "a", "--json"]);
    assert!(output.stdout.contains("\"result\":{\"bpm\": 12345678901234567890123},"), "{output:?}");
    let status = broker.run(&["status", "a", "--json"]);
    assert!(status.stdout.contains("\"state\":\"SUCCESS\""), "{status:?}");
    assert_eq!(broker.run(&["forget", "a"]).stdout, "a  forgotten\n");
}

#[test]
fn a_raw_result_that_is_text_has_no_quotes_of_json() {
    let (broker, mut worker, _data) = started();
    // The second JSON has half of a pair of UTF-16, which is no text.
    for (id, result, content_type, quoted, raw) in [
        ("a", r#""two\nlines \u00e9""#, "", r#""two\nlines \u00e9""#, "two\nlines é"),
        ("b", r#""\ud800""#, "", r#""\ud800""#, r#""\ud800""#),
        ("c", "[\"x\"]", "application/json", "[\"x\"]", "[\"x\"]"),
        ("d", "\"x\"", "text/plain", "\"x\"", "\"x\""),
        ("e", "", "", "null", "null"),
    ] {
        submit(&broker, id);
        worker.complete(result.as_bytes(), content_type);
        let printed = |more: &[&str]| broker.run(&[&["result", id, "--wait"], more].concat());
        assert_eq!(printed(&[]).stdout, format!("{quoted}\n"));
        assert_eq!(printed(&["--raw"]).stdout, format!("{raw}\n"));
    }
}

#[test]
fn the_result_of_a_failed_task_is_its_last_error_and_exit_code_5() {
    let (broker, mut worker, _data) = started();
    submit(&broker, "a");
    worker.fail("ValueError", "not\na song");
    let output = broker.run(&["result", "a", "--wait", "30"]);
    assert_eq!((output.code, output.stdout.as_str()), (Some(5), ""), "{output:?}");
    assert_eq!(output.stderr, "celeriac: task a failed: attempt 1: ValueError: not\\na song\n");
    let document: Value =
        serde_json::from_str(&broker.run(&["result", "a", "--json"]).stdout).expect("JSON");
    assert_eq!(document["errors"][0]["message"], "not\na song");
}

#[test]
fn submit_with_wait_prints_a_result_that_is_not_kept() {
    let (broker, mut worker, _data) = started();
    let waiting = |more: &[&str]| {
        let mut command = broker.command(&["submit", "songs.cluster", "--wait"]);
        command
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts")
    };
    let child = waiting(&[]);
    worker.complete(b"7", "");
    let output: CommandOutput =
        within_deadline(move || child.wait_with_output().expect("it ends")).into();
    assert_eq!((output.code, output.stdout.as_str(), output.stderr.as_str()), (Some(0), "7\n", ""));

    let child = waiting(&["--result-ttl", "0", "--json"]);
    worker.complete(b"7", "");
    let output: CommandOutput =
        within_deadline(move || child.wait_with_output().expect("it ends")).into();
    let task: Value =
        serde_json::from_str(output.stdout.lines().last().expect("two lines")).expect("JSON");
    assert_eq!((output.code, &task["result"]), (Some(0), &7.into()), "{output:?}");
}

#[test]
fn a_watch_prints_every_transition_and_ends_with_the_task() {
    let (broker, mut worker, _data) = started();
    submit(&broker, "a");
    let delivery = worker.receive();
    let mut command = broker.command(&["watch", "a"]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("the binary starts");
    let mut stdout = std::io::BufReader::new(child.stdout.take().expect("piped"));
    // The first line has the present state. It shows that the watch has begun.
    let first = next_line(&mut stdout);
    assert!(first.contains("LEASED") && first.contains("handed to worker-1"), "{first}");
    worker.report(&delivery, Report::Started(wire::Started {}));
    let meta = "{\"percent\":40}".into();
    worker.report(
        &delivery,
        Report::Progress(wire::ProgressReport { state: "DECODING".to_owned(), meta }),
    );
    worker.report(
        &delivery,
        Report::Complete(wire::Complete {
            result: "1".into(),
            content_type: String::new(),
            ..Default::default()
        }),
    );
    let lines: Vec<String> = std::iter::repeat_with(|| next_line(&mut stdout))
        .take_while(|line| !line.is_empty())
        .collect();
    let line = |word: &str| {
        lines.iter().find(|line| line.contains(word)).unwrap_or_else(|| panic!("{word}: {lines:?}"))
    };
    assert!(line("STARTED").contains("attempt 1/4 on worker-1"), "{lines:?}");
    assert!(line("DECODING").contains("{\"percent\":40}"), "{lines:?}");
    assert!(lines.last().is_some_and(|line| line.contains("SUCCESS    in ")), "{lines:?}");
    assert_eq!(within_deadline(move || child.wait().expect("it ends").code()), Some(0));
}

fn next_line(stdout: &mut impl std::io::BufRead) -> String {
    let mut line = String::new();
    stdout.read_line(&mut line).expect("text");
    line
}

#[test]
fn the_readme_names_every_field_of_every_document() {
    let (broker, mut worker, _data) = started();
    let readme =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).expect("it is there");
    let submitted = broker.run(&["submit", "songs.cluster", "--id", "a", "--json"]).stdout;
    worker.fail("ValueError", "no song");
    let commands: [&[&str]; 14] = [
        &["info"],
        &["stats"],
        &["stats", "--broker"],
        &["result", "a", "--wait"],
        &["show", "a"],
        &["queues"],
        &["queues", "pause", "default"],
        &["queues", "purge", "default", "--yes"],
        &["queues", "set", "default", "--tasks-max", "none"],
        &["workers"],
        &["workers", "quiet", "--all"],
        &["top", "--once"],
        &["cancel", "a"],
        &["forget", "a"],
    ];
    let mut work = broker.command(&["work", "--json", "--name", "other", "--", "true"]);
    let mut work = work.stdout(std::process::Stdio::piped()).spawn().expect("the binary starts");
    broker.run(&["submit", "other", "--wait"]);
    let ending = next_line(&mut std::io::BufReader::new(work.stdout.take().expect("piped")));
    work.kill().and_then(|()| work.wait()).expect("it runs");
    let printed = commands.map(|command| broker.run(&[command, &["--json"]].concat()).stdout);
    for text in [submitted, ending].iter().chain(&printed) {
        // The documents of one command have the same fields.
        let document = &documents(text)[0];
        for field in document.as_object().expect("an object").keys() {
            // Beside each time in milliseconds stands the same time as text.
            let name = match field.strip_suffix("at") {
                Some(_) if document.get(format!("{field}_ms")).is_some() => format!("{field}_ms"),
                _ => field.clone(),
            };
            let named =
                readme.contains(&format!("`{name}`")) || readme.contains(&format!("\"{name}\""));
            assert!(named, "cli/README.md does not name {field}");
        }
    }
}
