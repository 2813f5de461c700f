//! What a command says when something is not as its user thinks: a name that does not exist, an
//! address with another server, a reader that is gone, a task that waits in vain.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Stdio;

use crate::process::{Broker, documents, finish, run, within_deadline};
use tempfile::TempDir;

fn started() -> (Broker, TempDir) {
    let data = TempDir::new().expect("a folder");
    (Broker::start(data.path(), &[]), data)
}

#[test]
fn a_queue_that_does_not_exist_is_not_paused_by_mistake() {
    let (broker, _data) = started();
    for command in ["pause", "resume"] {
        let refused = broker.run(&["queues", command, "default", "snogs"]);
        let (code, stderr) = (refused.code, refused.stderr.as_str());
        assert_eq!((code, stderr), (Some(4), "celeriac: no queue snogs\n"), "{refused:?}");
    }
    let queues = documents(&broker.run(&["queues", "--json"]).stdout);
    assert!(queues.iter().all(|queue| queue["paused"] == false), "{queues:?}");
    assert_eq!(broker.run(&["queues", "pause", "--create", "songs"]).code, Some(0));
    let queues = documents(&broker.run(&["queues", "songs", "--json"]).stdout);
    assert_eq!(queues[0]["paused"], true);
}

#[test]
fn a_cancel_of_a_tree_or_a_tag_that_does_not_exist_is_not_found() {
    let (broker, _data) = started();
    let ended = broker.run(&["submit", "n", "--id", "a", "--tag", "album"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(broker.run(&["cancel", "a"]).code, Some(0));
    for (which, known, unknown) in [("--root", "a", "b"), ("--tag", "album", "song")] {
        let nothing_left = broker.run(&["cancel", which, known, "--yes"]);
        assert_eq!(nothing_left.stdout, "no unfinished task matches\n", "{nothing_left:?}");
        assert_eq!(nothing_left.code, Some(0));
        let not_found = broker.run(&["cancel", which, unknown, "--yes"]);
        assert_eq!(not_found.code, Some(4), "{not_found:?}");
    }
}

#[test]
fn more_ids_than_a_request_may_have_go_in_several() {
    let (broker, _data) = started();
    let ids: Vec<String> = (0..10_001).map(|number| number.to_string()).collect();
    let mut replay = broker.command(&["dead", "replay"]);
    let outcome = finish(replay.args(&ids), "");
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(4), "0 replayed\n"), "{outcome:?}");
    let mut pause = broker.command(&["queues", "resume"]);
    assert_eq!(finish(pause.args(&ids), "").stderr, "celeriac: no queue 0\n");
}

#[test]
fn an_address_needs_no_scheme_and_another_server_is_recognised() {
    let (broker, _data) = started();
    assert_eq!(run(&["--url", &broker.address, "queues"]).code, Some(0));
    for (answer, name) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "a server of HTTP"),
        (b"\x15\x03\x03\x00\x02\x02\x32", "a server of TLS"),
    ] {
        let address = server_that_knows_only_http(answer.to_vec());
        let refused = run(&["--url", &address, "queues"]);
        assert_eq!(refused.code, Some(3), "{refused:?}");
        assert!(refused.stderr.contains(&format!("{address} is {name}")), "{refused:?}");
    }
}

/// A broker that is slow to take clients answers another protocol at once.
#[test]
fn a_slow_broker_is_not_taken_for_another_server() {
    let (broker, _data) = started();
    let mut http = std::net::TcpStream::connect(&broker.address).expect("it listens");
    http.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("sent");
    let mut answer = Vec::new();
    http.read_to_end(&mut answer).expect("answered");
    assert!(answer.starts_with(b"HTTP/"), "{answer:?}");

    let address = server_that_knows_only_http(answer);
    let slow = run(&["--url", &address, "--timeout", "3s", "queues"]);
    assert_eq!(slow.code, Some(3), "{slow:?}");
    assert!(slow.stderr.contains("the broker did not answer within 3s"), "{slow:?}");
}

