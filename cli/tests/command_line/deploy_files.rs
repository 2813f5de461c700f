//! The files in `deploy/` for service managers and containers: that systemd and the command line
//! take them, that they agree with each other, and how little they let a broker do.

use std::fs;
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::process::{Broker, CommandOutput, celeriac, finish, program, run, skip};

/// `systemd-analyze security` rates a unit from 0 to 10, here in tenths. More is worse.
const EXPOSURE_MAX: u32 = 11;
const EXPOSURE_WITH_SOCKET_MAX: u32 = 4;

fn deploy(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy")).join(name)
}

fn text(name: &str) -> String {
    fs::read_to_string(deploy(name)).expect("it is there")
}

/// The units in a folder of their own, with a program that exists.
fn units(with_socket: bool) -> TempDir {
    let folder = TempDir::new().expect("a folder");
    let program = env!("CARGO_BIN_EXE_celeriac");
    let service = text("celeriac.service").replace("/usr/local/bin/celeriac", program);
    fs::write(folder.path().join("celeriac.service"), service).expect("writable");
    if with_socket {
        for socket in ["celeriac.socket", "celeriac-http.socket"] {
            fs::write(folder.path().join(socket), text(socket)).expect("writable");
        }
        let dropped_in = folder.path().join("celeriac.service.d");
        fs::create_dir(&dropped_in).expect("a new folder");
        let socket = text("celeriac.service.d/socket.conf");
        fs::write(dropped_in.join("socket.conf"), socket).expect("writable");
    }
    folder
}

/// What `systemd-analyze` says of units. `None`: it is not installed.
fn analyze(folder: &TempDir, arguments: &[&str]) -> Option<CommandOutput> {
    let mut command = Command::new("systemd-analyze");
    command.args(arguments).current_dir(folder.path());
    if Command::new("systemd-analyze").arg("--version").stdout(Stdio::null()).status().is_err() {
        skip("systemd-analyze is not installed");
        return None;
    }
    Some(finish(&mut command, ""))
}

#[test]
fn the_units_let_a_broker_do_little() {
    for (with_socket, most) in [(false, EXPOSURE_MAX), (true, EXPOSURE_WITH_SOCKET_MAX)] {
        let folder = units(with_socket);
        let at_most = |tenths: u32| {
            let threshold = format!("--threshold={tenths}");
            analyze(&folder, &["security", "--offline=yes", &threshold, "./celeriac.service"])
        };
        let Some(rated) = at_most(most) else { return };
        assert_eq!(rated.code, Some(0), "{rated:?}");
        // The measure is one: with less the unit does not pass.
        let rated = at_most(most / 2).expect("it was there before");
        assert_eq!(rated.code, Some(1), "write the new measure here: {rated:?}");
    }
}

#[test]
fn systemd_understands_the_units() {
    let folder = units(true);
    let Some(verified) = analyze(
        &folder,
        &["verify", "./celeriac.service", "./celeriac.socket", "./celeriac-http.socket"],
    ) else {
        return;
    };
    assert_eq!(verified.code, Some(0), "{verified:?}");
    // Older versions of systemd do not know these two, and say so.
    let known = ["RestartSteps", "RestartMaxDelaySec"];
    let complaints = verified.stderr.lines().filter(|line| line.contains(folder_name(&folder)));
    let others = complaints.filter(|line| !known.iter().any(|key| line.contains(key)));
    assert_eq!(others.collect::<Vec<_>>(), Vec::<&str>::new());
}

fn folder_name(folder: &TempDir) -> &str {
    folder.path().to_str().expect("text")
}

#[test]
fn a_broker_serves_the_socket_that_it_is_handed() {
    let data = TempDir::new().expect("a folder");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    let script = "exec 3<&\"$1\"; shift; export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$@\"";
    // A child of this process inherits the socket.
    let handed = rustix::io::fcntl_dupfd_cloexec(&listener, 10).expect("a descriptor");
    rustix::io::fcntl_setfd(&handed, rustix::io::FdFlags::empty()).expect("a descriptor");
    let serve = |more: &[&str]| {
        let mut serve = program("bash");
        serve.args(["-c", script, "bash"]).arg(handed.as_raw_fd().to_string());
        serve.args(["celeriac", "serve", "--log", "warn", "--data"]).arg(data.path());
        serve.args(more);
        serve
    };
    for _ in 0..2 {
        // The address of the socket takes the place of the setting.
        let broker = Broker::ready(serve(&["--listen", "127.0.0.1:1"]));
        assert_eq!(broker.address, address.to_string());
        assert_eq!(broker.run(&["submit", "n"]).code, Some(0));
        assert_eq!(broker.stop("TERM").code, Some(0));
        // Between two brokers the port is open: a client waits, and is not refused.
        std::net::TcpStream::connect(address).expect("the port is open");
    }
    let mut two = serve(&[]);
    two.env("LISTEN_FDNAMES", "another.socket");
    let broker = Broker::ready(two);
    assert_eq!(broker.address, address.to_string(), "a single socket needs no name");
}

