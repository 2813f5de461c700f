//! Which requests are refused before they reach a path, and what every answer says to a browser.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::http::uri::{PathAndQuery, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::caller::Peer;
use crate::config::WebConfig;
use crate::problem::Problem;
use crate::query::shortened;
use crate::router::Shared;
use crate::site::Site;

/// Paths without data. A probe may name any host, or none.
const PROBES: [&str; 2] = ["/healthz", "/readyz"];

/// The headers of every answer. Scripts and styles come from this server alone, and no page of a
/// stranger shows one of ours.
const HEADERS: [(HeaderName, HeaderValue); 4] = [
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
        ),
    ),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("same-origin")),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("same-origin"),
    ),
];

/// Refuses hosts that are not ours, and adds the headers of every answer.
pub(crate) async fn guard(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    let mut answer = match check_host(&shared.settings.now(), &request) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    };
    let headers = answer.headers_mut();
    for (name, value) in HEADERS {
        headers.entry(name).or_insert(value);
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    answer
}

fn check_host(config: &WebConfig, request: &Request) -> Result<(), Problem> {
    let named = request.uri().authority().map(|authority| authority.as_str());
    let mut of_header = request.headers().get_all(header::HOST).iter();
    let host = match (named, of_header.next(), of_header.next()) {
        (_, Some(_), Some(_)) => return Err(Problem::malformed("the header Host comes twice")),
        (Some(authority), ..) => Some(authority),
        (None, Some(value), None) => value.to_str().ok(),
        (None, None, _) => None,
    };
    if config.knows_callers || PROBES.contains(&request.uri().path()) {
        return Ok(());
    }
    let host = host.ok_or_else(|| Problem::malformed("the header Host is missing"))?;
    match is_ours(config, host) {
        true => Ok(()),
        false => Err(Problem::of_http(
            StatusCode::MISDIRECTED_REQUEST,
            format!(
                "without tokens this server answers under loopback names alone, and not as `{}`: \
                 name it in http_hosts",
                shortened(host)
            ),
        )),
    }
}

/// Whether this host is a loopback name, an IP address, or one of the settings. A page of a
/// stranger cannot point an IP address at another machine.
fn is_ours(config: &WebConfig, host: &str) -> bool {
    let name = without_port(host);
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    let is_named = |known: &String| {
        let known = known.as_str();
        known.eq_ignore_ascii_case(host) || known.eq_ignore_ascii_case(name)
    };
    name.eq_ignore_ascii_case("localhost")
        || address.parse::<IpAddr>().is_ok()
        || config.hosts.iter().any(is_named)
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
            // An IPv6 address has colons of its own, and then it is in brackets.
            if name.contains(':') && !name.ends_with(']') { host } else { name }
        }
        _ => host,
    }
}

/// The request as it reaches the paths: without the prefix of a proxy, and with the address of the
/// client that a trusted proxy names.
pub(crate) fn arrived(
    config: &WebConfig,
    mut peer: Peer,
    request: hyper::Request<hyper::body::Incoming>,
) -> Request {
    let mut request = request.map(Body::new);
    let site = Site::of(config, &peer, request.headers());
    if config.trusted_proxies.contains(&peer.address)
        && let Some(client) = client_of_proxy(&config.trusted_proxies, request.headers())
    {
        peer.address = client;
    }
    request.extensions_mut().insert(peer);
    let uri = without_prefix(site.base(), request.uri())
        .or_else(|| without_prefix(&config.path_prefix, request.uri()));
    if let Some(uri) = uri {
        *request.uri_mut() = uri;
    }
    request.extensions_mut().insert(site);
    if let Some(uri) = with_id_in_path(request.uri()) {
        *request.uri_mut() = uri;
    }
    request
}

/// What may stand behind the question mark in place of a part of the path: the path, the name of
/// the value, and the path with the part.
const BY_QUERY: [(&str, &str, &str); 3] = [
    ("/api/v1/task", "id", "/api/v1/tasks/"),
    ("/api/v1/queue", "name", "/api/v1/queues/"),
    ("/api/v1/worker", "instance", "/api/v1/workers/"),
];

