//! Outside engines: what a driver must do, and the backend that is made of one.
//!
//! A [`Driver`] keeps records: a version, an expiry, a small envelope and a body, under a key in a
//! [`Place`]. That is all that an engine has to be asked for. Everything else that
//! [`crate::StorageBackend`] promises is done once, by [`DriverBackend`], for every driver: versions,
//! exact expiry, checksums, limits, values larger than the engine takes, batches, listings and
//! operations that are dropped half way.
//!
//! Engines that keep plain bytes under a key store a record as one piece, see [`Record::encode`]; its
//! layout is in `docs/formats/envelope.md`.

mod backend;
mod batch;
mod chunks;
mod envelope;
mod guard;
pub(crate) mod listing;
mod locks;
pub mod names;
mod record;
mod store;
mod stream;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;

use crate::backend::{HealthStatus, StorageStats};
use crate::error::{Result, StorageError};
use crate::plain::PlainDriver;
use crate::version::Version;

pub use backend::DriverBackend;
pub(crate) use guard::check_newer;
pub use guard::{Guard, Held};
pub(crate) use locks::KeyLocks;
pub use record::{HEAD_BYTES, Record, RecordHead};

/// Where a key lies: the same key in two places is two records.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    /// Name of the namespace; [`crate::key::check_namespace`] holds for it.
    pub namespace: Arc<str>,
    /// What the record is.
    pub area: Area,
}

/// What a record is. A driver keeps areas apart and treats them alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Area {
    /// An object of the caller's.
    Objects,
    /// A piece of a value that is larger than the engine takes as one. Written once and never
    /// changed; keys are printable ASCII of up to 96 bytes.
    Chunks,
}

impl Area {
    /// A short name, for keys and folders: `o` or `c`.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Objects => "o",
            Self::Chunks => "c",
        }
    }
}

/// What an engine can do, as its driver uses it. The conformance suite checks what is declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DriverProfile {
    /// Short name of the engine, such as `redis`.
    pub name: &'static str,
    /// Keeps data across a restart.
    pub persistent: bool,
    /// Guards are checked and the change applied as one step, also against other processes. Where
    /// this is false, only [`crate::Condition::Always`] comes in.
    pub conditional: bool,
    /// [`Driver::scan`] works.
    pub list: bool,
    /// What [`Driver::scan`] tells as size is the size of the value.
    pub list_sizes: bool,
    /// [`Part::Range`] reads less than the whole record.
    pub range: bool,
    /// [`Driver::commit`] works.
    pub atomic_batch: bool,
    /// Most changes of one [`Driver::commit`].
    pub commit_changes_max: usize,
    /// Largest body of one record, in bytes. Larger values are cut into chunks of at most this.
    pub body_bytes_max: u64,
    /// Largest value, chunks together, in bytes.
    pub value_bytes_max: u64,
}

impl DriverProfile {
    /// An engine that stores records of up to `body_bytes_max` and declares nothing more.
    #[must_use]
    pub const fn blind(body_bytes_max: u64) -> Self {
        Self {
            name: "",
            persistent: false,
            conditional: false,
            list: false,
            list_sizes: false,
            range: false,
            atomic_batch: false,
            commit_changes_max: 0,
            body_bytes_max,
            value_bytes_max: body_bytes_max,
        }
    }
}

/// Which part of a record to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// All but the body, which is left empty.
    Head,
    /// Everything.
    Whole,
    /// The envelope, and these bytes of the body; the end is cut to the body's size, and a start
    /// past it gives no bytes.
    Range(Range<u64>),
}

/// Which keys to scan.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scan {
    /// Keys begin with this.
    pub prefix: String,
    /// Keys come after this.
    pub after: Option<After>,
    /// Most keys to answer with; at least 1.
    pub limit: usize,
}

impl Scan {
    /// Whether a key has the prefix and comes after the place.
    #[must_use]
    pub fn covers(&self, key: &str) -> bool {
        key.starts_with(&self.prefix) && self.after.as_ref().is_none_or(|after| after.precedes(key))
    }
}

/// A place in the byte order of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum After {
    /// After this key.
    Key(String),
    /// After every key that begins with this.
    Prefix(String),
}

