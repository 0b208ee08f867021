//! What is in use, where that is heading, and what it costs, over HTTP and over restarts.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use sira_server::capacity::CapacitySettings;
use sira_store::MemoryBackend;
use sira_store::capacity::{
    CostSettings, PriceList, UsageOf, UsageSample, UsageSeries, UsageStore,
};
use sira_store::client::{NamespacePolicy, StoragePlan};
use sira_store::embedded::EmbeddedBackend;
use sira_store::layers::Layers;

use crate::support::{Running, problem, start};

const HOUR_MS: u64 = 3_600_000;

/// Samples and counts often.
fn eager() -> CapacitySettings {
    CapacitySettings {
        sample_interval: Duration::from_millis(40),
        count_interval: Duration::from_millis(40),
        ..CapacitySettings::default()
    }
}

async fn json(running: &Running, path: &str) -> Value {
    let answer = running.get(path).await;
    assert_eq!(answer.status(), 200, "{path}");
    answer.json().await.unwrap()
}

/// Asks until the answer is what it should be.
async fn until(running: &Running, path: &str, right: impl Fn(&Value) -> bool) -> Value {
    let mut answer = Value::Null;
    for _ in 0..1200 {
        answer = json(running, path).await;
        if right(&answer) {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("{path}: {answer}");
}

/// Writes down a month of growth, as a server before would have: a gibibyte a day.
async fn remember(running: &Running, backend: &str) {
    let env = Arc::clone(running.storage.engine.env());
    let now = env.now_ms() / HOUR_MS;
    let mut series = UsageSeries::default();
    for hour in 0..40 * 24_u64 {
        let used_bytes = (hour << 30) / 24;
        let sample = UsageSample { used_bytes, objects: Some(hour), operations: 1 };
        series.record(HOUR_MS, (now - 40 * 24 + hour) * HOUR_MS, sample);
    }
    let kept = EmbeddedBackend::new(Arc::clone(&running.storage.engine));
    let kept = kept.unmade("sira.catalog.usage").unwrap();
    UsageStore::new(Arc::new(kept)).write(&UsageOf::backend(backend), &series, None).await.unwrap();
}

fn two_backends(running: &Running) {
    let memory = Arc::new(MemoryBackend::new(100 << 30));
    let counted = Layers::new(memory).name("memory").metrics(&running.storage.collector).build();
    let plan = StoragePlan {
        backends: [("memory".to_owned(), counted)].into(),
        namespaces: [("there".to_owned(), NamespacePolicy::on("memory"))].into(),
        ..StoragePlan::default()
    };
    running.storage.apply(plan).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn namespaces_and_backends_are_sampled_and_counted() {
    let s = start().await;
    two_backends(&s);
    for n in 0..20 {
        assert!(s.put(&format!("/v1/there/k{n:02}"), "x".repeat(97)).await.status().is_success());
        assert!(s.put(&format!("/v1/here/k{n:02}"), "y".repeat(997)).await.status().is_success());
    }
    s.storage.capacity.apply(eager(), CostSettings::default());
    let report = until(&s, "/capacity", |it| {
        it["namespaces"]["there"]["objects"] == 20
            && it["namespaces"]["here"]["objects"] == 20
            && it["backends"]["embedded"]["used_bytes"].as_u64() > Some(20_000)
    })
    .await;
    assert_eq!(report["horizon_days"], 30.0);
    assert_eq!(report["namespaces"]["there"]["used_bytes"], 2_000);
    assert_eq!(report["namespaces"]["here"]["used_bytes"], 20_000);
    let on = &report["namespaces"]["there"]["backends"]["memory"];
    assert_eq!((&on["objects"], &on["used_bytes"]), (&Value::from(20), &Value::from(2_000)));
    assert!(on["counted_ms"].as_u64().is_some());
    // What the server keeps for itself is nobody's namespace.
    let names: Vec<&String> = report["namespaces"].as_object().unwrap().keys().collect();
    assert!(names.iter().all(|name| !name.starts_with("sira.")), "{names:?}");
    let embedded = &report["backends"]["embedded"];
    assert!(embedded["available_bytes"].as_u64().is_some());

    // Too little is known at first, and that is said; a forecast comes by itself.
    let report =
        until(&s, "/capacity?horizon=10s", |it| it["backends"]["memory"]["outlook"].is_object())
            .await;
    let outlook = &report["backends"]["memory"]["outlook"];
    assert_eq!(outlook["step_ms"], 40);
    assert!(outlook["forecast"]["backtest"]["naive"]["wape"].is_number(), "{outlook}");
    assert!(outlook["points"].as_array().unwrap().len() > 100);

    // What was removed is gone, and what was dropped is forgotten.
    assert_eq!(s.delete("/v1/there/k00").await.status(), 204);
    assert_eq!(s.delete("/v1/here?confirm=here").await.status(), 204);
    until(&s, "/capacity", |it| {
        it["namespaces"]["there"]["objects"] == 19 && it["namespaces"].get("here").is_none()
    })
    .await;
    for (path, part) in [
        ("/capacity?horizon=0s", "horizon is"),
        ("/capacity?horizon=10y", "horizon is"),
        ("/capacity?horizon=2000d", "horizon is"),
        ("/capacity?days=3", "not known"),
        ("/cost?x=1", "not known"),
    ] {
        let told = problem(s.get(path).await, 400, "invalid_input").await;
        assert!(told["detail"].as_str().unwrap().contains(part), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_survives_a_restart_and_says_when_it_is_full() {
    let s = start().await;
    let early =
        until(&s, "/capacity", |it| it["backends"]["embedded"]["used_bytes"].is_u64()).await;
    let told = early["backends"]["embedded"]["no_outlook"].as_str().unwrap();
    assert!(told.starts_with("too little history: "), "{told}");
    remember(&s, "memory").await;
    assert!(s.put("/v1/kept/a", "x").await.status().is_success());
    s.storage.capacity.apply(eager(), CostSettings::default());
    let counted = |it: &Value| {
        let on = it.pointer("/namespaces/kept/backends/embedded/counted_ms");
        on.and_then(Value::as_u64)
    };
    until(&s, "/capacity", |it| counted(it).is_some()).await;
    s.storage.capacity.apply(CapacitySettings::default(), CostSettings::default());
    tokio::time::sleep(Duration::from_millis(200)).await;
    let before = counted(&json(&s, "/capacity").await);
    let s = s.restart().await;
    // What was counted an hour ago at most is not counted again.
    let report = until(&s, "/capacity", |it| counted(it).is_some()).await;
    assert_eq!(counted(&report), before);
    two_backends(&s);
    s.storage.capacity.apply(
        CapacitySettings { horizon: Duration::from_secs(7 * 86_400), ..Default::default() },
        CostSettings::default(),
    );
    let right = |it: &Value| it["backends"]["memory"]["outlook"].is_object();
    let report = until(&s, "/capacity?horizon=30d", right).await;
    let outlook = &report["backends"]["memory"]["outlook"];
    assert_eq!(outlook["step_ms"], 24 * HOUR_MS);
    let growth = outlook["growth_bytes_per_day"].as_f64().unwrap() / f64::from(1 << 30);
    assert!((0.95..1.05).contains(&growth), "{growth}");
    // Of 100 GiB, 40 were in use yesterday; what is there now, nothing, is not a day's yet.
    let full = &outlook["days_until_full"];
    let expected = full["expected"].as_f64().unwrap_or_else(|| panic!("{full}"));
    assert!((57.0..62.0).contains(&expected), "{full}");
    assert!(
        full["earliest"].as_f64() <= Some(expected) && full["latest"].as_f64() >= Some(expected)
    );
    // The metrics have what was forecast at the last sample, which may be under way.
    let mut metrics = String::new();
    for _ in 0..600 {
        metrics = s.get("/metrics").await.text().await.unwrap();
        if metrics.contains("sira_capacity_forecast_accuracy_ratio{backend=\"memory\"}") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for name in [
        "sira_capacity_used_bytes{backend=\"memory\"}",
        "sira_capacity_available_bytes{backend=\"memory\"}",
        "sira_capacity_growth_bytes_per_day{backend=\"memory\"}",
        "sira_capacity_forecast_bytes{backend=\"memory\",bound=\"expected\"}",
        "sira_capacity_forecast_accuracy_ratio{backend=\"memory\"}",
        "sira_capacity_forecast_horizon_seconds 604800",
    ] {
        assert!(metrics.contains(&format!("\n{name}")), "{name}: {metrics}");
    }
    assert!(!metrics.contains("sira_cost_per_month"), "nothing has a price");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn costs_are_measured_and_reckoned() {
    let s = start().await;
    two_backends(&s);
    for n in 0..10 {
        assert!(s.put(&format!("/v1/there/k{n}"), "x".repeat(98)).await.status().is_success());
        assert_eq!(s.get(&format!("/v1/there/k{n}")).await.status(), 200);
    }
    let prices = PriceList {
        per_gib_month: 1024.0 * 1024.0,
        per_million_reads: 1e6,
        per_million_writes: 2e6,
        per_gib_read: 0.0,
    };
    let costs = CostSettings {
        currency: Some("EUR".to_owned()),
        backends: [("memory".to_owned(), prices)].into(),
        ..CostSettings::default()
    };
    s.storage.capacity.apply(eager(), costs);
    let right =
        |it: &Value| it["namespaces"]["there"]["memory"]["measured"]["stored_bytes"] == 1_000;
    let report = until(&s, "/cost", right).await;
    assert_eq!(report["currency"], "EUR");
    assert_eq!(report["unpriced"], serde_json::json!(["embedded"]));
    let there = &report["namespaces"]["there"]["memory"];
    assert_eq!(there["measured"]["read_bytes"], 980);
    let (reads, writes) = (&there["measured"]["reads"], &there["measured"]["writes"]);
    assert!(reads.as_u64() >= Some(10) && writes.as_u64() >= Some(10), "{there}");
    // A kibibyte is 1 here, so 1,000 bytes are 0.977.
    let storage = there["bill"]["storage_per_month"].as_f64().unwrap();
    assert!((storage - 1_000.0 / 1_024.0).abs() < 1e-9, "{storage}");
    let counted = there["bill"]["operations_counted"].as_f64().unwrap();
    let by_hand = reads.as_f64().unwrap() + 2.0 * writes.as_f64().unwrap();
    assert!((counted - by_hand).abs() < 1e-9, "{counted}");
    // A server that has just started cannot tell of a month.
    assert_eq!(there["bill"]["operations_per_month"], Value::Null);
    assert_eq!(report["total"]["total_per_month"], Value::Null);
    let memory = &report["backends"]["memory"];
    assert_eq!(memory["prices"]["per_million_writes"], 2e6);
    assert!(memory["measured"]["reads"].as_u64() >= reads.as_u64());
    assert_eq!(report["backends"]["embedded"]["bill"], Value::Null);
    let metrics = s.get("/metrics").await.text().await.unwrap();
    assert!(metrics.contains("\nsira_cost_per_month{backend=\"memory\",kind=\"storage\"}"));
    let counted = "\nsira_capacity_namespace_objects{backend=\"memory\",namespace=\"there\"} 10";
    assert!(metrics.contains(counted), "{metrics}");
}
