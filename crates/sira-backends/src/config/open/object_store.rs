//! Object stores.

use std::sync::Arc;

use sira_store::{Result, StorageBackend};

use super::super::{AzureBlobConfig, GcsConfig, S3Config};
use crate::object_store::{
    AzureBlobBackend, AzureBlobOptions, GcsBackend, GcsCredential, GcsOptions, MinioBackend,
    S3Backend, S3Options,
};

/// Region where the settings name none; servers other than Amazon's take it.
const REGION: &str = "us-east-1";

type Opened = Result<Arc<dyn StorageBackend>>;

pub(super) async fn s3(config: &S3Config) -> Opened {
    Ok(Arc::new(S3Backend::new(s3_options(config).await?).await?))
}

pub(super) async fn minio(config: &S3Config) -> Opened {
    Ok(Arc::new(MinioBackend::new(s3_options(config).await?).await?))
}

async fn s3_options(config: &S3Config) -> Result<S3Options> {
    let region = config.region.as_deref().unwrap_or(REGION);
    let mut options = S3Options::new(&config.bucket, region).with_common(config.common());
    options.endpoint = config.endpoint.as_ref().map(ToString::to_string);
    options.access_key_id = config.access_key_id().read().await?;
    options.secret_access_key = config.secret_access_key().read().await?;
    options.session_token = config.session_token().read().await?;
    options.virtual_host_style = config.virtual_host_style.unwrap_or(options.virtual_host_style);
    Ok(options)
}

pub(super) async fn azure_blob(config: &AzureBlobConfig) -> Opened {
    let mut options =
        AzureBlobOptions::new(&config.account, &config.container).with_common(config.common());
    options.endpoint = config.endpoint.as_ref().map(ToString::to_string);
    options.account_key = config.account_key().read().await?;
    options.sas_token = config.sas_token().read().await?;
    Ok(Arc::new(AzureBlobBackend::new(options).await?))
}

pub(super) async fn gcs(config: &GcsConfig) -> Opened {
    let mut options = GcsOptions::new(&config.bucket).with_common(config.common());
    options.endpoint = config.endpoint.as_ref().map(ToString::to_string);
    options.credential = match (config.token().read().await?, &config.credential_file) {
        (Some(token), _) => GcsCredential::Token(token),
        (None, Some(path)) => GcsCredential::File(path.clone()),
        (None, None) if config.anonymous == Some(true) => GcsCredential::Anonymous,
        (None, None) => GcsCredential::Environment,
    };
    Ok(Arc::new(GcsBackend::new(options).await?))
}
