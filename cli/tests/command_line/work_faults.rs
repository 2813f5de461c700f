//! `celeriac work` when nobody reads what it prints, when signals come, when the system has no
//! room, and when its broker is away.

use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};

use crate::log::{Unread, unread};
use crate::process::{Broker, celeriac, documents, within_deadline};
use crate::work::{CommandWorker, has, is_started, started};

/// Writes more to stderr than a pipe and the queue of the log hold.
const LOUD: &str = "head -c 3000000 /dev/zero | tr '\\0' x | fold -w 1000 >&2";

/// Checks that a worker whose output nobody reads runs tasks, obeys a cancel, and ends in order.
fn works_as_usual(broker: &Broker, mut worker: CommandWorker, case: &str) {
    for number in 0..3 {
        let id = format!("{case} {number}");
        broker.run(&["submit", "n", "--id", &id, "--args", "[0]"]);
        assert_eq!(broker.run(&["result", &id, "--wait"]).code, Some(0), "{id}");
    }
    let hangs = format!("{case} hangs");
    broker.run(&["submit", "n", "--id", &hangs, "--args", "[1000]"]);
    is_started(broker, &hangs);
    broker.run(&["cancel", &hangs]);
    assert_eq!(broker.run(&["result", &hangs, "--wait"]).code, Some(6), "{hangs}");
    worker.signal(Signal::TERM);
    assert_eq!(worker.code(), Some(0), "{case}");
}

#[test]
fn a_worker_does_not_wait_for_a_reader() {
    let (broker, _data) = started();
    let script = format!("sleep $1; {LOUD}");
    let arguments = ["--name", "n", "--concurrency", "1", "--", "sh", "-c", &script, "sh", "{0}"];
    for Unread { name, writer, _reader } in unread() {
        let mut command = broker.command(&["work"]);
        let worker = CommandWorker::spawn(command.args(arguments).stderr(writer));
        works_as_usual(&broker, worker, &format!("stderr: {name}"));
    }
    for Unread { name, writer, _reader } in unread() {
        let mut command = broker.command(&["work", "--json"]);
        command.args(arguments).stdout(writer).stderr(Stdio::null());
        let worker = CommandWorker::spawn(&mut command);
        works_as_usual(&broker, worker, &format!("stdout: {name}"));
    }
}

/// A script that starts a process which ignores SIGTERM, and writes its number into a file.
fn stubborn(pid_file: &Path) -> String {
    let child = format!("trap \"\" TERM; echo \\$\\$ > {}; exec sleep 1000", pid_file.display());
    format!("sh -c \"{}\" & wait", child.replace('"', "\\\""))
}

fn pid_in(file: &Path) -> String {
    let file = file.to_owned();
    within_deadline(move || {
        loop {
            match std::fs::read_to_string(&file) {
                Ok(pid) if pid.ends_with('\n') => return pid.trim().to_owned(),
                _ => std::thread::yield_now(),
            }
        }
    })
}

fn ends(pid: String) {
    let is_alive = move || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        !status.is_empty() && !status.contains("State:\tZ")
    };
    within_deadline(move || while is_alive() {});
}

#[test]
fn what_a_stopped_command_leaves_behind_is_killed_after_the_grace() {
    let (broker, data) = started();
    let pid_file = data.path().join("pid");
    let script = stubborn(&pid_file);
    let arguments = ["--name", "n", "--grace", "300ms", "--", "sh", "-c", &script];
    let _worker = CommandWorker::with_log(&broker, &arguments);
    broker.run(&["submit", "n", "--id", "a"]);
    let pid = pid_in(&pid_file);
    assert_eq!(broker.run(&["cancel", "a"]).code, Some(0));
    assert_eq!(broker.run(&["result", "a", "--wait"]).code, Some(6));
    ends(pid);
}

#[test]
fn every_signal_that_ends_a_process_lets_the_command_end_first() {
    let (broker, data) = started();
    for (signal, name) in [
        (Signal::HUP, "SIGHUP"),
        (Signal::QUIT, "SIGQUIT"),
        (Signal::INT, "SIGINT"),
        (Signal::TERM, "SIGTERM"),
    ] {
        let go_on = data.path().join(name);
        let script = format!("until [ -e {} ]; do sleep 0.01; done", go_on.display());
        let worker = CommandWorker::with_log(&broker, &["--name", "n", "--", "sh", "-c", &script]);
        broker.run(&["submit", "n", "--id", name]);
        is_started(&broker, name);
        for ignored in [Signal::USR1, Signal::USR2, Signal::ALARM] {
            worker.signal(ignored);
        }
        worker.signal(signal);
        // The worker takes no new tasks from here on.
        within_deadline({
            let mut quiet = broker.command(&["workers", "--json"]);
            move || while !crate::process::finish(&mut quiet, "").stdout.contains("\"credit\":0") {}
        });
        std::fs::write(go_on, "").expect("written");
        let (code, log) = worker.end();
        assert_eq!(code, Some(0), "{name}: {log}");
        let task = &documents(&broker.run(&["status", name, "--json"]).stdout)[0];
        assert_eq!((&task["state"], &task["attempts"]), (&"SUCCESS".into(), &1.into()), "{task}");
        assert!(log.contains("waits up to 10s for its commands; another signal"), "{log}");
        assert!(log.contains(&format!("signal=\"{name}\"")), "{log}");
        for ignored in ["SIGUSR1", "SIGUSR2", "SIGALRM"] {
            assert!(log.contains(&format!("ignored signal=\"{ignored}\"")), "{log}");
        }
    }
}

