//! Azure Blob Storage.

use std::fmt;

use opendal::{Operator, services};
use sira_store::Result;

use super::adapter::{Store, TagKind};
use super::driver::ObjectStoreDriver;
use super::error::Secrets;
use super::options::ObjectStoreOptions;

/// Where a container of Azure Blob Storage is, and how to get in.
#[derive(Clone)]
pub struct AzureBlobOptions {
    /// Name of the container, which must be there.
    pub container: String,
    /// Name of the storage account.
    pub account: String,
    /// Address, such as `https://ACCOUNT.blob.core.windows.net`, which is also what `None` is.
    pub endpoint: Option<String>,
    /// Key of the account; `None` for what the environment or the machine's identity give.
    pub account_key: Option<String>,
    /// Shared access signature, in place of a key.
    pub sas_token: Option<String>,
    /// Settings of any object store.
    pub common: ObjectStoreOptions,
}

impl AzureBlobOptions {
    /// A container at Azure, with credentials from the environment.
    #[must_use]
    pub fn new(account: impl Into<String>, container: impl Into<String>) -> Self {
        Self {
            container: container.into(),
            account: account.into(),
            endpoint: None,
            account_key: None,
            sas_token: None,
            common: ObjectStoreOptions::default(),
        }
    }

    /// The same at this address.
    #[must_use]
    pub fn with_endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.endpoint = Some(endpoint.into());
        self
    }

    /// The same with this key of the account.
    #[must_use]
    pub fn with_account_key(mut self, key: impl Into<String>) -> Self {
        self.account_key = Some(key.into());
        self
    }

    /// The same with these settings.
    #[must_use]
    pub fn with_common(mut self, common: ObjectStoreOptions) -> Self {
        self.common = common;
        self
    }
}

impl fmt::Debug for AzureBlobOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AzureBlobOptions")
            .field("container", &self.container)
            .field("account", &self.account)
            .field("endpoint", &self.endpoint)
            .field("common", &self.common)
            .finish_non_exhaustive()
    }
}

impl ObjectStoreDriver {
    /// Opens a container of Azure Blob Storage. Its listings cannot start in the middle: a scan that
    /// goes on after a key passes all keys before it, 5,000 a request.
    ///
    /// # Errors
    /// As [`ObjectStoreDriver::s3`].
    pub async fn azure_blob(options: AzureBlobOptions) -> Result<Self> {
        options.common.check(options.endpoint.as_deref())?;
        let endpoint = options
            .endpoint
            .clone()
            .unwrap_or_else(|| format!("https://{}.blob.core.windows.net", options.account));
        let mut service = services::Azblob::default()
            .container(&options.container)
            .account_name(&options.account)
            .endpoint(&endpoint);
        if let Some(key) = &options.account_key {
            service = service.account_key(key);
        }
        if let Some(token) = &options.sas_token {
            service = service.sas_token(token);
        }
        let about = format!("the container {:?} at {endpoint}", options.container);
        let secrets = Secrets::new([options.account_key.as_ref(), options.sas_token.as_ref()]);
        let operator = Operator::new(service);
        let store = Store::new(operator, TagKind::Quoted, about, secrets, options.common)?;
        Self::open("azure_blob", store).await
    }
}
