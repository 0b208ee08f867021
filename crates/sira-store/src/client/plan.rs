//! What a client goes by: backends, rules, keys, and what each namespace asks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::backend::StorageBackend;
use crate::cache::{CacheOptions, WriteMode};
use crate::error::{Result, StorageError};
use crate::key::check_namespace;
use crate::options::{CompressionType, Durability, EncryptionType};
use crate::placement::{Catalog, Consistency, Replication};
use crate::router::StorageRouter;
use crate::seal::{Keyring, SealOptions};
use crate::transaction::TransactionLog;
use crate::version_history::{KeepVersions, is_kept_namespace, kept_namespace};

/// What one namespace asks. The default asks nothing of its own.
#[derive(Debug, Clone, Default)]
pub struct NamespacePolicy {
    /// Names of the backends that its objects may lie on, best first. None at all: where the router
    /// says, else on the default backend.
    pub backends: Vec<String>,
    /// Every object lies on each of these backends; then `backends` is left empty, and no rule of the
    /// router is asked.
    pub replication: Option<Replication>,
    /// Lies on its first backend, or else the default one, and nowhere else, as other programs write
    /// to it there: past router, catalog, seal and cache.
    pub direct: bool,
    /// Holds plain bytes under plain names, which other clients of the engine read and write, see
    /// [`StorageBackend::plain`]; such a namespace is `direct`.
    pub plain: bool,
    /// Compression of values whose writes name none; `None` is the plan's.
    pub compression: Option<CompressionType>,
    /// How hard to compress, see [`crate::StorageOptions::compression_level`].
    pub compression_level: Option<i32>,
    /// Encryption of values whose writes name none; `None` is the plan's.
    pub encryption: Option<EncryptionType>,
    /// Time to live of objects whose writes name none.
    pub ttl: Option<Duration>,
    /// When writes are answered that do not say; `None` follows the backend's setting.
    pub durability: Option<Durability>,
    /// Tiers in front of its backends. Where values are encrypted they keep them so.
    pub cache: Option<CacheOptions>,
    /// How many earlier versions of its objects it keeps; `None` keeps none. They lie in a namespace
    /// of their own by the same policy, see [`crate::version_history`].
    pub keep_versions: Option<KeepVersions>,
}

impl NamespacePolicy {
    /// A namespace that lies on one backend.
    #[must_use]
    pub fn on(backend: impl Into<String>) -> Self {
        Self { backends: vec![backend.into()], ..Self::default() }
    }

    /// The policy of the namespace that holds earlier versions of this one's objects.
    #[must_use]
    pub fn of_kept_versions(&self) -> Self {
        Self { ttl: None, cache: None, keep_versions: None, ..self.clone() }
    }

    fn check_kept(&self, namespace: &str) -> Result<()> {
        let Some(keep) = &self.keep_versions else { return Ok(()) };
        keep.check()?;
        kept_namespace(namespace)?;
        let weak = self.replication.as_ref().is_some_and(|of| of.consistency == Consistency::Weak);
        let back = self.cache.as_ref().is_some_and(|cache| cache.policy.write == WriteMode::Back);
        let reason = if is_kept_namespace(namespace) {
            "it holds versions of another namespace"
        } else if self.plain {
            "other programs overwrite its objects"
        } else if weak {
            "with weak consistency what a write replaces cannot be told; choose another one"
        } else if back {
            "its cache writes back, and would drop versions before anybody keeps them; choose another \
             mode"
        } else {
            return Ok(());
        };
        Err(StorageError::invalid_input(format!("the namespace cannot keep versions: {reason}")))
    }
}

/// Everything that a [`StorageClient`](crate::StorageClient) goes by. It is applied as a whole, see
/// [`StorageClient::apply`](crate::StorageClient::apply).
#[derive(Debug, Clone, Default)]
pub struct StoragePlan {
    /// Backends by name, with the layers that they are to have.
    pub backends: BTreeMap<String, Arc<dyn StorageBackend>>,
    /// Where objects go that no rule is about; must be one of the backends.
    pub default_backend: Option<String>,
    /// Chooses backends for objects, where a namespace leaves a choice. Needs a catalog.
    pub router: Option<Arc<StorageRouter>>,
    /// Names of backends that are about to be [left out](super::StorageClient::retire): no object is
    /// put there that does not lie there already.
    pub leaving: BTreeSet<String>,
    /// Where objects lie. Without one every namespace lies on one backend, and what a namespace
    /// stored before its backend was changed is not found there.
    pub catalog: Option<Catalog>,
    /// Makes transactions possible over namespaces that lie on different backends, or are spread
    /// over several. The same log goes from plan to plan. `None` leaves each transaction to one
    /// engine.
    pub transaction_log: Option<TransactionLog>,
    /// Keys of encrypted values.
    pub keyring: Arc<Keyring>,
    /// How values are sealed where neither the write nor the namespace says.
    pub seal: SealOptions,
    /// What namespaces ask, by name. A client that is not scoped to one goes by `default`.
    pub namespaces: BTreeMap<String, NamespacePolicy>,
}

