//! Has the rules of the lifecycle looked to, now and then.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;
use sira_store::embedded::Engine;
use sira_store::layers::MetricFamilies;
use sira_store::lifecycle::{
    LifecycleCursor, LifecycleOptions, LifecycleReport, LifecycleRule, RuleFigures,
};
use sira_store::{Result, StorageClient};
use tokio::sync::watch;

use crate::metrics::Kind;

/// How often the rules are looked to where nothing says so.
pub const INTERVAL: Duration = Duration::from_secs(24 * 3600);

/// Objects of one part of a run.
const PART: usize = 500;

/// After a part a run pauses for so many times as long as the part took, so that it leaves most of
/// the time to others.
const PAUSE: u32 = 4;

/// What is done, and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LifecycleSettings {
    /// The rules, of which the first that fits decides.
    pub rules: Vec<LifecycleRule>,
    /// How often they are looked to; zero is never by itself.
    pub interval: Duration,
}

impl Default for LifecycleSettings {
    fn default() -> Self {
        Self { rules: Vec::new(), interval: INTERVAL }
    }
}

/// A figure of a rule.
type Figure = fn(&RuleFigures) -> u64;

/// The last run that the server made by itself.
#[derive(Debug, Clone, Serialize)]
pub struct LastRun {
    /// When it began, in milliseconds since the Unix epoch.
    pub began_at_ms: u64,
    /// When it ended.
    pub ended_at_ms: u64,
    /// What it did.
    pub report: LifecycleReport,
}

#[derive(Debug, Default)]
struct State {
    /// What all runs did, also those that were asked for.
    total: LifecycleReport,
    last: Option<LastRun>,
    running: bool,
}

/// Has the rules of the lifecycle looked to.
#[derive(Debug)]
pub struct Lifecycle {
    settings: watch::Sender<Arc<LifecycleSettings>>,
    state: Mutex<State>,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self { settings: watch::Sender::new(Arc::default()), state: Mutex::default() }
    }
}

impl Lifecycle {
    /// Goes by these rules from now on. A run that is under way ends by those before.
    pub fn apply(&self, settings: LifecycleSettings) {
        self.settings.send_if_modified(|current| {
            let changed = **current != settings;
            if changed {
                *current = Arc::new(settings);
            }
            changed
        });
    }

    /// What it goes by.
    #[must_use]
    pub fn settings(&self) -> Arc<LifecycleSettings> {
        Arc::clone(&self.settings.borrow())
    }

    /// The last run that the server made by itself, and whether one is under way.
    #[must_use]
    pub fn last(&self) -> (Option<LastRun>, bool) {
        let state = self.state.lock();
        (state.last.clone(), state.running)
    }

    /// Makes a part of a run.
    ///
    /// # Errors
    /// Those of the catalog.
    pub async fn part(
        &self,
        client: &StorageClient,
        engine: &Engine,
        from: Option<LifecycleCursor>,
        limit: usize,
        dry_run: bool,
    ) -> Result<LifecycleReport> {
        let settings = self.settings();
        let mut namespaces: BTreeSet<String> = client.known_namespaces().await?;
        namespaces.extend(engine.namespaces().into_iter().map(|(name, _)| name));
        let options = LifecycleOptions { namespaces, from, limit, dry_run };
        let now_ms = engine.env().now_ms();
        let report = client.run_lifecycle(&settings.rules, &options, now_ms).await?;
        if !dry_run {
            self.state.lock().total.add(report.clone());
        }
        Ok(report)
    }

    /// Looks to the rules every interval, without end. Servers that share backends do so at different
    /// times.
    pub async fn run(self: Arc<Self>, client: StorageClient, engine: Arc<Engine>) {
        let mut changes = self.settings.subscribe();
        loop {
            let settings = Arc::clone(&changes.borrow_and_update());
            let idle = settings.rules.is_empty() || settings.interval.is_zero();
            let wait = async {
                match idle {
                    true => std::future::pending().await,
                    false => {
                        let half = settings.interval / 2;
                        let part = engine.env().random_u64() as f64 / u64::MAX as f64;
                        tokio::time::sleep(half + half.mul_f64(part)).await;
                    }
                }
            };
            tokio::select! {
                () = wait => self.run_all(&client, &engine).await,
                changed = changes.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
            }
        }
    }

    async fn run_all(&self, client: &StorageClient, engine: &Engine) {
        let env = engine.env();
        let began_at_ms = env.now_ms();
        self.state.lock().running = true;
        let mut report = LifecycleReport::default();
        loop {
            let began = env.monotonic();
            match self.part(client, engine, report.next.clone(), PART, false).await {
                Ok(part) => report.add(part),
                Err(error) => {
                    tracing::warn!(%error, "the lifecycle goes on later");
                    break;
                }
            }
            if report.next.is_none() {
                break;
            }
            tokio::time::sleep(env.monotonic().saturating_sub(began) * PAUSE).await;
        }
        for (rule, figures) in &report.rules {
            tracing::info!(
                rule,
                action = %figures.action,
                objects = figures.objects,
                bytes = figures.bytes,
                failed = figures.failed,
                "the lifecycle was looked to"
            );
        }
        for (object, why) in &report.failures {
            tracing::warn!(object, why, "a rule of the lifecycle failed");
        }
        let mut state = self.state.lock();
        state.running = false;
        state.last = Some(LastRun { began_at_ms, ended_at_ms: env.now_ms(), report });
    }

    /// Writes what came of it.
    pub fn write(&self, out: &mut MetricFamilies) {
        let state = self.state.lock();
        let families: [(&str, &str, Figure); 3] = [
            (
                "sira_lifecycle_objects_total",
                "Objects that a rule of the lifecycle removed, moved, compressed or left alone.",
                |figures| figures.objects,
            ),
            (
                "sira_lifecycle_bytes_total",
                "Bytes of their values; of compressed ones, the bytes that are saved.",
                |figures| figures.bytes,
            ),
            (
                "sira_lifecycle_failures_total",
                "Objects with which a rule of the lifecycle failed.",
                |figures| figures.failed,
            ),
        ];
        for (name, help, figure) in families {
            out.family(name, Kind::Counter, help);
            for (rule, figures) in &state.total.rules {
                let labels = [("rule", rule.as_str()), ("action", figures.action.as_str())];
                out.sample(&labels, figure(figures) as f64);
            }
        }
    }
}
