//! HTTP over several backends and one plan.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sira_store::client::{NamespacePolicy, StoragePlan};
use sira_store::embedded::EmbeddedBackend;
use sira_store::layers::Layers;
use sira_store::placement::Catalog;
use sira_store::router::{DataPattern, StorageRouter};
use sira_store::seal::Keyring;
use sira_store::{
    Capabilities, CompressionType, Condition, EncryptionType, HealthStatus, MemoryBackend, Object,
    ReadOptions, Result, StorageBackend, StorageOptions, Version,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Running, problem, start};

/// A server over the embedded engine and a backend `hot` in memory; `secret` lies there, compressed
/// and encrypted.
async fn two_backends() -> (Running, Arc<MemoryBackend>) {
    let running = start().await;
    let hot = Arc::new(MemoryBackend::new(64 << 20));
    let storage = &running.storage;
    let mut plan = StoragePlan::default();
    let layered = Layers::new(hot.clone()).name("hot").metrics(&storage.collector).build();
    plan.backends.insert("hot".to_owned(), layered);
    plan.keyring = Arc::new(Keyring::new("k1", Keyring::generate_key().unwrap()).unwrap());
    let secret = NamespacePolicy {
        compression: Some(CompressionType::Zstd),
        encryption: Some(EncryptionType::Aes256Gcm { key_id: String::new() }),
        ..NamespacePolicy::on("hot")
    };
    plan.namespaces.insert("secret".to_owned(), secret);
    storage.apply(plan).unwrap();
    (running, hot)
}

/// The same, with a catalog and `cache:*` on `hot`.
async fn routed() -> (Running, Arc<MemoryBackend>) {
    let (running, hot) = two_backends().await;
    let storage = &running.storage;
    let mut plan = StoragePlan::clone(&storage.client.plan());
    let engine = EmbeddedBackend::new(Arc::clone(&storage.engine));
    plan.catalog = Some(Catalog::new(Arc::new(engine)).unwrap());
    let mut router = StorageRouter::new();
    router.add_data_pattern("cache:*", DataPattern::to("hot")).unwrap();
    router.set_default_backend("embedded");
    plan.router = Some(Arc::new(router));
    storage.client.apply(plan).unwrap();
    (running, hot)
}

async fn text(running: &Running, path: &str) -> String {
    let answer = running.get(path).await;
    assert_eq!(answer.status(), StatusCode::OK, "{path}");
    answer.text().await.unwrap()
}

