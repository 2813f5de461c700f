//! The address of a broker: `celeriac://[token@]host[:port]`, or `celeriacs://` for TLS. This
//! module parses and prints it; the connection resolves the host.

use std::fmt;
use std::str::FromStr;

use celeriac_proto::limits::DEFAULT_PORT;

const SCHEME: &str = "celeriac://";
const SCHEME_WITH_TLS: &str = "celeriacs://";

/// Why a text is not the address of a broker. No message repeats a part of the text that may be a
/// secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidUrl {
    /// The text has another scheme, or none.
    #[error(
        "the address must begin with `celeriac://`, or `celeriacs://` for TLS, \
         as in `celeriac://token@localhost:{DEFAULT_PORT}`"
    )]
    Scheme,
    /// There is no host between the token and the port.
    #[error("the address has no host")]
    NoHost,
    /// The port is not a number from 1 to 65535. The message does not repeat it: it may be a secret
    /// in the wrong place.
    #[error(
        "the host is not followed by a port from 1 to 65535; a token is written before an `@`, \
         as in `celeriac://token@localhost`"
    )]
    Port,
    /// An IPv6 address is not in brackets.
    #[error("an IPv6 address is written in brackets, as in `celeriac://[::1]:{DEFAULT_PORT}`")]
    Brackets,
    /// In the token a `%` is not followed by two hexadecimal digits, or the decoded token is not
    /// UTF-8.
    #[error(
        "the token has a `%` that is not followed by two hexadecimal digits of UTF-8 text; \
         write `%25` for `%`"
    )]
    Percent,
    /// Text follows the port. The message does not repeat it: it may be a secret in the wrong
    /// place.
    #[error(
        "no text may follow the port; a token is written before an `@`, \
         as in `celeriac://token@localhost`"
    )]
    Rest,
}

/// The address of a broker, and the token with which a client authenticates.
///
/// In the text a token's `%` is written as `%25`. The token may also stand in the place of a
/// password, as in `celeriac://:s3cret@broker.example`; a token that begins with a colon is written
/// with `%3A`. `Display` and `Debug` never show the token. An address that begins with
/// `celeriacs://` is that of a broker with TLS.
///
/// ```
/// let url: celeriac_client::BrokerUrl = "celeriac://s3cret@broker.example".parse()?;
/// assert_eq!(url.address(), "broker.example:23537");
/// assert_eq!(url.token(), "s3cret");
/// assert!(!url.has_tls());
/// # Ok::<(), celeriac_client::InvalidUrl>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct BrokerUrl {
    host: String,
    port: u16,
    token: String,
    has_tls: bool,
}

impl BrokerUrl {
    /// Host and port, as `host:port`. An IPv6 address is in brackets.
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// The host without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port. The default is the protocol's own, 23537.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The token with its percent signs decoded; empty when the text has none.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Whether the connection speaks TLS.
    pub fn has_tls(&self) -> bool {
        self.has_tls
    }

    /// The text of this address with another token; an empty one leaves it out.
    ///
    /// ```
    /// let url: celeriac_client::BrokerUrl = "celeriacs://broker.example".parse()?;
    /// assert_eq!(url.text_with_token("s3cret"), "celeriacs://s3cret@broker.example:23537");
    /// # Ok::<(), celeriac_client::InvalidUrl>(())
    /// ```
    pub fn text_with_token(&self, token: &str) -> String {
        let (scheme, address) = (self.scheme(), self.address());
        match token {
            "" => format!("{scheme}{address}"),
            // A token is visible ASCII. In this part of a URL only `%` has a meaning of its own,
            // and a colon at the beginning.
            token => {
                let token = token.replace('%', "%25");
                let colon = if token.starts_with(':') { ":" } else { "" };
                format!("{scheme}{colon}{token}@{address}")
            }
        }
    }

    fn scheme(&self) -> &'static str {
        if self.has_tls { SCHEME_WITH_TLS } else { SCHEME }
    }
}

