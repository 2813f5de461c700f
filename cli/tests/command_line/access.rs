//! An access file on the command line: `celeriac token`, `celeriac serve --access-file`, and what a
//! refused command says. The rules themselves are tested in the broker.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use crate::process::{Broker, CommandOutput, celeriac, documents, finish, run};
use tempfile::TempDir;

/// A token and its entry, as `celeriac token new` prints them.
pub(crate) fn new_token(arguments: &[&str]) -> (String, String) {
    let new = run(&[&["token", "new"], arguments].concat());
    assert_eq!((new.code, new.stderr.as_str()), (Some(0), ""), "{new:?}");
    let (token, entry) = new.stdout.split_once("\n\n").expect("a token and an entry");
    (token.to_owned(), entry.to_owned())
}

fn producer() -> (String, String) {
    new_token(&["--name", "web", "--role", "producer", "--queue", "songs*"])
}

/// A folder with an access file of these entries.
pub(crate) struct Place(TempDir);

impl Place {
    pub(crate) fn with(entries: &[&str]) -> Self {
        let place = Self(TempDir::new().expect("a folder"));
        fs::write(place.file("access.toml"), entries.join("\n")).expect("written");
        place.set_mode(0o600);
        place
    }

    fn set_mode(&self, mode: u32) {
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(self.file("access.toml"), mode).expect("it is ours");
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn serve(&self, more: &[&str]) -> Command {
        let mut command = celeriac(&["serve", "--log", "warn", "--data"]);
        command
            .arg(self.file("data"))
            .arg("--access-file")
            .arg(self.file("access.toml"))
            .args(more);
        command
    }

    fn broker(&self, more: &[&str]) -> Broker {
        Broker::ready(self.serve(&[&["--listen", "127.0.0.1:0"], more].concat()))
    }

    fn check(&self, more: &[&str]) -> CommandOutput {
        finish(celeriac(&["token", "check"]).arg(self.file("access.toml")).args(more), "")
    }
}

pub(crate) fn with_token(broker: &Broker, token: &str, arguments: &[&str]) -> CommandOutput {
    finish(broker.command(arguments).env("CELERIAC_TOKEN", token), "")
}

#[test]
fn o1_without_an_access_file_nothing_changes() {
    let folder = TempDir::new().expect("a folder");
    let open = Broker::start(&folder.path().join("open"), &[]);
    assert_eq!(open.run(&["submit", "t", "--queue", "songs"]).code, Some(0));
    assert_eq!(open.run(&["queues", "purge", "songs", "--yes"]).code, Some(0));
    let backup = folder.path().join("backup").display().to_string();
    assert_eq!(open.run(&["backup", &backup]).code, Some(0));
    let mut command = celeriac(&["serve", "--listen", "127.0.0.1:0", "--log", "warn", "--data"]);
    command.arg(folder.path().join("one")).env("CELERIAC_TOKEN", "the-one-token");
    let one = Broker::ready(command);
    assert_eq!(one.run(&["queues"]).code, Some(8));
    for command in [&["submit", "t"][..], &["queues", "pause", "default"], &["info"]] {
        assert_eq!(with_token(&one, "the-one-token", command).code, Some(0), "{command:?}");
    }
    let public = celeriac(&["serve", "--listen", "0.0.0.0:0", "--check-config", "--data", "d"]);
    let refused = finish(&mut { public }, "");
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.stderr.contains("--access-file"), "{refused:?}");
}

#[test]
fn o2_a_broker_with_an_access_file_asks_each_client_for_its_token() {
    let (token, entry) = producer();
    let place = Place::with(&[&entry]);
    let public = finish(&mut place.serve(&["--listen", "0.0.0.0:0", "--check-config"]), "");
    assert_eq!(public.code, Some(0), "an access file is enough: {public:?}");
    let both = finish(place.serve(&["--check-config"]).env("CELERIAC_TOKEN", "t"), "");
    assert_eq!(both.code, Some(2), "{both:?}");
    assert!(both.stderr.contains("access_file and token are both set: keep one"), "{both:?}");
    let broker = place.broker(&[]);
    assert_eq!(broker.run(&["queues"]).code, Some(8));
    assert_eq!(with_token(&broker, "wrong", &["queues"]).code, Some(8));
    let own = with_token(&broker, &token, &["submit", "t", "--queue", "songs", "--id", "a"]);
    assert_eq!(own.code, Some(0), "{own:?}");
    let foreign = with_token(&broker, &token, &["submit", "t", "--queue", "mail"]);
    assert_eq!(foreign.code, Some(8), "{foreign:?}");
    let sentence = "the access `web` does not allow the queue `mail`";
    assert!(foreign.stderr.contains(sentence), "{foreign:?}");
    let refused = with_token(&broker, &token, &["queues", "pause", "songs"]);
    assert_eq!(refused.code, Some(8), "{refused:?}");
    assert!(refused.stderr.contains("does not have the role"), "{refused:?}");
    assert_eq!(with_token(&broker, &token, &["status", "a"]).code, Some(0));
}

