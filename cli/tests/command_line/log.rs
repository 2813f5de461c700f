//! The log and the first line of a broker when nothing reads them: the reader is gone, has stopped,
//! or is a full device. The broker serves, makes backups and ends as usual. Names from clients
//! cannot add lines to the log.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};

use rustix::pipe::{PipeFlags, pipe_with};
use tempfile::TempDir;

use crate::process::{Broker, celeriac, documents, finish, within_deadline};

/// So many connections write more lines than the queue of the log can hold.
const CONNECTIONS: usize = 5_000;

const LEVELS: [&str; 3] = ["info", "debug", "trace"];

/// A descriptor that takes nothing.
pub(crate) struct Unread {
    pub(crate) name: &'static str,
    pub(crate) writer: Stdio,
    /// The other end of a pipe, which has to stay open.
    pub(crate) _reader: Option<OwnedFd>,
}

/// All kinds of descriptors that take nothing.
pub(crate) fn unread() -> Vec<Unread> {
    let full_device = File::options().write(true).open("/dev/full").expect("it is there");
    let read_only = File::open("/dev/null").expect("it is there");
    let (gone, writer) = pipe_with(PipeFlags::CLOEXEC).expect("a pipe");
    drop(gone);
    let mut all = vec![
        Unread { name: "a full device", writer: full_device.into(), _reader: None },
        Unread { name: "a file that cannot be written", writer: read_only.into(), _reader: None },
        Unread { name: "a reader that is gone", writer: writer.into(), _reader: None },
    ];
    for (name, flags) in [
        ("a full pipe", PipeFlags::CLOEXEC),
        ("a full pipe that does not wait", PipeFlags::CLOEXEC | PipeFlags::NONBLOCK),
    ] {
        let (reader, writer) = full_pipe(flags);
        all.push(Unread { name, writer: writer.into(), _reader: Some(reader) });
    }
    all
}

/// A pipe without room for another byte.
fn full_pipe(flags: PipeFlags) -> (OwnedFd, OwnedFd) {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).expect("a pipe");
    while rustix::io::write(&writer, &[b'.'; 4096]).is_ok() {}
    while rustix::io::write(&writer, b".").is_ok() {}
    rustix::io::ioctl_fionbio(&writer, flags.contains(PipeFlags::NONBLOCK)).expect("set");
    rustix::io::ioctl_fionbio(&reader, false).expect("set");
    (reader, writer)
}

fn serve(data: &TempDir, level: &str) -> Command {
    serve_on("127.0.0.1:0", data, level)
}

fn serve_on(address: &str, data: &TempDir, level: &str) -> Command {
    let mut serve = celeriac(&["serve", "--listen", address, "--log", level, "--data"]);
    serve.arg(data.path().join("store"));
    serve
}

/// Checks that a broker takes tasks, makes a backup and ends with 0.
fn works_as_usual(broker: Broker, data: &TempDir, case: &str) {
    for number in 0..10 {
        let submitted = broker.run(&["submit", "songs.cluster", "--id", &number.to_string()]);
        assert_eq!(submitted.code, Some(0), "{case}: {submitted:?}");
    }
    let folder = data.path().join("copy");
    let backup = broker.run(&["backup", folder.to_str().expect("text")]);
    assert_eq!(backup.code, Some(0), "{case}: {backup:?}");
    assert_eq!(broker.stop("TERM").code, Some(0), "{case}");
}

#[test]
fn a_log_that_nothing_reads_does_not_disturb_the_broker() {
    for level in LEVELS {
        for Unread { name, writer, _reader } in unread() {
            let data = TempDir::new().expect("a folder");
            let mut command = serve(&data, level);
            command.stderr(writer);
            works_as_usual(Broker::ready(command), &data, &format!("{name}, {level}"));
        }
    }
}

#[test]
fn descriptors_that_were_closed_before_the_start_do_not_disturb_the_broker() {
    for level in LEVELS {
        let data = TempDir::new().expect("a folder");
        let mut shell = Command::new("sh");
        let broker = serve(&data, level);
        shell
            .args(["-c", "exec \"$0\" \"$@\" 0<&- 2>&-"])
            .arg(broker.get_program())
            .args(broker.get_args());
        works_as_usual(Broker::ready(shell), &data, &format!("closed, {level}"));
        let copy = data.path().join("copy");
        assert_eq!(
            finish(celeriac(&["check"]).arg(copy), "").code,
            Some(0),
            "no log is in the data"
        );
    }
}