/// `/api/v1/task?id=ID` and all below it as `/api/v1/tasks/ID`, and the same for queues and
/// workers: some proxies decode `%2F` in a path or refuse it, and programs take `.` and `..` for
/// folders.
fn with_id_in_path(uri: &Uri) -> Option<Uri> {
    let of = |(path, name, with_part): (&str, &str, &'static str)| {
        let below = uri.path().strip_prefix(path)?;
        let is_it = below.is_empty() || below.starts_with('/');
        is_it.then(|| (below, format!("{name}="), with_part))
    };
    let (below, name, with_part) = BY_QUERY.into_iter().find_map(of)?;
    let (ids, rest): (Vec<&str>, Vec<&str>) =
        uri.query()?.split('&').partition(|pair| pair.starts_with(&name));
    // Of two ids nobody knows which one is meant.
    let [id] = ids[..] else { return None };
    let id = part_of_path(&decoded(id.strip_prefix(&name)?));
    let query = if rest.is_empty() { String::new() } else { format!("?{}", rest.join("&")) };
    let mut parts = uri.clone().into_parts();
    let path = format!("{with_part}{id}{below}{query}");
    parts.path_and_query = Some(PathAndQuery::try_from(path).ok()?);
    Uri::from_parts(parts).ok()
}

/// The bytes of a value of a query. A percent sign that begins no escape stands for itself.
fn decoded(value: &str) -> Vec<u8> {
    let mut rest = value.as_bytes();
    let mut bytes = Vec::with_capacity(rest.len());
    while let Some((&first, after)) = rest.split_first() {
        let digit = |at: usize| char::from(*after.get(at)?).to_digit(16);
        let (byte, taken) = match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => ((high * 16 + low) as u8, 3),
            (b'+', ..) => (b' ', 1),
            (byte, ..) => (byte, 1),
        };
        bytes.push(byte);
        rest = &rest[taken..];
    }
    bytes
}

/// These bytes as one part of a path. Whatever could end the part, or mean a folder, is encoded.
fn part_of_path(bytes: &[u8]) -> String {
    let mut part = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            byte if byte.is_ascii_alphanumeric() || b"-_~".contains(byte) => {
                part.push(char::from(*byte));
            }
            byte => {
                let _ = write!(part, "%{byte:02X}");
            }
        }
    }
    part
}

/// The last address of `X-Forwarded-For` that is no trusted proxy itself: whoever stands before it
/// may have written what it likes.
fn client_of_proxy(trusted: &[IpAddr], headers: &HeaderMap) -> Option<IpAddr> {
    let lines: Vec<&str> =
        headers.get_all("x-forwarded-for").iter().filter_map(|line| line.to_str().ok()).collect();
    let mut addresses = lines.iter().rev().flat_map(|line| line.rsplit(','));
    addresses.find_map(|address| match address.trim().parse() {
        Ok(address) if trusted.contains(&IpAddr::to_canonical(&address)) => None,
        Ok(address) => Some(Some(address.to_canonical())),
        Err(_) => Some(None),
    })?
}

