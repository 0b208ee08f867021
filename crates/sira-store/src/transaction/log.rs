//! Transactions over several backends.
//!
//! A transaction over namespaces that lie on different backends is committed by one record: what it
//! writes, kept in a namespace of the engine that the log is on, by the same step that makes its
//! writes in that engine's own namespaces. From then on the transaction has happened. Its keys hold
//! what it wrote for whoever reads them through the client, and are written to their backends
//! afterwards, as often as it takes; only when all of them hold it is the record removed. After a
//! crash whatever has a record is written through, and whatever has none never happened, so there is
//! nothing to roll back.
//!
//! A commit shuts out single writes to the keys that it has read or writes, looks whether they are
//! as they were, and commits. So transactions are serializable, with each other and with single
//! writes, among all that go through one log. What others write to the same backends, past this
//! process, is no part of that: the greater version stays.

mod apply;
mod backend;
mod commit;
mod figures;
mod gates;
mod listing;
mod record;
mod table;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::engine::{TransactionEngine, TransactionPart, check_parts};
use crate::backend::{BatchResult, ListOptions, ReadOptions, StorageBackend};
use crate::env::Env;
use crate::error::{Result, Retry, StorageError};
use crate::limits::LIST_LIMIT_MAX;
use crate::version::HybridClock;

use backend::LoggedBackend;
use gates::Gates;
use table::Table;

/// Most bytes of committed transactions that their backends do not hold yet.
const PENDING_BYTES_MAX: u64 = 256 << 20;

/// What came of transactions over several backends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TransactionFigures {
    /// Transactions that were committed since the start.
    pub committed: u64,
    /// Those that were written to their backends since the start.
    pub applied: u64,
    /// Writes that were tried again because a backend did not take them.
    pub retries: u64,
    /// Keys that another process had written meanwhile, so that its greater version stayed.
    pub overtaken: u64,
    /// Committed transactions that their backends do not hold yet.
    pub pending: u64,
    /// Bytes of those.
    pub pending_bytes: u64,
}

/// What makes transactions over several backends possible: records of those that were committed,
/// kept on an engine until their backends hold what they wrote. Clones are the same log.
#[derive(Clone)]
pub struct TransactionLog {
    shared: Arc<Shared>,
}

type Backends = HashMap<Arc<str>, Vec<Weak<dyn StorageBackend>>>;

/// What clones share.
struct Shared {
    /// Namespace of the records.
    records: Arc<dyn StorageBackend>,
    /// The engine that it lies on.
    engine: Arc<dyn TransactionEngine>,
    env: Arc<dyn Env>,
    clock: HybridClock,
    gates: Gates,
    table: Table,
    /// What lies below, by namespace; the newest last.
    backends: Mutex<Backends>,
    /// Told of a namespace that has come.
    arrived: Arc<Notify>,
    figures: Figures,
}

#[derive(Debug, Default)]
struct Figures {
    committed: AtomicU64,
    applied: AtomicU64,
    retries: AtomicU64,
    overtaken: AtomicU64,
    pending: AtomicU64,
    pending_bytes: AtomicU64,
}

impl TransactionLog {
    /// Namespace of the records on the log's engine.
    pub const NAMESPACE: &str = "sira.catalog.transactions";

    /// Opens the log on an engine that has several of its namespaces in one step, and goes on with
    /// the transactions that were committed and not written through before. Two logs of one engine
    /// must not be open at the same time.
    ///
    /// # Errors
    /// [`StorageError::Unsupported`] for an engine without such steps, and outside of a tokio
    /// runtime; [`StorageError::Corrupt`] for a record that cannot be read; the engine's own.
    pub async fn open(backend: Arc<dyn StorageBackend>, env: Arc<dyn Env>) -> Result<Self> {
        runtime()?;
        let Some(engine) = backend.transaction_engine() else {
            return Err(StorageError::unsupported(format!(
                "{} cannot keep the log of transactions over several backends: it takes an engine \
                 with several namespaces in one step, as the embedded one",
                backend.capabilities().name
            )));
        };
        let records = backend.namespace(Self::NAMESPACE).await?;
        let shared = Arc::new(Shared {
            records,
            engine,
            env,
            clock: HybridClock::default(),
            gates: Gates::default(),
            table: Table::default(),
            backends: Mutex::default(),
            arrived: Arc::default(),
            figures: Figures::default(),
        });
        shared.recover().await?;
        Ok(Self { shared })
    }

