//! The variables `OTEL_*`, read.

use std::fmt;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use opentelemetry_sdk::trace::Sampler;
use percent_encoding::percent_decode_str;
use reqwest::Url;
use thiserror::Error;

/// Where an exporter sends to when no variable says so.
const ENDPOINT: &str = "http://localhost:4318";

/// How long one export may take, and how often metrics are sent, when no variable says so.
const TIMEOUT: Duration = Duration::from_secs(10);
const INTERVAL: Duration = Duration::from_secs(60);

/// Variables of the queue of spans, which hold numbers. The SDK reads them itself and passes over
/// what is none.
const QUEUE: [&str; 4] = [
    "OTEL_BSP_SCHEDULE_DELAY",
    "OTEL_BSP_MAX_QUEUE_SIZE",
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
    "OTEL_BSP_EXPORT_TIMEOUT",
];

/// A variable of the environment that cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{variable}: {message}")]
pub struct SettingError {
    /// Its name.
    pub variable: String,
    /// What is wrong with it, and what to write.
    pub message: String,
}

impl SettingError {
    pub(super) fn new(variable: impl Into<String>, message: impl Into<String>) -> Self {
        Self { variable: variable.into(), message: message.into() }
    }
}

/// What is exported, and where to.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Spans.
    pub traces: Option<TraceSettings>,
    /// Metrics.
    pub metrics: Option<MetricSettings>,
    /// Whether the resource's attributes name a service.
    pub(super) names_service: bool,
}

/// How spans are exported.
#[derive(Debug, Clone)]
pub struct TraceSettings {
    /// Where to.
    pub to: Endpoint,
    /// Which ones.
    pub sampler: Sampler,
    /// Whether requests belong to the trace that their `traceparent` names.
    pub propagate: bool,
}

/// How metrics are exported.
#[derive(Debug, Clone)]
pub struct MetricSettings {
    /// Where to.
    pub to: Endpoint,
    /// How often.
    pub interval: Duration,
}

/// A place that takes OTLP over HTTP.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The address, with the path of the signal.
    pub url: Url,
    /// What to send along; may hold secrets.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// How long one export may take.
    pub timeout: Duration,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&HeaderName> = self.headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("Endpoint")
            .field("host", &self.url.host_str())
            .field("headers", &names)
            .field("timeout", &self.timeout)
            .finish()
    }
}

impl Settings {
    /// Reads the standard variables, each by `variable`. Nothing is exported unless one of the
    /// variables of endpoints or exporters says so.
    ///
    /// # Errors
    /// The first variable that cannot be followed.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, SettingError> {
        let variables = Variables(&|name| variable(name).filter(|text| !text.trim().is_empty()));
        match variables.get("OTEL_SDK_DISABLED").as_deref() {
            Some(text) if text.eq_ignore_ascii_case("true") => return Ok(Self::default()),
            Some(text) if !text.eq_ignore_ascii_case("false") => {
                return Err(SettingError::new("OTEL_SDK_DISABLED", "write true or false"));
            }
            _ => {}
        }
        let traces = match variables.wants("TRACES", &["otlp", "none"])? {
            true => Some(variables.traces()?),
            false => None,
        };
        let metrics = match variables.wants("METRICS", &["otlp", "prometheus", "none"])? {
            true => Some(MetricSettings {
                to: variables.endpoint("METRICS")?,
                interval: variables.ms("OTEL_METRIC_EXPORT_INTERVAL")?.unwrap_or(INTERVAL),
            }),
            false => None,
        };
        let attributes = variables.get("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
        let names_service = variables.get("OTEL_SERVICE_NAME").is_some()
            || attributes.split(',').any(|pair| pair.trim_start().starts_with("service.name="));
        Ok(Self { traces, metrics, names_service })
    }

    /// Whether nothing is exported.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.traces.is_none() && self.metrics.is_none()
    }
}

struct Variables<'a>(&'a dyn Fn(&str) -> Option<String>);

