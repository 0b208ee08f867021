//! How to reach the server.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use redis::io::tcp::TcpSettings;
use redis::{ConnectionInfo, IntoConnectionInfo, TlsCertificates};
use sira_store::{Result, StorageError};

use super::layout::BUCKETS_MAX;

/// Options of [`super::RedisDriver`].
#[derive(Clone)]
pub struct RedisOptions {
    /// Where the server is: `redis://[user[:password]@]host[:port][/database]`, `rediss://` with
    /// TLS, `unix:///path` for a socket. Of a cluster, some of its nodes.
    pub urls: Vec<String>,
    /// The servers are a Redis Cluster.
    pub cluster: bool,
    /// What every key on the server begins with; stores of different prefixes share a server and do
    /// not meet. No braces on a cluster. The default is `sira:`.
    pub prefix: String,
    /// User name, in place of the URL's.
    pub username: Option<String>,
    /// Password, in place of the URL's.
    pub password: Option<String>,
    /// Connections to a single server, each of which carries many operations at once. The default
    /// is 4. A cluster has two for each node.
    pub pool_size: usize,
    /// Parts that keys are spread over, 1 to 1,024; each is in one place of a cluster, and a listing
    /// asks all of them. Chosen when a prefix is used first and kept: `None` takes what is there, or
    /// else 1, and 64 on a cluster. A store that is to move to a cluster later begins with 64.
    pub buckets: Option<u16>,
    /// Longest time to connect. The default is 5 seconds.
    pub connect_timeout: Duration,
    /// Longest time of one operation on the server. The default is 10 seconds.
    pub operation_timeout: Duration,
    /// File of PEM certificates that the server's is checked against, in place of those that
    /// browsers trust.
    pub ca_file: Option<PathBuf>,
}

impl RedisOptions {
    /// Options of a single server; see [`RedisOptions::urls`] and [`RedisOptions::prefix`].
    #[must_use]
    pub fn new(url: impl Into<String>, prefix: impl Into<String>) -> Self {
        Self {
            urls: vec![url.into()],
            cluster: false,
            prefix: prefix.into(),
            username: None,
            password: None,
            pool_size: 4,
            buckets: None,
            connect_timeout: Duration::from_secs(5),
            operation_timeout: Duration::from_secs(10),
            ca_file: None,
        }
    }

    /// Options of a cluster, by the URLs of some of its nodes.
    #[must_use]
    pub fn cluster(
        urls: impl IntoIterator<Item = impl Into<String>>,
        prefix: impl Into<String>,
    ) -> Self {
        Self {
            urls: urls.into_iter().map(Into::into).collect(),
            cluster: true,
            ..Self::new("", prefix)
        }
    }

    /// Checks what can be checked without a server.
    pub(super) fn check(&self) -> Result<()> {
        let refused = if self.urls.is_empty() {
            "no URL of a Redis server is given"
        } else if self.cluster && self.prefix.contains(['{', '}']) {
            "the prefix of a store on a Redis cluster cannot hold a brace: the cluster would place \
             all keys by what is within"
        } else if self.pool_size == 0 {
            "the pool of connections to Redis must have room for at least one"
        } else if self.buckets.is_some_and(|buckets| buckets == 0 || buckets > BUCKETS_MAX) {
            "a store on Redis has 1 to 1,024 buckets"
        } else if self.ca_file.is_some() && !self.urls.iter().all(|url| url.starts_with("rediss:"))
        {
            "a ca_file goes with TLS: write rediss:// in place of redis://"
        } else {
            return Ok(());
        };
        Err(StorageError::invalid_input(refused))
    }

    /// What the client needs to know of each URL.
    pub(super) fn connection_infos(&self) -> Result<Vec<ConnectionInfo>> {
        self.urls.iter().map(|url| self.connection_info(url)).collect()
    }

    fn connection_info(&self, url: &str) -> Result<ConnectionInfo> {
        let info = url.into_connection_info().map_err(|error| {
            StorageError::invalid_input(format!(
                "{} is no URL of a Redis server such as redis://host:6379: {error}",
                shown(url)
            ))
        })?;
        let mut settings = info.redis_settings().clone();
        if let Some(username) = &self.username {
            settings = settings.set_username(username);
        }
        if let Some(password) = &self.password {
            settings = settings.set_password(password);
        }
        Ok(info.set_redis_settings(settings).set_tcp_settings(self.tcp_settings()))
    }

    pub(super) fn tcp_settings(&self) -> TcpSettings {
        let keepalive = redis::io::tcp::socket2::TcpKeepalive::new()
            .with_time(Duration::from_secs(30))
            .with_interval(Duration::from_secs(10));
        let settings = TcpSettings::default().set_nodelay(true).set_keepalive(keepalive);
        #[cfg(target_os = "linux")]
        let settings = settings.set_user_timeout(self.operation_timeout.saturating_mul(2));
        settings
    }

    /// Certificates of [`RedisOptions::ca_file`].
    pub(super) async fn certificates(&self) -> Result<Option<TlsCertificates>> {
        let Some(path) = &self.ca_file else { return Ok(None) };
        let root = tokio::fs::read(path).await.map_err(|error| {
            let message = format!("cannot read the CA file {}: {error}", path.display());
            StorageError::invalid_input(message).with_source(error)
        })?;
        Ok(Some(TlsCertificates { client_tls: None, root_cert: Some(root) }))
    }
}

impl fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let urls: Vec<_> = self.urls.iter().map(|url| shown(url)).collect();
        f.debug_struct("RedisOptions")
            .field("urls", &urls)
            .field("cluster", &self.cluster)
            .field("prefix", &self.prefix)
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| "***"))
            .field("pool_size", &self.pool_size)
            .field("buckets", &self.buckets)
            .field("connect_timeout", &self.connect_timeout)
            .field("operation_timeout", &self.operation_timeout)
            .field("ca_file", &self.ca_file)
            .finish()
    }
}

/// A URL without its password.
pub(super) fn shown(url: &str) -> String {
    let hidden = || "the text that was given".to_owned();
    let Some(mut parsed) = redis::parse_redis_url(url) else { return hidden() };
    // What has no host is kept whole as a path, with what was meant as a password.
    if !parsed.has_host() && !parsed.scheme().ends_with("unix") {
        return hidden();
    }
    // The socket form carries user and password as `?user=` and `?pass=`.
    parsed.set_query(None);
    parsed.set_fragment(None);
    if parsed.password().is_some() && parsed.set_password(Some("***")).is_err() {
        return hidden();
    }
    parsed.to_string()
}
