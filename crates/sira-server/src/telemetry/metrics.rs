//! The metrics of `/metrics`, sent by OTLP.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint,
    ResourceMetrics, ScopeMetrics, Sum, metric, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;
use sira_store::env::Env;
use sira_store::layers::metrics::families::{MetricFamily, MetricKind, Sample, SampleValue};
use tokio::time::MissedTickBehavior;

use super::sender::{Reporter, Sender};
use super::settings::MetricSettings;
use crate::server::MetricsSource;

const SCOPE: &str = "sira";

/// Sends what a server counts.
#[derive(Debug)]
pub(super) struct MetricsExport {
    pub(super) settings: MetricSettings,
    pub(super) sender: Sender,
    pub(super) reporter: Reporter,
    pub(super) resource: Resource,
    pub(super) env: Arc<dyn Env>,
    pub(super) begun: Duration,
}

impl MetricsExport {
    /// Sends every interval, without end.
    pub(super) async fn run(self: Arc<Self>, source: MetricsSource) {
        let mut ticks = tokio::time::interval(self.settings.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick is at once, when there is nothing to tell yet.
        ticks.tick().await;
        loop {
            ticks.tick().await;
            self.once(&source).await;
        }
    }

    /// Sends what there is now.
    pub(super) async fn once(&self, source: &MetricsSource) {
        let families = match source.families().await {
            Ok(families) => families.into_families(),
            Err(error) => return self.reporter.failed("metrics", &error),
        };
        let begun = u64::try_from(self.begun.as_nanos()).unwrap_or(u64::MAX);
        let now = self.env.now_ms().saturating_mul(1_000_000);
        let request = request(families, self.resource.clone(), begun, now);
        if let Err(error) = self.send(request.encode_to_vec().into()).await {
            self.reporter.failed("metrics", &error);
        }
    }

    async fn send(&self, body: Bytes) -> Result<(), HttpError> {
        let mut request = http::Request::post(self.settings.to.url.as_str()).body(body)?;
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, http::HeaderValue::from_static("application/x-protobuf"));
        headers.extend(self.settings.to.headers.iter().cloned());
        let answer = self.sender.send_bytes(request).await?;
        if !answer.status().is_success() {
            return Err(format!("the collector answers {}", answer.status()).into());
        }
        Ok(())
    }
}

/// The families as one request. Times are nanoseconds since the Unix epoch.
fn request(
    families: Vec<MetricFamily>,
    resource: Resource,
    begun: u64,
    now: u64,
) -> ExportMetricsServiceRequest {
    let scope = InstrumentationScope {
        name: SCOPE.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    let metrics = families
        .into_iter()
        .filter(|family| !family.samples.is_empty())
        .map(|family| metric(family, begun, now))
        .collect();
    let scope_metrics = ScopeMetrics { scope: Some(scope), metrics, ..ScopeMetrics::default() };
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(resource),
            scope_metrics: vec![scope_metrics],
            ..ResourceMetrics::default()
        }],
    }
}

fn metric(family: MetricFamily, begun: u64, now: u64) -> Metric {
    let MetricFamily { name, kind, help, samples } = family;
    let temporality = AggregationTemporality::Cumulative as i32;
    let numbers = |samples: Vec<Sample>, begun| {
        samples.into_iter().filter_map(|sample| number(sample, begun, now)).collect()
    };
    let data = match kind {
        MetricKind::Counter => metric::Data::Sum(Sum {
            data_points: numbers(samples, begun),
            aggregation_temporality: temporality,
            is_monotonic: true,
        }),
        MetricKind::Gauge => metric::Data::Gauge(Gauge { data_points: numbers(samples, 0) }),
        MetricKind::Histogram => metric::Data::Histogram(Histogram {
            data_points: samples
                .into_iter()
                .filter_map(|sample| histogram(sample, begun, now))
                .collect(),
            aggregation_temporality: temporality,
        }),
    };
    let unit = unit(&name).to_owned();
    Metric { name, description: help, unit, data: Some(data), ..Metric::default() }
}

/// The unit that a name ends in.
fn unit(name: &str) -> &'static str {
    let name = name.strip_suffix("_total").unwrap_or(name);
    match name.rsplit('_').next() {
        Some("seconds") => "s",
        Some("bytes") => "By",
        _ => "1",
    }
}

fn number(sample: Sample, begun: u64, now: u64) -> Option<NumberDataPoint> {
    let SampleValue::Number(value) = sample.value else { return None };
    Some(NumberDataPoint {
        attributes: attributes(sample.labels),
        start_time_unix_nano: begun,
        time_unix_nano: now,
        value: Some(number_data_point::Value::AsDouble(value)),
        ..NumberDataPoint::default()
    })
}

fn histogram(sample: Sample, begun: u64, now: u64) -> Option<HistogramDataPoint> {
    let SampleValue::Histogram { bounds, counts, sum } = sample.value else { return None };
    Some(HistogramDataPoint {
        attributes: attributes(sample.labels),
        start_time_unix_nano: begun,
        time_unix_nano: now,
        count: counts.iter().sum(),
        sum: Some(sum),
        bucket_counts: counts,
        explicit_bounds: bounds,
        ..HistogramDataPoint::default()
    })
}

fn attributes(labels: Vec<(String, String)>) -> Vec<KeyValue> {
    labels
        .into_iter()
        .map(|(key, value)| KeyValue {
            key,
            value: Some(AnyValue { value: Some(any_value::Value::StringValue(value)) }),
            ..KeyValue::default()
        })
        .collect()
}

#[cfg(test)]
mod tests;
