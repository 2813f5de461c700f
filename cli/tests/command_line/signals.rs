//! The signals of `serve`: some end the broker, and the broker logs and ignores the others.

use std::fs;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::process::{Broker, celeriac, run, within_deadline};
use crate::terminal::Terminal;

fn serve(data: &TempDir) -> Command {
    let mut serve = celeriac(&["serve", "--listen", "127.0.0.1:0", "--data"]);
    serve.arg(data.path()).stderr(Stdio::piped());
    serve
}

#[test]
fn signals_without_a_meaning_are_logged_and_do_not_end_the_broker() {
    let data = TempDir::new().expect("a folder");
    // A new session has no terminal.
    let mut command = Command::new("setsid");
    let plain = serve(&data);
    command.arg("--wait").arg(plain.get_program()).args(plain.get_args()).stderr(Stdio::piped());
    let broker = Broker::ready(command);
    let pid = broker.child_of_its_process();
    for signal in ["USR1", "USR2", "ALRM", "PIPE", "XFSZ", "34", "64", "STKFLT", "USR1"] {
        assert!(
            Command::new("kill").args(["-s", signal, &pid]).status().expect("kill runs").success()
        );
        let submitted = broker.run(&["submit", "songs.cluster"]);
        assert_eq!(submitted.code, Some(0), "{signal}: {submitted:?}");
    }
    assert!(Command::new("kill").args(["-s", "TERM", &pid]).status().expect("kill runs").success());
    let output = broker.wait();
    assert_eq!(output.code, Some(0), "{output:?}");
    for signal in
        ["SIGUSR1", "SIGUSR2", "SIGALRM", "SIGXFSZ", "SIGRTMIN", "SIGRTMIN+30", "SIGSTKFLT"]
    {
        assert!(
            output.stderr.contains(&format!("ignored signal=\"{signal}\"")),
            "{signal}: {}",
            output.stderr
        );
    }
    assert!(
        output.stderr.contains("a signal ends the broker signal=\"SIGTERM\""),
        "{}",
        output.stderr
    );
}

#[test]
fn quit_ends_a_broker_like_term() {
    let data = TempDir::new().expect("a folder");
    let broker = Broker::ready(serve(&data));
    broker.run(&["submit", "songs.cluster", "--id", "a"]);
    let output = broker.stop("QUIT");
    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(output.stderr.contains("the broker has ended"), "{}", output.stderr);
}

/// A broker whose terminal is closed after its start, and its address.
fn without_its_terminal(data: &TempDir, script: &str) -> (Child, String) {
    let plain = serve(data);
    let mut command = Command::new("setsid");
    command.args(["--ctty", "sh", "-c", script]).arg(plain.get_program()).args(plain.get_args());
    let mut terminal = Terminal::open(command);
    terminal.wait_for("the broker is ready");
    terminal.wait_for("celeriac: listening on ");
    let line = terminal.seen().split("celeriac: listening on ").nth(1).expect("it was seen");
    let address = line.split_whitespace().next().expect("an address").to_owned();
    (terminal.hang_up(), address)
}

fn exit_code(mut child: Child) -> Option<i32> {
    within_deadline(move || child.wait().expect("it can be waited for").code())
}

#[test]
fn a_broker_ends_in_order_when_its_terminal_closes() {
    let data = TempDir::new().expect("a folder");
    let (child, _) = without_its_terminal(&data, "exec \"$0\" \"$@\"");
    assert_eq!(exit_code(child), Some(0));
}

#[test]
fn a_broker_that_ignores_sighup_outlives_its_terminal() {
    let data = TempDir::new().expect("a folder");
    let (child, address) = without_its_terminal(&data, "trap '' HUP; exec \"$0\" \"$@\"");
    let submitted = run(&["submit", "songs.cluster", "--url", &format!("celeriac://{address}")]);
    assert_eq!(submitted.code, Some(0), "{submitted:?}");
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-s", "TERM", &pid]).status().expect("kill runs").success());
    assert_eq!(exit_code(child), Some(0));
}

/// The command as the first process of a container. `unshare` makes one, which needs root.
#[allow(clippy::print_stderr, reason = "a test that was skipped says so")]
pub(crate) fn as_first_process(command: &Command) -> Option<Command> {
    let mut unshare = Command::new("unshare");
    unshare.args(["--pid", "--fork", "--mount-proc", "--kill-child"]);
    let probe = unshare.arg("true").stderr(Stdio::null()).status();
    if !probe.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: no process can be made the first one of a container");
        return None;
    }
    let mut unshare = Command::new("unshare");
    unshare
        .args(["--pid", "--fork", "--mount-proc", "--kill-child"])
        .arg(command.get_program())
        .args(command.get_args());
    unshare.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    Some(unshare)
}

/// The process id of the command that `unshare` started, as soon as the command handles SIGTERM.
pub(crate) fn listening_child(unshare: u32) -> String {
    listening_for(unshare, 1 << 14)
}

/// The same, once it handles all signals of this mask. The kernel drops the others.
fn listening_for(unshare: u32, signals: u64) -> String {
    let caught = |pid: &str| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"))?;
        u64::from_str_radix(mask.trim(), 16).ok()
    };
    within_deadline(move || {
        loop {
            let children = fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children"))
                .unwrap_or_default();
            match children.split_whitespace().next() {
                Some(pid) if caught(pid).is_some_and(|mask| mask & signals == signals) => {
                    return pid.to_owned();
                }
                _ => std::thread::yield_now(),
            }
        }
    })
}

#[test]
fn signals_end_a_command_that_is_the_first_process_of_a_container() {
    let data = TempDir::new().expect("a folder");
    let broker = Broker::ready(serve(&data));
    broker.run(&["submit", "nobody-knows-it", "--id", "a"]);
    for arguments in
        [&["watch", "b"][..], &["submit", "nobody-knows-it", "--wait"], &["result", "a", "--wait"]]
    {
        for (signal, code) in [("TERM", 143), ("INT", 130), ("HUP", 129), ("QUIT", 131)] {
            let Some(mut command) = as_first_process(&broker.command(arguments)) else { return };
            let child = command
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("unshare runs");
            // SIGHUP, SIGINT, SIGQUIT and SIGTERM.
            let pid = listening_for(child.id(), 0b111 | 1 << 14);
            assert!(
                Command::new("kill")
                    .args(["-s", signal, &pid])
                    .status()
                    .expect("kill runs")
                    .success()
            );
            let output =
                within_deadline(move || child.wait_with_output().expect("it can be waited for"));
            assert_eq!(output.status.code(), Some(code), "{arguments:?} {signal}: {output:?}");
        }
    }
}
