//! Watches every backend by five checks, and reads again what they hold.
//!
//! What a look comes to is reckoned in [`sira_store::health`]; here are the clock, the requests and
//! what is kept over restarts.

mod figures;
mod look;
mod memory;
mod scrub;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use serde::Serialize;
use sira_store::embedded::Engine;
use sira_store::health::{
    BackendHealth, BackupMarks, Check, CheckReport, Forecast, HealthOptions, HealthState,
    Transition,
};
use sira_store::layers::MetricsCollector;
use sira_store::{StorageClient, StorageStats};
use tokio::sync::watch;
use utoipa::ToSchema;

use crate::notify::{Alert, Notifier};
use memory::{Kept, Memory};

/// Tells when the last backups ended.
pub trait BackupState: Send + Sync + fmt::Debug {
    /// The last backups; `None` where none are made.
    fn marks(&self) -> Option<BackupMarks>;
}

/// How the health of the backends is watched.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HealthSettings {
    /// Bounds of the checks.
    pub bounds: HealthOptions,
    /// At most one pass over everything that a backend holds begins in this time; `None` is a day.
    pub scrub_every: Option<Duration>,
    /// What links to run-books begin with; `None` is [`RUN_BOOK`].
    pub run_book: Option<String>,
}

/// Where it is written what to do, in this project's documentation.
pub const RUN_BOOK: &str = "docs/health.md";

/// At most one pass of the scrub in this time, where nothing says so.
pub const SCRUB_EVERY: Duration = Duration::from_secs(24 * 3600);

/// How every backend does.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct HealthReport {
    /// The worst of all: `healthy`, `warning` or `critical`.
    #[schema(value_type = String)]
    pub state: HealthState,
    /// The backends by name.
    pub backends: BTreeMap<String, BackendHealthReport>,
}

/// How one backend does.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct BackendHealthReport {
    /// The worst of its checks.
    #[schema(value_type = String)]
    pub state: HealthState,
    /// Its checks by name: `state`, `since_ms`, and what the last look saw.
    #[schema(value_type = Object)]
    pub checks: BTreeMap<Check, CheckReport>,
    /// Where its use is heading, once that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub forecast: Option<Forecast>,
    /// When the last whole pass of the scrub ended, in milliseconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scrubbed_ms: Option<u64>,
}

/// What is known of one backend.
#[derive(Debug, Default)]
struct Watched {
    health: BackendHealth,
    kept: Kept,
    /// Whether `kept` was read from where it is kept.
    is_recalled: bool,
    stats: Option<StorageStats>,
    forecast: Option<Forecast>,
    /// When performance was learned last, by the monotonic clock.
    learned: Option<Duration>,
    scrubbed_bytes: u64,
}

/// Watches the health of a server's backends.
#[derive(Debug)]
pub struct Health {
    settings: watch::Sender<HealthSettings>,
    engine: Arc<Engine>,
    memory: Memory,
    notifier: Arc<Notifier>,
    backups: RwLock<Option<Arc<dyn BackupState>>>,
    watched: Mutex<BTreeMap<String, Watched>>,
}

impl Health {
    /// Watches nothing yet; remembers in the engine, and tells the notifier.
    ///
    /// # Errors
    /// None that can happen: the engine takes the name of its namespace.
    pub fn new(engine: Arc<Engine>, notifier: Arc<Notifier>) -> sira_store::Result<Self> {
        Ok(Self {
            settings: watch::Sender::default(),
            memory: Memory::new(Arc::clone(&engine))?,
            engine,
            notifier,
            backups: RwLock::default(),
            watched: Mutex::default(),
        })
    }

    /// Watches by these settings from now on.
    pub fn apply(&self, settings: HealthSettings) {
        self.settings.send_if_modified(|current| {
            let changed = *current != settings;
            *current = settings;
            changed
        });
    }

    /// Asks here from now on when the last backups ended.
    pub fn watch_backups(&self, backups: Arc<dyn BackupState>) {
        *self.backups.write() = Some(backups);
    }

    /// Looks at every backend once an interval and scrubs in between, without end.
    pub async fn run(self: Arc<Self>, client: StorageClient, collector: Arc<MetricsCollector>) {
        let scrub = Arc::clone(&self).scrub(client.clone());
        let look = async {
            let mut changes = self.settings.subscribe();
            loop {
                let settings = changes.borrow_and_update().clone();
                self.look(&settings, &client, &collector).await;
                self.remember().await;
                tokio::select! {
                    () = tokio::time::sleep(settings.bounds.interval) => {}
                    changed = changes.changed() => {
                        if changed.is_err() {
                            return;
                        }
                    }
                }
            }
        };
        tokio::join!(scrub, look);
    }

    /// How every backend does, as of the last look.
    #[must_use]
    pub fn report(&self) -> HealthReport {
        let watched = self.watched.lock();
        let backends: BTreeMap<String, BackendHealthReport> = watched
            .iter()
            .map(|(name, watched)| {
                let report = BackendHealthReport {
                    state: watched.health.state(),
                    checks: watched.health.checks(),
                    forecast: watched.forecast,
                    scrubbed_ms: watched.kept.remembered.integrity.pass_ended_ms,
                };
                (name.clone(), report)
            })
            .collect();
        let state = backends.values().map(|backend| backend.state).max().unwrap_or_default();
        HealthReport { state, backends }
    }

    /// Tells of a check that changed: in the log, and to those who are to be notified.
    fn tell(&self, backend: &str, changed: &Transition) {
        let (check, from, to) = (changed.check.name(), changed.from.name(), changed.to.name());
        let reason = &changed.message;
        match changed.to {
            HealthState::Healthy => tracing::info!(backend, check, from, to, reason, "health"),
            _ => tracing::warn!(backend, check, from, to, reason, "health"),
        }
        let base = self.settings.borrow().run_book.clone().unwrap_or_else(|| RUN_BOOK.to_owned());
        self.notifier.tell(Alert {
            name: format!("health_{check}"),
            backend: backend.to_owned(),
            severity: changed.to.max(changed.from),
            is_firing: changed.to != HealthState::Healthy,
            message: changed.message.clone(),
            at_ms: changed.at_ms,
            run_book: format!("{base}#{check}"),
        });
    }
}
