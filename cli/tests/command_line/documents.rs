//! The commands of every document, as a reader pastes them. `documents/ways.txt` says of each block
//! of commands which story of this file types it, or why none can. A block without a line there
//! fails a test, and so does a line whose block is gone.

mod blocks;
mod reader;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

use celeriac_proto::wire::{self, task_report::Report};

use self::blocks::{Block, blocks_of_commands, project};
use self::reader::{Reader, commands, shape};
use crate::process::{finish, within_deadline};
use crate::worker::Worker;

const WAYS: &str = include_str!("documents/ways.txt");

/// How a block is tried.
struct Way {
    document: &'static str,
    /// The text with which the block begins.
    begin: &'static str,
    how: &'static str,
}

/// The lines of `ways.txt`.
fn ways() -> Vec<Way> {
    let (mut ways, mut document, mut begin) = (Vec::new(), "", "");
    for line in WAYS.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.len() - line.trim_start().len() {
            0 => document = line,
            2 => begin = line.trim_start(),
            _ => ways.push(Way { document, begin, how: line.trim_start() }),
        }
    }
    ways
}

/// Each block of commands with its way. A block without one is a failure, and so is the reverse.
fn blocks_with_ways() -> Vec<(Block, Way)> {
    let (mut left, mut found) = (ways(), Vec::new());
    for block in blocks_of_commands() {
        let place = left.iter().position(|way| way.document == block.document);
        let fits = place.filter(|place| block.text.starts_with(left[*place].begin));
        let place = fits.unwrap_or_else(|| {
            panic!("{}: documents/ways.txt does not say how this block is tried", block.place())
        });
        found.push((block, left.remove(place)));
    }
    let gone: Vec<&str> = left.iter().map(|way| way.begin).collect();
    assert!(gone.is_empty(), "documents/ways.txt has blocks that no document has: {gone:?}");
    found
}

/// The text of the blocks that a story types, in their order.
fn blocks_of(story: &str) -> Vec<String> {
    let wanted = format!("story {story}");
    let blocks = blocks_with_ways().into_iter().filter(|(_, way)| way.how == wanted);
    let texts: Vec<String> = blocks.map(|(block, _)| block.text).collect();
    assert!(!texts.is_empty(), "documents/ways.txt has no block for {story}");
    texts
}

#[test]
fn every_block_of_commands_is_typed_or_has_a_reason_why_not() {
    let stories = include_str!("documents.rs");
    let makefile = fs::read_to_string(project().join("Makefile")).expect("it is there");
    for (block, way) in blocks_with_ways() {
        let place = block.place();
        match way.how.split_once(' ') {
            Some(("story", name)) => {
                let calls = stories.matches(&format!("blocks_of(\"{name}\")")).count();
                assert_eq!(calls, 1, "{place}: one test has to be the story {name}");
            }
            Some(("test", file)) => {
                assert!(project().join(file).is_file(), "{place}: there is no test {file}");
            }
            Some(("not", reason)) => {
                assert!(reason.starts_with("here: "), "{place}: {reason}");
                for line in block.text.lines().filter_map(|line| line.strip_prefix("make ")) {
                    let target = line.split_whitespace().next().unwrap_or_default();
                    let has_target = makefile.contains(&format!("\n{target}: "));
                    assert!(has_target, "{place}: the Makefile has no target {target}");
                }
            }
            _ => panic!("{place}: {} is no way to try a block", way.how),
        }
    }
}

#[test]
fn the_first_sixty_seconds_of_the_readme_work_as_they_stand() {
    let mut reader = Reader::new();
    for block in blocks_of("sixty_seconds") {
        reader.types(&block);
    }
}

#[test]
fn the_session_of_the_command_line_is_as_its_page_shows_it() {
    let mut reader = Reader::new();
    reader.type_one("celeriac serve --data ./data");
    let address = reader.address();
    // What was there before the session: a dead task.
    reader.type_one("celeriac submit songs.cluster --id song-7");
    Worker::connect_to(&address, "host-4711", "songs.cluster").fail("ValueError", "no song");

    let mut worker = Worker::connect_to(&address, "host-4711", "songs.preprocess");
    let mut delivery = None;
    let block = blocks_of("session_of_the_command_line").concat();
    for typed in commands(&block) {
        let printed = match typed.command.split(' ').nth(1) {
            Some("submit") => {
                let printed = reader.type_one(typed.command);
                delivery = Some(begin(&mut worker));
                printed
            }
            Some("watch") => {
                let delivery = delivery.take().expect("the task was submitted before");
                watch(&reader, typed.command, || complete(&worker, &delivery))
            }
            // One of the two tasks does not exist.
            Some("status") => {
                let output = finish(&mut reader.shell(typed.command), "");
                assert_eq!(output.code, Some(4), "{output:?}");
                output.stdout
            }
            _ => reader.type_one(typed.command),
        };
        assert_as_shown(typed.command, &typed.shown, &printed);
    }
}

/// Takes the task of the session, and reports its progress.
fn begin(worker: &mut Worker) -> wire::Delivery {
    let delivery = worker.receive();
    worker.report(&delivery, Report::Started(wire::Started {}));
    let meta = b"{\"percent\":40}".as_slice().into();
    let progress = wire::ProgressReport { state: "PROGRESS".to_owned(), meta };
    worker.report(&delivery, Report::Progress(progress));
    delivery
}

