//! The HTTP side of a broker, from outside: requests as bytes, so that a test may send what no
//! client would.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process::{Broker, DEADLINE, celeriac, finish, within_deadline};

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn code(&self) -> String {
        self.json()["code"].as_str().expect("a problem has a code").to_owned()
    }
}

/// Sends these bytes and reads all that comes back.
pub(crate) fn send(address: &str, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("a socket");
    // The other side may close before it has read everything.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

pub(crate) fn parse(answer: &str) -> Answer {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
    let (line, headers) = head.split_once("\r\n").expect("headers");
    let status = line.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    Answer { status, headers: headers.to_ascii_lowercase(), body: body.to_owned() }
}

pub(crate) fn request(address: &str, line: &str, headers: &[&str], body: &str) -> Answer {
    let mut text = format!("{line} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    for header in headers {
        text += &format!("{header}\r\n");
    }
    if !body.is_empty() {
        text += &format!("Content-Length: {}\r\n", body.len());
    }
    parse(&send(address, format!("{text}\r\n{body}").as_bytes()))
}

pub(crate) fn get(address: &str, path: &str) -> Answer {
    request(address, &format!("GET {path}"), &[], "")
}

pub(crate) fn post(address: &str, path: &str, body: &Value) -> Answer {
    let headers = ["Content-Type: application/json"];
    request(address, &format!("POST {path}"), &headers, &body.to_string())
}

pub(crate) fn start(data: &Path, more: &[&str]) -> (Broker, String) {
    let mut command = celeriac(&["serve", "--listen", "127.0.0.1:0", "--log", "warn", "--data"]);
    command.arg(data).args(more);
    Broker::ready_with_http(command)
}

#[test]
fn the_story_is_told_over_http() {
    let data = TempDir::new().expect("a folder");
    let (broker, http) = start(data.path(), &[]);
    let song = json!({
        "name": "songs.play", "args": ["Dynamite"], "kwargs": {"loud": true}, "id": "user/7 ü",
        "shadow": "Dynamite, for you", "queue": "songs", "expires": "1h", "priority": 9,
        "tags": ["user-7"], "headers": {"trace": "a"}, "max_attempts": 1,
    });
    let created = post(&http, "/api/v1/tasks", &song);
    assert_eq!(created.status, 201, "{created:?}");
    assert_eq!(
        created.json(),
        json!({"id": "user/7 ü", "outcome": "created", "generation": 1, "state": "QUEUED"})
    );
    assert_eq!(post(&http, "/api/v1/tasks", &song).status, 200, "it joins");

    let id = "user%2F7%20%C3%BC";
    let task = get(&http, &format!("/api/v1/tasks/{id}?payload=true")).json();
    assert_eq!(task["shadow"], "Dynamite, for you");
    assert_eq!(task["payload"], json!([["Dynamite"], {"loud": true}]));
    let submitted = task["submitted_at_ms"].as_i64().expect("a time");
    let text = task["submitted_at"].as_str().expect("a time");
    let millis = format!("{:03}Z", submitted.rem_euclid(1_000));
    assert!(text.starts_with("20") && text.ends_with(&millis), "{text}");
    let not_yet = get(&http, &format!("/api/v1/tasks/{id}/result?wait=1"));
    assert_eq!((not_yet.status, not_yet.json()["state"].clone()), (202, json!("QUEUED")));
    assert_eq!(get(&http, "/api/v1/scale?queue=songs").json(), json!({"value": 1}));

    let words = ["work", "--name", "songs.play", "--queue", "songs", "--", "echo", "42"];
    let mut worker = broker.command(&words).spawn().expect("the binary starts");
    let ended = get(&http, &format!("/api/v1/task/result?wait=30&id={id}"));
    assert_eq!((ended.status, ended.json()["result"].clone()), (200, json!(42)), "{ended:?}");

    worker.kill().expect("it runs");
    worker.wait().expect("it ends");

    let forgotten = request(&http, &format!("DELETE /api/v1/tasks/{id}"), &[], "");
    assert_eq!((forgotten.status, forgotten.body.as_str()), (204, ""), "{forgotten:?}");
    let gone = get(&http, &format!("/api/v1/tasks/{id}"));
    assert_eq!((gone.status, gone.code()), (404, "not_found".to_owned()));
    assert!(gone.headers.contains("content-type: application/problem+json"), "{gone:?}");
}

#[test]
fn many_tasks_are_accepted_or_refused_one_by_one() {
    let data = TempDir::new().expect("a folder");
    let (_broker, http) = start(data.path(), &[]);
    let tasks = json!({"tasks": [
        {"name": "a", "id": "one"},
        {"name": "a", "id": ""},
        {"name": "a", "eta": "tomorrow"},
        {"name": "a", "args": {"no": "list"}},
        {"name": 7},
        "a",
        {"name": "a", "id": "two", "payload": "/wEC", "content_type": "audio/flac"},
        {"name": "a", "payload": "?", "content_type": "audio/flac"},
        {"name": "a", "colour": "red"},
    ]});
    let answer = post(&http, "/api/v1/tasks", &tasks);
    assert_eq!(answer.status, 200, "{answer:?}");
    let answer = answer.json();
    let outcomes = answer["outcomes"].as_array().expect("outcomes");
    let accepted: Vec<bool> =
        outcomes.iter().map(|outcome| outcome["outcome"] == "created").collect();
    assert_eq!(accepted, [true, false, false, false, false, false, true, false, false]);
    for refused in outcomes.iter().filter(|outcome| outcome["outcome"] != "created") {
        assert_eq!(refused["problem"]["status"], 422, "{refused}");
    }
    let bytes = get(&http, "/api/v1/tasks/two?payload=true").json();
    assert_eq!(bytes["payload"], json!({"base64": "/wEC"}));
    assert_eq!(bytes["payload_content_type"], "audio/flac");

    let found = post(&http, "/api/v1/lookup", &json!({"ids": ["two", "none", "one"]})).json();
    let states: Vec<&str> = found["tasks"]
        .as_array()
        .expect("tasks")
        .iter()
        .filter_map(|it| it["state"].as_str())
        .collect();
    assert_eq!(states, ["QUEUED", "UNKNOWN", "QUEUED"]);
    let page = get(&http, "/api/v1/tasks?limit=1&state=QUEUED").json();
    let cursor = page["cursor"].as_str().expect("there is more");
    let next = get(&http, &format!("/api/v1/tasks?limit=1&state=queued&cursor={cursor}")).json();
    assert_ne!(page["tasks"][0]["id"], next["tasks"][0]["id"]);
    let cancelled = post(&http, "/api/v1/tasks/one/cancel", &json!({}));
    assert_eq!(cancelled.json(), json!({"id": "one", "outcome": "revoked"}));
    let cancelled = post(&http, "/api/v1/cancel", &json!({"ids": ["one", "two", "none"]})).json();
    let outcomes: Vec<&Value> = cancelled["outcomes"]
        .as_array()
        .expect("outcomes")
        .iter()
        .map(|outcome| &outcome["outcome"])
        .collect();
    assert_eq!(outcomes, ["already_ended", "revoked", "not_found"]);
}

#[test]
fn queues_workers_and_the_broker_are_operated_over_http() {
    let data = TempDir::new().expect("a folder");
    let (_broker, http) = start(data.path(), &[]);
    let settings = json!({"tasks_max": 2, "result_ttl_ms": 60_000});
    let patch = |body: &Value| {
        let headers = ["Content-Type: application/json"];
        request(&http, "PATCH /api/v1/queues/songs", &headers, &body.to_string())
    };
    assert_eq!(patch(&settings).json()["tasks_max"], 2);
    let kept = patch(&json!({"tasks_max": null})).json();
    assert_eq!((&kept["tasks_max"], &kept["result_ttl_ms"]), (&Value::Null, &json!(60_000)));
    // A number that a float does not hold is text.
    assert_eq!(patch(&json!({"bytes_max": u64::MAX})).json()["bytes_max"], u64::MAX.to_string());
    patch(&json!({"bytes_max": null, "tasks_max": 1}));
    let song = json!({"name": "a", "queue": "songs"});
    assert_eq!(post(&http, "/api/v1/tasks", &song).status, 201);
    let full = post(&http, "/api/v1/tasks", &song);
    assert_eq!((full.status, full.code()), (429, "queue_full".to_owned()));
    assert!(full.headers.contains("retry-after: 1"), "{full:?}");

    let paused = post(&http, "/api/v1/queues/songs/pause", &json!({}));
    assert_eq!((paused.status, paused.json()["outcome"].clone()), (200, json!("paused")));
    assert_eq!(get(&http, "/api/v1/queues/songs").json()["paused"], true);
    post(&http, "/api/v1/queues/songs/resume", &json!({}));
    let queues = get(&http, "/api/v1/queues").json();
    assert!(queues["queues"].as_array().expect("queues").iter().any(|it| it["queue"] == "songs"));
    let purged = post(&http, "/api/v1/queues/songs/purge", &json!({})).json();
    assert_eq!((&purged["outcome"], &purged["revoked"]), (&json!("purged"), &json!(1)));
    assert_eq!(request(&http, "DELETE /api/v1/queues/songs", &[], "").status, 200);
    assert_eq!(get(&http, "/api/v1/queues/none").status, 404);
    assert_eq!(post(&http, "/api/v1/queues/none/pause", &json!({})).status, 404);
    assert_eq!(get(&http, "/api/v1/scale?queue=none").json(), json!({"value": 0}));

    assert_eq!(get(&http, "/api/v1/workers").json(), json!({"workers": []}));
    assert_eq!(get(&http, "/api/v1/workers/none").status, 404);
    assert_eq!(post(&http, "/api/v1/workers/none/quiet", &json!({})).status, 404);
    assert_eq!(get(&http, "/api/v1/broker").json()["draining"], false);
    post(&http, "/api/v1/broker/drain", &json!({"draining": true}));
    let ready = get(&http, "/readyz");
    assert_eq!((ready.status, ready.body.as_str()), (503, "drains\n"));
    assert_eq!(get(&http, "/healthz").status, 200);
    post(&http, "/api/v1/broker/drain", &json!({"draining": false}));
    let log = post(&http, "/api/v1/broker/log", &json!({"filter": "debug"}));
    assert_eq!(log.json(), json!({"filter": "debug"}));
    assert_eq!(get(&http, "/api/v1/broker/log").json(), json!({"filter": "debug"}));
    let beside = TempDir::new().expect("a folder");
    let to = beside.path().join("backup");
    let backup = post(&http, "/api/v1/broker/backup", &json!({"folder": to}));
    assert_eq!(backup.status, 200, "{backup:?}");
    assert!(to.join("db").exists());
}

/// A stream of server-sent events. An answer in chunks has lines with their lengths between them.
struct Events(std::io::Lines<BufReader<TcpStream>>);

impl Events {
    fn open(address: &str, path: &str, header: &str) -> Self {
        let mut stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(DEADLINE)).expect("a socket");
        let text = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n{header}\r\n");
        stream.write_all(text.as_bytes()).expect("it reads");
        Self(BufReader::new(stream).lines())
    }

    /// The id and the data of the next event. `None`: the stream has ended.
    fn next(&mut self) -> Option<(String, Value)> {
        let mut id = String::new();
        loop {
            let line = self.0.next()?.expect("text");
            if let Some(found) = line.strip_prefix("id: ") {
                id = found.to_owned();
            }
            match line.strip_prefix("data: ") {
                Some(data) => return Some((id, serde_json::from_str(data).expect("JSON"))),
                None if line == "0" => return None,
                None => {}
            }
        }
    }
}

