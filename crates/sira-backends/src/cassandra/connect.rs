//! Options and the connection.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ::scylla::client::PoolSize;
use ::scylla::client::execution_profile::ExecutionProfile;
use ::scylla::client::session_builder::SessionBuilder;
use ::scylla::statement::{Consistency, SerialConsistency};
use sira_store::{Result, StorageError};
use tokio::sync::Mutex;

use super::statements::Statements;
use super::{CassandraDriver, Inner, LINES, NAME, error, schema};
use crate::deadline::{Effect, within};
use crate::tls;

/// How many replicas must have answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CassandraConsistency {
    /// A majority in the nearest datacenter; transactions are in one order in that datacenter and in
    /// all others.
    #[default]
    LocalQuorum,
    /// A majority in the nearest datacenter, for transactions too: for clusters of which only one
    /// datacenter writes.
    LocalQuorumAlone,
    /// A majority of all replicas.
    Quorum,
    /// All replicas.
    All,
    /// One replica. Reads may miss writes that were acknowledged.
    One,
}

impl CassandraConsistency {
    const fn levels(self) -> (Consistency, SerialConsistency) {
        match self {
            Self::LocalQuorum => (Consistency::LocalQuorum, SerialConsistency::Serial),
            Self::LocalQuorumAlone => (Consistency::LocalQuorum, SerialConsistency::LocalSerial),
            Self::Quorum => (Consistency::Quorum, SerialConsistency::Serial),
            Self::All => (Consistency::All, SerialConsistency::Serial),
            Self::One => (Consistency::One, SerialConsistency::Serial),
        }
    }
}

/// Copies of each row, for a keyspace that is made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Replication {
    /// Three in each datacenter, or as many as it has nodes.
    #[default]
    Automatic,
    /// So many in each of these datacenters.
    Datacenters(Vec<(String, u32)>),
    /// The keyspace is not made: it must be there.
    Existing,
}

/// How to reach Cassandra or ScyllaDB, and where records lie there.
#[derive(Clone, PartialEq)]
pub struct CassandraOptions {
    /// Addresses of some nodes, `host:port`; the others are learned from them.
    pub nodes: Vec<String>,
    /// The keyspace; `sira` by default: up to 48 letters of `a` to `z`, digits and `_`, the first a
    /// letter.
    pub keyspace: String,
    /// The table; `objects` by default, named as the keyspace. It is made if it is not there.
    pub table: String,
    /// Copies of each row, if the keyspace is made.
    pub replication: Replication,
    /// Partitions of a namespace, if the table is made; 64 by default, 1 to 4096. Transactions of one
    /// partition wait for each other, and a partition should stay below a gigabyte: more allow more
    /// writes at once and larger namespaces, and make a page of a listing that many reads.
    pub buckets: u32,
    /// User, where the cluster asks for one.
    pub user: Option<String>,
    /// Password of the user.
    pub password: Option<String>,
    /// The datacenter whose nodes are asked; `None` asks all alike.
    pub datacenter: Option<String>,
    /// How many replicas must have answered.
    pub consistency: CassandraConsistency,
    /// Connections to each node; 4 by default. ScyllaDB gets one for each of its shards at least.
    pub pool_size: usize,
    /// How long to wait for a connection; 5 s by default.
    pub connect_timeout: Duration,
    /// How long one operation may take; 30 s by default.
    pub operation_timeout: Duration,
    /// Encrypts the connections and verifies the nodes' certificates, which must be for the addresses
    /// that the nodes tell: IP addresses, not names.
    pub tls: bool,
    /// Certificates to trust, a PEM file; `None` trusts those of Mozilla. Naming one turns TLS on.
    pub ca_file: Option<PathBuf>,
}

