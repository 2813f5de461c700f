//! `drain` and `log`: what an operator asks of a running broker before and during his work on it.

use std::fs;
use std::process::Stdio;

use celeriac_proto::wire::{self, task_report::Report};
use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Broker, celeriac, documents, finish, within_deadline};
use crate::terminal::Terminal;
use crate::worker::Worker;

fn started() -> (Broker, TempDir) {
    let data = TempDir::new().expect("a folder");
    (Broker::start(data.path(), &[]), data)
}

fn info(broker: &Broker) -> Value {
    documents(&broker.run(&["info", "--json"]).stdout).remove(0)
}

#[test]
fn o22_a_drain_says_what_is_left_and_ends_when_nothing_is() {
    let (broker, _data) = started();
    let mut worker = Worker::connect(&broker, "songs.cluster");
    broker.run(&["submit", "songs.cluster", "--id", "a"]);
    let delivery = worker.receive();
    worker.report(&delivery, Report::Started(wire::Started {}));
    let left = broker.run(&["drain", "--timeout", "1"]);
    assert_eq!((left.code, left.stdout.as_str()), (Some(7), ""), "{left:?}");
    let begins =
        "celeriac: the broker delivers nothing more; 1 task is still leased: a on worker-1. ";
    assert!(left.stderr.starts_with(begins), "{left:?}");
    let sentence = "\nceleriac: 1 task is still leased: a on worker-1; the drain goes on\n";
    assert!(left.stderr.ends_with(sentence) && left.stderr.lines().count() == 2, "{left:?}");
    let left = broker.run(&["drain", "--timeout", "1", "--json"]);
    assert_eq!(left.code, Some(7), "{left:?}");
    assert_eq!(left.stderr.lines().count(), 1, "{left:?}");
    let shown = serde_json::json!({
        "draining": true, "leased": 1, "running": [{"id": "a", "worker": "worker-1"}],
    });
    assert_eq!(documents(&left.stdout), [shown]);
    // Submits and reports are taken meanwhile, and nothing is delivered.
    assert_eq!(broker.run(&["submit", "songs.cluster", "--id", "b"]).code, Some(0));
    assert_eq!(info(&broker)["draining"], true);
    let shown = broker.run(&["info"]).stdout;
    assert!(shown.lines().any(|line| line.contains("draining") && line.contains("yes")), "{shown}");
    // A variable for the answers of all commands is no time to wait for the workers.
    let mut waiting = broker.command(&["drain"]);
    waiting.env("CELERIAC_TIMEOUT", "500ms").stderr(Stdio::null());
    let mut waiting = waiting.stdout(Stdio::piped()).spawn().expect("it starts");
    // This is about time itself: it is over several times.
    std::thread::sleep(std::time::Duration::from_millis(1500));
    assert!(waiting.try_wait().expect("it can be asked").is_none(), "it still waits");
    worker.report(&delivery, Report::Complete(wire::Complete::default()));
    let output = within_deadline(move || waiting.wait_with_output().expect("it can be waited for"));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "drained: no task is leased\n");
    assert_eq!(output.status.code(), Some(0));
    let status = documents(&broker.run(&["status", "b", "--json"]).stdout);
    assert_eq!(status[0]["state"], "QUEUED", "{status:?}");

    let off = broker.run(&["drain", "--off"]);
    assert_eq!((off.code, off.stderr.as_str()), (Some(0), ""), "{off:?}");
    assert_eq!(worker.receive().id, "b");
    assert_eq!(info(&broker)["draining"], false);
    let off = broker.run(&["drain", "--off", "--json"]);
    assert_eq!(off.code, Some(0), "there is none: {off:?}");
    let shown = serde_json::json!({
        "draining": false, "leased": 1, "running": [{"id": "b", "worker": "worker-1"}],
    });
    assert_eq!(documents(&off.stdout), [shown]);
}