/// The address of a server that answers a request of HTTP, and waits for ever for anything else.
fn server_that_knows_only_http(answer: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.expect("accepted");
            let mut request = [0; 18];
            let is_known = connection.read_exact(&mut request).is_ok();
            if is_known && request.starts_with(b"GET ") {
                connection.write_all(&answer).expect("sent");
            } else {
                std::mem::forget(connection);
            }
        }
    });
    address
}

#[test]
fn a_reader_that_is_gone_ends_a_command_that_waits() {
    let (broker, _data) = started();
    let submit = ["submit", "nobody.knows", "--id", "b", "--json", "--wait"];
    for arguments in [&["watch", "a"][..], &submit, &["result", "b", "--wait"]] {
        let mut child =
            broker.command(arguments).stdout(Stdio::piped()).spawn().expect("the binary starts");
        let mut stdout = child.stdout.take().expect("piped");
        if arguments[0] != "result" {
            let mut first = [0; 1];
            stdout.read_exact(&mut first).expect("it prints a line");
        }
        drop(stdout);
        let status = within_deadline(move || child.wait().expect("it can be waited for"));
        assert_eq!(status.code(), Some(0), "{arguments:?}");
    }
}

#[test]
fn who_waits_is_told_why_the_task_waits() {
    let (broker, _data) = started();
    let waited = broker.run(&["submit", "n", "--id", "a", "--wait", "3s"]);
    assert_eq!(waited.code, Some(7), "{waited:?}");
    let reason =
        "celeriac: task a waits: no worker serves the queue default and knows the name n\n";
    assert!(waited.stderr.starts_with(reason), "{waited:?}");
    assert_eq!(broker.run(&["queues", "pause", "default"]).code, Some(0));
    let waited = broker.run(&["result", "a", "--wait", "3s"]);
    assert!(waited.stderr.contains("task a waits: the queue default is paused"), "{waited:?}");
}

#[test]
fn the_arguments_of_a_task_can_be_seen() {
    let (broker, _data) = started();
    let args = "[\"Dyna\\u001bmite\", 12345678901234567890123]";
    let submit = ["submit", "n", "--id", "a", "--args", args, "--kwargs", "{\"deep\": [1]}"];
    assert_eq!(broker.run(&submit).code, Some(0));
    let shown = broker.run(&["show", "a"]);
    let lines = format!("ARGUMENTS\n  args    {args}\n  kwargs  {{\"deep\": [1]}}\n");
    assert!(shown.stdout.contains(&lines), "{shown:?}");
    let payload = format!("[{args}, {{\"deep\": [1]}}]");
    assert_eq!(broker.run(&["show", "a", "--raw"]).stdout, payload);
    for arguments in [&["show", "a", "--json"][..], &["tasks", "--json", "--payloads"]] {
        let document = &documents(&broker.run(arguments).stdout)[0];
        assert_eq!(document["payload"][1]["deep"][0], 1, "{document}");
    }
    let status = &documents(&broker.run(&["status", "a", "--json"]).stdout)[0];
    assert_eq!(status["payload"], serde_json::Value::Null, "it was not asked for");
    let long = format!("[\"{}\"]", "x".repeat(5_000));
    assert_eq!(broker.run(&["submit", "n", "--id", "b", "--args", &long]).code, Some(0));
    let shown = broker.run(&["show", "b"]).stdout;
    assert!(shown.contains("xx… (5004 bytes in all; `show --raw` prints them)"), "{shown}");
}

