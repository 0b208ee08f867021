use std::time::Duration;

use reqwest::Method;
use serde_json::Value;

use crate::support::{etag, problem, start};

#[tokio::test]
async fn objects_come_back_with_their_fields() {
    let s = start().await;
    let put = s
        .request(Method::PUT, "/v1/models/a/b.bin")
        .header("content-type", "text/plain")
        .header("sira-meta-owner", "ada")
        .header("sira-meta-Run", "7")
        .header("sira-durability", "sync")
        .body("hello")
        .send()
        .await
        .unwrap();
    assert_eq!(put.status(), 201);
    let tag = etag(&put);
    let stored: Value = put.json().await.unwrap();
    assert_eq!(stored["namespace"], "models");
    assert_eq!(stored["key"], "a/b.bin");
    assert_eq!(stored["size"], 5);
    assert_eq!(format!("\"{}\"", stored["version"].as_str().unwrap()), tag);

    let get = s.get("/v1/models/a/b.bin").await;
    assert_eq!(get.status(), 200);
    assert_eq!(etag(&get), tag);
    assert_eq!(get.headers()["content-type"], "text/plain");
    assert_eq!(get.headers()["sira-meta-owner"], "ada");
    assert_eq!(get.headers()["sira-meta-run"], "7");
    assert_eq!(get.headers()["accept-ranges"], "bytes");
    assert!(get.headers().contains_key("last-modified"));
    assert_eq!(get.headers()["x-content-type-options"], "nosniff");
    assert_eq!(get.text().await.unwrap(), "hello");

    let head = s.request(Method::HEAD, "/v1/models/a/b.bin").send().await.unwrap();
    assert_eq!(head.status(), 200);
    assert_eq!(head.headers()["content-length"], "5");
    assert_eq!(etag(&head), tag);
    assert_eq!(head.text().await.unwrap(), "");

    assert_eq!(s.put("/v1/models/a/b.bin", "again").await.status(), 200);
    assert_eq!(s.delete("/v1/models/a/b.bin").await.status(), 204);
    problem(s.delete("/v1/models/a/b.bin").await, 404, "not_found").await;
    problem(s.get("/v1/models/a/b.bin").await, 404, "not_found").await;
    let head = s.request(Method::HEAD, "/v1/models/a/b.bin").send().await.unwrap();
    assert_eq!(head.status(), 404);
    assert_eq!(head.text().await.unwrap(), "");
}

#[tokio::test]
async fn any_key_and_any_bytes() {
    let s = start().await;
    let long = "k".repeat(1024);
    let cases = [
        ("%00%01", vec![0_u8, 255, 10]),
        ("a%2Fb//c/", Vec::new()),
        ("%F0%9F%A6%80", vec![7; 100_000]),
        ("_batch", b"an object".to_vec()),
        ("100%25", b"x".to_vec()),
        (long.as_str(), b"y".to_vec()),
    ];
    for (key, value) in &cases {
        let path = format!("/v1/ns/{key}");
        assert_eq!(s.put(&path, value.clone()).await.status(), 201, "{key}");
        let get = s.get(&path).await;
        assert_eq!(get.headers()["content-type"], "application/octet-stream");
        assert_eq!(get.bytes().await.unwrap(), value, "{key}");
    }
    let listing: Value = s.get("/v1/ns").await.json().await.unwrap();
    assert_eq!(listing["entries"].as_array().unwrap().len(), cases.len());
    assert_eq!(s.delete("/v1/ns/_batch").await.status(), 204);
    problem(s.put(&format!("/v1/ns/{long}k"), "z").await, 413, "too_large").await;
    problem(s.put("/v1/ns/%ff", "z").await, 400, "invalid_input").await;
    problem(s.put("/v1/ns/%zz", "z").await, 400, "invalid_input").await;
    problem(s.put("/v1/n%2Fs/key", "z").await, 400, "invalid_input").await;
    problem(s.put("/v1/ns/", "z").await, 404, "no_route").await;
}

#[tokio::test]
async fn reading_makes_no_namespace() {
    let s = start().await;
    for path in ["/v1/ghost", "/v1/ghost/key"] {
        problem(s.get(path).await, 404, "not_found").await;
    }
    problem(s.delete("/v1/ghost/key").await, 404, "not_found").await;
    problem(s.delete("/v1/ghost?confirm=ghost").await, 404, "not_found").await;
    let refused = s.request(Method::PUT, "/v1/ghost/key").header("if-match", "*").send();
    problem(refused.await.unwrap(), 412, "precondition_failed").await;
    let listing: Value = s.get("/v1").await.json().await.unwrap();
    let names = listing["namespaces"].as_array().unwrap();
    assert!(names.iter().all(|entry| entry["name"] != "ghost"), "{listing}");
}

