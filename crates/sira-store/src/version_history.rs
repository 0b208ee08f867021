//! Earlier versions of objects.
//!
//! A namespace that keeps versions copies each object aside before it is overwritten or removed, and
//! the write takes effect only while the object is still the one that was copied. So whatever other
//! writers and crashes do, no version that was ever acknowledged is lost before its time; what a
//! crash leaves behind is a copy of a version that is still the object, which listings leave out.
//! On an engine that writes to several namespaces as one step, the copy and the write are one.
//!
//! Copies are objects of a namespace of their own, `sira.versions.NAME`, that lies where the
//! namespace itself does and is compressed, encrypted, replicated, verified and backed up as it is.
//! The copy of version `v` of a key has the key `KEY@` with the complement of `v` in 16 hexadecimal
//! digits behind it, so that listings show the newest first, and is itself of a version that tells
//! when the object was overwritten or removed.

mod backend;
mod batch;
mod copy;
mod list;
mod prune;
mod restore;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use list::{ObjectVersion, RemovedObjects, VersionPage};

use crate::backend::StorageBackend;
use crate::env::Env;
use crate::error::{Result, StorageError};
use crate::limits::{KEY_BYTES_MAX, NAMESPACE_BYTES_MAX};
use crate::transaction;
use crate::version::Version;

/// Begins the name of a namespace that holds earlier versions of another.
const NAMESPACE_PREFIX: &str = "sira.versions.";

/// Bytes that a key grows by for the key of a copy: `@` and 16 digits.
const SUFFIX_BYTES: usize = 17;

/// Most versions of a key that can be kept by number.
const COUNT_MAX: usize = 1_000;

/// How many earlier versions of its objects a namespace keeps, and for how long. A version is gone
/// as soon as one of the two says so, and when its own time to live ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeepVersions {
    /// Most versions of one key that were overwritten or removed; `None` is any number.
    pub count: Option<usize>,
    /// How long a version is kept after it was overwritten or removed; `None` is for ever.
    pub age: Option<Duration>,
}

impl KeepVersions {
    /// Checks that something is kept.
    ///
    /// # Errors
    /// [`StorageError::InvalidInput`] for a number that is 0 or over 1,000, and for no time at all.
    pub fn check(&self) -> Result<()> {
        if self.count.is_some_and(|count| !(1..=COUNT_MAX).contains(&count)) {
            return Err(StorageError::invalid_input(format!(
                "a namespace keeps 1 to {COUNT_MAX} versions of a key by number; leave the setting \
                 out to keep none"
            )));
        }
        if self.age.is_some_and(|age| age.is_zero()) {
            return Err(StorageError::invalid_input(
                "versions are kept for some time; leave the setting out to keep none",
            ));
        }
        Ok(())
    }
}

/// Name of the namespace that holds earlier versions of another.
///
/// # Errors
/// [`StorageError::TooLarge`] for a name that is too long to have one.
pub fn kept_namespace(namespace: &str) -> Result<String> {
    let name = format!("{NAMESPACE_PREFIX}{namespace}");
    if name.len() <= NAMESPACE_BYTES_MAX {
        return Ok(name);
    }
    Err(StorageError::too_large(format!(
        "the name of a namespace that keeps versions may have up to {} bytes",
        NAMESPACE_BYTES_MAX - NAMESPACE_PREFIX.len()
    ))
    .with_namespace(namespace))
}

/// Whether a namespace holds earlier versions of another. Such a one is written to by the other only.
#[must_use]
pub fn is_kept_namespace(namespace: &str) -> bool {
    namespace.starts_with(NAMESPACE_PREFIX)
}

