//! What a command says when something is not as its user thinks: a name that does not exist, an
//! address with another server, a reader that is gone, a task that waits in vain.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Stdio;

use crate::process::{Broker, documents, finish, program, run, within_deadline};
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
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "is a server of HTTP"),
        (b"\x15\x03\x03\x00\x02\x02\x32", "speaks TLS"),
    ] {
        let address = server_that_knows_only_http(answer.to_vec());
        let refused = run(&["--url", &address, "queues"]);
        assert_eq!(refused.code, Some(3), "{refused:?}");
        assert!(refused.stderr.contains(&format!("{address} {name}")), "{refused:?}");
    }
}

#[test]
fn a_server_of_another_protocol_is_named_and_gives_the_same_code_to_every_command() {
    for (greeting, name) in [
        (&b"SSH-2.0-OpenSSH_9.9\r\n"[..], "the program that answers speaks SSH"),
        (b"-ERR unknown command\r\n", "the program that answers is no Celeriac broker"),
        (b"\xde\xad\xbe\xef\xde\xad", "the program that answers is no Celeriac broker"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "HTTP"),
    ] {
        let address = server_that_greets(greeting);
        for command in [&["queues"][..], &["work", "--name", "n", "--", "true"]] {
            let shared = ["--url", &address, "--timeout", "2s"];
            let refused = run(&[&shared, command].concat());
            assert_eq!(refused.code, Some(3), "{refused:?}");
            assert!(refused.stderr.contains(name), "{refused:?}");
            assert!(!refused.stderr.contains("did not accept"), "{refused:?}");
        }
    }
}

/// The address of a server that says this to every client, and nothing more.
fn server_that_greets(greeting: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.expect("accepted");
            connection.write_all(greeting).expect("sent");
            std::mem::forget(connection);
        }
    });
    address
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
fn a_limit_of_open_files_that_is_too_low_is_named() {
    let (work, serve) = (["work", "--name", "n", "--", "true"], ["serve", "--data", "d"]);
    for arguments in [&["queues"][..], &work, &["top", "--once"], &["check", "d"], &serve] {
        for limit in ["6", "7", "9"] {
            let script = format!("ulimit -n {limit}; exec celeriac \"$@\"");
            let refused =
                finish(program("sh").args(["-c", &script, "celeriac"]).args(arguments), "");
            assert_eq!(refused.code, Some(1), "{refused:?}");
            let limit = format!("celeriac: this process may have {limit} files open");
            assert!(refused.stderr.starts_with(&limit), "{refused:?}");
        }
    }
}

#[test]
fn a_refusal_says_what_to_do() {
    let (broker, _data) = started();
    for (arguments, code, sentence) in [
        (
            &["purge", "q"][..],
            2,
            "there is no command `purge`; did you mean `celeriac queues purge`?",
        ),
        (
            &["resume", "q"],
            2,
            "did you mean `celeriac queues resume` or `celeriac workers resume`?",
        ),
        (&["serve"], 2, "data is missing: give --data DIR, as in `celeriac serve --data ./data`"),
        (
            &["submit", "n", "--args", "[a]"],
            2,
            "it is `[a]` and has to be a JSON array, such as '[",
        ),
        (&["tasks", "--limit", "0"], 2, "`0` is not a whole number from 1 on"),
        (
            &["queues", "--url", "127.0.0.1:1"],
            3,
            "; start one with `celeriac serve --data DIR`, or",
        ),
        (&["queues", "--token-file", "./none"], 2, "cannot read the token file ./none: "),
        (&["serve", "--data", "d", "--config", "/dev/zero"], 2, "it is longer than 1 MiB"),
    ] {
        let refused = broker.run(arguments);
        assert_eq!(refused.code, Some(code), "{refused:?}");
        assert!(refused.stderr.contains(sentence), "{refused:?}");
    }
}

