//! serve with a collector of OpenTelemetry, with one that does not answer, and with none; alerts.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use sira_store::env::{Env, SystemEnv};

use crate::support::Server;

fn env(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: run scripts/services up and eval \"$(scripts/services env)\"")
    })
}

const ROUTE: &str = "/v1/{namespace}/{*key}";

fn id(halves: usize) -> String {
    (0..halves).map(|_| format!("{:016x}", SystemEnv.random_u64() | 1)).collect()
}

/// A server whose log lines are kept as JSON.
struct Fixture {
    folder: tempfile::TempDir,
    server: Server,
}

impl Fixture {
    fn start(variables: &[(&str, &str)], config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sira.toml");
        fs::write(&file, config).unwrap();
        let log = File::create(folder.path().join("log")).unwrap();
        let server = Server::start_with(&folder.path().join("root"), |command| {
            command.args(["--log-format", "json", "--config"]).arg(&file).stderr(log);
            command.envs(variables.iter().copied());
        });
        Self { folder, server }
    }

    fn configure(&self, config: &str) {
        fs::write(self.folder.path().join("sira.toml"), config).unwrap();
        self.server.signal(Signal::HUP);
    }

    /// Sends a request; the status of the answer, and all of it.
    fn request(&self, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
        let mut stream =
            TcpStream::connect(self.server.http.trim_start_matches("http://")).unwrap();
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n{headers}\
             content-length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        (answer["HTTP/1.1 ".len()..][..3].parse().unwrap(), answer)
    }

    /// Asks for the metrics until they hold what they should.
    fn await_metrics(&self, right: impl Fn(&str) -> bool) {
        let mut metrics = String::new();
        for _ in 0..1200 {
            metrics = self.request("GET", "/metrics", "", "").1;
            if right(&metrics) {
                return;
            }
            sleep();
        }
        panic!("{metrics}");
    }

    fn log(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.folder.path().join("log")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Names of the server's threads.
    fn threads(&self) -> Vec<String> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.server.child.id())).unwrap();
        let name = |task: PathBuf| fs::read_to_string(task.join("comm")).unwrap_or_default();
        tasks.map(|task| name(task.unwrap().path())).collect()
    }

    /// Ends the server, and gives its log.
    fn stop(mut self) -> Vec<Value> {
        self.server.signal(Signal::TERM);
        assert_eq!(self.server.child.wait().unwrap().code(), Some(0));
        self.log()
    }
}

#[allow(clippy::disallowed_methods, reason = "the server is another process")]
fn sleep() {
    std::thread::sleep(Duration::from_millis(50));
}

/// What the collector wrote to a file about a trace or a service.
fn collected(file: &str, about: &str) -> Vec<Value> {
    let path = Path::new(&env("SIRA_TEST_OTELCOL_FOLDER")).join(file);
    let text = fs::read_to_string(path).unwrap_or_default();
    // The last line may be under way.
    let lines = text.lines().filter(|line| line.contains(about));
    lines.filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// All that lies below members of these names, one after the other.
fn below<'a>(value: &'a Value, names: &[&str]) -> Vec<&'a Value> {
    let Some((name, rest)) = names.split_first() else { return vec![value] };
    let items = value[name].as_array().into_iter().flatten();
    items.flat_map(|item| below(item, rest)).collect()
}

fn attribute<'a>(of: &'a Value, name: &str) -> Option<&'a str> {
    let found = of["attributes"].as_array()?.iter().find(|pair| pair["key"] == name)?;
    let value = &found["value"];
    value["stringValue"].as_str().or_else(|| value["intValue"].as_str())
}

/// The spans of a trace, with the name of the service that sent them, once these are there.
fn spans(trace: &str, wanted: &[&str]) -> Vec<(String, Value)> {
    let mut spans = Vec::new();
    for _ in 0..600 {
        spans.clear();
        for line in collected("traces.json", trace) {
            for sent in below(&line, &["resourceSpans"]) {
                let service = attribute(&sent["resource"], "service.name").unwrap_or_default();
                for span in below(sent, &["scopeSpans", "spans"]) {
                    if span["traceId"] == trace {
                        spans.push((service.to_owned(), span.clone()));
                    }
                }
            }
        }
        if wanted.iter().all(|name| spans.iter().any(|(_, span)| span["name"] == *name)) {
            return spans;
        }
        sleep();
    }
    panic!("not all of {wanted:?} are in {spans:#?}");
}

