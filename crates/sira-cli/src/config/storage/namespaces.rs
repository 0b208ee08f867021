//! The sections `[namespaces.NAME]`: what a namespace has of its own.

use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use sira_backends::config::{fields_of, units};
use sira_server::limits::RESP_DATABASES;
use sira_store::cache::{CachePolicy, EvictionPolicy, WriteMode};
use sira_store::placement::{Acknowledge, Catalog, Consistency, Replication};
use sira_store::version_history::{KeepVersions, is_kept_namespace, kept_namespace};
use sira_store::{CompressionType, ConsistencyLevel, Durability, EncryptionType};
use toml::Spanned;
use toml::de::DeTable;

use super::reader::{Entry, Reader, take};
use super::{Cipher, Found, check};
use crate::path::check_namespace;
use crate::units::parse_durability;

/// What a namespace has of its own; what it leaves out is the store's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamespaceConfig {
    /// The backends that its objects may lie on, among which the router chooses; empty for all.
    pub backends: Vec<String>,
    /// The backends that each hold every object, in place of `backends`, and what is promised.
    pub replication: Option<Replication>,
    /// How values are compressed.
    pub compression: Option<CompressionType>,
    /// How hard to compress.
    pub compression_level: Option<i32>,
    /// How values are encrypted. An empty id of the key is the keyring's current one.
    pub encryption: Option<EncryptionType>,
    /// Other gateways write to it past this one's catalog: it lies on one backend and nowhere else,
    /// neither compressed nor encrypted here.
    pub direct: bool,
    /// It holds plain bytes that other clients of its engine read and write; then it is direct.
    pub plain: bool,
    /// Time after which objects are gone that name none.
    pub ttl: Option<Duration>,
    /// When a write that names no durability is answered.
    pub durability: Option<Durability>,
    /// What is cached of it; nothing without.
    pub cache: Option<CacheConfig>,
    /// How many earlier versions of its objects are kept; none without.
    pub keep_versions: Option<KeepVersions>,
}

impl NamespaceConfig {
    /// What the namespace has that holds earlier versions of this one's objects.
    fn of_kept_versions(&self) -> Self {
        Self { ttl: None, cache: None, keep_versions: None, ..self.clone() }
    }
}

/// Tiers in front of a namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CacheConfig {
    /// What the cache does; its memory is the namespace's own.
    pub policy: CachePolicy,
    /// Bytes of a tier on disk, in the data folder.
    pub disk: Option<u64>,
    /// Name of the backend that holds the tier below that.
    pub remote: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct RawNamespace {
    backends: Option<Spanned<Vec<Spanned<String>>>>,
    replicas: Option<Spanned<Vec<Spanned<String>>>>,
    consistency: Option<Spanned<Consistency>>,
    acknowledge: Option<Spanned<Acknowledge>>,
    compression: Option<CompressionType>,
    compression_level: Option<Spanned<i32>>,
    encryption: Option<Spanned<Cipher>>,
    key_id: Option<Spanned<String>>,
    direct: Option<Spanned<bool>>,
    plain: Option<Spanned<bool>>,
    #[serde(deserialize_with = "units::duration")]
    ttl: Option<Duration>,
    #[serde(deserialize_with = "durability")]
    durability: Option<Durability>,
    keep_versions: Option<usize>,
    #[serde(deserialize_with = "units::duration")]
    keep_versions_for: Option<Duration>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct RawCache {
    policy: Option<EvictionPolicy>,
    #[serde(deserialize_with = "units::size")]
    memory: Option<u64>,
    consistency: Option<ConsistencyLevel>,
    exclusive: Option<bool>,
    #[serde(deserialize_with = "units::duration")]
    max_staleness: Option<Duration>,
    #[serde(deserialize_with = "units::duration")]
    entry_ttl: Option<Duration>,
    #[serde(deserialize_with = "units::duration")]
    negative_ttl: Option<Duration>,
    write: Option<WriteMode>,
    allow_loss: Option<bool>,
    #[serde(deserialize_with = "units::size")]
    disk: Option<u64>,
    remote: Option<Spanned<String>>,
    prefetch: Option<bool>,
}

fn durability<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Durability>, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_durability(&text).map(Some).map_err(D::Error::custom)
}

