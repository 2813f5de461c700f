//! Commands on a terminal: the question before a command that cannot be undone, and `top` on the
//! whole screen.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use tempfile::TempDir;

use crate::process::{Broker, celeriac, documents, within_deadline};
use crate::worker::Worker;

/// A program on its own terminal. The test presses the keys.
pub(crate) struct Terminal {
    keys: File,
    child: Child,
    seen: String,
}

impl Terminal {
    pub(crate) fn open(command: Command) -> Self {
        // A terminal that does not tell its size.
        Self::open_with_size(command, 0, 0)
    }

    /// A terminal of this many columns and lines, which can show colours unless the command has
    /// another `TERM`.
    pub(crate) fn open_with_size(mut command: Command, columns: u16, lines: u16) -> Self {
        if !command.get_envs().any(|(name, _)| name == "TERM") {
            command.env("TERM", "xterm-256color");
        }
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
            .expect("a terminal");
        grantpt(&master).expect("granted");
        unlockpt(&master).expect("unlocked");
        let size = Winsize { ws_col: columns, ws_row: lines, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&master, size).expect("a size");
        let path = ptsname(&master, Vec::new()).expect("a name").into_string().expect("text");
        let side =
            || Stdio::from(File::options().read(true).write(true).open(&path).expect("opened"));
        let child =
            command.stdin(side()).stdout(side()).stderr(side()).spawn().expect("the binary starts");
        // The command holds the terminal open until it is dropped.
        drop(command);
        Self { keys: master.into(), child, seen: String::new() }
    }

    /// Reads until this text was seen.
    pub(crate) fn wait_for(&mut self, text: &str) {
        while !self.seen.contains(text) {
            assert!(self.read(), "ended without {text:?}: {:?}", self.seen);
        }
    }

    /// Reads once. False at the end, which Linux reports as an error.
    fn read(&mut self) -> bool {
        let mut buffer = [0; 4096];
        let mut reader = self.keys.try_clone().expect("cloned");
        match within_deadline(move || {
            reader.read(&mut buffer).map(|length| buffer[..length].to_vec())
        }) {
            Ok(bytes) if !bytes.is_empty() => {
                self.seen.push_str(&String::from_utf8_lossy(&bytes));
                true
            }
            _ => false,
        }
    }

    pub(crate) fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("pressed");
    }

    /// Everything that the terminal has shown so far.
    pub(crate) fn seen(&self) -> &str {
        &self.seen
    }

    /// Closes the terminal like a window. The program may go on.
    pub(crate) fn hang_up(self) -> Child {
        self.child
    }

    /// Waits for the end of the program. Returns its exit code and everything that was shown.
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        while self.read() {}
        let mut child = self.child;
        (within_deadline(move || child.wait().expect("it ends").code()), self.seen)
    }
}

