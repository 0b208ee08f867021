//! Reads of replicated objects.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::backend::StorageBackend;
use crate::error::{Result, StorageError};
use crate::placement::backend::{ATTEMPTS, Found, PlacedBackend};
use crate::placement::copies::Versioned;
use crate::placement::replicas::is_of_backend;
use crate::placement::replication::Replication;

/// An object, and the replica that answered with it.
pub(in crate::placement) type Answer<T> = Option<(String, T)>;

impl PlacedBackend {
    /// Reads the newest by `read`; `None` when the object is about to be moved, which is read as any
    /// other.
    pub(in crate::placement) async fn seek_newest<T, F>(
        &self,
        key: &str,
        read: &impl Fn(Arc<dyn StorageBackend>) -> F,
    ) -> Result<Option<Option<T>>>
    where
        T: Versioned,
        F: Future<Output = Result<Option<T>>>,
    {
        for _ in 0..ATTEMPTS {
            let found = self.find(key).await?;
            if found.entry.moving.is_some() {
                return Ok(None);
            }
            match self.newest(key, &found, read).await {
                Ok(Some((_, answer))) => return Ok(Some(Some(answer))),
                // The object may lie elsewhere since the entry was looked at.
                answer => {
                    if self.find(key).await? == found {
                        return answer.map(|_| Some(None));
                    }
                }
            }
        }
        Err(self.restless())
    }

    /// The same as [`Self::newest`], and never what may be behind.
    pub(in crate::placement) async fn newest_for_sure<T, F>(
        &self,
        key: &str,
        found: &Found,
        read: &impl Fn(Arc<dyn StorageBackend>) -> F,
    ) -> Result<Answer<T>>
    where
        T: Versioned,
        F: Future<Output = Result<Option<T>>>,
    {
        self.newest_or(key, found, read, false).await
    }

    /// What an object was when its entry was this, and the replica that has it.
    ///
    /// # Errors
    /// Those of `read`; of the backends, when none of those that have the newest answers, and reads
    /// are to see no other.
    async fn newest<T, F>(
        &self,
        key: &str,
        found: &Found,
        read: &impl Fn(Arc<dyn StorageBackend>) -> F,
    ) -> Result<Answer<T>>
    where
        T: Versioned,
        F: Future<Output = Result<Option<T>>>,
    {
        self.newest_or(key, found, read, self.may_be_stale()).await
    }

    async fn newest_or<T, F>(
        &self,
        key: &str,
        found: &Found,
        read: &impl Fn(Arc<dyn StorageBackend>) -> F,
        or_stale: bool,
    ) -> Result<Answer<T>>
    where
        T: Versioned,
        F: Future<Output = Result<Option<T>>>,
    {
        let at = &found.entry.at;
        let backend = self.backend(at)?;
        let answered = read(Arc::clone(backend)).await;
        let held = match &answered {
            Ok(answer) => Ok(answer.as_ref().map(Versioned::version)),
            Err(StorageError::PreconditionFailed(_)) => match found.entry.copies.version() {
                None => return answered.map(|_| None).map_err(|error| error.with_backend(at)),
                Some(_) => backend.head(key).await.map(|head| head.map(|head| head.version)),
            },
            Err(error) if !is_of_backend(error) => {
                return answered.map(|_| None).map_err(|error| error.with_backend(at));
            }
            Err(error) => Err(error.same_kind(error.detail().message.clone())),
        };
        let failure = match held {
            Ok(held) if !self.has_lost(found, held) => {
                let answer = answered.map_err(|error| error.with_backend(at))?;
                return Ok(answer.map(|answer| (at.clone(), answer)));
            }
            Ok(_) => {
                self.mender.suspect(key, self.env.monotonic());
                StorageError::corrupt("the replica has lost what it had acknowledged")
            }
            Err(error) => {
                if let StorageError::Corrupt(_) = error {
                    self.mender.suspect(key, self.env.monotonic());
                }
                error
            }
        };
        let failure = failure.with_backend(at);
        tracing::debug!(error = %failure, key, "another replica is read");
        if let Some(answer) = self.exact_copy(key, found, read).await? {
            self.figures.served();
            return Ok(Some(answer));
        }
        if self.is_known_gone(found) {
            return Ok(None);
        }
        if or_stale && let Some(answer) = self.stale_copy(found, read).await {
            self.figures.served_stale();
            return Ok(Some(answer));
        }
        self.figures.not_served();
        Err(failure)
    }

    /// A copy of the version that the entry gives.
    async fn exact_copy<T, F>(
        &self,
        key: &str,
        found: &Found,
        read: &impl Fn(Arc<dyn StorageBackend>) -> F,
    ) -> Result<Answer<T>>
    where
        T: Versioned,
        F: Future<Output = Result<Option<T>>>,
    {
        for (name, version) in &found.entry.copies.on {
            let (Some(version), Ok(backend)) = (version, self.backend(name)) else { continue };
            match read(Arc::clone(backend)).await {
                Ok(Some(answer)) if answer.version().as_u64() == *version => {
                    return Ok(Some((name.clone(), answer)));
                }
                // The condition was about this version, or about another one that lies here.
                Err(refused @ StorageError::PreconditionFailed(_)) => {
                    let head = backend.head(key).await;
                    if let Ok(Some(head)) = head
                        && head.version.as_u64() == *version
                    {
                        return Err(refused.with_backend(name));
                    }
                }
                _ => {}
            }
        }
        Ok(None)
    }

    /// The newest of the copies that are not known to be so.
    async fn stale_copy<T, F>(
        &self,
        found: &Found,
        read: &impl Fn(Arc<dyn StorageBackend>) -> F,
    ) -> Answer<T>
    where
        T: Versioned,
        F: Future<Output = Result<Option<T>>>,
    {
        let mut newest: Answer<T> = None;
        for name in found.entry.copies.on.keys() {
            let Ok(backend) = self.backend(name) else { continue };
            if let Ok(Some(answer)) = read(Arc::clone(backend)).await
                && newest.as_ref().is_none_or(|(_, other)| answer.version() > other.version())
            {
                newest = Some((name.clone(), answer));
            }
        }
        newest
    }

    /// Reads what any replica has, another one first each time.
    ///
    /// # Errors
    /// That of the last replica, when none answers.
    pub(in crate::placement) async fn read_any<T, F>(
        &self,
        replication: &Replication,
        read: &impl Fn(Arc<dyn StorageBackend>) -> F,
    ) -> Result<Option<T>>
    where
        F: Future<Output = Result<Option<T>>>,
    {
        let first = self.turns.fetch_add(1, Ordering::Relaxed);
        let count = replication.replicas.len();
        let mut outcome = None;
        for name in replication.replicas.iter().cycle().skip(first % count).take(count) {
            match read(Arc::clone(self.backend(name)?)).await {
                // It may not have come here yet.
                Ok(None) => outcome = Some(Ok(None)),
                Err(error) if is_of_backend(&error) => {
                    outcome.get_or_insert(Err(error.with_backend(name)));
                }
                answer => return answer.map_err(|error| error.with_backend(name)),
            }
        }
        outcome.unwrap_or(Ok(None))
    }
}
