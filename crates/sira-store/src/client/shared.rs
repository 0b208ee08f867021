//! The plan that clones of a client share, and the views that were composed by it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock, Weak};

use arc_swap::ArcSwap;
use parking_lot::{Mutex, RwLock};

use super::plan::StoragePlan;
use super::view::View;
use crate::cache::CacheStats;
use crate::error::Result;
use crate::lock::LockManager;
use crate::placement::{Behind, CopyFigures};
use crate::version_history::kept_namespace;

/// What clones of a client share.
#[derive(Default)]
pub(super) struct Shared {
    current: ArcSwap<Current>,
    /// Held while the plan changes and while a view is added to it. Views with a cache of plans
    /// before, and those that stood in for them; as long as one is in use, a cache of the same
    /// namespace would not hear of the writes that go through it.
    elders: Mutex<Vec<(String, Weak<View>)>>,
    /// Views of plans before.
    predecessors: Mutex<Vec<Weak<View>>>,
    /// Locks that are taken, whatever the plan.
    pub(super) locks: OnceLock<LockManager>,
    /// What comes of copies, whatever the plan.
    pub(super) figures: Arc<CopyFigures>,
}

/// A plan and its views, by namespace.
#[derive(Default)]
struct Current {
    plan: Arc<StoragePlan>,
    views: RwLock<HashMap<String, Arc<View>>>,
}

impl Shared {
    pub(super) fn plan(&self) -> Arc<StoragePlan> {
        Arc::clone(&self.current.load().plan)
    }

    /// Changes the plan, unless `change` fails.
    pub(super) fn change(&self, change: impl FnOnce(&mut StoragePlan) -> Result<()>) -> Result<()> {
        let mut elders = self.elders.lock();
        let old = self.current.load_full();
        let mut plan = StoragePlan::clone(&old.plan);
        change(&mut plan)?;
        self.current.store(Arc::new(Current { plan: Arc::new(plan), views: RwLock::default() }));
        elders.retain(|(_, view)| view.strong_count() > 0);
        let views = std::mem::take(&mut *old.views.write());
        let mut predecessors = self.predecessors.lock();
        predecessors.retain(|view| view.strong_count() > 0);
        predecessors.extend(elders.iter().map(|(_, view)| Weak::clone(view)));
        predecessors.extend(views.values().map(Arc::downgrade));
        let cached = views.iter().filter(|(_, view)| view.cache.is_some());
        elders.extend(cached.map(|(name, view)| (name.clone(), Arc::downgrade(view))));
        Ok(())
    }

    /// Whether an operation that began by a plan before is under way.
    pub(super) fn has_predecessors(&self) -> bool {
        let mut predecessors = self.predecessors.lock();
        predecessors.retain(|view| view.strong_count() > 0);
        !predecessors.is_empty()
    }

    /// Figures of the caches that are in use, by namespace.
    pub(super) fn cache_stats(&self) -> BTreeMap<String, CacheStats> {
        let current = self.current.load();
        let views = current.views.read();
        let cached = views.iter().filter_map(|(name, view)| Some((name, view.cache.as_ref()?)));
        cached.map(|(name, cache)| (name.clone(), cache.cache_stats())).collect()
    }

    /// How far the copies of objects are behind, by replicated namespace.
    pub(super) fn behind(&self) -> BTreeMap<String, Behind> {
        let current = self.current.load();
        let views = current.views.read();
        let replicated = views.iter().filter_map(|(name, view)| {
            let placed = view.placed.as_ref()?;
            placed.replication().map(|_| (name.clone(), placed.behind()))
        });
        replicated.collect()
    }

    /// The namespace by the plan of now.
    pub(super) async fn view(&self, namespace: &str) -> Result<Arc<View>> {
        loop {
            let current = self.current.load();
            if let Some(view) = current.views.read().get(namespace) {
                return Ok(Arc::clone(view));
            }
            let current = arc_swap::Guard::into_inner(current);
            let alone = !has_elders(&mut self.elders.lock(), namespace);
            let (plan, figures) = (&current.plan, &self.figures);
            let keeps =
                plan.namespaces.get(namespace).is_some_and(|one| one.keep_versions.is_some());
            let kept = match keeps {
                true => Some(Box::pin(self.view(&kept_namespace(namespace)?)).await?),
                false => None,
            };
            let composed = View::compose(plan, namespace, alone, figures, kept).await?;
            let view = Arc::new(composed);
            let mut elders = self.elders.lock();
            if !Arc::ptr_eq(&self.current.load(), &current) {
                continue;
            }
            let wants_cache =
                current.plan.namespaces.get(namespace).is_some_and(|policy| policy.cache.is_some());
            if wants_cache && view.cache.is_none() {
                elders.push((namespace.to_owned(), Arc::downgrade(&view)));
                return Ok(view);
            }
            if view.cache.is_some() && has_elders(&mut elders, namespace) {
                // One came while this was composed.
                continue;
            }
            let mut views = current.views.write();
            return Ok(Arc::clone(views.entry(namespace.to_owned()).or_insert(view)));
        }
    }

    /// Composes the namespace anew at the next operation.
    pub(super) fn forget(&self, namespace: &str) {
        let mut elders = self.elders.lock();
        let current = self.current.load();
        let removed = current.views.write().remove(namespace);
        if let Some(view) = removed.filter(|view| view.cache.is_some()) {
            elders.push((namespace.to_owned(), Arc::downgrade(&view)));
        }
    }
}

fn has_elders(elders: &mut Vec<(String, Weak<View>)>, namespace: &str) -> bool {
    elders.retain(|(_, view)| view.strong_count() > 0);
    elders.iter().any(|(name, _)| name == namespace)
}
