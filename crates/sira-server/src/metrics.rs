//! Counters of the front ends, and the Prometheus text they are shown in.

pub mod cache;
pub mod replicas;
pub mod resp;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{Method, StatusCode};

pub use sira_store::layers::metrics::{MetricFamilies, MetricKind as Kind};

/// Upper bounds of the latency buckets, in seconds.
pub const LATENCY_BUCKETS: [f64; 16] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.5, 10.0,
];

/// Methods with a label of their own; the last stands for all others.
const METHODS: [&str; 6] = ["GET", "HEAD", "PUT", "POST", "DELETE", "OTHER"];

/// Statuses with a label of their own; the last stands for all others.
const STATUSES: [u16; 25] = [
    200, 201, 204, 206, 304, 400, 401, 403, 404, 405, 408, 409, 412, 413, 414, 415, 416, 417, 431,
    500, 501, 503, 504, 507, 0,
];

/// Route label of requests that no route matches.
const UNMATCHED: &str = "unmatched";

#[derive(Debug, Default)]
struct RouteCounters {
    statuses: [[AtomicU64; STATUSES.len()]; METHODS.len()],
    latencies: [Histogram; METHODS.len()],
}

/// A histogram over [`LATENCY_BUCKETS`].
#[derive(Debug, Default)]
struct Histogram {
    buckets: [AtomicU64; LATENCY_BUCKETS.len() + 1],
    sum_ns: AtomicU64,
}

impl Histogram {
    fn record(&self, elapsed: Duration) {
        let seconds = elapsed.as_secs_f64();
        let bucket = LATENCY_BUCKETS.partition_point(|bound| *bound < seconds);
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        let nanos = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        self.sum_ns.fetch_add(nanos, Ordering::Relaxed);
    }
}

/// Counters of the HTTP door.
#[derive(Debug)]
pub struct HttpMetrics {
    routes: Vec<(&'static str, RouteCounters)>,
    unmatched: RouteCounters,
    /// Requests under way.
    pub requests_under_way: AtomicU64,
    /// Bytes of request bodies.
    pub request_bytes: AtomicU64,
    /// Bytes of response bodies.
    pub response_bytes: AtomicU64,
    /// Connections open now.
    pub connections: AtomicU64,
    /// Connections taken since the start, refused ones included.
    pub connections_accepted: AtomicU64,
    /// Connections refused because there were too many.
    pub connections_refused: AtomicU64,
}

impl HttpMetrics {
    /// Counters for these routes.
    pub fn new(routes: impl IntoIterator<Item = &'static str>) -> Self {
        Self {
            routes: routes.into_iter().map(|route| (route, RouteCounters::default())).collect(),
            unmatched: RouteCounters::default(),
            requests_under_way: AtomicU64::new(0),
            request_bytes: AtomicU64::new(0),
            response_bytes: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            connections_accepted: AtomicU64::new(0),
            connections_refused: AtomicU64::new(0),
        }
    }

    /// Counts a connection as open until the guard is dropped.
    #[must_use]
    pub fn open_connection(self: &Arc<Self>) -> OpenConnection {
        self.connections.fetch_add(1, Ordering::Relaxed);
        OpenConnection(Arc::clone(self))
    }

    /// Counts an answered request; `elapsed` is the time to the answer's head.
    pub fn answered(
        &self,
        route: Option<&str>,
        method: &Method,
        status: StatusCode,
        elapsed: Duration,
    ) {
        let counters = route
            .and_then(|route| self.routes.iter().find(|(name, _)| *name == route))
            .map_or(&self.unmatched, |(_, counters)| counters);
        let method = position(&METHODS, &method.as_str());
        let status = position(&STATUSES, &status.as_u16());
        if let Some(count) = counters.statuses.get(method).and_then(|row| row.get(status)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(histogram) = counters.latencies.get(method) {
            histogram.record(elapsed);
        }
    }

    /// Writes all counters.
    pub fn write(&self, out: &mut MetricFamilies) {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        out.family(
            "sira_http_requests_total",
            Kind::Counter,
            "HTTP requests answered, by route, method and status.",
        );
        for (route, method, counters, at) in self.used() {
            let Some(row) = counters.statuses.get(at) else { continue };
            for (status, count) in STATUSES.iter().zip(row) {
                let count = load(count);
                let status = if *status == 0 { "other".to_owned() } else { status.to_string() };
                if count > 0 {
                    out.sample(
                        &[("route", route), ("method", method), ("status", &status)],
                        count as f64,
                    );
                }
            }
        }
        let name = "sira_http_request_duration_seconds";
        out.family(name, Kind::Histogram, "Time from a request's head to its answer's head.");
        for (route, method, counters, at) in self.used() {
            let Some(histogram) = counters.latencies.get(at) else { continue };
            let counts: Vec<u64> = histogram.buckets.iter().map(load).collect();
            let sum = load(&histogram.sum_ns) as f64 / 1e9;
            out.histogram(&[("route", route), ("method", method)], &LATENCY_BUCKETS, &counts, sum);
        }
        for (name, kind, help, value) in [
            (
                "sira_http_requests_under_way",
                Kind::Gauge,
                "HTTP requests under way.",
                &self.requests_under_way,
            ),
            (
                "sira_http_request_body_bytes_total",
                Kind::Counter,
                "Bytes of HTTP request bodies.",
                &self.request_bytes,
            ),
            (
                "sira_http_response_body_bytes_total",
                Kind::Counter,
                "Bytes of HTTP response bodies.",
                &self.response_bytes,
            ),
            ("sira_http_connections", Kind::Gauge, "Open HTTP connections.", &self.connections),
            (
                "sira_http_connections_accepted_total",
                Kind::Counter,
                "HTTP connections taken.",
                &self.connections_accepted,
            ),
            (
                "sira_http_connections_refused_total",
                Kind::Counter,
                "HTTP connections refused because there were too many.",
                &self.connections_refused,
            ),
        ] {
            out.metric(name, kind, help, load(value) as f64);
        }
    }

    /// Routes and methods that were asked for: label, label, counters and the method's place.
    fn used(&self) -> impl Iterator<Item = (&str, &'static str, &RouteCounters, usize)> {
        let unmatched = std::iter::once((UNMATCHED, &self.unmatched));
        let routes = self.routes.iter().map(|(route, counters)| (*route, counters));
        routes.chain(unmatched).flat_map(|(route, counters)| {
            METHODS.iter().enumerate().filter_map(move |(at, method)| {
                let row = counters.statuses.get(at)?;
                let asked = row.iter().any(|count| count.load(Ordering::Relaxed) > 0);
                asked.then_some((route, *method, counters, at))
            })
        })
    }
}

/// Place of a label in its list; the last place stands for all that is not listed.
fn position<T: PartialEq>(labels: &[T], label: &T) -> usize {
    labels.iter().position(|listed| listed == label).unwrap_or(labels.len() - 1)
}

/// An open connection.
#[derive(Debug)]
pub struct OpenConnection(Arc<HttpMetrics>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
