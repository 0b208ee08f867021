//! Settings of object stores.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::address::ServerUrl;
use super::secret::Secret;
use super::units;

/// Which conditions an object store checks as one step with the change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoreConditions {
    /// Of writes and of deletes.
    All,
    /// Of writes and of deletes, but a delete says of an object that is gone that it deleted it.
    AllButAbsence,
    /// Of writes.
    Writes,
    /// None.
    None,
}

macro_rules! object_store {
    ($(#[$doc:meta])* pub struct $name:ident { $($fields:tt)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $($fields)*
            /// Folder in the bucket under which everything lies; the bucket's root.
            pub prefix: Option<String>,
            /// Longest time to open a connection.
            #[serde(deserialize_with = "units::duration")]
            pub connect_timeout: Option<Duration>,
            /// Longest time of one request, to which a second for each MiB it carries is added.
            #[serde(deserialize_with = "units::duration")]
            pub operation_timeout: Option<Duration>,
            /// Largest body of one object; larger values are cut.
            #[serde(deserialize_with = "units::size")]
            pub max_object_size: Option<u64>,
            /// Unconditional writes above this size go in parts of it.
            #[serde(deserialize_with = "units::size")]
            pub part_size: Option<u64>,
            /// Parts of one object under way at once.
            pub parts_concurrent: Option<usize>,
            /// Requests of one batch under way at once.
            #[serde(alias = "max_connections")]
            pub requests_concurrent: Option<usize>,
            /// Which conditions the store checks; found out where it is left out.
            pub conditions: Option<StoreConditions>,
            /// Age after which tombstones are deleted, where the store checks no conditions of
            /// deletes. A write to the same key in the moment of the deletion is lost.
            #[serde(deserialize_with = "units::duration")]
            pub tombstone_age: Option<Duration>,
            /// Certificates of the authorities that are trusted besides the system's, as PEM.
            pub ca_file: Option<PathBuf>,
        }

        #[cfg(feature = "object-store")]
        impl $name {
            /// The settings that all object stores have.
            pub(super) fn common(&self) -> crate::object_store::ObjectStoreOptions {
                use crate::object_store::{Conditions, ObjectStoreOptions};

                let default = ObjectStoreOptions::default();
                ObjectStoreOptions {
                    prefix: self.prefix.clone().unwrap_or(default.prefix),
                    connect_timeout: self.connect_timeout.unwrap_or(default.connect_timeout),
                    operation_timeout: self.operation_timeout.unwrap_or(default.operation_timeout),
                    body_bytes_max: self.max_object_size.unwrap_or(default.body_bytes_max),
                    part_bytes: self.part_size.map_or(default.part_bytes, |bytes| {
                        usize::try_from(bytes).unwrap_or(usize::MAX)
                    }),
                    parts_concurrent: self.parts_concurrent.unwrap_or(default.parts_concurrent),
                    requests_concurrent: self
                        .requests_concurrent
                        .unwrap_or(default.requests_concurrent),
                    conditions: self.conditions.map(|conditions| match conditions {
                        StoreConditions::All => Conditions::All,
                        StoreConditions::AllButAbsence => Conditions::AllButAbsence,
                        StoreConditions::Writes => Conditions::Writes,
                        StoreConditions::None => Conditions::None,
                    }),
                    tombstone_age: self.tombstone_age,
                    ca_file: self.ca_file.clone(),
                }
            }
        }
    };
}

object_store! {
    /// Settings of a bucket of the S3 protocol. Without an access key, what the environment, the
    /// profile files or the machine's role give is taken.
    pub struct S3Config {
        /// Name of the bucket, which must be there.
        pub bucket: String,
        /// Region that requests are signed for; `us-east-1`.
        pub region: Option<String>,
        /// Address of the server; Amazon's in the region.
        pub endpoint: Option<ServerUrl>,
        /// Variable of the environment that holds the access key.
        pub access_key_id_env: Option<String>,
        /// File whose first line is the access key.
        pub access_key_id_file: Option<PathBuf>,
        /// Variable of the environment that holds the secret of the access key.
        pub secret_access_key_env: Option<String>,
        /// File whose first line is the secret of the access key.
        pub secret_access_key_file: Option<PathBuf>,
        /// Variable of the environment that holds the token of temporary keys.
        pub session_token_env: Option<String>,
        /// File whose first line is the token of temporary keys.
        pub session_token_file: Option<PathBuf>,
        /// Whether the bucket is part of the host name, not of the path.
        pub virtual_host_style: Option<bool>,
    }
}

