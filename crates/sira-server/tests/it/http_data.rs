use serde_json::{Value, json};

use crate::support::{problem, start};

#[tokio::test]
async fn data_comes_back_as_json() {
    let s = start().await;
    problem(s.get("/api/data/a").await, 404, "not_found").await;
    problem(s.delete("/api/data/a").await, 404, "not_found").await;
    let body = json!({"key": "users/a b", "value": "grüß", "ttl_seconds": 60.5,
        "content_type": "text/plain", "metadata": {"m": "1"}});
    let post = s.post("/api/data", &body).await;
    assert_eq!(post.status(), 201);
    assert_eq!(post.headers()["location"], "/api/data/users/a%20b");
    let stored: Value = post.json().await.unwrap();
    assert_eq!(stored["key"], "users/a b");
    assert_eq!(stored["size"], 6);

    let data: Value = s.get("/api/data/users/a%20b").await.json().await.unwrap();
    assert_eq!(data["key"], "users/a b");
    assert_eq!(data["value"], "grüß");
    assert!(data.get("value_base64").is_none());
    assert_eq!(data["version"], stored["version"]);
    assert_eq!(data["expires_at_ms"], stored["expires_at_ms"]);
    assert!(data["expires_at_ms"].is_u64());
    assert_eq!(data["content_type"], "text/plain");
    assert_eq!(data["metadata"]["m"], "1");
    let raw = s.get("/v1/default/users/a%20b").await;
    assert_eq!(raw.text().await.unwrap(), "grüß");
    assert_eq!(s.delete("/api/data/users/a%20b").await.status(), 204);
    problem(s.get("/api/data/users/a%20b").await, 404, "not_found").await;
}

#[tokio::test]
async fn bytes_that_are_no_text_are_base64() {
    let s = start().await;
    let body = json!({"key": "k", "value_base64": "gP8="});
    assert_eq!(s.post("/api/data", &body).await.status(), 201);
    let data: Value = s.get("/api/data/k").await.json().await.unwrap();
    assert_eq!(data["value_base64"], "gP8=");
    assert!(data.get("value").is_none());
    assert_eq!(data["size"], 2);
}

#[tokio::test]
async fn wrong_documents_are_refused() {
    let s = start().await;
    for body in [
        json!({"value": "x"}),
        json!({"key": "k"}),
        json!({"key": "k", "value": 1}),
        json!({"key": "k", "value": "x", "value_base64": "YQ=="}),
        json!({"key": "k", "value": "x", "ttl_seconds": 0}),
        json!({"key": "k", "value": "x", "ttl": 1}),
        json!({"key": "", "value": "x"}),
        json!([]),
    ] {
        problem(s.post("/api/data", &body).await, 400, "invalid_input").await;
    }
    let body = json!({"key": "k".repeat(1025), "value": "x"});
    problem(s.post("/api/data", &body).await, 413, "too_large").await;
    problem(s.get("/api/data/%zz").await, 400, "invalid_input").await;
}

#[tokio::test]
async fn a_value_too_large_for_json_says_where_it_is() {
    let s = start().await;
    s.put("/v1/default/big", vec![b'x'; 33 << 20]).await;
    let document = problem(s.get("/api/data/big").await, 413, "too_large").await;
    assert!(document["detail"].as_str().unwrap().contains("/v1/default/big"));
}
