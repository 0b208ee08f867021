//! Typed objects over a client's namespace, with secondary keys.
//!
//! A [`Repository`] keeps one collection: objects of one type ([`Entity`]) under keys that begin with
//! the collection's name. What an object says of itself besides its key ([`SecondaryKey`]) is written
//! by the same transaction as the object, so that what a secondary key finds is what the objects say.

mod codec;
mod entity;
mod layout;
mod rebuild;

use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;

pub use codec::{Codec, Json, MessagePack};
pub use entity::{Entity, SecondaryKey};
pub use rebuild::{Clash, Rebuilt};

use layout::Layout;

use crate::backend::{ListOptions, ReadOptions};
use crate::client::{StorageClient, draw_apart};
use crate::error::{Result, StorageError};
use crate::limits::LIST_LIMIT_DEFAULT;
use crate::metadata::Metadata;
use crate::options::{Condition, StorageOptions};
use crate::transaction::{ATTEMPTS, Transaction};

/// A page of a collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The objects, in byte order of their keys.
    pub objects: Vec<T>,
    /// Pass this as `after` for the next page; `None` on the last.
    pub next: Option<String>,
}

/// Objects of one type in a namespace of a client. Clones share the client.
///
/// ```
/// use std::sync::Arc;
/// use serde::{Deserialize, Serialize};
/// use sira_store::repository::{Entity, Repository, SecondaryKey};
/// use sira_store::{MemoryBackend, StorageClient};
///
/// #[derive(Serialize, Deserialize)]
/// struct User {
///     id: u32,
///     email: String,
///     city: String,
///     logins: u64,
/// }
///
/// impl Entity for User {
///     const COLLECTION: &'static str = "users";
///
///     fn key(&self) -> String {
///         format!("{:08}", self.id)
///     }
///
///     fn secondary_keys(&self) -> Vec<SecondaryKey> {
///         vec![SecondaryKey::unique("email", &self.email), SecondaryKey::shared("city", &self.city)]
///     }
/// }
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// let client = StorageClient::new();
/// client.register_backend("memory", Arc::new(MemoryBackend::new(64 << 20)))?;
/// let users = Repository::<User>::new(client.namespace("app"))?;
///
/// let ada = User { id: 1, email: "ada@example.org".into(), city: "London".into(), logins: 0 };
/// users.insert(&ada).await?;
/// let after = users.update("00000001", |user| { user.logins += 1; Ok(()) }).await?;
/// assert_eq!(after.map(|user| user.logins), Some(1));
///
/// let found = users.find_one("email", "ada@example.org").await?;
/// assert_eq!(found.map(|user| user.id), Some(1));
/// assert_eq!(users.find("city", "London", None, 10).await?.objects.len(), 1);
/// # Ok::<_, Box<dyn std::error::Error>>(()) })?;
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub struct Repository<T, C = Json> {
    client: StorageClient,
    layout: Layout,
    types: PhantomData<fn() -> (T, C)>,
}

/// An object as it is stored.
#[derive(Debug, Clone)]
struct Draft {
    value: Bytes,
    entries: Vec<layout::Entry>,
}

/// What a step makes of the object under a key.
enum Step<R> {
    /// Leaves it as it is.
    Keep,
    /// Writes this in its place, and answers.
    Write(Draft, R),
    /// Removes it.
    Remove,
}

impl<T: Entity> Repository<T> {
    /// The collection of `T` in the client's namespace, as JSON.
    ///
    /// # Errors
    /// [`StorageError::InvalidInput`] when [`Entity::COLLECTION`] can name none.
    pub fn new(client: StorageClient) -> Result<Self> {
        Self::with_codec(client)
    }
}

impl<T: Entity, C: Codec> Repository<T, C> {
    /// The collection of `T` in the client's namespace, in the form that `C` gives its objects.
    ///
    /// # Errors
    /// [`StorageError::InvalidInput`] when [`Entity::COLLECTION`] can name none.
    pub fn with_codec(client: StorageClient) -> Result<Self> {
        Ok(Self { client, layout: Layout::new(T::COLLECTION)?, types: PhantomData })
    }

    /// The object under a key.
    ///
    /// # Errors
    /// [`StorageError::InvalidInput`] when what lies there is no `T`, and as
    /// [`StorageClient::retrieve`].
    pub async fn get(&self, key: &str) -> Result<Option<T>> {
        let stored = self.layout.object(key);
        let value = self.client.retrieve(&stored).await?;
        value.map(|value| self.decode(&stored, &value)).transpose()
    }

