//! What storage and operations cost.

use std::collections::BTreeMap;

const GIB: f64 = (1_u64 << 30) as f64;
const MILLION: f64 = 1e6;

/// Seconds of a month: 30 days.
const MONTH_S: f64 = 30.0 * 86_400.0;

/// Operations that were counted for less time than this say nothing of a month.
const COUNTED_S_MIN: f64 = 3_600.0;

/// What a backend charges, all in one currency.
#[derive(Debug, Clone, Copy, PartialEq, Default, serde::Serialize)]
pub struct PriceList {
    /// For a GiB that is stored for a month of 30 days.
    pub per_gib_month: f64,
    /// For a million reads.
    pub per_million_reads: f64,
    /// For a million writes, removals and listings.
    pub per_million_writes: f64,
    /// For a GiB that is read.
    pub per_gib_read: f64,
}

impl PriceList {
    /// The prices by their names.
    #[must_use]
    pub fn named(&self) -> [(&'static str, f64); 4] {
        [
            ("per_gib_month", self.per_gib_month),
            ("per_million_reads", self.per_million_reads),
            ("per_million_writes", self.per_million_writes),
            ("per_gib_read", self.per_gib_read),
        ]
    }
}

/// What everything costs.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CostSettings {
    /// Name of the currency, such as `EUR`.
    pub currency: Option<String>,
    /// Prices of backends that have none of their own.
    pub prices: Option<PriceList>,
    /// Prices by backend.
    pub backends: BTreeMap<String, PriceList>,
}

impl CostSettings {
    /// The prices of a backend, where there are any.
    #[must_use]
    pub fn prices_of(&self, backend: &str) -> Option<PriceList> {
        self.backends.get(backend).copied().or(self.prices)
    }
}

/// What was used of a backend, or of a namespace on it.
#[derive(Debug, Clone, Copy, PartialEq, Default, serde::Serialize)]
pub struct Consumption {
    /// Bytes that are stored now.
    pub stored_bytes: u64,
    /// Reads that were counted.
    pub reads: u64,
    /// Writes, removals and listings that were counted.
    pub writes: u64,
    /// Bytes of values that were read.
    pub read_bytes: u64,
    /// Seconds for which operations were counted.
    pub counted_seconds: f64,
}

/// What it costs. Storage is that of a month in which as much is stored as now. Operations are those
/// that were counted, and, of a month, as many more as that time is shorter.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Bill {
    /// A month of what is stored now.
    pub storage_per_month: f64,
    /// The operations that were counted.
    pub operations_counted: f64,
    /// Operations of a month at the rate at which they were counted; `None` below an hour.
    pub operations_per_month: Option<f64>,
    /// Both of a month; `None` where operations have a price and are not known yet.
    pub total_per_month: Option<f64>,
}

impl Bill {
    /// What a consumption costs at these prices.
    #[must_use]
    pub fn of(prices: PriceList, used: &Consumption) -> Self {
        let storage_per_month = used.stored_bytes as f64 / GIB * prices.per_gib_month;
        let operations_counted = used.reads as f64 / MILLION * prices.per_million_reads
            + used.writes as f64 / MILLION * prices.per_million_writes
            + used.read_bytes as f64 / GIB * prices.per_gib_read;
        let operations_per_month = (used.counted_seconds >= COUNTED_S_MIN)
            .then(|| operations_counted * MONTH_S / used.counted_seconds);
        let PriceList { per_million_reads, per_million_writes, per_gib_read, .. } = prices;
        let are_free = per_million_reads == 0.0 && per_million_writes == 0.0 && per_gib_read == 0.0;
        let operations = if are_free { Some(0.0) } else { operations_per_month };
        Self {
            storage_per_month,
            operations_counted,
            operations_per_month,
            total_per_month: operations.map(|operations| storage_per_month + operations),
        }
    }
}
