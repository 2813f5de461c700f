//! `top` without a terminal: frames one below the other. `terminal.rs` tests it on a terminal.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use tempfile::TempDir;

use crate::process::{Broker, documents, within_deadline};
use crate::worker::Worker;

#[test]
fn one_frame_has_queues_workers_and_rates() {
    let data = TempDir::new().expect("a folder");
    let broker = Broker::start(data.path(), &[]);
    let _worker = Worker::connect(&broker, "songs.cluster");
    broker.run(&["submit", "songs.cluster", "--queue", "songs"]);
    let frame = broker.run(&["top", "--once"]);
    assert_eq!(frame.code, Some(0), "{frame:?}");
    for text in ["in 0.0/s", "ready 1", "workers 1", "QUEUE ", "songs ", "WORKER ", "worker-1 "] {
        assert!(frame.stdout.contains(text), "{text}: {}", frame.stdout);
    }
    let document = documents(&broker.run(&["top", "--once", "--json"]).stdout).remove(0);
    let queues = document["queues"].as_array().expect("a list");
    let songs = queues.iter().find(|queue| queue["queue"] == "songs").expect("it was made");
    assert_eq!(
        (&songs["ready"], &document["workers"][0]["instance_id"]),
        (&1.into(), &"worker-1".into()),
        "{document}"
    );
}

#[test]
fn rates_count_the_tasks_between_two_frames() {
    let data = TempDir::new().expect("a folder");
    let broker = Broker::start(data.path(), &[]);
    let mut child = broker
        .command(&["top", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut frames = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut next = move || documents(&frames.next().expect("a frame").expect("text")).remove(0);
    next();
    assert_eq!(broker.run(&["submit", "songs.cluster"]).code, Some(0));
    let moved = within_deadline(move || {
        // The first frame after the submit has a rate above 0, and the next one has not.
        let rates =
            std::iter::repeat_with(|| next()["submitted_per_second"].as_f64().expect("a rate"));
        let rates: Vec<f64> = rates.skip_while(|rate| *rate == 0.0).take(2).collect();
        rates
    });
    assert!(moved[0] > 0.1 && moved[1] == 0.0, "{moved:?}");
    // The command runs until it is ended.
    assert!(child.try_wait().expect("asked").is_none());
    child.kill().expect("killed");
    child.wait().expect("gone");
}