    /// Writes an object whose key holds none yet.
    ///
    /// # Errors
    /// [`StorageError::PreconditionFailed`] when the key holds an object, or a unique secondary key
    /// is another object's; nothing was written then. [`StorageError::Unsupported`] for secondary
    /// keys where the namespace has no transactions, and as [`StorageClient::transact`].
    pub async fn insert(&self, object: &T) -> Result<()> {
        let (key, draft) = (object.key(), self.draft(object)?);
        let step = |held: Option<T>| match held {
            Some(_) => Err(StorageError::precondition_failed(format!(
                "{} holds an object with this key already; update it, or choose another key",
                T::COLLECTION
            ))
            .with_key(&key)),
            None => Ok(Step::Write(draft.clone(), ())),
        };
        self.change(&key, step).await.map(drop)
    }

    /// Writes an object, whatever its key holds.
    ///
    /// # Errors
    /// As [`Repository::insert`], but for a key that holds an object.
    pub async fn put(&self, object: &T) -> Result<()> {
        let (key, draft) = (object.key(), self.draft(object)?);
        self.change(&key, |_| Ok(Step::Write(draft.clone(), ()))).await.map(drop)
    }

    /// Changes an object and answers what it has become; `None` when the key holds none. `change` is
    /// run again on what is there then while other writers are faster, up to [`ATTEMPTS`] times; an
    /// error of it ends the update, and nothing is written.
    ///
    /// # Errors
    /// What `change` fails with; [`StorageError::InvalidInput`] when it changes the key;
    /// [`StorageError::Conflict`] when others were always faster; and as [`Repository::put`].
    pub async fn update(
        &self,
        key: &str,
        mut change: impl FnMut(&mut T) -> Result<()>,
    ) -> Result<Option<T>> {
        let step = |held: Option<T>| {
            let Some(mut object) = held else { return Ok(Step::Keep) };
            change(&mut object)?;
            if object.key() != key {
                return Err(StorageError::invalid_input(
                    "an update cannot change the key of an object; insert it anew and delete the old one",
                )
                .with_key(key));
            }
            Ok(Step::Write(self.draft(&object)?, object))
        };
        Ok(match self.change(key, step).await? {
            Step::Write(_, object) => Some(object),
            Step::Keep | Step::Remove => None,
        })
    }

    /// Removes an object with its secondary keys, and says whether one was there.
    ///
    /// # Errors
    /// As [`Repository::update`].
    pub async fn delete(&self, key: &str) -> Result<bool> {
        let step = |held: Option<T>| Ok(held.map_or(Step::Keep, |_| Step::<()>::Remove));
        Ok(matches!(self.change(key, step).await?, Step::Remove))
    }

    /// A page of the collection, in byte order of the keys: up to `limit` objects whose keys come
    /// after `after`. 0 is [`LIST_LIMIT_DEFAULT`].
    ///
    /// Objects are read one by one: what is written meanwhile may be in a page or not.
    ///
    /// # Errors
    /// As [`StorageClient::list`] and [`Repository::get`].
    pub async fn list(&self, after: Option<&str>, limit: usize) -> Result<Page<T>> {
        let prefix = self.layout.objects().to_owned();
        self.page(prefix, after, limit, |key| self.layout.key_of(key)).await
    }

