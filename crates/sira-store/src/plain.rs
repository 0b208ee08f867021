//! Namespaces of plain bytes, which other clients of the engine read and write too.
//!
//! Nothing stands beside a value that the engine does not keep by itself: no envelope, no checksum of
//! ours, no version. What identifies a state of an object is made from what the engine tells, see
//! [`Version::of_state`].

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::backend::{
    Capabilities, HealthStatus, ListOptions, ListPage, Object, ObjectHead, ReadOptions,
    StorageBackend, StorageStats,
};
use crate::driver::listing::{Source, page};
use crate::driver::{Listed, Scan};
use crate::error::{Result, StorageError};
use crate::key::{check_key, check_range_start, check_write};
use crate::limits::VALUE_BYTES_MAX;
use crate::metadata::Metadata;
use crate::options::{Condition, StorageOptions};
use crate::version::Version;

/// What an engine can do with plain bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlainProfile {
    /// Short name of the engine, such as `s3`.
    pub name: &'static str,
    /// Keeps data across a restart.
    pub persistent: bool,
    /// The engine drops objects when their time has come, and not a moment later.
    pub ttl: bool,
    /// Conditions are checked and the change made as one step, also against other clients.
    pub conditional: bool,
    /// [`PlainDriver::scan`] works.
    pub list: bool,
    /// The engine keeps media types.
    pub content_type: bool,
    /// Largest value, in bytes.
    pub value_bytes_max: u64,
}

/// A value as an engine keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlainObject {
    /// Identifies this state of the object.
    pub version: Version,
    /// Size of the whole value in bytes.
    pub size: u64,
    /// When the engine drops it, in milliseconds since the Unix epoch.
    pub expires_at_ms: Option<u64>,
    /// Its media type, where the engine keeps one.
    pub content_type: Option<String>,
    /// The bytes that were asked for.
    pub value: Bytes,
}

/// A value to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlainWrite {
    /// The bytes.
    pub value: Bytes,
    /// Media type, where [`PlainProfile::content_type`] is declared.
    pub content_type: Option<String>,
    /// When it is to go, in milliseconds since the Unix epoch, where [`PlainProfile::ttl`] is.
    pub expires_at_ms: Option<u64>,
    /// What must hold; only [`Condition::Always`] without [`PlainProfile::conditional`].
    pub condition: Condition,
}

/// An engine that keeps one namespace of plain bytes. Errors are as those of
/// [`Driver`](crate::driver::Driver).
#[async_trait]
pub trait PlainDriver: Send + Sync + fmt::Debug + 'static {
    /// What the engine can do.
    fn profile(&self) -> PlainProfile;

    /// Checks a key: engines restrict names that other clients see.
    ///
    /// # Errors
    /// [`StorageError::InvalidInput`] and [`StorageError::TooLarge`].
    fn check_key(&self, key: &str) -> Result<()>;

    /// Writes a value and answers its version.
    ///
    /// # Errors
    /// [`StorageError::PreconditionFailed`], and the engine's own.
    async fn put(&self, key: &str, write: PlainWrite) -> Result<Version>;

    /// Reads a value, or a range of it: the end is cut to the size, a start past the size gives no
    /// bytes, and an empty range gives all but the bytes.
    ///
    /// # Errors
    /// The engine's own.
    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<Option<PlainObject>>;

    /// Removes a value and says whether one was there.
    ///
    /// # Errors
    /// [`StorageError::PreconditionFailed`], and the engine's own.
    async fn remove(&self, key: &str, condition: Condition) -> Result<bool>;

    /// As [`Driver::scan`](crate::driver::Driver::scan), of keys that [`PlainDriver::check_key`]
    /// lets through.
    ///
    /// # Errors
    /// The engine's own.
    async fn scan(&self, scan: Scan) -> Result<Vec<Listed>> {
        let _ = scan;
        Err(StorageError::unsupported(format!("{} does not list plain keys", self.profile().name)))
    }

    /// Whether the engine answers.
    async fn health_check(&self) -> HealthStatus;
}

/// A namespace of plain bytes as a [`StorageBackend`].
#[derive(Debug, Clone)]
pub struct PlainBackend {
    driver: Arc<dyn PlainDriver>,
    namespace: Arc<str>,
    profile: PlainProfile,
}

impl PlainBackend {
    /// The namespace of this name, which `driver` keeps.
    #[must_use]
    pub fn new(driver: Arc<dyn PlainDriver>, namespace: &str) -> Self {
        Self { profile: driver.profile(), driver, namespace: namespace.into() }
    }

    fn locate(&self, error: StorageError, key: &str) -> StorageError {
        error.with_namespace(&*self.namespace).with_key(key)
    }

    fn check(&self, key: &str) -> Result<()> {
        check_key(key)?;
        self.driver.check_key(key)
    }

    fn refuse(&self, what: &str) -> StorageError {
        StorageError::unsupported(format!("plain bytes in {} have no {what}", self.profile.name))
    }

