//! Several keys, read and written as one step.
//!
//! A [`Transaction`] is optimistic: it takes no locks while it runs, remembers which version of each
//! key it has read, and keeps its writes to itself. Its commit is one atomic step that makes the
//! writes on the condition that everything it read is still as it was. So transactions that commit
//! are serializable, with each other and with single writes, in every process that uses the engine;
//! one that was overtaken is told so, and is run again. Where that happens often, a transaction can
//! lock what it reads and writes ([`TransactionOptions`]); its commit is checked all the same, so that
//! what it promises does not depend on others taking locks.

mod engine;
mod locking;
mod log;
mod scope;

use std::any::Any;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;

pub use engine::{ListedKeys, PartResults, PreparedPart, TransactionEngine, TransactionPart};
pub use log::{TransactionFigures, TransactionLog};
pub use scope::Scope;

pub(crate) use engine::{check_parts, commit, in_one_step};
pub(crate) use locking::Locking;

use crate::backend::{BatchOperation, BatchResult, StorageBackend};
use crate::client::StorageClient;
use crate::error::{Result, Retry, StorageError};
use crate::lock::{LockMode, LockOptions};
use crate::options::StorageOptions;
use crate::version::Version;

/// How often [`StorageClient::transact`] runs what was overtaken.
pub const ATTEMPTS: u32 = 64;

/// How a transaction runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TransactionOptions {
    /// Locks each key in the client's [`LockManager`](crate::lock::LockManager) before it is read
    /// (shared) or written (exclusively), and waits in this way for other transactions of the same
    /// process that have it locked, so that they do not overtake each other. `None` locks nothing.
    pub locks: Option<LockOptions>,
}

/// The future of one attempt of a transaction.
pub type Attempt<'t, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 't>>;

/// What a commit wrote.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Committed {
    /// Version of each object that was written in the transaction's own namespace, by key.
    pub versions: BTreeMap<String, Version>,
    /// The same of other namespaces, by name.
    pub elsewhere: BTreeMap<String, BTreeMap<String, Version>>,
}

/// Several keys, read and written as one step. See the [module](self) for what that promises.
/// Dropped without commit, it does nothing.
///
/// It begins in one namespace, and [`Transaction::namespace`] leads to others that lie on the same
/// engine, where that engine has them in one step.
///
/// ```
/// use std::sync::Arc;
/// use sira_store::{MemoryBackend, StorageClient, StorageOptions};
///
/// # pollster::block_on(async {
/// let client = StorageClient::new();
/// client.register_backend("memory", Arc::new(MemoryBackend::new(64 << 20)))?;
/// client.store("stock", "7", StorageOptions::default()).await?;
///
/// let mut transaction = client.begin().await?;
/// let stock = transaction.get("stock").await?;
/// assert_eq!(stock.as_deref(), Some(&b"7"[..]));
/// transaction.put("stock", "6", StorageOptions::default())?;
/// let orders = transaction.namespace("orders").await?;
/// orders.put("order:1", "one of it", StorageOptions::default())?;
/// transaction.commit().await?;
/// # Ok::<_, sira_store::StorageError>(()) })?;
/// # Ok::<_, sira_store::StorageError>(())
/// ```
#[derive(Debug)]
pub struct Transaction {
    opener: Opener,
    home: Scope,
    others: BTreeMap<String, Scope>,
    locking: Option<Arc<Locking>>,
}

/// Where other namespaces come from.
#[derive(Debug)]
enum Opener {
    Client(StorageClient),
    Backend,
}

impl Transaction {
    /// Begins one on a backend, which needs atomic batches and conditions.
    ///
    /// # Errors
    /// [`StorageError::Unsupported`] where the backend has not both.
    pub fn begin(backend: Arc<dyn StorageBackend>) -> Result<Self> {
        let capabilities = backend.capabilities();
        let one_step = capabilities.atomic_batch && capabilities.conditional;
        if !one_step && backend.transaction_engine().is_none() {
            return Err(StorageError::unsupported(format!(
                "{} does not check and write several objects as one step; a namespace with \
                 transactions lies on one engine with atomic batches, and is direct where there is \
                 a catalog",
                capabilities.name
            )));
        }
        let home = Scope::new(String::new(), backend, None, None);
        Ok(Self { opener: Opener::Backend, home, others: BTreeMap::new(), locking: None })
    }

