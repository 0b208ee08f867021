//! Google Cloud Storage.

use std::fmt;
use std::path::PathBuf;

use opendal::{Operator, services};
use sira_store::{Result, StorageError};

use super::adapter::{Store, TagKind};
use super::driver::ObjectStoreDriver;
use super::error::Secrets;
use super::options::ObjectStoreOptions;

/// How to get into a bucket of Google Cloud Storage.
#[derive(Clone)]
pub enum GcsCredential {
    /// With what the environment, the configuration files or the machine's account give.
    Environment,
    /// With the JSON key of a service account in this file.
    File(PathBuf),
    /// With an access token.
    Token(String),
    /// Without: for public buckets and test servers.
    Anonymous,
}

/// Where a bucket of Google Cloud Storage is, and how to get in.
#[derive(Clone)]
pub struct GcsOptions {
    /// Name of the bucket, which must be there.
    pub bucket: String,
    /// Address of the server; `None` for Google's.
    pub endpoint: Option<String>,
    /// How to get in.
    pub credential: GcsCredential,
    /// Settings of any object store.
    pub common: ObjectStoreOptions,
}

impl GcsOptions {
    /// A bucket at Google, with credentials from the environment.
    #[must_use]
    pub fn new(bucket: impl Into<String>) -> Self {
        Self {
            bucket: bucket.into(),
            endpoint: None,
            credential: GcsCredential::Environment,
            common: ObjectStoreOptions::default(),
        }
    }

    /// The same at this address.
    #[must_use]
    pub fn with_endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.endpoint = Some(endpoint.into());
        self
    }

    /// The same with this credential.
    #[must_use]
    pub fn with_credential(mut self, credential: GcsCredential) -> Self {
        self.credential = credential;
        self
    }

    /// The same with these settings.
    #[must_use]
    pub fn with_common(mut self, common: ObjectStoreOptions) -> Self {
        self.common = common;
        self
    }
}

impl fmt::Debug for GcsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GcsOptions")
            .field("bucket", &self.bucket)
            .field("endpoint", &self.endpoint)
            .field("credential", &self.credential)
            .field("common", &self.common)
            .finish()
    }
}

impl fmt::Debug for GcsCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment => f.write_str("Environment"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Token(_) => f.write_str("Token(***)"),
            Self::Anonymous => f.write_str("Anonymous"),
        }
    }
}

impl ObjectStoreDriver {
    /// Opens a bucket of Google Cloud Storage.
    ///
    /// # Errors
    /// As [`ObjectStoreDriver::s3`].
    pub async fn gcs(options: GcsOptions) -> Result<Self> {
        options.common.check(options.endpoint.as_deref())?;
        let mut service = services::Gcs::default().bucket(&options.bucket);
        if let Some(endpoint) = &options.endpoint {
            service = service.endpoint(endpoint);
        }
        let mut secret = None;
        service = match &options.credential {
            GcsCredential::Environment => service,
            GcsCredential::File(path) => {
                let path = path.to_str().ok_or_else(|| {
                    StorageError::invalid_input("the path of the credential file is not UTF-8")
                })?;
                service.credential_path(path)
            }
            GcsCredential::Token(token) => {
                secret = Some(token);
                service.token(token.clone())
            }
            GcsCredential::Anonymous => {
                service.skip_signature().disable_vm_metadata().disable_config_load()
            }
        };
        let place = options.endpoint.as_deref().unwrap_or("Google Cloud Storage");
        let about = format!("the bucket {:?} at {place}", options.bucket);
        let secrets = Secrets::new([secret]);
        let operator = Operator::new(service);
        let store = Store::new(operator, TagKind::Generation, about, secrets, options.common)?;
        Self::open("gcs", store).await
    }
}