impl After {
    /// The place as bytes: keys come after it exactly when their UTF-8 bytes are greater.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Key(key) => key.as_bytes().to_vec(),
            Self::Prefix(prefix) => {
                // No UTF-8 text holds this byte.
                let mut bytes = prefix.as_bytes().to_vec();
                bytes.push(0xFF);
                bytes
            }
        }
    }

    /// Whether a key comes after this place.
    #[must_use]
    pub fn precedes(&self, key: &str) -> bool {
        match self {
            Self::Key(after) => key > after.as_str(),
            Self::Prefix(after) => key > after.as_str() && !key.starts_with(after.as_str()),
        }
    }
}

/// One key of a scan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The key.
    pub key: String,
    /// Bytes of the value, or of what is stored where [`DriverProfile::list_sizes`] is false.
    pub size: u64,
    /// Version of the record, where the engine tells without reading it.
    pub version: Option<Version>,
    /// When it expires.
    pub expiry: Expiry,
}

/// When a record expires, as far as a scan knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// Never.
    Never,
    /// At this time, in milliseconds since the Unix epoch.
    At(u64),
    /// The record would have to be read for it. Asked for one by one, so a driver answers this only
    /// for records that may expire.
    Unknown,
}

impl From<Option<u64>> for Expiry {
    fn from(expires_at_ms: Option<u64>) -> Self {
        expires_at_ms.map_or(Self::Never, Self::At)
    }
}

/// One change of a [`Driver::commit`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Writes a record.
    Put {
        /// The key.
        key: String,
        /// The record.
        record: Record,
        /// What must hold.
        guard: Guard,
    },
    /// Removes a record.
    Remove {
        /// The key.
        key: String,
        /// What must hold.
        guard: Guard,
    },
    /// Changes nothing, and fails unless the key holds what is demanded. In a [`Driver::commit`],
    /// that must still hold when the changes take effect: nobody may write the key in between.
    Check {
        /// The key.
        key: String,
        /// What must hold.
        guard: Guard,
    },
}

impl Change {
    /// Whether it changes nothing.
    #[must_use]
    pub fn is_check(&self) -> bool {
        matches!(self, Self::Check { .. })
    }

    /// Key that the change is about.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Put { key, .. } | Self::Remove { key, .. } | Self::Check { key, .. } => key,
        }
    }

    /// What must hold.
    #[must_use]
    pub fn guard(&self) -> &Guard {
        match self {
            Self::Put { guard, .. } | Self::Remove { guard, .. } | Self::Check { guard, .. } => {
                guard
            }
        }
    }

    /// Makes the change by itself, and answers as [`Driver::apply_many`] does.
    ///
    /// # Errors
    /// As [`Driver::put`], [`Driver::get`] and [`Driver::remove`].
    pub async fn apply<D: Driver + ?Sized>(
        self,
        driver: &D,
        place: &Place,
    ) -> Result<Option<Version>> {
        match self {
            Self::Put { key, record, guard } => {
                driver.put(place, &key, record, guard).await.map(Some)
            }
            Self::Remove { key, guard } => driver.remove(place, &key, guard).await.map(|_| None),
            Self::Check { key, guard } => {
                let held = driver.get(place, &key, Part::Head).await?;
                guard.admit_removal(held.as_ref().map(Record::held)).map(|_| None)
            }
        }
    }
}

/// Makes changes one after the other, and answers as [`Driver::apply_many`].
pub async fn apply_each<D: Driver + ?Sized>(
    driver: &D,
    place: &Place,
    changes: Vec<Change>,
) -> Vec<Result<Option<Version>>> {
    let mut results = Vec::with_capacity(changes.len());
    for change in changes {
        results.push(change.apply(driver, place).await);
    }
    results
}

/// Why nothing of a [`Driver::commit`] took effect.
#[derive(Debug)]
pub struct CommitError {
    /// Index of the change whose guard did not hold, or that the engine refused; `None` when it was
    /// not one of them.
    pub index: Option<usize>,
    /// What was wrong.
    pub error: StorageError,
}

impl From<StorageError> for CommitError {
    fn from(error: StorageError) -> Self {
        Self { index: None, error }
    }
}

