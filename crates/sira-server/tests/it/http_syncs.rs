//! Places that are kept level over HTTP.

use std::sync::Arc;
use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};
use sira_store::client::{NamespacePolicy, StoragePlan};
use sira_store::layers::Layers;
use sira_store::placement::Catalog;
use sira_store::{MemoryBackend, StorageBackend, StorageBackendExt};

use crate::support::{Running, problem, start};

/// A server over the embedded engine and a backend `hot`.
async fn two_backends(catalog: bool) -> (Running, Arc<MemoryBackend>) {
    let running = start().await;
    let hot = Arc::new(MemoryBackend::new(64 << 20));
    add_backend(&running, &hot, catalog);
    (running, hot)
}

fn add_backend(running: &Running, hot: &Arc<MemoryBackend>, catalog: bool) {
    let storage = &running.storage;
    let mut plan = StoragePlan::default();
    let layered = Layers::new(hot.clone()).name("hot").metrics(&storage.collector).build();
    plan.backends.insert("hot".to_owned(), layered);
    if catalog {
        plan.catalog = Some(Catalog::new(Arc::new(MemoryBackend::new(64 << 20))).unwrap());
        let direct = NamespacePolicy { direct: true, ..NamespacePolicy::on("hot") };
        plan.namespaces.insert("copy".to_owned(), direct);
    }
    storage.apply(plan).unwrap();
}

async fn begin(s: &Running, ask: &Value) -> String {
    let begun = s.post("/syncs", ask).await;
    assert_eq!(begun.status(), StatusCode::ACCEPTED, "{ask}");
    let begun: Value = begun.json().await.unwrap();
    format!("/syncs/{}", begun["id"])
}

