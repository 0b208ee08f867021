//! Settings of Redis, of SQL servers and of etcd.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::address::{ServerUrl, encoded, host_and_port};
use super::secret::Secret;
use super::units;

/// Settings of Redis: `url`, or `host` with `port`, `database` and `tls`, or the `nodes` of a
/// cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RedisConfig {
    /// `redis://[user@]host[:port][/database]`, `rediss://` with TLS, `unix:///path` for a socket.
    pub url: Option<ServerUrl>,
    /// Name or address of the server.
    pub host: Option<String>,
    /// Its port; 6379.
    pub port: Option<u16>,
    /// Some nodes of a cluster, `host:port` or URLs.
    pub nodes: Vec<ServerUrl>,
    /// Number of the database; 0.
    #[serde(alias = "db")]
    pub database: Option<u16>,
    /// User name.
    #[serde(alias = "username")]
    pub user: Option<String>,
    /// Variable of the environment that holds the password.
    pub password_env: Option<String>,
    /// File whose first line is the password.
    pub password_file: Option<PathBuf>,
    /// Whether connections are encrypted, where `url` does not say so.
    pub tls: Option<bool>,
    /// Certificates of the authorities that the server's is verified against, as PEM.
    pub ca_file: Option<PathBuf>,
    /// What every key on the server begins with; `sira:`.
    pub prefix: Option<String>,
    /// Connections to a single server.
    #[serde(alias = "max_connections")]
    pub pool_size: Option<usize>,
    /// Parts that keys are spread over, 1 to 1,024.
    pub buckets: Option<u16>,
    /// Longest time to connect.
    #[serde(deserialize_with = "units::duration")]
    pub connect_timeout: Option<Duration>,
    /// Longest time of one operation.
    #[serde(deserialize_with = "units::duration")]
    pub operation_timeout: Option<Duration>,
}

impl RedisConfig {
    pub(super) fn password(&self) -> Secret<'_> {
        Secret::new("password", self.password_env.as_ref(), self.password_file.as_deref())
    }

    fn scheme(&self) -> &'static str {
        if self.tls.unwrap_or(self.ca_file.is_some()) { "rediss" } else { "redis" }
    }

    pub(super) fn check(&self) -> Result<(), String> {
        let given = [self.url.is_some(), self.host.is_some(), !self.nodes.is_empty()];
        one_of(&given, "url, host or nodes", "host = \"127.0.0.1\"")?;
        let beside = [
            ("port", self.port.is_some()),
            ("database", self.database.is_some()),
            ("tls", self.tls.is_some()),
        ];
        if self.url.is_some() {
            within_url(&beside, "rediss://host:6379/0")?;
        } else if !self.nodes.is_empty() {
            within_url(&beside[..2], "redis://host:6379")?;
        }
        self.password().check()
    }

    /// URLs of the server or of the nodes.
    pub(super) fn urls(&self) -> Vec<String> {
        let scheme = self.scheme();
        if let Some(host) = &self.host {
            let place = host_and_port(host, self.port.unwrap_or(6379));
            return vec![format!("{scheme}://{place}/{}", self.database.unwrap_or(0))];
        }
        let whole = |url: &ServerUrl| match url.scheme() {
            Some(_) => url.to_string(),
            None => format!("{scheme}://{url}"),
        };
        self.url.iter().chain(&self.nodes).map(whole).collect()
    }
}

/// Settings of PostgreSQL, MySQL or MariaDB: `url`, or `host` with `port` and `database`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SqlConfig {
    /// `postgres://[user@]host[:port]/database?option=value`, or `mysql://...`.
    pub url: Option<ServerUrl>,
    /// Name or address of the server.
    pub host: Option<String>,
    /// Its port; 5432 and 3306.
    pub port: Option<u16>,
    /// The database; `sira`.
    pub database: Option<String>,
    /// User name.
    #[serde(alias = "username")]
    pub user: Option<String>,
    /// Variable of the environment that holds the password.
    pub password_env: Option<String>,
    /// File whose first line is the password.
    pub password_file: Option<PathBuf>,
    /// Whether connections must be encrypted and the server's certificate right, where `url` does
    /// not say so.
    pub tls: Option<bool>,
    /// Certificates of the authorities that the server's is verified against, as PEM.
    pub ca_file: Option<PathBuf>,
    /// The table, made if it is not there; `sira_objects`.
    #[serde(alias = "table")]
    pub table_name: Option<String>,
    /// Most connections.
    #[serde(alias = "max_connections")]
    pub pool_size: Option<usize>,
    /// Longest time to get a connection.
    #[serde(deserialize_with = "units::duration")]
    pub connect_timeout: Option<Duration>,
    /// Longest time of one operation or batch.
    #[serde(deserialize_with = "units::duration")]
    pub operation_timeout: Option<Duration>,
}

