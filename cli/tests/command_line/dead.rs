//! The subcommands of `dead`: list, show, replay, discard.

use celeriac_proto::wire::{self, task_report::Report};
use tempfile::TempDir;

use crate::process::{Broker, documents};
use crate::worker::Worker;

/// A broker with a worker and three dead tasks: a and b have the tag x, c has the tag y.
fn with_dead_tasks() -> (Broker, Worker, TempDir) {
    let data = TempDir::new().expect("a folder");
    let broker = Broker::start(data.path(), &[]);
    let mut worker = Worker::connect(&broker, "songs.cluster");
    for (id, tag) in [("a", "x"), ("b", "x"), ("c", "y")] {
        assert_eq!(
            broker.run(&["submit", "songs.cluster", "--id", id, "--tag", tag]).code,
            Some(0)
        );
        worker.fail("ValueError", "no song");
    }
    (broker, worker, data)
}

fn state(broker: &Broker, id: &str) -> String {
    documents(&broker.run(&["status", id, "--json"]).stdout)[0]["state"]
        .as_str()
        .expect("a state")
        .to_owned()
}

#[test]
fn dead_tasks_are_listed_and_shown_with_their_errors() {
    let (broker, _worker, _data) = with_dead_tasks();
    broker.run(&["submit", "songs.other", "--id", "alive"]);
    let table = broker.run(&["dead", "list"]).stdout;
    assert_eq!(table.lines().count(), 4, "{table}");
    assert!(table.lines().skip(1).all(|line| line.ends_with("  ValueError: no song")), "{table}");
    let tagged = documents(&broker.run(&["dead", "list", "--tag", "y", "--json"]).stdout);
    assert_eq!((tagged.len(), &tagged[0]["id"]), (1, &"c".into()));

    let shown = broker.run(&["dead", "show", "a"]);
    assert_eq!(
        (shown.code, shown.stdout.contains("    at songs.py:7\n")),
        (Some(0), true),
        "{shown:?}"
    );
    let alive = broker.run(&["dead", "show", "alive"]);
    let sentence = "celeriac: task alive is not dead, it is QUEUED\n";
    assert_eq!((alive.code, alive.stderr.as_str()), (Some(4), sentence), "{alive:?}");
    assert_eq!(broker.run(&["dead", "show", "nobody"]).code, Some(4));
}

#[test]
fn a_replayed_task_runs_again_as_its_next_generation() {
    let (broker, mut worker, _data) = with_dead_tasks();
    let replayed = broker.run(&["dead", "replay", "a"]);
    assert_eq!(
        (replayed.code, replayed.stdout.as_str()),
        (Some(0), "1 replayed\n"),
        "{replayed:?}"
    );
    worker.complete(b"7", "");
    let task = documents(&broker.run(&["result", "a", "--wait", "--json"]).stdout).remove(0);
    assert_eq!((&task["result"], &task["generation"]), (&7.into(), &2.into()), "{task}");

    let some = broker.run(&["dead", "replay", "b", "b", "nobody", "--json"]);
    assert_eq!(
        (some.code, some.stderr.as_str()),
        (Some(4), "celeriac: 1 of 2 ids name no dead task\n"),
        "{some:?}"
    );
    assert_eq!(documents(&some.stdout)[0], serde_json::json!({"outcome": "replayed", "count": 1}));
}

#[test]
fn dead_tasks_are_replayed_by_a_filter() {
    let (broker, _worker, _data) = with_dead_tasks();
    assert_eq!(broker.run(&["dead", "replay", "--tag", "nothing"]).stdout, "0 replayed\n");
    assert_eq!(
        broker.run(&["dead", "replay", "--tag", "x", "--older-than", "1h"]).stdout,
        "0 replayed\n"
    );
    assert_eq!(broker.run(&["dead", "replay", "--tag", "x"]).stdout, "2 replayed\n");
    assert_eq!(state(&broker, "c"), "FAILURE");
    assert_eq!(broker.run(&["dead", "replay", "--all"]).stdout, "1 replayed\n");
    assert_eq!(broker.run(&["dead", "list", "--json"]).stdout, "");
}

#[test]
fn discarded_tasks_are_gone() {
    let (broker, _worker, _data) = with_dead_tasks();
    assert_eq!(broker.run(&["dead", "discard", "a", "--yes"]).stdout, "1 discarded\n");
    assert_eq!(
        (state(&broker, "a"), state(&broker, "b")),
        ("UNKNOWN".to_owned(), "FAILURE".to_owned())
    );
    assert_eq!(broker.run(&["dead", "discard", "--tag", "y", "--yes"]).stdout, "1 discarded\n");
    assert_eq!(broker.run(&["dead", "discard", "--all", "--yes"]).stdout, "1 discarded\n");
    assert_eq!(broker.run(&["dead", "list", "--json"]).stdout, "");
}

#[test]
fn a_task_that_reached_its_limit_of_deliveries_says_how_many_there_were() {
    let data = TempDir::new().expect("a folder");
    let broker = Broker::start(data.path(), &[]);
    let mut worker = Worker::connect(&broker, "songs.cluster");
    let submitted = broker.run(&["submit", "songs.cluster", "--id", "a", "--max-deliveries", "1"]);
    assert_eq!(submitted.code, Some(0), "{submitted:?}");
    let delivery = worker.receive();
    worker.report(&delivery, Report::Started(wire::Started {}));
    worker.report(&delivery, Report::Release(wire::Release { lost: true, ..Default::default() }));
    let sentence = "workers were lost with this task too often: 1 of 1 delivery without an outcome";
    for command in [&["show", "a"][..], &["dead", "show", "a"], &["status", "a"]] {
        let shown = broker.run(command).stdout;
        assert!(shown.contains(sentence), "{shown}");
    }
    let result = broker.run(&["result", "a"]);
    assert!(result.code == Some(5) && result.stderr.contains(sentence), "{result:?}");
}
