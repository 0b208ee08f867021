//! Files beside the data that settings name.

use std::path::{Path, PathBuf};

use super::BackendConfig;

impl BackendConfig {
    /// The files that are read when the backend is opened: secrets, certificates and their keys.
    /// They may be replaced while the settings stay as they are.
    #[must_use]
    pub fn files(&self) -> Vec<&Path> {
        let named: &[&Option<PathBuf>] = match self {
            Self::Embedded
            | Self::Memory(_)
            | Self::Filesystem(_)
            | Self::Sqlite(_)
            | Self::RocksDb(_)
            | Self::Sled(_) => &[],
            Self::Redis(of) | Self::RedisCluster(of) => &[&of.password_file, &of.ca_file],
            Self::Postgres(of) | Self::MySql(of) => &[&of.password_file, &of.ca_file],
            Self::MongoDb(of) => &[&of.password_file, &of.ca_file],
            Self::Cassandra(of) => &[&of.password_file, &of.ca_file],
            Self::OpenSearch(of) => &[&of.password_file, &of.api_key_file, &of.ca_file],
            Self::S3(of) | Self::Minio(of) => &[
                &of.access_key_id_file,
                &of.secret_access_key_file,
                &of.session_token_file,
                &of.ca_file,
            ],
            Self::AzureBlob(of) => &[&of.account_key_file, &of.sas_token_file, &of.ca_file],
            Self::Gcs(of) => &[&of.credential_file, &of.token_file, &of.ca_file],
            Self::Etcd(of) => &[&of.password_file, &of.ca_file, &of.cert_file, &of.key_file],
        };
        named.iter().filter_map(|file| file.as_deref()).collect()
    }
}
