//! Watches the backends: slow operations, and alerts on latency, errors and room.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use sira_store::env::Env;
use sira_store::health::HealthState;
use sira_store::layers::metrics::Figures;
use sira_store::layers::{MetricFamilies, MetricsCollector};
use sira_store::{StorageClient, StorageStats};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::health::RUN_BOOK;
use crate::metrics::Kind;
use crate::notify::{self, Notifier};

/// How often alerts are looked at where nothing says so.
pub const INTERVAL: Duration = Duration::from_secs(30);

/// Codes of errors that are about what the caller asked for, not about how the backend does.
const CALLERS: [&str; 7] = [
    "invalid_input",
    "too_large",
    "not_found",
    "precondition_failed",
    "conflict",
    "unsupported",
    "permission_denied",
];

/// What is watched.
#[derive(Debug, Clone, PartialEq)]
pub struct MonitoringOptions {
    /// Operations that take at least this long are told in the log; `None` tells none.
    pub slow_operation: Option<Duration>,
    /// How often alerts are looked at.
    pub interval: Duration,
    /// The bounds of alerts.
    pub alerts: AlertOptions,
}

impl Default for MonitoringOptions {
    fn default() -> Self {
        Self { slow_operation: None, interval: INTERVAL, alerts: AlertOptions::default() }
    }
}

/// Bounds that a backend should stay within; without one, there is no such alert.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AlertOptions {
    /// Time that 99% of the operations of the last minute must not exceed.
    pub latency_p99: Option<Duration>,
    /// How full the medium may be, in percent, where the backend tells its size.
    pub storage_full_percent: Option<f64>,
    /// How many of the operations of the last interval may fail, in percent. Errors that the caller
    /// made, such as a condition that does not hold, are none.
    pub error_percent: Option<f64>,
}

/// What an alert is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Alert {
    LatencyP99,
    StorageFull,
    Errors,
}

impl Alert {
    const ALL: [Self; 3] = [Self::LatencyP99, Self::StorageFull, Self::Errors];

    const fn name(self) -> &'static str {
        match self {
            Self::LatencyP99 => "latency_p99",
            Self::StorageFull => "storage_full_percent",
            Self::Errors => "error_percent",
        }
    }
}

impl AlertOptions {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The bound of an alert: milliseconds or percent.
    fn bound(&self, alert: Alert) -> Option<f64> {
        match alert {
            Alert::LatencyP99 => self.latency_p99.map(|time| time.as_secs_f64() * 1e3),
            Alert::StorageFull => self.storage_full_percent,
            Alert::Errors => self.error_percent,
        }
    }
}

/// Operations that ended, and those of them that failed by the backend's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Ended {
    all: u64,
    failed: u64,
}

impl Ended {
    fn of(figures: &Figures) -> Self {
        let failed = figures
            .operations
            .iter()
            .flat_map(|operation| &operation.failed)
            .filter(|(code, _)| !CALLERS.contains(code))
            .map(|(_, count)| count)
            .sum();
        Self { all: figures.metrics.operations_total, failed }
    }

    /// Percent that failed since `before`; `None` where nothing ended.
    fn failed_since(self, before: Self) -> Option<f64> {
        let all = self.all.saturating_sub(before.all);
        let failed = self.failed.saturating_sub(before.failed);
        (all > 0).then(|| failed as f64 / all as f64 * 100.0)
    }
}

/// What is known of the alerts.
#[derive(Debug, Default)]
struct State {
    /// Which alerts are looked at and whether they fire, by backend.
    firing: BTreeMap<(Alert, String), bool>,
    /// What had ended when the alerts were looked at last.
    ended: BTreeMap<String, Ended>,
}

/// Watches the backends of a server.
#[derive(Debug, Default)]
pub struct Monitor {
    options: watch::Sender<MonitoringOptions>,
    state: Mutex<State>,
    told: OnceLock<Told>,
}

/// Who is told of alerts, and when.
#[derive(Debug)]
struct Told {
    notifier: Arc<Notifier>,
    env: Arc<dyn Env>,
}

impl Monitor {
    /// Tells this notifier of alerts, besides the log; only the first call counts.
    pub fn notify(&self, notifier: Arc<Notifier>, env: Arc<dyn Env>) {
        let _ = self.told.set(Told { notifier, env });
    }

    /// Watches by these options from now on.
    pub fn apply(&self, options: MonitoringOptions, collector: &MetricsCollector) {
        collector.set_slow_operation(options.slow_operation);
        self.options.send_if_modified(|current| {
            let changed = *current != options;
            *current = options;
            changed
        });
    }

