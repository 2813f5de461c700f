//! In place of `tls.rs` in a program that was built without the feature `tls`: an address that asks
//! for TLS is refused.

use std::convert::Infallible;
use std::io;

use super::handshake::Failure;
use super::options::ConnectionOptions;
use super::stream::{Reader, Writer};
use crate::error::TlsReason;

/// There is none.
pub(super) struct Tls(Infallible);

impl Tls {
    pub(super) async fn prepare(options: &ConnectionOptions) -> Result<Option<Self>, Failure> {
        match options.tls {
            None => Ok(None),
            Some(_) => Err(Failure::Tls {
                reason: TlsReason::Files,
                message: "the address begins with celeriacs://, and this program was built \
                          without the feature `tls` of celeriac-client"
                    .to_owned(),
            }),
        }
    }

    pub(super) async fn secure<S>(&self, _stream: S) -> Result<(Reader, Writer), Failure> {
        match self.0 {}
    }

    pub(super) fn reason(&self, _error: &io::Error) -> Option<(TlsReason, String)> {
        match self.0 {}
    }
}
