//! TLS of `celeriac serve` and of the commands: the sentences and exit codes of O13 to O19. The
//! handshakes themselves are tested in `tests/tls.rs`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::process::{Broker, CommandOutput, celeriac, finish};
use authority::{Authority, Wish, write};
use tempfile::TempDir;

#[path = "../../../tests/harness/authority.rs"]
#[allow(dead_code, reason = "tests of several crates share the file")]
mod authority;

/// A folder with the files of TLS.
struct Place {
    folder: TempDir,
    ca: Authority,
}

impl Place {
    fn new() -> Self {
        let place =
            Self { folder: TempDir::new().expect("a folder"), ca: Authority::new("the CA") };
        write(&place.file("ca.pem"), &place.ca.pem());
        place.sign("broker", &Wish::server(&["127.0.0.1"]));
        place.sign("client", &Wish::client("someone"));
        place
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn path(&self, name: &str) -> String {
        self.file(name).display().to_string()
    }

    fn sign(&self, name: &str, wish: &Wish) {
        self.ca.sign(wish).write(self.folder.path(), name);
    }

    /// The flags of a broker with TLS.
    fn flags(&self) -> [String; 4] {
        let (certificate, key) = (self.path("broker.pem"), self.path("broker.key"));
        ["--tls-certificate".into(), certificate, "--tls-key".into(), key]
    }

    fn serve(&self, more: &[&str]) -> Command {
        let mut command = celeriac(&["serve", "--listen", "127.0.0.1:0", "--data"]);
        command.arg(self.file("data")).args(self.flags()).args(more);
        command
    }

    /// What `serve` says when it refuses to start, with the folder as DIR.
    fn refused(&self, more: &[&str]) -> String {
        let output = finish(&mut self.serve(more), "");
        assert_eq!((output.code, output.stdout.as_str()), (Some(2), ""), "{output:?}");
        assert!(!self.file("data").exists(), "a broker that does not start makes no folder");
        output.stderr.replace(&self.path(""), "DIR/").trim_end().to_owned()
    }

    fn broker(&self, more: &[&str]) -> Broker {
        let mut command = self.serve(more);
        command.stderr(Stdio::piped());
        Broker::ready(command)
    }
}

#[test]
fn o13_files_that_cannot_be_used_are_refused_at_the_start_with_the_setting() {
    let place = Place::new();
    place.sign("other", &Wish::server(&["127.0.0.1"]));
    let sentence = place.refused(&["--tls-key", &place.path("other.key")]);
    assert!(sentence.contains("cannot be used multiple times"), "{sentence}");
    write(&place.file("broker.key"), &fs::read_to_string(place.file("other.key")).expect("there"));
    assert_eq!(
        place.refused(&[]),
        "celeriac: --tls-key: the key DIR/broker.key does not fit the certificate DIR/broker.pem"
    );
    place.sign("broker", &Wish { years: [2001, 2002], ..Wish::server(&["127.0.0.1"]) });
    assert_eq!(
        place.refused(&[]),
        "celeriac: --tls-certificate: the certificate DIR/broker.pem expired at \
         2002-01-01T00:00:00Z"
    );
    write(&place.file("broker.pem"), "nothing");
    assert_eq!(
        place.refused(&["--check-config"]),
        "celeriac: --tls-certificate: the certificate DIR/broker.pem has no certificate in PEM \
         (-----BEGIN CERTIFICATE-----)"
    );
    place.sign("broker", &Wish::server(&["127.0.0.1"]));
    let (client, ca) = (["--tls-client", "required"], place.path("missing.pem"));
    assert_eq!(
        place.refused(&client),
        "celeriac: --tls-client: tls_client is set and tls_client_ca is not: give both"
    );
    assert_eq!(
        place.refused(&[&client[..], &["--tls-client-ca", &ca]].concat()),
        "celeriac: --tls-client-ca: the client CA DIR/missing.pem cannot be read: \
         No such file or directory (os error 2)"
    );
    let sentence = place.refused(&["--tls-client", "perhaps"]);
    assert!(sentence.contains("give none, optional or required"), "{sentence}");
}

#[test]
fn o13_a_file_of_settings_names_the_files_of_tls_and_a_mistake_has_its_line() {
    let place = Place::new();
    let file = place.file("celeriac.toml");
    let lines = format!(
        "data = \"d\"\ntls_certificate = {:?}\ntls_key = {:?}\ntls_client = \"optional\"\n\
         tls_client_ca = {:?}\nlisten_plain = \"127.0.0.1:23538\"\n",
        place.file("broker.pem"),
        place.file("broker.key"),
        place.file("ca.pem"),
    );
    fs::write(&file, &lines).expect("written");
    let check = || {
        let mut command = celeriac(&["serve", "--check-config", "--config"]);
        finish(command.arg(&file), "")
    };
    let printed = check();
    assert_eq!(printed.code, Some(0), "{printed:?}");
    for line in lines.lines().filter(|line| !line.starts_with("tls_")) {
        assert!(printed.stdout.lines().any(|other| other == line), "{line}: {printed:?}");
    }
    assert!(printed.stdout.contains("tls_client = \"optional\"\n"), "{printed:?}");
    fs::set_permissions(place.file("broker.key"), fs::Permissions::from_mode(0o604))
        .expect("our own file");
    let warned = check();
    let warning = format!(
        "celeriac: every user of this machine has access to the key {0} (mode 0604): \
         run `chmod 600 {0}`\n",
        place.path("broker.key")
    );
    assert_eq!((warned.code, warned.stderr), (Some(0), warning));
    fs::write(&file, lines.replace("127.0.0.1:23538", "10.0.0.1:23538")).expect("written");
    let refused = check();
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.stderr.contains("celeriac.toml:6: other machines can reach 10.0.0.1:23538"));
}

