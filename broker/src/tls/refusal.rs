//! Why a handshake of TLS failed, in words for the log.

use std::io;

use celeriac_proto::limits::ALPN;
use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};

/// Why the broker or the client ended the handshake. `None` when the connection just broke: ports
/// are scanned, and health checks connect and go.
pub(super) fn reason(error: &io::Error) -> Option<String> {
    let error = error.get_ref()?.downcast_ref::<Error>()?;
    Some(match error {
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "it does not speak TLS".to_owned()
        }
        Error::NoApplicationProtocol => format!("it speaks another protocol than {ALPN} (ALPN)"),
        Error::PeerIncompatible(
            PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::Tls13RequiredForQuic,
        ) => "it does not speak TLS 1.3".to_owned(),
        Error::NoCertificatesPresented => "it shows no certificate".to_owned(),
        Error::InvalidCertificate(why) => format!("its certificate is not accepted: {}", word(why)),
        Error::AlertReceived(
            alert @ (AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnsupportedCertificate),
        ) => {
            let alert = format!("{alert:?}");
            format!("it does not accept the certificate of this broker ({alert})")
        }
        other => other.to_string(),
    })
}

/// What is wrong with a client's certificate.
fn word(error: &CertificateError) -> String {
    match error {
        CertificateError::UnknownIssuer => "no client CA of this broker has signed it".to_owned(),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "it has expired".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet".to_owned()
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "it is not for a client (by its extended key usage)".to_owned()
        }
        other => other.to_string(),
    }
}
