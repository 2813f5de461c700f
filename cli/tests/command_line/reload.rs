//! SIGHUP: a broker reads its settings again while it serves.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use celeriac_client::{Client, Submission};
use serde_json::Value;
use tempfile::TempDir;

use crate::http::{parse, request, send};
use crate::process::{Broker, celeriac, documents, finish, run, within_deadline};

/// A broker with a file of settings and a log in a file. It has no terminal, as under a service
/// manager.
struct Served {
    broker: Broker,
    /// The address of the HTTP side.
    http: String,
    folder: TempDir,
}

impl Served {
    fn start(settings: &str) -> Self {
        Self::start_with(settings, &[])
    }

    fn start_with(settings: &str, flags: &[&str]) -> Self {
        let folder = TempDir::new().expect("a folder");
        let settings_file = folder.path().join("celeriac.toml");
        fs::write(&settings_file, settings).expect("writable");
        let mut plain = celeriac(&["serve", "--listen", "127.0.0.1:0", "--data"]);
        plain.arg(folder.path().join("data")).arg("--config").arg(&settings_file).args(flags);
        let mut command = Command::new("setsid");
        command.arg("--wait").arg(plain.get_program()).args(plain.get_args());
        // What the environment of the tests says must not count here either.
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        let log = File::create(folder.path().join("log")).expect("writable");
        command.stderr(Stdio::from(log));
        let (broker, http) = Broker::ready_with_http(command);
        Self { broker, http, folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).expect("text")
    }

    /// Waits until the log has so many lines with this text, and returns the last of them.
    fn wait_for(&self, text: &'static str, count: usize) -> String {
        let log = self.path("log");
        within_deadline(move || {
            loop {
                let lines = fs::read_to_string(&log).expect("text");
                let mut found = lines.lines().filter(|line| line.contains(text));
                if let Some(line) = found.nth(count - 1) {
                    return line.to_owned();
                }
                std::thread::yield_now();
            }
        })
    }

    fn write(&self, settings: &str) {
        let new = self.path("celeriac.toml.new");
        fs::write(&new, settings).expect("writable");
        fs::rename(new, self.path("celeriac.toml")).expect("the folder is there");
    }

    fn hang_up(&self) {
        self.kill("HUP");
    }

    fn kill(&self, signal: &str) {
        let pid = self.broker.child_of_its_process();
        let killed = Command::new("kill").args(["-s", signal, &pid]).status().expect("kill runs");
        assert!(killed.success(), "the broker is still there");
    }

    fn info(&self) -> Value {
        let output = self.broker.run(&["info", "--json"]);
        assert_eq!(output.code, Some(0), "{output:?}");
        documents(&output.stdout).remove(0)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // The broker is a child of `setsid`, which passes no signal on.
        let pid = self.broker.child_of_its_process();
        let _ = Command::new("kill").args(["-s", "KILL", &pid]).status();
    }
}

const READ: &str = "the settings were read again changed=";
const NOT_TAKEN: &str = "nothing of them is taken";

#[test]
fn o20_a_hang_up_reads_the_settings_again() {
    let served = Served::start("connections_max = 17\nlog = \"info\"\n");
    let first = served.info();
    assert_eq!(
        (&first["connections_max"], &first["result_ttl_ms"]),
        (&17.into(), &86_400_000.into())
    );
    served.write(
        "connections_max = 19\nlog = \"debug\"\nresult_ttl = \"2h\"\ndisk_reserve = \"1GiB\"\n\
         heartbeat = \"1s\"\nlog_format = \"json\"\n",
    );
    served.hang_up();
    let line = served.wait_for(READ, 1);
    for name in ["connections_max", "log", "result_ttl", "disk_reserve"] {
        assert!(line.contains(name), "{name}: {line}");
    }
    assert!(!line.contains("heartbeat"), "{line}");
    let restart = served.wait_for("need a restart", 1);
    assert!(restart.contains("settings=\"heartbeat, log_format\""), "{restart}");
    let info = served.info();
    assert_eq!((&info["connections_max"], &info["result_ttl_ms"]), (&19.into(), &7_200_000.into()));
    assert_eq!(info["heartbeat_ms"], 5_000, "it needs a restart");
    let low = |info: &Value| info["disk_low_bytes"].as_u64().expect("a number");
    assert!(low(&info) >= 1 << 30 && low(&info) > low(&first), "{info}");
    assert!(served.log().contains("DEBUG"), "the filter counts: {}", served.log());
    // The same settings once more: nothing changes, and what needs a restart is named again.
    served.hang_up();
    assert!(served.wait_for(READ, 2).contains("changed=\"\""), "{}", served.log());
    served.wait_for("need a restart", 2);
}

