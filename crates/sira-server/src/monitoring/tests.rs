use std::io;

use sira_store::env::SimEnv;
use sira_store::layers::Layers;
use sira_store::{MemoryBackend, StorageBackend, StorageOptions};
use tracing_subscriber::fmt::MakeWriter;

use super::*;

#[derive(Debug, Clone, Default)]
struct Text(Arc<Mutex<Vec<u8>>>);

impl io::Write for Text {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Text {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Text {
    /// The lines since the last call.
    fn lines(&self) -> Vec<String> {
        let bytes = std::mem::take(&mut *self.0.lock());
        String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
    }
}

/// An engine whose clock goes on by `ms` with every read, and that fails where it is told to.
#[derive(Debug)]
struct Engine {
    memory: MemoryBackend,
    env: Arc<SimEnv>,
    ms: u64,
}

#[async_trait::async_trait]
impl StorageBackend for Engine {
    fn capabilities(&self) -> sira_store::Capabilities {
        self.memory.capabilities()
    }

    async fn put(
        &self,
        key: &str,
        value: bytes::Bytes,
        options: StorageOptions,
    ) -> sira_store::Result<sira_store::Version> {
        self.memory.put(key, value, options).await
    }

    async fn put_stream(
        &self,
        key: &str,
        body: sira_store::ByteStream,
        options: StorageOptions,
    ) -> sira_store::Result<sira_store::Version> {
        self.memory.put_stream(key, body, options).await
    }

    async fn read(
        &self,
        key: &str,
        options: sira_store::ReadOptions,
    ) -> sira_store::Result<Option<sira_store::Object>> {
        self.env.advance_ms(self.ms);
        match key {
            "down" => Err(sira_store::StorageError::unavailable("down")),
            key => self.memory.read(key, options).await,
        }
    }

    async fn remove(
        &self,
        key: &str,
        condition: sira_store::Condition,
    ) -> sira_store::Result<bool> {
        self.memory.remove(key, condition).await
    }

    async fn list(
        &self,
        options: sira_store::ListOptions,
    ) -> sira_store::Result<sira_store::ListPage> {
        self.memory.list(options).await
    }

    async fn batch(
        &self,
        operations: Vec<sira_store::BatchOperation>,
    ) -> sira_store::Result<Vec<sira_store::BatchResult>> {
        self.memory.batch(operations).await
    }

    async fn stats(&self) -> sira_store::Result<StorageStats> {
        self.memory.stats().await
    }

    async fn health_check(&self) -> sira_store::HealthStatus {
        self.memory.health_check().await
    }

    async fn namespace(&self, name: &str) -> sira_store::Result<Arc<dyn StorageBackend>> {
        self.memory.namespace(name).await
    }

    async fn flush(&self) -> sira_store::Result<()> {
        Ok(())
    }
}

struct Fixture {
    env: Arc<SimEnv>,
    collector: MetricsCollector,
    store: Arc<dyn StorageBackend>,
    monitor: Monitor,
    log: Text,
}

impl Fixture {
    fn new(ms: u64) -> Self {
        let env = Arc::new(SimEnv::new(1, 0));
        let collector = MetricsCollector::with_env(env.clone());
        let engine = Engine { memory: MemoryBackend::new(1000), env: env.clone(), ms };
        let store = Layers::new(Arc::new(engine)).name("hot").metrics(&collector).build();
        Self { env, collector, store, monitor: Monitor::default(), log: Text::default() }
    }

    /// Runs something with its log lines kept.
    fn logged<T>(&self, call: impl FnOnce() -> T) -> T {
        let subscriber = tracing_subscriber::fmt()
            .with_writer(self.log.clone())
            .with_ansi(false)
            .without_time()
            .finish();
        tracing::subscriber::with_default(subscriber, call)
    }

    fn read(&self, key: &str) {
        self.logged(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let id = Arc::from("id-1");
            let _ = runtime.block_on(sira_store::layers::in_request(
                id,
                self.store.read(key, Default::default()),
            ));
        });
    }

