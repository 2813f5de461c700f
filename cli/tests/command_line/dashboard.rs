//! The pages of the HTTP side without a browser: what they say, what they escape, where they lead.

use std::collections::{BTreeSet, VecDeque};
use std::time::Instant;

use serde_json::json;
use tempfile::TempDir;

use crate::http::{Answer, get, post, request, start};
use crate::process::{Broker, DEADLINE};

/// A text that would do harm if a page showed it as it is.
const HOSTILE: &str = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>&\u{202e}\u{7f}";

/// A broker with a task in each list.
fn with_tasks(data: &std::path::Path, more: &[&str]) -> (Broker, String) {
    let (broker, http) = start(data, more);
    for task in [
        json!({"name": "songs.play", "id": "waits", "queue": "songs", "args": ["Dynamite"]}),
        json!({"name": "songs.play", "id": "later", "queue": "songs", "countdown": "1h",
               "tags": ["night"], "root_id": "waits", "parent_id": "waits"}),
        json!({"name": "mail.send", "id": "a/b?c=d&e#f", "queue": "mail"}),
    ] {
        assert_eq!(post(&http, "/api/v1/tasks", &task).status, 201);
    }
    (broker, http)
}

fn page(http: &str, path: &str) -> Answer {
    let answer = request(http, &format!("GET {path}"), &["Accept: text/html"], "");
    assert!(answer.headers.contains("content-type: text/html"), "{path}: {answer:?}");
    answer
}

