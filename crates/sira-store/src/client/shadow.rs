//! Shadows: operations repeated on a backend that is tried out, behind their answers.
//!
//! What a shadow holds lies in a namespace of its own on the shadow's backend, so that it is never
//! taken for an object, whatever the rules become. Operations on a key are repeated in the order of
//! their answers; where the shadow is too slow, some are left out and counted.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::observe::Observer;
use crate::backend::{
    Capabilities, HealthStatus, ListOptions, ListPage, Object, ObjectHead, ReadOptions,
    StorageBackend, StorageStats,
};
use crate::env::{Env, SystemEnv};
use crate::error::{Result, StorageError};
use crate::layers::Layered;
use crate::options::{Condition, StorageOptions};
use crate::placement::{Catalog, CopyFigures};
use crate::router::{Operation, RouteRequest, StorageRouter};
use crate::version::Version;

/// Operations that are repeated at once; those on a key are so one after another.
const LANES: usize = 4;

/// Operations that wait in a lane.
const LANE_OPERATIONS: usize = 256;

/// Bytes of values that wait in all lanes.
const WAITING_BYTES_MAX: u64 = 64 << 20;

/// A namespace whose operations are repeated on shadows.
pub(super) struct ShadowedBackend {
    inner: Arc<dyn StorageBackend>,
    namespace: Arc<str>,
    router: Arc<StorageRouter>,
    /// Backends that the router may name.
    candidates: Vec<String>,
    figures: Arc<CopyFigures>,
    waiting_bytes: Arc<AtomicU64>,
    lanes: Vec<mpsc::Sender<Repeat>>,
}

/// An operation to be repeated.
struct Repeat {
    shadow: String,
    key: String,
    what: What,
    bytes: u64,
}

enum What {
    Put(Bytes, StorageOptions),
    Remove,
    /// What was served.
    Read(Option<Object>, ReadOptions),
    Head(Option<ObjectHead>),
}

impl ShadowedBackend {
    /// The namespace over `inner`, or `inner` itself where no rule names shadows or nothing can be
    /// done behind an answer, as there is no tokio runtime.
    pub(super) fn around(
        inner: Arc<dyn StorageBackend>,
        namespace: &str,
        router: &Arc<StorageRouter>,
        backends: &BTreeMap<String, Arc<dyn StorageBackend>>,
        own: &[String],
        figures: &Arc<CopyFigures>,
    ) -> Arc<dyn StorageBackend> {
        let Ok(runtime) = Handle::try_current() else { return inner };
        if !router.has_shadows() {
            return inner;
        }
        let waiting_bytes = Arc::default();
        let lanes = (0..LANES).map(|_| {
            let (lane, repeats) = mpsc::channel(LANE_OPERATIONS);
            let worker = Worker {
                namespace: namespace.into(),
                backends: backends.clone(),
                opened: BTreeMap::new(),
                router: Arc::clone(router),
                figures: Arc::clone(figures),
                waiting_bytes: Arc::clone(&waiting_bytes),
            };
            runtime.spawn(worker.run(repeats));
            lane
        });
        let lanes = lanes.collect();
        let candidates =
            if own.is_empty() { backends.keys().cloned().collect() } else { own.to_vec() };
        let (router, figures) = (Arc::clone(router), Arc::clone(figures));
        let namespace = namespace.into();
        Arc::new(Self { inner, namespace, router, candidates, figures, waiting_bytes, lanes })
    }

    /// Repeats an operation on the shadows of its key.
    fn repeat(
        &self,
        key: &str,
        size: Option<u64>,
        options: &StorageOptions,
        what: impl Fn() -> What,
    ) {
        let route = self.router.route(&RouteRequest {
            namespace: &self.namespace,
            operation: Operation::Write,
            size,
            now_ms: SystemEnv.now_ms(),
            candidates: &self.candidates,
            ..RouteRequest::new(key, options)
        });
        for shadow in route.shadows {
            let what = what();
            let bytes = match &what {
                What::Put(value, _) => value.len() as u64,
                What::Read(served, _) => served.as_ref().map_or(0, |read| read.value.len() as u64),
                What::Remove | What::Head(_) => 0,
            };
            let waiting = self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
            let repeat = Repeat { shadow, key: key.to_owned(), what, bytes };
            let lane = crc32c::crc32c(key.as_bytes()) as usize % LANES;
            let lane = self.lanes.get(lane).filter(|_| waiting + bytes <= WAITING_BYTES_MAX);
            if lane.is_none_or(|lane| lane.try_send(repeat).is_err()) {
                self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
                self.figures.shadow_dropped();
            }
        }
    }
}

impl fmt::Debug for ShadowedBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShadowedBackend").field("inner", &self.inner).finish_non_exhaustive()
    }
}

/// Repeats the operations of one lane.
struct Worker {
    namespace: Arc<str>,
    backends: BTreeMap<String, Arc<dyn StorageBackend>>,
    /// The shadows' namespaces, by backend.
    opened: BTreeMap<String, Arc<dyn StorageBackend>>,
    router: Arc<StorageRouter>,
    figures: Arc<CopyFigures>,
    waiting_bytes: Arc<AtomicU64>,
}