pub(super) fn read(reader: &mut Reader<'_>, namespaces: DeTable<'_>, found: &mut Found) {
    for (key, value) in namespaces {
        let name = key.get_ref().to_string();
        let section = format!("namespaces.{name}");
        let at = key.span().start;
        if let Err(wrong) = check_namespace(&name) {
            reader.fail(at, &format!("{section}: {}", wrong.message));
        } else if Catalog::owns(&name) || is_kept_namespace(&name) {
            let message = format!("{section}: namespaces of this name are the store's own");
            reader.fail(at, &message);
        }
        let Some((at, mut table)) = reader.table(&section, (at, value)) else { continue };
        let cache = take(&mut table, "cache");
        let keys: Vec<&str> =
            fields_of::<RawNamespace>().iter().chain(&["cache"]).copied().collect();
        let raw = reader.section_with(&section, at, table, &keys, RawNamespace::deserialize);
        let mut config = raw.map(|raw| of_raw(reader, &section, raw, found)).unwrap_or_default();
        if let Some((at, _)) = cache.as_ref().filter(|_| config.direct) {
            let message = format!("{section}.cache: what others write cannot be kept in a cache");
            reader.fail(*at, &message);
        }
        config.cache =
            cache.and_then(|entry| read_cache(reader, &format!("{section}.cache"), entry, found));
        check_kept(reader, &section, at, &name, &config);
        found.config.namespaces.insert(name, config);
    }
    // Earlier versions lie where their namespace does.
    let keeping = found.config.namespaces.iter().filter(|(_, one)| one.keep_versions.is_some());
    let kept: Vec<_> = keeping
        .filter_map(|(name, one)| Some((kept_namespace(name).ok()?, one.of_kept_versions())))
        .collect();
    found.config.namespaces.extend(kept);
}

/// Whether a namespace is one of the RESP door's databases.
pub fn is_database(name: &str) -> bool {
    (0..RESP_DATABASES).any(|database| name == format!("db{database}"))
}

fn of_raw(
    reader: &mut Reader<'_>,
    section: &str,
    raw: RawNamespace,
    found: &mut Found,
) -> NamespaceConfig {
    let (cipher_at, compressed) = (raw.encryption.as_ref().map(Spanned::span), raw.compression);
    let level_of = compressed.unwrap_or(found.config.compression);
    let level_name = format!("{section}.compression_level");
    let level = check::level(reader, &level_name, level_of, raw.compression_level);
    let names = (&*format!("{section}.encryption"), &*format!("{section}.key_id"));
    let encryption = check::encryption(reader, found, names, raw.encryption, raw.key_id);
    let is_set = |flag: &Option<Spanned<bool>>| flag.as_ref().is_some_and(|flag| *flag.get_ref());
    let plain = is_set(&raw.plain);
    let direct = plain || is_set(&raw.direct);
    let sealed = compressed.is_some_and(|compression| compression != CompressionType::None)
        || (cipher_at.is_some() && encryption.as_ref() != Some(&EncryptionType::None));
    let several = raw.backends.as_ref().is_some_and(|names| names.get_ref().len() > 1);
    let (name, at) = if plain { ("plain", raw.plain) } else { ("direct", raw.direct) };
    if let Some(at) = at.filter(|_| direct && (sealed || several)) {
        let message = format!(
            "{section}.{name}: others write to the namespace too, so it lies on one backend, neither \
             compressed nor encrypted"
        );
        reader.fail(at.span().start, &message);
    }
    let backends = match raw.backends {
        Some(names) if names.get_ref().is_empty() => {
            let message = format!("{section}.backends is empty: name one, or leave it out for all");
            reader.fail(names.span().start, &message);
            Vec::new()
        }
        Some(names) => names.into_inner().into_iter().map(|name| found.want(name)).collect(),
        None => Vec::new(),
    };
    let asked = Replicated {
        replicas: raw.replicas,
        consistency: raw.consistency,
        acknowledge: raw.acknowledge,
        alone: direct || !backends.is_empty(),
    };
    let replication = replication(reader, section, asked, found);
    NamespaceConfig {
        backends,
        replication,
        compression: compressed,
        compression_level: level,
        encryption,
        direct,
        plain,
        ttl: raw.ttl,
        durability: raw.durability,
        cache: None,
        keep_versions: match (raw.keep_versions, raw.keep_versions_for) {
            (None, None) => None,
            (count, age) => Some(KeepVersions { count, age }),
        },
    }
}