#[test]
fn spans_and_metrics_reach_a_collector() {
    let (service, trace, caller) = (format!("sira-{}", id(1)), id(2), id(1));
    let fixture = Fixture::start(
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &env("SIRA_TEST_OTLP_ENDPOINT")),
            ("OTEL_SERVICE_NAME", &service),
            ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test"),
        ],
        "[storage.monitoring]\nslow_operation = \"0s\"\n",
    );
    let parent = format!("traceparent: 00-{trace}-{caller}-01\r\n");
    let put = format!("{parent}x-request-id: put-1\r\n");
    let (status, answer) = fixture.request("PUT", "/v1/tenant/secret-key", &put, "12345");
    assert!(status == 201 && answer.contains("x-request-id: put-1\r\n"), "{answer}");
    assert_eq!(fixture.request("GET", "/v1/tenant/secret-key", &parent, "").0, 200);
    let other = format!("{parent}if-match: \"0000000000000001\"\r\n");
    assert_eq!(fixture.request("DELETE", "/v1/tenant/secret-key", &other, "").0, 412);
    // A caller that does not sample its trace keeps it out of this service too.
    let quiet = id(2);
    let unsampled = format!("traceparent: 00-{quiet}-{caller}-00\r\n");
    assert_eq!(fixture.request("GET", "/v1/tenant/secret-key", &unsampled, "").0, 200);
    // What is not sent yet is sent on the way out.
    let log = fixture.stop();

    let wanted = ["put tenant", "read tenant", "remove tenant"];
    let requests = ["PUT", "GET", "DELETE"].map(|method| format!("{method} {ROUTE}"));
    let wanted: Vec<&str> = wanted.into_iter().chain(requests.iter().map(String::as_str)).collect();
    let spans = spans(&trace, &wanted);
    assert!(spans.iter().all(|(of, _)| *of == service), "{spans:?}");
    let find = |name: &str| -> &Value {
        let mut found = spans.iter().filter(|(_, span)| span["name"] == name);
        let span = &found.next().unwrap_or_else(|| panic!("no {name} in {spans:#?}")).1;
        assert!(found.next().is_none(), "{name} is there twice: {spans:#?}");
        span
    };
    for (method, status) in [("PUT", "201"), ("GET", "200"), ("DELETE", "412")] {
        let request = find(&format!("{method} {ROUTE}"));
        assert_eq!(request["parentSpanId"], *caller, "{request:#}");
        assert_eq!(request["kind"], 2, "{request:#}");
        assert_eq!(attribute(request, "http.request.method"), Some(method));
        assert_eq!(attribute(request, "http.route"), Some(ROUTE));
        assert_eq!(attribute(request, "http.response.status_code"), Some(status));
        assert!(request["status"].get("code").is_none(), "{request:#}");
    }
    let request = find(&format!("PUT {ROUTE}"));
    assert_eq!(attribute(request, "sira.request.id"), Some("put-1"));
    for (name, method, bytes) in [("put tenant", "PUT", "5"), ("read tenant", "GET", "5")] {
        let operation = find(name);
        let request = find(&format!("{method} {ROUTE}"));
        assert_eq!(operation["parentSpanId"], request["spanId"], "{operation:#}");
        assert_eq!(attribute(operation, "db.system.name"), Some("sira"));
        assert_eq!(attribute(operation, "db.namespace"), Some("tenant"));
        assert_eq!(attribute(operation, "sira.backend"), Some("embedded"));
        assert_eq!(attribute(operation, "sira.value.bytes"), Some(bytes));
    }
    let refused = find("remove tenant");
    assert_eq!(refused["status"]["code"], 2, "{refused:#}");
    assert_eq!(attribute(refused, "error.type"), Some("precondition_failed"));
    assert!(!format!("{spans:?}").contains("secret-key"), "{spans:#?}");
    assert!(self::spans(&quiet, &[]).is_empty());

    let slow =
        log.iter().find(|line| line["message"] == "slow operation" && line["operation"] == "put");
    let slow = slow.unwrap_or_else(|| panic!("{log:#?}"));
    assert_eq!(slow["trace_id"], *trace, "{slow}");
    assert_eq!(slow["span_id"], find("put tenant")["spanId"]);
    assert_eq!((&slow["request_id"], &slow["namespace"]), (&"put-1".into(), &"tenant".into()));
    assert_eq!((&slow["level"], &slow["backend"]), (&"WARN".into(), &"embedded".into()));

    await_metrics_of(&service);
}

/// Waits for a service's metrics, and looks at them.
fn await_metrics_of(service: &str) {
    for _ in 0..600 {
        for line in collected("metrics.json", service) {
            for sent in below(&line, &["resourceMetrics"]) {
                let resource = &sent["resource"];
                if attribute(resource, "service.name") != Some(service) {
                    continue;
                }
                assert_eq!(attribute(resource, "deployment.environment.name"), Some("test"));
                let metrics = below(sent, &["scopeMetrics", "metrics"]);
                let find = |name: &str| {
                    *metrics.iter().find(|metric| metric["name"] == name).unwrap_or_else(|| {
                        panic!("no {name} in {metrics:#?}");
                    })
                };
                let operations = &find("sira_backend_operations_total")["sum"];
                assert_eq!(operations["isMonotonic"], true);
                let puts = below(operations, &["dataPoints"]).into_iter().find(|point| {
                    attribute(point, "backend") == Some("embedded")
                        && attribute(point, "operation") == Some("put")
                        && attribute(point, "outcome") == Some("success")
                });
                assert_eq!(puts.unwrap()["asDouble"], 1.0, "{operations:#}");
                let times = find("sira_http_request_duration_seconds");
                assert_eq!(times["unit"], "s");
                let times = below(&times["histogram"], &["dataPoints"]);
                let gets = times.iter().find(|point| attribute(point, "method") == Some("GET"));
                assert_eq!(gets.unwrap()["count"], "2", "{times:#?}");
                return;
            }
        }
        sleep();
    }
    panic!("no metrics of {service}");
}

