//! Earlier versions of objects, over HTTP.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sira_store::client::{NamespacePolicy, StoragePlan};
use sira_store::placement::Catalog;
use sira_store::version_history::KeepVersions;
use sira_store::{MemoryBackend, StorageBackend};

use crate::support::{Running, etag, problem, start};

async fn keeping() -> Running {
    let running = start().await;
    let keep = KeepVersions { count: Some(5), age: Some(Duration::from_secs(3600)) };
    let policy = NamespacePolicy { keep_versions: Some(keep), ..NamespacePolicy::default() };
    let mut plan = StoragePlan::default();
    plan.namespaces.insert("prompts".to_owned(), policy);
    running.storage.apply(plan).unwrap();
    running
}

async fn put(s: &Running, value: &str) -> String {
    let answer = s.put("/v1/prompts/a/b", value.to_owned()).await;
    assert!(answer.status().is_success());
    etag(&answer).trim_matches('"').to_owned()
}

async fn json(s: &Running, path: &str) -> Value {
    let answer = s.get(path).await;
    assert_eq!(answer.status(), StatusCode::OK, "{path}");
    answer.json().await.unwrap()
}

#[tokio::test]
async fn versions_are_listed_read_restored_and_erased() {
    let s = keeping().await;
    let one = put(&s, "the first").await;
    let two = put(&s, "the second").await;
    let listed = json(&s, "/versions?namespace=prompts&key=a/b").await;
    assert_eq!(listed["versions"][0]["version"], two);
    assert_eq!(listed["versions"][0].get("ended_at_ms"), None);
    assert_eq!(listed["versions"][1]["version"], one);
    assert!(listed["versions"][1]["ended_at_ms"].as_u64().is_some());
    assert_eq!(listed["has_more"], false);

    let old = s.get(&format!("/v1/prompts/a/b?version={one}")).await;
    assert_eq!(etag(&old), format!("\"{one}\""));
    assert_eq!(old.text().await.unwrap(), "the first");
    let path = format!("/v1/prompts/a/b?version={one}");
    let part = s.request(Method::GET, &path).header("range", "bytes=4-8").send().await.unwrap();
    assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(part.headers()["content-range"], "bytes 4-8/9");
    assert_eq!(part.text().await.unwrap(), "first");
    let held = s.request(Method::GET, &path).header("if-none-match", format!("\"{one}\""));
    assert_eq!(held.send().await.unwrap().status(), StatusCode::NOT_MODIFIED);
    let head = s.request(Method::HEAD, &path).send().await.unwrap();
    assert_eq!(head.headers()["content-length"], "9");
    let at_ms = listed["versions"][0]["written_at_ms"].as_u64().unwrap();
    let now = s.get(&format!("/v1/prompts/a/b?at_ms={at_ms}")).await;
    assert_eq!(now.text().await.unwrap(), "the second");
    problem(s.get("/v1/prompts/a/b?at_ms=7").await, 404, "not_found").await;

    assert_eq!(s.delete("/v1/prompts/a/b").await.status(), StatusCode::NO_CONTENT);
    problem(s.get("/v1/prompts/a/b").await, 404, "not_found").await;
    let removed = json(&s, "/versions/removed?namespace=prompts&prefix=a").await;
    assert_eq!(removed["objects"][0]["key"], "a/b");
    assert_eq!(removed["objects"][0]["version"], two);
    let ask = json!({"namespace": "prompts", "key": "a/b", "version": one});
    let restored: Value = s.post("/versions/restore", &ask).await.json().await.unwrap();
    assert_eq!(restored["restored"], one);
    assert_eq!(s.get("/v1/prompts/a/b").await.text().await.unwrap(), "the first");

    let erase = format!("/versions?namespace=prompts&key=a/b&version={two}");
    let erased: Value = s.delete(&erase).await.json().await.unwrap();
    assert_eq!(erased["erased"], 1);
    problem(s.get(&format!("/v1/prompts/a/b?version={two}")).await, 404, "not_found").await;
    let all: Value =
        s.delete("/versions?namespace=prompts&key=a/b&all=true").await.json().await.unwrap();
    assert_eq!(all["erased"], 1);
    let listed = json(&s, "/versions?namespace=prompts&key=a/b").await;
    assert_eq!(listed["versions"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn batches_and_transactions_keep_what_they_replace() {
    let s = keeping().await;
    put(&s, "1").await;
    let batch = json!({"operations": [{"op": "put", "key": "a/b", "value": "2"}]});
    assert_eq!(s.post("/v1/prompts/_batch", &batch).await.status(), StatusCode::OK);
    let operations = json!([{"op": "delete", "key": "a/b"}]);
    let tx = json!({"namespaces": {"prompts": {"operations": operations}, "other": {
        "operations": [{"op": "put", "key": "x", "value": "y"}]}}});
    assert_eq!(s.post("/v1/_tx", &tx).await.status(), StatusCode::OK);
    let listed = json(&s, "/versions?namespace=prompts&key=a/b").await;
    assert_eq!(listed["versions"].as_array().unwrap().len(), 2, "{listed}");
}

#[tokio::test]
async fn what_is_kept_is_shown_nowhere_else_and_goes_with_its_namespace() {
    let s = keeping().await;
    put(&s, "1").await;
    put(&s, "2").await;
    let listed = s.get("/v1").await.text().await.unwrap();
    assert!(listed.contains("prompts") && !listed.contains("sira."), "{listed}");
    problem(s.get("/v1/sira.versions.prompts").await, 404, "not_found").await;
    let write = s.put("/v1/sira.versions.prompts/k", "v".to_owned()).await;
    problem(write, 403, "permission_denied").await;

    assert_eq!(s.delete("/v1/prompts?confirm=prompts").await.status(), StatusCode::NO_CONTENT);
    put(&s, "3").await;
    let listed = json(&s, "/versions?namespace=prompts&key=a/b").await;
    assert_eq!(listed["versions"].as_array().unwrap().len(), 1, "{listed}");
}

#[tokio::test]
async fn wrong_questions_are_refused() {
    let s = keeping().await;
    put(&s, "1").await;
    s.put("/v1/plain/k", "v".to_owned()).await;
    problem(s.get("/versions?namespace=plain&key=k").await, 501, "unsupported").await;
    problem(s.get("/v1/plain/k?version=0000000000000001").await, 501, "unsupported").await;
    for path in [
        "/versions?namespace=prompts",
        "/versions?namespace=prompts&key=k&before=x",
        "/versions?namespace=prompts&key=k&limit=x",
        "/v1/prompts/a/b?version=x",
        "/v1/prompts/a/b?version=0000000000000001&at_ms=1",
        "/v1/prompts/a/b?verzion=1",
    ] {
        problem(s.get(path).await, 400, "invalid_input").await;
    }
    problem(s.delete("/versions?namespace=prompts&key=k").await, 400, "invalid_input").await;
    for body in [
        json!({"namespace": "prompts", "key": "k"}),
        json!({"namespace": "prompts", "key": "k", "version": "1"}),
        json!({"namespace": "prompts", "key": "k", "version": "0000000000000001", "at_ms": 1}),
    ] {
        problem(s.post("/versions/restore", &body).await, 400, "invalid_input").await;
    }
    // Nothing but the whole object is written and removed by its path.
    let version = "/v1/prompts/a/b?version=0000000000000001";
    problem(s.delete(version).await, 400, "invalid_input").await;
    problem(s.put(version, "2".to_owned()).await, 400, "invalid_input").await;
    assert_eq!(s.get("/v1/prompts/a/b").await.text().await.unwrap(), "1");
    let missing = json!({"namespace": "prompts", "key": "k", "version": "0000000000000001"});
    problem(s.post("/versions/restore", &missing).await, 404, "not_found").await;
}

#[tokio::test]
async fn what_is_kept_moves_to_another_backend() {
    let s = keeping().await;
    let memory = || Arc::new(MemoryBackend::new(64 << 20));
    let (cold, mut plan) = (memory(), StoragePlan::clone(&s.storage.client.plan()));
    plan.backends.insert("cold".to_owned(), cold.clone());
    plan.catalog = Some(Catalog::new(memory()).unwrap());
    s.storage.client.apply(plan).unwrap();
    let first = put(&s, "the first").await;
    put(&s, "the second").await;
    let ask = json!({"namespace": "sira.versions.prompts", "from": "embedded", "to": "cold"});
    let begun: Value = s.post("/migrations", &ask).await.json().await.unwrap();
    let path = format!("/migrations/{}", begun["id"]);
    let mut told = begun;
    for _ in 0..600 {
        if told["state"] != "running" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        told = json(&s, &path).await;
    }
    assert_eq!((&told["state"], &told["report"]["copied"]), (&json!("done"), &json!(1)), "{told}");
    let there = StorageBackend::namespace(&*cold, "sira.versions.prompts").await.unwrap();
    assert_eq!(there.list_keys("", 10).await.unwrap().len(), 1);
    let old = s.get(&format!("/v1/prompts/a/b?version={first}")).await;
    assert_eq!(old.text().await.unwrap(), "the first");
    assert_eq!(s.get("/v1/prompts/a/b").await.text().await.unwrap(), "the second");
}