/// An outside engine.
///
/// Rules for every method: keys are any UTF-8 text of 1 to 1,024 bytes, also with zero bytes,
/// slashes, blanks and dots, and keep their byte order in scans. Records that have expired may be
/// answered or left out, as is cheaper; [`DriverBackend`] looks at the expiry of what it gets. An
/// engine may drop expired records by itself, never early. A call may be dropped at any await.
/// Errors name what failed and what to do, never credentials, and say whether a retry helps:
/// [`crate::Retry::Ambiguous`] where a write may have been applied.
#[async_trait]
pub trait Driver: Send + Sync + fmt::Debug + 'static {
    /// What the engine can do.
    fn profile(&self) -> DriverProfile;

    /// Whether [`Driver::put`] and [`Driver::remove`] judge their guard and make the change in one
    /// request, in whatever order requests arrive, and others that change the key at the same time
    /// cost no more than their turn. Where this is false, writers of a key within a process take
    /// turns before they ask the engine.
    fn writes_in_one_step(&self) -> bool {
        false
    }

    /// Writes a record if the guard holds, and answers its version: the record's own, or a greater
    /// one as [`Guard::admit`] explains. An engine that cannot look before it writes may write a
    /// record without a condition and without `exact` as it is.
    ///
    /// # Errors
    /// [`StorageError::PreconditionFailed`] and [`StorageError::Conflict`] as [`Guard::admit`], and
    /// the engine's own.
    async fn put(&self, place: &Place, key: &str, record: Record, guard: Guard) -> Result<Version>;

    /// Reads a record or part of it: head and body of one and the same version. Without
    /// [`DriverProfile::range`], no part of a body is asked for; a body where [`Part::Head`] was
    /// asked for does no harm.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] for stored bytes that are no record, and the engine's own.
    async fn get(&self, place: &Place, key: &str, part: Part) -> Result<Option<Record>>;

    /// Removes a record if the guard holds, and says whether one was there that had not expired.
    /// Of many that remove one record at once, one is told that it was there.
    ///
    /// # Errors
    /// [`StorageError::PreconditionFailed`], and the engine's own.
    async fn remove(&self, place: &Place, key: &str, guard: Guard) -> Result<bool>;

    /// Keys in byte order. Fewer than the limit means that there are no more.
    ///
    /// # Errors
    /// The engine's own.
    async fn scan(&self, place: &Place, scan: Scan) -> Result<Vec<Listed>> {
        let _ = (place, scan);
        Err(StorageError::unsupported(format!("{} does not list keys", self.profile().name)))
    }

    /// Reads several records, in one round trip where the engine can. Keys differ. Where
    /// [`DriverProfile::atomic_batch`] is declared, they are those of one moment: all or nothing is
    /// seen of a [`Driver::commit`].
    ///
    /// # Errors
    /// When nothing could be read.
    async fn get_many(&self, place: &Place, keys: &[String]) -> Result<Vec<Option<Record>>> {
        let mut records = Vec::with_capacity(keys.len());
        for key in keys {
            records.push(self.get(place, key, Part::Whole).await?);
        }
        Ok(records)
    }

    /// Makes several changes, each by itself, in one round trip where the engine can, and answers
    /// each: the version of a put, `None` for a removal and a check. Keys differ.
    async fn apply_many(
        &self,
        place: &Place,
        changes: Vec<Change>,
    ) -> Vec<Result<Option<Version>>> {
        apply_each(self, place, changes).await
    }

    /// Makes all changes or none, as one step that no reader sees half of, and answers as
    /// [`Driver::apply_many`]. Keys differ; there are at most
    /// [`DriverProfile::commit_changes_max`] of them.
    ///
    /// # Errors
    /// [`CommitError`] when a guard did not hold or the engine failed; then nothing was changed,
    /// unless the error is ambiguous.
    async fn commit(
        &self,
        place: &Place,
        changes: Vec<Change>,
    ) -> Result<Vec<Option<Version>>, CommitError> {
        let _ = (place, changes);
        Err(StorageError::unsupported(format!("{} has no atomic batches", self.profile().name))
            .into())
    }

    /// Drops up to `limit` records that expired at or before `now_ms`, of all namespaces, where the
    /// engine does not do so by itself, and says how many.
    ///
    /// # Errors
    /// The engine's own.
    async fn collect_expired(&self, now_ms: u64, limit: usize) -> Result<u64> {
        let _ = (now_ms, limit);
        Ok(0)
    }

    /// The namespace of this name as plain bytes that other clients of the engine see; `None` where
    /// the engine does not keep values as such.
    fn plain(self: Arc<Self>, namespace: &str) -> Option<Arc<dyn PlainDriver>> {
        let _ = namespace;
        None
    }

    /// Figures, as far as the engine tells them cheaply.
    ///
    /// # Errors
    /// The engine's own.
    async fn stats(&self) -> Result<StorageStats> {
        Ok(StorageStats::default())
    }

    /// Whether the engine answers, by its own ping.
    async fn health_check(&self) -> HealthStatus;
}