    fn look(&self, alerts: &AlertOptions, stats: Option<(u64, u64)>) -> Vec<String> {
        let stats = stats.map(|(used_bytes, available)| StorageStats {
            used_bytes,
            available_bytes: Some(available),
            ..StorageStats::default()
        });
        let stats = stats.map(|stats| ("hot".to_owned(), stats)).into_iter().collect();
        self.logged(|| self.monitor.look(alerts, &self.collector.figures(), &stats));
        self.log.lines()
    }

    fn metrics(&self) -> String {
        let mut out = MetricFamilies::default();
        self.monitor.write(&mut out);
        out.text()
    }
}

#[test]
fn slow_operations_are_told_with_their_request() {
    let fixture = Fixture::new(250);
    fixture.read("a");
    assert!(fixture.log.lines().is_empty());
    let slow = |ms| MonitoringOptions {
        slow_operation: Some(Duration::from_millis(ms)),
        ..MonitoringOptions::default()
    };
    fixture.monitor.apply(slow(251), &fixture.collector);
    fixture.read("a");
    assert!(fixture.log.lines().is_empty());
    fixture.monitor.apply(slow(250), &fixture.collector);
    fixture.read("down");
    let lines = fixture.log.lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    for part in [
        "WARN",
        "slow operation",
        r#"backend="hot""#,
        r#"operation="read""#,
        "duration_ms=250",
        r#"error="unavailable""#,
        r#"request_id="id-1""#,
    ] {
        assert!(lines[0].contains(part), "{part} is not in {}", lines[0]);
    }
    fixture.monitor.apply(MonitoringOptions::default(), &fixture.collector);
    fixture.read("a");
    assert!(fixture.log.lines().is_empty());
}

#[test]
fn latency_fires_and_is_over_when_the_minute_is() {
    let fixture = Fixture::new(60);
    let alerts =
        AlertOptions { latency_p99: Some(Duration::from_millis(50)), ..AlertOptions::default() };
    assert!(fixture.look(&alerts, None).is_empty());
    fixture.read("a");
    let lines = fixture.look(&alerts, None);
    assert!(lines.len() == 1 && lines[0].contains("WARN"), "{lines:?}");
    assert!(lines[0].contains(r#"alert="latency_p99" backend="hot""#), "{lines:?}");
    let firing = "sira_alert_firing{alert=\"latency_p99\",backend=\"hot\"} ";
    assert!(fixture.metrics().contains(&format!("{firing}1\n")), "{}", fixture.metrics());
    // Told once.
    assert!(fixture.look(&alerts, None).is_empty());
    fixture.env.advance_ms(120_000);
    let lines = fixture.look(&alerts, None);
    assert!(lines.len() == 1 && lines[0].contains("INFO"), "{lines:?}");
    assert!(fixture.metrics().contains(&format!("{firing}0\n")), "{}", fixture.metrics());
}

#[test]
fn errors_count_within_an_interval_and_only_the_backends_own() {
    let fixture = Fixture::new(0);
    let alerts = AlertOptions { error_percent: Some(25.0), ..AlertOptions::default() };
    for key in ["a", "a", "a", "down"] {
        fixture.read(key);
    }
    // A quarter is not more than a quarter.
    assert!(fixture.look(&alerts, None).is_empty());
    fixture.read("down");
    assert!(fixture.look(&alerts, None)[0].contains("WARN"));
    assert!(fixture.look(&alerts, None)[0].contains("INFO"));
    fixture.logged(|| {
        let absent = sira_store::Condition::IfMatch(sira_store::Version::default());
        pollster(fixture.store.remove("a", absent)).unwrap_err();
    });
    assert!(fixture.look(&alerts, None).is_empty());
}

fn pollster<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

#[test]
fn a_full_medium_fires_and_stays_while_nothing_is_known() {
    let fixture = Fixture::new(0);
    let alerts = AlertOptions { storage_full_percent: Some(90.0), ..AlertOptions::default() };
    assert!(fixture.look(&alerts, Some((90, 10))).is_empty());
    assert!(fixture.look(&alerts, Some((91, 9)))[0].contains("alert=\"storage_full_percent\""));
    assert!(fixture.look(&alerts, None).is_empty());
    assert!(fixture.metrics().ends_with(" 1\n"));
    assert!(fixture.look(&alerts, Some((50, 50)))[0].contains("INFO"));
    assert!(fixture.look(&AlertOptions::default(), None).is_empty());
    assert_eq!(fixture.metrics(), "");
}
