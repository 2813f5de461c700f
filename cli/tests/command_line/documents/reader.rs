//! A reader of a document who types its commands into a terminal, one after the other, in a folder
//! of their own.
//!
//! A command differs from its text in the document only in the port and in the folders of the
//! system: the port may be in use here, and the folders belong to the machine.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::process::{CommandOutput, finish, program, within_deadline};

/// The port of the documents.
const PORT: &str = "23537";
/// The folders of the system that the documents name. Here they are in the reader's folder.
const SYSTEM: [&str; 3] = ["/etc/", "/usr/local/", "/var/lib/"];

/// A command of a document, with the lines that the document shows as its output.
#[derive(Debug, PartialEq)]
pub(super) struct Typed<'a> {
    pub(super) command: &'a str,
    pub(super) shown: Vec<&'a str>,
}

/// The commands of a block. With prompts, all other lines are output. Without prompts, a line of
/// comment is output.
pub(super) fn commands(block: &str) -> Vec<Typed<'_>> {
    let has_prompts = block.lines().any(|line| line.starts_with("$ "));
    let mut commands: Vec<Typed<'_>> = Vec::new();
    for line in block.lines().filter(|line| !line.is_empty()) {
        let (command, shown) = match has_prompts {
            true => (line.strip_prefix("$ "), Some(line)),
            false => (Some(line).filter(|line| !line.starts_with('#')), line.strip_prefix("# ")),
        };
        match (command, commands.last_mut()) {
            (Some(command), _) => commands.push(Typed { command, shown: Vec::new() }),
            (None, Some(last)) => last.shown.extend(shown),
            (None, None) => panic!("the block begins with output: {line}"),
        }
    }
    commands
}

/// The reader, with the programs that run until the reader ends them.
pub(super) struct Reader {
    folder: TempDir,
    port: u16,
    running: Vec<(&'static str, Child)>,
    is_operator: bool,
}

impl Reader {
    pub(super) fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let folder = TempDir::new().expect("a folder");
        Self { folder, port, running: Vec::new(), is_operator: false }
    }

    /// A reader who is root on a machine with systemd.
    pub(super) fn operator() -> Self {
        let mut reader = Self::new();
        reader.is_operator = true;
        for folder in ["usr/local/bin", "etc/systemd/system", "var/lib/private"] {
            fs::create_dir_all(reader.folder().join(folder)).expect("a new folder");
        }
        reader
    }

    /// The folder in which the reader types.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The folder in place of one of the system.
    pub(super) fn system(&self, path: &str) -> PathBuf {
        self.folder().join(path.trim_start_matches('/'))
    }

    /// The address of the reader's broker.
    pub(super) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Types all commands of a block. Each has to succeed, and to print what the document shows.
    pub(super) fn types(&mut self, block: &str) {
        for Typed { command, shown } in commands(block) {
            let output = self.type_one(command);
            for words in shown {
                assert!(output.contains(words), "{command}\nprints no {words:?}: {output}");
            }
        }
    }

    /// Types a command, and returns what it prints on stdout. A server or worker goes on.
    pub(super) fn type_one(&mut self, command: &str) -> String {
        let command = self.as_typed(command);
        if command.starts_with("systemctl ") {
            self.service(&command);
            return String::new();
        }
        if command.starts_with("celeriac serve ") {
            self.serve(self.shell(&format!("exec {command}")));
            return String::new();
        }
        if command.starts_with("celeriac work ") {
            let worker = self.shell(&format!("exec {command}"));
            self.start("worker", worker);
            return String::new();
        }
        let output: CommandOutput = finish(&mut self.shell(&command), "");
        assert_eq!(output.code, Some(0), "{command}\n{output:?}");
        output.stdout
    }

    /// A shell that runs the command. It does not start here.
    pub(super) fn shell(&self, command: &str) -> Command {
        let mut shell = program("sh");
        shell.args(["-euc", command]).current_dir(self.folder());
        shell.env("CELERIAC_LISTEN", self.address()).env("CELERIAC_URL", self.address());
        shell
    }

    fn as_typed(&self, command: &str) -> String {
        let mut typed = command.replace(PORT, &self.port.to_string());
        for folder in SYSTEM.iter().filter(|_| self.is_operator) {
            let own = format!(" {}{folder}", self.folder().display());
            typed = typed.replace(&format!(" {folder}"), &own);
        }
        typed
    }

