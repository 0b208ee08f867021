//! Where objects lie, kept in a backend with conditions.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::entry::Entry;
use crate::backend::{ListOptions, ListPage, ReadOptions, StorageBackend};
use crate::error::{Result, StorageError};
use crate::limits::{LIST_LIMIT_MAX, NAMESPACE_BYTES_MAX};
use crate::options::{Condition, Durability, StorageOptions};
use crate::version::Version;

/// First part of the names of the catalog's own namespaces.
const NAMESPACE_PREFIX: &str = "sira.catalog";

/// Times that a change begins again because another process changed the same thing.
const ATTEMPTS: usize = 32;

/// What is known of a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceRecord {
    /// Backend of the objects that have no entry.
    pub home: String,
    /// Every backend that may hold objects of the namespace, the home included.
    pub used: BTreeSet<String>,
    /// Every backend that may hold copies of objects that lie on others.
    #[serde(skip_serializing_if = "BTreeSet::is_empty", default)]
    pub mirrors: BTreeSet<String>,
    /// Every object has an entry: the namespace has been replicated since it was empty, or since
    /// all that it held was.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub complete: bool,
}

/// Where the objects of namespaces lie. Processes that share namespaces share the backend of the
/// catalog: the embedded engine for one, PostgreSQL or etcd for several.
#[derive(Debug, Clone)]
pub struct Catalog {
    backend: Arc<dyn StorageBackend>,
}

impl Catalog {
    /// Namespace of the records, each under the name of the namespace that it is about. Entries lie
    /// in namespaces of their own, under the keys of their objects.
    pub const RECORDS: &str = "sira.catalog.names";

    /// A catalog that is kept in namespaces `sira.catalog…` of a backend.
    ///
    /// # Errors
    /// [`StorageError::Unsupported`] for a backend without conditions, namespaces or listings.
    pub fn new(backend: Arc<dyn StorageBackend>) -> Result<Self> {
        let capabilities = backend.capabilities();
        if !(capabilities.conditional && capabilities.namespaces && capabilities.list) {
            return Err(StorageError::unsupported(format!(
                "{} cannot keep a catalog: it takes conditions, namespaces and listings",
                capabilities.name
            )));
        }
        Ok(Self { backend })
    }

    /// Whether a namespace of this name belongs to the catalog.
    #[must_use]
    pub fn owns(namespace: &str) -> bool {
        namespace.starts_with(NAMESPACE_PREFIX)
    }

    /// Name of the namespace in which a backend keeps what it repeats of another namespace as a
    /// shadow.
    #[must_use]
    pub fn shadow_of(namespace: &str) -> String {
        named("shadow", namespace)
    }

    /// What is known of a namespace; `None` before the first operation in it.
    ///
    /// # Errors
    /// Those of the catalog's backend.
    pub async fn record(&self, namespace: &str) -> Result<Option<NamespaceRecord>> {
        let records = self.backend.namespace(Self::RECORDS).await?;
        Ok(get(&*records, namespace).await?.map(|(record, _)| record))
    }

    /// Names of the namespaces that are known, in byte order.
    ///
    /// # Errors
    /// Those of the catalog's backend.
    pub async fn namespaces(&self) -> Result<Vec<String>> {
        self.backend.namespace(Self::RECORDS).await?.list_keys("", usize::MAX).await
    }

    /// Takes a namespace in that a backend holds already, before anything is placed in it: objects
    /// without an entry lie there. Does nothing to a namespace that is known.
    ///
    /// # Errors
    /// Those of the catalog's backend.
    pub async fn adopt(&self, namespace: &str, home: &str) -> Result<NamespaceRecord> {
        Ok(self.open(namespace, home).await?.1)
    }

