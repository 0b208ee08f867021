//! What was in use, kept in the embedded engine: docs/formats/usage.md.

use std::sync::Arc;

use sira_store::Result;
use sira_store::capacity::{UsageOf, UsageSeries, UsageStore};
use sira_store::embedded::{EmbeddedBackend, Engine};

use super::Capacity;

/// Namespace of the embedded engine that keeps the series. Like the catalog's, it is shown to nobody.
pub(super) const NAMESPACE: &str = "sira.catalog.usage";

/// How often a series is written at most.
const WRITE_EVERY_MS: u64 = 10 * 60 * 1000;

/// A series, and how much of it is written down.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) series: UsageSeries,
    /// When its objects were counted, in milliseconds since the Unix epoch.
    pub(super) counted_ms: Option<u64>,
    /// Whether it was read from where it is kept; what was not must not be written over.
    pub(super) is_recalled: bool,
    pub(super) is_changed: bool,
    /// When it was written. The first time is an interval after it was read, not at once.
    written_ms: u64,
}

impl Kept {
    /// Takes over what was kept. What cannot be read now will not be readable later.
    fn recall(&mut self, of: &UsageOf, kept: Result<(UsageSeries, Option<u64>)>, now_ms: u64) {
        (self.is_recalled, self.written_ms) = (true, now_ms);
        match kept {
            Ok((series, counted_ms)) => (self.series, self.counted_ms) = (series, counted_ms),
            Err(error) => {
                tracing::warn!(?of, %error, "the history of its use is not read, and begins anew");
            }
        }
    }

    /// What is to be written down, if that is due.
    fn take_due(&mut self, now_ms: u64, at_once: bool) -> Option<(UsageSeries, Option<u64>)> {
        let is_due = at_once || now_ms.abs_diff(self.written_ms) >= WRITE_EVERY_MS;
        if !(is_due && self.is_changed && self.is_recalled) {
            return None;
        }
        (self.written_ms, self.is_changed) = (now_ms, false);
        Some((self.series.clone(), self.counted_ms))
    }
}

/// Where series are kept.
pub(super) fn store(engine: Arc<Engine>) -> Result<UsageStore> {
    Ok(UsageStore::new(Arc::new(EmbeddedBackend::new(engine).unmade(NAMESPACE)?)))
}

impl Capacity {
    /// Reads what was known of a backend, the first time that it is sampled.
    pub(super) async fn recall_backend(&self, backend: &str) {
        if self.backends.lock().get(backend).is_some_and(|it| it.kept.is_recalled) {
            return;
        }
        let of = UsageOf::backend(backend);
        let kept = self.store.read(&of).await;
        let now_ms = self.now_ms();
        let mut backends = self.backends.lock();
        backends.entry(backend.to_owned()).or_default().kept.recall(&of, kept, now_ms);
    }

    /// Reads what was known of a namespace, the first time that it is looked at.
    pub(super) async fn recall_namespace(&self, place: &(String, String)) {
        if self.namespaces.lock().get(place).is_some_and(|it| it.is_recalled) {
            return;
        }
        let of = UsageOf::namespace(&place.0, &place.1);
        let kept = self.store.read(&of).await;
        let now_ms = self.now_ms();
        let mut namespaces = self.namespaces.lock();
        namespaces.entry(place.clone()).or_default().recall(&of, kept, now_ms);
    }

    /// Writes down what has changed, now and then.
    pub(super) async fn remember(&self) {
        self.write_down(false).await;
    }

    /// Writes down all that has changed, before the engine is closed.
    pub async fn close(&self) {
        self.write_down(true).await;
    }

    async fn write_down(&self, at_once: bool) {
        let now_ms = self.now_ms();
        let mut due = Vec::new();
        for (backend, tracked) in &mut *self.backends.lock() {
            let taken = tracked.kept.take_due(now_ms, at_once);
            due.extend(taken.map(|taken| (UsageOf::backend(backend), taken)));
        }
        for ((backend, namespace), kept) in &mut *self.namespaces.lock() {
            let taken = kept.take_due(now_ms, at_once);
            due.extend(taken.map(|taken| (UsageOf::namespace(backend, namespace), taken)));
        }
        for (of, (series, counted_ms)) in due {
            if let Err(error) = self.store.write(&of, &series, counted_ms).await {
                tracing::debug!(?of, %error, "the history of its use is not written down");
            }
        }
    }
}
