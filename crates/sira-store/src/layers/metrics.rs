//! Figures of backends: how often, how fast, how much, and what failed.

mod collector;
pub mod families;
pub mod histogram;
mod recorder;
mod tally;

pub use collector::MetricsCollector;
pub use families::{MetricFamilies, MetricFamily, MetricKind};
pub use recorder::{BackendMetrics, Figures, OperationFigures, StorageMetrics};
pub use tally::{NamespaceFigures, NamespaceTally};

use super::around::Layered;

/// A backend whose operations are counted. Namespaces count with their backend.
pub type MetricsLayer = Layered<BackendMetrics>;