impl SqlConfig {
    pub(super) fn password(&self) -> Secret<'_> {
        Secret::new("password", self.password_env.as_ref(), self.password_file.as_deref())
    }

    pub(super) fn check(&self, scheme: &str) -> Result<(), String> {
        let given = [self.url.is_some(), self.host.is_some()];
        one_of(&given, "url or host", "host = \"127.0.0.1\"")?;
        if let Some(url) = &self.url {
            let beside = [
                ("port", self.port.is_some()),
                ("database", self.database.is_some()),
                ("tls", self.tls.is_some()),
                ("user", self.user.is_some() && url.has_user()),
            ];
            let tls = if scheme == "mysql" { "require_ssl=true" } else { "sslmode=require" };
            let example = format!("{scheme}://user@host/database?{tls}");
            within_url(&beside, &example)?;
            let named = url.scheme().unwrap_or_default();
            if named != scheme && (scheme != "postgres" || named != "postgresql") {
                return Err(format!("the URL is none of {scheme}: write url = {example:?}"));
            }
            if self.password().is_named() && self.user.is_none() && !url.has_user() {
                return Err(format!(
                    "a password goes with a user: write user, or url = {example:?}"
                ));
            }
        } else if self.password().is_named() && self.user.is_none() {
            return Err("a password goes with a user: write user = \"sira\"".to_owned());
        }
        self.password().check()
    }

    /// The URL, with user and password.
    pub(super) fn url(&self, scheme: &str, port: u16, tls: &str, password: Option<&str>) -> String {
        let url = self.url.clone().unwrap_or_else(|| {
            let place =
                host_and_port(self.host.as_deref().unwrap_or_default(), self.port.unwrap_or(port));
            let database = encoded(self.database.as_deref().unwrap_or("sira"));
            let tls = if self.tls == Some(true) { format!("?{tls}") } else { String::new() };
            ServerUrl::assembled(format!("{scheme}://{place}/{database}{tls}"))
        });
        url.with_login(self.user.as_deref(), password)
    }
}

/// Settings of etcd.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EtcdConfig {
    /// Members of the cluster, `host:port` or URLs.
    #[serde(alias = "nodes")]
    pub endpoints: Vec<ServerUrl>,
    /// What every key in etcd begins with; `sira/`.
    pub prefix: Option<String>,
    /// User name.
    #[serde(alias = "username")]
    pub user: Option<String>,
    /// Variable of the environment that holds the password.
    pub password_env: Option<String>,
    /// File whose first line is the password.
    pub password_file: Option<PathBuf>,
    /// Whether endpoints that are no URLs are asked over TLS.
    pub tls: Option<bool>,
    /// Certificates of the authorities that the members' are verified against, as PEM.
    pub ca_file: Option<PathBuf>,
    /// The client's certificate, as PEM.
    pub cert_file: Option<PathBuf>,
    /// The key of that certificate, as PEM.
    pub key_file: Option<PathBuf>,
    /// Longest time to connect.
    #[serde(deserialize_with = "units::duration")]
    pub connect_timeout: Option<Duration>,
    /// Longest time of one request.
    #[serde(deserialize_with = "units::duration")]
    pub operation_timeout: Option<Duration>,
}

impl EtcdConfig {
    pub(super) fn password(&self) -> Secret<'_> {
        Secret::new("password", self.password_env.as_ref(), self.password_file.as_deref())
    }

    pub(super) fn check(&self) -> Result<(), String> {
        let given = [!self.endpoints.is_empty()];
        one_of(&given, "endpoints", "endpoints = [\"127.0.0.1:2379\"]")?;
        if self.user.is_some() != self.password().is_named() {
            return Err("user and password go together: write user, and password_env or \
                        password_file"
                .to_owned());
        }
        if self.cert_file.is_some() != self.key_file.is_some() {
            return Err("cert_file and key_file go together".to_owned());
        }
        self.password().check()
    }

    /// URLs of the members.
    pub(super) fn urls(&self) -> Vec<String> {
        let tls = self.tls.unwrap_or(self.ca_file.is_some() || self.cert_file.is_some());
        let scheme = if tls { "https" } else { "http" };
        let whole = |url: &ServerUrl| match url.scheme() {
            Some(_) => url.to_string(),
            None => format!("{scheme}://{url}"),
        };
        self.endpoints.iter().map(whole).collect()
    }
}

/// Refuses settings that give none or several of the ways to name a server.
pub(super) fn one_of(given: &[bool], names: &str, example: &str) -> Result<(), String> {
    match given.iter().filter(|given| **given).count() {
        0 => Err(format!("the address is missing: write {names}, such as {example}")),
        1 => Ok(()),
        _ => Err(format!("the address is given more than once: write one of {names}")),
    }
}

/// Refuses settings that belong into the URL that is given.
pub(super) fn within_url(beside: &[(&str, bool)], example: &str) -> Result<(), String> {
    match beside.iter().find(|(_, given)| *given) {
        Some((key, _)) => {
            Err(format!("{key} does not go with a URL, which says it itself, such as {example}"))
        }
        None => Ok(()),
    }
}
