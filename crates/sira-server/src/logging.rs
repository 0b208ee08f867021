//! Log lines on standard error.

use std::fmt;
use std::io::IsTerminal;

use opentelemetry::trace::TraceContextExt;
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{Format, Json, JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::config::LogFormat;
use crate::telemetry::Telemetry;

/// Writes the process' log to standard error in this format, and hands spans to `telemetry`.
/// `filter` is a list of directives such as `info,sira_server=debug`; one that cannot be read falls
/// back to `info`. It is about log lines only, not about what is exported. Does nothing when a log
/// is already set up.
pub fn init(format: LogFormat, filter: &str, telemetry: &Telemetry) {
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let registry = tracing_subscriber::registry();
    let result = match telemetry.layer() {
        Some(spans) => registry.with(lines(format).with_filter(filter)).with(spans).try_init(),
        // A filter of all layers: what it turns off is never asked about again.
        None => registry.with(filter).with(lines(format)).try_init(),
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a log is already set up");
    }
}

fn lines<S>(format: LogFormat) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines
            .fmt_fields(JsonFields::new())
            .event_format(TracedJson(Format::default().json().flatten_event(true)))
            .with_ansi(false)
            .boxed(),
    }
}

/// JSON lines that name the span of OpenTelemetry that they are written in.
struct TracedJson(Format<Json>);

impl<S, N> FormatEvent<S, N> for TracedJson
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let current = opentelemetry::Context::current();
        let span = current.span().span_context().clone();
        if !span.is_valid() {
            return self.0.format_event(context, writer, event);
        }
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        let rest = line.strip_prefix('{').unwrap_or(&line);
        write!(
            writer,
            "{{\"trace_id\":\"{}\",\"span_id\":\"{}\",{rest}",
            span.trace_id(),
            span.span_id()
        )
    }
}