/// A namespace that keeps earlier versions of its objects, over two namespaces of any backend that
/// takes conditions.
///
/// ```
/// use std::sync::Arc;
/// use sira_store::version_history::{KeepVersions, VersionedBackend};
/// use sira_store::env::SystemEnv;
/// use sira_store::{MemoryBackend, StorageBackend, StorageBackendExt};
///
/// # pollster::block_on(async {
/// let memory = MemoryBackend::new(1 << 20);
/// let kept = memory.namespace("sira.versions.default").await?;
/// let keep = KeepVersions { count: Some(10), age: None };
/// let store =
///     VersionedBackend::new("default", Arc::new(memory), kept, keep, Arc::new(SystemEnv))?;
/// let first = store.put_bytes("k", "one").await?;
/// store.put_bytes("k", "two").await?;
/// store.delete("k").await?;
/// assert_eq!(store.read_version("k", first, None).await?.unwrap().value, "one");
/// assert_eq!(store.versions("k", None, 10).await?.versions.len(), 2);
/// store.restore("k", first).await?;
/// assert_eq!(store.get_string("k").await?.as_deref(), Some("one"));
/// # Ok::<_, sira_store::StorageError>(()) })?;
/// # Ok::<_, sira_store::StorageError>(())
/// ```
#[derive(Clone)]
pub struct VersionedBackend {
    namespace: Arc<str>,
    inner: Arc<dyn StorageBackend>,
    /// The same objects past any cache: what is copied must be what is overwritten.
    reader: Arc<dyn StorageBackend>,
    kept: Arc<dyn StorageBackend>,
    keep: KeepVersions,
    /// Both are written to as one step.
    one_step: bool,
    env: Arc<dyn Env>,
}

impl VersionedBackend {
    /// Keeps versions of the objects of `inner` in `kept`, which nobody else writes to.
    ///
    /// # Errors
    /// [`StorageError::Unsupported`] where the backend takes no conditions or does not list, and as
    /// [`KeepVersions::check`].
    pub fn new(
        namespace: &str,
        inner: Arc<dyn StorageBackend>,
        kept: Arc<dyn StorageBackend>,
        keep: KeepVersions,
        env: Arc<dyn Env>,
    ) -> Result<Self> {
        keep.check()?;
        let capabilities = inner.capabilities();
        if !capabilities.conditional || !capabilities.list {
            return Err(StorageError::unsupported(format!(
                "{} cannot keep versions: that takes conditions and listings; choose another backend",
                capabilities.name
            ))
            .with_namespace(namespace));
        }
        let one_step = transaction::in_one_step([&inner, &kept]);
        let (namespace, reader) = (namespace.into(), Arc::clone(&inner));
        Ok(Self { namespace, inner, reader, kept, keep, one_step, env })
    }

    /// The same, with what is overwritten read past a cache.
    #[must_use]
    pub(crate) fn reading(self, reader: Arc<dyn StorageBackend>) -> Self {
        Self { reader, ..self }
    }

    /// How much is kept.
    #[must_use]
    pub fn keep(&self) -> KeepVersions {
        self.keep
    }

    /// The namespace without its earlier versions.
    pub(crate) fn inner(&self) -> &dyn StorageBackend {
        &*self.inner
    }

    /// The namespace that holds the earlier versions.
    pub(crate) fn kept(&self) -> &dyn StorageBackend {
        &*self.kept
    }

    fn locate(&self, error: StorageError, key: &str) -> StorageError {
        error.with_namespace(&*self.namespace).with_key(key)
    }
}

impl fmt::Debug for VersionedBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VersionedBackend")
            .field("namespace", &self.namespace)
            .field("inner", &self.inner)
            .field("kept", &self.kept)
            .field("keep", &self.keep)
            .finish_non_exhaustive()
    }
}

/// Key of the copy of a version.
fn kept_key(key: &str, version: Version) -> String {
    format!("{key}@{:016x}", !version.as_u64())
}

/// Key and version that a copy is of; `None` for a key that is none of a copy.
fn of_kept_key(kept: &str) -> Option<(&str, Version)> {
    let (key, digits) = kept.rsplit_once('@')?;
    let version = digits.parse::<Version>().ok()?;
    let lower = digits.bytes().all(|byte| !byte.is_ascii_uppercase());
    (lower && !key.is_empty()).then(|| (key, Version::from_u64(!version.as_u64())))
}

/// Checks that copies of a key have keys.
fn check_key_length(key: &str) -> Result<()> {
    let most = KEY_BYTES_MAX - SUFFIX_BYTES;
    if key.len() <= most {
        return Ok(());
    }
    Err(StorageError::too_large(format!(
        "a key of a namespace that keeps versions may have up to {most} bytes, this one has {}",
        key.len()
    )))
}

#[cfg(test)]
mod tests;
