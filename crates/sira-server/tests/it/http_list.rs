use reqwest::Method;
use serde_json::Value;

use crate::support::{Running, problem, start};

async fn page(s: &Running, query: &str) -> Value {
    let response = s.get(&format!("/v1/ns?{query}")).await;
    assert_eq!(response.status(), 200, "{query}");
    response.json().await.unwrap()
}

fn keys(page: &Value) -> Vec<&str> {
    page["entries"].as_array().unwrap().iter().map(|e| e["key"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn pages_cover_every_key_once() {
    let s = start().await;
    for n in 0..25 {
        s.put(&format!("/v1/ns/k{n:02}"), vec![0; n]).await;
    }
    let all = page(&s, "").await;
    assert_eq!(keys(&all).len(), 25);
    assert_eq!(all["has_more"], false);
    assert!(all.get("next").is_none());
    assert_eq!(all["entries"][3]["size"], 3);
    assert!(all["entries"][3].get("version").is_none());

    let mut seen = Vec::new();
    let mut after = String::new();
    loop {
        let page = page(&s, &format!("limit=7&start_after={after}")).await;
        seen.extend(keys(&page).into_iter().map(str::to_owned));
        assert_eq!(page["has_more"], page.get("next").is_some());
        match page["next"].as_str() {
            Some(next) => after = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(seen, keys(&all));
    assert_eq!(keys(&page(&s, "prefix=k1&start_after=k17").await), ["k18", "k19"]);
}

#[tokio::test]
async fn delimiters_fold_folders() {
    let s = start().await;
    for key in ["a", "b/1", "b/2", "b/c/3", "d+e/1", "z"] {
        s.put(&format!("/v1/ns/{key}"), "x").await;
    }
    let top = page(&s, "delimiter=%2F").await;
    assert_eq!(keys(&top), ["a", "z"]);
    assert_eq!(top["common_prefixes"], serde_json::json!(["b/", "d+e/"]));
    let below = page(&s, "delimiter=/&prefix=b/").await;
    assert_eq!(keys(&below), ["b/1", "b/2"]);
    assert_eq!(below["common_prefixes"], serde_json::json!(["b/c/"]));
    let encoded = page(&s, "prefix=d%2Be/").await;
    assert_eq!(keys(&encoded), ["d+e/1"]);
    let first = page(&s, "delimiter=/&limit=2").await;
    assert_eq!(first["has_more"], true);
    let next = first["next"].as_str().unwrap();
    let rest = page(&s, &format!("delimiter=/&start_after={next}")).await;
    assert_eq!(rest["common_prefixes"], serde_json::json!(["d+e/"]));
    assert_eq!(keys(&rest), ["z"]);
}

#[tokio::test]
async fn details_add_what_each_object_has() {
    let s = start().await;
    let put = s
        .request(Method::PUT, "/v1/ns/k")
        .header("content-type", "text/plain")
        .header("sira-meta-a", "b")
        .header("sira-ttl", "1h")
        .body("x")
        .send()
        .await
        .unwrap();
    let stored: Value = put.json().await.unwrap();
    let page = page(&s, "details").await;
    let entry = &page["entries"][0];
    assert_eq!(entry["version"], stored["version"]);
    assert_eq!(entry["expires_at_ms"], stored["expires_at_ms"]);
    assert_eq!(entry["content_type"], "text/plain");
    assert_eq!(entry["metadata"]["a"], "b");
    assert!(entry["modified_at_ms"].as_u64().unwrap() > 0);
}

#[tokio::test]
async fn wrong_parameters_are_refused() {
    let s = start().await;
    s.put("/v1/ns/k", "x").await;
    for query in ["limit=0", "limit=10001", "limit=x", "prefx=a", "details=maybe", "prefix=%ff"] {
        problem(s.get(&format!("/v1/ns?{query}")).await, 400, "invalid_input").await;
    }
}

#[tokio::test]
async fn dropping_a_namespace_wants_its_name_twice() {
    let s = start().await;
    s.put("/v1/ns/k", "x").await;
    s.put("/v1/other/k", "x").await;
    for query in ["", "?confirm", "?confirm=other", "?confirm=NS"] {
        problem(s.delete(&format!("/v1/ns{query}")).await, 400, "invalid_input").await;
    }
    let names: Value = s.get("/v1").await.json().await.unwrap();
    let ns = names["namespaces"].as_array().unwrap().iter().find(|e| e["name"] == "ns").unwrap();
    assert_eq!(ns["keys"], 1);
    assert_eq!(s.delete("/v1/ns?confirm=ns").await.status(), 204);
    problem(s.get("/v1/ns/k").await, 404, "not_found").await;
    problem(s.get("/v1/ns").await, 404, "not_found").await;
    assert_eq!(s.get("/v1/other/k").await.status(), 200);
    assert_eq!(s.put("/v1/ns/new", "x").await.status(), 201);
    problem(s.get("/v1/ns/k").await, 404, "not_found").await;
}
