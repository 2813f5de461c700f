//! `celeriac work`: a worker that runs a command for each task.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process::{Broker, documents, run, within_deadline};
use crate::signals::{as_first_process, listening_child};

pub(crate) fn started() -> (Broker, TempDir) {
    let data = TempDir::new().expect("a folder");
    (Broker::start(data.path(), &[]), data)
}

/// A worker in its own process. Dropping this value kills the process.
pub(crate) struct CommandWorker(pub(crate) Child);

impl CommandWorker {
    /// Starts `celeriac work --json` with these arguments.
    fn start(broker: &Broker, arguments: &[&str]) -> Self {
        let mut command = broker.command(&["work", "--json"]);
        Self::spawn(command.args(arguments).stdout(Stdio::piped()))
    }

    /// Starts `celeriac work` with these arguments, for its log.
    pub(crate) fn with_log(broker: &Broker, arguments: &[&str]) -> Self {
        let mut command = broker.command(&["work"]);
        Self::spawn(command.args(arguments).stderr(Stdio::piped()))
    }

    pub(crate) fn spawn(command: &mut Command) -> Self {
        Self(command.spawn().expect("the binary starts"))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).expect("it runs");
    }

    fn stop(mut self) -> (Option<i32>, Vec<Value>) {
        self.signal(Signal::TERM);
        let stdout = BufReader::new(self.0.stdout.take().expect("piped"));
        let lines = within_deadline(move || stdout.lines().collect::<Result<Vec<_>, _>>());
        (self.code(), documents(&lines.expect("stdout is text").join("\n")))
    }

    /// Waits for the end of the worker. Returns its exit code and its log.
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        let stderr = self.0.stderr.take().expect("piped");
        let log = within_deadline(move || std::io::read_to_string(stderr).expect("text"));
        (self.code(), log)
    }

    /// Waits for the end of the worker.
    pub(crate) fn code(&mut self) -> Option<i32> {
        let process = &mut self.0;
        loop {
            match process.try_wait().expect("it can be waited for") {
                Some(status) => return status.code(),
                None => std::thread::yield_now(),
            }
        }
    }
}

impl Drop for CommandWorker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_shell_command_is_a_whole_worker() {
    let (broker, _data) = started();
    let script = "read line; echo \"{\\\"title\\\": \\\"$1\\\", \\\"stdin\\\": $line}\"";
    let worker = CommandWorker::start(
        &broker,
        &["--name", "songs.preprocess", "--queue", "songs", "--", "sh", "-c", script, "sh", "{0}"],
    );
    let submit = ["submit", "songs.preprocess", "--queue", "songs", "--id", "song-7", "--wait"];
    let result = broker.run(&[&submit[..], &["--args", "[\"Dyna mite\"]"]].concat());
    assert_eq!(
        result.stdout, "{\"title\": \"Dyna mite\", \"stdin\": [[\"Dyna mite\"], {}]}\n",
        "{result:?}"
    );
    let (code, endings) = worker.stop();
    assert_eq!((code, endings.len()), (Some(0), 1), "{endings:?}");
    assert_eq!((&endings[0]["id"], &endings[0]["error"]), (&"song-7".into(), &().into()));
}

#[test]
fn a_command_that_fails_is_tried_again_and_its_task_has_the_end_of_stderr() {
    let (broker, _data) = started();
    let script = "echo no such song >&2; exit 3";
    let worker = CommandWorker::start(&broker, &["--name", "n", "--", "sh", "-c", script]);
    let failed = broker.run(&["submit", "n", "--id", "a", "--max-attempts", "1", "--wait"]);
    assert_eq!(failed.code, Some(5), "{failed:?}");
    assert!(failed.stderr.contains("command: exit code 3: no such song"), "{failed:?}");
    let (_, endings) = worker.stop();
    assert_eq!(endings[0]["error"], "command: exit code 3: no such song");
}

#[test]
fn a_cancel_ends_the_command_and_all_that_it_started() {
    let (broker, data) = started();
    let pid_file = data.path().join("pid-of-the-child");
    let script = format!("sleep 1000 & echo $! > {}; wait", pid_file.display());
    let _worker = CommandWorker::start(&broker, &["--name", "n", "--", "sh", "-c", &script]);
    assert_eq!(broker.run(&["submit", "n", "--id", "a"]).code, Some(0));
    let pid = within_deadline(move || {
        loop {
            match std::fs::read_to_string(&pid_file) {
                Ok(pid) if pid.ends_with('\n') => return pid.trim().to_owned(),
                _ => std::thread::yield_now(),
            }
        }
    });
    assert_eq!(broker.run(&["cancel", "a"]).code, Some(0));
    let end = broker.run(&["result", "a", "--wait"]);
    assert_eq!(end.code, Some(6), "{end:?}");
    let is_alive = move || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        !status.is_empty() && !status.contains("State:\tZ")
    };
    within_deadline(move || while is_alive() {});
}

