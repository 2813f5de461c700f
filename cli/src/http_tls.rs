//! TLS of the HTTP side, with the certificate of the broker.

use std::pin::Pin;
use std::sync::Arc;

use celeriac_broker::Certificates;
use celeriac_web::caller::Certificate;
use celeriac_web::{Secure, Secured};
use tokio::net::TcpStream;

/// The handshake with these certificates, if there are any.
pub(crate) fn secure(certificates: Option<Certificates>) -> Option<Arc<dyn Secure>> {
    certificates.map(|certificates| Arc::new(Tls(certificates)) as Arc<dyn Secure>)
}

struct Tls(Certificates);

impl Secure for Tls {
    fn secure(
        &self,
        stream: TcpStream,
    ) -> Pin<Box<dyn Future<Output = Option<Secured>> + Send + '_>> {
        Box::pin(async {
            let (stream, shown) = self.0.shake_hands_for_http(stream).await?;
            let certificate =
                shown.map(|shown| Certificate { names: shown.names, identities: shown.identities });
            Some(Secured { stream: Box::new(stream), certificate })
        })
    }
}