#[test]
fn o30_a_stream_shows_each_state_once_and_ends_with_the_task() {
    let data = TempDir::new().expect("a folder");
    let (broker, http) = start(data.path(), &[]);
    post(&http, "/api/v1/tasks", &json!({"name": "a", "id": "one"}));
    let path = "/api/v1/tasks/one/events";
    let mut stream = Events::open(&http, path, "");
    let (first, task) = stream.next().expect("the present state");
    assert_eq!(task["state"], "QUEUED");
    let cancelled = broker.run(&["cancel", "one"]);
    assert_eq!(cancelled.code, Some(0), "{cancelled:?}");
    let (last, task) = stream.next().expect("the end");
    assert_eq!(task["state"], "REVOKED");
    assert_eq!(last, format!("{}.{}", task["generation"], task["version"]));
    assert!(stream.next().is_none(), "the task has ended");
    // Whoever comes back with the first state misses nothing, and with the last one nothing is new.
    let mut again = Events::open(&http, path, &format!("Last-Event-ID: {first}\r\n"));
    assert_eq!(again.next().map(|(id, _)| id), Some(last.clone()));
    // After the last one there is no stream: with 204 a browser does not come back again and again.
    let known = format!("Last-Event-ID: {last}");
    let again = request(&http, &format!("GET {path}"), &[&known], "");
    assert_eq!((again.status, again.body.as_str()), (204, ""), "{again:?}");
    assert_eq!(get(&http, "/api/v1/tasks/none/events").status, 404);

    let mut queue = Events::open(&http, "/api/v1/queues/default/events", "");
    assert_eq!(queue.next().expect("the figures now").1["ready"], 0);
    post(&http, "/api/v1/tasks", &json!({"name": "a"}));
    assert_eq!(queue.next().expect("the figures have changed").1["ready"], 1);
    // The streams end with the broker, and do not hold it.
    let stopped = broker.stop("TERM");
    assert_eq!(stopped.code, Some(0), "{stopped:?}");
    assert!(queue.next().is_none());
}