impl StoragePlan {
    /// Checks that the parts go together.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] for the name of a backend that there is not,
    /// [`StorageError::InvalidInput`] for a name that can name no namespace, a namespace with
    /// several backends and no catalog, a direct one that asks for more, a router without a catalog,
    /// and a key that the keyring does not have; [`StorageError::Unsupported`] for a mirror on a
    /// backend that takes no conditions or no versions that are given. Replicas are checked alike.
    pub fn check(&self) -> Result<()> {
        if let Some(name) = &self.default_backend {
            self.find(name)?;
        }
        if self.router.is_some() && self.catalog.is_none() {
            return Err(StorageError::invalid_input(
                "a router spreads objects over backends, and without a catalog they are not found \
                 again: give the plan a catalog",
            ));
        }
        for name in self.router.iter().flat_map(|router| router.mirrors()) {
            self.check_copies_on(&name)?;
        }
        self.seal.check(&self.keyring)?;
        for (namespace, policy) in &self.namespaces {
            let located = |error: StorageError| error.with_namespace(namespace);
            check_namespace(namespace).map_err(located)?;
            for name in &policy.backends {
                self.find(name).map_err(located)?;
            }
            if let Some(replication) = &policy.replication {
                replication.check().map_err(located)?;
                for name in &replication.replicas {
                    self.check_copies_on(name).map_err(located)?;
                }
                if policy.direct || !policy.backends.is_empty() || self.catalog.is_none() {
                    return Err(located(StorageError::invalid_input(
                        "a replicated namespace needs a catalog, names its replicas in place of \
                         backends, and is not direct",
                    )));
                }
            }
            policy.check_kept(namespace).map_err(located)?;
            if policy.plain && !policy.direct {
                return Err(located(StorageError::invalid_input(
                    "a namespace of plain bytes has no place for where its objects lie: it must be \
                     direct",
                )));
            }
            if policy.direct
                && (policy.backends.len() > 1
                    || policy.compression.is_some_and(|kind| kind != CompressionType::None)
                    || policy.encryption.as_ref().is_some_and(|kind| *kind != EncryptionType::None)
                    || policy.cache.is_some())
            {
                return Err(located(StorageError::invalid_input(
                    "other programs write to the namespace: it lies on one backend, as it comes, \
                     without a cache",
                )));
            }
            if policy.backends.len() > 1 && self.catalog.is_none() {
                return Err(located(StorageError::invalid_input(
                    "a namespace over several backends needs a catalog of where its objects lie",
                )));
            }
            self.seal_of(namespace).check(&self.keyring).map_err(located)?;
        }
        Ok(())
    }

    /// The same plan, with policies for the namespaces that hold earlier versions of others.
    ///
    /// # Errors
    /// As [`kept_namespace`].
    pub fn with_kept_versions(mut self) -> Result<Self> {
        let keeping = self.namespaces.iter().filter(|(_, policy)| policy.keep_versions.is_some());
        let kept =
            keeping.map(|(name, policy)| Ok((kept_namespace(name)?, policy.of_kept_versions())));
        let kept = kept.collect::<Result<Vec<_>>>()?;
        self.namespaces.extend(kept);
        Ok(self)
    }

    /// Checks that a backend can hold copies.
    fn check_copies_on(&self, name: &str) -> Result<()> {
        let capabilities = self.find(name)?.capabilities();
        if capabilities.conditional && capabilities.exact_versions {
            return Ok(());
        }
        Err(StorageError::unsupported(format!(
            "{} cannot hold copies of objects that lie elsewhere: they take conditions and versions \
             that are given; name another mirror or replica",
            capabilities.name
        ))
        .with_backend(name))
    }

    /// The backend of this name.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] when there is none.
    pub(super) fn find(&self, name: &str) -> Result<&Arc<dyn StorageBackend>> {
        self.backends.get(name).ok_or_else(|| {
            let known: Vec<_> = self.backends.keys().map(String::as_str).collect();
            StorageError::not_found(format!(
                "no backend of this name is registered; there are [{}]",
                known.join(", ")
            ))
            .with_backend(name)
        })
    }

    /// The backend that a namespace lies on where nothing else is said: its first, else the default.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] when there is none.
    pub(super) fn home(&self, namespace: &str) -> Result<(&str, &Arc<dyn StorageBackend>)> {
        let own = self.namespaces.get(namespace).and_then(|policy| {
            let replicas = policy.replication.iter().flat_map(|of| &of.replicas);
            policy.backends.iter().chain(replicas).next()
        });
        let Some(name) = own.or(self.default_backend.as_ref()) else {
            return Err(StorageError::not_found(
                "no backend is registered; call StorageClient::register_backend first",
            ));
        };
        Ok((name, self.find(name)?))
    }

    /// The catalog, for a namespace that is kept in it.
    pub(super) fn catalog_of(&self, namespace: &str) -> Option<&Catalog> {
        let direct = self.namespaces.get(namespace).is_some_and(|policy| policy.direct);
        self.catalog.as_ref().filter(|_| !direct)
    }

    /// Name of the one backend that holds all of a namespace, whatever is done; `None` where the
    /// catalog knows.
    #[must_use]
    pub fn backend_of(&self, namespace: &str) -> Option<&str> {
        match self.catalog_of(namespace) {
            Some(_) => None,
            None => self.home(namespace).ok().map(|(name, _)| name),
        }
    }

    /// How values of a namespace are sealed whose writes do not say.
    pub(super) fn seal_of(&self, namespace: &str) -> SealOptions {
        let mut seal = self.seal.clone();
        if let Some(policy) = self.namespaces.get(namespace) {
            if let Some(compression) = policy.compression {
                (seal.compression, seal.compression_level) = (compression, None);
            }
            if policy.compression_level.is_some() {
                seal.compression_level = policy.compression_level;
            }
            if let Some(encryption) = &policy.encryption {
                seal.encryption = encryption.clone();
            }
        }
        seal
    }
}
