//! Clients whose token allows only a part, ends while they run, or is changed.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};

use crate::access::{Place, new_token, with_token};
use crate::process::{Broker, documents, finish, program, within_deadline};
use crate::terminal::Terminal;
use crate::work::CommandWorker;
use crate::worker::Worker;

/// A broker whose access file has these entries, and their tokens. The broker has no terminal, as
/// under a service manager.
struct Tokens {
    place: Place,
    broker: Broker,
    tokens: Vec<String>,
    entries: Vec<String>,
}

impl Tokens {
    fn of(entries: &[&[&str]]) -> Self {
        let new = |flags: &&[&str]| new_token(&[flags, &["--queue", "*"][..]].concat());
        let (tokens, entries): (Vec<String>, Vec<String>) = entries.iter().map(new).unzip();
        let all: Vec<&str> = entries.iter().map(String::as_str).collect();
        let place = Place::with(&all);
        let audit = place.file("audit").display().to_string();
        let serve = place.serve(&["--listen", "127.0.0.1:0", "--audit-file", &audit]);
        // A child that leads no group of its own becomes the broker, with the same process id.
        let mut command = program("setsid");
        command.arg(serve.get_program()).args(serve.get_args());
        Self { place, broker: Broker::ready(command), tokens, entries }
    }

    /// Takes an entry out of the access file, and makes the broker read it again.
    fn end(&self, ended: usize) {
        let left = self.entries.iter().enumerate().filter(|(index, _)| *index != ended);
        let left: Vec<&str> = left.map(|(_, entry)| entry.as_str()).collect();
        fs::write(self.place.file("access.toml"), left.join("\n")).expect("writable");
        let broker = Pid::from_raw(self.broker.pid().cast_signed()).expect("a process");
        kill_process(broker, Signal::HUP).expect("it runs");
    }

    /// Writes a token into the file that a client reads, as a person should: by a rename.
    fn write(&self, token: &str) -> PathBuf {
        let (file, new) = (self.place.file("token"), self.place.file("token.new"));
        fs::write(&new, format!("{token}\n")).expect("writable");
        fs::rename(new, &file).expect("writable");
        file
    }
}

/// An entry whose token ends while a test runs.
const SHORT: [&str; 2] = ["--expires", "3s"];

fn until_refused(broker: &Broker, token: &str) {
    let sentence = "the broker did not accept this client";
    while !with_token(broker, token, &["status", "none"]).stderr.contains(sentence) {
        std::thread::yield_now();
    }
}

fn until_there(file: &Path) {
    let file = file.to_owned();
    within_deadline(move || {
        while !file.exists() {
            std::thread::yield_now();
        }
    });
}

#[test]
fn show_has_all_that_the_token_allows_and_says_what_is_missing() {
    let tokens = Tokens::of(&[
        &["--name", "web", "--role", "producer"],
        &["--name", "eye", "--role", "reader"],
        &["--name", "mate", "--role", "worker"],
    ]);
    let (broker, [web, eye, mate]) = (&tokens.broker, &tokens.tokens[..]) else { panic!("three") };
    let mut worker = Worker::connect_with_token(broker, mate, "n");
    let submit = ["submit", "n", "--id", "a", "--args", "[\"arg\"]"];
    assert_eq!(with_token(broker, web, &submit).code, Some(0));
    worker.complete(b"\"well\"", "");
    let shown = with_token(broker, web, &["show", "a"]);
    assert_eq!((shown.code, shown.stderr.as_str()), (Some(0), ""), "{shown:?}");
    for text in ["arg", "\"well\"", "not shown: a list of tasks needs the role reader or operator"]
    {
        assert!(shown.stdout.contains(text), "{text}: {shown:?}");
    }
    let shown = with_token(broker, web, &["show", "a", "--json"]);
    let document = &documents(&shown.stdout)[0];
    assert_eq!((&document["children"], &document["result"]), (&().into(), &"well".into()));
    assert!(shown.stderr.contains("needs the role reader"), "{shown:?}");
    // A reader without bodies.
    let shown = with_token(broker, eye, &["show", "a"]);
    assert_eq!((shown.code, shown.stderr.as_str()), (Some(0), ""), "{shown:?}");
    assert!(!shown.stdout.contains("arg\"") && !shown.stdout.contains("well"), "{shown:?}");
    let missing = "not shown: payloads and results need bodies = true";
    assert_eq!(shown.stdout.matches(missing).count(), 2, "the arguments and the result: {shown:?}");
    assert!(shown.stdout.contains("ended as SUCCESS"), "{shown:?}");
    let shown = with_token(broker, eye, &["show", "a", "--json"]);
    let document = &documents(&shown.stdout)[0];
    assert_eq!((&document["payload"], &document["result"]), (&().into(), &().into()));
    assert_eq!(document["children"], serde_json::json!([]));
    assert!(shown.stderr.contains("need bodies = true"), "{shown:?}");
    let raw = with_token(broker, eye, &["show", "a", "--raw"]);
    assert_eq!((raw.code, raw.stdout.as_str()), (Some(8), ""), "{raw:?}");
    // What the token does not allow at all is still refused.
    assert_eq!(with_token(broker, mate, &["show", "a"]).code, Some(8));
    let submit = ["submit", "n", "--id", "dead", "--args", "[\"arg\"]"];
    assert_eq!(with_token(broker, web, &submit).code, Some(0));
    worker.fail("ValueError", "no song");
    let dead = with_token(broker, eye, &["dead", "show", "dead"]);
    assert_eq!(dead.code, Some(0), "{dead:?}");
    assert!(dead.stdout.contains(missing) && dead.stdout.contains("no song"), "{dead:?}");
}