    /// The objects with a secondary key: up to `limit` of them whose own keys come after `after`, in
    /// byte order of those. 0 is [`LIST_LIMIT_DEFAULT`].
    ///
    /// # Errors
    /// As [`Repository::list`]; [`StorageError::InvalidInput`] for a name that can be none.
    pub async fn find(
        &self,
        name: &str,
        value: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<T>> {
        layout::check_name(name)?;
        let unique = self.client.retrieve(&self.layout.unique(name, value)).await?;
        if let Some(key) = unique {
            let key = layout::owner(&key)?;
            let is_next = after.is_none_or(|after| key.as_str() > after);
            let object = match is_next {
                true => self.get(&key).await?,
                false => None,
            };
            let objects = object.into_iter().filter(|it| carries(it, name, value)).collect();
            return Ok(Page { objects, next: None });
        }
        let prefix = self.layout.shared(name, value, "");
        let start = prefix.len();
        let mut page =
            self.page(prefix, after, limit, |key| key.get(start..).map(str::to_owned)).await?;
        // Between the listing and the reading an object may have become another.
        page.objects.retain(|object| carries(object, name, value));
        Ok(page)
    }

    /// The object with a unique secondary key; of a shared one, the first.
    ///
    /// # Errors
    /// As [`Repository::find`].
    pub async fn find_one(&self, name: &str, value: &str) -> Result<Option<T>> {
        let mut after = None;
        loop {
            let page = self.find(name, value, after.as_deref(), 1).await?;
            if let Some(object) = page.objects.into_iter().next() {
                return Ok(Some(object));
            }
            after = match page.next {
                Some(next) => Some(next),
                None => return Ok(None),
            };
        }
    }

    /// The objects that the keys of a page lead to.
    async fn page(
        &self,
        prefix: String,
        after: Option<&str>,
        limit: usize,
        key_of: impl Fn(&str) -> Option<String>,
    ) -> Result<Page<T>> {
        let start_after = after.map(|after| format!("{prefix}{after}"));
        let limit = if limit == 0 { LIST_LIMIT_DEFAULT } else { limit };
        let options = ListOptions { prefix, start_after, limit, delimiter: None };
        let listed = self.client.list(options).await?;
        let mut objects = Vec::with_capacity(listed.entries.len());
        for entry in &listed.entries {
            let Some(key) = key_of(&entry.key) else { continue };
            // It may have been removed since it was listed.
            objects.extend(self.get(&key).await?);
        }
        Ok(Page { objects, next: listed.next.and_then(|next| key_of(&next)) })
    }

    /// Runs `step` on the object under a key until nobody was faster.
    async fn change<R>(
        &self,
        key: &str,
        mut step: impl FnMut(Option<T>) -> Result<Step<R>>,
    ) -> Result<Step<R>> {
        let mut attempts = 1;
        loop {
            let ended = match self.client.begin().await {
                Ok(transaction) => self.change_in(transaction, key, &mut step).await,
                Err(StorageError::Unsupported(_)) => self.change_alone(key, &mut step).await,
                Err(error) => return Err(error),
            };
            match ended {
                Err(StorageError::Conflict(_)) if attempts < ATTEMPTS => {}
                ended => return ended,
            }
            draw_apart(attempts).await;
            attempts += 1;
        }
    }

    /// One attempt, with the secondary keys.
    async fn change_in<R>(
        &self,
        mut transaction: Transaction,
        key: &str,
        step: &mut impl FnMut(Option<T>) -> Result<Step<R>>,
    ) -> Result<Step<R>> {
        let stored = self.layout.object(key);
        let held = transaction.get(&stored).await?;
        let held = held.map(|value| self.decode(&stored, &value)).transpose()?;
        let before = held.as_ref().map(|held| self.entries(held)).transpose()?.unwrap_or_default();
        let decided = match step(held) {
            Ok(Step::Write(draft, answer)) => match self.owned(&mut transaction, key, &draft).await
            {
                Ok(()) => Ok(Step::Write(draft, answer)),
                Err(error) => Err(error),
            },
            decided => decided,
        };
        let decided = match decided {
            Ok(decided) => decided,
            // A refusal counts if what it rests on was so at one moment; else it is decided anew.
            Err(refusal) => {
                return match transaction.commit().await {
                    Err(overtaken @ StorageError::Conflict(_)) => Err(overtaken),
                    _ => Err(refusal),
                };
            }
        };
        let after = match &decided {
            Step::Keep => return Ok(decided),
            Step::Remove => {
                transaction.delete(&stored)?;
                &[]
            }
            Step::Write(draft, _) => {
                transaction.put(&stored, draft.value.clone(), self.options().await?)?;
                draft.entries.as_slice()
            }
        };
        for entry in before.iter().filter(|entry| !after.contains(entry)) {
            // After a clash a unique one leads to another object.
            let is_own = !entry.unique
                || transaction.get(&entry.key).await?.is_some_and(|owner| owner == key.as_bytes());
            if is_own {
                transaction.delete(&entry.key)?;
            }
        }
        // All of them are written anew, so that none expires before the object where the namespace
        // lets objects expire.
        for entry in after {
            transaction.put(&entry.key, entry.value(key), StorageOptions::default())?;
        }
        transaction.commit().await?;
        Ok(decided)
    }

    /// Checks that the unique keys of a draft are nobody else's.
    async fn owned(&self, transaction: &mut Transaction, key: &str, draft: &Draft) -> Result<()> {
        for entry in draft.entries.iter().filter(|entry| entry.unique) {
            let Some(owner) = transaction.get(&entry.key).await? else { continue };
            let owner = layout::owner(&owner)?;
            if owner != key {
                return Err(taken::<T>(entry, &owner));
            }
        }
        Ok(())
    }

    /// One attempt where the namespace has no transactions: the object alone.
    async fn change_alone<R>(
        &self,
        key: &str,
        step: &mut impl FnMut(Option<T>) -> Result<Step<R>>,
    ) -> Result<Step<R>> {
        let stored = self.layout.object(key);
        let held = self.client.retrieve_object(&stored, ReadOptions::default()).await?;
        let version = held.as_ref().map(|held| held.head.version);
        let held = held.map(|held| self.decode(&stored, &held.value)).transpose()?;
        let decided = step(held)?;
        let condition = version.map_or(Condition::IfAbsent, Condition::IfMatch);
        let written = match &decided {
            Step::Keep => Ok(()),
            Step::Write(draft, _) => {
                if let Some(entry) = draft.entries.first() {
                    return Err(no_secondary_keys::<T>(entry));
                }
                let options = StorageOptions { condition, ..self.options().await? };
                self.client.store(&stored, draft.value.clone(), options).await.map(drop)
            }
            Step::Remove => {
                let open = self.client.open().await?;
                open.backend.remove(&stored, condition).await.map(drop)
            }
        };
        match written {
            Ok(()) => Ok(decided),
            Err(error @ StorageError::PreconditionFailed(_)) => Err(StorageError::conflict(
                "another writer changed the object meanwhile; nothing was written, run it again",
            )
            .with_key(stored)
            .with_source(error)),
            Err(error) => Err(error),
        }
    }

    /// An object as it is stored.
    fn draft(&self, object: &T) -> Result<Draft> {
        Ok(Draft { value: self.encode(object)?, entries: self.entries(object)? })
    }

    /// What the secondary keys of an object are stored as.
    fn entries(&self, object: &T) -> Result<Vec<layout::Entry>> {
        let key = object.key();
        let secondary = object.secondary_keys();
        let mut entries = Vec::with_capacity(secondary.len());
        for secondary in secondary {
            let entry = self.layout.entry(&secondary, &key)?;
            if !entries.contains(&entry) {
                entries.push(entry);
            }
        }
        Ok(entries)
    }

    async fn options(&self) -> Result<StorageOptions> {
        let keeps = self.client.open().await?.backend.capabilities().metadata;
        let content_type = keeps.then(|| C::MEDIA_TYPE.to_owned());
        let metadata = Metadata { content_type, ..Metadata::default() };
        Ok(StorageOptions { metadata, ..StorageOptions::default() })
    }

    fn encode(&self, object: &T) -> Result<Bytes> {
        C::encode(object).map_err(|error| {
            StorageError::invalid_input(format!(
                "an object of {} has no form as {}",
                T::COLLECTION,
                C::MEDIA_TYPE
            ))
            .with_key(object.key())
            .with_source(error)
        })
    }

    fn decode(&self, stored: &str, value: &[u8]) -> Result<T> {
        C::decode(value).map_err(|error| {
            StorageError::invalid_input(format!(
                "what lies here is no object of {} as {}; read it with the type and the codec that \
                 wrote it",
                T::COLLECTION,
                C::MEDIA_TYPE
            ))
            .with_key(stored)
            .with_source(error)
        })
    }
}

/// Whether an object says that it has a secondary key.
fn carries<T: Entity>(object: &T, name: &str, value: &str) -> bool {
    object.secondary_keys().iter().any(|key| key.name == name && key.value == value)
}

fn taken<T: Entity>(entry: &layout::Entry, owner: &str) -> StorageError {
    StorageError::precondition_failed(format!(
        "the unique key {:?} of {} belongs to the object {owner:?}; choose another value",
        entry.name,
        T::COLLECTION
    ))
    .with_key(&entry.key)
}

fn no_secondary_keys<T: Entity>(entry: &layout::Entry) -> StorageError {
    StorageError::unsupported(format!(
        "objects of {} have the secondary key {:?}, which needs transactions, and this namespace has \
         none; put it on one engine with atomic batches, and make it direct where there is a catalog",
        T::COLLECTION,
        entry.name
    ))
}

impl<T, C> Clone for Repository<T, C> {
    fn clone(&self) -> Self {
        Self { client: self.client.clone(), layout: self.layout.clone(), types: PhantomData }
    }
}

impl<T: Entity, C> fmt::Debug for Repository<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Repository")
            .field("collection", &T::COLLECTION)
            .field("client", &self.client)
            .finish()
    }
}
