//! Compression and encryption over every backend.

mod batch;
mod read;
mod rotate;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::backend::{
    BatchOperation, BatchResult, ByteStream, Capabilities, HealthStatus, ListOptions, ListPage,
    Object, ObjectHead, ReadOptions, StorageBackend, StorageStats, collect,
};
use crate::env::{Env, SystemEnv};
use crate::error::{Result, StorageError};
use crate::key::check_key;
use crate::options::{CompressionType, Condition, EncryptionType, StorageOptions};
use crate::seal::{Binding, Keyring, Seal, SealOptions, Sealed, plain_bytes_max, seal};
use crate::transaction::{PreparedPart, TransactionEngine, TransactionPart};
use crate::version::{HybridClock, Version};

pub use rotate::Rotation;

/// Values of at least this many bytes are sealed and opened on a thread of their own, so that the
/// runtime's go on with other work.
const BLOCKING_BYTES_MIN: usize = 256 * 1024;

/// Most times that a write is tried while others write the same key.
const TRIES: u32 = 16;

/// Compression and encryption over any backend that keeps metadata, see [`mod@crate::seal`].
///
/// Writes are sealed as their options ask, or else by the defaults of the wrapper. Reads open what
/// they find, however it was sealed, and give objects that were never sealed as they are. Encrypted
/// values are bound to the namespace that this wrapper is told, and to the version that they are
/// stored with: the backend underneath must take versions
/// ([`exact_versions`](Capabilities::exact_versions)).
///
/// Sizes of listings are those of the stored bytes.
///
/// ```
/// use std::sync::Arc;
/// use sira_store::seal::{Keyring, SealOptions};
/// use sira_store::{
///     CompressionType, EncryptionType, MemoryBackend, SealingBackend, StorageBackend, StorageOptions,
/// };
///
/// # pollster::block_on(async {
/// let memory = Arc::new(MemoryBackend::new(1 << 20));
/// let keyring = Arc::new(Keyring::new("2026-11", Keyring::generate_key()?)?);
/// let defaults = SealOptions {
///     compression: CompressionType::Zstd,
///     encryption: EncryptionType::Aes256Gcm { key_id: String::new() },
///     ..SealOptions::default()
/// };
/// let store = SealingBackend::new(memory.clone(), "default", keyring, defaults);
/// store.put("k", "secret ".repeat(1000).into(), StorageOptions::default()).await?;
/// assert_eq!(store.get("k").await?.unwrap().len(), 7000);
/// assert!(memory.get("k").await?.unwrap().len() < 100);
/// # Ok::<_, sira_store::StorageError>(()) })?;
/// # Ok::<_, sira_store::StorageError>(())
/// ```
#[derive(Clone)]
pub struct SealingBackend {
    inner: Arc<dyn StorageBackend>,
    namespace: Arc<str>,
    keyring: Arc<Keyring>,
    defaults: Arc<SealOptions>,
    clock: Arc<Clock>,
}

/// Where the versions of encrypted values come from.
pub(crate) struct Clock {
    versions: HybridClock,
    env: Arc<dyn Env>,
}

impl Clock {
    pub(crate) fn new(env: Arc<dyn Env>) -> Self {
        Self { versions: HybridClock::default(), env }
    }

    fn draw(&self) -> Version {
        self.versions.next_spread(self.env.now_ms(), self.env.random_u64())
    }

    /// Makes the next version greater than one that was refused, by a step that grows: what is in
    /// the way cannot always be seen.
    fn step_over(&self, refused: Version, held: Option<Version>, attempt: u32) {
        let step = (1 << 16) << attempt.min(TRIES);
        let refused = Version::from_u64(refused.as_u64().saturating_add(step));
        self.versions.observe(refused.max(held.unwrap_or_default()));
    }
}

/// How one write is sealed and stored.
struct Plan {
    seal: SealOptions,
    /// What is left for the backend.
    options: StorageOptions,
}

/// A write that is ready for the backend.
struct Ready {
    value: Bytes,
    options: StorageOptions,
    /// The seal of an encrypted value whose version was drawn here.
    drawn: Option<(Seal, Version)>,
}

impl SealingBackend {
    /// Seals what is written to `inner`, which shows the namespace of this name. Encrypted values
    /// open in a namespace of the same name only.
    #[must_use]
    pub fn new(
        inner: Arc<dyn StorageBackend>,
        namespace: &str,
        keyring: Arc<Keyring>,
        defaults: SealOptions,
    ) -> Self {
        let clock = Arc::new(Clock::new(Arc::new(SystemEnv)));
        Self::with_clock(inner, namespace.into(), keyring, Arc::new(defaults), clock)
    }

