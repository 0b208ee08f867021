//! TLS before a real server that has none.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::support::env;

/// A file of the services' certificates: `ca.pem`, `server.key` and so on.
pub fn file(name: &str) -> PathBuf {
    PathBuf::from(env("SIRA_TEST_TLS_FOLDER")).join(name)
}

fn certificates(name: &str) -> Vec<CertificateDer<'static>> {
    let read = CertificateDer::pem_file_iter(file(name)).unwrap();
    read.collect::<Result<_, _>>().unwrap()
}

/// What clients of a front are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asks {
    /// Nothing.
    Nothing,
    /// A certificate of the services' authority.
    Certificate,
}

/// Ends TLS, with the services' certificate, and passes on to a server what was in it.
#[derive(Debug)]
pub struct Front {
    address: SocketAddr,
    listening: JoinHandle<()>,
}

impl Front {
    /// A front at this address, for clients that may choose one of these protocols, before `server`,
    /// which is `host:port`.
    pub async fn new(host: &str, server: String, protocols: &[&str], asks: Asks) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let config = match asks {
            Asks::Nothing => config.with_no_client_auth(),
            Asks::Certificate => {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(certificates("ca.pem"));
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                config.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let key = PrivateKeyDer::from_pem_file(file("server.key")).unwrap();
        let mut config = config.with_single_cert(certificates("server.pem"), key).unwrap();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind((host, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let listening = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (acceptor, server) = (acceptor.clone(), server.clone());
                tokio::spawn(async move {
                    // A client that does not trust the certificate goes away here.
                    let Ok(mut client) = acceptor.accept(client).await else { return };
                    if let Ok(mut server) = TcpStream::connect(server).await {
                        let _ = copy_bidirectional(&mut client, &mut server).await;
                    }
                });
            }
        });
        Self { address, listening }
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.listening.abort();
    }
}
