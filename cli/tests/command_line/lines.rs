//! `celeriac submit --lines`: its lines, what it says at its end, and how it ends when its reader
//! or its broker goes away. Also commands that print while their reader pauses or has gone.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;

use rustix::pipe::{PipeFlags, pipe_with};
use tempfile::TempDir;

use crate::process::{Broker, CommandOutput, documents, finish, within_deadline};

fn started() -> (Broker, TempDir) {
    let data = TempDir::new().expect("a folder");
    (Broker::start(data.path(), &[]), data)
}

/// Submits the tasks of these lines.
fn submit(broker: &Broker, more: &[&str], lines: &str) -> CommandOutput {
    finish(broker.command(&["submit", "n", "--lines", "-"]).args(more), lines)
}

fn many(count: u32) -> String {
    (0..count).map(|number| format!("{{\"id\": \"{number}\"}}\n")).collect()
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
    assert_eq!(submitted.stdout, "2501 created, 0 joined, 0 refused\n", "{submitted:?}");
    let document = &documents(&broker.run(&["show", "2499", "--json"]).stdout)[0];
    assert_eq!(document["payload"], serde_json::json!([[2499], {}]));
    let others = documents(&broker.run(&["tasks", "--json", "--queue", "other"]).stdout);
    assert_eq!(others[0]["name"], "m", "{others:?}");
    assert_eq!(others[0]["tags"], serde_json::json!(["a", "b"]));

    let wrong = "{\"id\": \"x\"}\n{\"idd\": \"y\"}\n";
    let refused = finish(&mut broker.command(&["submit", "n", "--lines", "-"]), wrong);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.stderr.contains("line 2: unknown field `idd`"), "{refused:?}");
    assert!(
        refused.stderr.contains("of the lines before it: 1 created, 0 joined, 0 refused"),
        "{refused:?}"
    );
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
fn the_last_line_says_what_became_of_the_tasks() {
    let (broker, _data) = started();
    assert_eq!(broker.run(&["queues", "set", "default", "--tasks-max", "2"]).code, Some(0));
    let first = submit(&broker, &[], &many(5));
    assert_eq!(first.stdout, "2 created, 0 joined, 3 refused\n", "{first:?}");
    assert_eq!(first.code, Some(9));
    assert!(first.stderr.starts_with("celeriac: line"), "{first:?}");
    assert!(first.stderr.contains(": refused (queue_full)"), "{first:?}");
    // However many batches there are, one reason has two sentences at most.
    let all = submit(&broker, &[], &many(5_000));
    assert!(all.stdout.ends_with("2 joined, 4998 refused\n"), "{all:?}");
    assert!(all.stderr.lines().count() <= 2 && all.stderr.contains(" to 5000: "), "{all:?}");
    // Also when the last batch is full, and nothing comes after it but the end.
    let mut slow = broker.command(&["submit", "n", "--lines", "-"]);
    slow.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut slow = slow.spawn().expect("starts");
    let mut stdin = slow.stdin.take().expect("piped");
    stdin.write_all(many(5_000).as_bytes()).expect("written");
    let mut said = BufReader::new(slow.stderr.take().expect("piped"));
    said.read_line(&mut String::new()).expect("the first batch is refused");
    stdin.write_all(&[b'\n'; 3]).expect("the command reads on");
    drop(stdin);
    let mut rest = String::new();
    said.read_to_string(&mut rest).expect("a text");
    assert!(rest.contains(" to 5000: "), "{rest}");
    slow.wait().expect("it ends");
    let second = submit(&broker, &[], &many(2));
    assert_eq!(second.stdout, "0 created, 2 joined, 0 refused\n", "{second:?}");
    assert_eq!(broker.run(&["cancel", "0", "1"]).code, Some(0));
    let third = submit(&broker, &[], &many(2));
    assert_eq!(third.stdout, "0 created, 0 joined, 2 run again, 0 refused\n", "{third:?}");
}

#[test]
fn a_line_may_say_all_that_the_flags_say() {
    let (broker, _data) = started();
    let line = "{\"id\": \"a\", \"eta\": \"now+1h\", \"max_attempts\": 7, \"max_deliveries\": 5, \
                \"result_ttl\": \"3h\", \"headers\": {\"k\": \"v\"}}";
    let submitted = submit(&broker, &["--countdown", "1s", "--header", "j=u"], line);
    assert_eq!(submitted.code, Some(0), "{submitted:?}");
    let task = documents(&broker.run(&["status", "a", "--json"]).stdout).remove(0);
    assert_eq!((&task["state"], &task["attempts_max"]), (&"SCHEDULED".into(), &7.into()));
    assert_eq!(task["deliveries_max"], 5);
    assert_eq!(task["headers"], serde_json::json!({"j": "u", "k": "v"}));
    let ms = |field: &str| task[field].as_i64().expect(field);
    assert_eq!(ms("eta_at_ms") - ms("submitted_at_ms"), 3_600_000);
}