#[test]
fn a_listing_that_leaves_tasks_out_says_so_beside_the_listing() {
    let (broker, _data) = started();
    for _ in 0..3 {
        assert_eq!(broker.run(&["submit", "n"]).code, Some(0));
    }
    for sort in ["newest", "none"] {
        let listed = broker.run(&["tasks", "--limit", "2", "--sort", sort]);
        assert_eq!((listed.code, listed.stdout.lines().count()), (Some(0), 3), "{listed:?}");
        let more = "celeriac: there are more tasks: --limit COUNT or --all shows them\n";
        assert_eq!(listed.stderr, more);
    }
}

#[test]
fn a_queue_is_listed_with_its_settings_and_says_why_it_stays() {
    let (broker, _data) = started();
    let set = ["queues", "set", "songs", "--bytes-max", "1MiB", "--expires", "2h"];
    assert_eq!(broker.run(&set).code, Some(0));
    let shown = broker.run(&["queues", "songs"]).stdout;
    for line in ["queue       songs", "tasks max   none", "bytes max   1048576", "expires     2h"] {
        assert!(shown.lines().any(|shown| shown == line), "{line}: {shown}");
    }
    let both = broker.run(&["queues", "songs", "nope"]);
    assert_eq!((both.code, both.stdout.lines().count()), (Some(4), 2), "{both:?}");
    let deleted = broker.run(&["queues", "delete", "default", "--yes"]);
    assert!(deleted.stdout.ends_with("default is still listed: this queue always exists\n"));
    assert_eq!(broker.run(&["dead"]).code, Some(0));
    assert_eq!(broker.run(&["workers", "nobody"]).stderr, "celeriac: no worker nobody\n");
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
    let none = broker.run(&["queues"]);
    assert_eq!(none.code, Some(8), "{none:?}");
    assert!(none.stderr.contains("none was given: use --token-file FILE"), "{none:?}");
    let wrong = finish(broker.command(&["queues"]).env("CELERIAC_TOKEN", "guess"), "");
    assert_eq!(wrong.code, Some(8), "{wrong:?}");
    let with_token =
        |arguments: &[&str]| finish(broker.command(arguments).env("CELERIAC_TOKEN", "s3cret"), "");
    assert_eq!(with_token(&["queues", "set", "q", "--tasks-max", "1"]).code, Some(0));
    assert_eq!(with_token(&["submit", "n", "--queue", "q"]).code, Some(0));
    let full = with_token(&["submit", "n", "--queue", "q"]);
    assert_eq!(full.code, Some(9), "{full:?}");
    assert!(full.stderr.contains("its tasks_max is 1; submit later, or raise"), "{full:?}");
}

#[test]
fn a_submit_that_is_refused_because_the_task_exists_ends_with_23() {
    let (broker, _data) = started();
    let submit = ["submit", "n", "--id", "a", "--on-conflict", "reject"];
    assert_eq!(broker.run(&submit).code, Some(0));
    for json in [&[][..], &["--json"], &["--wait", "1"]] {
        let again = broker.run(&[&submit, json].concat());
        assert_eq!((again.code, again.stdout.as_str()), (Some(23), ""), "{again:?}");
        assert!(again.stderr.starts_with("celeriac: refused (task_exists): "), "{again:?}");
    }
    let lines = ["submit", "n", "--on-conflict", "reject", "--lines", "-"];
    let lines = finish(&mut broker.command(&lines), "{\"id\": \"b\"}\n{\"id\": \"a\"}\n");
    assert_eq!(lines.code, Some(23), "{lines:?}");
    assert_eq!(lines.stdout, "1 created, 0 joined, 1 refused\n");
}

#[test]
fn a_program_without_a_command_prints_its_short_help() {
    let help = run(&[]);
    assert_eq!((help.code, help.stdout.as_str()), (Some(2), ""), "{help:?}");
    assert!(help.stderr.contains("Usage: celeriac"), "{help:?}");
    assert!(help.stderr.lines().count() < 45, "{help:?}");
    assert!(help.stderr.contains("celeriac submit hello --wait"));
}