    /// The entries of a namespace, and its record, which is made with this home if there is none.
    pub(super) async fn open(
        &self,
        namespace: &str,
        home: &str,
    ) -> Result<(Entries, NamespaceRecord)> {
        let entries = self.backend.namespace(&space(namespace)).await?;
        let records = self.backend.namespace(Self::RECORDS).await?;
        let entries = Entries { entries, records, namespace: namespace.into() };
        let record = NamespaceRecord {
            home: home.to_owned(),
            used: BTreeSet::from([home.to_owned()]),
            mirrors: BTreeSet::new(),
            complete: false,
        };
        let record = match entries.record().await? {
            Some((known, _)) => known,
            None => {
                match put(&*entries.records, namespace, &record, Condition::IfAbsent, None).await {
                    Ok(_) => record,
                    Err(StorageError::PreconditionFailed(_)) => {
                        let known = entries.record().await?;
                        known.map(|(known, _)| known).unwrap_or(record)
                    }
                    Err(error) => return Err(error),
                }
            }
        };
        Ok((entries, record))
    }
}

/// Name of the namespace that holds the entries of another.
fn space(namespace: &str) -> String {
    named("entries", namespace)
}

/// Name of a namespace of the catalog's that is about another.
fn named(part: &str, namespace: &str) -> String {
    let name = format!("{NAMESPACE_PREFIX}.{part}.{namespace}");
    if name.len() <= NAMESPACE_BYTES_MAX {
        return name;
    }
    // Long names are told apart by a hash; 64 bits over names that a user chose are plenty.
    let (a, b) =
        (crc32c::crc32c(namespace.as_bytes()), crc32c::crc32c_append(7, namespace.as_bytes()));
    let mut end = NAMESPACE_BYTES_MAX - 17;
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}~{a:08x}{b:08x}", name.get(..end).unwrap_or(NAMESPACE_PREFIX))
}

async fn put<T: Serialize>(
    backend: &dyn StorageBackend,
    key: &str,
    value: &T,
    condition: Condition,
    durability: Option<Durability>,
) -> Result<Version> {
    let bytes = serde_json::to_vec(value).map_err(|error| {
        StorageError::invalid_input("the catalog cannot hold this").with_source(error)
    })?;
    let options = StorageOptions { condition, durability, ..StorageOptions::default() };
    backend.put(key, Bytes::from(bytes), options).await
}

async fn get<T: for<'de> Deserialize<'de>>(
    backend: &dyn StorageBackend,
    key: &str,
) -> Result<Option<(T, Version)>> {
    let Some(object) = backend.read(key, ReadOptions::default()).await? else { return Ok(None) };
    let value = serde_json::from_slice(&object.value).map_err(|error| {
        StorageError::corrupt("the catalog holds what is no entry").with_key(key).with_source(error)
    })?;
    Ok(Some((value, object.head.version)))
}

/// The catalog of one namespace.
#[derive(Debug, Clone)]
pub(super) struct Entries {
    entries: Arc<dyn StorageBackend>,
    records: Arc<dyn StorageBackend>,
    namespace: Arc<str>,
}

impl Entries {
    pub(super) async fn get(&self, key: &str) -> Result<Option<(Entry, Version)>> {
        get(&*self.entries, key).await
    }

    /// Replaces an entry that has this version, or makes the first one; `None` when another process
    /// was quicker.
    pub(super) async fn replace(
        &self,
        key: &str,
        entry: &Entry,
        held: Option<Version>,
    ) -> Result<Option<Version>> {
        self.replace_by(key, entry, held, None).await
    }

    /// The same, where the entry before leads to the same object, and knows less of it: a crash of
    /// the machine may bring that one back.
    pub(super) async fn replace_soon(
        &self,
        key: &str,
        entry: &Entry,
        held: Option<Version>,
    ) -> Result<Option<Version>> {
        self.replace_by(key, entry, held, Some(Durability::None)).await
    }