#[test]
fn o13_the_plain_listener_is_beside_one_with_tls_alone() {
    let mut command = celeriac(&["serve", "--data", "d", "--listen-plain", "127.0.0.1:0"]);
    let output = finish(&mut command, "");
    assert_eq!(output.code, Some(2), "{output:?}");
    assert!(output.stderr.contains("--listen-plain: listen_plain is set and tls_certificate is"));
}

/// What a broker logs at its start on an address that other machines could reach.
fn warnings_on_a_public_address(command: &mut Command) -> String {
    command.args(["--log", "warn"]).stderr(Stdio::piped());
    let mut owned = Command::new("true");
    std::mem::swap(command, &mut owned);
    let output: CommandOutput = Broker::ready(owned).stop("TERM");
    assert_eq!(output.code, Some(0), "{output:?}");
    output.stderr
}

#[test]
fn o19_an_address_that_others_reach_has_one_warning_without_tls_and_none_with_it() {
    let place = Place::new();
    let public = |more: &[&str], token: bool| {
        let mut command = celeriac(&["serve", "--listen", "0.0.0.0:0", "--data"]);
        command.arg(place.file("data")).args(more);
        if token {
            command.env("CELERIAC_TOKEN", "open-sesame");
        }
        command
    };
    let said = warnings_on_a_public_address(&mut public(&[], true));
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("cross the network in clear text"), "{said}");
    let flags = place.flags();
    let tls: Vec<&str> = flags.iter().map(String::as_str).collect();
    assert_eq!(warnings_on_a_public_address(&mut public(&tls, true)), "");
    // Without a token: TLS alone does not say who a client is.
    let ca = place.path("ca.pem");
    let clients = |kind| [&tls[..], &["--tls-client", kind, "--tls-client-ca", &ca]].concat();
    assert_eq!(warnings_on_a_public_address(&mut public(&clients("required"), false)), "");
    for more in [&[][..], &tls, &clients("optional")] {
        let refused = finish(&mut public(more, false), "");
        assert_eq!(refused.code, Some(2), "{refused:?}");
        assert!(refused.stderr.contains("other machines can reach 0.0.0.0:0"), "{refused:?}");
    }
}

#[test]
fn o17_commands_speak_tls_and_each_mistake_has_its_exit_code() {
    let place = Place::new();
    let ca = place.path("ca.pem");
    let broker = place.broker(&["--tls-client", "required", "--tls-client-ca", &ca]);
    let ask = |scheme: &str, variables: &[(&str, &str)]| {
        let mut command = celeriac(&["queues", "--timeout", "20"]);
        command.env("CELERIAC_URL", format!("{scheme}{}", broker.address));
        command.envs(variables.iter().copied());
        finish(&mut command, "")
    };
    let (certificate, key) = (place.path("client.pem"), place.path("client.key"));
    let trust = ("CELERIAC_CA_FILE", ca.as_str());
    let own = [("CELERIAC_CERTIFICATE_FILE", certificate.as_str()), ("CELERIAC_KEY_FILE", &key)];
    let answered = ask("celeriacs://", &[trust, own[0], own[1]]);
    assert_eq!((answered.code, answered.stderr.as_str()), (Some(0), ""), "{answered:?}");
    let refused = |scheme, variables: &[_], code, words: &str| {
        let output = ask(scheme, variables);
        assert_eq!((output.code, output.stdout.as_str()), (Some(code), ""), "{output:?}");
        assert!(output.stderr.contains(words), "{words}: {output:?}");
        assert_eq!(output.stderr.lines().count(), 1, "one sentence: {output:?}");
    };
    refused("celeriacs://", &[trust], 8, "asks for a certificate of this client");
    refused(
        "celeriacs://",
        &[trust, own[0]],
        2,
        "CELERIAC_CERTIFICATE_FILE is given and CELERIAC_KEY",
    );
    refused("celeriac://", &[], 3, "write celeriacs:// in place of celeriac://");
    refused("celeriacs://", &[("CELERIAC_CA_FILE", "/missing.pem")], 2, "/missing.pem cannot be");
    let unknown = [("CELERIAC_CA_FILE", certificate.as_str()), own[0], own[1]];
    refused("celeriacs://", &unknown, 3, "is not in");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("our own file");
    let warned = ask("celeriacs://", &[trust, own[0], own[1]]);
    assert_eq!(warned.code, Some(0), "{warned:?}");
    assert!(warned.stderr.contains("access to the key") && warned.stderr.contains("(mode 0644)"));
}

#[test]
fn o17_a_command_tells_a_plain_broker_from_one_with_tls() {
    let data = TempDir::new().expect("a folder");
    let broker = Broker::start(data.path(), &[]);
    let place = Place::new();
    let mut command = celeriac(&["queues", "--url", &format!("celeriacs://{}", broker.address)]);
    let output = finish(command.env("CELERIAC_CA_FILE", place.file("ca.pem")), "");
    assert_eq!(output.code, Some(3), "{output:?}");
    assert!(output.stderr.contains("without TLS begins with celeriac://"), "{output:?}");
}