#[test]
fn a_second_signal_ends_the_worker_at_once_and_hands_its_task_back() {
    let (broker, _data) = started();
    let mut worker = CommandWorker::with_log(&broker, &["--name", "n", "--", "sleep", "1000"]);
    broker.run(&["submit", "n", "--id", "a"]);
    is_started(&broker, "a");
    while worker.0.try_wait().expect("it can be waited for").is_none() {
        let _ = rustix::process::kill_process(Pid::from_child(&worker.0), Signal::INT);
        // A signal within a second after the first one counts as the same one.
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let (code, log) = worker.end();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("a second signal ends the worker at once signal=\"SIGINT\""), "{log}");
    assert!(log.contains("handed back after "), "{log}");
    let task = &documents(&broker.run(&["status", "a", "--json"]).stdout)[0];
    assert_eq!((&task["state"], &task["attempts"]), (&"QUEUED".into(), &0.into()), "{task}");
}

#[test]
fn few_descriptors_lower_the_concurrency_and_cost_no_attempt() {
    let (broker, _data) = started();
    let limited = "ulimit -n 100; exec \"$0\" \"$@\"";
    let work =
        broker.command(&["work", "--name", "n", "--concurrency", "60", "--", "sleep", "0.3"]);
    let mut command = Command::new("sh");
    command.args(["-c", limited]).arg(work.get_program()).args(work.get_args());
    command.env("CELERIAC_URL", format!("celeriac://{}", broker.address)).stderr(Stdio::piped());
    let worker = CommandWorker::spawn(&mut command);
    for number in 0..40 {
        broker.run(&["submit", "n", "--id", &number.to_string()]);
    }
    for number in 0..40 {
        let id = number.to_string();
        has(&broker, &id, |task| task["finished_at_ms"] != serde_json::Value::Null);
        let task = &documents(&broker.run(&["status", &id, "--json"]).stdout)[0];
        let told = (&task["state"], &task["attempts"]);
        assert_eq!(told, (&"SUCCESS".into(), &1.into()), "{task}");
    }
    worker.signal(Signal::TERM);
    let (code, log) = worker.end();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("commands run at once and no more: raise the limit"), "{log}");
}

#[test]
fn a_command_waits_for_room_and_its_task_loses_no_attempt() {
    let (broker, _data) = started();
    let worker = CommandWorker::with_log(&broker, &["--name", "n", "--", "echo", "1"]);
    let result = broker.run(&["submit", "n", "--wait"]);
    assert_eq!(result.stdout, "1\n", "{result:?}");
    let pid = Pid::from_child(&worker.0);
    let before = rustix::process::getrlimit(Resource::Nofile);
    let none = Rlimit { current: Some(1), maximum: before.maximum };
    prlimit(Some(pid), Resource::Nofile, none).expect("lowered");
    broker.run(&["submit", "n", "--id", "a"]);
    is_started(&broker, "a");
    prlimit(Some(pid), Resource::Nofile, before).expect("raised again");
    assert_eq!(broker.run(&["result", "a", "--wait"]).stdout, "1\n");
    let task = &documents(&broker.run(&["status", "a", "--json"]).stdout)[0];
    assert_eq!((&task["attempts"], &task["errors"]), (&1.into(), &serde_json::json!([])), "{task}");
}

#[test]
fn the_log_says_when_the_broker_is_back() {
    let (broker, data) = started();
    let worker = CommandWorker::with_log(&broker, &["--name", "n", "--", "echo", "1"]);
    assert_eq!(broker.run(&["submit", "n", "--wait"]).code, Some(0));
    let address = broker.address.clone();
    broker.stop("TERM");
    let mut serve = celeriac(&["serve", "--listen", &address, "--data"]);
    serve.arg(data.path());
    let broker = Broker::ready(serve);
    assert_eq!(broker.run(&["submit", "n", "--wait"]).code, Some(0));
    worker.signal(Signal::TERM);
    let (_, log) = worker.end();
    let lost = log.find("the connection to the broker is lost").expect("it was lost");
    assert!(log[lost..].contains("connected session="), "{log}");
}

#[test]
fn a_worker_that_is_killed_takes_its_commands_with_it() {
    let (broker, data) = started();
    let pid_file = data.path().join("pid");
    let worker =
        CommandWorker::with_log(&broker, &["--name", "n", "--", "sh", "-c", &stubborn(&pid_file)]);
    broker.run(&["submit", "n", "--id", "a"]);
    let pid = pid_in(&pid_file);
    worker.signal(Signal::KILL);
    // The command and the process that it started, which ignores SIGTERM.
    ends(pid);
    let (code, log) = worker.end();
    assert_eq!((code, log.contains("guard")), (None, false), "{log}");
}

#[test]
fn a_worker_without_its_guard_says_so_and_works_on() {
    let (broker, _data) = started();
    let worker = CommandWorker::with_log(&broker, &["--name", "n", "--", "true"]);
    let submit = |id: &str| {
        assert_eq!(broker.run(&["submit", "n", "--id", id, "--wait"]).code, Some(0));
    };
    submit("a");
    let guard = guard_of(worker.0.id());
    rustix::process::kill_process(guard, Signal::KILL).expect("it runs");
    ends(guard.as_raw_nonzero().to_string());
    submit("b");
    submit("c");
    worker.signal(Signal::TERM);
    let (code, log) = worker.end();
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(log.matches("the guard of the commands is gone").count(), 1, "{log}");
}

/// The process that guards the commands of this worker.
fn guard_of(worker: u32) -> Pid {
    let children = std::fs::read_to_string(format!("/proc/{worker}/task/{worker}/children"));
    let is_guard = |pid: &&str| {
        let words = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        words.starts_with("celeriac-guard")
    };
    let children = children.expect("a process");
    let guard = children.split_whitespace().find(is_guard).expect("the guard is a child");
    Pid::from_raw(guard.parse().expect("a number")).expect("no process has the number 0")
}