#[test]
fn a_socket_that_is_none_of_tcp_is_refused() {
    let script = "exec 3</dev/null; export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$@\"";
    let data = TempDir::new().expect("a folder");
    let mut serve = program("sh");
    serve.args(["-c", script, "sh", "celeriac", "serve", "--data"]).arg(data.path());
    let refused = finish(&mut serve, "");
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(2), ""), "{refused:?}");
    assert!(refused.stderr.contains("of the service manager"), "{refused:?}");
}

/// The words of the instructions of a Dockerfile with this name.
fn instructions<'a>(file: &'a str, name: &str) -> Vec<&'a str> {
    let after_build = file.rsplit_once("\nFROM ").expect("two stages").1;
    let lines = after_build.lines().filter_map(|line| line.strip_prefix(name));
    lines.filter_map(|line| line.strip_prefix(' ')).map(str::trim).collect()
}

/// The words of a list in JSON.
fn words(list: &str) -> Vec<String> {
    serde_json::from_str(list).expect("a list of strings")
}

#[test]
fn the_image_has_the_paths_and_the_user_that_its_files_name() {
    let file = text("Dockerfile");
    let one = |name: &str| match instructions(&file, name)[..] {
        [only] => only,
        ref others => panic!("{name}: {others:?}"),
    };
    let user = one("USER");
    let number = user.split(':').next().expect("a user");
    assert!(number.parse::<u32>().is_ok_and(|number| number != 0), "Kubernetes needs a number");
    let targets: Vec<&str> =
        instructions(&file, "COPY").iter().filter_map(|copy| copy.rsplit(' ').next()).collect();
    assert!(targets.contains(&"/usr/local/bin/celeriac"), "{targets:?}");
    for folder in ["/data", "/backups"] {
        let copied = instructions(&file, "COPY");
        let owner = format!("--chown={user} ");
        let is_there = copied.iter().any(|copy| copy.contains(&owner) && copy.ends_with(folder));
        assert!(is_there, "{folder} belongs to {user}: {copied:?}");
    }
    assert_eq!(one("VOLUME"), "/data");
    assert!(one("ENV").contains("CELERIAC_DATA=/data"));
    // The image has no shell, so every command is a list, and is one of this program.
    assert_eq!(words(one("ENTRYPOINT")), ["celeriac"]);
    let check = file.lines().find_map(|line| line.trim().strip_prefix("CMD [\"celeriac\","));
    let check = words(&format!("[{}", check.expect("a health check")));
    let no_broker: Vec<&str> = check.iter().map(String::as_str).collect();
    let output = finish(celeriac(&no_broker).env("CELERIAC_URL", "celeriac://127.0.0.1:1"), "");
    assert_eq!(output.code, Some(3), "the check is a command that asks a broker: {output:?}");
    let serve = words(one("CMD"));
    let folder = TempDir::new().expect("a folder");
    let mut command = celeriac(&serve.iter().map(String::as_str).collect::<Vec<_>>());
    command.arg("--check-config").env("CELERIAC_DATA", folder.path());
    let output = finish(command.env("CELERIAC_TOKEN", "t"), "");
    assert_eq!(output.code, Some(0), "{output:?}");
    let ports: Vec<&str> = one("EXPOSE").split(' ').collect();
    assert_eq!(ports.len(), 2, "the protocol and HTTP");

    let compose = text("compose.yaml");
    for mounted in ["data:/data", "backups:/backups", "read_only: true", "cap_drop: [ALL]"] {
        assert!(compose.contains(mounted), "{mounted}");
    }
    for port in ports {
        assert!(output.stdout.contains(&format!("0.0.0.0:{port}")), "{output:?}");
        assert!(compose.contains(&format!("127.0.0.1:{port}:{port}")));
        assert!(text("README.md").contains(&format!("-p 127.0.0.1:{port}:{port}")));
    }
    for page in [&compose, &text("README.md")] {
        assert!(page.contains(&format!("install -m 400 -o {number} /dev/stdin")), "{number}");
    }
}

#[test]
fn the_settings_of_the_unit_are_those_of_the_shipped_file() {
    let unit = text("celeriac.service");
    assert!(unit.contains("--config /etc/celeriac/celeriac.toml"), "a credential never changes");
    assert!(unit.contains("\nExecReload=kill -HUP $MAINPID\n"));
    let checked = run(&[
        "serve",
        "--check-config",
        "--config",
        &deploy("celeriac.toml").display().to_string(),
    ]);
    assert_eq!(checked.code, Some(0), "{checked:?}");
    let timeout_ms = 2 * 10_000;
    let watchdog = unit.lines().find_map(|line| line.strip_prefix("WatchdogSec="));
    let watchdog: u64 = watchdog.expect("a watchdog").parse().expect("seconds");
    assert!(watchdog * 1_000 > timeout_ms, "a slow disk ends the broker before systemd does");
    let socket = text("celeriac.socket");
    assert!(socket.contains("\nListenStream=127.0.0.1:23537\nFileDescriptorName=celeriac\n"));
}