#[tokio::test]
async fn writes_have_conditions() {
    let s = start().await;
    let put = |name: &'static str, value: String| {
        s.request(Method::PUT, "/v1/ns/k").header(name, value).body("x").send()
    };
    let created = put("if-none-match", "*".into()).await.unwrap();
    assert_eq!(created.status(), 201);
    let first = etag(&created);
    let again = put("if-none-match", "*".into()).await.unwrap();
    problem(again, 412, "precondition_failed").await;

    let swapped = put("if-match", first.clone()).await.unwrap();
    assert_eq!(swapped.status(), 200);
    let second = etag(&swapped);
    assert!(second > first);
    problem(put("if-match", first.clone()).await.unwrap(), 412, "precondition_failed").await;
    problem(put("if-match", "\"alien\"".into()).await.unwrap(), 412, "precondition_failed").await;
    problem(put("if-match", format!("W/{second}")).await.unwrap(), 412, "precondition_failed")
        .await;
    problem(put("if-none-match", second.clone()).await.unwrap(), 412, "precondition_failed").await;
    let third = put("if-match", format!("{first}, {second}")).await.unwrap();
    assert_eq!(third.status(), 200);
    let fourth = put("if-none-match", format!("{first}, {second}")).await.unwrap();
    assert_eq!(fourth.status(), 200);
    assert_eq!(put("if-match", "*".into()).await.unwrap().status(), 200);
    let old = "Mon, 01 Jan 2001 00:00:00 GMT".to_owned();
    problem(put("if-unmodified-since", old).await.unwrap(), 412, "precondition_failed").await;
    problem(put("if-match", "abc".into()).await.unwrap(), 400, "invalid_input").await;

    let current = etag(&s.get("/v1/ns/k").await);
    let delete = |tag: String| s.request(Method::DELETE, "/v1/ns/k").header("if-match", tag).send();
    problem(delete(first.clone()).await.unwrap(), 412, "precondition_failed").await;
    problem(delete(format!("{first}, {second}")).await.unwrap(), 412, "precondition_failed").await;
    assert_eq!(delete(format!("{first}, {current}")).await.unwrap().status(), 204);
    problem(put("if-match", "*".into()).await.unwrap(), 412, "precondition_failed").await;
}

#[tokio::test]
async fn only_one_of_sixteen_creates() {
    let s = start().await;
    let writers: Vec<_> = (0..16)
        .map(|n| {
            let request = s.request(Method::PUT, "/v1/ns/race").header("if-none-match", "*");
            tokio::spawn(async move { request.body(n.to_string()).send().await.unwrap().status() })
        })
        .collect();
    let mut created = 0;
    for writer in writers {
        match writer.await.unwrap().as_u16() {
            201 => created += 1,
            status => assert_eq!(status, 412),
        }
    }
    assert_eq!(created, 1);
}

#[tokio::test]
async fn reads_have_conditions() {
    let s = start().await;
    let tag = etag(&s.put("/v1/ns/k", "0123456789").await);
    let read = |method: Method, name: &'static str, value: &str| {
        s.request(method, "/v1/ns/k").header(name, value).send()
    };
    for method in [Method::GET, Method::HEAD] {
        for value in ["*", &tag, &format!("\"x\", W/{tag}")] {
            let fresh = read(method.clone(), "if-none-match", value).await.unwrap();
            assert_eq!(fresh.status(), 304, "{value}");
            assert_eq!(etag(&fresh), tag);
            assert!(fresh.bytes().await.unwrap().is_empty());
        }
        let other = read(method.clone(), "if-none-match", "\"x\"").await.unwrap();
        assert_eq!(other.status(), 200);
        assert_eq!(read(method.clone(), "if-match", &tag).await.unwrap().status(), 200);
        assert_eq!(read(method, "if-match", "\"x\"").await.unwrap().status(), 412);
    }
    let stale = read(Method::GET, "if-match", "\"x\"").await.unwrap();
    problem(stale, 412, "precondition_failed").await;
    let modified = s.get("/v1/ns/k").await.headers()["last-modified"].clone();
    let since = s.request(Method::GET, "/v1/ns/k").header("if-modified-since", modified).send();
    assert_eq!(since.await.unwrap().status(), 304);
    let absent = s.request(Method::GET, "/v1/ns/none").header("if-match", "*").send();
    problem(absent.await.unwrap(), 404, "not_found").await;
}

