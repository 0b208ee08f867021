//! The section `[storage.monitoring]`: what is told of backends that are slow, fail or fill up.

use std::time::Duration;

use serde::Deserialize;
use sira_backends::config::{fields_of, units};
use sira_server::monitoring::{AlertOptions, INTERVAL, MonitoringOptions};
use toml::Spanned;
use toml::de::DeTable;

use super::reader::{Reader, take};

/// The section of the alerts' bounds.
const ALERTS: &str = "alerts";

/// Nothing is done more often that asks every backend.
pub(super) const INTERVAL_MIN: Duration = Duration::from_secs(1);

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct RawMonitoring {
    #[serde(deserialize_with = "units::duration")]
    slow_operation: Option<Duration>,
    interval: Option<Spanned<RawDuration>>,
}

/// A duration that keeps its place.
#[derive(Deserialize, Clone, Copy)]
#[serde(transparent)]
pub(super) struct RawDuration(
    #[serde(deserialize_with = "units::duration")] pub(super) Option<Duration>,
);

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct RawAlerts {
    #[serde(deserialize_with = "units::duration")]
    latency_p99: Option<Duration>,
    storage_full_percent: Option<Spanned<f64>>,
    error_percent: Option<Spanned<f64>>,
}

pub(super) fn read(
    reader: &mut Reader<'_>,
    at: usize,
    mut table: DeTable<'_>,
) -> MonitoringOptions {
    const SECTION: &str = "storage.monitoring";
    let mut options = MonitoringOptions::default();
    let section = format!("{SECTION}.{ALERTS}");
    if let Some((at, table)) =
        take(&mut table, ALERTS).and_then(|entry| reader.table(&section, entry))
        && let Some(raw) = reader.section::<RawAlerts>(&section, at, table)
    {
        options.alerts = AlertOptions {
            latency_p99: raw.latency_p99,
            storage_full_percent: percent(
                reader,
                &format!("{section}.storage_full_percent"),
                raw.storage_full_percent,
            ),
            error_percent: percent(reader, &format!("{section}.error_percent"), raw.error_percent),
        };
    }
    let keys: Vec<&str> = fields_of::<RawMonitoring>().iter().chain(&[ALERTS]).copied().collect();
    let raw = reader.section_with(SECTION, at, table, &keys, RawMonitoring::deserialize);
    if let Some(raw) = raw {
        options.slow_operation = raw.slow_operation;
        let (at, interval) = match raw.interval {
            Some(interval) => (interval.span().start, interval.into_inner().0),
            None => (at, None),
        };
        options.interval = interval.unwrap_or(INTERVAL);
        if options.interval < INTERVAL_MIN {
            reader.fail(at, &format!("{SECTION}.interval is at least 1s"));
        }
    }
    options
}

pub(super) fn percent(
    reader: &mut Reader<'_>,
    name: &str,
    value: Option<Spanned<f64>>,
) -> Option<f64> {
    let value = value?;
    if !(0.0..=100.0).contains(value.get_ref()) {
        reader.fail(value.span().start, &format!("{name} is from 0 to 100"));
        return None;
    }
    Some(value.into_inner())
}
