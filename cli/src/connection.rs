//! The connection of a client command to its broker: the address and the token from flags,
//! environment or files, and the exit code for each error of the client.

use std::path::PathBuf;
use std::time::Duration;

use celeriac_client::{BrokerUrl, Client, Error, ErrorCode};

use crate::arguments::SharedOptions;
use crate::exit::{Exit, Failure};
use crate::output::print_to_stderr;
use crate::printable::clean;
use crate::token::{read_token, token_variable, warning};

const DEFAULT_URL: &str = "celeriac://127.0.0.1:23537";
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// Connects within `--timeout`, which then also bounds every request.
pub(crate) async fn connect(shared: &SharedOptions) -> Result<Client, Failure> {
    let url = with_token(shared.url.as_deref().unwrap_or(DEFAULT_URL), shared.token_file.as_ref())?;
    let timeout = shared.timeout.unwrap_or(DEFAULT_TIMEOUT);
    let connecting = Client::builder(&url)
        .instance(instance())
        .timeout(timeout)
        .connect_timeout(timeout)
        .connect();
    match tokio::time::timeout(timeout, connecting).await {
        Ok(connected) => connected.map_err(failure),
        Err(_) => Err(Failure::new(
            Exit::Unreachable,
            format!("the broker did not answer within {timeout:?}"),
        )),
    }
}

/// The address of the broker for people: the URL without its token.
pub(crate) fn address(shared: &SharedOptions) -> String {
    let url = shared.url.as_deref().unwrap_or(DEFAULT_URL);
    url.parse::<BrokerUrl>().map(|url| url.address()).unwrap_or_default()
}

/// The URL of a broker at `host:port`.
pub(crate) fn broker_url(address: &str, token: &str) -> String {
    match token {
        "" => format!("celeriac://{address}"),
        // A token is visible ASCII. Only `%` has a special meaning in this part of a URL.
        token => format!("celeriac://{}@{address}", token.replace('%', "%25")),
    }
}

/// Adds the token to the URL. A token in the URL has priority over the token file, and the file
/// over the environment variable.
fn with_token(url: &str, token_file: Option<&PathBuf>) -> Result<String, Failure> {
    let parsed: BrokerUrl = url
        .parse()
        .map_err(|error| Failure::usage(format!("the broker's address cannot be used: {error}")))?;
    if !parsed.token().is_empty() {
        return Ok(url.to_owned());
    }
    let token = match token_file {
        Some(file) => {
            let token = read_token(file)?;
            if let Some(sentence) = warning(file) {
                print_to_stderr(&clean(&sentence));
            }
            token
        }
        None => token_variable()?.unwrap_or_default(),
    };
    Ok(broker_url(&parsed.address(), &token))
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
        Error::NotFound { .. } => Exit::NotFound,
        Error::NotFinished { .. } => Exit::Unfinished,
        Error::TaskFailed { .. } => Exit::Failed,
        Error::TaskRevoked { .. } => Exit::Revoked,
        Error::Url(_) | Error::Encode(_) => Exit::Usage,
        Error::Refused { code, .. } => refused(*code),
        _ => Exit::Error,
    };
    Failure::new(exit, error.to_string())
}

/// The exit code for a request that the broker refused.
pub(crate) fn refused(code: ErrorCode) -> Exit {
    match code {
        ErrorCode::NotFound => Exit::NotFound,
        ErrorCode::NotFinished => Exit::Unfinished,
        ErrorCode::InvalidArgument | ErrorCode::PayloadTooLarge => Exit::Usage,
        ErrorCode::DeadlineExceeded => Exit::Unreachable,
        _ => Exit::Error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_its_way_through_a_url() {
        for token in ["s3cret", "a@b/c:d", "100%", "%41"] {
            let url: BrokerUrl = broker_url("127.0.0.1:1", token).parse().expect(token);
            assert_eq!((url.token(), url.address().as_str()), (token, "127.0.0.1:1"));
        }
    }

    #[test]
    fn a_token_in_the_url_counts_first() {
        let missing = PathBuf::from("/does/not/exist");
        assert_eq!(
            with_token("celeriac://t@h", Some(&missing)).expect("not read"),
            "celeriac://t@h"
        );
        let error = with_token("celeriac://h", Some(&missing)).expect_err("read");
        assert!(matches!(error, Failure::Sentence { exit: Exit::Usage, .. }));
    }
}
