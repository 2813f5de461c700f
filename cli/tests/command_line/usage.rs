//! The command line without a broker: help, usage errors, configuration. Each test is one rule of
//! `deploy/README.md`.

use std::collections::BTreeSet;
use std::fs;

use crate::process::{CommandOutput, celeriac, finish, run};
use tempfile::TempDir;

pub(crate) const COMMANDS: [&str; 39] = [
    "serve",
    "info",
    "submit",
    "status",
    "show",
    "tasks",
    "result",
    "watch",
    "forget",
    "cancel",
    "queues",
    "queues pause",
    "queues resume",
    "queues purge",
    "queues delete",
    "queues set",
    "stats",
    "dead",
    "dead list",
    "dead show",
    "dead replay",
    "dead discard",
    "workers",
    "workers list",
    "workers quiet",
    "workers resume",
    "workers shutdown",
    "top",
    "work",
    "drain",
    "log",
    "backup",
    "check",
    "token",
    "token new",
    "token check",
    "restore",
    "completions",
    "manual",
];

/// The help of a command.
fn help(command: &str) -> CommandOutput {
    run(&command.split(' ').chain(["--help"]).collect::<Vec<_>>())
}

/// `serve --check-config` with a file of the given text.
fn check_file(text: &str, more: &[&str]) -> CommandOutput {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("celeriac.toml");
    fs::write(&file, text).expect("written");
    let mut command = celeriac(&["serve", "--check-config", "--config"]);
    finish(command.arg(&file).args(more), "")
}

#[test]
fn every_command_has_a_help_text() {
    for command in COMMANDS {
        let help = help(command);
        assert_eq!(help.code, Some(0), "{help:?}");
        assert!(help.stdout.contains("Usage: celeriac") && help.stderr.is_empty(), "{help:?}");
    }
    let help = run(&["--help"]);
    let mut first = COMMANDS.iter().filter_map(|command| command.split(' ').next());
    assert!(first.all(|command| help.stdout.contains(&format!("  {command} "))), "{}", help.stdout);
    assert!(help.stdout.contains("Exit codes:"), "{}", help.stdout);
}

#[test]
fn the_operators_readme_names_every_flag_variable_key_and_exit_code() {
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/README.md"))
        .expect("it is there");
    let mut names = BTreeSet::new();
    for command in COMMANDS {
        let help = help(command).stdout;
        let words = help.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_'));
        let is_name = |word: &&str| {
            word.len() > 2 && (word.starts_with("--") || word.starts_with("CELERIAC_"))
        };
        names.extend(words.filter(is_name).map(|word| word.trim_end_matches('_').to_owned()));
    }
    names.retain(|name| name != "CELERIAC" && name != "--help" && name != "--version");
    let missing: Vec<_> =
        names.iter().filter(|name| !readme.contains(&format!("`{name}"))).collect();
    assert!(missing.is_empty(), "deploy/README.md does not name {missing:?}");

    let defaults = run(&["serve", "--data", "d", "--check-config"]).stdout;
    for key in defaults.lines().filter_map(|line| line.split_once(" = ")).map(|(key, _)| key) {
        assert!(
            readme.contains(&format!("`{key}`")),
            "deploy/README.md does not name the key {key}"
        );
    }
    for code in (0..=9).chain(10..=17).chain(20..=22) {
        assert!(
            readme.contains(&format!("| {code} |")),
            "deploy/README.md does not explain exit code {code}"
        );
    }
}

#[test]
fn the_example_file_holds_the_defaults() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/celeriac.toml");
    let from_file = run(&["serve", "--check-config", "--config", example]);
    let from_defaults = run(&["serve", "--check-config", "--data", "/var/lib/celeriac"]);
    assert_eq!(
        (from_file.code, &from_file.stdout),
        (Some(0), &from_defaults.stdout),
        "{from_file:?}"
    );
}