#[test]
fn a_producer_cancels_by_tag_without_a_match_and_is_not_refused() {
    let tokens = Tokens::of(&[&["--name", "web", "--role", "producer"]]);
    let cancel = |arguments: &[&str]| {
        let arguments = [&["cancel", "--yes"], arguments].concat();
        with_token(&tokens.broker, &tokens.tokens[0], &arguments)
    };
    let none = cancel(&["--tag", "x"]);
    let shown = (none.code, none.stdout.as_str(), none.stderr.as_str());
    assert_eq!(shown, (Some(0), "no unfinished task matches\n", ""), "{none:?}");
    let none = cancel(&["--tag", "x", "--json"]);
    assert_eq!((none.code, none.stdout.as_str()), (Some(0), ""), "{none:?}");
    // Of an id it knows that there is no such task.
    assert_eq!(cancel(&["--root", "none"]).code, Some(4));
}

#[test]
fn a_watch_whose_token_ends_says_so_and_ends() {
    let web = [&["--name", "web", "--role", "producer"], &SHORT[..]].concat();
    let tokens = Tokens::of(&[&web]);
    let watched = with_token(&tokens.broker, &tokens.tokens[0], &["watch", "none"]);
    assert_eq!(watched.code, Some(8), "{watched:?}");
    assert!(watched.stderr.contains("token"), "{watched:?}");
}

#[test]
fn o5_a_worker_reads_its_token_file_again_and_keeps_its_task() {
    let mate: &[&str] = &["--name", "mate", "--role", "worker"];
    let tokens = Tokens::of(&[mate, mate, &["--name", "web", "--role", "producer"]]);
    let Tokens { place, broker, tokens: all, .. } = &tokens;
    let file = tokens.write(&all[0]);
    let (begun, go) = (place.file("begun"), place.file("go"));
    let script = format!(
        "touch {}; while ! [ -e {} ]; do sleep 0.05; done; echo 7",
        begun.display(),
        go.display()
    );
    let log = place.file("log");
    let mut command = broker.command(&["work", "--name", "n", "--", "sh", "-c", &script]);
    command.env("CELERIAC_TOKEN_FILE", &file);
    let mut worker =
        CommandWorker::spawn(command.stderr(fs::File::create(&log).expect("writable")));
    assert_eq!(with_token(broker, &all[2], &["submit", "n", "--id", "a"]).code, Some(0));
    until_there(&begun);
    tokens.write(&all[1]);
    tokens.end(0);
    // The worker is closed, comes back with the new token, and finds its session.
    within_deadline({
        let log = log.clone();
        move || {
            while !fs::read_to_string(&log).expect("text").contains("resumed=true") {
                std::thread::yield_now();
            }
        }
    });
    fs::write(go, "").expect("writable");
    let result = with_token(broker, &all[2], &["result", "a", "--wait"]);
    assert_eq!((result.code, result.stdout.as_str()), (Some(0), "7\n"), "{result:?}");
    let status = with_token(broker, &all[2], &["status", "a", "--json"]);
    let status = &documents(&status.stdout)[0];
    assert_eq!((&status["attempts"], &status["deliveries"]), (&1.into(), &1.into()), "{status}");
    worker.signal(Signal::TERM);
    let code = worker.code();
    let log = fs::read_to_string(log).expect("text");
    assert_eq!(code, Some(0), "{log}");
    assert!(
        log.contains("the access `mate` is no longer in the access file"),
        "the worker was closed: {log}"
    );
}

