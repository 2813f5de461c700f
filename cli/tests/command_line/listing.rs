//! `tasks`, `show`, and a `cancel` of many tasks.

use celeriac_client::{Client, Submission};
use celeriac_proto::wire::{self, task_report::Report};
use tempfile::TempDir;

use crate::older_broker::older_broker;
use crate::process::{Broker, documents, run};
use crate::worker::Worker;

fn started() -> (Broker, TempDir) {
    let data = TempDir::new().expect("a folder");
    (Broker::start(data.path(), &[]), data)
}

/// Submits tasks with the client, because the command line has no flags for a root, a parent, or
/// many tasks at once.
fn submit_all(broker: &Broker, submissions: Vec<Submission>) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("starts");
    runtime.block_on(async {
        let client =
            Client::connect(&format!("celeriac://{}", broker.address)).await.expect("connected");
        let outcomes = client.submit_many(submissions).await.expect("answered");
        assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
        client.close().await;
    });
}

fn ids(broker: &Broker, arguments: &[&str]) -> Vec<String> {
    let output = broker.run(&[&["tasks", "--json"], arguments].concat());
    assert_eq!(output.code, Some(0), "{output:?}");
    documents(&output.stdout)
        .iter()
        .map(|task| task["id"].as_str().expect("an id").to_owned())
        .collect()
}

#[test]
fn each_filter_finds_its_tasks() {
    let (broker, _data) = started();
    broker.run(&["submit", "songs.cluster", "--id", "a-1", "--queue", "songs", "--tag", "x"]);
    broker.run(&["submit", "songs.cluster", "--id", "a-2", "--countdown", "1h"]);
    broker.run(&["submit", "mail.send", "--id", "b-1", "--tag", "x", "--tag", "y"]);
    submit_all(
        &broker,
        vec![Submission::new("songs.part").task_id("c-1").root_id("a-1").parent_id("a-1")],
    );
    for (arguments, found) in [
        ([].as_slice(), ["a-1", "a-2", "b-1", "c-1"].as_slice()),
        (&["--queue", "songs"], &["a-1"]),
        (&["--queue", "none-of-this-name"], &[]),
        (&["--state", "scheduled"], &["a-2"]),
        (&["--state", "SCHEDULED", "--state", "queued"], &["a-1", "a-2", "b-1", "c-1"]),
        (&["--name", "songs.cluster"], &["a-1", "a-2"]),
        (&["--tag", "x"], &["a-1", "b-1"]),
        (&["--tag", "x", "--id-prefix", "b"], &["b-1"]),
        (&["--root", "a-1"], &["c-1"]),
        (&["--older-than", "1h"], &[]),
        (&["--newer-than", "1h"], &["a-1", "a-2", "b-1", "c-1"]),
    ] {
        let mut listed = ids(&broker, arguments);
        listed.sort();
        assert_eq!(listed, found, "{arguments:?}");
    }
    let table = broker.run(&["tasks", "--tag", "y"]);
    assert!(table.stdout.starts_with("ID ") && table.stdout.lines().count() == 2, "{table:?}");
}

#[test]
fn a_listing_goes_on_over_its_pages() {
    let (broker, _data) = started();
    submit_all(
        &broker,
        (0..1_100).map(|n| Submission::new("n").task_id(format!("{n:04}"))).collect(),
    );
    assert_eq!(ids(&broker, &[]).len(), 100);
    assert_eq!(ids(&broker, &["--limit", "1050"]).len(), 1_050);
    let table = broker.run(&["tasks", "--all"]).stdout;
    assert_eq!(table.lines().filter(|line| line.starts_with("ID ")).count(), 1);
    let mut all = ids(&broker, &["--all"]);
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 1_100);
    broker.run(&["submit", "n", "--id", "newest"]);
    for arguments in [
        ["--limit", "1", "--sort", "newest"].as_slice(),
        &["--limit", "1", "--newer-than", "1h"],
        &["--limit", "1", "--older-than", "0s"],
        &["--limit", "1", "--sort", "oldest", "--id-prefix", "new"],
    ] {
        assert_eq!(ids(&broker, arguments), ["newest"], "{arguments:?}");
    }
    // These tasks were submitted within a moment, and are listed in their order all the same.
    assert_eq!(ids(&broker, &["--limit", "3"]), ["newest", "1099", "1098"]);
    for limit in ["1050", "5000", "20000"] {
        let listed = ids(&broker, &["--limit", limit]);
        let expected = limit.parse::<usize>().expect("a number").min(1_101);
        assert_eq!((listed[0].as_str(), listed.len()), ("newest", expected));
    }
    let cut = broker.run(&["tasks", "--limit", "2"]);
    assert!(cut.stdout.lines().count() == 3 && cut.stderr.contains("--all shows them"), "{cut:?}");
    let whole = broker.run(&["tasks", "--limit", "1101"]);
    assert_eq!(whole.stderr, "", "nothing is left out");
}