#[test]
fn o7_a_reload_that_fails_is_told_to_monitors_until_one_succeeds() {
    let served = Served::start("connections_max = 17\n");
    let told = || {
        let output = served.broker.run(&["stats", "--broker", "--json"]);
        let broker = documents(&output.stdout).remove(0);
        let at = broker["reloaded_at_ms"].as_i64().expect("a time");
        (broker["reload_failed"].as_bool().expect("a truth value"), at)
    };
    let (failed, started) = told();
    assert!(!failed);
    // The first cannot be read, the second is not allowed.
    for (count, settings) in
        ["connections_max = many\n", "connections_max = 0\n"].iter().enumerate()
    {
        served.write(settings);
        served.hang_up();
        served.wait_for(NOT_TAKEN, count + 1);
        let (failed, at) = told();
        assert!(failed && at >= started, "{settings}: {at} after {started}");
    }
    served.write("connections_max = 18\n");
    served.hang_up();
    served.wait_for(READ, 1);
    assert!(!told().0);
}

#[test]
fn o20_a_broken_file_changes_nothing_and_the_log_says_where() {
    let good = "connections_max = 17\n";
    let served = Served::start(good);
    let file = served.path("celeriac.toml").display().to_string();
    for (count, (settings, sentence)) in [
        ("connections_max = 19\nresult_tt = \"1h\"\n", ":2: unknown field `result_tt`"),
        ("connections_max = 19\n\nlog = \"loud\"\n", ":3: log filter `loud`"),
        (
            "connections_max = 19\ntls_key = \"none.pem\"\n",
            ":2: tls_key is set and tls_certificate",
        ),
        ("connections_max = 0\n", ":1: connections_max is 0, the least is 1"),
        ("connections_max = 19\nlisten = 5\n", ":2: "),
        ("connections_max = 19", ""),
    ]
    .into_iter()
    .enumerate()
    {
        if sentence.is_empty() {
            fs::remove_file(served.path("celeriac.toml")).expect("it is there");
        } else {
            served.write(settings);
        }
        served.hang_up();
        let line = served.wait_for(NOT_TAKEN, count + 1);
        let place = match sentence {
            "" => format!("cannot read {file}"),
            sentence => format!("{file}{sentence}"),
        };
        assert!(line.contains(" ERROR ") && line.contains(&place), "{place}: {line}");
        assert_eq!(served.info()["connections_max"], 17, "{line}");
    }
    served.write(good);
    served.hang_up();
    assert!(served.wait_for(READ, 1).contains("changed=\"\""), "{}", served.log());
    let errors = served.log().lines().filter(|line| line.contains("ERROR")).count();
    assert_eq!(errors, 6, "one line for each: {}", served.log());
}

#[test]
fn o20_a_flag_counts_more_than_the_file_that_is_read_again() {
    let served = Served::start_with("connections_max = 17\n", &["--connections-max", "23"]);
    served.write("connections_max = 19\nresult_ttl = \"1h\"\n");
    served.hang_up();
    assert!(served.wait_for(READ, 1).contains("changed=\"result_ttl\""), "{}", served.log());
    assert_eq!(served.info()["connections_max"], 23);
}

#[test]
fn o20_reloads_under_load_end_no_connection_and_refuse_nothing() {
    let served = Served::start("result_ttl = \"1h\"\n");
    let stop = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicU64::new(0));
    let load = {
        let (stop, done) = (stop.clone(), done.clone());
        let url = format!("celeriac://{}", served.broker.address);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let client = Client::connect(&url).await.expect("the broker serves");
                while !stop.load(Ordering::Relaxed) {
                    let batch = (0..50).map(|_| Submission::new("songs.cluster"));
                    let outcomes = client.submit_many(batch).await.expect("nobody is cut off");
                    assert!(outcomes.iter().all(Result::is_ok), "nothing is refused");
                    done.fetch_add(50, Ordering::Relaxed);
                }
            });
        })
    };
    let mut before = 0;
    for round in 1..=10_usize {
        served.write(&format!(
            "result_ttl = \"{round}m\"\nconnections_max = {}\ndisk_reserve = \"{round}MiB\"\n",
            round + 2
        ));
        served.hang_up();
        let line = served.wait_for(READ, round);
        assert!(line.contains("result_ttl") && line.contains("disk_reserve"), "{line}");
        // The load goes on after each reload.
        let (done, finished) = (done.clone(), load.is_finished());
        assert!(!finished, "the load has failed");
        before = within_deadline(move || {
            while done.load(Ordering::Relaxed) <= before {
                std::thread::yield_now();
            }
            done.load(Ordering::Relaxed)
        });
    }
    stop.store(true, Ordering::Relaxed);
    load.join().expect("no call has failed");
    let info = served.info();
    assert_eq!((&info["result_ttl_ms"], &info["connections_max"]), (&600_000.into(), &12.into()));
    assert_eq!(info["ready"].as_u64(), Some(done.load(Ordering::Relaxed)), "every task is there");
}

