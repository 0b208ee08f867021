//! Counts the objects of namespaces, at a set rate.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use sira_store::capacity::{UsageOf, UsageSample};
use sira_store::client::CountedPage;
use sira_store::embedded::EmbeddedBackend;
use sira_store::placement::Catalog;
use sira_store::{ListOptions, Result, StorageBackend, StorageClient};

use super::sample::millis;
use super::{Capacity, CapacitySettings};
use crate::limits::CAPACITY_NAMESPACES_MAX;
use crate::storage::EMBEDDED;

/// Longest and shortest time between two looks at what is to be counted.
const LOOK_MAX: Duration = Duration::from_secs(60);
const LOOK_MIN: Duration = Duration::from_millis(20);

/// Objects of one page.
const PAGE: usize = 1_000;

/// Longest wait for a page.
const PAGE_WAIT: Duration = Duration::from_secs(30);

impl Capacity {
    /// Counts every namespace on every backend as often as the settings say, without end.
    pub(super) async fn count(self: Arc<Self>, client: StorageClient) {
        let mut changes = self.settings.subscribe();
        loop {
            let settings = changes.borrow_and_update().clone();
            if settings.count_objects_per_s > 0 {
                self.count_due(&settings, &client).await;
            }
            let look = (settings.sample_interval / 10).clamp(LOOK_MIN, LOOK_MAX);
            tokio::select! {
                () = tokio::time::sleep(look) => {}
                changed = changes.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Counts what was not counted for as long as it may be.
    async fn count_due(&self, settings: &CapacitySettings, client: &StorageClient) {
        let there = match self.there(client).await {
            Ok(there) => there,
            Err(error) => {
                tracing::debug!(%error, "what the backends hold is not known, and is counted later");
                return;
            }
        };
        let gone: Vec<(String, String)> = {
            let mut namespaces = self.namespaces.lock();
            namespaces.extract_if(.., |place, _| !there.contains(place)).map(|it| it.0).collect()
        };
        for (backend, namespace) in gone {
            let of = UsageOf::namespace(backend, namespace);
            if let Err(error) = self.store.forget(&of).await {
                tracing::debug!(?of, %error, "the history of a namespace that is gone stays");
            }
        }
        for place in there {
            self.recall_namespace(&place).await;
            if !self.is_due(settings, &place) {
                continue;
            }
            let (backend, namespace) = &place;
            let counted = self.count_namespace(settings, client, backend, namespace).await;
            let now_ms = self.now_ms();
            let mut namespaces = self.namespaces.lock();
            let Some(kept) = namespaces.get_mut(&place) else { continue };
            // One that does not list is no fault, and not asked again at once.
            kept.counted_ms = Some(now_ms);
            match counted {
                Ok((objects, used_bytes)) => {
                    let sample = UsageSample { used_bytes, objects: Some(objects), operations: 0 };
                    kept.series.record(millis(settings.sample_interval), now_ms, sample);
                    kept.is_changed = true;
                }
                Err(error) => tracing::debug!(?place, %error, "it is counted later"),
            }
        }
        self.remember().await;
    }

    /// Which namespaces are on which backends.
    async fn there(&self, client: &StorageClient) -> Result<BTreeSet<(String, String)>> {
        let mut there = BTreeSet::new();
        for (backend, namespaces) in client.holdings().await? {
            // Of the embedded engine, its own list says what is there.
            if backend != EMBEDDED {
                there.extend(namespaces.into_iter().map(|name| (backend.clone(), name)));
            }
        }
        let own = self.engine.namespaces().into_iter().map(|(name, _)| name);
        there.extend(own.map(|name| (EMBEDDED.to_owned(), name)));
        there.retain(|(_, namespace)| !Catalog::owns(namespace));
        if there.len() > CAPACITY_NAMESPACES_MAX {
            tracing::debug!(namespaces = there.len(), "only the first ones are counted");
            there = there.into_iter().take(CAPACITY_NAMESPACES_MAX).collect();
        }
        Ok(there)
    }

    fn is_due(&self, settings: &CapacitySettings, place: &(String, String)) -> bool {
        let every = match place.0 == EMBEDDED {
            true => settings.sample_interval,
            false => settings.count_interval,
        };
        let counted_ms = self.namespaces.lock().get(place).and_then(|kept| kept.counted_ms);
        !every.is_zero() && counted_ms.is_none_or(|at| self.now_ms().abs_diff(at) >= millis(every))
    }

    /// Objects and bytes of a namespace on a backend, page by page.
    async fn count_namespace(
        &self,
        settings: &CapacitySettings,
        client: &StorageClient,
        backend: &str,
        namespace: &str,
    ) -> Result<(u64, u64)> {
        let (mut objects, mut bytes) = (0, 0);
        let mut after: Option<String> = None;
        loop {
            let page = match backend == EMBEDDED {
                true => self.own_page(namespace, after).await?,
                false => {
                    let page = client.count_page(backend, namespace, after.as_deref(), PAGE);
                    tokio::time::timeout(PAGE_WAIT, page).await.unwrap_or_else(|_| {
                        Err(sira_store::StorageError::timeout("a listing takes too long"))
                    })?
                }
            };
            objects += page.objects;
            bytes += page.bytes;
            after = page.next;
            if after.is_none() {
                return Ok((objects, bytes));
            }
            let rate = settings.count_objects_per_s as f64;
            tokio::time::sleep(Duration::from_secs_f64(page.objects as f64 / rate)).await;
        }
    }

    /// A page of a namespace of the embedded engine; looking makes none.
    async fn own_page(&self, namespace: &str, after: Option<String>) -> Result<CountedPage> {
        let root = EmbeddedBackend::new(Arc::clone(&self.engine));
        let Some(found) = root.find_namespace(namespace)? else {
            return Ok(CountedPage::default());
        };
        let options = ListOptions { start_after: after, limit: PAGE, ..ListOptions::default() };
        let page = found.list(options).await?;
        let mut counted = CountedPage { next: page.next, ..CountedPage::default() };
        for entry in page.entries {
            counted.objects += 1;
            counted.bytes += entry.size + entry.key.len() as u64;
        }
        Ok(counted)
    }

    /// Bytes and objects that were counted on a backend; `None` where nothing was.
    pub(super) fn counted_bytes(&self, backend: &str) -> Option<(u64, u64)> {
        let namespaces = self.namespaces.lock();
        let here = namespaces.iter().filter(|((at, _), _)| at == backend);
        let known = here.filter_map(|(_, counted)| counted.series.newest());
        known.fold(None, |sum: Option<(u64, u64)>, sample| {
            let (bytes, objects) = sum.unwrap_or_default();
            Some((bytes + sample.used_bytes, objects + sample.objects.unwrap_or(0)))
        })
    }
}