fn complete(worker: &Worker, delivery: &wire::Delivery) {
    let result = b"{\"bpm\":114.0}".as_slice().into();
    worker.report(delivery, Report::Complete(wire::Complete { result, ..Default::default() }));
}

/// What a watch prints, when the task goes on after its first line.
fn watch(reader: &Reader, command: &str, go_on: impl FnOnce()) -> String {
    let mut child = reader.shell(command).stdout(Stdio::piped()).spawn().expect("sh starts");
    let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
    let (first, mut stdout) = within_deadline(move || {
        let mut first = String::new();
        stdout.read_line(&mut first).expect("stdout is text");
        (first, stdout)
    });
    go_on();
    let rest = within_deadline(move || {
        let mut rest = String::new();
        stdout.read_to_string(&mut rest).expect("stdout is text");
        assert!(child.wait().expect("it can be waited for").success(), "{rest}");
        rest
    });
    first + &rest
}

/// Compares an output with the lines that a document shows. `...` stands for any lines.
fn assert_as_shown(command: &str, shown: &[&str], printed: &str) {
    let mut lines = printed.lines().filter(|line| !line.is_empty());
    let mut is_gap = false;
    for line in shown {
        if *line == "..." {
            is_gap = true;
            continue;
        }
        let found = match is_gap {
            true => lines.any(|printed| shape(printed) == shape(line)),
            false => lines.next().is_some_and(|printed| shape(printed) == shape(line)),
        };
        assert!(found, "{command}\nthe page shows {line:?}, and this was printed:\n{printed}");
        is_gap = false;
    }
    assert!(is_gap || lines.next().is_none(), "{command}\nprints more: {printed}");
}

#[test]
fn a_command_with_a_placeholder_is_a_worker_without_code() {
    let mut reader = Reader::new();
    write_program(
        &reader.folder().join("analyse"),
        "#!/bin/sh\nread line\necho \"[\\\"$1\\\", $line]\"\n",
    );
    reader.type_one("celeriac serve --data ./data");
    for typed in commands(&blocks_of("worker_without_code").concat()) {
        reader.type_one(typed.command);
    }
    let submit = "celeriac submit songs.preprocess --queue songs --args '[\"Dynamite\"]' --wait";
    assert_eq!(reader.type_one(submit), "[\"Dynamite\", [[\"Dynamite\"], {}]]\n");
}

#[test]
fn the_scripts_for_shells_are_written_where_the_page_says() {
    let mut reader = Reader::operator();
    for typed in commands(&blocks_of("scripts_for_shells").concat()) {
        let file = typed.command.rsplit_once(' ').expect("it names a file").1;
        let file = reader.system(file);
        fs::create_dir_all(file.parent().expect("a folder")).expect("a new folder");
        reader.type_one(typed.command);
        let script = fs::read_to_string(&file).expect("it was written");
        assert!(script.contains("celeriac completions --values"), "{}", file.display());
    }
}

fn write_program(path: &Path, text: &str) {
    fs::write(path, text).expect("a new file");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("it is ours");
}

#[test]
fn a_broker_starts_as_the_manual_says() {
    let mut reader = Reader::new();
    for block in blocks_of("start_of_a_broker") {
        reader.types(&block);
    }
    let mode = fs::metadata(reader.folder().join("token")).expect("it was made").permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
}

#[test]
fn o13_a_ca_and_its_certificates_are_made_as_the_manual_says() {
    let mut reader = Reader::new();
    for block in blocks_of("tls_and_certificates") {
        reader.types(&block);
    }
    for key in ["ca.key", "broker.key", "worker.key"] {
        let file = reader.folder().join("tls").join(key);
        let mode = fs::metadata(file).expect("it was made").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{key}");
    }
}

/// systemd itself is not there. The reader starts what the unit says.
#[test]
fn the_unit_and_its_backup_work_as_the_manual_says() {
    let mut reader = Reader::operator();
    for name in ["celeriac.toml", "celeriac.service", "README.md", "HTTP.md"] {
        let file = project().join("deploy").join(name);
        fs::copy(file, reader.folder().join(name)).expect("it is there");
    }
    let binary = reader.folder().join("celeriac");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_celeriac"), binary).expect("a new link");
    let submit = "celeriac submit n --token-file /etc/celeriac/token --id";
    let [install, backup, restore] = &blocks_of("unit_and_its_backup")[..] else {
        panic!("three blocks: to install, to copy, and to go back")
    };
    reader.types(install);
    reader.type_one(&format!("{submit} before"));
    reader.types(backup);
    reader.type_one(&format!("{submit} after"));
    reader.types(restore);
    let tasks = reader.type_one("celeriac tasks --token-file /etc/celeriac/token");
    assert!(tasks.contains("before") && !tasks.contains("after"), "{tasks}");
    for page in ["README.md", "HTTP.md"] {
        let manual = reader.system(&format!("/usr/local/share/doc/celeriac/{page}"));
        assert!(manual.is_file(), "a unit names {page} as its documentation");
    }
}

#[test]
fn a_backup_without_systemd_is_served_as_the_manual_says() {
    let mut reader = Reader::new();
    reader.type_one("celeriac serve --data ./data");
    reader.type_one("celeriac submit n --id before");
    for block in blocks_of("backup_without_systemd") {
        reader.types(&block);
    }
    let tasks = reader.type_one("celeriac tasks");
    assert!(tasks.contains("before"), "{tasks}");
}