#[test]
fn o2_o8_a_token_may_do_over_http_what_it_may_do_elsewhere() {
    let folder = TempDir::new().expect("a folder");
    let mut tokens = Vec::new();
    let mut file = String::new();
    for (name, role, queue) in
        [("ops", "operator", "*"), ("web", "producer", "songs"), ("mail", "producer", "mail")]
    {
        let made = crate::process::run(&[
            "token", "new", "--name", name, "--role", role, "--queue", queue,
        ]);
        let (token, entry) = made.stdout.split_once('\n').expect("a token and its entry");
        tokens.push(format!("Authorization: Bearer {token}"));
        file += entry;
    }
    let access = folder.path().join("access.toml");
    fs::write(&access, file).expect("written");
    let access = access.to_str().expect("text");
    let (broker, http) = start(&folder.path().join("data"), &["--access-file", access]);
    let [ops, web, mail] = [&tokens[0], &tokens[1], &tokens[2]];
    let json = "Content-Type: application/json";
    let song = r#"{"name": "songs.play", "queue": "songs", "id": "one"}"#;
    let submit = |who: &str| request(&http, "POST /api/v1/tasks", &[json, who], song);
    assert_eq!(request(&http, "POST /api/v1/tasks", &[json], song).status, 401);
    let wrong = "Authorization: Bearer clr_aaaaaaaa_0000000000000000000000000000000000000000000";
    assert_eq!(submit(wrong).status, 401);
    assert_eq!(submit(mail).status, 403);
    assert_eq!(submit(web).status, 201);
    let look = |who: &str, id: &str| request(&http, &format!("GET /api/v1/tasks/{id}"), &[who], "");
    assert_eq!(look(web, "one").status, 200);
    // A task of others looks like one that does not exist.
    let (foreign, none) = (look(mail, "one"), look(mail, "none"));
    assert_eq!((foreign.status, foreign.body.replace("one", "none")), (404, none.body));
    assert_eq!(request(&http, "GET /api/v1/tasks", &[web], "").status, 403);
    assert_eq!(request(&http, "GET /api/v1/tasks", &[ops], "").status, 200);
    assert_eq!(request(&http, "GET /api/v1/tasks/one/events", &[mail], "").status, 404);
    // With tokens any host may be named, and probes need none.
    assert_eq!(get(&http, "/readyz").status, 200);
    // A token that is taken away ends at once.
    let text = fs::read_to_string(access).expect("it is there");
    let without =
        text.replacen("name = \"web\"", "name = \"web\"\nexpires = 2020-01-01T00:00:00Z", 1);
    fs::write(access, without).expect("written");
    let hung_up = Command::new("kill")
        .args(["-s", "HUP", &broker.pid().to_string()])
        .status()
        .expect("kill runs");
    assert!(hung_up.success());
    let began = Instant::now();
    while look(web, "one").status != 401 {
        assert!(began.elapsed() < DEADLINE, "the token still counts");
        std::thread::yield_now();
    }
    assert_eq!(look(ops, "one").status, 200);
}