    /// A namespace with whatever transactions make of it, around the backends that it lies on. One
    /// that cannot take part in transactions over several backends, or lies on the log's own engine
    /// and needs none, is answered as it is.
    #[must_use]
    pub fn around(
        &self,
        namespace: &str,
        inner: Arc<dyn StorageBackend>,
    ) -> Arc<dyn StorageBackend> {
        let capabilities = inner.capabilities();
        let own = inner
            .transaction_engine()
            .is_some_and(|engine| engine.identity() == self.shared.engine.identity());
        if (own && !self.shared.table.has(namespace))
            || !(capabilities.conditional && capabilities.exact_versions)
        {
            return inner;
        }
        let namespace: Arc<str> = namespace.into();
        let mut backends = self.shared.backends.lock();
        let known = backends.entry(Arc::clone(&namespace)).or_default();
        let same = |other: &Weak<_>| std::ptr::addr_eq(other.as_ptr(), Arc::as_ptr(&inner));
        known.retain(|backend| backend.strong_count() > 0 && !same(backend));
        known.push(Arc::downgrade(&inner));
        drop(backends);
        self.shared.arrived.notify_waiters();
        Arc::new(LoggedBackend::new(self.clone(), namespace, inner))
    }

    /// Names of the namespaces that committed transactions have written and whose backends do not
    /// hold it yet.
    #[must_use]
    pub fn pending(&self) -> Vec<Arc<str>> {
        self.shared.table.namespaces()
    }

    /// What came of transactions since the start.
    #[must_use]
    pub fn figures(&self) -> TransactionFigures {
        let figures = &self.shared.figures;
        let of = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
        TransactionFigures {
            committed: of(&figures.committed),
            applied: of(&figures.applied),
            retries: of(&figures.retries),
            overtaken: of(&figures.overtaken),
            pending: of(&figures.pending),
            pending_bytes: of(&figures.pending_bytes),
        }
    }
}

impl Shared {
    /// Takes up the transactions that have a record.
    async fn recover(self: &Arc<Self>) -> Result<()> {
        let mut start_after = None;
        loop {
            let options =
                ListOptions { start_after, limit: LIST_LIMIT_MAX, ..ListOptions::default() };
            let page = self.records.list(options).await?;
            for entry in page.entries {
                let Some(object) = self.records.read(&entry.key, ReadOptions::default()).await?
                else {
                    continue;
                };
                let writes = record::decode(&object.value).map_err(|error| {
                    error.with_namespace(TransactionLog::NAMESPACE).with_key(&*entry.key)
                })?;
                for write in &writes {
                    self.clock.observe(write.version);
                }
                let writes: Arc<[_]> = writes.into_iter().map(Arc::new).collect();
                self.table.commit(&writes);
                self.write_through(entry.key, writes, object.value.len() as u64);
            }
            match page.next {
                Some(next) => start_after = Some(next),
                None => return Ok(()),
            }
        }
    }

    /// What a namespace lies on, as long as someone uses it.
    fn backend(&self, namespace: &str) -> Option<Arc<dyn StorageBackend>> {
        self.backends.lock().get(namespace)?.iter().rev().find_map(Weak::upgrade)
    }
}

#[async_trait]
impl TransactionEngine for TransactionLog {
    fn identity(&self) -> usize {
        Arc::as_ptr(&self.shared) as usize
    }

    fn covers(&self, other: &dyn TransactionEngine) -> bool {
        other.identity() == self.identity() || other.identity() == self.shared.engine.identity()
    }

    fn writes_once(&self) -> bool {
        false
    }

    async fn commit(&self, parts: Vec<TransactionPart>) -> Result<Vec<Vec<BatchResult>>> {
        check_parts(&parts)?;
        let shared = Arc::clone(&self.shared);
        // It ends whole when the caller leaves.
        let committed = runtime()?.spawn(async move { commit::run(&shared, parts).await });
        committed.await.unwrap_or_else(|error| {
            Err(StorageError::unavailable("the commit was stopped before it ended")
                .with_retry(Retry::Ambiguous)
                .with_source(error))
        })
    }
}

fn runtime() -> Result<Handle> {
    Handle::try_current().map_err(|error| {
        StorageError::unsupported(
            "transactions over several backends go on after their commit, and need a tokio runtime",
        )
        .with_source(error)
    })
}

impl fmt::Debug for TransactionLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransactionLog")
            .field("records", &self.shared.records)
            .field("figures", &self.figures())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
