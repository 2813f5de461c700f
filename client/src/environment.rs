//! Reads the broker's address and token from the environment: the same variables in the same order
//! as the `celeriac` command line.

use std::env::VarError;
use std::io;
use std::path::{Path, PathBuf};

use crate::builder::ClientBuilder;
use crate::client::Client;
use crate::token_file;
use crate::url::{BrokerUrl, InvalidUrl};

const URL: &str = "CELERIAC_URL";
const TOKEN_FILE: &str = "CELERIAC_TOKEN_FILE";
const TOKEN: &str = "CELERIAC_TOKEN";

/// The address of the broker when the environment names none.
const DEFAULT_URL: &str = "celeriac://127.0.0.1:23537";

/// Why the environment does not give the address and token of a broker.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnvironmentError {
    /// `CELERIAC_URL` is not the address of a broker.
    #[error("{URL} cannot be used: {0}")]
    Url(#[from] InvalidUrl),
    /// The variable of this name is not UTF-8 text.
    #[error("the variable {0} is not UTF-8 text")]
    NotText(&'static str),
    /// The file that `CELERIAC_TOKEN_FILE` names cannot be read.
    #[error(
        "the token file that {TOKEN_FILE} names{shown} cannot be read: {error}",
        shown = shown(path)
    )]
    TokenFile {
        /// The path, as the variable has it.
        path: PathBuf,
        /// The error of the operating system.
        error: io::Error,
    },
    /// The token in the variable or file of this name is one that no broker accepts. The error does
    /// not show the token, which may be a secret.
    #[error("{0} is not {line}", line = token_file::ONE_LINE)]
    Token(&'static str),
}

impl Client {
    /// Begins a client of the broker that the environment names; [`ClientBuilder::connect`]
    /// connects it. The command line reads the same variables:
    ///
    /// - `CELERIAC_URL` is the address, `celeriac://[token@]host[:port]`. The default is
    ///   `celeriac://127.0.0.1:23537`.
    /// - Without a token in the URL, `CELERIAC_TOKEN_FILE` names a file whose one line is the
    ///   token. The client reads the file again before each reconnect.
    /// - Without both, `CELERIAC_TOKEN` is the token.
    /// - For an address that begins with `celeriacs://`, `CELERIAC_CA_FILE`,
    ///   `CELERIAC_CERTIFICATE_FILE` and `CELERIAC_KEY_FILE` name the files of TLS. Every client
    ///   reads these, whether it was begun by this function or not.
    ///
    /// A variable that is empty counts as not set.
    ///
    /// ```no_run
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = celeriac_client::Client::from_env()?.connect().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`EnvironmentError`] when a variable cannot be used. The error names the variable and never
    /// shows a token.
    pub fn from_env() -> Result<ClientBuilder, EnvironmentError> {
        let BrokerFromEnv { url, token_file } = broker_from_env()?;
        let client = Self::builder(url);
        Ok(match token_file {
            Some(file) => client.token_file(file),
            None => client,
        })
    }
}

/// The broker that the environment names.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BrokerFromEnv {
    /// The URL, with its token if there is one.
    pub url: String,
    /// The file that the token came from, for [`ClientBuilder::token_file`].
    pub token_file: Option<PathBuf>,
}

/// The broker that the environment names, as [`Client::from_env`] finds it.
///
/// # Errors
/// As [`Client::from_env`].
pub fn broker_from_env() -> Result<BrokerFromEnv, EnvironmentError> {
    broker(std::env::var::<&str>)
}

/// The URL of [`broker_from_env`], for a program that needs nothing else.
///
/// # Errors
/// As [`Client::from_env`].
pub fn url_from_env() -> Result<String, EnvironmentError> {
    broker_from_env().map(|broker| broker.url)
}

fn broker(
    variable: impl Fn(&'static str) -> Result<String, VarError>,
) -> Result<BrokerFromEnv, EnvironmentError> {
    let variable = |name| match variable(name) {
        // An empty variable counts as not set: `NAME=` in a file of variables clears it.
        Ok(value) => Ok(Some(value).filter(|value| !value.is_empty())),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(_)) => Err(EnvironmentError::NotText(name)),
    };
    let url = variable(URL)?.unwrap_or_else(|| DEFAULT_URL.to_owned());
    let parsed: BrokerUrl = url.parse()?;
    if !parsed.token().is_empty() {
        return Ok(BrokerFromEnv { url, token_file: None });
    }
    let token_file = variable(TOKEN_FILE)?.map(PathBuf::from);
    let token = match &token_file {
        Some(path) => token_in(path)?,
        None => visible(TOKEN, variable(TOKEN)?.unwrap_or_default())?,
    };
    let url = if token.is_empty() { url } else { parsed.text_with_token(&token) };
    Ok(BrokerFromEnv { url, token_file })
}