    /// As [`SealingBackend::new`], with the clock of `env`.
    #[must_use]
    pub fn with_env(self, env: Arc<dyn Env>) -> Self {
        Self { clock: Arc::new(Clock::new(env)), ..self }
    }

    pub(crate) fn with_clock(
        inner: Arc<dyn StorageBackend>,
        namespace: Arc<str>,
        keyring: Arc<Keyring>,
        defaults: Arc<SealOptions>,
        clock: Arc<Clock>,
    ) -> Self {
        Self { inner, namespace, keyring, defaults, clock }
    }

    /// The backend underneath.
    #[must_use]
    pub fn inner(&self) -> &Arc<dyn StorageBackend> {
        &self.inner
    }

    fn binding<'a>(&'a self, key: &'a str, version: Version) -> Binding<'a> {
        Binding { namespace: &self.namespace, key, version }
    }

    fn locate(&self, error: StorageError, key: &str) -> StorageError {
        error.with_namespace(&*self.namespace).with_key(key)
    }

    /// How a write is sealed: as it asks, else by the defaults.
    fn plan(&self, mut options: StorageOptions) -> Result<Plan> {
        if options.metadata.seal.is_some() {
            return Err(StorageError::invalid_input(
                "a seal describes stored bytes and cannot be given with a value; leave it out",
            ));
        }
        let asked = SealOptions::of(&options);
        let defaults = &*self.defaults;
        let mut seal = defaults.clone();
        if asked.compression != CompressionType::None {
            (seal.compression, seal.compression_level) = (asked.compression, None);
        }
        if asked.compression_level.is_some() {
            seal.compression_level = asked.compression_level;
        }
        if asked.is_encrypted() {
            seal.encryption = asked.encryption;
        }
        seal.check(&self.keyring)?;
        if !seal.is_plain() {
            self.check_capable(&seal)?;
        }
        options.compression = CompressionType::None;
        options.compression_level = None;
        options.encryption = EncryptionType::None;
        Ok(Plan { seal, options })
    }

    /// Checks that the backend can hold values that are sealed so.
    fn check_capable(&self, seal: &SealOptions) -> Result<()> {
        let capabilities = self.inner.capabilities();
        let missing = if !capabilities.metadata {
            "it keeps no metadata, where compression and encryption are described"
        } else if seal.is_encrypted() && !capabilities.exact_versions {
            "it takes no versions, which encrypted values are bound to"
        } else {
            return Ok(());
        };
        Err(StorageError::unsupported(format!(
            "{} cannot hold sealed values: {missing}; choose another backend",
            capabilities.name
        )))
    }

    /// Seals a value for the backend.
    fn ready(&self, key: &str, value: Bytes, plan: Plan) -> Result<Ready> {
        let Plan { seal: how, mut options } = plan;
        if how.is_plain() {
            return Ok(Ready { value, options, drawn: None });
        }
        let most = plain_bytes_max(self.inner.capabilities().value_bytes_max);
        if value.len() as u64 > most {
            return Err(StorageError::too_large(format!(
                "a value to compress or encrypt may have up to {most} bytes here, this one has {}",
                value.len()
            )));
        }
        let given = options.version;
        let version = match how.is_encrypted() {
            true => given.unwrap_or_else(|| self.clock.draw()),
            false => Version::default(),
        };
        let Some(Sealed { seal, payload }) =
            seal(&value, &how, &self.keyring, &self.binding(key, version))?
        else {
            return Ok(Ready { value, options, drawn: None });
        };
        options.metadata.seal = Some(seal.encode()?);
        let drawn = (how.is_encrypted() && given.is_none()).then_some((seal, version));
        if drawn.is_some() {
            options.version = Some(version);
        }
        Ok(Ready { value: payload, options, drawn })
    }

    /// As [`SealingBackend::ready`], on a thread of its own for a large value.
    async fn make_ready(&self, key: &str, value: Bytes, plan: Plan) -> Result<Ready> {
        if value.len() < BLOCKING_BYTES_MIN || plan.seal.is_plain() {
            return self.ready(key, value, plan);
        }
        let (own, key) = (self.clone(), key.to_owned());
        aside(move || own.ready(&key, value, plan)).await?
    }

    /// The same write with a newer version, after the one it had was refused.
    fn renew(&self, key: &str, ready: &mut Ready) -> Result<()> {
        let Some((seal, version)) = &mut ready.drawn else { return Ok(()) };
        let newer = self.clock.draw();
        let key_id = seal.encryption().map_or_else(String::new, |(_, id)| id.to_owned());
        let binding = Binding { namespace: &self.namespace, key, version: *version };
        (*seal, *version) = (seal.rewrap(&self.keyring, &binding, newer, &key_id)?, newer);
        ready.options.version = Some(newer);
        ready.options.metadata.seal = Some(seal.encode()?);
        Ok(())
    }

