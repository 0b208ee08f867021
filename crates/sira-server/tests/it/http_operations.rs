use std::collections::BTreeSet;
use std::time::Duration;

use reqwest::{Client, Method};
use serde_json::Value;
use sira_server::{Secret, Server, ServerError};
use sira_store::embedded::{Engine, EngineOptions};
use tokio::io::AsyncWriteExt;

use crate::support::{config, problem, read_all, read_answer, start, start_with};

#[tokio::test]
async fn a_token_is_demanded_everywhere_but_by_probes() {
    let mut config = config();
    config.token = Some(Secret::new("s3cret"));
    let s = start_with(config).await;
    for path in ["/livez", "/readyz", "/readyz?verbose", "/healthz"] {
        assert_eq!(s.get(path).await.status(), 200, "{path}");
    }
    for path in ["/v1", "/v1/ns", "/v1/ns/k", "/api/data/k", "/metrics", "/openapi.json", "/none"] {
        let answer = s.get(path).await;
        assert_eq!(answer.headers()["www-authenticate"], "Bearer realm=\"sira\"");
        problem(answer, 401, "unauthorized").await;
    }
    for header in ["Bearer wrong", "Bearer s3cre", "Bearer s3crets", "Basic s3cret", "s3cret"] {
        let answer = s.request(Method::PUT, "/v1/ns/k").header("authorization", header).send();
        problem(answer.await.unwrap(), 401, "unauthorized").await;
    }
    for header in ["Bearer s3cret", "bearer s3cret"] {
        let put = s.request(Method::PUT, "/v1/ns/k").header("authorization", header).body("x");
        assert!(put.send().await.unwrap().status().is_success());
    }
    let named = s.request(Method::GET, "/v1").header("host", "sira.example").bearer_auth("s3cret");
    assert_eq!(named.send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn an_open_door_to_the_network_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::open(folder.path(), EngineOptions::default()).unwrap();
    let mut open = config();
    open.http_addr = "0.0.0.0:0".parse().unwrap();
    let error = Server::start(engine, open).await.unwrap_err();
    assert!(matches!(error, ServerError::Exposed { .. }));
    assert!(error.to_string().contains("export SIRA_TOKEN="), "{error}");
}

#[tokio::test]
async fn a_taken_port_says_what_to_do() {
    let s = start().await;
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::open(folder.path(), EngineOptions::default()).unwrap();
    let mut taken = config();
    taken.http_addr = s.server.http_addr();
    let error = Server::start(engine, taken).await.unwrap_err();
    assert!(matches!(error, ServerError::Bind { door: "HTTP", .. }));
    assert!(error.to_string().contains("--http-addr"), "{error}");
}

#[tokio::test]
async fn request_ids_are_taken_over_or_made() {
    let s = start().await;
    let given = s.request(Method::GET, "/livez").header("x-request-id", "abc-1").send();
    assert_eq!(given.await.unwrap().headers()["x-request-id"], "abc-1");
    let mut made = BTreeSet::new();
    for id in ["", "two words", &"x".repeat(200)] {
        let answer = s.request(Method::GET, "/v1/ghost").header("x-request-id", id).send();
        let document = problem(answer.await.unwrap(), 404, "not_found").await;
        let id = document["request_id"].as_str().unwrap().to_owned();
        assert_eq!(id.len(), 16);
        made.insert(id);
    }
    assert_eq!(made.len(), 3);
}

#[tokio::test]
async fn probes_answer() {
    let s = start().await;
    assert_eq!(s.get("/livez").await.text().await.unwrap(), "ok\n");
    assert_eq!(s.get("/readyz").await.text().await.unwrap(), "ok\n");
    let verbose = s.get("/readyz?verbose").await.text().await.unwrap();
    assert_eq!(verbose, "[+]shutdown ok\n[+]engine ok\nok\n");
    assert_eq!(s.get("/healthz?verbose").await.text().await.unwrap(), verbose);
    problem(s.get("/readyz?verbos").await, 400, "invalid_input").await;
}

#[tokio::test]
async fn metrics_parse() {
    let s = start().await;
    s.put("/v1/ns/k", "hello").await;
    s.get("/v1/ns/k").await;
    s.get("/v1/ns/none").await;
    let answer = s.get("/metrics").await;
    assert_eq!(answer.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let text = answer.text().await.unwrap();
    let mut families = BTreeSet::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(families.insert(name.to_owned()), "{name} twice");
        } else if !line.starts_with("# HELP ") {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            value.parse::<f64>().unwrap();
            let name = sample.split('{').next().unwrap();
            let base = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| name.strip_suffix(end).filter(|base| families.contains(*base)));
            assert!(families.contains(base.unwrap_or(name)), "{line}");
            if let Some((_, labels)) = sample.split_once('{') {
                let labels = labels.strip_suffix('}').unwrap();
                for label in labels.split("\",") {
                    assert!(label.contains("=\""), "{line}");
                }
            }
        }
    }
    for line in [
        r#"sira_http_requests_total{route="/v1/{namespace}/{*key}",method="PUT",status="201"} 1"#,
        r#"sira_http_requests_total{route="/v1/{namespace}/{*key}",method="GET",status="404"} 1"#,
        r#"sira_http_request_duration_seconds_count{route="/v1/{namespace}/{*key}",method="GET"} 2"#,
        "sira_http_request_body_bytes_total 5",
        "sira_store_keys 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
    assert!(text.contains("sira_build_info{version=\""));
}

