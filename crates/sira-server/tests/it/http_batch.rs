use serde_json::{Value, json};

use crate::support::{check_document, problem, start};

#[tokio::test]
async fn a_batch_runs_in_order() {
    let s = start().await;
    s.put("/v1/ns/old", "old").await;
    let operations = json!({"operations": [
        {"op": "put", "key": "a", "value": "text", "ttl_seconds": 3600, "content_type": "text/plain",
         "metadata": {"m": "1"}},
        {"op": "put", "key": "b", "value_base64": "/wA="},
        {"op": "get", "key": "a"},
        {"op": "get", "key": "b"},
        {"op": "get", "key": "none"},
        {"op": "delete", "key": "old"},
        {"op": "delete", "key": "none"},
    ]});
    let response = s.post("/v1/ns/_batch", &operations).await;
    assert_eq!(response.status(), 200);
    let answer: Value = response.json().await.unwrap();
    let results = answer["results"].as_array().unwrap();
    assert_eq!(results.len(), 7);
    assert!(results.iter().all(|result| result["status"] == "ok"), "{answer}");
    assert!(results[0]["version"].is_string());
    assert_eq!(results[2]["value"], "text");
    assert_eq!(results[2]["metadata"]["m"], "1");
    assert!(results[2]["expires_at_ms"].is_u64());
    assert_eq!(results[3]["value_base64"], "/wA=");
    assert_eq!(results[3]["size"], 2);
    assert_eq!(results[4]["found"], false);
    assert_eq!(s.get("/v1/ns/b").await.bytes().await.unwrap(), &b"\xff\0"[..]);
    problem(s.get("/v1/ns/old").await, 404, "not_found").await;
}

#[tokio::test]
async fn a_batch_is_written_whole_or_not_at_all() {
    let s = start().await;
    let tag = s.put("/v1/ns/held", "x").await.headers()["etag"].to_str().unwrap().to_owned();
    for failing in [
        json!({"op": "put", "key": "held", "value": "y", "if_absent": true}),
        json!({"op": "put", "key": "held", "value": "y", "if_match": "0000000000000001"}),
    ] {
        let operations = json!({"operations": [
            {"op": "put", "key": "a", "value": "1"}, failing, {"op": "get", "key": "held"},
        ]});
        let answer = s.post("/v1/ns/_batch", &operations).await;
        let document = problem(answer, 412, "precondition_failed").await;
        let results = document["results"].as_array().unwrap();
        assert_eq!(results[0]["status"], "error");
        assert_eq!(results[1]["code"], "precondition_failed");
        assert_eq!(results[2]["value"], "x");
        problem(s.get("/v1/ns/a").await, 404, "not_found").await;
    }
    let operations = json!({"operations": [
        {"op": "put", "key": "a", "value": "1"},
        {"op": "put", "key": "k".repeat(1025), "value": "1"},
    ]});
    problem(s.post("/v1/ns/_batch", &operations).await, 413, "too_large").await;
    problem(s.get("/v1/ns/a").await, 404, "not_found").await;

    let operations = json!({"operations": [
        {"op": "put", "key": "held", "value": "y", "if_match": tag},
        {"op": "put", "key": "a", "value": "1", "if_absent": true},
    ]});
    assert_eq!(s.post("/v1/ns/_batch", &operations).await.status(), 200);
    assert_eq!(s.get("/v1/ns/held").await.text().await.unwrap(), "y");
}

#[tokio::test]
async fn what_was_read_is_checked_with_what_is_written() {
    let s = start().await;
    let tag = s.put("/v1/ns/price", "5").await.headers()["etag"].to_str().unwrap().to_owned();
    let order = |operations: Value| {
        let mut all = vec![json!({"op": "put", "key": "order", "value": "1"})];
        all.extend(operations.as_array().unwrap().iter().cloned());
        json!({ "operations": all })
    };
    for failing in [
        json!([{"op": "check", "key": "price", "if_absent": true}]),
        json!([{"op": "check", "key": "price", "if_match": "0000000000000001"}]),
        json!([{"op": "check", "key": "none", "if_present": true}]),
        json!([{"op": "delete", "key": "price", "if_match": "0000000000000001"}]),
    ] {
        let answer = s.post("/v1/ns/_batch", &order(failing)).await;
        let document = problem(answer, 412, "precondition_failed").await;
        assert_eq!(document["results"][1]["code"], "precondition_failed");
        problem(s.get("/v1/ns/order").await, 404, "not_found").await;
    }
    let right = json!([
        {"op": "check", "key": "none", "if_absent": true},
        {"op": "check", "key": "price", "if_match": tag},
        {"op": "delete", "key": "old"},
    ]);
    let answer: Value = s.post("/v1/ns/_batch", &order(right)).await.json().await.unwrap();
    assert!(answer["results"].as_array().unwrap().iter().all(|result| result["status"] == "ok"));
    assert_eq!(s.get("/v1/ns/order").await.text().await.unwrap(), "1");
    let removal = json!({"operations": [{"op": "delete", "key": "price", "if_match": tag}]});
    assert_eq!(s.post("/v1/ns/_batch", &removal).await.status(), 200);
    problem(s.get("/v1/ns/price").await, 404, "not_found").await;
}

#[tokio::test]
async fn malformed_batches_are_refused() {
    let s = start().await;
    for body in [
        json!({}),
        json!({"operations": [{"op": "fly", "key": "a"}]}),
        json!({"operations": [{"op": "put", "key": "a"}]}),
        json!({"operations": [{"op": "put", "key": "a", "value": "1", "value_base64": "YQ=="}]}),
        json!({"operations": [{"op": "put", "key": "a", "value_base64": "*"}]}),
        json!({"operations": [{"op": "put", "key": "a", "value": "1", "ttl_seconds": -1}]}),
        json!({"operations": [{"op": "put", "key": "a", "value": "1", "if_match": "x"}]}),
        json!({"operations": [{"op": "put", "key": "a", "value": "1", "vlaue": "x"}]}),
        json!({"operations": [{"op": "get", "key": "a", "value": "x"}]}),
        json!({"operations": [{"op": "put", "key": "", "value": "1"}]}),
        json!({"operations": [{"op": "check", "key": "a"}]}),
        json!({"operations": [{"op": "check", "key": "a", "if_absent": true, "if_match": "1"}]}),
        json!({"operations": [{"op": "delete", "key": "a", "if_present": 1}]}),
        json!({"operations": [{"op": "put", "key": "a", "value": "1", "metadata": {"A": "b"}}]}),
    ] {
        let answer = s.post("/v1/ns/_batch", &body).await;
        assert_eq!(answer.status(), 400, "{body}");
        check_document(&answer.json().await.unwrap(), 400, "invalid_input");
    }
    problem(s.get("/v1/ns/a").await, 404, "not_found").await;
    let reads = json!({"operations": [{"op": "get", "key": "a"}]});
    problem(s.post("/v1/ghost/_batch", &reads).await, 404, "not_found").await;
    let text = s.request(reqwest::Method::POST, "/v1/ns/_batch").body("{}").send().await.unwrap();
    problem(text, 415, "unsupported_media_type").await;
    let twice = s.request(reqwest::Method::POST, "/v1/ns/_batch").json(&reads);
    let twice = twice.header("sira-durability", "none").header("sira-durability", "sync");
    problem(twice.send().await.unwrap(), 400, "invalid_input").await;
    let empty = s.post("/v1/ns2/_batch", &json!({"operations": []})).await;
    problem(empty, 404, "not_found").await;
}