    /// One whose namespaces are a client's; `held` is kept until it ends.
    pub(crate) fn of_client(
        mut self,
        client: StorageClient,
        name: &str,
        held: Arc<dyn Any + Send + Sync>,
        locking: Option<Arc<Locking>>,
    ) -> Self {
        self.opener = Opener::Client(client);
        self.home = Scope::new(name.to_owned(), self.home.backend, Some(held), locking.clone());
        self.locking = locking;
        self
    }

    /// Another namespace, as the transaction reads and writes it.
    ///
    /// # Errors
    /// [`StorageError::Unsupported`] where it does not lie on the same engine, or that engine has no
    /// step over several namespaces; and as [`StorageBackend::namespace`].
    pub async fn namespace(&mut self, name: &str) -> Result<&mut Scope> {
        if name == self.home.name {
            return Ok(&mut self.home);
        }
        if !self.others.contains_key(name) {
            let scope = match &self.opener {
                Opener::Backend => {
                    let backend = self.home.backend.namespace(name).await?;
                    Scope::new(name.to_owned(), backend, None, None)
                }
                Opener::Client(client) => {
                    let open = client.namespace(name).open().await?;
                    let backend = Arc::clone(&open.backend);
                    Scope::new(name.to_owned(), backend, Some(Arc::new(open)), self.locking.clone())
                }
            };
            engine::common([&self.home.backend, &scope.backend])
                .map_err(|error| error.with_namespace(name))?;
            self.others.insert(name.to_owned(), scope);
        }
        self.others
            .get_mut(name)
            .ok_or_else(|| StorageError::not_found("the namespace is not part of the transaction"))
    }

    /// As [`Scope::get`], in the namespace that the transaction began in.
    ///
    /// # Errors
    /// As [`Scope::get`].
    pub async fn get(&mut self, key: &str) -> Result<Option<Bytes>> {
        self.home.get(key).await
    }

    /// As [`Scope::get_for_update`], in the namespace that the transaction began in.
    ///
    /// # Errors
    /// As [`Scope::get_for_update`].
    pub async fn get_for_update(&mut self, key: &str) -> Result<Option<Bytes>> {
        self.home.get_for_update(key).await
    }

    /// As [`Scope::exists`], in the namespace that the transaction began in.
    ///
    /// # Errors
    /// As [`Scope::exists`].
    pub async fn exists(&mut self, key: &str) -> Result<bool> {
        self.home.exists(key).await
    }

    /// As [`Scope::list`], in the namespace that the transaction began in.
    ///
    /// # Errors
    /// As [`Scope::list`].
    pub async fn list(&mut self, prefix: &str, limit: usize) -> Result<Vec<String>> {
        self.home.list(prefix, limit).await
    }

    /// As [`Scope::put`], in the namespace that the transaction began in.
    ///
    /// # Errors
    /// As [`Scope::put`].
    pub fn put(
        &mut self,
        key: &str,
        value: impl Into<Bytes>,
        options: StorageOptions,
    ) -> Result<()> {
        self.home.put(key, value, options)
    }

    /// As [`Scope::delete`], in the namespace that the transaction began in.
    ///
    /// # Errors
    /// As [`Scope::delete`].
    pub fn delete(&mut self, key: &str) -> Result<()> {
        self.home.delete(key)
    }