fn without_prefix(prefix: &str, uri: &Uri) -> Option<Uri> {
    let rest = uri.path().strip_prefix(prefix).filter(|_| !prefix.is_empty())?;
    let path = match rest {
        "" => "/",
        rest if rest.starts_with('/') => rest,
        _ => return None,
    };
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(format!("{path}{query}")).ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o32_without_tokens_only_names_of_this_machine_are_served() {
        let config = WebConfig { hosts: vec!["ops.example".into()], ..WebConfig::default() };
        for host in [
            "localhost",
            "LOCALHOST:23538",
            "127.0.0.1:1",
            "[::1]",
            "[::1]:23538",
            "10.0.0.7",
            "ops.example",
            "Ops.Example:443",
        ] {
            assert!(is_ours(&config, host), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "",
            ":1",
            "ops.example.",
            "evil@localhost",
        ] {
            assert!(!is_ours(&config, host), "{host}");
        }
    }

    #[test]
    fn o48_the_prefix_of_a_proxy_is_taken_off_once() {
        let path = |uri: &'static str| {
            without_prefix("/a/b", &Uri::from_static(uri)).map(|uri| uri.to_string())
        };
        assert_eq!(path("/a/b").as_deref(), Some("/"));
        assert_eq!(path("/a/b?x=1").as_deref(), Some("/?x=1"));
        assert_eq!(path("/a/b/a/b/c?x=%2F").as_deref(), Some("/a/b/c?x=%2F"));
        assert_eq!(path("/a/bc"), None);
        assert_eq!(path("/healthz"), None);
        assert_eq!(without_prefix("", &Uri::from_static("/x")), None);
    }

    #[test]
    fn o26_an_id_may_stand_behind_the_question_mark() {
        let path =
            |uri: &'static str| with_id_in_path(&Uri::from_static(uri)).map(|uri| uri.to_string());
        assert_eq!(path("/api/v1/task?id=a/b+c").as_deref(), Some("/api/v1/tasks/a%2Fb%20c"));
        assert_eq!(
            path("/api/v1/task/result?wait=3&id=..&x=1").as_deref(),
            Some("/api/v1/tasks/%2E%2E/result?wait=3&x=1")
        );
        // A query may have these characters as they are, and a path may not.
        for (id, part) in [
            ("job?1", "job%3F1"),
            ("job?1/cancel", "job%3F1%2Fcancel"),
            ("a;b:c@d!e$f'(g)*,h", "a%3Bb%3Ac%40d%21e%24f%27%28g%29%2A%2Ch"),
            ("a=b", "a%3Db"),
            ("%41%2f%3f%23%25", "A%2F%3F%23%25"),
            ("100%", "100%25"),
            ("%zz%4", "%25zz%254"),
            ("%c3%bc%ff", "%C3%BC%FF"),
            ("", ""),
        ] {
            let uri: Uri = format!("/api/v1/task/cancel?id={id}").parse().expect("an address");
            let path = with_id_in_path(&uri).expect("it names an id").to_string();
            assert_eq!(path, format!("/api/v1/tasks/{part}/cancel"), "{id}");
        }
        assert_eq!(
            path("/api/v1/queue/pause?name=a/b").as_deref(),
            Some("/api/v1/queues/a%2Fb/pause")
        );
        assert_eq!(path("/api/v1/worker?instance=x").as_deref(), Some("/api/v1/workers/x"));
        for uri in [
            "/api/v1/queue?id=a",
            "/api/v1/queues?name=a",
            "/api/v1/task",
            "/api/v1/task?wait=3",
            "/api/v1/tasks?id=a",
            "/api/v1/taskx?id=a",
            "/api/v1/task?id=a&id=b",
        ] {
            assert_eq!(path(uri), None, "{uri}");
        }
    }

    #[test]
    fn o48_the_client_of_a_proxy_is_the_last_one_that_no_proxy_made_up() {
        let proxy: IpAddr = "10.0.0.1".parse().expect("an address");
        let client = |lines: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append("x-forwarded-for", line.parse().expect("a value"));
            }
            client_of_proxy(&[proxy], &headers).map(|address| address.to_string())
        };
        assert_eq!(client(&["6.6.6.6, 1.2.3.4"]).as_deref(), Some("1.2.3.4"));
        assert_eq!(client(&["6.6.6.6", "1.2.3.4, 10.0.0.1"]).as_deref(), Some("1.2.3.4"));
        assert_eq!(client(&["1.2.3.4, unknown"]), None);
        assert_eq!(client(&["10.0.0.1"]), None);
        assert_eq!(client(&["::ffff:1.2.3.4, ::ffff:10.0.0.1"]).as_deref(), Some("1.2.3.4"));
        assert_eq!(client(&[]), None);
    }
}
