//! Writing the secondary keys of a collection anew.

use super::codec::Codec;
use super::entity::Entity;
use super::{Repository, layout, taken};
use crate::backend::ListOptions;
use crate::client::draw_apart;
use crate::error::{Result, StorageError};
use crate::options::StorageOptions;
use crate::transaction::ATTEMPTS;

/// What a rebuild found and did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rebuilt {
    /// Objects that were looked at.
    pub objects: u64,
    /// Secondary keys that were missing or wrong, and were written.
    pub written: u64,
    /// Secondary keys that no object has, and were removed.
    pub removed: u64,
    /// Unique secondary keys that two objects have; they lead to the first.
    pub clashes: Vec<Clash>,
}

/// A unique secondary key that two objects have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clash {
    /// Name of the secondary key.
    pub name: &'static str,
    /// Key of the object that it leads to.
    pub kept: String,
    /// Key of the other object, which is not found by it.
    pub other: String,
}

/// What one step of a rebuild did.
#[derive(Default)]
struct Mended {
    written: u64,
    removed: u64,
    clashes: Vec<Clash>,
}

impl<T: Entity, C: Codec> Repository<T, C> {
    /// Writes the secondary keys of all objects anew and removes those that no object has, after
    /// [`Entity::secondary_keys`] has changed or another program wrote objects. Others may read and
    /// write meanwhile: each object is one transaction.
    ///
    /// # Errors
    /// [`StorageError::Unsupported`] where the namespace has no transactions, and as
    /// [`Repository::update`]. What was done before stays done; run it again.
    pub async fn rebuild(&self) -> Result<Rebuilt> {
        let mut rebuilt = Rebuilt::default();
        // What is left over goes first, so that nothing old is taken for another object's claim.
        let mut after = None;
        loop {
            let (stored, next) = self.stored(self.layout.secondary(), after).await?;
            for key in &stored {
                rebuilt.removed += self.again(async || self.sweep(key).await).await?.removed;
            }
            after = next;
            if after.is_none() {
                break;
            }
        }
        loop {
            let (stored, next) = self.stored(self.layout.objects(), after).await?;
            for key in stored.iter().filter_map(|key| self.layout.key_of(key)) {
                let mended = self.again(async || self.mend(&key).await).await?;
                rebuilt.objects += 1;
                rebuilt.written += mended.written;
                rebuilt.clashes.extend(mended.clashes);
            }
            after = next;
            if after.is_none() {
                return Ok(rebuilt);
            }
        }
    }

    /// A page of what is stored under a prefix.
    async fn stored(
        &self,
        prefix: &str,
        start_after: Option<String>,
    ) -> Result<(Vec<String>, Option<String>)> {
        let prefix = prefix.to_owned();
        let options = ListOptions { prefix, start_after, delimiter: None, limit: 0 };
        let page = self.client.list(options).await?;
        Ok((page.entries.into_iter().map(|entry| entry.key).collect(), page.next))
    }

    /// Runs a step until nobody was faster.
    async fn again(&self, step: impl AsyncFn() -> Result<Mended>) -> Result<Mended> {
        let mut attempts = 1;
        loop {
            match step().await {
                Err(StorageError::Conflict(_)) if attempts < ATTEMPTS => {}
                ended => return ended,
            }
            draw_apart(attempts).await;
            attempts += 1;
        }
    }

    /// Removes a secondary key that its object does not have.
    async fn sweep(&self, stored: &str) -> Result<Mended> {
        let mut transaction = self.client.begin().await?;
        let Some(value) = transaction.get(stored).await? else { return Ok(Mended::default()) };
        let place = self.layout.object(&self.layout.owner_of(stored, &value)?);
        let object = transaction.get(&place).await?;
        let object = object.map(|object| self.decode(&place, &object)).transpose()?;
        let entries = object.map(|object| self.entries(&object)).transpose()?.unwrap_or_default();
        if entries.iter().any(|entry| entry.key == stored) {
            return Ok(Mended::default());
        }
        transaction.delete(stored)?;
        transaction.commit().await?;
        Ok(Mended { removed: 1, ..Mended::default() })
    }

    /// Writes the secondary keys of an object that are missing.
    async fn mend(&self, key: &str) -> Result<Mended> {
        let mut transaction = self.client.begin().await?;
        let place = self.layout.object(key);
        let Some(object) = transaction.get(&place).await? else { return Ok(Mended::default()) };
        let mut mended = Mended::default();
        for entry in self.entries(&self.decode(&place, &object)?)? {
            match transaction.get(&entry.key).await? {
                Some(owner) if entry.unique && owner != key.as_bytes() => {
                    let kept = layout::owner(&owner)?;
                    tracing::warn!(error = %taken::<T>(&entry, &kept), other = key, "secondary keys clash");
                    let (name, other) = (entry.name, key.to_owned());
                    mended.clashes.push(Clash { name, kept, other });
                }
                Some(_) => {}
                None => {
                    transaction.put(&entry.key, entry.value(key), StorageOptions::default())?;
                    mended.written += 1;
                }
            }
        }
        transaction.commit().await?;
        Ok(mended)
    }
}
