//! Transactions over the client's namespaces.

use std::sync::Arc;
use std::time::Duration;

use super::StorageClient;
use crate::backend::BatchResult;
use crate::env::{Env, SystemEnv};
use crate::error::{Result, StorageError};
use crate::lock::LockOwner;
use crate::transaction::{
    self, ATTEMPTS, Attempt, Locking, Transaction, TransactionOptions, TransactionPart,
};

/// Longest wait before what was overtaken is run again.
const PAUSE_MAX: Duration = Duration::from_millis(20);

impl StorageClient {
    /// Begins a transaction in this namespace.
    ///
    /// # Errors
    /// [`StorageError::Unsupported`] where the namespace lies on no engine with atomic batches and the
    /// plan has no [log](super::StoragePlan::transaction_log) that makes transactions possible.
    /// [`StorageError::NotFound`] when no backend is registered.
    pub async fn begin(&self) -> Result<Transaction> {
        self.begin_with(TransactionOptions::default()).await
    }

    /// As [`StorageClient::begin`], as these options say.
    ///
    /// # Errors
    /// As [`StorageClient::begin`].
    pub async fn begin_with(&self, options: TransactionOptions) -> Result<Transaction> {
        self.begin_as(options, &self.lock_owner(options)).await
    }

    /// Who takes the locks of a transaction, where it takes any.
    fn lock_owner(&self, options: TransactionOptions) -> Option<LockOwner> {
        options.locks.map(|_| self.locks().owner("transaction"))
    }

    async fn begin_as(
        &self,
        options: TransactionOptions,
        owner: &Option<LockOwner>,
    ) -> Result<Transaction> {
        let view = self.view().await?;
        let transaction = Transaction::begin(Arc::clone(&view.backend));
        let locking = options
            .locks
            .zip(owner.clone())
            .map(|(options, owner)| Arc::new(Locking::new(self.locks().clone(), owner, options)));
        Ok(view.named(transaction)?.of_client(self.clone(), self.name(), view, locking))
    }

    /// Runs operations in several namespaces as one step: what is listed and demanded holds and
    /// every write takes effect, or nothing does. Answers the operations of each part, in order. A
    /// part names its namespace, whatever the client is scoped to.
    ///
    /// # Errors
    /// That of an operation which failed; nothing has changed then, but where the error is
    /// ambiguous. [`StorageError::InvalidInput`] for a namespace that is named twice;
    /// [`StorageError::Unsupported`] where the namespaces do not lie on one engine that has them in
    /// one step, and the plan has no [log](super::StoragePlan::transaction_log).
    pub async fn commit(&self, parts: Vec<TransactionPart>) -> Result<Vec<Vec<BatchResult>>> {
        let mut views = Vec::with_capacity(parts.len());
        transaction::check_parts(&parts)?;
        for part in &parts {
            let view = self.shared.view(&part.namespace).await?;
            view.check_operations(&part.operations)
                .map_err(|error| error.with_namespace(&part.namespace))?;
            views.push(view);
        }
        let backends = views.iter().map(|view| Arc::clone(&view.backend));
        match parts.as_slice() {
            [part] if part.listed.is_empty() && views[0].capabilities.atomic_batch => {
                let results = transaction::batch(&*views[0].backend, part.operations.clone()).await;
                let named = views[0].named(results);
                Ok(vec![named.map_err(|error| error.with_namespace(&part.namespace))?])
            }
            _ => transaction::commit(backends.zip(parts).collect()).await,
        }
    }

    /// Opens the namespaces that committed transactions have written and whose backends do not hold
    /// it yet, so that it is written to them although nobody uses them, and says how many there are.
    /// To be called after the start, and now and then.
    ///
    /// # Errors
    /// Those of the backends; then some namespaces are not open yet.
    pub async fn settle_transactions(&self) -> Result<usize> {
        let plan = self.plan();
        let pending = plan.transaction_log.as_ref().map(|log| log.pending()).unwrap_or_default();
        let mut failure = None;
        for namespace in &pending {
            if let Err(error) = self.shared.view(namespace).await {
                failure = Some(error.with_namespace(&**namespace));
            }
        }
        failure.map_or(Ok(pending.len()), Err)
    }

    /// Runs a transaction and commits it, again while other writers are faster, up to [`ATTEMPTS`]
    /// times. What `attempt` does beside the transaction happens each time.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use sira_store::{MemoryBackend, StorageClient, StorageOptions};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
    /// # let client = StorageClient::new();
    /// # client.register_backend("memory", Arc::new(MemoryBackend::new(64 << 20)))?;
    /// let visits = client
    ///     .transact(|transaction| {
    ///         Box::pin(async move {
    ///             let held = transaction.get("visits").await?;
    ///             let visits = held.map_or(0, |held| held.len()) + 1;
    ///             transaction.put("visits", vec![b'|'; visits], StorageOptions::default())?;
    ///             Ok(visits)
    ///         })
    ///     })
    ///     .await?;
    /// assert_eq!(visits, 1);
    /// # Ok::<_, Box<dyn std::error::Error>>(()) })?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// What `attempt` fails with, and as [`Transaction::commit`].
    pub async fn transact<T>(
        &self,
        attempt: impl for<'t> FnMut(&'t mut Transaction) -> Attempt<'t, T>,
    ) -> Result<T> {
        self.transact_with(TransactionOptions::default(), attempt).await
    }

    /// As [`StorageClient::transact`], as these options say. Where it takes locks, it grows older from
    /// attempt to attempt, so that it does not always give way to others.
    ///
    /// # Errors
    /// As [`StorageClient::transact`].
    pub async fn transact_with<T>(
        &self,
        options: TransactionOptions,
        mut attempt: impl for<'t> FnMut(&'t mut Transaction) -> Attempt<'t, T>,
    ) -> Result<T> {
        let owner = self.lock_owner(options);
        let mut attempts = 1;
        loop {
            let mut transaction = self.begin_as(options, &owner).await?;
            let ended = match attempt(&mut transaction).await {
                Ok(value) => transaction.commit().await.map(|_| value),
                Err(error) => {
                    // Its locks go before it pauses.
                    transaction.rollback();
                    Err(error)
                }
            };
            match ended {
                Err(StorageError::Conflict(_)) if attempts < ATTEMPTS => {}
                ended => return ended,
            }
            draw_apart(attempts).await;
            attempts += 1;
        }
    }
}

/// Pauses after an attempt that was overtaken, so that writers that meet draw apart.
pub(crate) async fn draw_apart(attempts: u32) {
    let most = PAUSE_MAX.min(Duration::from_micros(50) * attempts);
    let part = SystemEnv.random_u64() as f64 / u64::MAX as f64;
    tokio::time::sleep(most.mul_f64(part)).await;
}
