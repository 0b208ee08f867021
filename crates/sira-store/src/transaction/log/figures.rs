//! What came of transactions over several backends, as metrics.

use super::TransactionFigures;
use crate::layers::MetricFamilies;
use crate::layers::metrics::MetricKind;

impl TransactionFigures {
    /// Writes the figures as metric families.
    pub fn write(&self, out: &mut MetricFamilies) {
        let mut family = |name: &str, kind: MetricKind, help: &str, value: u64| {
            out.family(name, kind, help);
            out.sample(&[], value as f64);
        };
        family(
            "sira_transactions_committed_total",
            MetricKind::Counter,
            "Transactions over several backends that were committed.",
            self.committed,
        );
        family(
            "sira_transactions_applied_total",
            MetricKind::Counter,
            "Those that all of their backends hold.",
            self.applied,
        );
        family(
            "sira_transactions_retries_total",
            MetricKind::Counter,
            "Writes of committed transactions that a backend did not take and that were tried again.",
            self.retries,
        );
        family(
            "sira_transactions_overtaken_keys_total",
            MetricKind::Counter,
            "Keys of committed transactions that another process had written meanwhile.",
            self.overtaken,
        );
        family(
            "sira_transactions_pending",
            MetricKind::Gauge,
            "Committed transactions that their backends do not hold yet; reads see them.",
            self.pending,
        );
        family(
            "sira_transactions_pending_bytes",
            MetricKind::Gauge,
            "Bytes of those.",
            self.pending_bytes,
        );
    }
}