#[test]
fn the_http_side_of_a_broker_elsewhere_names_no_token_but_the_one_of_its_caller() {
    let folder = TempDir::new().expect("a folder");
    let token = folder.path().join("token");
    fs::write(&token, "s3cret\n").expect("written");
    let serve = ["--http-listen", "off", "--token-file", token.to_str().expect("text")];
    let broker = Broker::start(&folder.path().join("data"), &serve);
    let mut web = celeriac(&["web", "--listen", "127.0.0.1:0"]);
    web.env("CELERIAC_URL", format!("celeriac://s3cret@{}", broker.address));
    let (web, http) = listening(web.stdout(Stdio::piped()));
    assert_eq!(get(&http, "/readyz").body, "ready\n");
    assert_eq!(get(&http, "/api/v1/queues").status, 401, "the token of the address is not used");
    let bearer = ["Authorization: Bearer s3cret"];
    assert_eq!(request(&http, "GET /api/v1/queues", &bearer, "").status, 200);
    let basic = ["Authorization: Basic OnMzY3JldA=="];
    assert_eq!(request(&http, "GET /api/v1/queues", &basic, "").status, 200);
    assert_eq!(broker.stop("TERM").code, Some(0));
    // Probes that follow each other share one look at the broker.
    let began = Instant::now();
    while get(&http, "/readyz").status != 503 {
        assert!(began.elapsed() < DEADLINE, "it looks at the broker");
    }
    // The server itself lives, and nobody has to start it anew.
    let alive = get(&http, "/healthz");
    assert_eq!((alive.status, &*alive.body), (200, "serves, and the broker does not answer\n"));
    let gone = request(&http, "GET /api/v1/queues", &bearer, "");
    assert!([503, 504].contains(&gone.status), "{gone:?}");
    drop(web);

    let open = Broker::start(&folder.path().join("open"), &["--http-listen", "off"]);
    let public = open.run(&["web", "--listen", "0.0.0.0:0"]);
    assert_eq!(public.code, Some(2), "{public:?}");
    assert!(public.stderr.contains("other machines can reach"), "{public:?}");
}

