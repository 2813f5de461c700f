//! The help texts: what each command shows of its own flags and of the shared ones, and whether
//! the texts are true.

use crate::process::{celeriac, finish, run};
use crate::usage::COMMANDS;

/// The help of a command in a terminal of 80 columns.
fn help(command: &str, flag: &str) -> String {
    help_at(80, command, flag)
}

fn help_at(columns: usize, command: &str, flag: &str) -> String {
    let words: Vec<&str> = command.split(' ').chain([flag]).collect();
    let help = finish(celeriac(&words).env("COLUMNS", columns.to_string()), "");
    assert_eq!((help.code, help.stderr.as_str()), (Some(0), ""), "{command}: {help:?}");
    help.stdout
}

#[test]
fn a_short_help_has_the_flags_of_its_command_and_says_where_the_others_are() {
    const SHARED: [&str; 5] = ["--url <", "--token-file <", "--timeout <", "--json ", "--color <"];
    for command in COMMANDS {
        let (short, long) = (help(command, "-h"), help(command, "--help"));
        assert!(!short.contains("Exit codes:"), "{short}");
        let is_client = !["serve", "check", "restore", "completions", "manual"].contains(&command)
            && !command.starts_with("token");
        assert_eq!(short.contains("`--help` has more"), is_client, "{short}");
        if is_client {
            // These wait longer than for an answer, and say themselves how long.
            let waits = ["drain", "backup"].contains(&command);
            let listed = SHARED.iter().find(|flag| short.contains(*flag));
            assert_eq!(listed.copied(), waits.then_some("--timeout <"), "{short}");
            let end = short.split("`--help` has more").nth(1).expect("it is there");
            assert!(end.lines().count() <= 2, "{short}");
            assert!(long.contains("Exit codes:"), "{long}");
            assert!(SHARED.iter().all(|flag| long.contains(flag.trim_end())), "{long}");
        }
    }
    assert!(help("serve", "-h").contains("--token-file <"));
}

#[test]
fn a_flag_that_means_nothing_for_a_command_is_not_in_its_help() {
    for (command, hidden) in [
        ("serve", &["--url", "--timeout", "--json\n"][..]),
        ("check", &["--url", "--timeout", "--token-file"]),
        ("token new", &["--url", "--timeout", "--token-file"]),
        ("token check", &["--url", "--timeout", "--token-file"]),
        ("restore", &["--url", "--timeout", "--token-file"]),
        ("completions", &["--url", "--timeout", "--token-file", "--json", "--color"]),
        ("manual", &["--url", "--timeout", "--token-file", "--json", "--color"]),
    ] {
        let help = help(command, "--help");
        let shown = hidden.iter().find(|flag| help.contains(*flag));
        assert_eq!(shown, None, "{help}");
    }
}

#[test]
fn a_usage_line_says_what_a_command_needs() {
    for (command, usage) in [
        ("serve", "celeriac serve [OPTIONS] --data <DIR>"),
        ("submit", "celeriac submit [OPTIONS] --lines <FILE> [NAME]"),
        ("cancel", "celeriac cancel [OPTIONS] --root <ID>"),
        ("queues set", "celeriac queues set [OPTIONS] <QUEUE> <SETTING>..."),
        ("dead replay", "celeriac dead replay [OPTIONS] <FILTER>..."),
        ("dead discard", "celeriac dead discard [OPTIONS] --all"),
        ("workers quiet", "celeriac workers quiet [OPTIONS] --all"),
        ("workers shutdown", "celeriac workers shutdown [OPTIONS] <INSTANCE>..."),
        ("completions", "celeriac completions <SHELL>"),
    ] {
        let help = help(command, "-h");
        assert!(help.lines().any(|line| line.trim_start_matches("Usage: ").trim() == usage));
    }
    for command in COMMANDS {
        let help = help(command, "-h");
        let usage = help.lines().skip_while(|line| !line.starts_with("Usage: "));
        for line in usage.take_while(|line| !line.is_empty()) {
            assert!(line.len() <= 80, "{line}");
        }
        // What the usage line has as required is refused with the same usage when it is absent.
        let first = help.lines().find(|line| line.starts_with("Usage: ")).expect("a usage");
        if first.contains('<') && !first.contains("serve") {
            let words: Vec<&str> = command.split(' ').collect();
            let refused = finish(celeriac(&words).env("CELERIAC_URL", "127.0.0.1:1"), "");
            assert_eq!(refused.code, Some(2), "{command}: {refused:?}");
            assert!(refused.stderr.contains(first), "{command}: {refused:?}");
        }
    }
}

#[test]
fn the_defaults_in_the_help_of_serve_are_those_of_the_broker() {
    let settings = |more: &[&str]| {
        let output = run(&[&["serve", "--data", "d", "--check-config"], more].concat());
        assert_eq!(output.code, Some(0), "{more:?}: {output:?}");
        output.stdout
    };
    let (defaults, help) = (settings(&[]), help_at(500, "serve", "--help"));
    let mut flag = "";
    let mut count = 0;
    for line in help.lines() {
        if let Some(name) =
            line.trim_start().split(' ').next().filter(|word| word.starts_with("--"))
        {
            flag = name;
        }
        let default = line.split_once("[default: ").and_then(|(_, rest)| rest.split_once(']'));
        if let Some((default, _)) = default
            && flag != "--color"
        {
            assert_eq!(settings(&[flag, default]), defaults, "{flag} {default}");
            count += 1;
        }
    }
    assert!(count >= 12, "{count} of {help}");
}
