//! Where this server is, as the browser of a visitor sees it. Every link, form, redirect, asset,
//! cookie and stream is below this place.

use axum::http::HeaderMap;

use crate::caller::Peer;
use crate::config::{WebConfig, is_prefix};

/// The longest prefix of a proxy that counts.
const PREFIX_BYTES_MAX: usize = 255;

/// Where this server is for the browser.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Site {
    base: String,
    encrypted: bool,
}

impl Site {
    /// The place that the settings name, or that a trusted proxy names for this request.
    pub(crate) fn of(config: &WebConfig, peer: &Peer, headers: &HeaderMap) -> Self {
        let is_trusted = config.trusted_proxies.contains(&peer.address);
        let said = |name| headers.get(name).filter(|_| is_trusted)?.to_str().ok();
        let prefix = said("x-forwarded-prefix").map(|prefix| prefix.trim_end_matches('/'));
        let prefix = prefix.filter(|prefix| {
            prefix.is_empty() || (prefix.len() <= PREFIX_BYTES_MAX && is_prefix(prefix))
        });
        let protocol = said("x-forwarded-proto");
        Self {
            base: prefix.unwrap_or(&config.path_prefix).to_owned(),
            encrypted: protocol.map_or(peer.encrypted, |it| it.eq_ignore_ascii_case("https")),
        }
    }

    /// The prefix before each path; empty for none.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// Whether the browser speaks TLS.
    pub(crate) fn is_encrypted(&self) -> bool {
        self.encrypted
    }

    /// This path, as the browser has to ask for it.
    pub(crate) fn to(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// This path with names and values behind it, percent-encoded.
    pub(crate) fn link(&self, path: &str, pairs: &[(&str, &str)]) -> String {
        self.to(&with_pairs(path, pairs.iter().copied()))
    }
}

/// A path with names and values behind it, percent-encoded.
pub(crate) fn with_pairs<'a>(
    path: &str,
    pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(pairs);
    match query.finish() {
        query if query.is_empty() => path.to_owned(),
        query if path.contains('?') => format!("{path}&{query}"),
        query => format!("{path}?{query}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(from: &str, headers: &[(&'static str, &str)]) -> Site {
        let config = WebConfig {
            path_prefix: "/a".into(),
            trusted_proxies: vec!["10.0.0.1".parse().expect("an address")],
            ..WebConfig::default()
        };
        let address = from.parse().expect("an address");
        let peer = Peer { address, certificate: None, encrypted: false };
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().expect("a value"));
        }
        Site::of(&config, &peer, &map)
    }

    #[test]
    fn o48_a_trusted_proxy_names_the_prefix_and_nobody_else_does() {
        let named = [("x-forwarded-prefix", "/x/y/"), ("x-forwarded-proto", "https")];
        let of_proxy = site("10.0.0.1", &named);
        assert_eq!((of_proxy.to("/queues"), of_proxy.is_encrypted()), ("/x/y/queues".into(), true));
        let of_stranger = site("10.0.0.2", &named);
        assert_eq!((of_stranger.to("/"), of_stranger.is_encrypted()), ("/a/".into(), false));
        for hostile in ["//evil.example", "/a\"><b>", "javascript:alert(1)", "https://evil.example"]
        {
            assert_eq!(site("10.0.0.1", &[("x-forwarded-prefix", hostile)]).base(), "/a");
        }
        assert_eq!(site("10.0.0.1", &[("x-forwarded-prefix", "/")]).to("/"), "/");
    }

    #[test]
    fn o48_texts_in_links_are_percent_encoded() {
        let link = site("::1", &[]).link("/task", &[("id", "a/b?c&d=\"<>#ü"), ("x", "1")]);
        assert_eq!(link, "/a/task?id=a%2Fb%3Fc%26d%3D%22%3C%3E%23%C3%BC&x=1");
    }
}
