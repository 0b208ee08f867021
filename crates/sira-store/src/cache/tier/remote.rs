//! A tier on another backend, which other processes may share.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::TierStore;
use crate::backend::{BatchOperation, BatchResult, StorageBackend};
use crate::cache::options::RemoteTierOptions;
use crate::error::Result;
use crate::options::{Durability, StorageOptions};

#[derive(Debug)]
pub(super) struct Remote {
    backend: Arc<dyn StorageBackend>,
    options: StorageOptions,
}

impl Remote {
    pub(super) fn new(options: &RemoteTierOptions) -> Self {
        let backend = Arc::clone(&options.backend);
        let ttl = backend.capabilities().ttl.then(|| options.ttl.max(Duration::from_millis(1)));
        let durability = Some(Durability::None);
        let options = StorageOptions { ttl, durability, ..StorageOptions::default() };
        Self { backend, options }
    }
}

#[async_trait]
impl TierStore for Remote {
    async fn get(&self, name: &str) -> Result<Option<Bytes>> {
        self.backend.get(name).await
    }

    async fn put(&self, name: &str, bytes: Bytes) -> Result<()> {
        self.backend.put(name, bytes, self.options.clone()).await.map(|_| ())
    }

    async fn remove(&self, names: &[String]) -> Result<()> {
        if let [name] = names {
            return self.backend.delete(name).await.map(|_| ());
        }
        let operations = names.iter().map(|key| BatchOperation::delete(key.as_str())).collect();
        for result in self.backend.batch(operations).await? {
            if let BatchResult::Error(error) = result {
                return Err(error);
            }
        }
        Ok(())
    }
}