impl S3Config {
    pub(super) fn access_key_id(&self) -> Secret<'_> {
        Secret::new(
            "access_key_id",
            self.access_key_id_env.as_ref(),
            self.access_key_id_file.as_deref(),
        )
    }

    pub(super) fn secret_access_key(&self) -> Secret<'_> {
        Secret::new(
            "secret_access_key",
            self.secret_access_key_env.as_ref(),
            self.secret_access_key_file.as_deref(),
        )
    }

    pub(super) fn session_token(&self) -> Secret<'_> {
        Secret::new(
            "session_token",
            self.session_token_env.as_ref(),
            self.session_token_file.as_deref(),
        )
    }

    pub(super) fn check(&self) -> Result<(), String> {
        need_bucket("bucket", &self.bucket)?;
        if self.access_key_id().is_named() != self.secret_access_key().is_named() {
            return Err("an access key and its secret go together: write access_key_id_env and \
                        secret_access_key_env"
                .to_owned());
        }
        self.access_key_id().check()?;
        self.secret_access_key().check()?;
        self.session_token().check()
    }
}

object_store! {
    /// Settings of a container of Azure Blob Storage. Without a key and a token, what the
    /// environment or the machine's identity give is taken.
    pub struct AzureBlobConfig {
        /// Name of the container, which must be there.
        pub container: String,
        /// Name of the storage account.
        pub account: String,
        /// Address; `https://ACCOUNT.blob.core.windows.net`.
        pub endpoint: Option<ServerUrl>,
        /// Variable of the environment that holds the key of the account.
        pub account_key_env: Option<String>,
        /// File whose first line is the key of the account.
        pub account_key_file: Option<PathBuf>,
        /// Variable of the environment that holds a shared access signature.
        pub sas_token_env: Option<String>,
        /// File whose first line is a shared access signature.
        pub sas_token_file: Option<PathBuf>,
    }
}

impl AzureBlobConfig {
    pub(super) fn account_key(&self) -> Secret<'_> {
        Secret::new("account_key", self.account_key_env.as_ref(), self.account_key_file.as_deref())
    }

    pub(super) fn sas_token(&self) -> Secret<'_> {
        Secret::new("sas_token", self.sas_token_env.as_ref(), self.sas_token_file.as_deref())
    }

    pub(super) fn check(&self) -> Result<(), String> {
        need_bucket("container", &self.container)?;
        need_bucket("account", &self.account)?;
        if self.account_key().is_named() && self.sas_token().is_named() {
            return Err("a shared access signature takes the place of the account's key".to_owned());
        }
        self.account_key().check()?;
        self.sas_token().check()
    }
}

object_store! {
    /// Settings of a bucket of Google Cloud Storage. Without a credential, what the environment or
    /// the machine's account give is taken.
    pub struct GcsConfig {
        /// Name of the bucket, which must be there.
        pub bucket: String,
        /// Address of the server; Google's.
        pub endpoint: Option<ServerUrl>,
        /// File of the JSON key of a service account.
        pub credential_file: Option<PathBuf>,
        /// Variable of the environment that holds an access token.
        pub token_env: Option<String>,
        /// File whose first line is an access token.
        pub token_file: Option<PathBuf>,
        /// Without any credential: for public buckets and test servers.
        pub anonymous: Option<bool>,
    }
}

impl GcsConfig {
    pub(super) fn token(&self) -> Secret<'_> {
        Secret::new("token", self.token_env.as_ref(), self.token_file.as_deref())
    }

    pub(super) fn check(&self) -> Result<(), String> {
        need_bucket("bucket", &self.bucket)?;
        let ways =
            [self.credential_file.is_some(), self.token().is_named(), self.anonymous == Some(true)];
        if ways.into_iter().filter(|way| *way).count() > 1 {
            return Err(
                "write one of credential_file, token_env, token_file and anonymous".to_owned()
            );
        }
        self.token().check()
    }
}

fn need_bucket(key: &str, name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err(format!("{key} is missing: write {key} = \"NAME\""));
    }
    Ok(())
}