#[test]
fn the_tasks_of_a_file_are_submitted_line_by_line() {
    let (broker, data) = started();
    let lines: String = (0..2_500)
        .map(|number| format!("{{\"id\": \"{number}\", \"args\": [{number}]}}\n"))
        .collect();
    let file = data.path().join("tasks.jsonl");
    let other = "{\"name\": \"m\", \"queue\": \"other\", \"tags\": [\"b\"]}";
    std::fs::write(&file, format!("{lines}\n{other}\n")).expect("written");
    let mut submit = broker.command(&["submit", "n", "--queue", "songs", "--tag", "a", "--lines"]);
    let submitted = finish(submit.arg(&file), "");
    assert_eq!(submitted.stdout, "2501 submitted, 0 refused\n", "{submitted:?}");
    let document = &documents(&broker.run(&["show", "2499", "--json"]).stdout)[0];
    assert_eq!(document["payload"], serde_json::json!([[2499], {}]));
    let others = documents(&broker.run(&["tasks", "--json", "--queue", "other"]).stdout);
    assert_eq!(others[0]["name"], "m", "{others:?}");
    assert_eq!(others[0]["tags"], serde_json::json!(["a", "b"]));

    let wrong = "{\"id\": \"x\"}\n{\"idd\": \"y\"}\n";
    let refused = finish(&mut broker.command(&["submit", "n", "--lines", "-"]), wrong);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.stderr.contains("line 2: unknown field `idd`"), "{refused:?}");
    assert!(refused.stderr.contains("before it that were submitted: 1"), "{refused:?}");
    assert_eq!(broker.run(&["status", "x"]).code, Some(0));
    // A line is submitted although no other follows yet.
    let mut submit = broker.command(&["submit", "n", "--json", "--lines", "-"]);
    let mut submit = submit.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("starts");
    let mut stdin = submit.stdin.take().expect("piped");
    stdin.write_all(b"{\"id\": \"slow\"}\n").expect("written");
    submit.stdout.take().expect("piped").read_exact(&mut [0; 10]).expect("it is accepted");
    drop(stdin);
    assert_eq!(submit.wait().expect("it ends").code(), Some(0));
    let full = "{\"id\": \"y\", \"priority\": 10}\n";
    let refused = finish(&mut broker.command(&["submit", "n", "--lines", "-"]), full);
    assert_eq!((refused.code, refused.stdout.lines().count()), (Some(2), 1), "{refused:?}");
    let no_name = finish(&mut broker.command(&["submit", "--lines", "-"]), "{}\n");
    assert!(no_name.stderr.contains("line 1: the task has no name"), "{no_name:?}");
}

#[test]
fn help_that_cannot_be_written_is_a_failure() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("it is there");
    let mut help = crate::process::celeriac(&["--help"]);
    let output = help.stdout(full).stderr(Stdio::piped()).output().expect("the binary starts");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

#[test]
fn a_wrong_token_and_a_refusal_for_now_have_their_own_exit_codes() {
    let data = TempDir::new().expect("a folder");
    let mut serve = crate::process::celeriac(&["serve", "--listen", "127.0.0.1:0", "--data"]);
    serve.arg(data.path()).args(["--log", "error"]).env("CELERIAC_TOKEN", "s3cret");
    let broker = Broker::ready(serve);
    let wrong = finish(broker.command(&["queues"]).env("CELERIAC_TOKEN", "guess"), "");
    assert_eq!(wrong.code, Some(8), "{wrong:?}");
    let with_token =
        |arguments: &[&str]| finish(broker.command(arguments).env("CELERIAC_TOKEN", "s3cret"), "");
    assert_eq!(with_token(&["queues", "set", "q", "--tasks-max", "1"]).code, Some(0));
    assert_eq!(with_token(&["submit", "n", "--queue", "q"]).code, Some(0));
    let full = with_token(&["submit", "n", "--queue", "q"]);
    assert_eq!(full.code, Some(9), "{full:?}");
}

#[test]
fn a_program_without_a_command_prints_its_short_help() {
    for arguments in [&[][..], &["dead"]] {
        let help = run(arguments);
        assert_eq!((help.code, help.stdout.as_str()), (Some(2), ""), "{help:?}");
        assert!(help.stderr.contains("Usage: celeriac"), "{help:?}");
        assert!(help.stderr.lines().count() < 45, "{help:?}");
    }
    assert!(run(&[]).stderr.contains("celeriac submit hello --wait"));
}
