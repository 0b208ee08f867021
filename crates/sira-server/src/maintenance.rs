//! Has the backends give back space, now and then.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sira_store::StorageClient;
use sira_store::env::Env;
use sira_store::layers::MetricFamilies;
use tokio::sync::watch;

use crate::metrics::Kind;

/// How often backends are asked where nothing says so.
pub const INTERVAL: Duration = Duration::from_secs(3600);

/// What came of it, for one backend.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    dropped: u64,
    failed: u64,
}

/// Has the backends of a server drop what has expired, and what crashes left behind.
#[derive(Debug)]
pub struct Maintenance {
    interval: watch::Sender<Duration>,
    counts: Mutex<BTreeMap<String, Counts>>,
}

impl Default for Maintenance {
    fn default() -> Self {
        Self { interval: watch::Sender::new(INTERVAL), counts: Mutex::default() }
    }
}

impl Maintenance {
    /// Asks the backends this often from now on; never where it is zero.
    pub fn apply(&self, interval: Duration) {
        self.interval.send_if_modified(|current| std::mem::replace(current, interval) != interval);
    }

    /// Asks the backends every interval, without end. Servers that share backends do so at different
    /// times.
    pub async fn run(self: Arc<Self>, client: StorageClient, env: Arc<dyn Env>) {
        let mut changes = self.interval.subscribe();
        loop {
            let interval = *changes.borrow_and_update();
            let wait = async {
                match interval {
                    Duration::ZERO => std::future::pending().await,
                    _ => tokio::time::sleep(part(interval, env.random_u64())).await,
                }
            };
            tokio::select! {
                () = wait => self.maintain(&client).await,
                changed = changes.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
            }
        }
    }

    async fn maintain(&self, client: &StorageClient) {
        if let Err(error) = client.settle_transactions().await {
            tracing::warn!(%error, "a committed transaction waits for a backend");
        }
        let done = match client.maintain().await {
            Ok(done) => done,
            Err(error) => {
                tracing::warn!(%error, "what the backends hold is not known; space is given back later");
                return;
            }
        };
        let mut counts = self.counts.lock();
        for (backend, dropped) in done {
            let counts = counts.entry(backend.clone()).or_default();
            match dropped {
                Ok(dropped) => {
                    counts.dropped += dropped;
                    if dropped > 0 {
                        tracing::info!(backend, records = dropped, "space is given back");
                    }
                }
                Err(error) => {
                    counts.failed += 1;
                    tracing::warn!(backend, %error, "space is given back later");
                }
            }
        }
    }

    /// Writes what came of it.
    pub fn write(&self, out: &mut MetricFamilies) {
        let counts = self.counts.lock();
        let help = "Records that were dropped to give back space: expired ones, and what crashes \
                    left behind. Not those that an engine drops by itself.";
        out.family("sira_maintenance_dropped_records_total", Kind::Counter, help);
        for (backend, counts) in &*counts {
            out.sample(&[("backend", backend)], counts.dropped as f64);
        }
        let help = "Times that a backend failed to give back space.";
        out.family("sira_maintenance_failures_total", Kind::Counter, help);
        for (backend, counts) in &*counts {
            out.sample(&[("backend", backend)], counts.failed as f64);
        }
    }
}

/// From half of an interval to all of it.
fn part(interval: Duration, random: u64) -> Duration {
    let half = interval / 2;
    half + half.mul_f64(random as f64 / u64::MAX as f64)
}