#[test]
fn a_worker_whose_lines_nobody_reads_goes_on() {
    let (broker, _data) = started();
    let mut worker = CommandWorker::start(&broker, &["--name", "n", "--", "echo", "{0}"]);
    drop(worker.0.stdout.take());
    for number in ["1", "2", "3"] {
        let args = format!("[{number}]");
        let result = broker.run(&["submit", "n", "--args", &args, "--wait"]);
        assert_eq!(result.stdout, format!("{number}\n"), "{result:?}");
    }
}

#[test]
fn a_worker_without_a_broker_ends_with_3_and_a_command_without_a_program_with_2() {
    let absent = crate::process::run(&[
        "work",
        "--url",
        "127.0.0.1:1",
        "--timeout",
        "100ms",
        "--name",
        "n",
        "--",
        "true",
    ]);
    assert_eq!(absent.code, Some(3), "{absent:?}");
    assert_eq!(crate::process::run(&["work", "--name", "n"]).code, Some(2));
    assert_eq!(crate::process::run(&["work", "--name", "n", "--", ""]).code, Some(2));
}

/// The fields of an ending that tell what became of the task.
fn told(endings: &[Value], id: &str) -> Vec<Value> {
    let of_the_task = endings.iter().filter(|ending| ending["id"] == id);
    of_the_task.map(|ending| json!([ending["outcome"], ending["runs_again"]])).collect()
}

#[test]
fn the_worker_says_what_became_of_each_task() {
    let (broker, _data) = started();
    let script = "case $1 in fail) exit 3;; never) exit 65;; hang) exec sleep 1000;; \
                  big) head -c 2000000 /dev/zero | tr '\\0' x;; esac";
    let worker = CommandWorker::start(
        &broker,
        &["--name", "n", "--concurrency", "8", "--", "sh", "-c", script, "sh", "{0}"],
    );
    let submit = |id: &str, args: &str, more: &[&str]| {
        let submitted = broker.run(&[&["submit", "n", "--id", id, "--args", args], more].concat());
        assert_eq!(submitted.code, Some(0), "{submitted:?}");
    };
    let retry = ["--max-attempts", "2"];
    for (id, args, state) in [
        ("ok", "[\"\"]", 0),
        ("failed", "[\"fail\"]", 5),
        ("never", "[\"never\"]", 5),
        ("lacks", "[]", 5),
        ("big", "[\"big\"]", 5),
    ] {
        submit(id, args, &retry);
        assert_eq!(broker.run(&["result", id, "--wait"]).code, Some(state), "{id}");
    }
    for (id, how) in [("cancelled", &["cancel"][..]), ("forced", &["cancel", "--force"])] {
        submit(id, "[\"hang\"]", &[]);
        is_started(&broker, id);
        assert_eq!(broker.run(&[how, &[id]].concat()).code, Some(0));
        assert_eq!(broker.run(&["result", id, "--wait"]).code, Some(6), "{id}");
    }
    let (code, endings) = worker.stop();
    assert_eq!(code, Some(0));
    for (id, expected) in [
        ("ok", json!([["succeeded", false]])),
        ("failed", json!([["failed", true], ["failed", false]])),
        ("never", json!([["failed", false]])),
        ("lacks", json!([["failed", false]])),
        ("big", json!([["failed", false]])),
        ("cancelled", json!([["cancelled", false]])),
        ("forced", json!([["cancelled", false]])),
    ] {
        assert_eq!(json!(told(&endings, id)), expected, "{id}: {endings:?}");
    }
}

/// Waits until the command of a task runs.
pub(crate) fn is_started(broker: &Broker, id: &str) {
    has(broker, id, |task| task["state"] == "STARTED");
}

/// Waits until the task is as it should be.
pub(crate) fn has(broker: &Broker, id: &str, is_so: impl Fn(&Value) -> bool) {
    let deadline = std::time::Instant::now() + crate::process::DEADLINE;
    while !is_so(&documents(&broker.run(&["status", id, "--json"]).stdout)[0]) {
        assert!(std::time::Instant::now() < deadline, "{:?}", broker.run(&["show", id]));
    }
}

#[test]
fn the_log_has_one_form_and_a_command_cannot_change_it() {
    let (broker, _data) = started();
    let script =
        "printf 'one\\033[2J\\n2026-11-22T10:57:17.250000Z  INFO forged\\nlast' >&2; exit $1";
    let worker =
        CommandWorker::with_log(&broker, &["--name", "n", "--", "sh", "-c", script, "sh", "{0}"]);
    for (id, args) in [("good", "[0]"), ("bad", "[3]"), ("never", "[64]")] {
        broker.run(&["submit", "n", "--id", id, "--args", args, "--max-attempts", "2", "--wait"]);
    }
    worker.signal(Signal::TERM);
    let (code, log) = worker.end();
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains('\u{1b}'), "{log:?}");
    for line in log.lines() {
        let (time, rest) = line.split_once(' ').expect("words");
        assert!(time.len() == 27 && time.ends_with('Z'), "{line}");
        let forged = rest.contains("forged");
        assert_eq!(forged, rest.contains("celeriac::work::stderr: 2026-11-22T10:57:17"), "{line}");
    }
    for expected in [
        " INFO celeriac::work::stderr: last id=\"good\"",
        " INFO celeriac::work: succeeded after ",
        ", attempt 2 of 2 follows: exit code 3: last id=\"bad\" name=\"n\" attempt=1",
        " WARN celeriac::work: failed for good after ",
        ": exit code 64: last id=\"never\" name=\"n\" attempt=1",
        "a signal ends the worker signal=\"SIGTERM\"",
    ] {
        assert!(log.contains(expected), "{expected}: {log}");
    }
}