#[tokio::test]
async fn a_namespace_is_served_from_its_backend_as_if_it_were_the_engines() {
    let (s, hot) = two_backends().await;
    let value: String = (0..200_000).map(|at| char::from(b'a' + (at % 26) as u8)).collect();
    let put = s.put("/v1/secret/big", value.clone()).await;
    assert_eq!(put.status(), StatusCode::CREATED);
    let tag = crate::support::etag(&put);
    let inside = StorageBackend::namespace(&*hot, "secret").await.unwrap();
    assert!(inside.get("big").await.unwrap().unwrap().len() < 20_000, "compressed, and there");
    assert!(s.storage.engine.find_namespace("secret").is_none());

    let get = s.get("/v1/secret/big").await;
    assert_eq!(crate::support::etag(&get), tag);
    assert_eq!(get.text().await.unwrap(), value);
    let part = s.request(Method::GET, "/v1/secret/big").header("range", "bytes=150000-150009");
    let part = part.send().await.unwrap();
    assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(part.headers()["content-range"], "bytes 150000-150009/200000");
    assert_eq!(part.text().await.unwrap(), value[150_000..150_010]);
    let head = s.request(Method::HEAD, "/v1/secret/big").send().await.unwrap();
    assert_eq!(head.headers()["content-length"], "200000");
    let stale = s.request(Method::PUT, "/v1/secret/big").header("if-none-match", "*");
    assert_eq!(stale.send().await.unwrap().status(), StatusCode::PRECONDITION_FAILED);

    let listing: Value = s.get("/v1/secret").await.json().await.unwrap();
    assert_eq!(listing["entries"][0]["key"], "big");
    let namespaces: Value = s.get("/v1").await.json().await.unwrap();
    assert_eq!(namespaces["namespaces"][16], json!({ "name": "secret" }));
    assert_eq!(namespaces["namespaces"][0], json!({ "name": "db0", "keys": 0 }));
    assert_eq!(s.get("/v1/elsewhere").await.status(), StatusCode::NOT_FOUND);

    assert_eq!(s.delete("/v1/secret?confirm=secret").await.status(), StatusCode::NO_CONTENT);
    assert!(inside.list_keys("", 1).await.unwrap().is_empty());
    assert_eq!(s.get("/v1/secret/big").await.status(), StatusCode::NOT_FOUND);
    assert_eq!(s.put("/v1/secret/big", "again").await.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn a_large_sealed_value_of_the_engine_is_opened() {
    let (s, _) = two_backends().await;
    let mut plan = StoragePlan::clone(&s.storage.client.plan());
    plan.seal.compression = CompressionType::Zstd;
    s.storage.client.apply(plan).unwrap();
    let value = "0123456789".repeat(500_000);
    assert_eq!(s.put("/v1/plain/big", value.clone()).await.status(), StatusCode::CREATED);
    let get = s.request(Method::GET, "/v1/plain/big").header("range", "bytes=10-4999999");
    let get = get.send().await.unwrap();
    assert_eq!(get.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(get.text().await.unwrap(), value[10..]);
    let engine = EmbeddedBackend::new(Arc::clone(&s.storage.engine)).namespace("plain").unwrap();
    assert!(engine.head("big").await.unwrap().unwrap().size < 100_000);
}

#[tokio::test]
async fn objects_go_where_patterns_say_and_are_found_when_those_change() {
    let (s, hot) = routed().await;
    for key in ["cache:1", "data:1"] {
        assert_eq!(s.put(&format!("/v1/mixed/{key}"), key).await.status(), StatusCode::CREATED);
    }
    let inside = StorageBackend::namespace(&*hot, "mixed").await.unwrap();
    assert_eq!(inside.list_keys("", 9).await.unwrap(), ["cache:1"]);
    let mut plan = StoragePlan::clone(&s.storage.client.plan());
    plan.router = None;
    s.storage.client.apply(plan).unwrap();
    for key in ["cache:1", "data:1"] {
        assert_eq!(text(&s, &format!("/v1/mixed/{key}")).await, key);
    }
    let listing: Value = s.get("/v1/mixed").await.json().await.unwrap();
    assert_eq!(listing["entries"].as_array().unwrap().len(), 2);
    // Neither read nor write makes a namespace of the catalog's.
    let refused = s.put("/v1/sira.catalog.names/mixed", "{}").await;
    problem(refused, 403, "permission_denied").await;
    assert_eq!(s.get("/v1/sira.catalog.names").await.status(), StatusCode::NOT_FOUND);
    assert_eq!(s.get("/v1/nowhere/k").await.status(), StatusCode::NOT_FOUND);
    let names: Value = s.get("/v1").await.json().await.unwrap();
    let names: Vec<_> =
        names["namespaces"].as_array().unwrap().iter().map(|n| &n["name"]).collect();
    assert_eq!(names[16..], ["mixed", "secret"]);
}

#[tokio::test]
async fn the_way_of_an_object_is_explained() {
    let (s, _) = routed().await;
    s.put("/v1/mixed/cache:1", "v").await;
    let way = async |query: &str| -> Value {
        let answer = s.get(&format!("/route?{query}")).await;
        assert_eq!(answer.status(), StatusCode::OK, "{query}");
        answer.json().await.unwrap()
    };
    let cache = way("namespace=mixed&key=cache:1").await;
    assert_eq!((&cache["lies_on"], &cache["goes_to"]), (&json!("hot"), &json!(["hot"])));
    assert_eq!(cache["answers"][0]["route"]["backends"], json!(["hot"]));
    assert!(cache["reason"].as_str().unwrap().contains("cache:*"), "{cache}");
    let data = way("namespace=mixed&key=data:1&size=10").await;
    assert_eq!(data["goes_to"], json!(["embedded"]));
    let secret = way("namespace=secret&key=k").await;
    assert_eq!(secret["goes_to"], json!(["hot"]));
    assert!(secret["reason"].as_str().unwrap().contains("policy"), "{secret}");
    let database = way("namespace=db0&key=cache:1").await;
    assert_eq!(database["goes_to"], json!(["embedded"]));
    assert_eq!(s.get("/route?namespace=nowhere&key=k").await.status(), StatusCode::NOT_FOUND);
    for refused in ["", "&key=", "&key=k&size=big", "&kex=k"] {
        let status = s.get(&format!("/route?namespace=mixed{refused}")).await.status();
        assert_eq!(status, StatusCode::BAD_REQUEST, "{refused}");
    }
}

#[tokio::test]
async fn objects_are_moved_between_backends_while_they_are_served() {
    let (s, hot) = routed().await;
    for number in 0..50 {
        s.put(&format!("/v1/mixed/data:{number}"), format!("{number}")).await;
    }
    let ask = json!({ "namespace": "mixed", "from": "embedded", "to": "hot", "pattern": "data:*" });
    let begun = s.post("/migrations", &ask).await;
    assert_eq!(begun.status(), StatusCode::ACCEPTED);
    let begun: Value = begun.json().await.unwrap();
    let path = format!("/migrations/{}", begun["id"]);
    let ended = loop {
        let status: Value = s.get(&path).await.json().await.unwrap();
        if status["state"] != "running" {
            break status;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!((&ended["state"], &ended["report"]["copied"]), (&json!("done"), &json!(50)));
    let inside = StorageBackend::namespace(&*hot, "mixed").await.unwrap();
    assert_eq!(inside.list_keys("", 100).await.unwrap().len(), 50);
    assert_eq!(text(&s, "/v1/mixed/data:7").await, "7");
    let list: Value = s.get("/migrations").await.json().await.unwrap();
    assert_eq!(list["migrations"].as_array().unwrap().len(), 1);
    assert_eq!(s.delete(&path).await.status(), StatusCode::NO_CONTENT);

    for (wrong, status) in [
        (json!({ "namespace": "nowhere", "from": "embedded", "to": "hot" }), 404),
        (json!({ "namespace": "mixed", "from": "embedded", "to": "cold" }), 404),
        (json!({ "namespace": "mixed", "from": "hot", "to": "hot" }), 400),
        (json!({ "namespace": "mixed", "from": "hot", "to": "embedded", "pattern": "[" }), 400),
        (json!({ "from": "hot" }), 400),
    ] {
        assert_eq!(s.post("/migrations", &wrong).await.status(), status, "{wrong}");
    }
    assert_eq!(s.get("/migrations/9").await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_batch_that_cannot_be_one_step_is_refused_unless_that_is_wanted() {
    let (s, _) = routed().await;
    let put = |key: &str| json!({ "op": "put", "key": key, "value": key });
    let two = json!({ "operations": [put("cache:1"), put("data:1")] });
    let refused = s.post("/v1/mixed/_batch", &two).await;
    problem(refused, 501, "unsupported").await;
    assert_eq!(s.get("/v1/mixed/cache:1").await.status(), StatusCode::NOT_FOUND);
    let one = json!({ "operations": [put("cache:1"), { "op": "get", "key": "data:1" }] });
    assert_eq!(s.post("/v1/mixed/_batch", &one).await.status(), StatusCode::OK);
    let taken = json!({ "op": "put", "key": "cache:1", "value": "x", "if_absent": true });
    let mixed = json!({ "operations": [taken, put("data:1")] });
    let answer = s.post("/v1/mixed/_batch?atomic=false", &mixed).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let answer: Value = answer.json().await.unwrap();
    assert_eq!(answer["results"][0]["code"], "precondition_failed");
    assert_eq!(answer["results"][1]["status"], "ok");
    assert_eq!(text(&s, "/v1/mixed/data:1").await, "data:1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_changes_under_load_without_a_failed_request() {
    let (s, _) = routed().await;
    let s = Arc::new(s);
    let stop = Arc::new(AtomicBool::new(false));
    let mut workers = Vec::new();
    for worker in 0..4 {
        let (s, stop) = (Arc::clone(&s), Arc::clone(&stop));
        workers.push(tokio::spawn(async move {
            let mut rounds = 0_u32;
            while !stop.load(Ordering::Relaxed) || rounds < 20 {
                let kind = if rounds.is_multiple_of(2) { "cache" } else { "data" };
                let path = format!("/v1/mixed/{kind}:{worker}");
                let value = format!("{worker} {rounds}");
                let put = s.put(&path, value.clone()).await;
                assert!(
                    put.status().is_success(),
                    "{}: {}",
                    put.status(),
                    put.text().await.unwrap()
                );
                assert_eq!(text(&s, &path).await, value);
                rounds += 1;
            }
        }));
    }
    let both = StoragePlan::clone(&s.storage.client.plan());
    for round in 0..60 {
        let mut plan = both.clone();
        if round % 3 == 1 {
            plan.router = None;
        }
        if round % 3 == 2 {
            plan.default_backend = Some("hot".to_owned());
            plan.namespaces.insert("mixed".to_owned(), NamespacePolicy::on("hot"));
        }
        s.storage.client.apply(plan).unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    stop.store(true, Ordering::Relaxed);
    for worker in workers {
        worker.await.unwrap();
    }
}

#[tokio::test]
async fn the_databases_of_resp_stay_on_the_engine() {
    let (s, _) = routed().await;
    let mut resp = tokio::net::TcpStream::connect(s.server.resp_addr()).await.unwrap();
    resp.write_all(b"SET cache:1 v1\r\n").await.unwrap();
    let mut ok = [0; 5];
    resp.read_exact(&mut ok).await.unwrap();
    assert_eq!(&ok, b"+OK\r\n");
    assert_eq!(text(&s, "/v1/db0/cache:1").await, "v1");
    assert_eq!(s.put("/v1/db0/cache:1", "v2").await.status(), StatusCode::OK);
    resp.write_all(b"GET cache:1\r\n").await.unwrap();
    let mut two = [0; 8];
    resp.read_exact(&mut two).await.unwrap();
    assert_eq!(&two, b"$2\r\nv2\r\n");
}

#[derive(Debug)]
struct Down;

#[async_trait]
impl StorageBackend for Down {
    fn capabilities(&self) -> Capabilities {
        MemoryBackend::new(1).capabilities()
    }
    async fn put(&self, _: &str, _: Bytes, _: StorageOptions) -> Result<Version> {
        Err(sira_store::StorageError::unavailable("the engine is down; try again later"))
    }
    async fn read(&self, _: &str, _: ReadOptions) -> Result<Option<Object>> {
        Err(sira_store::StorageError::unavailable("the engine is down; try again later"))
    }
    async fn remove(&self, _: &str, _: Condition) -> Result<bool> {
        Err(sira_store::StorageError::unavailable("the engine is down; try again later"))
    }
    async fn namespace(&self, _: &str) -> Result<Arc<dyn StorageBackend>> {
        Ok(Arc::new(Self))
    }
    async fn health_check(&self) -> HealthStatus {
        HealthStatus::Critical("down".to_owned())
    }
}

#[tokio::test]
async fn figures_of_every_backend_are_shown_and_a_dead_one_is_named() {
    let (s, _) = two_backends().await;
    s.put("/v1/secret/k", "v").await;
    s.put("/v1/default/k", "v").await;
    let metrics = text(&s, "/metrics").await;
    for backend in ["hot", "embedded"] {
        let puts = metrics.lines().find(|line| {
            line.starts_with("sira_backend_operation_duration_seconds_count")
                && line.contains(&format!("backend=\"{backend}\""))
                && line.contains("operation=\"put\"")
        });
        assert!(puts.is_some_and(|line| line.ends_with(" 1")), "{backend}: {puts:?}");
    }
    let mut plan = StoragePlan::clone(&s.storage.client.plan());
    plan.backends.insert("gone".to_owned(), Arc::new(Down));
    s.storage.client.apply(plan.clone()).unwrap();
    let stats: Value = s.get("/stats").await.json().await.unwrap();
    assert_eq!(stats["default_backend"], "embedded");
    let backends: BTreeMap<String, Value> =
        serde_json::from_value(stats["backends"].clone()).unwrap();
    assert_eq!(backends["hot"]["engine"], "memory");
    assert_eq!(backends["hot"]["status"], "healthy");
    assert_eq!(backends["hot"]["storage"]["keys"], 1);
    assert!(backends["hot"]["operations"]["operations_total"].as_u64().unwrap() >= 1);
    assert_eq!(backends["gone"]["status"], "critical");

    let ready = s.get("/readyz?verbose").await;
    assert_eq!(ready.status(), StatusCode::OK);
    assert!(ready.text().await.unwrap().contains("[!]backend gone warning: down"));
    plan.default_backend = Some("gone".to_owned());
    s.storage.client.apply(plan).unwrap();
    let not_ready = s.get("/readyz").await;
    problem(not_ready, 503, "not_ready").await;
    problem(s.put("/v1/any/k", "v").await, 503, "unavailable").await;
}