#[test]
fn o4_a_new_token_is_printed_once_with_its_entry() {
    let arguments = ["--name", "we\"b", "--role", "reader", "--role", "operator", "--bodies"];
    let more = ["--queue", "songs*", "--queue", "mail", "--task-name", "t.*", "--expires", "1d"];
    let (token, entry) = new_token(&[&arguments[..], &more].concat());
    assert!(token.starts_with("clr_") && token.len() == 56, "{token}");
    assert!(!entry.contains(&token[13..]), "{entry}");
    for line in [
        "roles = [\"reader\", \"operator\"]",
        "queues = [\"songs*\", \"mail\"]",
        "names = [\"t.*\"]",
        "bodies = true",
    ] {
        assert!(entry.lines().any(|other| other == line), "{line}: {entry}");
    }
    let other = new_token(&[&arguments[..], &more].concat());
    assert_ne!(other.0, token);
    let place = Place::with(&[&entry, &other.1]);
    let checked = place.check(&["--json"]);
    let entries = documents(&checked.stdout);
    assert_eq!((checked.code, entries.len()), (Some(0), 2), "{checked:?}");
    assert_eq!(entries[0]["name"], "we\"b");
    assert_eq!(entries[0]["key"], token[4..12]);
    assert_eq!(entries[0]["expired"], false);
    let json =
        documents(&run(&[&["token", "new", "--json"], &arguments[..], &more].concat()).stdout);
    assert!(json[0]["token"].as_str().is_some_and(|token| token.starts_with("clr_")));
    for wrong in [&["--queue", "a*b"][..], &["--role", "boss"], &["--queue", ""]] {
        let refused = run(&[&["token", "new"], &arguments[..], &["--queue", "q"], wrong].concat());
        assert_eq!((refused.code, refused.stdout.as_str()), (Some(2), ""), "{refused:?}");
    }
}

#[test]
fn o4_a_file_is_checked_as_the_broker_reads_it() {
    let (_, entry) = producer();
    let place = Place::with(&[&entry]);
    let right = place.check(&[]);
    assert_eq!((right.code, right.stderr.as_str()), (Some(0), ""), "{right:?}");
    assert!(right.stdout.contains("web") && right.stdout.contains("producer"), "{right:?}");
    assert!(right.stdout.contains("songs*") && right.stdout.contains("never"), "{right:?}");
    place.set_mode(0o644);
    let open = place.check(&[]);
    assert_eq!(open.code, Some(0), "{open:?}");
    assert!(open.stderr.contains("(mode 0644)"), "{open:?}");
    fs::write(place.file("access.toml"), entry.replace("producer", "produser")).expect("written");
    let wrong = place.check(&[]);
    assert_eq!((wrong.code, wrong.stdout.as_str()), (Some(2), ""), "{wrong:?}");
    assert!(wrong.stderr.contains("access.toml:5: `produser` is no role"), "{wrong:?}");
    let serve = finish(&mut place.serve(&["--check-config"]), "");
    assert_eq!(serve.code, Some(2), "{serve:?}");
    let sentence = wrong.stderr.trim_start_matches("celeriac: ");
    assert!(serve.stderr.contains(sentence), "{serve:?} has {sentence}");
    assert!(!place.file("data").exists(), "a broker that does not start makes no folder");
}

#[test]
fn o4_the_manual_is_typed_as_it_stands() {
    let manual = include_str!("../../../deploy/ACCESS.md");
    let lines: Vec<&str> = manual.lines().collect();
    let typed = |begin: &str| {
        let line = lines.iter().find(|line| line.starts_with(begin)).expect("the line is there");
        line.split('#').next().unwrap_or_default().trim().to_owned()
    };
    let place = TempDir::new().expect("a folder");
    let shell = |line: &str| {
        let mut shell = crate::process::program("sh");
        finish(shell.args(["-c", line]).current_dir(place.path()), "")
    };
    for begin in [
        "celeriac token new --name ops",
        "celeriac token new --name web",
        "celeriac token new --name player",
        "head -qn 1 ops",
        "tail -qn +2 ops",
        "celeriac token check",
    ] {
        let done = shell(&format!("{}; {}", typed("umask 077"), typed(begin)));
        assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""), "{begin}: {done:?}");
    }
    let serve = typed("celeriac serve --data ./data --access-file");
    let mut broker = crate::process::program("sh");
    let exec = format!("exec {serve} --listen 127.0.0.1:0 --log warn");
    broker.args(["-c", &exec]).current_dir(place.path());
    let broker = Broker::ready(broker);
    for (begin, code) in [
        ("celeriac submit songs.play", 0),
        ("celeriac queues --token-file ops.token", 0),
        ("celeriac submit mail.send", 8),
    ] {
        let line = format!("CELERIAC_URL=celeriac://{} {}", broker.address, typed(begin));
        let done = shell(&line);
        assert_eq!(done.code, Some(code), "{begin}: {done:?}");
    }
}