#[test]
fn each_page_has_its_heading_and_no_script_or_style_within() {
    let data = TempDir::new().expect("a folder");
    let (_broker, http) = with_tasks(data.path(), &[]);
    for (path, heading) in [
        ("/", "Overview"),
        ("/queues", "Queues"),
        ("/queue?name=songs", "Queue songs"),
        ("/queue?name=songs&list=scheduled", "Queue songs"),
        ("/tasks", "Tasks"),
        ("/tasks?state=QUEUED&queue=mail&order=kept", "Tasks"),
        ("/dead", "Dead tasks"),
        ("/task?id=waits", "songs.play"),
        ("/workers", "Workers"),
        ("/broker", "Broker"),
        ("/submit", "Submit a task"),
    ] {
        let answer = page(&http, path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        assert!(answer.body.contains(&format!("<h1>{heading}</h1>")), "{path}: {}", answer.body);
        assert!(answer.headers.contains("default-src 'self'"), "{path}: {}", answer.headers);
        assert!(!answer.headers.contains("set-cookie"), "{path}: {}", answer.headers);
        for inline in [" style=", " onclick=", "<style", "javascript:"] {
            assert!(!answer.body.contains(inline), "{path}: {inline}");
        }
        assert_eq!(answer.body.matches("<script").count(), 1, "{path}");
        assert!(answer.body.contains("<script src=\"/assets/script-"), "{path}");
    }
    let songs = page(&http, "/queue?name=songs").body;
    assert!(songs.contains("No worker") && songs.contains(">waits</a>"), "{songs}");
    let task = page(&http, "/task?id=later").body;
    assert!(task.contains("SCHEDULED") && task.contains(">waits</a>"), "{task}");
    let overview = page(&http, "/").body;
    assert!(overview.contains("<b>no worker</b> and 1 task that waits"), "{overview}");
}

#[test]
fn tasks_whose_name_no_worker_knows_are_not_called_busy() {
    let data = TempDir::new().expect("a folder");
    let (broker, http) = start(data.path(), &[]);
    let words = ["work", "--name", "songs.play", "--queue", "video", "--", "true"];
    let mut worker = broker.command(&words).spawn().expect("the binary starts");
    let began = Instant::now();
    while get(&http, "/api/v1/workers").json()["workers"].as_array().is_none_or(Vec::is_empty) {
        assert!(began.elapsed() < DEADLINE, "the worker has not come");
        std::thread::yield_now();
    }
    let task = json!({"name": "songs.renamed", "id": "renamed", "queue": "video"});
    assert_eq!(post(&http, "/api/v1/tasks", &task).status, 201);
    let sentence = "1 task waits for a worker: none that serves the queue and takes tasks knows its \
                    name.";
    for path in ["/", "/queue?name=video"] {
        let shown = page(&http, path).body;
        assert!(shown.contains(sentence), "{path}: {shown}");
        assert!(!shown.contains("All is well."), "{path}: {shown}");
    }
    let state = |shown: &str| shown.contains("No worker<") && !shown.contains("Busy<");
    assert!(state(&page(&http, "/queues").body));
    let sample = "celeriac_tasks_waiting_for{queue=\"video\",reason=\"no_worker\"} 1.0\n";
    let figures = get(&http, "/metrics").body;
    assert!(figures.contains(sample), "{figures}");
    worker.kill().expect("it runs");
    worker.wait().expect("it ends");
}

#[test]
fn an_address_in_the_form_of_the_api_leads_to_the_page() {
    let data = TempDir::new().expect("a folder");
    let (_broker, http) = with_tasks(data.path(), &[]);
    for (path, target) in [
        ("/tasks/a%2Fb%3Fc=d&e%23f", "location: /task?id=a%2Fb%3Fc%3Dd%26e%23f"),
        ("/queues/songs", "location: /queue?name=songs"),
    ] {
        let answer = get(&http, path);
        assert_eq!(answer.status, 303, "{answer:?}");
        assert!(answer.headers.lines().any(|line| line == target.to_lowercase()), "{answer:?}");
    }
}

#[test]
fn what_does_not_exist_is_said_on_a_page() {
    let data = TempDir::new().expect("a folder");
    let (_broker, http) = with_tasks(data.path(), &[]);
    for (path, status, sentence) in [
        ("/nothing", 404, "There is no page `/nothing`."),
        ("/task?id=none", 404, "There is no task none: it never was, or it is forgotten."),
        ("/queue?name=none", 404, "There is no queue none."),
        ("/worker?instance=none", 404, "There is no worker none"),
        ("/task", 422, "`id` is missing."),
        ("/tasks?limit=201", 422, "is not a whole number from 1 to 200"),
        ("/tasks?cursor=!", 422, "The cursor is none of these pages."),
        ("/tasks?days=99999999999999999999", 422, "`days` means nothing here."),
        ("/tasks?state=WRONG", 422, "is none of SCHEDULED"),
        ("/?done=hello", 422, "`done` has no such word."),
    ] {
        let answer = page(&http, path);
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
        assert!(answer.body.contains(sentence), "{path}: {}", answer.body);
    }
    // A program gets JSON.
    assert_eq!(get(&http, "/nothing").code(), "not_found");
    let api = request(&http, "GET /api/v1/nothing", &["Accept: text/html"], "");
    assert_eq!(api.code(), "not_found");
}

#[test]
fn o49_texts_of_strangers_are_escaped_everywhere() {
    let data = TempDir::new().expect("a folder");
    let (_broker, http) = start(data.path(), &[]);
    let task = json!({"name": HOSTILE, "id": HOSTILE, "shadow": HOSTILE, "tags": [HOSTILE],
        "headers": {"note": HOSTILE}, "args": [HOSTILE], "root_id": HOSTILE, "parent_id": "p"});
    let submitted = post(&http, "/api/v1/tasks", &task);
    // A name may be narrower than a text for people.
    let task = match submitted.status {
        201 => task,
        _ => {
            let mut task = task;
            task["name"] = json!("a");
            assert_eq!(post(&http, "/api/v1/tasks", &task).status, 201, "{}", submitted.body);
            task
        }
    };
    assert_eq!(task["id"], HOSTILE);
    let id = percent_encoded(HOSTILE);
    let forms = "Content-Type: application/x-www-form-urlencoded";
    let body = format!("do=cancel&id={id}&back=%2Ftasks");
    let asks = request(&http, "POST /act", &[forms], &body);
    let mut pages = vec![asks];
    for path in [
        "/".to_owned(),
        "/tasks".to_owned(),
        "/queue?name=default".to_owned(),
        format!("/task?id={id}"),
        format!("/tasks?tag={id}&name={id}&queue={id}"),
        format!("/queues?part={id}"),
        format!("/queue?name={id}"),
        format!("/worker?instance={id}"),
        format!("/submit?name={id}&args={id}"),
        format!("/login?next={id}"),
        format!("/{id}"),
        format!("/tasks?{id}=1"),
    ] {
        pages.push(page_or_redirect(&http, &path));
    }
    for answer in pages {
        for raw in ["<script>alert", "<img src=x", "'><"] {
            assert!(!answer.body.contains(raw), "{raw}: {}", answer.body);
        }
        let shown = without_values(&answer.body);
        for hidden in ["\u{202e}", "\u{7f}"] {
            assert!(!shown.contains(hidden), "{hidden:?}: {}", answer.body);
        }
    }
}

/// A page without the values of its fields: a form sends them back as they are.
fn without_values(body: &str) -> String {
    let mut parts = body.split(" value=\"");
    let mut rest = parts.next().unwrap_or_default().to_owned();
    rest.extend(parts.map(|part| part.split_once('"').map_or("", |(_, after)| after)));
    let mut parts = rest.split("<textarea");
    let mut shown = parts.next().unwrap_or_default().to_owned();
    shown.extend(parts.map(|part| part.split_once("</textarea>").map_or("", |(_, after)| after)));
    shown
}

fn page_or_redirect(http: &str, path: &str) -> Answer {
    request(http, &format!("GET {path}"), &["Accept: text/html"], "")
}

fn percent_encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// The values of an attribute in a page, without their escapes.
fn attributes<'a>(body: &'a str, name: &str) -> impl Iterator<Item = String> + use<'a> {
    let begin = format!(" {name}=\"");
    let mut rest = body;
    std::iter::from_fn(move || {
        let (_, after) = rest.split_once(&begin)?;
        let (value, after) = after.split_once('"')?;
        rest = after;
        Some(value.replace("&amp;", "&").replace("&quot;", "\""))
    })
}

