use serde_json::{Value, json};

use crate::support::{Running, problem, start};

async fn take(s: &Running, body: Value) -> u64 {
    let response = s.post("/locks", &body).await;
    assert_eq!(response.status(), 200, "{body}");
    let answer: Value = response.json().await.unwrap();
    assert_eq!((&answer["key"], &answer["owner"]), (&body["key"], &body["owner"]));
    answer["token"].as_u64().unwrap()
}

async fn locks(s: &Running) -> Vec<Value> {
    let answer: Value = s.get("/locks").await.json().await.unwrap();
    answer["locks"].as_array().unwrap().clone()
}

#[tokio::test]
async fn locks_are_taken_renewed_and_released() {
    let s = start().await;
    let one = json!({"key": "job:7", "owner": "one", "lease_ms": 60_000});
    let token = take(&s, one.clone()).await;
    assert_eq!(take(&s, one).await, token, "the same owner has it already");
    let renewed = json!({"key": "job:7", "owner": "one", "token": token, "lease_ms": 50_000});
    assert_eq!(take(&s, renewed).await, token);

    let other = json!({"key": "job:7", "owner": "other", "mode": "shared", "wait_ms": 5});
    let document = problem(s.post("/locks", &other).await, 423, "locked").await;
    assert_eq!(document["retryable"], true);
    assert!(document["detail"].as_str().unwrap().contains("one"), "{document}");
    problem(s.delete("/locks?key=job:7&owner=other").await, 404, "not_found").await;

    let held = locks(&s).await;
    assert_eq!(held.len(), 1);
    assert_eq!(held[0]["namespace"], "default");
    assert_eq!(held[0]["mode"], "exclusive");
    assert_eq!(held[0]["token"], token);
    assert!(held[0]["lease_left_ms"].as_u64().unwrap() <= 50_000);
    let metrics = s.get("/metrics").await.text().await.unwrap();
    assert!(metrics.contains("\nsira_locks_held 1\n"), "{metrics}");
    assert!(metrics.contains("\nsira_lock_timeouts_total 1\n"), "{metrics}");

    assert_eq!(s.delete("/locks?key=job:7&owner=one").await.status(), 204);
    let newer = take(&s, other).await;
    assert!(newer > token);
    let lost = json!({"key": "job:7", "owner": "one", "token": token});
    problem(s.post("/locks", &lost).await, 404, "not_found").await;
    // What is kept for tokens is nobody's namespace.
    let listed = s.get("/v1").await.text().await.unwrap();
    assert!(!listed.contains("sira.catalog"), "{listed}");
}

#[tokio::test]
async fn what_is_no_lock_is_refused() {
    let s = start().await;
    for body in [
        json!({"key": "", "owner": "one"}),
        json!({"key": "k", "owner": ""}),
        json!({"key": "k", "owner": "o".repeat(257)}),
        json!({"key": "k"}),
        json!({"key": "k", "owner": "one", "lease_ms": 0}),
        json!({"key": "k", "owner": "one", "lease_ms": 86_400_001}),
        json!({"key": "k", "owner": "one", "wait_ms": 60_001}),
        json!({"key": "k", "owner": "one", "mode": "both"}),
        json!({"key": "k", "owner": "one", "namespace": "a/b"}),
    ] {
        problem(s.post("/locks", &body).await, 400, "invalid_input").await;
    }
    let own = json!({"key": "k", "owner": "one", "namespace": "sira.catalog.locks"});
    problem(s.post("/locks", &own).await, 403, "permission_denied").await;
    problem(s.delete("/locks?key=k").await, 400, "invalid_input").await;
    assert_eq!(locks(&s).await, Vec::<Value>::new());
}
