//! The names and times in certificates, as text for logs and sentences.

use celeriac_record::Timestamp;
use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

/// The most names of one certificate that are shown.
const NAMES_MAX: usize = 10;

/// The most names of one certificate that are looked up.
const IDENTITIES_MAX: usize = 100;

/// The names in a client's certificate that was verified: those of its subject alternative names,
/// or its subject.
pub(super) fn of_client(certificate: &CertificateDer<'_>) -> String {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return String::new() };
    match all(&parsed) {
        names if names.is_empty() => parsed.subject().to_string(),
        names => names.join(", "),
    }
}

/// The names in a client's certificate as an access file writes them, the fingerprint first.
pub(super) fn identities(certificate: &CertificateDer<'_>) -> Vec<String> {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate);
    let digits: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let mut identities = vec![format!("sha256:{digits}")];
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return identities };
    let Ok(Some(extension)) = parsed.subject_alternative_name() else { return identities };
    for general in extension.value.general_names.iter().take(IDENTITIES_MAX) {
        identities.extend(match general {
            GeneralName::DNSName(host) => Some(format!("dns:{}", host.to_ascii_lowercase())),
            GeneralName::URI(uri) => Some(format!("uri:{uri}")),
            GeneralName::RFC822Name(address) => Some(format!("email:{address}")),
            GeneralName::IPAddress(_) => name(general).map(|address| format!("ip:{address}")),
            _ => None,
        });
    }
    identities
}

/// The subject alternative names: hosts, addresses and URIs.
pub(super) fn all(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    let names = extension.value.general_names.iter();
    names.filter_map(name).take(NAMES_MAX).collect()
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) | GeneralName::URI(name) | GeneralName::RFC822Name(name) => {
            Some((*name).to_owned())
        }
        GeneralName::IPAddress(bytes) => match <[u8; 4]>::try_from(*bytes) {
            Ok(four) => Some(std::net::Ipv4Addr::from(four).to_string()),
            Err(_) => {
                let sixteen = <[u8; 16]>::try_from(*bytes).ok()?;
                Some(std::net::Ipv6Addr::from(sixteen).to_string())
            }
        },
        _ => None,
    }
}

/// A moment as RFC 3339 in UTC, to the second.
pub(super) fn moment(at: Timestamp) -> String {
    let Ok(at) = x509_parser::time::ASN1Time::from_timestamp(at.div_euclid(1_000)) else {
        return "a time beyond all calendars".to_owned();
    };
    let at = at.to_datetime();
    let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
    let (hour, minute, second) = (at.hour(), at.minute(), at.second());
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}
