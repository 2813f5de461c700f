//! How a client command reaches its broker: address and token from flags, environment or files, and
//! the client's errors as exit codes.

use std::path::PathBuf;
use std::time::Duration;

use celeriac_client::{BrokerUrl, Client, Error, ErrorCode};

use crate::arguments::Global;
use crate::exit::{Exit, Failure};
use crate::output::clean;
use crate::secret_file::{read_token, warning};
use crate::settings::token_variable;

const DEFAULT_URL: &str = "celeriac://127.0.0.1:23537";
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// Connects within `--timeout`, which then also bounds every request.
pub(crate) async fn connect(global: &Global) -> Result<Client, Failure> {
    let url = with_token(global.url.as_deref().unwrap_or(DEFAULT_URL), global.token_file.as_ref())?;
    let timeout = global.timeout.unwrap_or(DEFAULT_TIMEOUT);
    let connecting = Client::builder(&url)
        .instance(instance())
        .timeout(timeout)
        .connect_timeout(timeout)
        .connect();
    match tokio::time::timeout(timeout, connecting).await {
        Ok(connected) => connected.map_err(failure),
        Err(_) => Err(Failure::new(
            Exit::Unreachable,
            format!("no answer from the broker within {timeout:?}"),
        )),
    }
}

/// Where the broker is, for people: the URL without its token.
pub(crate) fn address(global: &Global) -> String {
    let url = global.url.as_deref().unwrap_or(DEFAULT_URL);
    url.parse::<BrokerUrl>().map(|url| url.address()).unwrap_or_default()
}

/// The URL of a broker at `host:port`.
pub(crate) fn broker_url(address: &str, token: &str) -> String {
    match token {
        "" => format!("celeriac://{address}"),
        // Tokens are visible ASCII; `%` is the one character with a meaning of its own in that
        // place.
        token => format!("celeriac://{}@{address}", token.replace('%', "%25")),
    }
}

/// A token in the URL counts before the token file, the file before the variable.
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
                crate::complain(&clean(&sentence));
            }
            token
        }
        None => token_variable()?.unwrap_or_default(),
    };
    Ok(broker_url(&parsed.address(), &token))
}

/// Names this process in the broker's log.
fn instance() -> String {
    format!("celeriac-cli-{}", std::process::id())
}

/// The client's errors by what a script can do about them.
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

/// What the broker's refusal of one request means to a script.
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