impl FromStr for BrokerUrl {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        let text = text.trim();
        let with_tls = text.strip_prefix(SCHEME_WITH_TLS);
        let rest = with_tls.or_else(|| text.strip_prefix(SCHEME)).ok_or(InvalidUrl::Scheme)?;
        // The last `@` ends the token: a token may contain one, a host may not.
        let (token, rest) = rest.rsplit_once('@').unwrap_or(("", rest));
        // A token in the place of a password, as in `:token@host`.
        let token = token.strip_prefix(':').unwrap_or(token);
        let (host_and_port, tail) = match rest.find(['/', '?', '#']) {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        if !matches!(tail, "" | "/") {
            return Err(InvalidUrl::Rest);
        }
        let (host, port) = split_port(host_and_port)?;
        if host.is_empty() {
            return Err(InvalidUrl::NoHost);
        }
        let has_tls = with_tls.is_some();
        Ok(Self { host: host.to_owned(), port, token: percent_decode(token)?, has_tls })
    }
}

/// Splits `host[:port]`. The host of an IPv6 address is returned without its brackets.
fn split_port(text: &str) -> Result<(&str, u16), InvalidUrl> {
    let (host, after) = match text.strip_prefix('[') {
        Some(inner) => inner.split_once(']').ok_or(InvalidUrl::Brackets)?,
        None => match text.split_once(':') {
            Some((_, port)) if port.contains(':') => return Err(InvalidUrl::Brackets),
            Some((host, _)) => (host, &text[host.len()..]),
            None => (text, ""),
        },
    };
    if after.is_empty() {
        return Ok((host, DEFAULT_PORT));
    }
    let digits = after.strip_prefix(':').ok_or(InvalidUrl::Rest)?;
    match digits.parse::<u16>() {
        Ok(port) if port > 0 && !digits.starts_with('+') => Ok((host, port)),
        _ => Err(InvalidUrl::Port),
    }
}

fn percent_decode(text: &str) -> Result<String, InvalidUrl> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if first != b'%' {
            bytes.push(first);
            rest = tail;
            continue;
        }
        let [high, low, tail @ ..] = tail else { return Err(InvalidUrl::Percent) };
        let digit = |byte: u8| (byte as char).to_digit(16).ok_or(InvalidUrl::Percent);
        let value = digit(*high)? * 16 + digit(*low)?;
        bytes.push(u8::try_from(value).map_err(|_| InvalidUrl::Percent)?);
        rest = tail;
    }
    String::from_utf8(bytes).map_err(|_| InvalidUrl::Percent)
}

/// Never prints the token, which is a secret. Nor does it print a host that is a single word and
/// has no token before it: in `celeriac://s3cret` the user forgot the host.
impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let token = if self.token.is_empty() { "" } else { "***@" };
        let is_host = !self.token.is_empty()
            || self.host == "localhost"
            || self.host.contains(['.', ':'])
            || self.port != DEFAULT_PORT;
        match is_host {
            true => write!(f, "{}{token}{}", self.scheme(), self.address()),
            false => write!(f, "{}***:{}", self.scheme(), self.port),
        }
    }
}