#[test]
fn a_listing_begins_with_the_newest_or_as_it_is_asked_to() {
    let (broker, _data) = started();
    for (id, queue) in [("b", "songs"), ("c", "mail"), ("a", "songs")] {
        broker.run(&["submit", "songs.cluster", "--id", id, "--queue", queue]);
        // The next task is at least a millisecond younger.
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    for (arguments, found) in [
        ([].as_slice(), ["a", "c", "b"].as_slice()),
        (&["--limit", "1"], &["a"]),
        (&["--sort", "oldest", "--limit", "2"], &["b", "c"]),
        (&["--sort", "id"], &["a", "b", "c"]),
        (&["--sort", "queue"], &["c", "a", "b"]),
        (&["--sort", "none"], &["b", "c", "a"]),
        (&["--all"], &["b", "c", "a"]),
        (&["--all", "--sort", "newest"], &["a", "c", "b"]),
    ] {
        assert_eq!(ids(&broker, arguments), found, "{arguments:?}");
    }
    let table = broker.run(&["tasks", "--columns", "queue,id", "--sort", "id"]).stdout;
    assert_eq!(table, "QUEUE  ID\nsongs  a\nsongs  b\nmail   c\n");
    let wrong = broker.run(&["tasks", "--columns", "colour"]);
    assert_eq!(wrong.code, Some(2), "{wrong:?}");
}

#[test]
fn an_older_broker_has_no_order_and_the_command_sorts() {
    // The tasks b, submitted at 1, and a, submitted at 2.
    const PAGE: &[u8] = &[
        0xaa, 0x04, 20, 10, 8, 10, 1, b'b', 24, 1, 128, 1, 1, 10, 8, 10, 1, b'a', 24, 1, 128, 1, 2,
    ];
    let output = run(&["tasks", "--json", "--url", &older_broker(PAGE)]);
    assert_eq!(output.code, Some(0), "{output:?}");
    let listed = documents(&output.stdout);
    assert_eq!((&listed[0]["id"], &listed[1]["id"]), (&"a".into(), &"b".into()), "{output:?}");
}

#[test]
fn the_history_of_a_task_has_its_attempts_with_their_tracebacks() {
    let (broker, _data) = started();
    let mut worker = Worker::connect(&broker, "songs.cluster");
    broker.run(&["submit", "songs.cluster", "--id", "a", "--tag", "x", "--header", "k=v"]);
    let child = Submission::new("songs.part").task_id("child").root_id("a").parent_id("a");
    submit_all(&broker, vec![child]);
    let delivery = worker.receive();
    worker.report(&delivery, Report::Started(wire::Started {}));
    let meta = "{\"percent\":40}".into();
    worker.report(
        &delivery,
        Report::Progress(wire::ProgressReport { state: "DECODING".to_owned(), meta }),
    );
    let traceback = "at songs.py:7\n  decode(\u{1b}[2J)".to_owned();
    let kind = "ValueError".to_owned();
    let error =
        wire::TaskError { kind, message: "no song".to_owned(), traceback, ..Default::default() };
    worker.report(
        &delivery,
        Report::Fail(wire::Fail { error: Some(error), r#final: true, ..Default::default() }),
    );

    let shown = broker.run(&["show", "a"]);
    assert_eq!(shown.code, Some(0), "{shown:?}");
    for text in [
        "FAILURE",
        "header      k=v",
        "started on worker-1",
        "DECODING {\"percent\":40}",
        "attempt 1: ValueError: no song",
        "    at songs.py:7\n      decode(\\u{1b}[2J)\n",
        "ended as FAILURE",
        "SUBMITTED BY THIS TASK",
        "child",
    ] {
        assert!(shown.stdout.contains(text), "{text}: {}", shown.stdout);
    }
    let document = documents(&broker.run(&["show", "a", "--json"]).stdout).remove(0);
    assert_eq!(document["children"], serde_json::json!(["child"]));
    assert_eq!(document["errors"][0]["kind"], "ValueError");
    assert_eq!(broker.run(&["show", "child", "--json"]).code, Some(0));
    let unknown = broker.run(&["show", "nobody"]);
    assert_eq!((unknown.code, unknown.stdout.contains("UNKNOWN")), (Some(4), true), "{unknown:?}");
}

#[test]
fn a_history_says_where_each_attempt_ran_and_when_it_was_asked_to_stop() {
    let data = TempDir::new().expect("a folder");
    let broker = Broker::start(data.path(), &["--heartbeat", "1s", "--lease", "4s"]);
    broker.run(&["submit", "songs.cluster", "--id", "a"]);
    let start = |worker: &mut Worker| {
        let delivery = worker.receive();
        worker.report(&delivery, Report::Started(wire::Started {}));
        delivery
    };
    let mut first = Worker::connect_as(&broker, "first", "songs.cluster");
    let delivery = start(&mut first);
    first.report(&delivery, Report::Release(wire::Release { lost: true, ..Default::default() }));
    drop(first);
    let mut second = Worker::connect_as(&broker, "second", "songs.cluster");
    start(&mut second);
    let before = broker.run(&["show", "a", "--json"]);
    assert!(documents(&before.stdout)[0]["cancel_requested_at_ms"].is_null(), "{before:?}");
    let document = |broker: &Broker| {
        let output = broker.run(&["show", "a", "--json"]);
        documents(&output.stdout).remove(0)
    };
    assert_eq!(broker.run(&["cancel", "a"]).code, Some(0));
    let asked = document(&broker);
    assert_eq!(broker.run(&["cancel", "a"]).code, Some(0));
    assert_eq!(document(&broker)["cancel_requested_at_ms"], asked["cancel_requested_at_ms"]);
    let ms = |value: &serde_json::Value| value.as_i64().unwrap_or_else(|| panic!("{asked}"));
    let lost = &asked["errors"][0];
    assert_eq!((&lost["kind"], &lost["worker"]), (&"worker_lost".into(), &"first".into()));
    let times = [
        &asked["submitted_at_ms"],
        &lost["leased_at_ms"],
        &lost["started_at_ms"],
        &lost["at_ms"],
        &asked["leased_at_ms"],
        &asked["started_at_ms"],
        &asked["cancel_requested_at_ms"],
    ];
    assert!(times.map(ms).is_sorted(), "{asked}");
    assert_eq!((ms(&asked["deliveries"]), ms(&asked["deliveries_max"])), (2, 20), "{asked}");

    // A restart keeps all of it.
    assert_eq!(broker.stop("KILL").code, None);
    let broker = Broker::start(data.path(), &[]);
    let again = document(&broker);
    for field in ["errors", "cancel_requested_at_ms", "leased_at_ms", "deliveries_max"] {
        assert_eq!(again[field], asked[field], "{field}");
    }
    let shown = broker.run(&["show", "a"]).stdout;
    let history = shown.split("HISTORY\n").nth(1).expect("a history");
    let events: Vec<&str> = history
        .lines()
        .take_while(|line| !line.is_empty())
        .map(|line| line.split("ago  ").nth(1).expect("an event").trim_start())
        .collect();
    let expected = [
        "submitted",
        "handed to first",
        "started on first",
        "failed: attempt 1: worker_lost: the process of the handler on first died",
        "handed to second",
        "started on second",
        "asked to stop",
    ];
    assert_eq!(events, expected, "{shown}");
    assert!(shown.contains("cancel      it runs and was asked to stop — 20"), "{shown}");
    assert!(shown.contains("deliveries  1 of 20 without an outcome"), "{shown}");
}

#[test]
fn a_history_ends_with_the_result() {
    let (broker, _data) = started();
    let mut worker = Worker::connect(&broker, "songs.cluster");
    broker.run(&["submit", "songs.cluster", "--id", "a"]);
    worker.complete(b"{\"bpm\":114}", "");
    let shown = broker.run(&["show", "a"]);
    assert!(shown.stdout.ends_with("RESULT\n  {\"bpm\":114}\n"), "{shown:?}");
}

#[test]
fn many_tasks_are_cancelled_by_tag_and_by_root() {
    let (broker, _data) = started();
    for id in ["a", "b"] {
        broker.run(&["submit", "songs.cluster", "--id", id, "--tag", "x"]);
    }
    broker.run(&["submit", "songs.cluster", "--id", "root"]);
    submit_all(
        &broker,
        vec![Submission::new("songs.part").task_id("child").root_id("root").parent_id("root")],
    );
    let cancelled = |arguments: &[&str]| {
        let output = broker.run(&[&["cancel", "--yes", "--json"], arguments].concat());
        assert_eq!(output.code, Some(0), "{output:?}");
        let outcome =
            |document: &serde_json::Value| format!("{} {}", document["id"], document["outcome"]);
        documents(&output.stdout).iter().map(outcome).collect::<Vec<_>>()
    };
    assert_eq!(cancelled(&["--tag", "x"]), ["\"a\" \"revoked\"", "\"b\" \"revoked\""]);
    assert_eq!(cancelled(&["--root", "root"]), ["\"root\" \"revoked\"", "\"child\" \"revoked\""]);
    assert_eq!(cancelled(&["--tag", "x"]), [""; 0]);
    assert_eq!(
        broker.run(&["cancel", "--yes", "--tag", "x"]).stdout,
        "no unfinished task matches\n"
    );
    assert_eq!(broker.run(&["status", "child", "--json"]).stdout.matches("REVOKED").count(), 1);
}

#[test]
fn the_tasks_that_ended_last_come_first_and_unfinished_ones_at_the_end() {
    let (broker, _data) = started();
    for id in ["a", "b", "c", "d"] {
        assert_eq!(broker.run(&["submit", "n", "--id", id]).code, Some(0));
    }
    for id in ["c", "a"] {
        assert_eq!(broker.run(&["cancel", id]).code, Some(0));
        // The ends are a millisecond apart at least, which is the unit of their times.
        let ended = std::time::Instant::now();
        while ended.elapsed() < std::time::Duration::from_millis(2) {
            std::thread::yield_now();
        }
    }
    let listed = |arguments: &[&str]| {
        let sorted = ["tasks", "--sort", "ended", "--columns", "id"];
        let listed = broker.run(&[&sorted[..], arguments].concat());
        assert_eq!(listed.code, Some(0), "{listed:?}");
        let ids: Vec<String> = listed.stdout.lines().skip(1).map(str::to_owned).collect();
        (ids.join(" "), listed.stderr.contains("there are more tasks"))
    };
    assert_eq!(listed(&["--limit", "1"]), ("a".to_owned(), true));
    assert_eq!(listed(&["--limit", "2"]), ("a c".to_owned(), true));
    assert_eq!(listed(&["--limit", "3"]), ("a c d".to_owned(), true));
    assert_eq!(listed(&[]), ("a c d b".to_owned(), false));
    assert_eq!(listed(&["--state", "revoked"]), ("a c".to_owned(), false));
    assert_eq!(listed(&["--state", "revoked", "--limit", "1"]), ("a".to_owned(), true));
    assert_eq!(listed(&["--id-prefix", "c"]), ("c".to_owned(), false));
}
