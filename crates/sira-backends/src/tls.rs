//! TLS towards engines: rustls with the provider aws-lc-rs.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use sira_store::{Result, StorageError};

/// A configuration that verifies servers against the authorities of `ca_file` (PEM), or else the
/// public ones.
///
/// # Errors
/// [`StorageError::InvalidInput`] for a file that holds no certificates.
pub(crate) fn client_config(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| StorageError::invalid_input("TLS cannot be set up").with_source(error))?
        .with_root_certificates(roots(ca_file)?)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

fn roots(ca_file: Option<&Path>) -> Result<RootCertStore> {
    let Some(path) = ca_file else {
        return Ok(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() });
    };
    let refused = |why: &str| {
        StorageError::invalid_input(format!(
            "the file of certificate authorities {} {why}",
            path.display()
        ))
    };
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(path)
        .map_err(|error| refused("cannot be read").with_source(error))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| refused("is no PEM").with_source(error))?;
        roots
            .add(certificate)
            .map_err(|error| refused("holds a malformed certificate").with_source(error))?;
    }
    if roots.is_empty() {
        return Err(refused("holds no certificate"));
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::client_config;

    #[test]
    fn public_authorities_are_there_and_bad_files_are_refused() {
        client_config(None).expect("public authorities");
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ca.pem");
        let code = || client_config(Some(&path)).expect_err("no certificate").code();
        assert_eq!(code(), "invalid_input");
        std::fs::write(&path, "no certificate").expect("write");
        assert_eq!(code(), "invalid_input");
        let malformed = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        std::fs::write(&path, malformed).expect("write");
        assert_eq!(code(), "invalid_input");
    }
}
