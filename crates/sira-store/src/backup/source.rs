//! What is saved: the namespaces of a client, and the log of the embedded engine among its backends.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::backend::{Object, ObjectHead};
use crate::client::{StorageClient, StoredNamespace};
use crate::embedded::{EmbeddedBackend, Engine, LogPlace, StoredObject};
use crate::error::{Result, StorageError};
use crate::metadata::Metadata;
use crate::options::{Durability, StorageOptions};
use crate::pattern::KeyPattern;
use crate::placement::Catalog;
use crate::seal::{Binding, Cipher, Keyring, Seal};
use crate::version::Version;

/// Namespace of the embedded engine that keeps the name of its stream. Like the catalog's, it is
/// shown to nobody.
const STATE_NAMESPACE: &str = "sira.catalog.backup";

/// Key of the name of the stream.
const STREAM: &str = "stream";

/// The embedded engine among a client's backends.
#[derive(Clone)]
pub(super) struct EngineSource {
    /// Its name among the backends.
    pub(super) name: String,
    pub(super) engine: Arc<Engine>,
    /// Random name of the data folder, which it keeps.
    pub(super) stream: String,
}

/// What is saved, and what is restored to: the namespaces of a client.
#[derive(Clone)]
pub struct BackupSource {
    pub(super) client: StorageClient,
    pub(super) engine: Option<EngineSource>,
}

impl fmt::Debug for BackupSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stream = self.engine.as_ref().map(|engine| &engine.stream);
        f.debug_struct("BackupSource").field("stream", &stream).finish_non_exhaustive()
    }
}

impl BackupSource {
    /// The namespaces that the plan and the catalog of a client know.
    #[must_use]
    pub fn new(client: StorageClient) -> Self {
        Self { client, engine: None }
    }

    /// The same with an embedded engine, which is one of the client's backends under this name. Its
    /// namespaces are saved as they are at one moment, and its log can be archived. The data folder
    /// gets a random name, if it has none.
    ///
    /// # Errors
    /// The engine's.
    pub async fn with_engine(mut self, name: &str, engine: Arc<Engine>) -> Result<Self> {
        let state = EmbeddedBackend::new(Arc::clone(&engine)).namespace(STATE_NAMESPACE)?;
        let kept = crate::StorageBackend::get(&state, STREAM).await?;
        let stream = match kept.map(|kept| String::from_utf8(kept.to_vec())) {
            Some(Ok(stream)) => stream,
            _ => {
                let env = engine.env();
                let stream = format!("{:016x}{:016x}", env.random_u64(), env.random_u64());
                let durability = Some(Durability::Sync);
                let options = StorageOptions { durability, ..StorageOptions::default() };
                let value = Bytes::from(stream.clone());
                crate::StorageBackend::put(&state, STREAM, value, options).await?;
                stream
            }
        };
        self.engine = Some(EngineSource { name: name.to_owned(), engine, stream });
        Ok(self)
    }

    /// Random name of the data folder, where there is one. It never changes.
    #[must_use]
    pub fn stream(&self) -> Option<&str> {
        self.engine.as_ref().map(|engine| engine.stream.as_str())
    }

    /// Names of all namespaces that a choice has, in byte order.
    pub(super) async fn names(&self, choice: &NamespaceChoice) -> Result<Vec<String>> {
        let mut names: BTreeSet<String> = self.client.known_namespaces().await?;
        if let Some(engine) = &self.engine {
            names.extend(engine.engine.namespaces().into_iter().map(|(name, _)| name));
        }
        names.retain(|name| !Catalog::owns(name) && choice.has(name));
        Ok(names.into_iter().collect())
    }

    pub(super) async fn open(&self, namespace: &str) -> Result<StoredNamespace> {
        let opened = self.client.namespace(namespace).stored().await;
        opened.map_err(|error| error.with_namespace(namespace))
    }