    fn require(&self, condition: Condition) -> Result<()> {
        if condition == Condition::Always || self.profile.conditional {
            return Ok(());
        }
        Err(self.refuse("conditions"))
    }

    fn checked(&self, key: &str, value: Bytes, options: StorageOptions) -> Result<PlainWrite> {
        let now_ms = crate::env::Env::now_ms(&crate::env::SystemEnv);
        let checked = check_write(key, value.len(), &options, now_ms)?;
        self.driver.check_key(key)?;
        self.require(options.condition)?;
        let Metadata { content_type, user, .. } = options.metadata;
        if !user.is_empty() {
            return Err(self.refuse("metadata but a media type"));
        }
        if content_type.is_some() && !self.profile.content_type {
            return Err(self.refuse("media types"));
        }
        if checked.expires_at_ms.is_some() && !self.profile.ttl {
            return Err(self.refuse("time to live"));
        }
        if options.version.is_some() {
            return Err(self.refuse("versions of the caller's"));
        }
        if value.len() as u64 > self.profile.value_bytes_max {
            return Err(StorageError::too_large(format!(
                "{} takes plain values of up to {} bytes, this one has {}",
                self.profile.name,
                self.profile.value_bytes_max,
                value.len()
            )));
        }
        let (expires_at_ms, condition) = (checked.expires_at_ms, options.condition);
        Ok(PlainWrite { value, content_type, expires_at_ms, condition })
    }

    async fn find(&self, key: &str, range: Option<Range<u64>>) -> Result<Option<PlainObject>> {
        self.check(key)?;
        self.driver.get(key, range).await
    }
}

/// The error of an engine that keeps no plain bytes.
pub(crate) fn no_plain(name: &str) -> StorageError {
    StorageError::unsupported(format!(
        "{name} keeps no plain bytes that other clients read; Redis and the object stores do"
    ))
}

/// Keys of a driver, none of which a listing has to leave out.
struct Keys<'a>(&'a dyn PlainDriver);

#[async_trait]
impl Source for Keys<'_> {
    async fn scan(&self, scan: Scan) -> Result<Vec<Listed>> {
        self.0.scan(scan).await
    }

    async fn live(&self, found: Vec<Listed>) -> Result<VecDeque<Listed>> {
        Ok(found.into())
    }
}

fn head_of(object: &PlainObject) -> ObjectHead {
    ObjectHead {
        version: object.version,
        size: object.size,
        expires_at_ms: object.expires_at_ms,
        metadata: Metadata { content_type: object.content_type.clone(), ..Metadata::default() },
    }
}

#[async_trait]
impl StorageBackend for PlainBackend {
    fn capabilities(&self) -> Capabilities {
        let profile = &self.profile;
        Capabilities {
            name: profile.name,
            persistent: profile.persistent,
            ttl: profile.ttl,
            conditional: profile.conditional,
            list: profile.list,
            list_sizes: profile.list,
            exact_versions: false,
            range: true,
            atomic_batch: false,
            namespaces: false,
            metadata: profile.content_type,
            value_bytes_max: profile.value_bytes_max.min(VALUE_BYTES_MAX as u64),
        }
    }

    async fn put(&self, key: &str, value: Bytes, options: StorageOptions) -> Result<Version> {
        let write = async {
            let write = self.checked(key, value, options)?;
            self.driver.put(key, write).await
        };
        write.await.map_err(|error| self.locate(error, key))
    }

    async fn read(&self, key: &str, options: ReadOptions) -> Result<Option<Object>> {
        let read = async {
            if let Some(range) = &options.range
                && range.start > range.end
            {
                return Err(StorageError::invalid_input("the range ends before it starts"));
            }
            let found = self.find(key, options.range.clone()).await?;
            if options.condition != Condition::Always {
                options.condition.require(found.as_ref().map(|object| object.version))?;
            }
            let Some(object) = found else { return Ok(None) };
            let start = options.range.map_or(0, |range| range.start);
            check_range_start(start, object.size)?;
            let range = start..start + object.value.len() as u64;
            Ok(Some(Object { head: head_of(&object), value: object.value, range }))
        };
        read.await.map_err(|error| self.locate(error, key))
    }

    async fn remove(&self, key: &str, condition: Condition) -> Result<bool> {
        let remove = async {
            self.check(key)?;
            self.require(condition)?;
            self.driver.remove(key, condition).await
        };
        remove.await.map_err(|error| self.locate(error, key))
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectHead>> {
        let found = self.find(key, Some(0..0)).await;
        let found = found.map_err(|error| self.locate(error, key))?;
        Ok(found.as_ref().map(head_of))
    }

    async fn list(&self, options: ListOptions) -> Result<ListPage> {
        page(&Keys(&*self.driver), &options)
            .await
            .map_err(|error| error.with_namespace(&*self.namespace))
    }

    async fn stats(&self) -> Result<StorageStats> {
        Ok(StorageStats::default())
    }

    async fn health_check(&self) -> HealthStatus {
        self.driver.health_check().await
    }
}
