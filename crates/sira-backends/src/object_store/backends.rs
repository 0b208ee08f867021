//! The backends by their stores' names.

use sira_store::Result;
use sira_store::driver::DriverBackend;

use super::azure::AzureBlobOptions;
use super::driver::ObjectStoreDriver;
use super::gcs::GcsOptions;
use super::s3::S3Options;

sira_store::named_backend! {
    /// Objects in a bucket of the S3 protocol: Amazon S3, versitygw, Ceph RGW, Cloudflare R2.
    pub struct S3Backend;
}

impl S3Backend {
    /// Opens the bucket; see [`ObjectStoreDriver::s3`].
    ///
    /// # Errors
    /// As [`ObjectStoreDriver::s3`].
    pub async fn new(options: S3Options) -> Result<Self> {
        Ok(DriverBackend::new(ObjectStoreDriver::s3(options).await?).into())
    }
}

sira_store::named_backend! {
    /// Objects in a bucket of MinIO.
    pub struct MinioBackend;
}

impl MinioBackend {
    /// Opens the bucket; see [`ObjectStoreDriver::minio`].
    ///
    /// # Errors
    /// As [`ObjectStoreDriver::s3`].
    pub async fn new(options: S3Options) -> Result<Self> {
        Ok(DriverBackend::new(ObjectStoreDriver::minio(options).await?).into())
    }
}

sira_store::named_backend! {
    /// Objects in a container of Azure Blob Storage.
    pub struct AzureBlobBackend;
}

impl AzureBlobBackend {
    /// Opens the container; see [`ObjectStoreDriver::azure_blob`].
    ///
    /// # Errors
    /// As [`ObjectStoreDriver::s3`].
    pub async fn new(options: AzureBlobOptions) -> Result<Self> {
        Ok(DriverBackend::new(ObjectStoreDriver::azure_blob(options).await?).into())
    }
}

sira_store::named_backend! {
    /// Objects in a bucket of Google Cloud Storage.
    pub struct GcsBackend;
}

impl GcsBackend {
    /// Opens the bucket; see [`ObjectStoreDriver::gcs`].
    ///
    /// # Errors
    /// As [`ObjectStoreDriver::s3`].
    pub async fn new(options: GcsOptions) -> Result<Self> {
        Ok(DriverBackend::new(ObjectStoreDriver::gcs(options).await?).into())
    }
}
