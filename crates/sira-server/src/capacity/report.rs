//! What is in use, where it is heading, and what it costs.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use sira_store::capacity::{Bill, Consumption, Outlook, PriceList};
use sira_store::layers::MetricsCollector;
use sira_store::layers::metrics::NamespaceFigures;
use sira_store::placement::Catalog;
use utoipa::ToSchema;

use super::Capacity;

/// What is in use, and where that is heading.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct CapacityReport {
    /// When it was reckoned, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// How far the forecasts look, in days.
    pub horizon_days: f64,
    /// The backends by name.
    pub backends: BTreeMap<String, BackendCapacity>,
    /// The namespaces by name.
    pub namespaces: BTreeMap<String, NamespaceCapacity>,
}

/// What a backend has in use, and where that is heading.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct BackendCapacity {
    /// Bytes in use, as of the last sample; where the backend does not tell, those that were counted.
    pub used_bytes: Option<u64>,
    /// Bytes that can still be written, where it tells.
    pub available_bytes: Option<u64>,
    /// Objects, where they are known.
    pub objects: Option<u64>,
    /// When it was sampled last, in milliseconds since the Unix epoch.
    pub sampled_ms: Option<u64>,
    /// `growth_bytes_per_day`, `days_until_full` (`expected`, `earliest`, `latest`, `looked_ahead`),
    /// `ahead_days`, `step_ms`, `forecast` (`season`, `trend`, `smoothing`, `samples`, `backtest`) and `points`
    /// (`at_ms`, `expected_bytes`, `low_bytes`, `high_bytes`); null where there is none.
    #[schema(value_type = Option<Object>)]
    pub outlook: Option<Outlook>,
    /// Why there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_outlook: Option<String>,
}

/// What a namespace has in use, over all backends: copies count as often as there are.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub struct NamespaceCapacity {
    /// Bytes of its keys, and of its values as they are stored.
    pub used_bytes: u64,
    /// Objects.
    pub objects: u64,
    /// Bytes that came a day over the last week; null below a day.
    pub grown_bytes_per_day: Option<f64>,
    /// What of it lies on which backend.
    pub backends: BTreeMap<String, NamespaceOnBackend>,
}

/// What a namespace has in use on one backend.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct NamespaceOnBackend {
    /// Bytes of its keys, and of its values as they are stored.
    pub used_bytes: u64,
    /// Objects.
    pub objects: u64,
    /// When they were counted, in milliseconds since the Unix epoch.
    pub counted_ms: Option<u64>,
}

/// What storage and operations cost.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct CostReport {
    /// Name of the currency, where one is configured.
    pub currency: Option<String>,
    /// The backends by name.
    pub backends: BTreeMap<String, BackendCost>,
    /// The namespaces by name, and by backend.
    pub namespaces: BTreeMap<String, BTreeMap<String, NamespaceCost>>,
    /// All backends that have prices: `storage_per_month`, `operations_counted`,
    /// `operations_per_month`, `total_per_month`; the last two null where one of them is.
    #[schema(value_type = Object)]
    pub total: Bill,
    /// Backends without prices, which are not in the total.
    pub unpriced: Vec<String>,
}

/// What a backend costs.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct BackendCost {
    /// Its prices: `per_gib_month`, `per_million_reads`, `per_million_writes`, `per_gib_read`.
    #[schema(value_type = Option<Object>)]
    pub prices: Option<PriceList>,
    /// What is measured: `stored_bytes`, `reads`, `writes`, `read_bytes`, `counted_seconds`.
    #[schema(value_type = Object)]
    pub measured: Consumption,
    /// What is reckoned from it.
    #[schema(value_type = Option<Object>)]
    pub bill: Option<Bill>,
    /// Stored bytes that no namespace was counted for: what the engine needs itself, what it has not
    /// given back yet, and what is not counted.
    pub other_bytes: u64,
}

/// What a namespace costs on one backend.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct NamespaceCost {
    /// What is measured, as of a backend.
    #[schema(value_type = Object)]
    pub measured: Consumption,
    /// What is reckoned from it.
    #[schema(value_type = Option<Object>)]
    pub bill: Option<Bill>,
}

impl Capacity {
    /// What is in use, and where that is heading within a horizon.
    pub async fn report(&self, horizon: Duration) -> CapacityReport {
        let mut outlooks: BTreeMap<_, _> = self.outlooks(horizon).await.into_iter().collect();
        let at_ms = self.now_ms();
        let backends = self.backends.lock();
        let backends = backends.iter().map(|(name, tracked)| {
            let (outlook, no_outlook) = match outlooks.remove(name) {
                Some(Ok(outlook)) => (Some(outlook), None),
                Some(Err(error)) => (None, Some(error.to_string())),
                None => (None, Some("it was not sampled yet".to_owned())),
            };
            let report = BackendCapacity {
                used_bytes: tracked.used_bytes,
                available_bytes: tracked.available_bytes,
                objects: tracked.objects,
                sampled_ms: tracked.sampled_ms,
                outlook,
                no_outlook,
            };
            (name.clone(), report)
        });
        CapacityReport {
            at_ms,
            horizon_days: horizon.as_secs_f64() / 86_400.0,
            backends: backends.collect(),
            namespaces: self.namespaces_in_use(),
        }
    }

