//! Text from clients on a terminal: no character controls the terminal, and none is invisible.

use tempfile::TempDir;

use crate::process::{Broker, documents, run};
use crate::terminal::Terminal;
use crate::worker::Worker;

/// This text clears the screen in two ways, reverses text, has invisible characters, and breaks
/// lines.
const EVIL: &str = "a\u{1b}[2J\u{9b}2J\u{202e}\u{2066}\u{200b}\u{e0041}\u{feff}\u{2028}\u{7f}b";

/// Whether a terminal must not get this character.
fn is_hidden(character: char) -> bool {
    !character.is_ascii_graphic() && EVIL.contains(character)
}

/// The text without the sequences that begin and end a colour.
fn without_colours(text: &str) -> String {
    let codes = ["0", "1", "31", "32", "33", "35", "36", "90"];
    codes.iter().fold(text.to_owned(), |text, code| text.replace(&format!("\u{1b}[{code}m"), ""))
}

fn started() -> (Broker, Worker, TempDir) {
    let data = TempDir::new().expect("a folder");
    let broker = Broker::start(data.path(), &[]);
    let worker = Worker::connect_as(&broker, &format!("worker {EVIL}"), EVIL);
    (broker, worker, data)
}

#[test]
fn every_command_shows_text_from_clients_with_escapes() {
    let (broker, mut worker, _data) = started();
    let meta = format!("meta{EVIL}");
    for id in [EVIL, "other"] {
        let submitted = broker.run(&[
            "submit",
            EVIL,
            "--id",
            id,
            "--shadow",
            EVIL,
            "--tag",
            EVIL,
            "--header",
            &format!("k={meta}"),
        ]);
        assert_eq!(submitted.code, Some(0), "{submitted:?}");
        assert!(!submitted.stdout.contains(is_hidden), "{submitted:?}");
        worker.fail(EVIL, EVIL);
    }
    let (instance, gone) = (format!("worker {EVIL}"), format!("gone {EVIL}"));
    let commands: [&[&str]; 16] = [
        &["status", EVIL],
        &["status", EVIL, "other"],
        &["show", EVIL],
        &["tasks"],
        &["result", EVIL],
        &["watch", EVIL],
        &["queues"],
        &["queues", EVIL],
        &["dead", "list"],
        &["dead", "show", EVIL],
        &["workers"],
        &["workers", "list", &instance],
        &["workers", "quiet", &instance],
        &["top", "--once"],
        &["forget", &gone],
        &["cancel", &gone],
    ];
    for form in [&["--json"][..], &[], &["--color", "always"]] {
        for command in commands {
            let output = broker.run(&[command, form].concat());
            let all = without_colours(&format!("{}{}", output.stdout, output.stderr));
            assert!(!all.contains(is_hidden), "{command:?} {form:?}: {all:?}");
            if form == ["--json"] {
                documents(&output.stdout);
            }
        }
    }
    let task = &documents(&broker.run(&["status", "other", "--json"]).stdout)[0];
    assert_eq!(
        (&task["shadow"], &task["errors"][0]["message"]),
        (&EVIL.into(), &EVIL.into()),
        "escapes mean the same"
    );
    for wrong in [
        &["status", EVIL, "--url", EVIL][..],
        &[EVIL],
        &["tasks", "--state", EVIL],
        &["submit", "a", "--eta", EVIL],
    ] {
        let output = run(wrong);
        assert_eq!(output.code, Some(2), "{output:?}");
        assert!(!output.stderr.contains(is_hidden), "{output:?}");
    }
}

#[test]
fn a_result_is_raw_in_a_pipe_and_escaped_on_a_terminal() {
    let (broker, mut worker, _data) = started();
    let result: &'static str = "line 1\nline\t2 \u{1b}[31mred \u{202e}back";
    broker.run(&["submit", EVIL, "--id", "text"]);
    worker.complete(result.as_bytes(), "text/plain");
    broker.run(&["submit", EVIL, "--id", "bytes"]);
    worker.complete(&[0xff, 0x1b, b'['], "application/octet-stream");

    let raw = format!("{result}\n");
    assert_eq!(broker.run(&["result", "text"]).stdout, raw);
    assert_eq!(broker.run(&["result", "text", "--raw"]).stdout, raw);
    let shown = |arguments: &[&str]| Terminal::open(broker.command(arguments)).end();
    let (code, text) = shown(&["result", "text"]);
    assert_eq!(
        (code, text.as_str()),
        (Some(0), "line 1\r\nline\t2 \\u{1b}[31mred \\u{202e}back\r\n")
    );
    let (_, text) = shown(&["result", "text", "--raw"]);
    assert!(text.contains("\u{1b}[31m"), "{text:?}");
    let (_, text) = shown(&["result", "bytes"]);
    assert_eq!(text, "3 bytes that are not text; --raw or a pipe gets them as they are\r\n");
    let (_, text) = shown(&["result", "text", "--json"]);
    assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text:?}");
    assert_eq!(broker.run(&["result", "text", "--raw", "--json"]).code, Some(2));
}