    /// Does what systemd does with the unit that was installed.
    fn service(&mut self, command: &str) {
        match command.rsplit_once("systemctl ").expect("the caller has seen it").1 {
            "stop celeriac" => self.stop("broker"),
            "start celeriac" | "enable --now celeriac" => self.start_unit(),
            _ => panic!("nothing here takes the place of {command}"),
        }
    }

    /// Starts what the unit says, with its folders and variables. systemd gives copies of the two
    /// files in `/etc/celeriac`; here they are the files themselves.
    fn start_unit(&mut self) {
        let unit = self.system("/etc/systemd/system/celeriac.service");
        let unit = fs::read_to_string(unit).expect("the unit was installed");
        let values = |key: &str| -> Vec<String> {
            let lines = unit.lines().filter_map(|line| line.strip_prefix(key));
            lines.map(str::to_owned).collect()
        };
        for name in values("StateDirectory=").join(" ").split_whitespace() {
            // With DynamicUser the folder is below `private`, and a link leads to it.
            let _ = fs::create_dir(self.system("/var/lib/private").join(name));
            let link = self.system("/var/lib").join(name);
            let _ = std::os::unix::fs::symlink(Path::new("private").join(name), link);
        }
        let mut start = values("ExecStart=").concat();
        let mut variables = values("Environment=").join(" ");
        for credential in values("LoadCredential=") {
            let (name, file) = credential.split_once(':').expect("name and file");
            for text in [&mut start, &mut variables] {
                *text = text.replace(&format!("%d/{name}"), file);
            }
        }
        let root = self.folder().display().to_string();
        let mut line = format!("{variables} exec {start}");
        for folder in SYSTEM {
            line = line.replace(folder, &format!("{root}{folder}"));
        }
        self.serve(self.shell(&line));
    }

    /// Starts a broker in place of the one that runs, and waits until it serves.
    fn serve(&mut self, broker: Command) {
        self.start("broker", broker);
        let address = self.address();
        within_deadline(move || while TcpStream::connect(&address).is_err() {});
    }

    /// Starts a program. The reader first ends the one of this kind that runs, as with Ctrl-C.
    fn start(&mut self, kind: &'static str, mut program: Command) {
        self.stop(kind);
        let child = program.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.running.push((kind, child.expect("sh starts")));
    }

    fn stop(&mut self, kind: &str) {
        if let Some(place) = self.running.iter().position(|(other, _)| *other == kind) {
            let (_, mut child) = self.running.remove(place);
            kill_process(Pid::from_child(&child), Signal::INT).expect("it runs");
            let status = within_deadline(move || child.wait().expect("it can be waited for"));
            assert!(status.success(), "the {kind} ended with {status}");
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        for (_, child) in &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A line of output with nothing in it that differs from run to run: each number is 0, each span is
/// one `0s`, and columns have one space between them.
pub(super) fn shape(line: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    for word in line.split_whitespace() {
        let word = word_shape(word);
        // `14m 3s` is one span.
        if word == "0s" && words.last().is_some_and(|last| last == "0s") {
            continue;
        }
        words.push(word);
    }
    words.join(" ")
}

fn word_shape(word: &str) -> String {
    let unit =
        word.trim_start_matches(|character: char| character.is_ascii_digit() || character == '.');
    if unit.len() < word.len() && ["ms", "s", "m", "h", "d"].contains(&unit) {
        return "0s".to_owned();
    }
    let mut shape = String::new();
    for character in word.chars() {
        match character.is_ascii_digit() {
            true if shape.ends_with('0') => {}
            true => shape.push('0'),
            false => shape.push(character),
        }
    }
    shape
}

#[test]
fn the_shape_of_a_line_keeps_its_words() {
    assert_eq!(shape("a  STARTED   1/4  3.2s ago"), "a STARTED 0/0 0s ago");
    assert_eq!(shape("14m 3s ago  user-42 {\"n\":14}"), "0s ago user-0 {\"n\":0}");
    assert_ne!(shape("user-42  QUEUED"), shape("user-42  STARTED"));
}

#[test]
fn commands_are_told_from_the_output_that_a_document_shows() {
    let typed = |command, shown: &[&'static str]| Typed { command, shown: shown.to_vec() };
    assert_eq!(commands("a # b\n# c\nd\n"), [typed("a # b", &["c"]), typed("d", &[])]);
    assert_eq!(commands("$ a\nb\n...\n$ c\n"), [typed("a", &["b", "..."]), typed("c", &[])]);
}