#[test]
fn wrong_usage_exits_with_2_and_a_sentence_of_the_usual_form() {
    let mistakes: [&[&str]; 34] = [
        &["surve"],
        &["info", "song-7"],
        &["serve", "--no-such-flag"],
        &["serve", "--data", "d", "--listen", "localhost"],
        &["serve", "--data", "d", "--url", "celeriac://h"],
        &["submit", "a", "--args", "[1, 2"],
        &["submit", "a", "--args", "{}"],
        &["submit", "a", "--kwargs", "[]"],
        &["submit", "a", "--args", "-", "--kwargs", "-"],
        &["submit", "a", "--priority", "10"],
        &["submit", "a", "--eta", "tomorrow"],
        &["submit", "a", "--countdown", "1s", "--eta", "now+1s"],
        &["submit", "a", "--header", "no equals sign"],
        &["queues", "--url", "redis://localhost"],
        &["queues", "--timeout", "0"],
        &["queues", "--timeout", "1ns"],
        &["queues", "set", "q"],
        &["queues", "set", "q", "--tasks-max", "many"],
        &["queues", "pause"],
        &["tasks", "--limit", "0"],
        &["tasks", "--limit", "3", "--all"],
        &["tasks", "--state", "waiting"],
        &["tasks", "--older-than", "yesterday"],
        &["show"],
        &["show", "a", "b"],
        &["cancel"],
        &["cancel", "a", "--tag", "x", "--yes"],
        &["cancel", "a", "--grace", "1s"],
        &["dead", "replay"],
        &["dead", "replay", "a", "--all"],
        &["dead", "replay", "--queue", "q", "--all"],
        &["dead", "discard", "a", "--queue", "q", "--yes"],
        &["workers", "quiet"],
        &["completions", "tcsh"],
    ];
    for mistake in mistakes {
        let output = run(mistake);
        assert_eq!(output.code, Some(2), "{mistake:?}: {output:?}");
        assert!(
            output.stderr.starts_with("celeriac: ") && output.stdout.is_empty(),
            "{mistake:?}: {output:?}"
        );
    }
}

#[test]
fn a_sentence_does_not_repeat_a_very_long_argument() {
    let long = "다".repeat(30_000);
    for mistake in [&["status", &long][..], &["submit", "a", "--args", &long], &["nope", &long]] {
        let output = run(mistake);
        assert_eq!(output.code, Some(2), "{output:?}");
        assert!(output.stderr.len() < 5_000, "{mistake:?}: {}", output.stderr.len());
    }
    let output = run(&["status", &long]);
    assert!(output.stderr.contains("at most 255 bytes"), "{output:?}");
}

#[test]
fn a_command_that_cannot_be_undone_needs_yes_without_a_terminal() {
    let commands: [&[&str]; 7] = [
        &["queues", "purge", "q"],
        &["queues", "delete", "q"],
        &["dead", "discard", "a"],
        &["dead", "discard", "--all"],
        &["workers", "shutdown", "--all"],
        &["cancel", "--tag", "x"],
        &["cancel", "--root", "x"],
    ];
    // There is no broker at this address. The command must not even try to reach one.
    let unreachable = ["--url", "celeriac://127.0.0.1:1", "--timeout", "1"];
    for command in commands {
        let refused = run(&[command, &unreachable].concat());
        assert_eq!(
            (refused.code, refused.stdout.as_str()),
            (Some(2), ""),
            "{command:?}: {refused:?}"
        );
        assert!(
            refused.stderr.ends_with("there is no terminal to ask for confirmation: add --yes\n"),
            "{refused:?}"
        );
        let allowed = run(&[command, &["--yes"], &unreachable].concat());
        assert_eq!(allowed.code, Some(3), "{command:?}: {allowed:?}");
    }
}

#[test]
fn an_empty_filter_does_not_match_every_task() {
    for flag in ["--tag", "--root", "--id-prefix", "--queue", "--name"] {
        let output = run(&["dead", "discard", "--yes", flag, ""]);
        assert_eq!(output.code, Some(2), "{flag}: {output:?}");
    }
    for flag in ["--tag", "--root"] {
        assert_eq!(run(&["cancel", "--yes", flag, ""]).code, Some(2), "{flag}");
    }
}

#[test]
fn every_shell_gets_a_script_with_all_commands() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let output = run(&["completions", shell]);
        assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{shell}");
        assert!(
            ["replay", "older-than", "tasks"].iter().all(|word| output.stdout.contains(word)),
            "{shell}"
        );
    }
}

#[test]
fn every_command_has_its_page_of_the_manual() {
    let folder = TempDir::new().expect("a folder");
    let pages = folder.path().join("man/man1");
    let write = || finish(celeriac(&["manual"]).arg(&pages), "");
    let written = write();
    assert_eq!((written.code, written.stdout.as_str(), written.stderr.as_str()), (Some(0), "", ""));
    for command in COMMANDS {
        let file = pages.join(format!("celeriac-{}.1", command.replace(' ', "-")));
        let page = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{command}: {error}"));
        assert!(page.contains(".SH SYNOPSIS"), "{command}: {page}");
    }
    let first = fs::read_to_string(pages.join("celeriac.1")).expect("it was written");
    assert!(first.contains("celeriac\\-submit(1)"), "{first}");
    assert!(first.contains("Print JSON for programs"), "flags that the short help leaves out");
    // The lines of a table stay lines.
    let table = first.split("Exit codes:\n.nf\n").nth(1).expect("the exit codes");
    assert!(table.starts_with("  0  success\n  1  any other error"), "{table}");
    // A second time the pages are written anew; a folder that is a file is said.
    assert_eq!(write().code, Some(0));
    let refused = finish(celeriac(&["manual"]).arg(pages.join("celeriac.1")), "");
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""));
    assert!(refused.stderr.contains("cannot write the manual pages to"), "{refused:?}");
}

