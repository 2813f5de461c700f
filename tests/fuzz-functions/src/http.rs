//! Bytes for the HTTP side, with a whole broker behind it: sessions, machine and store, in one
//! thread whose time jumps. Whatever comes, the answer is one of HTTP and no fault of ours, the
//! connection ends, and the connection to the broker that callers share goes on.

use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use celeriac_broker::Config;
use celeriac_broker::internals::simulation::{SimulatedBroker, SimulatedCommits};
use celeriac_client::connection::{Connector, Halves};
use celeriac_client::{Client, ClientBuilder};
use celeriac_store::StoreConfig;
use celeriac_web::caller::Caller;
use celeriac_web::config::WebConfig;
use celeriac_web::upstream::{Health, Upstream};
use celeriac_web::{Web, serve_stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex, split};
use tokio::time::timeout;

use crate::input::Input;
use crate::memory::medium;

/// The bytes between the client and the server, and between the server and the broker.
const BUFFER_BYTES: usize = 64 * 1024;
/// No answer is longer.
const ANSWER_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// No connection lives longer on which everything has been sent. Time jumps where nothing happens.
const PATIENCE: Duration = Duration::from_secs(3_600);

const METHODS: [&str; 8] = ["GET", "POST", "PATCH", "DELETE", "HEAD", "OPTIONS", "PUT", "TRACE"];
const KINDS: [&str; 4] = [
    "application/json",
    "application/x-www-form-urlencoded",
    "text/plain",
    "APPLICATION/json; a=b",
];

/// Sends the bytes as they are, or a request that is made of them.
pub fn http(bytes: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime of one thread starts");
    runtime.block_on(async {
        let mut input = Input::new(bytes);
        let served = Served::start();
        if input.one_in(2) {
            let slices = usize::from(input.byte()) + 1;
            let answer = served.exchange(input.rest(), slices, true).await;
            check_status(&answer);
        } else {
            let request = request(&mut input);
            if names_backup(&request) {
                return;
            }
            let answer = served.exchange(&request, BUFFER_BYTES, false).await;
            assert!(answer.starts_with(b"HTTP/1.1 "), "there is no answer to {request:?}");
            check_status(&answer);
            check_headers(&answer);
            // The caller of the request and the one of this look have one connection.
            let look =
                b"GET /api/v1/queues HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
            let answer = served.exchange(look, BUFFER_BYTES, false).await;
            assert!(answer.starts_with(b"HTTP/1.1 200 "), "the next request is answered");
            assert_eq!(served.connections(), 1, "the request broke the connection of its caller");
        }
    });
}

/// A right request whose path, query and body are what the input says.
fn request(input: &mut Input<'_>) -> Vec<u8> {
    let method = METHODS[usize::from(input.below(METHODS.len() as u8))];
    let kind = KINDS[usize::from(input.below(KINDS.len() as u8))];
    let rest = input.rest();
    let (line, body) = match rest.iter().position(|byte| *byte == b'\n') {
        Some(at) => (&rest[..at], &rest[at + 1..]),
        None => (rest, &[][..]),
    };
    let mut target = String::from("/");
    for byte in line {
        match byte {
            b'!'..=b'~' if !b"#\"<>\\^`{|}".contains(byte) => target.push(char::from(*byte)),
            byte => target += &format!("%{byte:02X}"),
        }
    }
    let length = body.len();
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Type: {kind}\r\nContent-Length: {length}\r\nAccept: text/html\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// Whether the path may be that of a backup, however it is encoded. This broker makes no backups,
/// so it would never answer.
fn names_backup(request: &[u8]) -> bool {
    let line = request.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let text = String::from_utf8_lossy(line);
    let mut parts = text.split('%');
    let mut decoded = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (code, rest) = part.split_at_checked(2).unwrap_or(("", part));
        decoded.extend(u8::from_str_radix(code, 16).ok().map(char::from));
        decoded += rest;
    }
    decoded.contains("backup")
}

