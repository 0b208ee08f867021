//! Settings of MongoDB, Cassandra and OpenSearch.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::address::{ServerUrl, encoded, host_and_port};
use super::secret::Secret;
use super::server::{one_of, within_url};
use super::units;

/// Settings of MongoDB: `url`, or `host` with `port` and `tls`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MongoConfig {
    /// `mongodb://` or `mongodb+srv://`, with its usual parameters.
    pub url: Option<ServerUrl>,
    /// Name or address of the server.
    pub host: Option<String>,
    /// Its port; 27017.
    pub port: Option<u16>,
    /// The database; the one that `url` names, else `sira`.
    pub database: Option<String>,
    /// The collection, made if it is not there; `sira_objects`.
    pub collection: Option<String>,
    /// User name.
    #[serde(alias = "username")]
    pub user: Option<String>,
    /// The database that knows the user, with `host`; `admin`.
    pub auth_source: Option<String>,
    /// Variable of the environment that holds the password.
    pub password_env: Option<String>,
    /// File whose first line is the password.
    pub password_file: Option<PathBuf>,
    /// Whether connections are encrypted, where `url` does not say so.
    pub tls: Option<bool>,
    /// Certificates of the authorities that the server's is verified against, as PEM.
    pub ca_file: Option<PathBuf>,
    /// Most connections to one server.
    #[serde(alias = "max_connections")]
    pub pool_size: Option<u32>,
    /// Longest time to find a server and to connect.
    #[serde(deserialize_with = "units::duration")]
    pub connect_timeout: Option<Duration>,
    /// Longest time of one operation.
    #[serde(deserialize_with = "units::duration")]
    pub operation_timeout: Option<Duration>,
}

impl MongoConfig {
    pub(super) fn password(&self) -> Secret<'_> {
        Secret::new("password", self.password_env.as_ref(), self.password_file.as_deref())
    }

    pub(super) fn check(&self) -> Result<(), String> {
        let given = [self.url.is_some(), self.host.is_some()];
        one_of(&given, "url or host", "host = \"127.0.0.1\"")?;
        if let Some(url) = &self.url {
            let beside = [
                ("port", self.port.is_some()),
                ("tls", self.tls.is_some()),
                ("auth_source", self.auth_source.is_some()),
                ("user", self.user.is_some() && url.has_user()),
            ];
            within_url(&beside, "mongodb://user@host:27017/?tls=true")?;
        }
        let named = self.user.is_some() || self.url.as_ref().is_some_and(ServerUrl::has_user);
        if self.password().is_named() && !named {
            return Err("a password goes with a user: write user = \"sira\"".to_owned());
        }
        self.password().check()
    }

    /// The connection string, with user and password.
    pub(super) fn url(&self, password: Option<&str>) -> String {
        let url = self.url.clone().unwrap_or_else(|| {
            let place =
                host_and_port(self.host.as_deref().unwrap_or_default(), self.port.unwrap_or(27017));
            let mut parameters = Vec::new();
            if self.tls == Some(true) {
                parameters.push("tls=true".to_owned());
            }
            if let Some(source) = &self.auth_source {
                parameters.push(format!("authSource={}", encoded(source)));
            }
            let mark = if parameters.is_empty() { "" } else { "?" };
            ServerUrl::assembled(format!("mongodb://{place}/{mark}{}", parameters.join("&")))
        });
        url.with_login(self.user.as_deref(), password)
    }
}

/// How many replicas of Cassandra must have answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CassandraLevel {
    /// A majority in the nearest datacenter, transactions in one order in all.
    LocalQuorum,
    /// A majority in the nearest datacenter, for transactions too.
    LocalQuorumAlone,
    /// A majority of all replicas.
    Quorum,
    /// All replicas.
    All,
    /// One replica. Reads may miss writes that were acknowledged.
    One,
}

/// Settings of Cassandra or ScyllaDB.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CassandraConfig {
    /// Some nodes, `host:port`.
    pub nodes: Vec<ServerUrl>,
    /// The keyspace; `sira`.
    pub keyspace: Option<String>,
    /// The table, made if it is not there; `objects`.
    #[serde(alias = "table_name")]
    pub table: Option<String>,
    /// Copies of each row by datacenter, for a keyspace that is made; three in each where there are
    /// none here.
    pub replicas: Option<BTreeMap<String, u32>>,
    /// Whether the keyspace is made if it is not there; `true`.
    pub create_keyspace: Option<bool>,
    /// Partitions of a namespace, for a table that is made.
    pub buckets: Option<u32>,
    /// User name.
    #[serde(alias = "username")]
    pub user: Option<String>,
    /// Variable of the environment that holds the password.
    pub password_env: Option<String>,
    /// File whose first line is the password.
    pub password_file: Option<PathBuf>,
    /// The datacenter whose nodes are asked.
    pub datacenter: Option<String>,
    /// How many replicas must have answered; `local_quorum`.
    pub consistency: Option<CassandraLevel>,
    /// Connections to each node.
    #[serde(alias = "max_connections")]
    pub pool_size: Option<usize>,
    /// Longest time to connect.
    #[serde(deserialize_with = "units::duration")]
    pub connect_timeout: Option<Duration>,
    /// Longest time of one operation.
    #[serde(deserialize_with = "units::duration")]
    pub operation_timeout: Option<Duration>,
    /// Whether connections are encrypted.
    pub tls: Option<bool>,
    /// Certificates of the authorities that the nodes' are verified against, as PEM; turns TLS on.
    pub ca_file: Option<PathBuf>,
}

