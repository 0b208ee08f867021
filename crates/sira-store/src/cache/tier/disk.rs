//! A tier on a local disk: an embedded engine in its own folder, with a bound on its bytes.

use std::collections::{HashMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::TierStore;
use crate::cache::options::DiskTierOptions;
use crate::embedded::{Engine, EngineOptions, NamespaceId, WriteOptions};
use crate::error::{Result, StorageError};
use crate::options::Durability;

/// Namespace of the entries.
const NAMESPACE: &str = "cache";

/// Bytes on disk beside name and entry.
const RECORD_OVERHEAD_BYTES: u64 = 64;

/// Operations at a time: each holds a thread for as long as the disk takes.
const OPERATIONS_MAX: usize = 16;

/// Least and largest size of a segment of the engine.
const SEGMENT_BYTES: (u64, u64) = (1 << 20, 256 << 20);

/// The engine's files, or why there are none.
#[derive(Debug)]
pub(super) struct Disk {
    shelf: std::result::Result<Arc<Shelf>, String>,
    permits: Arc<Semaphore>,
}

#[derive(Debug)]
struct Shelf {
    engine: Arc<Engine>,
    namespace: NamespaceId,
    order: Mutex<Order>,
    bytes_max: u64,
}

impl Disk {
    pub(super) fn open(options: &DiskTierOptions) -> Self {
        let shelf = Shelf::open(options).map(Arc::new).map_err(|error| {
            tracing::warn!(%error, folder = ?options.folder, "the cache on disk is off");
            error.to_string()
        });
        Self { shelf, permits: Arc::new(Semaphore::new(OPERATIONS_MAX)) }
    }

    /// Runs an operation on a thread that may block. Where too many wait for the disk, it is refused.
    async fn run<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&Shelf) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let shelf = self.shelf.as_ref().map_err(|error| {
            StorageError::unavailable(format!("the cache on disk could not be opened: {error}"))
        })?;
        let permit = Arc::clone(&self.permits).try_acquire_owned().map_err(|_| {
            StorageError::unavailable("the disk of the cache is too slow for what is asked of it")
        })?;
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return operation(shelf) };
        let shelf = Arc::clone(shelf);
        let task = runtime.spawn_blocking(move || {
            let result = operation(&shelf);
            drop(permit);
            result
        });
        task.await.map_err(|error| {
            StorageError::unavailable("the runtime shut down before the disk answered")
                .with_source(error)
        })?
    }
}

#[async_trait]
impl TierStore for Disk {
    async fn get(&self, name: &str) -> Result<Option<Bytes>> {
        let name = name.to_owned();
        self.run(move |shelf| shelf.get(&name)).await
    }

    async fn put(&self, name: &str, bytes: Bytes) -> Result<()> {
        let name = name.to_owned();
        self.run(move |shelf| shelf.put(&name, &bytes)).await
    }

    async fn remove(&self, names: &[String]) -> Result<()> {
        let names = names.to_vec();
        self.run(move |shelf| names.iter().try_for_each(|name| shelf.remove(name))).await
    }
}

impl Shelf {
    fn open(options: &DiskTierOptions) -> Result<Self> {
        let (least, most) = SEGMENT_BYTES;
        let engine = Engine::open(
            &options.folder,
            EngineOptions {
                durability: Durability::None,
                segment_bytes: (options.bytes / 16).clamp(least, most),
                checkpoint_bytes: options.bytes.max(least),
                reclaim_dead_ratio: 0.25,
                ..EngineOptions::default()
            },
        )?;
        let namespace = engine.namespace(NAMESPACE)?;
        let mut order = Order::default();
        engine.scan(namespace, b"", None, |entry| {
            if let Ok(name) = std::str::from_utf8(entry.key) {
                order.add(name, entry.size + name.len() as u64 + RECORD_OVERHEAD_BYTES);
            }
            ControlFlow::Continue(())
        })?;
        let shelf = Self { engine, namespace, order: Mutex::new(order), bytes_max: options.bytes };
        shelf.shrink()?;
        Ok(shelf)
    }

    fn get(&self, name: &str) -> Result<Option<Bytes>> {
        // Copied, so that nobody keeps a file of the tier alive.
        let copied = |object: crate::embedded::ObjectRef<'_>| Bytes::copy_from_slice(object.value);
        let found = self.engine.read(self.namespace, name.as_bytes(), copied)?;
        if found.is_some() {
            self.order.lock().read(name);
        }
        Ok(found)
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.engine.put(self.namespace, name.as_bytes(), bytes, WriteOptions::default())?;
        let weight = (bytes.len() + name.len()) as u64 + RECORD_OVERHEAD_BYTES;
        self.order.lock().add(name, weight);
        self.shrink()
    }

    fn remove(&self, name: &str) -> Result<()> {
        self.order.lock().forget(name);
        let key = (self.namespace, name.as_bytes());
        let mut transaction = self.engine.begin(&[key]);
        if transaction.delete(key.0, key.1)? {
            transaction.commit()?;
        }
        Ok(())
    }

    /// Removes entries until the rest fits.
    fn shrink(&self) -> Result<()> {
        loop {
            let victim = {
                let mut order = self.order.lock();
                if order.bytes <= self.bytes_max {
                    return Ok(());
                }
                order.oldest()
            };
            match victim {
                Some(name) => self.remove(&name)?,
                None => return Ok(()),
            }
        }
    }
}

/// Names in the order in which they came; one that was read since gets a second round.
#[derive(Debug, Default)]
struct Order {
    queue: VecDeque<(Arc<str>, u64)>,
    known: HashMap<Arc<str>, Known, foldhash::fast::FixedState>,
    bytes: u64,
    turn: u64,
}

#[derive(Debug)]
struct Known {
    /// A place in the queue of another turn stands for nothing.
    turn: u64,
    weight: u64,
    read: bool,
}

impl Order {
    fn add(&mut self, name: &str, weight: u64) {
        self.forget(name);
        let name: Arc<str> = name.into();
        self.turn += 1;
        self.bytes += weight;
        self.queue.push_back((Arc::clone(&name), self.turn));
        self.known.insert(name, Known { turn: self.turn, weight, read: false });
        if self.queue.len() > 2 * self.known.len() + 16 {
            let known = &self.known;
            self.queue.retain(|(name, turn)| known.get(name).is_some_and(|k| k.turn == *turn));
        }
    }

    fn read(&mut self, name: &str) {
        if let Some(known) = self.known.get_mut(name) {
            known.read = true;
        }
    }

    fn forget(&mut self, name: &str) {
        if let Some(known) = self.known.remove(name) {
            self.bytes -= known.weight;
        }
    }

    /// The next to go; it stays known until it is forgotten.
    fn oldest(&mut self) -> Option<Arc<str>> {
        while let Some((name, turn)) = self.queue.pop_front() {
            match self.known.get_mut(&name) {
                Some(known) if known.turn == turn && known.read => {
                    known.read = false;
                    self.queue.push_back((name, turn));
                }
                Some(known) if known.turn == turn => return Some(name),
                _ => {}
            }
        }
        None
    }
}
