//! Peers over HTTP that mean harm, from outside: what each of them does costs nobody else anything.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::http::{Answer, get, post, request, start};
use crate::process::{Broker, DEADLINE, run};

/// An access file with these entries: name, role, queue. Gives its path, and the headers with the
/// tokens.
fn access<const N: usize>(folder: &Path, entries: [[&str; 3]; N]) -> (String, [String; N]) {
    let mut file = String::new();
    let headers = entries.map(|[name, role, queue]| {
        let made = run(&["token", "new", "--name", name, "--role", role, "--queue", queue]);
        let (token, entry) = made.stdout.split_once('\n').expect("a token and its entry");
        file += entry;
        format!("Authorization: Bearer {token}")
    });
    let path = folder.join("access.toml");
    fs::write(&path, file).expect("written");
    (path.to_str().expect("text").to_owned(), headers)
}

/// A connection on which these bytes were sent, and nothing was read.
fn open(http: &str, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(http).expect("it listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("a socket");
    stream.write_all(bytes).expect("it is open");
    stream
}

#[test]
fn o26_an_id_behind_the_question_mark_names_its_own_task_and_no_other() {
    let data = TempDir::new().expect("a folder");
    let (_broker, http) = start(data.path(), &[]);
    for id in ["job", "job?1", "job;x", "100%"] {
        let task = json!({"name": "a", "id": id, "queue": "q"});
        assert_eq!(post(&http, "/api/v1/tasks", &task).status, 201);
    }
    let id = |answer: &Answer| answer.json()["id"].clone();
    for (asked, meant) in [("job?1", "job?1"), ("job;x", "job;x"), ("100%", "100%"), ("job", "job")]
    {
        let found = get(&http, &format!("/api/v1/task?id={asked}"));
        assert_eq!((found.status, id(&found)), (200, json!(meant)), "{found:?}");
        let cancel = format!("POST /api/v1/task/cancel?id={asked}");
        assert_eq!(id(&request(&http, &cancel, &[], "")), json!(meant));
    }
    let forget = |asked: &str| request(&http, &format!("DELETE /api/v1/task?{asked}"), &[], "");
    assert_eq!(forget("id=job&id=job?1").status, 404, "nobody knows which one is meant");
    assert_eq!(forget("id=job?1").status, 204);
    assert_eq!(get(&http, "/api/v1/tasks/job").status, 200);
    assert_eq!(get(&http, "/api/v1/tasks/job%3F1").status, 404);
}

#[test]
fn a_request_with_too_much_in_it_is_refused_and_breaks_no_connection_of_others() {
    let data = TempDir::new().expect("a folder");
    let (_broker, http) = start(data.path(), &[]);
    assert_eq!(post(&http, "/api/v1/tasks", &json!({"name": "a", "queue": "q"})).status, 201);
    // All callers without a token share one connection to the broker, this stream too.
    let ask = format!("GET /api/v1/tasks/one/events HTTP/1.1\r\nHost: {http}\r\n\r\n");
    assert_eq!(post(&http, "/api/v1/tasks", &json!({"name": "a", "id": "one"})).status, 201);
    let mut stream = BufReader::new(open(&http, ask.as_bytes()));
    let mut event = || {
        let data = stream.by_ref().lines().find_map(|line| {
            line.expect("the stream goes on").strip_prefix("data: ").map(str::to_owned)
        });
        serde_json::from_str::<Value>(&data.expect("an event")).expect("JSON")
    };
    assert_eq!(event()["state"], "QUEUED");
    let states = vec!["QUEUED"; 1_000].join(",");
    assert_eq!(get(&http, &format!("/api/v1/tasks?state={states}")).status, 200);
    let page = request(&http, &format!("GET /tasks?state={states}"), &["Accept: text/html"], "");
    assert_eq!(page.status, 200, "{page:?}");
    let many = |count: usize| (0..count).map(|number| format!("t{number}"));
    let headers = |count| many(count).map(|name| (name, Value::from(""))).collect::<Value>();
    for more in [
        json!({"tags": many(33).collect::<Vec<_>>()}),
        json!({"tags": many(100).collect::<Vec<_>>()}),
        json!({"tags": many(100_000).collect::<Vec<_>>()}),
        json!({"headers": headers(257)}),
        json!({"headers": headers(2_000)}),
        json!({"headers": headers(100_000)}),
    ] {
        let mut task = json!({"name": "a"});
        for (key, value) in more.as_object().expect("an object") {
            task[key] = value.clone();
        }
        let refused = post(&http, "/api/v1/tasks", &task);
        assert_eq!((refused.status, refused.code().as_str()), (422, "invalid_argument"));
        // Of many tasks it is refused alone, and is named.
        task["id"] = json!("bad");
        let both = json!({"tasks": [task, {"name": "a", "queue": "q"}]});
        let outcomes = post(&http, "/api/v1/tasks", &both).json();
        let [bad, good] = [&outcomes["outcomes"][0], &outcomes["outcomes"][1]];
        assert_eq!((&bad["id"], &bad["problem"]["status"]), (&json!("bad"), &json!(422)), "{bad}");
        assert_eq!(good["outcome"], "created", "{good}");
    }
    let filter = json!({"filter": {"state": vec!["FAILURE"; 3_000].join(",")}});
    assert_eq!(post(&http, "/api/v1/dead/discard", &filter).json(), json!({"count": 0}));
    let ids: Vec<String> = many(20_000).map(|id| format!("id={id}")).collect();
    let form = ["Content-Type: application/x-www-form-urlencoded"];
    let body = format!("do=cancel&sure=yes&{}", ids.join("&"));
    assert_eq!(request(&http, "POST /act", &form, &body).status, 303);
    assert_eq!(post(&http, "/api/v1/tasks/one/cancel", &json!({})).status, 200);
    assert_eq!(event()["state"], "REVOKED", "the connection is the one of before");
}

#[test]
fn slow_bodies_hold_up_nobody() {
    let folder = TempDir::new().expect("a folder");
    let entries = [["ops", "operator", "*"], ["web", "producer", "songs*"]];
    let (file, [ops, web]) = access(folder.path(), entries);
    let (_broker, http) = start(&folder.path().join("data"), &["--access-file", &file]);
    let json = "Content-Type: application/json";
    let mut held = Vec::new();
    for path in ["/api/v1/broker/backup", "/api/v1/tasks"] {
        for length in ["Content-Length: 22000000", "Transfer-Encoding: chunked"] {
            let head = format!(
                "POST {path} HTTP/1.1\r\nHost: localhost\r\n{web}\r\n{json}\r\n{length}\r\n\r\n1\r\n{{"
            );
            held.extend((0..20).map(|_| open(&http, head.as_bytes())));
        }
    }
    let ids = r#"{"ids": ["x"]}"#;
    assert_eq!(request(&http, "POST /api/v1/lookup", &[json, &ops], ids).status, 200);
    let empty = request(&http, "POST /api/v1/tasks/x/cancel", &[&ops], "");
    assert_eq!(empty.status, 404, "{empty:?}");
    let form = "Content-Type: application/x-www-form-urlencoded";
    assert_eq!(request(&http, "POST /act", &[form, &ops], "do=drain").status, 200);
    let large = json!({"name": "a", "queue": "songs", "args": ["x".repeat(1 << 20)]}).to_string();
    assert_eq!(request(&http, "POST /api/v1/tasks", &[json, &web], &large).status, 201);
    // The slow ones end by themselves, also where an answer may take long.
    for mut stream in held {
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    }
}

#[test]
fn a_thousand_half_open_connections_keep_nobody_out() {
    let data = TempDir::new().expect("a folder");
    let (broker, http) = start(data.path(), &[]);
    let beginnings: [&[u8]; 5] = [
        b"",
        b"PRI * HTT",
        b"GE",
        b"GET /api/v1/queues HTTP/1.1\r\nHo",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ];
    let held: Vec<TcpStream> = (0..1_000).map(|at| open(&http, beginnings[at % 5])).collect();
    assert_eq!(get(&http, "/healthz").status, 200);
    assert_eq!(get(&http, "/api/v1/queues").status, 200);
    assert_eq!(broker.run(&["submit", "songs.play"]).code, Some(0));
    drop(held);
}

#[test]
fn readers_that_do_not_read_hold_up_nobody() {
    let data = TempDir::new().expect("a folder");
    let (broker, http) = start(data.path(), &[]);
    let song = json!({"name": "a", "id": "big", "args": ["x".repeat(4 << 20)]});
    assert_eq!(post(&http, "/api/v1/tasks", &song).status, 201);
    let held: Vec<TcpStream> =
        ["/api/v1/tasks/big?payload=true", "/tasks", "/api/v1/tasks/big/events"]
            .iter()
            .flat_map(|path| std::iter::repeat_n(path, 20))
            .map(|path| {
                open(&http, format!("GET {path} HTTP/1.1\r\nHost: {http}\r\n\r\n").as_bytes())
            })
            .collect();
    assert_eq!(get(&http, "/api/v1/tasks/big").status, 200);
    assert_eq!(broker.run(&["status", "big"]).code, Some(0));
    assert_eq!(get(&http, "/api/v1/tasks/big?payload=true").status, 200);
    drop(held);
}

#[test]
fn only_a_token_that_is_wrong_is_a_failed_login_and_each_line_says_http() {
    let folder = TempDir::new().expect("a folder");
    let (file, [ops]) = access(folder.path(), [["ops", "operator", "*"]]);
    let audit = folder.path().join("audit");
    let audit_file = audit.to_str().expect("text");
    let more = [
        ["--access-file", &file],
        ["--audit-file", audit_file],
        // A listener of IPv6 has clients of IPv4 too, and the proxy is one of them.
        ["--http-listen", "[::]:0"],
        ["--http-trusted-proxies", "127.0.0.1"],
    ];
    if std::net::TcpListener::bind("[::]:0").is_err() {
        return crate::process::skip("this machine has no IPv6");
    }
    let (broker, http) = start(&folder.path().join("data"), &more.concat());
    let port = http.rsplit_once(':').expect("a port").1;
    let http = format!("127.0.0.1:{port}");
    for path in ["/", "/login", "/metrics", "/api/v1/queues", "/events?of=%2F"] {
        assert!([200, 303, 401].contains(&get(&http, path).status), "{path}");
    }
    let wrong = "Authorization: Bearer clr_aaaaaaaa_0000000000000000000000000000000000000000000";
    let from = "X-Forwarded-For: 6.6.6.6, ::ffff:127.0.0.1";
    assert_eq!(request(&http, "GET /api/v1/queues", &[wrong, from], "").status, 401);
    let pause =
        request(&http, "PATCH /api/v1/queues/q", &[&ops, "Content-Type: application/json"], "{}");
    assert_eq!(pause.status, 200, "{pause:?}");
    assert_eq!(broker.stop("TERM").code, Some(0));
    let lines = fs::read_to_string(&audit).expect("it is there");
    let lines: Vec<Value> =
        lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    let seen = |line: &Value| ["action", "outcome", "peer", "via"].map(|key| line[key].clone());
    assert_eq!(seen(&lines[0]), ["login", "unauthenticated", "6.6.6.6", "http"]);
    assert_eq!(seen(&lines[1]), ["configure_queue", "allowed", "127.0.0.1", "http"]);
}

#[test]
fn o49_a_name_with_a_line_break_is_the_same_name_after_a_form() {
    let data = TempDir::new().expect("a folder");
    let (_broker, http) = start(data.path(), &[]);
    let form = ["Content-Type: application/x-www-form-urlencoded"];
    for id in ["x\ny", "x\r\ny", "x\ry", "x%0Ay"] {
        let task = json!({"name": "a", "id": id, "queue": id, "tags": [id]});
        assert_eq!(post(&http, "/api/v1/tasks", &task).status, 201);
    }
    let state = |id: &str| get(&http, &format!("/api/v1/task?id={id}")).json()["state"].clone();
    for page in ["/tasks", "/task?id=x%0Ay", "/queue?name=x%0Ay", "/tasks?tag=x%0Ay"] {
        let body = get(&http, page).body;
        // What a visitor types is shown as it is.
        let is_untyped = |field: &&str| {
            ["hidden", "checkbox"].iter().any(|kind| field.contains(&format!("type=\"{kind}\"")))
        };
        let fields = body.split("<input ").skip(1).filter_map(|rest| rest.split('>').next());
        let values = fields.filter(is_untyped).filter_map(|field| field.split_once("value=\""));
        let values: Vec<&str> = values.filter_map(|(_, rest)| rest.split('"').next()).collect();
        assert!(!values.is_empty() && values.iter().all(|it| !it.contains(['\r', '\n'])), "{page}");
        assert!(values.contains(&"x%0Ay"), "{page}: {values:?}");
    }
    // What a browser sends for the row of each task.
    let cancelled = request(&http, "POST /act", &form, "do=cancel&sure=yes&id=x%250Ay");
    assert_eq!(cancelled.status, 303, "{cancelled:?}");
    assert_eq!((state("x%0Ay"), state("x%0D%0Ay")), (json!("REVOKED"), json!("QUEUED")));
    let all = request(&http, "POST /act", &form, "do=cancel&sure=yes&all=yes&tag=x%250Dy");
    assert_eq!(all.status, 303, "{all:?}");
    assert_eq!((state("x%0Dy"), state("x%250Ay")), (json!("REVOKED"), json!("QUEUED")));
    let paused = request(&http, "POST /act", &form, "do=pause&queue=x%250D%250Ay");
    assert_eq!(paused.status, 303, "{paused:?}");
    assert_eq!(get(&http, "/api/v1/queues/x%0D%0Ay").json()["paused"], true);
    assert_ne!(get(&http, "/api/v1/queues/x%0Ay").json()["paused"], true);
    // A hint that is copied into a shell runs nothing else.
    let patch = ["Content-Type: application/json"];
    let name = "q%24%28touch%20x%29";
    request(&http, &format!("PATCH /api/v1/queues/{name}"), &patch, "{\"tasks_max\": 5}");
    let body = get(&http, &format!("/queue?name={name}")).body;
    assert!(body.contains("celeriac submit --queue 'q$(touch x)' songs.play"), "{body}");
}

#[test]
fn a_visitor_who_may_not_see_all_is_told_so_in_its_place() {
    let folder = TempDir::new().expect("a folder");
    let entries = [["see", "reader", "*"], ["web", "producer", "*"], ["team", "reader", "songs"]];
    let (file, [see, web, team]) = access(folder.path(), entries);
    let (broker, http) = start(&folder.path().join("data"), &["--access-file", &file]);
    let page = |who: &str, path: &str| request(&http, &format!("GET {path}"), &[who], "");
    let json = "Content-Type: application/json";
    let task = r#"{"name": "a", "id": "one", "queue": "songs", "args": ["secret"]}"#;
    assert_eq!(request(&http, "POST /api/v1/tasks", &[json, &web], task).status, 201);
    let shown = page(&see, "/task?id=one");
    assert_eq!(shown.status, 200, "{shown:?}");
    assert!(shown.body.contains("You may not see the payload"), "{}", shown.body);
    assert!(shown.body.contains("QUEUED") && !shown.body.contains("secret"), "{}", shown.body);
    assert!(page(&web, "/task?id=one").body.contains("secret"));
    for who in [&web, &team] {
        let overview = page(who, "/").body;
        assert!(!overview.contains("All is well"), "{overview}");
    }
    // Two names of one host are two requests for two servers.
    let twice = request(&http, "GET /readyz", &["Host: evil.example"], "");
    assert_eq!(twice.status, 400, "{twice:?}");
    drop::<Broker>(broker);
}