#[test]
fn ids_and_names_have_1_to_255_bytes() {
    let long = "x".repeat(256);
    for arguments in [["status", ""], ["status", &long], ["submit", ""], ["submit", &long]] {
        let output = run(&arguments);
        assert_eq!(output.code, Some(2), "{output:?}");
    }
}

#[test]
fn every_command_refuses_an_id_with_the_same_sentence() {
    let long = "x".repeat(256);
    for command in [
        &["submit", "n", "--id"][..],
        &["status"],
        &["show"],
        &["result"],
        &["watch"],
        &["forget"],
        &["cancel"],
        &["cancel", "--yes", "--root"],
        &["tasks", "--root"],
        &["dead", "show"],
        &["dead", "list", "--root"],
        &["dead", "replay"],
        &["dead", "replay", "--root"],
        &["dead", "discard", "--yes"],
    ] {
        let output = run(&[command, &[&long]].concat());
        let sentence = "a task id has at most 255 bytes, this one has 256\n";
        assert_eq!(output.code, Some(2), "{output:?}");
        assert!(output.stderr.contains(sentence), "{command:?}: {output:?}");
    }
}

#[test]
fn bad_json_is_answered_with_its_position() {
    let output = run(&["submit", "a", "--args", "[1,\n 2,, 3]"]);
    let sentence = "celeriac: --args is not JSON: expected value at line 2 column 4; it is `[1,";
    assert!(output.stderr.starts_with(sentence), "{output:?}");
    let output = finish(&mut celeriac(&["submit", "a", "--args", "-"]), "[tru]");
    assert_eq!(
        (output.code, output.stderr.contains("line 1 column 5")),
        (Some(2), true),
        "{output:?}"
    );
}

#[test]
fn a_broker_that_cannot_be_reached_exits_with_3() {
    let output = run(&["queues", "--url", "celeriac://127.0.0.1:1", "--timeout", "2"]);
    assert_eq!(output.code, Some(3), "{output:?}");
    assert_eq!(output.stderr.lines().count(), 1, "{output:?}");
}

#[test]
fn a_flag_has_priority_over_the_environment_and_that_over_the_file() {
    let file = "data = \"from-file\"\nheartbeat_ms = 1001\nlease_ms = 20001\nresult_ttl_ms = 3";
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("celeriac.toml");
    fs::write(&path, file).expect("written");
    let mut command = celeriac(&["serve", "--check-config", "--lease-ms", "20003"]);
    command
        .env("CELERIAC_CONFIG", &path)
        .env("CELERIAC_LEASE_MS", "20002")
        .env("CELERIAC_HEARTBEAT_MS", "1002");
    let output = finish(&mut command, "");
    let has = |line: &str| {
        assert!(output.stdout.lines().any(|other| other == line), "{line}: {output:?}")
    };
    has("data = \"from-file\"");
    has("lease_ms = 20003");
    has("heartbeat_ms = 1002");
    has("result_ttl_ms = 3");
    has("connections_max = 10000");
}

