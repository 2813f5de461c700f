//! The connection of a client command to its broker: the address and the token from flags,
//! environment or files, and the exit code for each error of the client.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

use celeriac_client::connection::TlsFiles;
use celeriac_client::{BrokerUrl, Client, Error, ErrorCode, TlsReason};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::arguments::SharedOptions;
use crate::exit::{Exit, Failure};
use crate::output::print_to_stderr;
use crate::token::{open_to_all, read_token, token_variable, warning};
use crate::unknown_host;
use celeriac_web::printable::clean;

const SCHEME: &str = "celeriac://";
const DEFAULT_URL: &str = "celeriac://127.0.0.1:23537";
pub(crate) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// A broker answers a Hello within milliseconds. After this time the command looks what else may
/// be at the address.
const SLOW_HANDSHAKE: Duration = Duration::from_secs(1);
/// The time that another server has to show what it is, and the bytes of its answer that are read.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
const PROBE_BYTES: u64 = 4096;
/// These words are in the answer of a broker to a client that speaks HTTP.
const BROKER_NAME: &[u8] = b"Celeriac broker";

/// Connects within `--timeout`, which then also bounds every request.
pub(crate) async fn connect(shared: &SharedOptions) -> Result<Client, Failure> {
    let Broker { url, token_file } = broker(shared, |warning| print_to_stderr(&clean(warning)))?;
    let has_token = has_token(&url);
    let timeout = shared.timeout.unwrap_or(DEFAULT_TIMEOUT);
    let mut client =
        Client::builder(&url).instance(instance()).timeout(timeout).connect_timeout(timeout);
    if let Some(file) = token_file {
        client = client.token_file(file);
    }
    let connecting = client.connect();
    let address = address(shared);
    tokio::select! {
        connected = connecting => match connected {
            Ok(client) => Ok(client),
            Err(error) => Err(explain(&address, has_token, error).await),
        },
        () = tokio::time::sleep(timeout) => Err(Failure::new(
            Exit::Unreachable,
            format!("the broker did not answer within {timeout:?}"),
        )),
        other = other_server_after(SLOW_HANDSHAKE, &address), if !has_tls(&url) => Err(other),
    }
}

/// The failure for a connection that could not be made, with what else answers at the address.
async fn explain(address: &str, has_token: bool, error: Error) -> Failure {
    match &error {
        // What answers, but not as a broker, is worth another look.
        Error::Handshake { code: ErrorCode::Unspecified, message, .. } => {
            match probe(address).await {
                Some(server) => not_a_broker(address, server),
                None => not_this_program(address, message),
            }
        }
        Error::Handshake { code: ErrorCode::Unauthenticated, .. } if !has_token => Failure::new(
            Exit::Token,
            "the broker needs a token, and none was given: use --token-file FILE, \
             CELERIAC_TOKEN_FILE or CELERIAC_TOKEN",
        ),
        Error::Connect { source, .. } if source.kind() == ErrorKind::ConnectionRefused => {
            let tip = "start one with `celeriac serve --data DIR`, or name its address with --url";
            Failure::new(Exit::Unreachable, format!("{error}; {tip}"))
        }
        _ => failure_at(address, has_token, error),
    }
}

/// The failure for an error of a first connection to this address.
pub(crate) fn failure_at(address: &str, has_token: bool, error: Error) -> Failure {
    match &error {
        // The client does not name a host that it did not find.
        Error::Connect { address: tried, source } if tried != address => {
            let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
            Failure::new(Exit::Unreachable, unknown_host::sentence(host, has_token, source))
        }
        Error::Handshake { code: ErrorCode::Unspecified, message, .. } => {
            not_this_program(address, message)
        }
        _ => failure(error),
    }
}

/// What the client says of a program that does not answer as a broker.
fn not_this_program(address: &str, message: &str) -> Failure {
    Failure::new(Exit::Unreachable, format!("{address}: {message}; check the address"))
}