#[tokio::test]
async fn ranges_are_exact() {
    let s = start().await;
    let value: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
    let tag = etag(&s.put("/v1/ns/k", value.clone()).await);
    let read = |range: &'static str| s.request(Method::GET, "/v1/ns/k").header("range", range);
    for (range, start, end) in [
        ("bytes=0-0", 0, 1),
        ("bytes=65535-131073", 65_535, 131_074),
        ("bytes=299999-", 299_999, 300_000),
        ("bytes=-5", 299_995, 300_000),
        ("bytes=299990-999999999", 299_990, 300_000),
        ("bytes=-999999999", 0, 300_000),
    ] {
        let part = read(range).header("if-range", &tag).send().await.unwrap();
        assert_eq!(part.status(), 206, "{range}");
        let expected = format!("bytes {start}-{}/300000", end - 1);
        assert_eq!(part.headers()["content-range"], expected);
        assert_eq!(part.headers()["content-length"], (end - start).to_string());
        assert_eq!(part.bytes().await.unwrap(), value[start..end], "{range}");
    }
    for range in ["bytes=300000-", "bytes=-0", "bytes=400000-500000"] {
        let none = read(range).send().await.unwrap();
        assert_eq!(none.headers()["content-range"], "bytes */300000");
        problem(none, 416, "range_not_satisfiable").await;
    }
    for range in ["bytes=5-2", "items=0-1", "bytes=0-1,4-5", "nonsense"] {
        let whole = read(range).send().await.unwrap();
        assert_eq!(whole.status(), 200, "{range}");
        assert_eq!(whole.bytes().await.unwrap().len(), 300_000);
    }
    let other = read("bytes=0-0").header("if-range", "\"x\"").send().await.unwrap();
    assert_eq!(other.status(), 200);
    let fresh = read("bytes=0-0").header("if-none-match", &tag).send().await.unwrap();
    assert_eq!(fresh.status(), 304);
    s.put("/v1/ns/empty", "").await;
    let empty = s.request(Method::GET, "/v1/ns/empty").header("range", "bytes=0-").send();
    problem(empty.await.unwrap(), 416, "range_not_satisfiable").await;
}

#[tokio::test]
async fn objects_expire_when_they_should() {
    let s = start().await;
    let put = |ttl: &'static str| {
        s.request(Method::PUT, "/v1/ns/k").header("sira-ttl", ttl).body("x").send()
    };
    let long = put("2h").await.unwrap();
    let at: u64 = long.headers()["sira-expires-at-ms"].to_str().unwrap().parse().unwrap();
    let stored: Value = long.json().await.unwrap();
    assert_eq!(stored["expires_at_ms"], at);
    let get = s.get("/v1/ns/k").await;
    assert_eq!(get.headers()["sira-expires-at-ms"], at.to_string());
    let written = u64::from_str_radix(stored["version"].as_str().unwrap(), 16).unwrap() >> 16;
    assert!(at.abs_diff(written + 7_200_000) <= 60_000, "{at} {written}");

    assert_eq!(put("50ms").await.unwrap().status(), 200);
    while s.get("/v1/ns/k").await.status() == 200 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    problem(s.get("/v1/ns/k").await, 404, "not_found").await;
    for ttl in ["0", "-1", "soon", "1y"] {
        problem(put(ttl).await.unwrap(), 400, "invalid_input").await;
    }
    let without = s.put("/v1/ns/k", "x").await;
    assert!(!without.headers().contains_key("sira-expires-at-ms"));
}

#[tokio::test]
async fn options_that_cannot_be_kept_are_refused() {
    let s = start().await;
    let put = |name: &'static str, value: &'static str| {
        s.request(Method::PUT, "/v1/ns/k").header(name, value).body("x").send()
    };
    problem(put("sira-durability", "maybe").await.unwrap(), 400, "invalid_input").await;
    problem(put("content-encoding", "gzip").await.unwrap(), 501, "unsupported").await;
    problem(put("content-range", "bytes 0-0/1").await.unwrap(), 501, "unsupported").await;
    let large = "m".repeat(20_000);
    let metadata = s.request(Method::PUT, "/v1/ns/k").header("sira-meta-a", large).body("x").send();
    problem(metadata.await.unwrap(), 413, "too_large").await;
    problem(s.get("/v1/ns/k").await, 404, "not_found").await;
}