impl fmt::Debug for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<(String, String), InvalidUrl> {
        text.parse::<BrokerUrl>().map(|url| (url.address(), url.token().to_owned()))
    }

    #[test]
    fn host_port_and_token_are_taken_apart() {
        let ok = |address: &str, token: &str| Ok((address.to_owned(), token.to_owned()));
        assert_eq!(parse("celeriac://localhost"), ok("localhost:23537", ""));
        assert_eq!(parse("celeriac://10.0.0.1:9/"), ok("10.0.0.1:9", ""));
        assert_eq!(parse("celeriac://s%40p%C3%A4t@host:1"), ok("host:1", "s@pät"));
        assert_eq!(parse("celeriac://:s3cret@host"), ok("host:23537", "s3cret"));
        assert_eq!(parse("celeriac://%3As3cret@host"), ok("host:23537", ":s3cret"));
        assert_eq!(parse("celeriac://a:b@host"), ok("host:23537", "a:b"));
        assert_eq!(parse("celeriac://a@b@host"), ok("host:23537", "a@b"));
        assert_eq!(parse("celeriac://a/b@host"), ok("host:23537", "a/b"));
        assert_eq!(parse("celeriac://t@[::1]:7"), ok("[::1]:7", "t"));
        assert_eq!(parse("celeriac://[fe80::1%25eth0]"), ok("[fe80::1%25eth0]:23537", ""));
    }

    #[test]
    fn o17_an_address_says_whether_the_broker_speaks_tls() {
        let url = |text: &str| text.parse::<BrokerUrl>().expect("a good address");
        assert!(url("celeriacs://host").has_tls() && !url("celeriac://host").has_tls());
        assert_eq!(url("celeriacs://t@host:7").address(), "host:7");
        assert_eq!(url("celeriacs://t@host:7").to_string(), "celeriacs://***@host:7");
        assert_eq!(url("celeriacs://s3cret").to_string(), "celeriacs://***:23537");
        assert_eq!(parse("celeriacss://host"), Err(InvalidUrl::Scheme));
        assert_eq!(parse("celeriacs:/host"), Err(InvalidUrl::Scheme));
    }

    #[test]
    fn a_token_survives_its_way_through_the_text_of_an_address() {
        for token in ["", "s3cret", "a@b/c:d", ":a", "::a", "100%", "%41"] {
            for scheme in ["celeriac://h:1", "celeriacs://h:1"] {
                let url: BrokerUrl = scheme.parse().expect("a good address");
                let again: BrokerUrl = url.text_with_token(token).parse().expect(token);
                assert_eq!((again.token(), again.has_tls()), (token, url.has_tls()));
            }
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_its_reason() {
        assert_eq!(parse("localhost:1"), Err(InvalidUrl::Scheme));
        assert_eq!(parse("redis://localhost"), Err(InvalidUrl::Scheme));
        assert_eq!(parse("celeriac://"), Err(InvalidUrl::NoHost));
        assert_eq!(parse("celeriac://token@:1"), Err(InvalidUrl::NoHost));
        assert_eq!(parse("celeriac://host:0"), Err(InvalidUrl::Port));
        assert_eq!(parse("celeriac://host:70000"), Err(InvalidUrl::Port));
        assert_eq!(parse("celeriac://host:"), Err(InvalidUrl::Port));
        assert_eq!(parse("celeriac://::1:7"), Err(InvalidUrl::Brackets));
        assert_eq!(parse("celeriac://[::1"), Err(InvalidUrl::Brackets));
        assert_eq!(parse("celeriac://[::1]7"), Err(InvalidUrl::Rest));
        assert_eq!(parse("celeriac://to%ken@host"), Err(InvalidUrl::Percent));
        assert_eq!(parse("celeriac://to%ff@host"), Err(InvalidUrl::Percent));
        assert_eq!(parse("celeriac://host:1/0"), Err(InvalidUrl::Rest));
    }

    #[test]
    fn a_printed_address_does_not_tell_the_token() {
        let url: BrokerUrl = "celeriac://s3cret@host".parse().expect("a good address");
        assert_eq!(format!("{url} {url:?}"), "celeriac://***@host:23537 celeriac://***@host:23537");
    }

    #[test]
    fn a_word_that_may_be_a_token_in_the_place_of_the_host_is_not_printed() {
        let printed = |text: &str| text.parse::<BrokerUrl>().expect("a good address").to_string();
        assert_eq!(printed("celeriac://s3cret"), "celeriac://***:23537");
        assert_eq!(printed("celeriac://broker.example"), "celeriac://broker.example:23537");
        assert_eq!(printed("celeriac://broker:1"), "celeriac://broker:1");
        assert_eq!(printed("celeriac://localhost"), "celeriac://localhost:23537");
        assert_eq!(printed("celeriac://[::1]"), "celeriac://[::1]:23537");
    }

    #[test]
    fn no_error_repeats_what_may_be_a_secret() {
        for text in [
            "s3cret",
            "s3cret@host",
            "host:s3cret",
            "redis://s3cret@host",
            "celeriac:s3cret@host",
            "celeriac:///s3cret",
            "celeriac://host:s3cret",
            "celeriac://s3cret:host",
            "celeriac://host:1:s3cret",
            "celeriac://host/s3cret",
            "celeriac://s3cret/@",
            "celeriac://host?token=s3cret",
            "celeriac://host#s3cret",
            "celeriac://[::1]s3cret",
            "celeriac://[s3cret",
            "celeriac://s3cret%@host",
            "celeriac://s3cret%ff@host",
            "celeriac://s3cret@",
            "celeriac://s3cret@:1",
            "celeriac://host:1/s3cret",
        ] {
            let error = text.parse::<BrokerUrl>().expect_err(text);
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{text}: {error} {error:?}");
        }
    }
}
