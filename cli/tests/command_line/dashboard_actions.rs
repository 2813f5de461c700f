//! What the forms of the pages do, who may do it, and what an open page gets to know.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::http::{Answer, get, post, request, start};
use crate::process::{DEADLINE, run};

const FORM: &str = "Content-Type: application/x-www-form-urlencoded";

fn send(http: &str, body: &str) -> Answer {
    request(http, "POST /act", &[FORM], body)
}

/// The target of a redirect.
fn target(answer: &Answer) -> &str {
    assert_eq!(answer.status, 303, "{answer:?}");
    let line = answer.headers.lines().find_map(|line| line.strip_prefix("location: "));
    line.expect("a redirect has its target")
}

/// The form of a page that asks, as the browser would send it.
fn answered(page: &str) -> String {
    let (_, form) = page.split_once("<form class=\"actions\"").expect("a form");
    let (form, _) = form.split_once("</form>").expect("its end");
    let fields = form.split("<input type=\"hidden\" ").skip(1).map(|field| {
        let value = |name: &str| {
            let (_, after) = field.split_once(&format!("{name}=\"")).expect("an attribute");
            after.split_once('"').expect("its end").0.replace("&amp;", "&")
        };
        let encoded: String = value("value").bytes().map(|byte| format!("%{byte:02x}")).collect();
        format!("{}={encoded}", value("name"))
    });
    fields.collect::<Vec<String>>().join("&")
}

fn submit(http: &str, id: &str, more: Value) {
    let mut task = json!({"name": "songs.play", "id": id, "queue": "songs"});
    for (key, value) in more.as_object().expect("an object") {
        task[key] = value.clone();
    }
    assert_eq!(post(http, "/api/v1/tasks", &task).status, 201);
}

fn state(http: &str, id: &str) -> String {
    get(http, &format!("/api/v1/tasks/{id}")).json()["state"].as_str().unwrap_or("none").to_owned()
}

#[test]
fn a_queue_is_paused_set_purged_and_deleted_with_forms() {
    let data = TempDir::new().expect("a folder");
    let (_broker, http) = start(data.path(), &[]);
    submit(&http, "one", json!({}));
    submit(&http, "two", json!({"countdown": "1h"}));
    let queue = || get(&http, "/api/v1/queues/songs").json();
    let paused = send(&http, "do=pause&queue=songs&back=%2Fqueue%3Fname%3Dsongs");
    // The page after the action says so once, and nobody says what was not done.
    assert!(get(&http, target(&paused)).body.contains("The queue is paused."));
    assert!(!get(&http, target(&paused)).body.contains("The queue is paused."));
    assert!(!get(&http, "/?done=purged&n=99999").body.contains("99,999"));
    assert_eq!(queue()["paused"], true);
    send(&http, "do=resume-queue&queue=songs");
    assert_eq!(queue()["paused"], false);
    send(&http, "do=set&queue=songs&tasks_max=7&bytes_max=&expires_in=&result_ttl=2h");
    assert_eq!((&queue()["tasks_max"], &queue()["result_ttl_ms"]), (&json!(7), &json!(7_200_000)));
    let wrong = send(&http, "do=set&queue=songs&result_ttl=soon");
    assert_eq!(wrong.status, 422, "{wrong:?}");
    // What cannot be undone asks first, and says how many.
    let asks = send(&http, "do=purge&queue=songs&back=%2Fqueues");
    assert!(asks.status == 200 && asks.body.contains("<b>2 tasks that wait</b>"), "{}", asks.body);
    assert_eq!(state(&http, "one"), "QUEUED");
    let purged = send(&http, &answered(&asks.body));
    assert_eq!(target(&purged), "/queues?done=purged&n=2");
    assert!(get(&http, target(&purged)).body.contains("2 tasks were revoked."));
    assert_eq!(state(&http, "one"), "REVOKED");
    let asks = send(&http, "do=delete&queue=songs&back=%2Fqueues");
    send(&http, &answered(&asks.body));
    assert_eq!(get(&http, "/api/v1/queues/songs").status, 404);
}

