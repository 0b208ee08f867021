//! The sections of the configuration file: `[storage]` with backends, who goes where, compression and
//! encryption, `[namespaces]` with what those have of their own, `[capacity]` and `[cost]`.

mod backup;
mod capacity;
mod check;
mod health;
mod lifecycle;
mod monitoring;
mod namespaces;
mod reader;
mod routing;
mod shown;
mod strategies;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;
use sira_backends::config::{BackendConfig, BackendKind};
use sira_server::capacity::CapacitySettings;
use sira_server::health::HealthSettings;
use sira_server::lifecycle::LifecycleSettings;
use sira_server::maintenance;
use sira_server::monitoring::MonitoringOptions;
use sira_server::notify::NotifyTarget;
use sira_store::capacity::CostSettings;
use sira_store::seal::Keyring;
use sira_store::{CompressionType, EncryptionType, StorageError};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Sourced;
use super::nearest::nearest;
use crate::failure::Failure;

pub use backup::BackupConfig;
pub use namespaces::{CacheConfig, NamespaceConfig, is_database};
use reader::Reader;
pub use reader::{Entry, take};
pub use routing::{RoutingConfig, Strategy};

/// Name of the backend that the server opens itself, in its data folder.
pub const EMBEDDED: &str = "embedded";

/// The sections that the file may have.
pub const SECTIONS: [&str; 4] = ["storage", "namespaces", "capacity", "cost"];

/// What the configuration says of storage.
#[derive(Debug, Clone, PartialEq)]
pub struct StorageConfig {
    /// The backend of objects that no rule places; [`EMBEDDED`] unless another is named.
    pub default_backend: String,
    /// The backends by their names, without [`EMBEDDED`], which is always there.
    pub backends: BTreeMap<String, BackendConfig>,
    /// The backend that keeps where objects lie, which gateways over the same backends share;
    /// [`EMBEDDED`] for one gateway.
    pub catalog: String,
    /// How often backends drop what has expired, and what crashes left behind; zero for never.
    pub maintenance_interval: Duration,
    /// Where the keys are kept that values are encrypted with.
    pub keyring: Option<KeyringSource>,
    /// Which backend an object goes to.
    pub routing: RoutingConfig,
    /// How values are compressed where neither the write nor its namespace says so.
    pub compression: CompressionType,
    /// How hard to compress.
    pub compression_level: Option<i32>,
    /// How values are encrypted where neither the write nor its namespace says so. An empty id of
    /// the key is the keyring's current one.
    pub encryption: EncryptionType,
    /// What is told of backends that are slow, fail or fill up.
    pub monitoring: MonitoringOptions,
    /// How the health of backends is watched.
    pub health: HealthSettings,
    /// Who is told of alerts.
    pub notify: Vec<NotifyTarget>,
    /// Where backups go, when, and which are kept.
    pub backup: Option<BackupConfig>,
    /// What becomes of objects that grow old.
    pub lifecycle: LifecycleSettings,
    /// How often what is in use is sampled.
    pub capacity: CapacitySettings,
    /// What storage and operations cost.
    pub cost: CostSettings,
    /// What namespaces have of their own.
    pub namespaces: BTreeMap<String, NamespaceConfig>,
}

impl Default for StorageConfig {
    fn default() -> Self {
        Self {
            default_backend: EMBEDDED.to_owned(),
            backends: BTreeMap::new(),
            catalog: EMBEDDED.to_owned(),
            maintenance_interval: maintenance::INTERVAL,
            keyring: None,
            routing: RoutingConfig::default(),
            compression: CompressionType::None,
            compression_level: None,
            encryption: EncryptionType::None,
            monitoring: MonitoringOptions::default(),
            health: HealthSettings::default(),
            notify: Vec::new(),
            backup: None,
            lifecycle: LifecycleSettings::default(),
            capacity: CapacitySettings::default(),
            cost: CostSettings::default(),
            namespaces: BTreeMap::new(),
        }
    }
}

/// Where the keys are kept that values are encrypted with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyringSource {
    /// In a key file.
    File(PathBuf),
    /// In this variable of the environment, as the text of a key file.
    Environment(String),
}

impl KeyringSource {
    /// Reads the keys.
    ///
    /// # Errors
    /// As [`Keyring::from_file`] and [`Keyring::from_text`]; [`StorageError::InvalidInput`] for a
    /// variable that is not set.
    pub fn open(&self) -> sira_store::Result<Keyring> {
        match self {
            Self::File(path) => Keyring::from_file(path),
            Self::Environment(name) => {
                let text = std::env::var(name).map_err(|_| {
                    StorageError::invalid_input(format!(
                        "the variable {name} of the environment, which keyring_env names, is not set"
                    ))
                })?;
                Keyring::from_text(&text).map_err(|error| {
                    let message = format!("the variable {name} of the environment: {error}");
                    error.same_kind(message)
                })
            }
        }
    }
}

