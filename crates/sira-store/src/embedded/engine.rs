//! Stand-in with the final interface.
#![allow(missing_docs)]
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use super::transaction::Transaction;
use super::*;
use crate::StorageStats;
use crate::env::{Env, SystemEnv};
use crate::error::Result;
use crate::version::HybridClock;

type Key = (u32, Vec<u8>);

pub struct Engine {
    pub(super) map: RwLock<BTreeMap<Key, StoredObject>>,
    pub(super) writer: Mutex<()>,
    pub(super) clock: HybridClock,
    pub(super) env: Arc<dyn Env>,
    names: Mutex<BTreeMap<String, u32>>,
    next: AtomicU64,
    pub(super) log: AtomicU64,
    watchers: Mutex<Vec<Arc<dyn Fn() + Send + Sync>>>,
    options: EngineOptions,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Engine")
    }
}

impl Engine {
    /// Opens or makes the store in a folder.
    pub fn open(root: &Path, options: EngineOptions) -> Result<Arc<Self>> {
        let _ = root;
        Ok(Arc::new(Self {
            map: RwLock::default(),
            writer: Mutex::default(),
            clock: HybridClock::default(),
            env: Arc::new(SystemEnv),
            names: Mutex::default(),
            next: AtomicU64::new(1),
            log: AtomicU64::new(0),
            watchers: Mutex::default(),
            options,
        }))
    }
    pub fn options(&self) -> &EngineOptions {
        &self.options
    }
    /// The environment that the engine runs in.
    pub fn env(&self) -> &Arc<dyn Env> {
        &self.env
    }
    /// The namespace of this name, made (durably) if it is not there.
    pub fn namespace(&self, name: &str) -> Result<NamespaceId> {
        let mut names = self.names.lock();
        if let Some(id) = names.get(name) {
            return Ok(NamespaceId(*id));
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed) as u32;
        names.insert(name.to_owned(), id);
        Ok(NamespaceId(id))
    }
    pub fn find_namespace(&self, name: &str) -> Option<NamespaceId> {
        self.names.lock().get(name).map(|id| NamespaceId(*id))
    }
    /// Names and numbers of all namespaces, sorted by name.
    pub fn namespaces(&self) -> Vec<(String, NamespaceId)> {
        self.names.lock().iter().map(|(n, i)| (n.clone(), NamespaceId(*i))).collect()
    }
    /// Drops a namespace with all its objects, in constant visible time; says whether it was there.
    pub fn drop_namespace(&self, name: &str) -> Result<bool> {
        Ok(self.names.lock().remove(name).is_some())
    }
    /// Exchanges the contents of two namespaces as one step; both are made if not there.
    pub fn swap_namespaces(&self, a: &str, b: &str) -> Result<()> {
        let (x, y) = (self.namespace(a)?, self.namespace(b)?);
        let mut names = self.names.lock();
        names.insert(a.to_owned(), y.0);
        names.insert(b.to_owned(), x.0);
        Ok(())
    }
    pub(super) fn live(&self, ns: NamespaceId, key: &[u8]) -> Option<StoredObject> {
        let now = self.env.now_ms();
        self.map
            .read()
            .get(&(ns.0, key.to_vec()))
            .filter(|o| o.expires_at_ms.is_none_or(|at| at > now))
            .cloned()
    }
    /// Lends the object under a key to `visit`; expired objects are not there.
    pub fn read<R>(
        &self,
        ns: NamespaceId,
        key: &[u8],
        visit: impl FnOnce(ObjectRef<'_>) -> R,
    ) -> Result<Option<R>> {
        Ok(self.live(ns, key).map(|o| {
            visit(ObjectRef {
                version: o.version,
                expires_at_ms: o.expires_at_ms,
                metadata: &o.metadata,
                value: &o.value,
            })
        }))
    }
    /// The object under a key, without a copy.
    pub fn get(&self, ns: NamespaceId, key: &[u8]) -> Result<Option<StoredObject>> {
        Ok(self.live(ns, key))
    }
    /// A range of the object's bytes (the end is cut to the size); only what the range touches is
    /// read and verified. A start past the end gives no bytes.
    pub fn get_range(
        &self,
        ns: NamespaceId,
        key: &[u8],
        range: std::ops::Range<u64>,
    ) -> Result<Option<StoredObject>> {
        Ok(self.live(ns, key).map(|mut o| {
            let end = range.end.min(o.size) as usize;
            let start = (range.start as usize).min(end);
            o.value = o.value.slice(start..end);
            o
        }))
    }
    /// All but the bytes: `value` is empty, `size` is the whole size.
    pub fn head(&self, ns: NamespaceId, key: &[u8]) -> Result<Option<StoredObject>> {
        Ok(self.live(ns, key).map(|mut o| {
            o.value = Bytes::new();
            o
        }))
    }
    /// Visits keys in byte order: those that begin with `prefix` and come after `start_after`.
    /// Expired objects are left out. Writers go on meanwhile: a key that is there all the time is
    /// visited exactly once. `visit` must not call the engine.
    pub fn scan(
        &self,
        ns: NamespaceId,
        prefix: &[u8],
        start_after: Option<&[u8]>,
        mut visit: impl FnMut(ScanEntry<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        let now = self.env.now_ms();
        let from = match start_after {
            Some(after) if after >= prefix => std::ops::Bound::Excluded((ns.0, after.to_vec())),
            _ => std::ops::Bound::Included((ns.0, prefix.to_vec())),
        };
        for ((id, key), o) in self.map.read().range((from, std::ops::Bound::Unbounded)) {
            if *id != ns.0 || !key.starts_with(prefix) {
                break;
            }
            if o.expires_at_ms.is_some_and(|at| at <= now) {
                continue;
            }
            if visit(ScanEntry { key, size: o.size }).is_break() {
                break;
            }
        }
        Ok(())
    }
    /// Keys of a namespace, expired ones that are not collected yet included.
    pub fn count(&self, ns: NamespaceId) -> u64 {
        self.map.read().keys().filter(|(id, _)| *id == ns.0).count() as u64
    }
    /// Some key of a namespace, any of them; `None` when it is empty.
    pub fn random_key(&self, ns: NamespaceId) -> Result<Option<Bytes>> {
        let mut found = None;
        self.scan(ns, b"", None, |e| {
            found = Some(Bytes::copy_from_slice(e.key));
            ControlFlow::Break(())
        })?;
        Ok(found)
    }
    /// Writes one object, whatever was there.
    pub fn put(
        &self,
        ns: NamespaceId,
        key: &[u8],
        value: &[u8],
        options: WriteOptions<'_>,
    ) -> Result<Commit> {
        let mut tx = self.begin(&[(ns, key)]);
        tx.put(ns, key, Bytes::copy_from_slice(value), options)?;
        tx.commit()
    }
    /// Takes the keys for reading and writing as one step; others wait until the transaction is
    /// committed or dropped. Do not begin a second one on the same thread meanwhile.
    pub fn begin(&self, keys: &[(NamespaceId, &[u8])]) -> Transaction<'_> {
        let _ = keys;
        Transaction::new(self)
    }
    /// Takes every key of every namespace.
    pub fn begin_exclusive(&self) -> Transaction<'_> {
        Transaction::new(self)
    }
    /// Everything up to this ticket is durable.
    pub fn durable(&self) -> Ticket {
        Ticket(self.log.load(Ordering::Acquire))
    }
    /// Blocks until the ticket is durable, syncing for the whole group if nobody does.
    pub fn wait_durable(&self, ticket: Ticket) -> Result<()> {
        let _ = ticket;
        Ok(())
    }
    /// Asks the engine's own thread to make the ticket durable, and returns at once. Watchers are
    /// called when it is, or when the engine fails.
    pub fn request_durable(&self, ticket: Ticket) {
        let _ = ticket;
        for watcher in self.watchers.lock().iter() {
            watcher();
        }
    }
    /// Calls `watcher` after each sync, from the thread that synced; it must be quick and must not
    /// call the engine.
    pub fn watch_durable(&self, watcher: Arc<dyn Fn() + Send + Sync>) {
        self.watchers.lock().push(watcher);
    }
    /// `Err` when the engine has stopped taking writes (see [`crate::StorageError::ReadOnly`]).
    pub fn check_writable(&self) -> Result<()> {
        Ok(())
    }
    /// Waits (without blocking a thread) until the ticket is durable.
    pub async fn durable_async(&self, ticket: Ticket) -> Result<()> {
        let _ = ticket;
        Ok(())
    }
    /// Makes everything so far durable.
    pub fn flush(&self) -> Result<()> {
        Ok(())
    }
    pub fn stats(&self) -> StorageStats {
        StorageStats { keys: self.map.read().len() as u64, ..StorageStats::default() }
    }
    /// Seals, syncs and checkpoints; later writes are refused. Called on shutdown.
    pub fn close(&self) -> Result<()> {
        Ok(())
    }
}