#[test]
fn ticked_tasks_and_all_that_match_are_cancelled_and_forgotten() {
    let data = TempDir::new().expect("a folder");
    let (_broker, http) = start(data.path(), &[]);
    for id in ["a", "b", "c", "d"] {
        submit(&http, id, json!({"tags": ["x"]}));
    }
    submit(&http, "other", json!({}));
    let nothing = send(&http, "do=cancel&back=%2Ftasks");
    assert!(nothing.status == 422 && nothing.body.contains("No row is ticked"), "{nothing:?}");
    let asks = send(&http, "do=cancel&id=a&id=b&back=%2Ftasks");
    assert!(asks.body.contains("<h1>Cancel 2 tasks?</h1>"), "{}", asks.body);
    let done = send(&http, &answered(&asks.body));
    assert_eq!(target(&done), "/tasks?done=cancelled&n=2");
    assert_eq!((state(&http, "a"), state(&http, "c")), ("REVOKED".into(), "QUEUED".into()));
    let asks = send(&http, "do=cancel&all=yes&tag=x&queue=&back=%2Ftasks%3Ftag%3Dx");
    assert!(asks.body.contains("<h1>Cancel 2 tasks?</h1>"), "{}", asks.body);
    // What comes after the click stays. The next millisecond is after it.
    std::thread::sleep(std::time::Duration::from_millis(5));
    submit(&http, "late", json!({"tags": ["x"]}));
    let done = send(&http, &answered(&asks.body));
    assert_eq!(target(&done), "/tasks?tag=x&done=cancelled&n=2");
    for (id, expected) in [("c", "REVOKED"), ("late", "QUEUED"), ("other", "QUEUED")] {
        assert_eq!(state(&http, id), expected, "{id}");
    }
    let asks = send(&http, "do=forget&all=yes&tag=x&back=%2Ftasks");
    assert!(asks.body.contains("<h1>Forget 4 tasks?</h1>"), "{}", asks.body);
    send(&http, &answered(&asks.body));
    assert_eq!(get(&http, "/api/v1/tasks/a").status, 404);
}

#[test]
fn dead_tasks_are_replayed_and_discarded_with_forms() {
    let data = TempDir::new().expect("a folder");
    let (broker, http) = start(data.path(), &[]);
    for id in ["a", "b", "c", "d"] {
        submit(&http, id, json!({"max_attempts": 1}));
    }
    let words = ["work", "--name", "songs.play", "--queue", "songs", "--", "false"];
    let mut worker = broker.command(&words).spawn().expect("the binary starts");
    for id in ["a", "b", "c", "d"] {
        let ended = get(&http, &format!("/api/v1/tasks/{id}/result?wait=60"));
        assert_eq!(ended.json()["state"], "FAILURE", "{ended:?}");
    }
    worker.kill().expect("it runs");
    worker.wait().expect("it ends");
    let page = get(&http, "/task?id=a").body;
    assert!(page.contains("Replay…") && page.contains("Discard…"), "{page}");
    let asks = send(&http, "do=replay&id=a&back=%2Ftask%3Fid%3Da");
    assert!(asks.body.contains("<h1>Replay 1 task?</h1>"), "{}", asks.body);
    let done = send(&http, &answered(&asks.body));
    assert_eq!(target(&done), "/task?id=a&done=replayed&n=1");
    assert_eq!((state(&http, "a"), state(&http, "b")), ("QUEUED".into(), "FAILURE".into()));
    // The page of a task that was dropped is gone, so the list of the others comes after it.
    let asks = send(&http, "do=discard&id=b&back=%2Ftask%3Fid%3Db");
    assert!(asks.body.contains("<h1>Discard 1 task?</h1>"), "{}", asks.body);
    let done = send(&http, &answered(&asks.body));
    assert_eq!(target(&done), "/dead?done=discarded&n=1");
    let after = get(&http, target(&done));
    assert!(after.status == 200 && after.body.contains("1 task was discarded."), "{after:?}");
    assert_eq!(get(&http, "/api/v1/tasks/b").status, 404);
    let asks = send(&http, "do=discard&all=yes&queue=songs&back=%2Fdead");
    assert!(asks.body.contains("<h1>Discard 2 tasks?</h1>"), "{}", asks.body);
    let done = send(&http, &answered(&asks.body));
    assert_eq!(target(&done), "/dead?done=discarded&n=2");
    assert_eq!(state(&http, "a"), "QUEUED", "it is not dead");
}

