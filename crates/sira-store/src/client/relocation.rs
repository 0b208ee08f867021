//! Moving objects that a catalog knows.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::backend::{ListEntry, StorageBackend};
use crate::env::{Env, SystemEnv};
use crate::error::Result;
use crate::migration::crew::{Bounds, Crew};
use crate::migration::keys::{Keys, PAGE_KEYS};
use crate::migration::progress::Throttle;
use crate::migration::{MigrationOptions, MigrationReport};
use crate::placement::PlacedBackend;

/// Objects of a namespace on their way from one of its backends to another. What was moved is no
/// longer where it was, so one that died is gone on with by another.
#[derive(Debug)]
pub(super) struct Relocation {
    placed: Arc<PlacedBackend>,
    /// The namespace on the backend that the objects are to leave.
    source: Arc<dyn StorageBackend>,
    from: String,
    to: String,
    options: MigrationOptions,
    report: Arc<Mutex<MigrationReport>>,
    throttle: Throttle,
}

impl Relocation {
    pub(super) fn new(
        placed: Arc<PlacedBackend>,
        source: Arc<dyn StorageBackend>,
        (from, to): (&str, &str),
        options: MigrationOptions,
    ) -> Self {
        Self {
            placed,
            source,
            from: from.to_owned(),
            to: to.to_owned(),
            options,
            report: Arc::default(),
            throttle: Throttle::default(),
        }
    }

    /// What was done so far.
    pub(super) fn report(&self) -> MigrationReport {
        *self.report.lock()
    }

    /// Moves the objects that lie on the one backend and match the pattern, some at a time.
    pub(super) async fn run(&self) -> Result<MigrationReport> {
        let MigrationOptions { concurrency, bytes_in_flight_max, .. } = self.options;
        let bounds = Bounds { concurrency, bytes_in_flight_max };
        let mut keys = Keys::new(Arc::clone(&self.source), self.options.pattern.prefix());
        loop {
            let mut crew = Crew::new(bounds);
            for number in 0..PAGE_KEYS {
                let Some(key) = keys.peek().await?.map(str::to_owned) else {
                    crew.finish().await?;
                    return Ok(self.report());
                };
                let entry = keys.take(&key).filter(|_| self.options.pattern.matches(&key));
                let Some(entry) = entry else { continue };
                let limit = self.options.bytes_per_second_max.filter(|_| !self.options.dry_run);
                self.throttle.wait(&SystemEnv as &dyn Env, entry.size, limit).await;
                crew.begin(number, entry.size, self.step(entry)).await;
            }
            crew.finish().await?;
        }
    }

    /// Moves one object, if it is one that lies there.
    fn step(&self, entry: ListEntry) -> impl Future<Output = Result<()>> + Send + 'static {
        let (placed, report) = (Arc::clone(&self.placed), Arc::clone(&self.report));
        let (from, to, dry_run) = (self.from.clone(), self.to.clone(), self.options.dry_run);
        async move {
            report.lock().scanned += 1;
            // Something that a move left behind is no object of the namespace.
            if placed.place(&entry.key).await? != from {
                report.lock().skipped += 1;
                return Ok(());
            }
            if !dry_run {
                let moved = placed.relocate(&entry.key, &to).await;
                moved.map_err(|error| error.with_key(&entry.key))?;
            }
            let mut report = report.lock();
            report.removed += u64::from(!dry_run);
            report.copied += 1;
            report.copied_bytes += entry.size;
            report.watermark = report.watermark.max(entry.version.unwrap_or_default());
            Ok(())
        }
    }
}