    /// Looks what was in the way of a version.
    async fn step_over(&self, key: &str, refused: Version, attempt: u32) -> Result<()> {
        let held = self.inner.head(key).await?.map(|head| head.version);
        self.clock.step_over(refused, held, attempt);
        Ok(())
    }

    async fn write(&self, key: &str, value: Bytes, plan: Plan) -> Result<Version> {
        let mut ready = self.make_ready(key, value, plan).await?;
        self.write_ready(key, &mut ready).await
    }

    /// Writes, with newer versions while others are faster.
    async fn write_ready(&self, key: &str, ready: &mut Ready) -> Result<Version> {
        let mut attempt = 0;
        loop {
            let written = self.inner.put(key, ready.value.clone(), ready.options.clone()).await;
            match (&written, &ready.drawn) {
                (Err(StorageError::Conflict(_)), Some((_, version))) if attempt < TRIES => {
                    self.step_over(key, *version, attempt).await?;
                    self.renew(key, ready)?;
                    attempt += 1;
                }
                _ => return written,
            }
        }
    }
}

/// Runs work on a thread for it where there is a runtime, else here.
async fn aside<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> Result<R> {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => runtime.spawn_blocking(work).await.map_err(|error| {
            StorageError::unavailable("the runtime shut down before the value was ready")
                .with_source(error)
        }),
        Err(_) => Ok(work()),
    }
}

#[async_trait]
impl StorageBackend for SealingBackend {
    fn capabilities(&self) -> Capabilities {
        let inner = self.inner.capabilities();
        let value_bytes_max = plain_bytes_max(inner.value_bytes_max);
        Capabilities { list_sizes: false, value_bytes_max, ..inner }
    }

    async fn put(&self, key: &str, value: Bytes, options: StorageOptions) -> Result<Version> {
        let written = match check_key(key).and_then(|()| self.plan(options)) {
            Ok(plan) => self.write(key, value, plan).await,
            Err(error) => Err(error),
        };
        written.map_err(|error| self.locate(error, key))
    }

    /// A value that is to be sealed is collected in memory.
    async fn put_stream(
        &self,
        key: &str,
        body: ByteStream,
        options: StorageOptions,
    ) -> Result<Version> {
        let locate = |error| self.locate(error, key);
        let plan = check_key(key).and_then(|()| self.plan(options)).map_err(locate)?;
        if plan.seal.is_plain() {
            return self.inner.put_stream(key, body, plan.options).await;
        }
        let value = collect(body).await.map_err(locate)?;
        self.write(key, value, plan).await.map_err(locate)
    }

    async fn read(&self, key: &str, options: ReadOptions) -> Result<Option<Object>> {
        self.load(key, options).await.map_err(|error| self.locate(error, key))
    }

    async fn remove(&self, key: &str, condition: Condition) -> Result<bool> {
        self.inner.remove(key, condition).await
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectHead>> {
        let Some(mut head) = self.inner.head(key).await? else { return Ok(None) };
        read::describe(&mut head).map_err(|error| self.locate(error, key))?;
        Ok(Some(head))
    }

    async fn exists(&self, key: &str) -> Result<bool> {
        self.inner.exists(key).await
    }

    async fn list(&self, options: ListOptions) -> Result<ListPage> {
        self.inner.list(options).await
    }

    async fn batch(&self, operations: Vec<BatchOperation>) -> Result<Vec<BatchResult>> {
        self.run_batch(operations).await.map_err(|error| error.with_namespace(&*self.namespace))
    }

    fn transaction_engine(&self) -> Option<Arc<dyn TransactionEngine>> {
        self.inner.transaction_engine()
    }

    async fn prepare(&self, part: TransactionPart) -> Result<PreparedPart<'_>> {
        self.prepare_part(part).await
    }

    async fn stats(&self) -> Result<StorageStats> {
        self.inner.stats().await
    }

    async fn health_check(&self) -> HealthStatus {
        self.inner.health_check().await
    }

    async fn namespace(&self, name: &str) -> Result<Arc<dyn StorageBackend>> {
        let inner = self.inner.namespace(name).await?;
        Ok(Arc::new(Self { inner, namespace: name.into(), ..self.clone() }))
    }

    async fn flush(&self) -> Result<()> {
        self.inner.flush().await
    }
}

impl fmt::Debug for SealingBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealingBackend")
            .field("inner", &self.inner)
            .field("namespace", &self.namespace)
            .field("keyring", &self.keyring)
            .field("defaults", &self.defaults)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
