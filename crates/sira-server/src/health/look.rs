//! One look at every backend.

use std::sync::Arc;
use std::time::Duration;

use sira_store::env::Env;
use sira_store::health::{
    Baseline, Check, Deviation, HealthOptions, HealthState, Transition, backup, capacity,
    connection, integrity, performance,
};
use sira_store::layers::metrics::Figures;
use sira_store::layers::metrics::histogram::HistogramSnapshot;
use sira_store::layers::{MetricsCollector, OperationKind};
use sira_store::{HealthStatus, StorageBackend, StorageClient, StorageStats};
use tokio::task::JoinSet;

use super::{Health, HealthSettings, Watched};

/// Longest wait for a backend's answer.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Operations of the last minute without which their times say nothing.
const OPERATIONS_MIN: u64 = 50;

/// What is learned are windows of a minute, so no more than one is learned in that time.
const LEARN_EVERY: Duration = Duration::from_secs(60);

const READS: [OperationKind; 2] = [OperationKind::Read, OperationKind::Head];
const WRITES: [OperationKind; 4] =
    [OperationKind::Put, OperationKind::PutStream, OperationKind::Remove, OperationKind::Batch];

/// What a backend answered.
struct Answer {
    status: Option<HealthStatus>,
    took: Duration,
    stats: Option<StorageStats>,
}

impl Health {
    /// Looks at every backend of the plan, and tells what has changed.
    pub(super) async fn look(
        &self,
        settings: &HealthSettings,
        client: &StorageClient,
        collector: &MetricsCollector,
    ) {
        let env = Arc::clone(self.engine.env());
        let plan = client.plan();
        let mut asked = JoinSet::new();
        for (name, backend) in &plan.backends {
            let (name, backend, env) = (name.clone(), Arc::clone(backend), Arc::clone(&env));
            asked.spawn(async move {
                let answer = ask(&*backend, &*env).await;
                (name, answer)
            });
        }
        let answers = asked.join_all().await;
        let figures = collector.figures();
        let (now_ms, now) = (env.now_ms(), env.monotonic());
        for (name, answer) in answers {
            if let Err(error) = self.recall(&name).await {
                tracing::warn!(backend = name, %error, "what was known of its health is not read; it is learned anew");
            }
            let changed = {
                let mut watched = self.watched.lock();
                let watched = watched.entry(name.clone()).or_default();
                watched.take_in(settings, answer, figures.get(&name), self.marks(), now_ms, now)
            };
            for changed in changed {
                self.tell(&name, &changed);
            }
        }
        let gone: Vec<(String, Watched)> = {
            let mut watched = self.watched.lock();
            watched.extract_if(.., |name, _| !plan.backends.contains_key(name)).collect()
        };
        for (name, watched) in gone {
            for (check, report) in watched.health.checks() {
                if report.state != HealthState::Healthy {
                    let (from, to) = (report.state, HealthState::Healthy);
                    let message = "the backend is no longer configured".to_owned();
                    self.tell(&name, &Transition { check, from, to, message, at_ms: now_ms });
                }
            }
        }
    }

    pub(super) fn marks(&self) -> Option<sira_store::health::BackupMarks> {
        self.backups.read().as_ref().and_then(|backups| backups.marks())
    }
}

async fn ask(backend: &dyn StorageBackend, env: &dyn Env) -> Answer {
    let begun = env.monotonic();
    let status = tokio::time::timeout(ANSWER_MAX, backend.health_check()).await.ok();
    let took = env.monotonic().saturating_sub(begun);
    let stats = match status {
        None => None,
        Some(_) => tokio::time::timeout(ANSWER_MAX, backend.stats()).await.ok(),
    };
    Answer { status, took, stats: stats.and_then(Result::ok) }
}

impl Watched {
    /// Takes in what a look saw, and answers what has changed by it.
    fn take_in(
        &mut self,
        settings: &HealthSettings,
        answer: Answer,
        figures: Option<&Figures>,
        marks: Option<sira_store::health::BackupMarks>,
        now_ms: u64,
        now: Duration,
    ) -> Vec<Transition> {
        let bounds = &settings.bounds;
        if let Some(stats) = answer.stats {
            self.kept.remembered.usage.record(now_ms, stats.used_bytes);
            self.forecast = self.kept.remembered.usage.forecast(stats.available_bytes);
            self.stats = Some(stats);
        }
        let verdicts = [
            (Check::Connection, connection(bounds, answer.status.as_ref(), answer.took)),
            (Check::Performance, self.performance(bounds, figures, now)),
            (Check::Capacity, capacity(bounds, self.stats.as_ref(), self.forecast.as_ref())),
            (Check::Integrity, integrity(&self.kept.remembered.integrity)),
            (Check::Backup, backup(bounds, marks, now_ms)),
        ];
        let looks = verdicts.into_iter();
        looks.filter_map(|(check, verdict)| self.health.look(check, verdict, now_ms)).collect()
    }

    /// Compares the operations of the last minute with what is usual, and learns from them.
    fn performance(
        &mut self,
        bounds: &HealthOptions,
        figures: Option<&Figures>,
        now: Duration,
    ) -> sira_store::health::Verdict {
        let is_due = self.learned.is_none_or(|at| now.saturating_sub(at) >= LEARN_EVERY);
        let remembered = &mut self.kept.remembered;
        let mut windows: Vec<(&str, f64, Option<Deviation>)> = Vec::new();
        let mut look = |what, baseline: &mut Baseline, kinds: &[OperationKind]| {
            let Some(ms) = figures.and_then(|figures| p95_ms(figures, kinds)) else { return };
            windows.push((what, ms, baseline.compare(ms)));
            if is_due {
                baseline.learn(ms);
            }
        };
        look("95% of reads", &mut remembered.reads, &READS);
        look("95% of writes", &mut remembered.writes, &WRITES);
        let has_learned = is_due && !windows.is_empty();
        let verdict = performance(bounds, &windows);
        if has_learned {
            self.learned = Some(now);
        }
        verdict
    }
}

/// Time that 95% of the operations of these kinds did not exceed in the last minute, in milliseconds;
/// `None` of too few.
fn p95_ms(figures: &Figures, kinds: &[OperationKind]) -> Option<f64> {
    let mut recent = HistogramSnapshot::default();
    for operation in figures.operations.iter().filter(|it| kinds.contains(&it.kind)) {
        recent.merge(&operation.recent);
    }
    (recent.count() >= OPERATIONS_MIN).then(|| recent.quantile(0.95).as_secs_f64() * 1e3)
}
