//! How to reach the cluster.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use etcd_client::{Certificate, ConnectOptions, Identity, TlsOptions};
use sira_store::{Result, StorageError};

/// Options of [`super::EtcdDriver`].
#[derive(Clone)]
pub struct EtcdOptions {
    /// Members of the cluster, such as `http://host:2379`, or `https://` with TLS. Requests go to
    /// those that answer.
    pub endpoints: Vec<String>,
    /// What every key in etcd begins with; stores of different prefixes share a cluster. The default
    /// is `sira/`.
    pub prefix: String,
    /// User name, where the cluster has users.
    pub username: Option<String>,
    /// Password of the user.
    pub password: Option<String>,
    /// Longest time to connect. The default is 5 seconds.
    pub connect_timeout: Duration,
    /// Longest time of one request. The default is 10 seconds.
    pub operation_timeout: Duration,
    /// File of PEM certificates that the members' are checked against, in place of those that
    /// browsers trust.
    pub ca_file: Option<PathBuf>,
    /// File of the client's PEM certificate, where members ask for one.
    pub cert_file: Option<PathBuf>,
    /// File of the PEM key of [`EtcdOptions::cert_file`].
    pub key_file: Option<PathBuf>,
}

impl EtcdOptions {
    /// Options of a cluster; see [`EtcdOptions::endpoints`] and [`EtcdOptions::prefix`].
    #[must_use]
    pub fn new(
        endpoints: impl IntoIterator<Item = impl Into<String>>,
        prefix: impl Into<String>,
    ) -> Self {
        Self {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            prefix: prefix.into(),
            username: None,
            password: None,
            connect_timeout: Duration::from_secs(5),
            operation_timeout: Duration::from_secs(10),
            ca_file: None,
            cert_file: None,
            key_file: None,
        }
    }

    /// Checks what can be checked without a server.
    pub(super) fn check(&self) -> Result<()> {
        let refused = if self.endpoints.is_empty() {
            "no endpoint of an etcd member is given"
        } else if self.endpoints.iter().any(|endpoint| endpoint.contains('@')) {
            "endpoints of etcd take no user and password: give them as options of their own"
        } else if self.username.is_some() != self.password.is_some() {
            "a user of etcd needs both a name and a password"
        } else if self.cert_file.is_some() != self.key_file.is_some() {
            "a client certificate for etcd needs both its file and its key's"
        } else if (self.ca_file.is_some() || self.cert_file.is_some())
            && !self.endpoints.iter().all(|endpoint| endpoint.starts_with("https://"))
        {
            "a ca_file and a cert_file go with TLS: write https:// in all endpoints of etcd"
        } else {
            return Ok(());
        };
        Err(StorageError::invalid_input(refused))
    }

    /// The error of members none of which answers at first. The client connects again and again to
    /// one that ends connections for want of a certificate.
    pub(super) fn unanswered(&self) -> StorageError {
        let tls = self.endpoints.iter().any(|endpoint| endpoint.starts_with("https://"));
        let certificate = match tls && self.cert_file.is_none() {
            true => ", and name a cert_file if they ask for certificates of clients",
            false => "",
        };
        StorageError::timeout(format!(
            "no member of etcd answered in time; see that they run{certificate}"
        ))
    }

    pub(super) async fn connect_options(&self) -> Result<ConnectOptions> {
        let mut options = ConnectOptions::new()
            .with_connect_timeout(self.connect_timeout)
            .with_timeout(self.operation_timeout)
            .with_keep_alive(Duration::from_secs(10), Duration::from_secs(5))
            .with_tcp_keepalive(Duration::from_secs(30));
        if let (Some(username), Some(password)) = (&self.username, &self.password) {
            options = options.with_user(username, password).with_auto_token_refresh(true);
        }
        if self.endpoints.iter().any(|endpoint| endpoint.starts_with("https://")) {
            options = options.with_tls(self.tls().await?);
        }
        Ok(options)
    }

    async fn tls(&self) -> Result<TlsOptions> {
        let mut tls = match &self.ca_file {
            Some(path) => TlsOptions::new().ca_certificate(Certificate::from_pem(pem(path).await?)),
            None => TlsOptions::new().with_enabled_roots(),
        };
        if let (Some(cert), Some(key)) = (&self.cert_file, &self.key_file) {
            tls = tls.identity(Identity::from_pem(pem(cert).await?, pem(key).await?));
        }
        Ok(tls)
    }
}

async fn pem(path: &Path) -> Result<Vec<u8>> {
    tokio::fs::read(path).await.map_err(|error| {
        let message = format!("cannot read the PEM file {}: {error}", path.display());
        StorageError::invalid_input(message).with_source(error)
    })
}

impl fmt::Debug for EtcdOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What stands before an `@` may be a password that was put there by mistake.
        let shown = |endpoint: &String| {
            endpoint.rsplit_once('@').map_or(endpoint.clone(), |(_, host)| format!("***@{host}"))
        };
        f.debug_struct("EtcdOptions")
            .field("endpoints", &self.endpoints.iter().map(shown).collect::<Vec<_>>())
            .field("prefix", &self.prefix)
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| "***"))
            .field("connect_timeout", &self.connect_timeout)
            .field("operation_timeout", &self.operation_timeout)
            .field("ca_file", &self.ca_file)
            .field("cert_file", &self.cert_file)
            .field("key_file", &self.key_file)
            .finish()
    }
}
