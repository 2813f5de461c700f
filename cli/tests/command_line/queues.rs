//! The subcommands of `queues`: pause, resume, purge, delete, set.

use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Broker, documents};
use crate::worker::Worker;

fn started() -> (Broker, TempDir) {
    let data = TempDir::new().expect("a folder");
    (Broker::start(data.path(), &[]), data)
}

fn queue(broker: &Broker, name: &str) -> Value {
    documents(&broker.run(&["queues", name, "--json"]).stdout).remove(0)
}

#[test]
fn a_paused_queue_stays_paused_until_it_is_resumed() {
    let (broker, data) = started();
    broker.run(&["submit", "songs.cluster", "--id", "a", "--queue", "songs"]);
    let paused = broker.run(&["queues", "pause", "--create", "songs", "mail"]);
    assert_eq!(
        (paused.code, paused.stdout.as_str()),
        (Some(0), "songs  paused\nmail  paused\n"),
        "{paused:?}"
    );
    assert!(broker.run(&["queues", "songs"]).stdout.contains("paused"));
    assert_eq!(
        documents(&broker.run(&["status", "a", "--json"]).stdout)[0]["waiting_for"],
        "queue"
    );
    assert_eq!(broker.stop("TERM").code, Some(0));

    let broker = Broker::start(data.path(), &[]);
    assert_eq!(queue(&broker, "songs")["paused"], true);
    let resumed = broker.run(&["queues", "resume", "songs", "--json"]);
    assert_eq!(documents(&resumed.stdout)[0]["outcome"], "resumed", "{resumed:?}");
    assert_eq!(
        (&queue(&broker, "songs")["paused"], &queue(&broker, "mail")["paused"]),
        (&false.into(), &true.into())
    );
}

#[test]
fn settings_without_a_flag_stay_and_none_clears_them() {
    let (broker, _data) = started();
    let set = |arguments: &[&str]| {
        let output = broker.run(&[&["queues", "set", "songs", "--json"], arguments].concat());
        assert_eq!(output.code, Some(0), "{output:?}");
        documents(&output.stdout).remove(0)
    };
    set(&["--tasks-max", "1", "--expires", "1h"]);
    let settings = set(&["--bytes-max", "1000", "--result-ttl", "2h"]);
    for document in [&settings, &queue(&broker, "songs")] {
        assert_eq!((&document["tasks_max"], &document["bytes_max"]), (&1.into(), &1000.into()));
        assert_eq!(
            (&document["expires_in_ms"], &document["result_ttl_ms"]),
            (&3_600_000.into(), &7_200_000.into())
        );
    }
    assert_eq!(broker.run(&["submit", "songs.cluster", "--queue", "songs"]).code, Some(0));
    assert!(broker.run(&["queues", "songs"]).stdout.contains("no worker"));
    let full = broker.run(&["submit", "songs.cluster", "--queue", "songs"]);
    assert_eq!(full.code, Some(9), "{full:?}");
    assert_eq!(set(&["--tasks-max", "none"])["tasks_max"], Value::Null);
    assert_eq!(broker.run(&["submit", "songs.cluster", "--queue", "songs"]).code, Some(0));
    let text = broker.run(&["queues", "set", "songs", "--expires", "none"]).stdout;
    assert!(text.contains("expires     none") && text.contains("result ttl  2h"), "{text}");
}

#[test]
fn a_purge_revokes_the_waiting_tasks_and_counts_them() {
    let (broker, _data) = started();
    broker.run(&["submit", "songs.cluster", "--id", "a"]);
    broker.run(&["submit", "songs.cluster", "--id", "b", "--countdown", "1h"]);
    let purged = broker.run(&["queues", "purge", "default", "--yes"]);
    assert_eq!(purged.stdout, "default  purged, 2 waiting tasks revoked\n", "{purged:?}");
    assert_eq!(broker.run(&["result", "a"]).code, Some(6));
    let again = broker.run(&["queues", "purge", "default", "--yes", "--json"]);
    let document = serde_json::json!({"queue": "default", "outcome": "purged", "revoked": 0});
    assert_eq!(documents(&again.stdout), [document]);
    let unknown = broker.run(&["queues", "purge", "none-of-this-name", "--yes"]);
    assert_eq!(
        (unknown.code, unknown.stderr.as_str()),
        (Some(4), "celeriac: no queue none-of-this-name\n")
    );
}

#[test]
fn a_queue_is_deleted_only_when_no_task_of_it_runs() {
    let (broker, _data) = started();
    let mut worker = Worker::connect(&broker, "songs.cluster");
    broker.run(&["submit", "songs.cluster"]);
    let delivery = worker.receive();
    let started = celeriac_proto::wire::Started::default();
    worker.report(&delivery, celeriac_proto::wire::task_report::Report::Started(started));
    let refused = broker.run(&["queues", "delete", "default", "--yes"]);
    assert_eq!((refused.code, refused.stderr.lines().count()), (Some(7), 1), "{refused:?}");
    let reject = celeriac_proto::wire::Reject::default();
    worker.report(&delivery, celeriac_proto::wire::task_report::Report::Reject(reject));
    let deleted = broker.run(&["queues", "delete", "default", "--yes"]);
    assert_eq!(
        (deleted.code, deleted.stdout.as_str()),
        (
            Some(0),
            "default  deleted, 0 waiting tasks revoked\n\
             default is still listed: dead tasks that it keeps: 1\n"
        )
    );
    // The default queue always exists, and this one has a dead task.
    assert_eq!(queue(&broker, "default")["dead"], 1);
    broker.run(&["submit", "songs.cluster", "--queue", "songs"]);
    assert_eq!(
        broker.run(&["queues", "delete", "songs", "--yes"]).stdout,
        "songs  deleted, 1 waiting task revoked\n"
    );
    assert_eq!(broker.run(&["queues", "songs"]).code, Some(4));
}

#[test]
fn a_queue_with_the_name_of_a_subcommand_can_be_listed() {
    let (broker, _data) = started();
    broker.run(&["submit", "songs.cluster", "--queue", "purge"]);
    let listed = broker.run(&["queues", "--", "purge"]);
    assert_eq!((listed.code, listed.stdout.contains("purge")), (Some(0), true), "{listed:?}");
}