#[test]
fn a_collector_that_does_not_answer_keeps_nobody_waiting() {
    // One takes the connection and is silent, at the other's address nobody listens.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for address in [silent.local_addr().unwrap(), closed] {
        let fixture = Fixture::start(
            &[
                ("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://{address}")),
                ("OTEL_EXPORTER_OTLP_TIMEOUT", "200"),
                ("OTEL_BSP_SCHEDULE_DELAY", "20"),
                ("OTEL_BSP_MAX_QUEUE_SIZE", "64"),
                ("OTEL_METRIC_EXPORT_INTERVAL", "20"),
            ],
            "",
        );
        assert!(fixture.threads().iter().any(|name| name.starts_with("OpenTelemetry")));
        let told = |log: &[Value]| {
            let of = |line: &&Value| line["message"].as_str().unwrap_or("").contains("collector");
            log.iter().filter(of).count()
        };
        // More than the queue holds, for as long as it takes to fail for the first time and beyond.
        let mut after = 0;
        for at in 0..10_000 {
            let path = format!("/v1/tenant/{}", at % 100);
            assert!(fixture.request("PUT", &path, "", "v").0 < 300);
            assert_eq!(fixture.request("GET", &path, "", "").0, 200);
            after += told(&fixture.log());
            if after > 200 {
                break;
            }
        }
        assert_eq!(told(&fixture.stop()), 1);
    }
}

#[test]
fn without_variables_nothing_is_exported_and_there_are_no_spans() {
    let parent = format!("traceparent: 00-{}-{}-01\r\n", id(2), id(1));
    for variables in [
        &[("OTEL_SERVICE_NAME", "quiet")][..],
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9"), ("OTEL_SDK_DISABLED", "true")],
    ] {
        let config = "[storage.monitoring]\nslow_operation = \"0s\"\n";
        let fixture = Fixture::start(variables, config);
        assert_eq!(fixture.request("PUT", "/v1/tenant/k", &parent, "v").0, 201);
        let threads = fixture.threads();
        assert!(!threads.iter().any(|name| name.starts_with("OpenTelemetry")), "{threads:?}");
        let log = fixture.stop();
        let slow = log.iter().find(|line| line["message"] == "slow operation");
        let slow = slow.unwrap_or_else(|| panic!("{log:#?}"));
        for member in ["trace_id", "span_id", "span", "spans"] {
            assert!(slow.get(member).is_none(), "{slow}");
        }
    }
}

#[test]
fn variables_that_cannot_be_followed_keep_the_server_from_starting() {
    let root = tempfile::tempdir().unwrap();
    let mut command = crate::support::sira();
    command.args(["serve", "--root"]).arg(root.path());
    command.env("OTEL_TRACES_EXPORTER", "otlp").env("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
    let ran = crate::support::run(&mut command).exits(2);
    assert!(ran.stderr.contains("OTEL_EXPORTER_OTLP_PROTOCOL: \"grpc\""), "{}", ran.stderr);
    assert!(ran.stderr.contains("http/protobuf"), "{}", ran.stderr);
}

#[test]
fn alerts_fire_and_follow_the_configuration() {
    let alerts = "[storage.monitoring]\ninterval = \"1s\"\n[storage.monitoring.alerts]\n";
    let full = format!("{alerts}storage_full_percent = 0\n");
    let fixture = Fixture::start(&[], &full);
    let gauge = "sira_alert_firing{alert=\"storage_full_percent\",backend=\"embedded\"}";
    assert_eq!(fixture.request("PUT", "/v1/tenant/k", "", "v").0, 201);
    fixture.await_metrics(|text| text.contains(&format!("{gauge} 1\n")));
    fixture.configure(&full.replace("= 0", "= 100"));
    fixture.await_metrics(|text| text.contains(&format!("{gauge} 0\n")));
    fixture.configure("");
    fixture.await_metrics(|text| !text.contains("sira_alert_firing"));
    let told: Vec<(Value, Value)> = fixture
        .stop()
        .into_iter()
        .filter(|line| line["alert"] == "storage_full_percent")
        .map(|line| (line["level"].clone(), line["backend"].clone()))
        .collect();
    assert_eq!(told, [("WARN".into(), "embedded".into()), ("INFO".into(), "embedded".into())]);
}
