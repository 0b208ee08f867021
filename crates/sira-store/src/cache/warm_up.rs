//! The log of hot keys, and filling the cache from it at the start.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::entry::Stored;
use super::options::{HotKeysPlace, WarmUpOptions};
use super::space::Space;
use super::{CacheBackend, Core};
use crate::backend::ObjectHead;
use crate::error::{Result, StorageError};
use crate::metadata::Metadata;
use crate::options::StorageOptions;
use crate::version::Version;

/// One read in this many is counted.
const SAMPLE: u64 = 4;

/// How often the log is saved while the cache runs.
const SAVE_INTERVAL: Duration = Duration::from_secs(60);

/// Name of the log in the disk tier; names of entries hold a slash.
const LOG_NAME: &str = "hot-keys";

/// How often each key of a namespace was read.
type Counts = HashMap<(Arc<str>, Box<str>), u64, foldhash::fast::FixedState>;

/// Counts of the keys that are read most. When twice as many are counted as are logged, counts are
/// halved and those in the lower half forgotten.
#[derive(Debug)]
pub(super) struct HotKeys {
    reads: AtomicU64,
    counts: Mutex<Counts>,
    keys_max: usize,
}

/// One line of the log.
#[derive(Debug, Serialize, Deserialize)]
struct HotKey {
    namespace: String,
    key: String,
}

impl HotKeys {
    pub(super) fn new(options: &WarmUpOptions) -> Self {
        Self { reads: AtomicU64::new(0), counts: Mutex::default(), keys_max: options.keys.max(1) }
    }

    /// Counts a read, if it is one of the sample.
    pub(super) fn note(&self, space: &Space, key: &str) {
        if !self.reads.fetch_add(1, Ordering::Relaxed).is_multiple_of(SAMPLE) {
            return;
        }
        let Some(mut counts) = self.counts.try_lock() else { return };
        *counts.entry((Arc::clone(&space.name), key.into())).or_default() += 1;
        if counts.len() > 2 * self.keys_max {
            let mut all: Vec<u64> = counts.values().copied().collect();
            let middle = all.len() / 2;
            let (_, median, _) = all.select_nth_unstable(middle);
            let median = *median;
            counts.retain(|_, count| *count > median);
            for count in counts.values_mut() {
                *count = (*count / 2).max(1);
            }
        }
    }

    /// The log: the keys that were read most, first the hottest.
    fn log(&self) -> Vec<HotKey> {
        let counts = self.counts.lock();
        let mut all: Vec<_> = counts.iter().collect();
        all.sort_unstable_by(|a, b| b.1.cmp(a.1).then_with(|| a.0.cmp(b.0)));
        all.truncate(self.keys_max);
        let line = |((namespace, key), _): (&(Arc<str>, Box<str>), &u64)| HotKey {
            namespace: namespace.to_string(),
            key: key.to_string(),
        };
        all.into_iter().map(line).collect()
    }
}

impl CacheBackend {
    /// Saves the log of hot keys where the options say, as [`StorageBackend::flush`] does and the
    /// cache itself once a minute. Without [`CacheOptions::warm_up`] there is nothing to save.
    ///
    /// # Errors
    /// The primary's, where the log lies under a key of it.
    ///
    /// [`StorageBackend::flush`]: crate::StorageBackend::flush
    /// [`CacheOptions::warm_up`]: super::CacheOptions::warm_up
    pub async fn save_hot_keys(&self) -> Result<()> {
        self.core.save_hot_keys().await
    }

    /// Loads the keys of the log that the last run saved, at the rate of the options, and says how
    /// many are kept now. [`CacheBackend::start`] does it in the background.
    ///
    /// # Errors
    /// The primary's, when the log cannot be read; keys that cannot be loaded are passed over.
    pub async fn warm_up(&self) -> Result<u64> {
        let Some(options) = &self.core.options.warm_up else { return Ok(0) };
        let pause = Duration::from_secs(1) / options.reads_per_second.max(1);
        let mut warmed = 0;
        for HotKey { namespace, key } in self.core.hot_keys().await? {
            let kept = match namespace.as_str() {
                "" => self.root().warm(&key, false).await,
                name => match self.namespace(name).await {
                    Ok(space) => space.warm(&key, false).await,
                    Err(_) => false,
                },
            };
            if kept {
                warmed += 1;
                self.core.counters.warmed.add();
            }
            tokio::time::sleep(pause).await;
        }
        Ok(warmed)
    }

    /// Warms the cache up in the background, and saves the log of hot keys once a minute from then
    /// on, for as long as the cache is used. To be called from a tokio runtime, once.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] outside of a runtime.
    pub fn start(&self) -> Result<()> {
        let runtime = tokio::runtime::Handle::try_current().map_err(|error| {
            StorageError::unavailable("the cache is started from a tokio runtime")
                .with_source(error)
        })?;
        let cache = self.root();
        runtime.spawn(async move {
            if let Err(error) = cache.warm_up().await {
                tracing::warn!(%error, "the cache begins cold");
            }
            let core = Arc::downgrade(&cache.core);
            drop(cache);
            loop {
                tokio::time::sleep(SAVE_INTERVAL).await;
                let Some(core) = core.upgrade() else { return };
                if let Err(error) = core.save_hot_keys().await {
                    tracing::warn!(%error, "the log of hot keys was not saved");
                }
            }
        });
        Ok(())
    }
}

impl Core {
    pub(super) async fn save_hot_keys(&self) -> Result<()> {
        let (Some(options), Some(hot)) = (&self.options.warm_up, &self.hot) else { return Ok(()) };
        let log = hot.log();
        if log.is_empty() {
            return Ok(());
        }
        let value = serde_json::to_vec(&log).map_err(|error| {
            StorageError::invalid_input("the log of hot keys has no JSON form").with_source(error)
        })?;
        let value = Bytes::from(value);
        match (&options.place, &self.disk) {
            (HotKeysPlace::Key(key), _) => {
                self.primary.put(key, value, StorageOptions::default()).await.map(|_| ())
            }
            (HotKeysPlace::DiskTier, Some(disk)) => {
                let head = ObjectHead {
                    version: Version::default(),
                    size: value.len() as u64,
                    expires_at_ms: None,
                    metadata: Metadata::default(),
                };
                let stored = Stored { head, value, token: 0, read_at_ms: self.clock.now_ms() };
                disk.put(LOG_NAME, stored).await;
                Ok(())
            }
            (HotKeysPlace::DiskTier, None) => Ok(()),
        }
    }

    /// The log that was saved last; one that cannot be understood counts as none.
    async fn hot_keys(&self) -> Result<Vec<HotKey>> {
        let Some(options) = &self.options.warm_up else { return Ok(Vec::new()) };
        let saved = match (&options.place, &self.disk) {
            (HotKeysPlace::Key(key), _) => self.primary.get(key).await?,
            (HotKeysPlace::DiskTier, Some(disk)) => {
                disk.get(LOG_NAME).await.map(|stored| stored.value)
            }
            (HotKeysPlace::DiskTier, None) => None,
        };
        let keys: Vec<HotKey> =
            saved.and_then(|saved| serde_json::from_slice(&saved).ok()).unwrap_or_default();
        Ok(keys.into_iter().take(options.keys).collect())
    }
}
