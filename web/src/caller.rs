//! Who calls. A caller has no rights here: the broker decides by the token and the certificate that
//! the caller has shown.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::problem::Problem;

/// The longest token that is passed on. The broker's tokens have at most 1 KiB.
const TOKEN_BYTES_MAX: usize = 4096;

/// Who calls, as far as the request and its connection say.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Caller {
    /// The token, empty for none.
    pub token: String,
    /// The address from which the request comes.
    pub address: IpAddr,
    /// The certificate of the connection.
    pub certificate: Option<Arc<Certificate>>,
}

/// A certificate that a client has shown in its handshake, and that a CA for clients has signed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Certificate {
    /// The names in the certificate.
    pub names: String,
    /// Those names and the fingerprint, as an access file writes them.
    pub identities: Vec<String>,
}

/// The other side of a connection.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub address: IpAddr,
    pub certificate: Option<Arc<Certificate>>,
    /// Whether the connection has TLS.
    pub encrypted: bool,
}

impl Caller {
    /// The caller with this token, on the connection of this peer.
    pub(crate) fn new(token: String, peer: Peer) -> Self {
        Self { token, address: peer.address, certificate: peer.certificate }
    }

    /// The caller without its address.
    pub(crate) fn without_address(&self) -> Self {
        Self { address: IpAddr::V4(Ipv4Addr::UNSPECIFIED), ..self.clone() }
    }

    /// Whether the caller has shown neither a token nor a certificate.
    pub(crate) fn is_nobody(&self) -> bool {
        self.token.is_empty() && self.certificate.is_none()
    }
}

/// The token stays out of logs.
impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller").field("address", &self.address).finish_non_exhaustive()
    }
}

/// The caller, taken from a request.
pub(crate) struct CalledBy(pub Caller);

impl<S: Sync> FromRequestParts<S> for CalledBy {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let peer = parts.extensions.get::<Peer>().cloned().expect("each connection has a peer");
        let token = match parts.headers.get(AUTHORIZATION) {
            None => String::new(),
            Some(value) => value
                .to_str()
                .ok()
                .and_then(token_of)
                .filter(|token| token.len() <= TOKEN_BYTES_MAX)
                .ok_or_else(|| {
                    Problem::unauthenticated(
                        "the header Authorization is neither `Bearer TOKEN` nor basic with the \
                         token as its password",
                    )
                })?,
        };
        Ok(Self(Caller::new(token, peer)))
    }
}

/// The token in the header. With basic authentication, as a browser or `curl -u :TOKEN` sends it,
/// the token is the password, and the user's name means nothing.
fn token_of(header: &str) -> Option<String> {
    let (scheme, credentials) = header.split_once(' ')?;
    let credentials = credentials.trim();
    let token = if scheme.eq_ignore_ascii_case("bearer") {
        credentials.to_owned()
    } else if scheme.eq_ignore_ascii_case("basic") {
        let decoded = String::from_utf8(STANDARD.decode(credentials).ok()?).ok()?;
        decoded.split_once(':')?.1.to_owned()
    } else {
        return None;
    };
    (!token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic())).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_as_bearer_or_as_a_password() {
        assert_eq!(token_of("Bearer clr_a_b").as_deref(), Some("clr_a_b"));
        assert_eq!(token_of("bearer  clr_a_b").as_deref(), Some("clr_a_b"));
        assert_eq!(token_of("Basic OnM6M2NyZXQ=").as_deref(), Some("s:3cret"));
        assert_eq!(token_of("Basic dXNlcjpzM2NyZXQ=").as_deref(), Some("s3cret"));
        for wrong in ["", "Bearer", "Bearer ", "Basic !", "Basic OjE=x", "Digest a", "Bearer a b"] {
            assert_eq!(token_of(wrong), None, "{wrong}");
        }
    }
}