/// Defines a backend that is a [`DriverBackend`] under a name of its own: `Debug`, `Clone`,
/// `From<DriverBackend>` and the whole of [`crate::StorageBackend`]. The crate that uses it needs
/// `async-trait`.
///
/// ```
/// use sira_store::driver::DriverBackend;
///
/// sira_store::named_backend! {
///     /// Objects in an engine of ours.
///     pub struct OurBackend;
/// }
///
/// # fn is_backend<T: sira_store::StorageBackend + From<DriverBackend> + Clone>() {}
/// is_backend::<OurBackend>();
/// ```
#[macro_export]
macro_rules! named_backend {
    ($(#[$attribute:meta])* $visibility:vis struct $name:ident;) => {
        $(#[$attribute])*
        #[derive(Debug, Clone)]
        $visibility struct $name($crate::driver::DriverBackend);

        impl $name {
            /// The backend of the driver, which has what the storage trait does not.
            #[must_use]
            pub fn driver_backend(&self) -> &$crate::driver::DriverBackend {
                &self.0
            }
        }

        impl From<$crate::driver::DriverBackend> for $name {
            fn from(backend: $crate::driver::DriverBackend) -> Self {
                Self(backend)
            }
        }

        #[async_trait::async_trait]
        impl $crate::StorageBackend for $name {
            fn capabilities(&self) -> $crate::Capabilities {
                self.0.capabilities()
            }

            async fn put(
                &self,
                key: &str,
                value: $crate::Bytes,
                options: $crate::StorageOptions,
            ) -> $crate::Result<$crate::Version> {
                self.0.put(key, value, options).await
            }

            async fn put_stream(
                &self,
                key: &str,
                body: $crate::ByteStream,
                options: $crate::StorageOptions,
            ) -> $crate::Result<$crate::Version> {
                self.0.put_stream(key, body, options).await
            }

            async fn read(
                &self,
                key: &str,
                options: $crate::ReadOptions,
            ) -> $crate::Result<Option<$crate::Object>> {
                self.0.read(key, options).await
            }

            async fn remove(
                &self,
                key: &str,
                condition: $crate::Condition,
            ) -> $crate::Result<bool> {
                self.0.remove(key, condition).await
            }

            async fn head(&self, key: &str) -> $crate::Result<Option<$crate::ObjectHead>> {
                self.0.head(key).await
            }

            async fn list(
                &self,
                options: $crate::ListOptions,
            ) -> $crate::Result<$crate::ListPage> {
                self.0.list(options).await
            }

            async fn batch(
                &self,
                operations: Vec<$crate::BatchOperation>,
            ) -> $crate::Result<Vec<$crate::BatchResult>> {
                self.0.batch(operations).await
            }

            async fn stats(&self) -> $crate::Result<$crate::StorageStats> {
                self.0.stats().await
            }

            async fn health_check(&self) -> $crate::HealthStatus {
                self.0.health_check().await
            }

            async fn namespace(
                &self,
                name: &str,
            ) -> $crate::Result<std::sync::Arc<dyn $crate::StorageBackend>> {
                $crate::StorageBackend::namespace(&self.0, name).await
            }

            async fn plain(
                &self,
                name: &str,
            ) -> $crate::Result<std::sync::Arc<dyn $crate::StorageBackend>> {
                $crate::StorageBackend::plain(&self.0, name).await
            }
        }
    };
}
