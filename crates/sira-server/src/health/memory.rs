//! What is known of the backends' health, kept in the embedded engine: docs/formats/health.md.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sira_store::client::ScrubCursor;
use sira_store::embedded::{EmbeddedBackend, Engine, LogPosition};
use sira_store::health::Remembered;
use sira_store::{Durability, Result, StorageBackend, StorageError, StorageOptions};

use super::Health;

/// Namespace of the embedded engine that keeps it. Like the catalog's, it is shown to nobody.
const NAMESPACE: &str = "sira.catalog.health";

/// Form of the documents.
const FORMAT: u32 = 1;

/// How often it is written.
const WRITE_EVERY_MS: u64 = 10 * 60 * 1000;

/// How far the scrub of a backend has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ScrubPlace {
    /// In the log of the embedded engine.
    Log {
        /// Number of the segment.
        segment: u32,
        /// Byte in it.
        offset: u64,
    },
    /// In the listing of another backend.
    Objects(ScrubCursor),
}

impl ScrubPlace {
    pub(super) fn log(at: LogPosition) -> Self {
        Self::Log { segment: at.segment, offset: at.offset }
    }
}

/// What is kept of one backend.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Kept {
    format: u32,
    /// When it was written, in milliseconds since the Unix epoch.
    pub(super) written_ms: u64,
    /// Where the pass of the scrub under way goes on.
    pub(super) scrub: Option<ScrubPlace>,
    #[serde(flatten)]
    pub(super) remembered: Remembered,
}

/// Where it is kept.
#[derive(Debug)]
pub(super) struct Memory(EmbeddedBackend);

impl Memory {
    pub(super) fn new(engine: Arc<Engine>) -> Result<Self> {
        Ok(Self(EmbeddedBackend::new(engine).unmade(NAMESPACE)?))
    }

    async fn read(&self, backend: &str) -> Result<Option<Kept>> {
        let Some(document) = self.0.get(backend).await? else { return Ok(None) };
        let kept: Kept = serde_json::from_slice(&document).map_err(|error| {
            StorageError::corrupt("what was known of a backend's health cannot be read")
                .with_key(backend)
                .with_source(error)
        })?;
        // What a later version wrote is learned anew rather than mistaken.
        Ok((kept.format == FORMAT).then_some(kept))
    }

    async fn write(&self, backend: &str, kept: &Kept) -> Result<()> {
        let document = serde_json::to_vec(kept).map_err(|error| {
            StorageError::invalid_input("the health of a backend has no JSON form")
                .with_source(error)
        })?;
        let durability = Some(Durability::None);
        let options = StorageOptions { durability, ..StorageOptions::default() };
        self.0.put(backend, document.into(), options).await.map(drop)
    }
}

impl Health {
    /// Reads what was known of a backend, the first time that it is looked at.
    pub(super) async fn recall(&self, backend: &str) -> Result<()> {
        let is_recalled =
            self.watched.lock().get(backend).is_some_and(|watched| watched.is_recalled);
        if is_recalled {
            return Ok(());
        }
        let kept = self.memory.read(backend).await;
        let mut watched = self.watched.lock();
        let watched = watched.entry(backend.to_owned()).or_default();
        // What cannot be read now will not be readable later.
        watched.is_recalled = true;
        watched.kept = kept?.unwrap_or_default();
        if watched.kept.written_ms == 0 {
            // The first document is written after one interval, not at once.
            watched.kept.written_ms = self.engine.env().now_ms();
        }
        Ok(())
    }

    /// Writes down what was learned, now and then.
    pub(super) async fn remember(&self) {
        let now_ms = self.engine.env().now_ms();
        let due: Vec<String> = {
            let watched = self.watched.lock();
            let is_due = |kept: &Kept| now_ms.abs_diff(kept.written_ms) >= WRITE_EVERY_MS;
            let due = watched.iter().filter(|(_, watched)| is_due(&watched.kept));
            due.map(|(name, _)| name.clone()).collect()
        };
        let due = self.kept(|name| due.iter().any(|it| it == name));
        self.write_down(due).await;
    }

    /// Writes down what was learned of one backend at once.
    pub(super) async fn remember_now(&self, backend: &str) {
        let kept = self.kept(|name| name == backend);
        self.write_down(kept).await;
    }

    /// Writes down all that was learned, before the engine is closed.
    pub async fn close(&self) {
        let kept = self.kept(|_| true);
        self.write_down(kept).await;
    }

    /// What is to be written down of these backends now.
    fn kept(&self, which: impl Fn(&str) -> bool) -> Vec<(String, Kept)> {
        let now_ms = self.engine.env().now_ms();
        let mut watched = self.watched.lock();
        // What was not read yet must not be written over.
        let chosen = watched.iter_mut().filter(|(name, it)| which(name) && it.is_recalled);
        chosen
            .map(|(name, watched)| {
                (watched.kept.format, watched.kept.written_ms) = (FORMAT, now_ms);
                (name.clone(), watched.kept.clone())
            })
            .collect()
    }

    async fn write_down(&self, all: impl IntoIterator<Item = (String, Kept)>) {
        for (backend, kept) in all {
            if let Err(error) = self.memory.write(&backend, &kept).await {
                tracing::debug!(backend, %error, "what is known of its health is not written down");
            }
        }
    }
}

#[cfg(test)]
mod tests;