#[test]
fn a_bad_file_is_refused_with_file_and_line() {
    let refused = |text: &str, more: &[&str], end: &str| {
        let output = check_file(text, more);
        assert_eq!(output.code, Some(2), "{output:?}");
        assert!(
            output.stderr.starts_with("celeriac: ") && output.stderr.contains(end),
            "{end}: {output:?}"
        );
        assert_eq!(output.stderr.lines().count(), 1, "{output:?}");
    };
    refused("data = \"d\"\nleese_ms = 1", &[], "celeriac.toml:2: unknown field `leese_ms`");
    refused("data = \"d\"\n\nlease_ms = \"long\"", &[], "celeriac.toml:3: invalid type");
    refused("data = \"d\"\nlease_ms = -1", &[], "celeriac.toml:2: invalid value");
    refused("data = \"d\"\nlease_ms = ", &[], "celeriac.toml:2: ");
    refused("data = \"d\"\nlisten = \"here\"", &[], "celeriac.toml:2: ");
    refused("data = \"d\"\nlease_ms = 1", &[], "celeriac.toml:2: lease is 1ms, the least is 10s");
    refused(
        "data = \"d\"\nlease_ms = 1",
        &["--lease-ms", "2"],
        "celeriac: --lease-ms: lease is 2ms, the least is 10s",
    );
    refused("data = \"d\"\nlog = \"a=b=c\"", &[], "celeriac.toml:2: log filter");
    refused(
        "token = \"a\"\ntoken_file = \"b\"",
        &[],
        "celeriac.toml:2: token and token_file are both set",
    );
    refused("lease_ms = 15000", &[], "data is missing");
    let output = run(&["serve", "--config", "/does/not/exist.toml"]);
    assert_eq!(
        (output.code, output.stderr.contains("/does/not/exist.toml")),
        (Some(2), true),
        "{output:?}"
    );
}

#[test]
fn an_address_that_other_machines_reach_needs_a_token_or_insecure() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:23537"] {
        let public = ["serve", "--data", "d", "--check-config", "--listen", address];
        let refused = run(&public);
        assert_eq!(refused.code, Some(2), "{refused:?}");
        assert!(
            refused.stderr.contains("--insecure") && refused.stderr.contains("CELERIAC_TOKEN"),
            "{refused:?}"
        );
        let insecure = finish(celeriac(&public).arg("--insecure"), "");
        assert_eq!(insecure.code, Some(0), "{insecure:?}");
        let with_token = finish(celeriac(&public).env("CELERIAC_TOKEN", "s3cret"), "");
        assert_eq!(with_token.code, Some(0), "{with_token:?}");
    }
    for address in ["127.0.0.1:0", "127.8.9.1:1", "[::1]:0", "[::ffff:127.0.0.1]:0"] {
        assert_eq!(
            run(&["serve", "--data", "d", "--check-config", "--listen", address]).code,
            Some(0),
            "{address}"
        );
    }
}

#[test]
fn a_token_is_never_shown() {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("token");
    fs::write(&file, "hunter2\n").expect("written");
    let mut command = celeriac(&["serve", "--data", "d", "--check-config", "--token-file"]);
    let output = finish(command.arg(&file), "");
    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(
        output.stdout.contains("token = \"********\"") && !output.stdout.contains("hunter2"),
        "{output:?}"
    );

    let mut command = celeriac(&["serve", "--help"]);
    command.env("CELERIAC_TOKEN", "hunter2").env("CELERIAC_URL", "celeriac://hunter2@h");
    let output = finish(&mut command, "");
    assert!(!output.stdout.contains("hunter2"), "{output:?}");

    let mut command = celeriac(&["serve", "--data", "d", "--check-config"]);
    let output = finish(command.env("CELERIAC_TOKEN", "hunter 2"), "");
    assert_eq!(output.code, Some(2), "{output:?}");
    let stderr = &output.stderr;
    assert!(stderr.contains("not visible ASCII") && !stderr.contains("hunter 2"), "{output:?}");
}

#[test]
fn a_file_that_holds_no_token_is_refused_before_a_broker_is_asked() {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("token");
    for (bytes, problem) in [
        (&b"hunter 2\n"[..], "holds no token: a token is one line"),
        (b"hunter\n2\n", "holds no token"),
        (b"hunter\0", "holds no token"),
        ("hunter\u{e9}".as_bytes(), "holds no token"),
        (b"\n", "is empty"),
        (b"\xff", "not contain valid UTF-8"),
    ] {
        fs::write(&file, bytes).expect("written");
        for command in [&["queues", "--url", "127.0.0.1:1"][..], &["serve", "--data", "d"]] {
            let output = finish(celeriac(command).arg("--token-file").arg(&file), "");
            assert_eq!(output.code, Some(2), "{output:?}");
            let stderr = &output.stderr;
            assert!(stderr.contains(problem) && !stderr.contains("hunter"), "{output:?}");
        }
    }
    let device = ["queues", "--url", "127.0.0.1:1", "--token-file", "/dev/zero"];
    assert_eq!(run(&device).code, Some(2));
}

#[test]
fn settings_can_be_read_by_programs() {
    let output = run(&["serve", "--data", "d", "--check-config", "--json"]);
    let settings: serde_json::Value =
        serde_json::from_str(&output.stdout).expect("one JSON document");
    assert_eq!(settings["listen"], "127.0.0.1:23537");
    assert_eq!(settings["lease_ms"], 15_000);
}
