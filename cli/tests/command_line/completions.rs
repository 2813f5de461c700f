//! Completion of what the broker knows, by the shells themselves: ids, queues and workers.

use std::process::Command;

use tempfile::TempDir;

use crate::process::{Broker, CommandOutput, finish, program, run};
use crate::terminal::Terminal;
use crate::worker::Worker;

/// These ids would do harm if a shell took them as they are.
const HOSTILE: [&str; 3] = ["two words", "$(touch owned)", "it's; *"];
/// These ids cannot stand in a command line: a terminal would obey the one, a command the other.
const NEVER: [&str; 2] = ["red\u{1b}[31m", "-x"];

fn with_tasks(ids: &[&str]) -> (Broker, TempDir) {
    let data = TempDir::new().expect("a folder");
    let broker = Broker::start(data.path(), &[]);
    for id in ids {
        let submitted = broker.run(&["submit", "n", "--queue", "songs", &format!("--id={id}")]);
        assert_eq!(submitted.code, Some(0), "{submitted:?}");
    }
    (broker, data)
}

/// The candidates for the last word of a line.
fn values(broker: &Broker, line: &[&str]) -> Vec<String> {
    let output = broker.run(&[&["completions", "--values", "--", "celeriac"], line].concat());
    assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{line:?}");
    output.stdout.lines().map(str::to_owned).collect()
}

#[test]
fn each_place_has_the_names_that_fit_there() {
    let (broker, _data) = with_tasks(&["song-1", "song-2", "other"]);
    assert_eq!(broker.run(&["submit", "dies", "--id", "dead-1"]).code, Some(0));
    let mut worker = Worker::connect_as(&broker, "worker-1", "dies");
    worker.fail("ValueError", "no song");
    let _other = Worker::connect_as(&broker, "worker-2", "n");
    let values = |line: &[&str]| values(&broker, line);
    assert_eq!(values(&["show", "song"]), ["song-2", "song-1"]);
    assert_eq!(values(&["show", ""]), ["dead-1", "other", "song-2", "song-1"]);
    assert_eq!(values(&["--json", "status", "a", "--timeout", "5", "song-1"]), ["song-1"]);
    assert_eq!(values(&["dead", "replay", ""]), ["dead-1"]);
    assert_eq!(values(&["cancel", ""]), ["other", "song-2", "song-1"]);
    assert_eq!(values(&["forget", ""]), ["dead-1"]);
    assert_eq!(values(&["tasks", "--root", "o"]), ["other"]);
    assert_eq!(values(&["queues", "pause", "s"]), ["songs"]);
    assert_eq!(values(&["queues", ""]), ["default", "songs"]);
    assert_eq!(values(&["submit", "n", "--queue=so"]), ["songs"]);
    assert_eq!(values(&["work", "--queue", "so"]), ["songs"]);
    assert_eq!(values(&["workers", "quiet", "worker-1", ""]), ["worker-1", "worker-2"]);
    assert_eq!(values(&["tasks", "--columns", "st"]), ["state", "started"]);
    assert_eq!(values(&["tasks", "--columns", "id,state,st"]), ["id,state,started"]);
    assert_eq!(values(&["dead", "list", "--columns=id,st"]), ["id,state", "id,started"]);
    for nothing in [
        &["submit", "n", "--id", ""][..],
        &["show", "--"],
        &["work", "--name", "n", "--", ""],
        &["show", "song-1", ""],
        &["sho"],
        &[],
    ] {
        assert_eq!(values(nothing), [""; 0], "{nothing:?}");
    }
}

#[test]
fn at_most_a_hundred_candidates_are_offered_the_newest_first() {
    let (broker, data) = with_tasks(&[]);
    let file = data.path().join("tasks.jsonl");
    let lines = (0..1_500).map(|id| format!("{{\"name\": \"n\", \"id\": \"{id:04}\"}}\n"));
    std::fs::write(&file, lines.collect::<String>()).expect("a new file");
    let submitted = broker.run(&["submit", "--lines", &file.display().to_string()]);
    assert_eq!(submitted.code, Some(0), "{submitted:?}");
    assert_eq!(values(&broker, &["show", ""]).len(), 100);
    let last = broker.run(&["submit", "n", "--id", "last"]);
    assert_eq!(last.code, Some(0), "{last:?}");
    assert_eq!(values(&broker, &["show", "la"]), ["last"]);
}

#[test]
fn a_failure_is_no_candidate_and_no_sentence() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let silent = silent.local_addr().expect("bound").to_string();
    let folder = TempDir::new().expect("a folder");
    let pipe = folder.path().join("pipe").display().to_string();
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs").success());
    for line in [
        &["--url", "127.0.0.1:1", "show", ""][..],
        &["--url", &silent, "show", ""],
        &["--url", "http://[", "show", ""],
        &["--url", &silent, "--token-file", &pipe, "show", ""],
        &["--url", &silent, "--token-file", "/does/not/exist", "show", ""],
    ] {
        let output = run(&[&["completions", "--values", "--", "celeriac"], line].concat());
        assert_eq!((output.code, output.stdout.as_str()), (Some(0), ""), "{line:?}");
    }
    assert_eq!(run(&["completions", "--values"]).stdout, "");
}

