//! The values of the settings of `serve`: their units, the variables of the environment, and the
//! filter of the log. Each test is one rule of `deploy/README.md`.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

use crate::process::{CommandOutput, celeriac, finish, run};
use tempfile::TempDir;

const CHECK: [&str; 4] = ["serve", "--data", "d", "--check-config"];

fn with_variable(name: &str, value: impl AsRef<OsStr>) -> CommandOutput {
    finish(celeriac(&CHECK).env(name, value), "")
}

fn with_flags(flags: &[&str]) -> CommandOutput {
    run(&[&CHECK, flags].concat())
}

/// `serve --check-config` with a file of the given text.
fn with_file(text: &str) -> CommandOutput {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("celeriac.toml");
    fs::write(&file, text).expect("written");
    finish(celeriac(&CHECK).arg("--config").arg(&file), "")
}

fn has(output: &CommandOutput, line: &str) {
    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(output.stdout.lines().any(|other| other == line), "{line}: {output:?}");
}

fn refused(output: &CommandOutput, sentence: &str) {
    assert_eq!((output.code, output.stdout.as_str()), (Some(2), ""), "{output:?}");
    assert!(output.stderr.contains(sentence), "{sentence}: {output:?}");
}

#[test]
fn spans_and_sizes_have_units_in_flags_variables_and_the_file() {
    for (name, value, line) in [
        ("heartbeat", "2s", "heartbeat_ms = 2000"),
        ("lease", "1m30s", "lease_ms = 90000"),
        ("frame_max", "32MiB", "frame_bytes_max = 33554432"),
        ("payload_max", "512 KiB", "payload_bytes_max = 524288"),
        ("result_max", "2MB", "result_bytes_max = 2000000"),
        ("result_ttl", "7d", "result_ttl_ms = 604800000"),
        ("disk_reserve", "1GiB", "disk_reserve_bytes = 1073741824"),
        ("commit_timeout", "500ms", "commit_timeout_ms = 500"),
    ] {
        has(&with_flags(&[&format!("--{}", name.replace('_', "-")), value]), line);
        has(&with_variable(&format!("CELERIAC_{}", name.to_uppercase()), value), line);
        has(&with_file(&format!("{name} = \"{value}\"")), line);
    }
}

#[test]
fn the_printed_settings_are_a_file_with_the_same_settings() {
    let printed = with_flags(&["--lease", "1h", "--payload-max", "1MiB", "--log", "warn"]);
    let settings = printed.stdout.replace("data = \"d\"\n", "");
    assert_eq!(with_file(&settings).stdout, printed.stdout);
}

#[test]
fn the_exact_names_hold_for_whole_numbers_and_a_setting_has_one_name_at_a_time() {
    has(&with_flags(&["--lease-ms", "20000"]), "lease_ms = 20000");
    has(&with_variable("CELERIAC_PAYLOAD_BYTES_MAX", "4096"), "payload_bytes_max = 4096");
    let both =
        finish(celeriac(&CHECK).args(["--lease-ms", "20000"]).env("CELERIAC_LEASE", "30s"), "");
    has(&both, "lease_ms = 20000");
    let both = finish(celeriac(&CHECK).args(["--lease", "20s"]).env("CELERIAC_LEASE_MS", "30"), "");
    has(&both, "lease_ms = 20000");
    refused(
        &with_flags(&["--lease", "20s", "--lease-ms", "20000"]),
        "--lease and --lease-ms are both set, keep one",
    );
    refused(&with_file("lease_ms = 20000\nlease = \"20s\""), "celeriac.toml:2: lease and lease_ms");
}

#[test]
fn a_wrong_span_or_size_is_refused_at_its_place() {
    refused(&with_flags(&["--lease", "soon"]), "'--lease <SPAN>': `soon` is not a span");
    refused(&with_flags(&["--frame-max", "8M"]), "`8M` is not a size such as 8MiB");
    refused(&with_flags(&["--lease", "2ms"]), "--lease: lease is 2ms, the least is 10s");
    refused(
        &with_file("\nlease = 15"),
        "celeriac.toml:2: invalid type: integer `15`, expected a span",
    );
    refused(&with_file("payload_max = \"big\""), "celeriac.toml:1: `big` is not a size");
    refused(&with_file("lease = \"2ms\""), "celeriac.toml:1: lease is 2ms");
}

#[test]
fn a_wrong_value_of_a_variable_is_refused_by_the_name_of_the_variable() {
    for (name, value) in [
        ("CELERIAC_HEARTBEAT_MS", "abc"),
        ("CELERIAC_LEASE", "abc"),
        ("CELERIAC_LISTEN", "here"),
        ("CELERIAC_INSECURE", "perhaps"),
        ("CELERIAC_LOG_FORMAT", "xml"),
        ("CELERIAC_LOG", "wran"),
        ("CELERIAC_CONNECTIONS_MAX", "-1"),
    ] {
        let output = with_variable(name, value);
        assert_eq!(output.code, Some(2), "{output:?}");
        assert!(output.stderr.contains(name) && !output.stderr.contains("for '--"), "{output:?}");
    }
    // A flag has priority, so the flag is wrong here.
    let mut command = celeriac(&CHECK);
    let output = finish(command.arg("--heartbeat=x").env("CELERIAC_HEARTBEAT", "5s"), "");
    assert!(output.stderr.contains("'--heartbeat <SPAN>'"), "{output:?}");
    let output = finish(celeriac(&["queues"]).env("CELERIAC_TIMEOUT", "soon"), "");
    assert!(
        output.code == Some(2) && output.stderr.contains("for CELERIAC_TIMEOUT: "),
        "{output:?}"
    );
}

#[test]
fn an_empty_variable_counts_as_not_set() {
    let help = run(&["serve", "--help"]).stdout + &run(&["queues", "--help"]).stdout;
    let words = help.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let mut names: Vec<_> = words.filter(|word| word.starts_with("CELERIAC_")).collect();
    names.retain(|name| name.len() > "CELERIAC_".len());
    names.extend(["CELERIAC_TOKEN", "CELERIAC_LEASE_MS"]);
    assert!(names.len() > 15, "{names:?}");
    let mut command = celeriac(&CHECK);
    for name in names {
        command.env(name, "");
    }
    assert_eq!(finish(&mut command, "").stdout, with_flags(&[]).stdout);
    let mut command = celeriac(&["queues", "--url", "celeriac://127.0.0.1:1"]);
    let output = finish(command.env("CELERIAC_TIMEOUT", "").env("CELERIAC_TOKEN", ""), "");
    assert_eq!(output.code, Some(3), "{output:?}");
}

#[test]
fn a_variable_that_is_not_text_is_refused_by_its_name() {
    for name in ["CELERIAC_LOG", "CELERIAC_LEASE", "CELERIAC_LISTEN", "CELERIAC_TOKEN"] {
        let output = with_variable(name, OsStr::from_bytes(b"\xff\xfe"));
        refused(&output, &format!("{name}: the value is not text in UTF-8"));
    }
}

#[test]
fn a_misspelled_level_is_refused_with_the_list_of_levels() {
    for filter in ["wran", "0", "", "info,celeriac_broker=loud", "info,"] {
        refused(
            &with_flags(&["--log", filter]),
            "is no level: use off, error, warn, info, debug or trace",
        );
    }
    refused(&with_flags(&["--log", "celeriac_brokr=debug"]), "`celeriac_brokr` is no part");
    refused(&with_file("log = \"wran\""), "celeriac.toml:1: log filter `wran`: `wran` is no level");
    assert_eq!(with_flags(&["--log", "info,celeriac_broker=debug"]).code, Some(0));
}
