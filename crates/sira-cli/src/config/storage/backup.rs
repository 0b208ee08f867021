//! The section `[storage.backup]`: where backups go, when, and which are kept.

use std::time::Duration;

use jiff::tz::TimeZone;
use serde::Deserialize;
use sira_backends::config::{fields_of, units};
use sira_server::backups::Schedule;
use sira_store::backup::{NamespaceChoice, Retention};
use sira_store::pattern::KeyPattern;
use sira_store::{CompressionType, EncryptionType};
use toml::Spanned;
use toml::de::DeTable;

use super::monitoring::RawDuration;
use super::reader::{Reader, take};
use super::{Cipher, Found, check};

/// The section of what is kept.
const RETENTION: &str = "retention";

/// What the section says.
#[derive(Debug, Clone, PartialEq)]
pub struct BackupConfig {
    /// Name of a backend of the configuration, or else a folder.
    pub target: String,
    /// When a snapshot is made.
    pub schedule: Option<Schedule>,
    /// When a drill is made.
    pub drill: Option<Schedule>,
    /// Time between two passes of the archive; `None` archives nothing.
    pub archive_interval: Option<Duration>,
    /// How hard Zstandard tries.
    pub compression_level: i32,
    /// How backups are encrypted.
    pub encryption: EncryptionType,
    /// Which namespaces are saved.
    pub namespaces: NamespaceChoice,
    /// Which snapshots are kept; all without.
    pub retention: Option<Retention>,
    /// How many objects a verification reads, in percent.
    pub verify_percent: f64,
    /// Most bytes of values a second that runs and verifications read.
    pub bytes_per_second_max: Option<u64>,
}

impl BackupConfig {
    /// Backups on a target, the rest as by default.
    pub fn new(target: impl Into<String>) -> Self {
        Self {
            target: target.into(),
            schedule: None,
            drill: None,
            archive_interval: Some(Duration::from_secs(5)),
            compression_level: 3,
            encryption: EncryptionType::None,
            namespaces: NamespaceChoice::default(),
            retention: None,
            verify_percent: 5.0,
            bytes_per_second_max: None,
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct RawBackup {
    target: Option<Spanned<String>>,
    schedule: Option<Spanned<String>>,
    drill_schedule: Option<Spanned<String>>,
    time_zone: Option<Spanned<String>>,
    #[serde(deserialize_with = "units::duration")]
    jitter: Option<Duration>,
    archive_interval: Option<Spanned<RawDuration>>,
    compression_level: Option<Spanned<i32>>,
    encryption: Option<Spanned<Cipher>>,
    key_id: Option<Spanned<String>>,
    include: Vec<Spanned<String>>,
    exclude: Vec<Spanned<String>>,
    verify_percent: Option<Spanned<f64>>,
    #[serde(deserialize_with = "units::size")]
    bytes_per_second_max: Option<u64>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct RawRetention {
    last: u32,
    days: u32,
    daily: u32,
    weekly: u32,
    monthly: u32,
    yearly: u32,
}

pub(super) fn read(
    reader: &mut Reader<'_>,
    at: usize,
    mut table: DeTable<'_>,
    found: &mut Found,
) -> Option<BackupConfig> {
    const SECTION: &str = "storage.backup";
    let section = format!("{SECTION}.{RETENTION}");
    let retention = take(&mut table, RETENTION)
        .and_then(|entry| reader.table(&section, entry))
        .and_then(|(at, table)| reader.section::<RawRetention>(&section, at, table));
    let keys: Vec<&str> = fields_of::<RawBackup>().iter().chain(&[RETENTION]).copied().collect();
    let raw = reader.section_with(SECTION, at, table, &keys, RawBackup::deserialize)?;
    let Some(target) = raw.target else {
        let hint = Some("target = \"/var/backups/sira\"".to_owned());
        reader.fail_with(at, "storage.backup has no target to write to", hint);
        return None;
    };
    let mut config = BackupConfig::new(target.into_inner());
    let time_zone = match raw.time_zone {
        None => TimeZone::UTC,
        Some(name) => match TimeZone::get(name.get_ref()) {
            Ok(zone) => zone,
            Err(error) => {
                let message = format!("{SECTION}.time_zone: {error}");
                let hint = Some("time_zone = \"Europe/Berlin\"".to_owned());
                reader.fail_with(name.span().start, &message, hint);
                TimeZone::UTC
            }
        },
    };
    let jitter = raw.jitter.unwrap_or_default();
    let schedule = |reader: &mut Reader<'_>, name: &str, text: Option<Spanned<String>>| {
        let text = text?;
        match Schedule::new(text.get_ref(), time_zone.clone(), jitter) {
            Ok(schedule) => Some(schedule),
            Err(error) => {
                let message = format!("{SECTION}.{name}: {error}");
                let hint = Some(format!("{name} = \"0 3 * * *\""));
                reader.fail_with(text.span().start, &message, hint);
                None
            }
        }
    };
    config.schedule = schedule(reader, "schedule", raw.schedule);
    config.drill = schedule(reader, "drill_schedule", raw.drill_schedule);
    if let Some(asked) = raw.archive_interval
        && let Some(interval) = asked.get_ref().0
    {
        config.archive_interval = Some(interval).filter(|interval| !interval.is_zero());
        if !interval.is_zero() && interval < super::monitoring::INTERVAL_MIN {
            let message = format!("{SECTION}.archive_interval is at least 1s, or 0s for none");
            reader.fail(asked.span().start, &message);
        }
    }
    let name = format!("{SECTION}.compression_level");
    if let Some(level) = check::level(reader, &name, CompressionType::Zstd, raw.compression_level) {
        config.compression_level = level;
    }
    let names = ("storage.backup.encryption", "storage.backup.key_id");
    if let Some(encryption) = check::encryption(reader, found, names, raw.encryption, raw.key_id) {
        config.encryption = encryption;
    }
    config.namespaces.include = patterns(reader, raw.include);
    config.namespaces.exclude = patterns(reader, raw.exclude);
    let percent = format!("{SECTION}.verify_percent");
    if let Some(percent) = super::monitoring::percent(reader, &percent, raw.verify_percent) {
        config.verify_percent = percent;
    }
    config.bytes_per_second_max = raw.bytes_per_second_max;
    config.retention = retention.map(|raw| {
        let RawRetention { last, days, daily, weekly, monthly, yearly } = raw;
        Retention { last, days, daily, weekly, monthly, yearly, time_zone }
    });
    Some(config)
}

fn patterns(reader: &mut Reader<'_>, texts: Vec<Spanned<String>>) -> Vec<KeyPattern> {
    let mut patterns = Vec::new();
    for text in texts {
        match text.get_ref().parse() {
            Ok(pattern) => patterns.push(pattern),
            Err(error) => {
                let error: sira_store::StorageError = error;
                reader.fail(text.span().start, &format!("storage.backup: {error}"));
            }
        }
    }
    patterns
}
