//! Databases that do not lie on the engine as they are: a policy of their own keeps them elsewhere,
//! through the client.
//!
//! A command is the same code wherever its database lies. Away, it runs on a [`Snapshot`] of what
//! was read of the database so far; what it misses is read and the command begins again. Its writes
//! are staged and then written on the condition that what it read still holds, and if that is not so
//! it begins again with nothing read. All this is a task of the runtime's: the loops go on meanwhile,
//! and the client's later requests wait, but for those that each name one key, which go together.

mod errand;
mod fetch;
mod snapshot;
mod write;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use parking_lot::Mutex;
use sira_store::client::OpenNamespace;
use sira_store::transaction::TransactionPart;
use sira_store::{BatchOperation, Result, StorageClient, StorageError};

use super::shared::namespace_name;

pub(crate) use errand::{Ended, Errand, Request, spawn};
pub(crate) use snapshot::Snapshot;

/// Locks that commands take turns by which write the same keys all the time.
const TURNS: usize = 64;

/// What databases that are away are reached by.
pub(crate) struct Away {
    client: StorageClient,
    runtime: tokio::runtime::Handle,
    turns: Box<[tokio::sync::Mutex<()>]>,
}

impl Away {
    pub(crate) fn new(client: StorageClient, runtime: tokio::runtime::Handle) -> Self {
        let turns = (0..TURNS).map(|_| tokio::sync::Mutex::default()).collect();
        Self { client, runtime, turns }
    }

    async fn open(&self, database: u8) -> Result<OpenNamespace> {
        self.client.namespace(&namespace_name(database.into())).open().await
    }

    /// Runs operations of several databases, or of one whose engine has no atomic batches, as one
    /// step.
    async fn commit(&self, parts: BTreeMap<u8, Vec<BatchOperation>>) -> Result<()> {
        if self.client.plan().transaction_log.is_none() {
            return Err(StorageError::unsupported(
                "this takes one step over several keys, for which their database lies `direct` on one \
                 engine with atomic batches, or the server has a log of transactions",
            ));
        }
        let parts = parts.into_iter().map(|(database, operations)| TransactionPart {
            namespace: namespace_name(database.into()),
            operations,
            listed: Vec::new(),
        });
        self.client.commit(parts.collect()).await.map(drop)
    }
}

impl fmt::Debug for Away {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Away").field("client", &self.client).finish_non_exhaustive()
    }
}

/// Which databases are away, one bit each, and who has to know.
#[derive(Default)]
pub(crate) struct Databases {
    away: AtomicU16,
    watcher: Mutex<Option<Arc<Watcher>>>,
}

/// Called when other databases are away than before; returns when nothing works on them by what was
/// before.
type Watcher = dyn Fn() + Send + Sync;

impl Databases {
    pub(crate) fn is_away(&self, database: usize) -> bool {
        self.away.load(Ordering::Acquire) >> database & 1 == 1
    }

    pub(crate) fn mask(&self) -> u16 {
        self.away.load(Ordering::Acquire)
    }

    /// Changes which databases are away, and waits until that counts.
    pub(crate) fn set(&self, mask: u16) {
        if self.away.swap(mask, Ordering::AcqRel) == mask {
            return;
        }
        let watcher = self.watcher.lock().clone();
        if let Some(watcher) = watcher {
            watcher();
        }
    }

    pub(crate) fn watch(&self, watcher: Arc<Watcher>) {
        *self.watcher.lock() = Some(watcher);
    }
}

impl fmt::Debug for Databases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Databases({:016b})", self.mask())
    }
}