impl Variables<'_> {
    fn get(&self, name: &str) -> Option<String> {
        (self.0)(name).map(|text| text.trim().to_owned())
    }

    /// The variable of a signal, else that of all signals, with the name of the one that is set.
    fn of(&self, signal: &str, rest: &str) -> Option<(String, String)> {
        [format!("OTEL_EXPORTER_OTLP_{signal}_{rest}"), format!("OTEL_EXPORTER_OTLP_{rest}")]
            .into_iter()
            .find_map(|name| self.get(&name).map(|text| (name, text)))
    }

    /// Whether a signal is exported.
    fn wants(&self, signal: &str, exporters: &[&str]) -> Result<bool, SettingError> {
        let name = format!("OTEL_{signal}_EXPORTER");
        match self.get(&name) {
            None => Ok(self.of(signal, "ENDPOINT").is_some()),
            Some(text) if text == "otlp" => Ok(true),
            // Prometheus finds the metrics at /metrics, whatever is exported.
            Some(text) if exporters.contains(&text.as_str()) => Ok(false),
            Some(text) => Err(SettingError::new(
                name,
                format!("there is no exporter {text:?}; write {}", exporters.join(" or ")),
            )),
        }
    }

    fn traces(&self) -> Result<TraceSettings, SettingError> {
        for name in QUEUE {
            self.number(name)?;
        }
        Ok(TraceSettings {
            to: self.endpoint("TRACES")?,
            sampler: self.sampler()?,
            propagate: self.propagate()?,
        })
    }

    fn endpoint(&self, signal: &str) -> Result<Endpoint, SettingError> {
        if let Some((name, protocol)) = self.of(signal, "PROTOCOL")
            && protocol != "http/protobuf"
        {
            let message = format!("{protocol:?} is not spoken here; write http/protobuf");
            return Err(SettingError::new(name, message));
        }
        if let Some((name, compression)) = self.of(signal, "COMPRESSION")
            && compression != "none"
        {
            let message = format!("{compression:?} is not done here; write none");
            return Err(SettingError::new(name, message));
        }
        let timeout = match self.of(signal, "TIMEOUT") {
            Some((name, _)) => self.ms(&name)?.unwrap_or(TIMEOUT),
            None => TIMEOUT,
        };
        Ok(Endpoint { url: self.url(signal)?, headers: self.headers(signal)?, timeout })
    }

    fn url(&self, signal: &str) -> Result<Url, SettingError> {
        let own = format!("OTEL_EXPORTER_OTLP_{signal}_ENDPOINT");
        let all = "OTEL_EXPORTER_OTLP_ENDPOINT".to_owned();
        let (name, text) = match (self.get(&own), self.get(&all)) {
            // The address of one signal is taken as it is.
            (Some(text), _) => (own, text),
            (None, text) => {
                let base = text.unwrap_or_else(|| ENDPOINT.to_owned());
                let path = signal.to_ascii_lowercase();
                (all, format!("{}/v1/{path}", base.trim_end_matches('/')))
            }
        };
        Url::parse(&text)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .filter(|url| url.username().is_empty() && url.password().is_none())
            // Never the text: an address may hold a password.
            .ok_or_else(|| {
                SettingError::new(
                    name,
                    "write an address such as http://localhost:4318, and credentials to \
                     OTEL_EXPORTER_OTLP_HEADERS",
                )
            })
    }

    fn headers(&self, signal: &str) -> Result<Vec<(HeaderName, HeaderValue)>, SettingError> {
        let Some((name, text)) = self.of(signal, "HEADERS") else { return Ok(Vec::new()) };
        let pair = |pair: &str| {
            let (key, value) = pair.split_once('=')?;
            let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
            let mut value = HeaderValue::from_str(&value).ok()?;
            value.set_sensitive(true);
            Some((key.trim().parse().ok()?, value))
        };
        let pairs = text.split(',').filter(|pair| !pair.trim().is_empty()).map(pair);
        pairs
            .collect::<Option<_>>()
            // Never the text: headers hold secrets.
            .ok_or_else(|| SettingError::new(name, "write NAME=VALUE,NAME=VALUE"))
    }

    fn sampler(&self) -> Result<Sampler, SettingError> {
        let name = "OTEL_TRACES_SAMPLER";
        let text = self.get(name);
        let text = text.as_deref().unwrap_or("parentbased_always_on");
        let root = match text.strip_prefix("parentbased_").unwrap_or(text) {
            "always_on" => Sampler::AlwaysOn,
            "always_off" => Sampler::AlwaysOff,
            "traceidratio" => Sampler::TraceIdRatioBased(self.ratio()?),
            _ => {
                let message = format!(
                    "there is no sampler {text:?}; write always_on, always_off or traceidratio, \
                     or one of them after parentbased_"
                );
                return Err(SettingError::new(name, message));
            }
        };
        Ok(match text.starts_with("parentbased_") {
            true => Sampler::ParentBased(Box::new(root)),
            false => root,
        })
    }

    fn ratio(&self) -> Result<f64, SettingError> {
        let name = "OTEL_TRACES_SAMPLER_ARG";
        let Some(text) = self.get(name) else { return Ok(1.0) };
        let ratio = text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
        ratio.ok_or_else(|| SettingError::new(name, "write a number from 0 to 1"))
    }

    fn propagate(&self) -> Result<bool, SettingError> {
        let name = "OTEL_PROPAGATORS";
        let text = self.get(name).unwrap_or_else(|| "tracecontext,baggage".to_owned());
        let names: Vec<&str> = text.split(',').map(str::trim).collect();
        // Baggage is for the services that this one would call, and there are none.
        let known = |name: &&&str| matches!(**name, "tracecontext" | "baggage" | "none");
        if let Some(unknown) = names.iter().find(|name| !known(name)) {
            let message = format!("{unknown:?} is not understood here; write tracecontext or none");
            return Err(SettingError::new(name, message));
        }
        Ok(names.contains(&"tracecontext"))
    }

    fn ms(&self, name: &str) -> Result<Option<Duration>, SettingError> {
        Ok(self.number(name)?.map(Duration::from_millis))
    }

    fn number(&self, name: &str) -> Result<Option<u64>, SettingError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let number = text.parse().ok().filter(|number| *number > 0);
        number.map(Some).ok_or_else(|| SettingError::new(name, "write a whole number above 0"))
    }
}

#[cfg(test)]
mod tests;
