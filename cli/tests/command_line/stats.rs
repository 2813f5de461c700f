//! `stats`: the counters of queues and of the broker.

use std::fs;

use serde_json::Value;
use tempfile::TempDir;

use crate::older_broker::{UNSUPPORTED, older_broker};
use crate::process::{Broker, documents, run};
use crate::worker::Worker;

fn started(more: &[&str]) -> (Broker, TempDir) {
    let data = TempDir::new().expect("a folder");
    (Broker::start(data.path(), more), data)
}

fn sum(histogram: &Value) -> u64 {
    let counts = histogram["counts"].as_array().expect("counts");
    assert_eq!(counts.len(), histogram["bounds_us"].as_array().expect("bounds").len() + 1);
    counts.iter().map(|count| count.as_u64().expect("a number")).sum()
}

#[test]
fn programs_read_what_a_queue_has_counted() {
    let (broker, _data) = started(&[]);
    let mut worker = Worker::connect(&broker, "songs.cluster");
    broker.run(&["submit", "songs.cluster", "--id", "a"]);
    broker.run(&["submit", "nobody", "--id", "b"]);
    broker.run(&["submit", "nobody", "--id", "c", "--countdown", "1h"]);
    broker.run(&["cancel", "c"]);
    worker.fail("ValueError", "no song");
    let queues = documents(&broker.run(&["stats", "--json"]).stdout);
    let [queue] = &queues[..] else { panic!("one queue: {queues:?}") };
    let expected = serde_json::json!({
        "queue": "default",
        "paused": false,
        "scheduled": 0,
        "ready": 1,
        "leased": 0,
        "started": 0,
        "dead": 1,
        "workers": 1,
        "slots_busy": 0,
        "waiting_no_worker": 1,
        "submitted_total": 3,
        "succeeded_total": 0,
        "failed_total": 1,
        "revoked_total": 1,
        "deliveries_total": 1,
    });
    for (field, value) in expected.as_object().expect("an object") {
        assert_eq!(&queue[field], value, "{field} of {queue}");
    }
    assert_eq!((sum(&queue["wait"]), sum(&queue["run"])), (1, 1), "{queue}");
}

#[test]
fn the_broker_counts_whom_and_what_it_refused_and_its_commits() {
    let folder = TempDir::new().expect("a folder");
    let token = folder.path().join("token");
    fs::write(&token, "the-token-of-this-test\n").expect("it is written");
    let token = token.to_str().expect("text");
    let (broker, _data) = started(&["--token-file", token]);
    let as_client = |more: &[&str]| broker.run(&[more, &["--token-file", token]].concat());
    let wrong = folder.path().join("wrong");
    fs::write(&wrong, "another-token\n").expect("it is written");
    assert_eq!(broker.run(&["queues"]).code, Some(8));
    broker.run(&["queues", "--token-file", wrong.to_str().expect("text")]);
    as_client(&["queues", "set", "full", "--tasks-max", "0"]);
    as_client(&["submit", "songs.cluster", "--queue", "full"]);
    as_client(&["submit", "songs.cluster"]);
    let output = as_client(&["stats", "--broker", "--json"]);
    let broker = documents(&output.stdout).remove(0);
    let expected = serde_json::json!(
        {"token_missing": 1, "token_wrong": 1, "certificate": 0, "handshake": 0}
    );
    assert_eq!(broker["not_let_in_total"], expected, "{broker}");
    let expected = serde_json::json!({"unauthenticated": 2, "queue_full": 1});
    assert_eq!(broker["refused_total"], expected, "{broker}");
    assert!(sum(&broker["commit"]) >= 2, "{broker}");
    assert_eq!(broker["tasks"], 1, "{broker}");
    assert!(broker["open_files"].as_u64().expect("Linux tells") > 3, "{broker}");
    assert!(broker["certificate_expires_at_ms"].is_null(), "{broker}");
}

#[test]
fn people_see_a_table_and_one_queue_in_full() {
    let (broker, _data) = started(&[]);
    broker.run(&["submit", "songs.cluster", "--queue", "songs"]);
    let table = broker.run(&["stats"]).stdout;
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("QUEUE") && lines.len() == 3, "{table}");
    let details = broker.run(&["stats", "songs"]).stdout;
    assert!(details.lines().any(|line| line.starts_with("unserved") && line.ends_with('1')));
    let absent = broker.run(&["stats", "nothing"]);
    assert_eq!((absent.code, absent.stdout.as_str()), (Some(4), ""), "{absent:?}");
    let about = broker.run(&["stats", "--broker"]).stdout;
    assert!(about.contains("not let in") && about.contains("open files"), "{about}");
}

#[test]
fn an_older_broker_is_named() {
    let address = older_broker(UNSUPPORTED);
    let output = run(&["stats", "--url", &address]);
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.stderr.contains("older than this command"), "{output:?}");
}
