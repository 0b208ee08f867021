//! Earlier versions of the objects of a namespace.

use std::ops::Range;
use std::sync::Arc;

use super::StorageClient;
use crate::backend::{Object, ObjectHead};
use crate::error::{Result, StorageError};
use crate::version::Version;
use crate::version_history::{RemovedObjects, VersionPage, VersionedBackend};

impl StorageClient {
    /// Versions of a key of this namespace, newest first: the one that it holds, and those that are
    /// kept. With `before`, those that are older. Up to `limit` of them; 0 is 1,000.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// use sira_store::client::{NamespacePolicy, StoragePlan};
    /// use sira_store::version_history::KeepVersions;
    /// # use sira_store::{MemoryBackend, StorageClient, StorageOptions};
    ///
    /// # pollster::block_on(async {
    /// # let client = StorageClient::new();
    /// # let mut plan = StoragePlan::default();
    /// # plan.backends.insert("memory".to_owned(), Arc::new(MemoryBackend::new(64 << 20)));
    /// # plan.default_backend = Some("memory".to_owned());
    /// let keep_versions = Some(KeepVersions { count: Some(10), age: None });
    /// let prompts = NamespacePolicy { keep_versions, ..NamespacePolicy::default() };
    /// plan.namespaces.insert("prompts".to_owned(), prompts);
    /// client.apply(plan)?;
    ///
    /// let prompts = client.namespace("prompts");
    /// prompts.store("system", "Be brief.", StorageOptions::default()).await?;
    /// prompts.store("system", "Be kind.", StorageOptions::default()).await?;
    /// let versions = prompts.versions("system", None, 0).await?.versions;
    /// prompts.restore_version("system", versions[1].version).await?;
    /// assert_eq!(prompts.retrieve("system").await?.as_deref(), Some(&b"Be brief."[..]));
    /// # Ok::<_, sira_store::StorageError>(()) })?;
    /// # Ok::<_, sira_store::StorageError>(())
    /// ```
    ///
    /// # Errors
    /// [`StorageError::Unsupported`] where the namespace keeps none, and those of the backends.
    pub async fn versions(
        &self,
        key: &str,
        before: Option<Version>,
        limit: usize,
    ) -> Result<VersionPage> {
        self.versioned().await?.versions(key, before, limit).await
    }

    /// A version of an object, or a range of it; `None` where it is neither held nor kept.
    ///
    /// # Errors
    /// As [`StorageClient::versions`].
    pub async fn retrieve_version(
        &self,
        key: &str,
        version: Version,
        range: Option<Range<u64>>,
    ) -> Result<Option<Object>> {
        self.versioned().await?.read_version(key, version, range).await
    }

    /// All but the bytes of a version.
    ///
    /// # Errors
    /// As [`StorageClient::versions`].
    pub async fn head_version(&self, key: &str, version: Version) -> Result<Option<ObjectHead>> {
        self.versioned().await?.head_version(key, version).await
    }

    /// The version that a key held at a time, in milliseconds since the Unix epoch.
    ///
    /// # Errors
    /// As [`StorageClient::versions`].
    pub async fn version_at(&self, key: &str, time_ms: u64) -> Result<Option<Version>> {
        self.versioned().await?.version_at(key, time_ms).await
    }

    /// Makes a version the object again, and answers the version that it has now.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] where it is neither held nor kept, and as
    /// [`StorageClient::versions`].
    pub async fn restore_version(&self, key: &str, version: Version) -> Result<Version> {
        self.versioned().await?.restore(key, version).await
    }

    /// Erases one earlier version of a key, or all of them, and says how many there were. The object
    /// itself stays.
    ///
    /// # Errors
    /// As [`StorageClient::versions`].
    pub async fn erase_versions(&self, key: &str, version: Option<Version>) -> Result<u64> {
        self.versioned().await?.erase(key, version).await
    }

    /// Objects that begin with `prefix`, were removed and can be restored, with their newest version.
    /// A page may be short and not be the last.
    ///
    /// # Errors
    /// As [`StorageClient::versions`].
    pub async fn removed_objects(
        &self,
        prefix: &str,
        start_after: Option<String>,
        limit: usize,
    ) -> Result<RemovedObjects> {
        self.versioned().await?.removed(prefix, start_after, limit).await
    }

    async fn versioned(&self) -> Result<Arc<VersionedBackend>> {
        self.view().await?.versions.clone().ok_or_else(|| {
            StorageError::unsupported(
                "the namespace keeps no versions; set `keep_versions` or `keep_versions_for` of it",
            )
            .with_namespace(self.name())
        })
    }
}