/// A server that ends when it is dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a server and waits until it says its address.
fn listening(command: &mut Command) -> (Killed, String) {
    let mut child = command.spawn().expect("the binary starts");
    let stdout = child.stdout.take().expect("piped");
    let line = within_deadline(move || BufReader::new(stdout).lines().next());
    let line = line.expect("a line").expect("text");
    let address = line.strip_prefix("celeriac: HTTP on ").expect("an address").to_owned();
    (Killed(child), address)
}

#[test]
fn the_manual_is_typed_as_it_stands() {
    if finish(Command::new("curl").arg("--version"), "").code != Some(0) {
        return crate::process::skip("there is no curl");
    }
    let data = TempDir::new().expect("a folder");
    let (_broker, http) = start(data.path(), &[]);
    let manual = include_str!("../../../deploy/HTTP.md");
    let block = manual.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next());
    let lines: Vec<&str> = block.expect("there is a block").lines().collect();
    assert!(lines.len() > 8, "{lines:?}");
    for line in lines {
        let line = line.replacen("curl ", "curl -sS --fail-with-body ", 1);
        let line = line.replace("localhost:23538", &http);
        let done = finish(Command::new("sh").args(["-c", &line]), "");
        assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""), "{line}: {done:?}");
    }
}

#[test]
fn the_description_of_the_api_is_the_committed_one() {
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../web/openapi.json");
    let made = celeriac_web::openapi_document();
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(&committed, &made).expect("written");
    }
    assert_eq!(
        fs::read_to_string(&committed).unwrap_or_default(),
        made,
        "UPDATE_EXPECT=1 writes it"
    );
    let data = TempDir::new().expect("a folder");
    let (_broker, http) = start(data.path(), &[]);
    assert_eq!(
        get(&http, "/openapi.json").json(),
        serde_json::from_str::<Value>(&made).expect("JSON")
    );
}

#[test]
fn an_address_that_is_set_and_taken_ends_the_start_and_the_default_one_does_not() {
    let data = TempDir::new().expect("a folder");
    let (_broker, http) = start(data.path(), &[]);
    let taken = TempDir::new().expect("a folder");
    let mut second =
        celeriac(&["serve", "--listen", "127.0.0.1:0", "--http-listen", &http, "--data"]);
    let ended = finish(second.arg(taken.path()), "");
    assert_eq!(ended.code, Some(10), "{ended:?}");
    assert!(ended.stderr.contains(&http), "{ended:?}");
    let public = crate::process::run(&[
        "serve",
        "--data",
        "d",
        "--check-config",
        "--http-listen",
        "0.0.0.0:23538",
    ]);
    assert_eq!(public.code, Some(2), "{public:?}");
    assert!(public.stderr.contains("other machines can reach 0.0.0.0:23538"), "{public:?}");
    let off =
        crate::process::run(&["serve", "--data", "d", "--check-config", "--http-listen", "off"]);
    assert!(off.stdout.contains("http_listen = \"off\""), "{off:?}");
}
