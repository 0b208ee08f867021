//! Capacity and cost as metrics.

use sira_store::capacity::Outlook;
use sira_store::layers::{MetricFamilies, MetricsCollector};

use super::{Capacity, Tracked};
use crate::metrics::Kind;

impl Capacity {
    /// Writes what is in use, where it is heading, and what it costs.
    pub fn write(&self, collector: &MetricsCollector, out: &mut MetricFamilies) {
        self.write_backends(out);
        self.write_namespaces(out);
        let cost = self.cost(collector);
        if cost.backends.values().all(|backend| backend.bill.is_none()) {
            return;
        }
        let help = "What a month costs: storage as it is now, and operations at the rate since the \
                    start, where that is an hour ago.";
        out.family("sira_cost_per_month", Kind::Gauge, help);
        for (backend, cost) in &cost.backends {
            let Some(bill) = &cost.bill else { continue };
            let labels = [("backend", backend.as_str()), ("kind", "storage")];
            out.sample(&labels, bill.storage_per_month);
            if let Some(operations) = bill.operations_per_month {
                let labels = [("backend", backend.as_str()), ("kind", "operations")];
                out.sample(&labels, operations);
            }
        }
    }

    fn write_backends(&self, out: &mut MetricFamilies) {
        let horizon = self.horizon().as_secs_f64();
        let help = "How far the forecasts of capacity look.";
        out.metric("sira_capacity_forecast_horizon_seconds", Kind::Gauge, help, horizon);
        let backends = self.backends.lock();
        let mut gauge = |name, help, value: &dyn Fn(&Tracked) -> Option<f64>| {
            out.family(name, Kind::Gauge, help);
            for (backend, tracked) in &*backends {
                if let Some(value) = value(tracked) {
                    out.sample(&[("backend", backend)], value);
                }
            }
        };
        let of = |tracked: &Tracked, value: &dyn Fn(&Outlook) -> Option<f64>| {
            tracked.outlook.as_ref().and_then(|it| it.as_ref().ok()).and_then(value)
        };
        gauge(
            "sira_capacity_used_bytes",
            "Bytes that a backend has in use, as of the last sample.",
            &|tracked| tracked.used_bytes.map(|bytes| bytes as f64),
        );
        gauge(
            "sira_capacity_available_bytes",
            "Bytes that can still be written to a backend, as of the last sample, where it tells.",
            &|tracked| tracked.available_bytes.map(|bytes| bytes as f64),
        );
        gauge(
            "sira_capacity_growth_bytes_per_day",
            "Bytes that come to a backend a day, as the forecast has it.",
            &|tracked| of(tracked, &|it| Some(it.growth_bytes_per_day)),
        );
        gauge(
            "sira_capacity_days_until_full",
            "Days until a backend is expected to be full; absent where it is not within reach.",
            &|tracked| of(tracked, &|it| it.days_until_full?.expected),
        );
        gauge(
            "sira_capacity_forecast_accuracy_ratio",
            "1 less the weighted absolute percentage error of forecasts of the past.",
            &|tracked| of(tracked, &|it| it.forecast.backtest.model.accuracy),
        );
        let help = "Bytes that a backend is forecast to have in use at the horizon: expected, and \
                    with one chance in ten below low and above high.";
        out.family("sira_capacity_forecast_bytes", Kind::Gauge, help);
        for (backend, tracked) in &*backends {
            let Some(Ok(outlook)) = &tracked.outlook else { continue };
            let Some(end) = outlook.points.last() else { continue };
            for (bound, bytes) in
                [("low", end.low_bytes), ("expected", end.expected_bytes), ("high", end.high_bytes)]
            {
                out.sample(&[("backend", backend.as_str()), ("bound", bound)], bytes as f64);
            }
        }
    }

    fn write_namespaces(&self, out: &mut MetricFamilies) {
        let namespaces = self.namespaces.lock();
        let counted = || {
            namespaces.iter().filter_map(|((backend, name), counted)| {
                let labels = [("backend", backend.as_str()), ("namespace", name.as_str())];
                let sample = counted.series.newest().filter(|sample| sample.objects != Some(0));
                Some((labels, sample?))
            })
        };
        let help =
            "Bytes of keys and stored values of a namespace on a backend, when it was counted.";
        out.family("sira_capacity_namespace_bytes", Kind::Gauge, help);
        for (labels, sample) in counted() {
            out.sample(&labels, sample.used_bytes as f64);
        }
        let help = "Objects of a namespace on a backend, when it was counted.";
        out.family("sira_capacity_namespace_objects", Kind::Gauge, help);
        for (labels, sample) in counted() {
            out.sample(&labels, sample.objects.unwrap_or(0) as f64);
        }
    }
}