fn token_in(path: &Path) -> Result<String, EnvironmentError> {
    token_file::read(path).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => EnvironmentError::Token(TOKEN_FILE),
        _ => EnvironmentError::TokenFile { path: path.to_owned(), error },
    })
}

/// The path between commas, where it may be shown.
fn shown(path: &Path) -> String {
    match token_file::shown(path) {
        path if path.is_empty() => path,
        path => format!(",{path},"),
    }
}

/// The token, when all of its characters are visible ASCII.
fn visible(variable: &'static str, token: String) -> Result<String, EnvironmentError> {
    match token_file::is_visible(&token) {
        true => Ok(token),
        false => Err(EnvironmentError::Token(variable)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url_of(variables: &[(&str, &str)]) -> Result<String, String> {
        let find = |name: &'static str| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).to_owned()).ok_or(VarError::NotPresent)
        };
        broker(find).map(|broker| broker.url).map_err(|error| error.to_string())
    }

    #[test]
    fn the_broker_is_the_one_that_the_environment_names() {
        assert_eq!(url_of(&[]).as_deref(), Ok(DEFAULT_URL));
        assert_eq!(url_of(&[(URL, "celeriac://broker")]).as_deref(), Ok("celeriac://broker"));
        let refusal = url_of(&[(URL, "http://broker")]).expect_err("another scheme");
        assert!(refusal.contains(URL) && refusal.contains("celeriac://"), "{refusal}");
    }

    #[test]
    fn a_token_in_the_url_counts_first_then_the_file_then_the_variable() {
        let file = std::env::temp_dir().join(format!("celeriac-token-{}", std::process::id()));
        std::fs::write(&file, "of%file\n").expect("the temporary folder is writable");
        let file_name = file.to_str().expect("a plain name");
        let token = |variables: &[(&str, &str)]| {
            let url: BrokerUrl = url_of(variables).expect("a URL").parse().expect("a broker");
            url.token().to_owned()
        };
        assert_eq!(
            token(&[(URL, "celeriac://own@h"), (TOKEN_FILE, file_name), (TOKEN, "variable")]),
            "own"
        );
        assert_eq!(
            token(&[(URL, "celeriac://h"), (TOKEN_FILE, file_name), (TOKEN, "variable")]),
            "of%file"
        );
        assert_eq!(token(&[(TOKEN, "a@b/c")]), "a@b/c");
        std::fs::remove_file(&file).expect("it was written");
        let refusal = url_of(&[(TOKEN_FILE, file_name)]).expect_err("there is no such file");
        assert!(refusal.contains(file_name), "{refusal}");
        let refusal = url_of(&[(TOKEN_FILE, "s3cret")]).expect_err("that is no file");
        assert!(!refusal.contains("s3cret"), "{refusal}");
        let refusal = url_of(&[(TOKEN, "two words")]).expect_err("it has a space");
        assert!(refusal.contains(TOKEN) && !refusal.contains("two"), "{refusal}");
    }

    #[test]
    fn an_empty_variable_counts_as_not_set() {
        assert_eq!(url_of(&[(URL, ""), (TOKEN_FILE, ""), (TOKEN, "")]).as_deref(), Ok(DEFAULT_URL));
        let url = url_of(&[(URL, "celeriac://h"), (TOKEN_FILE, ""), (TOKEN, "t")]);
        assert_eq!(url.as_deref(), Ok("celeriac://t@h:23537"));
    }

    #[test]
    fn o17_a_token_does_not_take_the_tls_away() {
        let url = url_of(&[(URL, "celeriacs://h"), (TOKEN, "t")]);
        assert_eq!(url.as_deref(), Ok("celeriacs://t@h:23537"));
    }

    #[test]
    fn a_variable_that_is_not_text_is_named() {
        use std::os::unix::ffi::OsStringExt;
        for wrong in [URL, TOKEN_FILE, TOKEN] {
            let find = |name: &'static str| match name == wrong {
                true => Err(VarError::NotUnicode(std::ffi::OsString::from_vec(b"\xff".to_vec()))),
                false => Err(VarError::NotPresent),
            };
            let refusal = broker(find).expect_err("it is not text").to_string();
            assert_eq!(refusal, format!("the variable {wrong} is not UTF-8 text"));
        }
    }
}
