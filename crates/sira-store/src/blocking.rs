//! Blocking use, without a runtime.

use std::sync::Arc;

use bytes::Bytes;
use pollster::block_on;

use crate::backend::{
    BatchOperation, BatchResult, Capabilities, HealthStatus, ListOptions, ListPage, Object,
    ObjectHead, ReadOptions, StorageBackend, StorageStats,
};
use crate::client::StorageClient;
use crate::error::Result;
use crate::options::{Condition, StorageOptions};
use crate::version::Version;

/// A backend or a [`StorageClient`] whose operations block the calling thread.
///
/// It needs no runtime, and the engines that live in process need none either. Do not call it from
/// an asynchronous task: it would hold up the thread that the task runs on.
///
/// Errors and meaning are those of the asynchronous operations of the same names.
///
/// ```
/// use sira_store::{Blocking, MemoryBackend, StorageOptions};
///
/// let store = Blocking::new(MemoryBackend::new(1 << 20));
/// store.put("greeting", "hello", StorageOptions::default())?;
/// assert_eq!(store.get("greeting")?.as_deref(), Some(&b"hello"[..]));
/// assert!(store.delete("greeting")?);
/// # Ok::<_, sira_store::StorageError>(())
/// ```
#[derive(Debug)]
pub struct Blocking<B: ?Sized> {
    inner: Arc<B>,
}

impl<B> Blocking<B> {
    /// Blocking use of `inner`.
    #[must_use]
    pub fn new(inner: B) -> Self {
        Self { inner: Arc::new(inner) }
    }
}

impl<B: ?Sized> Blocking<B> {
    /// What is used.
    #[must_use]
    pub fn inner(&self) -> &Arc<B> {
        &self.inner
    }
}

impl<B: ?Sized> From<Arc<B>> for Blocking<B> {
    fn from(inner: Arc<B>) -> Self {
        Self { inner }
    }
}

impl<B: ?Sized> Clone for Blocking<B> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

/// Each line is one operation: its documentation, its signature, and the call behind it.
macro_rules! blocking {
    ($($(#[$doc:meta])* fn $name:ident(&$self:ident $(, $arg:ident: $type:ty)*) -> $out:ty => $call:expr;)*) => {
        $($(#[$doc])*
        ///
        /// # Errors
        /// As the asynchronous operation of this name.
        pub fn $name(&$self $(, $arg: $type)*) -> Result<$out> {
            block_on($call)
        })*
    };
}

impl<B: StorageBackend + ?Sized> Blocking<B> {
    /// What the backend can do.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    /// How the backend does.
    #[must_use]
    pub fn health_check(&self) -> HealthStatus {
        block_on(self.inner.health_check())
    }

    blocking! {
        /// Writes an object and returns its version.
        fn put(&self, key: &str, value: impl Into<Bytes>, options: StorageOptions) -> Version
            => self.inner.put(key, value.into(), options);
        /// Reads an object or a range of it; `None` when the key holds none.
        fn read(&self, key: &str, options: ReadOptions) -> Option<Object>
            => self.inner.read(key, options);
        /// Removes an object if `condition` holds, and says whether one was there.
        fn remove(&self, key: &str, condition: Condition) -> bool
            => self.inner.remove(key, condition);
        /// The bytes under a key.
        fn get(&self, key: &str) -> Option<Bytes> => self.inner.get(key);
        /// Removes an object and says whether one was there.
        fn delete(&self, key: &str) -> bool => self.inner.delete(key);
        /// What a key holds, without the bytes.
        fn head(&self, key: &str) -> Option<ObjectHead> => self.inner.head(key);
        /// Whether a key holds an object.
        fn exists(&self, key: &str) -> bool => self.inner.exists(key);
        /// A page of keys in byte order.
        fn list(&self, options: ListOptions) -> ListPage => self.inner.list(options);
        /// Up to `limit` keys that begin with `prefix`, in byte order.
        fn list_keys(&self, prefix: &str, limit: usize) -> Vec<String>
            => self.inner.list_keys(prefix, limit);
        /// Runs the operations and answers each.
        fn batch(&self, operations: Vec<BatchOperation>) -> Vec<BatchResult>
            => self.inner.batch(operations);
        /// Figures of the backend.
        fn stats(&self) -> StorageStats => self.inner.stats();
        /// Makes everything acknowledged so far durable.
        fn flush(&self) -> () => self.inner.flush();
    }

    /// The same engine, seen through a namespace of this name, which is made if it is not there.
    ///
    /// # Errors
    /// As [`StorageBackend::namespace`].
    pub fn namespace(&self, name: &str) -> Result<Blocking<dyn StorageBackend>> {
        block_on(self.inner.namespace(name)).map(Blocking::from)
    }
}

impl Blocking<StorageClient> {
    /// The same client, scoped to a namespace, see [`StorageClient::namespace`].
    #[must_use]
    pub fn namespace(&self, name: &str) -> Self {
        Self::new(self.inner.namespace(name))
    }

    /// How the default backend does.
    ///
    /// # Errors
    /// As [`StorageClient::health_check`].
    pub fn health_check(&self) -> Result<HealthStatus> {
        block_on(self.inner.health_check())
    }

    blocking! {
        /// Stores an object and returns its version.
        fn store(&self, key: &str, value: impl Into<Bytes>, options: StorageOptions) -> Version
            => self.inner.store(key, value, options);
        /// The bytes under a key.
        fn retrieve(&self, key: &str) -> Option<Bytes> => self.inner.retrieve(key);
        /// The object under a key, or a range of it.
        fn retrieve_object(&self, key: &str, options: ReadOptions) -> Option<Object>
            => self.inner.retrieve_object(key, options);
        /// Removes an object and says whether one was there.
        fn delete(&self, key: &str) -> bool => self.inner.delete(key);
        /// Whether a key holds an object.
        fn exists(&self, key: &str) -> bool => self.inner.exists(key);
        /// A page of keys in byte order.
        fn list(&self, options: ListOptions) -> ListPage => self.inner.list(options);
        /// Up to `limit` keys that begin with `prefix`, in byte order.
        fn list_keys(&self, prefix: &str, limit: usize) -> Vec<String>
            => self.inner.list_keys(prefix, limit);
        /// Runs the operations and answers each.
        fn batch(&self, operations: Vec<BatchOperation>) -> Vec<BatchResult>
            => self.inner.batch(operations);
        /// Figures of the default backend.
        fn stats(&self) -> StorageStats => self.inner.stats();
    }
}

#[cfg(test)]
mod tests;
