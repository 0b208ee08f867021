//! The health of the backends as metrics.

use sira_store::layers::MetricFamilies;

use super::{Health, Watched};
use crate::metrics::Kind;

impl Health {
    /// Writes how every backend does.
    pub fn write(&self, out: &mut MetricFamilies) {
        let marks = self.marks();
        let now_ms = self.engine.env().now_ms();
        let watched = self.watched.lock();
        let help = "How a check of a backend stands: 0 healthy, 1 warning, 2 critical.";
        out.family("sira_health_state", Kind::Gauge, help);
        for (backend, watched) in &*watched {
            for (check, report) in watched.health.checks() {
                let labels = [("backend", backend.as_str()), ("check", check.name())];
                out.sample(&labels, f64::from(report.state as u8));
            }
        }
        let mut gauge = |name, kind, help, value: &dyn Fn(&Watched) -> Option<f64>| {
            out.family(name, kind, help);
            for (backend, watched) in &*watched {
                if let Some(value) = value(watched) {
                    out.sample(&[("backend", backend)], value);
                }
            }
        };
        gauge(
            "sira_health_growth_bytes_per_day",
            Kind::Gauge,
            "Bytes that come to a backend a day, by the trend of the last weeks.",
            &|watched| watched.forecast.map(|forecast| forecast.bytes_per_day),
        );
        gauge(
            "sira_health_days_until_full",
            Kind::Gauge,
            "Days until a backend is full, if its use goes on as it does; absent where it will not be.",
            &|watched| watched.forecast.and_then(|forecast| forecast.days_until_full),
        );
        gauge(
            "sira_scrub_bytes_total",
            Kind::Counter,
            "Bytes that were read again to see whether they verify.",
            &|watched| Some(watched.scrubbed_bytes as f64),
        );
        gauge(
            "sira_scrub_damaged",
            Kind::Gauge,
            "Places that do not verify, as of the last passes of the scrub; at most 100 are counted.",
            &|watched| Some(watched.kept.remembered.integrity.damaged.len() as f64),
        );
        gauge(
            "sira_scrub_last_pass_timestamp_seconds",
            Kind::Gauge,
            "When the last whole pass of the scrub ended, since the Unix epoch; absent before the first.",
            &|watched| {
                let ended = watched.kept.remembered.integrity.pass_ended_ms;
                ended.map(|ms| ms as f64 / 1e3)
            },
        );
        drop(watched);
        let Some(marks) = marks else { return };
        let help = "Age of the last backup that succeeded, and of the last that was verified.";
        out.family("sira_health_backup_age_seconds", Kind::Gauge, help);
        for (kind, at) in [("success", marks.last_success_ms), ("verified", marks.last_verified_ms)]
        {
            if let Some(at) = at {
                let age = now_ms.saturating_sub(at) as f64 / 1e3;
                out.sample(&[("kind", kind)], age);
            }
        }
    }
}