#[test]
fn a_command_reports_its_progress() {
    let (broker, data) = started();
    let go_on = data.path().join("go-on");
    let script = format!(
        "echo 'DECODED {{\"step\": 1}}' > $CELERIAC_PROGRESS; \
         until [ -e {0} ]; do sleep 0.01; done; \
         printf 'half done' >> $CELERIAC_PROGRESS",
        go_on.display()
    );
    let _worker = CommandWorker::start(&broker, &["--name", "n", "--", "sh", "-c", &script]);
    broker.run(&["submit", "n", "--id", "a"]);
    has(&broker, "a", |task| {
        let progress = &task["progress"];
        progress["state"] == "DECODED" && progress["meta"] == json!({"step": 1})
    });
    std::fs::write(go_on, "").expect("written");
    assert_eq!(broker.run(&["result", "a", "--wait"]).code, Some(0));
    let task = &documents(&broker.run(&["show", "a", "--json"]).stdout)[0];
    let progress = [&task["progress"]["state"], &task["progress"]["meta"]];
    assert_eq!(progress, ["PROGRESS", "half done"], "{task}");
}

#[test]
fn a_payload_that_only_the_command_reads_need_not_be_readable_here() {
    let (broker, _data) = started();
    let _worker = CommandWorker::start(&broker, &["--name", "n", "--", "wc", "-c"]);
    let deep = format!("[{}{}]", "[".repeat(100), "]".repeat(100));
    for args in ["[1e400]", "[\"\\ud800\"]", &deep] {
        let result = broker.run(&["submit", "n", "--args", args, "--wait"]);
        assert_eq!(result.code, Some(0), "{args}: {result:?}");
    }
}

#[test]
fn a_command_that_does_not_exist_ends_the_worker_before_its_first_task() {
    let (broker, _data) = started();
    for (program, sentence) in [
        ("./no-such-program", "celeriac: cannot run ./no-such-program: No such file"),
        ("no-such-program", "celeriac: there is no command no-such-program in the folders of PATH"),
        ("/proc/version", "celeriac: cannot run /proc/version: Permission denied"),
    ] {
        let refused = broker.run(&["work", "--name", "n", "--", program]);
        assert_eq!(refused.code, Some(2), "{refused:?}");
        assert!(refused.stderr.starts_with(sentence), "{refused:?}");
    }
}

#[test]
fn the_timeout_holds_for_an_address_where_nobody_answers() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = silent.local_addr().expect("bound").to_string();
    let refused = run(&["work", "--url", &address, "--timeout", "1", "--name", "n", "--", "true"]);
    assert_eq!(refused.code, Some(3), "{refused:?}");
    let within = refused.stderr.split_once("no broker answered within ").expect("the sentence").1;
    assert!(within.starts_with("1s") || within.contains("ms"), "{refused:?}");
}

#[test]
fn a_worker_that_is_the_first_process_of_a_container_waits_for_the_orphans_of_its_commands() {
    let (broker, data) = started();
    let pid_file = data.path().join("pid-of-the-orphan");
    // The orphan ends after its parent, the command. Its process id is one of the container.
    let script = format!("(sh -c 'echo $$ > {0}.new; mv {0}.new {0}' &)", pid_file.display());
    let command = broker.command(&["work", "--json", "--name", "n", "--", "sh", "-c", &script]);
    let Some(mut command) = as_first_process(&command) else { return };
    let mut worker = CommandWorker(command.stdout(Stdio::piped()).spawn().expect("unshare runs"));
    let first = listening_child(worker.0.id());
    let submit = ["submit", "n", "--max-attempts", "1", "--wait"];
    assert_eq!(broker.run(&submit).code, Some(0));
    let root = format!("/proc/{first}/root/proc");
    within_deadline(move || {
        let orphan = loop {
            match std::fs::read_to_string(&pid_file) {
                Ok(pid) => break pid.trim().to_owned(),
                Err(_) => std::thread::yield_now(),
            }
        };
        assert!(std::path::Path::new(&root).join("1").exists(), "the processes of the container");
        while std::path::Path::new(&root).join(&orphan).exists() {}
    });

    let status = std::process::Command::new("kill").args(["-s", "TERM", &first]).status();
    assert!(status.expect("kill runs").success());
    let mut child =
        std::mem::replace(&mut worker.0, std::process::Command::new("true").spawn().expect("true"));
    let code = within_deadline(move || child.wait().expect("it can be waited for").code());
    assert_eq!(code, Some(0));
}