    fn namespaces_in_use(&self) -> BTreeMap<String, NamespaceCapacity> {
        let namespaces = self.namespaces.lock();
        let mut report: BTreeMap<String, NamespaceCapacity> = BTreeMap::new();
        for ((backend, name), counted) in &*namespaces {
            // Databases of RESP are there before anything is in them.
            let sample = counted.series.newest().filter(|sample| sample.objects != Some(0));
            let Some(sample) = sample else { continue };
            let (used_bytes, objects) = (sample.used_bytes, sample.objects.unwrap_or(0));
            let all = report.entry(name.clone()).or_default();
            all.used_bytes += used_bytes;
            all.objects += objects;
            if let Some(grown) = counted.series.grown_bytes_per_day() {
                *all.grown_bytes_per_day.get_or_insert(0.0) += grown;
            }
            let on = NamespaceOnBackend { used_bytes, objects, counted_ms: counted.counted_ms };
            all.backends.insert(backend.clone(), on);
        }
        report
    }

    /// What storage and operations cost.
    #[must_use]
    pub fn cost(&self, collector: &MetricsCollector) -> CostReport {
        let costs = self.costs.read().clone();
        let counters = collector.backends();
        let mut namespaces: BTreeMap<String, BTreeMap<String, NamespaceCost>> = BTreeMap::new();
        let mut backends = BTreeMap::new();
        let mut unpriced = Vec::new();
        let mut total = Bill {
            storage_per_month: 0.0,
            operations_counted: 0.0,
            operations_per_month: Some(0.0),
            total_per_month: Some(0.0),
        };
        let known: BTreeMap<String, Option<u64>> = {
            let backends = self.backends.lock();
            let own = backends.iter().map(|(name, tracked)| {
                let used_bytes = tracked.used_bytes.filter(|_| !tracked.shares_medium);
                (name.clone(), used_bytes)
            });
            own.collect()
        };
        for (backend, used_bytes) in known {
            let prices = costs.prices_of(&backend);
            let (named, others) =
                counters.get(&backend).map(|it| it.namespaces()).unwrap_or_default();
            let counted_seconds =
                counters.get(&backend).map_or(0.0, |it| it.counted().as_secs_f64());
            let mut stored = self.stored_on(&backend);
            let counted_bytes: u64 = stored.values().sum();
            let mut all = others;
            for (namespace, figures) in named {
                all.add(figures);
                if !Catalog::owns(&namespace) {
                    let bytes = stored.remove(&namespace).unwrap_or(0);
                    let measured = consumption(bytes, figures, counted_seconds);
                    let bill = prices.map(|prices| Bill::of(prices, &measured));
                    let cost = NamespaceCost { measured, bill };
                    namespaces.entry(namespace).or_default().insert(backend.clone(), cost);
                }
            }
            for (namespace, bytes) in stored {
                let measured = consumption(bytes, NamespaceFigures::default(), counted_seconds);
                let bill = prices.map(|prices| Bill::of(prices, &measured));
                let cost = NamespaceCost { measured, bill };
                namespaces.entry(namespace).or_default().insert(backend.clone(), cost);
            }
            let stored_bytes = used_bytes.unwrap_or(counted_bytes);
            let measured = consumption(stored_bytes, all, counted_seconds);
            let bill = prices.map(|prices| Bill::of(prices, &measured));
            match &bill {
                Some(bill) => add(&mut total, bill),
                None => unpriced.push(backend.clone()),
            }
            let other_bytes = stored_bytes.saturating_sub(counted_bytes);
            backends.insert(backend, BackendCost { prices, measured, bill, other_bytes });
        }
        // What nobody has used or stored anything of is no line of a bill.
        for on in namespaces.values_mut() {
            on.retain(|_, cost| {
                let used = &cost.measured;
                used.stored_bytes > 0 || used.reads > 0 || used.writes > 0
            });
        }
        namespaces.retain(|_, on| !on.is_empty());
        CostReport { currency: costs.currency, backends, namespaces, total, unpriced }
    }

    /// Bytes that were counted on a backend, by namespace.
    fn stored_on(&self, backend: &str) -> BTreeMap<String, u64> {
        let namespaces = self.namespaces.lock();
        let here = namespaces.iter().filter(|((at, _), _)| at == backend);
        let known = here.filter_map(|((_, name), counted)| {
            Some((name.clone(), counted.series.newest()?.used_bytes))
        });
        known.collect()
    }
}

fn consumption(stored_bytes: u64, done: NamespaceFigures, counted_seconds: f64) -> Consumption {
    let NamespaceFigures { reads, writes, read_bytes } = done;
    Consumption { stored_bytes, reads, writes, read_bytes, counted_seconds }
}

fn add(total: &mut Bill, bill: &Bill) {
    let both = |a: Option<f64>, b: Option<f64>| Some(a? + b?);
    total.storage_per_month += bill.storage_per_month;
    total.operations_counted += bill.operations_counted;
    total.operations_per_month = both(total.operations_per_month, bill.operations_per_month);
    total.total_per_month = both(total.total_per_month, bill.total_per_month);
}
