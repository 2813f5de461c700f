//! Requests over HTTP that are wrong, hostile or too large: each gets a clear answer and changes
//! nothing.

use serde_json::json;
use tempfile::TempDir;

use crate::http::{get, parse, post, request, send, start};

#[test]
fn requests_that_are_no_good_get_a_clear_answer_and_change_nothing() {
    let data = TempDir::new().expect("a folder");
    let (_broker, http) = start(data.path(), &[]);
    let json = "Content-Type: application/json";
    let good = r#"{"name": "a"}"#;
    for (line, headers, body, status) in [
        ("POST /api/v1/tasks", vec![json], "", 400),
        ("POST /api/v1/tasks", vec![json], "{", 400),
        ("POST /api/v1/tasks", vec![json], "[]", 422),
        ("POST /api/v1/tasks", vec![json], "null", 422),
        ("POST /api/v1/tasks", vec![json], "{\"tasks\": []}", 422),
        ("POST /api/v1/tasks", vec![json], "{\"tasks\": 1}", 422),
        ("POST /api/v1/tasks", vec![json], "{\"name\": \"a\", \"priority\": 10}", 422),
        ("POST /api/v1/tasks", vec![json], "{\"name\": \"a\", \"priority\": 256}", 422),
        ("POST /api/v1/tasks", vec![json], "{\"name\": \"a\", \"countdown\": -1}", 422),
        ("POST /api/v1/tasks", vec![json], "{\"name\": \"a\", \"countdown\": 1e300}", 422),
        // Programs on other pages can send these without a question of the browser.
        ("POST /api/v1/tasks", vec!["Content-Type: text/plain"], good, 415),
        ("POST /api/v1/tasks", vec![], good, 415),
        ("POST /api/v1/tasks", vec!["Content-Type: application/x-www-form-urlencoded"], good, 415),
        ("POST /api/v1/tasks", vec![json, "Sec-Fetch-Site: cross-site"], good, 403),
        ("POST /api/v1/tasks", vec![json, "Origin: https://evil.example"], good, 403),
        ("POST /api/v1/queues/default/purge", vec!["Origin: https://evil.example"], "", 403),
        ("GET /api/v1/tasks?limit=0", vec![], "", 422),
        ("GET /api/v1/tasks?limit=1001", vec![], "", 422),
        ("GET /api/v1/tasks?limit=99999999999999999999999", vec![], "", 422),
        ("GET /api/v1/tasks?limit=-1", vec![], "", 422),
        ("GET /api/v1/tasks?cursor=%21", vec![], "", 422),
        ("GET /api/v1/tasks?cursor=AAAA", vec![], "", 422),
        ("GET /api/v1/tasks?state=NONE", vec![], "", 422),
        ("GET /api/v1/tasks?tag=", vec![], "", 422),
        ("GET /api/v1/tasks?older_than=x", vec![], "", 422),
        ("GET /api/v1/tasks?days=7", vec![], "", 422),
        ("GET /api/v1/tasks/a/result?wait=61", vec![], "", 422),
        ("GET /api/v1/tasks/%FF", vec![], "", 400),
        ("GET /api/v1/tasks/../../etc/passwd", vec![], "", 404),
        ("GET /api/v1/queues/%00", vec![], "", 404),
        ("GET /nothing", vec![], "", 404),
        ("GET //api/v1/tasks", vec![], "", 404),
        ("PUT /api/v1/tasks", vec![json], good, 405),
        ("TRACE /api/v1/tasks", vec![], "", 405),
        ("GET /api/v1/broker", vec!["Authorization: Digest x"], "", 401),
        ("POST /api/v1/dead/discard", vec![json], "{}", 422),
        ("POST /api/v1/dead/discard", vec![json], "{\"filter\": {}}", 422),
        ("POST /api/v1/dead/replay", vec![json], "{\"ids\": [], \"all\": true}", 422),
        ("POST /api/v1/cancel", vec![json], "{\"tag\": \"\"}", 422),
        ("POST /api/v1/cancel", vec![json], "{\"tag\": \"a\", \"root_id\": \"b\"}", 422),
        (
            "POST /api/v1/tasks/a/cancel",
            vec![json],
            "{\"mode\": \"waiting\", \"grace\": \"1s\"}",
            422,
        ),
    ] {
        let answer = request(&http, line, &headers, body);
        assert_eq!(answer.status, status, "{line} {headers:?} {body}: {answer:?}");
        if !line.starts_with("TRACE") {
            assert_eq!(answer.json()["status"], status, "{line}: {answer:?}");
        }
    }
    let tasks = get(&http, "/api/v1/tasks").json();
    assert_eq!(tasks["tasks"], json!([]), "nothing was submitted");
}