/// The sections of a file, read.
#[derive(Debug, Default)]
pub struct Read {
    /// What they say; what is wrong is left out.
    pub config: StorageConfig,
    /// Every value that stands there, by its name with dots, in the order of the file.
    pub shown: Vec<(String, Sourced)>,
    /// Everything that is wrong, in the order of the file.
    pub wrong: Vec<Failure>,
    /// Backends whose engines are not compiled into this program.
    pub not_compiled: Vec<Failure>,
}

/// Reads the [sections](SECTIONS), each of which may not be there.
pub fn read(path: &Path, text: &str, sections: [Option<Entry<'_>>; SECTIONS.len()]) -> Read {
    let mut reader = Reader::new(path, text);
    let mut shown = Vec::new();
    for (name, entry) in SECTIONS.iter().zip(&sections) {
        if let Some((_, value)) = entry {
            shown::values(&reader, name, value, &mut shown);
        }
    }
    shown.sort_by_key(|(offset, _, _)| *offset);
    let shown = shown.into_iter().map(|(_, name, value)| (name, value)).collect();
    let mut found = Found::default();
    let [storage, namespaces, capacity, cost] = sections;
    if let Some((at, table)) = storage.and_then(|entry| reader.table("storage", entry)) {
        read_storage(&mut reader, at, table, &mut found);
    }
    if let Some((_, table)) = namespaces.and_then(|entry| reader.table("namespaces", entry)) {
        namespaces::read(&mut reader, table, &mut found);
    }
    if let Some((at, table)) = capacity.and_then(|entry| reader.table("capacity", entry)) {
        found.config.capacity = capacity::read(&mut reader, at, table);
    }
    if let Some((at, table)) = cost.and_then(|entry| reader.table("cost", entry)) {
        found.config.cost = capacity::read_cost(&mut reader, at, table, &mut found);
    }
    check::all(&mut reader, &found);
    let not_compiled = check::not_compiled(&reader, &found);
    Read { config: found.config, shown, wrong: reader.finish(), not_compiled }
}

/// What was read, with the places of what must fit together.
#[derive(Debug, Default)]
struct Found {
    config: StorageConfig,
    /// Names of the backends that are there, also those that are wrong.
    backends: Vec<String>,
    /// Kinds of the backends, and where those stand.
    kinds: Vec<(usize, BackendKind)>,
    /// Names of backends, where they are asked for.
    wanted: Vec<Spanned<String>>,
    /// Places where something is encrypted, or a key is named.
    encrypted: Vec<usize>,
    /// Something is wrong with the keyring, which is told already.
    keyring_wrong: bool,
}

impl Found {
    fn want(&mut self, name: Spanned<String>) -> String {
        let text = name.get_ref().clone();
        self.wanted.push(name);
        text
    }
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct RawStorage {
    default_backend: Option<Spanned<String>>,
    catalog: Option<Spanned<String>>,
    maintenance_interval: Option<Spanned<monitoring::RawDuration>>,
    keyring_file: Option<PathBuf>,
    keyring_env: Option<Spanned<String>>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct RawCompression {
    r#type: CompressionType,
    level: Option<Spanned<i32>>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct RawEncryption {
    r#type: Option<Spanned<Cipher>>,
    key_id: Option<Spanned<String>>,
}

/// The names of what encrypts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
enum Cipher {
    #[serde(rename = "none")]
    None,
    #[serde(rename = "aes256_gcm")]
    Aes256Gcm,
    #[serde(rename = "chacha20_poly1305")]
    ChaCha20Poly1305,
}

/// Sections within `[storage]`.
const SUBSECTIONS: [&str; 7] =
    ["backends", "routing", "compression", "encryption", "monitoring", "backup", "lifecycle"];

fn read_storage(reader: &mut Reader<'_>, at: usize, mut table: DeTable<'_>, found: &mut Found) {
    let mut sections = SUBSECTIONS.map(|name| {
        let entry = take(&mut table, name)?;
        reader.table(&format!("storage.{name}"), entry)
    });
    let keys: Vec<&str> = sira_backends::config::fields_of::<RawStorage>()
        .iter()
        .chain(&SUBSECTIONS)
        .copied()
        .collect();
    // A name that is wrong hides nothing else here.
    let names_right = reader.keys("storage", &mut table, &keys);
    let own = reader.section::<RawStorage>("storage", at, table);
    found.keyring_wrong = own.is_none() || !names_right;
    if let Some(own) = own {
        if let Some(name) = own.default_backend {
            found.config.default_backend = found.want(name);
        }
        if let Some(name) = own.catalog {
            found.config.catalog = found.want(name);
        }
        if let Some(asked) = own.maintenance_interval
            && let Some(interval) = asked.get_ref().0
        {
            found.config.maintenance_interval = interval;
            if !interval.is_zero() && interval < monitoring::INTERVAL_MIN {
                let message = "storage.maintenance_interval is at least 1s, or 0s for never";
                reader.fail(asked.span().start, message);
            }
        }
        found.config.keyring = match (own.keyring_file, own.keyring_env) {
            (Some(_), Some(env)) => {
                let message = "storage: keyring_file and keyring_env are given: name one of them";
                reader.fail(env.span().start, message);
                found.keyring_wrong = true;
                None
            }
            (Some(path), None) => Some(KeyringSource::File(path)),
            (None, Some(env)) => Some(KeyringSource::Environment(env.into_inner())),
            (None, None) => None,
        };
    }
    let [backends, routing, compression, encryption, monitoring, backup, lifecycle] = &mut sections;
    if let Some((_, table)) = backends.take() {
        read_backends(reader, table, found);
    }
    if let Some((at, table)) = routing.take() {
        routing::read(reader, at, table, found);
    }
    if let Some((at, table)) = compression.take()
        && let Some(raw) = reader.section::<RawCompression>("storage.compression", at, table)
    {
        let level = check::level(reader, "storage.compression.level", raw.r#type, raw.level);
        found.config.compression = raw.r#type;
        found.config.compression_level = level;
    }
    if let Some((at, table)) = encryption.take()
        && let Some(raw) = reader.section::<RawEncryption>("storage.encryption", at, table)
    {
        let names = ("storage.encryption.type", "storage.encryption.key_id");
        if let Some(encryption) = check::encryption(reader, found, names, raw.r#type, raw.key_id) {
            found.config.encryption = encryption;
        }
    }
    if let Some((at, table)) = monitoring.take() {
        let monitoring = monitoring::read(reader, at, table);
        found.config.monitoring = monitoring.options;
        found.config.health = monitoring.health;
        found.config.notify = monitoring.notify;
    }
    if let Some((at, table)) = backup.take() {
        found.config.backup = backup::read(reader, at, table, found);
    }
    if let Some((at, table)) = lifecycle.take() {
        lifecycle::read(reader, at, table, found);
    }
}

fn read_backends(reader: &mut Reader<'_>, backends: DeTable<'_>, found: &mut Found) {
    for (key, value) in backends {
        let name = key.get_ref().to_string();
        let section = format!("storage.backends.{name}");
        found.backends.push(name.clone());
        let Some((at, mut table)) = reader.table(&section, (key.span().start, value)) else {
            continue;
        };
        let kind = match take(&mut table, "type") {
            Some((_, value)) => read_kind(reader, &section, &value),
            None => kind_of(&name).or_else(|| {
                let hint = format!("type = {:?}", near_kind(&name).unwrap_or("redis"));
                let message = format!("{section} has no type, and {name:?} is none");
                reader.fail_with(at, &message, Some(hint));
                None
            }),
        };
        let Some(kind) = kind else { continue };
        found.kinds.push((at, kind));
        if (name == EMBEDDED) != (kind == BackendKind::Embedded) {
            let message = format!(
                "{section}: {EMBEDDED:?} is the name of the server's own engine, and of no other"
            );
            reader.fail(at, &message);
            continue;
        }
        let config = reader.section_with(&section, at, table, kind.keys(), |section| {
            BackendConfig::read(kind, section)
        });
        if let Some(config) = config.filter(|_| kind != BackendKind::Embedded) {
            found.config.backends.insert(name, config);
        }
    }
}

fn kind_of(name: &str) -> Option<BackendKind> {
    BackendKind::from_str(name).ok()
}

fn near_kind(name: &str) -> Option<&'static str> {
    nearest(name, BackendKind::names())
}

fn read_kind(
    reader: &mut Reader<'_>,
    section: &str,
    value: &Spanned<DeValue<'_>>,
) -> Option<BackendKind> {
    let at = value.span().start;
    let Some(text) = value.get_ref().as_str() else {
        let kind = value.get_ref().type_str();
        reader.fail(at, &format!("{section}.type is a text in quotes, this is a {kind}"));
        return None;
    };
    match BackendKind::from_str(text) {
        Ok(kind) => Some(kind),
        Err(unknown) => {
            let hint = near_kind(text).map(|near| format!("type = {near:?}"));
            reader.fail_with(at, &format!("{section}.type: {unknown}"), hint);
            None
        }
    }
}

#[cfg(test)]
mod tests;
