//! Writes and removals of objects, wherever they lie.

use bytes::Bytes;

use super::PlacementRequest;
use super::backend::{ATTEMPTS, Found, PlacedBackend};
use crate::backend::HealthStatus;
use crate::error::{Result, Retry, StorageError};
use crate::key::{check_described, check_key};
use crate::options::{Condition, StorageOptions};
use crate::version::Version;

/// What the policy says of a write.
#[derive(Debug, Default)]
struct Chosen {
    /// Where the object goes, and what stands in.
    places: Vec<String>,
    /// Where copies go.
    mirrors: Vec<String>,
}

/// What came of a write at a place.
#[derive(Debug)]
pub(super) enum Wrote {
    Done(Version),
    /// Nothing was written, since others were quicker.
    Overtaken,
    /// The object was moved away meanwhile.
    Strayed,
}

impl PlacedBackend {
    /// The place for a write: where the object lies, unless the policy no longer lets it, and for a
    /// new object the first that the policy names. Fallbacks follow.
    async fn choose(
        &self,
        key: &str,
        found: &Found,
        size: u64,
        options: &StorageOptions,
    ) -> Result<Chosen> {
        let here = &found.entry.at;
        let namespace = &*self.namespace;
        let request = PlacementRequest {
            namespace,
            key,
            size,
            options,
            backends: &self.names,
            now_ms: self.env.now_ms(),
        };
        let route = self.policy.choose(&request);
        let (mut places, mut mirrors) = (route.backends, route.mirrors);
        places.retain(|name| self.backends.contains_key(name));
        mirrors.retain(|name| self.backends.contains_key(name));
        let stays = places.is_empty()
            || places.first() == Some(here)
            || (places.contains(here) && self.is_there(key, found).await?);
        if stays {
            places = vec![here.clone()];
        }
        Ok(Chosen { places, mirrors })
    }

