//! What is known of a backend before anything is measured: its region, prices and promises.

use std::time::Duration;

use super::request::Operation;

const GB: f64 = 1e9;
const DAY_S: f64 = 86_400.0;
/// Days of the month that prices are quoted for.
const MONTH_DAYS: f64 = 30.0;

/// What a backend is, as its owner declares it.
#[derive(Debug, Clone, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct BackendProfile {
    /// Region that the backend stands in, such as `eu-west-1`.
    pub region: Option<String>,
    /// What it costs.
    pub prices: PriceTable,
    /// Latency to expect while nothing is measured, in milliseconds.
    pub latency_ms: f64,
    /// Promised durability of an object over a year, from 0 to 1.
    pub durability: f64,
    /// Promised part of the time that the backend answers, from 0 to 1.
    pub availability: f64,
    /// Operations a second that it carries before it slows down, where known.
    pub operations_per_s_max: Option<f64>,
    /// Largest value that it takes, in bytes.
    pub value_bytes_max: Option<u64>,
    /// Bytes that it can hold, where known.
    pub capacity_bytes: Option<u64>,
}

impl Default for BackendProfile {
    fn default() -> Self {
        Self {
            region: None,
            prices: PriceTable::default(),
            latency_ms: 10.0,
            durability: 0.999,
            availability: 0.999,
            operations_per_s_max: None,
            value_bytes_max: None,
            capacity_bytes: None,
        }
    }
}

impl BackendProfile {
    /// Whether the backend takes a value of this many bytes.
    #[must_use]
    pub fn takes(&self, size: Option<u64>) -> bool {
        !matches!((size, self.value_bytes_max), (Some(size), Some(max)) if size > max)
    }

    /// The number that cannot be right, named, or nothing.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        let prices = &self.prices;
        let amounts = [
            ("latency_ms", self.latency_ms),
            ("prices.storage_gb_month", prices.storage_gb_month),
            ("prices.read_per_1000", prices.read_per_1000),
            ("prices.write_per_1000", prices.write_per_1000),
            ("prices.delete_per_1000", prices.delete_per_1000),
            ("prices.list_per_1000", prices.list_per_1000),
            ("prices.retrieval_gb", prices.retrieval_gb),
            ("prices.egress_gb", prices.egress_gb),
            ("prices.storage_days_min", prices.storage_days_min),
            ("operations_per_s_max", self.operations_per_s_max.unwrap_or(0.0)),
        ];
        if let Some((name, value)) =
            amounts.into_iter().find(|(_, value)| !value.is_finite() || *value < 0.0)
        {
            return Some(format!("{name} is {value}; it must be a number from 0 on"));
        }
        [("durability", self.durability), ("availability", self.availability)]
            .into_iter()
            .find(|(_, value)| !(0.0..=1.0).contains(value))
            .map(|(name, value)| format!("{name} is {value}; it must be from 0 to 1"))
    }
}

/// Prices of a backend, all in one currency of the owner's choice.
#[derive(Debug, Clone, Copy, PartialEq, Default, serde::Deserialize, serde::Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct PriceTable {
    /// For 10^9 bytes kept for 30 days.
    pub storage_gb_month: f64,
    /// For 1,000 reads.
    pub read_per_1000: f64,
    /// For 1,000 writes.
    pub write_per_1000: f64,
    /// For 1,000 deletes.
    pub delete_per_1000: f64,
    /// For 1,000 pages of a listing.
    pub list_per_1000: f64,
    /// For 10^9 bytes read, wherever they go (archive classes).
    pub retrieval_gb: f64,
    /// For 10^9 bytes read by a caller outside the backend's region.
    pub egress_gb: f64,
    /// Days that are charged at least for each object.
    pub storage_days_min: f64,
}

impl PriceTable {
    /// Price of one operation that carries `size` bytes; `abroad` where the caller is outside the
    /// backend's region.
    #[must_use]
    pub fn operation(&self, operation: Operation, size: u64, abroad: bool) -> f64 {
        let per_1000 = match operation {
            Operation::Read => self.read_per_1000,
            Operation::Write => self.write_per_1000,
            Operation::Delete => self.delete_per_1000,
            Operation::List => self.list_per_1000,
        };
        let carried = match operation {
            Operation::Read if abroad => self.retrieval_gb + self.egress_gb,
            Operation::Read => self.retrieval_gb,
            Operation::Write | Operation::Delete | Operation::List => 0.0,
        };
        per_1000 / 1000.0 + carried * size as f64 / GB
    }

    /// Price of keeping `size` bytes for a time.
    #[must_use]
    pub fn storage(&self, size: u64, kept: Duration) -> f64 {
        let days = (kept.as_secs_f64() / DAY_S).max(self.storage_days_min);
        self.storage_gb_month * (size as f64 / GB) * (days / MONTH_DAYS)
    }
}