    /// Looks at the alerts every interval, without end. Without alerts it waits for some.
    pub async fn run(self: Arc<Self>, client: StorageClient, collector: Arc<MetricsCollector>) {
        let mut changes = self.options.subscribe();
        loop {
            let options = changes.borrow_and_update().clone();
            if options.alerts.is_empty() {
                self.look(&options.alerts, &BTreeMap::new(), &BTreeMap::new());
                if changes.changed().await.is_err() {
                    return;
                }
                continue;
            }
            tokio::select! {
                () = tokio::time::sleep(options.interval) => {
                    let stats = match options.alerts.storage_full_percent {
                        Some(_) => stats(&client).await,
                        None => BTreeMap::new(),
                    };
                    self.look(&options.alerts, &collector.figures(), &stats);
                }
                changed = changes.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Compares the figures with the bounds, and tells what has changed.
    fn look(
        &self,
        alerts: &AlertOptions,
        figures: &BTreeMap<String, Figures>,
        stats: &BTreeMap<String, StorageStats>,
    ) {
        let mut state = self.state.lock();
        let mut firing = BTreeMap::new();
        for (backend, figures) in figures {
            let ended = Ended::of(figures);
            let before = state.ended.insert(backend.clone(), ended).unwrap_or_default();
            for alert in Alert::ALL {
                let Some(bound) = alerts.bound(alert) else { continue };
                let value = match alert {
                    Alert::LatencyP99 => Some(figures.metrics.p99_response_time),
                    Alert::StorageFull => stats.get(backend).and_then(full_percent),
                    Alert::Errors => ended.failed_since(before),
                };
                let key = (alert, backend.clone());
                let was = state.firing.get(&key).copied().unwrap_or(false);
                // What is not known leaves the alert as it is; without operations nothing fails.
                let is = match value {
                    Some(value) => value > bound,
                    None => was && alert == Alert::StorageFull,
                };
                self.tell(&key, was, is, value, bound);
                firing.insert(key, is);
            }
        }
        state.ended.retain(|backend, _| figures.contains_key(backend));
        let before = std::mem::replace(&mut state.firing, firing);
        for (key, _) in before.iter().filter(|(key, was)| **was && !state.firing.contains_key(key))
        {
            // Nobody asks any more.
            self.tell(key, true, false, None, 0.0);
        }
    }

    /// Tells that an alert fires or is over: in the log, and to those who are to be notified.
    fn tell(&self, key: &(Alert, String), was: bool, is: bool, value: Option<f64>, bound: f64) {
        let (alert, backend) = (key.0.name(), &key.1);
        match (was, is) {
            (false, true) => {
                tracing::warn!(alert, backend, value, bound, "alert: beyond its bound")
            }
            (true, false) => tracing::info!(alert, backend, value, bound, "alert: over"),
            _ => return,
        }
        let Some(Told { notifier, env }) = self.told.get() else { return };
        let message = match value {
            Some(value) => format!("{value:.2}, bound {bound:.2}"),
            None => "no operations, or not watched any more".to_owned(),
        };
        notifier.tell(notify::Alert {
            name: alert.to_owned(),
            backend: backend.clone(),
            severity: HealthState::Warning,
            is_firing: is,
            message,
            at_ms: env.now_ms(),
            run_book: format!("{RUN_BOOK}#{alert}"),
        });
    }

    /// Writes which alerts fire.
    pub fn write(&self, out: &mut MetricFamilies) {
        let state = self.state.lock();
        if state.firing.is_empty() {
            return;
        }
        let help = "Whether a backend is beyond the bound of an alert: 1 or 0.";
        out.family("sira_alert_firing", Kind::Gauge, help);
        for ((alert, backend), firing) in &state.firing {
            let labels = [("alert", alert.name()), ("backend", backend.as_str())];
            out.sample(&labels, f64::from(u8::from(*firing)));
        }
    }
}

/// How full the medium is, where the backend tells.
fn full_percent(stats: &StorageStats) -> Option<f64> {
    let size = stats.used_bytes.saturating_add(stats.available_bytes?);
    (size > 0).then(|| stats.used_bytes as f64 / size as f64 * 100.0)
}

/// What the backends say about their room; those that do not answer are left out.
async fn stats(client: &StorageClient) -> BTreeMap<String, StorageStats> {
    let mut asked = JoinSet::new();
    for (name, backend) in &client.plan().backends {
        let (name, backend) = (name.clone(), Arc::clone(backend));
        asked.spawn(async move { (name, backend.stats().await) });
    }
    let answers = asked.join_all().await;
    answers.into_iter().filter_map(|(name, stats)| Some((name, stats.ok()?))).collect()
}

#[cfg(test)]
mod tests;