#[test]
fn o7_a_hang_up_reads_the_access_file_again_or_takes_nothing() {
    let new_token = || {
        let entry = ["--name", "web", "--role", "reader", "--queue", "*"];
        let new = run(&[&["token", "new"], &entry[..]].concat()).stdout;
        let (token, entry) = new.split_once("\n\n").expect("a token and an entry");
        (token.to_owned(), entry.to_owned())
    };
    let ((old, of_old), (new, of_new)) = (new_token(), new_token());
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("access.toml");
    let write = |text: &str| fs::write(&file, text).expect("writable");
    write(&format!("{of_old}\n{of_new}"));
    let served = Served::start(&format!("access_file = \"{}\"\n", file.display()));
    let code = |token: &str| {
        let mut command = served.broker.command(&["queues"]);
        finish(command.env("CELERIAC_TOKEN", token), "").code
    };
    assert_eq!((code(&old), code(&new)), (Some(0), Some(0)));
    write(&of_new);
    served.hang_up();
    served.wait_for("the access file was read again", 1);
    assert!(served.wait_for(READ, 1).contains("changed=\"access_file\""), "{}", served.log());
    served.hang_up();
    assert!(served.wait_for(READ, 2).contains("changed=\"\""), "{}", served.log());
    assert_eq!((code(&old), code(&new)), (Some(8), Some(0)));
    write("[[token]]\n");
    served.hang_up();
    let line = served.wait_for(NOT_TAKEN, 1);
    assert!(line.contains("access.toml:1: "), "{line}");
    assert_eq!((code(&old), code(&new)), (Some(8), Some(0)));
}

#[test]
fn o20_hosts_and_proxies_of_the_http_side_are_taken_all_or_none() {
    let audit = "audit_file = \"audit\"\n";
    let served = Served::start("http_listen = \"127.0.0.1:0\"\n");
    let http = served.http.as_str();
    let status = |host: &str| {
        let head =
            format!("GET /api/v1/queues HTTP/1.1\r\nConnection: close\r\nHost: {host}\r\n\r\n");
        parse(&send(http, head.as_bytes())).status
    };
    let prefix = || {
        let headers = ["X-Forwarded-Prefix: /ops"];
        request(http, "GET /queues", &headers, "").body.contains("href=\"/ops/queues\"")
    };
    assert_eq!((status("a.example"), prefix()), (421, false));
    let settings = |hosts: &str, proxies: &str| {
        format!(
            "http_listen = \"127.0.0.1:0\"\nhttp_hosts = [{hosts}]\n\
             http_trusted_proxies = [{proxies}]\n"
        )
    };
    served.write(&settings("\"a.example\"", "\"127.0.0.1\""));
    served.hang_up();
    let line = served.wait_for(READ, 1);
    assert!(line.contains("http_hosts, http_trusted_proxies"), "{line}");
    assert_eq!((status("a.example"), status("b.example"), prefix()), (200, 421, true));
    // A mistake anywhere changes nothing.
    let broken = settings("\"b.example\"", "") + audit;
    served.write(&broken);
    served.hang_up();
    served.wait_for(NOT_TAKEN, 1);
    served.write(&settings("\"b c\"", ""));
    served.hang_up();
    served.wait_for(NOT_TAKEN, 2);
    assert_eq!((status("a.example"), status("b.example"), prefix()), (200, 421, true));
    served.write(&settings("\"b.example\"", ""));
    served.hang_up();
    served.wait_for(READ, 2);
    assert_eq!((status("a.example"), status("b.example"), prefix()), (421, 200, false));
}
