//! `celeriac work`: a worker that runs a command for each task.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use crate::process::{Broker, documents, within_deadline};
use crate::signals::{as_first_process, listening_child};
use tempfile::TempDir;

fn started() -> (Broker, TempDir) {
    let data = TempDir::new().expect("a folder");
    (Broker::start(data.path(), &[]), data)
}

/// A worker in its own process. Dropping this value kills the process.
struct CommandWorker(Child);

impl CommandWorker {
    /// Starts `celeriac work --json` with these arguments.
    fn start(broker: &Broker, arguments: &[&str]) -> Self {
        let mut command = broker.command(&["work", "--json"]);
        Self(command.args(arguments).stdout(Stdio::piped()).spawn().expect("the binary starts"))
    }

    fn stop(mut self) -> (Option<i32>, Vec<serde_json::Value>) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
        let stdout = BufReader::new(self.0.stdout.take().expect("piped"));
        let lines = within_deadline(move || stdout.lines().collect::<Result<Vec<_>, _>>());
        let code = self.0.wait().expect("it can be waited for").code();
        (code, documents(&lines.expect("stdout is text").join("\n")))
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
