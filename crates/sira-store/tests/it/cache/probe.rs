//! A backend that counts what is asked of it, and can be held up, fail, hang and lie.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use sira_store::{
    BatchOperation, BatchResult, Capabilities, Condition, ListOptions, ListPage, Object,
    ObjectHead, ReadOptions, Result, StorageBackend, StorageError, StorageOptions, Version,
};
use tokio::sync::Notify;

/// How a probe behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Mood {
    Well = 0,
    Fails = 1,
    Hangs = 2,
    /// Values come back with a bit flipped.
    Lies = 3,
    /// Nothing is there, and nothing stays.
    Forgets = 4,
    /// Removals fail, the rest works.
    KeepsAll = 5,
}

/// Clones share everything.
#[derive(Debug, Clone)]
pub struct Probe(Arc<Shared>);

#[derive(Debug)]
pub struct Shared {
    inner: Arc<dyn StorageBackend>,
    mood: AtomicU8,
    /// Reads that fail before the next works.
    pub failures: AtomicUsize,
    pub reads: AtomicUsize,
    pub heads: AtomicUsize,
    pub batches: AtomicUsize,
    pub puts: AtomicUsize,
    held: AtomicBool,
    waiting: AtomicUsize,
    released: Notify,
}

impl std::ops::Deref for Probe {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Probe {
    pub fn new(inner: Arc<dyn StorageBackend>) -> Self {
        Self(Arc::new(Shared {
            inner,
            mood: AtomicU8::new(0),
            failures: AtomicUsize::new(0),
            reads: AtomicUsize::new(0),
            heads: AtomicUsize::new(0),
            batches: AtomicUsize::new(0),
            puts: AtomicUsize::new(0),
            held: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            released: Notify::new(),
        }))
    }

    pub fn set(&self, mood: Mood) {
        self.mood.store(mood as u8, Ordering::SeqCst);
    }

    fn is(&self, mood: Mood) -> bool {
        self.mood.load(Ordering::SeqCst) == mood as u8
    }

    pub fn count(&self, counter: &AtomicUsize) -> usize {
        counter.load(Ordering::SeqCst)
    }

    /// Reads wait after they have read, until they are released.
    pub fn hold(&self) {
        self.held.store(true, Ordering::SeqCst);
    }

    pub fn release(&self) {
        self.held.store(false, Ordering::SeqCst);
        self.released.notify_waiters();
    }

    /// Waits until this many reads are held.
    pub async fn until_held(&self, count: usize) {
        while self.waiting.load(Ordering::SeqCst) < count {
            tokio::task::yield_now().await;
        }
    }

    async fn wait(&self) {
        let released = self.released.notified();
        if !self.held.load(Ordering::SeqCst) {
            return;
        }
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let _left = Left(&self.waiting);
        released.await;
    }

    async fn begin(&self, counter: &AtomicUsize) -> Result<()> {
        counter.fetch_add(1, Ordering::SeqCst);
        if self.is(Mood::Hangs) {
            std::future::pending::<()>().await;
        }
        if self.is(Mood::Fails) {
            return Err(StorageError::unavailable("out of order"));
        }
        Ok(())
    }
}

struct Left<'a>(&'a AtomicUsize);

impl Drop for Left<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl StorageBackend for Probe {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn put(&self, key: &str, value: Bytes, options: StorageOptions) -> Result<Version> {
        self.begin(&self.puts).await?;
        if self.is(Mood::Forgets) {
            return Ok(Version::from_u64(1));
        }
        self.inner.put(key, value, options).await
    }

    async fn read(&self, key: &str, options: ReadOptions) -> Result<Option<Object>> {
        self.begin(&self.reads).await?;
        let fails = |left: usize| left.checked_sub(1);
        let found = self.inner.read(key, options).await;
        self.wait().await;
        if self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fails).is_ok() {
            return Err(StorageError::timeout("no answer in time"));
        }
        if self.is(Mood::Forgets) {
            return Ok(None);
        }
        let lies = self.is(Mood::Lies);
        found.map(|found| {
            found.map(|mut object| {
                let mut bytes = object.value.to_vec();
                let middle = bytes.len() / 2;
                if let Some(byte) = bytes.get_mut(middle).filter(|_| lies) {
                    *byte ^= 0x10;
                }
                object.value = bytes.into();
                object
            })
        })
    }

    async fn remove(&self, key: &str, condition: Condition) -> Result<bool> {
        self.begin(&self.puts).await?;
        if self.is(Mood::KeepsAll) {
            return Err(StorageError::unavailable("nothing is removed today"));
        }
        self.inner.remove(key, condition).await
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectHead>> {
        self.begin(&self.heads).await?;
        self.inner.head(key).await
    }

    async fn list(&self, options: ListOptions) -> Result<ListPage> {
        self.inner.list(options).await
    }

    async fn batch(&self, operations: Vec<BatchOperation>) -> Result<Vec<BatchResult>> {
        self.begin(&self.batches).await?;
        if self.is(Mood::KeepsAll) && operations.iter().any(BatchOperation::is_write) {
            return Err(StorageError::unavailable("nothing is removed today"));
        }
        self.inner.batch(operations).await
    }

    async fn namespace(&self, name: &str) -> Result<Arc<dyn StorageBackend>> {
        self.inner.namespace(name).await
    }
}
