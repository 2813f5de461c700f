//! The access file: what is right, and the sentence about each mistake.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use celeriac_proto::wire::ErrorCode;

use super::{EVERYTHING, Served, pass};
use crate::access::{Access, Role, file};
use crate::config::{Config, ConfigError};

const HASH: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

/// A right entry of four lines and a blank one.
fn entry(id: &str) -> String {
    format!(
        "[[token]]\nname = \"web\"\nid = \"{id}\"\nsha256 = \"{HASH}\"\nroles = [\"producer\"]\n\
         queues = [\"*\"]\nnames = [\"*\"]\n"
    )
}

/// The sentence about a text.
fn sentence(text: &str) -> String {
    let path = Path::new("access.toml");
    file::parse(path, text).expect_err("the text is wrong").to_string()
}

fn refused(text: &str, begin: &str, part: &str) {
    let sentence = sentence(text);
    assert!(sentence.starts_with(begin) && sentence.contains(part), "{sentence}");
    assert_eq!(sentence.lines().count(), 1, "{sentence}");
}

#[test]
fn o2_a_file_with_tokens_and_certificates_is_read() {
    let text = "[[token]]\nname = \"web\"\nid = \"k3f9x2ab\"\nsha256 = \"9F86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\"\n\
                roles = [\"reader\", \"producer\", \"reader\"]\nqueues = [\"songs\", \"mail-*\"]\n\
                names = [\"songs.*\"]\nexpires = 2027-05-01T02:00:00+02:00\n\n[[certificate]]\n\
                name = \"gpu\"\nsan = \"dns:GPU.example\"\nroles = [\"worker\"]\nqueues = [\"*\"]\n\
                names = [\"*\"]\nbodies = true\n";
    let contents = file::parse(Path::new("access.toml"), text).expect("the text is right");
    let [web, gpu] = contents.entries.all()[..] else { panic!("two entries") };
    assert_eq!((&*web.name, web.line, web.expires), ("web", 1, Some(1_809_129_600_000)));
    assert_eq!(web.rights.roles, [Role::Producer, Role::Reader]);
    let scope = web.rights.scope.as_ref().expect("it has a scope");
    assert!(scope.allows("mail-in", "songs.play") && !scope.allows("mail-in", "mail"));
    assert!(contents.entries.certificates.contains_key("dns:gpu.example"));
    assert!(gpu.rights.scope.is_none() && gpu.rights.bodies && gpu.line == 10);
    assert!(contents.warnings.is_empty(), "{:?}", contents.warnings);
}

#[test]
fn o2_an_entry_without_queues_or_names_allows_none_and_has_a_warning() {
    let text = format!(
        "{}[[certificate]]\nname = \"x\"\nfingerprint = \"sha256:{}\"\nroles = [\"reader\"]\n",
        entry("k3f9x2ab"),
        "A".repeat(64)
    );
    let contents = file::parse(Path::new("access.toml"), &text).expect("the text is right");
    let entry = &contents.entries.certificates[&*format!("sha256:{}", "a".repeat(64))];
    assert!(!entry.rights.scope.as_ref().expect("a scope").allows("songs", "t"));
    assert_eq!(contents.warnings.len(), 2, "{:?}", contents.warnings);
    assert!(contents.warnings[0].starts_with("access.toml:8: the access `x` has no queues"));
}

#[test]
fn o7_each_mistake_has_one_sentence_with_the_file_and_the_line() {
    let one = entry("k3f9x2ab");
    let changed = |from: &str, to: &str| one.replace(from, to);
    refused(&format!("{one}{one}"), "access.toml:10: ", "the id `k3f9x2ab` stands in line 1 too");
    refused(&changed("producer", "produser"), "access.toml:5: ", "`produser` is no role");
    refused(&changed("[\"producer\"]", "[]"), "access.toml:1: ", "`web` has no roles");
    refused(&changed("queues", "queue"), "access.toml:6: ", "unknown field `queue`");
    refused(&changed("k3f9x2ab", "K3F9"), "access.toml:3: ", "8 small letters and digits");
    refused(&changed(HASH, "abc"), "access.toml:4: ", "64 hexadecimal digits");
    refused(&changed("queues = [\"*\"]", "queues = [\"a*b\"]"), "access.toml:6: ", "`a*b` is no");
    refused(&changed("queues = [\"*\"]", "queues = [\"\"]"), "access.toml:6: ", "is no pattern");
    refused(&changed("\"web\"", "\"\""), "access.toml:2: ", "a name has 1 to 255 bytes");
    refused(&changed("\"web\"", "\"a\\nb\""), "access.toml:2: ", "visible text");
    refused(&changed("roles = [\"producer\"]\n", ""), "access.toml:1: ", "missing field `roles`");
    refused(&changed("\"web\"", "web"), "access.toml:2: ", "");
    refused(&format!("{one}expires = 2027-05-01\n"), "access.toml:8: ", "and an offset");
    refused("", "access.toml:1: ", "no [[token]] and no [[certificate]]");
    refused("[[tokens]]\n", "access.toml:1: ", "unknown field `tokens`");
    let certificate = "[[certificate]]\nname = \"x\"\nroles = [\"reader\"]\n";
    refused(certificate, "access.toml:1: ", "by san or by fingerprint");
    refused(&format!("{certificate}san = \"x.example\"\n"), "access.toml:4: ", "san is dns:");
    refused(&format!("{certificate}fingerprint = \"ab\"\n"), "access.toml:4: ", "64 hex");
    let twice = format!("{certificate}san = \"dns:x\"\n{certificate}san = \"dns:X\"\n");
    refused(&twice, "access.toml:5: ", "the certificate `dns:x` stands in line 1 too");
    let many = format!("queues = [{}]", "\"q\", ".repeat(1_001));
    refused(&changed("queues = [\"*\"]", &many), "access.toml:6: ", "more than 1000 patterns");
}