impl Worker {
    async fn run(mut self, mut repeats: mpsc::Receiver<Repeat>) {
        while let Some(repeat) = repeats.recv().await {
            let Repeat { shadow, key, what, bytes } = repeat;
            let result = match self.open(&shadow).await {
                Ok(backend) => self.repeat(&*backend, &key, what).await,
                Err(error) => Err(error),
            };
            if let Err(error) = result {
                self.figures.shadow_failed();
                tracing::debug!(%error, backend = %shadow, "the shadow failed");
            }
            self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    async fn open(&mut self, name: &str) -> Result<Arc<dyn StorageBackend>> {
        if let Some(opened) = self.opened.get(name) {
            return Ok(Arc::clone(opened));
        }
        let Some(backend) = self.backends.get(name) else {
            return Err(StorageError::not_found("no backend of this name is registered"));
        };
        let view = backend.namespace(&Catalog::shadow_of(&self.namespace)).await?;
        let observer = Observer {
            router: Arc::clone(&self.router),
            backend: name.to_owned(),
            namespace: Arc::clone(&self.namespace),
        };
        let view: Arc<dyn StorageBackend> = Arc::new(Layered::new(view, Arc::new(observer)));
        self.opened.insert(name.to_owned(), Arc::clone(&view));
        Ok(view)
    }

    async fn repeat(&self, shadow: &dyn StorageBackend, key: &str, what: What) -> Result<()> {
        match what {
            What::Put(value, mut options) => {
                if !shadow.capabilities().exact_versions {
                    options.version = None;
                }
                match shadow.put(key, value, options).await {
                    // A later write came first.
                    Ok(_) | Err(StorageError::Conflict(_)) => self.figures.shadow_written(),
                    Err(error) => return Err(error),
                }
            }
            What::Remove => {
                shadow.remove(key, Condition::Always).await?;
                self.figures.shadow_written();
            }
            What::Read(served, options) => {
                let read = match shadow.read(key, options).await {
                    // The range that was served is none of the shadow's value.
                    Err(StorageError::InvalidInput(_)) => {
                        self.figures.shadow_differs();
                        return Ok(());
                    }
                    read => read?,
                };
                let versions =
                    versions(&served, &read, |object: &Object| object.head.version, shadow);
                let same = |a: &Object, b: &Object| {
                    a.value == b.value && a.range == b.range && a.head.metadata == b.head.metadata
                };
                self.compare(served, read, versions, same);
            }
            What::Head(served) => {
                let head = shadow.head(key).await?;
                let versions = versions(&served, &head, |head: &ObjectHead| head.version, shadow);
                let same =
                    |a: &ObjectHead, b: &ObjectHead| a.size == b.size && a.metadata == b.metadata;
                self.compare(served, head, versions, same);
            }
        }
        Ok(())
    }

    fn compare<T>(
        &self,
        served: Option<T>,
        read: Option<T>,
        versions: Option<(Version, Version)>,
        same: impl Fn(&T, &T) -> bool,
    ) {
        match (served, read) {
            // What was served is no more, so there is nothing to be told.
            _ if versions.is_some_and(|(served, read)| read > served) => {}
            (None, None) => self.figures.shadow_equal(),
            (Some(_), None) => self.figures.shadow_missing(),
            (Some(served), Some(read))
                if same(&served, &read) && versions.is_none_or(|(served, read)| served == read) =>
            {
                self.figures.shadow_equal();
            }
            (Some(_) | None, Some(_)) => self.figures.shadow_differs(),
        }
    }
}

/// Versions of what was served and of what the shadow gave, where the shadow keeps those of others.
fn versions<T>(
    served: &Option<T>,
    read: &Option<T>,
    version: impl Fn(&T) -> Version,
    shadow: &dyn StorageBackend,
) -> Option<(Version, Version)> {
    let both = served.as_ref().zip(read.as_ref()).filter(|_| shadow.capabilities().exact_versions);
    both.map(|(served, read)| (version(served), version(read)))
}

/// What the rules are to know of an object that was read.
fn known(head: &ObjectHead) -> StorageOptions {
    StorageOptions {
        metadata: head.metadata.clone(),
        expires_at_ms: head.expires_at_ms,
        ..StorageOptions::default()
    }
}

#[async_trait]
impl StorageBackend for ShadowedBackend {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn put(&self, key: &str, value: Bytes, options: StorageOptions) -> Result<Version> {
        let version = self.inner.put(key, value.clone(), options.clone()).await?;
        let options =
            StorageOptions { version: Some(version), condition: Condition::Always, ..options };
        self.repeat(key, Some(value.len() as u64), &options, || {
            What::Put(value.clone(), options.clone())
        });
        Ok(version)
    }

    async fn read(&self, key: &str, options: ReadOptions) -> Result<Option<Object>> {
        let served = self.inner.read(key, options.clone()).await?;
        let head = served.as_ref().map(|object| &object.head);
        let options = ReadOptions { condition: Condition::Always, ..options };
        self.repeat(key, head.map(|head| head.size), &head.map(known).unwrap_or_default(), || {
            What::Read(served.clone(), options.clone())
        });
        Ok(served)
    }

    async fn remove(&self, key: &str, condition: Condition) -> Result<bool> {
        let removed = self.inner.remove(key, condition).await?;
        self.repeat(key, None, &StorageOptions::default(), || What::Remove);
        Ok(removed)
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectHead>> {
        let served = self.inner.head(key).await?;
        let size = served.as_ref().map(|head| head.size);
        let options = served.as_ref().map(known).unwrap_or_default();
        self.repeat(key, size, &options, || What::Head(served.clone()));
        Ok(served)
    }

    async fn list(&self, options: ListOptions) -> Result<ListPage> {
        self.inner.list(options).await
    }

    async fn stats(&self) -> Result<StorageStats> {
        self.inner.stats().await
    }

    async fn health_check(&self) -> HealthStatus {
        self.inner.health_check().await
    }

    async fn flush(&self) -> Result<()> {
        self.inner.flush().await
    }
}