#[tokio::test]
async fn the_openapi_document_is_served() {
    let s = start().await;
    let served: Value = s.get("/openapi.json").await.json().await.unwrap();
    assert_eq!(served, serde_json::to_value(sira_server::openapi()).unwrap());
    assert!(served["openapi"].as_str().unwrap().starts_with("3.1"));
    assert!(served["paths"]["/v1/{namespace}/{key}"]["put"].is_object());
}

#[tokio::test]
async fn shutdown_lets_requests_finish_and_closes_the_door() {
    let s = start().await;
    let addr = s.server.http_addr();
    let mut idle = s.connect().await;
    let mut kept = s.connect().await;
    kept.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    read_answer(&mut kept).await;
    let mut uploading = s.connect().await;
    let head = "PUT /v1/ns/k HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n";
    uploading.write_all(head.as_bytes()).await.unwrap();
    read_answer(&mut uploading).await;

    let stopping = tokio::spawn(s.server.shutdown(Duration::from_secs(60)));
    // Idle connections end at once; the door is closed by then.
    assert_eq!(read_all(&mut idle).await, "");
    assert_eq!(read_all(&mut kept).await, "");
    assert!(tokio::net::TcpStream::connect(addr).await.is_err());
    assert!(!stopping.is_finished());
    uploading.write_all(b"hello").await.unwrap();
    let answer = read_all(&mut uploading).await;
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    stopping.await.unwrap().unwrap();
}

#[tokio::test]
async fn shutdown_waits_no_longer_than_its_grace() {
    let s = start().await;
    let mut stuck = s.connect().await;
    let head = "PUT /v1/ns/k HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n";
    stuck.write_all(head.as_bytes()).await.unwrap();
    read_answer(&mut stuck).await;
    let client = Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    assert_eq!(client.get(s.url("/livez")).send().await.unwrap().status(), 200);
    let stopping = s.server.shutdown(Duration::from_millis(50));
    tokio::time::timeout(Duration::from_secs(60), stopping).await.unwrap().unwrap();
    assert_eq!(read_all(&mut stuck).await, "");
}

#[tokio::test]
async fn a_draining_server_is_not_ready() {
    let s = start().await;
    let mut kept = s.connect().await;
    let mut uploading = s.connect().await;
    let head = "PUT /v1/ns/k HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n";
    uploading.write_all(head.as_bytes()).await.unwrap();
    read_answer(&mut uploading).await;
    // A request whose head has begun is still answered, with the truth.
    kept.write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let stopping = tokio::spawn(s.server.shutdown(Duration::from_secs(60)));
    tokio::time::sleep(Duration::from_millis(100)).await;
    let _ = kept.write_all(b"\r\n").await;
    let answer = read_all(&mut kept).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 503 "), "{answer}");
    uploading.write_all(b"hello").await.unwrap();
    assert!(read_all(&mut uploading).await.starts_with("HTTP/1.1 201 "));
    stopping.await.unwrap().unwrap();
}