/// Waits for what a sync says of itself.
async fn until(s: &Running, path: &str, holds: impl Fn(&Value) -> bool) -> Value {
    loop {
        let status: Value = s.get(path).await.json().await.unwrap();
        if holds(&status) {
            return status;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn run(s: &Running, ask: &Value) -> Value {
    let path = begin(s, ask).await;
    let ended = until(s, &path, |status| status["state"] != "running").await;
    assert_eq!(ended["state"], "done", "{ended}");
    ended["progress"]["report"].clone()
}

#[tokio::test]
async fn both_places_get_what_the_other_one_changed() {
    let (s, hot) = two_backends(false).await;
    let there = StorageBackend::namespace(&*hot, "n").await.unwrap();
    s.put("/v1/n/a", "1").await;
    there.put_bytes("b", "1").await.unwrap();
    let mut ask = json!({
        "from": { "backend": "embedded", "namespace": "n" },
        "to": { "backend": "hot", "namespace": "n" },
        "two_way": true,
        "verify": "all",
        "dry_run": true,
    });
    assert_eq!(run(&s, &ask).await["copied_to_target"], 1);
    assert!(there.get("a").await.unwrap().is_none());
    ask["dry_run"] = json!(false);
    let report = run(&s, &ask).await;
    assert_eq!((&report["copied_to_target"], &report["copied_to_source"]), (&json!(1), &json!(1)));
    assert_eq!(s.get("/v1/n/b").await.text().await.unwrap(), "1");
    there.delete("a").await.unwrap();
    assert_eq!(run(&s, &ask).await["removed_from_source"], 1);
    assert_eq!(s.get("/v1/n/a").await.status(), StatusCode::NOT_FOUND);
    let list: Value = s.get("/syncs").await.json().await.unwrap();
    assert_eq!(list["syncs"].as_array().unwrap().len(), 3);
    // What it remembers is shown to nobody.
    let names: Value = s.get("/v1").await.json().await.unwrap();
    let names = names["namespaces"].as_array().unwrap();
    assert!(names.iter().all(|name| !name["name"].as_str().unwrap().starts_with("sira.")));
}

#[tokio::test]
async fn a_copy_follows_the_log_of_the_engine() {
    let (s, hot) = two_backends(true).await;
    s.put("/v1/db0/a", "1").await;
    let ask = json!({
        "from": { "namespace": "db0" }, "to": { "namespace": "copy" }, "follow": true,
    });
    let path = begin(&s, &ask).await;
    // Only a log that is followed tells how many records it is behind.
    let level = |status: &Value| status["progress"]["lag_records"] == 0;
    until(&s, &path, |status| level(status) && status["progress"]["copied"] == 1).await;
    s.put("/v1/db0/b", "1").await;
    s.delete("/v1/db0/a").await;
    until(&s, &path, |status| status["progress"]["removed"] == 1).await;
    let there = StorageBackend::namespace(&*hot, "copy").await.unwrap();
    assert_eq!(there.list_keys("", 9).await.unwrap(), ["b"]);
    problem(s.post("/syncs", &ask).await, 409, "conflict").await;
    assert_eq!(s.delete(&path).await.status(), StatusCode::NO_CONTENT);
    until(&s, &path, |status| status["state"] == "done").await;

    // The next one goes on, without a pass.
    s.put("/v1/db0/c", "1").await;
    let path = begin(&s, &ask).await;
    let ended = until(&s, &path, |status| level(status) && status["progress"]["copied"] == 1).await;
    assert_eq!(ended["progress"]["passes"], 0);
    assert_eq!(there.list_keys("", 9).await.unwrap(), ["b", "c"]);
}

#[tokio::test]
async fn what_follows_goes_on_when_the_server_is_started_again() {
    let (s, hot) = two_backends(false).await;
    s.put("/v1/a/one", "1").await;
    s.put("/v1/b/one", "1").await;
    let ask = |namespace: &str, two_way: bool| {
        json!({
            "from": { "backend": "embedded", "namespace": namespace },
            "to": { "backend": "hot", "namespace": namespace },
            "follow": true, "two_way": two_way, "pass_interval_ms": 5,
        })
    };
    begin(&s, &ask("a", false)).await;
    begin(&s, &ask("b", true)).await;
    let ended = begin(&s, &ask("c", true)).await;
    assert_eq!(s.delete(&ended).await.status(), StatusCode::NO_CONTENT);
    // One that comes to its end by itself is not begun again.
    let mut once = ask("d", true);
    once["follow"] = json!(false);
    run(&s, &once).await;

    let list = async |s: &Running| -> Vec<Value> {
        let list: Value = s.get("/syncs").await.json().await.unwrap();
        list["syncs"].as_array().unwrap().clone()
    };
    let s = s.restart().await;
    // The backend is not there yet.
    let waiting = list(&s).await;
    let seen: Vec<_> =
        waiting.iter().map(|it| (&it["from"]["namespace"], &it["two_way"])).collect();
    assert_eq!(seen, [(&json!("a"), &json!(false)), (&json!("b"), &json!(true))]);
    for id in [1, 2] {
        let path = format!("/syncs/{id}");
        let waits = until(&s, &path, |status| status["error"].is_string()).await;
        assert_eq!(waits["state"], "waiting", "{waits}");
        assert!(waits["error"].as_str().unwrap().contains("hot"), "{waits}");
    }
    problem(s.post("/syncs", &ask("a", false)).await, 404, "not_found").await;

    add_backend(&s, &hot, false);
    problem(s.post("/syncs", &ask("a", false)).await, 409, "conflict").await;
    s.put("/v1/a/two", "2").await;
    s.put("/v1/b/two", "2").await;
    for namespace in ["a", "b"] {
        let there = StorageBackend::namespace(&*hot, namespace).await.unwrap();
        while there.list_keys("", 9).await.unwrap() != ["one", "two"] {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    // What is ended stays so.
    assert_eq!(s.delete("/syncs/2").await.status(), StatusCode::NO_CONTENT);
    until(&s, "/syncs/2", |status| status["state"] == "done").await;
    let s = s.restart().await;
    assert_eq!(list(&s).await.len(), 1);
    // Also what waits.
    assert_eq!(s.delete("/syncs/1").await.status(), StatusCode::NO_CONTENT);
    until(&s, "/syncs/1", |status| status["state"] == "cancelled").await;
    assert!(list(&s.restart().await).await.is_empty());
}

#[tokio::test]
async fn what_cannot_be_kept_level_is_refused() {
    let (s, _) = two_backends(true).await;
    s.put("/v1/n/a", "1").await;
    let place = |backend: Value, namespace: &str| match backend {
        Value::Null => json!({ "namespace": namespace }),
        backend => json!({ "backend": backend, "namespace": namespace }),
    };
    let ask = |from, to| json!({ "from": from, "to": to });
    let copy = || place(Value::Null, "copy");
    for (wrong, status) in [
        (ask(place(Value::Null, "nowhere"), copy()), 404),
        (ask(place(json!("cold"), "copy"), copy()), 404),
        (ask(copy(), copy()), 400),
        (ask(place(json!("embedded"), "n"), copy()), 501),
        (ask(place(Value::Null, "sira.catalog.syncs"), copy()), 403),
        (json!({ "from": place(Value::Null, "n") }), 400),
        (json!({ "from": place(Value::Null, "n"), "to": copy(), "pattern": "[" }), 400),
        (json!({ "from": place(Value::Null, "n"), "to": copy(), "conflict": "oldest" }), 400),
    ] {
        assert_eq!(s.post("/syncs", &wrong).await.status(), status, "{wrong}");
    }
    assert_eq!(s.get("/syncs/9").await.status(), StatusCode::NOT_FOUND);
    assert_eq!(s.delete("/syncs/9").await.status(), StatusCode::NOT_FOUND);
}