    /// Makes the writes, if everything that was read and listed is still as it was, and answers the
    /// version of each object that was written. A transaction that only read learns whether it saw
    /// one moment.
    ///
    /// # Errors
    /// [`StorageError::Conflict`] when another writer was faster, or locks were waited for in a circle:
    /// nothing was written, and the transaction can be run again. As [`StorageBackend::batch`]; where the error is ambiguous, the
    /// writes were all made or none.
    pub async fn commit(self) -> Result<Committed> {
        let Self { home, others, locking, .. } = self;
        let at_home = home.name.clone();
        let mut scopes: Vec<_> = std::iter::once(home).chain(others.into_values()).collect();
        scopes.retain(|scope| !scope.is_untouched());
        if let Some(locking) = &locking {
            // In one order, so that those who only write do not wait in a circle.
            let mut written: Vec<_> = scopes.iter().flat_map(Scope::written).collect();
            written.sort_unstable();
            for (namespace, key) in written {
                locking.lock(namespace, key, LockMode::Exclusive).await?;
            }
        }
        let alone = match scopes.as_slice() {
            [scope] => !scope.has_listed() && scope.backend.capabilities().atomic_batch,
            _ => false,
        };
        let (parts, _held): (Vec<_>, Vec<_>) = scopes.into_iter().map(Scope::into_part).unzip();
        let names: Vec<(String, Vec<String>)> = parts
            .iter()
            .map(|(_, part)| {
                let keys = part.operations.iter().map(|operation| operation.key().to_owned());
                (part.namespace.clone(), keys.collect())
            })
            .collect();
        let results = match alone {
            true => commit_alone(parts).await,
            false if parts.is_empty() => return Ok(Committed::default()),
            false => engine::commit(parts).await,
        };
        let mut committed = Committed::default();
        for ((name, keys), results) in names.into_iter().zip(results.map_err(as_overtaken)?) {
            let versions = scope::versions(keys, results);
            match name == at_home {
                true => committed.versions = versions,
                false => drop(committed.elsewhere.insert(name, versions)),
            }
        }
        Ok(committed)
    }

    /// Ends the transaction without writing anything, as dropping it does.
    pub fn rollback(self) {}
}

/// Commits in one namespace, which any engine with atomic batches can.
async fn commit_alone(
    parts: Vec<(Arc<dyn StorageBackend>, TransactionPart)>,
) -> Result<Vec<Vec<BatchResult>>> {
    let mut answers = Vec::with_capacity(parts.len());
    for (backend, part) in parts {
        answers.push(batch(&*backend, part.operations).await?);
    }
    Ok(answers)
}

/// Runs an atomic batch, whose failure is an error.
pub(crate) async fn batch(
    backend: &dyn StorageBackend,
    operations: Vec<BatchOperation>,
) -> Result<Vec<BatchResult>> {
    let decides: Vec<_> = operations.iter().map(BatchOperation::decides).collect();
    let mut results = backend.batch(operations).await?;
    let mut refused = None;
    for (result, decides) in results.iter_mut().zip(decides) {
        if let (BatchResult::Error(_), true) = (&*result, decides)
            && let BatchResult::Error(error) = std::mem::replace(result, BatchResult::Value(None))
        {
            refused = worse(refused, error);
        }
    }
    refused.map_or(Ok(results), Err)
}

/// Of two errors, the one that says more: an ambiguous one, then one that is no unmet condition.
fn worse(one: Option<StorageError>, other: StorageError) -> Option<StorageError> {
    let rank = |error: &StorageError| match error {
        error if error.retry() == Retry::Ambiguous => 2,
        StorageError::PreconditionFailed(_) => 0,
        _ => 1,
    };
    match one {
        Some(one) if rank(&one) >= rank(&other) => Some(one),
        _ => Some(other),
    }
}

/// What does not hold any more was changed by another.
fn as_overtaken(error: StorageError) -> StorageError {
    if !matches!(error, StorageError::PreconditionFailed(_)) {
        return error;
    }
    let mut answer = overtaken();
    let detail = error.detail();
    if let Some(key) = detail.key.clone() {
        answer = answer.with_key(key);
    }
    if let Some(namespace) = detail.namespace.clone() {
        answer = answer.with_namespace(namespace);
    }
    answer.with_source(error)
}

fn overtaken() -> StorageError {
    StorageError::conflict(
        "another writer changed what the transaction has read; nothing was written, run it again",
    )
}
