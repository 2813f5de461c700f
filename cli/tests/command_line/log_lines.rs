//! The lines of the log: the events, their fields, and the levels for systemd's journal.

use std::fs::{self, File, Permissions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Stdio};

use celeriac_proto::wire::{self, task_report::Report};
use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Broker, celeriac, documents, finish, within_deadline};
use crate::worker::Worker;

/// A broker with a log in JSON. Each line is an event.
fn serve(data: &TempDir, flags: &[&str]) -> Command {
    let mut serve = celeriac(&["serve", "--listen", "127.0.0.1:0", "--log", "debug", "--data"]);
    serve.arg(data.path().join("data")).args(flags).env("CELERIAC_LOG_FORMAT", "json");
    serve.stderr(Stdio::piped());
    serve
}

/// The event with this message.
fn event<'a>(log: &'a [Value], message: &str) -> &'a Value {
    let found = log.iter().find(|event| event["message"] == message);
    found.unwrap_or_else(|| panic!("{message}: {log:?}"))
}

/// Checks that the fields are flat, have the names of fields, and hold no value as Rust shows it.
fn has_plain_fields(log: &[Value]) {
    for event in log {
        for (name, value) in event.as_object().expect("an object") {
            let is_name = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            assert!(is_name && !value.is_object() && !value.is_array(), "{name} in {event}");
            let Some(text) = value.as_str() else { continue };
            let is_of_rust = text.contains(" { ")
                || text.starts_with("[\"")
                || text.char_indices().any(|(at, character)| {
                    character == '('
                        && text[..at].ends_with(|before: char| before.is_alphanumeric())
                });
            assert!(!is_of_rust, "{name} in {event}");
        }
    }
}

fn end(broker: Broker) -> Vec<Value> {
    let output = broker.stop("TERM");
    assert_eq!(output.code, Some(0), "{output:?}");
    let log = documents(&output.stderr);
    has_plain_fields(&log);
    log
}

#[test]
fn the_start_and_a_lost_worker_have_lines_with_all_that_matters() {
    let data = TempDir::new().expect("a folder");
    let folder = data.path().join("data");
    fs::create_dir(&folder).expect("made");
    fs::set_permissions(&folder, Permissions::from_mode(0o755)).expect("set");
    // A relative path of a folder: the log has it whole.
    let mut command = celeriac(&["serve", "--listen", "127.0.0.1:0", "--data", "data"]);
    command.args(["--heartbeat", "50ms", "--lease", "300ms"]).current_dir(data.path());
    command.env("CELERIAC_LOG_FORMAT", "json").stderr(Stdio::piped());
    let broker = Broker::ready(command);
    let address = broker.address.clone();
    for id in ["a", "b"] {
        let submit = ["submit", "songs.cluster", "--id", id, "--max-attempts", "2"];
        assert_eq!(broker.run(&submit).code, Some(0));
    }
    let state = |id: &str| {
        let task = documents(&broker.run(&["status", id, "--json"]).stdout).remove(0);
        task["state"].clone()
    };
    let mut worker = Worker::connect(&broker, "songs.cluster");
    let delivery = worker.receive();
    worker.report(&delivery, Report::Started(wire::Started {}));
    drop(worker);
    while state("a") != "QUEUED" {}
    let copy = data.path().join("copy");
    assert_eq!(broker.run(&["backup", copy.to_str().expect("text")]).code, Some(0));
    assert_ne!(broker.run(&["backup", "/dev/null/copy"]).code, Some(0));
    let log = end(broker);

    let ready = event(&log, "the broker is ready");
    assert_eq!(ready["version"], env!("CARGO_PKG_VERSION"), "{ready}");
    assert_eq!(ready["address"], address, "{ready}");
    assert_eq!(ready["data"], folder.to_str().expect("text"), "{ready}");
    assert_eq!((&ready["format"], &ready["tasks"]), (&2.into(), &0.into()), "{ready}");
    assert!(event(&log, "the data folder is open")["file_bytes"].is_u64());
    let open = log.iter().find(|event| event["folder"].is_string() && event["level"] == "WARN");
    assert!(open.is_some_and(|event| event["message"].to_string().contains("chmod")), "{log:?}");

    let lost = event(&log, "a worker is lost");
    assert_eq!((&lost["level"], &lost["worker"]), (&"WARN".into(), &"worker-1".into()), "{lost}");
    assert_eq!((&lost["lost_tasks"], &lost["queued_again"]), (&1.into(), &1.into()), "{lost}");
    assert_eq!(lost["oldest_tasks"], "a QUEUED", "{lost}");
    assert!(lost["silent_ms"].as_u64().is_some_and(|ms| ms >= 300), "{lost}");
}

#[test]
fn the_end_of_a_connection_is_laid_to_the_side_that_ended_it() {
    let data = TempDir::new().expect("a folder");
    let broker = Broker::ready(serve(&data, &[]));
    assert_eq!(broker.run(&["queues"]).code, Some(0));
    drop(Worker::connect(&broker, "songs.cluster"));
    // The lines come in the order of the events, and this one comes later than both.
    let mut http = TcpStream::connect(&broker.address).expect("connected");
    http.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("sent");
    within_deadline(move || http.read_to_end(&mut Vec::new()).expect("answered"));
    let log = end(broker);
    let client = event(&log, "a client disconnects");
    assert_eq!(client["reason"], "it said goodbye", "{client}");
    let worker = event(&log, "a worker disconnects");
    assert_eq!(worker["reason"], "it closed the connection without a goodbye", "{worker}");
}