#[test]
fn a_file_may_begin_with_a_mark_of_the_byte_order_and_a_folder_is_no_file() {
    let (broker, data) = started();
    let marked = submit(&broker, &[], "\u{feff}{\"id\": \"a\"}\r\n{\"id\": \"b\"}\r\n");
    assert_eq!(marked.stdout, "2 created, 0 joined, 0 refused\n", "{marked:?}");
    let folder = data.path().to_str().expect("text");
    let refused = broker.run(&["submit", "n", "--lines", folder]);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert_eq!(refused.stderr, format!("celeriac: cannot read {folder}: is a directory\n"));
}

#[test]
fn a_wrong_line_is_named_with_its_place() {
    let (broker, _data) = started();
    for (line, sentence) in [
        ("[\"n\", [], {}]", "line 2: a line has to be a JSON object, such as"),
        ("\"n\"", "line 2: a line has to be a JSON object, such as"),
        ("{\"id\": 7}", "line 2: invalid type: integer `7`, expected a string at column 8;"),
        ("{\"id\": \"a\\u0000b\"}", "line 2: the character U+0000 cannot stand in a name"),
        ("{\"queue\": \"\\u0000\"}", "line 2: the character U+0000 cannot stand in a name"),
        ("{\"tags\": [\"\\u0000\"]}", "line 2: the character U+0000 cannot stand in a name"),
        ("{\"eta\": \"now+1s\", \"countdown\": \"1s\"}", "line 2: eta and countdown are both"),
        ("{\"headers\": {\"\": \"v\"}}", "line 2: the key of a header must not be empty"),
    ] {
        let refused = submit(&broker, &[], &format!("\n{line}\n"));
        assert_eq!(refused.code, Some(2), "{refused:?}");
        assert!(refused.stderr.contains(sentence), "{refused:?}");
    }
}

#[test]
fn tasks_are_submitted_to_the_last_although_the_reader_is_gone() {
    let (broker, data) = started();
    let file = data.path().join("tasks.jsonl");
    std::fs::write(&file, many(5_000)).expect("written");
    let mut submit = broker.command(&["submit", "n", "--json", "--lines"]);
    let mut submit = submit.arg(&file).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut stdout = BufReader::new(submit.stdout.take().expect("piped"));
    stdout.read_line(&mut String::new()).expect("a task is accepted");
    drop(stdout);
    let code = within_deadline(move || submit.wait().expect("it ends").code());
    assert_eq!(code, Some(0));
    let queue = &documents(&broker.run(&["queues", "--json"]).stdout)[0];
    assert_eq!(queue["ready"], 5_000, "{queue}");
}

#[test]
fn a_command_that_changes_something_tells_its_outcome_also_without_a_reader() {
    let (broker, _data) = started();
    for arguments in [&["cancel", "nobody"][..], &["forget", "nobody"], &["dead", "replay", "x"]] {
        let mut command = broker.command(arguments);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
        drop(child.stdout.take());
        let code = within_deadline(move || child.wait().expect("it ends").code());
        assert_eq!(code, Some(4), "{arguments:?}");
    }
}

#[test]
fn a_broker_that_goes_away_midway_leaves_a_count() {
    let (broker, _data) = started();
    let mut submit = broker.command(&["submit", "n", "--timeout", "1s", "--json", "--lines", "-"]);
    submit.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut submit = submit.spawn().expect("it starts");
    let mut stdin = submit.stdin.take().expect("piped");
    stdin.write_all(b"{\"id\": \"a\"}\n").expect("written");
    submit.stdout.as_mut().expect("piped").read_exact(&mut [0; 10]).expect("it is accepted");
    drop(broker);
    stdin.write_all(b"{\"id\": \"b\"}\n").expect("written");
    drop(stdin);
    let ended = within_deadline(move || submit.wait_with_output().expect("it ends"));
    let ended = CommandOutput::from(ended);
    assert_eq!(ended.code, Some(3), "{ended:?}");
    let sentence = "the broker has confirmed 1 task and refused 0; the broker may have 1 task more";
    assert!(ended.stderr.contains(sentence), "{ended:?}");
    assert!(ended.stderr.contains("if each line has an `id`"), "{ended:?}");
}

#[test]
fn a_reader_that_pauses_gets_everything_also_from_a_pipe_that_does_not_wait() {
    let (broker, _data) = started();
    assert_eq!(submit(&broker, &[], &many(3_000)).code, Some(0));
    for arguments in [&["tasks", "--all"][..], &["tasks", "--all", "--json"]] {
        let (reader, writer) = pipe_with(PipeFlags::NONBLOCK).expect("a pipe");
        let mut command = broker.command(arguments);
        let mut child = command.stdout(writer).stderr(Stdio::piped()).spawn().expect("it starts");
        drop(command);
        // The reader begins only when the pipe is full.
        rustix::io::ioctl_fionbio(&reader, false).expect("a reader that waits");
        while rustix::io::ioctl_fionread(&reader).expect("a count") < 32 * 1024 {
            assert_eq!(child.try_wait().expect("asked"), None, "the pipe is not full yet");
            std::thread::yield_now();
        }
        let text = within_deadline(move || std::io::read_to_string(File::from(reader)));
        let lines = text.expect("text").lines().count();
        let ended: CommandOutput =
            within_deadline(move || child.wait_with_output().expect("it ends")).into();
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{arguments:?}");
        assert!(lines >= 3_000, "{lines}");
    }
}
