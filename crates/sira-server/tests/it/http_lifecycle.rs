//! Rules about objects that grow old, over HTTP and by themselves.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sira_server::lifecycle::LifecycleSettings;
use sira_store::client::StoragePlan;
use sira_store::lifecycle::{LifecycleAction, LifecycleRule};
use sira_store::placement::Catalog;
use sira_store::{MemoryBackend, StorageBackend};

use crate::support::{Running, problem, start};

async fn ruled(interval: Duration) -> (Running, Arc<MemoryBackend>) {
    let running = start().await;
    let cold = Arc::new(MemoryBackend::new(64 << 20));
    let mut plan = StoragePlan::default();
    plan.backends.insert("cold".to_owned(), cold.clone());
    plan.catalog = Some(Catalog::new(Arc::new(MemoryBackend::new(64 << 20))).unwrap());
    running.storage.apply(plan).unwrap();
    let rule = |name: &str, keys: &str, action| LifecycleRule {
        keys: Some(keys.parse().unwrap()),
        ..LifecycleRule::new(name, action)
    };
    let rules = vec![
        rule("old", "tmp/*", LifecycleAction::Expire),
        rule("cold", "big/*", LifecycleAction::Move { to: "cold".to_owned() }),
    ];
    running.storage.lifecycle.apply(LifecycleSettings { rules, interval });
    for key in ["tmp/1", "tmp/2", "big/1", "kept"] {
        let answer = running.put(&format!("/v1/data/{key}"), "value".to_owned()).await;
        assert!(answer.status().is_success());
    }
    (running, cold)
}

async fn keys(s: &Running) -> Vec<String> {
    let listed: Value = s.get("/v1/data").await.json().await.unwrap();
    let entries = listed["entries"].as_array().unwrap();
    entries.iter().map(|entry| entry["key"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn rules_are_told_tried_and_looked_to() {
    let (s, cold) = ruled(Duration::ZERO).await;
    let told: Value = s.get("/lifecycle").await.json().await.unwrap();
    assert_eq!(told["rules"][0], json!({"name": "old", "action": "expire", "about": "keys tmp/*"}));
    assert_eq!(told["rules"][1]["to"], "cold");
    assert_eq!((&told["running"], &told["interval_seconds"]), (&json!(false), &json!(0.0)));

    let dry: Value =
        s.post("/lifecycle/run", &json!({"dry_run": true})).await.json().await.unwrap();
    assert_eq!(dry["rules"]["old"]["objects"], 2);
    assert_eq!(keys(&s).await.len(), 4);

    let mut from = Value::Null;
    let mut removed = 0;
    loop {
        let ask = json!({"limit": 1, "from": from});
        let part: Value = s.post("/lifecycle/run", &ask).await.json().await.unwrap();
        removed += part["rules"]["old"]["objects"].as_u64().unwrap_or(0);
        from = part["next"].clone();
        if from.is_null() {
            break;
        }
    }
    assert_eq!(removed, 2);
    assert_eq!(keys(&s).await, ["big/1", "kept"]);
    let there = StorageBackend::namespace(&*cold, "data").await.unwrap();
    assert_eq!(there.list_keys("", 10).await.unwrap(), ["big/1"]);
    assert_eq!(s.get("/v1/data/big/1").await.text().await.unwrap(), "value");
    let metrics = s.get("/metrics").await.text().await.unwrap();
    let moved = "\nsira_lifecycle_objects_total{rule=\"cold\",action=\"move\"} 1\n";
    assert!(metrics.contains(moved), "{metrics}");
    assert!(metrics.contains("sira_lifecycle_bytes_total{rule=\"old\",action=\"expire\"} 10\n"));
    problem(s.post("/lifecycle/run", &json!({"dry": true})).await, 400, "invalid_input").await;
}

#[tokio::test]
async fn rules_are_looked_to_by_themselves() {
    let (s, _cold) = ruled(Duration::from_millis(50)).await;
    for _ in 0..600 {
        let told: Value = s.get("/lifecycle").await.json().await.unwrap();
        if told.get("last").is_some() && keys(&s).await == ["big/1", "kept"] {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("nothing was looked to: {:?}", keys(&s).await);
}
