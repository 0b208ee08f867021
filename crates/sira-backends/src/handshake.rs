//! What it means that no encrypted connection came about.

use sira_store::{Retry, StorageError};

/// What is said of a server that has no TLS: by rustls, and by the clients of PostgreSQL and MySQL.
const WITHOUT_TLS: [&str; 3] =
    ["InvalidContentType", "server does not support TLS", "asked for SSL but server"];

/// The error of a connection to `engine` of which rustls said this, where settings or certificates
/// are why, and so no retry helps. It is no [`StorageError::InvalidInput`]: a certificate may run out
/// while callers do nothing wrong.
pub(crate) fn refusal(engine: &str, said: &str) -> Option<StorageError> {
    let message = if said.contains("invalid peer certificate") {
        format!(
            "the certificate of {engine} is not trusted: {said}; name the file of its authority as \
             ca_file, and the server by a name that the certificate is for"
        )
    } else if WITHOUT_TLS.iter().any(|sign| said.contains(sign)) {
        format!(
            "{engine} has no TLS at this address: {said}; name the address where it has, or turn \
             TLS off"
        )
    } else if said.contains("CertificateRequired") {
        format!(
            "{engine} asks for a certificate of the client: {said}; name its files as cert_file and \
             key_file"
        )
    } else if said.contains("tls handshake eof") {
        return Some(StorageError::unavailable(format!(
            "{engine} ended the connection before it was encrypted: {said}; see that it has TLS at \
             this address"
        )));
    } else {
        return None;
    };
    Some(StorageError::unavailable(message).with_retry(Retry::Permanent))
}

/// An error and what it came from, in one line.
#[cfg(any(feature = "etcd", feature = "object-store", feature = "opensearch"))]
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let inner = error.to_string();
        // Some tell what they came from themselves.
        if !text.ends_with(&inner) {
            text = format!("{text}: {inner}");
        }
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::refusal;

    #[test]
    fn says_what_to_do() {
        let said = |text: &str| refusal("Redis", text).map(|error| error.to_string());
        let untrusted = said("invalid peer certificate: UnknownIssuer").unwrap_or_default();
        assert!(untrusted.contains("UnknownIssuer") && untrusted.contains("ca_file"));
        let plain = said("received corrupt message of type InvalidContentType");
        assert!(plain.is_some_and(|text| text.contains("no TLS")));
        let ended = said("tls handshake eof");
        assert!(ended.is_some_and(|text| text.contains("TLS at this address")));
        let asked = said("received fatal alert: CertificateRequired");
        assert!(asked.is_some_and(|text| text.contains("cert_file")));
        assert_eq!(said("connection refused"), None);
    }
}
