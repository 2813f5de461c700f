//! The usual commands of an operator, with a broker in its own process. There is no worker, so the
//! tasks wait. The tests of the workspace run tasks to their end.

use std::os::unix::net::UnixDatagram;
use std::process::Stdio;

use crate::process::{Broker, CommandOutput, celeriac, documents, finish, run, within_deadline};
use tempfile::TempDir;

fn started() -> (Broker, TempDir) {
    let data = TempDir::new().expect("a folder");
    (Broker::start(data.path(), &[]), data)
}

#[test]
fn every_command_sees_a_submitted_task() {
    let (broker, _data) = started();
    let submitted =
        broker.run(&["submit", "songs.cluster", "--id", "a", "--queue", "songs", "--args", "[1]"]);
    assert_eq!(
        (submitted.code, submitted.stdout.as_str()),
        (Some(0), "a  QUEUED  created\n"),
        "{submitted:?}"
    );

    let again = broker.run(&["submit", "songs.cluster", "--id", "a", "--json"]);
    assert_eq!(documents(&again.stdout)[0]["outcome"], "joined", "{again:?}");

    let status = broker.run(&["status", "a", "--json"]);
    let task = &documents(&status.stdout)[0];
    assert_eq!(
        (status.code, &task["state"], &task["queue"]),
        (Some(0), &"QUEUED".into(), &"songs".into()),
        "{task}"
    );
    assert_eq!(task["waiting_for"], "worker");

    let table = broker.run(&["status", "a", "b"]);
    assert_eq!(table.code, Some(4), "{table:?}");
    assert!(table.stdout.starts_with("ID ") && table.stdout.lines().count() == 3, "{table:?}");
    assert!(
        table.stdout.lines().all(|line| line.trim_end() == line && !line.is_empty()),
        "{table:?}"
    );

    let queues = broker.run(&["queues", "--json"]);
    let songs = documents(&queues.stdout)
        .into_iter()
        .find(|queue| queue["queue"] == "songs")
        .expect("it was made");
    assert_eq!((&songs["ready"], &songs["leased"]), (&1.into(), &0.into()), "{songs}");
    assert_eq!(broker.run(&["queues", "songs"]).code, Some(0));
    assert_eq!(broker.run(&["queues", "none-of-this-name"]).code, Some(4));
}

#[test]
fn every_option_of_a_submit_reaches_the_task() {
    let (broker, _data) = started();
    let submitted = broker.run(&[
        "submit",
        "songs.cluster",
        "--id",
        "노래 1",
        "--queue",
        "songs",
        "--countdown",
        "1h",
        "--expires",
        "2h",
        "--priority",
        "9",
        "--shadow",
        "cluster: Dynamite",
        "--result-ttl",
        "3h",
        "--max-attempts",
        "7",
        "--header",
        "a=b=c",
        "--tag",
        "x",
        "--tag",
        "y",
    ]);
    assert_eq!(submitted.stdout, "노래 1  SCHEDULED  created\n", "{submitted:?}");
    let task = documents(&broker.run(&["status", "노래 1", "--json"]).stdout).remove(0);
    let ms = |field: &str| task[field].as_i64().expect(field);
    assert_eq!(ms("eta_at_ms") - ms("submitted_at_ms"), 3_600_000);
    assert_eq!(ms("expires_at_ms") - ms("submitted_at_ms"), 7_200_000);
    assert_eq!((ms("priority"), ms("attempts_max")), (9, 7));
    assert_eq!(
        (&task["shadow"], &task["headers"]["a"]),
        (&"cluster: Dynamite".into(), &"b=c".into())
    );
    assert_eq!(task["tags"], serde_json::json!(["x", "y"]));
    let details = broker.run(&["status", "노래 1"]).stdout;
    assert!(details.contains("due") && details.contains("in 59m"), "{details}");
}

