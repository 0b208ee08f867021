//! Amazon S3, and what speaks its protocol.

use std::fmt;

use opendal::{Operator, services};
use sira_store::Result;

use super::adapter::{Store, TagKind};
use super::driver::ObjectStoreDriver;
use super::error::Secrets;
use super::options::{Conditions, ObjectStoreOptions};

/// Where a bucket of the S3 protocol is, and how to get in.
#[derive(Clone)]
pub struct S3Options {
    /// Name of the bucket, which must be there.
    pub bucket: String,
    /// Region that requests are signed for.
    pub region: String,
    /// Address of the server, such as `http://127.0.0.1:9000`; `None` for Amazon's in the region.
    pub endpoint: Option<String>,
    /// Access key; `None` for what the environment, the profile files or the machine's role give.
    pub access_key_id: Option<String>,
    /// Secret of the access key.
    pub secret_access_key: Option<String>,
    /// Token that goes with temporary keys.
    pub session_token: Option<String>,
    /// Whether the bucket is part of the host name, not of the path.
    pub virtual_host_style: bool,
    /// Settings of any object store.
    pub common: ObjectStoreOptions,
}

impl S3Options {
    /// A bucket at Amazon, with credentials from the environment.
    #[must_use]
    pub fn new(bucket: impl Into<String>, region: impl Into<String>) -> Self {
        Self {
            bucket: bucket.into(),
            region: region.into(),
            endpoint: None,
            access_key_id: None,
            secret_access_key: None,
            session_token: None,
            virtual_host_style: false,
            common: ObjectStoreOptions::default(),
        }
    }

    /// The same at this address.
    #[must_use]
    pub fn with_endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.endpoint = Some(endpoint.into());
        self
    }

    /// The same with this access key.
    #[must_use]
    pub fn with_access_key(mut self, id: impl Into<String>, secret: impl Into<String>) -> Self {
        self.access_key_id = Some(id.into());
        self.secret_access_key = Some(secret.into());
        self
    }

    /// The same with these settings.
    #[must_use]
    pub fn with_common(mut self, common: ObjectStoreOptions) -> Self {
        self.common = common;
        self
    }
}

impl fmt::Debug for S3Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Options")
            .field("bucket", &self.bucket)
            .field("region", &self.region)
            .field("endpoint", &self.endpoint)
            .field("virtual_host_style", &self.virtual_host_style)
            .field("common", &self.common)
            .finish_non_exhaustive()
    }
}

impl ObjectStoreDriver {
    /// Opens a bucket of the S3 protocol: Amazon S3, versitygw, Ceph RGW, Cloudflare R2 and others.
    ///
    /// # Errors
    /// [`sira_store::StorageError::InvalidInput`] for settings that cannot be right,
    /// [`sira_store::StorageError::NotFound`] without such a bucket,
    /// [`sira_store::StorageError::PermissionDenied`] for credentials that are refused,
    /// [`sira_store::StorageError::Unavailable`] when nobody answers.
    pub async fn s3(options: S3Options) -> Result<Self> {
        Self::open("s3", store(options)?).await
    }

    /// Opens a bucket of MinIO, which checks conditions of writes and ignores those of deletes.
    ///
    /// # Errors
    /// As [`ObjectStoreDriver::s3`].
    pub async fn minio(mut options: S3Options) -> Result<Self> {
        options.common.conditions.get_or_insert(Conditions::Writes);
        Self::open("minio", store(options)?).await
    }
}

fn store(options: S3Options) -> Result<Store> {
    options.common.check(options.endpoint.as_deref())?;
    let mut service = services::S3::default().bucket(&options.bucket).region(&options.region);
    if let Some(endpoint) = &options.endpoint {
        service = service.endpoint(endpoint);
    }
    if let Some(id) = &options.access_key_id {
        service = service.access_key_id(id).disable_config_load();
    }
    if let Some(secret) = &options.secret_access_key {
        service = service.secret_access_key(secret);
    }
    if let Some(token) = &options.session_token {
        service = service.session_token(token);
    }
    if options.virtual_host_style {
        service = service.enable_virtual_host_style();
    }
    let place = options.endpoint.as_deref().unwrap_or("Amazon S3");
    let about = format!("the bucket {:?} at {place}", options.bucket);
    let secrets =
        Secrets::new([options.secret_access_key.as_ref(), options.session_token.as_ref()]);
    Store::new(Operator::new(service), TagKind::Quoted, about, secrets, options.common)
}