#[test]
fn o48_every_link_form_and_file_is_below_the_prefix_and_leads_somewhere() {
    let data = TempDir::new().expect("a folder");
    let (_broker, http) = with_tasks(data.path(), &["--http-path-prefix", "/a/b"]);
    let (mut seen, mut next) = (BTreeSet::new(), VecDeque::from(["/a/b/".to_owned()]));
    while let Some(path) = next.pop_front() {
        if path.starts_with('#') || !seen.insert(path.clone()) {
            continue;
        }
        assert!(path.starts_with("/a/b/") && !path.contains("//"), "{path}");
        let answer = page_or_redirect(&http, &path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        if path.contains("/assets/") {
            assert!(answer.headers.contains("immutable"), "{path}: {}", answer.headers);
            continue;
        }
        next.extend(attributes(&answer.body, "href"));
        next.extend(attributes(&answer.body, "src"));
        for target in
            attributes(&answer.body, "action").chain(attributes(&answer.body, "data-events"))
        {
            assert!(target.starts_with("/a/b/"), "{path}: {target}");
        }
    }
    for expected in ["/a/b/task?id=a%2Fb%3Fc%3Dd%26e%23f", "/a/b/queue?name=mail&list=ended"] {
        assert!(seen.contains(expected), "{expected}: {seen:?}");
    }
    let found = request(&http, "GET /a/b/search?q=waits", &[], "");
    assert!(found.headers.contains("location: /a/b/task?id=waits"), "{found:?}");
    let forms = "Content-Type: application/x-www-form-urlencoded";
    let back = "do=pause&queue=songs&back=%2Fqueue%3Fname%3Dsongs";
    let paused = request(&http, "POST /a/b/act", &[forms], back);
    let target = "location: /a/b/queue?name=songs&done=paused&n=0";
    assert!(paused.status == 303 && paused.headers.contains(target), "{paused:?}");
}

/// Names of queues that the pages and APIs of other task queues could not find.
const NAMES: [&str; 11] = [
    "queue+name",
    "a/b",
    "task:email",
    "a#b",
    "a b",
    "..",
    "a?b=c&d",
    "100%",
    "a\0b",
    "a.b",
    "ü🐋",
];

#[test]
fn a_queue_of_any_name_is_found_and_operated_from_its_page_and_by_the_api() {
    let data = TempDir::new().expect("a folder");
    let (_broker, http) = start(data.path(), &[]);
    let forms = ["Content-Type: application/x-www-form-urlencoded"];
    for name in NAMES {
        let task = json!({"name": "a", "queue": name, "id": name});
        assert_eq!(post(&http, "/api/v1/tasks", &task).status, 201, "{name}");
    }
    let links: Vec<String> = attributes(&page(&http, "/queues").body, "href").collect();
    for name in NAMES {
        let is_paused = || {
            let by_path = get(&http, &format!("/api/v1/queues/{}", percent_encoded(name)));
            let by_query = get(&http, &format!("/api/v1/queue?name={}", percent_encoded(name)));
            assert_eq!((by_path.status, by_query.status), (200, 200), "{name}: {by_query:?}");
            assert_eq!(by_path.json()["queue"], name);
            assert_eq!(by_query.json()["queue"], name);
            by_path.json()["paused"] == true
        };
        // What a browser follows and sends.
        let query: String = form_encoded(name);
        let link = format!("/queue?name={query}");
        assert!(links.contains(&link), "{link}: {links:?}");
        let body = page(&http, &link).body;
        let (_, form) = body.split_once("action=\"/act\"").expect("a form");
        let (_, value) = form.split_once("name=\"queue\" value=\"").expect("the name of the queue");
        let value = value.split('"').next().expect("its end").replace("&amp;", "&");
        assert!(!is_paused(), "{name}");
        let sent = format!("do=pause&queue={}", percent_encoded(&value));
        assert_eq!(request(&http, "POST /act", &forms, &sent).status, 303, "{name}");
        assert!(is_paused(), "{name}");
        let task = get(&http, &format!("/api/v1/tasks/{}", percent_encoded(name)));
        assert_eq!(task.json()["id"], name);
        assert_eq!(page(&http, &format!("/task?id={query}")).status, 200, "{name}");
    }
}

/// A text in a query, as a link of a page has it.
fn form_encoded(text: &str) -> String {
    let encoded = |byte: u8| match byte {
        byte if byte.is_ascii_alphanumeric() || b"*-._".contains(&byte) => char::from(byte).into(),
        b' ' => "+".to_owned(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(encoded).collect()
}

#[test]
fn files_are_small_and_a_browser_keeps_them() {
    let data = TempDir::new().expect("a folder");
    let (_broker, http) = start(data.path(), &[]);
    let body = page(&http, "/").body;
    let files: BTreeSet<String> = attributes(&body, "src")
        .chain(attributes(&body, "href"))
        .filter(|path| path.starts_with("/assets/"))
        .collect();
    assert_eq!(files.len(), 3, "{files:?}");
    let mut bytes = 0;
    for file in files {
        let answer = get(&http, &file);
        assert!(answer.headers.contains("cache-control: public, max-age=31536000, immutable"));
        bytes += answer.body.len();
        let packed = request(&http, &format!("GET {file}"), &["Accept-Encoding: gzip"], "");
        let is_packed = packed.headers.contains("content-encoding: gzip");
        assert!(is_packed || answer.body.len() < 1_100, "{file}: {}", packed.headers);
    }
    assert!(bytes < 60 * 1024, "{bytes} bytes");
    assert_eq!(get(&http, "/assets/style-0000000000000000.css").status, 404);
}
