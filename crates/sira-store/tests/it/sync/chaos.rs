//! A store whose operations take their time, so that others come in between and futures that are
//! dropped end anywhere.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use sira_store::env::SeededRandom;
use sira_store::{
    Capabilities, Condition, ListOptions, ListPage, Object, ObjectHead, ReadOptions, Result,
    StorageBackend, StorageOptions, Version,
};

#[derive(Debug)]
pub(super) struct Chaos {
    inner: Arc<dyn StorageBackend>,
    random: Mutex<SeededRandom>,
}

impl Chaos {
    pub(super) fn wrap(inner: &Arc<dyn StorageBackend>, seed: u64) -> Arc<dyn StorageBackend> {
        let random = Mutex::new(SeededRandom::new(seed));
        Arc::new(Self { inner: Arc::clone(inner), random })
    }

    async fn pause(&self) {
        let turns = self.random.lock().below(3);
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
    }
}

#[async_trait]
impl StorageBackend for Chaos {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn put(&self, key: &str, value: Bytes, options: StorageOptions) -> Result<Version> {
        self.pause().await;
        let result = self.inner.put(key, value, options).await;
        self.pause().await;
        result
    }

    async fn read(&self, key: &str, options: ReadOptions) -> Result<Option<Object>> {
        self.pause().await;
        let result = self.inner.read(key, options).await;
        self.pause().await;
        result
    }

    async fn remove(&self, key: &str, condition: Condition) -> Result<bool> {
        self.pause().await;
        let result = self.inner.remove(key, condition).await;
        self.pause().await;
        result
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectHead>> {
        self.pause().await;
        let result = self.inner.head(key).await;
        self.pause().await;
        result
    }

    /// Now and then without versions, as some engines list.
    async fn list(&self, mut options: ListOptions) -> Result<ListPage> {
        self.pause().await;
        options.limit = 2;
        let mut page = self.inner.list(options).await?;
        if self.random.lock().chance(1, 3) {
            page.entries.iter_mut().for_each(|entry| entry.version = None);
        }
        self.pause().await;
        Ok(page)
    }
}
