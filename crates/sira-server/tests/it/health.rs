//! The watch over the backends, who is told, and that rules and dashboards ask for what is there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::{Value, json};
use sira_server::health::{BackupState, HealthSettings};
use sira_server::notify::{NotifyKind, NotifyTarget, SecretSource};
use sira_server::{Server, Storage};
use sira_store::cache::{CacheOptions, CachePolicy};
use sira_store::client::{NamespacePolicy, StoragePlan};
use sira_store::embedded::{Engine, EngineOptions};
use sira_store::health::{BackupMarks, HealthOptions, HealthState};
use sira_store::layers::Layers;
use sira_store::{
    Capabilities, Condition, HealthStatus, ListOptions, ListPage, MemoryBackend, Object,
    ReadOptions, Result, StorageBackend, StorageError, StorageOptions, StorageStats, Version,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::{Running, config, start, start_with};

/// A backend that can be taken away, filled up and spoilt.
#[derive(Debug)]
struct Fickle {
    memory: Arc<dyn StorageBackend>,
    away: Arc<AtomicBool>,
    full: Arc<AtomicBool>,
    spoilt: Arc<AtomicBool>,
}

impl Fickle {
    fn new() -> Arc<Self> {
        let memory = Arc::new(MemoryBackend::new(1 << 20));
        let (away, full, spoilt) = Default::default();
        Arc::new(Self { memory, away, full, spoilt })
    }
}

#[async_trait]
impl StorageBackend for Fickle {
    fn capabilities(&self) -> Capabilities {
        self.memory.capabilities()
    }

    async fn put(&self, key: &str, value: Bytes, options: StorageOptions) -> Result<Version> {
        self.memory.put(key, value, options).await
    }

    async fn read(&self, key: &str, options: ReadOptions) -> Result<Option<Object>> {
        if self.spoilt.load(Ordering::Relaxed) && key == "bad" {
            return Err(StorageError::corrupt("it does not verify").with_key(key));
        }
        self.memory.read(key, options).await
    }

    async fn remove(&self, key: &str, condition: Condition) -> Result<bool> {
        self.memory.remove(key, condition).await
    }

    async fn list(&self, options: ListOptions) -> Result<ListPage> {
        self.memory.list(options).await
    }

    async fn namespace(&self, name: &str) -> Result<Arc<dyn StorageBackend>> {
        let memory = self.memory.namespace(name).await?;
        let [away, full, spoilt] = [&self.away, &self.full, &self.spoilt].map(Arc::clone);
        Ok(Arc::new(Self { memory, away, full, spoilt }))
    }

    async fn health_check(&self) -> HealthStatus {
        match self.away.load(Ordering::Relaxed) {
            true => HealthStatus::Critical("it is away".to_owned()),
            false => HealthStatus::Healthy,
        }
    }

    async fn stats(&self) -> Result<StorageStats> {
        let available = if self.full.load(Ordering::Relaxed) { 5 } else { 900 };
        let available_bytes = Some(available);
        Ok(StorageStats { used_bytes: 100, available_bytes, ..self.memory.stats().await? })
    }
}

/// Looks often, and scrubs again and again.
fn eager() -> HealthSettings {
    HealthSettings {
        bounds: HealthOptions {
            interval: Duration::from_millis(30),
            scrub_bytes_per_s: 1 << 30,
            scrub_outside_bytes_per_s: 1 << 30,
            ..HealthOptions::default()
        },
        scrub_every: Some(Duration::from_millis(10)),
        run_book: None,
    }
}

fn register(storage: &Storage, backend: Arc<dyn StorageBackend>) {
    let counted = Layers::new(backend).name("fickle").metrics(&storage.collector).build();
    let plan = StoragePlan {
        backends: [("fickle".to_owned(), counted)].into(),
        namespaces: [("there".to_owned(), NamespacePolicy::on("fickle"))].into(),
        ..StoragePlan::default()
    };
    storage.apply(plan).unwrap();
}

/// Asks until the answer is what it should be.
async fn until(running: &Running, path: &str, right: impl Fn(&str) -> bool) -> String {
    let mut answer = String::new();
    for _ in 0..1200 {
        answer = running.get(path).await.text().await.unwrap();
        if right(&answer) {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("{path}: {answer}");
}

fn state(answer: &str, path: &str) -> Option<String> {
    let document: Value = serde_json::from_str(answer).ok()?;
    document.pointer(path)?.as_str().map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_check_of_every_backend_is_told() {
    let s = start().await;
    s.storage.health.apply(eager());
    let fickle = Fickle::new();
    register(&s.storage, Arc::clone(&fickle) as _);
    assert!(s.put("/v1/there/bad", "x").await.status().is_success());
    let is = |path: &'static str, wanted: &'static str| {
        move |answer: &str| state(answer, path).as_deref() == Some(wanted)
    };
    let report =
        until(&s, "/health", is("/backends/fickle/checks/connection/state", "healthy")).await;
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["state"], "healthy");
    for backend in ["embedded", "fickle"] {
        let checks = report["backends"][backend]["checks"].as_object().unwrap();
        let names: Vec<&str> = checks.keys().map(String::as_str).collect();
        assert_eq!(names, ["backup", "capacity", "connection", "integrity", "performance"]);
    }

    for (switch, check) in [
        (&fickle.away, "/backends/fickle/checks/connection/state"),
        (&fickle.full, "/backends/fickle/checks/capacity/state"),
        (&fickle.spoilt, "/backends/fickle/checks/integrity/state"),
    ] {
        switch.store(true, Ordering::Relaxed);
        let answer = until(&s, "/health", is(check, "critical")).await;
        assert_eq!(state(&answer, "/state").as_deref(), Some("critical"));
        assert_eq!(state(&answer, "/backends/embedded/state").as_deref(), Some("healthy"));
        let name = check.split('/').nth(4).unwrap();
        let verbose = until(&s, "/readyz?verbose", |it| it.contains("[!]fickle ")).await;
        assert!(verbose.contains(&format!("[!]fickle {name} critical: ")), "{verbose}");
        let metric = format!("sira_health_state{{backend=\"fickle\",check=\"{name}\"}} 2");
        until(&s, "/metrics", |it| it.contains(&metric)).await;
        switch.store(false, Ordering::Relaxed);
        until(&s, "/health", is(check, "healthy")).await;
    }
    assert!(s.get("/readyz").await.status().is_success());
    // A backend that is gone is no worry.
    s.storage.apply(StoragePlan::default()).unwrap();
    until(&s, "/health", |answer| !answer.contains("fickle")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_scrub_finds_what_nobody_reads_and_remembers_it() {
    let folder = tempfile::tempdir().unwrap();
    let options = || EngineOptions { segment_bytes: 1 << 20, ..EngineOptions::default() };
    let value = |n: usize| vec![n as u8 | 1; 100_000];
    {
        let engine = Engine::open(folder.path(), options()).unwrap();
        let storage = Storage::new(engine).unwrap();
        for n in 0..40 {
            let key = n.to_string();
            storage.client.store(&key, value(n), StorageOptions::default()).await.unwrap();
        }
        storage.engine.close().unwrap();
    }
    // In the middle of a sealed segment, in the value of some object.
    let mut months = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
    let month = months.find(|path| path.file_name().unwrap().len() == 7).unwrap();
    let mut segments: Vec<_> =
        std::fs::read_dir(month).unwrap().map(|entry| entry.unwrap().path()).collect();
    segments.retain(|path| path.extension().is_some_and(|it| it.len() == 3 && it != "idx"));
    segments.sort();
    let file = std::fs::OpenOptions::new().write(true).open(&segments[1]).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"\xfe\xfe", 500_000).unwrap();

    let engine = Engine::open(folder.path(), options()).unwrap();
    let storage = Storage::new(engine).unwrap();
    storage.health.apply(HealthSettings { scrub_every: None, ..eager() });
    let server = Server::start(storage.clone(), config()).await.unwrap();
    let url = format!("http://{}/health", server.http_addr());
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let ask = async |right: &dyn Fn(&Value) -> bool| {
        for _ in 0..1200 {
            let report: Value = client.get(&url).send().await.unwrap().json().await.unwrap();
            if right(&report["backends"]["embedded"]) {
                return report;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("nothing was found")
    };
    let found = ask(&|it| it["scrubbed_ms"].is_u64() && it["state"] == "critical").await;
    let message = found["backends"]["embedded"]["checks"]["integrity"]["message"].as_str().unwrap();
    assert!(message.contains("segment ") && message.contains("bytes "), "{message}");
    let scrubbed = found["backends"]["embedded"]["scrubbed_ms"].clone();
    // Whatever it found, writes go on.
    storage.client.store("more", "x", StorageOptions::default()).await.unwrap();
    server.shutdown(Duration::from_secs(10)).await.unwrap();
    drop(storage);

    // After a restart it is known without another pass.
    let engine = Engine::open(folder.path(), options()).unwrap();
    let storage = Storage::new(engine).unwrap();
    let bounds = HealthOptions { scrub_bytes_per_s: 0, ..eager().bounds };
    storage.health.apply(HealthSettings { bounds, ..HealthSettings::default() });
    let server = Server::start(storage.clone(), config()).await.unwrap();
    let url = format!("http://{}/health", server.http_addr());
    for _ in 0..1200 {
        let report: Value = client.get(&url).send().await.unwrap().json().await.unwrap();
        if report["backends"]["embedded"]["state"] == "critical" {
            assert_eq!(report["backends"]["embedded"]["scrubbed_ms"], scrubbed);
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("what was found is forgotten");
}

/// A request that a webhook got.
#[derive(Debug, Clone)]
struct Got {
    headers: BTreeMap<String, String>,
    body: String,
}

/// A server of webhooks that answers its first requests with these statuses, and 200 after.
async fn hook(statuses: &[u16]) -> (String, Arc<Mutex<Vec<Got>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook?x=1", listener.local_addr().unwrap());
    let got: Arc<Mutex<Vec<Got>>> = Arc::default();
    let (seen, mut statuses) = (Arc::clone(&got), statuses.to_vec());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut bytes = Vec::new();
            let (headers, body) = loop {
                let mut part = [0; 4096];
                let count = stream.read(&mut part).await.unwrap();
                bytes.extend_from_slice(&part[..count]);
                let text = String::from_utf8_lossy(&bytes).into_owned();
                let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                let headers: BTreeMap<String, String> = head
                    .lines()
                    .filter_map(|line| line.split_once(": "))
                    .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
                    .collect();
                if body.len() >= headers["content-length"].parse::<usize>().unwrap() {
                    break (headers, body.to_owned());
                }
            };
            seen.lock().push(Got { headers, body });
            let status = if statuses.is_empty() { 200 } else { statuses.remove(0) };
            let answer =
                format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (url, got)
}

async fn arrived(got: &Mutex<Vec<Got>>, count: usize) -> Vec<Got> {
    for _ in 0..1200 {
        if got.lock().len() >= count {
            return got.lock().clone();
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("{:?}", got.lock());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn webhooks_are_told_once_signed_and_again_until_they_answer() {
    let (url, got) = hook(&[500, 503]).await;
    let (quiet_url, quiet) = hook(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "s3cret\n").unwrap();
    let s = start().await;
    let target = |url: &str, severity| NotifyTarget {
        kind: NotifyKind::Webhook,
        url: url.to_owned(),
        secret: Some(SecretSource::File(secret.clone())),
        severity,
    };
    s.storage
        .notifier
        .apply(vec![target(&url, HealthState::Warning), target(&quiet_url, HealthState::Critical)]);
    s.storage.health.apply(eager());
    let fickle = Fickle::new();
    register(&s.storage, Arc::clone(&fickle) as _);
    fickle.full.store(true, Ordering::Relaxed);
    let seen = arrived(&got, 3).await;
    let document: Value = serde_json::from_str(&seen[0].body).unwrap();
    for (name, wanted) in [
        ("alert", json!("health_capacity")),
        ("backend", json!("fickle")),
        ("status", json!("firing")),
        ("severity", json!("critical")),
        ("run_book", json!("docs/health.md#capacity")),
        ("version", json!(1)),
    ] {
        assert_eq!(document[name], wanted, "{document}");
    }
    assert!(document["message"].as_str().unwrap().contains("95.2%"), "{document}");
    assert_eq!(seen[0].body, seen[2].body, "the same change, told again");
    for request in &seen {
        let signature = &request.headers["sira-signature"];
        let (at, signature) = signature.split_once(",v1=").unwrap();
        let signed = format!("{}.{}", at.strip_prefix("t=").unwrap(), request.body);
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, b"s3cret");
        let tag = aws_lc_rs::hmac::sign(&key, signed.as_bytes());
        let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(signature, hex);
    }
    fickle.full.store(false, Ordering::Relaxed);
    let seen = arrived(&got, 4).await;
    let over: Value = serde_json::from_str(&seen[3].body).unwrap();
    assert_eq!((&over["status"], &over["alert"]), (&json!("resolved"), &json!("health_capacity")));
    assert_ne!(over["id"], document["id"]);
    assert_eq!(arrived(&quiet, 2).await.len(), 2, "both were critical");
    let origin = url.strip_suffix("/hook?x=1").unwrap();
    let of = |outcome: &str| {
        format!(
            "sira_notifications_total{{target=\"webhook\",url=\"{origin}\",outcome=\"{outcome}\"}} 2\n"
        )
    };
    // The path of a webhook may be its secret.
    let right = |it: &str| it.contains(&of("sent")) && it.contains(&of("failed"));
    let metrics = until(&s, "/metrics", right).await;
    assert!(!metrics.contains("hook?"), "{metrics}");
}

#[derive(Debug)]
struct Backups;

impl BackupState for Backups {
    fn marks(&self) -> Option<BackupMarks> {
        Some(BackupMarks { last_success_ms: Some(1000), last_verified_ms: Some(1000) })
    }
}

/// Names of metrics in an expression: those of ours begin with `sira_`, and are no label's text.
fn names(expression: &str) -> BTreeSet<String> {
    let outside: String = expression.split('"').step_by(2).collect::<Vec<_>>().join(" ");
    outside
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'))
        .filter(|word| word.starts_with("sira_"))
        .map(str::to_owned)
        .collect()
}

/// The expressions of rules and dashboards, with where they stand.
fn expressions() -> Vec<(String, String)> {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy");
    let rules = std::fs::read_to_string(deploy.join("prometheus/rules.yml")).unwrap();
    // What stands in annotations is no expression.
    let lines: Vec<&str> = rules.lines().filter(|line| !line.contains("summary:")).collect();
    let mut found = vec![("rules.yml".to_owned(), lines.join("\n"))];
    for entry in std::fs::read_dir(deploy.join("grafana")).unwrap() {
        let path = entry.unwrap().path();
        let board: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        for panel in board["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().unwrap() {
                found.push((name.clone(), target["expr"].as_str().unwrap().to_owned()));
            }
        }
        for variable in board["templating"]["list"].as_array().unwrap() {
            found.extend(variable["definition"].as_str().map(|it| (name.clone(), it.to_owned())));
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_and_dashboards_ask_for_what_metrics_has() {
    let s = start_with(config()).await;
    s.storage.health.watch_backups(Arc::new(Backups));
    s.storage.health.apply(eager());
    let fickle = Fickle::new();
    let counted = Layers::new(Arc::clone(&fickle) as Arc<dyn StorageBackend>)
        .name("fickle")
        .metrics(&s.storage.collector)
        .build();
    let cache = CacheOptions {
        policy: CachePolicy { memory_bytes: Some(1 << 20), ..CachePolicy::default() },
        ..CacheOptions::default()
    };
    let cached = NamespacePolicy { cache: Some(cache), ..NamespacePolicy::default() };
    let plan = StoragePlan {
        backends: [("fickle".to_owned(), counted)].into(),
        namespaces: [
            ("cached".to_owned(), cached),
            ("copy".to_owned(), NamespacePolicy::on("fickle")),
        ]
        .into(),
        ..StoragePlan::default()
    };
    s.storage.apply(plan).unwrap();
    // Some work of every kind.
    for key in ["/v1/cached/a", "/v1/source/a"] {
        assert!(s.put(key, "x").await.status().is_success());
        assert!(s.get(key).await.status().is_success());
    }
    let sync = json!({"from": {"namespace": "source"}, "to": {"backend": "fickle", "namespace": "copy"}, "follow": true});
    let begun = s.post("/syncs", &sync).await;
    assert_eq!(begun.status(), 202, "{}", begun.text().await.unwrap());
    let mut resp = tokio::net::TcpStream::connect(s.server.resp_addr()).await.unwrap();
    resp.write_all(b"PING\r\n").await.unwrap();
    resp.read_exact(&mut [0; 7]).await.unwrap();
    fickle.full.store(true, Ordering::Relaxed);
    s.storage.maintenance.apply(Duration::from_millis(20));
    // A forecast needs some looks at a use that grows: its figures are those of a day.
    let metrics = until(&s, "/metrics", |it| {
        it.contains("\nsira_sync_lag_seconds{")
            && it.contains("\nsira_scrub_last_pass_timestamp_seconds{")
            && it.contains("\nsira_maintenance_dropped_records_total{")
    })
    .await;
    let has: BTreeSet<&str> = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .filter_map(|line| line.split(' ').next())
        .collect();
    let mut asked = BTreeSet::new();
    for (place, expression) in expressions() {
        for name in names(&expression) {
            let family = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|suffix| name.strip_suffix(suffix).filter(|it| has.contains(it)))
                .unwrap_or(&name);
            assert!(has.contains(family), "{place} asks for {name}, which /metrics has not");
            asked.insert(name);
        }
    }
    assert!(asked.len() > 30, "{asked:?}");
}

#[test]
fn names_are_found_and_labels_are_not() {
    let expression =
        r#"sum by (sira) (rate(sira_a_total{x="sira_b", y=~"$z"}[5m])) / sira:rec:5m > sira_c"#;
    let found: Vec<String> = names(expression).into_iter().collect();
    assert_eq!(found, ["sira_a_total", "sira_c"]);
}
