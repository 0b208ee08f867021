//! Engines behind a network.

#![allow(unused_imports, reason = "for engines that are not compiled in")]

use std::sync::Arc;

use sira_store::{Result, StorageBackend};

use super::super::{
    CassandraConfig, CassandraLevel, EtcdConfig, MongoConfig, OpenSearchConfig, RedisConfig,
    SqlConfig,
};
use super::set;

/// Table of a SQL server where the settings name none.
#[cfg(any(feature = "mysql", feature = "postgres"))]
const TABLE: &str = "sira_objects";

type Opened = Result<Arc<dyn StorageBackend>>;

#[cfg(feature = "redis")]
pub(super) async fn redis(config: &RedisConfig, cluster: bool) -> Opened {
    use crate::redis::{RedisBackend, RedisOptions};

    let mut options = RedisOptions::new("", "sira:");
    options.urls = config.urls();
    options.cluster = cluster;
    options.password = config.password().read().await?;
    options.username.clone_from(&config.user);
    options.buckets = config.buckets;
    options.ca_file.clone_from(&config.ca_file);
    set(&mut options.prefix, config.prefix.as_ref());
    set(&mut options.pool_size, config.pool_size.as_ref());
    set(&mut options.connect_timeout, config.connect_timeout.as_ref());
    set(&mut options.operation_timeout, config.operation_timeout.as_ref());
    Ok(Arc::new(RedisBackend::connect(options).await?))
}

#[cfg(feature = "postgres")]
pub(super) async fn postgres(config: &SqlConfig) -> Opened {
    use crate::postgres::{PostgresBackend, PostgresOptions};

    let password = config.password().read().await?;
    let url = config.url("postgres", 5432, "sslmode=require", password.as_deref());
    let mut options = PostgresOptions::new(url, config.table_name.as_deref().unwrap_or(TABLE));
    options.ca_file.clone_from(&config.ca_file);
    set(&mut options.pool_size, config.pool_size.as_ref());
    set(&mut options.connect_timeout, config.connect_timeout.as_ref());
    set(&mut options.operation_timeout, config.operation_timeout.as_ref());
    Ok(Arc::new(PostgresBackend::connect(options).await?))
}

#[cfg(feature = "mysql")]
pub(super) async fn mysql(config: &SqlConfig) -> Opened {
    use crate::mysql::{MySqlBackend, MySqlOptions};

    let password = config.password().read().await?;
    let url = config.url("mysql", 3306, "require_ssl=true", password.as_deref());
    let mut options = MySqlOptions::new(url, config.table_name.as_deref().unwrap_or(TABLE));
    options.ca_file.clone_from(&config.ca_file);
    set(&mut options.pool_size, config.pool_size.as_ref());
    set(&mut options.connect_timeout, config.connect_timeout.as_ref());
    set(&mut options.operation_timeout, config.operation_timeout.as_ref());
    Ok(Arc::new(MySqlBackend::connect(options).await?))
}

#[cfg(feature = "mongodb")]
pub(super) async fn mongodb(config: &MongoConfig) -> Opened {
    use crate::mongodb::{MongoBackend, MongoOptions};

    let password = config.password().read().await?;
    let mut options = MongoOptions::new(config.url(password.as_deref()));
    options.database.clone_from(&config.database);
    options.ca_file.clone_from(&config.ca_file);
    set(&mut options.collection, config.collection.as_ref());
    set(&mut options.pool_size, config.pool_size.as_ref());
    set(&mut options.connect_timeout, config.connect_timeout.as_ref());
    set(&mut options.operation_timeout, config.operation_timeout.as_ref());
    Ok(Arc::new(MongoBackend::connect(options).await?))
}

#[cfg(feature = "cassandra")]
pub(super) async fn cassandra(config: &CassandraConfig) -> Opened {
    use crate::cassandra::{CassandraBackend, CassandraConsistency, CassandraOptions, Replication};

    let mut options = CassandraOptions::new(config.nodes.iter().map(ToString::to_string));
    options.password = config.password().read().await?;
    options.user.clone_from(&config.user);
    options.datacenter.clone_from(&config.datacenter);
    options.ca_file.clone_from(&config.ca_file);
    options.replication = match (config.create_keyspace, &config.replicas) {
        (Some(false), _) => Replication::Existing,
        (_, Some(replicas)) => {
            Replication::Datacenters(replicas.iter().map(|(name, n)| (name.clone(), *n)).collect())
        }
        (_, None) => Replication::Automatic,
    };
    if let Some(level) = config.consistency {
        options.consistency = match level {
            CassandraLevel::LocalQuorum => CassandraConsistency::LocalQuorum,
            CassandraLevel::LocalQuorumAlone => CassandraConsistency::LocalQuorumAlone,
            CassandraLevel::Quorum => CassandraConsistency::Quorum,
            CassandraLevel::All => CassandraConsistency::All,
            CassandraLevel::One => CassandraConsistency::One,
        };
    }
    set(&mut options.keyspace, config.keyspace.as_ref());
    set(&mut options.table, config.table.as_ref());
    set(&mut options.buckets, config.buckets.as_ref());
    set(&mut options.pool_size, config.pool_size.as_ref());
    set(&mut options.connect_timeout, config.connect_timeout.as_ref());
    set(&mut options.operation_timeout, config.operation_timeout.as_ref());
    set(&mut options.tls, config.tls.as_ref());
    Ok(Arc::new(CassandraBackend::connect(options).await?))
}

#[cfg(feature = "opensearch")]
pub(super) async fn opensearch(config: &OpenSearchConfig) -> Opened {
    use crate::opensearch::{OpenSearchBackend, OpenSearchOptions};

    let mut options = OpenSearchOptions::new(config.url());
    options.password = config.password().read().await?;
    options.api_key = config.api_key().read().await?;
    options.user.clone_from(&config.user);
    options.replicas = config.replicas;
    options.ca_file.clone_from(&config.ca_file);
    set(&mut options.index, config.index.as_ref());
    set(&mut options.shards, config.shards.as_ref());
    set(&mut options.pool_size, config.pool_size.as_ref());
    set(&mut options.connect_timeout, config.connect_timeout.as_ref());
    set(&mut options.operation_timeout, config.operation_timeout.as_ref());
    Ok(Arc::new(OpenSearchBackend::connect(options).await?))
}

#[cfg(feature = "etcd")]
pub(super) async fn etcd(config: &EtcdConfig) -> Opened {
    use crate::etcd::{EtcdBackend, EtcdOptions};

    let mut options = EtcdOptions::new(config.urls(), "sira/");
    options.password = config.password().read().await?;
    options.username.clone_from(&config.user);
    options.ca_file.clone_from(&config.ca_file);
    options.cert_file.clone_from(&config.cert_file);
    options.key_file.clone_from(&config.key_file);
    set(&mut options.prefix, config.prefix.as_ref());
    set(&mut options.connect_timeout, config.connect_timeout.as_ref());
    set(&mut options.operation_timeout, config.operation_timeout.as_ref());
    Ok(Arc::new(EtcdBackend::connect(options).await?))
}
