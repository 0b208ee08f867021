use serde_json::{Value, json};

use crate::support::{check_document, etag, problem, start};

#[tokio::test]
async fn namespaces_change_together_or_not_at_all() {
    let s = start().await;
    let stock = etag(&s.put("/v1/shop/stock", "7").await);
    let price = etag(&s.put("/v1/shop/price", "5").await);
    let buy = |order: &str| {
        json!({"namespaces": {
            "shop": {"operations": [
                {"op": "check", "key": "price", "if_match": price},
                {"op": "put", "key": "stock", "value": "6", "if_match": stock},
                {"op": "get", "key": "stock"},
            ]},
            "orders": {"operations": [
                {"op": "put", "key": order, "value": "one of it", "if_absent": true},
            ]},
        }})
    };
    let response = s.post("/v1/_tx", &buy("1")).await;
    assert_eq!(response.status(), 200);
    let answer: Value = response.json().await.unwrap();
    let shop = &answer["namespaces"]["shop"]["results"];
    assert_eq!(shop[2]["value"], "6");
    assert_eq!(shop[1]["version"], shop[2]["version"]);
    assert!(answer["namespaces"]["orders"]["results"][0]["version"].is_string());
    assert_eq!(s.get("/v1/orders/1").await.text().await.unwrap(), "one of it");

    // The stock is another one now, so nothing is ordered.
    let document = problem(s.post("/v1/_tx", &buy("2")).await, 412, "precondition_failed").await;
    assert_eq!((&document["namespace"], &document["key"]), (&json!("shop"), &json!("stock")));
    problem(s.get("/v1/orders/2").await, 404, "not_found").await;
    // And where the order is there already, the stock stays.
    let stock = etag(&s.get("/v1/shop/stock").await);
    let again = json!({"namespaces": {
        "shop": {"operations": [{"op": "put", "key": "stock", "value": "5", "if_match": stock}]},
        "orders": {"operations": [{"op": "put", "key": "1", "value": "", "if_absent": true}]},
    }});
    let document = problem(s.post("/v1/_tx", &again).await, 412, "precondition_failed").await;
    assert_eq!((&document["namespace"], &document["key"]), (&json!("orders"), &json!("1")));
    assert_eq!(s.get("/v1/shop/stock").await.text().await.unwrap(), "6");
    // With one namespace, too, it is told where.
    let alone = json!({"namespaces": {
        "orders": {"operations": [{"op": "put", "key": "1", "value": "", "if_absent": true}]},
    }});
    let document = problem(s.post("/v1/_tx", &alone).await, 412, "precondition_failed").await;
    assert_eq!((&document["namespace"], &document["key"]), (&json!("orders"), &json!("1")));
}

#[tokio::test]
async fn listings_must_be_as_they_were() {
    let s = start().await;
    for key in ["a", "b", "c"] {
        s.put(&format!("/v1/ns/{key}"), key).await;
    }
    let add = |listed: Value, key: &str| {
        let put = json!([{"op": "put", "key": key, "value": "x"}]);
        json!({"namespaces": {"ns": {"listed": [listed], "operations": put}}})
    };
    for (listed, status) in [
        (json!({"keys": ["a", "b"]}), 412),
        (json!({"keys": ["a", "c"], "more": true}), 412),
        (json!({"keys": []}), 412),
        (json!({"prefix": "b", "keys": ["b"]}), 200),
        (json!({"keys": ["a", "b"], "more": true}), 200),
        (json!({"keys": ["c", "d1", "d2"], "start_after": "b"}), 412),
    ] {
        let key = if status == 200 { "d1" } else { "d2" };
        let response = s.post("/v1/_tx", &add(listed.clone(), key)).await;
        assert_eq!(response.status(), status, "{listed}");
    }
    let all = json!({"keys": ["a", "b", "c", "d1"]});
    assert_eq!(s.post("/v1/_tx", &add(all.clone(), "e")).await.status(), 200);
    assert_eq!(s.post("/v1/_tx", &add(all, "f")).await.status(), 412);
}

#[tokio::test]
async fn what_can_be_no_transaction_is_refused() {
    let s = start().await;
    for (request, status, code) in [
        (json!({"namespaces": {}}), 400, "invalid_input"),
        (json!({"namespaces": {"_a": {"operations": []}}}), 400, "invalid_input"),
        (json!({"namespaces": {"a": {"operation": []}}}), 400, "invalid_input"),
        (
            json!({"namespaces": {"a": {"operations": [{"op": "check", "key": "k"}]}}}),
            400,
            "invalid_input",
        ),
        (
            json!({"namespaces": {"a": {"operations": [{"op": "get", "key": "k"}]}}}),
            404,
            "not_found",
        ),
        (
            json!({"namespaces": {"a": {"operations": [{"op": "put", "key": "", "value": "v"}]}}}),
            400,
            "invalid_input",
        ),
    ] {
        problem(s.post("/v1/_tx", &request).await, status, code).await;
    }
    let many: Vec<_> =
        (0..50_001).map(|n| json!({"op": "delete", "key": format!("k{n}")})).collect();
    let request = json!({"namespaces": {"a": {"operations": many}, "b": {"operations": many}}});
    problem(s.post("/v1/_tx", &request).await, 413, "too_large").await;
    problem(s.get("/v1/a/k0").await, 404, "not_found").await;
    let response = s.get("/v1/_tx").await;
    assert_eq!(response.status(), 405);
    let document: Value = response.json().await.unwrap();
    check_document(&document, 405, "method_not_allowed");
}