#[test]
fn a_missing_result_says_why_by_its_exit_code() {
    let (broker, _data) = started();
    broker.run(&["submit", "songs.cluster", "--id", "a"]);
    broker.run(&["submit", "songs.cluster", "--id", "b", "--queue", "songs"]);
    broker.run(&["queues", "pause", "songs"]);
    let no_worker = "celeriac: task a has not ended, it is QUEUED: no worker serves the queue \
                     default and knows the name songs.cluster\n";
    let paused = "celeriac: task b has not ended, it is QUEUED: the queue songs is paused\n";
    for (arguments, code, sentence) in [
        (["result", "nobody"].as_slice(), 4, "celeriac: no task nobody\n"),
        (&["result", "a"], 7, no_worker),
        (&["result", "a", "--wait", "100ms"], 7, no_worker),
        (&["result", "b"], 7, paused),
    ] {
        let output = broker.run(arguments);
        assert_eq!(
            (output.code, output.stderr.as_str(), output.stdout.as_str()),
            (Some(code), sentence, ""),
            "{arguments:?}"
        );
    }
    let waited = broker.run(&["submit", "songs.cluster", "--wait", "100ms", "--json"]);
    assert_eq!((waited.code, documents(&waited.stdout).len()), (Some(7), 2), "{waited:?}");
}

#[test]
fn only_ended_tasks_can_be_forgotten() {
    let (broker, _data) = started();
    broker.run(&["submit", "songs.cluster", "--id", "a"]);
    let output = broker.run(&["forget", "a", "nobody", "--json"]);
    assert_eq!(output.code, Some(7), "{output:?}");
    let outcomes: Vec<_> =
        documents(&output.stdout).into_iter().map(|document| document["outcome"].clone()).collect();
    assert_eq!(outcomes, ["not_finished", "not_found"], "{output:?}");
}

#[test]
fn a_watch_that_runs_out_of_time_ends_with_7() {
    let (broker, _data) = started();
    broker.run(&["submit", "songs.cluster", "--id", "a"]);
    let output = broker.run(&["watch", "a", "a", "--wait", "300ms", "--json"]);
    assert_eq!(output.code, Some(7), "{output:?}");
    assert_eq!(documents(&output.stdout)[0]["state"], "QUEUED", "{output:?}");
}

#[test]
fn an_expired_task_ends_its_watch_with_6() {
    let (broker, _data) = started();
    broker.run(&["submit", "songs.cluster", "--id", "a", "--expires", "1s"]);
    let output = broker.run(&["watch", "a"]);
    assert_eq!(output.code, Some(6), "{output:?}");
    assert!(
        output.stdout.lines().last().is_some_and(|line| line.ends_with("REVOKED    expired")),
        "{output:?}"
    );
    assert_eq!(broker.run(&["result", "a"]).code, Some(6));
    assert_eq!(broker.run(&["forget", "a"]).code, Some(0));
    assert_eq!(broker.run(&["status", "a"]).code, Some(4));
}

