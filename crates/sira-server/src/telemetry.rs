//! Spans and metrics, exported to a collector by OTLP, as the standard variables `OTEL_*` say.
//!
//! Without them nothing here runs: there is no thread, no task and no span. The collector is never
//! waited for: what it does not take is dropped.

mod metrics;
mod sender;
mod settings;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry::{KeyValue, global};
use opentelemetry_otlp::{WithExportConfig, WithHttpConfig};
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{BatchSpanProcessor, SdkTracerProvider};
use parking_lot::Mutex;
use sira_store::env::Env;
use sira_store::layers::trace::SPAN_TARGET;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

use metrics::MetricsExport;
use sender::{Reported, Reporter, Sender};
pub use settings::{Endpoint, MetricSettings, SettingError, Settings, TraceSettings};

use crate::server::MetricsSource;

/// Name of the service where the variables give none.
const SERVICE: &str = "sira";

/// What exports.
#[derive(Default)]
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
    metrics: Option<Arc<MetricsExport>>,
    exported: Mutex<Option<(MetricsSource, JoinHandle<()>)>>,
    runtime: Option<Handle>,
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry")
            .field("traces", &self.traces.is_some())
            .field("metrics", &self.metrics.is_some())
            .finish()
    }
}

impl Telemetry {
    /// Sets up what is exported; the exchanges with the collector run on `runtime`.
    ///
    /// # Errors
    /// What keeps an exporter from being made, under the name of the variables it comes from.
    pub fn start(
        settings: &Settings,
        env: Arc<dyn Env>,
        runtime: Handle,
    ) -> Result<Self, SettingError> {
        if settings.is_off() {
            return Ok(Self::default());
        }
        let resource = resource(settings, &*env);
        let reporter = Reporter::new(Arc::clone(&env));
        let sender = |to: &Endpoint| {
            let _runtime = runtime.enter();
            Sender::new(to.timeout, runtime.clone()).map_err(failure)
        };
        let traces = match &settings.traces {
            Some(traces) => {
                let exporter = exporter(&traces.to, sender(&traces.to)?)?;
                let reported = Reported { exporter, reporter: reporter.clone() };
                if traces.propagate {
                    global::set_text_map_propagator(TraceContextPropagator::new());
                }
                let provider = SdkTracerProvider::builder()
                    .with_resource(resource.clone())
                    .with_sampler(traces.sampler.clone())
                    .with_span_processor(BatchSpanProcessor::builder(reported).build());
                Some(provider.build())
            }
            None => None,
        };
        let metrics = match &settings.metrics {
            Some(metrics) => Some(Arc::new(MetricsExport {
                settings: metrics.clone(),
                sender: sender(&metrics.to)?,
                reporter,
                resource: opentelemetry_proto::tonic::resource::v1::Resource {
                    attributes: ResourceAttributesWithSchema::from(&resource).attributes.0,
                    ..Default::default()
                },
                begun: Duration::from_millis(env.now_ms()),
                env,
            })),
            None => None,
        };
        Ok(Self { traces, metrics, exported: Mutex::default(), runtime: Some(runtime) })
    }

    /// The layer that makes spans of OpenTelemetry of the program's own, where they are exported.
    pub fn layer<S>(&self) -> Option<impl Layer<S> + use<S>>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let tracer = self.traces.as_ref()?.tracer(SERVICE);
        let layer = tracing_opentelemetry::layer()
            .with_tracer(tracer)
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_level(false)
            .with_tracked_inactivity(false);
        // No events: the texts of errors name keys.
        Some(layer.with_filter(filter_fn(|metadata| {
            metadata.is_span() && metadata.target() == SPAN_TARGET
        })))
    }

    /// Exports a server's metrics from now on, where they are exported. Only the first call counts.
    pub fn export_metrics(&self, source: MetricsSource) {
        let (Some(metrics), Some(runtime)) = (&self.metrics, &self.runtime) else { return };
        let mut exported = self.exported.lock();
        if exported.is_none() {
            let task = runtime.spawn(Arc::clone(metrics).run(source.clone()));
            *exported = Some((source, task));
        }
    }

    /// Sends what is left, for up to `within`, and ends. To be called outside of the runtime, while
    /// that still runs.
    pub fn shutdown(self, within: Duration) {
        let exported = self.exported.into_inner();
        if let (Some(metrics), Some((source, task)), Some(runtime)) =
            (self.metrics, exported, self.runtime)
        {
            task.abort();
            // Late metrics are dropped, as all that a collector does not take.
            let _ = runtime
                .block_on(async { tokio::time::timeout(within / 2, metrics.once(&source)).await });
        }
        if let Some(traces) = self.traces {
            // The exporter has told why, if there is a why.
            let _ = traces.shutdown_with_timeout(within / 2);
        }
    }
}

fn exporter(
    to: &Endpoint,
    sender: Sender,
) -> Result<opentelemetry_otlp::SpanExporter, SettingError> {
    let headers = to.headers.iter().filter_map(|(name, value)| {
        Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
    });
    opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_http_client(sender)
        .with_endpoint(to.url.as_str())
        .with_headers(headers.collect())
        .with_timeout(to.timeout)
        .build()
        .map_err(failure)
}

fn failure(error: impl std::error::Error) -> SettingError {
    SettingError::new("OTEL_EXPORTER_OTLP_*", format!("the exporter cannot be made: {error}"))
}

/// Who sends: what the variables say, and what they leave out.
fn resource(settings: &Settings, env: &dyn Env) -> Resource {
    let instance = format!("{:016x}{:016x}", env.random_u64(), env.random_u64());
    let own = [
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("service.instance.id", instance),
    ];
    let resource = Resource::builder();
    let resource = match settings.names_service {
        true => resource,
        false => resource.with_service_name(SERVICE),
    };
    resource.with_attributes(own).build()
}
