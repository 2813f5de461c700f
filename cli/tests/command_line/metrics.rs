//! `/metrics` of a broker that works, and the dashboard and the alert rules that are shipped.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::http::{get, post, request, start};

/// The names of the samples of a scrape, with the labels of each.
fn samples(text: &str) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut samples: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, rest) = line.split_at(line.find(['{', ' ']).expect("a sample has a value"));
        let labels = rest.strip_prefix('{').and_then(|rest| rest.split_once("} "));
        let found = samples.entry(name).or_default();
        for label in labels.map(|(labels, _)| labels.split(',')).into_iter().flatten() {
            found.extend(label.split_once('=').map(|(name, _)| name));
        }
    }
    samples
}

/// The metrics that an expression of PromQL names, with the labels that it names beside each: those
/// in braces, and those of `by`.
fn named(expression: &str) -> Vec<(String, BTreeSet<String>)> {
    let is_name = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let mut by = BTreeSet::new();
    for rest in expression.split("by (").skip(1) {
        let labels = rest.split(')').next().unwrap_or_default();
        by.extend(labels.split(',').map(|label| label.trim().to_owned()));
    }
    let mut found = Vec::new();
    for (at, _) in expression.match_indices("celeriac_").chain(expression.match_indices("process_"))
    {
        let rest = &expression[at..];
        let name: String = rest.chars().take_while(|character| is_name(*character)).collect();
        let mut labels = by.clone();
        if let Some(inside) = rest[name.len()..].strip_prefix('{') {
            let inside = inside.split('}').next().unwrap_or_default();
            let names = inside.split(',').filter_map(|label| label.split(['=', '!']).next());
            labels.extend(names.map(|label| label.trim().to_owned()));
        }
        found.push((name, labels));
    }
    found
}

/// Prometheus adds this label to all that it scrapes from one address.
const OF_PROMETHEUS: &str = "instance";
/// Only a broker with TLS has a certificate.
const OF_TLS: &str = "celeriac_tls_certificate_expires_timestamp_seconds";

#[test]
fn o36_the_shipped_dashboard_and_alerts_name_what_a_scrape_has() {
    let data = TempDir::new().expect("a folder");
    let (broker, http) = start(data.path(), &[]);
    let song = json!({"name": "a", "queue": "songs \"\\\n", "max_attempts": 1});
    assert_eq!(post(&http, "/api/v1/tasks", &song).status, 201);
    assert_eq!(broker.run(&["submit", "b"]).code, Some(0));
    let again = json!({"name": "a", "id": "one", "on_conflict": "reject"});
    for status in [201, 409] {
        assert_eq!(post(&http, "/api/v1/tasks", &again).status, status);
    }
    let answer = get(&http, "/metrics");
    assert!(answer.headers.contains("content-type: application/openmetrics-text"), "{answer:?}");
    let text = answer.body;
    assert!(text.ends_with("# EOF\n"), "{text}");
    assert!(text.contains(r#"queue="songs \"\\\n""#), "names are escaped: {text}");
    let samples = samples(&text);
    let dashboard: Value =
        serde_json::from_str(include_str!("../../../deploy/monitoring/grafana.json"))
            .expect("JSON");
    let mut expressions: Vec<String> = Vec::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        for target in panel["targets"].as_array().into_iter().flatten() {
            expressions.push(target["expr"].as_str().expect("an expression").to_owned());
        }
    }
    let from_dashboard = expressions.len();
    let alerts = include_str!("../../../deploy/monitoring/alerts.yaml");
    let rules = alerts.lines().filter_map(|line| line.trim().strip_prefix("expr: "));
    expressions.extend(rules.map(str::to_owned));
    assert!(from_dashboard > 20 && expressions.len() > from_dashboard + 9, "{expressions:?}");
    for expression in &expressions {
        let named = named(expression);
        assert!(!named.is_empty(), "{expression}");
        for (name, labels) in named.iter().filter(|(name, _)| name != OF_TLS) {
            let has = samples.get(name.as_str());
            let has = has.unwrap_or_else(|| panic!("{expression}: no scrape has {name}"));
            for label in labels.iter().filter(|label| *label != OF_PROMETHEUS) {
                assert!(has.contains(label.as_str()), "{expression}: {name} has no label {label}");
            }
        }
    }
    let one = get(&http, "/metrics?queue=default").body;
    assert!(one.contains(r#"queue="default""#) && !one.contains("songs"), "{one}");
    assert_eq!(get(&http, "/metrics?queue=").status, 422);
    assert_eq!(get(&http, "/metrics?days=7").status, 422);
}

#[test]
fn the_figures_are_public_where_the_settings_say_so_and_nothing_else_is() {
    let folder = TempDir::new().expect("a folder");
    let token = folder.path().join("token");
    std::fs::write(&token, "s3cret\n").expect("written");
    let token = token.to_str().expect("text");
    let (closed, http) = start(&folder.path().join("a"), &["--token-file", token]);
    assert_eq!(get(&http, "/metrics").status, 401);
    drop(closed);
    let public = ["--token-file", token, "--metrics-public"];
    let (_broker, http) = start(&folder.path().join("b"), &public);
    assert_eq!(get(&http, "/metrics").status, 200);
    assert_eq!(get(&http, "/api/v1/queues").status, 401);
    // So it is with an access file, where a token of the file may do what its entry says.
    let made = crate::process::run(&[
        "token", "new", "--name", "web", "--role", "producer", "--queue", "*",
    ]);
    let (known, entry) = made.stdout.split_once('\n').expect("a token and its entry");
    let file = folder.path().join("access.toml");
    std::fs::write(&file, entry).expect("written");
    let public = ["--access-file", file.to_str().expect("text"), "--metrics-public"];
    let (_broker, http) = start(&folder.path().join("c"), &public);
    let figures = get(&http, "/metrics");
    assert_eq!(figures.status, 200, "{figures:?}");
    assert!(figures.body.contains("celeriac_connections{"), "{}", figures.body);
    for path in ["/api/v1/queues", "/api/v1/broker", "/api/v1/tasks", "/api/v1/workers"] {
        assert_eq!(get(&http, path).status, 401, "{path}");
    }
    for (token, status) in [(known, 403), ("clr_aaaaaaaa_wrong", 401)] {
        let header = format!("Authorization: Bearer {token}");
        assert_eq!(request(&http, "GET /metrics", &[&header], "").status, status);
    }
}

#[test]
fn the_manual_lists_every_metric() {
    let data = TempDir::new().expect("a folder");
    let (_broker, http) = start(data.path(), &[]);
    let manual = include_str!("../../../deploy/HTTP.md");
    let text = get(&http, "/metrics").body;
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').expect("a name and its kind");
        let name = if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
        assert!(manual.contains(&format!("`{name}`")), "deploy/HTTP.md does not list {name}");
    }
}