/// Says goodbye to the broker at the end of a command. A broker that did not answer in time would
/// not answer this either, and the user has waited as long as `--timeout` says.
pub(crate) async fn part<T>(client: &Client, outcome: Result<T, Failure>) -> Result<T, Failure> {
    if !matches!(outcome, Err(Failure::Sentence { exit: Exit::Unreachable, .. })) {
        client.close().await;
    }
    outcome
}

/// Waits until the handshake has taken longer than with any broker. Then it returns only if the
/// server at the address is known to be none.
async fn other_server_after(patience: Duration, address: &str) -> Failure {
    tokio::time::sleep(patience).await;
    match probe(address).await {
        Some(server) => not_a_broker(address, server),
        None => std::future::pending().await,
    }
}

fn not_a_broker(address: &str, server: Server) -> Failure {
    let sentence = match server {
        Server::Http => {
            format!("{address} is a server of HTTP and not a broker of Celeriac: check the address")
        }
        Server::Tls => format!(
            "{address} speaks TLS: if it is a broker of Celeriac, write celeriacs://{address}"
        ),
    };
    Failure::new(Exit::Unreachable, sentence)
}

/// What answers in place of a broker without TLS.
#[derive(Debug, PartialEq, Eq)]
enum Server {
    Http,
    Tls,
}

/// Asks in the words of HTTP, and says what else than a broker answers.
async fn probe(address: &str) -> Option<Server> {
    let mut answer = Vec::new();
    let exchange = async {
        let mut server = TcpStream::connect(address).await?;
        server.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
        server.take(PROBE_BYTES).read_to_end(&mut answer).await
    };
    // Of a server that does not close the connection, the bytes that have come are enough.
    let _ = tokio::time::timeout(PROBE_TIMEOUT, exchange).await;
    other_server(&answer)
}

/// The server that gives this answer to a request of HTTP. A broker answers in HTTP too, and names
/// itself: a broker that is slow must not be taken for another server.
fn other_server(answer: &[u8]) -> Option<Server> {
    let names_itself = answer.windows(BROKER_NAME.len()).any(|words| words == BROKER_NAME);
    match answer {
        [b'H', b'T', b'T', b'P', b'/', ..] if !names_itself => Some(Server::Http),
        // A record of TLS: an alert, which says that the request was not TLS.
        [0x15, 0x03, ..] => Some(Server::Tls),
        _ => None,
    }
}

/// Where the broker is, and the token for it.
#[derive(Debug)]
pub(crate) struct Broker {
    /// The URL with the token.
    pub(crate) url: String,
    /// The file of the token, which each reconnect reads again. `None`: the token came from
    /// elsewhere.
    pub(crate) token_file: Option<PathBuf>,
}

/// The broker that the user means. `warn` gets a warning about the token's file.
pub(crate) fn broker(shared: &SharedOptions, warn: impl Fn(&str)) -> Result<Broker, Failure> {
    let broker = with_token(&url(shared), shared.token_file.as_ref(), &warn)?;
    let url = &broker.url;
    let key = TlsFiles::from_env().key.filter(|_| has_tls(url));
    if let Some(sentence) = key.and_then(|file| open_to_all(&file, "the key")) {
        warn(&sentence);
    }
    Ok(broker)
}

/// Whether this URL is that of a broker with TLS.
fn has_tls(url: &str) -> bool {
    url.parse::<BrokerUrl>().is_ok_and(|url| url.has_tls())
}

/// Whether this URL has a token.
pub(crate) fn has_token(url: &str) -> bool {
    url.parse::<BrokerUrl>().is_ok_and(|url| !url.token().is_empty())
}

/// The address of the broker for people: the URL without its token.
pub(crate) fn address(shared: &SharedOptions) -> String {
    url(shared).parse::<BrokerUrl>().map(|url| url.address()).unwrap_or_default()
}