#[test]
fn o4_a_list_of_entries_shows_what_each_allows_and_fits_a_terminal() {
    let flags = ["--name", "eye", "--role", "reader", "--role", "operator", "--bodies"];
    let more = ["--queue", "songs*", "--queue", "mail", "--task-name", "t.*", "--expires", "30d"];
    let (_, entry) = new_token(&[&flags[..], &more].concat());
    let gone = "[[certificate]]\nname = \"a gpu\"\nsan = \"dns:gpu.workers.example\"\n\
                roles = [\"worker\"]\nqueues = [\"q\"]\nnames = [\"n\"]\n\
                expires = 2020-05-01T00:00:00Z\n";
    let place = Place::with(&[&entry, gone]);
    let listed = place.check(&["--json"]);
    assert_eq!(listed.code, Some(0), "{listed:?}");
    let listed = documents(&listed.stdout);
    assert_eq!(listed[0]["queues"], serde_json::json!(["songs*", "mail"]));
    assert_eq!(listed[0]["names"], serde_json::json!(["t.*"]));
    assert_eq!((&listed[0]["bodies"], &listed[1]["bodies"]), (&true.into(), &false.into()));
    assert_eq!((&listed[0]["expired"], &listed[1]["expired"]), (&false.into(), &true.into()));
    assert_eq!(listed[1]["key"], "dns:gpu.workers.example");
    let mut check = celeriac(&["token", "check"]);
    check.arg(place.file("access.toml"));
    let (code, shown) = crate::terminal::Terminal::open_with_size(check, 80, 24).end();
    assert_eq!(code, Some(0), "{shown}");
    let plain = crate::terminal::without_colours(&shown);
    assert!(plain.lines().all(|line| line.chars().count() <= 80), "{plain}");
    for text in ["NAME", "ID", "ROLES", "QUEUES", "NAMES", "BODIES", "EXPIRES", "EXPIRED"] {
        assert!(plain.contains(text), "{text}: {plain}");
    }
    let piped = place.check(&[]).stdout;
    for text in ["BODIES", "LINE", "reader, operator", "songs*, mail", "t.*", "yes"] {
        assert!(piped.contains(text), "{text}: {piped}");
    }
}

#[test]
fn o4_a_mistake_in_a_flag_names_no_file_and_no_token_ends_before_it_begins() {
    let refused = |more: &[&str]| {
        let refused = run(&[&["token", "new", "--name", "n", "--role", "worker"], more].concat());
        assert_eq!((refused.code, refused.stdout.as_str()), (Some(2), ""), "{refused:?}");
        refused.stderr
    };
    let pattern = refused(&["--queue", "a*b"]);
    assert!(pattern.starts_with("celeriac: `a*b` is no pattern of queues: "), "{pattern}");
    assert!(!pattern.contains("toml"), "{pattern}");
    for over in ["2020-05-01T00:00:00Z", "0s"] {
        let over = refused(&["--queue", "q", "--expires", over]);
        assert!(over.contains("--expires: this time is over"), "{over}");
    }
}

#[test]
fn o11_the_answer_to_a_backup_says_where_it_is() {
    let ops = ["--name", "ops", "--role", "operator", "--queue", "*"];
    let (token, entry) = new_token(&ops);
    let place = Place::with(&[&entry]);
    fs::create_dir(place.file("backups")).expect("a new folder");
    let folder = place.file("backups").display().to_string();
    let broker = place.broker(&["--backup-folder", &folder]);
    let backup = with_token(&broker, &token, &["backup", "monday"]);
    let begins = "monday in the broker's backup_folder  0 tasks, ";
    assert!(backup.code == Some(0) && backup.stdout.starts_with(begins), "{backup:?}");
    assert!(place.file("backups/monday/format").exists());
}