/// A request has an answer, and none of a fault of the server. 501 says that the broker cannot do
/// it, and 503 and 504 that it does not do it now.
fn check_status(answer: &[u8]) {
    if let Some(rest) = answer.strip_prefix(b"HTTP/1.") {
        let status = rest.get(2..5).unwrap_or_default();
        let is_fault =
            status.starts_with(b"5") && ![b"501", b"503", b"504"].iter().any(|it| *it == status);
        assert!(!is_fault, "{}", String::from_utf8_lossy(&answer[..answer.len().min(2_000)]));
    }
}

/// Every answer says what a browser may do with it.
fn check_headers(answer: &[u8]) {
    let end = answer.windows(4).position(|part| part == b"\r\n\r\n").expect("headers have an end");
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    for header in ["content-security-policy: default-src 'self'", "x-content-type-options: nosniff"]
    {
        assert!(head.contains(header), "{header}: {head}");
    }
}

/// The HTTP side and its broker.
struct Served {
    web: Arc<Web>,
    upstream: Arc<Inside>,
}

impl Served {
    fn start() -> Self {
        let (broker, commits) =
            SimulatedBroker::start(Config::new("memory"), medium(), StoreConfig::default())
                .expect("an empty medium is served");
        tokio::spawn(commit(commits));
        let (broker, connections) = (Arc::new(Mutex::new(broker)), Arc::default());
        let upstream = Arc::new(Inside { broker, connections });
        let web = Web::new(WebConfig::default(), upstream.clone()).expect("the settings are good");
        Self { web: Arc::new(web), upstream }
    }

    fn connections(&self) -> usize {
        self.upstream.connections.load(Ordering::Relaxed)
    }

    /// Sends the bytes in slices, and reads until the server ends the connection. A client that
    /// ends its sending at once gets no answer: the server takes that for a client that has gone.
    async fn exchange(&self, bytes: &[u8], slice: usize, ends_at_once: bool) -> Vec<u8> {
        let (ours, theirs) = duplex(BUFFER_BYTES);
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let serving = serve_stream(Box::new(theirs), address, self.web.clone());
        let (read, mut write) = split(ours);
        let send = async {
            for slice in bytes.chunks(slice) {
                // The server may have ended the connection.
                if write.write_all(slice).await.is_err() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            if ends_at_once {
                let _ = write.shutdown().await;
            }
            write
        };
        let mut answer = Vec::new();
        let receive = async {
            let _ = read.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await;
        };
        let all = async { tokio::join!(serving, send, receive) };
        let has_ended = timeout(PATIENCE, all).await.is_ok();
        let is_stream = || String::from_utf8_lossy(&answer).contains("text/event-stream");
        assert!(has_ended || is_stream(), "the connection does not end");
        answer
    }
}

async fn commit(mut commits: SimulatedCommits) {
    while let Some(batch) = commits.next().await {
        let written = commits.write(batch).expect("memory does not fail");
        commits.answer(written);
    }
    commits.end(Ok(()));
}

/// The way to the broker, and how many connections of callers without a token went it.
struct Inside {
    broker: Arc<Mutex<SimulatedBroker>>,
    connections: Arc<AtomicUsize>,
}

impl Upstream for Inside {
    fn client(&self, caller: &Caller) -> ClientBuilder {
        let (broker, connections) = (self.broker.clone(), self.connections.clone());
        // A login asks with a token of its own.
        let count = usize::from(caller.token.is_empty());
        let connector = Connector::new(move |_address| {
            let (broker, connections) = (broker.clone(), connections.clone());
            async move {
                connections.fetch_add(count, Ordering::Relaxed);
                let (ours, theirs) = duplex(BUFFER_BYTES);
                let (read, write) = split(theirs);
                broker.lock().expect("no panic while it is locked").accept(read, write);
                let (read, write) = split(ours);
                Ok(Halves { read: Box::new(read), write: Box::new(write) })
            }
        });
        let url = match caller.token.as_str() {
            "" => "celeriac://localhost",
            // The broker asks for no token, and a token of any characters is no address.
            _ => "celeriac://token@localhost",
        };
        Client::builder(url).connector(connector)
    }

    fn client_for_metrics(&self) -> Option<ClientBuilder> {
        None
    }

    fn health(&self) -> Pin<Box<dyn Future<Output = Health> + Send + '_>> {
        Box::pin(async { Health::Serves { draining: false, disk_is_low: false } })
    }
}
