//! `info`, and `status` without an id: the broker itself.

use serde_json::Value;
use tempfile::TempDir;

use crate::older_broker::{UNSUPPORTED, older_broker};
use crate::process::{Broker, celeriac, documents, finish, run};
use crate::terminal::Terminal;
use crate::worker::Worker;

fn started(more: &[&str]) -> (Broker, TempDir) {
    let data = TempDir::new().expect("a folder");
    (Broker::start(data.path(), more), data)
}

fn info(broker: &Broker) -> Value {
    let output = broker.run(&["info", "--json"]);
    assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{output:?}");
    documents(&output.stdout).remove(0)
}

#[test]
fn programs_read_what_the_broker_holds_and_its_settings() {
    let (broker, _data) = started(&["--result-ttl", "2h", "--connections-max", "17"]);
    let mut worker = Worker::connect(&broker, "songs.cluster");
    broker.run(&["submit", "songs.cluster", "--id", "a"]);
    broker.run(&["submit", "songs.cluster", "--id", "b", "--countdown", "1h", "--queue", "songs"]);
    broker.run(&["submit", "nobody", "--id", "c"]);
    broker.run(&["submit", "nobody", "--id", "d", "--expires", "0s"]);
    worker.receive();
    let info = info(&broker);
    let expected = serde_json::json!({
        "version": env!("CARGO_PKG_VERSION"),
        "protocol": 1,
        "connections": 2,
        "connections_max": 17,
        "workers": 1,
        "workers_lost": 0,
        "queues": 2,
        "mailboxes": 0,
        "ready": 1,
        "scheduled": 1,
        "leased": 1,
        "dead": 0,
        "ended": 1,
        "disk_is_low": false,
        "frame_bytes_max": (16 << 20),
        "payload_bytes_max": (8 << 20),
        "result_bytes_max": (1 << 20),
        "batch_items_max": 10_000,
        "requests_in_flight_max": 1_024,
        "credit_max": 10_000,
        "heartbeat_ms": 5_000,
        "lease_ms": 15_000,
        "result_ttl_ms": 7_200_000,
    });
    for (field, value) in expected.as_object().expect("an object") {
        assert_eq!(&info[field], value, "{field} of {info}");
    }
    let number = |field: &str| info[field].as_u64().unwrap_or_else(|| panic!("{field}: {info}"));
    assert!(number("started_at_ms") > 1_600_000_000_000, "{info}");
    assert!(number("memory_bytes") > 1 << 20, "{info}");
    assert!(number("live_bytes") > 0 && number("live_bytes") <= number("log_bytes"), "{info}");
    assert!(number("file_bytes") > 0, "{info}");
    assert!(number("disk_free_bytes") <= number("disk_bytes"), "{info}");
    assert!(number("disk_low_bytes") >= 64 << 20, "{info}");
}

#[test]
fn the_uptime_grows_and_begins_again_with_the_broker() {
    let (broker, data) = started(&[]);
    let (first, second) = (info(&broker), info(&broker));
    let uptime = |info: &Value| info["uptime_ms"].as_u64().expect("a span");
    assert!(uptime(&second) >= uptime(&first), "{first} {second}");
    let started_at = |info: &Value| info["started_at_ms"].as_i64().expect("a time");
    broker.stop("TERM");
    let again = info(&Broker::start(data.path(), &[]));
    assert!(started_at(&again) > started_at(&second), "{second} {again}");
}

#[test]
fn people_read_the_same_with_info_and_with_status() {
    let (broker, _data) = started(&["--connections-max", "17"]);
    let output = broker.run(&["info"]);
    assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{output:?}");
    for line in [
        format!("version      {}", env!("CARGO_PKG_VERSION")),
        format!("address      {}", broker.address),
        "connections  1 of 17".into(),
        "workers      0".into(),
        "queues       1".into(),
        "  ready      0".into(),
        "  frame       16 MiB".into(),
        "  result ttl  1d".into(),
    ] {
        assert!(output.stdout.lines().any(|other| other == line), "no {line:?} in {output:?}");
    }
    let names = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.split("  ").take(2).collect::<Vec<_>>().concat()).collect()
    };
    let status = broker.run(&["status"]);
    assert_eq!((status.code, names(&status.stdout)), (Some(0), names(&output.stdout)));
    let status = documents(&broker.run(&["status", "--json"]).stdout).remove(0);
    assert_eq!(status["connections_max"], 17, "{status}");
}

#[test]
fn a_narrow_terminal_shows_every_line_whole() {
    let (broker, _data) = started(&[]);
    let mut terminal = Terminal::open_with_size(broker.command(&["info"]), 40, 60);
    terminal.wait_for("result ttl");
    let (code, seen) = terminal.end();
    assert_eq!(code, Some(0), "{seen}");
    assert!(!seen.contains('…'), "{seen}");
}

#[test]
#[allow(clippy::print_stderr, reason = "a test that was skipped says so")]
fn a_low_disk_is_told_before_a_submit_is_refused() {
    let (broker, _data) = started(&["--disk-reserve", "1TiB"]);
    let info = info(&broker);
    if info["disk_free_bytes"].as_u64().expect("bytes")
        >= info["disk_low_bytes"].as_u64().expect("bytes")
    {
        return eprintln!("SKIPPED: the disk has more room than the largest reserve");
    }
    assert_eq!(info["disk_is_low"], true, "{info}");
    let output = broker.run(&["info"]);
    assert!(output.stdout.contains(": low, no new tasks\n"), "{output:?}");
    assert_eq!(broker.run(&["submit", "a"]).code, Some(9));
}

#[test]
fn the_room_is_what_the_journal_leaves() {
    let (broker, _data) = started(&[]);
    broker.run(&["submit", "songs.cluster"]);
    // The figures may be a second old.
    let info = loop {
        let info = info(&broker);
        if info["live_bytes"].as_u64() > Some(0) {
            break info;
        }
    };
    let bytes = |field: &str| info[field].as_u64().unwrap_or_else(|| panic!("{field}: {info}"));
    let free = bytes("disk_free_bytes") + bytes("reusable_bytes");
    let to_move = free - bytes("usable_bytes");
    assert!(to_move > 0 && to_move < (1 << 20), "{to_move} of {info}");
}

#[test]
fn a_wrong_token_and_no_broker_end_as_with_every_command() {
    let data = TempDir::new().expect("a folder");
    let mut serve = celeriac(&["serve", "--listen", "127.0.0.1:0", "--log", "error", "--data"]);
    serve.arg(data.path()).env("CELERIAC_TOKEN", "s3cret");
    let broker = Broker::ready(serve);
    for command in ["info", "status"] {
        let refused = broker.run(&[command]);
        assert_eq!((refused.code, refused.stderr.lines().count()), (Some(8), 1), "{refused:?}");
        let allowed = finish(broker.command(&[command]).env("CELERIAC_TOKEN", "s3cret"), "");
        assert_eq!(allowed.code, Some(0), "{allowed:?}");
        let nobody = run(&[command, "--url", "127.0.0.1:1", "--timeout", "2"]);
        assert_eq!(nobody.code, Some(3), "{nobody:?}");
    }
}

#[test]
fn a_broker_that_does_not_know_the_request_is_called_older() {
    let address = older_broker(UNSUPPORTED);
    for command in ["info", "status"] {
        let output = run(&[command, "--url", &address, "--json"]);
        assert_eq!((output.code, output.stdout.as_str()), (Some(1), ""), "{output:?}");
        assert!(output.stderr.contains("the broker is older than this command"), "{output:?}");
    }
}