#[test]
fn workers_get_orders_and_the_broker_drains_with_forms() {
    let data = TempDir::new().expect("a folder");
    let (broker, http) = start(data.path(), &[]);
    let words = ["work", "--name", "songs.play", "--queue", "songs", "--", "echo", "\"r4711\""];
    let mut worker = broker.command(&words).spawn().expect("the binary starts");
    submit(&http, "a", json!({}));
    get(&http, "/api/v1/tasks/a/result?wait=60");
    // A page that is opened has the result, and not only one that was open when the task ended.
    let page = get(&http, "/task?id=a").body;
    assert!(page.contains("<h2>Result</h2>") && page.contains("r4711"), "{page}");
    let workers = get(&http, "/api/v1/workers").json();
    let instance = workers["workers"][0]["instance_id"].as_str().expect("a worker").to_owned();
    let quiet = || get(&http, "/api/v1/workers").json()["workers"][0]["quiet"] == true;
    // The worker says itself that it has followed the order.
    let until_quiet_is = |wanted: bool| {
        let began = std::time::Instant::now();
        while quiet() != wanted {
            assert!(began.elapsed() < DEADLINE, "the worker has not followed the order");
            std::thread::yield_now();
        }
    };
    let back = format!("back=%2Fworker%3Finstance%3D{instance}");
    let order = |order: &str| send(&http, &format!("do={order}&instance={instance}&{back}"));
    let done = order("quiet");
    assert_eq!(target(&done), format!("/worker?instance={instance}&done=quiet&n=0"));
    assert!(get(&http, target(&done)).body.contains("The worker takes no more tasks."));
    until_quiet_is(true);
    assert_eq!(order("resume-worker").status, 303);
    until_quiet_is(false);
    let asks = order("shutdown");
    assert!(asks.body.contains("Shut down the worker"), "{}", asks.body);
    assert!(!quiet(), "it only asks");
    assert_eq!(target(&send(&http, &answered(&asks.body))), "/workers?done=shutdown&n=0");
    assert!(worker.wait().expect("it ends").success());
    assert_eq!(send(&http, "do=quiet&instance=none").status, 404);

    let draining = || get(&http, "/api/v1/broker").json()["draining"].clone();
    submit(&http, "b", json!({}));
    let asks = send(&http, "do=drain&back=%2Fbroker");
    assert!(asks.body.contains("<h1>Drain the broker?</h1>"), "{}", asks.body);
    assert!(asks.body.contains("1 task that waits will stay"), "{}", asks.body);
    assert_eq!(draining(), false);
    assert_eq!(target(&send(&http, &answered(&asks.body))), "/broker?done=draining&n=0");
    assert_eq!(draining(), true);
    assert!(get(&http, "/").body.contains("The broker drains."));
    assert_eq!(target(&send(&http, "do=undrain&back=%2Fbroker")), "/broker?done=delivering&n=0");
    assert_eq!(draining(), false);
}

#[test]
fn a_task_is_submitted_with_a_form_and_a_mistake_keeps_what_was_typed() {
    let data = TempDir::new().expect("a folder");
    let (_broker, http) = start(data.path(), &[]);
    let form = "name=songs.play&args=%5B12345678901234567890%5D&queue=songs&id=typed&priority=9";
    let sent = request(&http, "POST /submit", &[FORM], form);
    assert_eq!(target(&sent), "/task?id=typed");
    // Whoever takes an id that exists is told what became of it.
    let again = request(&http, "POST /submit", &[FORM], "name=mail.send&id=typed");
    assert_eq!(target(&again), "/task?id=typed&done=joined&n=0");
    assert!(get(&http, target(&again)).body.contains("Nothing was submitted."));
    let page = get(&http, "/task?id=typed").body;
    assert!(page.contains("12345678901234567890") && page.contains("QUEUED"), "{page}");
    let wrong = request(&http, "POST /submit", &[FORM], "name=songs.play&args=%5B1&queue=songs");
    assert!(wrong.status == 422 && wrong.body.contains("Args is not JSON"), "{wrong:?}");
    assert!(
        wrong.body.contains("value=\"songs.play\"") && wrong.body.contains(">[1<"),
        "{wrong:?}"
    );
    // Forms of other sites, and other bodies, do nothing.
    let cross = ["Sec-Fetch-Site: cross-site", FORM];
    assert_eq!(request(&http, "POST /submit", &cross, "name=a").status, 403);
    let json = ["Content-Type: application/json"];
    assert_eq!(request(&http, "POST /submit", &json, "{\"name\": \"a\"}").status, 415);
    assert_eq!(get(&http, "/act?do=drain&sure=yes").status, 405);
    for back in ["https%3A%2F%2Fevil.example", "%2F%2Fevil.example", "%2F%0d%0aX%3A+1", "a"] {
        let answer = send(&http, &format!("do=pause&queue=songs&back={back}"));
        assert_eq!(answer.status, 422, "{back}: {answer:?}");
    }
}

/// An access file with an operator and a producer of one queue, and their tokens.
fn access(folder: &TempDir) -> (String, [String; 2]) {
    let (mut file, mut tokens) = (String::new(), Vec::new());
    for (name, role, queue) in [("ops", "operator", "*"), ("reader", "reader", "songs")] {
        let made = run(&["token", "new", "--name", name, "--role", role, "--queue", queue]);
        let (token, entry) = made.stdout.split_once('\n').expect("a token and its entry");
        tokens.push(token.to_owned());
        file += entry;
    }
    let path = folder.path().join("access.toml");
    fs::write(&path, file).expect("written");
    (path.to_str().expect("text").to_owned(), tokens.try_into().expect("two"))
}

