use std::collections::BTreeSet;
use std::time::Duration;

use reqwest::{Client, Method};
use serde_json::Value;
use sira_server::{Secret, Server, ServerError, Storage};
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
    let error = Server::start(Storage::new(engine).unwrap(), open).await.unwrap_err();
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
    let error = Server::start(Storage::new(engine).unwrap(), taken).await.unwrap_err();
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
    // What the watch over the backends has found follows, once it has looked.
    for path in ["/readyz?verbose", "/healthz?verbose"] {
        let verbose = s.get(path).await.text().await.unwrap();
        assert!(verbose.starts_with("[+]shutdown ok\n[+]engine ok\n"), "{verbose}");
        assert!(verbose.ends_with("ok\n"), "{verbose}");
    }
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

/// Sends commands to the RESP door and reads until the reply ends so.
async fn resp(s: &crate::support::Running, commands: &str, end: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(s.server.resp_addr()).await.unwrap();
    stream.write_all(commands.as_bytes()).await.unwrap();
    let mut reply = Vec::new();
    let mut part = [0_u8; 1024];
    while !String::from_utf8_lossy(&reply).ends_with(end) {
        let count = tokio::io::AsyncReadExt::read(&mut stream, &mut part).await.unwrap();
        assert!(count > 0, "ended after {}", String::from_utf8_lossy(&reply));
        reply.extend_from_slice(&part[..count]);
    }
    String::from_utf8(reply).unwrap()
}

#[tokio::test]
async fn both_doors_open_on_the_same_data() {
    let s = start().await;
    assert_eq!(resp(&s, "SET k hello\r\n", "OK\r\n").await, "+OK\r\n");
    assert_eq!(s.get("/v1/db0/k").await.text().await.unwrap(), "hello");
    s.put("/v1/db0/k", "from http").await;
    assert_eq!(resp(&s, "GET k\r\n", "http\r\n").await, "$9\r\nfrom http\r\n");
    let metrics = s.get("/metrics").await.text().await.unwrap();
    for line in [
        "sira_resp_commands_total{command=\"set\"} 1",
        "sira_resp_commands_processed_total 2",
        "sira_resp_connections_accepted_total 2",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} in\n{metrics}");
    }
}

#[tokio::test]
async fn the_token_guards_both_doors() {
    let mut config = config();
    config.token = Some(Secret::new("s3cret"));
    let s = start_with(config).await;
    assert!(resp(&s, "GET k\r\n", "\r\n").await.starts_with("-NOAUTH"));
    assert!(resp(&s, "AUTH wrong\r\n", "\r\n").await.starts_with("-WRONGPASS"));
    assert_eq!(resp(&s, "AUTH s3cret\r\nPING\r\n", "PONG\r\n").await, "+OK\r\n+PONG\r\n");
}

#[tokio::test]
async fn a_resp_client_can_ask_for_a_shutdown() {
    let s = start().await;
    let mut stream = tokio::net::TcpStream::connect(s.server.resp_addr()).await.unwrap();
    stream.write_all(b"SHUTDOWN\r\n").await.unwrap();
    tokio::time::timeout(Duration::from_secs(60), s.server.shutdown_requested()).await.unwrap();
    s.server.shutdown(Duration::from_secs(60)).await.unwrap();
    read_all(&mut stream).await;
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut tag = String::new();
    for start in 0..2 {
        let engine = Engine::open(folder.path(), EngineOptions::default()).unwrap();
        let server = Server::start(Storage::new(engine).unwrap(), config()).await.unwrap();
        let url = format!("http://{}/v1/ns/k", server.http_addr());
        let client = Client::builder().no_proxy().build().unwrap();
        if start == 0 {
            let put = client.put(&url).header("sira-meta-a", "b").body("kept").send();
            tag = crate::support::etag(&put.await.unwrap());
        } else {
            let get = client.get(&url).send().await.unwrap();
            assert_eq!(crate::support::etag(&get), tag);
            assert_eq!(get.headers()["sira-meta-a"], "b");
            assert_eq!(get.text().await.unwrap(), "kept");
        }
        drop(client);
        server.shutdown(Duration::from_secs(60)).await.unwrap();
    }
}
