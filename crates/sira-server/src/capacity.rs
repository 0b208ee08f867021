//! Samples what every backend and namespace has in use, says where that is heading, and what it
//! costs.
//!
//! The reckoning is that of [`sira_store::capacity`]; here are the clock, the requests and what is
//! kept over restarts.

mod count;
mod figures;
mod memory;
mod report;
mod sample;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use sira_store::capacity::{CapacityError, CostSettings, Outlook, UsageStore};
use sira_store::embedded::Engine;
use sira_store::env::Env;
use sira_store::layers::MetricsCollector;
use sira_store::{Result, StorageClient};
use tokio::sync::watch;

use memory::Kept;

pub use report::{
    BackendCapacity, BackendCost, CapacityReport, CostReport, NamespaceCapacity, NamespaceCost,
    NamespaceOnBackend,
};

/// How often is sampled and counted, and how far a forecast looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CapacitySettings {
    /// Time between two samples, and between two counts of a namespace on the embedded engine.
    pub sample_interval: Duration,
    /// Time between two counts of a namespace on another backend, whose listings may cost money; zero
    /// for none.
    pub count_interval: Duration,
    /// Objects that are counted a second at most; 0 counts none.
    pub count_objects_per_s: u64,
    /// How far forecasts look where nobody asks for more or less.
    pub horizon: Duration,
}

impl Default for CapacitySettings {
    fn default() -> Self {
        const HOUR: Duration = Duration::from_secs(3600);
        Self {
            sample_interval: HOUR,
            count_interval: 24 * HOUR,
            count_objects_per_s: 10_000,
            horizon: 30 * 24 * HOUR,
        }
    }
}

/// What is known of a backend.
#[derive(Debug, Default)]
struct Tracked {
    kept: Kept,
    used_bytes: Option<u64>,
    available_bytes: Option<u64>,
    objects: Option<u64>,
    /// Its figures are those of the medium, which others use too.
    shares_medium: bool,
    sampled_ms: Option<u64>,
    /// Operations that were counted when it was sampled last.
    operations: u64,
    /// Where it is heading, as of the last sample.
    outlook: Option<std::result::Result<Outlook, CapacityError>>,
}

/// Follows what the backends and namespaces of a server have in use.
#[derive(Debug)]
pub struct Capacity {
    settings: watch::Sender<CapacitySettings>,
    costs: RwLock<CostSettings>,
    engine: Arc<Engine>,
    store: UsageStore,
    backends: Mutex<BTreeMap<String, Tracked>>,
    /// By backend, and by namespace on it.
    namespaces: Mutex<BTreeMap<(String, String), Kept>>,
}

impl Capacity {
    /// Follows nothing yet; keeps what it learns in the engine.
    ///
    /// # Errors
    /// None that can happen: the engine takes the name of its namespace.
    pub fn new(engine: Arc<Engine>) -> Result<Self> {
        Ok(Self {
            settings: watch::Sender::new(CapacitySettings::default()),
            costs: RwLock::default(),
            store: memory::store(Arc::clone(&engine))?,
            engine,
            backends: Mutex::default(),
            namespaces: Mutex::default(),
        })
    }

    /// Goes by these settings and prices from now on.
    pub fn apply(&self, settings: CapacitySettings, costs: CostSettings) {
        *self.costs.write() = costs;
        self.settings.send_if_modified(|current| {
            let changed = *current != settings;
            *current = settings;
            changed
        });
    }

    /// How far forecasts look where nobody asks for more or less.
    #[must_use]
    pub fn horizon(&self) -> Duration {
        self.settings.borrow().horizon
    }

    /// Samples the backends once an interval and counts objects in between, without end.
    pub async fn run(self: Arc<Self>, client: StorageClient, collector: Arc<MetricsCollector>) {
        let count = Arc::clone(&self).count(client.clone());
        let sample = async {
            let mut changes = self.settings.subscribe();
            loop {
                let settings = changes.borrow_and_update().clone();
                self.sample(&settings, &client, &collector).await;
                self.remember().await;
                let wait = until_next(settings.sample_interval, self.now_ms());
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    changed = changes.changed() => {
                        if changed.is_err() {
                            return;
                        }
                    }
                }
            }
        };
        tokio::join!(count, sample);
    }

    fn env(&self) -> &Arc<dyn Env> {
        self.engine.env()
    }

    fn now_ms(&self) -> u64 {
        self.env().now_ms()
    }
}

/// Time until the next whole interval since the Unix epoch begins: samples are evenly spaced,
/// whenever the server started.
fn until_next(interval: Duration, now_ms: u64) -> Duration {
    let interval_ms = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX).max(1);
    Duration::from_millis(interval_ms - now_ms % interval_ms)
}

#[cfg(test)]
mod tests;