#[test]
fn a_disk_that_is_nearly_full_has_a_line_and_a_sentence_for_producers() {
    // A disk in memory is smaller than this reserve on every machine.
    let data = TempDir::new_in("/dev/shm").expect("a folder");
    let reserve = ["--disk-reserve", "1TiB"];
    let broker = Broker::ready(serve(&data, &reserve));
    let mut submit = broker.command(&["submit", "n", "--lines", "-"]);
    let refused = finish(&mut submit, "{\"id\": \"a\"}\n{\"id\": \"b\"}\n");
    assert_eq!(refused.code, Some(9), "{refused:?}");
    assert_eq!(refused.stdout, "0 created, 0 joined, 2 refused\n", "{refused:?}");
    assert!(refused.stderr.contains(": refused (disk_full): "), "{refused:?}");
    assert!(refused.stderr.contains("make room on it, or submit later"), "{refused:?}");
    let log = end(broker);
    let low = log.iter().find(|line| line["message"].to_string().contains("disk is nearly full"));
    let low = low.unwrap_or_else(|| panic!("{log:?}"));
    assert_eq!((&low["level"], &low["needed_bytes"]), (&"WARN".into(), &(1_u64 << 40).into()));
    assert!(low["usable_bytes"].is_u64() && low["folder"].is_string(), "{low}");
}

#[test]
fn wrong_tokens_and_other_protocols_have_lines_and_no_token_is_in_the_log() {
    let data = TempDir::new().expect("a folder");
    let mut command = serve(&data, &[]);
    command.env("CELERIAC_TOKEN", "right-0123456789");
    let broker = Broker::ready(command);
    for _ in 0..3 {
        let refused =
            finish(broker.command(&["queues"]).env("CELERIAC_TOKEN", "wrong-0123456789"), "");
        assert_eq!(refused.code, Some(8), "{refused:?}");
    }
    let mut http = TcpStream::connect(&broker.address).expect("connected");
    http.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("sent");
    within_deadline(move || http.read_to_end(&mut Vec::new()).expect("answered"));
    let log = end(broker);
    let refused = log
        .iter()
        .filter(|event| event["message"] == "a client was refused: its token is missing or wrong");
    let refused: Vec<_> = refused.collect();
    // More than one line only if the three clients took ten seconds.
    assert!(!refused.is_empty() && refused.len() < 3, "{log:?}");
    assert_eq!((&refused[0]["level"], &refused[0]["refused"]), (&"WARN".into(), &1.into()));
    assert!(refused[0]["peer"].to_string().contains("127.0.0.1:"), "{log:?}");
    assert!(log.iter().any(|event| event["reason"] == "the client speaks HTTP"), "{log:?}");
    assert!(log.iter().all(|event| !event.to_string().contains("-0123456789")), "{log:?}");
}

/// The lines of a broker whose stderr is a file, while the variable names this stream or another.
fn lines_in_a_file(format: &str, is_journal: bool) -> Vec<String> {
    let data = TempDir::new().expect("a folder");
    let path = data.path().join("log");
    let file = File::create(&path).expect("made");
    let found = file.metadata().expect("it is there");
    let inode = found.ino() + u64::from(!is_journal);
    let mut command = serve(&data, &["--log-format", format]);
    command.env("JOURNAL_STREAM", format!("{}:{inode}", found.dev())).stderr(file);
    assert_eq!(Broker::ready(command).stop("TERM").code, Some(0));
    // The second broker fails, because the folder is now something else.
    fs::remove_file(data.path().join("data/format")).expect("removed");
    let mut command = serve(&data, &["--log-format", format]);
    let file = File::options().append(true).open(&path).expect("it is there");
    command.env("JOURNAL_STREAM", format!("{}:{inode}", found.dev())).stderr(file);
    let mut child = command.spawn().expect("the binary starts");
    assert_eq!(within_deadline(move || child.wait().expect("ended").code()), Some(17));
    fs::read_to_string(path).expect("text").lines().map(str::to_owned).collect()
}

#[test]
fn each_line_in_the_journal_begins_with_its_level() {
    for format in ["text", "json"] {
        let lines = lines_in_a_file(format, true);
        assert!(lines.len() > 4, "{lines:?}");
        for line in &lines {
            let (prefix, rest) = line.split_at(3);
            let level = match prefix {
                "<6>" => "INFO",
                "<3>" => "ERROR",
                other => panic!("{other} in {line}"),
            };
            let is_sentence = format == "text" && rest.starts_with("celeriac: ");
            assert!(rest.contains(level) || is_sentence, "{line}");
        }
        assert!(lines.last().is_some_and(|line| line.starts_with("<3>")), "{lines:?}");
        let elsewhere = lines_in_a_file(format, false);
        assert!(elsewhere.iter().all(|line| !line.starts_with('<')), "{elsewhere:?}");
    }
}

#[test]
fn in_json_the_sentence_of_a_failure_is_an_object_too() {
    let data = TempDir::new().expect("a folder");
    fs::create_dir(data.path().join("data")).expect("made");
    fs::write(data.path().join("data/notes"), "of somebody").expect("written");
    let output = finish(&mut serve(&data, &[]), "");
    assert_eq!(output.code, Some(17), "{output:?}");
    let log = documents(&output.stderr);
    let last = log.last().expect("a line");
    assert_eq!(last["level"], "ERROR", "{last}");
    assert!(last["message"].to_string().contains("it is not empty, it holds `notes`"), "{last}");
    let names = fs::read_dir(data.path().join("data")).expect("read").count();
    assert_eq!(names, 1, "the broker wrote nothing");
}