/// The URL of the broker. People also write `host:port` alone.
fn url(shared: &SharedOptions) -> String {
    match shared.url.as_deref().map(str::trim) {
        None | Some("") => DEFAULT_URL.to_owned(),
        Some(url) if url.contains("://") => url.to_owned(),
        Some(address) if address.bytes().all(|byte| byte.is_ascii_graphic()) => {
            format!("{SCHEME}{address}")
        }
        // The sentence about a wrong address is clearer than one about a host that is not found.
        Some(text) => text.to_owned(),
    }
}

/// Adds the token to the URL. A token in the URL has priority over the token file, and the file
/// over the environment variable.
fn with_token(
    url: &str,
    token_file: Option<&PathBuf>,
    warn: impl Fn(&str),
) -> Result<Broker, Failure> {
    let parsed: BrokerUrl = url
        .parse()
        .map_err(|error| Failure::usage(format!("the broker's address cannot be used: {error}")))?;
    if !parsed.token().is_empty() {
        return Ok(Broker { url: url.to_owned(), token_file: None });
    }
    let token = match token_file {
        Some(file) => {
            let token = read_token(file)?;
            if let Some(sentence) = warning(file) {
                warn(&sentence);
            }
            token
        }
        None => token_variable()?.unwrap_or_default(),
    };
    Ok(Broker { url: parsed.text_with_token(&token), token_file: token_file.cloned() })
}

/// The name of this process in the broker's log.
fn instance() -> String {
    format!("celeriac-cli-{}", std::process::id())
}

/// The failure for an error of the client. The exit code tells a script what it can do about it.
pub(crate) fn failure(error: Error) -> Failure {
    let exit = match &error {
        Error::Connect { .. } | Error::Timeout { .. } | Error::Interrupted | Error::Closed => {
            Exit::Unreachable
        }
        Error::Tls { reason: TlsReason::Files, .. } | Error::TokenFile { .. } => Exit::Usage,
        Error::Tls { reason: TlsReason::ClientCertificate, .. } => Exit::Token,
        Error::Tls { .. } => Exit::Unreachable,
        Error::NotFound { .. } => Exit::NotFound,
        Error::NotFinished { .. } => Exit::Unfinished,
        Error::TaskFailed { .. } => Exit::Failed,
        Error::TaskRevoked { .. } => Exit::Revoked,
        Error::Url(_) | Error::Encode(_) => Exit::Usage,
        Error::Handshake { code: ErrorCode::Unauthenticated | ErrorCode::Forbidden, .. } => {
            Exit::Token
        }
        // Another program answers at the address.
        Error::Handshake { code: ErrorCode::Unspecified, .. } => Exit::Unreachable,
        Error::Handshake { retryable: true, .. } => Exit::Later,
        Error::Refused { code, retryable, .. } => match refused(*code) {
            Exit::Error if *retryable => Exit::Later,
            exit => exit,
        },
        _ => Exit::Error,
    };
    Failure::new(exit, error.to_string())
}

/// The exit code for a request that the broker refused.
pub(crate) fn refused(code: ErrorCode) -> Exit {
    match code {
        ErrorCode::NotFound => Exit::NotFound,
        ErrorCode::NotFinished => Exit::Unfinished,
        ErrorCode::Forbidden => Exit::Token,
        ErrorCode::TaskExists => Exit::Exists,
        ErrorCode::InvalidArgument | ErrorCode::PayloadTooLarge => Exit::Usage,
        ErrorCode::DeadlineExceeded => Exit::Unreachable,
        _ => Exit::Error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_in_the_url_counts_first() {
        let missing = PathBuf::from("/does/not/exist");
        let broker = with_token("celeriac://t@h", Some(&missing), |_| ()).expect("not read");
        assert_eq!((broker.url.as_str(), broker.token_file), ("celeriac://t@h", None));
        let error = with_token("celeriac://h", Some(&missing), |_| ()).expect_err("read");
        assert!(matches!(error, Failure::Sentence { exit: Exit::Usage, .. }));
    }
}