    /// Whether there is an object where one was looked for.
    async fn is_there(&self, key: &str, found: &Found) -> Result<bool> {
        match self.backend(&found.entry.at)?.head(key).await {
            Ok(head) => Ok(head.is_some()),
            // A new object would not be put there either.
            Err(error) if found.version.is_none() && error.retry() != Retry::Permanent => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn write(
        &self,
        key: &str,
        value: Bytes,
        options: StorageOptions,
    ) -> Result<Version> {
        check_key(key)?;
        let _turn = self.turn(key).await;
        let mut strayed = false;
        match self.write_until_still(key, &value, &options, &mut strayed).await {
            // Others may have seen what an earlier attempt left where the object had been.
            Err(error) if strayed => Err(error.with_retry(Retry::Ambiguous)),
            result => result,
        }
    }

    async fn write_until_still(
        &self,
        key: &str,
        value: &Bytes,
        options: &StorageOptions,
        strayed: &mut bool,
    ) -> Result<Version> {
        for _ in 0..ATTEMPTS {
            let mut found = self.settled(key).await?;
            if let Some(replication) = &self.replication {
                match self.write_replicas(replication, key, &mut found, value, options).await? {
                    Wrote::Done(version) => return Ok(version),
                    Wrote::Overtaken => {}
                    Wrote::Strayed => *strayed = true,
                }
                continue;
            }
            let chosen = self.choose(key, &found, value.len() as u64, options).await?;
            let mut result = Err(StorageError::unavailable("no backend takes the object"));
            for (number, name) in chosen.places.iter().enumerate() {
                let mirrors: Vec<String> =
                    chosen.mirrors.iter().filter(|mirror| *mirror != name).cloned().collect();
                result = self.write_at(key, &mut found, (name, &mirrors), value, options).await;
                let next = number + 1 < chosen.places.len();
                match &result {
                    // Nothing was written, and another backend may take it.
                    Err(error)
                        if next
                            && error.retry() == Retry::Temporary
                            && error.code() != "conflict" =>
                    {
                        tracing::warn!(%error, backend = name, "the object goes to another backend");
                    }
                    _ => break,
                }
            }
            match result? {
                Wrote::Done(version) => return Ok(version),
                Wrote::Overtaken => {}
                Wrote::Strayed => *strayed = true,
            }
        }
        Err(self.restless())
    }

    /// Writes at a place, with copies on these mirrors.
    async fn write_at(
        &self,
        key: &str,
        found: &mut Found,
        (name, mirrors): (&str, &[String]),
        value: &Bytes,
        options: &StorageOptions,
    ) -> Result<Wrote> {
        if found.entry.at != name {
            // What cannot take the object is found out before the object is moved there.
            if let HealthStatus::Critical(reason) = self.backend(name)?.health_check().await {
                return Err(StorageError::unavailable(reason).with_backend(name));
            }
            *found = self.begin_move(key, found, name).await?;
        }
        let plain = mirrors.is_empty() && found.entry.copies.is_empty();
        let (version, unchanged) = if plain {
            let version = self.put_at(key, name, value, options).await?;
            (version, self.find(key).await.map(|after| after == *found))
        } else {
            let checked = check_described(key, options, self.env.now_ms())?;
            let writing = self.mender.while_writing(key, &*self.env);
            let Some(begun) = self.begin_write(key, found, mirrors).await? else {
                return Ok(Wrote::Overtaken);
            };
            let mut options = options.clone();
            // Object and copies expire at the same time.
            (options.ttl, options.expires_at_ms) = (None, checked.expires_at_ms);
            let version = match self.put_at(key, name, value, &options).await {
                Ok(version) => version,
                Err(error) => {
                    self.abandon_write(key, &begun, found, &error).await;
                    writing.ended();
                    return Err(error);
                }
            };
            let ended = self.end_write(key, begun, value, &options, version).await;
            writing.ended();
            (version, ended)
        };
        // It is written, and whether it is where it is looked for is not known.
        let unknown = |error: StorageError| error.with_retry(Retry::Ambiguous);
        if unchanged.map_err(unknown)? {
            return Ok(Wrote::Done(version));
        }
        self.look_after(key, name, version, options.condition).await.map_err(unknown)
    }

    /// Finds out what became of a write whose entry was changed meanwhile: a move took it along, or
    /// had gone by before it came.
    pub(super) async fn look_after(
        &self,
        key: &str,
        name: &str,
        version: Version,
        condition: Condition,
    ) -> Result<Wrote> {
        let now = self.settled(key).await?;
        let stays = now.entry.at == name;
        if !stays && self.drop_stray(key, &now, name, version).await? {
            return Ok(Wrote::Strayed);
        }
        let head = self.backend(&now.entry.at)?.head(key).await?;
        if head.is_some_and(|head| head.version == version) {
            self.distrust(key, now, version).await?;
            return Ok(Wrote::Done(version));
        }
        if condition == Condition::Always {
            return Ok(Wrote::Strayed);
        }
        Err(StorageError::conflict(
            "the object was moved and written by others meanwhile, so whether this write was one of \
             them is not known; read it again",
        ))
    }

    /// Writes at a place under a version of this process' clock.
    async fn put_at(
        &self,
        key: &str,
        name: &str,
        value: &Bytes,
        options: &StorageOptions,
    ) -> Result<Version> {
        let backend = self.backend(name)?;
        let mut held = None;
        for _ in 0..ATTEMPTS {
            let (now_ms, random) = (self.env.now_ms(), self.env.random_u64());
            let drawn = || match held {
                Some(held) => self.clock.next_after(held, now_ms, random),
                None => self.clock.next_spread(now_ms, random),
            };
            let version = options.version.unwrap_or_else(drawn);
            let exactly = StorageOptions { version: Some(version), ..options.clone() };
            match backend.put(key, value.clone(), exactly).await {
                // The clock of another process may be ahead, and others may draw after the same
                // version: far apart, since a version that is drawn twice for a key would let a
                // condition hold that should not, if the first object is removed in between.
                Err(StorageError::Conflict(_)) if options.version.is_none() => {
                    held = backend.head(key).await?.map(|head| head.version);
                }
                result => return result.map_err(|error| error.with_backend(name)),
            }
        }
        Err(self.restless())
    }

    pub(super) async fn erase(&self, key: &str, condition: Condition) -> Result<bool> {
        check_key(key)?;
        let _turn = self.turn(key).await;
        let mut removed = false;
        match self.erase_until_still(key, condition, &mut removed).await {
            Err(error) if removed => Err(error.with_retry(Retry::Ambiguous)),
            result => result,
        }
    }

    async fn erase_until_still(
        &self,
        key: &str,
        condition: Condition,
        removed: &mut bool,
    ) -> Result<bool> {
        for _ in 0..ATTEMPTS {
            let found = self.settled(key).await?;
            if let Some(replication) = &self.replication {
                match self.erase_replicas(replication, key, found, condition).await? {
                    Some(removed) => return Ok(removed),
                    None => continue,
                }
            }
            if !found.entry.copies.is_empty() {
                match self.erase_copied(key, found, condition, removed).await? {
                    Some(removed) => return Ok(removed),
                    None => continue,
                }
            }
            let name = &found.entry.at;
            let result = self.backend(name)?.remove(key, condition).await;
            match result {
                Ok(there) => *removed |= there,
                Err(StorageError::PreconditionFailed(_)) if *removed => {}
                Err(StorageError::PreconditionFailed(_)) => {
                    if self.find(key).await? == found {
                        return result.map_err(|error| error.with_backend(name));
                    }
                    continue;
                }
                Err(error) => return Err(error.with_backend(name)),
            }
            // A move that went on may have taken a copy along.
            if self.find(key).await? == found {
                return Ok(*removed);
            }
        }
        Err(self.restless())
    }
}