/// Runs a script in this shell, or says that the shell is not there.
#[allow(clippy::print_stderr, reason = "a test that was skipped says so")]
fn in_shell(broker: &Broker, folder: &TempDir, shell: &[&str]) -> Option<CommandOutput> {
    let is_there = Command::new(shell[0]).arg("--version").output().is_ok();
    if !is_there {
        eprintln!("SKIPPED: {} is not installed", shell[0]);
        return None;
    }
    Some(finish(&mut prepared(broker, folder, shell), ""))
}

fn prepared(broker: &Broker, folder: &TempDir, shell: &[&str]) -> Command {
    let mut command = program(shell[0]);
    command.args(&shell[1..]).current_dir(folder.path()).env("HOME", folder.path());
    command.env("CELERIAC_URL", &broker.address);
    command
}

#[test]
fn bash_completes_and_quotes_what_the_broker_knows() {
    let ids = [&["song-1", "a:b"][..], &HOSTILE, &NEVER].concat();
    let (broker, data) = with_tasks(&ids);
    // bash calls the function with the word as it divides words: at `:` and `=`.
    let script = r#"
        source <(celeriac completions bash)
        complete -p celeriac >&2
        press_tab() {
            COMP_LINE="$1" COMP_POINT=${#1} COMPREPLY=()
            read -ra COMP_WORDS <<< "$1"
            [[ $1 == *" " ]] && COMP_WORDS+=("")
            COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
            _celeriac_values celeriac "$2" ""
            (IFS='|'; echo "${COMPREPLY[*]}")
        }
        press_tab "celeriac show " ""
        press_tab "celeriac show a:" ""
        press_tab "celeriac submit n --queue=so" so
        press_tab "celeriac queues so" so
        press_tab "celeriac queues pau" pau
        press_tab "celeriac tasks --columns id,st" id,st
        press_tab "celeriac tasks --columns=wor" wor
        eval "celeriac status $(press_tab 'celeriac show $' '$')" | head -1
    "#;
    let Some(output) = in_shell(&broker, &data, &["bash", "--norc", "-c", script]) else { return };
    assert!(output.stderr.contains("_celeriac_values"), "{output:?}");
    let lines: Vec<&str> = output.stdout.lines().collect();
    let quoted = r"it\'s\;\ \*|\$\(touch\ owned\)|two\ words|a:b|song-1";
    assert_eq!(lines[..5], [quoted, "b", "songs", "songs", "pause"], "{output:?}");
    assert_eq!(lines[5..7], ["id,state|id,started", "worker"], "{output:?}");
    assert!(lines[7].contains("$(touch owned)"), "{output:?}");
    assert!(!data.path().join("owned").exists());
}

#[test]
fn fish_completes_what_the_broker_knows() {
    let ids = [&["song-1", "a:b"][..], &HOSTILE, &NEVER].concat();
    let (broker, data) = with_tasks(&ids);
    // fish shows the help of a flag behind its value.
    let script = "celeriac completions fish | source
        for line in 'show ' 'show a:' 'submit n --queue=so' 'submit n --queue so' 'queues so' \
            'tasks --columns id,st' 'tasks --columns wor'
            complete -C \"celeriac $line\" | string replace -r '\\t.*' '' | string join '|'
        end";
    let Some(output) = in_shell(&broker, &data, &["fish", "--no-config", "-c", script]) else {
        return;
    };
    let lines: Vec<&str> = output.stdout.lines().collect();
    let all = "it's; *|$(touch owned)|two words|a:b|song-1";
    let columns = ["id,started|id,state", "worker"];
    assert_eq!(lines[..5], [all, "a:b", "--queue=songs", "songs", "songs"], "{output:?}");
    assert_eq!(lines[5..], columns, "{output:?}");
}

#[test]
fn zsh_completes_what_the_broker_knows() {
    let (broker, data) = with_tasks(&["song-1", "$(touch owned)"]);
    let version = ["zsh", "--version"];
    if in_shell(&broker, &data, &version).is_none() {
        return;
    }
    let mut zsh = Terminal::open(prepared(&broker, &data, &["zsh", "-f", "-i"]));
    zsh.press("autoload -U compinit; compinit -u; source <(celeriac completions zsh)\n");
    zsh.press("PS1=; echo re''ady\n");
    zsh.wait_for("ready\r\n");
    for (typed, completed) in [
        ("show so", "show song-1"),
        (r"show \$", r"show \$\(touch\ owned\)"),
        ("submit n --queue=so", "submit n --queue=songs"),
        ("queues pau", "queues pause"),
        ("tasks --columns id,wo", "tasks --columns id,worker"),
        ("tasks --columns=id,queu", "tasks --columns=id,queue"),
    ] {
        // Ctrl-U removes the line before.
        zsh.press(&format!("\u{15}celeriac {typed}\t"));
        zsh.wait_for(&format!("celeriac {completed}"));
    }
    zsh.press("\u{15}exit\n");
    let (code, shown) = zsh.end();
    assert_eq!(code, Some(0), "{shown}");
}