#[test]
fn o32_o49_only_this_machine_is_named_and_a_browser_is_told_what_it_may_do() {
    let data = TempDir::new().expect("a folder");
    let (_broker, http) = start(data.path(), &["--http-hosts", "ops.example,b.example"]);
    let with_host = |host: &str| {
        parse(&send(
            &http,
            format!("GET /api/v1/queues HTTP/1.1\r\nConnection: close\r\n{host}\r\n").as_bytes(),
        ))
    };
    for host in
        ["Host: localhost\r\n", "Host: 127.0.0.1:1\r\n", "Host: [::1]\r\n", "Host: ops.example\r\n"]
    {
        assert_eq!(with_host(host).status, 200, "{host}");
    }
    for host in ["Host: evil.example\r\n", "Host: localhost.evil.example\r\n"] {
        assert_eq!(with_host(host).status, 421, "{host}");
    }
    for host in ["", "Host: localhost\r\nHost: evil.example\r\n"] {
        assert_eq!(with_host(host).status, 400, "{host}");
    }
    let answer = get(&http, "/api/v1/queues");
    for header in [
        "x-content-type-options: nosniff",
        "referrer-policy: same-origin",
        "frame-ancestors 'none'",
        "default-src 'self'",
        "cache-control: no-store",
    ] {
        assert!(answer.headers.contains(header), "{header}: {answer:?}");
    }
    assert!(!answer.headers.contains("access-control-allow-origin"), "{answer:?}");
    let crossing = request(&http, "GET /api/v1/queues", &["Origin: https://evil.example"], "");
    assert!(!crossing.headers.contains("access-control-allow-origin"), "{crossing:?}");
}

#[test]
fn requests_that_two_servers_read_in_two_ways_are_refused() {
    let data = TempDir::new().expect("a folder");
    let (_broker, http) = start(data.path(), &[]);
    let body = r#"{"name": "a"}"#;
    let hidden = "GET /hidden HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let json = "Content-Type: application/json\r\n";
    for smuggled in [
        format!(
            "POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\n{json}Content-Length: 13\r\nContent-Length: 5\r\n\r\n{body}"
        ),
        format!(
            "POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\n{json}Content-Length: -1\r\n\r\n{body}"
        ),
        format!(
            "POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\n{json}Content-Length: +13\r\n\r\n{body}"
        ),
        format!(
            "POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\n{json}Transfer-Encoding: chunked, identity\r\n\r\n{body}"
        ),
        format!(
            "POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\n{json}Transfer-Encoding: chunked\r\n\r\nzz\r\n{body}"
        ),
        format!(
            "POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\n{json}Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n{body}"
        ),
        format!("GET /api/v1/queues HTTP/1.1\r\nHost : localhost\r\n\r\n{hidden}"),
        format!("GET /api/v1/queues HTTP/1.1\r\nHost: localhost\r\n folded: x\r\n\r\n{hidden}"),
        "GET /api/v1/queues\r\n\r\n".to_owned(),
        "GET  /api/v1/queues HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
        "GET /api/v1/queues HTTP/3.0\r\nHost: localhost\r\n\r\n".to_owned(),
        "G\0T / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
        format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(70_000)),
        format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(70_000)),
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0".to_owned(),
    ] {
        let answer = send(&http, smuggled.as_bytes());
        assert!(
            !answer.starts_with("HTTP/1.1 2"),
            "{:?}: {answer}",
            &smuggled[..60.min(smuggled.len())]
        );
        assert!(!answer.contains("/hidden"), "{answer}");
    }
    let both = format!(
        "POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\n{json}Content-Length: 4\r\n\
         Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"
    );
    let answer = send(&http, both.as_bytes());
    assert!(!answer.contains("/hidden"), "the connection ends after such a request: {answer}");
    assert_eq!(get(&http, "/api/v1/tasks").json()["tasks"], json!([]));
}

#[test]
fn a_large_body_is_refused_before_it_is_read() {
    let data = TempDir::new().expect("a folder");
    let (_broker, http) = start(data.path(), &[]);
    let head = "POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
                Content-Type: application/json\r\nContent-Length: 99999999999\r\n\r\n";
    assert_eq!(parse(&send(&http, head.as_bytes())).status, 413);
    let payload = "x".repeat(9 * 1024 * 1024);
    let large = post(&http, "/api/v1/tasks", &json!({"name": "a", "args": [payload]}));
    assert_eq!((large.status, large.code()), (413, "payload_too_large".to_owned()));
    let payload = "x".repeat(7 * 1024 * 1024);
    let fits = post(&http, "/api/v1/tasks", &json!({"name": "a", "args": [payload]}));
    assert_eq!(fits.status, 201, "{}", fits.body);
}