#[test]
fn a_reader_that_closes_stdout_is_no_error() {
    let (broker, _data) = started();
    let mut child = broker
        .command(&["status", "a", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    drop(child.stdout.take());
    let output: CommandOutput =
        within_deadline(move || child.wait_with_output().expect("it ends")).into();
    assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{output:?}");
}

#[test]
fn a_wrong_token_is_refused_and_the_right_one_works_from_url_variable_and_file() {
    let data = TempDir::new().expect("a folder");
    let token = data.path().join("token");
    std::fs::write(&token, "s3%cret\n").expect("written");
    let mut serve = celeriac(&["serve", "--listen", "127.0.0.1:0", "--log", "error", "--data"]);
    serve.arg(data.path().join("store")).arg("--token-file").arg(&token);
    let broker = Broker::ready(serve);

    let refused = broker.run(&["queues"]);
    assert_eq!((refused.code, refused.stderr.lines().count()), (Some(8), 1), "{refused:?}");
    assert_eq!(
        finish(broker.command(&["queues"]).env("CELERIAC_TOKEN", "s3%cret"), "").code,
        Some(0)
    );
    assert_eq!(
        finish(broker.command(&["queues"]).env("CELERIAC_TOKEN_FILE", &token), "").code,
        Some(0)
    );
    let url = format!("celeriac://s3%25cret@{}", broker.address);
    assert_eq!(run(&["queues", "--url", &url]).code, Some(0));
}

#[test]
fn term_and_int_end_a_broker_with_0_and_it_remembers() {
    let data = TempDir::new().expect("a folder");
    for signal in ["TERM", "INT"] {
        let broker = Broker::start(data.path(), &[]);
        let submitted = broker.run(&["submit", "songs.cluster", "--id", signal]);
        assert_eq!(submitted.code, Some(0), "{submitted:?}");
        assert_eq!(broker.stop(signal).code, Some(0));
    }
    let broker = Broker::start(data.path(), &[]);
    assert_eq!(broker.run(&["status", "TERM", "INT"]).code, Some(0));
}

#[test]
fn a_second_broker_on_the_same_folder_ends_with_11() {
    let (_broker, data) = started();
    let mut second = celeriac(&["serve", "--listen", "127.0.0.1:0", "--log", "off", "--data"]);
    let output = finish(second.arg(data.path()), "");
    assert_eq!((output.code, output.stdout.as_str()), (Some(11), ""), "{output:?}");
    assert!(
        output.stderr.starts_with("celeriac: ") && output.stderr.lines().count() == 1,
        "{output:?}"
    );
}

#[test]
fn an_address_in_use_ends_with_10() {
    let (broker, _data) = started();
    let other = TempDir::new().expect("a folder");
    let mut second = celeriac(&["serve", "--listen", &broker.address, "--log", "off", "--data"]);
    let output = finish(second.arg(other.path()), "");
    assert_eq!(output.code, Some(10), "{output:?}");
    assert!(output.stderr.contains(&broker.address), "{output:?}");
}

#[test]
fn the_service_manager_is_told_when_the_broker_is_ready_and_when_it_stops() {
    let data = TempDir::new().expect("a folder");
    let path = data.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    let mut serve = celeriac(&["serve", "--listen", "127.0.0.1:0", "--log", "warn", "--data"]);
    serve.arg(data.path().join("store")).env("NOTIFY_SOCKET", &path);
    let broker = Broker::ready(serve);
    let heard = |socket: &UnixDatagram| {
        let socket = socket.try_clone().expect("cloned");
        within_deadline(move || {
            let mut buffer = [0; 256];
            let length = socket.recv(&mut buffer).expect("a message");
            String::from_utf8_lossy(&buffer[..length]).trim().to_owned()
        })
    };
    assert_eq!(heard(&socket), "READY=1");
    assert_eq!(broker.stop("TERM").code, Some(0));
    assert_eq!(heard(&socket), "STOPPING=1");
}

#[test]
fn o23_the_watchdog_hears_of_a_broker_that_works() {
    let data = TempDir::new().expect("a folder");
    let path = data.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    let mut serve = celeriac(&["serve", "--listen", "127.0.0.1:0", "--log", "warn", "--data"]);
    serve.arg(data.path().join("store")).env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "20000");
    let broker = Broker::ready(serve);
    let heard = |socket: &UnixDatagram| {
        let socket = socket.try_clone().expect("cloned");
        within_deadline(move || {
            let mut buffer = [0; 256];
            let length = socket.recv(&mut buffer).expect("a message");
            String::from_utf8_lossy(&buffer[..length]).trim().to_owned()
        })
    };
    assert_eq!(heard(&socket), "READY=1");
    for _ in 0..5 {
        assert_eq!(heard(&socket), "WATCHDOG=1");
    }
    assert_eq!(broker.stop("TERM").code, Some(0));
    let last = (0..).map(|_| heard(&socket)).find(|message| message != "WATCHDOG=1");
    assert_eq!(last.as_deref(), Some("STOPPING=1"));
    // After that it is not watched.
    socket.set_nonblocking(true).expect("a socket");
    assert!(socket.recv(&mut [0; 256]).is_err());
}

#[test]
fn a_log_in_json_is_one_object_per_line() {
    let data = TempDir::new().expect("a folder");
    let mut serve =
        celeriac(&["serve", "--listen", "127.0.0.1:0", "--log-format", "json", "--data"]);
    serve.arg(data.path()).stderr(Stdio::piped());
    let output = Broker::ready(serve).stop("TERM");
    assert_eq!(output.code, Some(0), "{output:?}");
    let lines = documents(&output.stderr);
    assert!(
        lines.iter().any(
            |line| line["message"] == "a signal ends the broker" && line["signal"] == "SIGTERM"
        ),
        "{lines:?}"
    );
}