    async fn replace_by(
        &self,
        key: &str,
        entry: &Entry,
        held: Option<Version>,
        durability: Option<Durability>,
    ) -> Result<Option<Version>> {
        let condition = held.map_or(Condition::IfAbsent, Condition::IfMatch);
        match put(&*self.entries, key, entry, condition, durability).await {
            Ok(version) => Ok(Some(version)),
            Err(StorageError::PreconditionFailed(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn newest_record(&self) -> Result<Option<NamespaceRecord>> {
        Ok(self.record().await?.map(|(record, _)| record))
    }

    async fn record(&self) -> Result<Option<(NamespaceRecord, Version)>> {
        get(&*self.records, &self.namespace).await
    }

    /// A page of the keys that have entries.
    pub(super) async fn keys(&self, options: ListOptions) -> Result<ListPage> {
        self.entries.list(options).await
    }

    /// Keys of a page of the entries that name a backend as the place of their object, or as where
    /// it moves, and the place after which the next page begins.
    pub(super) async fn that_lead_to(
        &self,
        name: &str,
        start_after: Option<String>,
    ) -> Result<(Vec<String>, Option<String>)> {
        let options = ListOptions { start_after, limit: LIST_LIMIT_MAX, ..ListOptions::default() };
        let page = self.keys(options).await?;
        let mut keys = Vec::new();
        for listed in page.entries {
            let Some((entry, _)) = self.get(&listed.key).await? else { continue };
            if entry.at == name || entry.moving.is_some_and(|moving| moving.to == name) {
                keys.push(listed.key);
            }
        }
        Ok((keys, page.next))
    }

    /// Gives an entry another place, while nobody looks at it.
    pub(super) async fn lead_to(&self, key: &str, to: &str) -> Result<()> {
        for _ in 0..ATTEMPTS {
            let Some((entry, version)) = self.get(key).await? else { return Ok(()) };
            let entry = Entry { at: to.to_owned(), moving: None, ..entry };
            if self.replace(key, &entry, Some(version)).await?.is_some() {
                return Ok(());
            }
        }
        Err(StorageError::conflict("the entry changes again and again"))
    }

    /// Takes a backend out of those that may hold objects; `to` is the home where that was.
    pub(super) async fn retire(&self, from: &str, to: &str) -> Result<NamespaceRecord> {
        for _ in 0..ATTEMPTS {
            let Some((mut record, version)) = self.record().await? else {
                return Err(StorageError::corrupt("the catalog has lost the namespace's record"));
            };
            record.used.remove(from);
            if record.home == from {
                record.used.insert(to.to_owned());
                to.clone_into(&mut record.home);
            }
            match put(&*self.records, &self.namespace, &record, Condition::IfMatch(version), None)
                .await
            {
                Ok(_) => return Ok(record),
                Err(StorageError::PreconditionFailed(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Err(StorageError::conflict("the namespace's record changes again and again"))
    }

    /// Adds a backend to those that may hold objects.
    pub(super) async fn use_backend(&self, name: &str) -> Result<NamespaceRecord> {
        self.change_record(|record| record.used.insert(name.to_owned())).await
    }

    /// Adds backends to those that may hold copies.
    pub(super) async fn use_mirrors(&self, names: &[String]) -> Result<NamespaceRecord> {
        self.change_record(|record| {
            let before = record.mirrors.len();
            record.mirrors.extend(names.iter().cloned());
            record.mirrors.len() > before
        })
        .await
    }

    /// Adds the replicas of a namespace, in which every object has an entry if `complete`.
    pub(super) async fn replicate(
        &self,
        replicas: &[String],
        complete: bool,
    ) -> Result<NamespaceRecord> {
        self.change_record(|record| {
            let before = record.clone();
            record.used.extend(replicas.iter().cloned());
            record.mirrors.extend(replicas.iter().cloned());
            record.complete |= complete;
            *record != before
        })
        .await
    }

    /// Objects come without entries from now on.
    pub(super) async fn unreplicate(&self) -> Result<NamespaceRecord> {
        self.change_record(|record| std::mem::take(&mut record.complete)).await
    }

    /// Changes the namespace's record by `change`, which says whether it did anything.
    async fn change_record(
        &self,
        change: impl Fn(&mut NamespaceRecord) -> bool,
    ) -> Result<NamespaceRecord> {
        for _ in 0..ATTEMPTS {
            let Some((mut record, version)) = self.record().await? else {
                return Err(StorageError::corrupt("the catalog has lost the namespace's record"));
            };
            if !change(&mut record) {
                return Ok(record);
            }
            match put(&*self.records, &self.namespace, &record, Condition::IfMatch(version), None)
                .await
            {
                Ok(_) => return Ok(record),
                Err(StorageError::PreconditionFailed(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Err(StorageError::conflict("the namespace's record changes again and again"))
    }
}
