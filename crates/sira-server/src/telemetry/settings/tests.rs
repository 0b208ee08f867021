use super::*;

fn read(variables: &[(&str, &str)]) -> Result<Settings, SettingError> {
    Settings::read(|name| {
        variables.iter().find(|(known, _)| *known == name).map(|(_, text)| (*text).to_owned())
    })
}

fn refused(name: &str, text: &str) -> SettingError {
    read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318"), (name, text)]).unwrap_err()
}

#[test]
fn nothing_is_exported_unless_an_endpoint_or_exporter_says_so() {
    for variables in [
        &[][..],
        &[("OTEL_SERVICE_NAME", "s"), ("OTEL_TRACES_SAMPLER", "always_on")],
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")],
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:1"), ("OTEL_SDK_DISABLED", "true")],
        &[("OTEL_TRACES_EXPORTER", "none"), ("OTEL_METRICS_EXPORTER", "prometheus")],
    ] {
        assert!(read(variables).unwrap().is_off(), "{variables:?}");
    }
    let settings = read(&[("OTEL_TRACES_EXPORTER", "otlp")]).unwrap();
    assert!(settings.metrics.is_none());
    assert_eq!(settings.traces.unwrap().to.url.as_str(), "http://localhost:4318/v1/traces");
}

#[test]
fn a_signal_has_variables_of_its_own() {
    let settings = read(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://all:4318/otlp/"),
        ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "https://own:1/m"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20x, tenant=a"),
        ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "250"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "5000"),
        ("OTEL_PROPAGATORS", "baggage"),
        ("OTEL_RESOURCE_ATTRIBUTES", "a=b, service.name=mine"),
    ])
    .unwrap();
    let (traces, metrics) = (settings.traces.unwrap(), settings.metrics.unwrap());
    assert_eq!(traces.to.url.as_str(), "http://all:4318/otlp/v1/traces");
    assert_eq!(metrics.to.url.as_str(), "https://own:1/m");
    assert_eq!(traces.to.headers[0].1.to_str().unwrap(), "Bearer x");
    assert_eq!(traces.to.headers[1].0.as_str(), "tenant");
    assert_eq!(traces.to.timeout, Duration::from_millis(250));
    assert_eq!(metrics.to.timeout, TIMEOUT);
    assert_eq!(metrics.interval, Duration::from_secs(5));
    assert!(!traces.propagate && settings.names_service);
    assert!(!format!("{traces:?}").contains("Bearer"), "{traces:?}");
}

#[test]
fn samplers_are_those_of_the_specification() {
    let sampler = |text: &str, ratio: &str| {
        let variables = [
            ("OTEL_TRACES_EXPORTER", "otlp"),
            ("OTEL_TRACES_SAMPLER", text),
            ("OTEL_TRACES_SAMPLER_ARG", ratio),
        ];
        format!("{:?}", read(&variables).unwrap().traces.unwrap().sampler)
    };
    assert_eq!(sampler("", ""), "ParentBased(AlwaysOn)");
    assert_eq!(sampler("always_off", ""), "AlwaysOff");
    assert_eq!(sampler("parentbased_traceidratio", "0.25"), "ParentBased(TraceIdRatioBased(0.25))");
}

#[test]
fn what_cannot_be_followed_is_named_and_secrets_are_not() {
    for (name, text, part) in [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "http/json", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip", "none"),
        ("OTEL_TRACES_EXPORTER", "zipkin", "otlp"),
        ("OTEL_TRACES_SAMPLER", "jaeger_remote", "traceidratio"),
        ("OTEL_PROPAGATORS", "b3", "tracecontext"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "many", "whole number"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "0", "whole number"),
        ("OTEL_SDK_DISABLED", "perhaps", "true or false"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "secret", "NAME=VALUE"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "host/secret", "http://"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://u:secret@host", "_HEADERS"),
    ] {
        let error = refused(name, text).to_string();
        assert!(error.starts_with(&format!("{name}: ")) && error.contains(part), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
    let variables = [
        ("OTEL_TRACES_EXPORTER", "otlp"),
        ("OTEL_TRACES_SAMPLER", "traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "2"),
    ];
    assert_eq!(read(&variables).unwrap_err().variable, "OTEL_TRACES_SAMPLER_ARG");
}