#[test]
fn o3_no_sentence_repeats_a_token_that_somebody_wrote_into_the_file() {
    let token = format!("clr_k3f9x2ab_{}", "s3cret".repeat(7));
    for line in ["name", "id", "sha256", "roles", "queues", "expires", "token", "x"] {
        for value in [format!("\"{token}\""), format!("[\"{token}\"]"), token.clone()] {
            let text = format!("{}{line} = {value}\n", entry("k3f9x2ab"));
            let sentence = sentence(&text);
            assert!(!sentence.contains("s3cret"), "{line} = {value}: {sentence}");
            let text = entry("k3f9x2ab")
                .replace(&format!("{line} = ["), &format!("{line} = [\"{token}\", "));
            if let Err(error) = file::parse(Path::new("access.toml"), &text) {
                assert!(!error.to_string().contains("s3cret"), "{error}");
            }
        }
    }
}

#[test]
fn o7_what_is_no_readable_text_has_a_sentence_with_the_file() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let path = folder.path().join("access.toml");
    let sentence = || Access::report(&path).expect_err("the file is wrong").to_string();
    assert!(sentence().contains("access.toml cannot be read: "), "{}", sentence());
    std::fs::create_dir(&path).expect("a new folder");
    assert!(sentence().ends_with("access.toml is not a regular file"), "{}", sentence());
    std::fs::remove_dir(&path).expect("it is empty");
    std::fs::write(&path, b"# a\n# \xff\n").expect("written");
    assert!(sentence().ends_with("access.toml:2: it is not text in UTF-8"), "{}", sentence());
    std::fs::write(&path, "#".repeat(1024 * 1024 + 1)).expect("written");
    assert!(sentence().ends_with("access.toml is longer than 1 MiB"), "{}", sentence());
}

#[test]
fn o7_a_file_that_every_user_can_read_has_a_warning_that_names_the_mode() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let path = folder.path().join("access.toml");
    std::fs::write(&path, entry("k3f9x2ab")).expect("written");
    let warnings = |mode: u32| {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("it is ours");
        Access::report(&path).expect("the file is right").warnings
    };
    assert_eq!(warnings(0o640), Vec::<String>::new());
    let open = warnings(0o644);
    assert!(open.len() == 1 && open[0].contains("(mode 0644): run `chmod 600 "), "{open:?}");
}

#[test]
fn o2_an_access_file_excludes_the_one_token_and_other_settings_need_it() {
    let checked = |change: fn(&mut Config)| {
        let mut config = Config::new("data");
        change(&mut config);
        config.check()
    };
    let alone = |key| Err(ConfigError::Alone { key, other: "access_file" });
    assert_eq!(checked(|config| config.backup_folder = Some("b".into())), alone("backup_folder"));
    assert_eq!(checked(|config| config.audit_file = Some("a".into())), alone("audit_file"));
    assert_eq!(checked(|config| config.access_file = Some("a".into())), Ok(()));
    let both = checked(|config| {
        (config.access_file, config.token) = (Some("a".into()), Some("t".to_owned()));
    });
    assert_eq!(both, Err(ConfigError::Both { key: "access_file", other: "token" }));
}

#[tokio::test]
async fn o7_a_broken_file_changes_nothing_when_it_is_read_again() {
    let all = pass("all", EVERYTHING);
    let served = Served::with(&[&all]).await;
    let mut caller = served.call(&all).await;
    let path = served.folder.path().join("access.toml");
    std::fs::write(&path, "[[token]]\n").expect("written");
    let error = served.access().prepare().await.expect_err("the file is broken");
    assert!(error.to_string().contains("access.toml:1: "), "{error}");
    assert_eq!(caller.submit(&[("a", "q", "t")]).await, [ErrorCode::Unspecified]);
    served.call(&all).await;
}

#[test]
fn o7_a_mistake_behind_many_entries_is_named_with_its_line() {
    let text: String = (0..1_000).map(|number| entry(&format!("{number:08}"))).collect();
    assert_eq!(
        sentence(&format!("{text}{}", entry("00000007"))),
        "access.toml:7003: the id `00000007` stands in line 50 too"
    );
    let name = text.replace("\"web\"", "\"we\u{202e}b\"");
    refused(&name, "access.toml:2: ", "visible text");
}
