//! Transactions over the client's namespaces.

use std::sync::Arc;
use std::time::Duration;

use super::StorageClient;
use crate::env::{Env, SystemEnv};
use crate::error::{Result, StorageError};
use crate::transaction::{ATTEMPTS, Attempt, Transaction};

/// Longest wait before what was overtaken is run again.
const PAUSE_MAX: Duration = Duration::from_millis(20);

impl StorageClient {
    /// Begins a transaction in this namespace.
    ///
    /// # Errors
    /// [`StorageError::Unsupported`] where the namespace's policy allows none: it lies on one engine
    /// with atomic batches, and is direct where there is a catalog. [`StorageError::NotFound`] when no
    /// backend is registered.
    pub async fn begin(&self) -> Result<Transaction> {
        let view = self.view().await?;
        let transaction = Transaction::begin(Arc::clone(&view.backend));
        Ok(view.named(transaction)?.holding(view))
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
        mut attempt: impl for<'t> FnMut(&'t mut Transaction) -> Attempt<'t, T>,
    ) -> Result<T> {
        let mut attempts = 1;
        loop {
            let mut transaction = self.begin().await?;
            let ended = match attempt(&mut transaction).await {
                Ok(value) => transaction.commit().await.map(|_| value),
                Err(error) => Err(error),
            };
            match ended {
                Err(StorageError::Conflict(_)) if attempts < ATTEMPTS => {}
                ended => return ended,
            }
            // Writers that meet draw apart.
            let most = PAUSE_MAX.min(Duration::from_micros(50) * attempts);
            let part = SystemEnv.random_u64() as f64 / u64::MAX as f64;
            tokio::time::sleep(most.mul_f64(part)).await;
            attempts += 1;
        }
    }
}
