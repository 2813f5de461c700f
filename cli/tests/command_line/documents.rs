//! The commands of the README, as a reader pastes them.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::process::{finish, within_deadline};
use tempfile::TempDir;

/// The blocks of shell commands under a heading.
fn shell_blocks(document: &str, heading: &str) -> Vec<String> {
    let section = document.split_once(heading).expect("the heading is there").1;
    let section = section.split_once("\n## ").map_or(section, |(section, _)| section);
    let blocks = section.split("```sh\n").skip(1);
    blocks.map(|block| block.split_once("```").expect("it ends").0.to_owned()).collect()
}

/// A shell that runs commands where `celeriac` is on the PATH.
fn shell(script: &str, folder: &Path, address: &str) -> Command {
    let binary = Path::new(env!("CARGO_BIN_EXE_celeriac"));
    let path = std::env::var("PATH").unwrap_or_default();
    let mut shell = Command::new("sh");
    shell.args(["-euc", script]).current_dir(folder);
    shell.env("PATH", format!("{}:{path}", binary.parent().expect("a folder").display()));
    // The port of the documents may be in use. Nothing else differs.
    shell.env("CELERIAC_LISTEN", address).env("CELERIAC_URL", address);
    shell
}

/// A command that goes on until the end of the test.
struct Background(Child);

impl Background {
    fn start(script: &str, folder: &Path, address: &str) -> Self {
        let script = format!("exec {script}");
        let mut command = shell(&script, folder, address);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Self(child.expect("sh starts"))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_first_sixty_seconds_of_the_readme_work_as_they_stand() {
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md"))
        .expect("it is there");
    let blocks = shell_blocks(&readme, "\n## Sixty seconds\n");
    let [serve, work, rest] = blocks.as_slice() else { panic!("three blocks: {blocks:?}") };
    let folder = TempDir::new().expect("a folder");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    drop(listener);
    let _broker = Background::start(serve, folder.path(), &address);
    let reached = address.clone();
    within_deadline(move || while std::net::TcpStream::connect(&reached).is_err() {});
    let _worker = Background::start(work, folder.path(), &address);

    let output = finish(&mut shell(rest, folder.path(), &address), "");
    assert_eq!(output.code, Some(0), "{output:?}");
    for promised in rest.lines().filter_map(|line| line.strip_prefix("# ")) {
        assert!(output.stdout.contains(promised), "no {promised} in {output:?}");
    }
}
