//! The sentence for a host whose name cannot be resolved. It names the host, unless that may be a
//! token: people write `celeriac://TOKEN` and forget the host, and no error may show a secret.

use std::io;
use std::net::IpAddr;

/// A word of a host name that has a digit is at most this long, and one without is at most
/// [`WORD_MAX`] long. Words of tokens are longer.
const WORD_WITH_DIGIT_MAX: usize = 7;
const WORD_MAX: usize = 20;

/// The sentence. `has_token` says that a token was given in its own place: then the host is none.
pub(crate) fn sentence(host: &str, has_token: bool, error: &io::Error) -> String {
    let reason = match error.kind() {
        io::ErrorKind::TimedOut => "no answer came in time".to_owned(),
        _ => {
            let text = error.to_string();
            // The standard library puts words of the C library's function in front.
            text.rsplit(": ").next().unwrap_or_default().to_owned()
        }
    };
    match has_token || is_a_name(host) {
        true => format!("the host name {host} cannot be resolved: {reason}; check the address"),
        false => format!(
            "the host name of the address cannot be resolved: {reason} (the name is not shown \
             here, because it may be a token, which is written before an `@`)"
        ),
    }
}

/// The address of a broker that was not reached yet, without a host that may be a token.
pub(crate) fn masked(address: &str, has_token: bool) -> String {
    match address.rsplit_once(':') {
        Some((host, port)) if !has_token && !is_a_name(host) => format!("***:{port}"),
        _ => address.to_owned(),
    }
}

/// Whether a text looks like the name or the address of a host, and not like a token.
fn is_a_name(text: &str) -> bool {
    if text.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
        return true;
    }
    let is_a_word = |word: &str| {
        let has_digit = word.bytes().any(|byte| byte.is_ascii_digit());
        let length_max = if has_digit { WORD_WITH_DIGIT_MAX } else { WORD_MAX };
        word.len() <= length_max && word.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    text.split(['.', '-', '_']).all(is_a_word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_named_unless_it_may_be_a_token() {
        for host in [
            "broker",
            "broker.example.com",
            "db-7.eu-west-1.example",
            "my_host",
            "10.0.0.7",
            "[::1]",
        ] {
            assert!(is_a_name(host), "{host}");
            let address = format!("{host}:7");
            assert_eq!(masked(&address, false), address);
        }
        for token in [
            "98765432109",
            "s3cr3t-98765432109",
            "98765432109.example",
            "9f86d081884c7d659a2feaa0c55ad015",
            "correcthorsebatterystaple",
            "p@ssword",
            "p%73",
            "pass word",
        ] {
            assert!(!is_a_name(token), "{token}");
            assert_eq!(masked(&format!("{token}:7"), false), "***:7");
            assert_eq!(masked(&format!("{token}:7"), true), format!("{token}:7"));
            let error = io::Error::other("failed to lookup address information: no such name");
            assert!(!sentence(token, false, &error).contains(token));
            assert!(sentence(token, true, &error).contains(token));
        }
        let error = io::Error::other("failed to lookup address information: no such name");
        assert_eq!(
            sentence("broker", false, &error),
            "the host name broker cannot be resolved: no such name; check the address"
        );
    }
}