/// Checks what keeps versions against the rest of the section.
fn check_kept(
    reader: &mut Reader<'_>,
    section: &str,
    at: usize,
    name: &str,
    config: &NamespaceConfig,
) {
    let Some(keep) = &config.keep_versions else { return };
    let weak = config.replication.as_ref().is_some_and(|of| of.consistency == Consistency::Weak);
    let back = config.cache.as_ref().is_some_and(|cache| cache.policy.write == WriteMode::Back);
    let why = if let Err(error) = keep.check().and_then(|()| kept_namespace(name).map(drop)) {
        error.detail().message.clone()
    } else if config.plain {
        "other programs overwrite plain objects".to_owned()
    } else if weak {
        "with weak consistency what a write replaces cannot be told".to_owned()
    } else if back {
        "a cache that writes back drops versions before they are kept".to_owned()
    } else {
        return;
    };
    reader.fail(at, &format!("{section} cannot keep versions: {why}"));
}

/// What a section says of replicas.
struct Replicated {
    replicas: Option<Spanned<Vec<Spanned<String>>>>,
    consistency: Option<Spanned<Consistency>>,
    acknowledge: Option<Spanned<Acknowledge>>,
    /// The section says that objects lie elsewhere.
    alone: bool,
}

fn replication(
    reader: &mut Reader<'_>,
    section: &str,
    asked: Replicated,
    found: &mut Found,
) -> Option<Replication> {
    let Some(names) = asked.replicas else {
        let settings = [
            ("consistency", asked.consistency.map(|setting| setting.span())),
            ("acknowledge", asked.acknowledge.map(|setting| setting.span())),
        ];
        for (name, at) in settings {
            if let Some(at) = at {
                let message =
                    format!("{section}.{name} is about replicas: name them by {section}.replicas");
                reader.fail(at.start, &message);
            }
        }
        return None;
    };
    let at = names.span().start;
    if asked.alone {
        let message = format!(
            "{section}.replicas: every object lies on each of them; leave out backends, direct and \
             plain"
        );
        reader.fail(at, &message);
    }
    let consistency = asked.consistency.as_ref().map(|setting| *setting.get_ref());
    let consistency = consistency.unwrap_or_default();
    if let Some(setting) = asked.acknowledge.as_ref().filter(|_| consistency != Consistency::Strong)
    {
        let message =
            format!("{section}.acknowledge is about strong writes; others wait for one replica");
        reader.fail(setting.span().start, &message);
    }
    let replicas = names.into_inner().into_iter().map(|name| found.want(name)).collect();
    let acknowledge = asked.acknowledge.map(Spanned::into_inner).unwrap_or_default();
    let replication = Replication { replicas, consistency, acknowledge };
    if let Err(error) = replication.check() {
        reader.fail(at, &format!("{section}.replicas: {error}"));
    }
    Some(replication)
}

fn read_cache(
    reader: &mut Reader<'_>,
    name: &str,
    entry: Entry<'_>,
    found: &mut Found,
) -> Option<CacheConfig> {
    let (at, table) = reader.table(name, entry)?;
    let raw = reader.section::<RawCache>(name, at, table)?;
    let default = CachePolicy::default();
    let policy = CachePolicy {
        eviction: raw.policy.unwrap_or(default.eviction),
        memory_bytes: raw.memory.or(default.memory_bytes),
        consistency: raw.consistency.unwrap_or(default.consistency),
        exclusive: raw.exclusive.unwrap_or(default.exclusive),
        max_staleness: raw.max_staleness.unwrap_or(default.max_staleness),
        entry_ttl: raw.entry_ttl.or(default.entry_ttl),
        negative_ttl: raw.negative_ttl.unwrap_or(default.negative_ttl),
        write: raw.write.unwrap_or(default.write),
        allow_loss: raw.allow_loss.unwrap_or(default.allow_loss),
        tiers: true,
        prefetch: raw.prefetch.unwrap_or(default.prefetch),
    };
    if policy.write == WriteMode::Back && !policy.allow_loss {
        let message = format!(
            "{name}.write: back loses what is queued when the process dies: write allow_loss = \
             true, or choose through or around"
        );
        reader.fail(at, &message);
    }
    let remote = raw.remote.map(|name| found.want(name));
    Some(CacheConfig { policy, disk: raw.disk, remote })
}
