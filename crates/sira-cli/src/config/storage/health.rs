//! The sections `[storage.monitoring.health]` and `[[storage.monitoring.notify]]`: the bounds of the
//! checks of every backend, and who is told.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use sira_backends::config::units;
use sira_server::health::HealthSettings;
use sira_server::notify::{NotifyKind, NotifyTarget, SecretSource};
use sira_store::health::HealthState;
use toml::Spanned;
use toml::de::DeTable;

use super::monitoring::{INTERVAL_MIN, RawDuration, percent};
use super::reader::Reader;

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct RawHealth {
    interval: Option<Spanned<RawDuration>>,
    #[serde(deserialize_with = "units::duration")]
    answer_slow: Option<Duration>,
    slow_factor_warning: Option<Spanned<f64>>,
    slow_factor_critical: Option<Spanned<f64>>,
    used_percent_warning: Option<Spanned<f64>>,
    used_percent_critical: Option<Spanned<f64>>,
    #[serde(deserialize_with = "units::duration")]
    full_within_warning: Option<Duration>,
    #[serde(deserialize_with = "units::duration")]
    full_within_critical: Option<Duration>,
    #[serde(deserialize_with = "units::size")]
    scrub_bytes_per_second: Option<u64>,
    #[serde(deserialize_with = "units::size")]
    scrub_outside_bytes_per_second: Option<u64>,
    #[serde(deserialize_with = "units::duration")]
    scrub_every: Option<Duration>,
    #[serde(deserialize_with = "units::duration")]
    backup_age_max: Option<Duration>,
    #[serde(deserialize_with = "units::duration")]
    verified_age_max: Option<Duration>,
    run_book: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawNotify {
    r#type: Type,
    url: Spanned<String>,
    #[serde(default)]
    severity: Severity,
    #[serde(default)]
    secret_env: Option<Spanned<String>>,
    #[serde(default)]
    secret_file: Option<PathBuf>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum Type {
    Webhook,
    Alertmanager,
}

#[derive(Deserialize, Clone, Copy, Default)]
#[serde(rename_all = "snake_case")]
enum Severity {
    #[default]
    Warning,
    Critical,
}

/// Reads the bounds.
pub(super) fn read(reader: &mut Reader<'_>, at: usize, table: DeTable<'_>) -> HealthSettings {
    const SECTION: &str = "storage.monitoring.health";
    let mut settings = HealthSettings::default();
    let Some(raw) = reader.section::<RawHealth>(SECTION, at, table) else { return settings };
    let bounds = &mut settings.bounds;
    if let Some(asked) = raw.interval
        && let Some(interval) = asked.get_ref().0
    {
        bounds.interval = interval;
        if interval < INTERVAL_MIN {
            reader.fail(asked.span().start, &format!("{SECTION}.interval is at least 1s"));
        }
    }
    for (name, value, to) in [
        ("slow_factor_warning", raw.slow_factor_warning, &mut bounds.slow_factor_warning),
        ("slow_factor_critical", raw.slow_factor_critical, &mut bounds.slow_factor_critical),
    ] {
        let Some(value) = value else { continue };
        match *value.get_ref() > 1.0 {
            true => *to = *value.get_ref(),
            false => reader.fail(value.span().start, &format!("{SECTION}.{name} is more than 1")),
        }
    }
    for (name, value, to) in [
        ("used_percent_warning", raw.used_percent_warning, &mut bounds.used_percent_warning),
        ("used_percent_critical", raw.used_percent_critical, &mut bounds.used_percent_critical),
    ] {
        *to = percent(reader, &format!("{SECTION}.{name}"), value).unwrap_or(*to);
    }
    let days = |time: Duration| time.as_secs_f64() / 86_400.0;
    bounds.full_days_warning = raw.full_within_warning.map_or(bounds.full_days_warning, days);
    bounds.full_days_critical = raw.full_within_critical.map_or(bounds.full_days_critical, days);
    bounds.answer_slow = raw.answer_slow.unwrap_or(bounds.answer_slow);
    bounds.scrub_bytes_per_s = raw.scrub_bytes_per_second.unwrap_or(bounds.scrub_bytes_per_s);
    bounds.scrub_outside_bytes_per_s =
        raw.scrub_outside_bytes_per_second.unwrap_or(bounds.scrub_outside_bytes_per_s);
    bounds.backup_age_max = raw.backup_age_max.unwrap_or(bounds.backup_age_max);
    bounds.verified_age_max = raw.verified_age_max.unwrap_or(bounds.verified_age_max);
    settings.scrub_every = raw.scrub_every;
    settings.run_book = raw.run_book;
    for (worse, mild, critical) in [
        ("used_percent", bounds.used_percent_warning, bounds.used_percent_critical),
        ("slow_factor", bounds.slow_factor_warning, bounds.slow_factor_critical),
        ("full_within", -bounds.full_days_warning, -bounds.full_days_critical),
    ] {
        if mild > critical {
            let message = format!("{SECTION}: {worse}_critical is milder than {worse}_warning");
            reader.fail(at, &message);
        }
    }
    settings
}

/// Reads who is told.
pub(super) fn read_notify(
    reader: &mut Reader<'_>,
    tables: Vec<(usize, DeTable<'_>)>,
) -> Vec<NotifyTarget> {
    const SECTION: &str = "storage.monitoring.notify";
    let mut targets = Vec::new();
    for (at, table) in tables {
        let Some(raw) = reader.section::<RawNotify>(SECTION, at, table) else { continue };
        let is_http = ["http://", "https://"].iter().any(|it| raw.url.get_ref().starts_with(it));
        if !is_http {
            let message = format!("{SECTION}.url begins with http:// or https://");
            reader.fail(raw.url.span().start, &message);
            continue;
        }
        let secret = match (raw.secret_env, raw.secret_file) {
            (Some(env), Some(_)) => {
                let message =
                    format!("{SECTION}: secret_env and secret_file are given: name one of them");
                reader.fail(env.span().start, &message);
                continue;
            }
            (Some(env), None) => Some(SecretSource::Env(env.into_inner())),
            (None, file) => file.map(SecretSource::File),
        };
        targets.push(NotifyTarget {
            kind: match raw.r#type {
                Type::Webhook => NotifyKind::Webhook,
                Type::Alertmanager => NotifyKind::Alertmanager,
            },
            url: raw.url.into_inner(),
            secret,
            severity: match raw.severity {
                Severity::Warning => HealthState::Warning,
                Severity::Critical => HealthState::Critical,
            },
        });
    }
    targets
}