    /// The engine, where all of a namespace lies on it.
    pub(super) fn engine_of(&self, opened: &StoredNamespace) -> Option<&EngineSource> {
        self.engine.as_ref().filter(|engine| opened.at.as_deref() == Some(&engine.name))
    }

    /// Numbers of the engine's namespaces by name: those that lie on it alone.
    pub(super) fn numbers(&self, choice: &NamespaceChoice) -> BTreeMap<String, u32> {
        let Some(engine) = &self.engine else { return BTreeMap::new() };
        let plan = self.client.plan();
        let own = |name: &str| {
            !Catalog::owns(name)
                && choice.has(name)
                && plan.backend_of(name) == Some(engine.name.as_str())
        };
        let all = engine.engine.namespaces().into_iter();
        all.filter(|(name, _)| own(name)).map(|(name, id)| (name, id.as_u32())).collect()
    }
}

impl EngineSource {
    /// The place behind all changes so far, once they are durable, and a time that none of them is
    /// after, in milliseconds since the Unix epoch.
    pub(super) async fn settled_end(&self) -> Result<(LogPlace, u64)> {
        let place = self.engine.history_end();
        let time = self.engine.draw_version();
        self.engine.history_durable(place).await?;
        Ok((place, time.time_ms()))
    }
}

/// Which namespaces. The default has all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamespaceChoice {
    /// The one namespace, whatever the patterns say.
    pub only: Option<String>,
    /// Names, such as `tenant-*`; all where there is none.
    pub include: Vec<KeyPattern>,
    /// Names that are left out whatever `include` says.
    pub exclude: Vec<KeyPattern>,
}

impl NamespaceChoice {
    /// One namespace.
    #[must_use]
    pub fn exactly(name: &str) -> Self {
        Self { only: Some(name.to_owned()), ..Self::default() }
    }

    /// Whether it has this namespace. None has that of drills.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        if let Some(only) = &self.only {
            return only == name;
        }
        let any = |patterns: &[KeyPattern]| patterns.iter().any(|pattern| pattern.matches(name));
        name != super::DRILL_NAMESPACE
            && (self.include.is_empty() || any(&self.include))
            && !any(&self.exclude)
    }
}

/// An object with its value as callers see it.
#[derive(Debug, Clone)]
pub(super) struct Opened {
    pub(super) version: Version,
    pub(super) expires_at_ms: Option<u64>,
    pub(super) metadata: Metadata,
    pub(super) cipher: Option<Cipher>,
    pub(super) value: Bytes,
}

/// What an object was encrypted with.
pub(super) fn cipher_of(metadata: &Metadata) -> Result<Option<Cipher>> {
    let Some(seal) = metadata.seal.as_deref() else { return Ok(None) };
    Ok(Seal::decode(seal)?.encryption().map(|(cipher, _)| cipher))
}

/// Opens what is stored under a key.
pub(super) fn open_stored(
    namespace: &str,
    key: &[u8],
    keyring: &Keyring,
    object: Object,
) -> Result<Opened> {
    let Object { head, value, .. } = object;
    let ObjectHead { version, expires_at_ms, mut metadata, .. } = head;
    let cipher = cipher_of(&metadata)?;
    let value = match metadata.seal.take() {
        None => value,
        Some(seal) => {
            let key = std::str::from_utf8(key)
                .map_err(|_| StorageError::corrupt("the key of a sealed object is no text"))?;
            let binding = Binding { namespace, key, version };
            Seal::decode(&seal)?.open(&value, keyring, &binding)?
        }
    };
    Ok(Opened { version, expires_at_ms, metadata, cipher, value })
}

/// What the log has of an object, as a read would give it.
pub(super) fn object_of(stored: StoredObject) -> Result<Object> {
    let metadata = Metadata::decode(&stored.metadata)?;
    let StoredObject { version, expires_at_ms, value, size, .. } = stored;
    let range = 0..size;
    Ok(Object { head: ObjectHead { version, size, expires_at_ms, metadata }, value, range })
}