#[test]
fn o22_a_restart_or_another_operator_ends_a_drain() {
    let (broker, data) = started();
    assert_eq!(broker.run(&["drain"]).code, Some(0));
    assert_eq!(broker.stop("TERM").code, Some(0));
    let broker = Broker::start(data.path(), &[]);
    assert_eq!(info(&broker)["draining"], false);

    let mut worker = Worker::connect(&broker, "songs.cluster");
    broker.run(&["submit", "songs.cluster", "--id", "a"]);
    worker.receive();
    let mut waiting = broker.command(&["drain"]);
    // The worker keeps what it has begun, so the drain waits.
    let mut second = Worker::connect_as(&broker, "worker-2", "songs.cluster");
    broker.run(&["submit", "songs.cluster", "--id", "b"]);
    let delivery = second.receive();
    second.report(&delivery, Report::Started(wire::Started {}));
    let waiting = waiting.stderr(Stdio::piped()).spawn().expect("it starts");
    let is_draining = || info(&broker)["draining"] == true;
    while !is_draining() {
        std::thread::yield_now();
    }
    assert_eq!(broker.run(&["drain", "--off"]).code, Some(0));
    let output = within_deadline(move || waiting.wait_with_output().expect("it can be waited for"));
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr);
    let sentence = "the drain is over and the broker delivers again, while 1 task is leased: ";
    assert!(stderr.contains(sentence), "{stderr}");
}

#[test]
fn o22_a_drain_on_a_terminal_says_again_and_again_what_it_waits_for() {
    let (broker, _data) = started();
    let mut worker = Worker::connect(&broker, "songs.cluster");
    broker.run(&["submit", "songs.cluster", "--id", "a"]);
    let delivery = worker.receive();
    worker.report(&delivery, Report::Started(wire::Started {}));
    let mut terminal = Terminal::open(broker.command(&["drain"]));
    terminal.wait_for("`celeriac drain --off` ends the drain");
    terminal.wait_for("\nceleriac: 1 task is still leased: a on worker-1\r\n");
    worker.report(&delivery, Report::Complete(wire::Complete::default()));
    let (code, shown) = terminal.end();
    assert!(code == Some(0) && shown.ends_with("drained: no task is leased\r\n"), "{shown}");
}

#[test]
fn o21_the_filter_of_the_log_is_shown_and_changed_until_the_restart() {
    let data = TempDir::new().expect("a folder");
    let log = data.path().join("log");
    let serve = || {
        let mut serve = celeriac(&["serve", "--listen", "127.0.0.1:0", "--log", "warn", "--data"]);
        serve.arg(data.path().join("data"));
        serve.stderr(fs::File::create(&log).expect("writable"));
        Broker::ready(serve)
    };
    let broker = serve();
    let lines = || fs::read_to_string(&log).expect("text");
    assert_eq!(broker.run(&["log"]).stdout, "warn\n");
    assert!(!lines().contains("a client connects"), "{}", lines());
    let changed = broker.run(&["log", "info,celeriac_broker=debug", "--json"]);
    assert_eq!(changed.code, Some(0), "{changed:?}");
    let shown = serde_json::json!({"filter": "info,celeriac_broker=debug"});
    assert_eq!(documents(&changed.stdout), [shown]);
    // The same once more, and then another one.
    assert_eq!(broker.run(&["log", "info,celeriac_broker=debug"]).code, Some(0));
    let wait_for = |text: &'static str| {
        let log = log.clone();
        within_deadline(move || {
            while !fs::read_to_string(&log).expect("text").contains(text) {
                std::thread::yield_now();
            }
        });
    };
    wait_for("a client connects");
    wait_for("a client has changed the filter of the log");
    assert_eq!(broker.run(&["log", "error"]).stdout, "error\n");
    for filter in ["loud", "info,celeriac_brokr=debug", "", "info,"] {
        let refused = broker.run(&["log", filter]);
        assert_eq!((refused.code, refused.stdout.as_str()), (Some(2), ""), "{refused:?}");
        assert!(refused.stderr.contains(&format!("log filter `{filter}`: ")), "{refused:?}");
    }
    let huge = "info,".repeat(1_000);
    let refused = broker.run(&["log", &huge]);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    let sentence = "a log filter has at most 1024 bytes, this one has 5000";
    assert!(refused.stderr.contains(sentence), "{refused:?}");
    assert_eq!(broker.run(&["log"]).stdout, "error\n", "what is refused changes nothing");
    // These are of the time before: a thread of its own writes them.
    let connects = lines().matches("a client connects").count();
    assert!(connects <= 2, "the filter counts: {}", lines());
    assert_eq!(broker.stop("TERM").code, Some(0));
    assert_eq!(serve().run(&["log"]).stdout, "warn\n");
    let output = finish(&mut celeriac(&["log", "--url", "celeriac://127.0.0.1:1"]), "");
    assert_eq!(output.code, Some(3), "{output:?}");
}