#[test]
fn o5_a_command_that_waits_reads_its_token_file_again() {
    let web: &[&str] = &["--name", "web", "--role", "producer"];
    let tokens = Tokens::of(&[web, web]);
    let Tokens { broker, tokens: all, .. } = &tokens;
    let file = tokens.write(&all[0]);
    let mut watch = broker.command(&["watch", "a"]);
    watch.arg("--token-file").arg(file).stdout(Stdio::piped());
    let mut watch = watch.spawn().expect("the binary starts");
    let mut shown = BufReader::new(watch.stdout.take().expect("piped"));
    // The present state comes first, when the watch has begun.
    let mut first = String::new();
    shown.read_line(&mut first).expect("text");
    assert!(first.contains("UNKNOWN"), "{first}");
    tokens.write(&all[1]);
    tokens.end(0);
    until_refused(broker, &all[0]);
    for arguments in [&["submit", "n", "--id", "a"][..], &["cancel", "a"]] {
        assert_eq!(with_token(broker, &all[1], arguments).code, Some(0), "{arguments:?}");
    }
    let shown = within_deadline(move || std::io::read_to_string(shown).expect("text"));
    let watched = watch.wait().expect("it has ended");
    assert_eq!(watched.code(), Some(6), "{shown}");
    assert!(shown.contains("REVOKED"), "{shown}");
}

#[test]
fn a_worker_whose_entry_has_ended_says_so_and_ends_its_command() {
    let mate: &[&str] = &["--name", "mate", "--role", "worker"];
    let tokens = Tokens::of(&[mate, &["--name", "web", "--role", "producer"]]);
    let Tokens { place, broker, tokens: all, .. } = &tokens;
    let file = tokens.write(&all[0]);
    let begun = place.file("begun");
    let script = format!("touch {}; exec sleep 1000", begun.display());
    let mut command = broker.command(&["work", "--token-file"]);
    command.arg(file).args(["--name", "n", "--", "sh", "-c", &script]);
    let worker = CommandWorker::spawn(command.stderr(Stdio::piped()));
    assert_eq!(with_token(broker, &all[1], &["submit", "n", "--id", "a"]).code, Some(0));
    until_there(&begun);
    tokens.end(0);
    let (code, log) = worker.end();
    assert_eq!(code, Some(8), "{log}");
    assert!(log.contains("the broker accepts this worker no longer"), "{log}");
    assert!(!log.contains("took the task back"), "{log}");
}

#[test]
fn a_drain_is_a_note_for_those_who_may_know_of_it_and_no_refusal_for_others() {
    let tokens = Tokens::of(&[
        &["--name", "web", "--role", "producer"],
        &["--name", "ops", "--role", "producer", "--role", "operator"],
    ]);
    let Tokens { place, broker, tokens: all, .. } = &tokens;
    assert_eq!(with_token(broker, &all[1], &["drain"]).code, Some(0));
    assert_eq!(with_token(broker, &all[0], &["submit", "n", "--id", "a"]).code, Some(0));
    let on_terminal = |token: &str, arguments: &[&str]| {
        let mut command = broker.command(arguments);
        command.env("CELERIAC_TOKEN", token);
        let (code, shown) = Terminal::open_with_size(command, 120, 40).end();
        assert_eq!(code, Some(0), "{shown}");
        shown
    };
    let note = "the broker drains: it delivers nothing; `celeriac drain --off` ends it";
    for arguments in [
        &["status", "a"][..],
        &["show", "a"],
        &["tasks"],
        &["queues"],
        &["info"],
        &["top", "--once"],
    ] {
        let shown = on_terminal(&all[1], arguments);
        assert!(shown.contains(note), "{arguments:?}: {shown}");
        let piped = with_token(broker, &all[1], arguments);
        assert_eq!((piped.code, piped.stderr.as_str()), (Some(0), ""), "{piped:?}");
    }
    let refusals = || {
        let audit = fs::read_to_string(place.file("audit")).expect("text");
        audit.matches("\"forbidden\"").count()
    };
    assert_eq!(with_token(broker, &all[0], &["status", "a"]).code, Some(0));
    assert_eq!(refusals(), 0, "a program asks for nothing that it may not have");
    assert!(!on_terminal(&all[0], &["status", "a"]).contains("drain"));
    let off = finish(broker.command(&["drain", "--off"]).env("CELERIAC_TOKEN", &all[1]), "");
    assert_eq!(off.code, Some(0), "{off:?}");
    assert!(!on_terminal(&all[1], &["queues"]).contains("drain"));
}
