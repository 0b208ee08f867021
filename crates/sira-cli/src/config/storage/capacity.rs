//! The sections `[capacity]` and `[cost]`: how often what is in use is sampled, and what it costs.

use std::time::Duration;

use serde::Deserialize;
use sira_backends::config::fields_of;
use sira_server::capacity::CapacitySettings;
use sira_store::capacity::{CostSettings, PriceList};
use toml::Spanned;
use toml::de::DeTable;

use super::Found;
use super::monitoring::{INTERVAL_MIN, RawDuration};
use super::reader::{Reader, take};

const DAY: Duration = Duration::from_secs(86_400);

/// Furthest horizon.
const HORIZON_MAX: Duration = Duration::from_secs(1_825 * 86_400);

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct RawCapacity {
    sample_interval: Option<Spanned<RawDuration>>,
    count_interval: Option<Spanned<RawDuration>>,
    count_objects_per_second: Option<u64>,
    horizon: Option<Spanned<RawDuration>>,
}

/// Reads how often is sampled.
pub(super) fn read(reader: &mut Reader<'_>, at: usize, table: DeTable<'_>) -> CapacitySettings {
    const SECTION: &str = "capacity";
    let mut settings = CapacitySettings::default();
    let Some(raw) = reader.section::<RawCapacity>(SECTION, at, table) else { return settings };
    for (name, asked, bounds, or, to) in [
        (
            "sample_interval",
            raw.sample_interval,
            (INTERVAL_MIN, DAY),
            "from 1s to 1d",
            &mut settings.sample_interval,
        ),
        (
            "count_interval",
            raw.count_interval,
            (INTERVAL_MIN, Duration::MAX),
            "at least 1s, or 0s for never",
            &mut settings.count_interval,
        ),
        (
            "horizon",
            raw.horizon,
            (INTERVAL_MIN, HORIZON_MAX),
            "from 1s to 1825d",
            &mut settings.horizon,
        ),
    ] {
        let Some(asked) = asked else { continue };
        let Some(time) = asked.get_ref().0 else { continue };
        let never = name == "count_interval" && time.is_zero();
        if !never && !(bounds.0..=bounds.1).contains(&time) {
            reader.fail(asked.span().start, &format!("{SECTION}.{name} is {or}"));
        }
        *to = time;
    }
    if let Some(rate) = raw.count_objects_per_second {
        settings.count_objects_per_s = rate;
    }
    settings
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct RawPrices {
    per_gib_month: Option<Spanned<f64>>,
    per_million_reads: Option<Spanned<f64>>,
    per_million_writes: Option<Spanned<f64>>,
    per_gib_read: Option<Spanned<f64>>,
}

impl RawPrices {
    /// The prices, those that are left out as `base` has them; `None` where no price is given.
    fn over(self, reader: &mut Reader<'_>, section: &str, base: PriceList) -> Option<PriceList> {
        let mut prices = base;
        let mut is_any = false;
        for (name, asked, to) in [
            ("per_gib_month", self.per_gib_month, &mut prices.per_gib_month),
            ("per_million_reads", self.per_million_reads, &mut prices.per_million_reads),
            ("per_million_writes", self.per_million_writes, &mut prices.per_million_writes),
            ("per_gib_read", self.per_gib_read, &mut prices.per_gib_read),
        ] {
            let Some(asked) = asked else { continue };
            is_any = true;
            match *asked.get_ref() {
                price if price.is_finite() && price >= 0.0 => *to = price,
                _ => {
                    let message = format!("{section}.{name} is a number, 0 or more");
                    reader.fail(asked.span().start, &message);
                }
            }
        }
        is_any.then_some(prices)
    }
}

/// Reads the prices.
pub(super) fn read_cost(
    reader: &mut Reader<'_>,
    at: usize,
    mut table: DeTable<'_>,
    found: &mut Found,
) -> CostSettings {
    const SECTION: &str = "cost";
    const BACKENDS: &str = "backends";
    let mut settings = CostSettings::default();
    let backends = take(&mut table, BACKENDS)
        .and_then(|entry| reader.table(&format!("{SECTION}.{BACKENDS}"), entry));
    let currency = take(&mut table, "currency");
    let keys: Vec<&str> =
        fields_of::<RawPrices>().iter().copied().chain([BACKENDS, "currency"]).collect();
    let own = reader.section_with(SECTION, at, table, &keys, RawPrices::deserialize);
    settings.prices = own.and_then(|own| own.over(reader, SECTION, PriceList::default()));
    if let Some((_, value)) = currency {
        match value.get_ref().as_str() {
            Some(name) if !name.trim().is_empty() => settings.currency = Some(name.to_owned()),
            _ => {
                let message = format!("{SECTION}.currency is a text in quotes, such as \"EUR\"");
                reader.fail(value.span().start, &message);
            }
        }
    }
    let base = settings.prices.unwrap_or_default();
    for (key, value) in backends.into_iter().flat_map(|(_, table)| table) {
        let section = format!("{SECTION}.{BACKENDS}.{}", key.get_ref());
        let at = key.span().start;
        let backend = found.want(Spanned::new(key.span(), key.get_ref().to_string()));
        let Some((at, table)) = reader.table(&section, (at, value)) else { continue };
        let Some(raw) = reader.section::<RawPrices>(&section, at, table) else { continue };
        let prices = raw.over(reader, &section, base).unwrap_or(base);
        settings.backends.insert(backend, prices);
    }
    settings
}

#[cfg(test)]
mod tests;
