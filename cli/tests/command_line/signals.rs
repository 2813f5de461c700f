//! Signals of `serve`: which of them end it, and which are noted and otherwise mean nothing.

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
fn signals_that_mean_nothing_to_a_broker_are_noted_and_do_not_end_it() {
    let data = TempDir::new().expect("a folder");
    // A session of its own has no terminal.
    let mut command = Command::new("setsid");
    let plain = serve(&data);
    command.arg("--wait").arg(plain.get_program()).args(plain.get_args()).stderr(Stdio::piped());
    let broker = Broker::ready(command);
    let pid = broker.child_of_its_process();
    for signal in ["HUP", "USR1", "USR2", "ALRM", "PIPE", "XFSZ", "HUP"] {
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().expect("kill runs").success());
        let submitted = broker.run(&["submit", "songs.cluster"]);
        assert_eq!(submitted.code, Some(0), "{signal}: {submitted:?}");
    }
    assert!(Command::new("kill").args(["-s", "TERM", &pid]).status().expect("kill runs").success());
    let ended = broker.ended();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for signal in ["SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGXFSZ"] {
        assert!(ended.stderr.contains(&format!("ignored signal=\"{signal}\"")), "{signal}: {}", ended.stderr);
    }
    assert!(ended.stderr.contains("shutting down signal=\"SIGTERM\""), "{}", ended.stderr);
}

#[test]
fn quit_ends_a_broker_as_term_does() {
    let data = TempDir::new().expect("a folder");
    let broker = Broker::ready(serve(&data));
    broker.run(&["submit", "songs.cluster", "--id", "a"]);
    let ended = broker.stop("QUIT");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("stopped"), "{}", ended.stderr);
}

/// A broker whose controlling terminal is closed, and its address.
fn left_alone(data: &TempDir, script: &str) -> (Child, String) {
    let plain = serve(data);
    let mut command = Command::new("setsid");
    command.args(["--ctty", "sh", "-c", script]).arg(plain.get_program()).args(plain.get_args());
    let mut terminal = Terminal::open(command);
    terminal.wait_for("ready tasks=");
    terminal.wait_for("celeriac: listening on ");
    let line = terminal.seen().split("celeriac: listening on ").nth(1).expect("it was seen");
    let address = line.split_whitespace().next().expect("an address").to_owned();
    (terminal.hang_up(), address)
}

fn code(mut child: Child) -> Option<i32> {
    within_deadline(move || child.wait().expect("it can be waited for").code())
}

#[test]
fn a_broker_ends_in_order_with_its_terminal() {
    let data = TempDir::new().expect("a folder");
    let (child, _) = left_alone(&data, "exec \"$0\" \"$@\"");
    assert_eq!(code(child), Some(0));
}

#[test]
fn a_broker_that_was_told_to_ignore_it_outlives_its_terminal() {
    let data = TempDir::new().expect("a folder");
    let (child, address) = left_alone(&data, "trap '' HUP; exec \"$0\" \"$@\"");
    let submitted = run(&["submit", "songs.cluster", "--url", &format!("celeriac://{address}")]);
    assert_eq!(submitted.code, Some(0), "{submitted:?}");
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-s", "TERM", &pid]).status().expect("kill runs").success());
    assert_eq!(code(child), Some(0));
}