impl CassandraOptions {
    /// The defaults, for a cluster that has these nodes, `host:port`.
    pub fn new(nodes: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            nodes: nodes.into_iter().map(Into::into).collect(),
            keyspace: "sira".to_owned(),
            table: "objects".to_owned(),
            replication: Replication::default(),
            buckets: 64,
            user: None,
            password: None,
            datacenter: None,
            consistency: CassandraConsistency::default(),
            pool_size: 4,
            connect_timeout: Duration::from_secs(5),
            operation_timeout: Duration::from_secs(30),
            tls: false,
            ca_file: None,
        }
    }

    fn check(&self) -> Result<()> {
        for (what, name) in [("keyspace", &self.keyspace), ("table", &self.table)] {
            let first = name.bytes().next().is_some_and(|first| first.is_ascii_lowercase());
            let rest = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
            // The table of versions has a longer name.
            if !first || name.len() > 41 || !name.bytes().all(rest) {
                return Err(StorageError::invalid_input(format!(
                    "{name:?} cannot name a {what}: use up to 41 of a to z, 0 to 9 and _, and a \
                     letter first"
                )));
            }
        }
        if !(1..=4096).contains(&self.buckets) {
            return Err(StorageError::invalid_input(format!(
                "a table may have 1 to 4096 buckets, not {}",
                self.buckets
            )));
        }
        Ok(())
    }
}

impl fmt::Debug for CassandraOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CassandraOptions")
            .field("nodes", &self.nodes)
            .field("keyspace", &self.keyspace)
            .field("table", &self.table)
            .field("replication", &self.replication)
            .field("buckets", &self.buckets)
            .field("user", &self.user)
            .field("password", &self.password.as_ref().map(|_| "..."))
            .field("datacenter", &self.datacenter)
            .field("consistency", &self.consistency)
            .field("pool_size", &self.pool_size)
            .field("connect_timeout", &self.connect_timeout)
            .field("operation_timeout", &self.operation_timeout)
            .field("tls", &self.tls)
            .field("ca_file", &self.ca_file)
            .finish()
    }
}

/// The table, as statements need it.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) keyspace: String,
    pub(super) name: String,
    pub(super) replication: Replication,
    pub(super) buckets: u32,
    /// The level of reads that finish transactions.
    pub(super) serial: Consistency,
}

impl CassandraDriver {
    /// Connects, and makes keyspace and table if they are not there.
    ///
    /// # Errors
    /// [`StorageError::InvalidInput`] for options that cannot be right,
    /// [`StorageError::PermissionDenied`] for refused credentials, [`StorageError::Unavailable`] when
    /// no node can be reached, [`StorageError::Unsupported`] when a newer version of this software
    /// has made the table.
    pub async fn connect(options: CassandraOptions) -> Result<Self> {
        options.check()?;
        let (consistency, serial) = options.consistency.levels();
        let profile = ExecutionProfile::builder()
            .consistency(consistency)
            .serial_consistency(Some(serial))
            .request_timeout(Some(options.operation_timeout / 2))
            .build();
        let pool_size = NonZeroUsize::new(options.pool_size).unwrap_or(NonZeroUsize::MIN);
        let mut builder = SessionBuilder::new()
            .known_nodes(&options.nodes)
            .default_execution_profile_handle(profile.into_handle())
            .pool_size(PoolSize::PerHost(pool_size))
            .connection_timeout(options.connect_timeout)
            .keyspaces_to_fetch([&options.keyspace]);
        if let Some(user) = &options.user {
            builder = builder.user(user, options.password.as_deref().unwrap_or_default());
        }
        if let Some(datacenter) = &options.datacenter {
            builder = builder.prefer_datacenter(datacenter.clone());
        }
        if options.tls || options.ca_file.is_some() {
            builder = builder.tls_context(Some(tls::client_config(options.ca_file.as_deref())?));
        }
        let begun = async { builder.build().await.map_err(error::of_session) };
        let session = within(options.connect_timeout * 2, Effect::Read, NAME, begun).await?;

        let serial = match serial {
            SerialConsistency::Serial => Consistency::Serial,
            SerialConsistency::LocalSerial => Consistency::LocalSerial,
        };
        let table = Table {
            keyspace: options.keyspace,
            name: options.table,
            replication: options.replication,
            buckets: options.buckets,
            serial,
        };
        let buckets = schema::prepare(&session, &table).await?;
        let statements = Statements::prepare(&session, &table)
            .await
            .map_err(|error| error::of_prepare(&error).with_source(error))?;
        let lines = std::iter::repeat_with(|| Mutex::new(())).take(LINES).collect();
        let timeout = options.operation_timeout;
        Ok(Self { inner: Arc::new(Inner { session, statements, buckets, timeout, lines }) })
    }
}
