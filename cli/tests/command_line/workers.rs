//! `workers`: the list of the workers, and the orders to them.

use celeriac_proto::wire::{self, order::Kind, task_report::Report};
use tempfile::TempDir;

use crate::process::{Broker, documents};
use crate::worker::Worker;

fn started() -> (Broker, Worker, TempDir) {
    let data = TempDir::new().expect("a folder");
    let broker = Broker::start(data.path(), &[]);
    let worker = Worker::connect(&broker, "songs.cluster");
    (broker, worker, data)
}

#[test]
fn workers_are_listed_with_the_tasks_that_they_run() {
    let (broker, mut worker, _data) = started();
    assert!(
        broker.run(&["workers"]).stdout.contains("worker-1  idle       0/1"),
        "{:?}",
        broker.run(&["workers"])
    );
    broker.run(&["submit", "songs.cluster", "--id", "a"]);
    let delivery = worker.receive();
    worker.report(&delivery, Report::Started(wire::Started {}));
    let listed = documents(&broker.run(&["workers", "list", "--json"]).stdout).remove(0);
    assert_eq!(
        (&listed["instance_id"], &listed["concurrency"]),
        (&"worker-1".into(), &1.into()),
        "{listed}"
    );
    assert_eq!(
        (&listed["running"][0]["id"], &listed["running"][0]["state"]),
        (&"a".into(), &"STARTED".into())
    );
    assert_eq!(listed["task_names"], serde_json::json!(["songs.cluster"]));
    let details = broker.run(&["workers", "list", "worker-1"]).stdout;
    assert!(
        details.contains("tasks      songs.cluster") && details.contains("STARTED"),
        "{details}"
    );
    let unknown = broker.run(&["workers", "list", "nobody"]);
    assert_eq!(
        (unknown.code, unknown.stderr.as_str()),
        (Some(4), "celeriac: no worker nobody\n"),
        "{unknown:?}"
    );
}

#[test]
fn orders_reach_the_workers_that_were_named() {
    let (broker, mut worker, _data) = started();
    let quiet = broker.run(&["workers", "quiet", "worker-1", "--json"]);
    let document = serde_json::json!({"instance_id": "worker-1", "order": "quiet"});
    assert_eq!(documents(&quiet.stdout), [document], "{quiet:?}");
    assert_eq!(worker.receive_order(), Kind::Quiet);
    assert!(broker.run(&["workers"]).stdout.contains("quiet"));
    // One of the named workers is not connected, so no worker gets the order.
    assert_eq!(broker.run(&["workers", "shutdown", "worker-1", "nobody", "--yes"]).code, Some(4));
    assert_eq!(
        broker.run(&["workers", "resume", "--all"]).stdout,
        "worker-1  was told to take tasks again\n"
    );
    assert_eq!(worker.receive_order(), Kind::Resume);
    assert_eq!(broker.run(&["workers", "shutdown", "--all", "--yes"]).code, Some(0));
    assert_eq!(worker.receive_order(), Kind::Shutdown);
}