/// Logs in, and gives the cookie as the browser sends it.
fn log_in(http: &str, token: &str) -> String {
    let body = format!("token={token}&next=%2Fqueues");
    let answer = request(http, "POST /login", &[FORM], &body);
    assert_eq!(target(&answer), "/queues");
    let cookie = answer.headers.lines().find_map(|line| line.strip_prefix("set-cookie: "));
    let cookie = cookie.expect("a cookie");
    assert!(cookie.contains("httponly; samesite=strict; path=/; max-age=28800"), "{cookie}");
    assert!(!cookie.contains("secure") && !answer.headers.contains(token), "{cookie}");
    format!("Cookie: {}", cookie.split(';').next().expect("a pair"))
}

#[test]
fn o46_a_login_is_a_session_that_ends_with_its_entry() {
    let folder = TempDir::new().expect("a folder");
    let (file, [ops, reader]) = access(&folder);
    let data = folder.path().join("data");
    let (broker, http) = start(&data, &["--access-file", &file]);
    let page = |who: &str, path: &str| request(&http, &format!("GET {path}"), &[who], "");
    let away = get(&http, "/queue?name=songs");
    assert_eq!(target(&away), "/login?next=%2fqueue%3fname%3dsongs");
    assert!(get(&http, "/login").body.contains("<h1>Log in</h1>"));
    let wrong = request(&http, "POST /login", &[FORM], "token=clr_no_no");
    assert!(wrong.status == 401 && !wrong.headers.contains("set-cookie"), "{wrong:?}");
    let (ops, reader) = (log_in(&http, &ops), log_in(&http, &reader));
    assert_eq!(page(&ops, "/").status, 200);
    // The API knows tokens and no cookie.
    assert_eq!(page(&ops, "/api/v1/queues").status, 401);
    // What the caller may not see is said in its place, and the rest of the page is there.
    let overview = page(&reader, "/");
    assert_eq!(overview.status, 200, "{overview:?}");
    assert!(overview.body.contains("You may not see the broker"), "{}", overview.body);
    assert!(overview.body.contains("<h2>Queues</h2>"), "{}", overview.body);
    let denied = request(&http, "POST /act", &[FORM, &reader], "do=pause&queue=songs");
    assert!(denied.status == 403 || denied.status == 404, "{denied:?}");
    // Logout ends the session on the server.
    let out = request(&http, "POST /logout", &[&reader], "");
    assert_eq!(target(&out), "/login");
    assert_eq!(page(&reader, "/").status, 303);
    // So does the end of the entry.
    let text = fs::read_to_string(&file).expect("it is there");
    let second = text.rfind("[[").expect("two entries");
    fs::write(&file, &text[second..]).expect("written");
    let pid = broker.pid().to_string();
    std::process::Command::new("kill").args(["-s", "HUP", &pid]).status().expect("kill runs");
    let began = std::time::Instant::now();
    while page(&ops, "/").status == 200 {
        assert!(began.elapsed() < DEADLINE, "the entry still counts");
        std::thread::yield_now();
    }
    assert_eq!(page(&ops, "/").status, 303);
}

/// The next event of a stream: the ids of its parts, and their HTML.
fn event(stream: &mut impl BufRead) -> Vec<(String, String)> {
    for line in stream.lines() {
        let line = line.expect("the stream goes on");
        if let Some(data) = line.strip_prefix("data: ") {
            return serde_json::from_str(data).expect("parts");
        }
    }
    panic!("the stream has ended")
}

#[test]
fn an_open_page_gets_the_parts_that_have_changed() {
    let data = TempDir::new().expect("a folder");
    let (_broker, http) = start(data.path(), &[]);
    submit(&http, "one", json!({}));
    let body = get(&http, "/queue?name=songs").body;
    let (_, after) = body.split_once("data-events=\"").expect("the page has a stream");
    let path = after.split_once('"').expect("its end").0.replace("&amp;", "&");
    let mut stream = TcpStream::connect(&http).expect("it listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("a socket");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {http}\r\n\r\n").expect("sent");
    let mut stream = BufReader::new(stream);
    let ids = |parts: &[(String, String)]| {
        parts.iter().map(|(id, _)| id.clone()).collect::<Vec<String>>()
    };
    let first = event(&mut stream);
    assert_eq!(ids(&first), ["figures", "actions", "list"]);
    assert!(first[2].1.contains(">one</a>"), "{first:?}");
    send(&http, "do=pause&queue=songs");
    let mut changed = event(&mut stream);
    // The age of the oldest task changes by itself.
    while !ids(&changed).contains(&"actions".to_owned()) {
        changed = event(&mut stream);
    }
    let actions = &changed.iter().find(|(id, _)| id == "actions").expect("it is there").1;
    assert!(actions.contains("Resume"), "{changed:?}");
    assert_eq!(get(&http, "/events?of=%2Fqueue%3Fname%3Dnone").status, 404);
}