impl CassandraConfig {
    pub(super) fn password(&self) -> Secret<'_> {
        Secret::new("password", self.password_env.as_ref(), self.password_file.as_deref())
    }

    pub(super) fn check(&self) -> Result<(), String> {
        one_of(&[!self.nodes.is_empty()], "nodes", "nodes = [\"127.0.0.1:9042\"]")?;
        if let Some(node) = self.nodes.iter().find(|node| node.scheme().is_some()) {
            return Err(format!("{node} is a URL: nodes are written host:port"));
        }
        if self.replicas.is_some() && self.create_keyspace == Some(false) {
            return Err("replicas are of a keyspace that is made, which create_keyspace = false \
                        forbids"
                .to_owned());
        }
        if self.password().is_named() && self.user.is_none() {
            return Err("a password goes with a user: write user = \"sira\"".to_owned());
        }
        self.password().check()
    }
}

/// Settings of OpenSearch or Elasticsearch: `url`, or `host` with `port` and `tls`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OpenSearchConfig {
    /// Address of a node, or of what stands before the nodes.
    pub url: Option<ServerUrl>,
    /// Name or address of the server.
    pub host: Option<String>,
    /// Its port; 9200.
    pub port: Option<u16>,
    /// Alias of the index, made if it is not there; `sira-objects`.
    pub index: Option<String>,
    /// User name.
    #[serde(alias = "username")]
    pub user: Option<String>,
    /// Variable of the environment that holds the password.
    pub password_env: Option<String>,
    /// File whose first line is the password.
    pub password_file: Option<PathBuf>,
    /// Variable of the environment that holds an API key of Elasticsearch.
    pub api_key_env: Option<String>,
    /// File whose first line is an API key of Elasticsearch.
    pub api_key_file: Option<PathBuf>,
    /// Shards, if the index is made.
    pub shards: Option<u32>,
    /// Copies of each shard beside the first, if the index is made.
    pub replicas: Option<u32>,
    /// Connections that are kept open.
    #[serde(alias = "max_connections")]
    pub pool_size: Option<usize>,
    /// Longest time to connect.
    #[serde(deserialize_with = "units::duration")]
    pub connect_timeout: Option<Duration>,
    /// Longest time of one operation.
    #[serde(deserialize_with = "units::duration")]
    pub operation_timeout: Option<Duration>,
    /// Whether `host` is asked over TLS.
    pub tls: Option<bool>,
    /// Certificates of the authorities that the server's is verified against, as PEM.
    pub ca_file: Option<PathBuf>,
}

impl OpenSearchConfig {
    pub(super) fn password(&self) -> Secret<'_> {
        Secret::new("password", self.password_env.as_ref(), self.password_file.as_deref())
    }

    pub(super) fn api_key(&self) -> Secret<'_> {
        Secret::new("api_key", self.api_key_env.as_ref(), self.api_key_file.as_deref())
    }

    pub(super) fn check(&self) -> Result<(), String> {
        let given = [self.url.is_some(), self.host.is_some()];
        one_of(&given, "url or host", "host = \"127.0.0.1\"")?;
        if let Some(url) = &self.url {
            let beside = [
                ("port", self.port.is_some()),
                ("tls", self.tls.is_some()),
                ("user", self.user.is_some() && url.has_user()),
            ];
            within_url(&beside, "https://user@host:9200")?;
        }
        let named = self.user.is_some() || self.url.as_ref().is_some_and(ServerUrl::has_user);
        if self.api_key().is_named() && (named || self.password().is_named()) {
            return Err("an API key takes the place of user and password".to_owned());
        }
        if self.password().is_named() != named {
            return Err("user and password go together: write user, and password_env or \
                        password_file"
                .to_owned());
        }
        self.password().check()?;
        self.api_key().check()
    }

    /// The address.
    pub(super) fn url(&self) -> String {
        if let Some(url) = &self.url {
            return url.to_string();
        }
        let scheme = if self.tls.unwrap_or(self.ca_file.is_some()) { "https" } else { "http" };
        let host = self.host.as_deref().unwrap_or_default();
        format!("{scheme}://{}", host_and_port(host, self.port.unwrap_or(9200)))
    }
}
