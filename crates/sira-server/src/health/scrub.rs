//! Reads again what the backends hold, at a set rate.

use std::sync::Arc;
use std::time::Duration;

use sira_store::client::ScrubCursor;
use sira_store::embedded::LogPosition;
use sira_store::{Result, StorageClient, StorageError};

use super::memory::ScrubPlace;
use super::{Health, HealthSettings, SCRUB_EVERY};
use crate::storage::EMBEDDED;

/// Time between two steps.
const STEP: Duration = Duration::from_millis(250);

/// Time that a step of a backend beside the embedded engine stands for: each begins by asking which
/// namespaces lie there.
const STEP_OUTSIDE: Duration = Duration::from_secs(10);

/// Longest time of a step, so that a backend that hangs does not keep others from theirs.
const STEP_MAX: Duration = Duration::from_secs(60);

/// Wait after a step that failed.
const PAUSE: Duration = Duration::from_secs(60);

/// What a step of one backend read and found.
struct Step {
    bytes: u64,
    damaged: Vec<String>,
    next: Option<ScrubPlace>,
}

impl Health {
    /// Scrubs every backend, each at its rate, without end.
    pub(super) async fn scrub(self: Arc<Self>, client: StorageClient) {
        let mut changes = self.settings.subscribe();
        // By backend, when its next step is due, on the monotonic clock.
        let mut due = std::collections::BTreeMap::new();
        loop {
            let settings = changes.borrow_and_update().clone();
            let now = self.engine.env().monotonic();
            for backend in client.backends() {
                if due.get(&backend).is_some_and(|at| now < *at) {
                    continue;
                }
                let rate = match backend == EMBEDDED {
                    true => settings.bounds.scrub_bytes_per_s,
                    false => settings.bounds.scrub_outside_bytes_per_s,
                };
                if let Some(wait) = self.scrub_step(&settings, &client, &backend, rate).await {
                    due.insert(backend, self.engine.env().monotonic() + wait);
                }
            }
            tokio::select! {
                () = tokio::time::sleep(STEP) => {}
                changed = changes.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Makes the next step on a backend if one is due, and answers how long to wait after it.
    async fn scrub_step(
        &self,
        settings: &HealthSettings,
        client: &StorageClient,
        backend: &str,
        rate: u64,
    ) -> Option<Duration> {
        let place = self.scrub_place(settings, backend, rate)?;
        let is_embedded = backend == EMBEDDED;
        let time = if is_embedded { STEP } else { STEP_OUTSIDE };
        let bytes = (rate as f64 * time.as_secs_f64()).ceil() as u64;
        let step = tokio::time::timeout(STEP_MAX, async {
            match is_embedded {
                true => self.scrub_log(place, bytes).await,
                false => scrub_objects(client, backend, place, bytes).await,
            }
        });
        let step = step.await.unwrap_or_else(|_| {
            Err(StorageError::timeout(format!("a step of the scrub took {STEP_MAX:?}")))
        });
        let step = match step {
            Ok(step) => step,
            Err(error) => {
                // One that cannot list is no fault; another is the connection's matter.
                tracing::debug!(backend, %error, "the scrub goes on later");
                return Some(PAUSE);
            }
        };
        let wait = Duration::from_secs_f64(step.bytes as f64 / rate as f64);
        let is_pass_over = step.next.is_none();
        {
            let mut watched = self.watched.lock();
            let watched = watched.get_mut(backend)?;
            watched.scrubbed_bytes += step.bytes;
            let record = &mut watched.kept.remembered.integrity;
            for place in &step.damaged {
                tracing::error!(backend, place, "what lies here does not verify");
            }
            record.step(step.bytes, step.damaged);
            if is_pass_over {
                record.end_pass(self.engine.env().now_ms());
            }
            watched.kept.scrub = step.next;
        }
        if is_pass_over {
            self.remember_now(backend).await;
        }
        Some(wait)
    }

    /// Where the next step on a backend begins; `None` while none is due.
    fn scrub_place(
        &self,
        settings: &HealthSettings,
        backend: &str,
        rate: u64,
    ) -> Option<Option<ScrubPlace>> {
        let every = settings.scrub_every.unwrap_or(SCRUB_EVERY);
        let watched = self.watched.lock();
        let watched = watched.get(backend).filter(|watched| watched.is_recalled && rate > 0)?;
        let ended = watched.kept.remembered.integrity.pass_ended_ms;
        let is_due = watched.kept.scrub.is_some()
            || ended.is_none_or(|at| {
                let age = self.engine.env().now_ms().abs_diff(at);
                Duration::from_millis(age) >= every
            });
        is_due.then(|| watched.kept.scrub.clone())
    }

    async fn scrub_log(&self, place: Option<ScrubPlace>, bytes: u64) -> Result<Step> {
        let from = match place {
            Some(ScrubPlace::Log { segment, offset }) => LogPosition { segment, offset },
            _ => LogPosition::default(),
        };
        let engine = Arc::clone(&self.engine);
        let step = tokio::task::spawn_blocking(move || engine.scrub(from, bytes)).await;
        let step = step.map_err(|error| {
            StorageError::unavailable("the runtime shuts down").with_source(error)
        })??;
        let damaged = step.damage.iter().map(|damage| {
            format!("segment {}, bytes {} to {}", damage.segment, damage.start, damage.end)
        });
        Ok(Step {
            bytes: step.bytes,
            damaged: damaged.collect(),
            next: step.next.map(ScrubPlace::log),
        })
    }
}

async fn scrub_objects(
    client: &StorageClient,
    backend: &str,
    place: Option<ScrubPlace>,
    bytes: u64,
) -> Result<Step> {
    let from = match place {
        Some(ScrubPlace::Objects(cursor)) => cursor,
        _ => ScrubCursor::default(),
    };
    let step = client.scrub(backend, &from, bytes).await?;
    Ok(Step { bytes: step.bytes, damaged: step.damaged, next: step.next.map(ScrubPlace::Objects) })
}