/// A free port. If another program takes it before the broker, the test fails with that reason.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a port")
        .port()
}

fn exit_code(mut child: Child) -> Option<i32> {
    within_deadline(move || child.wait().expect("it can be waited for").code())
}

#[test]
fn a_first_line_that_nothing_reads_does_not_disturb_the_broker() {
    for Unread { name, writer, _reader } in unread() {
        let data = TempDir::new().expect("a folder");
        let address = format!("127.0.0.1:{}", free_port());
        let child =
            serve_on(&address, &data, "off").stdout(writer).spawn().expect("the binary starts");
        let mut status = celeriac(&["queues", "--url", &format!("celeriac://{address}")]);
        within_deadline(move || while finish(&mut status, "").code != Some(0) {});
        let signalled =
            Command::new("kill").arg(child.id().to_string()).status().expect("kill runs");
        assert!(signalled.success());
        assert_eq!(exit_code(child), Some(0), "{name}");
    }
}

#[test]
fn a_failure_that_nothing_reads_keeps_its_exit_code() {
    let data = TempDir::new().expect("a folder");
    let _broker = Broker::ready(serve(&data, "off"));
    for Unread { name, writer, _reader } in unread() {
        let child = serve(&data, "trace").stderr(writer).spawn().expect("the binary starts");
        assert_eq!(exit_code(child), Some(11), "{name}");
    }
    for Unread { name, writer, _reader } in unread() {
        let child = celeriac(&["serve"]).stderr(writer).spawn().expect("the binary starts");
        assert_eq!(exit_code(child), Some(2), "{name}");
    }
}

#[test]
fn a_log_that_is_read_again_says_how_many_lines_are_missing() {
    for format in ["text", "json"] {
        let data = TempDir::new().expect("a folder");
        let (reader, writer) = full_pipe(PipeFlags::CLOEXEC);
        let mut command = serve(&data, "trace");
        command.args(["--log-format", format]).stderr(Stdio::from(writer));
        let broker = Broker::ready(command);
        // At this level each connection makes a few lines. The queue holds one MiB of lines.
        let peer: std::net::SocketAddr = broker.address.parse().expect("an address");
        let connect = move || {
            for _ in 0..CONNECTIONS {
                drop(TcpStream::connect(peer));
            }
        };
        let (mut log, mut seen) = (BufReader::new(File::from(reader)), String::new());
        within_deadline(connect);
        within_deadline(move || {
            let mut line = Vec::new();
            while !seen.contains(" lines of this log could not be written and are missing") {
                line.clear();
                assert_ne!(
                    log.read_until(b'\n', &mut line).expect("read"),
                    0,
                    "the log ended: {seen}"
                );
                seen = String::from_utf8_lossy(&line).into_owned();
            }
            // The rest is read too, so that the broker can write its last lines.
            std::thread::spawn(move || log.read_to_end(&mut Vec::new()));
        });
        assert_eq!(broker.stop("TERM").code, Some(0));
    }
}

#[test]
fn no_name_adds_a_line_to_the_log() {
    let evil = "x\n2026-01-01T00:00:00Z  INFO celeriac: forged\r\u{1b}[2J\u{9b}1m\u{202e}\u{2028}";
    for format in ["text", "json"] {
        let data = TempDir::new().expect("a folder");
        let mut command = serve(&data, "trace");
        command.args(["--log-format", format]).stderr(Stdio::piped());
        let broker = Broker::ready(command);
        crate::worker::Worker::connect_as(&broker, evil, "songs.cluster");
        let folder = data.path().join(evil);
        assert_eq!(broker.run(&["backup", folder.to_str().expect("text")]).code, Some(0));
        let missing = data.path().join(evil).join(evil).join(evil);
        assert_ne!(broker.run(&["backup", missing.to_str().expect("text")]).code, Some(0));
        assert_ne!(
            finish(broker.command(&["queues"]).env("CELERIAC_TOKEN", "\u{7f}"), "").code,
            None
        );
        let log = broker.stop("TERM").stderr;
        assert!(log.contains("forged"), "{log}");
        for hidden in ['\r', '\u{1b}', '\u{9b}', '\u{202e}', '\u{2028}'] {
            assert!(!log.contains(hidden), "{hidden:?} in {log:?}");
        }
        assert!(log.lines().all(|line| !line.starts_with("2026-01-01")), "{log}");
        if format == "json" {
            documents(&log);
        }
    }
}
