//! Secrets in a wrong place, or in files that other users can read. No error ever shows a secret.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::TempDir;

use crate::process::{CommandOutput, celeriac, finish, run};

/// The secret is digits, so that a value without quotes is valid TOML.
const SECRET: &str = "98765432109";

fn check_file(text: &str) -> CommandOutput {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("celeriac.toml");
    fs::write(&file, format!("data = \"d\"\n{text}\n")).expect("written");
    finish(celeriac(&["serve", "--check-config", "--config"]).arg(&file), "")
}

#[test]
fn the_error_for_a_wrong_file_never_shows_its_secret() {
    let values = [
        "S",
        "-S",
        "S.5",
        "S_",
        "0xS",
        "1e S",
        "S-05-27",
        "1979-05-27T07:32:00.S",
        "1979-05-27T07:32:00.98765432109Z",
        "[S]",
        "[\"S\"]",
        "{ S = 1 }",
        "{ a = \"S\" }",
        "\"S",
        "'S",
        "\"\"\"S",
        "'''S",
        "\"\\qS\"",
        "\"S\" more",
        "\"S\"S",
        "S = 3",
        "aS",
        "\"a\u{1}S\"",
        "SSSSSSSS",
        "true # S",
        "\"\\u{S}\"",
        "",
    ];
    for key in ["token", "token_file", "\"token\"", "token.a", "token_file.S"] {
        for value in values {
            for line in [
                format!("{key} = {value}"),
                format!("{key} = {value}\nlog = \"info\"\n{key} = {value}"),
            ] {
                let output = check_file(&line.replace('S', SECRET));
                assert!(!output.stderr.contains(SECRET), "{line}: {output:?}");
                // Some of these values are valid. The output must not show them either.
                assert!(!output.stdout.contains(SECRET), "{line}: {output:?}");
            }
        }
    }
    for line in [
        format!("[token]\n{SECRET} = 1"),
        format!("[[token]]\na = {SECRET}"),
        format!("token {SECRET}"),
        format!("token: \"{SECRET}\""),
        format!("token = \"a\"\ntoken = \"{SECRET}\""),
        format!("token_file = \"{SECRET}\""),
        format!("[server]\ntoken = {SECRET}"),
    ] {
        let output = check_file(&line);
        assert_eq!(output.code, Some(2), "{line}: {output:?}");
        assert!(!output.stderr.contains(SECRET), "{line}: {output:?}");
    }
    let output = check_file(&format!("token = {SECRET}"));
    assert!(
        output.stderr.contains("celeriac.toml:2: token has to be a string in quotes"),
        "{output:?}"
    );
}

#[test]
fn the_error_for_a_wrong_address_never_shows_its_secret() {
    let secret = "s3cr3t-98765432109";
    for url in [
        "celeriac://S",
        "celeriac://S:23537",
        "celeriac://S:1/",
        "S",
        "S@h",
        "h:S",
        "host:S",
        "redis://S@h",
        "redis://:S@h:1/0",
        "celeriac:S@h",
        "celeriac://h:S",
        "celeriac://S:S",
        "celeriac://h/S",
        "celeriac://S@",
        "celeriac://S@:1",
        "celeriac://S@h:0",
        "celeriac://%S@h",
        "celeriac://[S",
        "celeriac://[::1]S",
        "celeriac://S@h:1:S",
        "celeriac://user:S@",
        "celeriac://S.example.invalid",
        "CELERIAC://S@h",
        " celeriac://S",
        "celeriac://S ",
        "celeriac:// S",
        "celeriac://S\u{1b}",
    ] {
        let url = url.replace('S', secret);
        for command in [&["queues"][..], &["top"], &["submit", "a"], &["serve", "--data", "d"]] {
            let output = run(&[command, &["--url", &url, "--timeout", "2"]].concat());
            assert_ne!(output.code, Some(0), "{url}: {output:?}");
            assert!(
                !format!("{}{}", output.stdout, output.stderr).contains(secret),
                "{url}: {output:?}"
            );
        }
    }
    for arguments in [
        &["queues", "--token-file", secret][..],
        &["queues", "--token", secret],
        &["serve", "--data", "d", "--token-file", secret],
        &["serve", "--data", "d", "--listen", "celeriac://s3cr3t-98765432109@h:1"],
        &["serve", "--data", "d", "--listen", "s3cr3t-98765432109@h:1"],
        &["serve", "--data", "d", "--listen=s3cr3t-98765432109/a=b@h:1"],
        &["serve", "--data", "d", "--log=info", "--commit-timeout-ms", "s3cr3t-98765432109@h"],
        &["queues", "--timeout", "celeriac://s3cr3t-98765432109@h"],
    ] {
        let output = run(arguments);
        assert_eq!(output.code, Some(2), "{arguments:?}: {output:?}");
        assert!(!output.stderr.contains(secret), "{arguments:?}: {output:?}");
    }
}

#[test]
fn the_error_for_an_unknown_host_names_it_unless_it_may_be_a_token() {
    for command in [&["queues"][..], &["work", "--name", "n", "--", "true"]] {
        let said = |url: &str| {
            let output = run(&[&["--url", url, "--timeout", "2"], command].concat());
            assert_eq!(output.code, Some(3), "{url}: {output:?}");
            output.stderr
        };
        for url in ["nosuch.invalid", "celeriac://s3cr3t-98765432109@nosuch.invalid:7"] {
            let said = said(url);
            let sentence = "the host name nosuch.invalid cannot be resolved: ";
            assert!(said.contains(sentence), "{said}");
        }
        let said = said("celeriac://98765432109.invalid");
        assert!(said.contains("the name is not shown here"), "{said}");
        assert!(!said.contains("98765432109"), "{said}");
    }
}

fn with_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("set");
}

#[test]
fn a_secret_that_every_user_of_the_machine_can_read_gives_a_warning() {
    let folder = TempDir::new().expect("a folder");
    let (token, config) = (folder.path().join("token"), folder.path().join("celeriac.toml"));
    fs::write(&token, "s3cret\n").expect("written");
    fs::write(&config, "data = \"d\"\ntoken = \"s3cret\"\n").expect("written");
    let serve = |flag: &str, file: &Path| {
        finish(celeriac(&["serve", "--data", "d", "--check-config", flag]).arg(file), "").stderr
    };
    let client = |file: &Path| {
        let arguments =
            ["queues", "--url", "celeriac://127.0.0.1:1", "--timeout", "1", "--token-file"];
        finish(celeriac(&arguments).arg(file), "").stderr
    };
    for mode in [0o644, 0o604, 0o666, 0o602] {
        with_mode(&token, mode);
        with_mode(&config, mode);
        for said in [serve("--token-file", &token), serve("--config", &config), client(&token)] {
            assert!(
                said.contains("chmod 600") && said.contains(&format!("(mode {mode:04o})")),
                "{mode:o}: {said:?}"
            );
            assert!(!said.contains("s3cret"), "{said:?}");
        }
    }
    for mode in [0o600, 0o400, 0o640] {
        with_mode(&token, mode);
        with_mode(&config, mode);
        for said in [serve("--token-file", &token), serve("--config", &config), client(&token)] {
            assert!(!said.contains("chmod"), "{mode:o}: {said:?}");
        }
    }
    fs::write(&config, "data = \"d\"\n").expect("written");
    with_mode(&config, 0o644);
    assert_eq!(serve("--config", &config), "", "there is no secret in it");
}
