//! The package that a user of a crate gets: the licences, a README that reads well by itself, and
//! what a registry shows.

use std::fs;
use std::process::Command;

use super::Findings;
use super::source;

/// The folders of the published crates.
const CRATES: [(&str, &str); 10] = [
    ("proto", "celeriac-proto"),
    ("client", "celeriac-client"),
    ("worker", "celeriac-worker"),
    ("worker/macros", "celeriac-macros"),
    ("broker", "celeriac-broker"),
    ("broker/record", "celeriac-record"),
    ("broker/machine", "celeriac-machine"),
    ("broker/store", "celeriac-store"),
    ("broker/ticks", "celeriac-ticks"),
    ("cli", "celeriac"),
];

/// The published libraries. Their README is their documentation, and other manifests name them.
const LIBRARIES: [&str; 3] = ["client", "worker", "broker"];

fn read(path: &str) -> String {
    fs::read_to_string(source::root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn a_package_has_its_licences_and_its_readme() {
    let mut findings = Findings::default();
    for (folder, name) in CRATES {
        let mut cargo = Command::new(env!("CARGO"));
        cargo
            .args(["package", "--list", "--allow-dirty", "--offline", "-p", name])
            .current_dir(source::root());
        let output = cargo.output().expect("cargo runs");
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        let listed = String::from_utf8(output.stdout).expect("paths are text");
        for file in ["LICENSE-APACHE", "LICENSE-MIT", "README.md"] {
            if !listed.lines().any(|line| line == file) {
                findings.add(&format!("{folder}/{file}"), 1, "is missing in the package");
            }
        }
        for licence in ["LICENSE-APACHE", "LICENSE-MIT"] {
            if read(&format!("{folder}/{licence}")) != read(licence) {
                findings.add(
                    &format!("{folder}/{licence}"),
                    1,
                    "is the licence of the repository: link it",
                );
            }
        }
    }
    findings.none();
}

#[test]
fn a_registry_can_show_what_a_crate_is() {
    let mut findings = Findings::default();
    for (folder, name) in CRATES {
        let path = format!("{folder}/Cargo.toml");
        let manifest = read(&path);
        for key in ["description", "keywords", "categories", "license.workspace"] {
            if !manifest.lines().any(|line| line.starts_with(&format!("{key} = "))) {
                findings.add(&path, 1, format!("say the {key} of {name}"));
            }
        }
        let keywords =
            manifest.lines().find(|line| line.starts_with("keywords = ")).unwrap_or_default();
        // A registry accepts five keywords of up to 20 letters each.
        if keywords.split('"').skip(1).step_by(2).any(|word| word.len() > 20)
            || keywords.matches(',').count() > 4
        {
            findings.add(&path, 1, "at most five keywords, each of at most 20 letters");
        }
    }
    findings.none();
}

#[test]
fn a_readme_stands_without_the_repository_and_says_how_to_depend_on_the_crate() {
    let mut findings = Findings::default();
    for (folder, name) in CRATES {
        let path = format!("{folder}/README.md");
        let text = read(&path);
        for (index, _) in text.lines().enumerate().filter(|(_, line)| line.contains("](../")) {
            findings.add(
                &path,
                index + 1,
                "a package has no folder above it: name the file in words",
            );
        }
        if LIBRARIES.contains(&folder) && !text.contains(&format!("\n{name} = \"0.1\"")) {
            findings.add(&path, 1, "show the line of a manifest that depends on it");
        }
    }
    findings.none();
}