/// What a terminal has shown without its colours.
pub(crate) fn without_colours(shown: &str) -> String {
    let mut parts = shown.split("\u{1b}[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once('m').map_or("", |(_, rest)| rest))
}

fn started() -> (Broker, TempDir) {
    let data = TempDir::new().expect("a folder");
    (Broker::start(data.path(), &[]), data)
}

#[test]
fn a_purge_asks_and_changes_nothing_without_a_yes() {
    let (broker, _data) = started();
    broker.run(&["submit", "songs.cluster", "--id", "a"]);
    for (answer, code, state) in [("\n", 1, "QUEUED"), ("no\n", 1, "QUEUED"), ("y\n", 0, "REVOKED")]
    {
        let mut terminal = Terminal::open(broker.command(&["queues", "purge", "default"]));
        terminal.wait_for("Revoke 1 waiting task of the queue default? [y/N] ");
        terminal.press(answer);
        let (exit_code, shown) = terminal.end();
        assert_eq!(exit_code, Some(code), "{shown}");
        assert_eq!(documents(&broker.run(&["status", "a", "--json"]).stdout)[0]["state"], state);
    }
}

#[test]
fn top_restores_the_screen_at_its_end() {
    let (broker, _data) = started();
    broker.run(&["submit", "songs.cluster", "--queue", "songs"]);
    for key in ["q", "\u{3}"] {
        let mut terminal = Terminal::open(broker.command(&["top"]));
        terminal.wait_for("\u{1b}[?1049h");
        terminal.wait_for("songs");
        // The first frame has no rates, the second one has.
        terminal.wait_for("in 0.0/s");
        terminal.press(key);
        let (code, shown) = terminal.end();
        assert_eq!(code, Some(0), "{shown:?}");
        assert!(shown.ends_with("\u{1b}[?25h\u{1b}[?7h\u{1b}[?1049l"), "{shown:?}");
    }
}

#[test]
fn top_survives_the_end_of_the_broker_and_ends_with_0_on_a_signal() {
    let (broker, _data) = started();
    let mut terminal = Terminal::open(broker.command(&["top", "--timeout", "1"]));
    terminal.wait_for("QUEUE");
    broker.stop("TERM");
    // This comes at once; the failure of the request comes after its timeout.
    terminal.wait_for("no connection since ");
    terminal.wait_for("no answer within 1s");
    let pid = terminal.child.id().to_string();
    assert!(Command::new("kill").args(["-s", "TERM", &pid]).status().expect("kill runs").success());
    let (code, shown) = terminal.end();
    assert_eq!(code, Some(0), "{shown:?}");
    assert!(shown.ends_with("\u{1b}[?1049l"), "{shown:?}");
}

#[test]
fn tables_fit_the_terminal_and_have_colours_only_where_they_are_wanted() {
    const RED: &str = "\u{1b}[31m";
    let (broker, _data) = started();
    let id = "019f3a1c-7b3c-7def-8a10-0242ac120002";
    broker.run(&["submit", "songs.cluster", "--id", id, "--queue", "songs"]);
    let shown = |arguments: &[&str], columns| {
        let (code, text) = Terminal::open_with_size(broker.command(arguments), columns, 24).end();
        assert_eq!(code, Some(0), "{text}");
        text
    };
    let narrow = shown(&["tasks", "--color", "never"], 50);
    let (heading, row) = narrow.split_once("\r\n").expect("two lines");
    assert!(heading.ends_with(" …") && heading.chars().count() <= 50, "{narrow}");
    assert!(row.starts_with("019f3a1c-7") && row.contains("…"), "{narrow}");
    assert!(shown(&["tasks"], 120).contains(id));
    assert!(shown(&["tasks", "--columns", "id,state"], 20).contains(id));
    assert!(broker.run(&["tasks"]).stdout.contains(id));

    assert!(shown(&["queues"], 120).contains(RED));
    let no_colours = |arguments: &[&str], variable: (&str, &str)| {
        let mut command = broker.command(arguments);
        command.env(variable.0, variable.1);
        let (_, text) = Terminal::open_with_size(command, 120, 24).end();
        assert!(text.contains("no worker") && !text.contains('\u{1b}'), "{text:?}");
    };
    no_colours(&["queues"], ("NO_COLOR", "1"));
    no_colours(&["queues", "--color", "never"], ("COLORTERM", "truecolor"));
    assert!(!broker.run(&["queues"]).stdout.contains('\u{1b}'));
    assert!(broker.run(&["queues", "--color", "always"]).stdout.contains(RED));
    let json = broker.run(&["queues", "--json", "--color", "always"]).stdout;
    assert!(!json.contains('\u{1b}'), "{json}");
}

#[test]
fn top_on_a_small_screen_scrolls_and_filters() {
    let (broker, _data) = started();
    for number in 10..30 {
        broker.run(&["submit", "songs.cluster", "--queue", &format!("queue-{number}")]);
    }
    let mut terminal = Terminal::open_with_size(broker.command(&["top"]), 60, 14);
    terminal.wait_for("queue-10");
    terminal.wait_for("… 15 more");
    terminal.wait_for("q quit");
    assert!(!terminal.seen().contains("queue-29"));
    terminal.press("\u{1b}[F");
    terminal.wait_for("queue-29");
    terminal.press("/-27");
    terminal.wait_for("/-27_");
    terminal.press("\rq");
    let (code, shown) = terminal.end();
    assert_eq!(code, Some(0), "{shown:?}");
    // The frames after the last key of the filter.
    let filtered = shown.rsplit("/-2_").next().expect("a frame");
    assert!(filtered.contains("queue-27") && !filtered.contains("queue-26"), "{filtered:?}");
}

#[test]
fn top_fills_the_highest_terminal() {
    let (broker, _data) = started();
    let mut terminal = Terminal::open_with_size(broker.command(&["top"]), 80, u16::MAX);
    terminal.wait_for("QUEUE");
    terminal.press("q");
    let (code, seen) = terminal.end();
    assert_eq!(code, Some(0));
    assert!(!seen.contains("panicked"), "{}", &seen[seen.len().saturating_sub(500)..]);
}

#[test]
fn the_question_before_all_dead_tasks_are_discarded_has_their_number() {
    let (broker, _data) = started();
    let mut worker = Worker::connect(&broker, "n");
    assert_eq!(broker.run(&["submit", "n"]).code, Some(0));
    worker.fail("ValueError", "no song");
    let mut terminal = Terminal::open(broker.command(&["dead", "discard", "--all"]));
    terminal.wait_for("Discard all dead tasks (1 now)? [y/N] ");
    terminal.press("n\n");
    assert_eq!(terminal.end().0, Some(1));
}

#[test]
fn a_question_about_many_tasks_has_their_number() {
    let (broker, _data) = started();
    for (id, more) in [("a", ["--tag", "album"]), ("b", ["--tag", "album"]), ("c", ["--tag", "x"])]
    {
        let submitted = broker.run(&[&["submit", "n", "--id", id], &more[..]].concat());
        assert_eq!(submitted.code, Some(0), "{submitted:?}");
    }
    let asked = |arguments: &[&str], question: &str, answer: &str| {
        let mut terminal = Terminal::open(broker.command(arguments));
        terminal.wait_for(question);
        terminal.press(answer);
        terminal.end()
    };
    let album = ["cancel", "--tag", "album"];
    let (code, _) = asked(&album, "with the tag album (2 now)? [y/N] ", "n\n");
    assert_eq!(code, Some(1));
    let tree = ["cancel", "--root", "c"];
    let (code, _) = asked(&tree, "of the tree of c (1 now)? [y/N] ", "y\n");
    assert_eq!(code, Some(0));
    let (code, shown) = asked(&album, "Cancel every unfinished task ", "y\n");
    assert!(code == Some(0) && shown.contains("b  revoked"), "{shown}");
    // Without a task there is no question.
    let (code, shown) = Terminal::open(broker.command(&album)).end();
    assert_eq!((code, shown.as_str()), (Some(0), "no unfinished task matches\r\n"));
    let (code, shown) = Terminal::open(broker.command(&["cancel", "--tag", "none"])).end();
    assert_eq!(code, Some(4), "{shown}");
    for none in [
        &["dead", "discard", "--queue", "default"][..],
        &["dead", "discard", "--all"],
        &["queues", "purge", "default"],
    ] {
        let (code, shown) = Terminal::open(broker.command(none)).end();
        assert_eq!(code, Some(0), "{shown}");
        assert!(shown.contains("0 ") && !shown.contains("[y/N]"), "{shown}");
    }
}

#[test]
fn top_on_a_terminal_that_shows_text_alone_prints_frames_and_no_escapes() {
    let data = TempDir::new().expect("a folder");
    let broker = Broker::start(data.path(), &[]);
    for term in ["dumb", ""] {
        let mut command = broker.command(&["top"]);
        command.env("TERM", term);
        let mut terminal = Terminal::open_with_size(command, 40, 10);
        terminal.wait_for("WORKER");
        let pid = terminal.child.id().to_string();
        let kill = Command::new("kill").args(["-s", "QUIT", &pid]).status().expect("kill runs");
        assert!(kill.success());
        let (code, text) = terminal.end();
        assert!(code == Some(0) && !text.contains('\u{1b}'), "{text:?}");
    }
}

#[test]
fn the_log_on_a_terminal_is_short_and_has_colours_only_where_they_are_wanted() {
    let shown = |more: &[&str], variable: (&str, &str)| {
        let data = TempDir::new().expect("a folder");
        let folder = data.path().join("data").display().to_string();
        let serve = ["serve", "--listen", "127.0.0.1:0", "--data", &folder];
        let mut command = celeriac(&[&serve, more].concat());
        command.env(variable.0, variable.1);
        let mut terminal = Terminal::open_with_size(command, 80, 24);
        terminal.wait_for("the broker is ready");
        terminal.wait_for("celeriac: listening on ");
        let pid = terminal.child.id().to_string();
        let kill = Command::new("kill").args(["-s", "TERM", &pid]).status().expect("kill runs");
        assert!(kill.success());
        let (code, text) = terminal.end();
        assert_eq!(code, Some(0), "{text}");
        text
    };
    const GREEN: &str = "\u{1b}[32m INFO\u{1b}[0m the broker is ready";
    let text = shown(&[], ("LANG", "C"));
    assert!(text.contains(GREEN) && !text.contains("celeriac_broker"), "{text:?}");
    assert!(shown(&["--color", "always"], ("NO_COLOR", "1")).contains(GREEN));
    for (more, variable) in
        [(&[][..], ("NO_COLOR", "1")), (&["--color", "never"], ("COLORTERM", "truecolor"))]
    {
        let text = shown(more, variable);
        assert!(!text.contains('\u{1b}'), "{text:?}");
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.iter().all(|line| line.chars().count() <= 80), "{text}");
        let ready = lines.iter().find(|line| line.contains(" INFO the broker is ready"));
        let time = ready.and_then(|line| line.split(' ').next()).expect("a time");
        assert_eq!(time.len(), "14:03:05".len(), "{text}");
        // The fields do not fit beside it, and go on below the message.
        assert!(lines.iter().any(|line| line.starts_with("               ")), "{text}");
    }
}
