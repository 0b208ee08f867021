//! The section `[storage.lifecycle]`: rules about objects that grow old.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use sira_backends::config::units;
use sira_server::lifecycle::LifecycleSettings;
use sira_store::lifecycle::{LifecycleAction, LifecycleRule};
use sira_store::pattern::KeyPattern;
use toml::Spanned;
use toml::de::DeTable;

use super::Found;
use super::monitoring::{self, RawDuration};
use super::reader::Reader;

const SECTION: &str = "storage.lifecycle";

/// Level of Zstandard where a rule names none.
const LEVEL: i32 = 12;

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct RawLifecycle {
    interval: Option<Spanned<RawDuration>>,
    rules: Vec<Spanned<RawRule>>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum RawAction {
    Keep,
    Expire,
    Move,
    Compress,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    name: String,
    action: RawAction,
    #[serde(default)]
    namespaces: Vec<Spanned<String>>,
    keys: Option<Spanned<String>>,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "units::duration")]
    older_than: Option<Duration>,
    #[serde(default, deserialize_with = "units::size")]
    larger_than: Option<u64>,
    #[serde(default, deserialize_with = "units::size")]
    smaller_than: Option<u64>,
    to: Option<Spanned<String>>,
    level: Option<i32>,
}

pub(super) fn read(reader: &mut Reader<'_>, at: usize, table: DeTable<'_>, found: &mut Found) {
    let Some(raw) = reader.section::<RawLifecycle>(SECTION, at, table) else { return };
    let mut settings = LifecycleSettings::default();
    if let Some(asked) = raw.interval
        && let Some(interval) = asked.get_ref().0
    {
        settings.interval = interval;
        if !interval.is_zero() && interval < monitoring::INTERVAL_MIN {
            let message = format!("{SECTION}.interval is at least 1s, or 0s for never");
            reader.fail(asked.span().start, &message);
        }
    }
    for rule in raw.rules {
        let at = rule.span().start;
        let Some(rule) = of_raw(reader, at, rule.into_inner(), found) else { continue };
        if settings.rules.iter().any(|other| other.name == rule.name) {
            let message = format!("{SECTION}.rules: there are two rules named {:?}", rule.name);
            reader.fail(at, &message);
        }
        if let Err(error) = rule.check() {
            reader.fail(at, &format!("{SECTION}.rules: {}", error.detail().message));
        }
        settings.rules.push(rule);
    }
    found.config.lifecycle = settings;
}

fn of_raw(
    reader: &mut Reader<'_>,
    at: usize,
    raw: RawRule,
    found: &mut Found,
) -> Option<LifecycleRule> {
    let mut fail = |what: &str| {
        reader.fail(at, &format!("{SECTION}.rules: the rule {:?} {what}", raw.name));
    };
    if raw.to.is_some() && raw.action != RawAction::Move {
        fail("names a backend, and moves nothing: leave `to` out");
    }
    if raw.level.is_some() && raw.action != RawAction::Compress {
        fail("names a level, and compresses nothing: leave `level` out");
    }
    let action = match (raw.action, raw.to) {
        (RawAction::Keep, _) => LifecycleAction::Keep,
        (RawAction::Expire, _) => LifecycleAction::Expire,
        (RawAction::Compress, _) => LifecycleAction::Compress { level: raw.level.unwrap_or(LEVEL) },
        (RawAction::Move, Some(to)) => LifecycleAction::Move { to: found.want(to) },
        (RawAction::Move, None) => {
            fail("does not say where objects go: to = \"archive\"");
            return None;
        }
    };
    let namespaces = raw.namespaces.into_iter().filter_map(|text| pattern(reader, text)).collect();
    let keys = raw.keys.and_then(|text| pattern(reader, text));
    Some(LifecycleRule {
        name: raw.name,
        namespaces,
        keys,
        metadata: raw.metadata,
        older_than: raw.older_than,
        larger_than: raw.larger_than,
        smaller_than: raw.smaller_than,
        action,
    })
}

fn pattern(reader: &mut Reader<'_>, text: Spanned<String>) -> Option<KeyPattern> {
    match text.get_ref().parse() {
        Ok(pattern) => Some(pattern),
        Err(error) => {
            let error: sira_store::StorageError = error;
            reader.fail(text.span().start, &format!("{SECTION}.rules: {error}"));
            None
        }
    }
}
